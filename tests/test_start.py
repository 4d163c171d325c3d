"""The newcomer's path: a table and a target, on the command line and from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import polymodal
from endtoend import TRAIN, Shell, Trained
from polymodal.core import spec as specs
from polymodal.core import yaml12

QUICK = [f"--set=train.{name}={value}" for name, value in TRAIN.items()]
G = np.random.default_rng(0)
ROWS = {"x": G.normal(size=40).tolist(), "id": list(range(40)), "y": ["a", "b"] * 20}


@pytest.fixture
def table(trained: Trained, tmp_path: Path) -> Path:
    return trained.table(tmp_path / "rows.csv", trained.rows)


def test_one_command(table: Path, shell: Shell, tmp_path: Path) -> None:
    """From a table to a run; what is printed is the spec that the run keeps, but for the path of the table."""
    run = tmp_path / "run"
    done = shell.works("train", table, "--target", "label", "--preset", "fast", *QUICK, "--out", run)
    assert not done.out
    assert done.err.startswith(f"# guessed from the columns of {table}")
    told = specs.validate(specs.parse(yaml12.loads(done.err.partition("\n")[2].partition("\nepoch")[0])))
    kept = polymodal.load(run).spec
    assert kept.data.train == str(table)
    assert {**kept.json(), "data": told.json()["data"]} == told.json()
    assert kept.inputs.keys() == {"photo", "title", "sound", "table"}
    assert kept.inputs["photo"].encoder.settings["channels"] == (16, 32, 64)
    assert kept.train.epochs == 1
    assert "report: " in done.err
    assert shell.works("predict", run, table, "--out", tmp_path / "a.csv").code == 0
    assert "label.accuracy" in shell.works("evaluate", run, table).out


def test_quiet_is_quiet_and_resuming_guesses_the_same(table: Path, shell: Shell, tmp_path: Path) -> None:
    words = ("train", table, "--target", "label", "--preset", "fast", *QUICK, "--out", tmp_path / "run")
    assert shell.works(*words, "--quiet") == (0, "", "")
    assert "is finished already" in shell.works(*words, "--resume").err
    assert "already and not empty" in shell.fails(*words)


def test_words_of_ones_own_win(table: Path, shell: Shell, tmp_path: Path) -> None:
    own = ("--ignore", "sound", "--ignore", "photo", "--set", "inputs.title.encoder=gru", "--set", "fusion=sum")
    words = ("train", table, "--target", "label", "--preset", "fast", *QUICK, *own)
    shell.works(*words, "--out", tmp_path / "run")
    spec = polymodal.load(tmp_path / "run").spec
    assert spec.inputs.keys() == {"title", "table"}
    assert spec.inputs["title"].encoder.type == "gru"
    assert spec.inputs["title"].reader.settings == {}, "an input with an encoder of its own is left alone"
    assert spec.fusion is not None
    assert spec.fusion.type == "sum"


def test_a_folder_of_class_folders_needs_no_target(shell: Shell, tmp_path: Path) -> None:
    for label, level in (("dark", 20), ("light", 220)):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(8):
            Image.new("L", (8, 8), level + i).save(tmp_path / "pictures" / label / f"{i}.png")
    shell.works("train", tmp_path / "pictures", "--preset", "fast", *QUICK, "--out", tmp_path / "run")
    spec = polymodal.load(tmp_path / "run").spec
    assert (list(spec.tasks), list(spec.inputs)) == (["label"], ["file"])


def test_what_a_newcomer_may_forget(table: Path, shell: Shell, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "run")
    assert "one of its columns: ['photo'" in shell.fails("train", table, *out)
    assert "'label'" in shell.fails("train", table, "--target", "lable", *out)
    assert "no preset of this name" in shell.fails("train", table, "--target", "label", "--preset", "god", *out)
    assert "'rows.csv'" in shell.fails("train", tmp_path / "row.csv", "--target", "label", *out)
    assert "TABLE --target COLUMN" in shell.fails("train", *out)
    assert not (tmp_path / "run").exists()


def test_a_preset_over_a_spec_file(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    plain = {"data": {"train": str(trained.folder / "rows.csv")}, "inputs": {"title": "text", "price": "tabular"},
             "tasks": {"label": "classify"}, "train": TRAIN}  # fmt: skip
    (tmp_path / "spec.yaml").write_text(yaml12.dumps(plain), encoding="utf-8")
    shell.works("train", tmp_path / "spec.yaml", "--preset", "fast", "--out", tmp_path / "a")
    (tmp_path / "spec.yaml").write_text(yaml12.dumps({**plain, "preset": "fast"}), encoding="utf-8")
    shell.works("train", tmp_path / "spec.yaml", "--out", tmp_path / "b")
    python = polymodal.train(spec=plain, preset="fast", out=tmp_path / "c", quiet=True)
    kept = {(tmp_path / name / "spec.yaml").read_text() for name in "abc"}
    assert len(kept) == 1
    assert "preset" not in kept.pop()
    assert python.spec.inputs["title"].encoder.type == "bag"


def test_check_prints_the_guess(table: Path, shell: Shell) -> None:
    text = shell.works("check", table, "--target", "label", "--preset", "fast", "--ignore", "brand").out
    plain = yaml12.loads(text.partition("would make of it\n")[2])
    assert plain["inputs"]["table"]["column"] == "price"
    assert specs.validate(specs.parse(plain)).tasks.keys() == {"label"}
    assert f"next: polymodal train {table} --target COLUMN" in shell.works("check", table).out


def test_a_frame_and_a_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guess = polymodal.draft(ROWS, "y", preset="fast", settings=TRAIN)
    run = polymodal.train(ROWS, target="y", preset="fast", settings=TRAIN, out=tmp_path / "run")
    assert run.spec == specs.validate(guess.spec)
    said = capsys.readouterr().err
    assert "# left out: id: it names or counts the rows" in said
    assert guess.text() in said


def test_the_default_preset_is_good_where_all_is_guessed() -> None:
    assert polymodal.draft(ROWS, "y").spec == polymodal.draft(ROWS, "y", preset="good").spec
    plain = polymodal.draft(ROWS, "y", inputs={"x": "tabular"}).spec
    assert plain.inputs["x"].encoder.settings == {}


def test_two_targets_and_a_told_task(tmp_path: Path) -> None:
    rows: dict[str, Any] = {**ROWS, "stars": G.integers(1, 6, 40).tolist()}
    run = polymodal.train(rows, target={"y": None, "stars": "regress"}, preset="fast", settings=TRAIN,
                          out=tmp_path / "run", quiet=True)  # fmt: skip
    line = run.predict(rows)[0]  # type: ignore[index]
    assert isinstance(line["stars"], float)
    assert line["y"] in ("a", "b")


def test_a_preset_does_not_go_with_a_parsed_spec(tmp_path: Path) -> None:
    plan = polymodal.draft(ROWS, "y", preset="fast").spec
    with pytest.raises(polymodal.SpecError, match="preset: stands beside a spec"):
        polymodal.train(ROWS, spec=plan, preset="good", out=tmp_path / "run")
