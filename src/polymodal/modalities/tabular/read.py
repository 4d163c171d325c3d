"""Records of numbers and categories -> standardised numbers and codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Literal

import numpy as np

from polymodal.core.contracts import Field, Sample
from polymodal.core.errors import BadCell, SpecError, shorten, suggest
from polymodal.core.schema import Json, Positive
from polymodal.core.seeds import Rng
from polymodal.core.traits import Traits
from polymodal.modalities.tabular import dates as calendar
from polymodal.modalities.tabular.cells import is_missing
from polymodal.modalities.tabular.columns import CategoryColumn, NumberColumn
from polymodal.modalities.tabular.corrupt import noisy
from polymodal.modalities.tabular.tally import Tally, blocks
from polymodal.modalities.tabular.traits import values_of


class TabularReader:
    """A record -> {"numbers": float32 [F], "known": bool [F], "codes": int64 [G]}: F numeric columns, G categorical.

    A cell is a dict from column to value: text, a number, true or false, None. Numbers are scaled, 0 where `known` is
    False; codes are 0 for a missing value, 1 for one not seen in training. Columns named in neither `numeric` nor
    `categorical` are guessed from the training rows. A column of `dates` becomes five, see `dates.spread`.
    Raises BadCell, with column and value, for a value that is no finite number in a numeric column, or no date in a
    column of dates; a record in which everything is missing can be read.

    With `each` a row has several records, such as an item's and those of earlier items: so many columns make one, and
    those of further records are read as the first one's, in the same order.
    """

    files: ClassVar[bool] = False
    record: ClassVar[bool] = True
    ragged: ClassVar[frozenset[str]] = frozenset()
    stack_axis: ClassVar[dict[str, int]] = {"numbers": 0, "known": 0, "codes": 0}
    augments = False

    def __init__(
        self,
        *,
        numeric: list[str] | None = None,
        categorical: list[str] | None = None,
        scale: Literal["standard", "quantile", "none"] = "standard",
        log: list[str] | None = None,
        dates: list[str] | None = None,
        min_count: Positive = 1,
        each: Positive | None = None,
    ) -> None:
        self.each = each
        self.numeric, self.categorical, self.log = numeric or [], categorical or [], log or []
        self.dates = dates or []
        parts = [calendar.parts(name) for name in self.dates]
        self._date_numbers = {named[part] for named in parts for part in calendar.NUMBERS}
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
        walk = list(cells) if iter(cells) is cells else cells  # it may be gone through twice
        columns = self._tally(walk)
        numeric = [name for name, tally in columns.items() if tally.numeric]
        self._check_names(list(columns), numeric)
        self._count_again(walk, [t for n, t in columns.items() if n not in numeric and t.counts is None])
        fitted: Field = {
            "numeric": [columns[n].scaling(self.scale) for n in numeric],
            "categorical": [t.categories(self.min_count) for n, t in columns.items() if n not in numeric],
        }
        self.field = fitted
        return fitted

    def _tally(self, cells: Iterable[object]) -> dict[str, Tally]:
        """What is known of every column, in the order in which the columns appear."""
        columns: dict[str, Tally] = {}
        for block in blocks(self._spread_all(cells)):
            for name, values in _by_column(block).items():
                if name not in columns:
                    named = name in self.numeric or name in self._date_numbers
                    said = True if named else False if name in self.categorical else None
                    columns[name] = Tally(name, log=name in self.log, quantiles=self.scale == "quantile", numeric=said)
                columns[name].add(values)
        return columns

    def _count_again(self, cells: Iterable[object], columns: list[Tally]) -> None:
        """The categories of columns that looked numeric at first, and are not."""
        for column in columns:
            column.counts = Counter()
        for block in blocks(self._spread_all(cells)) if columns else ():
            found = _by_column(block)
            for column in columns:
                column.count(found.get(column.name, []))

    def _spread(self, record: dict) -> dict:
        """The record with its dates as numbers and names. Raises BadCell."""
        kept = {name: value for name, value in record.items() if name not in self.dates}
        return kept | {n: v for date in self.dates for n, v in calendar.spread(date, record.get(date)).items()}

    def _spread_all(self, cells: Iterable[object]) -> Iterable[object]:
        for cell in cells:
            for name in self.dates:
                if isinstance(cell, dict) and name not in cell:
                    raise SpecError("dates", "no column of this name", given=name, advice=suggest(name, cell))
            try:
                yield self._spread(cell) if self.dates and isinstance(cell, dict) else cell
            except BadCell:
                continue

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
        cell = self._spread(cell) if self.dates else cell
        known = [not is_missing(cell.get(column.name)) for column in self._numbers]
        numbers = [_read(c, cell) if there else 0.0 for c, there in zip(self._numbers, known, strict=True)]
        codes = [_read(column, cell) for column in self._categories]
        return {
            "numbers": np.array(numbers, np.float32),
            "known": np.array(known, bool),
            "codes": np.array(codes, np.int64),
        }

    def decode_all(self, cells: Sequence[object]) -> list[Sample | BadCell]:
        """What `decode` gives for each cell, or the BadCell that it raises; quick where all numbers are plain ones."""
        found = self._decode_plain(cells)
        return [_tried(self.decode, cell) for cell in cells] if found is None else found

    def _decode_plain(self, cells: Sequence[object]) -> list[Sample | BadCell] | None:
        records = [cell for cell in cells if isinstance(cell, dict)]
        tried = [column.all([r.get(column.name) for r in records]) for column in self._numbers]
        columns = [found for found in tried if found is not None]
        if self.dates or len(records) < len(cells) or len(columns) < len(tried):
            return None
        try:
            codes = np.array([[_read(c, r) for c in self._categories] for r in records], np.int64)
        except BadCell:
            return None
        scaled = np.stack(columns, 1) if columns else np.empty((len(records), 0))
        known = ~np.isnan(scaled)
        numbers = np.where(known, scaled, 0.0).astype(np.float32)
        return [{"numbers": n, "known": k, "codes": c} for n, k, c in zip(numbers, known, codes, strict=True)]

    def finish(self, sample: Sample, rng: Rng | None) -> Sample:
        return sample

    def __call__(self, cell: object, rng: Rng | None = None) -> Sample:
        return self.finish(self.decode(cell), rng)

    def blank(self) -> Sample:
        """A record in which everything is missing."""
        return self.decode({})

    @staticmethod
    def stacked(readers: Sequence[TabularReader]) -> Field:
        """The field of records joined column by column."""
        fields = [r.field or {} for r in readers]
        return {kind: [column for field in fields for column in field[kind]] for kind in ("numeric", "categorical")}

    def traits(self, cells: Sequence[object], samples: Sequence[Sample]) -> Traits:
        """See `traits.values_of`."""
        records = [self._spread(cell) for cell in cells if isinstance(cell, dict)]
        return values_of(records, self._field or {"numeric": [], "categorical": []})

    def corrupt(self, data: dict[str, np.ndarray], level: float, rng: Rng) -> dict[str, np.ndarray]:
        """See `corrupt.noisy`."""
        if level <= 0:
            return data
        numbers, known, codes = noisy(data["numbers"], data["known"], data["codes"], level, rng)
        return data | {"numbers": numbers, "known": known, "codes": codes}

    def show(self, cell: object) -> Json:
        """The columns that are read, as text; empty where missing."""
        record = cell if isinstance(cell, dict) else {}
        columns: list[NumberColumn | CategoryColumn] = [*self._numbers, *self._categories]
        parts = {name for date in self.dates for name in calendar.parts(date).values()}
        names = [*self.dates, *(column.name for column in columns if column.name not in parts)]
        shown = {n: "" if is_missing(record.get(n)) else str(record[n]) for n in names}
        return {"kind": "table", "data": shown}


def _read(column: NumberColumn | CategoryColumn, record: dict) -> float | int:
    try:
        return column(record.get(column.name))
    except BadCell as error:
        raise BadCell(f"{column.name}: {error.reason}") from None


def _tried(decode: Callable[[object], Sample], cell: object) -> Sample | BadCell:
    try:
        return decode(cell)
    except BadCell as error:
        return error


def _by_column(cells: list[object]) -> dict[str, list[object]]:
    """The values of some records by column, in the order in which the columns appear."""
    columns: dict[str, list[object]] = {}
    for cell in cells:
        for name, value in cell.items() if isinstance(cell, dict) else ():
            columns.setdefault(name, []).append(value)
    return columns
