"""Vectors in a file, each at the place of its row's number: to be compared with exactly, without reading the table.

The table of the index holds the vectors too, and is the one that counts: a file that is lost is made again from it.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float

from polymodal.core.errors import RunError, saving
from polymodal.serve.index.state import KEPT, NEAR
from polymodal.work.folder import sync_folder

Vectors = Float[np.ndarray, "n E"]


class Flat:
    """The file of one space of an index: float32, [serial, E]."""

    def __init__(self, folder: Path, space: int, generation: int, width: int) -> None:
        self.path, self.width = folder / NEAR / f"vectors-{space}-{generation}.f32", width

    def holds(self, serial: int) -> bool:
        """Whether so many rows are there."""
        return not serial or (self.path.is_file() and self.path.stat().st_size >= serial * self.width * 4)

    def open(self, serial: int) -> Vectors:
        """The first `serial` rows, read from the disk as they are needed."""
        if not serial:
            return np.zeros((0, self.width), np.float32)
        return np.asarray(np.memmap(self.path, np.float32, "r", shape=(serial, self.width)))

    def write(self, at: int, vectors: Vectors) -> None:
        """Rows from number `at` on, made to last. What stood there did not count."""
        if not len(vectors):
            return
        with saving(self.path, RunError, KEPT):
            fresh = not self.path.exists()
            if fresh:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                data, place = memoryview(np.ascontiguousarray(vectors, np.float32).tobytes()), at * self.width * 4
                while len(data):
                    done = os.pwrite(handle, data, place)
                    data, place = data[done:], place + done
                os.fsync(handle)
            finally:
                os.close(handle)
            if fresh:
                sync_folder(self.path.parent)
