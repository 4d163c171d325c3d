"""Records of several runs put together: what each group's run says of its rows, and all of it measured as one table."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from polymodal.assemble import build, target_part
from polymodal.assemble_tasks import make_measurer, task_folder
from polymodal.core.contracts import Field, Records, Sample
from polymodal.core.errors import RunError
from polymodal.core.schema import Json
from polymodal.core.spec import Spec, TaskSpec
from polymodal.data.source import Source
from polymodal.data.splits import cell_names
from polymodal.data.tables import Table
from polymodal.work import folder as folders
from polymodal.work.evaluation import Evaluation, Measures, TaskResult
from polymodal.work.intervals import intervals
from polymodal.work.left_out import LeftOut, Spread

RECORDS = "records.safetensors"  # in the folder of a run: how each of its rows was answered
CLUSTERS = 8  # groups from which on a bootstrap over them says anything


@dataclass
class Scores:
    """Records and row numbers of each task, in step."""

    records: dict[str, Records]
    rows: dict[str, np.ndarray]

    @classmethod
    def of(cls, found: Evaluation) -> Scores:
        tasks = found.tasks.items()
        return cls({n: t.records for n, t in tasks}, {n: t.rows for n, t in tasks})

    def write(self, folder: Path) -> None:
        tensors = dict(folders.as_tensor(f"records/{c}/{task}", column)
                       for task, columns in self.records.items() for c, column in columns.items())  # fmt: skip
        rows = {f"rows//{task}": torch.from_numpy(np.asarray(rows, np.int64)) for task, rows in self.rows.items()}
        folders.write_tensors(folder / RECORDS, tensors | rows)

    @classmethod
    def read(cls, folder: Path) -> Scores:
        found = cls({}, {})
        for name, tensor in folders.read_tensors(folder / RECORDS).items():
            whole, values = folders.as_column(name, tensor)
            kind, column, task = whole.split("/", 2)
            if kind == "rows":
                found.rows[task] = values
            else:
                found.records.setdefault(task, {})[column] = values
        return found


@dataclass
class Group:
    """One group: the values of the column it stands for, its run folder, its measures, how each row was answered."""

    values: tuple[str, ...]
    folder: Path
    metrics: dict[str, Json]  # as `metrics.json` has them for `test`
    scores: Scores
    fields: dict[str, Field]  # of the targets, as the group's run was fitted

    @classmethod
    def read(cls, folder: Path, values: tuple[str, ...]) -> Group:
        if not (folder / RECORDS).is_file():
            raise RunError(str(folder), "is a finished run, but not one of leave-one-group-out", advice="another --out")
        fields = folders.read_json(folder / "readers.json")["targets"]
        return cls(values, folder, folders.read_json(folder / "metrics.json")["test"], Scores.read(folder), fields)


def pooled(spec: Spec, table: Table, column: str, groups: dict[str, Group]) -> LeftOut:
    """Put the groups' records together and measure them.

    The runs may have met different classes: a task whose records depend on what it was fitted with has `align`, which
    brings them into the terms of one that was fitted on the targets of the whole table.
    """
    values = [value for group in groups.values() for value in group.values]
    resampled = "groups" if len(values) >= CLUSTERS else "rows"
    names = cell_names(table, column)
    result = LeftOut(column, {}, {n: g.values for n, g in groups.items()}, {}, {}, {}, resampled, {}, {},
                     spec.train.seed)  # fmt: skip
    for name, task in spec.tasks.items():
        having = {n: g for n, g in groups.items() if name in g.scores.rows}
        if not having:
            continue
        read = folders.read_json(next(iter(having.values())).folder / "readers.json")["inputs"]
        common = Common(spec, task, table, read)
        rows = np.concatenate([g.scores.rows[name] for g in having.values()])
        records = _joined([common.records(g.scores.records[name], g.fields[name], g.scores.rows[name])
                           for g in having.values()])  # fmt: skip
        order = np.argsort(rows, kind="stable")
        rows, records = rows[order], {c: v[order] for c, v in records.items()}
        clusters = np.unique(names[rows].astype(str), return_inverse=True)[1] if resampled == "groups" else None
        measures = intervals(common.measurer.measure, records, spec.train.seed, clusters=clusters)
        result.measurers[name], result.clusters[name] = common.measurer, clusters
        result.tasks[name] = common.result(measures, records, rows)
    result.groups = {n: _evaluation(spec, table, g) for n, g in groups.items()}
    everywhere = [g.metrics for g in groups.values()]
    result.mean = spread([m["tasks"] for m in everywhere])
    inputs = dict.fromkeys(i for m in everywhere for i in m.get("withheld", {}))
    result.withheld = {i: spread([m["withheld"][i]["tasks"] for m in everywhere if i in m.get("withheld", {})])
                       for i in inputs}  # fmt: skip
    return result


class Common:
    """One task as it would be if it had been fitted on the targets of the whole table; it only measures.

    `read` is what the inputs' readers learned in one of the groups.
    """

    def __init__(self, spec: Spec, task: TaskSpec, table: Table, read: dict[str, Field]) -> None:
        self.task, self.table = task, table
        with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
            files = task_folder(Path(folder), task.name)
            self.reader = build(target_part(task, files))
            self.source = Source(table, task.name, self.reader, task.columns, target=True, cache=None)
            self.reader.fit(self.source.cells(np.arange(len(table))))
            self.measurer = make_measurer(spec, task.name, self.reader.field or {}, read, Path(folder))

    def records(self, records: Records, field: Field, rows: np.ndarray) -> Records:
        align: Callable[..., Records] | None = getattr(self.measurer, "align", None)
        return records if align is None else align(records, field, self._targets(rows))

    def _targets(self, rows: np.ndarray) -> Sample:
        samples = [self.reader(self.source.opened(self.source.raw(int(row), 0))) for row in rows]
        return {name: np.stack([s[name] for s in samples]) for name in samples[0]}

    def result(self, measures: Measures, records: Records, rows: np.ndarray) -> TaskResult:
        charts = self.measurer.charts(records)
        return TaskResult(measures, charts, records, rows, _truth(self.table, self.task, rows), [],
                          self.measurer.metric)  # fmt: skip


def _truth(table: Table, task: TaskSpec, rows: np.ndarray) -> list[Json]:
    return [table.cell(int(row), task.columns[0]) for row in rows]


def _evaluation(spec: Spec, table: Table, group: Group) -> Evaluation:
    """The group's own evaluation, as its run wrote it; the rows' predictions are not kept."""
    tasks = {
        name: TaskResult(group.metrics["tasks"][name], [], group.scores.records[name], rows,
                         _truth(table, task, rows), [])
        for name, task in spec.tasks.items()
        if (rows := group.scores.rows.get(name)) is not None
    }  # fmt: skip
    blind, alone = ({i: w["tasks"] for i, w in group.metrics.get(kind, {}).items()} for kind in ("withheld", "alone"))
    return Evaluation(group.metrics["rows"], tasks, group.metrics["ledger"], blind, alone=alone,
                      calibration=group.metrics.get("calibration", {}))  # fmt: skip


def _joined(parts: list[Records]) -> Records:
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def spread(groups: list[dict[str, Measures]]) -> Spread:
    """Mean, sample standard deviation, smallest and largest of each measure over the groups where it is defined."""
    found: Spread = {}
    for task in dict.fromkeys(t for g in groups for t in g):
        having = [g[task] for g in groups if task in g]
        names = dict.fromkeys(name for m in having for name in m)
        found[task] = {name: _spread([m[name]["value"] for m in having if name in m]) for name in names}
    return found


def _spread(values: list[float | None]) -> dict[str, Json]:
    known = [v for v in values if v is not None]
    if not known:
        return {"value": None, "std": None, "min": None, "max": None, "groups": 0}
    std = statistics.stdev(known) if len(known) > 1 else None
    return {"value": statistics.fmean(known), "std": std, "min": min(known), "max": max(known), "groups": len(known)}
