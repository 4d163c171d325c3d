"""Measuring a model on a table: every row answered once, records kept, intervals from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from polymodal.data.dataset import Dataset
from polymodal.data.ledger import Entry, Ledger
from polymodal.data.loader import Loader
from polymodal.data.splits import Part

from polymodal.assemble import Assembly
from polymodal.core.contracts import Prediction, Records
from polymodal.core.errors import TableError
from polymodal.core.schema import Json
from polymodal.core.streams import Batch, Target
from polymodal.model import Model, on_device, withhold
from polymodal.work.evaluation import Evaluation, Example, Measures, TaskResult
from polymodal.work.intervals import intervals
from polymodal.work.runtime import Runtime

LOWER_IS_BETTER = frozenset({"loss", "rmse", "mae", "log_loss", "calibration_error", "mape", "mae_original", "rmse_original"})


@dataclass
class Collected:
    """What one pass over a table leaves behind, per task: records and row numbers in step, predictions, losses."""

    records: dict[str, Records]
    rows: dict[str, np.ndarray]
    predictions: dict[str, list[Prediction]] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    answered: int = 0


class _Pile:
    """Records of one task, growing batch by batch."""

    def __init__(self) -> None:
        self.columns: dict[str, list[np.ndarray]] = {}
        self.rows: list[np.ndarray] = []
        self.predictions: list[Prediction] = []
        self.loss = self.weight = 0.0

    def add(self, task: Any, answer: dict, target: Target, batch: Batch, predict: bool) -> None:
        known = target.present.cpu().numpy()
        self.rows.append(np.array([r.number for r in batch.rows], dtype=np.int64)[known])
        for name, column in task.score(answer, target).items():
            self.columns.setdefault(name, []).append(column)
        if predict:
            answers = task.predict(answer, batch.rows)
            self.predictions += [a for a, k in zip(answers, known, strict=True) if k]
        weight = task.weight(target)
        self.loss += float((task.loss(answer, target, None) * weight).sum())
        self.weight += float(weight.sum())


@torch.inference_mode()
def collect(
    model: Model, loader: Loader, runtime: Runtime, *, without: str | None = None, predict: bool = False,
    step: Callable[[int], None] | None = None,
) -> Collected:  # fmt: skip
    """One pass in row order. `without` withholds an input: its cells are there, but count as missing."""
    model.eval()
    piles = {name: _Pile() for name in model.tasks.names}
    entries: list[Entry] = []
    answered = 0
    for micro in loader.epoch(0):
        for batch, bad in micro:
            entries += bad
            if batch is None:
                continue
            batch = on_device(batch if without is None else withhold(batch, without), runtime.move)
            with runtime.autocast():
                out = model(batch, respond=True)
            for name, task in model.tasks.items():
                if name in batch.targets:
                    answer = {k: v.float() for k, v in out.answers[name].items()}
                    piles[name].add(task, answer, batch.targets[name], batch, predict)
            answered += len(batch.rows)
            if step is not None:
                step(len(batch.rows))
    full = {name: pile for name, pile in piles.items() if pile.rows}
    return Collected(
        records={n: {k: np.concatenate(v) for k, v in p.columns.items()} for n, p in full.items()},
        rows={n: np.concatenate(p.rows) for n, p in full.items()},
        predictions={n: p.predictions for n, p in full.items()},
        losses={n: p.loss / p.weight for n, p in full.items() if p.weight},
        entries=entries,
        answered=answered,
    )


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
    found = collect(assembly.model, loader, runtime, predict=True, step=step)
    ledger.extend(found.entries)
    tasks = {n: _result(assembly, n, found, part) for n in found.records if len(found.rows[n])}
    if not tasks:
        raise _nothing(assembly, part, ledger)
    inputs = list(assembly.spec.inputs) if withheld and len(assembly.spec.inputs) > 1 else []
    without: dict[str, dict[str, Measures]] = {}
    for name in inputs:
        blind = collect(assembly.model, loader, runtime, without=name, step=step)
        without[name] = {t: _measures(assembly, t, blind.records[t]) for t in tasks}
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
    charts = assembly.model.tasks[name].charts(records)
    return TaskResult(_measures(assembly, name, records), charts, records, rows, truth, found.predictions[name])


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
