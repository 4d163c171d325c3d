"""Dropout that draws quickly on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

LEVELS = 1 << 16  # a number is dropped with a probability of so many parts
LEAST = 1 << 12  # numbers for which it is worth it


@contextmanager
def quick(model: nn.Module) -> Iterator[None]:
    """Until the end the model's dropout layers draw 16 bits for a number, which decide with p rounded to 1 / 65,536.

    The usual one draws 53 bits, one number after the other: a tenth of a training step of a small BERT. It is as
    reproducible as that, from torch's own generator; on other devices than the CPU it is the usual one.
    """
    layers = [m for m in model.modules() if type(m) is nn.Dropout]
    for layer in layers:
        layer.__class__ = _Dropout
    try:
        yield
    finally:
        for layer in layers:
            layer.__class__ = nn.Dropout


class _Dropout(nn.Dropout):
    """x / (1 - p) or 0 with probability p, for x of any shape."""

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and 0 < self.p < 1 and input.device.type == "cpu" and input.numel() >= LEAST):
            return super().forward(input)
        kept = draw(input.numel(), 1 - self.p).view(input.shape)
        return input * kept.to(input.dtype).mul_(1 / (1 - self.p))


def draw(count: int, p: float) -> Tensor:
    """[count], true with probability p: four decisions from each 64 bits."""
    bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(1 << 63), None)
    return bits.view(torch.int16)[:count] < round(p * LEVELS) - LEVELS // 2
