"""Augmentation of waveforms and of spectrograms; everything is drawn from the generator that is passed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from polymodal.core.seeds import Rng
from polymodal.modalities.audio.wave import Wave, resample

NOISE_SPAN = 20.0  # dB between the loudest and the faintest noise


@dataclass(frozen=True)
class Vary:
    """Changes to a waveform, in this order: speed, shift, gain, noise. All off by default."""

    speed: float = 0.0  # played faster or slower, pitch and all, by up to this share (Ko et al. 2015)
    shift: float = 0.0  # moved in time by up to this share of its length; silence comes in
    gain: float = 0.0  # louder or softer by up to so many dB
    noise: float | None = None  # white noise; the lowest signal-to-noise ratio in dB, the highest is 20 dB above

    def __bool__(self) -> bool:
        return bool(self.speed or self.shift or self.gain) or self.noise is not None

    def __call__(self, wave: Wave, rng: Rng) -> Wave:
        if self.speed:
            factor = 1.0 + rng.uniform(-self.speed, self.speed)
            wave = resample(wave, factor, 1.0) if len(wave) > 2 else wave
        if self.shift:
            wave = _moved(wave, round(rng.uniform(-self.shift, self.shift) * len(wave)))
        if self.gain:
            wave = wave * np.float32(10.0 ** (rng.uniform(-self.gain, self.gain) / 20.0))
        if self.noise is not None:
            ratio = rng.uniform(self.noise, self.noise + NOISE_SPAN)
            loudness = np.sqrt(np.mean(wave.astype(np.float64) ** 2)) * 10.0 ** (-ratio / 20.0)
            wave = wave + (loudness * rng.standard_normal(len(wave))).astype(np.float32)
        return wave


def _moved(wave: Wave, by: int) -> Wave:
    moved = np.zeros_like(wave)
    if by >= 0:
        moved[by:] = wave[: len(wave) - by]
    else:
        moved[:by] = wave[-by:]
    return moved


@dataclass(frozen=True)
class SpecAugment:
    """Bands and frames masked out (Park et al. 2019, "SpecAugment", without time warping), off by default.

    Each mask is 0 to `width` wide, at a random place; a mask of frames is at most `time_share` of the sound. What is
    masked takes the sound's own mean of its band.
    """

    freq_masks: int = 0
    freq_width: int = 8  # bands
    time_masks: int = 0
    time_width: int = 25  # frames
    time_share: float = 0.2

    def __bool__(self) -> bool:
        return bool(self.freq_masks or self.time_masks)

    def __call__(self, mel: Float32[np.ndarray, "T M"], rng: Rng) -> Float32[np.ndarray, "T M"]:
        frames, bands = mel.shape
        hidden = np.zeros(mel.shape, bool)
        for _ in range(self.freq_masks):
            hidden[:, _span(rng, min(self.freq_width, bands), bands)] = True
        for _ in range(self.time_masks):
            hidden[_span(rng, min(self.time_width, int(self.time_share * frames)), frames)] = True
        return np.where(hidden, mel.mean(0), mel)


def _span(rng: Rng, widest: int, length: int) -> slice:
    width = int(rng.integers(0, widest + 1))
    start = int(rng.integers(0, length - width + 1))
    return slice(start, start + width)
