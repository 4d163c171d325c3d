"""Tests of whether two samples come from one distribution, and how far apart they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64, Num, Shaped

from polymodal.core.seeds import Rng

SMALL = 5.0  # expected counts below which the chi-square distribution is not trusted
TERMS = 100  # of the series of Kolmogorov's distribution
AT_ONCE = 256  # permutations
ENOUGH = 30  # of them as far apart as what was seen, after which p is known well enough
FOLDS, RIDGE = 5, 0.1


def ks(before: Float[np.ndarray, " q"], count: int, after: Float64[np.ndarray, " m"]) -> tuple[float, float]:
    """Kolmogorov and Smirnov's D, the widest gap between two distribution functions, and its two-sided p-value.

    `before` stands for `count` values in rising order, of which it may be an even selection: the gap is then made
    smaller by as much as the selection can have added. p is asymptotic with the correction of Stephens 1970; where
    values repeat it is too large rather than too small.
    """
    after = np.sort(after)
    points = np.concatenate([before, after])
    one, two = (np.searchsorted(x, points, side="right") / len(x) for x in (before, after))
    gap = float(np.abs(one - two).max()) - (0.5 / len(before) if len(before) < count else 0.0)
    size = math.sqrt(count * len(after) / (count + len(after)))
    return max(0.0, gap), kolmogorov((size + 0.12 + 0.11 / size) * max(0.0, gap))


def kolmogorov(x: float) -> float:
    """P(K > x) of Kolmogorov's distribution, `2 Σ (-1)^(k-1) exp(-2 k² x²)`, by its other series where x is small."""
    k = np.arange(1, TERMS + 1)
    if x < 0.2:
        return 1.0
    if x < 1.0:
        return float(1 - math.sqrt(2 * math.pi) / x * np.exp(-((2 * k - 1) ** 2) * math.pi**2 / (8 * x * x)).sum())
    return float(np.clip(2 * ((-1.0) ** (k - 1) * np.exp(-2.0 * (k * x) ** 2)).sum(), 0.0, 1.0))


def psi(before: Num[np.ndarray, " k"], after: Num[np.ndarray, " k"]) -> float:
    """Population stability index of two sets of counts: `Σ (q - p) ln(q / p)`; half a count is added to each."""
    p, q = ((x + 0.5) / (x + 0.5).sum() for x in (before.astype(np.float64), after.astype(np.float64)))
    return float(((q - p) * np.log(q / p)).sum())


def chi_square(before: Num[np.ndarray, " k"], after: Num[np.ndarray, " k"], rng: Rng, draws: int) -> float:
    """The p-value of Pearson's test of homogeneity; by `draws` tables with the same margins where counts are small."""
    there = before + after > 0
    table = np.stack([before[there], after[there]]).astype(np.int64)
    totals, rows = table.sum(0), table.sum(1)
    if len(totals) < 2 or not rows.all():
        return 1.0
    expected = np.outer(rows, totals) / rows.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    if expected.min() >= SMALL:
        half = torch.tensor([(len(totals) - 1) / 2, statistic / 2], dtype=torch.float64)
        return float(torch.special.gammaincc(half[0], half[1]))
    drawn = rng.multivariate_hypergeometric(totals, int(rows[1]), size=draws, method="marginals")
    off = (drawn - expected[1]) ** 2
    return float(1 + (((off / expected[1]) + off / expected[0]).sum(1) >= statistic * (1 - 1e-9)).sum()) / (draws + 1)


def fisher(before: int, of_before: int, after: int, of_after: int) -> float:
    """Fisher's exact test of whether two shares are the same: twice the smaller tail, at most 1."""
    total, hits = of_before + of_after, before + after
    k = np.arange(max(0, hits - of_before), min(hits, of_after) + 1)
    logs = _log_choose(hits, k) + _log_choose(total - hits, of_after - k) - _log_choose(total, np.array([of_after]))
    chances = np.exp(logs)
    return min(1.0, 2 * float(min(chances[k <= after].sum(), chances[k >= after].sum())))


def _log_choose(n: int, k: Num[np.ndarray, " k"]) -> Float64[np.ndarray, " k"]:
    one = torch.from_numpy(k.astype(np.float64))
    return (math.lgamma(n + 1) - torch.lgamma(one + 1) - torch.lgamma(n - one + 1)).numpy()


