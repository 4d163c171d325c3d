"""Encoders of {"mel": [N T M], "mel_mask": [N T]}: recurrent, convolutional, Transformer."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.errors import SpecError
from polymodal.core.schema import Chance, Json, Positive, Wired
from polymodal.core.streams import Stream, pool
from polymodal.core.transformer import TransformerStack
from polymodal.modalities.sequence import Recurrent, sinusoid

Stride = Literal[1, 2, 4, 8]


class _AudioEncoder(nn.Module):
    """What all of them share: no maps, nothing to ask of the reader."""

    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    @staticmethod
    def wants(settings: Json, files: Path) -> Json:
        return {}


class _AudioRecurrent(_AudioEncoder):
    """A recurrent net over the bands; `stack` frames after each other make one step, so T' = ceil(T / stack).

    `tokens`: the state of every step, their mean, or the last state of each direction (T = 1). With `bidirectional`
    the tokens are twice as wide as `width`.
    """

    kind: ClassVar[Literal["rnn", "lstm", "gru"]]

    def __init__(
        self,
        *,
        field: Wired[dict],
        width: Positive = 128,
        layers: Positive = 1,
        bidirectional: bool = True,
        dropout: Chance = 0.0,
        stack: Positive = 4,
        tokens: Literal["all", "last", "mean"] = "all",
    ) -> None:
        super().__init__()
        self.stack, self.tokens = stack, tokens
        self.body = Recurrent(
            kind=self.kind, features=field["bands"] * stack, width=width, layers=layers, bidirectional=bidirectional,
            dropout=dropout,
        )  # fmt: skip
        self.width = self.body.width
        self.ahead = width  # features of the forward direction, which ends at the last step

    def forward(self, data: dict[str, Tensor]) -> Stream:
        x, mask = stack_frames(data["mel"], data["mel_mask"], self.stack)
        x = self.body(x, mask)
        if self.tokens == "last":
            last = (mask.sum(1) - 1).clamp(min=0)[:, None, None].expand(-1, 1, x.shape[2])
            ends = torch.cat([x.gather(1, last)[..., : self.ahead], x[:, :1, self.ahead :]], 2)
            return Stream(ends, mask[:, :1])
        return _mean(x, mask) if self.tokens == "mean" else Stream(x, mask)


class AudioRNN(_AudioRecurrent):
    """Elman's recurrent net over the bands, see `_AudioRecurrent`."""

    kind = "rnn"


class AudioLSTM(_AudioRecurrent):
    """LSTM (Hochreiter and Schmidhuber 1997) over the bands."""

    kind = "lstm"


class AudioGRU(_AudioRecurrent):
    """GRU (Cho et al. 2014) over the bands."""

    kind = "gru"


class AudioCNN(_AudioEncoder):
    """2-D convolutions over time and frequency; the bands that are left are joined linearly into one token per step.

    Each of `layers` convolutions (3 x 3, `filters` filters) halves the frequencies; the first ones also halve the time,
    log2(`stride`) of them: T' = ceil(T / stride). A frame is normalised over its own filters and frequencies, so that
    neither neighbours nor padding have a part in it. `tokens`: every step, or their mean (T = 1).
    """

    def __init__(
        self,
        *,
        field: Wired[dict],
        width: Positive = 128,
        layers: Positive = 3,
        filters: Positive = 32,
        dropout: Chance = 0.0,
        stride: Stride = 4,
        tokens: Literal["all", "mean"] = "all",
    ) -> None:
        super().__init__()
        halvings = _halvings(stride)
        if halvings > layers:
            raise SpecError("stride", f"needs {halvings} layers", given=stride, advice=f"layers: {halvings}")
        self.width, self.tokens = width, tokens
        self.steps = [2 if depth < halvings else 1 for depth in range(layers)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(filters if depth else 1, filters, 3, (step, 2), 1) for depth, step in enumerate(self.steps)
        )
        bands = [-(-field["bands"] // 2**depth) for depth in range(1, layers + 1)]
        self.norms = nn.ModuleList(nn.LayerNorm([left, filters]) for left in bands)
        self.dropout = nn.Dropout(dropout)
        self.join = nn.Linear(filters * bands[-1], width)

    def forward(self, data: dict[str, Tensor]) -> Stream:
        mask = data["mel_mask"]
        x = (data["mel"] * mask[..., None])[:, None]  # [N C T M]
        for convolution, norm, step in zip(self.convolutions, self.norms, self.steps, strict=True):
            x, mask = convolution(x), mask[:, ::step]
            frames = F.gelu(norm(x.permute(0, 2, 3, 1))) * mask[..., None, None]  # [N T M C]
            x = self.dropout(frames).permute(0, 3, 1, 2)
        x = self.join(x.permute(0, 2, 3, 1).flatten(2)) * mask[..., None]
        return _mean(x, mask) if self.tokens == "mean" else Stream(x, mask)


class AudioTransformer(_AudioEncoder):
    """Convolutions over time (3 wide, GELU; Radford et al. 2022), sinusoidal positions, a Transformer encoder.

    log2(`stride`) convolutions halve the time, T' = ceil(T / stride); with stride 1 there is one that does not.
    `tokens`: every step, or their mean (T = 1). Raises SpecError when `heads` does not divide `width`.
    """

    def __init__(
        self,
        *,
        field: Wired[dict],
        width: Positive = 128,
        layers: Positive = 2,
        heads: Positive = 4,
        ratio: Positive = 4,
        dropout: Chance = 0.1,
        stride: Stride = 4,
        tokens: Literal["all", "mean"] = "all",
    ) -> None:
        super().__init__()
        self.width, self.tokens = width, tokens
        self.steps = [2] * _halvings(stride) or [1]
        sizes = [field["bands"]] + [width] * len(self.steps)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(size, width, 3, step, 1) for size, step in zip(sizes, self.steps, strict=False)
        )
        self.dropout = nn.Dropout(dropout)
        self.stack = TransformerStack(width=width, layers=layers, heads=heads, dropout=dropout, ratio=ratio)

    def forward(self, data: dict[str, Tensor]) -> Stream:
        x, mask = data["mel"] * data["mel_mask"][..., None], data["mel_mask"]
        for convolution, step in zip(self.convolutions, self.steps, strict=True):
            mask = mask[:, ::step]
            x = F.gelu(convolution(x.transpose(1, 2)).transpose(1, 2)) * mask[..., None]
        x = self.stack(self.dropout(x + sinusoid(x.shape[1], self.width, x.device)), mask)
        return _mean(x, mask) if self.tokens == "mean" else Stream(x, mask)


def stack_frames(
    x: Float[Tensor, "N T M"], mask: Bool[Tensor, "N T"], size: int
) -> tuple[Float[Tensor, "N S F"], Bool[Tensor, "N S"]]:
    """Every `size` frames side by side as one step, zeros where one is missing; a step is real when any is."""
    lacking = -x.shape[1] % size
    x, mask = F.pad(x * mask[..., None], (0, 0, 0, lacking)), F.pad(mask, (0, lacking))
    return x.unflatten(1, (-1, size)).flatten(2), mask.unflatten(1, (-1, size)).any(2)


def _halvings(stride: int) -> int:
    return stride.bit_length() - 1


def _mean(x: Float[Tensor, "N T D"], mask: Bool[Tensor, "N T"]) -> Stream:
    return Stream(pool(x, mask)[:, None], mask[:, :1])
