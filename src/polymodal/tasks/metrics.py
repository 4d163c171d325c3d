"""Measures over many weightings of the rows at once: `weights` is [W n], every measure is [W].

A bootstrap resample is a row of counts, so 1,000 resamples are one matrix product instead of 1,000 passes. A row of
weight 0 counts as absent, one of weight 2 as two rows. NaN stands only where a measure is undefined: no row has any
weight, or what the measure's own description says.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

BINS = 15

Weights = Float[np.ndarray, "W n"]
PerWeighting = Float[np.ndarray, " W"]


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """`above / below`, NaN where `below` is 0."""
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below != 0)


def mean(values: Float[np.ndarray, " n"] | Bool[np.ndarray, " n"], weights: Weights) -> PerWeighting:
    """The weighted mean: accuracy of `correct`, log loss of `-log p(true)`, mean absolute error of `|t - p|`."""
    return ratio(weights @ values.astype(np.float64), weights.sum(1))


def mean_defined(values: Float[np.ndarray, "W C"]) -> PerWeighting:
    """The mean over classes of what is not NaN; NaN where all are."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(1), known.sum(1).astype(np.float64))


def class_sums(
    groups: Int[np.ndarray, " n"], classes: int, by_row: Float[np.ndarray, "n W"]
) -> Float[np.ndarray, "W C"]:
    """The weight of the rows in each of the groups 0 ... classes - 1."""
    sums = np.zeros((classes, by_row.shape[1]))
    order = np.argsort(groups, kind="stable")
    found, starts = np.unique(groups[order], return_index=True)
    if len(found):
        sums[found] = np.add.reduceat(by_row[order], starts, axis=0)
    return sums.T


def hits(
    truth: Int[np.ndarray, " n"], guess: Int[np.ndarray, " n"], classes: int, weights: Weights
) -> tuple[Float[np.ndarray, "W C1"], Float[np.ndarray, "W C1"], Float[np.ndarray, "W C1"]]:
    """Per class: weight of the rows that are rightly given it, that have it, that are given it.

    A class that was not seen in training (truth -1) is one class more, which is never given.
    """
    by_row = np.ascontiguousarray(weights.T)  # whole rows of it are moved, which is several times as fast
    truth = np.where(truth < 0, classes, truth)
    right = np.where(truth == guess, truth, classes + 1)
    rightly = class_sums(right, classes + 2, by_row)[:, :-1]
    return rightly, class_sums(truth, classes + 1, by_row), class_sums(guess, classes + 1, by_row)


def recall(right: np.ndarray, have: np.ndarray) -> PerWeighting:
    """Balanced accuracy: the mean, over the classes that have rows, of the share of them that is found.

    Source: Brodersen et al., "The balanced accuracy and its posterior distribution", ICPR 2010.
    """
    return mean_defined(ratio(right, have))


def f1(right: np.ndarray, have: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Per class `2 TP / (2 TP + FP + FN)`; NaN for a class that no row has or is given."""
    return ratio(2 * right, have + given)


def calibration_gaps(sure: Float[np.ndarray, "n K"], right: Bool[np.ndarray, "n K"]) -> Float[np.ndarray, "n bins"]:
    """Per row and bin of confidence, the sum of `right - sure` over the row's K decisions; equal bins of (0, 1]."""
    gaps = np.zeros((len(sure), BINS))
    rows = np.broadcast_to(np.arange(len(sure))[:, None], sure.shape)
    np.add.at(gaps, (rows, bins(sure)), right - sure)
    return gaps


def bins(sure: np.ndarray) -> np.ndarray:
    """The bin of each confidence: 0 for (0, 1/15], ..., 14 for (14/15, 1]; 0 itself is in the first."""
    return np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)


def calibration_error(gaps: Float[np.ndarray, "n bins"], decisions: int, weights: Weights) -> PerWeighting:
    """Expected calibration error `Σ_b |Σ_b (right - sure)| / decisions`, 15 equal bins; `gaps` of `calibration_gaps`.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    return ratio(np.abs(weights @ gaps).sum(1), decisions * weights.sum(1))


def r2(truth: Float[np.ndarray, " n"], guess: Float[np.ndarray, " n"], weights: Weights) -> PerWeighting:
    """The coefficient of determination, `1 - Σ (t - p)² / Σ (t - mean t)²`; NaN where all targets are equal."""
    centred = truth - truth.mean() if len(truth) else truth  # against cancellation
    total, squares = weights.sum(1), weights @ centred**2
    spread = squares - ratio((weights @ centred) ** 2, total)
    spread = np.where(spread > 1e-12 * squares, spread, 0.0)
    return 1 - ratio(weights @ (truth - guess) ** 2, spread)
