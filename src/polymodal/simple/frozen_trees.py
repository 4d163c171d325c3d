"""Gradient-boosted trees on what the model's own encoders see before any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from polymodal.core.catalog import need
from polymodal.core.contracts import Answers, Block, Field, Goal
from polymodal.core.schema import Positive, Rate, Wired
from polymodal.simple import estimate
from polymodal.simple.boosted_trees import Leaves, trees, with_codes_for_trees
from polymodal.simple.table import Table


class FrozenTrees:
    """Gradient-boosted trees on the spec's own encoders, left as they are, beside the columns of the tables.

    Every input but the tables gives the mean of its encoder's tokens: of published weights where the spec names them,
    otherwise of random ones, which says what the shape of the encoder alone is worth. Missing inputs are NaN. Settings
    as of `boosted_trees`, with one number of `leaves`.
    """

    def __init__(
        self,
        *,
        seed: Wired[int],
        types: Wired[dict[str, str]],
        fields: Wired[dict[str, Field]],
        iterations: Positive = 100,
        rate: Rate = 0.1,
        leaves: Leaves = 15,
        smallest: Positive = 10,
    ) -> None:
        need("sklearn", "baseline frozen_trees")
        self.seed, self.table = seed, Table(types, fields)
        self.names = [name for name, kind in types.items() if kind != "tabular"]
        self.iterations, self.rate, self.leaves, self.smallest = iterations, rate, leaves, smallest

    @staticmethod
    def takes(types: Sequence[str]) -> bool:
        return any(kind != "tabular" for kind in types)

    def features(self, block: Block) -> np.ndarray:
        seen = block.encode()
        there = {name: (block.inputs[name].index >= 0).any(axis=1, keepdims=True) for name in self.names}
        encoded = [np.where(there[name], seen[name], np.nan) for name in self.names]
        table = with_codes_for_trees(self.table(block), self.table.categories)
        return np.concatenate([*encoded, table], axis=1)

    def fit(self, features: np.ndarray, goal: Goal) -> Callable[[np.ndarray], Answers]:
        width = features.shape[1]
        make = trees(range(width - self.table.categories, width), iterations=self.iterations, rate=self.rate,
                     leaves=self.leaves, smallest=self.smallest, seed=self.seed)  # fmt: skip
        return estimate.learn(make, features, goal)
