"""When two clips are nearly the same: their mean picture, and where light comes and goes in the course of time."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from polymodal.core.fingerprints import Words, cosines, lowest, pack

BEATS = 3  # cosines over time: half a wave, one, one and a half
PLACES = 64  # changes over the picture that are looked at for each
MOVED = 0.25  # grey levels: the least strength of a change that counts


def mean_picture(frames: UInt8[np.ndarray, "T C H W"]) -> UInt8[np.ndarray, "C H W"]:
    """The mean over time."""
    return np.rint(frames.mean(0, dtype=np.float32)).astype(np.uint8)


def motion(frames: UInt8[np.ndarray, "T C H W"]) -> Words:
    """Which of the slow changes of light over time and place lie above and below nothing, 384 bits; 0 in a still.

    The lowest coefficients of a three-dimensional DCT without those that are constant in time, as for pictures
    (Zauner 2010); codecs, sizes and the number of frames a second change few bits.
    """
    steps, _, high, wide = frames.shape
    light = frames.mean(1, dtype=np.float32)
    beat = np.arange(1, BEATS + 1)[:, None]
    waves = np.cos(np.pi * beat * (np.arange(steps) + 0.5) / steps) * (beat < steps) / steps
    planes = np.einsum("bt,thw->bhw", waves.astype(np.float32), light)
    found = cosines(planes) / (high * wide)
    found = np.concatenate([found[:, :1, 0], lowest(found, PLACES - 1)], axis=1)
    return pack(np.concatenate([found > MOVED, found < -MOVED], axis=1).reshape(1, -1))[0]
