"""Fusion by the largest value."""

from __future__ import annotations

import torch
from torch import nn

from polymodal.core.schema import Wired
from polymodal.core.streams import Notes, Stream, Streams
from polymodal.fusion.slots import one_token, pooled


class Max(nn.Module):
    """Feature by feature the largest of the mean tokens of the inputs that are there: `z = max_i x_i`.

    Streams of [B T D] -> one token [B 1 D]. A missing input is never the largest; a row with nothing at all is zero.
    The names and the order of the inputs do not matter. `Notes.weights["fusion"]` [B N] is the share of the features
    that each input gave.

    Cost: N·T·D additions, N·D comparisons, no parameters. Source: the "max-pooling" fusion of Kiela et al., "Efficient
    Large-Scale Multi-Modal Classification", AAAI 2018.
    """

    def __init__(self, *, inputs: Wired[tuple[str, ...]], width: Wired[int]) -> None:
        super().__init__()
        self.inputs = inputs
        self.width = width

    def forward(self, streams: Streams) -> tuple[Stream, Notes]:
        vectors, present = pooled(streams, self.inputs)
        lowest = torch.finfo(vectors.dtype).min
        largest, giver = vectors.masked_fill(~present[..., None], lowest).max(1)
        shares = torch.stack([(giver == i).to(vectors.dtype).mean(1) for i in range(len(self.inputs))], 1)
        some = present.any(1, keepdim=True)
        return one_token(largest.masked_fill(~some, 0.0)), Notes(weights={"fusion": shares * some})
