"""Short tones, high or low, as a microphone would give them."""

from __future__ import annotations

import io
import wave

import numpy as np
from jaxtyping import Int16

from polymodal.core.seeds import Rng

RATE = 8000  # samples per second
HERTZ = {"low": (300.0, 420.0), "high": (1200.0, 1680.0)}  # fundamental


def tone(pitch: str, rng: Rng) -> Int16[np.ndarray, " N"]:
    """One tone of 0.3 s with an overtone and soft edges, somewhere in 0.5 s of faint noise; 8000 samples a second."""
    length, within = round(0.3 * RATE), round(0.5 * RATE)
    hertz, start = rng.uniform(*HERTZ[pitch]), int(rng.integers(within - length))
    phase = 2 * np.pi * hertz * np.arange(length) / RATE
    edge = np.minimum(1, np.minimum(np.arange(length), np.arange(length)[::-1]) / (0.02 * RATE))
    heard = rng.normal(0, 0.01, within)
    heard[start : start + length] += rng.uniform(0.3, 0.6) * edge * (np.sin(phase) + 0.3 * np.sin(2 * phase))
    return np.rint(32767 * np.clip(heard, -1, 1)).astype(np.int16)


def wav(samples: Int16[np.ndarray, " N"]) -> bytes:
    """The bytes of a WAV file: one channel, 16 bits, 8000 samples a second."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()
