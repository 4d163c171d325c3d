"""Retrieval as a whole: trained, measured and told; micro-batches that are compared as one batch; several processes."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import polymodal
from endtoend import Shell
from polymodal.core import catalog, yaml12
from polymodal.core.errors import SpecError
from polymodal.core.spec import parse, validate
from polymodal.scenes import make_scenes
from polymodal.work import job
from polymodal.work import step as steps
from polymodal.work.folder import read_tensors
from polymodal.work.words import measure, written

ROWS = 40


def table(rows: int = ROWS) -> dict[str, list]:
    """Two numbers, and two sentences that say them; a class; a sentence is missing here and there."""
    g = np.random.default_rng(0)
    a, b = g.integers(0, 5, rows), g.integers(0, 5, rows)
    words = np.array(["one", "two", "three", "four", "five"])
    said = {f"said_{k}": [f"{start} {x} and {y}" for x, y in zip(words[a], words[b], strict=True)]
            for k, start in enumerate(("there is", "we see"), 1)}  # fmt: skip
    said["said_2"][::7] = [None] * len(said["said_2"][::7])
    return {
        "a": a.astype(float).tolist(),
        "b": b.astype(float).tolist(),
        **said,
        "big": np.where(a > b, "a", "b").tolist(),
    }


def plan(train: dict[str, Any] | None = None, dropout: float = 0.0, **task: Any) -> dict[str, Any]:
    return {
        "data": {"valid": 0.2},
        "inputs": {
            "numbers": {"type": "tabular", "columns": ["a", "b"], "numeric": ["a", "b"],
                        "encoder": {"type": "mlp", "width": 8, "dropout": dropout}},
            "said": {"type": "text", "columns": ["said_1", "said_2"], "min_count": 1,
                     "encoder": {"type": "gru", "width": 8, "dropout": dropout}},
        },
        "tasks": {"find": {"type": "retrieve", "column": "said_1", "dim": 8, **task}},
        "train": {"epochs": 1, "batch": 32, "lr": 1.0, "optimizer": "sgd", "momentum": 0.0, "schedule": "constant",
                  "weight_decay": 0.0, "warmup": 0.0, "clip": None, "seed": 3, "device": "cpu", "threads": 1,
                  **(train or {})},
    }  # fmt: skip


def moved(folder: Path, spec: dict[str, Any], rows: Any = ROWS) -> dict[str, torch.Tensor]:
    """What a training ends in: with plain SGD and a rate of 1, every step moves the weights by the gradient."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "write_report", lambda *given, **named: folder)  # most of the time of so small a training
        polymodal.train(rows and table(rows), spec=copy.deepcopy(spec), out=folder, quiet=True)
    return read_tensors(folder / "weights.safetensors")


def assert_alike(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], most: float = 1e-5) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert (value.double() - two[name].double()).abs().max() < most, name


# Gradient caching


@pytest.mark.parametrize(
    "task",
    [{}, {"loss": "sigmoid"}, {"loss": "triplet"}, {"late": True, "tokens": 3}, {"queue": 10}],
    ids=["infonce", "sigmoid", "triplet", "late", "queue"],
)
def test_micro_batches_give_the_gradient_of_one_batch(task: dict[str, Any], tmp_path: Path) -> None:
    """Four micro-batches of 8 and one batch of 32; micro-batches by themselves give another gradient."""
    whole = moved(tmp_path / "whole", plan(**task))
    small = {"batch": 8, "accumulate": 4}
    assert_alike(moved(tmp_path / "cached", plan({**small, "gradient_cache": True}, **task)), whole)
    if not task:
        plain = moved(tmp_path / "plain", plan(small, **task))
        name = next(n for n in whole if "maps" in n and whole[n].ndim == 2)
        assert (plain[name] - whole[name]).abs().max() > 1e-3


def test_other_tasks_beside_learn_as_ever(tmp_path: Path) -> None:
    spec = plan()
    spec["tasks"]["big"] = {"type": "classify", "dropout": 0.0, "weight": 0.5}
    spec["fusion"] = "concat"
    again = copy.deepcopy(spec)
    again["train"] |= {"batch": 8, "accumulate": 4, "gradient_cache": True}
    one, two = tmp_path / "one", tmp_path / "two"
    assert_alike(moved(one, spec), moved(two, again))
    histories = [polymodal.load(folder).history[0]["train"] for folder in (one, two)]
    assert histories[0] == pytest.approx(histories[1], rel=1e-5)


