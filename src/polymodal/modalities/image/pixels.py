"""What every picture encoder begins and ends with: bytes -> normalised numbers, and a map's grid -> tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float, Real
from torch import Tensor, nn

from polymodal.core.contracts import Field
from polymodal.core.streams import Stream


class Pixels(nn.Module):
    """(pixels / 255 - mean) / std per channel, with the statistics of the reader's field, on the pixels' own device.

    Pixels are uint8, or floats of the same range, 0 to 255. The statistics are no part of the saved weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.channels = int(field["channels"])
        self.size = (int(field["size"][0]), int(field["size"][1]))
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(field[name])[:, None, None], persistent=False)

    def forward(self, pixels: Real[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        return (pixels.to(self.mean.dtype) / 255 - self.mean) / self.std


def grid_tokens(features: Float[Tensor, "N C H W"]) -> Float[Tensor, "N T C"]:
    """The places of a map as tokens, row by row: T = H W."""
    return features.flatten(2).transpose(1, 2)


def whole(tokens: Float[Tensor, "N T D"], maps: tuple[Tensor, ...]) -> Stream:
    """A stream in which every token is real: pictures have no padding."""
    return Stream(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device), maps)
