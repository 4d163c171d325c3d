"""Attention through a narrow passage: a few learned tokens carry everything between the inputs."""

from __future__ import annotations

import torch
from torch import nn

from polymodal.attention.tokens import presence, put, take
from polymodal.core.errors import SpecError
from polymodal.core.schema import Chance, Natural, Positive, Wired
from polymodal.core.streams import Notes, Streams
from polymodal.core.transformer import TransformerLayer, rows_of, seeable


class Bottleneck(nn.Module):
    """The multimodal bottleneck Transformer: inputs exchange only what fits into K learned tokens z.

    In each layer, with `J` the inputs that are there:

        [x_i; z_i] ← TransformerLayer_i([x_i; z])
        z ← 1/|J| Σ_{i ∈ J} z_i

    and a last normalisation. Before layer `from_layer` (0 = the first) every input is on its own, without z: mid
    fusion. What an input writes into z in one layer the others read in the next, so at least two layers must share
    it.

    Streams of [B T D] -> the same. A missing input writes nothing. `Notes.weights` is empty.

    Cost with r = `ratio`: K·D parameters for z, N·((4 + 2r)·D² + (9 + r)·D) per layer, 2·N·D at the end.
    Multiplications per row and layer: N·((4 + 2r)·(T + K)·D² + 2·(T + K)²·D), linear in N; without K before
    `from_layer`.
    Source: Nagrani et al., "Attention Bottlenecks for Multimodal Fusion", NeurIPS 2021 (MBT).

    Settings: `tokens`, K; `layers`; `from_layer`; `heads`, which must divide D; `ratio`, hidden width of the
    feed-forward nets over D; `dropout`.
    """

    def __init__(
        self,
        *,
        inputs: Wired[tuple[str, ...]],
        width: Wired[int],
        tokens: Positive = 4,
        layers: Positive = 2,
        from_layer: Natural = 0,
        heads: Positive = 4,
        ratio: Positive = 4,
        dropout: Chance = 0.0,
    ) -> None:
        super().__init__()
        if layers - from_layer < 2:
            raise SpecError("layers", f"only {max(layers - from_layer, 0)} after from_layer {from_layer}, so nothing "
                            "passes: the bottleneck is written in one layer and read in the next", given=layers,
                            advice=f"layers: {from_layer + 2}, or more")  # fmt: skip
        self.inputs, self.from_layer = inputs, from_layer
        self.bottleneck = nn.Embedding(tokens, width)
        nn.init.normal_(self.bottleneck.weight, std=0.02)
        self.layers = nn.ModuleList(
            nn.ModuleList(TransformerLayer(width, heads, dropout, ratio) for _ in inputs) for _ in range(layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in inputs)

    def forward(self, streams: Streams) -> tuple[Streams, Notes]:
        tokens, masks = take(streams, self.inputs)
        lengths = [x.shape[1] for x in tokens]
        passage = rows_of(self.bottleneck, tokens[0].shape[0])  # [B K D]
        always = masks[0].new_ones(passage.shape[:2])
        alone = [seeable(m) for m in masks]
        joined = [seeable(torch.cat([m, always], 1)) for m in masks]
        there = presence(masks).to(passage.dtype)
        shares = there / there.sum(1, keepdim=True).clamp(min=1)
        for depth, layer in enumerate(self.layers):
            blocks = layer.children()  # one for each input
            if depth < self.from_layer:
                tokens = [block(x, seen) for block, x, seen in zip(blocks, tokens, alone, strict=True)]
                continue
            both = [block(torch.cat([x, passage], 1), s) for block, x, s in zip(blocks, tokens, joined, strict=True)]
            tokens = [y[:, :length] for y, length in zip(both, lengths, strict=True)]
            written = torch.stack([y[:, length:] for y, length in zip(both, lengths, strict=True)], 1)
            passage = (written * shares[..., None, None]).sum(1)
        return put(streams, self.inputs, [n(x) for n, x in zip(self.norms, tokens, strict=True)]), Notes()
