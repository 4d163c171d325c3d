"""Noise in pictures."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from polymodal.core.contracts import Field
from polymodal.core.noise import white
from polymodal.core.seeds import Rng

GREY, SPREAD = 0.5, 0.25  # of the full range, where the field does not say what the data are like


def noisy(pixels: UInt8[np.ndarray, "N C H W"], level: float, rng: Rng, field: Field) -> UInt8[np.ndarray, "N C H W"]:
    """Every pixel mixed with Gaussian noise of the data's mean and deviation per channel, see `noise.white`.

    Rounded and cut off at 0 and 255. A field of `normalize: none` says nothing about the data: grey noise then.
    """
    said = any(field["mean"])
    mean, std = (field["mean"], field["std"]) if said else ([GREY] * pixels.shape[1], [SPREAD] * pixels.shape[1])
    of_data = [255 * np.asarray(v, np.float32)[:, None, None] for v in (mean, std)]
    mixed = white(pixels.astype(np.float32), level, rng, *of_data)
    return np.rint(mixed).clip(0, 255).astype(np.uint8)
