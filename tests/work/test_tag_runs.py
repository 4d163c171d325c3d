"""Labels of words, of moments of a series and of stretches of a sound: from tables to answers and back."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polymodal
from endtoend import TRAIN, read_answers, read_ledger, write_spec, write_table, write_wav
from polymodal.core.errors import UserError

FIRST, LAST = ["Ann", "Bob", "Cleo"], ["Smith", "Li-Wu", "O'Hara"]
OTHER = ["met", "the", "old", "man,", "U.S.", "today."]
WORDS: dict[str, Any] = {"type": "text", "column": "words", "min_count": 1, "lower": False}


def sentences(count: int = 40) -> list[dict[str, Any]]:
    g = np.random.default_rng(0)
    rows = []
    for _ in range(count):
        words, tags = [], []
        for _ in range(g.integers(2, 5)):
            if g.random() < 0.5:
                words += [g.choice(FIRST), g.choice(LAST)]
                tags += ["B-PER", "I-PER"]
            else:
                words.append(g.choice(OTHER))
                tags.append("O")
        rows.append({"words": " ".join(words), "tags": " ".join(tags)})
    return rows


def plan(table: Path, inputs: dict[str, Any], task: dict[str, Any], **train: Any) -> dict[str, Any]:
    return {
        "data": {"train": str(table), "valid": 0.2},
        "inputs": inputs,
        "tasks": {"tags": {"type": "tag", **task}},
        "train": {**TRAIN, "epochs": 8, "batch": 8, "lr": 0.03, **train},
    }


def test_names_in_sentences(tmp_path: Path, shell: Any) -> None:
    """Words with signs in them, in pieces: still a label for each."""
    rows = sentences()
    write_table(tmp_path / "rows.csv", [*rows, {"words": "one two three", "tags": "O O"}])
    inputs = {"words": {**WORDS, "tokenizer": "bpe", "encoder": {"type": "gru", "width": 16, "tokens": "words"}}}
    task = {"columns": ["tags", "words"], "spans": "bio"}
    spec = write_spec(tmp_path / "spec.yaml", plan(tmp_path / "rows.csv", inputs, task))
    shell.works("train", spec, "--out", tmp_path / "run", "--quiet")
    run = polymodal.load(tmp_path / "run")
    assert run.metrics["valid"]["tasks"]["tags"]["span_f1"]["value"] >= 0.95
    assert [(e["row"], e["reason"]) for e in read_ledger(tmp_path / "run")] == [(40, "2 labels for 3 words")]
    asked = [rows[0], {"words": "never heard of"}, {"words": None}, {"words": ""}, rows[1]]
    write_table(tmp_path / "asked.jsonl", [{"words": r.get("words")} for r in asked])
    shell.works("predict", tmp_path / "run", tmp_path / "asked.jsonl", "--out", tmp_path / "said.jsonl")
    said = read_answers(tmp_path / "said.jsonl")
    assert [line["row"] for line in said] == list(range(5))
    assert said[0]["tags"] == rows[0]["tags"].split()
    assert [len(line["tags"] or []) for line in said] == [len((r.get("words") or "").split()) for r in asked]
    assert 0.5 < said[0]["tags.confidence"] <= 1


def test_words_that_are_cut_otherwise_are_refused(tmp_path: Path) -> None:
    """The tokens of `U.S.` are several; the table has one label."""
    write_table(tmp_path / "rows.csv", sentences(20))
    spec = plan(tmp_path / "rows.csv", {"words": {**WORDS, "encoder": {"type": "gru", "width": 8}}}, {})
    with pytest.raises(UserError, match="tokens: words"):
        polymodal.train(spec=spec, out=tmp_path / "run", quiet=True)


def test_moments_of_a_series(tmp_path: Path) -> None:
    """Above or below: every step has a label, two steps make a token."""
    g = np.random.default_rng(0)
    waves = [np.repeat(g.choice([-1.0, 1.0], 6), 4) + 0.1 * g.standard_normal(24) for _ in range(30)]
    waves = [w[: 24 - i % 3] for i, w in enumerate(waves)]
    table = {"wave": waves, "tags": [["up" if x > 0 else "down" for x in w] for w in waves]}
    spec = plan(tmp_path, {"wave": {"type": "series", "encoder": {"type": "cnn", "width": 8, "stride": 2}}}, {})
    spec["data"] = {"valid": 0.2}
    run = polymodal.train(table, spec=spec, out=tmp_path / "run", quiet=True)
    assert run.metrics["valid"]["tasks"]["tags"]["accuracy"]["value"] >= 0.9
    assert run.metrics["valid"]["tasks"]["tags"]["unanswered"]["value"] == 0
    lines = list(run.predict({"wave": waves[:3]}))
    assert [len(line["tags"]) for line in lines] == [24, 24, 22]  # whole tokens


def test_stretches_of_a_sound(tmp_path: Path, shell: Any) -> None:
    g = np.random.default_rng(0)
    rows = []
    for i in range(24):
        start, size = g.uniform(0.05, 0.3), g.uniform(0.15, 0.3)
        time = np.arange(round(8000 * 0.7)) / 8000
        beep = np.sin(time * 4000) * ((time >= start) & (time < start + size)) + 0.01 * g.standard_normal(len(time))
        write_wav(tmp_path / f"{i}.wav", 0.5 * beep)
        beeps = [{"start": round(start, 3), "end": round(start + size, 3), "label": "beep"}]
        rows.append({"sound": f"{i}.wav", "tags": json.dumps(beeps)})
    rows[7]["sound"] = "gone.wav"
    write_table(tmp_path / "rows.csv", rows)
    sound = {"type": "audio", "rate": 8000, "mels": 16, "encoder": {"type": "gru", "width": 8, "stack": 2}}
    spec = write_spec(tmp_path / "spec.yaml", plan(tmp_path / "rows.csv", {"sound": sound}, {}))
    shell.works("train", spec, "--out", tmp_path / "run", "--quiet")
    found = polymodal.load(tmp_path / "run").metrics["valid"]["tasks"]["tags"]
    assert found["accuracy"]["value"] >= 0.9
    assert [e["row"] for e in read_ledger(tmp_path / "run")] == [7]
    shell.works("predict", tmp_path / "run", tmp_path / "rows.csv", "--out", tmp_path / "said.csv")
    with (tmp_path / "said.csv").open(newline="") as file:
        said = list(csv.DictReader(file))
    assert len(said) == 24
    assert not said[7]["tags"]
    (one,) = json.loads(said[0]["tags"])[:1]
    truth = json.loads(rows[0]["tags"])[0]
    assert one["label"] == "beep"
    assert abs(one["start"] - truth["start"]) < 0.06
