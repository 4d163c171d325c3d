"""What a score should not be believed for: an input that knows the answer, rows that the training has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from polymodal.assemble import Assembly
from polymodal.core.contracts import Records
from polymodal.core.schema import Json
from polymodal.data.duplicates import find_near
from polymodal.data.fingerprints import Marks
from polymodal.data.leaks import BALANCED, FEWEST, SURE
from polymodal.work.evaluation import Evaluation, Measures, TaskResult
from polymodal.work.words import main_measure, measure, written

PERFECT = ("accuracy", "subset_accuracy", "r2")  # measures that are 1 when all is right
AS_GOOD = 0.01  # below all inputs together
SHOWN = 20  # pairs that are named


def groups(inputs: Sequence[str]) -> list[tuple[str, ...]]:
    """What to withhold together so that each input is alone; of two inputs each is alone without the other anyway."""
    return [tuple(other for other in inputs if other != one) for one in inputs] if len(inputs) > 2 else []


def alone(
    inputs: Sequence[str], without: Mapping[str, dict[str, Measures]], rest: Sequence[dict[str, Measures]]
) -> dict[str, dict[str, Measures]]:
    """Input -> task -> measures with nothing but this input; `rest` are those of `groups`, `without` those of one."""
    if len(inputs) == 2:
        return {one: without[other] for one, other in (inputs, inputs[::-1])}
    return dict(zip(inputs, rest, strict=False))


def leaks(found: Evaluation) -> list[dict[str, Json]]:
    """An input that alone is nearly perfect and about as good as all; none where that is true of every input."""
    warnings = []
    for task, result in found.tasks.items():
        name = next((m for m in PERFECT if m in result.measures), None)
        if name is None or len(result.rows) < FEWEST:
            continue
        together = result.measures[name]["value"]
        each = {one: tasks[task] for one, tasks in found.alone.items() if task in tasks}
        sure = {one: m[name]["value"] for one, m in each.items() if _perfect(m, name, together)}
        if len(sure) < len(each):
            warnings += [_leak(task, name, one, value, together, len(result.rows)) for one, value in sure.items()]
    return warnings


def _perfect(found: Measures, name: str, together: float | None) -> bool:
    value = found.get(name, {}).get("value")
    balanced = found.get("balanced_accuracy", {}).get("value")
    if value is None or together is None or (balanced is not None and balanced < BALANCED):
        return False
    return bool(value >= SURE and value >= together - AS_GOOD)


def _leak(task: str, name: str, one: str, value: float, together: float, rows: int) -> dict[str, Json]:
    scores = f"{measure(name).name} {written(value, name)}; all inputs {written(together, name)}; {rows} rows"
    text = f"{one} alone predicts {task} ({scores}): is it known before the answer is? If not, leave it out"
    return {"kind": "leak", "task": task, "input": one, "measure": name, "alone": value, "together": together,
            "rows": rows, "text": text}  # fmt: skip


def duplicates(
    assembly: Assembly, found: Evaluation, train: dict[str, Marks], measured: dict[str, Marks], count: int
) -> list[dict[str, Json]]:
    """Which of the `count` measured rows nearly repeat training rows, and every task's main measure without them."""
    known = {name: train[name] for name in assembly.readers if name in train and name in measured}
    near, _ = find_near(known, {"measured": measured}, assembly.readers)
    if not near:
        return []
    rows = np.unique(np.concatenate([one.numbers for one in near]))
    pairs: list[dict[str, Json]] = [{"input": one.input, **p._asdict()} for one in near for p in one.pairs]
    pairs.sort(key=lambda p: p["distance"])
    inputs = {one.input: one.rows for one in near}
    changed = {task: c for task, r in found.tasks.items() if (c := _without(assembly, task, r, rows)) is not None}
    text = f"{len(rows)} of {count} rows nearly repeat training rows ({_counted(inputs)})"
    text += "".join(f"; {task}: {_change(c)}" for task, c in changed.items())
    return [{"kind": "duplicates", "rows": len(rows), "of": count, "inputs": inputs, "without": changed,
             "pairs": pairs[:SHOWN], "text": text}]  # fmt: skip


def _without(assembly: Assembly, task: str, result: TaskResult, rows: np.ndarray) -> dict[str, Json] | None:
    """The main measure on all rows and on the others; None where the task has none of these rows."""
    name, kept = main_measure(result), ~np.isin(result.rows, rows)
    if name is None or kept.all():
        return None
    records: Records = {column: values[kept] for column, values in result.records.items()}
    left = int(kept.sum())
    value = float(assembly.model.tasks[task].measure(records, np.ones((1, left)))[name][0]) if left else np.nan
    plain = value if np.isfinite(value) else None
    return {"measure": name, "all": result.measures[name]["value"], "without": plain, "rows": left}


def _change(found: dict[str, Json]) -> str:
    name = found["measure"]
    if not found["rows"]:
        return "no other rows are left to measure on"
    return f"{measure(name).name} {written(found['all'], name)}, without them {written(found['without'], name)}"


def _counted(inputs: dict[str, int]) -> str:
    return next(iter(inputs)) if len(inputs) == 1 else ", ".join(f"{name} {rows}" for name, rows in inputs.items())
