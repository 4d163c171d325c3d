"""Leave-one-group-out: who is scored by whom, what is put together, and that a broken-off one goes on exactly."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, r2_score

import polymodal
from polymodal.core import spec as specs
from polymodal.core.errors import SpecError, Stopped, TableError
from polymodal.core.settings import Data
from polymodal.data.splits import make_splits
from polymodal.data.tables import open_table
from polymodal.tasks.classify import Classify
from polymodal.work import leave_out as rooms
from polymodal.work import step as steps
from polymodal.work.leave_out import _deal, _labels, fold_spec, plan_folds
from polymodal.work.progress import Display

PEOPLE = ("ann", "bob", "cem", "dee")


def rows(count: int = 160, seed: int = 0) -> dict[str, list[Any]]:
    """A number that gives the class and a number; dee alone has the class `odd`."""
    g = np.random.default_rng(seed)
    x, who = g.normal(size=count), g.choice(PEOPLE, count)
    label = np.where(x > 0, "up", "down").astype(object)
    label[(who == "dee") & (g.random(count) < 0.3)] = "odd"
    noise = g.choice(["u", "v"], count).tolist()
    return {"x": x.tolist(), "noise": noise, "who": who.tolist(), "label": label.tolist(), "z": (3 * x + 1).tolist()}


def plan(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "inputs": {"x": {"type": "tabular", "columns": ["x"], "encoder": {"type": "mlp", "width": 8}},
                   "noise": {"type": "text", "min_count": 1, "encoder": {"type": "gru", "width": 4}}},
        "fusion": "concat",
        "tasks": {"label": "classify", "z": "regress"},
        "train": {"epochs": 2, "batch": 16, "lr": 0.02, "device": "cpu", "threads": 1},
    }  # fmt: skip
    return json.loads(json.dumps(plain | changes))


def digests(folder: Path) -> dict[str, str]:
    return {p.parent.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*/weights.safetensors")}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[Any]], Path, Any]:
    table, out = rows(), tmp_path_factory.mktemp("left") / "out"
    return table, out, polymodal.leave_out(table, spec=plan(), column="who", out=out, quiet=True)


def test_every_row_is_scored_once_by_a_model_that_never_saw_its_group(done: Any) -> None:
    table, out, found = done
    assert list(found.groups) == list(PEOPLE)
    assert found.rows == len(table["x"])
    assert found.tasks["label"].rows.tolist() == list(range(len(table["x"])))
    for name, group in found.groups.items():
        own = [i for i, who in enumerate(table["who"]) if who == name]
        assert group.tasks["z"].rows.tolist() == own
        parts = make_splits(open_table(table), specs.load(out / name / "spec.yaml").data, "label", 0)
        assert parts["test"].rows.tolist() == own
        for part in ("train", "valid"):
            assert not set(parts[part].rows) & set(own)
        again = polymodal.load(out / name).evaluate({c: [v[i] for i in own] for c, v in table.items()}, withheld=False)
        for task, measure in (("label", "accuracy"), ("label", "log_loss"), ("z", "rmse"), ("z", "r2")):
            assert again.tasks[task].measures[measure] == group.tasks[task].measures[measure]


def test_pooled_values_are_those_of_the_answers_taken_together(done: Any) -> None:
    """The same measures by scikit-learn, from what each group's run predicts, with classes put in place by name."""
    table, out, found = done
    names = sorted(set(table["label"]))
    guess, numbers = [""] * len(table["x"]), [0.0] * len(table["x"])
    for name in PEOPLE:
        run = polymodal.load(out / name)
        lines = run.predict(table)
        for i, who in enumerate(table["who"]):
            if who == name:
                guess[i], numbers[i] = lines[i]["label"], lines[i]["z"]
    measures = found.json()["tasks"]
    assert measures["label"]["accuracy"]["value"] == pytest.approx(accuracy_score(table["label"], guess))
    assert measures["z"]["r2"]["value"] == pytest.approx(r2_score(table["z"], numbers), abs=1e-6)
    records = found.tasks["label"].records
    assert [names[i] for i in records["label"]] == table["label"]
    assert [names[i] for i in records["probabilities"].argmax(1)] == guess
    expected = log_loss(table["label"], records["probabilities"].clip(1e-15), labels=names)
    assert measures["label"]["log_loss"]["value"] == pytest.approx(expected, rel=1e-3)
    low, high = measures["label"]["accuracy"]["ci95"]
    assert low < measures["label"]["accuracy"]["value"] < high


