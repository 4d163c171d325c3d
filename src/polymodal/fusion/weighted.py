"""Fusion by a learned weighted mean."""

from __future__ import annotations

import torch
from torch import nn

from polymodal.core.schema import Wired
from polymodal.core.streams import Notes, Stream, Streams
from polymodal.core.transformer import masked_softmax, rows_of
from polymodal.fusion.slots import one_token, pooled


class Weighted(nn.Module):
    """A weighted mean with one learned score `s_i` per input, the same for all rows.

    `z = Σ_i w_i x_i`, `w = softmax(s)` over the inputs that are there: the weights of a row add up to 1. Training
    starts from the plain mean (`s = 0`).

    Streams of [B T D] -> one token [B 1 D]. `Notes.weights["fusion"]` holds `w` [B N], zero for what is missing. A row
    with nothing at all is zero.

    Cost: N·T·D additions and N·D multiplications, N parameters. Source: the scalar mix of Peters et al., "Deep
    Contextualized Word Representations", NAACL 2018, over inputs instead of layers.
    """

    def __init__(self, *, inputs: Wired[tuple[str, ...]], width: Wired[int]) -> None:
        super().__init__()
        self.inputs = inputs
        self.width = width
        self.score = nn.Embedding(len(inputs), 1)
        nn.init.zeros_(self.score.weight)

    def forward(self, streams: Streams) -> tuple[Stream, Notes]:
        vectors, present = pooled(streams, self.inputs)
        weights = masked_softmax(rows_of(self.score, vectors.shape[0])[..., 0], present)
        return one_token(torch.einsum("bn,bnd->bd", weights, vectors)), Notes(weights={"fusion": weights})
