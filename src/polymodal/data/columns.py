"""Columns of a table: Arrow memory, arrays with the rows first, or plain lists, behind one way of asking for a cell."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polymodal.core.errors import TableError

CLOSE = 8  # a stretch of up to so many cells for each that is asked for is taken at once


@runtime_checkable
class Column(Protocol):
    """A cell by its row number, and how many there are."""

    def __getitem__(self, row: int, /) -> Any: ...
    def __len__(self) -> int: ...


class Contents(NamedTuple):
    """What a file holds: columns of one length, and why rows that could not be parsed are broken."""

    columns: dict[str, Column]
    broken: dict[int, str]


class Blank:
    """A column without a single cell."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: int) -> None:
        return None


class ArrowColumn:
    """A column in Arrow memory; dates come as ISO 8601 text and decimals as floats."""

    def __init__(self, chunks: pa.ChunkedArray) -> None:
        self._chunks = simplify(chunks)

    def __len__(self) -> int:
        return len(self._chunks)

    def __getitem__(self, row: int) -> Any:
        return self._chunks[row].as_py()

    def __iter__(self) -> Iterator[Any]:
        return (value for chunk in self._chunks.chunks for value in chunk.to_pylist())

    def pick(self, rows: np.ndarray) -> list[Any]:
        """The cells at these rows, which must ascend; rows that stand close together are taken as one stretch."""
        first, last = (int(rows[0]), int(rows[-1])) if len(rows) else (0, -1)
        if last - first >= CLOSE * len(rows):
            return [self[row] for row in rows.tolist()]
        cells = self._chunks.slice(first, last - first + 1).to_pylist()
        return [cells[at] for at in (rows - first).tolist()]


class JsonColumn:
    """Cells of mixed or nested types, kept as JSON text so that they come back exactly."""

    def __init__(self, texts: Column) -> None:
        self._texts = texts

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, row: int) -> Any:
        return _parsed(self._texts[row])

    def __iter__(self) -> Iterator[Any]:
        return (_parsed(text) for text in self._texts)  # type: ignore[attr-defined]

    def pick(self, rows: np.ndarray) -> list[Any]:
        return [_parsed(text) for text in pick(self._texts, rows)]


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)


class LazyColumn:
    """A column that is read when its first cell is asked for."""

    def __init__(self, rows: int, load: Callable[[], Column]) -> None:
        self._rows, self._load = rows, load
        self._column: Column | None = None

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: int) -> Any:
        return self._loaded()[row]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._loaded())

    def pick(self, rows: np.ndarray) -> list[Any]:
        return pick(self._loaded(), rows)

    def _loaded(self) -> Column:
        if self._column is None:
            self._column = self._load()
        return self._column


def pick(column: Column, rows: np.ndarray) -> list[Any]:
    """The cells of a column at these rows, which must ascend: `[column[row] for row in rows]`, but faster."""
    at_once = getattr(column, "pick", None)
    return [column[row] for row in rows.tolist()] if at_once is None else at_once(rows)


def simplify(chunks: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same cells as text, numbers, bytes, lists and dicts: what readers know."""
    kind = chunks.type
    if isinstance(kind, pa.BaseExtensionType):
        return simplify(pa.chunked_array([c.storage for c in chunks.chunks], kind.storage_type))
    if pa.types.is_dictionary(kind):
        return simplify(chunks.cast(kind.value_type))
    if pa.types.is_decimal(kind):
        return chunks.cast(pa.float64())
    if pa.types.is_timestamp(kind) and kind.tz is None:
        return pc.replace_substring_regex(pc.strftime(chunks, format="%Y-%m-%dT%H:%M:%S"), r"\.0+$", "")
    if pa.types.is_temporal(kind):
        return chunks.cast(pa.string())
    return chunks


def plain(value: Any) -> Any:
    """A cell with every sign of absence as None, numpy scalars as Python's, paths as text, stored pictures as bytes."""
    kind = type(value)
    if kind is str:
        return value or None
    if kind is float:
        return None if math.isnan(value) else value
    if kind is dict:
        return _stored_file(value)
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, PurePath):
        return str(value)
    if kind.__name__ in ("NAType", "NaTType"):
        return None
    return value.isoformat() if hasattr(value, "isoformat") else value


def _stored_file(value: dict) -> Any:
    """`{bytes, path}`, as Hugging Face datasets store files in Parquet: the bytes, or the path where there are none."""
    if not value.keys() <= {"bytes", "path"} or not value:
        return value
    found = value.get("bytes")
    return plain(value.get("path")) if found is None else found


def texts(values: Iterable[str | None]) -> pa.Array:
    """Text in Arrow memory. Raises UnicodeEncodeError for half characters (lone surrogates)."""
    return pa.array(values, pa.large_string())


def from_values(values: Any) -> Column:
    """The smallest home for a column given in Python: Arrow where all cells are of one simple type, else as it is."""
    if isinstance(values, np.ndarray) and values.ndim > 1:
        return values
    cells = values.tolist() if hasattr(values, "tolist") else list(values)
    kinds = {type(v) for v in cells if plain(v) is not None}
    home = _HOMES.get(kinds.pop()) if len(kinds) == 1 else None
    if home is not None:
        try:
            return ArrowColumn(pa.chunked_array([pa.array([plain(v) for v in cells], home)]))
        except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
            return cells
    return cells


_HOMES: dict[type, pa.DataType] = {
    str: pa.large_string(), bytes: pa.large_binary(), bool: pa.bool_(), int: pa.int64(), float: pa.float64(),
}  # fmt: skip


def check_names(names: Sequence[str], where: str) -> None:
    """Raise TableError where two columns have one name."""
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise TableError(where, "two columns have one name", given=twice, advice="rename one of them")
