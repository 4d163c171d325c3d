"""Rows of a table as batches of tensors; what cannot be read goes to the ledger, and no row takes another's place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from polymodal.core.contracts import Reader, TargetReader
from polymodal.core.errors import BadCell, TableError
from polymodal.core.schema import Json
from polymodal.core.seeds import derive, row_keys
from polymodal.core.streams import Batch, Cells, Row, Target
from polymodal.data.cache import Cache
from polymodal.data.ledger import Entry, Ledger, explain
from polymodal.data.source import BAD, MISSING, Memo, Seen, Source
from polymodal.data.splits import Part
from polymodal.data.tables import Table

BLOCK = 128  # rows read at once by a scan
ACTIONS = {"skip": "skipped", "missing": "missing", "fail": "failed"}


class InputPlan(NamedTuple):
    """How an input is read: its reader and columns; whether decoded cells are kept."""

    reader: Reader
    columns: tuple[str, ...]
    cache: bool = True


class TargetPlan(NamedTuple):
    """How a target is read. Several columns make one cell, a dict by column."""

    reader: TargetReader
    columns: tuple[str, ...]


class Dataset:
    """A part of a table, read by `inputs` and `targets`.

    `rows` are the row numbers that can be used: all of the part's, and after `scan` those without a bad cell.
    `on_bad`: a row with a bad cell is left out (skip), has that cell missing (missing), or ends the work (fail). A row
    that could not be parsed is never used. `drop` is the chance that an input is withheld from a row; see `load`.
    """

    def __init__(self, part: Part, inputs: dict[str, InputPlan], targets: dict[str, TargetPlan], *,
                 on_bad: str = "skip", ledger: Ledger, cache: Cache | None = None,
                 drop: float = 0.0) -> None:  # fmt: skip
        self.table, self.rows = part.table, np.asarray(part.rows, np.int64)
        self.on_bad, self.ledger, self.drop = on_bad, ledger, drop
        self.inputs = {n: _source(part.table, n, p, False, cache if p.cache else None) for n, p in inputs.items()}
        self.targets = {n: _source(part.table, n, p, True, cache) for n, p in targets.items()}
        self._sources = [*self.inputs.values(), *self.targets.values()]

    def __len__(self) -> int:
        return len(self.rows)

    def cells(self, name: str) -> CellsOf:
        """The present cells of an input as its reader takes them, over and over; what cannot be opened is left out."""
        return CellsOf(self.inputs[name], self.rows)

    def target_cells(self, name: str) -> CellsOf:
        """The present cells of a target, as `cells`."""
        return CellsOf(self.targets[name], self.rows)

    def show(self, name: str, row: int) -> list[Json]:
        """What the input's reader shows a person of a row; nothing for what is missing or bad."""
        source = self.inputs[name]
        shown: list[Json] = []
        for k in range(source.ids.shape[1]):
            raw = source.raw(row, k)
            try:
                one = None if raw is None else source.reader.show(source.opened(raw))
                shown += [] if one is None else one["data"] if one["kind"] == "several" else [one]
            except BadCell:
                continue
        return shown

    def costs(self) -> np.ndarray:
        """What each of `rows` costs in inputs of different lengths (text, sound): [n], zeros where there are none."""
        ragged = [s for s in self.inputs.values() if s.ragged]
        return sum((s.costs(self.rows) for s in ragged), np.zeros(len(self.rows), np.int64))

    def scan(self, progress: Callable[[int], None] | None = None) -> None:
        """Read every cell once, keep it in the cache, and take rows that cannot be used out of `rows`.

        `progress` is told how many rows were read since it was last told. Every bad cell goes to the ledger, and
        so does every row without any target. Raises TableError when no row is left, or, when `on_bad` is fail, for any
        bad cell.
        """
        entries: list[Entry] = []
        seen: dict[Source, Memo] = {s: Seen() for s in self._sources}
        for start in range(0, len(self.rows), BLOCK):
            block = self.rows[start : start + BLOCK]
            entries += self._read(block, seen)
            if progress is not None:
                progress(len(block))
        self.ledger.extend(entries)
        self._refuse(entries)
        kept = self.rows[~self._unusable(self.rows, entries)]
        if self.targets:
            known = np.any([(t.ids[kept] >= 0).any(1) for t in self.targets.values()], axis=0)
            columns = ", ".join(t.column(k) for t in self.targets.values() for k in range(t.ids.shape[1]))
            without = [Entry(self.table.name, int(r), columns, "", "no target", "skipped") for r in kept[~known]]
            self.ledger.extend(without)
            entries, kept = entries + without, kept[known]
        if not len(kept):
            raise TableError(self.table.name, f"none of {len(self.rows)} rows can be used:{_listed(entries)}",
                             advice="data.root if paths start elsewhere; `polymodal check` lists all")  # fmt: skip
        if self.on_bad == "missing":
            for source in self._sources:
                source.ids[source.ids == BAD] = MISSING
        self.rows = kept

    def at_hand(self, augment: bool) -> bool:
        """Whether every batch is a mere gather from the cache: workers would only be in the way."""
        return all(s.packed(self.rows) and not (augment and s.augments) for s in self._sources)

    def load(self, rows: np.ndarray, *, seed: int = 0, epoch: int = 0,
             augment: bool = False) -> tuple[Batch | None, list[Entry]]:  # fmt: skip
        """These rows (numbers in the table), in this order, as a batch, and what was bad in them.

        Rows that cannot be used are left out, and the batch is None when none is left; under `on_bad: fail` TableError
        is raised instead. Equal cells are stored once, unless they are augmented. Augmentation and dropped inputs are
        functions of (seed, epoch, row); a row's last present input is never dropped. The entries are not in the ledger.
        """
        rows = np.asarray(rows, np.int64)
        memos: dict[Source, Memo] = {s: {} for s in self._sources}
        entries = self._read(rows, memos)
        if entries:
            self._refuse(entries)
            rows = rows[~self._unusable(rows, entries)]
        if not len(rows):
            return None, entries
        keys = row_keys(seed, epoch, rows)
        ids = {n: s.ids[rows] for n, s in self.inputs.items()}
        if self.drop > 0:
            _withhold(ids, keys, self.drop)
        inputs = {}
        for name, source in self.inputs.items():
            data, index, digests = source.gather(rows, ids[name], memos[source], keys if augment else None)
            inputs[name] = Cells(_tensors(data), torch.from_numpy(index), torch.from_numpy(digests))
        targets = {name: _target(source, rows, memos[source]) for name, source in self.targets.items()}
        return Batch(inputs, targets, torch.from_numpy(keys), tuple([Row(r) for r in rows.tolist()])), entries

    def _read(self, rows: np.ndarray, memos: dict[Source, Memo]) -> list[Entry]:
        """Have every cell of these rows at hand; what is bad about them."""
        entries = []
        for source in self._sources:
            for row, k, reason in source.read(rows, memos[source]):
                place = source.column(k), source.file(row, k)
                entries.append(Entry(self.table.name, row, *place, reason, ACTIONS[self.on_bad]))
        if self.table.broken:
            action = "failed" if self.on_bad == "fail" else "skipped"
            broken = {row: self.table.broken[row] for row in rows.tolist() if row in self.table.broken}
            entries += [Entry(self.table.name, row, "", "", reason, action) for row, reason in broken.items()]
        return entries

    def _unusable(self, rows: np.ndarray, entries: list[Entry]) -> np.ndarray:
        return np.isin(rows, [e.row for e in entries if e.action == "skipped"])

    def _refuse(self, entries: list[Entry]) -> None:
        if entries and self.on_bad == "fail":
            rows = len({e.row for e in entries})
            raise TableError(self.table.name, f"{len(entries)} bad cells in {rows} rows:{_listed(entries)}",
                             advice="mend them, or data.on_bad: skip or missing")  # fmt: skip


