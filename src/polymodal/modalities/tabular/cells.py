"""What a table's cells mean: missing, a number, a category."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from jaxtyping import Float64

from polymodal.core.errors import BadCell, shorten

MISSING = frozenset({"", "n/a", "na", "null", "none", "nan", "-", "?"})  # in any case
LONGEST = 1 << 10  # bits of a whole number that names a category
LARGEST = 1e30  # beyond it squares and float32 overflow
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"([+-]?\d+)\.0+", re.ASCII)


def plain(value: object) -> object:
    """numpy's scalars as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def is_missing(value: object) -> bool:
    """None, NaN, and the words tables have for it: empty, n/a, NA, null, none, nan, -, ?"""
    value = plain(value)
    if isinstance(value, str):
        return value.strip().casefold() in MISSING
    if isinstance(value, Decimal):
        return value.is_nan()
    return value is None or (isinstance(value, float) and math.isnan(value))


def number(value: object) -> float:
    """A finite number. Text must be one in full: no thousands separators, units or signs of currency.

    Raises BadCell with what is wrong with the value.
    """
    value = plain(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) is None:
        raise BadCell(f"{_said(value)} is no number")
    if not isinstance(value, str | int | float | Decimal):
        raise BadCell(f"a number is needed, not {_said(value)}")
    try:
        found = float(value)
    except OverflowError:  # a whole number that no float can hold
        found = math.inf
    if not abs(found) <= LARGEST:
        raise BadCell(f"{_said(value)} is not finite, or beyond ±{LARGEST:g}")
    return found


def plain_numbers(values: Sequence[object]) -> Float64[np.ndarray, " n"] | None:
    """What `number` makes of values of Python's own types, NaN for missing ones; None where any is something else."""
    if not set(map(type, values)) <= {float, int, type(None)}:
        return None
    try:
        x = np.array(values, np.float64)
    except OverflowError:  # a whole number that no float can hold
        return None
    return x if np.isnan(x).all() or np.nanmax(np.abs(x)) <= LARGEST else None


def category(value: object) -> str:
    """The name of a category, the same however a table stores it: 3, 3.0, "3" and "3.0" are "3"; true and "True" too.

    Raises BadCell for a value that is neither text nor a number.
    """
    value = plain(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float | Decimal):
        value = str(value) if not isinstance(value, int) or value.bit_length() < LONGEST else _said(value)
    if not isinstance(value, str):
        raise BadCell(f"text or a number is needed, not {_said(value)}")
    text = value.strip()
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text.lower() if text.lower() in ("true", "false") else text


def _said(value: object) -> str:
    try:
        return shorten(value, 60)
    except ValueError:  # Python prints no whole number of more than 4,300 digits
        return "a whole number of thousands of digits"
