"""Noise in sounds."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32

from polymodal.core.noise import white
from polymodal.core.seeds import Rng


def noisy(
    mel: Float32[np.ndarray, "N T M"], mask: Bool[np.ndarray, "N T"], level: float, rng: Rng, standard: bool
) -> Float32[np.ndarray, "N T M"]:
    """Every band of every frame mixed with Gaussian noise, see `noise.white`; padding stays zero.

    White noise of the features, on the logarithmic scale. `standard`: they have mean 0 and deviation 1 over the data;
    otherwise each sound's own mean and deviation over all of its bands and frames are kept.
    """
    mean, std = (0.0, 1.0) if standard else _own(mel, mask)
    return np.where(mask[..., None], white(mel, level, rng, mean, std), mel)


def _own(
    mel: Float32[np.ndarray, "N T M"], mask: Bool[np.ndarray, "N T"]
) -> tuple[Float[np.ndarray, "N 1 1"], Float[np.ndarray, "N 1 1"]]:
    real, count = mask[..., None], np.maximum(mask.sum(1), 1)[:, None, None] * mel.shape[2]
    mean = np.where(real, mel, 0.0).sum((1, 2), keepdims=True) / count
    return mean, np.sqrt((np.where(real, mel - mean, 0.0) ** 2).sum((1, 2), keepdims=True) / count)
