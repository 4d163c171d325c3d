"""Whether the cells of a column are arrays over time: channels, or pictures. Said only where it is certain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from polymodal.core import npy
from polymodal.data.cells import path_of
from polymodal.data.tables import Table

OPENED = 5  # files whose headers are looked at
LOOKED_AT = 200  # arrays and lists
CHANNELS = 64  # columns of an array up to which its rows can be steps
SHORTEST = 8  # steps, on average
COLOURS = 4

Found = Literal["series", "clip", ""]


def over_time(table: Table, cells: Sequence[Any]) -> Found:
    """`series` or `clip` for paths of .npy files, by the headers of the first ones; else nothing.

    `series` too for arrays and lists of numbers, some with fractions, that agree in everything but their length.
    """
    if not cells:
        return ""
    if isinstance(cells[0], str):
        return _in_files(table, cells)
    if not isinstance(cells[0], list | np.ndarray):
        return ""
    return "series" if _vary_in_length(cells) else ""


def _in_files(table: Table, cells: Sequence[Any]) -> Found:
    if not all(isinstance(c, str) and c.lower().endswith(".npy") for c in cells):
        return ""
    found = {_of_shape(table, cell) for cell in cells[:OPENED]}
    return found.pop() if len(found) == 1 else ""


def _of_shape(table: Table, cell: str) -> Found:
    try:
        with path_of(cell, table.root).open("rb") as file:
            shape = npy.form_of(file).shape
    except (OSError, ValueError):
        return ""
    if len(shape) < 3:
        return "series"
    return "clip" if len(shape) == 4 or (len(shape) == 3 and shape[2] > COLOURS) else ""


def _vary_in_length(cells: Sequence[Any]) -> bool:
    try:
        arrays = [np.asarray(cell, np.float64) for cell in cells[:LOOKED_AT]]
    except (ValueError, TypeError, OverflowError, RecursionError):
        return False
    if {a.ndim for a in arrays} not in ({1}, {2}) or len({a.shape[1:] for a in arrays}) > 1:
        return False
    lengths = [len(a) for a in arrays]
    if len(set(lengths)) < 2 or np.mean(lengths) < SHORTEST or arrays[0].shape[1:] > (CHANNELS,):
        return False
    return any(bool((a != np.round(a)).any()) for a in arrays if np.isfinite(a).all())  # else codes of anything
