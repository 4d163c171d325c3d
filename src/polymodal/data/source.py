"""One input or target over a table: what each cell is, what it is read as, and where that is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from polymodal.core.contracts import Sample
from polymodal.core.errors import BadCell
from polymodal.core.seeds import Rng, derive, generator
from polymodal.data.cache import Cache, Loose, Packed
from polymodal.data.cells import digest
from polymodal.data.collate import collate
from polymodal.data.digests import Digests
from polymodal.data.prints import Prints
from polymodal.data.raw import RawCells
from polymodal.data.tables import Table

MISSING, UNKNOWN, BAD = -1, -2, -3
REMEMBERED = 1 << 16  # samples, and reasons of bad cells
AT_ONCE = 256  # cells that are read together
FILES_AT_ONCE = 16  # files that are open together
Memo = dict[int, Sample]  # digest -> sample as decoded, for what no cache holds
Bad = tuple[int, int, str]  # row, column, reason


class Seen(Memo):
    """A memo that remembers which samples there were lately, but not the samples: for reading without using."""

    def __setitem__(self, digest: int, sample: Sample) -> None:
        if len(self) >= REMEMBERED:
            self.clear()  # what comes once more is decoded once more
        super().__setitem__(digest, {})


class Gathered(NamedTuple):
    """As `core.streams.Cells`, in numpy."""

    data: dict[str, np.ndarray]
    index: np.ndarray  # type: ignore[assignment]  # [B, K]
    id: np.ndarray  # [N]


class Source(RawCells):
    """Cells as their reader reads them: what each is, [rows, K], and where its sample is kept."""

    def __init__(self, table: Table, name: str, reader: Any, columns: tuple[str, ...], *, target: bool,
                 cache: Cache | None) -> None:  # fmt: skip
        super().__init__(table, name, reader, columns, target=target)
        self.cache = cache
        self.ragged: frozenset[str] = frozenset() if target else reader.ragged
        self.augments: bool = not target and reader.augments
        self._decode: Callable[[object], Sample] = reader if target else reader.decode
        self._decode_all = None if target else getattr(reader, "decode_all", None)
        self._finish: Callable[[Sample, Rng | None], Sample] = _as_it_is if target else reader.finish
        self.reasons: dict[tuple[int, int], str] = {}
        self.prints: Prints | None = None  # fingerprints, where they are wanted
        self._files = Digests()  # of a path -> of its file, so that a file that many rows name is read once
        self._shelf: Packed | Loose | None = None

    @cached_property
    def ids(self) -> np.ndarray:
        """[rows, K]: the digest of each cell, or MISSING, UNKNOWN (not read yet), BAD."""
        return np.full((len(self.table), self.width), UNKNOWN, np.int64)

    @cached_property
    def slots(self) -> np.ndarray:
        """[rows, K]: the place of each cell in the cache, -1 where it has none."""
        none = np.full((1, 1), -1, np.int32)
        shape = len(self.table), self.width
        return np.broadcast_to(none, shape) if self.cache is None else np.broadcast_to(none, shape).copy()

    def packed(self, rows: np.ndarray) -> bool:
        """Whether all present cells of these rows are cached ready for use."""
        return isinstance(self._shelf, Packed) and not self._unread(rows).any()

    def _unread(self, rows: np.ndarray) -> np.ndarray:
        """[n, K]: which cells are neither missing nor cached."""
        return (self.slots[rows] < 0) & (self.ids[rows] != MISSING)

    def read(self, rows: np.ndarray, memo: Memo) -> list[Bad]:
        """Have every cell of these rows in the cache or in `memo`; those that are bad, which is remembered of them."""
        bad: list[Bad] = []
        step = FILES_AT_ONCE if self.reader.files else AT_ONCE
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            for k, todo in enumerate(self._unread(some).T):
                bad += self._read(np.unique(some[todo]), k, memo) if todo.any() else []
        return sorted(bad)

    def _read(self, rows: np.ndarray, k: int, memo: Memo) -> list[Bad]:
        """One column of some rows: what each cell is, then the decoding of what is new, then where it is."""
        found = np.full(len(rows), MISSING, np.int64)
        opened: dict[int, Any] = {}
        reasons: dict[int, str] = {}  # by position
        for at, (row, raw) in enumerate(zip(rows.tolist(), self.raws(rows, k), strict=True)):
            try:
                if (row, k) in self.reasons:
                    raise BadCell(self.reasons[row, k])
                if raw is not None:
                    found[at] = self._identify(raw, opened, memo)
            except BadCell as error:
                found[at], reasons[at] = BAD, error.reason
        refused = self._decode_new(opened, memo)
        for at in np.flatnonzero(np.isin(found, list(refused))).tolist() if refused else []:
            reasons[at], found[at] = refused[int(found[at])], BAD
        self.ids[rows, k] = found
        if self._shelf is not None:
            self.slots[rows, k] = self._places(found)
        if len(self.reasons) < REMEMBERED:  # of what is forgotten the reason is found once more
            self.reasons |= {(int(rows[at]), k): reason for at, reason in reasons.items()}
        return [(int(rows[at]), k, reason) for at, reason in reasons.items()]

    def _identify(self, raw: Any, opened: dict[int, Any], memo: Memo) -> int:
        """The digest of a cell; in `opened` it is what the reader takes, unless it was read before. Raises BadCell."""
        stands = self.items is not None or (self.reader.files and isinstance(raw, str))  # for what is read elsewhere
        named = digest(raw) if stands else None
        known = MISSING if named is None else self._files.get(named, MISSING)
        if known != MISSING and (known in opened or known in memo or self._places(np.array([known]))[0] >= 0):
            return known
        cell = self.opened(raw)
        found = digest(cell)
        if named is not None and known == MISSING:
            self._files.add(named, found)
        if found not in memo:
            opened.setdefault(found, cell)
        return found

    def _places(self, digests: np.ndarray) -> np.ndarray:
        """The slots of digests, -1 where they have none."""
        return np.full(len(digests), -1, np.int64) if self._shelf is None else self._shelf.slots.find(digests)

    def _new(self, digests: Iterable[int]) -> list[int]:
        """Those that have no slot yet."""
        listed = list(digests)
        places = self._places(np.array(listed, np.int64)).tolist()
        return [d for d, slot in zip(listed, places, strict=True) if slot < 0]

    def _decode_new(self, opened: dict[int, Any], memo: Memo) -> dict[int, str]:
        """Decode and keep what was opened and is in no cache yet; the reasons of what is refused, by digest."""
        new = self._new(opened)
        read = self._decode_all or self._one_by_one
        samples, refused = {}, {}
        for key, sample in zip(new, read([opened[d] for d in new]), strict=True):
            if isinstance(sample, BadCell):
                refused[key] = sample.reason
                continue
            samples[key] = sample
        if self.prints is not None:
            self.prints.take(self.reader, opened, samples)
        if not self._keep(samples):
            for key, sample in samples.items():
                memo[key] = sample
        return refused

    def _one_by_one(self, cells: list[Any]) -> Iterator[Sample | BadCell]:
        for cell in cells:
            try:
                yield self._decode(cell)
            except BadCell as error:
                yield error

    def _keep(self, samples: dict[int, Sample]) -> bool:
        """Put new samples into the cache; whether they are there."""
        if self.cache is None or not self.cache.writable or not samples:
            return False
        if self._shelf is None:
            self._shelf = self._choose_shelf(self.cache)
            samples = {d: samples[d] for d in self._new(samples)}  # another table's rows may have brought them
        packed = isinstance(self._shelf, Packed)
        self._shelf.put_all(list(samples), [self._finish(s, None) if packed else s for s in samples.values()])
        return True

    def _choose_shelf(self, cache: Cache) -> Packed | Loose:
        """Finished samples where finishing never changes, else decoded ones."""
        fitted = derive(json.dumps(self.reader.field, sort_keys=True))
        key = (self.name, type(self.reader).__qualname__, id(self.reader), fitted)
        if self.augments:
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
