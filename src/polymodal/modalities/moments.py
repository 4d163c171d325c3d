"""Mean and standard deviation of columns over blocks of rows that come one after the other."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64


class Moments:
    """Merges the sums of two samples (Chan, Golub and LeVeque 1979); NaN counts for nothing in its column."""

    def __init__(self, columns: int) -> None:
        self.count, self.mean, self.squares = np.zeros(columns), np.zeros(columns), np.zeros(columns)

    def add(self, block: Float[np.ndarray, "T M"]) -> None:
        here = block.astype(np.float64)
        known = ~np.isnan(here)
        here, own = np.where(known, here, 0.0), known.sum(0)
        mean = here.sum(0) / np.maximum(own, 1)
        gap = np.where(own > 0, mean - self.mean, 0.0)
        both = np.maximum(self.count + own, 1)
        self.squares += (np.where(known, here - mean, 0.0) ** 2).sum(0) + gap**2 * self.count * own / both
        self.count += own
        self.mean += gap * own / both

    @property
    def deviation(self) -> Float64[np.ndarray, " M"]:
        """Of the population; 0 for a column without rows."""
        return np.sqrt(self.squares / np.maximum(self.count, 1))
