"""Fusion by a non-linear map of the concatenation."""

from __future__ import annotations

from typing import Literal

from torch import nn

from polymodal.core.schema import Chance, Positive, Wired
from polymodal.core.streams import Notes, Stream, Streams
from polymodal.fusion.slots import Slots, one_token

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


class Transform(nn.Module):
    """A perceptron with one hidden layer over the mean tokens side by side: `z = V φ(W [x_1; ...; x_N] + b) + c`.

    Streams of [B T D] -> one token [B 1 out]. A missing input's place holds its own learned token, as in `concat`.

    Cost: N·T·D additions, then N·D·hidden + hidden·out multiplications; N·D + (N·D + 1)·hidden + (hidden + 1)·out
    parameters. Source: the shared hidden layer of Ngiam et al., "Multimodal Deep Learning", ICML 2011.

    Settings: `hidden`, the width of the hidden layer (twice D when not given); `out`, the width of the result (D when
    not given); `activation`, φ; `dropout`, after φ.
    """

    def __init__(
        self,
        *,
        inputs: Wired[tuple[str, ...]],
        width: Wired[int],
        hidden: Positive | None = None,
        out: Positive | None = None,
        activation: Literal["relu", "gelu", "tanh"] = "relu",
        dropout: Chance = 0.0,
    ) -> None:
        super().__init__()
        hidden = hidden or 2 * width
        self.width = out or width
        self.slots = Slots(inputs=inputs, width=width)
        self.map = nn.Sequential(
            nn.Linear(len(inputs) * width, hidden),
            ACTIVATIONS[activation](),
            nn.Dropout(dropout),
            nn.Linear(hidden, self.width),
        )

    def forward(self, streams: Streams) -> tuple[Stream, Notes]:
        vectors, _ = self.slots(streams)
        return one_token(self.map(vectors.flatten(1))), Notes()
