"""Small pictures of the cells that hold pictures or clips, to be kept in an index and shown without their files."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np

from polymodal.assemble import Assembly
from polymodal.core.errors import BadCell
from polymodal.data.raw import RawCells
from polymodal.data.tables import Table
from polymodal.modalities.image.pictures import thumbnail
from polymodal.modalities.image.read import ImageReader

SIDE = 256  # pixels of the longer side
REMEMBERED = 64  # of several rows with one picture


def pictured(assembly: Assembly, table: Table) -> dict[str, str]:
    """The table's columns of pictures and clips, with the input that each is of."""
    shown = {name for name, one in assembly.spec.inputs.items() if one.reader.type in ("image", "video")}
    return {column: name for name in assembly.spec.inputs if name in shown
            for column in assembly.spec.inputs[name].columns if column in table.columns}  # fmt: skip


class Previews:
    """The small pictures of one column of a table."""

    def __init__(self, assembly: Assembly, table: Table, column: str, name: str) -> None:
        self.reader: Any = assembly.readers[name]
        self.cells = RawCells(table, name, self.reader, (column,), target=False)
        self._last: dict[str, bytes | None] = {}

    def of(self, rows: np.ndarray) -> list[bytes | None]:
        """JPEGs of at most SIDE pixels a side; None for what is missing or bad."""
        return list(self._each(rows))

    def _each(self, rows: np.ndarray) -> Iterator[bytes | None]:
        for raw in self.cells.raws(rows, 0):
            if not isinstance(raw, str):
                yield self._made(raw)
                continue
            if raw not in self._last:
                if len(self._last) >= REMEMBERED:
                    self._last.clear()
                self._last[raw] = self._made(raw)
            yield self._last[raw]

    def _made(self, raw: Any) -> bytes | None:
        try:
            return None if raw is None else self._small(self.cells.opened(raw))
        except BadCell:
            return None

    def _small(self, cell: Any) -> bytes | None:
        if isinstance(self.reader, ImageReader):
            return thumbnail(cell, SIDE, self.reader.max_pixels, self.reader.span)
        shown = self.reader.show(cell)
        return base64.b64decode(shown["data"]) if shown["kind"] == "image" else None
