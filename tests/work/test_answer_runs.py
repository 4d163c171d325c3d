"""Questions about a row, answered: what the evaluation says of looking, and inputs that are missing or strange."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import polymodal
from endtoend import Shell, write_table
from polymodal.core.streams import Batch, Cells
from polymodal.work import question as questions
from polymodal.work.collect import without

COLOURS, SHAPES = ("red", "blue", "green"), ("circle", "square")
INPUTS: dict[str, Any] = {
    "facts": {"type": "tabular", "columns": ["colour", "shape"], "encoder": {"type": "mlp", "width": 16}},
    "sound": {"type": "tabular", "columns": ["noise"], "encoder": {"type": "mlp", "width": 16}},
    "question": {"type": "text", "min_count": 1, "encoder": {"type": "bag", "width": 16}},
}
TRAIN = {"epochs": 12, "batch": 16, "lr": 0.03, "device": "cpu", "threads": 1}


def rows(things: int, seed: int, blind: bool = False) -> list[dict[str, Any]]:
    """Three questions about each thing; when `blind`, the question alone has the answer."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(things):
        colour, shape, noise = rng.choice(COLOURS), rng.choice(SHAPES), round(float(rng.normal()), 3)
        asked = rng.choice(COLOURS)
        answers = {"what colour": colour, "which shape": shape, f"is it {asked}": "yes" if asked == colour else "no"}
        for question, answer in answers.items():
            told = {"what colour": "red", "which shape": "circle"}.get(question, "no") if blind else answer
            found.append({"colour": colour, "shape": shape, "noise": noise, "question": question, "answer": told})
    return found


