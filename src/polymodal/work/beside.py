"""A trained model beside simple ones: the same rows, the same measures, and each difference with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from polymodal.core.schema import Json
from polymodal.work.evaluation import Evaluation, Measures, TaskResult
from polymodal.work.intervals import paired
from polymodal.work.words import change, interval, main_measure, measure, written


def beside(
    ours: Evaluation, rivals: Mapping[str, Evaluation], tasks: Mapping[str, Any], split: str, seed: int
) -> dict[str, Json]:
    """Each simple model as `metrics.json` has it: `split`, what `Evaluation.json` gives, and `difference`.

    `difference` holds, by task, each measure of the model minus that of the simple one, with a 95 % interval from
    resamples of the rows that both answered. `tasks` are the model's.
    """
    return {
        name: {"split": split, **rival.json(),
               "difference": {t: difference(tasks[t], ours.tasks[t], r, seed) for t, r in rival.tasks.items()}}
        for name, rival in rivals.items()
    }  # fmt: skip


def difference(task: Any, ours: TaskResult, rival: TaskResult, seed: int) -> Measures:
    """Ours minus the rival's, on the same rows. Raises ValueError when they are not the same."""
    if not np.array_equal(ours.rows, rival.rows):
        raise ValueError(f"the model was measured on {len(ours.rows)} rows, the simple one on other {len(rival.rows)}")
    return paired(task.measure, ours.records, rival.records, seed)


def ranked(metrics: Mapping[str, Json], mains: Mapping[str, str | None]) -> list[dict[str, Json]]:
    """By task: the main measure of the model, and of the simple ones beside it, the best of them first.

    `metrics` as `metrics.json` has them, `mains` the main measure of each task. Nothing without `baselines` in it.
    """
    rivals = metrics.get("baselines") or {}
    split = next((plain["split"] for plain in rivals.values()), "")
    found = []
    for task, name in mains.items():
        lines = [
            {"name": rival, "found": plain["tasks"][task][name], "difference": plain["difference"][task][name]}
            for rival, plain in rivals.items()
            if name in plain["tasks"].get(task, {})
        ]
        if name and lines:
            lines.sort(key=lambda line: _order(line["found"]["value"], name))
            own = metrics[split]["tasks"][task][name]
            found.append({"task": task, "measure": name, "split": split, "found": own, "lines": lines,
                          "verdict": verdict(lines[0], name)})  # fmt: skip
    return found


def told(found: list[dict[str, Json]]) -> str:
    """What `ranked` gives as aligned text."""
    lines = []
    for one in found:
        name = one["measure"]
        lines.append(f"  {one['task']}.{name} on {one['split']}: {one['verdict']}")
        for rival in [{"name": "this model", "found": one["found"], "difference": None}, *one["lines"]]:
            shown = f"{written(rival['found']['value'], name)} [{interval(rival['found'], name)}]"
            gap = rival["difference"]
            beyond = f"model minus it: {signed(gap['value'], name)} [{limits(gap, name)}]" if gap else ""
            lines.append(f"    {rival['name']:<14} {shown:<24} {beyond}".rstrip())
    return "\n".join(lines)


def _order(value: float | None, name: str) -> tuple[bool, float]:
    return value is None, 0.0 if value is None else value if measure(name).lower else -value


def verdict(line: dict[str, Json], name: str) -> str:
    """What the difference from the best simple model says."""
    low, high = line["difference"].get("ci95") or (None, None)
    rival = f"the best simple model, {line['name']}"
    if low is None or high is None:
        return f"cannot be compared with {rival}"
    if low <= 0 <= high:
        return f"not told apart from {rival}, by these rows: the interval of the difference holds 0"
    return f"{'better' if (high < 0) == measure(name).lower else 'worse'} than {rival}"


def signed(value: float | None, name: str) -> str:
    """A difference with its sign: `+3.1 points`, `−0.042`."""
    return "–" if value is None else change(value if measure(name).lower else -value, name)


def limits(found: dict[str, Json], name: str) -> str:
    """The interval of a difference: `+0.4 to +5.9`."""
    low, high = found.get("ci95") or (None, None)
    if low is None or high is None:
        return ""
    return f"{signed(low, name).removesuffix(' points')} to {signed(high, name).removesuffix(' points')}"


def text(found: Mapping[str, Evaluation]) -> str:
    """Simple models as aligned text: by task a line for each, the best first, its main measure with the interval."""
    lines = []
    for task in dict.fromkeys(t for e in found.values() for t in e.tasks):
        results = {name: e.tasks[task] for name, e in found.items() if task in e.tasks}
        main = main_measure(next(iter(results.values()))) or ""
        others = [m for m in next(iter(results.values())).measures if m != main]
        lines.append(f"{task}: {measure(main).name} [95 %] on {len(next(iter(results.values())).rows):,} rows")
        for name in sorted(results, key=lambda n: _order(results[n].measures[main]["value"], main)):
            measures = results[name].measures
            rest = "  ".join(f"{m} {written(measures[m]['value'], m)}" for m in others)
            shown = f"{written(measures[main]['value'], main)} [{interval(measures[main], main)}]"
            lines.append(f"  {name:<14} {shown:<24} {rest}")
    return "\n".join(lines)
