"""Fusion by concatenation."""

from __future__ import annotations

from torch import nn

from polymodal.core.schema import Positive, Wired
from polymodal.core.streams import Notes, Stream, Streams
from polymodal.fusion.slots import Slots, one_token


class Concat(nn.Module):
    """The mean tokens side by side: `z = [x_1; ...; x_N]`, or `W z + b` with `out`.

    Streams of [B T D] -> one token [B 1 N·D], or [B 1 out]. A missing input's place holds its own learned token, so
    the model knows which one is missing; a row with nothing at all is the N learned tokens.

    Cost: N·T·D additions and N·D parameters; with `out`, N·D·out multiplications and (N·D + 1)·out parameters more.
    Source: the plain joint representation of Ngiam et al., "Multimodal Deep Learning", ICML 2011.

    Settings: `out`, the width after a linear projection (none when not given).
    """

    def __init__(self, *, inputs: Wired[tuple[str, ...]], width: Wired[int], out: Positive | None = None) -> None:
        super().__init__()
        self.slots = Slots(inputs=inputs, width=width)
        self.width = out or len(inputs) * width
        self.project = nn.Linear(len(inputs) * width, out) if out else nn.Identity()

    def forward(self, streams: Streams) -> tuple[Stream, Notes]:
        vectors, _ = self.slots(streams)
        return one_token(self.project(vectors.flatten(1))), Notes()
