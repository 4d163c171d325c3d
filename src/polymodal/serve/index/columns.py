"""Which columns of a table an index keeps, to be filtered by and shown; and their cells as the index has them."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from typing import Any

from polymodal.core.errors import BadCell, UserError
from polymodal.core.schema import Json
from polymodal.data.tables import Table

WHOLE = re.compile(r"[+-]?(?:0|[1-9]\d{0,17})")  # 007 is a name, not a number
NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d*)?(?:\.\d*)?(?:[eE][+-]?\d+)?")
LONGEST = 2000  # characters of a cell that are kept to be shown
LARGEST = 1 << 62


def kinds(table: Table, names: Collection[str] | None = None) -> dict[str, str]:
    """The columns that are kept, with the type of their cells: text, integer, number, boolean or json (lists, objects).

    Without `names` all but those of bytes, arrays and pictures. Text is taken for numbers when every cell can be, as in
    CSV files. Raises UserError for a name that the table lacks, or that cannot be kept.
    """
    if names is not None:
        table.need(names, "--keep")
    found = {}
    for name in table.columns if names is None else dict.fromkeys(names):
        kind = _kind(table, name)
        if kind is None and names is not None:
            raise UserError("--keep", "holds what cannot be shown as text", given=name, advice="leave it out")
        if kind is not None:
            found[name] = kind
    return found


def _kind(table: Table, name: str) -> str | None:
    seen: set[str | None] = set()
    for cell in table.walk(name):
        if cell is not None:
            seen.add(_of(cell))
            if None in seen:
                return None
    if "json" in seen:
        return "json"
    if len(seen) == 1:
        return seen.pop()
    return "number" if seen == {"integer", "number"} else "text"


def _of(cell: Any) -> str | None:
    if isinstance(cell, str):
        if WHOLE.fullmatch(cell):
            return "integer"
        return "number" if NUMBER.fullmatch(cell) and _finite(cell) else "text"
    if isinstance(cell, bool):
        return "boolean"
    if isinstance(cell, int):
        return "integer" if -LARGEST < cell < LARGEST else "text"
    if isinstance(cell, float):
        return "number" if math.isfinite(cell) else "text"
    return "json" if isinstance(cell, list | tuple | dict) and _plain(cell) else None


def _finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _plain(cell: Any) -> bool:
    if isinstance(cell, list | tuple):
        return len(cell) <= LONGEST and all(map(_plain, cell))
    if isinstance(cell, dict):
        return all(isinstance(k, str) and _plain(v) for k, v in cell.items())
    return cell is None or isinstance(cell, str | bool | int) or (isinstance(cell, float) and math.isfinite(cell))


def kept(cell: Any, kind: str) -> Json:
    """A cell as the index keeps it; None for a missing one. Raises BadCell where it is not of the column's type."""
    if cell is None:
        return None
    own = _of(cell)
    if kind == "text":
        text = _text(cell)
        return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    if kind == "json":
        if not _plain(cell):
            raise BadCell("cannot be kept as JSON")
        return list(cell) if isinstance(cell, tuple) else cell
    if own != kind and not (kind == "number" and own == "integer"):
        raise BadCell(f"is no {kind}, as the column of the index is")
    return {"integer": int, "number": float, "boolean": bool}[kind](cell)


def _text(cell: Any) -> str:
    text = cell if isinstance(cell, str) else str(cell)
    return text.encode("utf-8", "backslashreplace").decode()  # half characters cannot be written


def texts(names: dict[str, str], files: Collection[str], key: str | None) -> list[str]:
    """The columns whose words can be searched for: all of text but paths of files and the key."""
    return [name for name, kind in names.items() if kind == "text" and name not in files and name != key]


def listed(names: dict[str, str]) -> list[dict[str, Json]]:
    return [{"name": name, "type": kind} for name, kind in names.items()]


def column_cells(cells: Sequence[Any], kind: str) -> tuple[list[Json], dict[int, str]]:
    """Cells as the index keeps them; by position, why one is not kept."""
    found: list[Json] = []
    bad: dict[int, str] = {}
    for at, cell in enumerate(cells):
        try:
            found.append(kept(cell, kind))
        except BadCell as error:
            found.append(None)
            bad[at] = error.reason
    return found, bad
