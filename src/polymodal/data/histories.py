"""From who took what, and when, to rows with the item at hand and the ones that the same user took before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from polymodal.core.errors import TableError, shorten
from polymodal.data.splits import cell_names
from polymodal.data.tables import Table

NONE = -1  # no item
SPLIT = "split"
Line = dict[str, Any]
Begin = int | float | str | None  # a share of the rows, or a time


class Names(NamedTuple):
    """The columns of the interactions; the items have one named `item` too."""

    user: str = "user"
    item: str = "item"
    time: str = "time"


class Takes(NamedTuple):
    """Interactions, sorted by user, then time, then their place in the table."""

    row: Int[np.ndarray, " n"]
    user: Int[np.ndarray, " n"]
    time: Float[np.ndarray, " n"]
    item: Int[np.ndarray, " n"]

    @property
    def first(self) -> Int[np.ndarray, " n"]:
        """Where each one's user begins."""
        return np.searchsorted(self.user, self.user)

    @property
    def tied(self) -> Int[np.ndarray, " n"]:
        """Where those of the same user and the same time begin."""
        new = np.r_[True, (self.user[1:] != self.user[:-1]) | (self.time[1:] != self.time[:-1])]
        return np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))

    def earlier(self, keep: int, end: Int[np.ndarray, " m"], first: Int[np.ndarray, " m"]) -> Int[np.ndarray, "m K"]:
        """The items of the `keep` places before each `end`, the latest first, none before `first`."""
        at = end[:, None] - 1 - np.arange(keep)
        return np.where(at >= first[:, None], self.item[at.clip(min=0)], NONE)


def named(keep: int, columns: Sequence[str]) -> list[str]:
    """The names of the columns of the item at hand, then of the earlier ones: `photo, before_1.photo, ...`."""
    return [prefix + column for prefix in ("", *(f"before_{k}." for k in range(1, keep + 1))) for column in columns]


def histories(
    interactions: Table, items: Table, names: Names, *, keep: int = 8, least: int = 0,
    valid: Begin = 0.1, test: Begin = 0.1, skip_unknown: bool = False,
) -> Iterator[Line]:  # fmt: skip
    """A row for each interaction, in their order: its own columns, `split`, what the item shows, and what each of the
    `keep` items shows that the user took strictly before, the latest first: `before_1.photo`, `before_1.item`, ...

    Interactions of one time are in nobody's history among themselves. A row without a user has no history. Rows with
    fewer than `least` earlier items are left out. The split is one in time: rows from `test` on are test rows, those
    before them from `valid` on are validation rows; each is a share of the rows, the latest ones, or a time. So no
    history holds anything later than what the model is asked, and nothing is learned from later than a test row.

    Raises TableError for missing columns, for items that are not in the table (unless `skip_unknown`), for two rows of
    one item, for a time that is neither a number nor an ISO 8601 date, and where a part of the split has no row.
    """
    shows = _contents(interactions, items, names)
    takes = _takes(interactions, names, _items(interactions, items, names, skip_unknown))
    before = takes.earlier(keep, takes.tied, takes.first)
    kept = (before >= 0).sum(1) >= least
    order = np.argsort(takes.row, kind="stable")
    order = order[kept[order]]
    marks = split_in_time(takes.time[order], valid, test, names.time, interactions.name)
    return _lines(interactions, items, names, shows, takes.row[order], takes.item[order], before[order], marks)


class Latest(NamedTuple):
    """The users of some interactions, in the order in which they first appear."""

    users: list[Any]  # as the table has them
    items: list[list[str]]  # the names of their latest items, the latest first


def latest(interactions: Table, names: Names, *, keep: int = 8) -> Latest:
    """What every user took last. Raises TableError as `histories` does."""
    interactions.need(names, "histories")
    found, places = np.unique(cell_names(interactions, names.item).astype(str), return_inverse=True)
    takes = _takes(interactions, names, np.where(found[places] == "", NONE, places))
    ends = np.flatnonzero(np.r_[takes.user[1:] != takes.user[:-1], True]) + 1
    first = takes.first[ends - 1]
    before = takes.earlier(keep, ends, first)
    seen = np.minimum.reduceat(takes.row, first)
    order = np.argsort(seen, kind="stable")
    items = [[str(found[place]) for place in row if place >= 0] for row in before[order].tolist()]
    return Latest([interactions.cell(int(row), names.user) for row in seen[order]], items)


def _takes(interactions: Table, names: Names, item: Int[np.ndarray, " n"]) -> Takes:
    """The interactions with an item, sorted; `item` is a number for each, -1 for none."""
    row = np.flatnonzero(item >= 0)
    if not len(row):
        raise TableError(interactions.name, "has no interaction with an item that is known",
                         advice=f"check the cells of {names.item!r}")  # fmt: skip
    user = _users(interactions, names)[row]
    time = times(interactions.cells(row, names.time), row, interactions.name, names.time)
    order = np.lexsort((row, time, user))
    return Takes(row[order], user[order], time[order], item[row][order])


