"""One fitted column: a value -> a scaled number, or the code of a category."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from jaxtyping import Float64

from polymodal.core.contracts import Field
from polymodal.modalities.tabular.cells import LARGEST, category, is_missing, number, plain_numbers

FARTHEST = 1e6  # deviations from the mean
EDGE = 1e-7  # probability at the ends of the normal distribution that quantiles are mapped to
NORMAL = NormalDist()
MISSING_CODE, UNSEEN_CODE, FIRST_CODE = 0, 1, 2


class NumberColumn:
    """A value as a number: its logarithm if wished, then scaled by what training values were."""

    def __init__(self, fitted: Field) -> None:
        self.name: str = fitted["column"]
        self.log: bool = fitted["log"]
        self.mean, self.std = fitted.get("mean", 0.0), fitted.get("std", 1.0)
        self.farthest = FARTHEST if "mean" in fitted else LARGEST
        self.quantiles: list[float] | None = fitted.get("quantiles")

    def __call__(self, value: object) -> float:
        """The scaled number. Raises BadCell."""
        found = number(value)
        found = sign_log(found) if self.log else found
        if self.quantiles is not None:
            return normal_score(found, self.quantiles)
        return min(max((found - self.mean) / self.std, -self.farthest), self.farthest)

    def all(self, values: Sequence[object]) -> Float64[np.ndarray, " n"] | None:
        """Many values at once, NaN where missing; None unless all are plain numbers, scaled in a straight line."""
        x = None if self.log or self.quantiles is not None else plain_numbers(values)
        if x is None:
            return None
        with np.errstate(over="ignore"):
            return np.clip((x - self.mean) / self.std, -self.farthest, self.farthest)


def sign_log(x: float) -> float:
    """sign(x) ln(1 + |x|): logarithm for large values of either sign, straight through zero."""
    return math.copysign(math.log1p(abs(x)), x)


def normal_score(x: float, quantiles: list[float]) -> float:
    """The quantile of the standard normal distribution at the share of training values below x.

    Between landmarks it is interpolated; a value that many rows have gets the middle of its span; from the smallest
    value down and from the largest up it is -5.2 and 5.2; 0 when all training values were the same.
    """
    last = len(quantiles) - 1
    if quantiles[0] == quantiles[last]:
        return 0.0
    below, through = bisect_left(quantiles, x), bisect_right(quantiles, x)
    if x <= quantiles[0] or x >= quantiles[last]:
        place = 0.0 if x <= quantiles[0] else float(last)
    elif through > below:  # x is a landmark, or several
        place = (below + through - 1) / 2
    else:
        place = below - 1 + (x - quantiles[below - 1]) / (quantiles[below] - quantiles[below - 1])
    return NORMAL.inv_cdf(min(max(place / last, EDGE), 1.0 - EDGE))


class CategoryColumn:
    """A value as a code: 0 when missing, 1 when not seen (often enough) in training, else 2 and up."""

    def __init__(self, fitted: Field) -> None:
        self.name: str = fitted["column"]
        self.codes = {name: code for code, name in enumerate(fitted["categories"], FIRST_CODE)}

    def __call__(self, value: object) -> int:
        """The code. Raises BadCell."""
        return MISSING_CODE if is_missing(value) else self.codes.get(category(value), UNSEEN_CODE)
