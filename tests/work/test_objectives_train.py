"""Training with late fusion, balance, alignment: exact to resume, alike in several processes, told in the history."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import polymodal
from polymodal.objectives.blending import blend
from polymodal.work import pace
from polymodal.work import step as steps

ROWS = 120


def table(rows: int = ROWS) -> dict[str, list]:
    g = np.random.default_rng(0)
    x, y = g.normal(size=rows), g.normal(size=rows)
    word = g.choice(["up", "down"], size=rows)
    score = x + (word == "up") + 0.5 * g.normal(size=rows)
    words: list = word.tolist()
    words[::7] = [None] * len(words[::7])
    return {"x": x.tolist(), "y": y.tolist(), "word": words, "label": (score > 0.5).tolist(), "z": score.tolist()}


def plan(train: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    return {
        "data": {"valid": 0.25},
        "inputs": {
            "numbers": {"type": "tabular", "columns": ["x", "y"], "encoder": {"type": "mlp", "width": 8}},
            "word": {"type": "text", "min_count": 1, "encoder": {"type": "bag", "width": 8}},
        },
        "fusion": "concat",
        "tasks": {"label": "classify", "z": {"type": "regress", "weight": 0.5}},
        "train": {"epochs": 4, "batch": 16, "lr": 5e-3, "seed": 3, "device": "cpu", "threads": 1, **(train or {})},
        **sections,
    }


def fit(folder: Path, spec: dict[str, Any], **more: Any) -> polymodal.Run:
    return polymodal.train(table(), spec=spec, out=folder, quiet=True, **more)


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()


def untimed(run: polymodal.Run) -> list[dict]:
    return [{k: v for k, v in entry.items() if "second" not in k} for entry in run.history]


SECTIONS = {
    "blending": {"balance": "blending", "align": {"type": "contrastive", "width": 4}},
    "blending-ema": {"balance": {"type": "blending", "every": 2}, "train": {"ema": 0.9, "accumulate": 2}},
    "ogm": {"balance": "ogm", "train": {"drop": 0.2}},
    "stack": {"fusion": "stack"},
}


@pytest.mark.parametrize("case", SECTIONS)
def test_a_run_that_breaks_off_goes_on_exactly(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after three epochs, when blending has weights of its own already."""
    sections = json.loads(json.dumps(SECTIONS[case]))
    spec = plan({"checkpoint_steps": 3, **sections.pop("train", {})}, **sections)
    whole = fit(tmp_path / "whole", spec)
    finite, calls = steps._check_finite, [0]

    def crash(*args: Any) -> None:
        calls[0] += 1
        if calls[0] == (11 if "accumulate" in spec["train"] else 21):
            raise MemoryError("the power went")
        finite(*args)

    monkeypatch.setattr(steps, "_check_finite", crash)
    with pytest.raises(MemoryError):
        fit(tmp_path / "broken", spec)
    monkeypatch.undo()
    run = fit(tmp_path / "broken", spec, resume=True)
    assert digest(tmp_path / "broken") == digest(tmp_path / "whole")
    assert untimed(run) == untimed(polymodal.load(tmp_path / "whole"))
    assert whole.assembly.spec.json() == run.assembly.spec.json()


def test_blending_learns_from_losses_measured_between_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told, measure = [], pace._losses

    def watched(session: Any, loader: Any) -> list[float]:
        told.append((len(loader.dataset.rows), measure(session, loader)))
        return told[-1][1]

    monkeypatch.setattr(pace, "_losses", watched)
    run = fit(tmp_path / "run", plan(balance="blending"))
    assert [rows for rows, _ in told] == [30] * 8  # training rows, as many as validation rows, after each of 4 epochs
    losses = torch.tensor([found for _, found in told], dtype=torch.float64).reshape(4, 2, 3)
    weights = torch.full((3,), 1 / 3, dtype=torch.float64)
    best = max(e["epoch"] for e in run.history if e["best"])
    for before, now in list(pairwise(losses))[: max(0, best - 2)]:
        found = blend(before, now)
        weights = weights if found is None else found
    torch.testing.assert_close(run.assembly.model.balance.weights.double(), weights, atol=1e-4, rtol=1e-3)
    joint = losses[-1, 1, 2].item()  # the last epoch's validation rows, as the history has them
    valid = run.history[-1]["valid"]
    assert joint == pytest.approx(valid["label.loss"] + 0.5 * valid["z.loss"], rel=1e-4)