def test_both_passes_draw_the_same(tmp_path: Path) -> None:
    """With dropout in encoders, in the maps and in a task before, one micro-batch is trained as without a cache."""
    spec = plan({"epochs": 2, "batch": 16, "lr": 0.3}, dropout=0.3)
    spec["tasks"] = {"big": {"type": "classify", "dropout": 0.5}, "find": {**spec["tasks"]["find"], "dropout": 0.3}}
    spec["fusion"] = "concat"
    whole = moved(tmp_path / "whole", spec)
    spec["train"]["gradient_cache"] = True
    assert_alike(moved(tmp_path / "cached", spec), whole)


def test_memory_is_that_of_a_micro_batch_and_statistics_move_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more rows than of a micro-batch are encoded at once, and the first pass keeps no graph."""
    from polymodal.modalities.tabular.encode import TabularMLP

    seen: list[tuple[int, bool, bool]] = []
    forward = TabularMLP.forward

    def watched(self: Any, data: Any) -> Any:
        found = forward(self, data)
        if self.training:
            seen.append((len(found.tokens), torch.is_grad_enabled(), found.tokens.requires_grad))
        return found

    monkeypatch.setattr(TabularMLP, "forward", watched)
    moved(tmp_path / "run", plan({"batch": 8, "accumulate": 4, "gradient_cache": True}))
    assert [graph for _, _, graph in seen] == [False] * 4 + [True] * 4
    assert max(rows for rows, _, _ in seen) <= 8


def test_running_statistics_move_once(tmp_path: Path) -> None:
    rows = 24
    folder = make_scenes(tmp_path / "scenes", rows, seed=0, size=16, valid=0.2, test=0.0)
    spec = {
        "data": {"train": str(folder), "split": "column", "split_column": "split"},
        "inputs": {
            "picture": {"type": "image", "size": 16, "encoder": {"type": "cnn", "channels": [4], "norm": "batch"}},
            "caption": {"type": "text", "min_count": 1, "encoder": {"type": "gru", "width": 4, "dropout": 0.0}},
        },
        "tasks": {"find": {"type": "retrieve", "column": "caption", "dim": 4}},
        "train": {"epochs": 1, "batch": 8, "lr": 0.1, "device": "cpu", "threads": 1},
    }
    weights = []
    for cache in (False, True):
        spec["train"] = {**spec["train"], "gradient_cache": cache}
        weights.append(moved(tmp_path / str(cache), spec, None))
    means = [n for n in weights[0] if n.endswith("running_mean")]
    assert means
    assert_alike({n: weights[0][n] for n in means}, {n: weights[1][n] for n in means})


def test_a_cache_needs_a_task_that_compares(tmp_path: Path) -> None:
    spec = plan({"gradient_cache": True})
    spec["tasks"], spec["fusion"] = {"big": "classify"}, "concat"
    with pytest.raises(SpecError, match="no task compares") as error:
        moved(tmp_path / "run", spec)
    assert error.value.where == "train.gradient_cache"


# Several processes; a break


TWO_PROCESSES = """
import sys
import polymodal
sys.path.insert(0, {tests!r})
from test_retrieve_runs import plan, table
polymodal.train(table(), spec=plan({train!r}, queue=16), out={out!r}, quiet=True)
"""


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    train = {"batch": 8, "accumulate": 2, "gradient_cache": True, "epochs": 2, "lr": 0.5}
    one = moved(tmp_path / "one", plan(train, queue=16))
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES.format(tests=str(Path(__file__).parent), train=train, out=str(tmp_path / "two")))
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths,
                                                                        "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    two = read_tensors(tmp_path / "two" / "weights.safetensors")
    learned = [n for n in one if "queue" not in n]  # rows of a batch stand in another order there
    assert len(learned) < len(one)
    assert_alike({n: one[n] for n in learned}, {n: two[n] for n in learned}, 1e-4)


def test_a_run_that_breaks_off_goes_on_with_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = plan({"epochs": 2, "batch": 8, "lr": 0.3, "checkpoint_steps": 1}, dropout=0.2, queue=20)
    whole = moved(tmp_path / "whole", spec)
    finite, calls = steps._check_finite, [0]

    def crash(*args: object) -> None:
        calls[0] += 1
        if calls[0] == 6:
            raise MemoryError("the power went")
        finite(*args)

    monkeypatch.setattr(steps, "_check_finite", crash)
    with pytest.raises(MemoryError):
        moved(tmp_path / "broken", spec)
    monkeypatch.undo()
    polymodal.train(table(), spec=copy.deepcopy(spec), out=tmp_path / "broken", resume=True, quiet=True)
    again = read_tensors(tmp_path / "broken" / "weights.safetensors")
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    assert any("queue" in name for name in whole)


# What a spec may say


def test_nothing_may_join_what_is_compared() -> None:
    spec = plan()
    assert parse(copy.deepcopy(spec)).fusion is None
    validate(parse({**copy.deepcopy(spec), "attention": "none"}))
    with pytest.raises(SpecError, match="compares") as error:
        validate(parse({**copy.deepcopy(spec), "attention": {"type": "co", "heads": 2}}))
    assert error.value.where == "attention.type"
    spec["tasks"]["big"] = "classify"
    with pytest.raises(SpecError, match="joining"):
        parse(copy.deepcopy(spec))
    validate(parse({**copy.deepcopy(spec), "fusion": "concat"}))


def test_tasks_that_need_no_fusion_are_listed() -> None:
    """The catalogue says it without importing them."""
    apart = [n for n in catalog.PARTS["task"] if getattr(catalog.load("task", n, "task"), "apart", False)]
    assert set(apart) == catalog.APART


# The faces


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes, and a run trained on them by the command line."""
    folder = tmp_path_factory.mktemp("retrieve")
    make_scenes(folder / "scenes", 1200, seed=0, size=32)
    spec = {
        "data": {"train": str(folder / "scenes" / "table.csv"), "split": "column", "split_column": "split"},
        "inputs": {
            "picture": {"type": "image", "size": 32, "encoder": {
                "type": "cnn", "channels": [16, 32], "norm": "batch", "head": "flatten", "dense": 64}},
            "caption": {"type": "text", "min_count": 1, "encoder": {
                "type": "gru", "width": 32, "dropout": 0.0, "tokens": "last"}},
        },
        "tasks": {"find": {"type": "retrieve", "column": "caption", "dim": 32}},
        "train": {"epochs": 4, "batch": 32, "lr": 5e-3, "device": "cpu", "threads": 1},
    }  # fmt: skip
    (folder / "spec.yaml").write_text(yaml12.dumps(spec))
    return folder


