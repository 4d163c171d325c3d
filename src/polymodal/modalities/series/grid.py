"""Steps in time: put in order, brought to a regular grid, cut."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from polymodal.core.errors import BadCell

Values = Float64[np.ndarray, "T C"]
Times = Float64[np.ndarray, " T"]


def ordered(values: Values, time: Times) -> tuple[Values, Times]:
    """The steps by time; those of one time stay as they stand."""
    if (np.diff(time) >= 0).all():
        return values, time
    order = np.argsort(time, kind="stable")
    return values[order], time[order]


def resampled(values: Values, time: Times, every: float, most: int, last: bool) -> Float64[np.ndarray, "G C"]:
    """Each channel on the grid t0, t0 + every, ... up to its last time: linear between the values known around it.

    Before a channel's first value and after its last it is missing. Of more than `most` points the first or the last
    are kept. Raises BadCell when the grid is finer than float64 can count.
    """
    count = float(time[-1] - time[0]) / every * (1 + 1e-12) // 1 + 1
    if not count < 2**53:
        raise BadCell(f"a grid of {count:.3g} points")
    start = max(0, int(count) - most) if last else 0
    grid = np.minimum(time[0] + every * np.arange(start, min(int(count), start + most)), time[-1])
    found = np.full((len(grid), values.shape[1]), np.nan)
    for c, channel in enumerate(values.T):
        known = ~np.isnan(channel)
        if known.any():
            found[:, c] = np.interp(grid, time[known], channel[known], np.nan, np.nan)
    return found


def cut(length: int, most: int, last: bool) -> slice:
    """Which steps are kept of so many."""
    return slice(max(0, length - most), length) if last else slice(0, most)


def filled(values: Values, last: bool, before: Float64[np.ndarray, " C"]) -> Values:
    """What is missing takes the value `before`, or (`last`) the last one known where there is one."""
    missing = np.isnan(values)
    if not missing.any():
        return values
    if last:
        steps = np.where(missing, -1, np.arange(len(values))[:, None])
        known = np.maximum.accumulate(steps, 0)
        values = np.where(known >= 0, np.take_along_axis(values, np.maximum(known, 0), 0), np.nan)
    return np.where(np.isnan(values), before, values)
