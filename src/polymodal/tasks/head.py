"""The head that turns one fused vector into a task's numbers."""

from __future__ import annotations

from typing import Literal

from torch import nn

HeadNorm = Literal["none", "layer"]


def head(width: int, out: int, hidden: int = 0, dropout: float = 0.0, norm: HeadNorm = "none") -> nn.Sequential:
    """[B width] -> [B out]: linear, or with a hidden layer of `hidden` units; dropout stands before the last layer.

    With `norm: layer` the fused vector is brought to mean 0 and variance 1 first, so that inputs whose encoders speak
    at different volumes are heard alike from the first step (Ba et al., "Layer Normalization", 2016).
    """
    first = [nn.LayerNorm(width)] if norm == "layer" else []
    middle = [nn.Linear(width, hidden), nn.ReLU()] if hidden else []
    return nn.Sequential(*first, *middle, nn.Dropout(dropout), nn.Linear(hidden or width, out))
