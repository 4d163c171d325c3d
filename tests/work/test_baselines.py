"""Simple models on the rows of a spec: which rows, which measures, what they never see; alone and beside a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, log_loss, r2_score

import polymodal
from endtoend import Shell, Trained, spec, write_spec, write_table
from polymodal.core.errors import SpecError, TableError, UserError
from polymodal.work.beside import ranked, told, verdict
from polymodal.work.intervals import intervals

G = np.random.default_rng(0)
QUICK: dict[str, Any] = {"boosted_trees": {"iterations": 20, "leaves": [4]}, "linear": {"strengths": [1.0]}}
QUICK |= {"tfidf": {"strengths": [3.0]}, "frozen_trees": {"iterations": 10}}


def quick(*names: str) -> dict[str, Any]:
    return {name: QUICK[name] for name in names if name in QUICK}


def rows(count: int, seed: int = 0) -> dict[str, list]:
    """Words and numbers that say a little about a class, a set of classes and a number."""
    g = np.random.default_rng(seed)
    label = g.choice(["no", "perhaps", "yes"], count)
    text = [" ".join([*g.choice(["red", "blue", "mug"], 3), *(["sharp"] if c == "yes" else [])]) for c in label]
    size = np.round(g.normal(3, 1, count) + (label == "no"), 3)
    price = np.round(np.exp(size + 0.1 * g.normal(size=count)), 2)
    tags = ["|".join(n for n, yes in (("big", s > 3), ("sharp", "sharp" in t), ("all", True)) if yes)
            for s, t in zip(size, text, strict=True)]  # fmt: skip
    return {"text": text, "size": size.tolist(), "label": label.tolist(), "tags": tags, "price": price.tolist(),
            "part": ["test" if i % 4 == 0 else "valid" if i % 4 == 1 else "train" for i in range(count)]}  # fmt: skip


def plan(tasks: dict[str, Any], inputs: tuple[str, ...] = ("text", "size"), **data: Any) -> dict[str, Any]:
    blocks = {"text": {"type": "text", "min_count": 1}, "size": {"type": "tabular", "numeric": ["size"]}}
    return {"data": {"split": "column", "split_column": "part", **data}, "inputs": {n: blocks[n] for n in inputs},
            "fusion": "concat" if len(inputs) > 1 else None, "tasks": tasks,
            "train": {"epochs": 1, "batch": 64, "threads": 1, "device": "cpu"}}  # fmt: skip


def test_the_rows_are_those_of_the_model(tmp_path: Path) -> None:
    """Bad cells, missing targets and missing inputs: both are measured on the same rows, in the same order."""
    table = rows(80)
    table["size"][0], table["size"][20] = "big", None
    table["label"][4], table["text"][8] = None, None
    table["size"][3], table["label"][6] = "small", None
    one = plan({"label": "classify"})
    ours = polymodal.train(table, spec=one, out=tmp_path / "run", quiet=True).evaluate(table)
    found = polymodal.baselines(table, spec=one, settings=QUICK)
    assert list(found) == ["majority", "linear", "boosted_trees", "same_text", "tfidf", "frozen_trees"]
    test = [r for r in ours.tasks["label"].rows if r % 4 == 0]
    assert test == [r for r in range(0, 80, 4) if r not in (0, 4)]
    for evaluation in found.values():
        assert evaluation.tasks["label"].rows.tolist() == test
        assert evaluation.tasks["label"].truth == [table["label"][r] for r in test]
        assert evaluation.ledger == {"skipped": 1}
    assert found["tfidf"].rows == 19  # of twenty: one is bad, and one has no target, which is no reason to leave it out
    kept = polymodal.baselines(table, spec=plan({"label": "classify"}, on_bad="missing"), names=["linear"])
    assert len(kept["linear"].tasks["label"].rows) == 19
    with pytest.raises(TableError, match="bad cells"):
        polymodal.baselines(table, spec=plan({"label": "classify"}, on_bad="fail"), names=["majority"])


def test_measures_and_intervals_are_those_of_the_task() -> None:
    table = rows(80)
    tasks = {
        "label": "classify",
        "tags": {"type": "classify", "multi": True},
        "price": {"type": "regress", "log": True},
    }
    found = polymodal.baselines(table, spec=plan(tasks), settings=QUICK)
    test = np.arange(0, 80, 4)
    for name, evaluation in found.items():
        one = evaluation.tasks["label"]
        truth = [table["label"][r] for r in test]
        said = [p.value for p in one.predictions]
        assert one.measures["accuracy"]["value"] == pytest.approx(accuracy_score(truth, said)), name
        loss = log_loss(truth, one.records["probabilities"], labels=["no", "perhaps", "yes"])
        assert one.measures["log_loss"]["value"] == pytest.approx(loss), name
        low, high = one.measures["log_loss"]["ci95"]
        assert low <= loss <= high
        some = evaluation.tasks["tags"]
        has = np.array([[n in table["tags"][r].split("|") for n in ("all", "big", "sharp")] for r in test])
        wanted = np.mean([average_precision_score(has[:, j], some.records["probabilities"][:, j]) for j in range(3)])
        assert some.measures["average_precision"]["value"] == pytest.approx(wanted), name
        number = evaluation.tasks["price"]
        prices = np.array([table["price"][r] for r in test])
        np.testing.assert_allclose([p.value for p in number.predictions], number.records["predicted"])
        r2 = r2_score(np.log(prices), np.log(number.records["predicted"]))
        assert number.measures["r2"]["value"] == pytest.approx(r2), name
    assert found["boosted_trees"].tasks["price"].measures["r2"]["value"] > 0.7
    assert found["tfidf"].tasks["tags"].measures["average_precision"]["value"] > 0.8
    again = polymodal.baselines(table, spec=plan(tasks), settings=QUICK)
    assert {n: e.json() for n, e in again.items()} == {n: e.json() for n, e in found.items()}


def test_majority_is_the_training_rows_alone() -> None:
    table = rows(80)
    tasks = {"label": "classify", "price": {"type": "regress", "log": True}}
    found = polymodal.baselines(table, spec=plan(tasks), names=["majority"])["majority"]
    train = [i for i, part in enumerate(table["part"]) if part == "train"]
    shares = [np.mean([table["label"][i] == c for i in train]) for c in ("no", "perhaps", "yes")]
    np.testing.assert_allclose(found.tasks["label"].records["probabilities"], [shares] * 20)
    mean = np.exp(np.mean(np.log([table["price"][i] for i in train])))
    np.testing.assert_allclose(found.tasks["price"].records["predicted"], [mean] * 20, rtol=1e-5)
    middle = polymodal.baselines(
        table, spec=plan(tasks), names=["majority"], settings={"majority": {"center": "median"}}
    )
    median = np.exp(np.median(np.log([table["price"][i] for i in train])))
    np.testing.assert_allclose(middle["majority"].tasks["price"].records["predicted"], [median] * 20, rtol=1e-5)


def test_test_rows_are_never_learned_from() -> None:
    """Other targets and other neighbours in the test rows leave every answer as it was."""
    table = rows(80)
    before = polymodal.baselines(table, spec=plan({"label": "classify"}), settings=QUICK)
    test = [i for i, part in enumerate(table["part"]) if part == "test"]
    other = {name: list(cells) for name, cells in table.items()}
    for i in test:
        other["label"][i] = "never seen" if i == 0 else "no"
    for i in test[:10]:
        other["text"][i], other["size"][i] = "quite other words", 99.0
    after = polymodal.baselines(other, spec=plan({"label": "classify"}), settings=QUICK)
    for name in before:
        one, two = (found[name].tasks["label"].records for found in (before, after))
        np.testing.assert_allclose(one["probabilities"][10:], two["probabilities"][10:], rtol=1e-5, atol=1e-9)
        assert two["label"][0] == -1
        assert two["error"][0] > 30
    assert not np.allclose(*(f["linear"].tasks["label"].records["probabilities"][:10] for f in (before, after)))


def test_without_test_rows_the_validation_rows_are_measured() -> None:
    table = rows(80)
    table["part"] = ["valid" if p == "valid" else "train" for p in table["part"]]
    found = polymodal.baselines(table, spec=plan({"label": "classify"}), names=["majority"])["majority"]
    assert found.tasks["label"].rows.tolist() == list(range(1, 80, 4))


def test_inputs_that_training_leaves_out_are_there_for_simple_models(tmp_path: Path) -> None:
    one = plan({"label": "classify"})
    one["train"]["drop"] = 0.9
    names = ["linear", "tfidf"]
    run = polymodal.train(rows(80), spec=one, out=tmp_path / "run", quiet=True, baselines=names)
    alone = polymodal.baselines(rows(80), spec=plan({"label": "classify"}), names=names)
    for name in names:
        assert run.metrics["baselines"][name]["tasks"] == json.loads(json.dumps(alone[name].json()["tasks"]))


def test_a_bad_cell_is_a_missing_one_where_the_spec_says_so() -> None:
    found = []
    for cell in (["red", "sharp"], None):
        table = rows(40)
        table["text"] = [cell, *table["text"][1:]]
        one = plan({"label": "classify"}, ("text",), on_bad="missing")
        found.append(polymodal.baselines(table, spec=one, names=["tfidf"])["tfidf"].tasks["label"].records)
    np.testing.assert_array_equal(found[0]["probabilities"], found[1]["probabilities"])
    assert len(found[0]["label"]) == 10


@pytest.mark.parametrize("task", [{"type": "classify"}, {"type": "regress", "log": True}], ids=["larger", "smaller"])
def test_settings_are_chosen_by_what_is_better_in_the_task(task: dict[str, Any]) -> None:
    """Larger accuracy, smaller error: the strength that is none is not taken, wherever it stands."""
    column = "label" if task["type"] == "classify" else "price"
    one = plan({column: task})
    found = [
        polymodal.baselines(rows(80), spec=one, names=["linear"], settings={"linear": {"strengths": s}})[
            "linear"
        ].json()
        for s in ([1.0], [1e-9, 1.0], [1.0, 1e-9], [1e-9])
    ]
    assert found[0] == found[1] == found[2]
    assert found[0] != found[3]


def test_names_and_settings_that_are_wrong() -> None:
    table = rows(40)

    def told_of(**given: Any) -> str:
        with pytest.raises(SpecError) as error:
            polymodal.baselines(table, spec=plan({"label": "classify"}), **given)
        return str(error.value)

    assert "'tfidf'" in told_of(names=["tfdif"])
    said = told_of(names=["mel_svm"])
    assert "baselines.mel_svm: has no use for inputs of type text, tabular" in said
    assert "mel_svm'," not in said
    assert "'words'" in told_of(settings={"tfidf": {"word": 1}})
    assert "baselines.mel_svm: is none of the baselines" in told_of(settings={"mel_svm": {}})
    assert "baselines.tfidf: takes names and values" in told_of(settings={"tfidf": 3})


def test_tasks_that_simple_models_do_not_answer() -> None:
    """A task may have a class for its target and not answer with one."""
    match = {"type": "carried_parts:Match", "column": "label"}
    found = polymodal.baselines(rows(40), spec=plan({"pair": match, "label": "classify"}), names=["majority"])
    assert list(found["majority"].tasks) == ["label"]
    with pytest.raises(SpecError, match="simple models answer none"):
        polymodal.baselines(rows(40), spec=plan({"pair": match}), names=["majority"])


# Beside a trained model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> polymodal.Run:
    tasks = {"label": "classify", "price": {"type": "regress", "log": True}}
    names = ["majority", "linear", "tfidf"]
    return polymodal.train(rows(80), spec=plan(tasks), out=tmp_path_factory.mktemp("beside") / "run", quiet=True,
                           baselines=names)  # fmt: skip


def test_a_run_holds_what_simple_models_score(run: polymodal.Run) -> None:
    found = run.metrics["baselines"]
    assert list(found) == ["majority", "linear", "tfidf"]
    alone = polymodal.baselines(rows(80), spec=run.spec, names=["majority", "linear", "tfidf"])
    ours = run.evaluate(rows(80), withheld=False)
    test = np.arange(80) % 4 == 0
    for name, plain in found.items():
        assert plain["split"] == "test"
        assert {k: plain[k] for k in ("rows", "tasks", "ledger")} == json.loads(json.dumps(alone[name].json()))
        for task, measures in plain["difference"].items():
            for measure, gap in measures.items():
                values = [run.metrics["test"]["tasks"][task][measure]["value"], plain["tasks"][task][measure]["value"]]
                assert gap["value"] == pytest.approx(values[0] - values[1], abs=1e-6)
        right = [ours.tasks["label"].records["probabilities"][test].argmax(1), alone[name].tasks["label"].records]
        label = right[1]["label"]
        gaps = (right[0] == label).astype(float) - (right[1]["probabilities"].argmax(1) == label)
        by_hand = intervals(lambda r, w: {"gap": (w @ r["error"]) / w.sum(1)}, {"error": gaps}, run.spec.train.seed)
        assert plain["difference"]["label"]["accuracy"]["ci95"] == pytest.approx(by_hand["gap"]["ci95"])


def test_report_and_card_show_them(run: polymodal.Run) -> None:
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    assert "Beside simple models" in page
    assert "## Beside simple models" in card
    found = ranked(run.metrics, {"label": "accuracy", "price": "rmse"})
    assert [one["task"] for one in found] == ["label", "price"]
    for one in found:
        assert one["verdict"] in page
        values = [line["found"]["value"] for line in one["lines"]]
        assert values == sorted(values, reverse=one["measure"] == "accuracy")
        assert f"| {one['lines'][0]['name']} |" in card
    assert "this model" in told(found)


def test_what_a_difference_says() -> None:
    def said(low: float | None, high: float | None, name: str) -> str:
        limits = None if low is None else [low, high]
        return verdict({"name": "tfidf", "difference": {"value": 0.0, "ci95": limits}}, name)

    assert said(0.01, 0.2, "accuracy").startswith("better than")
    assert said(-0.2, -0.01, "accuracy").startswith("worse than")
    assert said(-0.2, -0.01, "rmse").startswith("better than")
    assert said(0.01, 0.2, "rmse").startswith("worse than")
    assert said(-0.1, 0.2, "rmse").startswith("not told apart")
    assert said(None, None, "rmse").startswith("cannot")
    assert ranked({"test": {}}, {"label": "accuracy"}) == []


# The command line


def test_the_command_prints_one_object(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    table = trained.table(tmp_path / "rows.csv", trained.rows)
    path = write_spec(tmp_path / "spec.yaml", spec(table, data={"test": 0.25}))
    quickly = ("boosted_trees.leaves=[3]", "mel_svm.segments=2", "frozen_trees.iterations=5")
    done = shell.works("baselines", path, "--json", *(f"--give={given}" for given in quickly))
    found = json.loads(done.out)["baselines"]
    assert list(found) == ["majority", "linear", "boosted_trees", "same_text", "tfidf", "mel_svm", "frozen_trees"]
    for one in found.values():
        assert one.keys() == {"rows", "tasks", "ledger"}
        assert one["rows"] == 10
        assert one["tasks"]["label"]["accuracy"].keys() == {"value", "ci95"}
    assert found["tfidf"]["tasks"]["label"]["accuracy"]["value"] == 1.0  # "sharp" says it
    text = shell.works("baselines", path, "--only", "majority, tfidf", "--set", "train.seed=1").out
    assert text.startswith("label: accuracy [95 %] on 10 rows\n  tfidf ")
    assert len(text.splitlines()) == 3
    assert "baselines.tfdif" in shell.fails("baselines", path, "--only", "tfdif")
    assert "tfidf.wrods" in shell.fails("baselines", path, "--give", "tfidf.wrods=2")


def test_train_beside_simple_models(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    table = write_table(tmp_path / "rows.csv", [{k: r[k] for k in ("title", "label")} for r in trained.rows])
    path = write_spec(tmp_path / "spec.yaml", spec(table, ["title"]))
    done = shell.works("train", path, "--out", tmp_path / "run", "--baselines")
    assert "label.accuracy on valid: " in done.err
    assert "this model" in done.err
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["baselines"].keys() == {
        "majority", "same_text", "tfidf", "frozen_trees"
    }  # fmt: skip


def test_what_lacks_is_said_before_the_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from polymodal.core import catalog

    def gone(name: str) -> None:
        raise ImportError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(catalog.importlib, "import_module", lambda n: gone(n) if n == "sklearn" else import_module(n))
    with pytest.raises(UserError, match=r'pip install "polymodal\[sklearn\]"'):
        polymodal.train(rows(40), spec=plan({"label": "classify"}), out=tmp_path / "run", quiet=True, baselines=True)
    assert not (tmp_path / "run").exists()
    found = polymodal.baselines(rows(40), spec=plan({"label": "classify"}), names=["majority"])
    assert list(found) == ["majority"]


# Real data


@pytest.mark.data
def test_houses(real_data: Path) -> None:
    """Trees on the table explain at least what they explain by default, 0.743 of the log price over five folds."""
    found = []
    for fold in range(5):
        one = {
            "data": {"train": str(real_data / "houses" / "table.csv"), "split": "column", "split_column": "fold",
                     "split_test": str(fold)},
            "inputs": {"facts": {"type": "tabular", "columns": ["bedrooms", "bathrooms", "area", "zipcode"],
                                 "categorical": ["zipcode"]}},
            "tasks": {"price": {"type": "regress", "log": True}},
        }  # fmt: skip
        rival = polymodal.baselines(spec=one, names=["boosted_trees"], settings={"boosted_trees": {"leaves": [7]}})
        found.append(rival["boosted_trees"].tasks["price"].measures["r2"]["value"])
    assert np.mean(found) > 0.743


@pytest.mark.data
def test_spoken_digits(real_data: Path, tmp_path: Path) -> None:
    lines = (real_data / "fsdd" / "table.csv").read_text(encoding="utf-8").splitlines()
    kept = [lines[0], *(line for line in lines[1:] if int(line.split(",")[-1]) < 12)]
    (tmp_path / "rows.csv").write_text("\n".join(kept) + "\n", encoding="utf-8")
    one = {
        "data": {"train": str(tmp_path / "rows.csv"), "root": str(real_data / "fsdd"), "split": "column",
                 "split_column": "split"},
        "inputs": {"audio": {"type": "audio", "rate": 8000, "mels": 40}},
        "tasks": {"label": "classify"},
    }  # fmt: skip
    found = polymodal.baselines(spec=one, names=["mel_svm"])["mel_svm"]
    assert found.rows == 300
    assert found.tasks["label"].measures["accuracy"]["value"] > 0.9
    assert found.tasks["label"].measures["calibration_error"]["value"] < 0.1


def test_trees_on_a_picture_encoder_of_transformers(hub: Callable[[str], str], tmp_path: Path) -> None:
    """Such encoders look at themselves with gradients when they are made."""
    table = polymodal.make_scenes(tmp_path / "scenes", rows=40, size=16, seed=0)
    encoder = {"type": "hf", "name": hub("image"), "pretrained": False}
    one = {"inputs": {"picture": {"type": "image", "encoder": encoder}}, "tasks": {"colour": "classify"},
           "data": {"split": "random"}, "train": {"threads": 1, "device": "cpu"}}  # fmt: skip
    found = polymodal.baselines(table, spec=one, names=["frozen_trees"], settings=quick("frozen_trees"))
    assert 0 <= found["frozen_trees"].json()["tasks"]["colour"]["accuracy"]["value"] <= 1
