"""Encoders of {"values": [N T M], "values_mask": [N T]}: recurrent, convolutional, Transformer, linear."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.errors import SpecError
from polymodal.core.schema import Chance, Positive, Wired
from polymodal.core.streams import Stream
from polymodal.modalities.steps import StepEncoder, StepRecurrent, StepTransformer, Stride, halvings, mean


class _Channels(StepEncoder):
    """The features of a step are the channels, and what the reader puts beside them."""

    array: ClassVar[str] = "values"
    size: ClassVar[str] = "features"


class SeriesRNN(_Channels, StepRecurrent):
    """Elman's recurrent net over the steps, see `StepRecurrent`."""

    kind = "rnn"


class SeriesLSTM(_Channels, StepRecurrent):
    """LSTM (Hochreiter and Schmidhuber 1997) over the steps, see `StepRecurrent`."""

    kind = "lstm"


class SeriesGRU(_Channels, StepRecurrent):
    """GRU (Cho et al. 2014) over the steps, see `StepRecurrent`."""

    kind = "gru"


class SeriesTransformer(_Channels, StepTransformer):
    """Convolutions over time, sinusoidal positions, a Transformer encoder, see `StepTransformer`."""


class SeriesLinear(_Channels):
    """y[t] = W x[t] + b: every step by itself; D·(M + 1) parameters, T·M·D multiplications.

    `tokens`: every step, or their mean (T = 1). Linear in the series: joining aligned series before this encoder, or
    adding what one such encoder each makes of them, is the same.
    """

    def __init__(self, *, field: Wired[dict], width: Positive = 128, tokens: Literal["all", "mean"] = "all") -> None:
        super().__init__()
        self.width, self.tokens, self.covers = width, tokens, int(tokens == "all")
        self.map = nn.Linear(field[self.size], width)

    def forward(self, data: dict[str, Tensor]) -> Stream:
        x, mask = self.steps(data)
        x = self.map(x) * mask[..., None]
        return mean(x, mask) if self.tokens == "mean" else Stream(x, mask)


class SeriesCNN(_Channels):
    """1-D convolutions over time, `kernel` wide, each with a normalisation of the step and GELU.

    log2(`stride`) of the `layers` halve the time, T' = ceil(T / stride). kernel·M·D + (layers - 1)·kernel·D² weights,
    each used once a step. `tokens`: every step, or their mean (T = 1). After Wang, Yan and Oates 2017, with the
    normalisation over a step's own features instead of the batch, so that neither neighbours nor padding count.
    """

    def __init__(
        self,
        *,
        field: Wired[dict],
        width: Positive = 128,
        layers: Positive = 3,
        kernel: Literal[3, 5, 7, 9, 11] = 5,
        dropout: Chance = 0.0,
        stride: Stride = 1,
        tokens: Literal["all", "mean"] = "all",
    ) -> None:
        super().__init__()
        halved = halvings(stride)
        if halved > layers:
            raise SpecError("stride", f"needs {halved} layers", given=stride, advice=f"layers: {halved}")
        self.width, self.tokens, self.covers = width, tokens, stride if tokens == "all" else 0
        self.hops = [2 if depth < halved else 1 for depth in range(layers)]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width if depth else field[self.size], width, kernel, hop, kernel // 2)
            for depth, hop in enumerate(self.hops)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.hops)
        self.dropout = nn.Dropout(dropout)

    def forward(self, data: dict[str, Tensor]) -> Stream:
        x, mask = self.steps(data)
        for convolution, norm, hop in zip(self.convolutions, self.norms, self.hops, strict=True):
            mask = mask[:, ::hop]
            x = norm(convolution(x.transpose(1, 2)).transpose(1, 2))
            x = self.dropout(F.gelu(x)) * mask[..., None]
        return mean(x, mask) if self.tokens == "mean" else Stream(x, mask)


class SeriesTCN(_Channels):
    """Temporal convolutional net (Bai, Kolter and Koltun 2018): residual blocks of two dilated convolutions each.

    Block i reaches (kernel - 1)·2^i steps with each of its two convolutions, so that a token sees
    1 + 2·(kernel - 1)·(2^layers - 1) steps: those up to its own when `causal`, else half of them to either side.
    (kernel·M + (2·layers - 1)·kernel·D + M)·D weights and T times as many multiplications. `tokens`: every step, their
    mean, or the last one (T = 1). Where the paper normalises weights, each step is normalised over its features.
    """

    def __init__(
        self,
        *,
        field: Wired[dict],
        width: Positive = 128,
        layers: Positive = 4,
        kernel: Literal[2, 3, 5, 7, 9] = 3,
        dropout: Chance = 0.1,
        causal: bool = False,
        tokens: Literal["all", "last", "mean"] = "all",
    ) -> None:
        super().__init__()
        self.width, self.tokens, self.covers = width, tokens, int(tokens == "all")
        sizes = [field[self.size]] + [width] * layers
        self.blocks = nn.ModuleList(
            _Block(size, width, kernel, 2**depth, dropout, causal) for depth, size in enumerate(sizes[:-1])
        )

    def forward(self, data: dict[str, Tensor]) -> Stream:
        x, mask = self.steps(data)
        for block in self.blocks:
            x = block(x, mask)
        if self.tokens == "last":
            last = (mask.sum(1) - 1).clamp(min=0)[:, None, None].expand(-1, 1, self.width)
            return Stream(x.gather(1, last), mask[:, :1])
        return mean(x, mask) if self.tokens == "mean" else Stream(x, mask)


class _Block(nn.Module):
    """relu(x + f(f(x))), f: a dilated convolution, a normalisation, relu and dropout; x is mapped if sizes differ."""

    def __init__(self, size: int, width: int, kernel: int, dilation: int, dropout: float, causal: bool) -> None:
        super().__init__()
        reach = (kernel - 1) * dilation
        self.padding = (reach, 0) if causal else (reach - reach // 2, reach // 2)
        self.convolutions = nn.ModuleList(nn.Conv1d(s, width, kernel, dilation=dilation) for s in (size, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Identity() if size == width else nn.Linear(size, width)

    def forward(self, x: Float[Tensor, "N T M"], mask: Bool[Tensor, "N T"]) -> Float[Tensor, "N T D"]:
        inner = x
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            inner = norm(convolution(F.pad(inner.transpose(1, 2), self.padding)).transpose(1, 2))
            inner = self.dropout(torch.relu(inner)) * mask[..., None]
        return torch.relu(self.skip(x) + inner) * mask[..., None]
