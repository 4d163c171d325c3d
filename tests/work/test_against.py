"""Two runs against each other: matched rows, the paired bootstrap, McNemar's test, refusals, the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import polymodal
from endtoend import Shell, spec, write_table
from polymodal.core.errors import TableError
from polymodal.tasks.classes import OneOf
from polymodal.work.against import against, mcnemar
from polymodal.work.evaluation import Evaluation, TaskResult

FACTS = {"type": "tabular", "columns": ["x"], "numeric": ["x"], "encoder": {"type": "mlp", "width": 16}}
NOISE = {**FACTS, "columns": ["noise"], "numeric": ["noise"]}


class Kind(OneOf):
    """The measures of a classification, as a task has them."""

    def certainty(self, records: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        p = records["probabilities"]
        return p.max(1), p.argmax(1) == records["label"]

    def align(self, *_: Any) -> Any:
        raise AssertionError("each run is measured in its own terms")


def result(
    right: np.ndarray, rows: np.ndarray | None = None, asks: tuple[str, ...] = ("classify", "label")
) -> TaskResult:
    """A result over two classes with answers that are right where said."""
    rows = np.arange(len(right)) if rows is None else rows
    label = rows % 2
    guess = np.where(right, label, 1 - label)
    p = np.where(np.arange(2) == guess[:, None], 0.8, 0.2)
    task, records = Kind(["no", "yes"]), {"probabilities": p, "label": label, "error": -np.log(p[rows - rows, label])}
    return TaskResult({"accuracy": {}}, [], records, rows, list(label), [], "accuracy", task, asks)


def test_a_better_run_is_told_apart_and_an_equal_one_is_not() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(500) < 0.8
    better, equal = base | (rng.random(500) < 0.3), rng.permutation(base)
    found = against({"label": result(better)}, {"label": result(base)}).tasks["label"]
    assert found.verdict == "better"
    low, high = found.difference["accuracy"]["ci95"]
    assert low > 0
    assert low < better.mean() - base.mean() < high
    gap = found.difference["accuracy"]["value"]
    assert gap == pytest.approx(better.mean() - base.mean(), abs=1e-12)
    error = np.std(better.astype(float) - base) / np.sqrt(500)  # of a mean of paired differences
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    assert against({"label": result(base)}, {"label": result(better)}).tasks["label"].verdict == "worse"
    assert against({"label": result(base)}, {"label": result(equal)}).tasks["label"].verdict == "not told apart"


def test_an_equal_run_is_called_better_or_worse_about_one_time_in_twenty() -> None:
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(20):
        one, two = rng.random((2, 120)) < 0.8
        wrong += against({"label": result(one)}, {"label": result(two)}).tasks["label"].verdict != "not told apart"
    assert wrong <= 4  # binomial(20, 0.05) is above it with chance 0.003


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 0), (12, 3), (7, 7), (400, 350)])
def test_mcnemar_is_the_binomial_test_of_the_rows_on_which_they_differ(gained: int, lost: int) -> None:
    one = np.r_[np.ones(gained, bool), np.zeros(lost, bool), np.ones(9, bool)]
    two = np.r_[np.zeros(gained, bool), np.ones(lost, bool), np.ones(9, bool)]
    found = mcnemar(one, two)
    p = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert (found["gained"], found["lost"]) == (gained, lost)
    assert found["p"] == pytest.approx(p, rel=1e-9)


def test_only_rows_that_both_could_read_count_and_the_others_are_named() -> None:
    here, there = np.arange(0, 300), np.arange(20, 330)
    ours = result(np.arange(300) % 10 > 0, here)
    found = against({"label": ours}, {"label": result(np.ones(310, bool), there)}).tasks["label"]
    assert (found.rows, found.only_this, found.only_other) == (280, 20, 30)
    assert found.this["accuracy"]["value"] == pytest.approx((here[20:] % 10 > 0).mean())
    assert found.sentence("label").endswith(
        "on 280 rows; left out: 20 rows that only this run could read, 30 only the other"
    )


def test_rows_that_hang_together_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(20), 30)
    lucky = (rng.random(20) < 0.5)[groups]
    one, two = result(lucky | (rng.random(600) < 0.5)), result(rng.random(600) < 0.6)
    alone = against({"label": one}, {"label": two}).tasks["label"].difference["accuracy"]["ci95"]
    found = against({"label": one}, {"label": two}, clusters=("case", groups.astype(str)))
    together = found.tasks["label"].difference["accuracy"]["ci95"]
    assert found.resampled == "case"
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_several_tasks_are_corrected_for_their_number() -> None:
    rng = np.random.default_rng(3)
    base = rng.random(200) < 0.8
    better = base.copy()
    better[np.flatnonzero(~base)[:9]] = True
    tasks = {f"t{i}": result(better if not i else base) for i in range(8)}
    alone = against({"t0": tasks["t0"]}, {"t0": result(base)}).tasks["t0"]
    found = against(tasks, {name: result(base) for name in tasks}).tasks["t0"]
    assert alone.p is not None
    assert found.p is not None
    assert found.p == pytest.approx(min(1.0, 8 * alone.p))


def test_what_does_not_match_is_refused() -> None:
    ours = {"label": result(np.ones(20, bool))}
    with pytest.raises(TableError, match="no task in common"):
        against(ours, {"other": result(np.ones(20, bool))})
    with pytest.raises(TableError, match="regress of price, not classify of label"):
        against(ours, {"label": result(np.ones(20, bool), asks=("regress", "price"))})
    with pytest.raises(TableError, match="not measured on the same rows"):
        against(ours, {"label": result(np.ones(20, bool), np.arange(40, 60))})
    with pytest.raises(TableError, match="was not measured by"):
        against(ours, {"label": TaskResult({}, [], {}, np.arange(20), [], [], asks=("classify", "label"))})
    shared = against({**ours, "mine": result(np.ones(5, bool))}, ours)
    assert shared.unshared == ("mine",)


class Runs:
    """A run that reads what matters, one that reads noise, and a table for both."""

    def __init__(self, folder: Path) -> None:
        g = np.random.default_rng(0)
        rows: list[dict[str, Any]] = []
        for _ in range(260):
            x = float(g.normal())
            rows.append({"x": round(x, 4), "noise": round(float(g.normal()), 4), "label": "up" if x > 0 else "down",
                         "price": round(10 + x, 3), "case": str(g.integers(30))})  # fmt: skip
        self.folder, self.table = folder, write_table(folder / "test.csv", rows[160:])
        train = {"epochs": 6, "lr": 0.03}
        self.good, self.poor = folder / "good", folder / "poor"
        for out, facts in ((self.good, FACTS), (self.poor, NOISE)):
            plan = spec(write_table(folder / "train.csv", rows[:160]), {"facts": facts}, train=train)
            polymodal.train(spec=plan, out=out, quiet=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("against"))


def test_python_and_command_line_say_the_same(runs: Runs, shell: Shell) -> None:
    good = polymodal.load(runs.good)
    found = good.evaluate(runs.table, against=runs.poor)
    assert isinstance(found, Evaluation)
    assert found.compared.tasks["label"].verdict == "better"
    plain = json.loads(shell.works("evaluate", runs.good, runs.table, "--against", runs.poor, "--json").out)
    assert plain["against"] == json.loads(json.dumps(found.json()["against"]))
    assert plain["against"]["other"] == "poor"
    done = shell.works("evaluate", runs.poor, runs.table, "--against", runs.good, "--report", runs.folder / "page")
    assert "label: worse: accuracy" in done.out
    page = (runs.folder / "page" / "report.html").read_text(encoding="utf-8")
    assert "Against good" in page
    assert "label: worse: accuracy" in page
    two = polymodal.load(runs.poor).evaluate(runs.table)
    assert found.against(two).tasks["label"].difference == found.compared.tasks["label"].difference


def test_groups_of_rows_and_refusals_on_the_command_line(runs: Runs, shell: Shell) -> None:
    done = shell.works("evaluate", runs.good, runs.table, "--against", runs.poor, "--cluster", "case", "--json")
    assert json.loads(done.out)["against"]["resampled"] == "case"
    assert "no column of this name" in shell.fails("evaluate", runs.good, runs.table, "--against", runs.poor,
                                                   "--cluster", "nothing")  # fmt: skip
    assert "goes with --against" in shell.fails("evaluate", runs.good, runs.table, "--cluster", "case")


def test_rows_that_one_run_cannot_read_are_left_out(runs: Runs) -> None:
    rows = [{"x": "0.5" if i % 2 else "-0.5", "noise": "bad" if i < 6 else "0.1", "label": "up" if i % 2 else "down"}
            for i in range(40)]  # fmt: skip
    found = polymodal.load(runs.good).evaluate(rows, against=polymodal.load(runs.poor)).compared.tasks["label"]
    assert (found.rows, found.only_this, found.only_other) == (34, 6, 0)


def test_numbers_learned_as_logarithms_are_compared_in_one_unit() -> None:
    """A run that learned the logarithm and one that did not: both by the first one's measures."""
    import torch

    from polymodal.tasks.regress import Regress

    rng = np.random.default_rng(0)
    truth = np.exp(rng.normal(size=200))
    records = {name: {"truth": truth, "predicted": truth * np.exp(size * rng.normal(size=200)), "error": np.zeros(200)}
               for name, size in (("log", 0.1), ("plain", 0.4))}  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        tasks = {
            n: Regress(field={"log": n == "log", "mean": 0.0, "std": 1.0}, width=2, inputs=("x",)) for n in records
        }
    made = {
        n: TaskResult({"rmse": {}}, [], one, np.arange(200), truth.tolist(), [], "rmse", tasks[n], ("regress", "y"))
        for n, one in records.items()
    }
    found = against({"y": made["log"]}, {"y": made["plain"]}).tasks["y"]
    assert found.verdict == "better"
    off = np.log(records["plain"]["predicted"] / truth)
    assert found.other["rmse"]["value"] == pytest.approx(np.sqrt((off**2).mean()))
