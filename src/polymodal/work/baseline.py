"""Simple models fitted on a spec's training rows and measured on the very rows that a trained model is measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from polymodal import assemble
from polymodal.core import catalog
from polymodal.core.contracts import Answers, Baseline, Goal
from polymodal.core.errors import SpecError, TableError, suggest
from polymodal.core.schema import Json, check_settings
from polymodal.core.spec import PartSpec, Spec
from polymodal.core.streams import Answer, Row, Target
from polymodal.data.dataset import Dataset
from polymodal.data.splits import Part
from polymodal.model import Model
from polymodal.work.evaluation import Evaluation, TaskResult
from polymodal.work.intervals import intervals
from polymodal.work.look import Ground, Kind, Look, Seen
from polymodal.work.progress import Display
from polymodal.work.runtime import Runtime

Settings = Mapping[str, Json]  # of baselines, by name: a mapping each


def measure_baselines(ground: Ground, parts: Mapping[str, Part], names: Sequence[str] | None = None,
                      settings: Settings | None = None, *,
                      datasets: Mapping[str, Dataset] | None = None, runtime: Runtime | None = None,
                      model: Model | None = None, display: Display | None = None) -> dict[str, Evaluation]:  # fmt: skip
    """Each named baseline, or all that the inputs suit: fitted on `train` alone, measured on `test`, else on `valid`.

    Rows, measures and intervals are those of `evaluate`. `datasets` are those of a training, whose cells are at hand;
    `model` has the encoders whose features are used, untrained ones when not given.
    Raises SpecError for a wrong name or setting, and TableError where no row can be used.
    """
    display = display or Display(quiet=True)
    wired = {"seed": ground.spec.train.seed, "types": ground.types, "fields": ground.fields}
    chosen = {part.type: assemble.build(part, **wired) for part in choose(ground.spec, names, settings)}
    kinds = ground.kinds
    if not kinds:
        raise SpecError("tasks", "simple models answer none of them", given=list(ground.spec.tasks),
                        advice="a task whose target is a class, a set of classes or a number")  # fmt: skip
    look = Look(ground, chosen, runtime, model)
    seen: list[Seen] = []
    for name in ("train", "test" if "test" in parts else "valid"):
        dataset = (datasets or {}).get(name) or ground.dataset(parts[name])
        with display.bar(f"reading {name}", len(dataset.rows)) as bar:
            seen.append(look(dataset, bar.advance))
    train, held = seen
    tasks = {name: _Compared(ground, name, kind, train, held) for name, kind in kinds.items()}
    tasks = {name: task for name, task in tasks.items() if held.known(name).any()}
    found = {}
    with display.bar("simple models", len(chosen)) as bar:
        for name, baseline in chosen.items():
            results = {t: task.result(task.answers(baseline, name)) for t, task in tasks.items()}
            found[name] = Evaluation(len(held.rows), results, held.ledger.counts())
            bar.advance(1)
    return found


def check_names(spec: Spec, names: Sequence[str] | None, settings: Settings | None = None) -> None:
    """Raises, before anything is read or trained, what is wrong with names, settings and what is installed."""
    if {part.type for part in choose(spec, names, settings)} - {"majority", "same_text"}:
        catalog.need("sklearn", "baselines")


def choose(spec: Spec, names: Sequence[str] | None, settings: Settings | None = None) -> list[PartSpec]:
    """The baselines with their settings checked. Raises SpecError for one that is not known or that no input suits."""
    types = tuple(one.reader.type for one in spec.inputs.values())
    listed = {n: _load(n) for n in (catalog.names("baseline") if names is None else dict.fromkeys(names))}
    suited = [name for name, cls in listed.items() if cls.takes(types)]
    for name in [] if names is None else listed:
        if name not in suited:
            others = [n for n in catalog.names("baseline") if _load(n).takes(types)]
            raise SpecError(f"baselines.{name}", f"has no use for inputs of type {', '.join(dict.fromkeys(types))}",
                            advice=suggest(name, others))  # fmt: skip
    for name, given in (settings or {}).items():
        if name not in suited or not isinstance(given, Mapping):
            raise SpecError(f"baselines.{name}", "is none of the baselines that are fitted" if name not in suited else
                            "takes names and values", given=given, advice=suggest(name, suited))  # fmt: skip
    given = {name: check_settings(listed[name], (settings or {}).get(name, {}), f"baselines.{name}") for name in suited}
    return [PartSpec("baseline", name, given[name], f"baselines.{name}") for name in suited]


def _load(name: str) -> Any:
    return catalog.load("baseline", name, f"baselines.{name}")


class _Compared:
    """One task on the rows it has a target in: what baselines learn from, and how their answers are measured."""

    def __init__(self, ground: Ground, name: str, kind: Kind, train: Seen, held: Seen) -> None:
        self.name, self.kind, self.train, self.held = name, kind, train, held
        self.task, self.spec = ground.task(name), ground.spec
        target = train.targets[name]
        self.learned = train.known(name)
        if kind == "class":
            self.learned = self.learned & (target.data["class"].numpy() >= 0)
        if not self.learned.any():
            raise TableError(train.table.name, f"no training row that can be read has a target for {name!r}",
                             advice=f"check column {ground.spec.tasks[name].columns[0]!r}")  # fmt: skip
        self.own = _take(target, np.flatnonzero(self.learned))
        types = {"class": np.int64, "classes": bool, "value": np.float64}
        self.goal = Goal(kind, self.own.data[kind].numpy().astype(types[kind]), ground.classes(name), self.score)

    def score(self, answers: Answers, rows: np.ndarray) -> float:
        """The task's own main measure on some of the training rows, larger is better."""
        records = self.task.score(_tensors(answers), _take(self.own, rows))
        value = float(self.task.measure(records, np.ones((1, len(rows))))[self.task.metric][0])
        return value if self.task.maximize else -value

    def answers(self, baseline: Baseline, name: str) -> Answers:
        """What the baseline says of the held-out rows, fitted on the training rows."""
        fitted = baseline.fit(self.train.features[name][self.learned], self.goal)
        return fitted(self.held.features[name][self.held.known(self.name)])

    def result(self, answers: Answers) -> TaskResult:
        there = np.flatnonzero(self.held.known(self.name))
        rows, answer = self.held.rows[there], _tensors(answers)
        records = self.task.score(answer, _take(self.held.targets[self.name], there))
        column = self.spec.tasks[self.name].columns[0]
        return TaskResult(
            intervals(self.task.measure, records, self.spec.train.seed),
            self.task.charts(records),
            records,
            rows,
            [self.held.table.cell(row, column) for row in rows.tolist()],
            self.task.predict(answer, [Row(row) for row in rows.tolist()]),
            self.task.metric,
        )


def _take(target: Target, rows: np.ndarray) -> Target:
    at = torch.from_numpy(rows)
    return Target({name: values[at] for name, values in target.data.items()}, target.present[at])


def _tensors(answers: Answers) -> Answer:
    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in answers.items()}
