"""Splitting rows into training, validation and test: random, stratified, grouped, or as a column says."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from polymodal.core.errors import SpecError, shorten
from polymodal.core.seeds import Rng, generator
from polymodal.core.settings import Data
from polymodal.data.tables import Table, open_table

HELD_OUT = 0.1
MARKS = {"valid": {"valid", "val", "dev", "validation"}, "test": {"test"}}
PARTS = ("test", "valid")  # in the order they are taken from the rows


class Part(NamedTuple):
    """Rows of a table."""

    table: Table
    rows: np.ndarray  # int64, ascending


def make_splits(train: Table, settings: Data, target: str | None, seed: int,
                open: Callable[[str], Table] | None = None) -> dict[str, Part]:  # fmt: skip
    """The parts 'train', 'valid' and, when there is one, 'test'; a function of the rows, the settings and the seed.

    `data.valid` and `data.test` name a table of their own or a share of the train rows; without a word a tenth is held
    out for validation. `target` is the column whose classes `stratified` keeps in proportion. Raises SpecError and
    TableError.
    """
    if open is None:

        def open(source: str) -> Table:
            return open_table(source, root=settings.root, encoding=settings.encoding)

    own, shares = {}, {}
    for name in PARTS:
        given = getattr(settings, name)
        if isinstance(given, str | Table):
            table = open(given) if isinstance(given, str) else given
            own[name] = Part(table, np.arange(len(table)))
        elif given:
            shares[name] = float(given)
        elif name == "valid" and given is not None:
            raise SpecError("data.valid", "leaves no row for validation", given=given, advice="a share above 0")
    rows = np.arange(len(train))
    marked = marked_rows(train, settings)
    for name in marked:
        if name in own or name in shares:
            column = next(iter(settings.leave_out or {}), None) if name == "test" else None
            raise SpecError(f"data.{name}", f"column {column or settings.split_column!r} marks these rows already",
                            given=getattr(settings, name), advice=f"leave out data.{name}, or data.split")  # fmt: skip
    rows = np.setdiff1d(rows, np.concatenate([*marked.values(), rows[:0]]))
    if "valid" not in own and "valid" not in marked:
        shares.setdefault("valid", HELD_OUT)
    held = _hold_out(train, rows, shares, settings, target, generator(seed, "split"))
    kept = np.setdiff1d(rows, np.concatenate([*held.values(), rows[:0]]))
    chosen = {"train": Part(train, kept)}
    chosen |= {n: Part(train, np.sort(r)) for n, r in {**marked, **held}.items()}
    for name, part in chosen.items():
        if not len(part.rows):
            raise SpecError(f"data.{name}", "has no rows left", given=shares or settings.split_column,
                            advice=f"other shares of the {len(train)} rows, or a table of its own")  # fmt: skip
    return {n: p for n in ("train", "valid", "test") if (p := own.get(n) or chosen.get(n))}


def _hold_out(table: Table, rows: np.ndarray, shares: dict[str, float], settings: Data, target: str | None,
              rng: Rng) -> dict[str, np.ndarray]:  # fmt: skip
    if not shares:
        return {}
    if settings.split == "stratified":
        if target is None:
            raise SpecError("data.split", "needs a target to keep in proportion", given="stratified", advice="random")
        table.need([target], "data.split: stratified")
        return _stratified(_codes(table, target)[rows], rows, shares, rng)
    if settings.split == "grouped":
        column = _split_column(table, settings)
        return _grouped(_codes(table, column)[rows], rows, shares, rng)
    mixed = rng.permutation(rows)
    ends = np.cumsum([_count(share, len(rows)) for share in shares.values()])
    return dict(zip(shares, np.split(mixed, ends), strict=False))


def _count(share: float, rows: int) -> int:
    return max(1, round(share * rows))


def _split_column(table: Table, settings: Data) -> str:
    if settings.split_column is None:
        raise SpecError("data.split_column", f"is needed for split: {settings.split}", advice="the name of a column")
    table.need([settings.split_column], "data.split_column")
    return settings.split_column


def _codes(table: Table, column: str) -> np.ndarray:
    """A number for each distinct cell; -1 for a missing one."""
    seen: dict[str, int] = {}
    codes = (-1 if c is None else seen.setdefault(name_of(c), len(seen)) for c in table.walk(column))
    return np.fromiter(codes, np.int64, len(table))


def name_of(cell: object) -> str:
    """What a spec calls a cell: its text, whole numbers without a point."""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def _stratified(codes: np.ndarray, rows: np.ndarray, shares: dict[str, float], rng: Rng) -> dict[str, np.ndarray]:
    """Every class in proportion: whole rows by the shares, the rest by the largest remainders, ties by lot."""
    _, codes, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    mixed = rng.permutation(len(rows))
    mixed = mixed[np.argsort(codes[mixed], kind="stable")]  # class by class, mixed within
    start = np.cumsum(sizes) - sizes
    free = np.maximum(sizes - 1, 0)  # one row of every class stays in training
    held = {}
    for name, share in shares.items():
        exact = share * sizes
        take = np.minimum(np.floor(exact).astype(int), free)
        lot = np.lexsort((rng.random(len(sizes)), take - exact))
        wanted = _count(share, len(rows)) - int(take.sum())
        able = lot[(free - take)[lot] > 0][: max(wanted, 0)]
        take[able] += 1
        held[name] = rows[mixed[np.concatenate([np.arange(s, s + t) for s, t in zip(start, take, strict=True)])]]
        start, free = start + take, free - take
    return held


def _grouped(codes: np.ndarray, rows: np.ndarray, shares: dict[str, float], rng: Rng) -> dict[str, np.ndarray]:
    """Whole groups, in an order by lot, while they bring a part nearer to its share; rows without a group train."""
    groups, inverse, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    order = [g for g in rng.permutation(len(groups)) if groups[g] >= 0]
    held, taken = {}, np.zeros(len(groups), bool)
    for name, share in shares.items():
        mine, filled, goal = np.zeros(len(groups), bool), 0, _count(share, len(rows))
        for g in order:
            if not taken[g] and 2 * filled + sizes[g] <= 2 * goal:
                mine[g], filled = True, filled + int(sizes[g])
        if not filled and (left := [g for g in order if not taken[g]]):
            mine[min(left, key=lambda g: sizes[g])] = True  # every group is larger than twice the share
        taken |= mine
        held[name] = rows[mine[inverse]]
    return held


def marked_rows(table: Table, settings: Data) -> dict[str, np.ndarray]:
    """The rows that columns mark as validation and test; rows that are left out are test rows in place of others."""
    found = _marked(table, settings) if settings.split == "column" else {}
    if settings.leave_out:
        left = _left_out(table, settings.leave_out)
        found = {name: kept for name, rows in found.items() if len(kept := np.setdiff1d(rows, left))} | {"test": left}
    return found


def cell_names(table: Table, column: str) -> np.ndarray:
    """What a spec calls the cells of a column: their text, whole numbers without a point; '' for a missing one."""
    one: dict[str, str] = {}  # of each name, so that a million rows hold a handful of texts
    names = ("" if c is None else one.setdefault(name := name_of(c), name) for c in table.walk(column))
    return np.fromiter(names, object, len(table))


def _left_out(table: Table, chosen: dict[str, list[str]]) -> np.ndarray:
    table.need(chosen, "data.leave_out")
    rows = [np.flatnonzero(np.isin(cell_names(table, column), values)) for column, values in chosen.items()]
    found = np.unique(np.concatenate(rows)) if rows else np.zeros(0, np.int64)
    if not len(found):
        raise SpecError("data.leave_out", "no row has any of these values", given=chosen, advice="values of the table")
    return found


def _marked(table: Table, settings: Data) -> dict[str, np.ndarray]:
    """The rows that the split column marks as validation and test; all others train."""
    column = _split_column(table, settings)
    values = cell_names(table, column)
    found = {}
    for name in PARTS:
        said = getattr(settings, f"split_{name}")
        hits = [v == said if said is not None else v.strip().lower() in MARKS[name] for v in values]
        rows = np.flatnonzero(hits)
        if said is not None and not len(rows):
            raise SpecError(f"data.split_{name}", f"no row of column {column!r} has this value", given=said,
                            advice=shorten(sorted(set(values))[:20], 200))  # fmt: skip
        if len(rows):
            found[name] = rows
    return found
