"""The log of served predictions as a table: what was asked, what was said, when; ready for labels, or for `drift`."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from polymodal.core.errors import TableError
from polymodal.core.schema import Json
from polymodal.data.tables import Table, open_table
from polymodal.work.predict import Line, write

PIECES = "predictions-*.jsonl"
STORED = re.compile(r"files/[0-9a-f]{64}\.[a-z0-9]{1,8}")  # no other path is believed
ABOUT = ("time", "id", "n")  # of the request; `n` is the row's number in it
SAID = "said"


@dataclass
class Logged:
    """What became of a log: rows written, lines that were damaged (power was lost), files that are gone."""

    rows: int = 0
    damaged: int = 0
    gone: int = 0

    def __str__(self) -> str:
        told = [f"{self.rows:,} rows"]
        told += [f"{self.damaged:,} damaged lines passed over"] if self.damaged else []
        return ", ".join(told + ([f"{self.gone:,} files gone"] if self.gone else []))


@dataclass
class _Reading:
    """The lines of a log that can be used, once for their columns and once for their cells."""

    folder: Path
    start: str  # where the paths of files shall start from: a folder
    since: str | None
    until: str | None
    told: Logged = field(default_factory=Logged)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Whole lines in the order of the files' names, which is that of time."""
        self.told.damaged = 0
        for piece in sorted(self.folder.glob(PIECES)):
            with open(piece, encoding="utf-8", errors="replace") as file:
                for text in file:
                    line = _parsed(text) if text.strip() else None
                    if line is not None and (self.since or "") <= line["time"] and self._before(line["time"]):
                        yield line
                    self.told.damaged += bool(text.strip()) and line is None

    def _before(self, time: str) -> bool:
        return self.until is None or time < self.until

    def columns(self) -> tuple[list[str], list[str]]:
        """The columns of what was asked, and of what was said, each in the order in which they came."""
        asked: dict[str, None] = {}
        said: dict[str, None] = {}
        for line in self.lines():
            asked |= dict.fromkeys(line["row"])
            said |= dict.fromkeys(line["answers"])
        return list(asked), list(said)

    def cells(self) -> Iterator[Line]:
        """A row for each line, all with the same columns."""
        asked, said = self.columns()
        about = {name: f"served.{name}" if name in asked else name for name in (*ABOUT, "error")}
        names = {name: _answer(name, said, asked) for name in said}
        for line in self.lines():
            row: Line = {about[name]: line[name] for name in ABOUT}
            row |= {name: self._cell(line, name) for name in asked}
            row |= {names[name]: line["answers"].get(name) for name in said}
            self.told.rows += 1
            yield {**row, about["error"]: line.get("error")}

    def _cell(self, line: dict[str, Any], name: str) -> Json:
        value = line["row"].get(name)
        if name not in line["files"] or value is None:
            return value
        place = self.folder / value
        self.told.gone += not place.is_file()
        return Path(os.path.relpath(place, self.start)).as_posix()


def is_log(source: object) -> bool:
    """Whether this is the folder of a log."""
    return isinstance(source, str | Path) and Path(source).is_dir() and any(Path(source).glob(PIECES))


def log_table(folder: str | Path, out: str | Path, *, since: str | None = None, until: str | None = None) -> Logged:
    """Write the log of `polymodal serve --log FOLDER` as a table (.jsonl, .csv or .parquet); memory stays bounded.

    Columns: `time`, `id` of the request, `n`, the row's number in it; those of the run's inputs, files as paths that
    start from the table; `TASK.said` and what else was answered; `error`. A column of the inputs keeps its name, one of
    the log is then called `served.NAME`. `since` and `until`: times as the log has them, `2026-05-31` or longer.

    Raises TableError for a folder that is no log, UserError for an ending that is no table's.
    """
    start = str(Path(out).resolve().parent)
    return _written(_Reading(Path(folder), start, since, until), Path(out))


def open_log(folder: str | Path) -> Table:
    """The log as a table that can be predicted or compared at once. Raises TableError for a folder that is none."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "log.jsonl"
        _written(_Reading(Path(folder), str(folder), None, None), copy)
        table = open_table(copy, root=folder)
    table.name = str(folder)
    return table


def _written(reading: _Reading, out: Path) -> Logged:
    if not is_log(reading.folder):
        raise TableError(str(reading.folder), "is no log of served predictions", advice="a folder of `serve --log`")
    cells = reading.cells()
    first = next(cells, None)
    if first is None:
        raise TableError(str(reading.folder), f"holds no row that can be read ({reading.told})", advice="another time")
    write(chain([first], cells), out)
    return reading.told


def _parsed(text: str) -> dict[str, Any] | None:
    """A line of the log; None for what is cut off, or none of its lines."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not all(isinstance(line.get(n), str) for n in ("time", "id")):
        return None
    row, answers, files = (line.get(n) for n in ("row", "answers", "files"))
    if not (isinstance(row, dict) and isinstance(answers, dict) and isinstance(files, list)):
        return None
    stored = all(isinstance(f, str) and isinstance(row.get(f), str) and STORED.fullmatch(row[f]) for f in files)
    return {"n": 0, **line} if stored else None


def _answer(name: str, said: list[str], asked: list[str]) -> str:
    """`TASK.said` for what a task answered, so that a column of labels may have the task's name."""
    task = not any(name.startswith(f"{other}.") for other in said)
    found = f"{name}.{SAID}" if task else name
    return f"served.{found}" if found in asked else found
