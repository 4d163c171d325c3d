"""What the report and the card say and draw of trust."""

from __future__ import annotations

import re

import numpy as np

from polymodal.core.contracts import Prediction
from polymodal.work import plots
from polymodal.work.evaluation import Evaluation, TaskResult
from polymodal.work.report import chart, measures
from polymodal.work.trust.evidence import selective
from polymodal.work.trust.words import trust_sentences


def measured(value: float | None, low: float | None = None, high: float | None = None) -> dict:
    return {"value": value, "ci95": [low, high]}


def evaluation(fitted: dict, found: dict) -> Evaluation:
    result = TaskResult(found, [], {"error": np.zeros(1)}, np.arange(1), ["a"], [Prediction("a")])
    return Evaluation(1, {"y": result}, calibration={"y": fitted})


def scaling(temperature: float) -> dict:
    before, after = ({"calibration_error": measured(v, v - 0.01, v + 0.01)} for v in (0.081, 0.02))
    moved = {"calibration_error": measured(-0.061, -0.07, -0.05)}
    return {"temperature": temperature, "before": before, "after": after, "difference": moved}


def test_sentences_say_what_was_measured() -> None:
    sets = {"sets": {"level": 0.9, "rows": 1320, "expected95": [0.869, 0.928]}}
    found = {
        "accuracy": measured(0.7),
        "coverage_90": measured(0.897, 0.88, 0.91),
        "set_size_90": measured(1.34, 1.3, 1.4),
        "answered_at": measured(0.6, 0.55, 0.65),
        "accuracy_answered": measured(0.96, 0.94, 0.98),
    }
    one, two, three = trust_sentences(evaluation({**scaling(1.77), **sets}, found))
    assert one == (
        "y",
        "Logits are divided by a temperature of 1.77, fitted on validation rows: the calibration error goes "
        "from 8.1 % to 2.0 % (−6.1 points, 95 % interval −7.0 to −5.0).",
    )
    assert two[1].startswith("The 90 % sets hold the truth in 89.7 % (88.0 to 91.0 %) of the rows, and hold 1.340 (")
    assert "With 1,320 validation rows behind them, 86.9 to 92.8 % was to be expected" in two[1]
    assert three[1].startswith("60.0 % (55.0 to 65.0 %) of the rows are answered; of these answers 96.0 % (94.0")
    (plain,) = trust_sentences(evaluation(scaling(1.0), {}))
    assert plain[1].startswith("The temperature is 1: no other made confidence clearly better")
    wide = {"coverage_90": measured(1.0, 1.0, 1.0), "interval_width_90": measured(None)}
    (endless,) = trust_sentences(evaluation(sets, wide))
    assert "and are – wide on average" in endless[1]
    assert trust_sentences(Evaluation(0, {})) == []


def test_a_measure_of_one_table_stands_with_its_task() -> None:
    one = evaluation({}, {"accuracy": measured(0.5)})
    two = evaluation({}, {"accuracy": measured(0.5), "coverage_90": measured(0.9)})
    one.tasks["z"] = two.tasks["z"] = two.tasks["y"]
    lines = measures({"valid": one, "test": two})
    assert [(line["task"], line["measure"]) for line in lines] == [
        ("y", "accuracy"), ("y", "coverage_90"), ("z", "accuracy"), ("z", "coverage_90"),
    ]  # fmt: skip
    assert lines[1]["found"][0] is None


def test_charts_draw_the_points_they_are_given() -> None:
    points = [{"level": v, "coverage": v - 0.1, "low": v - 0.05, "high": v + 0.05} for v in (0.5, 0.7, 0.9)]
    drawn = chart({"kind": "coverage", "points": points})
    assert drawn is not None
    path = re.search(r'<path d="(M [^"]+)"[^>]*stroke: var\(--c1\)', drawn["svg"])
    assert path is not None
    x, y = np.array([float(n) for n in re.findall(r"[\d.]+", path[1])]).reshape(-1, 2).T
    assert np.allclose(np.diff(x), np.diff(x)[0])
    assert np.allclose(np.diff(y), np.diff(y)[0])
    assert y[0] > y[1]
    bins = [{"confidence": c, "accuracy": c, "count": 5} for c in (0.5, 0.9)]
    assert "var(--c2)" in plots.reliability(bins, bins)
    assert "var(--c2)" not in plots.reliability(bins)
    assert chart({"kind": "reliability", "bins": bins})["before"] is False
    assert chart({"kind": "coverage", "points": []}) is chart({"kind": "selective", "points": []}) is None


def test_accuracy_among_the_surest() -> None:
    points = selective(np.array([0.9, 0.6, 0.8, 0.7]), np.array([True, False, True, False]))
    assert points == [
        {"answered": 0.25, "accuracy": 1.0}, {"answered": 0.5, "accuracy": 1.0},
        {"answered": 0.75, "accuracy": 2 / 3}, {"answered": 1.0, "accuracy": 0.5},
    ]  # fmt: skip
    assert len(selective(np.random.default_rng(0).random(5000), np.ones(5000, bool))) == 50
