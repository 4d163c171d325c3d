"""What can be heard of a sound at once: how long, how loud, how high, how much of it is silent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from polymodal.core.traits import Traits, numbers

QUIET = 3.0 * np.log(10.0)  # 30 dB in natural logarithms of power
DECIBEL = 10.0 / np.log(10.0)


def heard(spectra: Sequence[Float[np.ndarray, "_T _B"]], hop: float) -> Traits:
    """Of log-mel bands, a frame every `hop` seconds: `length` in seconds; `level`, a band's mean power in decibels;
    `pitch`, the mean band weighed by power, from 0, the lowest, to 1; `silence`, the share of frames more than 30 dB
    below the loudest one."""
    lengths, levels, pitches, silences = [], [], [], []
    for bands in spectra:
        power = np.exp(bands.astype(np.float64))
        frames = power.mean(1)
        place = np.arange(bands.shape[1]) / max(1, bands.shape[1] - 1)
        silent = np.log(frames) < np.log(frames.max()) - QUIET
        lengths.append(len(bands) * hop)
        levels.append(DECIBEL * np.log(frames.mean()))
        pitches.append((power @ place).sum() / power.sum())
        silences.append(silent.mean())
    return {"length": numbers(lengths, "s"), "level": numbers(levels, "dB"), "pitch": numbers(pitches),
            "silence": numbers(silences)}  # fmt: skip
