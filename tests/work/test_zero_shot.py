"""Zero-shot: against a calculation by hand, templates and texts, missing rows, measures, commands, mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score, log_loss

import polymodal
from endtoend import Shell
from polymodal.api import Run
from polymodal.core.errors import RunError, TableError, UserError
from polymodal.work.zero_shot import prompts, read_classes

COLOURS = ("red", "blue", "green", "yellow")
SPEC: dict[str, Any] = {
    "inputs": {
        "picture": {"type": "image", "size": 16, "encoder": {"type": "cnn", "channels": [8]}},
        "text": {"type": "text", "min_count": 1, "encoder": {"type": "bag", "width": 16}},
    },
    "tasks": {"find": {"type": "retrieve", "column": "text", "dim": 16}},
    "train": {"epochs": 8, "batch": 32, "lr": 0.01, "device": "cpu", "threads": 1},
}


def pixels(colour: str, g: np.random.Generator) -> np.ndarray:
    shown = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 200, 30), "yellow": (220, 210, 40)}[colour]
    return np.clip(g.normal(shown, 25, (16, 16, 3)), 0, 255).astype(np.uint8)


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    g = np.random.default_rng(seed)
    chosen = [COLOURS[i] for i in g.integers(0, 4, count)]
    return [{"picture": pixels(c, g), "text": f"a {w} {c} thing", "colour": c}
            for c, w in zip(chosen, g.choice(["small", "large", "nice"], count), strict=True)]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return polymodal.train(rows(160, 0), spec=SPEC, out=tmp_path_factory.mktemp("colours") / "run", quiet=True)


@pytest.fixture(scope="module")
def new() -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "text"} for row in rows(60, 1)]


def test_it_names_what_no_head_was_trained_for(run: Run, new: list[dict[str, Any]]) -> None:
    lines = run.zero_shot(new, classes=COLOURS, templates=["a {} thing"])
    assert [line["row"] for line in lines] == list(range(60))
    assert np.mean([line["class"] == row["colour"] for line, row in zip(lines, new, strict=True)]) > 0.9


def test_against_a_calculation_by_hand(run: Run, new: list[dict[str, Any]]) -> None:
    classes = {"warm": ["red", "yellow"], "cold": ["blue", "green"]}
    templates = ["a {} thing", "{}", "nice {} {}"]
    told = [[t.replace("{}", text) for text in texts for t in templates] for texts in classes.values()]
    assert prompts(classes, templates).sentences == told
    each = [run.embed([{"text": s} for s in group], ["text"])["text"][:, 0] for group in told]
    means = np.stack([vectors.mean(0) / np.linalg.norm(vectors.mean(0)) for vectors in each])
    task: Any = run.assembly.model.tasks["find"]
    sharp = float(np.exp(float(task.start[0]) + float(task.learned.weight.detach()[0, 0])))
    logits = sharp * run.embed(new, ["picture"])["picture"][:, 0] @ means.T
    lines = run.zero_shot(new, classes=classes, templates=templates)
    p = softmax(logits, axis=1)
    assert [line["class"] for line in lines] == [list(classes)[i] for i in p.argmax(1)]
    np.testing.assert_allclose([line["class.confidence"] for line in lines], p.max(1), atol=1e-4)
    found = run.zero_shot([row | {"kind": "warm" if row["colour"] in ("red", "yellow") else "cold"} for row in new],
                          classes=classes, templates=templates, target="kind").tasks["class"].measures  # fmt: skip
    truth = np.array([0 if row["colour"] in ("red", "yellow") else 1 for row in new])
    assert found["accuracy"]["value"] == pytest.approx(accuracy_score(truth, p.argmax(1)))
    assert found["log_loss"]["value"] == pytest.approx(log_loss(truth, p), abs=1e-4)
    low, high = found["accuracy"]["ci95"]
    assert low <= found["accuracy"]["value"] <= high


def test_templates_are_joined_by_their_mean(run: Run, new: list[dict[str, Any]]) -> None:
    one, two, both = (run.zero_shot(new[:5], classes=COLOURS, templates=t)
                      for t in (["a {} thing"], ["large {}"], ["a {} thing", "large {}"]))  # fmt: skip
    sure = [[line["class.confidence"] for line in lines] for lines in (one, two, both)]
    assert np.abs(np.array(sure[2]) - sure[0]).max() > 1e-5
    assert np.abs(np.array(sure[2]) - sure[1]).max() > 1e-5


def test_rows_without_the_input(run: Run, new: list[dict[str, Any]]) -> None:
    lines = run.zero_shot([new[0], {"picture": None, "colour": "red"}, {"picture": b"bad", "colour": "red"}, new[1]],
                          classes=COLOURS, keep=True)  # fmt: skip
    assert [line["class"] is None for line in lines] == [False, True, True, False]
    assert "missing" in lines[1]["error"]
    assert "picture" in lines[2]["error"]
    assert set(lines[0]) == {"row", "class", "class.confidence", "error", "picture"}
    found = run.zero_shot([new[0], {"picture": None, "colour": "red"}, {**new[1], "colour": None}], classes=COLOURS,
                          target="colour")  # fmt: skip
    assert found.rows == 1
    with pytest.raises(TableError, match="no row has both"):
        run.zero_shot(
            [{"picture": None, "colour": "red"}, {**new[1], "colour": None}], classes=COLOURS, target="colour"
        )


def test_a_class_that_is_not_given_is_never_right(run: Run, new: list[dict[str, Any]]) -> None:
    found = run.zero_shot(new, classes=COLOURS[:2], templates=["a {} thing"], target="colour")
    share = np.mean([row["colour"] in COLOURS[:2] for row in new])
    assert found.tasks["class"].measures["accuracy"]["value"] <= share
    assert "green" in found.warnings[0]["text"]


def test_the_other_way_round(run: Run) -> None:
    """Sentences are classes of pictures' texts, too: any two inputs will do, here text by text."""
    lines = run.zero_shot(
        [{"text": "a large red thing"}, {"text": "nice blue"}], classes=COLOURS, input="text", by="text"
    )
    assert [line["class"] for line in lines] == ["red", "blue"]


