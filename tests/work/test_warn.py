"""Warnings of an evaluation: an input that knows the answer, rows that training has seen; runs old and new."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polymodal
from endtoend import Shell, spec, write_spec, write_table
from polymodal.core.errors import RunError
from polymodal.data.tables import open_table
from polymodal.work import fingerprints, warn
from polymodal.work.evaluation import Evaluation, TaskResult

WORDS = [
    *("red", "blue", "green", "mug", "lamp", "bowl", "chair", "small", "large"),
    *("old", "new", "wooden", "steel", "round", "flat", "deep", "cheap", "fine"),
]
INPUTS: dict[str, Any] = {
    "title": {"type": "text", "min_count": 1, "encoder": {"type": "gru", "width": 8}},
    "note": {"type": "text", "min_count": 1, "encoder": {"type": "gru", "width": 8}},
    "facts": {"type": "tabular", "columns": ["secret"], "encoder": {"type": "mlp", "width": 8}},
}


def text(rng: np.random.Generator) -> str:
    return " ".join(rng.choice(WORDS, 24))


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {"title": text(rng), "note": text(rng), "secret": "ab"[i % 2], "label": ["no", "yes"][i % 2]}
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 rows for training, 60 for testing, of which 7 repeat the text of a training row with a word changed."""
    folder = tmp_path_factory.mktemp("warned")
    train, test = rows(120, 1), rows(60, 2)
    for i in range(7):
        words = str(train[10 * i]["title"]).split()
        test[5 * i]["title"] = "RT @friend: " + " ".join(["old" if n == 3 else w for n, w in enumerate(words)])
    plan = spec(write_table(folder / "train.csv", train), INPUTS, train={"epochs": 6, "drop": 0.4, "lr": 0.03})
    others = {"test": test, "valid": rows(30, 3)}
    plan["data"] |= {name: str(write_table(folder / f"{name}.csv", cells)) for name, cells in others.items()}
    polymodal.train(spec=plan, out=folder / "run", quiet=True)
    return folder


def test_metrics_hold_the_warnings_of_the_test_rows(run: Path) -> None:
    found = polymodal.load(run / "run").metrics["test"]
    kinds = {w["kind"]: w for w in found["warnings"]}
    assert kinds.keys() == {"leak", "duplicates"}
    leak = kinds["leak"]
    assert (leak["input"], leak["task"], leak["measure"], leak["rows"]) == ("facts", "label", "accuracy", 60)
    assert leak["alone"] == found["alone"]["facts"]["tasks"]["label"]["accuracy"]["value"] >= 0.98
    assert "facts alone predicts label (accuracy 100.0 %; all inputs 100.0 %; 60 rows)" in leak["text"]
    twice = kinds["duplicates"]
    assert (twice["rows"], twice["of"], twice["inputs"]) == (7, 60, {"title": 7})
    assert twice["without"]["label"]["rows"] == 53
    assert {(p["row"], p["train_row"]) for p in twice["pairs"]} <= {(5 * i, 10 * i) for i in range(7)}
    assert "7 of 60 rows nearly repeat training rows (title); label: accuracy" in twice["text"]
    for page in ("report.html", "README.md"):
        assert "facts alone predicts label" in (run / "run" / page).read_text()


