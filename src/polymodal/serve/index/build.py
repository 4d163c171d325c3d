"""A table into an index: what is not there yet, or not as it is now, is embedded and written, some rows at a time.

Where the work stands is read off the index itself: every row in it has a digest of what it was made from, so a table
that is indexed again costs a look at its cells, and work that was killed goes on with the first row that is missing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from polymodal.assemble import Assembly
from polymodal.core.errors import TableError, UserError, suggest
from polymodal.core.schema import Json
from polymodal.data.cells import digest, path_of
from polymodal.data.digests import Digests
from polymodal.data.ledger import Entry, Ledger
from polymodal.data.splits import Part, name_of
from polymodal.data.tables import Table
from polymodal.serve.index import columns, words
from polymodal.serve.index.index import Index, open_place, writing
from polymodal.serve.index.place import Rows
from polymodal.serve.index.previews import Previews, pictured
from polymodal.serve.index.searcher import identity
from polymodal.serve.index.state import LEDGER
from polymodal.work.embed import Embedder, Lot

LOOKED = 4096  # rows whose cells are looked at together
WRITTEN, SECONDS = 4096, 20.0  # rows in a commit, or seconds of work
NONE = -1  # no digest
Embed = Callable[[np.ndarray, Ledger], Iterator[Lot]]  # rows of the table, in order, as vectors


class Told(NamedTuple):
    """What indexing a table did."""

    rows: int  # of the table
    written: int
    same: int  # rows that were there as they are
    bad: int
    gone: int  # rows taken out because the table has them no more
    total: int  # rows in the index now

    def text(self) -> str:
        said = f"{self.written} rows written, {self.same} there already, {self.bad} could not be"
        return f"{said}{f', {self.gone} taken out' if self.gone else ''}; the index holds {self.total}"


def describe(run: Any, table: Table, *, embedder: Embedder, key: str | None, of: Sequence[str],
             keep: Sequence[str] | None) -> dict[str, Json]:  # fmt: skip
    """What an index of this run and table is, `about` of a new one. Raises UserError."""
    names = tuple(embedder.names)
    for name in of:
        if name not in names:
            raise UserError("--of", "the run embeds nothing of this name", given=name, advice=suggest(name, names))
    chosen = [n for n in (of or names) if of or set(embedder.columns[n]) & set(table.columns)]
    if not chosen:
        raise TableError(table.name, "has no column that the run embeds", given=table.columns,
                         advice=f"one of {sorted({c for n in names for c in embedder.columns[n]})}")  # fmt: skip
    if key is not None:
        table.need([key], "--key")
    kinds = columns.kinds(table, keep)
    files = [c for one, reader in _readers(run.assembly) if reader.files for c in one.columns]
    return {
        "run": identity(Path(run.folder)), "task": embedder.task, "spaces": chosen, "width": embedder.width,
        "made_of": {name: list(embedder.columns[name]) for name in chosen}, "key": key, "table": table.name,
        "columns": columns.listed(kinds), "pictures": list(pictured(run.assembly, table)),
        "words": columns.texts(kinds, files, key),
    }  # fmt: skip


def _readers(assembly: Assembly) -> Iterator[tuple[Any, Any]]:
    return ((one, assembly.readers[name]) for name, one in assembly.spec.inputs.items())


def index_table(run: Any, table: Table, out: str | Path, *, key: str | None = None, of: Sequence[str] = (),
                keep: Sequence[str] | None = None, prune: bool = False, on_bad: str | None = None,
                elsewhere: Callable[..., Embed] | None = None,
                step: Callable[[int], None] | None = None) -> Told:  # fmt: skip
    """Add the table's rows to an index, which is made when it is not there; rows with an id that is there are replaced.

    The id of a row is its cell in the column `key`; without one it is its number in the table, and the index takes rows
    of this table only. `of`: what is embedded, all that the run can and the table has when not given. `keep`: columns
    that are kept, all of text and numbers when not given. `prune`: rows that the table has no more are taken out.
    `elsewhere`, called with the `names` of spaces, gives what embeds instead of this process. Raises UserError,
    RunError and TableError.
    """
    embedder = run.embedder
    about = describe(run, table, embedder=embedder, key=key, of=of, keep=keep)
    place = open_place(out, about)
    agree(place.about, about, given={"key": key, "of": of, "keep": keep})
    spaces = place.about["spaces"]
    own = _here(run, table, spaces, on_bad) if elsewhere is None else elsewhere(names=spaces)

    def write(place: Any) -> Told:
        return _Job(run.assembly, table, place, own, step or (lambda rows: None)).run(prune, _ledger_of(out))

    return writing(place, write)


def agree(there: dict[str, Json], new: dict[str, Json], given: dict[str, Any]) -> None:
    """Raise UserError where an index was made with another run, or in another way, than is asked now."""
    if there["run"]["sha256"] != new["run"]["sha256"]:
        raise UserError("RUN", "the index was made with another run", given=new["run"]["path"],
                        advice=f"the run at {there['run']['path']}, or another --out")  # fmt: skip
    if given["of"] and list(given["of"]) != there["spaces"]:
        raise UserError("--of", "the index was made of others", given=list(given["of"]), advice=f"{there['spaces']}")
    if given["keep"] is not None and list(given["keep"]) != [c["name"] for c in there["columns"]]:
        raise UserError("--keep", "the index keeps other columns", given=list(given["keep"]), advice="leave it out")
    if given["key"] is not None and given["key"] != there["key"]:
        raise UserError("--key", "the index has another key", given=given["key"], advice=f"{there['key']}")
    if there["key"] is None and there["table"] != new["table"]:
        raise UserError("--key", f"rows of this index are known by their number in {there['table']}",
                        given=new["table"], advice="that table, or a new index with --key COLUMN")  # fmt: skip


def _here(run: Any, table: Table, spaces: list[str], on_bad: str | None) -> Embed:
    """Embed in this process."""

    def embed(rows: np.ndarray, ledger: Ledger) -> Iterator[Lot]:
        return run.embedder.rows(Part(table, rows), ledger, names=spaces,
                                 on_bad=on_bad or run.assembly.spec.data.on_bad)  # fmt: skip

    return embed


def _ledger_of(out: str | Path) -> Path | None:
    return None if str(out).startswith(("qdrant://", "qdrants://")) else Path(out).expanduser() / LEDGER


class _Job:
    """The rows of one table on their way into an index."""

    def __init__(self, assembly: Assembly, table: Table, place: Any, embed: Embed,
                 step: Callable[[int], None]) -> None:  # fmt: skip
        self.table, self.place, self.embed, self.step = table, place, embed, step
        about = place.about
        self.spaces, self.width, self.key = about["spaces"], about["width"], about["key"]
        if self.key is not None:
            table.need([self.key], "--key")
        self.kept = {one["name"]: one["type"] for one in about["columns"]}
        self.worded = [name for name in about["words"] if name in table.columns]
        made_of = {c for name in self.spaces for c in about["made_of"][name]}
        inputs = pictured(assembly, table)
        self.previews = [Previews(assembly, table, c, inputs[c]) if c in inputs else None for c in about["pictures"]]
        self.looked = [c for c in table.columns if c in made_of or c in self.kept or c in about["pictures"]]
        self.files = {c for one, reader in _readers(assembly) if reader.files for c in one.columns}
        self.ledger = Ledger()
        self.known: Digests = place.known()
        self.written = self.same = 0
        self.all_marks = np.zeros(0, np.int64)  # also of rows that do not count

    def run(self, prune: bool, ledger: Path | None) -> Told:
        """All rows. The ledger is written now and then, and is whole when this returns."""
        marks = self._marks()
        last = told = time.monotonic()
        waiting: list[tuple[np.ndarray, Lot]] = []
        for rows, digests in self._new(marks):
            for lot in self.embed(rows, self.ledger):
                waiting.append((digests[np.searchsorted(rows, lot.rows)], lot))
                full = sum(len(one.rows) for _, one in waiting) >= WRITTEN
                if full or time.monotonic() - last > SECONDS:
                    self._write(waiting)
                    waiting, last = [], time.monotonic()
                    if ledger is not None and last - told > SECONDS:
                        self.ledger.save(ledger)
                        told = last
        self._write(waiting)
        gone = self._prune(marks) if prune else 0
        if ledger is not None:
            self.ledger.save(ledger)
        bad = len({e.row for e in self.ledger if e.action == "skipped"})
        total = int(self.place.about["count"])
        return Told(len(self.table), self.written, self.same, bad, gone, total)

    def _names(self, rows: np.ndarray) -> list[str]:
        """The ids of rows, '' for one that has none."""
        if self.key is None:
            return [str(row) for row in rows.tolist()]
        return ["" if cell is None else name_of(cell) for cell in self.table.cells(rows, self.key)]

    def _marks(self) -> np.ndarray:
        """The digest of every row's id, NONE for one that has none or whose id a later row has too."""
        marks = np.full(len(self.table), NONE, np.int64)
        for rows in self._stretches(LOOKED):
            marks[rows] = [digest(name) if name else NONE for name in self._names(rows)]
        if self.key is None:
            return marks
        order = np.argsort(marks, kind="stable")
        again = np.append(marks[order][1:] == marks[order][:-1], False) & (marks[order] != NONE)
        for row in np.flatnonzero(marks == NONE).tolist():
            self._refuse(row, self.key, "no key")
        for at in np.flatnonzero(again).tolist():
            self._refuse(int(order[at]), self.key, f"row {order[at + 1]} has the same key: the last one counts")
        self.all_marks = np.unique(marks)
        marks[order[again]] = NONE
        return marks

    def _stretches(self, many: int) -> Iterator[np.ndarray]:
        return (np.arange(at, min(at + many, len(self.table))) for at in range(0, len(self.table), many))

    def _refuse(self, row: int, column: str, reason: str, action: str = "skipped") -> None:
        self.ledger.add(Entry(self.table.name, row, column, "", reason, action))

    def _new(self, marks: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows that are not in the index as they are now, and their digests."""
        for rows in self._stretches(getattr(self.embed, "at_once", LOOKED)):
            for row in [r for r in rows.tolist() if r in self.table.broken]:
                self._refuse(row, "", self.table.broken[row])
            rows = np.array([r for r in rows[marks[rows] != NONE].tolist() if r not in self.table.broken], np.int64)
            digests = self._digests(rows)
            fresh = self.known.find(marks[rows], NONE) != digests
            self.same += int((~fresh).sum())
            self.step(int((~fresh).sum()))
            if fresh.any():
                yield rows[fresh], digests[fresh]

    def _digests(self, rows: np.ndarray) -> np.ndarray:
        """Of all cells that a row of the index is made from; of a file's time and size, not of its content."""
        cells = [self.table.cells(rows, c) for c in self.looked]
        for at, column in enumerate(self.looked):
            if column in self.files:
                cells[at] = [self._dated(cell) if isinstance(cell, str) else cell for cell in cells[at]]
        return np.array([digest(list(row)) for row in zip(*cells, strict=True)], np.int64)

    def _dated(self, cell: str) -> list[Json]:
        with suppress(OSError, ValueError):
            found = os.stat(path_of(cell, self.table.root))
            return [cell, found.st_size, found.st_mtime_ns]
        return [cell]

    def _write(self, waiting: list[tuple[np.ndarray, Lot]]) -> None:
        """One commit."""
        if not waiting:
            return
        rows = np.concatenate([lot.rows for _, lot in waiting])
        digests = np.concatenate([own for own, _ in waiting])
        vectors = [np.concatenate([_mean(lot, name) for _, lot in waiting]) for name in self.spaces]
        there = np.any([own.any(1) for own in vectors], axis=0)
        bad = {row for _, lot in waiting for row in lot.errors}
        for row in rows[~there].tolist():
            if row not in bad:
                self._refuse(row, "", "holds nothing that is embedded")
        rows, digests, vectors = rows[there], digests[there], [own[there] for own in vectors]
        ids = self._names(rows)
        fresh = bool((self.known.find(np.array([digest(one) for one in ids], np.int64), NONE) == NONE).all())
        self.place.put(Rows(ids, digests, vectors, self._cells(rows), self._small(rows), self._words(rows)),
                       fresh=fresh)  # fmt: skip
        self.written += len(rows)
        self.step(len(there))

    def _cells(self, rows: np.ndarray) -> list[list[Json]]:
        found = []
        for name, kind in self.kept.items():
            there = self.table.cells(rows, name) if name in self.table.columns else [None] * len(rows)
            cells, bad = columns.column_cells(there, kind)
            for at, reason in bad.items():
                self._refuse(int(rows[at]), name, reason, "missing")
            found.append(cells)
        return found

    def _small(self, rows: np.ndarray) -> list[list[bytes | None]]:
        return [[None] * len(rows) if one is None else one.of(rows) for one in self.previews]

    def _words(self, rows: np.ndarray) -> list[str]:
        cells = [self.table.cells(rows, name) for name in self.worded]
        return [words.stored(row) for row in zip(*cells, strict=True)] if cells else [""] * len(rows)

    def _prune(self, marks: np.ndarray) -> int:
        """Take out what the table has no more; a row that is there but bad stays as it was."""
        listed = np.unique(marks) if self.key is None else self.all_marks
        gone = [one for one in self.place.ids() if not _among(digest(one), listed)]
        return self.place.delete(gone) if gone else 0


def _among(mark: int, listed: np.ndarray) -> bool:
    at = int(np.searchsorted(listed, mark))
    return at < len(listed) and int(listed[at]) == mark


def _mean(lot: Lot, name: str) -> np.ndarray:
    """One vector for each row: the mean of those of its columns that hold something, of length 1. [n E]"""
    whole = (lot.vectors[name] * lot.present[name][..., None]).sum(1)
    lengths = np.linalg.norm(whole, axis=1, keepdims=True)
    several = lot.present[name].sum(1, keepdims=True) > 1
    return np.where(several, whole / np.maximum(lengths, 1e-12), whole).astype(np.float32)


def delete_rows(place_of: str | Path, ids: Sequence[str]) -> tuple[int, int]:
    """Take rows out of an index: how many there were, and how many are left."""
    index = Index(open_place(place_of))
    return index.delete(ids), len(index)
