"""Decoded samples, kept exactly: in memory up to a limit, beyond it in packed, memory-mapped files on disk."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from array import array
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from polymodal.core.contracts import Sample
from polymodal.core.errors import UserError
from polymodal.data.collate import MASK, pad


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
        self._shelves = {}
        if self._made_folder and self.folder is not None:
            with suppress(OSError):
                self.folder.rmdir()


class Packed:
    """Samples of one form: equal shapes, but for the first axis of `ragged` arrays. A batch is one gather per array."""

    def __init__(self, cache: Cache, ragged: frozenset[str], expect: int) -> None:
        self.cache, self.ragged, self.expect = cache, ragged, expect
        self.slots: dict[int, int] = {}
        self._stores: dict[str, _Store] = {}
        self._starts: dict[str, array] = {}
        self._lengths: dict[str, array] = {}

    def put(self, digest: int, sample: Sample) -> int:
        """Keep the sample of this digest; its slot, -1 when nothing can be added in this process."""
        if not self.cache.writable:
            return -1
        if not self._stores:
            self._open(sample)
        if sample.keys() != self._stores.keys():
            raise ValueError(f"samples differ in names: {sorted(sample)} and {sorted(self._stores)}")
        for name, value in sample.items():
            items = value if name in self.ragged else value[None]
            start = self._stores[name].append(items, name)
            if name in self.ragged:
                self._starts[name].append(start)
                self._lengths[name].append(len(value))
        slot = self.slots[digest] = len(self.slots)
        return slot

    def _open(self, sample: Sample) -> None:
        for name, value in sample.items():
            ragged = name in self.ragged
            shape = value.shape[1:] if ragged else value.shape
            self._stores[name] = _Store(self.cache, shape, value.dtype, 0 if ragged else self.expect)
            if ragged:
                self._starts[name], self._lengths[name] = array("q"), array("q")

    def gather(self, slots: np.ndarray) -> dict[str, np.ndarray]:
        """The samples at `slots` as `collate` stacks them."""
        found: dict[str, np.ndarray] = {}
        for name, store in self._stores.items():
            if name not in self.ragged:
                found[name] = store.take(slots)
                continue
            starts = np.frombuffer(self._starts[name], np.int64)[slots]
            lengths = np.frombuffer(self._lengths[name], np.int64)[slots]
            ends = np.cumsum(lengths)
            pieces = np.repeat(starts - ends + lengths, lengths) + np.arange(int(ends[-1]))
            found[name], found[name + MASK] = pad(store.take(pieces), ends - lengths, lengths)
        return found

    def sample(self, slot: int) -> Sample:
        found = {}
        for name, store in self._stores.items():
            if name in self.ragged:
                start = self._starts[name][slot]
                found[name] = store.slice(start, start + self._lengths[name][slot])
            else:
                found[name] = store.slice(slot, slot + 1)[0]
        return found

    def close(self) -> None:
        for store in self._stores.values():
            store.close()


class Loose:
    """Samples of any form, as bytes beside their dtypes and shapes; taken out one by one."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.slots: dict[int, int] = {}
        self._store = _Store(cache, (), np.dtype(np.uint8), 0)
        self._forms: list[list[tuple[str, np.dtype, tuple[int, ...], int]]] = []

    def put(self, digest: int, sample: Sample) -> int:
        if not self.cache.writable:
            return -1
        form = []
        for name, value in sample.items():
            flat = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
            form.append((name, value.dtype, value.shape, self._store.append(flat, name)))
        self._forms.append(form)
        slot = self.slots[digest] = len(self.slots)
        return slot

    def sample(self, slot: int) -> Sample:
        found = {}
        for name, dtype, shape, start in self._forms[slot]:
            flat = self._store.slice(start, start + prod(shape) * dtype.itemsize)
            found[name] = np.frombuffer(flat.tobytes(), dtype).reshape(shape)
        return found

    def close(self) -> None:
        self._store.close()


class _Store:
    """Items of one shape and dtype, in the order they came: first in memory, later ones on disk."""

    def __init__(self, cache: Cache, shape: tuple[int, ...], dtype: np.dtype, expect: int) -> None:
        self.cache, self.shape, self.dtype = cache, shape, dtype
        self.item = max(prod(shape) * dtype.itemsize, 1)
        reserve = min(expect, cache.left // self.item)  # memory that is not written to is not taken
        self.memory = np.empty((reserve, *shape), dtype)
        self.held = self.spilled = 0
        self.file: IO[bytes] | None = None
        self._disk = np.empty((0, *shape), dtype)

    def append(self, items: np.ndarray, name: str) -> int:
        """Add items [k, ...]; the number of the first."""
        if items.shape[1:] != self.shape or items.dtype != self.dtype:
            expected = f"{self.dtype}{self.shape}"
            raise ValueError(f"samples differ in the form of {name!r}: {items.dtype}{items.shape[1:]}, {expected}")
        start = self.held + self.spilled
        if self.file is None and self.cache.claim(items.nbytes):
            self._grow(self.held + len(items))
            self.memory[self.held : self.held + len(items)] = items
            self.held += len(items)
        else:
            self._spill(np.ascontiguousarray(items).tobytes())
            self.spilled += len(items)
        return start

    def _spill(self, data: bytes) -> None:
        try:
            if self.file is None:
                self.file = self.cache.open_file()
                weakref.finalize(self, self.file.close)
            self.file.write(data)
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
        found[~here] = self._mapped()[at[~here] - self.held]
        return found

    def slice(self, start: int, stop: int) -> np.ndarray:
        if start < self.held or not self.spilled:
            return self.memory[start:stop]
        return self._mapped()[start - self.held : stop - self.held]

    def _mapped(self) -> np.ndarray:
        if len(self._disk) != self.spilled and self.file is not None:
            flat = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ)
            self._disk = np.frombuffer(flat, self.dtype).reshape(-1, *self.shape)
        return self._disk

    def close(self) -> None:
        self.memory, self._disk = self.memory[:0].copy(), self._disk[:0].copy()
        if self.file is not None:
            self.file.close()
