"""Slowing down the inputs that are ahead."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal.core.contracts import Gather
from polymodal.core.schema import Rate, Wired
from polymodal.core.streams import Notes, Stream, Streams, Target
from polymodal.objectives.gradient import shaken, weighed


class OGM(nn.Module):
    """On-the-fly gradient modulation: an input that answers better than the others learns more slowly for a step.

    A head per input, a probe, is trained on the input's stream without touching it. In every batch

        s_i = mean over the rows that have input i of the probability that its probe gives the truth
        ρ_i = s_i / mean_{j ≠ i} s_j
        k_i = 1 − tanh(α ρ_i) where ρ_i > 1, else 1

    and the gradient g that reaches input i's stream becomes `k_i · g`: the same as scaling that of its encoder's
    parameters. With `noise` it becomes `k_i · g + std(g) · ε`, ε standard normal, for all inputs alike (the paper's
    "generalisation enhancement"), here at the stream and not at every parameter. For a number, `s` is the mean of
    `1 / (1 + e²)`, e the error in standard deviations. With two inputs ρ is the paper's ratio.

    The probes are the difference from the paper, which cuts the scores out of a joint linear layer behind a
    concatenation: they work with any attention and fusion. `Notes.losses["probes"]` [B] is what the probes learn from,
    `Notes.weights["ogm"]` [B N] is k.

    Cost: one head per input and task, run twice, in training only; with `noise` a normal number for every B·T·D.
    Source: Peng et al., "Balanced Multimodal Learning via On-the-fly Gradient Modulation", CVPR 2022 (OGM-GE).

    Settings: `alpha`, α; `noise`.
    """

    def __init__(
        self,
        *,
        inputs: Wired[tuple[str, ...]],
        width: Wired[int],
        probes: Wired[Any],
        alpha: Rate = 0.5,
        noise: bool = True,
    ) -> None:
        super().__init__()
        self.inputs, self.probes, self.alpha, self.noise = inputs, probes, alpha, noise

    def forward(self, streams: Streams, targets: dict[str, Target], gather: Gather | None) -> tuple[Streams, Notes]:
        still = {n: Stream(s.tokens.detach(), s.mask, tuple(m.detach() for m in s.maps)) for n, s in streams.items()}
        learned = self.probes.losses(still, targets, gather).sum(1)
        with torch.no_grad():
            earned, counts = self.probes.credits(still, targets)
            both = torch.stack([earned, counts])[None]
            earned, counts = (both if gather is None else gather(both)).sum(0)
            factors = coefficients(earned, counts, self.alpha)
        slowed = {n: self._slow(streams[n], k) for n, k in zip(self.inputs, factors, strict=True)}
        shown = factors.expand(len(learned), -1)
        return streams | slowed, Notes({"probes": learned}, {"ogm": shown})

    def _slow(self, stream: Stream, factor: Float[Tensor, ""]) -> Stream:
        if self.noise:
            return stream._replace(tokens=shaken(stream.tokens, factor, stream.mask))
        return stream._replace(tokens=weighed(stream.tokens, factor))


def coefficients(earned: Float[Tensor, " N"], counts: Float[Tensor, " N"], alpha: float) -> Float[Tensor, " N"]:
    """k of each input, from the sum of what its rows earned and their number; 1 where there is nothing to compare."""
    there = counts > 0
    score = earned / counts.where(there, 1.0)
    others = score.sum() - score
    mean = others / (there.sum() - there.to(score.dtype)).clamp(min=1)
    ratio = torch.where(there & (mean > 0), score / mean.where(mean > 0, 1.0), 1.0)
    return torch.where(ratio > 1, 1 - torch.tanh(alpha * ratio), 1.0)
