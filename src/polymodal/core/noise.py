"""Noise of a level from 0 to 1, as readers' `corrupt` adds it: 0 leaves a cell as it is, 1 next to nothing of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from polymodal.core.seeds import Rng


def takes(reader: Any) -> bool:
    """Whether a reader can add noise to its cells."""
    return hasattr(reader, "corrupt")


def white(
    x: Float32[np.ndarray, "*shape"],
    level: float,
    rng: Rng,
    mean: float | Float[np.ndarray, "*#shape"] = 0.0,
    std: float | Float[np.ndarray, "*#shape"] = 1.0,
) -> Float32[np.ndarray, "*shape"]:
    """Gaussian noise in place of a share of the signal, at unchanged mean and variance of the data.

    mean + a (x - mean) + sqrt(1 - a^2) std e, with a = 1 - level and e standard normal: the signal-to-noise ratio is
    a^2 / (1 - a^2), -5 dB at level 0.5, and at level 1 only noise is left. `mean` and `std` are those of the data.
    """
    keep = 1.0 - level
    noise = rng.standard_normal(x.shape, np.float32) * np.asarray(std * np.sqrt(1.0 - keep**2), np.float32)
    return np.asarray(mean, np.float32) * np.float32(level) + x * np.float32(keep) + noise


def hit(mask: Bool[np.ndarray, "*shape"], level: float, rng: Rng) -> Bool[np.ndarray, "*shape"]:
    """Which of the places in `mask` noise falls on, each by its own lot; with the same lots, more at a higher level."""
    return mask & (rng.random(mask.shape) < level)
