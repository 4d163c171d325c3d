"""Looking a table over: types, missing and bad cells, duplicates, leaks between splits, thin classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt64

from polymodal.core import catalog, html
from polymodal.core.contracts import Reader, Sample
from polymodal.core.errors import shorten
from polymodal.core.fingerprints import mix, takes
from polymodal.core.schema import Json
from polymodal.data.dataset import BLOCK, InputPlan, TargetPlan
from polymodal.data.duplicates import Near, find_near
from polymodal.data.fingerprints import marks_of, watch
from polymodal.data.guess import KINDS, Kinds, guess_inputs, guess_task, look, sample_of, split_column
from polymodal.data.leaks import Giveaway, giveaways
from polymodal.data.ledger import Entry, explain
from polymodal.data.prints import Prints
from polymodal.data.source import MISSING, Memo, Seen, Source
from polymodal.data.splits import Part
from polymodal.data.tables import Table

__all__ = ["Inspection", "guess_inputs", "guess_task", "inspect"]

THIN = 5  # rows below which a class is called thin
SHOWN = 8  # lines of a kind in the text


@dataclass
class ColumnFound:
    """What a column holds."""

    name: str
    looks: str
    missing: int
    distinct: int
    bad: int
    example: str


@dataclass
class Leak:
    """Rows of a part whose content in an input also stands in the training rows."""

    input: str
    part: str
    rows: int
    of: int


@dataclass
class TargetFound:
    """A target's classes (numbers have none), in how many rows it is missing, and the classes with few rows."""

    name: str
    missing: int
    distinct: int
    thin: dict[str, int]


@dataclass(repr=False)
class Inspection:
    """What `inspect` found. `json()` is plain data; `str()` is for a person."""

    table: str
    rows: int
    columns: list[ColumnFound]
    duplicates: int  # rows that are equal to an earlier one in every column
    parts: dict[str, int]
    leaks: list[Leak]
    targets: list[TargetFound]
    bad: list[Entry] = field(default_factory=list)
    giveaways: list[Giveaway] = field(default_factory=list)  # columns that predict the target by themselves
    near: list[Near] = field(default_factory=list)  # rows of a part that nearly repeat training rows
    by_nature: list[str] = field(default_factory=list)  # inputs that repeat so much that `near` leaves them out

    def json(self) -> dict[str, Json]:
        return {**asdict(self), "bad": [e._asdict() for e in self.bad], "near": [n.json() for n in self.near]}

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head = ("column", "looks like", "missing", "distinct", "bad", "example")
        rows = [[c.name, c.looks, c.example, f"{c.missing:,}", f"{c.distinct:,}", f"{c.bad:,}"] for c in self.columns]
        beside = f"{self.rows:,} rows, {len(self.columns)} columns"
        return html.frame(html.title(self.table, beside), html.grid([*head[:2], head[5], *head[2:5]], rows, words=3),
                          html.lines(self._findings()))  # fmt: skip

    def __str__(self) -> str:
        head = ("column", "looks like", "missing", "distinct", "bad", "example")
        lines = [tuple(map(str, asdict(c).values())) for c in self.columns]
        widths = [max(len(line[i]) for line in (head, *lines)) for i in range(len(head) - 1)]
        told = [f"{self.table}: {self.rows} rows, {len(self.columns)} columns", ""]
        told += [
            "  ".join([*(t.ljust(w) for t, w in zip(row, widths, strict=False)), row[-1]]) for row in (head, *lines)
        ]
        told += ["", *self._findings()]
        return "\n".join(told)

    def _findings(self) -> list[str]:
        told = [f"parts: {', '.join(f'{n} {rows}' for n, rows in self.parts.items())}"] if self.parts else []
        bad_rows = len({(e.table, e.row) for e in self.bad})
        told.append(f"bad: {len(self.bad)} cells in {bad_rows} rows")
        told += [f"  {e.table}, row {e.row}: {explain(e)}" for e in self.bad[:SHOWN]]
        told += [f"  … and {len(self.bad) - SHOWN} more"] if len(self.bad) > SHOWN else []
        told.append(f"duplicates: {self.duplicates} rows are equal to an earlier row")
        told += [f"leak: {k.rows} of {k.of} {k.part} rows share their {k.input} with training rows" for k in self.leaks]
        for n in self.near:
            told += [f"near: {n}", *n.lines()]
        told += [f"near: {name} repeats by nature, in training too: not compared" for name in self.by_nature]
        for g in self.giveaways:
            told += [f"leak: {g}", f"  {g.advice}"]
        for t in self.targets:
            told.append(f"target {t.name}: {t.distinct} values, missing in {t.missing} rows")
            told += ["  it never changes: there is nothing to learn"] if t.distinct == 1 else []
            thin = ", ".join(f"{name} ({rows})" for name, rows in list(t.thin.items())[:SHOWN])
            told += [f"  {len(t.thin)} classes with fewer than {THIN} rows: {thin}"] if thin else []
        return told


