"""One temperature for all logits, so that confidence can be read as a probability.

Source: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from polymodal.core.seeds import generator

COLDEST, HOTTEST = 0.05, 20.0  # temperatures that are looked at
FOLDS, DRAWS = 5, 400
SURE = {"log_loss": 0.975, "calibration_error": 0.8}  # share of the resamples in which a temperature must be better
LEAST = 20  # rows, below which nothing is fitted
IMPOSSIBLE = -750.0  # stands for the logarithm of 0, which no double above 0 reaches

Gaps = Callable[[np.ndarray, np.ndarray], np.ndarray]  # p [n K C], label [n K] -> calibration gaps [n bins]


class Choice(NamedTuple):
    """The temperature that is used, and the one that was fitted; the former is 1 where the latter was not kept."""

    used: float
    fitted: float


def fit(log_p: Float[np.ndarray, "d C"], label: Int[np.ndarray, " d"]) -> float:
    """The T > 0 of the least mean log loss of softmax(log_p / T), within 0.05 ... 20.

    In 1/T the loss is convex, so Newton's method between two ends that close in finds the only minimum. Decisions of
    label -1 (a class that no training row had) are passed over: no temperature helps them.
    """
    z = np.maximum(log_p[label >= 0], IMPOSSIBLE)
    if not len(z):
        return 1.0
    own = z[np.arange(len(z)), label[label >= 0]].mean()
    low, high, cold = 1 / HOTTEST, 1 / COLDEST, 1.0  # of 1/T
    for _ in range(100):
        p = heated(z, 1 / cold)
        mean = (p * z).sum(1)
        slope, curve = mean.mean() - own, ((p * z**2).sum(1) - mean**2).mean()
        low, high = (low, cold) if slope > 0 else (cold, high)
        step = cold - slope / curve if curve > 1e-200 else np.inf
        following = step if low < step < high else float(np.sqrt(low * high))
        if abs(following - cold) <= 1e-12 * cold:
            break
        cold = following
    return float(1 / cold)


def choose(log_p: Float[np.ndarray, "n K C"], label: Int[np.ndarray, "n K"], gaps: Gaps) -> Choice:
    """The temperature fitted on all rows, if rows that took no part in fitting one are clearly better off with it.

    Each fifth of the rows is answered with the temperature of the other four. The fitted one is used when, among
    resamples of the rows, the log loss falls in 97.5 % and the calibration error in 80 %; otherwise it is 1, which
    changes nothing. A row makes K decisions (one, or one for each class), which stay together.
    """
    rows, several, classes = log_p.shape
    fitted = fit(log_p.reshape(rows * several, classes), label.reshape(-1))
    if rows < LEAST or not COLDEST * 1.01 < fitted < HOTTEST / 1.01:
        return Choice(1.0, fitted)
    random = generator("temperature")
    fold = random.permutation(rows) % FOLDS
    after = np.empty_like(log_p)
    for k in range(FOLDS):
        others = log_p[fold != k].reshape(-1, classes), label[fold != k].reshape(-1)
        after[fold == k] = heated(log_p[fold == k], fit(*others))
    before = heated(log_p, 1.0)
    gain = loss(before, label) - loss(after, label)
    one, two = gaps(before, label), gaps(after, label)
    better = np.zeros(2)
    for _ in range(DRAWS):
        times = np.bincount(random.integers(0, rows, rows), minlength=rows).astype(np.float64)
        better += [times @ gain > 0, np.abs(times @ two).sum() < np.abs(times @ one).sum()]
    kept = bool((better >= DRAWS * np.array([SURE["log_loss"], SURE["calibration_error"]])).all())
    return Choice(fitted if kept else 1.0, fitted)


def heated(log_p: Float[np.ndarray, "*n C"], temperature: float) -> Float[np.ndarray, "*n C"]:
    """softmax(log_p / temperature) over the last axis."""
    z = np.maximum(log_p, IMPOSSIBLE) / temperature
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def loss(p: Float[np.ndarray, "n K C"], label: Int[np.ndarray, "n K"]) -> Float[np.ndarray, " n"]:
    """Each row's sum of -log p(label) over the decisions whose class is known."""
    own = np.take_along_axis(p, np.maximum(label, 0)[..., None], 2)[..., 0]
    return np.where(label >= 0, -log(own), 0.0).sum(1)


def odds_against(p: Float[np.ndarray, "n C"]) -> Float[np.ndarray, "n C"]:
    """log((1 - p) / p) of each of a row's classes, one of which it is.

    It rises as -log p does, and stays exact near p = 1, where a confident model's probabilities are all alike.
    """
    best = p.argmax(1)[:, None]
    rest = np.where(np.arange(p.shape[1]) == best, 0.0, p).sum(1, keepdims=True)
    others = 1 - p
    np.put_along_axis(others, best, rest, 1)
    return log(others) - log(p)


def log(x: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """The natural logarithm, finite at 0."""
    return np.log(np.maximum(x, np.finfo(np.float64).tiny))