def test_the_history_adds_up(tmp_path: Path) -> None:
    for name, sections, added in (
        ("a", {"balance": "unimodal", "align": "contrastive"}, {"unimodal", "align"}),
        ("b", {"balance": "ogm", "fusion": "mixture"}, {"probes", "balance"}),
        ("c", {}, set()),
    ):
        run = fit(tmp_path / name, plan({"epochs": 2}, **sections))
        for entry in run.history:
            train = entry["train"]
            assert set(train) == {"loss", "label", "z"} | added
            total = train["label"] + 0.5 * train["z"] + sum(train[n] for n in added)
            assert train["loss"] == pytest.approx(total)
            assert all(train[n] > 0 for n in added)


def test_a_task_may_be_named_like_what_is_added(tmp_path: Path) -> None:
    spec = plan({"epochs": 1}, align="contrastive", tasks={"align": {"type": "classify", "column": "label"}})
    train = fit(tmp_path / "run", spec).history[0]["train"]
    assert set(train) == {"loss", "align"}
    assert train["loss"] > train["align"]


@pytest.mark.parametrize("rule", ["average", "product", "vote", "stack"])
def test_late_fusion_from_training_to_prediction(rule: str, tmp_path: Path) -> None:
    run = fit(tmp_path / "run", plan({"epochs": 12, "lr": 0.02}, fusion=rule))
    found = run.metrics["valid"]
    assert found["tasks"]["label"]["accuracy"]["value"] > 0.65
    assert found["tasks"]["z"]["r2"]["value"] > 0.3
    assert set(found["withheld"]) == {"numbers", "word"}
    nothing = {"x": [0.5, None], "y": [1.0, None], "word": ["up", None]}
    one, two = (list(r.predict(nothing)) for r in (run, polymodal.load(tmp_path / "run")))
    assert one == two
    fitted = run.assembly.fields()["targets"]
    assert one[1]["z"] == pytest.approx(fitted["z"]["mean"])
    classes, counts = fitted["label"]["classes"], fitted["label"]["counts"]
    assert one[1]["label"] == classes[counts.index(max(counts))]


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    spec = plan({"epochs": 2, "batch": 10}, balance="blending", align={"type": "contrastive", "width": 4})
    for one in spec["inputs"].values():
        one["encoder"]["dropout"] = 0.0
    one = fit(tmp_path / "one", spec)
    (tmp_path / "go.py").write_text(
        "import json, sys, polymodal\n"
        "spec, data = (json.load(open(p)) for p in sys.argv[1:3])\n"
        "polymodal.train(data, spec=spec, out=sys.argv[3], quiet=True)\n"
    )
    for name, value in (("spec.json", spec), ("data.json", table())):
        (tmp_path / name).write_text(json.dumps(value))
    files = [str(tmp_path / n) for n in ("go.py", "spec.json", "data.json", "two")]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", *files]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    two = polymodal.load(tmp_path / "two")
    for a, b in zip(one.assembly.model.state_dict().items(), two.assembly.model.state_dict().items(), strict=True):
        torch.testing.assert_close(a[1], b[1], atol=2e-3, rtol=1e-2, msg=lambda m, name=a[0]: f"{name}: {m}")
    for x, y in zip(one.history, two.history, strict=True):
        for name in ("align", "blending", "label", "z"):
            assert x["train"][name] == pytest.approx(y["train"][name], rel=1e-3), name
