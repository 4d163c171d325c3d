"""The target reader of rows that are the same: what is equal in a column is one answer. Free of torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from polymodal.core.contracts import Field, Sample
from polymodal.tasks.targets import as_class, identity, readable


class Group:
    """A text, a number, true or false: rows of equal value are answers to each other.

    The values need not be known from training. Field: `rows` with a value. Sample: `group`, int64, a digest of 63 bits
    of the value, or -1; 1 and 1.0 are the same value, 1 and true are not, nor 1 and the text "1". BadCell for others.
    """

    files: ClassVar[bool] = False

    def __init__(self) -> None:
        self.field: Field | None = None

    def fit(self, cells: Iterable[object]) -> Field:
        self.field = {"rows": sum(1 for _ in readable(cells, as_class))}
        return self.field

    def __call__(self, cell: object) -> Sample:
        value = as_class(cell)
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        text = json.dumps(identity(whole)).encode()
        number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
        return {"group": np.asarray(number, np.int64)}

    def blank(self) -> Sample:
        return {"group": np.asarray(-1, np.int64)}
