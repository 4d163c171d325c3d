"""What every encoder of pictures, still or moving, begins with: bytes -> normalised numbers."""

from __future__ import annotations

import torch
from jaxtyping import Float, Real
from torch import Tensor, nn

from polymodal.core.contracts import Field


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

    def forward(self, pixels: Real[Tensor, "*N C H W"]) -> Float[Tensor, "*N C H W"]:
        return (pixels.to(self.mean.dtype) / 255 - self.mean) / self.std
