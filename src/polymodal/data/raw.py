"""The cells of an input or target as its table has them, before anything is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from polymodal.core.errors import BadCell, SpecError
from polymodal.data.archive import Items
from polymodal.data.cells import is_folder, open_file, open_folder, path_of
from polymodal.data.tables import Table

LONGEST = 4096  # characters of a path
STRETCH = 256  # rows that are taken from the table together


def columns_of(reader: Any, columns: tuple[str, ...]) -> int:
    """K, how many cells of a Reader each row has: one for each column; of records one, or one for every `each`.

    Raises SpecError where the columns do not make whole records.
    """
    each = (getattr(reader, "each", None) or len(columns)) if reader.record else 1
    if len(columns) % each:
        raise SpecError("inputs", f"{len(columns)} columns cannot be cut into records of `each: {each}`",
                        given=list(columns), advice="each: how many columns one record has")  # fmt: skip
    return len(columns) // each


class RawCells:
    """Cells of one Reader, or TargetReader (`target`), in a table, [rows, K]; a record is one cell of all columns, or
    of so many as it has, `each`: those of further records then go by the names of the first one's."""

    def __init__(self, table: Table, name: str, reader: Any, columns: tuple[str, ...], *, target: bool) -> None:
        self.table, self.name, self.reader, self.columns = table, name, reader, columns
        self.record: bool = len(columns) > 1 if target else reader.record
        self.width = 1 if target else columns_of(reader, columns)
        self.each = len(columns) // self.width
        archive = getattr(reader, "archive", None)
        self.items = None if archive is None else Items(archive, table.root)
        self._folders: bool = getattr(reader, "folders", False)
        parts: dict[str, tuple[Any, tuple[str, ...]]] = getattr(reader, "parts", {})
        self._parts = {n: RawCells(table, n, *part, target=target) for n, part in parts.items()}

    def column(self, k: int) -> str:
        """The name of a column, for the ledger and for keys of randomness."""
        return ", ".join(self._columns(k))

    def _columns(self, k: int) -> tuple[str, ...]:
        return self.columns[k * self.each : (k + 1) * self.each]

    def raw(self, row: int, k: int) -> Any:
        """The cell as the table has it; None when it is missing (a record: when all of it is)."""
        if not self.record:
            return self.table.cell(row, self.columns[k])
        cells = {n: self.table.cell(row, c) for n, c in zip(self._columns(0), self._columns(k), strict=True)}
        return cells if any(c is not None for c in cells.values()) else None

    def raws(self, rows: np.ndarray, k: int) -> list[Any]:
        """`raw` of many rows."""
        if not self.record:
            return self.table.cells(rows, self.columns[k])
        columns, names = zip(*(self.table.cells(rows, c) for c in self._columns(k)), strict=True), self._columns(0)
        return [None if all(c is None for c in cells) else dict(zip(names, cells, strict=True))
                for cells in columns]  # fmt: skip

    def file(self, row: int, k: int) -> str:
        """The path that the cell holds, '' where it holds none; its beginning where it is longer than any path."""
        if self.items is not None:
            return self.items.archive.path  # an item has no file of its own
        cell = None if self.record else self.raw(row, k)
        return cell[:LONGEST] if self.reader.files and isinstance(cell, str) else ""

    def opened(self, raw: Any) -> Any:
        """The cell as the reader takes it. Raises BadCell for what cannot be opened, TableError for a bad archive."""
        if self.items is not None and isinstance(raw, str | int | float):
            return self.items[raw]
        if isinstance(raw, dict) and self._parts:
            return {n: self._opened_part(n, part._own(raw)) for n, part in self._parts.items()}
        if not self.reader.files:
            return raw
        if isinstance(raw, dict) and self.record:
            return {c: self.opened(inner) for c, inner in raw.items()}
        if not isinstance(raw, str):
            return raw
        folder = self._folders and is_folder(raw, self.table.root)
        return open_folder(raw, self.table.root) if folder else open_file(raw, self.table.root)

    def _opened_part(self, name: str, raw: Any) -> Any:
        try:
            return None if raw is None else self._parts[name].opened(raw)
        except BadCell as error:
            raise BadCell(f"{name}: {error.reason}") from None

    def _own(self, record: dict[str, Any]) -> Any:
        """A part's cell in a record of all columns; None when it is missing (a record: when all of it is)."""
        cells = {c: record[c] for c in self.columns}
        if all(cell is None for cell in cells.values()):
            return None
        return cells if self.record else cells[self.columns[0]]

    def cells(self, rows: np.ndarray) -> Iterator[Any]:
        """The present cells of these rows, opened; what cannot be opened is passed over."""
        last: tuple[Any, Any] = (None, None)
        for raw in self._walk(rows):
            if raw is None:
                continue
            try:
                # rows about one picture stand side by side
                last = last if isinstance(raw, str) and last[0] == raw else (raw, self.opened(raw))
            except BadCell:
                continue
            yield last[1]

    def _walk(self, rows: np.ndarray) -> Iterator[Any]:
        """Every cell of these rows as the table has it, row by row."""
        for start in range(0, len(rows), STRETCH):
            columns = [self.raws(rows[start : start + STRETCH], k) for k in range(self.width)]
            yield from (cell for row in zip(*columns, strict=True) for cell in row)

    def costs(self, rows: np.ndarray) -> np.ndarray:
        """The reader's cost of every row, 0 for what is missing or cannot be opened."""
        last: tuple[Any, int] = (None, 0)
        total = np.zeros(len(rows) * self.width, np.int64)
        for at, raw in enumerate(self._walk(rows)):
            last = last if isinstance(raw, str) and last[0] == raw else (raw, self._cost(raw))
            total[at] = last[1]
        return total.reshape(len(rows), self.width).sum(1)

    def _cost(self, raw: Any) -> int:
        try:
            return 0 if raw is None else self.reader.cost(self._unopened(raw))
        except (BadCell, OSError):
            return 0

    def _unopened(self, raw: Any) -> Any:
        """The cell as a reader's `cost` takes it: a file's path, an item where it lies."""
        if isinstance(raw, dict) and self._parts:
            return {n: part._unopened(part._own(raw)) for n, part in self._parts.items()}
        if self.items is not None and isinstance(raw, str | int | float):
            return self.items.view(raw)
        return path_of(raw, self.table.root) if isinstance(raw, str) and self.reader.files else raw
