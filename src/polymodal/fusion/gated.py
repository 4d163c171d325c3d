"""Fusion by gates that look at all inputs."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from polymodal.core.schema import Wired
from polymodal.core.streams import Notes, Stream, Streams
from polymodal.core.transformer import masked_softmax
from polymodal.fusion.slots import Slots, one_token


class Gated(nn.Module):
    """The gated multimodal unit: each row decides, feature by feature, how much every input counts.

    `h_i = tanh(W_i x_i + b_i)`, `g = G [x_1; ...; x_N] + c` cut into N gates of D features, `z = Σ_i γ_i ∘ h_i`, where

    - `gates: softmax`: `γ = softmax(g)` over the inputs that are there. With two inputs this is the paper's bimodal
      unit, `σ(a) ∘ h_1 + (1 − σ(a)) ∘ h_2` with `a = g_1 − g_2`;
    - `gates: sigmoid`: `γ_i = σ(g_i)`, zero for a missing input: the paper's unit for more than two inputs.

    Streams of [B T D] -> one token [B 1 D]. In `g` a missing input is a learned token of its own. A row with nothing at
    all is zero. `Notes.weights` holds `gates` [B N D] and `fusion` [B N], their mean over the features.

    Cost: N·T·D additions, then (N·D)² + N·D² multiplications; N·D + N·D·(N·D + 1) + N·D·(D + 1) parameters.
    Source: Arevalo et al., "Gated Multimodal Units for Information Fusion", ICLR workshop 2017, arXiv:1702.01992.
    """

    def __init__(
        self,
        *,
        inputs: Wired[tuple[str, ...]],
        width: Wired[int],
        gates: Literal["softmax", "sigmoid"] = "softmax",
    ) -> None:
        super().__init__()
        self.width = width
        self.gates = gates
        self.slots = Slots(inputs=inputs, width=width)
        self.features = nn.ModuleList(nn.Linear(width, width) for _ in inputs)
        self.gate = nn.Linear(len(inputs) * width, len(inputs) * width)

    def forward(self, streams: Streams) -> tuple[Stream, Notes]:
        vectors, present = self.slots(streams)
        features = torch.stack([f(v) for f, v in zip(self.features, vectors.unbind(1), strict=True)], 1).tanh()
        scores, there = self.gate(vectors.flatten(1)).view_as(vectors), present[..., None]
        gates = masked_softmax(scores, there, 1) if self.gates == "softmax" else scores.sigmoid() * there
        return one_token((gates * features).sum(1)), Notes(weights={"fusion": gates.mean(2), "gates": gates})
