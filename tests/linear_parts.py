"""Encoders for the tests of early fusion: one linear map of all pixels, and one with a kink after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from polymodal.core.schema import Json, Positive, Wired
from polymodal.core.streams import Stream


class LinearPixels(nn.Module):
    """W vec(x) + b of the normalised picture, T = 1."""

    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    def __init__(self, *, field: Wired[dict[str, Any]], width: Positive = 8) -> None:
        super().__init__()
        self.width = width
        mean, std = (torch.tensor(field[k])[:, None, None] for k in ("mean", "std"))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.map = nn.Linear(field["channels"] * field["size"][0] * field["size"][1], width)

    @staticmethod
    def wants(settings: Json, files: Path) -> Json:
        return {}

    def forward(self, data: dict[str, torch.Tensor]) -> Stream:
        pixels = (data["pixels"] / 255 - self.mean) / self.std
        tokens = self.bend(self.map(pixels.flatten(1)))[:, None]
        return Stream(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))

    def bend(self, values: torch.Tensor) -> torch.Tensor:
        return values


class BentPixels(LinearPixels):
    """relu(W vec(x) + b)."""

    def bend(self, values: torch.Tensor) -> torch.Tensor:
        return values.relu()
