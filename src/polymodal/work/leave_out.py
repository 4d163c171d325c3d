"""Leave-one-group-out: every speaker, case or fold is scored once, by a model that was trained without it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from polymodal.core import spec as specs
from polymodal.core.errors import SpecError, Stopped, TableError
from polymodal.core.seeds import generator
from polymodal.core.spec import Spec
from polymodal.data.splits import cell_names, marked_rows
from polymodal.data.tables import Table, open_table
from polymodal.work.folder import MANIFEST
from polymodal.work.job import make_run, same_spec
from polymodal.work.left_out import PAGES, LeftOut
from polymodal.work.pooling import Group, Scores, pooled
from polymodal.work.progress import Display

MOST = 50  # values of a column that each get a training of their own
RESERVED = {name.lower() for name in PAGES}


class Fold(NamedTuple):
    """Values of the column whose rows are scored by one run, and the spec of that run."""

    name: str  # of its folder
    values: tuple[str, ...]
    spec: Spec


def leave_out(spec: Spec, table: Table | None, column: str, out: Path, *, folds: int | None = None,
              display: Display | None = None) -> LeftOut:  # fmt: skip
    """Train once per group and score the group's rows; `out` gets a run folder for each, and what they say together.

    A group is a value of `column`; with `folds` the values are dealt into so many groups of like size. Rows without a
    value train in every run. Runs in `out` that are finished are not repeated, one that was broken off goes on.

    Raises SpecError and TableError for what is wrong with spec and data, RunError for a run of another spec, Stopped
    after Ctrl-C with the work saved.
    """
    display = display or Display()
    specs.validate(spec)
    table = table or _table(spec)
    plan = plan_folds(spec, table, column, folds, display)
    groups = {}
    try:
        for number, fold in enumerate(plan, 1):
            display.say(f"\n{out / fold.name}: {number} of {len(plan)}, without {column} {_listed(fold.values)}")
            groups[fold.name] = _run(fold, table, out / fold.name, display)
    except Stopped as error:
        raise Stopped(f"{error}\nthe same command goes on from there") from None
    found = pooled(spec, table, column, groups)
    found.write(out)
    return found


def plan_folds(spec: Spec, table: Table, column: str, folds: int | None, display: Display | None = None) -> list[Fold]:
    """The runs of a leave-one-group-out, in the order of their values; says what a reader of the scores must know."""
    where = "leave_out"
    table.need([column], where)
    for name, task in spec.tasks.items():
        table.need(task.columns, f"tasks.{name}.column")
        if column in task.columns:
            raise SpecError(where, f"is the target of task {name!r}", given=column, advice="a column of groups of rows")
    names = cell_names(table, column)
    _tell(spec, names, column, display or Display(quiet=True))
    known = _known(spec, table)
    sizes = Counter(names[known & (names != "")].tolist())
    if len(sizes) < 2:
        raise TableError(where, f"column {column!r} has {len(sizes)} values among rows with a target",
                         given=", ".join(sizes), advice="a column with two or more")  # fmt: skip
    if folds is None and len(sizes) > MOST:
        raise TableError(where, f"column {column!r} has {len(sizes)} values, and each would be trained without",
                         advice="--folds 5 deals them into 5 groups (folds=5 in Python)")  # fmt: skip
    if folds is not None and not 2 <= folds <= len(sizes):
        raise SpecError("folds", f"must be from 2 to {len(sizes)}, the values of column {column!r}", given=folds)
    dealt = [(value,) for value in _ordered(sizes)] if folds is None else _deal(sizes, folds, spec.train.seed)
    labels = _labels([values[0] if folds is None else f"fold-{i}" for i, values in enumerate(dealt)])
    return [Fold(label, values, fold_spec(spec, table, column, values))
            for label, values in zip(labels, dealt, strict=True)]  # fmt: skip


def fold_spec(spec: Spec, table: Table, column: str, values: tuple[str, ...]) -> Spec:
    """The spec with the rows of these values as its test rows, and validation taken from the others as it says.

    A spec with `split: column` whose column marks no other row for validation gets a stratified tenth of the rest
    (by lot where the first task is not one class per row).
    """
    data = replace(spec.data, test=None, leave_out={column: list(values)})
    if data.split == "column" and "valid" not in marked_rows(table, data):
        first = next(iter(spec.tasks.values())).part
        one_of = first.type == "classify" and not first.settings.get("multi", False)
        data = replace(data, split="stratified" if one_of else "random", split_column=None, split_valid=None,
                       split_test=None)  # fmt: skip
    return replace(spec, data=data)


def _table(spec: Spec) -> Table:
    if spec.data.train is None:
        raise SpecError("data.train", "is needed", advice="the path of a table, or pass a DataFrame from Python")
    return open_table(spec.data.train, root=spec.data.root, encoding=spec.data.encoding)


def _tell(spec: Spec, names: np.ndarray, column: str, display: Display) -> None:
    for name, one in spec.inputs.items():
        if column in one.columns:
            display.say(f"warning: input {name!r} reads column {column!r}, whose values the model has not met in "
                        "training when it is scored")  # fmt: skip
    without = int((names == "").sum())
    if without:
        display.say(f"{without} rows have no {column}: they train in every run and are never scored")


def _known(spec: Spec, table: Table) -> np.ndarray:
    """Rows with a cell for some target."""
    columns = [c for task in spec.tasks.values() for c in task.columns]
    return np.any([[cell is not None for cell in table.column(c)] for c in columns], axis=0)


def _ordered(values: Counter[str]) -> list[str]:
    """In natural order: `case 2` before `case 10`."""
    parts = {v: [(len(d.lstrip("0")), d) if d.isdigit() else (0, d) for d in re.split("([0-9]+)", v)] for v in values}
    return sorted(values, key=lambda v: parts[v])


def _deal(sizes: Counter[str], folds: int, seed: int) -> list[tuple[str, ...]]:
    """Whole groups, the largest first and equal ones by lot, each to the fold with the fewest rows."""
    values = _ordered(sizes)
    mixed = [values[i] for i in generator(seed, "folds").permutation(len(values))]
    dealt: list[list[str]] = [[] for _ in range(folds)]
    rows = [0] * folds
    for value in sorted(mixed, key=lambda v: -sizes[v]):
        place = rows.index(min(rows))
        dealt[place].append(value)
        rows[place] += sizes[value]
    return [tuple(_ordered(Counter(chosen))) for chosen in dealt]


def _labels(values: list[str]) -> list[str]:
    """A name for a folder from each value: letters, digits, `-`, `_` and `.`; no two alike, on any file system."""
    taken, found = set(RESERVED), []
    for value in values:
        base = re.sub(r"[^\w.-]|^\.", "_", value)[:60] or "_"
        label, number = base, 2
        while label.lower() in taken:
            label, number = f"{base}-{number}", number + 1
        taken.add(label.lower())
        found.append(label)
    return found


def _listed(values: tuple[str, ...], most: int = 6) -> str:
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(values[:most]) + more


def _run(fold: Fold, table: Table, folder: Path, display: Display) -> Group:
    """The group's scores: from its finished run, or after training it, from where it was broken off."""
    if (folder / MANIFEST).is_file():
        same_spec(fold.spec, specs.load(folder / "spec.yaml"), folder)
        display.say("finished already")
    else:
        make_run(fold.spec, table, folder, resume=(folder / "spec.yaml").is_file(), display=display,
                 scored=lambda found: Scores.of(found["test"]).write(folder))  # fmt: skip
    return Group.read(folder, fold.values)
