"""One fitted column: a value -> a scaled number, or the code of a category."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import NormalDist

import numpy as np

from polymodal.core.contracts import Field
from polymodal.core.errors import BadCell
from polymodal.modalities.tabular.cells import LARGEST, category, is_missing, number

NEARLY_ALL = 0.95  # of the present values must be numbers for a column to be taken for one of numbers
HANDFUL = 10  # distinct whole numbers up to which they are taken for categories
LANDMARKS = 256  # quantiles kept of a column
FARTHEST = 1e6  # deviations from the mean
EDGE = 1e-7  # probability at the ends of the normal distribution that quantiles are mapped to
NORMAL = NormalDist()
MISSING_CODE, UNSEEN_CODE, FIRST_CODE = 0, 1, 2


def looks_numeric(values: Iterable[object]) -> bool:
    """Whether a column holds numbers rather than names, from its present values.

    It does when nearly all are numbers, no text has a leading zero (postcodes, article numbers), none is true or false,
    and the numbers are not just a handful of distinct whole ones.
    """
    kinds: set[float] = set()
    total, numbers = 0, 0
    for value in values:
        total += 1
        text = value.strip() if isinstance(value, str) else ""
        if isinstance(value, bool | np.bool_) or (len(text) > 1 and text[0] == "0" and text.isdecimal()):
            return False
        try:
            found = number(value)
        except BadCell:
            continue
        numbers += 1
        if len(kinds) <= HANDFUL:
            kinds.add(found)
    return 0 < total * NEARLY_ALL <= numbers and (len(kinds) > HANDFUL or any(k % 1 for k in kinds))


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


def fit_numbers(name: str, values: Sequence[object], scale: str, log: bool) -> Field:
    """What scaling needs to know of a column's present values; those that are no numbers are passed over."""
    kept = []
    for value in values:
        try:
            kept.append(number(value))
        except BadCell:
            continue
    x = np.array([sign_log(v) for v in kept] if log else kept)
    fitted: Field = {"column": name, "log": log}
    if scale == "standard":
        mean, std = (float(x.mean()), float(x.std())) if len(x) else (0.0, 1.0)
        constant = std <= np.finfo(float).eps * len(x) * abs(mean)  # what rounding leaves of a constant column
        fitted |= {"mean": mean, "std": 1.0 if constant or not std else std}
    elif scale == "quantile":
        shares = np.linspace(0.0, 1.0, min(max(len(x), 2), LANDMARKS))
        fitted |= {"quantiles": np.maximum.accumulate(np.quantile(x if len(x) else np.zeros(1), shares)).tolist()}
    return fitted


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


def fit_categories(name: str, values: Iterable[object], min_count: int) -> Field:
    """The categories seen at least `min_count` times, the most frequent first."""
    counts: Counter[str] = Counter()
    for value in values:
        try:
            counts[category(value)] += 1
        except BadCell:
            continue
    kept = [text for text, count in counts.items() if count >= min_count]
    return {"column": name, "categories": sorted(kept, key=lambda text: (-counts[text], text))}
