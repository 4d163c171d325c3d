"""JSON Lines: one JSON object per line; the columns are all the names that occur, in order of first appearance."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from polymodal.core.errors import TableError, shorten
from polymodal.data.columns import ArrowColumn, Column, Contents, JsonColumn, pick, texts
from polymodal.data.delimited import LETTERS, check_encoding, open_text, undecodable
from polymodal.data.spill import ColumnPile, Spill

CHUNK = 4096  # lines that are turned into Arrow memory at once
KINDS = {str: pa.large_string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
JSON, NOTHING = "json", "nothing"


def read_lines(path: Path, encoding: str = "utf-8") -> Contents:
    """Columns of a JSON Lines file; lines that are no JSON object are broken rows. Blank lines are no rows."""
    pile = _Pile()
    with open_text(path, encoding, newline=None) as file:
        for line in file:
            if line.strip():
                pile.add(line)
    pile.flush()
    if pile.undecodable:
        check_encoding(path, encoding, pile.undecodable, pile.count)
    if not pile.count:
        raise TableError(str(path), "is empty", advice='lines like {"text": "…", "label": "…"}')
    if not pile.columns:
        raise TableError(str(path), f"no line is a JSON object: {pile.broken[0]}", advice='{"text": "…", "label": 1}')
    return Contents({name: column.done() for name, column in pile.columns.items()}, pile.broken)


class _Pile:
    """Objects on their way into columns, chunk by chunk."""

    def __init__(self) -> None:
        self.count = self.undecodable = self.letters = 0
        self.rows: list[dict[str, Any]] = []
        self.columns: dict[str, _Column] = {}
        self.spill = Spill()
        self.broken: dict[int, str] = {}

    def add(self, line: str) -> None:
        row: Any = None
        try:
            line.encode()
            row = json.loads(line)
            json.dumps(row, ensure_ascii=False).encode()  # an escape may stand for half a character
            reason = "" if isinstance(row, dict) else f"is no JSON object: {shorten(row, 40)}"
        except UnicodeEncodeError:
            reason = undecodable(line) or "holds half a character (a lone surrogate)"
            self.undecodable += bool(undecodable(line))
        except json.JSONDecodeError as error:
            reason = f"is no valid JSON: {error.msg} at character {error.colno}"
        except RecursionError:
            reason = "is nested too deeply"
        if reason:
            self.broken[self.count] = reason
        self.rows.append({} if reason else row)
        self.count += 1
        self.letters += len(line)
        if len(self.rows) >= CHUNK or self.letters > LETTERS:
            self.flush()

    def flush(self) -> None:
        for name in dict.fromkeys(name for row in self.rows for name in row):
            if name not in self.columns:
                self.columns[name] = _Column(self.spill, self.count - len(self.rows))
        for name, column in self.columns.items():
            column.add([row.get(name) for row in self.rows])
        self.rows, self.letters = [], 0


class _Column:
    """Cells of one type as they come; from the first of another type on the whole column is JSON text."""

    def __init__(self, spill: Spill, missing: int) -> None:
        self.spill, self.pile = spill, ColumnPile(spill)
        self.kind: Any = NOTHING
        self.missing = missing  # cells before the first that is there

    def add(self, cells: list[Any]) -> None:
        kind, packed = _pack(cells)
        if self.kind is NOTHING and kind is NOTHING:
            self.missing += len(cells)
            return
        if self.kind is NOTHING:
            self.kind = kind
            self.pile.append(pa.nulls(self.missing, packed.type))
        if kind not in (NOTHING, self.kind):
            self._as_text()
            packed = packed if kind is JSON else _as_json(cells)
        self.pile.append(packed.cast(KINDS.get(self.kind, pa.large_string())))

    def _as_text(self) -> None:
        if self.kind is JSON:
            return
        before, self.pile, self.kind = self.pile.done(), ColumnPile(self.spill), JSON
        for start in range(0, len(before), CHUNK):
            self.pile.append(_as_json(pick(before, np.arange(start, min(start + CHUNK, len(before))))))

    def done(self) -> Column:
        if self.kind is NOTHING:
            return ArrowColumn(pa.chunked_array([pa.nulls(self.missing)]))
        return JsonColumn(self.pile.done()) if self.kind is JSON else self.pile.done()


def _pack(cells: list[Any]) -> tuple[Any, pa.Array]:
    kinds = {type(c) for c in cells if c is not None}
    if not kinds:
        return NOTHING, pa.nulls(len(cells))
    if len(kinds) == 1 and (kind := kinds.pop()) in KINDS:
        try:
            return kind, pa.array(cells, KINDS[kind])
        except OverflowError:  # a whole number beyond 64 bits
            return JSON, _as_json(cells)
    return JSON, _as_json(cells)


def _as_json(cells: Iterable[Any]) -> pa.Array:
    return texts(None if c is None else json.dumps(c, ensure_ascii=False) for c in cells)
