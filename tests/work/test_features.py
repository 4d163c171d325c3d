"""Features of frozen encoders: computed once, the same answers, and nothing kept that may change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import polymodal
from polymodal.core.streams import Stream
from polymodal.work import step as steps
from polymodal.work.features import Features

ROWS = 96


def table(rows: int = ROWS) -> dict[str, list]:
    """Words of different number, two columns of pictures, some of them missing, and a class."""
    g = np.random.default_rng(0)
    label = g.integers(0, 2, rows)
    words = [" ".join(g.choice(["up", "down", "left"], size=int(n))) for n in g.integers(1, 7, rows)]
    shades = (g.random((rows, 2, 8, 8)) * 100 + 100 * label[:, None, None, None]).astype(np.uint8)
    pictures = [[None if g.random() < 0.2 else picture for picture in row] for row in shades]
    return {"word": words, "front": [p[0] for p in pictures], "back": [p[1] for p in pictures],
            "label": label.tolist(), "x": g.normal(size=rows).tolist()}  # fmt: skip


def plan(features: int, freeze: bool = True, **photo: object) -> dict:
    frozen = {"freeze": freeze}
    return {
        "data": {"valid": 0.2, "features_mb": features},
        "inputs": {
            "word": {"type": "text", "min_count": 1, "encoder": {"type": "gru", "width": 8, **frozen}},
            "photo": {"type": "image", "columns": ["front", "back"], "size": 8, **photo,
                      "encoder": {"type": "cnn", "channels": [4, 8], **frozen}},
            "x": {"type": "tabular", "encoder": {"type": "mlp", "width": 8}},
        },
        "attention": {"type": "bidirectional", "heads": 2},
        "fusion": "gated",
        "tasks": {"label": "classify"},
        "train": {"epochs": 3, "batch": 16, "seed": 3, "device": "cpu", "threads": 1, "drop": 0.2},
    }  # fmt: skip


def weights(run: polymodal.Run) -> dict[str, torch.Tensor]:
    return run.assembly.model.state_dict()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The inputs that were encoded, batch by batch."""
    from polymodal.model import Model

    found: list[str] = []
    encode = Model.encode

    def counted(self: Model, inputs: dict) -> dict:
        found.extend(inputs)
        return encode(self, inputs)

    monkeypatch.setattr(Model, "encode", counted)
    return found


def test_what_is_frozen_is_encoded_once_and_the_model_is_the_same(tmp_path: Path, calls: list[str]) -> None:
    kept = polymodal.train(table(), spec=plan(64), out=tmp_path / "kept", quiet=True)
    once = {name: calls.count(name) for name in ("word", "photo", "x")}
    calls.clear()
    anew = polymodal.train(table(), spec=plan(0), out=tmp_path / "anew", quiet=True)
    often = {name: calls.count(name) for name in ("word", "photo", "x")}
    assert once["x"] == often["x"]
    assert once["word"] == once["photo"] == 3  # batches of 64: two of the training rows, one of the others
    assert often["word"] == often["photo"] == often["x"] + 1 > 15  # a batch more, to see how large the features are
    for name, value in weights(kept).items():
        torch.testing.assert_close(value, weights(anew)[name], atol=1e-4, rtol=1e-4)
    losses = [[e["train"]["loss"] for e in run.history] for run in (kept, anew)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_recalled_streams_are_those_of_the_encoder(tmp_path: Path) -> None:
    run = polymodal.train(table(), spec=plan(64), out=tmp_path / "run", quiet=True)
    from polymodal.data.ledger import Ledger
    from polymodal.data.tables import open_table

    rows = open_table(table())
    part = run._part(rows)
    dataset = run.assembly.dataset(part, Ledger(), targets=True)
    features = Features(64)
    model = run.assembly.model.eval()
    assert features.fill(model, [dataset], run.runtime) == ("word", "photo")
    batch, _ = dataset.load(np.array([5, 90, 2, 31]))
    assert batch is not None
    fresh = model.encode(batch.inputs)
    for name in ("word", "photo"):
        found = features.recall(name, batch.inputs[name])
        assert found is not None
        torch.testing.assert_close(found.tokens, fresh[name].tokens, atol=1e-5, rtol=1e-5)
        assert torch.equal(found.mask, fresh[name].mask)
    strange = batch.inputs["word"]._replace(id=batch.inputs["word"].id + 1)
    assert features.recall("word", strange) is None
    assert features.recall("x", batch.inputs["x"]) is None
    features.close()
    assert features.recall("word", batch.inputs["word"]) is None


def test_other_cells_of_kept_inputs_are_encoded_once_where_there_is_room(tmp_path: Path) -> None:
    run = polymodal.train(table(), spec=plan(64), out=tmp_path / "run", quiet=True)
    from polymodal.data.ledger import Ledger
    from polymodal.data.tables import open_table

    dataset = run.assembly.dataset(run._part(open_table(table())), Ledger(), targets=True)
    features, made = Features(1), [0]
    features.fill(run.assembly.model, [dataset], run.runtime)

    def make(rows: int = 4) -> dict[str, Stream]:
        made[0] += 1
        return {"word": Stream(torch.ones(rows, 3, 16), torch.ones(rows, 3, dtype=torch.bool))}

    assert features.once("a", ["word"], make) is features.once("a", ["word"], make)
    assert made[0] == 1
    features.once("b", ["word"], make)
    assert made[0] == 2  # another key
    for _ in range(2):
        features.once("c", ["x"], make)  # no input that is kept
    assert made[0] == 4
    for _ in range(2):
        features.once("d", ["word"], lambda: make(1 << 15))  # 6 MB
    assert made[0] == 6
    features.close()
    features.once("a", ["word"], make)
    assert made[0] == 7


@pytest.mark.parametrize("change", ["thawed", "augmented", "no room"])
def test_what_may_change_or_does_not_fit_is_encoded_every_time(tmp_path: Path, calls: list[str], change: str) -> None:
    spec = plan(0 if change == "no room" else 64, freeze=change != "thawed",
                **({"augment": {"flip": 0.5}} if change == "augmented" else {}))  # fmt: skip
    polymodal.train(table(), spec=spec, out=tmp_path / "run", quiet=True)
    assert calls.count("photo") == calls.count("x") + (change == "no room")  # the batch that shows how large it is


def test_a_broken_off_run_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = plan(64)
    spec["train"]["checkpoint_steps"] = 2
    whole = polymodal.train(table(), spec=spec, out=tmp_path / "whole", quiet=True)
    finite, count = steps._check_finite, [0]

    def crash(*args: object) -> None:
        count[0] += 1
        if count[0] == 8:
            raise MemoryError("the power went")
        finite(*args)

    monkeypatch.setattr(steps, "_check_finite", crash)
    with pytest.raises(MemoryError):
        polymodal.train(table(), spec=spec, out=tmp_path / "broken", quiet=True)
    monkeypatch.undo()
    again = polymodal.train(table(), spec=spec, out=tmp_path / "broken", resume=True, quiet=True)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(again)[name]), name
