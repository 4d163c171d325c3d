"""Arrays of items under one limit of memory: first in memory, beyond it in nameless files."""

from __future__ import annotations

import os
import tempfile
import weakref
from contextlib import suppress
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from polymodal.core.errors import UserError
from polymodal.data.spill import read_at


class Budget:
    """The memory that stores may take together, and the folder of their files (the system's temporary one when None).

    The disk is free again when the process ends, however it ends.
    """

    def __init__(self, limit_mb: int, folder: Path | None = None) -> None:
        self.left = limit_mb << 20
        self.folder = folder
        self._made_folder = False
        self._owner = os.getpid()

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
        """Take the folder away, if it was made for the files."""
        if self._made_folder and self.folder is not None:
            with suppress(OSError):
                self.folder.rmdir()


class Store:
    """Items of one shape and dtype, in the order they came: first in memory, later ones on disk."""

    def __init__(self, budget: Budget, shape: tuple[int, ...], dtype: np.dtype, expect: int) -> None:
        self.budget, self.shape, self.dtype = budget, shape, dtype
        self.size = prod(shape) * dtype.itemsize
        reserve = min(expect, budget.left // max(self.size, 1))  # memory that is not written to is not taken
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
        fit = len(items) if not self.size else min(len(items), self.budget.left // self.size)
        return fit if self.budget.claim(fit * self.size) else 0

    def _spill(self, data: bytes) -> None:
        try:
            if self.file is None:
                self.file = self.budget.open_file()
                weakref.finalize(self, self.file.close)
            self.file.seek(0, os.SEEK_END)
            rest = memoryview(data)
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            place = self.budget.folder or tempfile.gettempdir()
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
