"""What leave-one-group-out gives: each group's scores, their mean and spread, and all rows measured as one table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from polymodal.core.contracts import Records
from polymodal.core.errors import TableError, shorten
from polymodal.core.schema import Json
from polymodal.work import folder as folders
from polymodal.work.evaluation import Evaluation, Measures, TaskResult
from polymodal.work.intervals import Measure, paired
from polymodal.work.report import write_report
from polymodal.work.words import interval, main_measure, measure, written

PAGES = ("leave_out.json", "leave_out.md", "report.html")
Spread = dict[str, dict[str, dict[str, Json]]]  # task -> measure -> {"value", "std", "min", "max", "groups"}


class Answered(NamedTuple):
    """How rows of a table were answered, for one task."""

    records: Records
    rows: np.ndarray
    truth: list[Json] | None = None  # the target cells, where they are known


@dataclass
class LeftOut:
    """Every group scored by a run that was trained without it. `json()` is what the command line prints.

    `groups` are the groups' own evaluations by name; `mean` is over the groups, each counted alike; `tasks` has all
    rows together, measured as one table, with intervals from a bootstrap over `resampled` ("groups" or "rows").
    """

    column: str
    groups: dict[str, Evaluation]
    members: dict[str, tuple[str, ...]]  # group -> the values of the column it stands for
    mean: Spread
    withheld: dict[str, Spread]  # input -> mean over the groups without it
    tasks: dict[str, TaskResult]
    resampled: str
    clusters: dict[str, np.ndarray | None]  # task -> which rows are drawn together
    measurers: dict[str, Any]  # task -> the part that measures its records
    seed: int

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.groups.values())

    def json(self) -> dict[str, Json]:
        groups = {n: {"values": list(self.members[n]), **e.json()} for n, e in self.groups.items()}
        plain: dict[str, Json] = {"rows": self.rows, "tasks": {n: t.measures for n, t in self.tasks.items()}}
        plain |= {"column": self.column, "resampled": self.resampled, "mean": self.mean}
        if self.withheld:
            plain["withheld"] = {i: {"tasks": tasks} for i, tasks in self.withheld.items()}
        return {**plain, "groups": groups, "ledger": self._ledger()}

    def _ledger(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for group in self.groups.values():
            for action, number in group.ledger.items():
                counts[action] = counts.get(action, 0) + number
        return counts

    def against(self, other: LeftOut) -> dict[str, Measures]:
        """The difference `self - other` of each measure, by task, on the rows that both have answered.

        Rows are matched by their number in the table, which must be the same one; both are measured on the same
        resamples, and an interval without 0 is a difference that the choice of rows does not explain. Raises
        TableError when no task has rows in common.
        """
        found = {
            name: difference(self.measurers[name].measure, name, self.scores(name), other.scores(name), self.seed,
                             self.clusters[name])
            for name in self.tasks if name in other.tasks
        }  # fmt: skip
        if not found:
            raise TableError("against", "no task in common", given=list(other.tasks), advice=str(list(self.tasks)))
        return found

    def scores(self, task: str) -> Answered:
        """The task's records, row numbers and targets, in step."""
        result = self.tasks[task]
        return Answered(result.records, result.rows, result.truth)

    def text(self) -> str:
        """The scores as a Markdown page."""
        lines = [f"# {len(self.groups)} groups by `{self.column}`, each scored by a model trained without it", ""]
        for name, result in self.tasks.items():
            lines += [f"## {name}", "", *self._table(name), "", *self._rows(name, result), ""]
        ledger = self._ledger()
        return "\n".join([*lines, *([f"Ledger: {ledger}."] if ledger else [])]).strip() + "\n"

    def _table(self, task: str) -> list[str]:
        """All rows together, and the mean over groups."""
        drawn = f"bootstrap over {self.resampled}"
        lines = [f"| measure | all rows | 95 % ({drawn}) | mean over groups | std | lowest | highest |"]
        lines += ["|" + " --- |" * 7]
        for name, spread in self.mean[task].items():
            found = self.tasks[task].measures.get(name, {})  # what depends on each run's own thresholds has none
            cells = [written(found.get("value"), name), interval(found, name)]
            cells += [written(spread[key], name) for key in ("value", "std", "min", "max")]
            lines.append("| " + " | ".join([measure(name).name, *cells]) + " |")
        return lines

    def _rows(self, task: str, result: TaskResult) -> list[str]:
        """Each group's main measure."""
        main = main_measure(result) or ""
        lines = [f"| {self.column} | rows | {measure(main).name} | 95 % |", "|" + " --- |" * 4]
        for name, group in self.groups.items():
            own = group.tasks.get(task)
            found = own.measures.get(main, {}) if own else {}
            cells = [_cell(self.members[name]), str(len(own.rows) if own else 0), written(found.get("value"), main)]
            lines.append("| " + " | ".join([*cells, interval(found, main)]) + " |")
        return lines

    def write(self, out: Path) -> None:
        """`leave_out.json`, `leave_out.md` and `report.html`, with all rows together, into the folder of the groups."""
        folders.write_json(out / "leave_out.json", self.json())
        folders.write_bytes(out / "leave_out.md", self.text().encode("utf-8", "replace"))
        write_report(out, {"left out": Evaluation(self.rows, self.tasks, self._ledger())})


def difference(measure: Measure, name: str, ours: Answered, rival: Answered, seed: int,
               clusters: np.ndarray | None = None) -> Measures:  # fmt: skip
    """`ours - rival` with paired intervals, on the rows that both answered. Raises TableError where those differ."""
    here, there = matched(name, ours, rival)
    mine, theirs = ({c: v[at] for c, v in r.records.items()} for r, at in ((ours, here), (rival, there)))
    return paired(measure, mine, theirs, seed, clusters=None if clusters is None else clusters[here])


def matched(name: str, ours: Answered, rival: Answered) -> tuple[np.ndarray, np.ndarray]:
    """Where the rows that both answered stand in each. Raises TableError where there are none, or targets differ."""
    _, here, there = np.intersect1d(ours.rows, rival.rows, return_indices=True)
    targets = [[r.truth[i] for i in at] for r, at in ((ours, here), (rival, there)) if r.truth is not None]
    if not len(here) or (len(targets) == 2 and targets[0] != targets[1]):
        raise TableError(name, "was not measured on the same rows", advice="two results on one table")
    return here, there


def _cell(values: tuple[str, ...]) -> str:
    """The values of a group in a cell of Markdown, on one line and not too long."""
    named = " ".join(shorten(values if len(values) > 1 else values[0], 80).strip("'\"()").split())
    return named.replace("|", "\\|")
