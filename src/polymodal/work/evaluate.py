"""Measuring a model on a table: every row answered once, records kept, intervals from them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from polymodal.assemble import Assembly
from polymodal.core.contracts import Records
from polymodal.core.errors import TableError
from polymodal.core.schema import Json
from polymodal.data.dataset import Dataset
from polymodal.data.fingerprints import Marks, marks_of, watch
from polymodal.data.ledger import Ledger
from polymodal.data.loader import Loader
from polymodal.data.splits import Part
from polymodal.model import Model
from polymodal.work import question, warn
from polymodal.work.against import asked
from polymodal.work.collect import Collected, collect_changed
from polymodal.work.evaluation import Evaluation, Example, Measures, TaskResult
from polymodal.work.intervals import intervals
from polymodal.work.looks import look
from polymodal.work.runtime import Runtime
from polymodal.work.trust.abstain import Threshold
from polymodal.work.trust.evidence import add_evidence
from polymodal.work.trust.store import Trust

LOOKED = 6  # rows whose sentences are shown word by word


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
    trust: Trust | None = None, thresholds: dict[str, Threshold] | None = None,
    train: dict[str, Marks] | None = None,
) -> Evaluation:  # fmt: skip
    """Every task's measures with 95 % intervals, the same with each input withheld, charts and the worst mistakes.

    `trust` is what was kept of validation rows, for the coverage of sets; `thresholds` are those of abstaining.
    `train` are the training rows' fingerprints, which the rows are compared with.

    Raises TableError when there is no row to measure on.
    """
    settings = assembly.spec.train
    if dataset is None:
        dataset = assembly.dataset(part, ledger, targets=True)
        watch({n: s for n, s in dataset.inputs.items() if n in (train or {})}, {})
    loader = Loader(dataset, batch=max(64, settings.batch), seed=settings.seed, shuffle=False, augment=False,
                    buckets=False, workers=settings.workers)  # fmt: skip
    inputs = list(assembly.spec.inputs) if withheld and len(assembly.spec.inputs) > 1 else []
    others = warn.groups(inputs)
    changes = question.changes(assembly, [*inputs, *others])
    found, gone = collect_changed(assembly.model, loader, runtime, changes, predict=True, step=step)
    blind = {n: gone[n] for n in inputs}
    ledger.extend(found.entries)
    tasks = {n: _result(assembly, n, found, part) for n in found.records if len(found.rows[n])}
    if not tasks:
        raise _nothing(assembly, part, ledger)
    without = {n: {t: _measures(assembly, t, one.records[t]) for t in tasks} for n, one in blind.items()}
    examples = [e for n, result in tasks.items() for e in _worst(assembly, n, result, part, worst)]
    proof = add_evidence(assembly, tasks, without, blind, trust or {}, thresholds or {})
    rest = [{t: _measures(assembly, t, gone[group].records[t]) for t in tasks} for group in others]
    made = Evaluation(found.answered, tasks, ledger.counts(), without, examples, proof)
    made.looks = look(assembly, dataset, next(iter(tasks.values())).rows[:LOOKED], runtime)
    made.alone = warn.alone(inputs, without, rest)
    made.question = question.compare(assembly, part.table, found, gone) if inputs else {}
    made.warnings = warn.leaks(made) + question.warnings(made)
    if train:
        rows = np.unique(np.concatenate([result.rows for result in tasks.values()]))
        made.warnings += warn.duplicates(assembly, made, train, marks_of(dataset.inputs, rows), len(rows))
    return made


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
    one: dict[Json, Json] = {}  # of each answer, so that a million rows hold a handful of texts
    cells = part.table.cells(rows, columns[0])
    truth = [one.setdefault(cell, cell) if isinstance(cell, str) else cell for cell in cells]
    task = assembly.model.tasks[name]
    measures, charts = _measures(assembly, name, records), task.charts(records)
    return TaskResult(measures, charts, records, rows, truth, found.predictions[name], task.metric, task,
                      asked(assembly.spec)[name])  # fmt: skip


def _worst(assembly: Assembly, name: str, result: TaskResult, part: Part, count: int) -> list[Example]:
    if getattr(assembly.model.tasks[name], "mixes", False):
        return []
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
