"""The head that turns one fused vector into a task's numbers."""

from __future__ import annotations

from torch import nn


def head(width: int, out: int, hidden: int = 0, dropout: float = 0.0) -> nn.Sequential:
    """[B width] -> [B out]: linear, or with a hidden layer of `hidden` units; dropout stands before the last layer."""
    last = [nn.Dropout(dropout), nn.Linear(hidden or width, out)]
    return nn.Sequential(*([nn.Linear(width, hidden), nn.ReLU()] if hidden else []), *last)
