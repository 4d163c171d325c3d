"""What measuring a model on a table gives: plain numbers, and what the report needs to show them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from polymodal.core.contracts import Prediction, Records
from polymodal.core.schema import Json

Measures = dict[str, dict[str, Json]]  # {"accuracy": {"value": 0.9, "ci95": [0.88, 0.92]}, ...}


@dataclass
class TaskResult:
    """One task on one table; `records`, `rows`, `truth` and `predictions` run in step, one per row with a target."""

    measures: Measures
    charts: list[Json]
    records: Records
    rows: np.ndarray  # row numbers in the table
    truth: list[Json]  # the target cells as the table has them
    predictions: list[Prediction]
    metric: str | None = None  # the measure that stands for the task
    task: Any = None  # the part that measures the records
    asks: tuple[str, ...] = ()  # the task's type and the columns of its target


@dataclass
class Example:
    """A row to look at: what went in, what came out, what was right. `shown` is what each input's reader shows."""

    task: str
    row: int
    truth: Json
    prediction: Prediction
    error: float
    shown: dict[str, list[Json]]  # input -> one {"kind", "data"} per column


@dataclass(repr=False)
class Evaluation:
    """A model measured on a table. `json()` is what `polymodal evaluate --json` prints."""

    rows: int
    tasks: dict[str, TaskResult]
    ledger: dict[str, int] = field(default_factory=dict)  # action -> rows
    withheld: dict[str, dict[str, Measures]] = field(default_factory=dict)  # input -> task -> measures without it
    examples: list[Example] = field(default_factory=list)  # the worst mistakes, worst first
    calibration: dict[str, Json] = field(default_factory=dict)  # task -> what was fitted on validation, and its effect
    alone: dict[str, dict[str, Measures]] = field(default_factory=dict)  # input -> task -> measures with it alone
    question: dict[str, Json] = field(default_factory=dict)  # task -> whether it looks at anything but its question
    looks: list[Any] = field(default_factory=list)  # `looks.Looked`: of some rows, where each word of a sentence looked
    warnings: list[dict[str, Json]] = field(default_factory=list)  # {"kind": "leak", "duplicates" or "blind", "text"}
    compared: Any = None  # `against.Against`: beside another run, where that was asked for

    def __repr__(self) -> str:
        from polymodal.work.notebook import evaluation_text

        return evaluation_text(self)

    def _repr_html_(self) -> str:
        from polymodal.work.notebook import evaluation_html

        return evaluation_html(self)

    def against(self, other: Evaluation, *, name: str = "the other run", seed: int = 0) -> Any:
        """Whether this is better than another run on the same table: `against.Against`, see `docs/watch.md`.

        Raises TableError where they do not go together.
        """
        from polymodal.work.against import against

        return against(self.tasks, other.tasks, other=name, seed=seed)

    def json(self) -> dict[str, Json]:
        plain: dict[str, Json] = {"rows": self.rows, "tasks": {n: t.measures for n, t in self.tasks.items()}}
        if self.withheld:
            plain["withheld"] = {i: {"tasks": tasks} for i, tasks in self.withheld.items()}
        if self.alone:
            plain["alone"] = {i: {"tasks": tasks} for i, tasks in self.alone.items()}
        if self.question:
            plain["question"] = self.question
        if self.warnings:
            plain["warnings"] = self.warnings
        if self.calibration:
            plain["calibration"] = self.calibration
        if self.compared is not None:
            plain["against"] = self.compared.json()
        return {**plain, "ledger": self.ledger}
