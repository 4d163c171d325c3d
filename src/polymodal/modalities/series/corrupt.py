"""Noise in series: what sensors do."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32

from polymodal.core.noise import hit, white
from polymodal.core.seeds import Rng


def noisy(
    values: Float32[np.ndarray, "N T C"],
    mask: Bool[np.ndarray, "N T"],
    level: float,
    rng: Rng,
    mean: Float[np.ndarray, " C"],
    std: Float[np.ndarray, " C"],
) -> Float32[np.ndarray, "N T C"]:
    """The three faults of time series in MultiBench (Liang et al. 2021) together; padding stays zero.

    White noise of this level on every value, see `noise.white`. Random drop: a value, and structured drop: a step with
    all its channels, is lost with chance level / 2 each. Where MultiBench puts zeros, what is lost is noise of the
    channel's mean and deviation, so that both stay what they were at any level. Nothing is left at level 1.
    """
    lost = hit(np.broadcast_to(mask[..., None], values.shape), level / 2, rng) | hit(mask, level / 2, rng)[..., None]
    found = np.where(lost, white(values, 1.0, rng, mean, std), white(values, level, rng, mean, std))
    return np.where(mask[..., None], found, values)
