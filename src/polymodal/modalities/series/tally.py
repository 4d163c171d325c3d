"""What fitting counts: cells of one layout, their channels' moments, gaps in time."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from polymodal.modalities.moments import Moments
from polymodal.modalities.series.cell import Series

STILL = 1e-7  # deviation, over the size of the values, below which a channel counts as constant
SMALLEST = 1e-30
Layout = tuple[tuple[str, ...] | None, int]


class Tally:
    """Cells that have the same channels, in whatever order."""

    def __init__(self, first: Series) -> None:
        self.names = first.names
        self.cells, self.missing = 0, False
        self.moments = Moments(first.values.shape[1])
        self._time = self._steps = 0.0

    @classmethod
    def empty(cls, channels: int) -> Tally:
        return cls(Series(None, np.zeros((0, channels)), None))

    @staticmethod
    def key(series: Series) -> Layout:
        return None if series.names is None else tuple(sorted(series.names)), series.values.shape[1]

    def add(self, series: Series) -> None:
        order = [series.names.index(n) for n in self.names] if series.names and self.names else slice(None)
        self.cells += 1
        self.missing |= bool(np.isnan(series.values).any())
        self.moments.add(series.values[:, order])
        if series.time is not None:
            self._time += float(series.time[-1] - series.time[0])
            self._steps += len(series.time) - 1

    @property
    def gap(self) -> float:
        """The mean time from step to step; 1 where there is none."""
        return self._time / self._steps if self._time > 0 else 1.0


def steady(moments: Moments) -> Float64[np.ndarray, " C"]:
    """The deviation of each channel; 1 for one that does not vary."""
    still = moments.deviation <= STILL * np.abs(moments.mean) + SMALLEST
    return np.where(still, 1.0, moments.deviation)
