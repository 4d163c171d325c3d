"""What was measured of trust, in sentences for the report and the model card."""

from __future__ import annotations

from collections.abc import Iterator

from polymodal.core.schema import Json
from polymodal.work.evaluation import Evaluation, Measures
from polymodal.work.words import change, interval, written

ERROR = "calibration_error"


def trust_sentences(main: Evaluation) -> list[tuple[str, str]]:
    """(task, sentence) for all that was fitted on validation rows, and how it stood up to these rows."""
    told = []
    for task, fitted in main.calibration.items():
        found = main.tasks[task].measures
        told += [(task, text) for text in (*_scaling(fitted), *_sets(fitted, found), *_answered(found))]
    return told


def _scaling(fitted: dict[str, Json]) -> Iterator[str]:
    if "temperature" not in fitted or fitted["before"][ERROR]["value"] is None:
        return
    before, after, moved = (fitted[part][ERROR] for part in ("before", "after", "difference"))
    if fitted["temperature"] == 1:
        yield (f"The temperature is 1: no other made confidence clearly better on validation rows. "
               f"The calibration error is {_with_interval(after, ERROR)}.")  # fmt: skip
        return
    ends = [change(end, ERROR).removesuffix(" points") for end in moved["ci95"]]
    yield (f"Logits are divided by a temperature of {fitted['temperature']:.3g}, fitted on validation rows: the "
           f"calibration error goes from {written(before['value'], ERROR)} to {written(after['value'], ERROR)} "
           f"({change(moved['value'], ERROR)}, 95 % interval {ends[0]} to {ends[1]}).")  # fmt: skip


def _sets(fitted: dict[str, Json], found: Measures) -> Iterator[str]:
    sets = fitted.get("sets")
    if sets is None:
        return
    percent = f"{100 * sets['level']:g}"
    size = next(n for n in found if n.endswith(f"_{percent}") and not n.startswith("coverage"))
    several, mean = size.startswith("set"), _with_interval(found[size], size)
    low, high = (written(end, "coverage_90").removesuffix(" %") for end in sets["expected95"])
    yield (f"The {percent} % {'sets' if several else 'intervals'} hold the truth in "
           f"{_with_interval(found[f'coverage_{percent}'], 'coverage_90')} of the rows, and "
           f"{f'hold {mean} classes' if several else f'are {mean} wide'} on average. With {sets['rows']:,} validation "
           f"rows behind them, {low} to {high} % was to be expected on as many rows as these.")  # fmt: skip


def _answered(found: Measures) -> Iterator[str]:
    if "answered_at" in found:
        share, right = found["answered_at"], found["accuracy_answered"]
        yield (f"{_with_interval(share, 'answered_at')} of the rows are answered; of these answers "
               f"{_with_interval(right, 'accuracy_answered')} are right.")  # fmt: skip


def _with_interval(found: dict[str, Json], name: str) -> str:
    ends = interval(found, name)
    return written(found["value"], name) + (f" ({ends})" if ends else "")