def test_a_class_that_only_the_group_has_is_wrong_and_the_classes_of_the_runs_differ(done: Any) -> None:
    table, out, found = done
    classes = {n: json.loads((out / n / "readers.json").read_text())["targets"]["label"]["classes"] for n in PEOPLE}
    assert classes["ann"] == ["down", "odd", "up"]
    assert classes["dee"] == ["down", "up"]
    odd = [i for i, label in enumerate(table["label"]) if label == "odd"]
    records = found.tasks["label"].records
    assert (records["probabilities"][odd, 1] == 0).all()  # never trained on
    assert (records["label"][odd] == 1).all()
    assert records["error"][odd] == pytest.approx(-np.log(1e-15))


def test_the_mean_counts_every_group_alike(done: Any) -> None:
    _, _, found = done
    own = [group.tasks["label"].measures["accuracy"]["value"] for group in found.groups.values()]
    mean = found.mean["label"]["accuracy"]
    assert mean["value"] == pytest.approx(np.mean(own))
    assert mean["std"] == pytest.approx(np.std(own, ddof=1))
    assert (mean["min"], mean["max"], mean["groups"]) == (min(own), max(own), 4)
    blind = [group.withheld["x"]["label"]["accuracy"]["value"] for group in found.groups.values()]
    assert found.withheld["x"]["label"]["accuracy"]["value"] == pytest.approx(np.mean(blind))


