"""The ledger: which cells could not be used, why, and what was done about it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from polymodal.core.errors import TableError, saving

SHOWN = 200  # characters of a path that a person is shown


class Entry(NamedTuple):
    """One bad cell, or one bad row when `column` is empty."""

    table: str
    row: int  # row number in its table, from 0
    column: str
    file: str  # the path in the cell, '' where it holds none
    reason: str
    action: str  # what was done: 'skipped', 'missing', 'failed', 'counted wrong', 'cut', ...


class Ledger:
    """Distinct entries, in the order they came."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = dict.fromkeys(entries)

    def add(self, entry: Entry) -> None:
        self._entries[entry] = None

    def extend(self, entries: Iterable[Entry]) -> None:
        self._entries.update(dict.fromkeys(entries))

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def counts(self) -> dict[str, int]:
        """Action -> number of distinct rows."""
        rows: dict[str, set[tuple[str, int]]] = {}
        for e in self:
            rows.setdefault(e.action, set()).add((e.table, e.row))
        return {action: len(found) for action, found in rows.items()}

    def bad_rows(self) -> set[tuple[str, int]]:
        """(table, row) of every row with an entry."""
        return {(e.table, e.row) for e in self}

    @property
    def reasons(self) -> dict[int, str]:
        """Row number -> what is wrong with it, in one text; for a ledger of one table."""
        found: dict[int, list[str]] = {}
        for e in self:
            found.setdefault(e.row, []).append(explain(e))
        return {row: "; ".join(dict.fromkeys(texts)) for row, texts in found.items()}

    def save(self, path: str | Path) -> None:
        """JSON Lines, one entry per line, by table and row; the file appears when it is whole. Raises UserError."""
        lines = [json.dumps(e._asdict(), ensure_ascii=False) + "\n" for e in sorted(self)]
        fresh = Path(path).with_name(f".{Path(path).name}.{os.getpid()}.new")
        try:
            with saving(path):
                fresh.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
                os.replace(fresh, path)
        finally:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> Ledger:
        """The ledger as it was saved. Raises TableError for a file that is none."""
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
            return cls(Entry(**json.loads(line)) for line in lines)
        except (OSError, ValueError, TypeError) as error:
            raise TableError(str(path), f"cannot be read as a ledger: {error}") from None


def explain(entry: Entry) -> str:
    """`photo: file not found (images/7.jpg)`."""
    place = f"{entry.column}: " if entry.column else ""
    file = entry.file if len(entry.file) <= SHOWN else f"{entry.file[: SHOWN - 25]} … {entry.file[-20:]}"
    return f"{place}{entry.reason}{f' ({file})' if file else ''}"
