"""Gradient-boosted trees on the numbers and categories of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, MinLen

from polymodal.core.catalog import need
from polymodal.core.contracts import Answers, Block, Field, Goal
from polymodal.core.schema import Positive, Rate, Wired
from polymodal.simple import estimate
from polymodal.simple.table import Table

MOST_CODES = 255  # of a category; the rarer ones beyond count as not seen in training
Leaves = Annotated[int, Ge(2)]


class BoostedTrees:
    """Gradient-boosted trees on the columns of the tables; missing values and categories as they are.

    scikit-learn's HistGradientBoosting: `iterations` rounds, in each a tree for every class, at learning rate `rate`,
    with at least `smallest` rows in a leaf. Of the numbers of `leaves` to a tree the one is taken that does best in
    cross-validation in `folds` on the training rows.
    """

    def __init__(
        self,
        *,
        seed: Wired[int],
        types: Wired[dict[str, str]],
        fields: Wired[dict[str, Field]],
        iterations: Positive = 300,
        rate: Rate = 0.05,
        leaves: Annotated[tuple[Leaves, ...], MinLen(1)] = (4, 7, 15, 31),
        smallest: Positive = 5,
        folds: Positive = 5,
    ) -> None:
        need("sklearn", "baseline boosted_trees")
        self.seed, self.folds, self.table = seed, folds, Table(types, fields)
        self.iterations, self.rate, self.leaves, self.smallest = iterations, rate, leaves, smallest

    @staticmethod
    def takes(types: Sequence[str]) -> bool:
        return "tabular" in types

    def features(self, block: Block) -> np.ndarray:
        return with_codes_for_trees(self.table(block), self.table.categories)

    def fit(self, features: np.ndarray, goal: Goal) -> Callable[[np.ndarray], Answers]:
        width, last = features.shape[1], self.table.categories
        candidates = [
            trees(range(width - last, width), iterations=self.iterations, rate=self.rate, leaves=count,
                  smallest=self.smallest, seed=self.seed)
            for count in self.leaves
        ]  # fmt: skip
        return estimate.best(candidates, features, goal, self.folds, self.seed)


def with_codes_for_trees(columns: np.ndarray, categories: int) -> np.ndarray:
    """The last `categories` columns with NaN for a missing value, and with few enough codes."""
    first = columns.shape[1] - categories
    codes = np.where(columns[:, first:] >= MOST_CODES, 1.0, columns[:, first:])
    return np.concatenate([columns[:, :first], np.where(codes == 0, np.nan, codes)], axis=1)


def trees(categories: range, *, iterations: int, rate: float, leaves: int, smallest: int, seed: int) -> estimate.Make:
    """A maker of scikit-learn's estimator; `categories` are columns of codes. No row is held out to stop early."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    def make(classifier: bool) -> Any:
        kind = HistGradientBoostingClassifier if classifier else HistGradientBoostingRegressor
        return kind(learning_rate=rate, max_iter=iterations, max_leaf_nodes=leaves, min_samples_leaf=smallest,
                    l2_regularization=1.0, categorical_features=list(categories) or None, early_stopping=False,
                    random_state=estimate.state(seed, "trees"))  # fmt: skip

    return make
