"""Fusion by addition."""

from __future__ import annotations

from torch import nn

from polymodal.core.schema import Wired
from polymodal.core.streams import Notes, Stream, Streams
from polymodal.fusion.slots import one_token, pooled


class Sum(nn.Module):
    """The element-wise sum of the mean tokens of the inputs that are there: `z = Σ_i x_i`.

    Streams of [B T D] -> one token [B 1 D]. A missing input adds nothing, so the length of `z` grows with the number
    of inputs present; a row with nothing at all is zero. The names and the order of the inputs do not matter.

    Cost: N·T·D additions, no parameters. Source: sum of joint embeddings, as in the "add" fusion of Kiela et al.,
    "Efficient Large-Scale Multi-Modal Classification", AAAI 2018.
    """

    def __init__(self, *, inputs: Wired[tuple[str, ...]], width: Wired[int]) -> None:
        super().__init__()
        self.inputs = inputs
        self.width = width

    def forward(self, streams: Streams) -> tuple[Stream, Notes]:
        vectors, _ = pooled(streams, self.inputs)
        return one_token(vectors.sum(1)), Notes()