def _contents(interactions: Table, items: Table, names: Names) -> list[str]:
    """The columns of the items besides their names. Raises TableError where two columns would have one name."""
    interactions.need(names, "histories")
    items.need([names.item], "histories")
    shows = [c for c in items.columns if c != names.item]
    twice = sorted({*shows} & {*interactions.columns, SPLIT})
    if twice or SPLIT in interactions.columns:
        raise TableError(items.name, "has columns of the same name as the interactions", given=twice or [SPLIT],
                         advice="rename them")  # fmt: skip
    return shows


def _items(interactions: Table, items: Table, names: Names, skip_unknown: bool) -> Int[np.ndarray, " n"]:
    """The row of each interaction's item; -1 for one that is to be passed over."""
    known: dict[str, int] = {}
    for row, name in enumerate(cell_names(items, names.item).tolist()):
        if name and known.setdefault(name, row) != row:
            raise TableError(items.name, f"two rows of one item, {known[name]} and {row}", given=name,
                             advice="a row for each item")  # fmt: skip
    wanted = cell_names(interactions, names.item).tolist()
    found = np.array([known.get(name, NONE) if name else NONE for name in wanted], np.int64)
    unknown = [name for name, at in zip(wanted, found.tolist(), strict=True) if at == NONE]
    if unknown and not skip_unknown:
        raise TableError(interactions.name, f"{len(unknown)} interactions with items that are not in {items.name}",
                         given=shorten(list(dict.fromkeys(unknown))[:5]),
                         advice="add them, or skip_unknown (--skip-unknown)")  # fmt: skip
    return found


def _users(interactions: Table, names: Names) -> Int[np.ndarray, " n"]:
    """A number for each user; one of its own for each row without."""
    found, place = np.unique(cell_names(interactions, names.user).astype(str), return_inverse=True)
    nobody = found[place] == ""
    return np.where(nobody, len(found) + np.arange(len(place)), place)


def times(cells: Sequence[Any], rows: Int[np.ndarray, " n"], table: str, column: str) -> Float[np.ndarray, " n"]:
    """Numbers as they are, dates as seconds; one kind in a column. Raises TableError."""
    found, kinds = np.empty(len(cells)), set()
    for at, cell in enumerate(cells):
        told = _time(cell)
        if told is None:
            raise TableError(table, f"row {int(rows[at])}, column {column!r}: is no time", given=cell,
                             advice="a number, or an ISO 8601 date: 2024-05-31, 2024-05-31T18:30:00")  # fmt: skip
        kind, found[at] = told
        kinds.add(kind)
    if len(kinds) > 1:
        raise TableError(table, f"column {column!r} has numbers and dates", advice="one of them")
    return found


def _time(cell: Any) -> tuple[str, float] | None:
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        return None
    try:
        number = float(cell)
        return ("number", number) if np.isfinite(number) else None
    except ValueError:
        pass
    try:
        date = datetime.fromisoformat(str(cell).strip())
    except ValueError:
        return None
    return "date", (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def split_in_time(time: Float[np.ndarray, " n"], valid: Begin, test: Begin, column: str, table: str) -> list[str]:
    """`train`, `valid` or `test` for each row; rows of one time are in one part. Raises TableError for an empty one."""
    marks = np.full(len(time), "train", object)
    left: Bool[np.ndarray, " n"] = np.ones(len(time), bool)
    for name, begin in (("test", test), ("valid", valid)):
        if begin is None or begin == 0:
            continue
        held = left & (time >= _begin(begin, time, left, column))
        if not held.any() or held.sum() == left.sum():
            raise TableError(table, f"the {name} part begins at a time that leaves a part without rows", given=begin,
                             advice="a share such as 0.1, or a time within the interactions")  # fmt: skip
        marks[held] = name
        left = left & ~held
    return list(marks)


def _begin(given: Begin, time: Float[np.ndarray, " n"], left: Bool[np.ndarray, " n"], column: str) -> float:
    """The time from which on rows are held out: of the latest so many of all rows, or the one that is given."""
    if isinstance(given, int | float) and 0 < given < 1:
        among = np.sort(time[left])
        return float(among[max(0, len(among) - max(1, round(given * len(time))))])
    return float(times([given], np.zeros(1, np.int64), "histories", column)[0])


def _lines(
    interactions: Table, items: Table, names: Names, shows: list[str], rows: Int[np.ndarray, " m"],
    at: Int[np.ndarray, " m"], before: Int[np.ndarray, "m K"], marks: list[str],
) -> Iterator[Line]:  # fmt: skip
    columns, nothing = (names.item, *shows), [None] * (1 + len(shows))
    seen: dict[int, list[Any]] = {NONE: nothing}
    for row, item, earlier, mark in zip(rows.tolist(), at.tolist(), before.tolist(), marks, strict=True):
        line: Line = {c: interactions.cell(row, c) for c in interactions.columns} | {SPLIT: mark}
        for number, place in enumerate([item, *earlier]):
            if place not in seen:
                seen[place] = [items.cell(place, c) for c in columns]
            prefix = f"before_{number}." if number else ""
            line |= {prefix + c: cell for c, cell in zip(columns, seen[place], strict=True)}
        yield line
