"""A cell -> its channels over time: from files, arrays, lists and text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from polymodal.core import npy
from polymodal.core.errors import BadCell, shorten
from polymodal.modalities.series.text import Raw, from_table, from_words, numbers, times

Choice = int | str  # of a column: its number from 0, or its name
LARGEST = 1e15  # beyond it float32 would overflow on the way
CHANNELS = 1 << 16


class Series(NamedTuple):
    """What a cell holds: NaN where a value is missing; times where steps have some, not in order yet."""

    names: tuple[str, ...] | None
    values: Float64[np.ndarray, "T C"]
    time: Float64[np.ndarray, " T"] | None


def read_series(
    cell: object,
    channels: Sequence[Choice] | None = None,
    time: Choice | None = None,
    names: Sequence[str] | None = None,
) -> Series:
    """The channels of a cell in this order, and its times.

    When `channels` is None: those of these `names`, where the cell has names and some are given, else all columns but
    those of the time and without a name.

    A cell: the bytes of a delimited text file or of a .npy file; an array or nested lists, [time] or [time, columns];
    a dict from name to list; text with numbers in it. Raises BadCell.
    """
    raw = _raw(cell)
    count = len(raw.columns)
    at = None if time is None else _place(raw, time)
    if channels is None and names is not None and raw.names is not None:
        channels = names
    if channels is None:
        chosen = [c for c in range(count) if c != at and (raw.names is None or raw.names[c])]
    else:
        chosen = [_place(raw, c) for c in channels]
    if not chosen or len(chosen) > CHANNELS:
        raise BadCell(f"{len(chosen)} channels; 1 to {CHANNELS} can be read, as [time, channels]")
    values = np.stack([numbers(raw.columns[c], _called(raw, c)) for c in chosen], 1)
    _check(values)
    names = None if raw.names is None else tuple(raw.names[c] for c in chosen)
    return Series(names, values, None if at is None else times(raw.columns[at], _called(raw, at)))


def _check(values: np.ndarray) -> None:
    if not len(values):
        raise BadCell("no steps")
    missing = np.isnan(values)
    if missing.all():
        raise BadCell("no values: all of them are missing")
    if not (np.abs(values) < LARGEST)[~missing].all():
        raise BadCell("values that are infinite or absurdly large")


def _place(raw: Raw, column: Choice) -> int:
    count = len(raw.columns)
    if isinstance(column, int):
        if not 0 <= column < count:
            raise BadCell(f"no column {column}: there are {count}, counted from 0")
        return column
    if raw.names is None:
        raise BadCell(f"no column {column!r}: the columns have no names")
    if raw.names.count(column) != 1:
        there = f"there are {shorten(list(raw.names), 80)}" if column not in raw.names else "two have this name"
        raise BadCell(f"no column {column!r}: {there}")
    return raw.names.index(column)


def _called(raw: Raw, column: int) -> str:
    return str(column) if raw.names is None else repr(raw.names[column])


def _raw(cell: object) -> Raw:
    if isinstance(cell, bytes):
        return _from_file(cell)
    if isinstance(cell, str):
        cell = from_words(cell)
    if isinstance(cell, dict):
        columns = [_floats(column) for column in cell.values()]
        if len({c.shape for c in columns}) > 1 or any(c.ndim != 1 for c in columns):
            raise BadCell("channels by name must be lists of numbers of one length")
        return Raw(tuple(str(name) for name in cell), columns)
    if not isinstance(cell, list | tuple | np.ndarray):
        raise BadCell(f"no series: a file, an array or a list of numbers is needed, not {shorten(cell, 60)}")
    return _from_array(_floats(cell))


def _from_file(data: bytes) -> Raw:
    if data[: len(npy.MAGIC)] == npy.MAGIC:
        try:
            return _from_array(npy.from_bytes(data).astype(np.float64))
        except ValueError as error:
            raise BadCell(f"not a .npy file that can be read: {error}") from None
    if data[:4] == b"PK\x03\x04":
        raise BadCell("an .npz file holds many arrays: name it as `array`, and number its items in the table")
    return from_table(data)


def _from_array(values: Float64[np.ndarray, "..."]) -> Raw:
    if values.ndim not in (1, 2):
        raise BadCell(f"must be [time] or [time, channels], not of shape {values.shape}")
    if values.ndim == 2 and values.shape[1] > CHANNELS:
        raise BadCell(f"{values.shape[1]} channels; 1 to {CHANNELS} can be read, as [time, channels]")
    return Raw(None, list(values.T) if values.ndim == 2 else [values])


def _floats(cell: object) -> Float64[np.ndarray, "..."]:
    """Numbers as they are; None is a missing one. Raises BadCell."""
    if isinstance(cell, np.ndarray) and cell.dtype.kind in "biuf":
        return cell.astype(np.float64)
    try:
        return np.array(cell.tolist() if isinstance(cell, np.ndarray) else cell, np.float64)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise BadCell(f"no series: numbers [time] or [time, channels] are needed, not {shorten(cell, 60)}") from None
