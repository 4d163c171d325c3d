"""No attention, under a name of its own."""

from __future__ import annotations

from torch import nn

from polymodal.core.schema import Wired
from polymodal.core.streams import Notes, Streams


class NoAttention(nn.Module):
    """`x_i ← x_i`: the streams as they are, so that specs and comparisons can name the case without attention.

    No parameters, no operations, no settings.
    """

    def __init__(self, *, inputs: Wired[tuple[str, ...]], width: Wired[int]) -> None:
        super().__init__()

    def forward(self, streams: Streams) -> tuple[Streams, Notes]:
        return dict(streams), Notes()
