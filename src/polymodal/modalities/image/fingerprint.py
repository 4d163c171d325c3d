"""When two pictures are nearly the same: the signs of their slow changes of light, and where their colours are."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8, UInt64

from polymodal.core.fingerprints import WAVES, cosines, exact, lowest, pack

FLAT = 0.5  # grey levels: the strength of the strongest change of light in a picture without content
TINT = 2.0  # grey levels: the least strength of a colour that counts
TINTS = 16  # coefficients of each of the two differences of colours, their mean among them
OPPONENTS = np.array([[1.0, -1.0, 0.0], [-0.5, -0.5, 1.0]], np.float32)  # red and green, blue and yellow
LARGEST = 1 << 18  # pixels that are looked at together


def light_and_colour(pixels: UInt8[np.ndarray, "n C H W"]) -> UInt64[np.ndarray, "n words"]:
    """For each picture the signs of the 256 slowest changes of light, the lowest coefficients of its DCT; in colour 64
    more bits, which of the slow changes of its colours lie above or below nothing.

    Compression, scaling, noise and other light change few bits; cropping, turning and mirroring change many. A
    picture without content is the digest of its pixels. After Zauner, "Implementation and benchmarking of perceptual
    image hash functions", 2010, section 3.2.1.
    """
    step = max(1, LARGEST // pixels[0].size)
    return np.concatenate([_marks(pixels[i : i + step]) for i in range(0, len(pixels), step)])


def _marks(pixels: UInt8[np.ndarray, "n C H W"]) -> UInt64[np.ndarray, "n words"]:
    n, colours, high, wide = pixels.shape
    waves = cosines(pixels.reshape(n * colours, high, wide).astype(np.float32)) / (high * wide)
    waves = waves.reshape(n, colours, WAVES, WAVES)
    light = lowest(waves.mean(1))
    bits = [light > 0]
    if colours == 3:
        tints = (OPPONENTS @ waves.reshape(n, colours, WAVES * WAVES)).reshape(2 * n, WAVES, WAVES)
        tints = np.concatenate([tints[:, :1, 0], lowest(tints, TINTS - 1)], axis=1).reshape(n, 2 * TINTS)
        bits += [tints > TINT, tints < -TINT]
    words = pack(np.concatenate(bits, axis=1))
    for i in np.flatnonzero(np.abs(light).max(1) < FLAT / 4):
        words[i] = exact(pixels[i].tobytes(), words.shape[1])
    return words
