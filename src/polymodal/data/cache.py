"""Decoded samples, kept exactly: in memory up to a limit, beyond it in packed files on disk."""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from polymodal.core.contracts import Sample
from polymodal.core.errors import UserError
from polymodal.data.collate import MASK, pad
from polymodal.data.digests import Digests
from polymodal.data.spill import read_at


class Cache:
    """Shelves of samples under one limit of memory.

    What does not fit goes to nameless files in `folder` (the system's temporary folder when None): the disk is free
    again when the process ends, however it ends. Forked workers read what was cached before the fork and add nothing.
    """

    def __init__(self, limit_mb: int, folder: Path | None = None) -> None:
        self.left = limit_mb << 20
        self.folder = folder
        self._made_folder = False
        self._owner = os.getpid()
        self._shelves: dict[tuple, tuple[Any, Packed | Loose]] = {}
        self._shared: dict[tuple, Any] = {}

    def shared(self, key: tuple, make: Callable[[], Any]) -> Any:
        """What was made for this key before, or is made now: what the parts of one table know about its cells."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def shelf(self, key: tuple, holder: object, ragged: frozenset[str] | None, expect: int) -> Packed | Loose:
        """The shelf of this key, made when it is new.

        `ragged` says which arrays differ in length, None that samples may differ in any way (they are then gathered
        one by one). `holder` is kept alive as long as the shelf; `expect` is how many samples may come.
        """
        if key not in self._shelves:
            made = Loose(self) if ragged is None else Packed(self, ragged, expect)
            self._shelves[key] = holder, made
        return self._shelves[key][1]

    def claim(self, size: int) -> bool:
        """Take so many bytes of the memory that is left, if they are left."""
        fits = size <= self.left
        self.left -= size if fits else 0
        return fits

    @property
    def writable(self) -> bool:
        """Only the process that made the cache adds to it."""
        return os.getpid() == self._owner

    def open_file(self) -> IO[bytes]:
        if self.folder is not None and not self.folder.exists():
            self.folder.mkdir(parents=True)
            self._made_folder = True
        return tempfile.TemporaryFile(dir=self.folder, buffering=0)  # a fork shall share no buffer

    def close(self) -> None:
        """Let go of all samples."""
        for _, shelf in self._shelves.values():
            shelf.close()
        self._shelves, self._shared = {}, {}
        if self._made_folder and self.folder is not None:
            with suppress(OSError):
                self.folder.rmdir()


class Packed:
    """Samples of one form: equal shapes, but for the first axis of `ragged` arrays. A batch is one gather per array."""

    def __init__(self, cache: Cache, ragged: frozenset[str], expect: int) -> None:
        self.cache, self.ragged, self.expect = cache, ragged, expect
        self.slots = Digests()
        self._stores: dict[str, _Store] = {}
        self._edges: dict[str, array] = {}  # where each sample's items begin; one more for the end of the last

    def put(self, digest: int, sample: Sample) -> int:
        """Keep the sample of this digest; its slot, -1 when nothing can be added in this process."""
        return self.put_all([digest], [sample])[0]

    def put_all(self, digests: Sequence[int], samples: Sequence[Sample]) -> list[int]:
        """Keep samples of distinct, new digests; their slots."""
        if not self.cache.writable or not samples:
            return [-1] * len(samples)
        if not self._stores:
            self._open(samples[0])
        if any(sample.keys() != self._stores.keys() for sample in samples):
            names = sorted({name for sample in samples for name in sample})
            raise ValueError(f"samples differ in names: {names} and {sorted(self._stores)}")
        for name, store in self._stores.items():
            values = [sample[name] for sample in samples]
            if name in self.ragged:
                _same_form(name, values, store, 1)
                edges = self._edges[name]
                edges.extend((edges[-1] + np.cumsum([len(v) for v in values])).tolist())
                store.append(np.concatenate(values))
            else:
                _same_form(name, values, store, 0)
                store.append(np.stack(values))
        first = len(self.slots)
        for slot, digest in enumerate(digests, first):
            self.slots.add(digest, slot)
        return list(range(first, first + len(samples)))

    def _open(self, sample: Sample) -> None:
        for name, value in sample.items():
            ragged = name in self.ragged
            shape, each = (value.shape[1:], 2 * len(value)) if ragged else (value.shape, 1)
            self._stores[name] = _Store(self.cache, shape, value.dtype, self.expect * each)
            if ragged:
                self._edges[name] = array("q", [0])

    def gather(self, slots: np.ndarray) -> dict[str, np.ndarray]:
        """The samples at `slots` as `collate` stacks them."""
        found: dict[str, np.ndarray] = {}
        for name, store in self._stores.items():
            if name not in self.ragged:
                found[name] = store.take(slots)
                continue
            edges = np.frombuffer(self._edges[name], np.int64)
            starts, lengths = edges[slots], edges[slots + 1] - edges[slots]
            ends = np.cumsum(lengths)
            pieces = np.repeat(starts - ends + lengths, lengths) + np.arange(int(ends[-1]))
            found[name], found[name + MASK] = pad(store.take(pieces), ends - lengths, lengths)
        return found

    def sample(self, slot: int) -> Sample:
        found = {}
        for name, store in self._stores.items():
            if name in self.ragged:
                found[name] = store.slice(self._edges[name][slot], self._edges[name][slot + 1])
            else:
                found[name] = store.slice(slot, slot + 1)[0]
        return found

    def close(self) -> None:
        for store in self._stores.values():
            store.close()


def _same_form(name: str, values: Sequence[np.ndarray], store: _Store, ragged: int) -> None:
    for value in values:
        if value.shape[ragged:] != store.shape or value.dtype != store.dtype:
            found, expected = f"{value.dtype}{value.shape[ragged:]}", f"{store.dtype}{store.shape}"
            raise ValueError(f"samples differ in the form of {name!r}: {found}, {expected}")


class Loose:
    """Samples of any form, as bytes beside their dtypes and shapes; taken out one by one."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.slots = Digests()
        self._store = _Store(cache, (), np.dtype(np.uint8), 0)
        self._forms: dict[tuple[tuple[str, np.dtype, tuple[int, ...]], ...], int] = {}
        self._known: list[tuple] = []  # the forms by number
        self._form, self._edges = array("q"), array("q", [0])  # of each sample, and where its bytes begin

    def put(self, digest: int, sample: Sample) -> int:
        if not self.cache.writable:
            return -1
        form = tuple((name, value.dtype, value.shape) for name, value in sample.items())
        if form not in self._forms:
            self._forms[form] = len(self._known)
            self._known.append(form)
        flat = [np.ascontiguousarray(value).reshape(-1).view(np.uint8) for value in sample.values()]
        self._store.append(np.concatenate([*flat, np.empty(0, np.uint8)]))
        self._form.append(self._forms[form])
        self._edges.append(self._edges[-1] + sum(map(len, flat)))
        slot = len(self.slots)
        self.slots.add(digest, slot)
        return slot

    def put_all(self, digests: Sequence[int], samples: Sequence[Sample]) -> list[int]:
        return [self.put(digest, sample) for digest, sample in zip(digests, samples, strict=True)]

    def sample(self, slot: int) -> Sample:
        found: Sample = {}
        flat = self._store.slice(self._edges[slot], self._edges[slot + 1]).tobytes()
        start = 0
        for name, dtype, shape in self._known[self._form[slot]]:
            found[name] = np.frombuffer(flat, dtype, prod(shape), start).reshape(shape)
            start += prod(shape) * dtype.itemsize
        return found

    def close(self) -> None:
        self._store.close()


