"""Training as a whole, on small tables: it learns, it goes on exactly after any break, and it keeps the rows apart."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import polymodal
from polymodal.core.errors import RunError, SpecError, Stopped, UserError
from polymodal.work import step as steps
from polymodal.work.checkpoint import Checkpoints, State

ROWS = 160


def table(rows: int = ROWS, seed: int = 0) -> dict[str, list]:
    """Two numbers, a word and the class they give together; a number to regress."""
    g = np.random.default_rng(seed)
    x, y = g.normal(size=rows), g.normal(size=rows)
    word = g.choice(["up", "down"], size=rows)
    label = np.where((x > 0) == (word == "up"), "same", "other")
    return {"x": x.tolist(), "y": y.tolist(), "word": word.tolist(), "label": label.tolist(), "z": (2 * x + y).tolist()}


def plan(**train: object) -> dict:
    return {
        "data": {"valid": 0.2},
        "inputs": {
            "numbers": {"type": "tabular", "columns": ["x", "y"], "encoder": {"type": "mlp", "dropout": 0.2}},
            "word": {"type": "text", "encoder": {"type": "lstm", "width": 8, "dropout": 0.2}},
        },
        "fusion": "transform",
        "tasks": {"label": "classify", "z": {"type": "regress", "weight": 0.5}},
        "train": {"epochs": 4, "batch": 16, "lr": 5e-3, "seed": 3, "device": "cpu", "threads": 1, **train},
    }


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()


def fit(folder: Path, data: object = None, **train: object) -> polymodal.Run:
    return polymodal.train(data or table(), spec=plan(**train), out=folder, quiet=True)


def test_it_learns_what_needs_both_inputs(tmp_path: Path) -> None:
    run = fit(tmp_path / "run", table(600), epochs=25, batch=32)
    found = run.metrics["valid"]
    assert found["tasks"]["label"]["accuracy"]["value"] > 0.9
    assert found["tasks"]["z"]["r2"]["value"] > 0.9
    assert found["withheld"]["word"]["tasks"]["label"]["accuracy"]["value"] < 0.75
    low, high = found["tasks"]["label"]["accuracy"]["ci95"]
    assert low <= found["tasks"]["label"]["accuracy"]["value"] <= high
    losses = [entry["train"]["loss"] for entry in run.history]
    assert losses[-1] < losses[0] / 2


def test_same_seed_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    fit(tmp_path / "a")
    fit(tmp_path / "b")
    fit(tmp_path / "c", seed=4)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert digest(tmp_path / "a") != digest(tmp_path / "c")


def test_same_bytes_with_two_threads(tmp_path: Path) -> None:
    """Threads add up the gradients of rows that share a cell, here 512 rows and two words, in the same order."""
    for name in ("a", "b", "c"):
        fit(tmp_path / name, table(2048), epochs=3, batch=512, threads=2)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") == digest(tmp_path / "c")


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    fit(tmp_path / "a", epochs=2, drop=0.3)
    fit(tmp_path / "b", epochs=2, drop=0.3, workers=2)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


@pytest.mark.parametrize("stop", [1, 5, 8, 17, 31])
@pytest.mark.parametrize("extra", [{}, {"ema": 0.9, "schedule": "plateau", "optimizer": "sgd", "accumulate": 2}])
def test_a_run_that_breaks_off_goes_on_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, extra: dict
) -> None:
    """Fail in step `stop` as a crash would, with checkpoints every three steps; resume; compare with no break."""
    settings = {"checkpoint_steps": 3, "drop": 0.2, **extra}
    fit(tmp_path / "whole", **settings)
    crash_at(monkeypatch, min(stop, 12) if extra else stop)
    with pytest.raises(MemoryError):
        fit(tmp_path / "broken", **settings)
    monkeypatch.undo()
    run = polymodal.train(table(), spec=plan(**settings), out=tmp_path / "broken", resume=True, quiet=True)
    assert digest(tmp_path / "broken") == digest(tmp_path / "whole")
    whole = polymodal.load(tmp_path / "whole")
    timeless = [[{k: v for k, v in e.items() if "second" not in k} for e in r.history] for r in (run, whole)]
    assert timeless[0] == timeless[1]


def crash_at(monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    """The power goes in this step of the optimiser."""
    finite, calls = steps._check_finite, [0]

    def crash(*args: object) -> None:
        calls[0] += 1
        if calls[0] == stop:
            raise MemoryError("the power went")
        finite(*args)

    monkeypatch.setattr(steps, "_check_finite", crash)


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"checkpoint_steps": 3}
    fit(tmp_path / "whole", **settings)
    crash_at(monkeypatch, 17)
    with pytest.raises(MemoryError):
        fit(tmp_path / "run", **settings)
    monkeypatch.undo()
    (newest,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    data = bytearray((newest / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (newest / "model.safetensors").write_bytes(data)
    polymodal.train(table(), spec=plan(**settings), out=tmp_path / "run", resume=True, quiet=True)
    assert digest(tmp_path / "run") == digest(tmp_path / "whole")


def test_a_training_that_was_done_is_only_scored_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails after the last epoch costs no epoch, and no optimiser state is kept for it."""
    fit(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("polymodal.work.job._write", lambda *args, **more: (_ for _ in ()).throw(MemoryError("full")))
        with pytest.raises(MemoryError):
            fit(tmp_path / "run")
    (newest,) = (tmp_path / "run" / "checkpoints").glob("step-*")
    assert [p.name for p in newest.iterdir()] == ["state.json"]
    monkeypatch.setattr(steps, "step", None)
    monkeypatch.setattr("polymodal.work.train.step", None)
    polymodal.train(table(), spec=plan(), out=tmp_path / "run", resume=True, quiet=True)
    assert digest(tmp_path / "run") == digest(tmp_path / "whole")


def test_short_epochs_share_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saving that takes long beside the epochs is put off, but not to the loss of the best weights."""
    saves, save = [], Checkpoints.save

    def slow(self: Checkpoints, state: State, *rest: object) -> None:
        saves.append(state.epoch)
        save(self, state, *rest)
        self.cost = 3600.0

    fit(tmp_path / "often")
    monkeypatch.setattr(Checkpoints, "save", slow)
    fit(tmp_path / "seldom")
    assert saves == [1, 4]
    assert digest(tmp_path / "seldom") == digest(tmp_path / "often")


PROGRAM = """
import json, sys
import polymodal
from polymodal.core.errors import Stopped
spec, data, out = json.loads(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3]
try:
    polymodal.train(data, spec=spec, out=out, resume=True, quiet=False)
except Stopped as error:
    print(error, file=sys.stderr)
    sys.exit(130)
"""


def start(folder: Path, settings: dict) -> subprocess.Popen:
    command = [sys.executable, "-c", PROGRAM, json.dumps(plan(**settings)), json.dumps(table()), str(folder)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})


def wait_for_epoch(process: subprocess.Popen) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch"):
            return


def test_killed_and_interrupted_processes_end_in_the_same_bytes(tmp_path: Path) -> None:
    """SIGKILL after the first epoch, then Ctrl-C after another, then to the end."""
    settings = {"epochs": 40, "checkpoint_steps": 1}
    fit(tmp_path / "whole", **settings)
    process = start(tmp_path / "run", settings)
    wait_for_epoch(process)
    time.sleep(0.05)
    process.kill()
    process.communicate()
    process = start(tmp_path / "run", settings)
    wait_for_epoch(process)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "saved" in told
    assert "Traceback" not in told
    process = start(tmp_path / "run", settings)
    process.communicate(timeout=240)
    assert process.returncode == 0
    assert digest(tmp_path / "run") == digest(tmp_path / "whole")


def test_resuming_with_another_spec_or_into_a_used_folder_is_refused(tmp_path: Path) -> None:
    fit(tmp_path / "run", epochs=1)
    with pytest.raises(RunError, match="is there already"):
        fit(tmp_path / "run", epochs=1)
    assert polymodal.train(table(), spec=plan(), out=tmp_path / "run", resume=True, quiet=True).folder.name == "run"
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(SpecError) as error:
        polymodal.train(table(), spec=plan(epochs=1, lr=0.1), out=tmp_path / "run", resume=True, quiet=True)
    assert error.value.where == "train.lr"


def test_a_loss_that_is_not_finite_stops_with_advice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no longer a finite number"):
        fit(tmp_path / "run", lr=1e30, clip=None, warmup=0.0)


def test_early_stopping_keeps_the_best_epoch(tmp_path: Path) -> None:
    run = fit(tmp_path / "run", epochs=60, patience=2, lr=0.05)
    best = [e["epoch"] for e in run.history if e["best"]][-1]
    assert len(run.history) < 60
    assert len(run.history) == best + 2
    entry = run.history[best - 1]["valid"]
    assert run.metrics["valid"]["tasks"]["label"]["accuracy"]["value"] == pytest.approx(entry["label.accuracy"])


def test_accumulation_is_the_larger_batch(tmp_path: Path) -> None:
    """Without dropout the two differ by rounding only."""
    spec = plan(epochs=1, batch=32, buckets=False)
    for one in spec["inputs"].values():
        one["encoder"]["dropout"] = 0.0
    halves = json.loads(json.dumps(spec))
    halves["train"] |= {"batch": 8, "accumulate": 4}
    a = polymodal.train(table(), spec=spec, out=tmp_path / "a", quiet=True)
    b = polymodal.train(table(), spec=halves, out=tmp_path / "b", quiet=True)
    for one, two in zip(a.assembly.model.parameters(), b.assembly.model.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("extra", [{}, {"accumulate": 2, "batch": 10}])
def test_two_processes_give_what_one_gives(tmp_path: Path, extra: dict) -> None:
    spec = plan(epochs=2, **extra)
    for one in spec["inputs"].values():
        one["encoder"]["dropout"] = 0.0
    one = polymodal.train(table(), spec=spec, out=tmp_path / "one", quiet=True)
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    program = (
        "import json, sys, polymodal\n"
        "polymodal.train(json.loads(sys.argv[2]), spec=json.load(open(sys.argv[1])), out=sys.argv[3], quiet=True)\n"
    )
    (tmp_path / "go.py").write_text(program)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    files = [str(tmp_path / n) for n in ("go.py", "spec.json")]
    command = [*launch, *files, json.dumps(table()), str(tmp_path / "two")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    two = polymodal.load(tmp_path / "two")
    for a, b in zip(one.assembly.model.state_dict().items(), two.assembly.model.state_dict().items(), strict=True):
        torch.testing.assert_close(a[1], b[1], atol=2e-4, rtol=1e-3, msg=lambda m, name=a[0]: f"{name}: {m}")


def test_bf16_and_tensorboard_and_schedules_run(tmp_path: Path) -> None:
    for schedule in ("linear", "step"):
        run = fit(tmp_path / schedule, epochs=2, precision="bf16", schedule=schedule, tensorboard=True)
        assert list((run.folder / "tensorboard").glob("events*"))
        assert run.assembly.model.entries["word"].project.weight.dtype == torch.float32
    assert Stopped is not None
