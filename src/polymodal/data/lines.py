"""JSON Lines: one JSON object per line; the columns are all the names that occur, in order of first appearance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from polymodal.core.errors import TableError, shorten
from polymodal.data.columns import ArrowColumn, Column, Contents, JsonColumn, texts
from polymodal.data.delimited import check_encoding, open_text, undecodable

CHUNK = 16384
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
    if not pile.chunks:
        raise TableError(str(path), f"no line is a JSON object: {pile.broken[0]}", advice='{"text": "…", "label": 1}')
    return Contents({name: pile.column(name) for name in pile.chunks}, pile.broken)


class _Pile:
    """Objects on their way into Arrow memory, chunk by chunk; a column whose types differ is kept as JSON text."""

    def __init__(self) -> None:
        self.count = self.undecodable = 0
        self.rows: list[dict[str, Any]] = []
        self.sizes: list[int] = []
        self.chunks: dict[str, list[tuple[Any, pa.Array]]] = {}
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
        if len(self.rows) >= CHUNK:
            self.flush()

    def flush(self) -> None:
        for name in dict.fromkeys(name for row in self.rows for name in row):
            self.chunks.setdefault(name, [])
        for name, made in self.chunks.items():
            made += [(NOTHING, pa.nulls(size)) for size in self.sizes[len(made) :]]
            made.append(_pack([row.get(name) for row in self.rows]))
        self.sizes.append(len(self.rows))
        self.rows = []

    def column(self, name: str) -> Column:
        made = self.chunks[name]
        kinds = {kind for kind, _ in made if kind is not NOTHING}
        if kinds <= set(KINDS) and len(kinds) <= 1:
            home = KINDS[kinds.pop()] if kinds else pa.null()
            return ArrowColumn(pa.chunked_array([a.cast(home) for _, a in made], home))
        as_text = [a if kind is JSON else _as_json(a.to_pylist()) for kind, a in made]
        return JsonColumn(pa.chunked_array(as_text, pa.large_string()))


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


def _as_json(cells: list[Any]) -> pa.Array:
    return texts(None if c is None else json.dumps(c, ensure_ascii=False) for c in cells)
