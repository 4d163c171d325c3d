"""From a table of sounds to what is said in them, by the command line: trained, measured, asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polymodal
from endtoend import TRAIN, read_answers, read_ledger, write_spec, write_table, write_wav
from polymodal.core.errors import SpecError

PITCH = {"a": 0.3, "b": 0.8, "c": 1.5}
ROWS = 50


def make_rows(folder: Path, count: int = ROWS) -> list[dict[str, Any]]:
    """Tones that stand for letters, with silence between: 50 ms each."""
    g = np.random.default_rng(0)
    rows = []
    for i in range(count):
        text = "".join(g.choice(list(PITCH), g.integers(1, 4)))
        pieces = [np.zeros(400)]
        for letter in text:
            pieces += [np.sin(np.arange(400) * PITCH[letter]) * g.uniform(0.3, 0.9), np.zeros(g.integers(200, 400))]
        name = write_wav(folder / f"sound-{i}.wav", np.concatenate(pieces) + 0.001 * g.standard_normal()).name
        rows.append({"sound": name, "text": text, "fold": ["train", "train", "train", "valid", "test"][i % 5]})
    return rows


def plan(**task: Any) -> dict[str, Any]:
    sound = {"type": "audio", "rate": 8000, "mels": 16, "hop": 16, "encoder": {"type": "gru", "width": 16, "stack": 1}}
    return {
        "data": {"train": "rows.csv", "split": "column", "split_column": "fold"},
        "inputs": {"sound": sound},
        "tasks": {"text": {"type": "transcribe", "norm": "layer", **task}},
        "train": {**TRAIN, "epochs": 30, "batch": 6, "lr": 0.01},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spoken")
    write_table(folder / "rows.csv", make_rows(folder))
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> polymodal.Run:
    spec = write_spec(folder / "spec.yaml", plan() | {"data": {**plan()["data"], "train": str(folder / "rows.csv")}})
    return polymodal.train(spec=spec, out=folder / "run", quiet=True)


def test_letters_are_heard(run: Any) -> None:
    found = run.metrics["test"]["tasks"]["text"]
    assert found["wer"]["value"] <= 0.25
    assert found["cer"]["value"] <= 0.15
    assert found["too_few_steps"]["value"] == 0
    low, high = found["cer"]["ci95"]
    assert low <= found["cer"]["value"] <= high
    report = (run.folder / "report.html").read_text()
    assert "word error rate" in report


def test_every_row_gets_an_answer_and_bad_sounds_a_reason(run: Any, folder: Path, shell: Any, tmp_path: Path) -> None:
    rows = make_rows(tmp_path, 6)
    (tmp_path / "broken.wav").write_bytes(b"RIFF no sound at all")
    table = [rows[0], {"sound": "broken.wav"}, rows[1], {"sound": None}, {"sound": "gone.wav"}, rows[2]]
    asked = write_table(tmp_path / "asked.csv", [{"sound": r["sound"]} for r in table])
    out = tmp_path / "answers.jsonl"
    shell.works("predict", run.folder, asked, "--out", out)
    said = read_answers(out)
    assert [line["row"] for line in said] == list(range(6))
    assert [line["text"] is None for line in said] == [False, True, False, False, True, False]
    assert all(0 < said[i]["text.confidence"] <= 1 for i in (0, 2, 5))
    assert "sound" in said[1]["error"]
    assert "not found" in said[4]["error"]
    right = sum(said[i]["text"] == r["text"] for i, r in zip((0, 2, 5), rows, strict=False))
    assert right >= 2
    shell.works("predict", run.folder, asked, "--out", out, "--respond", "search=beam", "--respond", "beams=3")
    assert [line["text"] is None for line in read_answers(out)] == [False, True, False, False, True, False]
    done = shell.works("evaluate", run.folder, folder / "rows.csv", "--json")
    assert {"wer", "cer", "exact_match"} <= json.loads(done.out)["tasks"]["text"].keys()


def test_bad_sounds_of_training_go_to_the_ledger(folder: Path, tmp_path: Path, shell: Any) -> None:
    rows = [{**r, "sound": str(folder / r["sound"])} for r in make_rows(tmp_path, 20)]
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    write_table(tmp_path / "rows.csv", [*rows, {**rows[0], "sound": "broken.wav"}, {**rows[1], "text": None}])
    spec = plan(way="both", decoder={"type": "gru", "layers": 1}, search="beam", beams=2)
    spec["data"]["train"], spec["train"]["epochs"] = str(tmp_path / "rows.csv"), 1
    shell.works("train", write_spec(tmp_path / "spec.yaml", spec), "--out", tmp_path / "run", "--quiet")
    ledger = read_ledger(tmp_path / "run")
    assert {(e["row"], e["column"]) for e in ledger} == {(20, "sound"), (21, "text")}
    out = tmp_path / "said.csv"
    shell.works("predict", tmp_path / "run", tmp_path / "rows.csv", "--out", out)
    assert len(out.read_text().splitlines()) == 1 + 22


def test_a_sound_of_one_token_cannot_be_spelled(folder: Path) -> None:
    spec = plan()
    spec["data"]["train"] = str(folder / "rows.csv")
    spec["inputs"]["sound"]["encoder"] = {"type": "gru", "width": 8, "tokens": "mean"}
    with pytest.raises(SpecError, match="tokens: all"):
        polymodal.train(spec=spec, out=folder / "one", quiet=True)
