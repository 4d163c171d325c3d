"""Records of numbers and categories -> standardised numbers and codes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import numpy as np

from polymodal.core.contracts import Field, Sample
from polymodal.core.errors import BadCell, SpecError, shorten, suggest
from polymodal.core.schema import Json, Positive
from polymodal.core.seeds import Rng
from polymodal.modalities.tabular.cells import is_missing
from polymodal.modalities.tabular.columns import (
    CategoryColumn,
    NumberColumn,
    fit_categories,
    fit_numbers,
    looks_numeric,
)


class TabularReader:
    """A record -> {"numbers": float32 [F], "known": bool [F], "codes": int64 [G]}: F numeric columns, G categorical.

    A cell is a dict from column to value: text, a number, true or false, None. Numbers are scaled, 0 where `known` is
    False; codes are 0 for a missing value, 1 for one not seen in training. Columns named in neither `numeric` nor
    `categorical` are guessed from the training rows. Raises BadCell, with column and value, for a value that is no
    finite number in a numeric column; a record in which everything is missing can be read.
    """

    files: ClassVar[bool] = False
    record: ClassVar[bool] = True
    ragged: ClassVar[frozenset[str]] = frozenset()
    augments = False

    def __init__(
        self,
        *,
        numeric: list[str] | None = None,
        categorical: list[str] | None = None,
        scale: Literal["standard", "quantile", "none"] = "standard",
        log: list[str] | None = None,
        min_count: Positive = 1,
    ) -> None:
        self.numeric, self.categorical, self.log = numeric or [], categorical or [], log or []
        self.scale, self.min_count = scale, min_count
        self._field: Field | None = None
        both = sorted(set(self.numeric) & set(self.categorical))
        if both:
            raise SpecError("categorical", "a column is either numeric or categorical", given=both)

    @property
    def field(self) -> Field | None:
        return self._field

    @field.setter
    def field(self, fitted: Field | None) -> None:
        self._field = fitted
        self._numbers = [NumberColumn(column) for column in (fitted or {}).get("numeric", [])]
        self._categories = [CategoryColumn(column) for column in (fitted or {}).get("categorical", [])]

    def fit(self, cells: Iterable[object]) -> Field:
        """{"numeric": [a column with its statistics, ...], "categorical": [a column with its categories, ...]}.

        Values that cannot be read are passed over. Raises SpecError when a setting names a column that is not there.
        """
        columns = _present(cells)
        numeric = [name for name in columns if self._is_numeric(name, columns[name])]
        self._check_names(list(columns), numeric)
        fitted: Field = {
            "numeric": [fit_numbers(n, columns[n], self.scale, n in self.log) for n in numeric],
            "categorical": [fit_categories(n, columns[n], self.min_count) for n in columns if n not in numeric],
        }
        self.field = fitted
        return fitted

    def _is_numeric(self, name: str, values: list[object]) -> bool:
        return name in self.numeric or (name not in self.categorical and looks_numeric(values))

    def _check_names(self, columns: list[str], numeric: list[str]) -> None:
        settings = {"numeric": self.numeric, "categorical": self.categorical, "log": self.log}
        for setting, name in ((s, n) for s, names in settings.items() for n in names):
            if columns and name not in columns:
                raise SpecError(setting, "no column of this name", given=name, advice=suggest(name, columns))
            if columns and setting == "log" and name not in numeric:
                advice = f"numeric: [{name}], or leave it out of log"
                raise SpecError(setting, "is not a column of numbers", given=name, advice=advice)

    def cost(self, cell: object) -> int:
        """The same for every record."""
        return 1

    def decode(self, cell: object) -> Sample:
        if not isinstance(cell, dict):
            raise BadCell(f"a record with a value for each column is needed, not {shorten(cell, 60)}")
        known = [not is_missing(cell.get(column.name)) for column in self._numbers]
        numbers = [_read(c, cell) if there else 0.0 for c, there in zip(self._numbers, known, strict=True)]
        codes = [_read(column, cell) for column in self._categories]
        return {
            "numbers": np.array(numbers, np.float32),
            "known": np.array(known, bool),
            "codes": np.array(codes, np.int64),
        }

    def finish(self, sample: Sample, rng: Rng | None) -> Sample:
        return sample

    def __call__(self, cell: object, rng: Rng | None = None) -> Sample:
        return self.finish(self.decode(cell), rng)

    def blank(self) -> Sample:
        """A record in which everything is missing."""
        return self.decode({})

    def show(self, cell: object) -> Json:
        """The columns that are read, as text; empty where missing."""
        record = cell if isinstance(cell, dict) else {}
        columns: list[NumberColumn | CategoryColumn] = [*self._numbers, *self._categories]
        names = [column.name for column in columns]
        shown = {n: "" if is_missing(record.get(n)) else str(record[n]) for n in names}
        return {"kind": "table", "data": shown}


def _read(column: NumberColumn | CategoryColumn, record: dict) -> float | int:
    try:
        return column(record.get(column.name))
    except BadCell as error:
        raise BadCell(f"{column.name}: {error.reason}") from None


def _present(cells: Iterable[object]) -> dict[str, list[object]]:
    """The values that are not missing, by column, in the order in which the columns appear."""
    columns: dict[str, list[object]] = {}
    for cell in cells:
        for name, value in cell.items() if isinstance(cell, dict) else ():
            values = columns.setdefault(name, [])
            if not is_missing(value):
                values.append(value)
    return columns
