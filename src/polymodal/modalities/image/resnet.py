"""Residual networks."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from polymodal.core.errors import SpecError
from polymodal.core.schema import Json, Positive, Wired
from polymodal.core.streams import Stream
from polymodal.modalities.image.conv import Conv2d
from polymodal.modalities.image.norm import Norm, norm
from polymodal.modalities.image.pixels import grid_tokens, whole
from polymodal.modalities.image.places import Places
from polymodal.modalities.pixels import Pixels

DEPTHS: dict[int, tuple[tuple[int, ...], bool]] = {  # blocks per stage, bottleneck: Table 1 of the paper
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
SMALL = 64  # pictures whose shorter side is below keep their resolution in the stem


class ResNet(nn.Module):
    """He et al., "Deep residual learning for image recognition", 2015; in a bottleneck the 3x3 convolution strides.

    The large stem (7x7 of stride 2, then max pooling of stride 2) gives maps of strides 4, 8, 16, 32; the small one
    (3x3, as for CIFAR in section 4.2) 1, 2, 4, 8; `auto` takes the small one for pictures below 64 pixels. The last
    map's places are the tokens, or their mean; with `places` each has a learned vector added, see `places.Places`.
    `blocks` (per stage, one stage or more) replaces those of `depth`.
    """

    def __init__(
        self,
        *,
        field: Wired[dict],
        depth: Literal[18, 34, 50, 101, 152] = 18,
        blocks: tuple[Positive, ...] | None = None,
        base: Positive = 64,
        stem: Literal["auto", "large", "small"] = "auto",
        norm: Norm = "batch",
        zero_init: bool = True,
        tokens: Literal["grid", "mean"] = "grid",
        places: bool = False,
    ) -> None:
        super().__init__()
        usual, bottleneck = DEPTHS[depth]
        counts = usual if blocks is None else blocks
        if not counts:
            raise SpecError("encoder.blocks", "at least one stage is needed", given=[], advice="blocks: [2, 2, 2, 2]")
        self.pixels, self.tokens = Pixels(field), tokens
        small = stem == "small" or (stem == "auto" and min(self.pixels.size) < SMALL)
        self.stem = _stem(self.pixels.channels, base, small, norm)
        stages, before = [], base
        for level, count in enumerate(counts):
            after = base * 2**level * (4 if bottleneck else 1)
            strides = [2 if level else 1] + [1] * (count - 1)
            stages.append(nn.Sequential(*(
                Block(before if i == 0 else after, base * 2**level, after, stride, bottleneck, norm)
                for i, stride in enumerate(strides)
            )))  # fmt: skip
            before = after
        self.stages = nn.ModuleList(stages)
        self.width = before
        self.channels = tuple(base * 2**i * (4 if bottleneck else 1) for i in range(len(counts)))
        self.strides = tuple((1 if small else 4) * 2**i for i in range(len(counts)))
        _initialise(self, zero_init)
        grid = (-(-self.pixels.size[0] // self.strides[-1]), -(-self.pixels.size[1] // self.strides[-1]))
        self.places = Places(grid, before) if places and tokens == "grid" else nn.Identity()

    @staticmethod
    def wants(settings: Json, files: Path) -> Json:
        return {}

    def forward(self, data: dict[str, Tensor]) -> Stream:
        picture = self.pixels(data["pixels"])
        x, maps = self.stem(picture), [picture]
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        tokens = grid_tokens(x)
        return whole(self.places(tokens) if self.tokens == "grid" else tokens.mean(1, keepdim=True), tuple(maps))


class Block(nn.Module):
    """ReLU(shortcut(x) + residual(x)): two 3x3 convolutions, or 1x1, 3x3, 1x1 in a bottleneck."""

    def __init__(self, before: int, inner: int, after: int, stride: int, bottleneck: bool, kind: Norm) -> None:
        super().__init__()
        if bottleneck:
            steps = [(before, inner, 1, 1), (inner, inner, 3, stride), (inner, after, 1, 1)]
        else:
            steps = [(before, inner, 3, stride), (inner, after, 3, 1)]
        layers = [layer for step in steps for layer in (*_conv(*step, kind), nn.ReLU())]
        self.residual = nn.Sequential(*layers[:-1])
        straight = stride == 1 and before == after
        self.shortcut = nn.Identity() if straight else nn.Sequential(*_conv(before, after, 1, stride, kind))
        self.relu = nn.ReLU()

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N _C _H _W"]:
        return self.relu(self.shortcut(x) + self.residual(x))


def _conv(before: int, after: int, kernel: int, stride: int, kind: Norm) -> tuple[nn.Module, nn.Module]:
    return Conv2d(before, after, kernel, stride, bias=kind == "none"), norm(kind, after)


def _stem(before: int, base: int, small: bool, kind: Norm) -> nn.Module:
    if small:
        return nn.Sequential(*_conv(before, base, 3, 1, kind), nn.ReLU())
    return nn.Sequential(*_conv(before, base, 7, 2, kind), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1))


def _initialise(network: nn.Module, zero: bool) -> None:
    """Convolutions after He et al. 2015; `zero`: every block begins as its shortcut (Goyal et al. 2017, 5.1)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if (
            zero
            and isinstance(module, Block)
            and isinstance(last := module.residual[-1], nn.BatchNorm2d | nn.GroupNorm)
        ):
            nn.init.zeros_(last.weight)
