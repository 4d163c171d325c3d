"""From estimators as scikit-learn has them to answers in a task's own terms, the best of several chosen."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from polymodal.core.contracts import Answers, Goal
from polymodal.core.seeds import derive, generator

Make = Callable[[bool], Any]  # True: a fresh classifier, False: a fresh regressor
Fitted = Callable[[Any], Answers]  # features of n rows -> their answers

LEAST = 1e-15  # no probability is taken for smaller: the tasks measure log loss down to it
MOST_ROWS = 5000  # settings are chosen on a sample of so many rows
MANY = 50  # classes; with more of them nothing is chosen


def best(candidates: Sequence[Make], features: Any, goal: Goal, folds: int, seed: int) -> Fitted:
    """The candidate with the best score in cross-validation on these rows, fitted on all of them.

    Scored is the task's own main measure of the answers to all rows, each given by a model that has not seen the row;
    of equals the first is taken, and the middle one without cross-validation: with one candidate or fold, fewer rows
    than folds, or more than 50 classes. `features`: anything with rows that can be picked by number, [n, ...].
    """
    rows = np.sort(generator(seed, "sample").permutation(len(goal.y))[:MOST_ROWS])
    if min(len(candidates), folds) < 2 or len(rows) < folds or goal.classes > MANY:
        return learn(candidates[len(candidates) // 2], features, goal)
    fold = deal(goal.y[rows], folds, seed)
    scores = [goal.score(unseen(make, features[rows], part(goal, rows), fold), rows) for make in candidates]
    return learn(candidates[int(np.argmax(np.nan_to_num(scores, nan=-np.inf)))], features, goal)


def unseen(make: Make, features: Any, goal: Goal, fold: np.ndarray) -> Answers:
    """The answer to every row of a model that was fitted on the rows of the other folds."""
    whole: Answers = {}
    for number in np.unique(fold):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        for name, found in learn(make, features[inside], part(goal, inside))(features[outside]).items():
            whole.setdefault(name, np.zeros((len(fold), *found.shape[1:])))[outside] = found
    return whole


def part(goal: Goal, rows: np.ndarray) -> Goal:
    """The goal on some of its rows, by position."""
    return goal._replace(y=goal.y[rows])


def deal(y: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """A fold for every row: classes, and small and large numbers, in proportion; sets of classes [n, C] at random."""
    order = generator(seed, "folds").permutation(len(y))
    if y.ndim == 1:
        order = order[np.argsort(y[order], kind="stable")]
    fold = np.zeros(len(order), np.int64)
    fold[order] = np.arange(len(order)) % folds
    return fold


def learn(make: Make, features: Any, goal: Goal) -> Fitted:
    """One estimator for a number or a class, one for each class of a set; a constant where there is one class."""
    if goal.kind == "value":
        regressor = make(False).fit(features, goal.y)
        return lambda x: {"value": regressor.predict(x).astype(np.float64)}
    if goal.kind == "class":
        return _one_of(make, features, goal)
    each = [_one_of(make, features, Goal("class", y.astype(np.int64), 2, goal.score)) for y in goal.y.T]

    def answer(x: Any) -> Answers:
        found = [one(x)["logits"] for one in each]
        return {"logits": np.stack([p[:, 1] - p[:, 0] for p in found], axis=1)}

    return answer


def _one_of(make: Make, features: Any, goal: Goal) -> Fitted:
    if len(np.unique(goal.y)) < 2:
        return constant(goal)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*converge")  # a bound on the time is meant
        classifier = make(True).fit(features, goal.y)

    def answer(x: Any) -> Answers:
        shares = np.zeros((x.shape[0], goal.classes))
        shares[:, classifier.classes_] = classifier.predict_proba(x)
        return {"logits": logarithms(shares)}

    return answer


def constant(goal: Goal, center: Literal["mean", "median"] = "mean") -> Fitted:
    """The same answer for every row: the shares of the classes, or the middle of the numbers."""
    if goal.kind == "value":
        middle = float(np.mean(goal.y) if center == "mean" else np.median(goal.y))
        return lambda x: {"value": np.full(x.shape[0], middle)}
    if goal.kind == "class":
        found = logarithms(np.bincount(goal.y, minlength=goal.classes)[None] / len(goal.y))
    else:
        share = goal.y.mean(0)[None]
        found = logarithms(share) - logarithms(1.0 - share)
    return lambda x: {"logits": np.repeat(found, x.shape[0], axis=0)}


def logarithms(shares: np.ndarray) -> np.ndarray:
    return np.log(np.clip(shares, LEAST, 1.0))


def state(seed: int, *names: object) -> int:
    """A seed for scikit-learn."""
    return derive(seed, "baseline", *names) % 2**31
