"""Which item a row is about, how common it is, and which ones the user had before: targets of `recommend`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from polymodal.core.contracts import Field, Sample
from polymodal.core.errors import BadCell, shorten
from polymodal.core.seeds import derive

NOBODY = -1  # no item


class Item:
    """The name of an item -> {"item": int64, "count": int64, "before": int64 [H]}.

    A cell is a name (a text or a whole number; 12 and "12" are one item), or, of several columns, a dict: the item at
    hand first, then the H earlier ones. `item` and `before` are digests of 63 bits, -1 where there is none; `count`
    says how many training rows are about the item, -1 for one that no training row shows, not even among earlier ones.

    Field: `items`, the digests of all that training rows show, ascending, and their `counts`; `rows`; `before`, H.
    A field grows by about 25 bytes for every item. Raises BadCell for what is no name.
    """

    files: ClassVar[bool] = False

    def __init__(self) -> None:
        self._field: Field | None = None

    @property
    def field(self) -> Field | None:
        return self._field

    @field.setter
    def field(self, fitted: Field | None) -> None:
        self._field = fitted
        self._counts = dict(zip((fitted or {}).get("items", []), (fitted or {}).get("counts", []), strict=True))

    def fit(self, cells: Iterable[object]) -> Field:
        counts: Counter[int] = Counter()
        rows, before = 0, 0
        for cell in cells:
            try:
                item, *earlier = digests(cell)
            except BadCell:
                continue
            rows, before = rows + 1, max(before, len(earlier))
            counts.update([item])
            counts.update(dict.fromkeys(earlier, 0))
        counts.pop(NOBODY, None)
        items = sorted(counts)
        fitted: Field = {"items": items, "counts": [counts[i] for i in items], "rows": rows, "before": before}
        self.field = fitted
        return fitted

    def __call__(self, cell: object) -> Sample:
        assert self.field is not None, "fit first"
        item, *earlier = digests(cell)
        before = np.full(self.field["before"], NOBODY, np.int64)
        before[: len(earlier)] = earlier[: len(before)]
        return {"item": np.asarray(item, np.int64), "count": np.asarray(self._counts.get(item, -1), np.int64),
                "before": before}  # fmt: skip

    def blank(self) -> Sample:
        assert self.field is not None, "fit first"
        none = np.asarray(NOBODY, np.int64)
        return {"item": none, "count": none, "before": np.full(self.field["before"], NOBODY, np.int64)}


def digests(cell: object) -> list[int]:
    """The item at hand, then the earlier ones; -1 for nothing. Raises BadCell."""
    names = list(cell.values()) if isinstance(cell, dict) else [cell]
    return [NOBODY if name is None else derive("item", name_of(name)) for name in names]


def name_of(cell: object) -> str:
    """An item's name as text. Raises BadCell."""
    value = cell.item() if isinstance(cell, np.generic) else cell
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadCell(f"is no name of an item (a text, a whole number): {shorten(cell, 60)}")
    return str(value)
