"""A spec for a table of which nothing is known but its target: what is guessed, and what is said about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from polymodal.core import spec as specs
from polymodal.core.errors import SpecError, TableError
from polymodal.core.schema import Json
from polymodal.core.spec import Spec
from polymodal.data.guess import FEW, guess_inputs, guess_task, number_of, sample_of, split_column
from polymodal.data.splits import MARKS
from polymodal.data.tables import Table

MANY = 100  # distinct whole numbers of a target up to which it is said that both tasks are possible
FEWEST = 4  # rows: some to train on, some to hold out
Target = str | int | Sequence[str] | Mapping[str, Json]  # a column, several, or column -> task or None for a guess


class Draft(NamedTuple):
    """A guessed spec, and `remarks` for a person: what was left out and why, and how to change it."""

    spec: Spec
    remarks: tuple[str, ...]

    def text(self) -> str:
        """YAML with the remarks as comments, ready to be saved."""
        return self.spec.text() + "".join(f"# {line}\n" for line in self.remarks)

    def told(self, table: str) -> str:
        """What is said before a training."""
        return f"# guessed from the columns of {table}; save it as spec.yaml to change it\n{self.text()}"


def draft(table: Table, target: Target, *, inputs: Mapping[str, Json] | None = None, preset: str | None = None,
          fusion: Json = None, settings: Mapping[str, Json] | None = None, changes: Sequence[str] = (),
          ignore: Sequence[str] = ()) -> Draft:  # fmt: skip
    """A spec for these rows. What is given is taken, the rest is guessed: inputs, tasks, how the rows are split.

    `ignore` are columns that are no inputs, such as those that are known only when the answer is.
    `settings` are those of `train`; `changes` are `a.b=value`, made before the preset fills in what is left. Raises
    TableError for a table that is too small and for a target that there is nothing to learn about, SpecError.
    """
    tasks = _tasks(table, target)
    left_out: dict[str, str] = {}
    table.need(ignore, "ignore")
    columns = [str(t.get("column", name)) for name, t in tasks.items()]
    blocks = guess_inputs(table, [*columns, *ignore], left_out=left_out) if inputs is None else dict(inputs)
    plain: dict[str, Json] = {"preset": preset, "data": _data(table, tasks), "inputs": blocks, "fusion": fusion,
                              "tasks": tasks, "train": dict(settings or {})}  # fmt: skip
    plain = specs.override(plain, list(changes))
    if not plain["fusion"] and plain["preset"] is None and len(plain["inputs"]) > 1:
        plain["fusion"] = "concat"
    spec = specs.parse(plain)
    return Draft(spec, _remarks(plain, [c for one in spec.inputs.values() for c in one.columns], left_out, table))


def _tasks(table: Table, target: Target) -> dict[str, dict[str, Json]]:
    given = target if isinstance(target, Mapping | list | tuple) else [str(target)]
    named = {str(n): t for n, t in given.items()} if isinstance(given, Mapping) else dict.fromkeys(map(str, given))
    if not named:
        raise SpecError("target", "at least one column is needed", advice="target='label'")
    table.need([n for n, t in named.items() if not isinstance(t, Mapping) or "column" not in t], "target")
    if len(table) < FEWEST:
        raise TableError(table.name, f"{len(table)} row(s) are too few to learn from some and to hold some out",
                         advice=f"at least {FEWEST} rows, better some hundreds")  # fmt: skip
    return {n: _learnable(table, n) if t is None else {"column": n, **({"type": t} if isinstance(t, str) else t)}
            for n, t in named.items()}  # fmt: skip


def _learnable(table: Table, target: str) -> dict[str, Json]:
    """The guessed task. Raises TableError where every row has the same answer, or nearly every row its own."""
    task, cells = guess_task(table, target), sample_of(table, target)
    if task.get("multi"):
        return task
    distinct = {str(c) for c in cells}
    if len(distinct) == 1 and len({str(c) for c in table.column(target) if c is not None}) == 1:
        raise TableError(table.name, f"column {target!r} never changes: there is nothing to learn",
                         given=cells[0], advice="another target column")  # fmt: skip
    if task["type"] == "classify" and len(distinct) > max(FEW, len(cells) / 2):
        problem = f"column {target!r} has {len(distinct)} different values in {len(cells)} rows: they are no classes"
        raise TableError(table.name, problem, given=sorted(distinct)[:3],
                         advice="plain numbers, without signs and commas, or a column of classes")  # fmt: skip
    return task


def _data(table: Table, tasks: Mapping[str, Mapping[str, Json]]) -> dict[str, Json]:
    """The rows' own split where a column says one; else every class in proportion."""
    column = split_column(table)
    if column is not None:
        found = {str(c).strip().lower() for c in sample_of(table, column)}
        if found & (MARKS["valid"] | MARKS["test"]):
            return {"split": "column", "split_column": column}
    first = next(iter(tasks.values()))
    return {"split": "stratified"} if first["type"] == "classify" and not first.get("multi") else {}


def _remarks(
    plain: Mapping[str, Any], used: Sequence[str], left_out: Mapping[str, str], table: Table
) -> tuple[str, ...]:
    lines = [f"left out: {name}: {why}" for name, why in list(left_out.items())[:20]]
    lines += [f"left out: … and {len(left_out) - 20} more"] if len(left_out) > 20 else []
    if left_out:
        name = next(iter(left_out))
        lines.append(f"to use one all the same: --set 'inputs.{name}.type=tabular' (text, image, audio)")
    for name, task in plain["tasks"].items():
        lines += _about(name, task, used, table)
    return tuple(lines)


def _about(name: str, task: Mapping[str, Json], used: Sequence[str], table: Table) -> list[str]:
    """What may have to be decided about a target: columns like it, the other kind of task, its logarithm."""
    lines = []
    if kin := [c for c in used if len(name) > 2 and name.lower() in c.lower()]:
        ignore = " ".join(f"--ignore {c}" for c in kin)
        lines.append(f"{', '.join(kin)}: named like {name}; what is known only when {name} is gives it away: {ignore}")
    other = {"classify": "regress", "regress": "classify"}.get(task["type"])
    if other and _either(table, task, name):
        told = f"--set tasks.{name}.type={other}, in Python target={{{name!r}: {other!r}}}"
        lines.append(f"{name}: {task['type']}; otherwise: {told}")
    if task["type"] == "regress" and "log" not in task and _factors(table, task, name):
        lines.append(f"{name} spans factors; its logarithm may be learned better: --set tasks.{name}.log=true")
    return lines


def _either(table: Table, task: Mapping[str, Json], name: str) -> bool:
    """Whether the target's numbers could as well be names of classes: whole, and not many."""
    cells = sample_of(table, str(task.get("column", name)))
    whole = all(not isinstance(c, list | bool) and _whole(c) for c in cells)
    return whole and len({str(c) for c in cells}) <= MANY


def _factors(table: Table, task: Mapping[str, Json], name: str) -> bool:
    """Whether the target's numbers are above zero, far apart, and more crowded at the lower end, as prices are."""
    cells = [c for c in sample_of(table, str(task.get("column", name))) if isinstance(c, str | int | float)]
    numbers = np.array([n for c in cells if (n := number_of(str(c))) is not None])
    if not len(numbers) or not numbers.min() > 0:
        return False
    return bool(numbers.max() > 20 * numbers.min() and numbers.mean() > 1.1 * np.median(numbers))


def _whole(cell: object) -> bool:
    number = number_of(str(cell))
    return number is not None and number.is_integer()