def test_scenes_are_found_by_what_is_said_of_them(found: Path, shell: Shell) -> None:
    shell.works("train", found / "spec.yaml", "--out", found / "run", "--quiet")
    out = shell.works("evaluate", found / "run", found / "scenes" / "table.csv", "--json").out
    told = json.loads(out)["tasks"]["find"]
    assert told["caption_to_picture_recall_1"]["value"] > 0.7, "of 600 pictures"
    assert told["picture_to_caption_recall_1"]["value"] > 0.6, "of 300 captions"
    assert told["mean_recall"]["value"] > 0.9
    assert told["mean_recall"]["value"] == pytest.approx(
        np.mean([v["value"] for n, v in told.items() if "_recall_" in n])
    )
    low, high = told["mean_recall"]["ci95"]
    assert low < told["mean_recall"]["value"] < high
    metrics = json.loads((found / "run" / "metrics.json").read_text())["test"]
    assert metrics["withheld"]["picture"]["tasks"]["find"]["mean_recall"]["value"] is None
    report = (found / "run" / "report.html").read_text()
    assert "picture → caption, recall at 1" in report
    assert "mean recall" in report


def test_a_table_is_answered_row_by_row(found: Path, shell: Shell, tmp_path: Path) -> None:
    if not (found / "run" / "run.json").exists():
        pytest.skip("is not trained")
    run, rows = polymodal.load(found / "run"), tmp_path / "rows.csv"
    pictures = sorted((found / "scenes" / "pictures").iterdir())[:3]
    lines = ["picture,caption", *(f"{p},a large red circle at the top left" for p in pictures), f"{pictures[0]},"]
    rows.write_text("\n".join(lines) + "\n")
    shell.works("predict", found / "run", rows, "--out", tmp_path / "said.jsonl")
    said = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    assert [line["find"] is None for line in said] == [False, False, False, True]
    assert all(-1 <= line["find"] <= 1 for line in said[:3])
    vectors = run.embed(str(rows))
    fit = (vectors["picture"] * vectors["caption"]).sum(-1).ravel()[:3]
    np.testing.assert_allclose(fit, [line["find"] for line in said[:3]], atol=1e-5)


def test_comparing_ways_of_joining_says_that_nothing_is_joined(found: Path, shell: Shell, tmp_path: Path) -> None:
    told = shell.fails("compare", found / "spec.yaml", "--out", tmp_path / "compared", "--seeds", "1")
    assert "tasks.find" in told


def test_measures_in_words() -> None:
    told = measure("picture_to_text_recall_1")
    assert (told.name, told.share, told.lower) == ("picture → text, recall at 1", True, False)
    assert measure("a_to_b_median_rank").lower
    assert written(0.5, "a_to_b_recall_10") == "50.0 %"
    assert measure("a_to_b").name == "a to b"
