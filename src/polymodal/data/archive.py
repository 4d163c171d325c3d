"""Array files whose items are cells: the table then holds the number of each row's item, from 0."""

from __future__ import annotations

import re
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from polymodal.core.contracts import Archive
from polymodal.core.errors import BadCell, TableError, shorten
from polymodal.data import arrays
from polymodal.data.cells import LARGEST, path_of

NUMBER = re.compile(r"\s*([0-9]{1,18})(?:\.0*)?\s*")  # pandas writes whole numbers beside missing ones as 3.0


class _Opened:
    """An array and where its items begin; one more place for the end of the last. None: an item is an entry."""

    def __init__(self, array: np.ndarray, edges: np.ndarray | None) -> None:
        self.array, self.edges = array, edges


_OPEN: weakref.WeakValueDictionary[_Opening, _Opened] = weakref.WeakValueDictionary()  # tables share what they read


class _Opening(NamedTuple):
    path: Path
    key: str | None
    offsets: str | None
    changed: int
    size: int


class Items:
    """The items of an archive beside the table in the folder `root`; opened when the first one is asked for.

    What an .npz file holds compressed is unpacked once and held; all else is memory-mapped. Copies in other processes
    (forked or pickled) open it anew or share the mapping. Raises TableError for a file that cannot be used.
    """

    def __init__(self, archive: Archive, root: Path | None) -> None:
        self.archive, self.path = archive, path_of(archive.path, root)
        self._kept: _Opened | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": None}

    def __len__(self) -> int:
        opened = self._opened()
        return len(opened.array) if opened.edges is None else len(opened.edges) - 1

    def __getitem__(self, cell: object) -> np.ndarray:
        """The item that a cell numbers, a contiguous copy in the machine's byte order. Raises BadCell."""
        item = self.view(cell)
        if not item.size:
            raise BadCell(f"item {shorten(cell, 30)} is empty")
        if item.nbytes > LARGEST:
            raise BadCell(f"item {shorten(cell, 30)} is larger than {LARGEST >> 20} MB")
        return np.array(item, item.dtype.newbyteorder("="), order="C")

    def view(self, cell: object) -> np.ndarray:
        """The item where it lies, not read yet. Raises BadCell for a cell that is no number of one."""
        at, opened = number_of(cell), self._opened()
        if at >= len(self):
            raise BadCell(f"no item {at}: {self.path.name} has {len(self)}, counted from 0")
        if opened.edges is None:
            return opened.array[at]
        return opened.array[int(opened.edges[at]) : int(opened.edges[at + 1])]

    def _opened(self) -> _Opened:
        if self._kept is None:
            found = arrays.regular_file(self.path)
            named = self.path.absolute(), self.archive.key, self.archive.offsets
            opening = _Opening(*named, found.st_mtime_ns, found.st_size)
            kept = _OPEN.get(opening)
            if kept is None:
                kept = _OPEN[opening] = _open(self.path, self.archive)
            self._kept = kept
        return self._kept


def number_of(cell: object) -> int:
    """The number of an item that a cell holds: a whole number, or the text of one. Raises BadCell."""
    whole = int(cell) if isinstance(cell, float) and cell.is_integer() else cell
    if isinstance(whole, str):
        found = NUMBER.fullmatch(whole)
        negative = re.fullmatch(r"\s*-[0-9]+\s*", whole) is not None
        whole = int(found[1]) if found else -1 if negative else None
    if not isinstance(whole, int) or isinstance(whole, bool):
        raise BadCell(f"no number of an item: {shorten(cell, 60)}")
    if whole < 0:
        raise BadCell(f"a negative number: {shorten(cell, 60)}; items are counted from 0")
    return whole


def _open(path: Path, archive: Archive) -> _Opened:
    array = arrays.open_array(path, archive.key, besides=archive.offsets)
    if archive.offsets is None:
        if array.ndim < 2:
            raise TableError(str(path), "has one axis: its items would be single numbers", given=f"shape {array.shape}",
                             advice="an array with the items first, or offsets")  # fmt: skip
        return _Opened(array, None)
    edges = np.array(arrays.open_array(path, archive.offsets))
    where = f"{path}: {archive.offsets}"
    if edges.ndim != 1 or edges.dtype.kind not in "iu" or len(edges) < 2:
        raise TableError(where, "offsets must be whole numbers, one more than there are items",
                         given=f"{edges.dtype} of shape {edges.shape}")  # fmt: skip
    edges = edges.astype(np.int64)
    falls = np.flatnonzero(np.diff(edges) < 0)
    if len(falls):
        at = int(falls[0])
        raise TableError(where, f"offsets must rise; number {at + 1} is less than the one before it",
                         given=edges[at : at + 2].tolist())  # fmt: skip
    if edges[0] < 0 or edges[-1] > len(array):
        raise TableError(where, f"offsets lie outside of the array, which has {len(array)} entries",
                         given=[int(edges[0]), int(edges[-1])])  # fmt: skip
    return _Opened(array, edges)
