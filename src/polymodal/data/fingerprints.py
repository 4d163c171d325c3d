"""Fingerprints of a part's cells, taken while they are read."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt64

from polymodal.core.fingerprints import takes
from polymodal.data.prints import Prints
from polymodal.data.source import UNKNOWN, Seen, Source


class Marks(NamedTuple):
    """The fingerprints of one input's present, good cells, and the row that each cell is in."""

    words: UInt64[np.ndarray, "n words"]
    rows: Int64[np.ndarray, " n"]


def watch(sources: dict[str, Source], kept: dict[str, Prints]) -> None:
    """From now on every cell that is decoded leaves its fingerprint in `kept`, where the reader gives them.

    Parts share `kept`: a cell that the cache holds for one is not decoded for the other.
    """
    for name, source in sources.items():
        if takes(source.reader):
            source.prints = kept.setdefault(name, Prints())


def marks_of(sources: dict[str, Source], rows: np.ndarray) -> dict[str, Marks]:
    """The fingerprints of these rows' cells in watched sources; what only another process has read is read again."""
    return {name: _marks(s, s.prints, rows) for name, s in sources.items() if s.prints is not None}


def _marks(source: Source, prints: Prints, rows: np.ndarray) -> Marks:
    source.read(rows[(source.ids[rows] == UNKNOWN).any(1)], Seen())
    ids = source.ids[rows]
    known, words = prints.of(ids.reshape(-1))
    return Marks(words, rows[known // ids.shape[1]])
