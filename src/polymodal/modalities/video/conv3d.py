"""Convolutions over time and place."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.errors import SpecError
from polymodal.core.schema import Chance, Json, Positive, Wired
from polymodal.core.streams import Stream
from polymodal.modalities.pixels import Pixels
from polymodal.modalities.steps import Stride, halvings, mean


class Conv3D(nn.Module):
    """Levels of 3 x 3 x 3 convolutions, ReLU and normalisation; the mean over the last map's places is a frame's token.

    `form: 3d` convolves over time and place at once (C3D: Tran et al., "Learning spatiotemporal features with 3D
    convolutional networks", 2015); `2+1d` first over place, then over time (R(2+1)D: Tran et al., "A closer look at
    spatiotemporal convolutions", 2018, with their number of channels between, so that both forms have as many
    parameters): 27 C_before C_after for each level. Every level halves height and width; the first log2(`stride`) of
    them halve time as well, T' = ceil(T / stride).

    A frame is normalised over its own values only (group normalisation, 16 channels to a group where they divide so)
    and padding is zero after every level, as beyond the ends of a clip, so that it never changes an answer.
    27 C_before C_after T H W multiplications for a level of T H W places. `tokens: mean` gives one token.
    """

    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    def __init__(
        self,
        *,
        field: Wired[dict],
        form: Literal["3d", "2+1d"] = "2+1d",
        widths: tuple[Positive, ...] = (16, 32, 64, 128),
        stride: Stride = 1,
        dropout: Chance = 0.0,
        tokens: Literal["all", "mean"] = "all",
    ) -> None:
        super().__init__()
        least = max(1, halvings(stride))
        if len(widths) < least:
            raise SpecError("widths", f"needs {least} levels", given=list(widths), advice="[16, 32, 64]")
        self.pixels, self.tokens, self.width = Pixels(field), tokens, widths[-1]
        sizes = (self.pixels.channels, *widths)
        self.steps = [2 if depth < halvings(stride) else 1 for depth in range(len(widths))]
        self.levels = nn.ModuleList(
            Level(before, after, step, form) for before, after, step in zip(sizes, widths, self.steps, strict=False)
        )
        self.dropout = nn.Dropout(dropout)

    @staticmethod
    def wants(settings: Json, files: Path) -> Json:
        return {}

    def forward(self, data: dict[str, Tensor]) -> Stream:
        mask = data["frames_mask"]
        x = self.pixels(data["frames"]).transpose(1, 2) * _real(mask)  # [N C T H W]
        for level, step in zip(self.levels, self.steps, strict=True):
            x, mask = level(x, mask), mask[:, ::step]
        x = self.dropout(x.mean((3, 4)).transpose(1, 2)) * mask[..., None]
        return mean(x, mask) if self.tokens == "mean" else Stream(x, mask)


class Level(nn.Module):
    """One convolution, whole or in two steps; every step is followed by normalisation, ReLU and masking."""

    def __init__(self, before: int, after: int, step: int, form: Literal["3d", "2+1d"]) -> None:
        super().__init__()
        if form == "3d":
            convolutions = [nn.Conv3d(before, after, 3, (step, 2, 2), 1, bias=False)]
        else:
            between = max(1, 27 * before * after // (9 * before + 3 * after))  # R(2+1)D, section 3.5
            over_place = nn.Conv3d(before, between, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
            over_time = nn.Conv3d(between, after, (3, 1, 1), (step, 1, 1), (1, 0, 0), bias=False)
            convolutions = [over_place, over_time]
        self.convolutions = nn.ModuleList(convolutions)
        self.norms = nn.ModuleList(FrameNorm(c.out_channels) for c in convolutions)
        self.steps = [int(c.stride[0]) for c in convolutions]
        for convolution in convolutions:
            nn.init.kaiming_normal_(convolution.weight, mode="fan_in", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "N C T H W"], mask: Bool[Tensor, "N T"]) -> Float[Tensor, "N _C _T _H _W"]:
        for convolution, norm, step in zip(self.convolutions, self.norms, self.steps, strict=True):
            mask = mask[:, ::step]
            x = F.relu(norm(convolution(x))) * _real(mask)
        return x


class FrameNorm(nn.GroupNorm):
    """Group normalisation (Wu and He 2018) of every frame by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__(math.gcd(channels, max(1, channels // 16)), channels)

    def forward(self, input: Float[Tensor, "N C T H W"]) -> Float[Tensor, "N C T H W"]:
        frames = super().forward(input.transpose(1, 2).flatten(0, 1))
        return frames.unflatten(0, (input.shape[0], input.shape[2])).transpose(1, 2)


def _real(mask: Bool[Tensor, "N T"]) -> Bool[Tensor, "N 1 T 1 1"]:
    return mask[:, None, :, None, None]