def _source(table: Table, name: str, plan: InputPlan | TargetPlan, target: bool, cache: Cache | None) -> Source:
    """The source of an input or target; the parts of one table share it through their cache."""

    def make() -> Source:
        return Source(table, name, plan.reader, plan.columns, target=target, cache=cache)

    if cache is None:
        return make()
    fitted = derive(json.dumps(plan.reader.field, sort_keys=True))
    return cache.shared((id(table), name, target, plan.columns, id(plan.reader), fitted), make)


class CellsOf:
    """A restartable walk over a source's cells."""

    def __init__(self, source: Source, rows: np.ndarray) -> None:
        self._source, self._rows = source, rows

    def __iter__(self) -> Iterator[Any]:
        return self._source.cells(self._rows)


def _withhold(ids: dict[str, np.ndarray], keys: np.ndarray, chance: float) -> None:
    """Make inputs missing by lot; each row keeps the present input that drew highest."""
    draws = np.stack([row_keys(derive("drop", name), 0, keys) / 2.0**63 for name in ids], axis=1)
    present = np.stack([(cells >= 0).any(1) for cells in ids.values()], axis=1)
    best = np.where(present, draws, -1.0).argmax(1)
    gone = (draws < chance) & (np.arange(len(ids)) != best[:, None])
    for at, name in enumerate(ids):
        ids[name][gone[:, at]] = MISSING


def _target(source: Source, rows: np.ndarray, memo: Memo) -> Target:
    """The target of every row; rows without one hold a blank."""
    data, index, _ = source.gather(rows, source.ids[rows][:, :1], memo)
    at = index[:, 0]
    present = at >= 0
    data = {name: values[at] for name, values in data.items()}
    if not present.all():
        for name, value in source.reader.blank().items():
            data[name][~present] = value
    return Target(_tensors(data), torch.from_numpy(present))


def _tensors(data: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in data.items()}


def _listed(entries: list[Entry], most: int = 5) -> str:
    lines = [f"\n  row {e.row}: {explain(e)}" for e in entries[:most]]
    return "".join(lines) + (f"\n  … and {len(entries) - most} more" if len(entries) > most else "")
