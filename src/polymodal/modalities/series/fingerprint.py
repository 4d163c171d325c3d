"""When two series are nearly the same: the sides on which they lie of random planes."""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float, Float32, Float64

from polymodal.core.fingerprints import SIGNS, Words, pack
from polymodal.core.seeds import generator

POINTS, MOST = 32, 64  # in time; channels that are looked at


def sides(values: Float64[np.ndarray, "T C"], mean: Float[np.ndarray, " C"], std: Float[np.ndarray, " C"]) -> Words:
    """256 signs of random projections (Charikar 2002) of the series in deviations, at 32 points, beside a constant.

    The share of differing signs is the angle between two series over 180 degrees; with the constant, level and size
    count, not just the shape: some 58 signs differ for each deviation between them (root of the mean square).
    """
    channels = np.unique(np.linspace(0, values.shape[1] - 1, min(MOST, values.shape[1])).astype(int))
    scaled = np.nan_to_num((values[:, channels] - mean[channels]) / std[channels])
    at = np.linspace(0, len(scaled) - 1, POINTS)
    low = np.floor(at).astype(int)
    share = (at - low)[:, None]
    points = scaled[low] * (1 - share) + scaled[np.minimum(low + 1, len(scaled) - 1)] * share
    whole = np.append(points.ravel() / np.sqrt(points.size), 1.0).astype(np.float32)
    return pack((whole @ _planes(len(whole)) > 0)[None])[0]


@cache
def _planes(size: int) -> Float32[np.ndarray, "n signs"]:
    return generator("planes", size).standard_normal((size, SIGNS), np.float32)
