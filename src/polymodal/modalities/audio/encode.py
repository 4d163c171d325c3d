"""Encoders of {"mel": [N T M], "mel_mask": [N T]}: recurrent, convolutional, Transformer."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.errors import SpecError
from polymodal.core.schema import Chance, Positive, Wired
from polymodal.core.streams import Stream
from polymodal.modalities.steps import StepEncoder, StepRecurrent, StepTransformer, Stride, halvings, mean


class _Bands(StepEncoder):
    """A frame is a step; its features are the bands."""

    array: ClassVar[str] = "mel"
    size: ClassVar[str] = "bands"


class _AudioRecurrent(_Bands, StepRecurrent):
    """A recurrent net over the bands, see `StepRecurrent`; four frames make one step."""

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
        super().__init__(
            field=field, width=width, layers=layers, bidirectional=bidirectional, dropout=dropout, stack=stack,
            tokens=tokens,
        )  # fmt: skip


class AudioRNN(_AudioRecurrent):
    """Elman's recurrent net over the bands, see `StepRecurrent`."""

    kind = "rnn"


class AudioLSTM(_AudioRecurrent):
    """LSTM (Hochreiter and Schmidhuber 1997) over the bands."""

    kind = "lstm"


class AudioGRU(_AudioRecurrent):
    """GRU (Cho et al. 2014) over the bands."""

    kind = "gru"


class AudioCNN(_Bands):
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
        halved = halvings(stride)
        if halved > layers:
            raise SpecError("stride", f"needs {halved} layers", given=stride, advice=f"layers: {halved}")
        self.width, self.tokens, self.covers = width, tokens, stride if tokens == "all" else 0
        self.hops = [2 if depth < halved else 1 for depth in range(layers)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(filters if depth else 1, filters, 3, (hop, 2), 1) for depth, hop in enumerate(self.hops)
        )
        bands = [-(-field["bands"] // 2**depth) for depth in range(1, layers + 1)]
        self.norms = nn.ModuleList(nn.LayerNorm([left, filters]) for left in bands)
        self.dropout = nn.Dropout(dropout)
        self.join = nn.Linear(filters * bands[-1], width)

    def forward(self, data: dict[str, Tensor]) -> Stream:
        mel, mask = self.steps(data)
        x = mel[:, None]  # [N C T M]
        for convolution, norm, hop in zip(self.convolutions, self.norms, self.hops, strict=True):
            x, mask = convolution(x), mask[:, ::hop]
            frames = F.gelu(norm(x.permute(0, 2, 3, 1))) * mask[..., None, None]  # [N T M C]
            x = self.dropout(frames).permute(0, 3, 1, 2)
        x = self.join(x.permute(0, 2, 3, 1).flatten(2)) * mask[..., None]
        return mean(x, mask) if self.tokens == "mean" else Stream(x, mask)


class AudioTransformer(_Bands, StepTransformer):
    """Convolutions over time, sinusoidal positions, a Transformer encoder, see `StepTransformer`."""

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
        super().__init__(
            field=field, width=width, layers=layers, heads=heads, ratio=ratio, dropout=dropout, stride=stride,
            tokens=tokens,
        )  # fmt: skip
