"""A plain convolutional net."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from polymodal.core.errors import SpecError
from polymodal.core.schema import Chance, Json, Positive, Wired
from polymodal.core.streams import Stream
from polymodal.modalities.image.norm import Norm, norm
from polymodal.modalities.image.pixels import grid_tokens, whole
from polymodal.modalities.image.places import Places
from polymodal.modalities.pixels import Pixels


class CNN(nn.Module):
    """Levels of convolution, normalisation, ReLU and pooling (LeCun et al. 1998); then tokens.

    With `padding: same` every level's map is the picture's size over its stride, rounded up, and stands in the stream's
    maps; with `valid`, borders shrink and there are no maps. `head` says what becomes a token: every place of the last
    map (`tokens`), their mean (`mean`), or the whole map laid flat (`flatten`); `dense` adds a linear layer with ReLU.
    With `places` every place of the grid has a learned vector that is added to its token, see `places.Places`.
    """

    def __init__(
        self,
        *,
        field: Wired[dict],
        channels: tuple[Positive, ...] = (32, 64, 128),
        kernel: Positive = 3,
        padding: Literal["same", "valid"] = "same",
        norm: Norm = "batch",
        convs: Positive = 1,
        pool: Literal["max", "mean", "none"] = "max",
        pool_size: Positive = 2,
        head: Literal["tokens", "mean", "flatten"] = "tokens",
        dense: Positive | None = None,
        dropout: Chance = 0.0,
        places: bool = False,
    ) -> None:
        super().__init__()
        if not channels:
            raise SpecError("encoder.channels", "at least one level is needed", given=[], advice="channels: [32, 64]")
        if padding == "same" and kernel % 2 == 0:
            raise SpecError("encoder.kernel", "must be odd when padding is same", given=kernel, advice=f"{kernel + 1}")
        self.pixels, self.head = Pixels(field), head
        same, step = padding == "same", 1 if pool == "none" else pool_size
        size, before, levels = self.pixels.size, self.pixels.channels, []
        for after in channels:
            layers = [_conv(n, after, kernel, same, norm) for n in (before, *[after] * (convs - 1))]
            levels.append(nn.Sequential(*layers, _pool(pool, step, same)))
            size, before = (
                (_shrunk(size[0], kernel, convs, same, step), _shrunk(size[1], kernel, convs, same, step)),
                after,
            )
        if min(size) < 1:
            advice = "padding: same, fewer levels, or a larger size"
            raise SpecError("encoder.channels", f"nothing is left of {self.pixels.size} pixels", given=channels,
                            advice=advice)  # fmt: skip
        self.levels = nn.ModuleList(levels)
        self.channels = tuple(channels) if same else ()
        self.strides = tuple(step ** (i + 1) for i in range(len(channels))) if same else ()
        features = before * size[0] * size[1] if head == "flatten" else before
        self.width = dense or features
        self.dense = nn.Sequential(nn.Linear(features, dense), nn.ReLU()) if dense else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.places = Places(size, before) if places and head == "tokens" else nn.Identity()

    @staticmethod
    def wants(settings: Json, files: Path) -> Json:
        return {}

    def forward(self, data: dict[str, Tensor]) -> Stream:
        x = self.pixels(data["pixels"])
        maps = [x]
        for level in self.levels:
            x = level(x)
            maps.append(x)
        tokens = x.flatten(1)[:, None] if self.head == "flatten" else self.places(grid_tokens(x))
        if self.head == "mean":
            tokens = tokens.mean(1, keepdim=True)
        return whole(self.dropout(self.dense(tokens)), tuple(maps if self.channels else maps[:1]))


def _conv(before: int, after: int, kernel: int, same: bool, kind: Norm) -> nn.Module:
    conv = nn.Conv2d(before, after, kernel, padding="same" if same else "valid", bias=kind == "none")
    return nn.Sequential(conv, norm(kind, after), nn.ReLU())


def _pool(kind: Literal["max", "mean", "none"], step: int, same: bool) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    return nn.MaxPool2d(step, ceil_mode=same) if kind == "max" else nn.AvgPool2d(step, ceil_mode=same)


def _shrunk(length: int, kernel: int, convs: int, same: bool, step: int) -> int:
    """The length of an axis after one level."""
    return -(-length // step) if same else (length - convs * (kernel - 1)) // step
