"""Numbers, intervals and tables as they stand on the page."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

Found = dict[str, Any]


def table(heads: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    cells = [[c.replace("|", "\\|") for c in row] for row in (heads, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return [lines[0], "|" + " --- |" * len(heads), *lines[1:]]


def mean(values: Iterable[float | None]) -> str:
    known = [v for v in values if v is not None]
    return number(statistics.fmean(known) if known else None)


def interval(found: Found, sign: str = "") -> str:
    low, high = found.get("ci95") or (None, None)
    if found["value"] is None or low is None:
        return number(found["value"], sign)
    return f"{number(found['value'], sign)} [{number(low, sign)}, {number(high, sign)}]"


def number(value: float | None, sign: str = "") -> str:
    return "n/a" if value is None else f"{value:{sign}.4f}" if abs(value) < 100 else f"{value:{sign},.0f}"
