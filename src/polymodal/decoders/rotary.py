"""Where a token stands, as an angle by which its queries and keys are turned (rotary positions)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Turn = tuple[Tensor, Tensor]  # cosines and sines, each [L d]


def turns(first: int, count: int, width: int, like: Float[Tensor, "..."]) -> Turn:
    """The angles p·10000^(-2i/d) of the `count` places p from `first` on, for the pairs (i, i + d/2) of d features."""
    rate = 10000.0 ** (-torch.arange(0, width, 2, device=like.device, dtype=torch.float32) / width)
    angle = torch.arange(first, first + count, device=like.device, dtype=torch.float32)[:, None] * rate
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([cos, cos], 1).to(like.dtype), torch.cat([-sin, sin], 1).to(like.dtype)


def turned(x: Float[Tensor, "B L _N H d"], turn: Turn) -> Float[Tensor, "B L _N H d"]:
    """Every pair of features as a vector in the plane, turned by its angle: products of two then know the distance
    between their places and nothing else of them (Su et al. 2021, RoFormer)."""
    cos, sin = (a[:, None, None] for a in turn)
    return torch.addcmul(x * cos, x.roll(x.shape[4] // 2, 4), sin)
