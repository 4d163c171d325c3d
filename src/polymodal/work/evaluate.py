"""Measuring a model on a table: every row answered once, records kept, intervals from them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from polymodal.assemble import Assembly
from polymodal.core.contracts import Records
from polymodal.core.errors import TableError
from polymodal.core.schema import Json
from polymodal.data.dataset import Dataset
from polymodal.data.ledger import Ledger
from polymodal.data.loader import Loader
from polymodal.data.splits import Part
from polymodal.model import Model
from polymodal.work.collect import Collected, collect
from polymodal.work.evaluation import Evaluation, Example, Measures, TaskResult
from polymodal.work.intervals import intervals
from polymodal.work.runtime import Runtime


def scores(model: Model, found: Collected) -> dict[str, float]:
    """`task.measure` -> value, and `task.loss`, without intervals: what training looks at after every epoch."""
    values = {f"{name}.loss": loss for name, loss in found.losses.items()}
    for name, records in found.records.items():
        count = len(found.rows[name])
        if count:
            measured = model.tasks[name].measure(records, np.ones((1, count)))
            values |= {f"{name}.{measure}": float(v[0]) for measure, v in measured.items()}
    return values


def evaluate(
    assembly: Assembly, part: Part, runtime: Runtime, ledger: Ledger, *, dataset: Dataset | None = None,
    withheld: bool = True, worst: int = 12, step: Callable[[int], None] | None = None,
) -> Evaluation:  # fmt: skip
    """Every task's measures with 95 % intervals, the same with each input withheld, charts and the worst mistakes.

    Raises TableError when there is no row to measure on.
    """
    settings = assembly.spec.train
    dataset = dataset or assembly.dataset(part, ledger, targets=True)
    loader = Loader(dataset, batch=max(64, settings.batch), seed=settings.seed, shuffle=False, augment=False,
                    buckets=False, workers=settings.workers)  # fmt: skip
    inputs = list(assembly.spec.inputs) if withheld and len(assembly.spec.inputs) > 1 else []
    found, blind = collect(assembly.model, loader, runtime, withheld=inputs, predict=True, step=step)
    ledger.extend(found.entries)
    tasks = {n: _result(assembly, n, found, part) for n in found.records if len(found.rows[n])}
    if not tasks:
        raise _nothing(assembly, part, ledger)
    without = {n: {t: _measures(assembly, t, gone.records[t]) for t in tasks} for n, gone in blind.items()}
    examples = [e for n, result in tasks.items() for e in _worst(assembly, n, result, part, worst)]
    return Evaluation(found.answered, tasks, ledger.counts(), without, examples)


def _nothing(assembly: Assembly, part: Part, ledger: Ledger, most: int = 5) -> TableError:
    reasons = [f"\n  row {row}: {text}" for row, text in list(ledger.reasons.items())[:most]]
    columns = [c for task in assembly.spec.tasks.values() for c in task.columns]
    return TableError(part.table.name, f"none of {len(part.rows)} rows can be measured{''.join(reasons)}",
                      advice=f"rows that can be read, with a target in {columns}")  # fmt: skip


def _measures(assembly: Assembly, task: str, records: Records) -> Measures:
    return intervals(assembly.model.tasks[task].measure, records, assembly.spec.train.seed)


def _result(assembly: Assembly, name: str, found: Collected, part: Part) -> TaskResult:
    records, rows = found.records[name], found.rows[name]
    columns = assembly.spec.tasks[name].columns
    truth = [part.table.cell(int(r), columns[0]) for r in rows]
    task = assembly.model.tasks[name]
    measures, charts = _measures(assembly, name, records), task.charts(records)
    return TaskResult(measures, charts, records, rows, truth, found.predictions[name], task.metric)


def _worst(assembly: Assembly, name: str, result: TaskResult, part: Part, count: int) -> list[Example]:
    error = result.records["error"]
    worst = np.argsort(-error, kind="stable")[:count]
    dataset = assembly.dataset(part, Ledger(), targets=False)
    return [
        Example(
            name,
            int(result.rows[i]),
            _plain(result.truth[i]),
            result.predictions[i],
            float(error[i]),
            {n: dataset.show(n, int(result.rows[i])) for n in assembly.readers},
        )
        for i in worst
    ]


def _plain(value: object) -> Json:
    return value if isinstance(value, str | int | float | bool | list | None) else str(value)
