"""Augmentation of series; everything is drawn from the generator that is passed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from polymodal.core.seeds import Rng

Values = Float64[np.ndarray, "T C"]


@dataclass(frozen=True)
class Vary:
    """Changes to a series (Um et al. 2017; masks after Park et al. 2019), all off by default."""

    crop: float = 0.0  # a window is taken that leaves out up to this share of the steps
    scale: float = 0.0  # each channel is multiplied by 1 + N(0, scale)
    jitter: float = 0.0  # N(0, jitter) is added to every value, in deviations of the channel
    time_masks: int = 0  # so many times some steps, at a random place, go missing
    time_width: int = 10  # ... 0 to so many steps
    time_share: float = 0.2  # ... and at most this share of all

    def __bool__(self) -> bool:
        return bool(self.crop or self.scale or self.jitter or self.time_masks)

    def window(self, length: int, rng: Rng) -> slice:
        """The steps that are kept: all, or a random window of them."""
        if not self.crop:
            return slice(0, length)
        kept = max(1, length - int(rng.integers(0, int(self.crop * length) + 1)))
        start = int(rng.integers(0, length - kept + 1))
        return slice(start, start + kept)

    def __call__(self, values: Values, deviation: Float64[np.ndarray, " C"], rng: Rng) -> Values:
        """Scaled, with noise, with steps missing (NaN)."""
        if self.scale:
            values = values * (1.0 + self.scale * rng.standard_normal(values.shape[1]))
        if self.jitter:
            values = values + self.jitter * deviation * rng.standard_normal(values.shape)
        if self.time_masks:
            gone = np.zeros(len(values), bool)
            for _ in range(self.time_masks):
                gone[_span(rng, min(self.time_width, int(self.time_share * len(values))), len(values))] = True
            values = np.where(gone[:, None], np.nan, values)
        return values


def _span(rng: Rng, widest: int, length: int) -> slice:
    width = int(rng.integers(0, widest + 1))
    start = int(rng.integers(0, length - width + 1))
    return slice(start, start + width)
