"""Small indexes without a run, and what they must hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from polymodal.serve.index.index import Index, writing
from polymodal.serve.index.lance import LancePlace
from polymodal.serve.index.place import Rows
from polymodal.serve.index.words import stored

COLUMNS = {"price": "number", "stock": "integer", "brand": "text", "sale": "boolean", "tags": "json"}
Row = dict[str, Any]


def about(width: int = 8, spaces: tuple[str, ...] = ("a", "b"), columns: dict[str, str] = COLUMNS) -> dict[str, Any]:
    return {
        "run": {"path": "run", "sha256": "0"}, "task": None, "spaces": list(spaces), "width": width, "made_of": {},
        "key": "id", "table": "t", "columns": [{"name": n, "type": t} for n, t in columns.items()],
        "pictures": ["photo"], "words": ["brand"], "store": "lance",
    }  # fmt: skip


def unit(n: int, width: int = 8, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def row(id: str, vector: np.ndarray, *, b: bool = True, picture: bytes | None = None, **cells: Any) -> Row:
    return {"id": id, "vector": vector, "b": b, "picture": picture, "cells": {n: cells.get(n) for n in COLUMNS}}


def as_rows(rows: list[Row], spaces: int = 2) -> Rows:
    """In the second space every vector is turned around, and not there where `b` is false."""
    vectors = np.array([r["vector"] for r in rows], np.float32)
    second = -vectors * np.array([[r["b"]] for r in rows], np.float32)
    cells = [[r["cells"][n] for r in rows] for n in COLUMNS]
    words = [stored([r["cells"]["brand"]]) for r in rows]
    digests = np.array([abs(hash(r["id"])) for r in rows], np.int64)
    pictures = [[r["picture"] for r in rows]]
    return Rows([r["id"] for r in rows], digests, [vectors, second][:spaces], cells, pictures, words)


def make(folder: Path, rows: list[Row]) -> Index:
    place = LancePlace.create(folder, about())
    if rows:
        writing(place, lambda p: p.put(as_rows(rows), fresh=True))
    return Index(place)


def put(index: Index, rows: list[Row]) -> None:
    writing(index.place, lambda p: p.put(as_rows(rows), fresh=False))


def holds(index: Index, rows: dict[str, Row]) -> None:
    """The index has exactly these rows, each once, with everything of theirs."""
    ids = list(index.place.ids())
    assert sorted(ids) == sorted(rows)
    assert len(index) == len(rows)
    if not ids:
        return
    np.testing.assert_array_equal(index.vectors(ids, "a"), [rows[one]["vector"] for one in ids])
    np.testing.assert_array_equal(index.vectors(ids, "b"), [-rows[one]["vector"] * rows[one]["b"] for one in ids])
    assert index.rows(ids) == [rows[one]["cells"] for one in ids]
    assert [index.preview(one, "photo") for one in ids] == [rows[one]["picture"] for one in ids]
    browsed = index.search(k=len(ids) + 5)
    assert sorted(hit.id for hit in browsed) == sorted(rows)
