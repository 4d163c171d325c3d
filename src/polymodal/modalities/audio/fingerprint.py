"""When two sounds are nearly the same: the signs of their spectrogram's slow changes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from polymodal.core.fingerprints import Words, cosines, exact, lowest, pack

DEPTH = 7.0  # what lies further below the loudest is taken for silence: 30 dB, in natural logarithms of power
FLAT = 0.02  # the strength of the strongest change in a spectrogram without any shape


def spectral_signs(bands: Float32[np.ndarray, "T M"]) -> Words:
    """The signs of the 256 lowest coefficients of the DCT of log-mel bands over time and pitch.

    Loudness does not count, nor does noise 30 dB below the sound. A sound without shape is the digest of its bands.
    """
    floored = np.maximum(bands, bands.max() - np.float32(DEPTH))
    waves = lowest(cosines(floored[None])) / floored.size
    return pack(waves > 0)[0] if np.abs(waves).max() > FLAT else exact(bands.tobytes())