class _Store:
    """Items of one shape and dtype, in the order they came: first in memory, later ones on disk."""

    def __init__(self, cache: Cache, shape: tuple[int, ...], dtype: np.dtype, expect: int) -> None:
        self.cache, self.shape, self.dtype = cache, shape, dtype
        self.size = prod(shape) * dtype.itemsize
        reserve = min(expect, cache.left // max(self.size, 1))  # memory that is not written to is not taken
        self.memory = np.empty((reserve, *shape), dtype)
        self.held = self.spilled = 0
        self.file: IO[bytes] | None = None

    def append(self, items: np.ndarray) -> None:
        """Add items [k, ...]: as many as there is room for in memory, and all the others on disk."""
        fit = self._room(items)
        if fit:
            self._grow(self.held + fit)
            self.memory[self.held : self.held + fit] = items[:fit]
            self.held += fit
        if fit < len(items):
            self._spill(np.ascontiguousarray(items[fit:]).tobytes())
            self.spilled += len(items) - fit

    def _room(self, items: np.ndarray) -> int:
        """How many of the items go to memory; what is behind others on disk goes there too."""
        if self.file is not None:
            return 0
        fit = len(items) if not self.size else min(len(items), self.cache.left // self.size)
        return fit if self.cache.claim(fit * self.size) else 0

    def _spill(self, data: bytes) -> None:
        try:
            if self.file is None:
                self.file = self.cache.open_file()
                weakref.finalize(self, self.file.close)
            self.file.seek(0, os.SEEK_END)
            rest = memoryview(data)
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            place = self.cache.folder or tempfile.gettempdir()
            raise UserError("data.cache_mb", f"decoded cells cannot be kept in {place}: {error.strerror}",
                            advice="more memory (data.cache_mb), more space there, or cache: false for an input"
                            ) from None  # fmt: skip

    def _grow(self, count: int) -> None:
        if count > len(self.memory):
            larger = np.empty((max(count, 2 * len(self.memory), 64), *self.shape), self.dtype)
            larger[: self.held] = self.memory[: self.held]
            self.memory = larger

    def take(self, at: np.ndarray) -> np.ndarray:
        if not self.spilled:
            return self.memory[at]
        found = np.empty((len(at), *self.shape), self.dtype)
        here = at < self.held
        found[here] = self.memory[at[here]]
        found[~here] = self._read(at[~here] - self.held)
        return found

    def _read(self, at: np.ndarray) -> np.ndarray:
        """Items of the file, those that follow each other in one go."""
        found = np.empty((len(at), *self.shape), self.dtype)
        cuts = np.flatnonzero(np.diff(at) != 1) + 1
        edges = [0, *cuts.tolist(), len(at)]
        for start, stop in pairwise(edges):
            found[start:stop] = self._run(int(at[start]), stop - start) if stop > start else 0
        return found

    def _run(self, start: int, count: int) -> np.ndarray:
        assert self.file is not None
        data = read_at(self.file, start * self.size, count * self.size)
        return np.frombuffer(data, self.dtype).reshape(-1, *self.shape)

    def slice(self, start: int, stop: int) -> np.ndarray:
        if stop <= self.held or not self.spilled:
            return self.memory[start:stop]
        return self.take(np.arange(start, stop))

    def close(self) -> None:
        self.memory = self.memory[:0].copy()
        if self.file is not None:
            self.file.close()
