"""Tables: rows and named columns from files, folders and memory, with one way of asking for a cell."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polymodal.core.errors import TableError, suggest
from polymodal.data import idx
from polymodal.data.columns import ArrowColumn, Blank, Column, Contents, check_names, from_values, pick, plain
from polymodal.data.delimited import read_delimited
from polymodal.data.lines import read_lines

STRETCH = 4096  # cells of a column that are taken at once
_READABLE = (
    "a path ending in .csv, .tsv, .jsonl, .ndjson (or these with .gz) or .parquet, a folder of class folders, IDX"
)


class Table:
    """Rows and named columns. `name` is for messages; relative paths in cells start from `root`.

    `broken` says of rows that could not be parsed why; they keep their number, and all their cells are None.
    """

    def __init__(self, name: str, columns: Mapping[str, Column], *, root: Path | None = None,
                 broken: dict[int, str] | None = None) -> None:  # fmt: skip
        lengths = {n: len(c) for n, c in columns.items()}
        if len(set(lengths.values())) > 1:
            raise TableError(name, "the columns differ in length", given=lengths, advice="one cell per row and column")
        if not lengths or not max(lengths.values()):
            raise TableError(name, "has no rows", advice="a table with at least one row")
        self.name, self.root, self.broken = name, root, broken or {}
        self.columns = list(columns)
        self._columns, self._rows = dict(columns), max(lengths.values())

    def __len__(self) -> int:
        return self._rows

    def __repr__(self) -> str:
        return f"Table({self.name!r}, {self._rows} rows, {self.columns})"

    def cell(self, row: int, column: str) -> Any:
        """The cell, or None for a missing one (None, NaN, empty text)."""
        return None if row in self.broken else plain(self._columns[column][row])

    def cells(self, rows: np.ndarray, column: str) -> list[Any]:
        """The cells at these rows, in their order, each as `cell` gives it; faster the nearer they stand together."""
        order = None if len(rows) < 2 or bool((rows[1:] >= rows[:-1]).all()) else np.argsort(rows, kind="stable")
        found = [plain(value) for value in pick(self._columns[column], rows if order is None else rows[order])]
        if order is not None:
            back = np.empty_like(order)
            back[order] = np.arange(len(order))
            found = [found[at] for at in back.tolist()]
        if self.broken:
            found = [None if row in self.broken else cell for row, cell in zip(rows.tolist(), found, strict=True)]
        return found

    def walk(self, column: str) -> Iterator[Any]:
        """The cells of a column from the first to the last, a stretch at a time."""
        for start in range(0, len(self), STRETCH):
            yield from self.cells(np.arange(start, min(start + STRETCH, len(self))), column)

    def column(self, name: str) -> list[Any]:
        """All cells of a column."""
        return list(self.walk(name))

    def only(self, kept: Collection[str], columns: Sequence[str]) -> Table:
        """The same rows with these columns, of which those that are not `kept` are empty."""
        empty = Blank(len(self))
        found = {n: self._columns[n] if n in kept and n in self._columns else empty for n in columns}
        return Table(self.name, found, root=self.root, broken=self.broken)

    def need(self, columns: Iterable[str], where: str) -> None:
        """Raise TableError for a column that is not there."""
        for name in columns:
            if name not in self._columns:
                raise TableError(where, f"no column of this name in {self.name}", given=name, advice=self._near(name))

    def _near(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.columns, n=3, cutoff=0.5)
        return suggest(name, self.columns if len(self.columns) <= 30 else near)


def open_table(source: Any, *, root: str | Path | None = None, encoding: str = "utf-8") -> Table:
    """Open a table.

    `source`: a path (.csv, .tsv, .jsonl, .ndjson, these with .gz, .parquet), a folder of class folders (columns `file`
    and `label`), an IDX images file (columns `image` and `label`), a pandas DataFrame, a pyarrow Table, a dict of lists
    or a list of dicts. Cells of CSV files are text. Raises TableError.
    """
    if isinstance(source, Table):
        return source
    start = None if root is None else Path(root).expanduser()
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        columns, broken = _read(path, encoding)
        return Table(str(source), columns, root=start or (path if path.is_dir() else path.parent), broken=broken)
    return Table(type(source).__name__, _from_memory(source), root=start)


def _read(path: Path, encoding: str) -> Contents:
    if path.is_dir():
        return _class_folders(path)
    if not path.exists():
        near = difflib.get_close_matches(path.name, _names(path.parent), n=3)
        raise TableError(str(path), "no such file", advice=", ".join(map(repr, near)) or "check the path")
    if not path.is_file():
        raise TableError(str(path), "is not a regular file", advice=_READABLE)
    if idx.NAME.search(path.name):
        return idx.read_pictures(path)
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    if ending in (".csv", ".tsv"):
        return read_delimited(path, "\t" if ending == ".tsv" else ",", encoding)
    if ending in (".jsonl", ".ndjson"):
        return read_lines(path, encoding)
    if ending == ".parquet":
        from polymodal.data.parquet import read_parquet

        return read_parquet(path)
    raise TableError(str(path), "no table has this ending", given=path.suffix or path.name, advice=_READABLE)


def _names(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir()] if folder.is_dir() else []


def _class_folders(path: Path) -> Contents:
    """One row per file of every sub-folder, whose name is the label; hidden files and folders are passed over."""
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise TableError(str(path), "has no class folders", advice="a folder per class, or the path of a table")
    files, labels = [], []
    for folder in folders:
        found = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
        if not found:
            raise TableError(str(folder), "is a class folder without files", advice="fill it or take it away")
        files += [str(p.relative_to(path)) for p in found]
        labels += [folder.name] * len(found)
    return Contents({"file": from_values(files), "label": from_values(labels)}, {})


def _from_memory(source: Any) -> dict[str, Column]:
    kind = type(source).__name__
    if isinstance(source, pa.Table):
        check_names(source.column_names, kind)
        return {n: ArrowColumn(source.column(n)) for n in source.column_names}
    if isinstance(source, Mapping):
        return {str(name): from_values(values) for name, values in source.items()}
    if isinstance(source, Sequence) and all(isinstance(row, Mapping) for row in source):
        names = dict.fromkeys(str(name) for row in source for name in row)
        return {name: from_values([row.get(name) for row in source]) for name in names}
    if type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "columns"):
        check_names([str(name) for name in source.columns], kind)
        return {str(name): from_values(source.iloc[:, n]) for n, name in enumerate(source.columns)}
    raise TableError("table", "is of no kind that can be read", given=kind, advice=_READABLE)