def test_finished_groups_are_not_trained_again(done: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    table, out, found = done
    before = {p: p.stat().st_mtime_ns for p in out.glob("*/*")}

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a finished run was made again")

    monkeypatch.setattr(rooms, "make_run", never)
    again = polymodal.leave_out(table, spec=plan(), column="who", out=out, quiet=True)
    assert again.json() == found.json()
    assert json.loads((out / "leave_out.json").read_text()) == found.json()
    assert {p: p.stat().st_mtime_ns for p in out.glob("*/*")} == before
    for name, value in (("lr", 0.03), ("epochs", 3)):
        other = plan(train={**plan()["train"], name: value})
        with pytest.raises(SpecError, match=f"train.{name}"):
            polymodal.leave_out(table, spec=other, column="who", out=out, quiet=True)


def test_what_was_broken_off_goes_on_exactly(done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, out, found = done
    taken, real = 0, steps.step

    def breaks(*given: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == 22:  # in the second epoch of the second group
            raise Stopped("stopped")
        return real(*given)

    monkeypatch.setattr("polymodal.work.train.step", breaks)
    with pytest.raises(Stopped, match="the same command goes on"):
        polymodal.leave_out(table, spec=plan(), column="who", out=tmp_path, quiet=True)
    assert (tmp_path / "ann" / "run.json").is_file()
    assert (tmp_path / "bob").is_dir()
    assert not (tmp_path / "bob" / "run.json").is_file()
    assert not (tmp_path / "cem").exists()
    monkeypatch.setattr("polymodal.work.train.step", real)
    again = polymodal.leave_out(table, spec=plan(), column="who", out=tmp_path, quiet=True)
    assert again.json() == found.json()
    assert digests(tmp_path) == digests(out)


def test_the_paired_difference_is_on_the_same_rows(done: Any, tmp_path: Path) -> None:
    table, _, found = done
    blind = specs.parse(plan()).only(["noise"])
    other = polymodal.leave_out(table, spec=blind, column="who", out=tmp_path / "noise", quiet=True)
    gain = found.against(other)
    for task, name in (("label", "accuracy"), ("z", "rmse")):
        values = [r.tasks[task].measures[name]["value"] for r in (found, other)]
        assert gain[task][name]["value"] == pytest.approx(values[0] - values[1])
    low, high = gain["label"]["accuracy"]["ci95"]
    assert 0 < low < gain["label"]["accuracy"]["value"] < high
    back = other.against(found)["label"]["accuracy"]
    assert back["ci95"] == pytest.approx([-high, -low])
    zero = found.against(found)["label"]["accuracy"]
    assert zero == {"value": 0.0, "ci95": [0.0, 0.0]}


def test_results_on_other_rows_are_not_compared(done: Any) -> None:
    _, _, found = done
    label = found.tasks["label"]
    turned = replace(found, tasks={"label": replace(label, truth=label.truth[::-1])})
    elsewhere = replace(found, tasks={"label": replace(label, rows=label.rows + 1000)})
    for other in (turned, elsewhere):
        with pytest.raises(TableError, match="same rows"):
            found.against(other)
    with pytest.raises(TableError, match="no task in common"):
        found.against(replace(found, tasks={}))


def test_only_rows_that_both_answered_count(done: Any) -> None:
    _, _, found = done
    z = found.tasks["z"]
    fewer = replace(z, rows=z.rows[::2], truth=z.truth[::2],
                    records={c: v[::2] + (1.0 if c == "predicted" else 0.0) for c, v in z.records.items()})  # fmt: skip
    gain = found.against(replace(found, tasks={"z": fewer}))
    ours = np.sqrt(np.mean((z.records["predicted"] - z.records["truth"])[::2] ** 2))
    theirs = np.sqrt(np.mean((z.records["predicted"] + 1 - z.records["truth"])[::2] ** 2))
    assert gain["z"]["rmse"]["value"] == pytest.approx(ours - theirs)


def test_eight_groups_are_resampled_whole(tmp_path: Path) -> None:
    """Rows of a group that are all alike: resampling rows would give a far narrower interval than groups do."""
    who = [f"p{i}" for i in range(10) for _ in range(12)]
    label = [("yes" if i % 12 % 2 else "no") if int(p[1:]) < 5 else "yes" for i, p in enumerate(who)]
    table = {"x": [int(p[1:]) for p in who], "who": who, "label": label}
    spec = {
        "inputs": {"x": {"type": "tabular", "columns": ["x"], "encoder": {"type": "mlp", "width": 4}}},
        "tasks": {"label": "classify"},
        "train": {"epochs": 1, "batch": 32, "device": "cpu", "threads": 1},
    }
    found = polymodal.leave_out(table, spec=spec, column="who", out=tmp_path, folds=2, quiet=True)
    assert found.resampled == "groups"
    assert sorted(v for values in found.members.values() for v in values) == sorted(set(who))
    correct = found.tasks["label"].records
    hits = (correct["probabilities"].argmax(1) == correct["label"]).reshape(10, 12).mean(1)
    g = np.random.default_rng(0)
    expected = np.percentile([hits[g.integers(0, 10, 10)].mean() for _ in range(4000)], [2.5, 97.5])
    assert found.tasks["label"].measures["accuracy"]["ci95"] == pytest.approx(expected, abs=0.06)
    by_rows = 2 * 1.96 * np.sqrt(hits.mean() * (1 - hits.mean()) / 120)
    low, high = found.tasks["label"].measures["accuracy"]["ci95"]
    assert high - low > 1.5 * by_rows


def test_dealt_groups_stay_whole_and_are_of_like_size() -> None:
    sizes = Counter({f"c{i}": 1 + i % 7 for i in range(60)})
    dealt = _deal(sizes, 5, 0)
    assert sorted(v for values in dealt for v in values) == sorted(sizes)
    rows = [sum(sizes[v] for v in values) for values in dealt]
    assert max(rows) - min(rows) <= 1
    assert dealt == _deal(sizes, 5, 0)
    assert dealt != _deal(sizes, 5, 1)


def test_names_of_folders_are_safe_and_differ() -> None:
    found = _labels(["a", "A", "../up", ".", "", "a/b", "a b", "leave_out.json", "漢", "x" * 300])
    assert len({n.lower() for n in found}) == len(found)
    for name in found:
        assert name not in ("", ".", "..", "leave_out.json")
        assert "/" not in name
        assert len(name) <= 64
    assert found[0] == "a"
    assert found[8] == "漢"


def table_with_marks() -> Any:
    part = ["train"] * 24 + ["valid"] * 8 + ["test"] * 8
    one, label = ["test"] * 4 + [None] * 36, ["u", "v", "v", "u"] * 10
    return open_table({"x": list(range(40)), "who": ["ann", "bob"] * 20, "part": part, "label": label, "one": one})


def test_the_test_marks_of_a_column_give_way_and_its_validation_marks_stay() -> None:
    table = table_with_marks()
    spec = specs.parse(plan(data={"split": "column", "split_column": "part"}, tasks={"label": "classify"}))
    one = fold_spec(spec, table, "who", ("ann",))
    parts = make_splits(table, one.data, "label", 0)
    assert parts["test"].rows.tolist() == list(range(0, 40, 2))
    assert parts["valid"].rows.tolist() == [25, 27, 29, 31]
    assert set(range(33, 40, 2)) <= set(parts["train"].rows.tolist())


def test_without_marks_for_validation_a_stratified_tenth_is_held_out() -> None:
    table = table_with_marks()
    spec = specs.parse(plan(data={"split": "column", "split_column": "one"}, tasks={"label": "classify"}))
    parts = make_splits(table, fold_spec(spec, table, "who", ("ann",)).data, "label", 0)
    assert Counter(table.cell(int(r), "label") for r in parts["valid"].rows) == {"u": 1, "v": 1}
    number = specs.parse(plan(data={"split": "column", "split_column": "one"}, tasks={"x": "regress"}))
    assert fold_spec(number, table, "who", ("ann",)).data.split == "random"


def test_rows_without_a_group_train_and_an_input_that_is_the_group_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    table = open_table({"who": ["ann", "bob", None, 3.0] * 10, "label": ["u", "v"] * 20})
    spec = specs.parse({"inputs": {"who": "text"}, "tasks": {"label": "classify"}})
    folds = plan_folds(spec, table, "who", None, Display())
    assert [f.values for f in folds] == [("3",), ("ann",), ("bob",)]
    said = capsys.readouterr().err
    assert "input 'who' reads column 'who'" in said
    assert "10 rows have no who" in said
    parts = make_splits(table, folds[0].spec.data, "label", 0)
    assert {table.cell(int(r), "who") for r in parts["test"].rows} == {3.0}


def test_left_out_rows_are_the_test_rows_whatever_the_split_says() -> None:
    """With `stratified` validation keeps the classes in proportion: a column's test rows without its other marks."""
    table = table_with_marks()
    data = Data(split="stratified", leave_out={"part": ["test", "valid"]}, valid=0.5)
    parts = make_splits(table, data, "label", 0)
    assert parts["test"].rows.tolist() == list(range(24, 40))
    assert Counter(table.cell(int(r), "label") for r in parts["valid"].rows) == {"u": 6, "v": 6}
    with pytest.raises(SpecError, match="no row has any of these"):
        make_splits(table, Data(leave_out={"who": ["cem"]}), "label", 0)
    with pytest.raises(SpecError, match="'who' marks these rows already"):
        make_splits(table, Data(leave_out={"who": ["ann"]}, test=0.1), "label", 0)
    with pytest.raises(TableError, match="no column of this name"):
        make_splits(table, Data(leave_out={"whom": ["ann"]}), "label", 0)


@pytest.mark.parametrize(
    ("column", "folds", "said"),
    [("label", None, "is the target"), ("whom", None, "no column of this name"), ("same", None, "has 1 values"),
     ("x", None, "60 values"), ("who", 1, "from 2 to 4"), ("who", 5, "from 2 to 4")],
)  # fmt: skip
def test_mistakes_are_told(column: str, folds: int | None, said: str, tmp_path: Path) -> None:
    table = {**rows(60), "same": ["s"] * 60}
    with pytest.raises((SpecError, TableError), match=said):
        polymodal.leave_out(table, spec=plan(), column=column, out=tmp_path / "out", folds=folds, quiet=True)
    assert not (tmp_path / "out").exists()


def test_records_of_any_number_of_classes_are_aligned_by_name() -> None:
    """Against records of a task that had all the classes from the beginning."""
    every, own = ["a", "b", "c"], ["c", "a"]
    task = Classify(field={"classes": every, "counts": [1] * 3, "rows": 3}, width=2, inputs=("x",), multi=True)
    p = np.array([[0.9, 0.2], [0.3, 0.6]])
    mine = {"probabilities": p, "truth": np.array([[True, False], [False, True]]), "unseen": np.array([1, 0]),
            "error": np.zeros(2)}  # fmt: skip
    target = {"classes": np.array([[0, 1, 1], [1, 0, 0]], np.float32), "unseen": np.array([0, 0])}
    found = task.align(mine, {"classes": own}, target)
    assert found["probabilities"].tolist() == [[0.2, 0.0, 0.9], [0.6, 0.0, 0.3]]
    assert found["truth"].tolist() == [[False, True, True], [True, False, False]]
    assert found["unseen"].tolist() == [0, 0]
    expected = [-(np.log(0.8) + np.log(1e-15) + np.log(0.9)) / 3, -(np.log(0.6) + 0 + np.log(0.7)) / 3]
    assert found["error"] == pytest.approx(expected)


def test_the_command_line_and_the_run_do_the_same(done: Any, tmp_path: Path, shell: Any) -> None:
    import pandas as pd

    table = done[0]
    path = tmp_path / "rows.csv"
    pd.DataFrame(table).to_csv(path, index=False)
    from polymodal.core import yaml12

    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml12.dumps(plan(data={"train": str(path)}, tasks={"label": "classify"})))
    out = tmp_path / "out"
    said = shell.works(
        "evaluate", spec, "--leave-out", "who", "--out", out, "--json", "--quiet", "--set", "train.lr=0.03"
    )
    plain = json.loads(said.out)
    assert plain.keys() == {"rows", "tasks", "column", "resampled", "mean", "withheld", "groups", "ledger"}
    assert list(plain["groups"]) == list(PEOPLE)
    assert specs.load(out / "ann" / "spec.yaml").train.lr == 0.03
    text = shell.works("evaluate", out / "ann", path, "--leave-out", "who", "--out", tmp_path / "two", "--folds", 2,
                       "--set", "data.leave_out=null")  # fmt: skip
    assert "mean over groups" in text.out
    assert {"fold-0", "fold-1", "report.html"} <= {p.name for p in (tmp_path / "two").iterdir()}
    assert "--leave-out" in shell.fails("evaluate", spec, path, "--folds", 2)
    assert "--out" in shell.fails("evaluate", spec, path, "--leave-out", "who")
    assert "TABLE" in shell.fails("evaluate", out / "ann")
    run = polymodal.load(out / "ann")
    assert run.leave_out("who", out=out).json() == plain