def inspect(table: Table, *, parts: dict[str, Part] | None = None, inputs: dict[str, InputPlan] | None = None,
            targets: dict[str, TargetPlan] | None = None, readers: dict[str, Reader] | None = None,
            answers: Sequence[str] = (), kinds: Kinds = KINDS,
            progress: Callable[[int], None] | None = None) -> Inspection:  # fmt: skip
    """Read every cell of a table, and of the tables of its `parts`, and say what was found.

    With `inputs` and `targets` (fitted readers, as a spec lays them over columns) these read the cells. Without, each
    column's type is guessed, and columns of files are read by `readers` (by the names in `kinds`; the catalogue's when
    not given). Parts come from `parts`, or from a column that names them. `answers` are target columns for which the
    other columns are searched for one that gives them away, when there are no `targets`; else those of `targets` are.
    `progress` is told of rows read.
    """
    looks = {c: look(table, c, kinds) for c in table.columns}
    parts = _parts_of(table) if parts is None else parts
    read = {*kinds.endings.values(), kinds.text, kinds.series, kinds.clip}
    own = readers if readers is not None else _catalogued({looks[c] for c in looks} & read)
    tables = {id(t): t for t in (table, *(p.table for p in parts.values()))}
    bad: list[Entry] = []
    content: dict[int, dict[str, Source]] = {}
    prints: dict[str, Prints] = {}
    for at, one in tables.items():
        if inputs is not None:
            planned = {n: Source(one, n, p.reader, p.columns, target=False, cache=None) for n, p in inputs.items()}
            asked = [Source(one, n, p.reader, p.columns, target=True, cache=None) for n, p in (targets or {}).items()]
        else:
            planned, asked = _guessed(one, looks, own, kinds), []
        content[at] = planned
        if len(parts) > 1:
            watch(planned, prints)
        bad += _read_all(one, [*planned.values(), *asked], progress)
    raw = {c: Source(table, c, _AsItIs(), (c,), target=False, cache=None) for c in table.columns}
    _read_all(table, list(raw.values()), None)
    columns = [_column(table, c, looks[c], raw[c], bad) for c in table.columns]
    found = [_target(table, c) for p in (targets or {}).values() for c in p.columns]
    seen = None if inputs is None else [c for p in inputs.values() for c in _telling(p.reader, p.columns)]
    asked_of = [] if seen == [] else [t.name for t in found] or answers
    given = [g for c in asked_of for g in giveaways(table, c, seen, kinds=kinds)]
    near, by_nature = _near(parts, content)
    return Inspection(table.name, len(table), columns, _duplicates(list(raw.values())),
                      {n: len(p.rows) for n, p in parts.items()}, _leaks(parts, content), found, bad,
                      given, near, by_nature)  # fmt: skip


class _AsItIs:
    """Reads anything as nothing, so that only its digest is kept."""

    files = record = augments = False
    ragged: frozenset[str] = frozenset()
    field = None

    def decode(self, cell: object) -> dict[str, np.ndarray]:
        return {}

    def finish(self, sample: dict[str, np.ndarray], rng: object) -> dict[str, np.ndarray]:
        return sample


class _Marked(_AsItIs):
    """Reads a text as nothing but its fingerprint, as this reader takes it."""

    def __init__(self, reader: Any) -> None:
        self.alike, self._fingerprints = reader.alike, reader.fingerprints

    def fingerprints(self, cells: Sequence[object], samples: Sequence[Sample]) -> UInt64[np.ndarray, "n words"]:
        return self._fingerprints([str(cell) for cell in cells], samples)


def _catalogued(names: set[str]) -> dict[str, Any]:
    return {n: catalog.load("reader", n, "check")() for n in sorted(names) if n in catalog.names("reader")}


