"""Normalisation of feature maps."""

from __future__ import annotations

import math
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

Norm = Literal["batch", "group", "none"]


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation (Ioffe and Szegedy 2015) that takes a single value per channel too.

    Such a batch has no statistics of its own: the running ones are used and not changed.
    """

    def forward(self, input: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        if self.training and input.shape[0] * input.shape[2] * input.shape[3] == 1:
            return nn.functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)


def norm(kind: Norm, channels: int) -> nn.Module:
    """`batch`; `group` with 16 channels to a group where they divide so (Wu and He 2018); or nothing."""
    if kind == "batch":
        return BatchNorm(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(channels, max(1, channels // 16)), channels)
    return nn.Identity()
