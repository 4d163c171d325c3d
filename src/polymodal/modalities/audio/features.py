"""A waveform -> log-mel bands or MFCCs, in numpy."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32
from numpy.lib.stride_tricks import sliding_window_view

from polymodal.core.errors import SpecError
from polymodal.modalities.audio.wave import Wave

FLOOR = 1e-10  # power below which everything is silence: 100 dB under a bin of power 1


class Features:
    """The log-mel spectrogram of a sound, and from it the MFCCs when `mfccs` is given.

    Frames of `window` samples every `hop` samples, from the first sample on; what does not fill a frame at the end is
    left out, and a sound shorter than one frame is padded with silence: T = 1 + max(0, (n - window) // hop). Each
    frame under a periodic Hann window, power of its FFT of `n_fft` points, weighed by `mel_filters`, then the natural
    logarithm, floored at 1e-10. The MFCCs (Davis and Mermelstein 1980) are the first coefficients of the orthonormal
    DCT-II over the bands, the one for loudness among them; nothing is liftered.
    """

    def __init__(
        self,
        *,
        rate: int,
        mels: int,
        window: int,
        hop: int,
        n_fft: int,
        fmin: float,
        fmax: float,
        mfccs: int | None = None,
    ) -> None:
        self.window, self.hop, self.n_fft = window, hop, n_fft
        self.taper = np.hanning(window + 1)[:-1]
        self.filters = mel_filters(rate=rate, n_fft=n_fft, mels=mels, fmin=fmin, fmax=fmax)
        self.cosines = None if mfccs is None else dct(mels)[:, :mfccs]
        self.bands = mels if mfccs is None else mfccs

    def __call__(self, wave: Wave) -> Float32[np.ndarray, "T M"]:
        lacking = max(0, self.window - len(wave))
        frames = sliding_window_view(np.pad(wave, (0, lacking)), self.window)[:: self.hop]
        spectrum = np.fft.rfft(frames * self.taper, self.n_fft)
        power = spectrum.real**2 + spectrum.imag**2
        bands = np.log(np.maximum(power @ self.filters, FLOOR))
        return (bands if self.cosines is None else bands @ self.cosines).astype(np.float32)


def mel_filters(*, rate: int, n_fft: int, mels: int, fmin: float, fmax: float) -> Float[np.ndarray, "bins mels"]:
    """Triangles of height 1, evenly spaced on the mel scale of HTK: mel = 2595 log10(1 + f / 700), f in Hz.

    Raises SpecError when a triangle is so narrow that no bin of the FFT falls into it.
    """
    low, high = (2595.0 * np.log10(1.0 + f / 700.0) for f in (fmin, fmax))
    corners = 700.0 * (10.0 ** (np.linspace(low, high, mels + 2) / 2595.0) - 1.0)
    left, peak, right = corners[:-2], corners[1:-1], corners[2:]
    bins = np.fft.rfftfreq(n_fft, 1.0 / rate)[:, None]
    filters = np.maximum(0.0, np.minimum((bins - left) / (peak - left), (right - bins) / (right - peak)))
    if not filters.any(0).all():
        empty = int((~filters.any(0)).sum())
        advice = f"fewer mels, or a larger n_fft, such as {2 * n_fft}"
        raise SpecError("mels", f"{empty} of the bands hold no bin of the FFT", given=mels, advice=advice)
    return filters


def dct(size: int) -> Float[np.ndarray, "n k"]:
    """The orthonormal DCT-II as a matrix: `x @ dct(len(x))`."""
    n, k = np.arange(size)[:, None], np.arange(size)
    scale = np.where(k == 0, np.sqrt(1.0 / size), np.sqrt(2.0 / size))
    return np.cos(np.pi * (n + 0.5) * k / size) * scale
