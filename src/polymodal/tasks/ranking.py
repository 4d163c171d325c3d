"""Measures of an order of the rows, over many weightings at once: area under the ROC curve, average precision."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from polymodal.tasks.metrics import PerWeighting, Weights, mean_defined, ratio

MEMORY = 2**23  # bytes for the arrays over rows and weightings: what a cache holds, for speed
COPIES = 3  # of the weights at once: by row, in the order of the scores, their sums


class Ranking(NamedTuple):
    """One class against the rest: rows by falling score, cut into steps that no threshold divides."""

    order: np.ndarray  # rows by falling score
    starts: np.ndarray  # the place of the first row of each step
    positives: np.ndarray  # the positive rows in this order
    positive_starts: np.ndarray  # the place among them of the first one of each step that has one
    holding: np.ndarray  # those steps


def ranked(score: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> Ranking:
    """Sort once; at least one row must be positive. Rows of equal score are one step; neighbouring steps without a
    positive are joined, which changes neither measure: the ROC curve runs straight there, and precision is read at
    positives only."""
    order = np.argsort(-score, kind="stable")
    falling, positive = score[order], truth[order]
    starts = np.flatnonzero(np.r_[True, falling[1:] != falling[:-1]])
    holds = np.logical_or.reduceat(positive, starts)
    kept = np.r_[True, holds[1:] | holds[:-1]]
    before = np.cumsum(positive) - positive
    return Ranking(order, starts[kept], order[positive], before[starts[holds]], np.flatnonzero(holds[kept]))


def areas(ranking: Ranking, by_row: Float[np.ndarray, "n W"]) -> tuple[PerWeighting, PerWeighting]:
    """Area under the ROC curve by trapezoids (ties count half) and average precision `Σ_k (R_k - R_(k-1)) P_k`.

    The first is NaN where positives or negatives have no weight, the second where positives have none.
    Sources: Fawcett, "An introduction to ROC analysis", 2006; Manning et al., "Introduction to Information Retrieval",
    2008, ch. 8 (average precision without interpolation).
    """
    taken = np.add.reduceat(by_row[ranking.order], ranking.starts, axis=0).cumsum(0)  # [steps W]
    found = np.add.reduceat(by_row[ranking.positives], ranking.positive_starts, axis=0)  # [holding steps W]
    recalled, reached = found.cumsum(0), taken[ranking.holding]
    positives = recalled[-1]
    negatives = taken[-1] - positives
    above = reached - recalled  # negatives of higher score, those of equal score included
    here = np.diff(taken, axis=0, prepend=0)[ranking.holding] - found
    area = (found * (negatives - above + here / 2)).sum(0)
    precision = np.divide(recalled, reached, out=np.zeros_like(reached), where=reached > 0)
    return ratio(area, positives * negatives), ratio((found * precision).sum(0), positives)


def macro_areas(
    scores: Float[np.ndarray, "n C"], truth: Bool[np.ndarray, "n C"], weights: Weights
) -> tuple[PerWeighting, PerWeighting]:
    """Macro AUROC (one class against the rest) and macro average precision: means over the classes where defined."""
    count, rows = weights.shape
    classes = [c for c in range(scores.shape[1]) if truth[:, c].any()]
    rankings = [ranked(scores[:, c], truth[:, c]) for c in classes]
    found = np.full((2, count, max(1, len(classes))), np.nan)
    step = max(1, MEMORY // (8 * COPIES * max(1, rows)))
    for first in range(0, count, step):
        by_row = np.ascontiguousarray(weights[first : first + step].T)
        for place, ranking in enumerate(rankings):
            found[:, first : first + step, place] = areas(ranking, by_row)
    return mean_defined(found[0]), mean_defined(found[1])