def test_evaluating_again_says_the_same(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = polymodal.load(run / "run").metrics["test"]
    done = Shell(capsys).works("evaluate", run / "run", run / "test.csv", "--json", "--quiet")
    again = json.loads(done.out)
    assert again["warnings"] == stored["warnings"]
    assert again["alone"].keys() == {"title", "note", "facts"}
    assert done.err.count("warning: ") == 2
    plain = Shell(capsys).works("evaluate", run / "run", run / "test.csv", "--quiet", "--no-withheld")
    assert "alone predicts" not in plain.err  # it was not measured
    assert "nearly repeat training rows" in plain.err


def test_the_score_without_them_is_that_of_the_other_rows(run: Path, tmp_path: Path) -> None:
    test = rows(60, 2)
    opened = polymodal.load(run / "run")
    whole = opened.evaluate(run / "test.csv")
    warning = next(w for w in whole.warnings if w["kind"] == "duplicates")
    others = [r for i, r in enumerate(test) if i not in {5 * k for k in range(7)}]
    rest = opened.evaluate(write_table(tmp_path / "rest.csv", others))
    assert [w["kind"] for w in rest.warnings] == ["leak"]
    measured = rest.tasks["label"].measures["accuracy"]["value"]
    assert warning["without"]["label"]["without"] == pytest.approx(measured)
    assert warning["without"]["label"]["all"] == whole.tasks["label"].measures["accuracy"]["value"]


def test_each_input_alone_is_that_of_a_table_without_the_others(run: Path, tmp_path: Path) -> None:
    opened = polymodal.load(run / "run")
    alone = opened.evaluate(run / "test.csv").alone
    test = [{"title": r["title"], "note": None, "secret": None, "label": r["label"]} for r in rows(60, 2)]
    for i in range(7):
        words = str(rows(120, 1)[10 * i]["title"]).split()
        test[5 * i]["title"] = "RT @friend: " + " ".join(["old" if n == 3 else w for n, w in enumerate(words)])
    only = opened.evaluate(write_table(tmp_path / "only.csv", test), withheld=False)
    theirs, mine = only.tasks["label"].measures, alone["title"]["label"]
    for name in ("accuracy", "log_loss"):
        assert mine[name]["value"] == pytest.approx(theirs[name]["value"], abs=1e-6)


def test_training_rows_are_known_again(run: Path) -> None:
    found = polymodal.load(run / "run").evaluate(run / "train.csv")
    warning = next(w for w in found.warnings if w["kind"] == "duplicates")
    assert (warning["rows"], warning["of"], warning["inputs"]) == (120, 120, {"title": 120, "note": 120})
    assert warning["without"]["label"] == {"measure": "accuracy", "all": 1.0, "without": None, "rows": 0}
    assert "no other rows are left to measure on" in warning["text"]


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_change_nothing(run: Path, workers: int) -> None:
    opened = polymodal.load(run / "run")
    from dataclasses import replace

    spec = opened.assembly.spec
    opened.assembly.spec = replace(spec, train=replace(spec.train, workers=workers))
    assert opened.evaluate(run / "test.csv").warnings == opened.metrics["test"]["warnings"]


def test_fingerprints_are_vouched_for_and_may_be_taken_away(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run / "run", copy)
    kept = fingerprints.load(copy)
    assert {name: marks.words.shape for name, marks in kept.items()} == {"title": (120, 4), "note": (120, 4)}
    assert all((np.diff(marks.rows) > 0).all() for marks in kept.values())
    (copy / fingerprints.NAME).write_bytes(b"x" + (copy / fingerprints.NAME).read_bytes()[1:])
    with pytest.raises(RunError, match="sha256 differs"):
        polymodal.load(copy).evaluate(run / "test.csv")
    (copy / fingerprints.NAME).unlink()
    assert [w["kind"] for w in polymodal.load(copy).evaluate(run / "test.csv").warnings] == ["leak"]


def test_runs_of_before_are_evaluated_without() -> None:
    stored = Path(__file__).parents[1] / "stored" / "format-1"
    assert fingerprints.load(stored / "run") == {}
    table = open_table(stored / "table.csv")
    answers = [json.loads(line) for line in (stored / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    cells = {n: table.column(n) for n in table.columns}
    cells |= {n: [c and str(stored / c) for c in cells[n]] for n in ("picture", "sound")}
    opened = polymodal.load(stored / "run")
    targets = {task.columns[0]: [a[name] for a in answers] for name, task in opened.spec.tasks.items()}
    found = opened.evaluate({**cells, **targets})
    assert found.rows
    assert found.alone
    assert found.warnings == []
    assert "warnings" not in found.json()


def evaluation(alone: dict[str, float], together: float, balanced: float = 1.0, rows: int = 100) -> Evaluation:
    def measures(value: float, mean: float) -> dict[str, Any]:
        return {n: {"value": v, "ci95": None} for n, v in (("accuracy", value), ("balanced_accuracy", mean))}

    numbers = np.arange(rows)
    task = TaskResult(measures(together, 1.0), [], {"error": numbers}, numbers, [], [], "accuracy")
    found = Evaluation(rows, {"y": task})
    found.alone = {name: {"y": measures(value, balanced)} for name, value in alone.items()}
    return found


@pytest.mark.parametrize(
    ("alone", "together", "more", "accused"),
    [
        ({"a": 0.99, "b": 0.6}, 0.99, {}, ["a"]),
        ({"a": 0.985, "b": 0.6}, 1.0, {}, []),  # the others add something
        ({"a": 0.97, "b": 0.6}, 0.97, {}, []),
        ({"a": 0.99, "b": 0.985}, 0.99, {}, []),  # it is easy, whatever one looks at
        ({"a": 0.99, "b": 0.99, "c": 0.5}, 0.99, {}, ["a", "b"]),
        ({"a": 0.99, "b": 0.6}, 0.99, {"balanced": 0.5}, []),  # one class is nearly all
        ({"a": 1.0, "b": 0.6}, 1.0, {"rows": 49}, []),
        ({}, 1.0, {}, []),
    ],
)
def test_who_is_accused(alone: dict[str, float], together: float, more: dict[str, Any], accused: list[str]) -> None:
    assert [w["input"] for w in warn.leaks(evaluation(alone, together, **more))] == accused


def test_groups_leave_one_alone() -> None:
    assert warn.groups(["a"]) == warn.groups(["a", "b"]) == []
    assert warn.groups(["a", "b", "c"]) == [("b", "c"), ("a", "c"), ("a", "b")]
    assert warn.alone(["a", "b"], {"a": {"y": {}}, "b": {"z": {}}}, []) == {"a": {"z": {}}, "b": {"y": {}}}
    assert warn.alone([], {}, []) == {}


def test_a_reader_without_fingerprints_is_left_in_peace(tmp_path: Path) -> None:
    plan = spec(write_table(tmp_path / "t.csv", rows(40, 3)), {"facts": INPUTS["facts"]}, train={"epochs": 1})
    polymodal.train(spec=plan, out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / fingerprints.NAME).exists()
    assert polymodal.load(tmp_path / "run").evaluate(tmp_path / "t.csv").warnings == []
    assert write_spec(tmp_path / "spec.yaml", plan).is_file()