def test_commands(run: Run, new: list[dict[str, Any]], shell: Shell, tmp_path: Path) -> None:
    from PIL import Image

    for number, row in enumerate(new):
        Image.fromarray(row["picture"]).save(tmp_path / f"{number}.png")
    table = pd.DataFrame([{"picture": f"{n}.png", "colour": row["colour"]} for n, row in enumerate(new)])
    table.to_csv(tmp_path / "new.csv", index=False)
    (tmp_path / "classes.txt").write_text("\n".join(COLOURS) + "\n")
    (tmp_path / "classes.yaml").write_text("\n".join(f"{c}: [{c}, {c} {c}]" for c in COLOURS))
    given = ("--zero-shot", tmp_path / "classes.txt", "--template", "a {} thing", "--template", "{}")
    shell.works("predict", run.folder, tmp_path / "new.csv", "--out", tmp_path / "found.csv", *given, "--quiet")
    found = pd.read_csv(tmp_path / "found.csv")
    wanted = run.zero_shot(new, classes=COLOURS, templates=["a {} thing", "{}"])
    assert found["class"].tolist() == [line["class"] for line in wanted]
    done = shell.works("evaluate", run.folder, tmp_path / "new.csv", *given, "--target", "colour", "--json", "--quiet")
    plain = json.loads(done.out)
    share = np.mean(found["class"] == table["colour"])
    assert plain["tasks"]["class"]["accuracy"]["value"] == pytest.approx(share)
    other = ("--zero-shot", tmp_path / "classes.yaml", "--input", "picture", "--by", "text", "--target", "colour")
    assert "class.accuracy" in shell.works("evaluate", run.folder, tmp_path / "new.csv", *other, "--quiet").out
    assert "--target" in shell.fails("evaluate", run.folder, tmp_path / "new.csv", *given, "--quiet")
    assert "cannot be read" in shell.fails("evaluate", run.folder, tmp_path / "new.csv", "--zero-shot", "no.txt")


def test_files_of_classes(tmp_path: Path) -> None:
    for name, text, wanted in (
        ("a.txt", "red car\n\n  blue \n", ["red car", "blue"]),
        ("a.json", '["no", "yes"]', ["no", "yes"]),
        ("a.yaml", "no: [n, nope]\nyes: y\n", {"no": ["n", "nope"], "yes": ["y"]}),
    ):
        (tmp_path / name).write_text(text)
        assert read_classes(tmp_path / name) == wanted
    (tmp_path / "b.json").write_text("3")
    with pytest.raises(UserError, match="neither a list"):
        read_classes(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"classes": ["red"]}, "at least two"),
        ({"classes": ["red", "red"]}, "each once"),
        ({"classes": {"red": [], "blue": ["blue"]}}, "needs texts"),
        ({"templates": ["a photo"]}, "no place"),
        ({"input": "sound"}, "no input of this name"),
        ({"by": "sound"}, "no input of this name"),
        ({"classes": ["red", ""]}, "nothing can be read"),
    ],
)
def test_mistakes(run: Run, new: list[dict[str, Any]], given: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        run.zero_shot(new, **{"classes": COLOURS, **given})


def test_a_run_without_a_space(trained: Any, new: list[dict[str, Any]]) -> None:
    with pytest.raises(RunError, match="no task that brings"):
        polymodal.load(trained.run).zero_shot(new, classes=COLOURS)
