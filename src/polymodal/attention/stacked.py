"""Stacked co-attention: layers in which every input looks at itself and is then guided by all others."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal.attention.tokens import Masks, Tokens
from polymodal.core.transformer import Attend, TransformerLayer, seeable


class Stacked(nn.Module):
    """Self-attention, guided attention, feed-forward net, layer after layer; see `co.CoAttention`.

    Tokens of [B T D] and masks [B T] -> tokens, and with `weigh` for each input the weights [B T ΣS] over the tokens of
    all others in the last layer (none with a single input).
    """

    def __init__(self, inputs: int, width: int, layers: int, heads: int, dropout: float, ratio: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(inputs, width, heads, dropout, ratio) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(inputs))

    def forward(self, tokens: Tokens, masks: Masks, weigh: bool) -> tuple[Tokens, list[Float[Tensor, "B _T _S"]]]:
        weights: list[Tensor] = []
        for depth, layer in enumerate(self.layers, 1):
            tokens, weights = layer(tokens, masks, weigh and depth == len(self.layers))
        return [norm(x) for norm, x in zip(self.norms, tokens, strict=True)], weights


class _Layer(nn.Module):
    def __init__(self, inputs: int, width: int, heads: int, dropout: float, ratio: int) -> None:
        super().__init__()
        guided = inputs if inputs > 1 else 0
        self.blocks: Any = nn.ModuleList(TransformerLayer(width, heads, dropout, ratio) for _ in range(inputs))
        self.guide = nn.ModuleList(Attend(width, heads, dropout) for _ in range(guided))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(guided))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tokens, masks: Masks, weigh: bool) -> tuple[Tokens, list[Float[Tensor, "B _T _S"]]]:
        tokens = [block.mix(x, seeable(m)) for block, x, m in zip(self.blocks, tokens, masks, strict=True)]
        normed, weights, guided = [norm(x) for norm, x in zip(self.norms, tokens, strict=False)], [], tokens
        for i, guide in enumerate(self.guide):
            seen, mask = (torch.cat([x for j, x in enumerate(xs) if j != i], 1) for xs in (normed, masks))
            answer, looked = guide(normed[i], seen, mask, weigh)
            guided = [*guided[:i], tokens[i] + self.dropout(answer), *guided[i + 1 :]]
            weights += [] if looked is None else [looked * masks[i][..., None]]
        return [block.feed(x) for block, x in zip(self.blocks, guided, strict=True)], weights