def corrected(p: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's q-values: of what lies below a level, on average no more than that share is chance.

    The i-th smallest of m, i = 1 ... m, becomes the smallest `m p / i` from there on. Source: Benjamini and Hochberg
    1995, "Controlling the False Discovery Rate".
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values)
    scaled = values[order] * len(values) / np.arange(1, len(values) + 1)
    found = np.empty(len(values))
    found[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return found.tolist()


def energy(before: Float[np.ndarray, "n d"], after: Float[np.ndarray, "m d"], rng: Rng, draws: int) -> float:
    """The p-value of the energy distance `2 E|X - Y| - E|X - X'| - E|Y - Y'|` among permutations of the rows.

    The distance is 0 only where the distributions are the same in every respect (Székely and Rizzo 2004, "Testing for
    Equal Distributions in High Dimension"). Permuting ends before `draws` when p cannot become small any more (Besag
    and Clifford 1991).
    """
    x = np.concatenate([before, after]).astype(np.float32)
    n, m = len(before), len(after)
    squares = (x * x).sum(1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0.0))
    np.fill_diagonal(distances, 0.0)
    sums, whole = distances.sum(1), float(distances.sum(dtype=np.float64))

    def statistic(z: Float[np.ndarray, "p N"]) -> Shaped[np.ndarray, " p"]:
        own, of_first = ((z @ distances) * z).sum(1, dtype=np.float64), z @ sums
        return 2 * (of_first - own) / (n * m) - own / n**2 - (whole - 2 * of_first + own) / m**2

    first = np.r_[np.ones(n, np.float32), np.zeros(m, np.float32)][None]
    seen, more, done = float(statistic(first)[0]), 0, 0
    while done < draws and more < ENOUGH:
        mixed = rng.permuted(np.repeat(first, min(AT_ONCE, draws - done), 0), axis=1)
        more += int((statistic(mixed) >= seen * (1 - 1e-6)).sum())
        done += len(mixed)
    return (more + 1) / (done + 1)


def told_apart(before: Float[np.ndarray, "n d"], after: Float[np.ndarray, "m d"],
               rng: Rng) -> tuple[float, float, float]:  # fmt: skip
    """How well a classifier tells the two apart on rows that it has not seen: AUROC, and its 95 % interval.

    Ridge regression on the features and their squares, in five folds. 0.5: not at all; 1: every row. The interval is
    that of Hanley and McNeil 1982. After Lopez-Paz and Oquab 2017, "Revisiting Classifier Two-Sample Tests".
    """
    x = np.concatenate([before, after]).astype(np.float64)
    x = np.concatenate([x, x * x], 1)
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-9)
    y = np.r_[np.zeros(len(before)), np.ones(len(after))]
    fold = np.concatenate([rng.permutation(k) % FOLDS for k in (len(before), len(after))])
    scores = np.empty(len(x))
    for at in range(FOLDS):
        mine, rest = x[fold == at], x[fold != at]
        goal = y[fold != at] - y[fold != at].mean()
        system = rest.T @ rest / len(rest) + RIDGE * np.eye(x.shape[1])
        scores[fold == at] = (mine - rest.mean(0)) @ np.linalg.solve(system, rest.T @ goal / len(rest))
    area = _area(scores[y == 0], scores[y == 1])
    reach = 1.96 * math.sqrt(_variance(area, len(before), len(after)))
    return area, max(0.0, area - reach), min(1.0, area + reach)


def _area(low: Float64[np.ndarray, " n"], high: Float64[np.ndarray, " m"]) -> float:
    """The chance that one of `high` lies above one of `low`; ties count half."""
    low = np.sort(low)
    below = np.searchsorted(low, high, side="left") + np.searchsorted(low, high, side="right")
    return float(below.mean() / (2 * len(low)))


def _variance(area: float, n: int, m: int) -> float:
    one, two = area / (2 - area), 2 * area * area / (1 + area)
    square = area * area
    return max(0.0, (area * (1 - area) + (n - 1) * (one - square) + (m - 1) * (two - square)) / (n * m))
