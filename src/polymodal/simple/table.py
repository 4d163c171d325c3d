"""The numbers and categories of all tables among the inputs, as plain columns."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from polymodal.core.contracts import Block, Field, Given


class Table:
    """Rows -> [B, F + G]: F columns of numbers, NaN where missing, then G of category codes.

    Numbers are as their reader scales them. Codes are 0 for a missing value, 1 for one that no training row had.
    A category whose names are all numbers (postcodes, storeys) stands among the numbers too: its order may tell.
    """

    def __init__(self, types: dict[str, str], fields: dict[str, Field]) -> None:
        self.fields = {name: fields[name] for name, kind in types.items() if kind == "tabular"}
        self.sizes = [len(c["categories"]) + 2 for f in self.fields.values() for c in f["categorical"]]  # codes of each
        self.categories = len(self.sizes)

    def __call__(self, block: Block) -> np.ndarray:
        numbers, codes = [], []
        for name, field in self.fields.items():
            given = block.inputs[name]
            at = given.index[:, 0]
            there = (at >= 0)[:, None]
            known = given.data["known"][at] & there
            numbers += [np.where(known, given.data["numbers"][at], np.nan), *ordered(field, given)]
            codes.append(np.where(there, given.data["codes"][at], 0).astype(np.float64))
        return np.concatenate([*numbers, *codes, np.zeros((block.rows, 0))], axis=1)


def ordered(field: Field, given: Given) -> Iterator[np.ndarray]:
    """[B, 1] for every category whose names are numbers."""
    for column in field["categorical"]:
        if column["categories"] and not any(math.isnan(number(name)) for name in column["categories"]):
            records = [row[0] if isinstance(row[0], dict) else {} for row in given.cells]
            yield np.array([[number(record.get(column["column"]))] for record in records]).reshape(-1, 1)


def number(value: object) -> float:
    """The finite number that a value is or writes, else NaN."""
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return found if math.isfinite(found) else math.nan
