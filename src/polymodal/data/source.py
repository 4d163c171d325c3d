"""One input or target over a table: what each cell is, what it is read as, and where that is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from polymodal.core.contracts import Sample
from polymodal.core.errors import BadCell
from polymodal.core.seeds import Rng, derive, generator
from polymodal.data.cache import Cache, Loose, Packed
from polymodal.data.cells import digest, open_file, path_of
from polymodal.data.collate import collate
from polymodal.data.tables import Table

MISSING, UNKNOWN, BAD = -1, -2, -3
LONGEST = 4096  # characters of a path
Memo = dict[int, Sample]  # digest -> sample as decoded, for what no cache holds


class Seen(Memo):
    """A memo that remembers which samples there were, but not the samples: for reading without using."""

    def __setitem__(self, digest: int, sample: Sample) -> None:
        super().__setitem__(digest, {})


class Gathered(NamedTuple):
    """As `core.streams.Cells`, in numpy."""

    data: dict[str, np.ndarray]
    index: np.ndarray  # type: ignore[assignment]  # [B, K]
    id: np.ndarray  # [N]


class Source:
    """Cells of one Reader, or TargetReader (`target`), in a table, [rows, K]; a record is one cell of all columns."""

    def __init__(self, table: Table, name: str, reader: Any, columns: tuple[str, ...], *, target: bool,
                 cache: Cache | None) -> None:  # fmt: skip
        self.table, self.name, self.reader, self.columns, self.cache = table, name, reader, columns, cache
        self.record: bool = len(columns) > 1 if target else reader.record
        self.ragged: frozenset[str] = frozenset() if target else reader.ragged
        self.augments: bool = not target and reader.augments
        self._decode: Callable[[object], Sample] = reader if target else reader.decode
        self._finish: Callable[[Sample, Rng | None], Sample] = _as_it_is if target else reader.finish
        width = 1 if self.record else len(columns)
        self.ids = np.full((len(table), width), UNKNOWN, np.int64)
        self.slots = np.full((len(table), width), -1, np.int64)
        self.reasons: dict[tuple[int, int], str] = {}
        self._files: dict[str, int] = {}  # path -> digest, so that a file that many rows name is read once
        self._shelf: Packed | Loose | None = None

    def column(self, k: int) -> str:
        """The name of a column, for the ledger and for keys of randomness."""
        return ", ".join(self.columns) if self.record else self.columns[k]

    def raw(self, row: int, k: int) -> Any:
        """The cell as the table has it; None when it is missing (a record: when all of it is)."""
        if not self.record:
            return self.table.cell(row, self.columns[k])
        cells = {c: self.table.cell(row, c) for c in self.columns}
        return cells if any(c is not None for c in cells.values()) else None

    def file(self, row: int, k: int) -> str:
        """The path that the cell holds, '' where it holds none; its beginning where it is longer than any path."""
        cell = None if self.record else self.raw(row, k)
        return cell[:LONGEST] if self.reader.files and isinstance(cell, str) else ""

    def opened(self, raw: Any) -> Any:
        """The cell as the reader takes it. Raises BadCell for a file that cannot be opened."""
        if not self.reader.files:
            return raw
        if isinstance(raw, dict) and self.record:
            return {c: self.opened(inner) for c, inner in raw.items()}
        return open_file(raw, self.table.root) if isinstance(raw, str) else raw

    def cells(self, rows: np.ndarray) -> Iterator[Any]:
        """The present cells of these rows, opened; what cannot be opened is passed over."""
        last: tuple[Any, Any] = (None, None)
        for row in rows.tolist():
            for k in range(self.ids.shape[1]):
                raw = self.raw(row, k)
                if raw is None:
                    continue
                try:
                    # rows about one picture stand side by side
                    last = last if isinstance(raw, str) and last[0] == raw else (raw, self.opened(raw))
                except BadCell:
                    continue
                yield last[1]

    def costs(self, rows: np.ndarray) -> np.ndarray:
        """The reader's cost of every row, 0 for what is missing or cannot be opened."""
        known: dict[str, int] = {}
        total = np.zeros(len(rows), np.int64)
        for i, row in enumerate(rows.tolist()):
            for k in range(self.ids.shape[1]):
                raw = self.raw(row, k)
                if isinstance(raw, str) and raw not in known:
                    known[raw] = self._cost(raw)
                total[i] += known[raw] if isinstance(raw, str) else self._cost(raw)
        return total

    def _cost(self, raw: Any) -> int:
        if raw is None:
            return 0
        path = isinstance(raw, str) and self.reader.files
        try:
            return self.reader.cost(path_of(raw, self.table.root) if path else raw)
        except (BadCell, OSError):
            return 0

    def packed(self, rows: np.ndarray) -> bool:
        """Whether all present cells of these rows are cached ready for use."""
        return isinstance(self._shelf, Packed) and not self.unread(rows)

    def unread(self, rows: np.ndarray) -> list[list[int]]:
        """[position in rows, k] of every cell that is neither missing nor cached."""
        return np.argwhere((self.slots[rows] < 0) & (self.ids[rows] != MISSING)).tolist()

    def read(self, row: int, k: int, memo: Memo) -> None:
        """Have the cell's sample in the cache or in `memo`. Raises BadCell, and remembers it."""
        if (row, k) in self.reasons:
            raise BadCell(self.reasons[row, k])
        raw = self.raw(row, k)
        if raw is None:
            self.ids[row, k] = MISSING
            return
        try:
            self._read(row, k, raw, memo)
        except BadCell as error:
            self.ids[row, k] = BAD
            self.reasons[row, k] = error.reason
            raise

    def _read(self, row: int, k: int, raw: Any, memo: Memo) -> None:
        named = self.reader.files and isinstance(raw, str)
        known = self._files.get(raw) if named else None
        if known is not None and self._at_hand(row, k, known, memo):
            return
        cell = self.opened(raw)
        found = digest(cell)
        if named:
            self._files[raw] = found
        if self._at_hand(row, k, found, memo):
            return
        sample = self._decode(cell)
        slot = self._keep(found, sample)
        self.ids[row, k], self.slots[row, k] = found, slot
        if slot < 0:
            memo[found] = sample

    def _at_hand(self, row: int, k: int, found: int, memo: Memo) -> bool:
        slot = -1 if self._shelf is None else self._shelf.slots.get(found, -1)
        self.ids[row, k], self.slots[row, k] = found, slot
        return slot >= 0 or found in memo

    def _keep(self, found: int, sample: Sample) -> int:
        if self.cache is None:
            return -1
        if self._shelf is None:
            self._shelf = self._choose_shelf(self.cache, sample)
            if found in self._shelf.slots:
                return self._shelf.slots[found]
        packed = isinstance(self._shelf, Packed)
        return self._shelf.put(found, self._finish(sample, None) if packed else sample)

    def _choose_shelf(self, cache: Cache, sample: Sample) -> Packed | Loose:
        """Finished samples where finishing never changes and they all fit into memory, else decoded ones."""
        fitted = derive(json.dumps(self.reader.field, sort_keys=True))
        key = (self.name, type(self.reader).__qualname__, id(self.reader), fitted)
        size = 0 if self.augments else sum(v.nbytes for v in self._finish(sample, None).values())
        if self.augments or size * self.ids.size > cache.left:
            return cache.shelf((*key, "decoded"), self.reader, None, self.ids.size)
        return cache.shelf((*key, "finished"), self.reader, self.ragged, self.ids.size)

    def gather(self, rows: np.ndarray, ids: np.ndarray, memo: Memo, keys: np.ndarray | None = None) -> Gathered:
        """The distinct cells of `ids` [B, K] (negative = missing), which `read` has seen; a blank one if there is none.

        With `keys` [B] every cell is augmented by itself, if the reader augments.
        """
        flat = ids.reshape(-1)
        present = np.flatnonzero(flat >= 0)
        index = np.full(flat.shape, -1, np.int64)
        if not len(present):
            blank = collate([self.reader.blank()], self.ragged)
            return Gathered(blank, index.reshape(ids.shape), np.zeros(1, np.int64))
        if keys is not None and self.augments:
            index[present] = np.arange(len(present))
        else:
            _, first, inverse = np.unique(flat[present], return_index=True, return_inverse=True)
            order = np.argsort(first)  # by first appearance
            rank = np.empty_like(order)
            rank[order] = np.arange(len(order))
            index[present] = rank[inverse]
            present = present[first[order]]
        slots = self.slots[rows].reshape(-1)[present]
        if isinstance(self._shelf, Packed) and bool((slots >= 0).all()):
            data = self._shelf.gather(slots)
        else:
            data = collate(self._finished(flat, present, slots, memo, keys), self.ragged)
        return Gathered(data, index.reshape(ids.shape), flat[present])

    def _finished(self, flat: np.ndarray, present: np.ndarray, slots: np.ndarray, memo: Memo,
                  keys: np.ndarray | None) -> list[Sample]:  # fmt: skip
        samples, width = [], self.ids.shape[1]
        for at, slot in zip(present.tolist(), slots.tolist(), strict=True):
            sample = memo[int(flat[at])] if slot < 0 or self._shelf is None else self._shelf.sample(slot)
            if slot < 0 or isinstance(self._shelf, Loose):
                row, k = divmod(at, width)
                own = keys is not None and self.augments
                rng = generator(int(keys[row]), self.name, self.column(k)) if keys is not None and own else None
                sample = self._finish(sample, rng)
            samples.append(sample)
        return samples


def _as_it_is(sample: Sample, rng: Rng | None) -> Sample:
    return sample
