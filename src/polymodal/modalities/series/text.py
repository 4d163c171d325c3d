"""Text as columns of numbers: delimited files, and numbers written into a cell of a table."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from polymodal.core.errors import BadCell, shorten

MISSING = frozenset({"", "n/a", "na", "null", "none", "nan", "-", "?"})  # in any case
DELIMITERS = "\t;,|"  # the first that the first line holds; else spaces
LARGEST = 1 << 26  # bytes of a text file, which takes many times as much while it is read
LATEST = 1e15
DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?", re.ASCII)

Column = Sequence[str] | Float64[np.ndarray, " T"]


class Raw(NamedTuple):
    """Columns as they were found, and their names where they have some."""

    names: tuple[str, ...] | None
    columns: Sequence[Column]


def from_table(data: bytes) -> Raw:
    """A delimited text file, with a first line of names or without. Raises BadCell for what is none.

    The first line is one of names when any of it is neither a number, a date nor missing.
    """
    if len(data) > LARGEST:
        raise BadCell(f"more than {LARGEST >> 20} MB of text; save it as .npy")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadCell(f"neither a .npy file nor UTF-8 text (byte {error.start})") from None
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise BadCell("empty file")
    rows = _split(lines)
    lengths = {len(row) for row in rows}
    if len(lengths) > 1:
        odd = next(at for at, row in enumerate(rows, 1) if len(row) != len(rows[0]))
        raise BadCell(f"line {odd} has {len(rows[odd - 1])} fields, the first has {len(rows[0])}")
    named = any(not (_is_number(field) or DATE.fullmatch(field)) for field in rows[0])
    names = tuple(rows[0]) if named else None
    return Raw(names, list(zip(*rows[named:], strict=True)) or [()] * len(rows[0]))


def _split(lines: list[str]) -> list[list[str]]:
    delimiter = next((d for d in DELIMITERS if d in lines[0]), None)
    if delimiter is None:
        return [line.split() for line in lines]
    try:
        return [[field.strip() for field in row] for row in csv.reader(lines, delimiter=delimiter)]
    except csv.Error as error:
        raise BadCell(f"not a delimited text file: {error}") from None


def from_words(text: str) -> object:
    """The numbers of a text: a JSON list, or numbers between spaces and commas, one step each.

    Where `;` or ends of lines divide it, each piece is a step of one or several channels. Raises BadCell.
    """
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise BadCell(f"not a list of numbers: {shorten(text, 60)}") from None
    pieces = [p.strip() for p in re.split(r"[;\n]", text) if p.strip()]
    rows = [[_number(word) for word in re.split(r"\s*,\s*|\s+", piece)] for piece in pieces]
    return rows[0] if len(rows) == 1 else rows


def numbers(column: Column, name: str) -> Float64[np.ndarray, " T"]:
    """A column as numbers, NaN where it says that one is missing. Raises BadCell."""
    if isinstance(column, np.ndarray):
        return column
    try:
        return np.array([_number(text) for text in column], np.float64)
    except BadCell as error:
        raise BadCell(f"column {name}: {error.reason}") from None


def times(column: Column, name: str) -> Float64[np.ndarray, " T"]:
    """A column as times: numbers, or dates as seconds since 1970. Raises BadCell, also where one is missing."""
    if isinstance(column, np.ndarray) or not any(DATE.fullmatch(text) for text in column[:1]):
        found = numbers(column, name)
    else:
        found = np.array([_seconds(text, name) for text in column], np.float64)
    if not (np.abs(found) < LATEST).all():
        raise BadCell(f"column {name}: a step without a time, or with one that is absurdly large")
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        if text.strip().casefold() in MISSING:
            return float("nan")
        raise BadCell(f"{shorten(text, 60)} is no number") from None


def _is_number(text: str) -> bool:
    try:
        _number(text)
    except BadCell:
        return False
    return True


def _seconds(text: str, name: str) -> float:
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadCell(f"column {name}: {shorten(text, 60)} is no date such as 2024-05-31T14:30") from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