def plan(folder: Path, blind: bool = False, inputs: tuple[str, ...] = tuple(INPUTS), **task: Any) -> dict[str, Any]:
    parts = {"train": rows(80, 0, blind), "valid": rows(20, 1, blind), "test": rows(40, 2, blind)}
    data = {name: str(write_table(folder / f"{name}.csv", cells)) for name, cells in parts.items()}
    return {
        "data": data, "inputs": {n: INPUTS[n] for n in inputs}, "fusion": "concat", "train": TRAIN,
        "tasks": {"answer": {"type": "answer", "hidden": 32, **task}},
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    polymodal.train(spec=plan(folder), out=folder / "run", quiet=True)
    return folder


def test_a_model_that_looks(run: Path) -> None:
    test = json.loads((run / "run" / "metrics.json").read_text())["test"]
    assert test["tasks"]["answer"]["vqa_accuracy"]["value"] > 0.9
    found = test["question"]["answer"]
    assert found["looks"] is True
    assert (found["question"], found["others"]) == ("question", ["facts", "sound"])
    assert found["text"].startswith("it looks at facts and sound (VQA accuracy with all inputs ")
    assert found["gain_alone"]["vqa_accuracy"]["ci95"][0] > 0
    assert (
        found["alone"]["vqa_accuracy"]["value"] == test["alone"]["question"]["tasks"]["answer"]["vqa_accuracy"]["value"]
    )
    gain = test["tasks"]["answer"]["vqa_accuracy"]["value"] - found["strange"]["vqa_accuracy"]["value"]
    assert found["gain_strange"]["vqa_accuracy"]["value"] == pytest.approx(gain)
    assert "blind" not in {w["kind"] for w in test.get("warnings", [])}
    assert found["text"].split(" (")[0] in (run / "run" / "report.html").read_text()


def test_a_model_that_never_looks_is_seen_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also with two inputs, where no input but the question is left when the other one is withheld."""
    spec = plan(tmp_path, blind=True, inputs=("facts", "question"))
    polymodal.train(spec=spec, out=tmp_path / "run", quiet=True)
    done = Shell(capsys).works("evaluate", tmp_path / "run", tmp_path / "test.csv", "--json")
    found = json.loads(done.out)["question"]["answer"]
    assert found["looks"] is False
    assert found["text"].startswith("it does not look at facts: question alone does as well")
    assert found["gain_alone"]["vqa_accuracy"]["value"] == 0
    assert "answer: it does not look at facts" in done.err
    assert "it does not look at facts" in (tmp_path / "run" / "README.md").read_text()


def test_rows_about_one_thing_are_drawn_together(run: Path) -> None:
    loaded = polymodal.load(run / "run")
    table = polymodal.data.tables.open_table(str(run / "test.csv"))
    found = questions.clusters(loaded.spec, table, np.arange(9), ("facts", "sound"))
    assert found is not None
    assert found.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert questions.clusters(loaded.spec, table, np.arange(0, 9, 3), ("facts", "sound")) is None


def test_the_other_rows_inputs() -> None:
    """Every cell moves on to the next one of the batch; what is missing stays so, and questions stay in place."""
    cells = Cells({}, torch.tensor([[0, -1], [0, 2], [1, 1], [-1, -1]]), torch.tensor([7, 8, 9]))
    one = Cells({}, torch.tensor([[0], [0], [-1], [0]]), torch.tensor([7]))
    batch = Batch({"a": cells, "b": one, "q": cells}, {}, torch.zeros(4, dtype=torch.int64), ())
    moved = questions.strange(("a", "b"))(batch).inputs
    assert moved["a"].index.tolist() == [[1, -1], [1, 0], [2, 2], [-1, -1]]
    assert moved["b"].index.tolist() == one.index.tolist()
    assert moved["q"] is cells
    gone = without(("a", "b"))(batch).inputs
    assert (gone["a"].index < 0).all()
    assert gone["q"] is cells


def test_the_verdicts() -> None:
    def told(alone: tuple[float, float], strange: tuple[float, float]) -> dict[str, Any]:
        gains = {f"gain_{kind}": {"vqa_accuracy": {"value": ends[0], "ci95": list(ends)}}
                 for kind, ends in (("alone", alone), ("strange", strange))}  # fmt: skip
        same = {"vqa_accuracy": {"value": 0.5}}
        plain = {"measure": "vqa_accuracy", "others": ["picture"], "question": "q", "alone": same, "strange": same}
        return questions.verdict(plain | gains, same)

    assert told((0.1, 0.2), (0.1, 0.2))["looks"] is True
    assert told((-0.1, 0.2), (0.1, 0.2))["text"].startswith("it does not look at picture: q alone does as well (")
    assert told((-0.2, -0.1), (0.1, 0.2))["text"].startswith("it is misled by picture: q alone does better (")
    assert told((0.1, 0.2), (-0.1, 0.2))["text"].startswith("it does not look at what picture shows: another row's")
    assert "[+10.0 to +20.0]" in told((0.1, 0.2), (0.1, 0.2))["text"]
    assert told((None, None), (0.1, 0.2))["looks"] is None  # type: ignore[arg-type]


def test_strange_questions_get_an_answer(run: Path) -> None:
    loaded, good = polymodal.load(run / "run"), rows(3, 5)[:3]
    cells = [
        *good,
        good[0] | {"colour": None, "shape": None, "noise": None},
        good[0] | {"question": None},
        good[0] | {"question": "   "},
        good[0] | {"question": "what colour " * 5000},
        good[0] | {"question": "who painted that?"},
        dict.fromkeys(good[0]),
    ]
    found = [row["answer"] for row in loaded.predict(cells)]
    assert [row["error"] for row in loaded.predict(cells)] == [None] * len(cells)
    assert set(found) <= {*COLOURS, *SHAPES, "yes", "no"}
    alone = [loaded.predict([one])[0] for one in cells]
    assert [row["answer"] for row in alone] == found
    assert [row["answer.confidence"] for row in alone] == pytest.approx(
        [row["answer.confidence"] for row in loaded.predict(cells)], abs=1e-5
    )


def test_an_answer_never_seen_counts_as_wrong(run: Path) -> None:
    loaded = polymodal.load(run / "run")
    cells = [row | {"answer": "a zebra"} for row in rows(4, 6)]
    found = loaded.evaluate(cells).json()["tasks"]["answer"]
    assert found["vqa_accuracy"]["value"] == 0
    assert found["in_reach"]["value"] == 0


def test_baselines_know_the_answers(tmp_path: Path) -> None:
    """The most frequent answer is a baseline of this task as of any other that names a class."""
    found = polymodal.baselines(spec=plan(tmp_path), names=["majority"])["majority"].json()["tasks"]["answer"]
    test = [row["answer"] for row in rows(40, 2)]
    train = [row["answer"] for row in rows(80, 0)]
    commonest = max(set(train), key=lambda a: (train.count(a), a))
    assert found["vqa_accuracy"]["value"] == pytest.approx(test.count(commonest) / len(test))


def test_answers_in_words_of_its_own(tmp_path: Path) -> None:
    """A reply says what its words can form, is measured as a choice is, and is given row by row."""
    spec = plan(tmp_path, inputs=("facts", "question"))
    spec["tasks"]["answer"] = {"type": "reply", "decoder": {"type": "gru", "dropout": 0.0}}
    run = polymodal.train(spec=spec, out=tmp_path / "run", quiet=True)
    test = run.metrics["test"]
    assert list(test["tasks"]["answer"])[:2] == ["vqa_accuracy", "exact_match"]
    assert test["tasks"]["answer"]["vqa_accuracy"]["value"] > 0.9
    assert test["question"]["answer"]["looks"] is True
    cells = [*rows(4, 7), dict.fromkeys(rows(1, 7)[0])]
    said = run.predict(cells)
    assert [line["answer"] for line in said[:12]] == [row["answer"] for row in rows(4, 7)]
    assert all(0 < line["answer.confidence"] <= 1 for line in said)
    assert [run.predict([one])[0]["answer"] for one in cells] == [line["answer"] for line in said]
    people = [row | {"answer": [row["answer"], row["answer"].upper() + "!", "a zebra"]} for row in rows(4, 7)]
    found = run.evaluate(people).json()["tasks"]["answer"]
    assert found["exact_match"]["value"] == 1
    assert found["vqa_accuracy"]["value"] == pytest.approx((2 * 1 / 3 + 1 * 2 / 3) / 3)  # two of three people
