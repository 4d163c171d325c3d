"""Parts that are frozen until an epoch, and rates that fall from layer to layer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import polymodal
from polymodal import assemble
from polymodal.core import spec as specs
from polymodal.core.layers import layers_of
from polymodal.data.splits import Part
from polymodal.data.tables import open_table
from polymodal.model import Model
from polymodal.work import step as steps
from polymodal.work import train as training
from polymodal.work.session import Session

ROWS = 48


def table() -> dict[str, list]:
    made = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, generator=made)
    words = [" ".join(("up", "down", "left")[int(i)] for i in torch.randint(0, 3, (4,), generator=made))
             for _ in range(ROWS)]  # fmt: skip
    label = ["yes" if (v > 0) == ("up" in w) else "no" for v, w in zip(x, words, strict=True)]
    return {
        "x": x.tolist(),
        "word": words,
        "label": label,
        "said": [f"{w} {a}" for w, a in zip(words, label, strict=True)],
    }


def plan(extras: dict[str, Any] | None = None, decoder: dict[str, Any] | None = None, dropout: float = 0.2,
         **train: Any) -> dict[str, Any]:  # fmt: skip
    encoder = {"type": "transformer", "width": 8, "layers": 3, "heads": 2, "dropout": dropout, **(extras or {})}
    spec: dict[str, Any] = {
        "data": {"valid": 0.25},
        "inputs": {
            "word": {"type": "text", "min_count": 1, "encoder": encoder},
            "x": {"type": "tabular", "encoder": {"type": "mlp", "width": 8, "dropout": dropout}},
        },
        "fusion": "gated",
        "tasks": {"label": "classify"},
        "train": {"epochs": 4, "batch": 12, "lr": 5e-3, "seed": 3, "device": "cpu", "threads": 1, **train},
    }
    if decoder is not None:
        spec["tasks"]["said"] = {"type": "caption", "min_count": 1, "decoder": decoder}
    return spec


Weights = dict[str, Tensor]


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[Weights]:
    """The weights at the start of each epoch and at the end."""
    found: list[Weights] = []
    close = training._close_epoch

    def note(session: Session, rows: int) -> None:
        found.append({n: v.clone() for n, v in session.assembly.model.state_dict().items()})
        close(session, rows)

    begin = training.thaw

    def first(session: Session) -> None:
        if not found:
            found.append({n: v.clone() for n, v in session.assembly.model.state_dict().items()})
        begin(session)

    monkeypatch.setattr(training, "_close_epoch", note)
    monkeypatch.setattr(training, "thaw", first)
    return found


def learned(epochs: list[Weights], prefix: str) -> list[bool]:
    """For each epoch, whether any of these weights changed in it."""
    names = [n for n in epochs[0] if n.startswith(prefix)]
    assert names
    return [any(not torch.equal(a[n], b[n]) for n in names) for a, b in pairwise(epochs)]


def fit(folder: Path, spec: dict[str, Any], resume: bool = False) -> polymodal.Run:
    return polymodal.train(table(), spec=spec, out=folder, quiet=True, resume=resume)


def test_a_thawed_encoder_learns_from_its_epoch_on(tmp_path: Path, epochs: list[Weights]) -> None:
    fit(tmp_path / "run", plan({"freeze": True, "thaw": 2}))
    assert learned(epochs, "encoders.parts._word.") == [False, False, True, True]
    assert learned(epochs, "encoders.parts._x.") == learned(epochs, "fusion.") == [True] * 4


def test_layers_are_thawed_from_the_top_one_group_an_epoch(tmp_path: Path, epochs: list[Weights]) -> None:
    fit(tmp_path / "run", plan({"freeze": True, "thaw": {"after": 1, "layers": 1}}))
    own = "encoders.parts._word."
    assert learned(epochs, f"{own}words.") == [False] * 4
    assert learned(epochs, f"{own}stack.layers.0.") == [False, False, False, True]
    assert learned(epochs, f"{own}stack.layers.1.") == [False, False, True, True]
    assert learned(epochs, f"{own}stack.layers.2.") == learned(epochs, f"{own}stack.norm.") == [False, True, True, True]


def test_a_decoder_is_frozen_and_thawed_likewise(tmp_path: Path, epochs: list[Weights]) -> None:
    decoder = {"type": "transformer", "layers": 2, "heads": 2, "freeze": True, "thaw": {"after": 2}}
    fit(tmp_path / "run", plan(decoder=decoder))
    assert learned(epochs, "tasks.parts._said.decoder.") == [False, False, True, True]
    assert learned(epochs, "tasks.parts._said.memory.") == [True] * 4


def test_of_a_language_model_only_the_core_is_frozen(tmp_path: Path, epochs: list[Weights]) -> None:
    pytest.importorskip("transformers")
    shape = {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 64}
    decoder = {"type": "lm", "name": "gpt2", "pretrained": False, "config": shape, "prefix": "linear", "freeze": True,
               "thaw": 1}  # fmt: skip
    run = fit(tmp_path / "run", plan(decoder=decoder, epochs=2))
    assert learned(epochs, "tasks.parts._said.decoder.core.") == [False, True]
    assert learned(epochs, "tasks.parts._said.decoder.map.") == [True, True]
    assert polymodal.load(run.folder).predict(table()) == run.predict(table())


def test_what_is_frozen_is_in_eval_until_it_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[tuple[bool, ...]] = []
    step = training.step

    def watched(session: Session, micro: list) -> None:
        encoder = session.assembly.model.encoders["word"]
        modes.append(
            (encoder.training, encoder.stack.layers[0].dropout.training, encoder.stack.layers[2].dropout.training)
        )
        step(session, micro)

    monkeypatch.setattr(training, "step", watched)
    fit(tmp_path / "run", plan({"freeze": True, "thaw": {"after": 1, "layers": 1}}, epochs=3, batch=36))
    assert modes == [(False, False, False), (True, False, True), (True, False, True)]


def crash(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    finite, calls = steps._check_finite, [0]

    def fail(*args: object) -> None:
        calls[0] += 1
        if calls[0] == at:
            raise MemoryError("the power went")
        finite(*args)

    monkeypatch.setattr(steps, "_check_finite", fail)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("stop", [2, 5, 7, 11])
def test_a_thawing_run_that_breaks_off_goes_on_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, optimizer: str
) -> None:
    """Three steps an epoch; a group more in the second, third and fourth; averaged weights as well."""
    more = {"checkpoint_steps": 2, "optimizer": optimizer, "ema": 0.9}
    spec = plan({"freeze": True, "thaw": {"after": 1, "layers": 1}, "layer_lr": 0.7}, **more)
    whole = fit(tmp_path / "whole", spec)
    with monkeypatch.context() as patch:
        crash(patch, stop)
        with pytest.raises(MemoryError):
            fit(tmp_path / "run", spec)
    run = fit(tmp_path / "run", spec, resume=True)
    weights = [(r.folder / "weights.safetensors").read_bytes() for r in (run, whole)]
    assert weights[0] == weights[1]
    timeless = [[{k: v for k, v in e.items() if "second" not in k} for e in r.history] for r in (run, whole)]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize(("extras", "kept"), [({"freeze": True}, True), ({"freeze": True, "thaw": 2}, False)])
def test_what_will_learn_is_never_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extras: dict, kept: bool
) -> None:
    """The answers of an encoder that is thawed later are computed anew in every batch."""
    recalled: list[bool] = []
    known = Model.recalled

    def watched(self: Model, inputs: dict) -> dict:
        recalled.append(self.recall is not None and self.recall("word", inputs["word"]) is not None)
        return known(self, inputs)

    monkeypatch.setattr(Model, "recalled", watched)
    run = fit(tmp_path / "run", plan(extras, epochs=3))
    assert any(recalled) is kept
    assert ("word" in run.assembly.model.frozen) is kept


def model_of(spec: dict[str, Any], folder: Path) -> assemble.Assembly:
    rows = open_table(table())
    import numpy as np

    return assemble.fit(specs.parse(spec), Part(rows, np.arange(ROWS)), folder)


def test_rates_fall_from_layer_to_layer(tmp_path: Path) -> None:
    spec = plan({"lr": 1e-3, "layer_lr": 0.5}, {"type": "transformer", "layers": 2, "heads": 2, "layer_lr": 0.1})
    made = model_of(spec, tmp_path)
    rates = {id(p): g["lr"] for g in assemble.parameter_groups(made.model, made.spec) for p in g["params"]}
    named = {n: rates[id(p)] for n, p in made.model.named_parameters()}
    own = "encoders.parts._word."
    hand = {"stack.layers.2.": 1e-3, "stack.norm.": 1e-3, "stack.layers.1.": 5e-4, "stack.layers.0.": 2.5e-4,
            "words.": 1.25e-4}  # fmt: skip
    for begins, rate in hand.items():
        found = {r for n, r in named.items() if n.startswith(own + begins)}
        assert sorted(found) == pytest.approx([rate]), begins
    assert {r for n, r in named.items() if n.startswith(("encoders.parts._x.", "fusion.", "entries."))} == {5e-3}
    decoder = layers_of(made.model.tasks["said"].decoder)
    expected = [5e-3 * 0.1 ** (len(decoder) - 1 - at) for at in range(len(decoder))]
    assert [rates[id(group[0])] for group in decoder] == pytest.approx(expected)
    assert len(rates) == len(list(made.model.parameters()))  # none is lost, none stands twice
    peaks = {g["peak"] for g in assemble.parameter_groups(made.model, made.spec)}
    assert peaks == set(rates.values())


def test_rates_of_a_language_model_are_about_its_core(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    shape = {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 64}
    spec = plan(decoder={"type": "lm", "name": "gpt2", "pretrained": False, "config": shape, "lr": 1e-4,
                         "layer_lr": 0.5})  # fmt: skip
    made = model_of(spec, tmp_path)
    rates = {id(p): g["lr"] for g in assemble.parameter_groups(made.model, made.spec) for p in g["params"]}
    named = {n.partition("decoder.")[2]: rates[id(p)] for n, p in made.model.named_parameters() if "decoder." in n}
    assert named["core.transformer.h.1.attn.c_attn.weight"] == 1e-4
    assert named["core.transformer.h.0.attn.c_attn.weight"] == 5e-5
    assert named["core.transformer.wte.weight"] == 2.5e-5
    assert {r for n, r in named.items() if not n.startswith("core.")} == {5e-3}


def test_a_step_of_sgd_is_as_long_as_the_rate_says(tmp_path: Path) -> None:
    """One step by hand: without momentum every weight moves by its own rate times its gradient."""
    made = model_of(plan({"layer_lr": 0.5}, dropout=0.0), tmp_path)
    groups = assemble.parameter_groups(made.model, made.spec)
    before = {n: p.detach().clone() for n, p in made.model.named_parameters()}
    for p in made.model.parameters():
        p.grad = torch.ones_like(p)
    torch.optim.SGD([g | {"weight_decay": 0.0} for g in groups], 0.1).step()
    moved = {n: float((before[n] - p).detach().mean()) for n, p in made.model.named_parameters()}
    assert moved["encoders.parts._word.stack.layers.2.up.weight"] == pytest.approx(5e-3, rel=1e-4)
    assert moved["encoders.parts._word.stack.layers.0.up.weight"] == pytest.approx(1.25e-3, rel=1e-4)
    assert moved["encoders.parts._word.words.table.weight"] == pytest.approx(6.25e-4, rel=1e-3)


def test_two_processes_thaw_as_one_does(tmp_path: Path) -> None:
    spec = plan({"freeze": True, "thaw": {"after": 1, "layers": 2}}, dropout=0.0, epochs=3, patience=3)
    spec["train"] |= {"batch": 12}
    one = fit(tmp_path / "one", spec)
    (tmp_path / "go.py").write_text(
        "import json, sys, polymodal\n"
        "polymodal.train(json.loads(sys.argv[2]), spec=json.loads(sys.argv[1]), out=sys.argv[3], quiet=True)\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    given = [str(tmp_path / "go.py"), json.dumps(spec), json.dumps(table()), str(tmp_path / "two")]
    done = subprocess.run(
        [*launch, *given], capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    two = polymodal.load(tmp_path / "two")
    for (name, a), b in zip(
        one.assembly.model.state_dict().items(), two.assembly.model.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3, msg=lambda m, name=name: f"{name}: {m}")
