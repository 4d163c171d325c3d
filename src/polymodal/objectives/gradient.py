"""Tensors that pass as they are, while their gradient is changed on its way back."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def weighed(x: Float[Tensor, "*B"], factor: Float[Tensor, ""]) -> Float[Tensor, "*B"]:
    """x; its gradient g becomes `factor · g`."""
    return _Changed.apply(x, factor, None, None)


def shaken(x: Float[Tensor, "B T D"], factor: Float[Tensor, ""], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
    """x; its gradient g becomes `factor · g + std(g) · ε`, ε normal, at the real tokens, over which std is taken.

    ε is drawn here, not on the way back, so that it depends on the seed of the step alone.
    """
    return _Changed.apply(x, factor, torch.randn_like(x), mask)


class _Changed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor, noise: Tensor | None, mask: Tensor | None) -> Tensor:
        ctx.save_for_backward(factor, noise, mask)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (g,), (factor, noise, mask) = gradients, ctx.saved_tensors
        if noise is None:
            return g * factor, None, None, None
        real = mask[..., None].to(g.dtype)
        count = real.sum() * g.shape[2]
        mean = (g * real).sum() / count.clamp(min=1)
        spread = (((g - mean) * real).square().sum() / (count - 1).clamp(min=1)).sqrt()
        return g * factor + spread * noise * real, None, None, None
