"""Logistic or ridge regression on the numbers and categories of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import MinLen

from polymodal.core.catalog import need
from polymodal.core.contracts import Answers, Block, Field, Goal
from polymodal.core.schema import Positive, Rate, Wired
from polymodal.simple import estimate
from polymodal.simple.table import Table


class LinearTable:
    """Logistic regression, or ridge regression for a number, on the columns of the tables.

    Numbers are standardised, the mean standing for a missing one beside a column that says so; categories are one
    column for each name, missing and unseen ones included. Of the `strengths` of the L2 penalty (the weight of the
    data against it: C of the logistic regression, 1 / alpha of the ridge) the one is taken that does best in
    cross-validation in `folds` on the training rows.
    """

    def __init__(
        self,
        *,
        seed: Wired[int],
        types: Wired[dict[str, str]],
        fields: Wired[dict[str, Field]],
        strengths: Annotated[tuple[Rate, ...], MinLen(1)] = (0.01, 0.1, 1.0, 10.0, 100.0),
        folds: Positive = 5,
    ) -> None:
        need("sklearn", "baseline linear")
        self.seed, self.folds, self.table, self.strengths = seed, folds, Table(types, fields), strengths

    @staticmethod
    def takes(types: Sequence[str]) -> bool:
        return "tabular" in types

    def features(self, block: Block) -> np.ndarray:
        columns = self.table(block)
        first = columns.shape[1] - self.table.categories
        codes = columns[:, first:].astype(np.int64)
        each = [codes[:, [j]] == np.arange(size) for j, size in enumerate(self.table.sizes)]
        return np.concatenate([columns[:, :first], np.isnan(columns[:, :first]), *each], axis=1)

    def fit(self, features: np.ndarray, goal: Goal) -> Callable[[np.ndarray], Answers]:
        scale = Standard(features)
        candidates = [linear(strength) for strength in self.strengths]
        answer = estimate.best(candidates, scale(features), goal, self.folds, self.seed)
        return lambda x: answer(scale(x))


class Standard:
    """Columns that are not yet between 0 and 1 with mean 0 and deviation 1 on the training rows; NaN is the mean."""

    def __init__(self, x: np.ndarray) -> None:
        there = ~np.isnan(x)
        count = np.maximum(there.sum(0), 1)
        self.mean = np.where(there, x, 0.0).sum(0) / count
        deviation = np.sqrt(np.where(there, (x - self.mean) ** 2, 0.0).sum(0) / count)
        self.deviation = np.where(deviation > 1e-9 * (1.0 + np.abs(self.mean)), deviation, 1.0)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(x), 0.0, (x - self.mean) / self.deviation)


def linear(strength: float) -> estimate.Make:
    """A maker of scikit-learn's estimator."""
    from sklearn.linear_model import LogisticRegression, Ridge

    def make(classifier: bool) -> Any:
        return LogisticRegression(C=strength, max_iter=1000) if classifier else Ridge(alpha=1.0 / strength)

    return make
