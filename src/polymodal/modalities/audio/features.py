"""A waveform -> log-mel bands or MFCCs, in numpy."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32
from numpy.lib.stride_tricks import sliding_window_view

from polymodal.core.errors import SpecError
from polymodal.modalities.audio.wave import Wave

FLOOR = 1e-10  # power below which everything is silence: 100 dB under a bin of power 1
REACH = 2  # frames to either side that a delta looks at


class Features:
    """The log-mel spectrogram of a sound, and from it the MFCCs when `mfccs` is given.

    Frames of `window` samples every `hop` samples, from the first sample on; what does not fill a frame at the end is
    left out, and a sound shorter than one frame is padded with silence: T = 1 + max(0, (n - window) // hop). Each
    frame under a periodic Hann window, power of its FFT of `n_fft` points, weighed by `mel_filters`, then the natural
    logarithm, floored at 1e-10. The MFCCs (Davis and Mermelstein 1980) are the first coefficients of the orthonormal
    DCT-II over the bands, the one for loudness among them; nothing is liftered.

    `top_db`: bands more than so many decibels under the sound's loudest one are raised to there, so that recordings
    with noise and with digital silence between the words look alike. `deltas`: 1 puts the slope over time of every
    column beside it (Furui 1986: least squares over two frames to either side, the ends repeated), 2 its slope as well.
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
        top_db: float | None = None,
        deltas: int = 0,
    ) -> None:
        self.window, self.hop, self.n_fft = window, hop, n_fft
        self.taper = np.hanning(window + 1)[:-1]
        self.filters = mel_filters(rate=rate, n_fft=n_fft, mels=mels, fmin=fmin, fmax=fmax)
        self.cosines = None if mfccs is None else dct(mels)[:, :mfccs]
        self.own = mels if mfccs is None else mfccs  # columns without deltas
        self.bands = self.own * (1 + deltas)
        self.depth, self.deltas = None if top_db is None else top_db * np.log(10.0) / 10.0, deltas

    def __call__(self, wave: Wave) -> Float32[np.ndarray, "T M"]:
        lacking = max(0, self.window - len(wave))
        frames = sliding_window_view(np.pad(wave, (0, lacking)), self.window)[:: self.hop]
        spectrum = np.fft.rfft(frames * self.taper, self.n_fft)
        power = spectrum.real**2 + spectrum.imag**2
        bands = np.log(np.maximum(power @ self.filters, FLOOR))
        if self.depth is not None:
            bands = np.maximum(bands, bands.max() - self.depth)
        columns = [bands if self.cosines is None else bands @ self.cosines]
        for _ in range(self.deltas):
            columns.append(slope(columns[-1]))
        return np.concatenate(columns, 1, dtype=np.float32, casting="same_kind")

    def bands_of(self, features: Float32[np.ndarray, "T M"]) -> Float32[np.ndarray, "T B"]:
        """The log-mel bands; from MFCCs those that are as smooth as these coefficients can say."""
        own = features[:, : self.own]
        return own if self.cosines is None else (own @ self.cosines.T).astype(np.float32)


def slope(columns: Float[np.ndarray, "T M"]) -> Float[np.ndarray, "T M"]:
    """Σ_k k (x[t + k] - x[t - k]) / 2 Σ_k k², k = 1 … 2: the slope of the line of least squares through five frames."""
    padded = np.pad(columns, ((REACH, REACH), (0, 0)), mode="edge")
    near = sliding_window_view(padded, 2 * REACH + 1, axis=0)  # [T M 5]
    steps = np.arange(-REACH, REACH + 1, dtype=np.float64)
    return near @ (steps / (steps**2).sum())


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
