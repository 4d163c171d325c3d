"""Columns longer than memory should hold: Arrow arrays in blocks of a nameless file, read back one block at a time.

Blocks are read, not mapped: what has been read does not stay resident, and forked processes share the file without
sharing a position in it.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa

from polymodal.core.errors import UserError
from polymodal.data.columns import ArrowColumn, Column, simplify

IN_MEMORY = 32 << 20  # bytes of a table's columns that are held; a column that does not fit goes to disk
BLOCK = 1 << 17  # bytes of a block, or one cell where it is larger


def read_at(file: IO[bytes], start: int, size: int) -> bytes:
    """These bytes of an unbuffered file, without moving any position where the system can."""
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), size, start)
    file.seek(start)
    return file.read(size)


class Spill:
    """The room in memory and the file that a table's columns share.

    The file has no name: the disk is free again when the process ends, however it ends.
    """

    def __init__(self) -> None:
        self.room = IN_MEMORY
        self._file: IO[bytes] | None = None
        self._owner, self._end = os.getpid(), 0

    def own(self) -> Spill:
        """Where this process may add: a fork reads what was there before it, and adds to a file of its own."""
        return self if self._owner == os.getpid() else Spill()

    def append(self, data: pa.Buffer) -> int:
        """Where the data stands now. Raises UserError where there is no space."""
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  open as long as its columns
                weakref.finalize(self, self._file.close)
            self._file.seek(self._end)
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise UserError(tempfile.gettempdir(), f"a table's columns cannot be kept here: {error.strerror}",
                            advice="more space, or TMPDIR=another folder in the environment") from None  # fmt: skip
        start = self._end
        self._end += data.size
        return start

    def read(self, start: int, size: int) -> bytes:
        assert self._file is not None
        return read_at(self._file, start, size)


class ColumnPile:
    """A column as it comes, array by array of one type; `done` gives what came, from memory or from disk."""

    def __init__(self, spill: Spill) -> None:
        self._spill, self._size = spill, 0
        self._kept: list[pa.Array] = []
        self._blocks: BlockColumn | None = None

    def append(self, cells: pa.Array) -> None:
        for part in simplify(pa.chunked_array([cells])).chunks:
            self._kept.append(part)
            self._size += part.nbytes
            self._spill.room -= part.nbytes
        if self._blocks is not None or self._spill.room < 0:
            self._blocks = BlockColumn(self._spill.own()) if self._blocks is None else self._blocks
            for part in self._kept:
                self._blocks.append(part)
            self._spill.room += self._size
            self._kept, self._size = [], 0

    def done(self) -> Column:
        if self._blocks is not None:
            return self._blocks
        return ArrowColumn(pa.chunked_array(self._kept, self._kept[0].type if self._kept else pa.null()))


class BlockColumn:
    """A column in blocks on disk, of which the last one that was asked for is held."""

    def __init__(self, spill: Spill) -> None:
        self._spill, self._rows = spill, 0
        self._firsts, self._places, self._sizes = array("q"), array("q"), array("q")
        self._schema: pa.Schema | None = None
        self._last: tuple[int, pa.Array] = (-1, pa.nulls(0))

    def append(self, cells: pa.Array) -> None:
        """Add the cells, cut into blocks."""
        self._schema = self._schema or pa.schema([("x", cells.type)])
        step = max(1, len(cells) * BLOCK // max(1, cells.nbytes))
        for start in range(0, len(cells), step):
            data = pa.record_batch([cells.slice(start, step)], schema=self._schema).serialize()
            self._places.append(self._spill.append(data))
            self._sizes.append(data.size)
            self._firsts.append(self._rows + start)
        self._rows += len(cells)

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: int) -> Any:
        row = range(self._rows)[row]
        at = bisect_right(self._firsts, row) - 1
        return self._block(at)[row - self._firsts[at]].as_py()

    def __iter__(self) -> Iterator[Any]:
        return (cell for at in range(len(self._firsts)) for cell in self._block(at).to_pylist())

    def pick(self, rows: np.ndarray) -> list[Any]:
        """The cells at these rows, which must ascend: every block is read once."""
        if not len(rows):
            return []
        firsts = np.frombuffer(self._firsts, np.int64)
        blocks = np.searchsorted(firsts, rows, "right") - 1
        cuts = np.flatnonzero(np.diff(blocks)) + 1
        found: list[Any] = []
        for at, here in zip(blocks[np.r_[0, cuts]].tolist(), np.split(rows, cuts), strict=True):
            found += self._block(at).take(pa.array(here - firsts[at])).to_pylist()
        return found

    def _block(self, at: int) -> pa.Array:
        number, cells = self._last
        if number != at:
            data = self._spill.read(self._places[at], self._sizes[at])
            cells = pa.ipc.read_record_batch(pa.py_buffer(data), self._schema).column(0)
            self._last = at, cells
        return cells