def _guessed(table: Table, looks: dict[str, str], readers: dict[str, Any], kinds: Kinds) -> dict[str, Source]:
    """Columns whose content is worth comparing: files, and texts."""
    chosen = {c: readers.get(looks[c]) for c in table.columns if c in looks}
    texts = readers.get(kinds.text)
    chosen |= {c: _Marked(texts) if takes(texts) else _AsItIs() for c in chosen if looks[c] == kinds.text}
    return {c: Source(table, c, r, (c,), target=False, cache=None) for c, r in chosen.items() if r is not None}


def _read_all(table: Table, sources: list[Source], progress: Callable[[int], None] | None) -> list[Entry]:
    bad = [Entry(table.name, row, "", "", reason, "found") for row, reason in table.broken.items()]
    seen: dict[Source, Memo] = {s: Seen() for s in sources}
    for start in range(0, len(table), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(table)))
        for source in sources:
            for row, k, reason in source.read(rows, seen[source]):
                bad.append(Entry(table.name, row, source.column(k), source.file(row, k), reason, "found"))
        if progress is not None:
            progress(len(rows))
    return bad


def _telling(reader: Any, columns: tuple[str, ...]) -> list[str]:
    """The columns that hold what is read; those of an archive's items only count."""
    parts = getattr(reader, "parts", {"": (reader, columns)}).values()
    return [c for one, own in parts if getattr(one, "archive", None) is None for c in own]


def _duplicates(columns: list[Source]) -> int:
    """Rows that are equal to an earlier one in every column: one number of 64 bits stands for a row."""
    whole = np.zeros(len(columns[0].ids), np.uint64)
    for source in columns:
        whole = mix(whole ^ source.ids[:, 0].view(np.uint64))
    return len(whole) - len(np.unique(whole))


def _column(table: Table, name: str, looks: str, raw: Source, bad: list[Entry]) -> ColumnFound:
    present = raw.ids[raw.ids != MISSING]
    wrong = sum(name in e.column.split(", ") for e in bad if e.table == table.name)
    first = sample_of(table, name, 50)[:1]
    example = shorten(first[0], 50) if first and isinstance(first[0], str | int | float | list) else ""
    return ColumnFound(name, looks, int((raw.ids == MISSING).sum()), len(np.unique(present)), wrong, example)


def _parts_of(table: Table) -> dict[str, Part]:
    """The parts as a column of the table names them, if one does."""
    column = split_column(table)
    if column is None:
        return {}
    cells = np.array([str(c).lower() if c is not None else "" for c in table.column(column)])
    return {str(n): Part(table, np.flatnonzero(cells == n)) for n in np.unique(cells) if n}


def _leaks(parts: dict[str, Part], content: dict[int, dict[str, Source]]) -> list[Leak]:
    """Files that stand in training and elsewhere; texts too, unless they repeat by nature."""
    train = parts.get("train") or parts.get("training")
    if train is None:
        return []
    found = []
    for name, source in content[id(train.table)].items():
        known = _ids(source, train.rows)
        records = source.record or 2 * len(np.unique(known)) < len(known)
        if not len(known) or (records and not source.reader.files):
            continue
        for part, other in parts.items():
            theirs = content[id(other.table)].get(name)
            if other is train or theirs is None:
                continue
            shared = int(np.isin(theirs.ids[other.rows], known).any(1).sum())
            found += [Leak(name, part, shared, len(other.rows))] if shared else []
    return found


def _near(parts: dict[str, Part], content: dict[int, dict[str, Source]]) -> tuple[list[Near], list[str]]:
    """Rows of the other parts that nearly repeat a training row, and the inputs that repeat by nature."""
    train = parts.get("train") or parts.get("training")
    if train is None:
        return [], []
    marks = {n: marks_of(content[id(p.table)], p.rows) for n, p in parts.items() if p is not train}
    return find_near(marks_of(content[id(train.table)], train.rows), marks, _readers(content[id(train.table)]))


def _readers(sources: dict[str, Source]) -> dict[str, Any]:
    return {name: source.reader for name, source in sources.items()}


def _ids(source: Source, rows: np.ndarray) -> np.ndarray:
    ids = source.ids[rows]
    return ids[ids >= 0]


def _target(table: Table, column: str) -> TargetFound:
    counts: Counter[str] = Counter()
    missing = 0
    for cell in table.walk(column):
        missing += cell is None
        counts.update(map(str, cell if isinstance(cell, list) else [] if cell is None else [cell]))
    classes = guess_task(table, column)["type"] == "classify" if missing < len(table) else False
    thin = {n: k for n, k in sorted(counts.items(), key=lambda item: item[1]) if k < THIN and classes}
    return TargetFound(column, missing, len(counts), thin)
