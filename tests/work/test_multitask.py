"""Several tasks trained together: who counts how much, whose turn it is, exact to resume, told in history, report."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

import polymodal
from examples import assembled, load
from polymodal.core.errors import SpecError
from polymodal.core.spec import parse
from polymodal.model import Model
from polymodal.work import step as steps
from polymodal.work.checkpoint import State
from polymodal.work.mixing import Mix, turn
from polymodal.work.runtime import Runtime
from polymodal.work.session import Session

ROWS = 96
COLOURS = ("red", "green", "blue")


def table(rows: int = ROWS) -> dict[str, list]:
    """A number that says the colour in the title; a label and a value of the number, each missing in some rows."""
    g = np.random.default_rng(0)
    code, thing = g.integers(0, 3, rows), g.choice(["mug", "lamp", "bowl", "chair"], rows)
    score = code + g.normal(0, 0.3, rows)
    label: list = np.where(score > 1, "high", "low").tolist()
    value: list = (100 * score).tolist()
    label[::5] = [None] * len(label[::5])
    value[1::3] = [None] * len(value[1::3])
    titles = [f"a {COLOURS[c]} {t}" for c, t in zip(code, thing, strict=True)]
    return {"code": code.astype(float).tolist(), "title": titles, "label": label, "value": value}


def plan(train: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    text = {"type": "transformer", "width": 8, "layers": 1, "heads": 2, "dropout": 0.0}
    return {
        "data": {"valid": 0.25},
        "inputs": {
            "code": {"type": "tabular", "numeric": ["code"], "encoder": {"type": "mlp", "width": 8, "dropout": 0.0}},
            "title": {"type": "text", "min_count": 1, "encoder": text},
        },
        "fusion": {"type": "concat"},
        "tasks": {
            "label": "classify",
            "value": {"type": "regress", "weight": 0.5},
            "words": {"type": "mask", "input": "title", "column": "title", "share": 0.4},
            "pair": {"type": "match", "column": "title"},
        },
        "train": {"epochs": 2, "batch": 24, "lr": 5e-3, "seed": 3, "device": "cpu", "threads": 1, **(train or {})},
        **sections,
    }


def fit(folder: Path, spec: dict[str, Any], **more: Any) -> polymodal.Run:
    return polymodal.train(table(), spec=copy.deepcopy(spec), out=folder, quiet=True, **more)


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()


def untimed(run: polymodal.Run) -> list[dict]:
    return [{k: v for k, v in entry.items() if "second" not in k} for entry in run.history]


def session(spec: dict[str, Any], files: Path, step: int = 0) -> tuple[Any, Any]:
    """As much of a training as `Mix` looks at, and the rows."""
    assembly, rows = assembled(copy.deepcopy(spec), table(48), files)
    assembly.model.train()
    found = Session.__new__(Session)
    found.assembly, found.runtime, found.state = assembly, Runtime(assembly.spec.train), State(steps=step)
    return found, rows


# The loss of a step


def test_the_loss_is_the_weighted_sum_of_means_over_the_rows_that_count(tmp_path: Path) -> None:
    one, rows = session(plan(), tmp_path)
    model: Model = one.assembly.model.eval()
    micro = [load(rows, list(range(20))), load(rows, list(range(20, 48)))]
    micro[0].inputs["title"].index[[3, 7]] = -1  # dropped: nothing to ask of these rows
    mix, total = Mix(one, micro), 0.0
    sums, counts = Counter[str](), Counter[str]()
    for batch in micro:
        out = model.train()(batch)
        total += float(mix.add(out).detach().sum())
        for name, task in model.tasks.items():
            for row in range(len(batch.key)):
                weight = float(task.weight(out.asked[name])[row])
                sums[name] += weight * float(out.losses[name][row].detach()) if weight else 0.0
                counts[name] += weight
    assert 0 < counts["value"] < counts["label"] < counts["words"] == counts["pair"] == 46
    expected = {name: sums[name] / counts[name] for name in sums}
    weights = {"label": 1.0, "value": 0.5, "words": 1.0, "pair": 1.0}
    assert total == pytest.approx(sum(weights[n] * v for n, v in expected.items()), rel=1e-5)
    assert mix.losses.tolist() == pytest.approx(list(expected.values()), rel=1e-5)


def test_a_task_without_any_target_in_a_step_is_harmless(tmp_path: Path) -> None:
    for name in ("uncertainty", "gradnorm", "dwa"):
        one, rows = session(plan(weigh=name), tmp_path / name)
        part = one.assembly.model.weigh
        batch = load(rows, [r for r in range(48) if r % 3 == 1])  # none with a value
        mix = Mix(one, [batch])
        mix.add(one.assembly.model(batch)).sum().backward()
        assert mix.known.tolist() == [True, False, True, True]
        assert mix.losses[1] == 0
        before = part.weights()
        mix.learn(mix.losses)
        assert torch.isfinite(part.weights()).all()
        assert all(torch.isfinite(p.grad).all() for p in one.assembly.model.parameters() if p.grad is not None)
        if name == "uncertainty":
            assert part.weights()[1] == before[1]
            assert (part.weights() != before).tolist() == [True, False, True, True]


def test_norms_are_those_of_each_tasks_gradient_at_the_streams(tmp_path: Path) -> None:
    """Measured beside the one backward pass as by one of its own; alike over micro-batches; same gradient."""
    one, rows = session(plan(weigh="gradnorm", attention={"type": "bidirectional", "heads": 2}), tmp_path)
    model, batch = one.assembly.model, load(rows, list(range(40)))
    mix = Mix(one, [batch])
    mix.add(model(batch)).sum().backward()
    both = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    expected, plain = [], {n: torch.zeros_like(g) for n, g in both.items()}
    for name, task in model.tasks.items():
        model.zero_grad()
        out = model(batch)
        tokens = [s.tokens for streams in out.entered for s in streams.values()]
        for x in tokens:
            x.retain_grad()
        weight = task.weight(out.asked[name])
        ((out.losses[name] * weight).sum() / weight.sum()).backward()
        expected.append(float(sum(x.grad.square().sum() for x in tokens if x.grad is not None).sqrt()))
        factor = one.assembly.spec.tasks[name].weight
        for n, p in model.named_parameters():
            plain[n] += 0 if p.grad is None else factor * p.grad
    assert mix.squares.sqrt().tolist() == pytest.approx(expected, rel=1e-4)
    assert all(x > 0 for x in expected)
    for n, g in both.items():
        torch.testing.assert_close(g, plain[n], atol=1e-6, rtol=1e-4, msg=n)
    ways = [sorted(streams) for streams in model(batch).entered]
    assert ways == [["code", "title"]] * 3, "as they are, masked, exchanged"
    # the rows of a step may come in several micro-batches: without `match`, whose questions depend on the batch
    tasks = {k: v for k, v in plan()["tasks"].items() if k != "pair"}
    one, rows = session(plan(weigh="gradnorm", tasks=tasks), tmp_path / "b")
    found = []
    for cut in ([40], [16, 40], [7, 20, 40]):
        micro = [load(rows, list(range(a, b))) for a, b in zip([0, *cut], cut, strict=False)]
        mix = Mix(one, micro)
        for part in micro:
            mix.add(one.assembly.model(part))
        found.append((mix.squares.tolist(), mix.losses.tolist()))
    for squares, losses in found[1:]:
        assert squares == pytest.approx(found[0][0], rel=1e-3)
        assert losses == pytest.approx(found[0][1], rel=1e-4)


def test_gradients_can_be_measured_where_no_encoder_learns(tmp_path: Path) -> None:
    spec = plan(weigh="gradnorm", model={"width": 8})
    for block in spec["inputs"].values():
        block["encoder"]["freeze"] = True
    one, rows = session(spec, tmp_path)
    batch = load(rows)
    mix = Mix(one, [batch])
    mix.add(one.assembly.model(batch))
    assert (mix.squares > 0).all()


def test_weights_multiply_what_tasks_teach(tmp_path: Path) -> None:
    one, rows = session(plan(weigh="dwa"), tmp_path)
    model, batch = one.assembly.model, load(rows)
    model.weigh.weight.copy_(torch.tensor([2.0, 1.0, 0.0, 0.5]))
    mix = Mix(one, [batch])
    found = mix.add(model(batch))
    assert found.tolist() == pytest.approx((mix.losses * torch.tensor([2.0, 0.5, 0.0, 0.5])).tolist(), rel=1e-6)
    found.sum().backward()
    assert not any(p.grad.any() for p in model.tasks["words"].parameters())
    assert all(p.grad.any() for n, p in model.tasks["label"].named_parameters() if "weight" in n)


# Turns


def test_turns_are_as_frequent_as_tasks_are_heavy() -> None:
    spec = parse(plan({"turns": "one"}))
    drawn = [turn(spec, step) for step in range(3000)]
    assert all(len(names) == 1 for names in drawn)
    counts = Counter(names[0] for names in drawn)
    shares = np.array([1.0, 0.5, 1.0, 1.0])
    assert chisquare([counts[n] for n in spec.tasks], 3000 * shares / shares.sum()).pvalue > 1e-3
    pairs = Counter(pairwise(drawn))
    assert len(pairs) == 16, "no order"
    assert drawn == [turn(spec, step) for step in range(3000)]
    other = parse(plan({"turns": "one", "seed": 4}))
    assert drawn != [turn(other, step) for step in range(3000)]
    assert turn(parse(plan()), 7) == ("label", "value", "words", "pair")
    heavy = plan({"turns": "one"})
    for name, block in heavy["tasks"].items():
        heavy["tasks"][name] = {**({"type": block} if isinstance(block, str) else block), "weight": int(name == "pair")}
    assert {turn(parse(heavy), step) for step in range(50)} == {("pair",)}


def test_only_the_task_whose_turn_it_is_is_answered_and_learns(tmp_path: Path) -> None:
    spec = plan({"turns": "one"})
    for step in range(6):
        one, rows = session(spec, tmp_path / str(step), step)
        model, batch = one.assembly.model, load(rows)
        mix = Mix(one, [batch])
        out = model(batch, tasks=mix.names)
        assert tuple(out.answers) == tuple(out.losses) == mix.names == turn(one.assembly.spec, step)
        mix.add(out).sum().backward()
        learned = {n for n, t in model.tasks.items() if all(p.grad is not None for p in t.parameters())}
        assert learned == set(mix.names)
        assert all(p.grad is None for n, t in model.tasks.items() if n not in learned for p in t.parameters())
        whole = model(batch)
        index = list(model.tasks.names).index(mix.names[0])
        weight = model.tasks[mix.names[0]].weight(whole.asked[mix.names[0]])
        expected = (whole.losses[mix.names[0]] * weight).sum() / weight.sum()
        assert mix.losses[index].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_history_has_means_over_a_tasks_own_steps(tmp_path: Path) -> None:
    run = fit(tmp_path / "run", plan({"turns": "one", "epochs": 4, "lr": 1e-9, "weight_decay": 0.0}))
    alone = fit(tmp_path / "all", plan({"epochs": 1, "lr": 1e-9, "weight_decay": 0.0})).history[0]["train"]
    spec, per_epoch = run.assembly.spec, run.history[0]["step"]
    for epoch, entry in enumerate(run.history):
        drawn = {turn(spec, s)[0] for s in range(epoch * per_epoch, (epoch + 1) * per_epoch)}
        assert set(entry["train"]) == {"loss"} | drawn
        for name in drawn:
            assert entry["train"][name] == pytest.approx(alone[name], rel=0.4), "not diluted by others' steps"


# Weights that are learned


@pytest.mark.parametrize("name", ["uncertainty", "gradnorm", "dwa"])
def test_weights_stand_in_history_and_report_and_in_the_stored_run(name: str, tmp_path: Path) -> None:
    tasks = {"label": "classify", "value": {"type": "regress", "weight": 0.5}}
    run = fit(tmp_path / "run", plan({"epochs": 3}, weigh=name, tasks=tasks))
    shown = [entry["weights"] for entry in run.history]
    assert [set(one) for one in shown] == [{"label", "value"}] * 3
    assert shown[-1] != {"label": 1.0, "value": 0.5}
    if name == "dwa":
        assert shown[0] == shown[1] == {"label": 1.0, "value": 0.5}
        fell = [run.history[1]["train"][n] / run.history[0]["train"][n] for n in tasks]
        each = 2 * torch.tensor(fell).div(2).softmax(0)
        assert list(shown[2].values()) == pytest.approx([float(each[0]), 0.5 * float(each[1])], rel=1e-4)
    best = max(e["epoch"] for e in run.history if e["best"]) - 1
    again = polymodal.load(tmp_path / "run")
    if name != "dwa":  # its weights are set when the epoch is over and its own have been kept
        kept = again.assembly.model.weigh.weights().tolist()
        assert [kept[0], 0.5 * kept[1]] == pytest.approx(list(shown[best].values()), rel=1e-5)
    assert json.loads((tmp_path / "run" / "history.jsonl").read_text().splitlines()[0])["weights"] == shown[0]
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("</b> weight") == 2
    assert "weights" not in fit(tmp_path / "plain", plan({"epochs": 1}, tasks=tasks)).history[0]


def test_the_other_weights_begin_as_without_it(tmp_path: Path) -> None:
    plain, _ = session(plan(), tmp_path / "a")
    more, _ = session(plan(weigh="gradnorm"), tmp_path / "b")
    found = more.assembly.model.state_dict()
    for name, value in plain.assembly.model.state_dict().items():
        assert torch.equal(value, found[name]), name
    assert {n for n in found if n.startswith("weigh.")} == {"weigh.weight", "weigh.first"}


def test_uncertainty_makes_the_scales_of_losses_indifferent(tmp_path: Path) -> None:
    """σ² follows the loss: in the end every task's weighted loss is near 1, whatever its own size."""
    tasks = {"label": "classify", "value": {"type": "regress", "weight": 1.0}}
    run = fit(tmp_path / "run", plan({"epochs": 12, "lr": 1e-4}, tasks=tasks, weigh={"type": "uncertainty", "lr": 0.2}))
    last = run.history[-1]
    for name in tasks:
        assert last["weights"][name] * last["train"][name] == pytest.approx(1.0, rel=0.25)


SECTIONS: dict[str, dict[str, Any]] = {
    "uncertainty": {"weigh": "uncertainty", "train": {"ema": 0.9}},
    "gradnorm": {"weigh": {"type": "gradnorm", "every": 2}, "train": {"accumulate": 2, "batch": 12}},
    "dwa": {"weigh": "dwa", "train": {"turns": "one"}},
    "turns": {"weigh": "uncertainty", "train": {"turns": "one"}},
}


@pytest.mark.parametrize("case", SECTIONS)
def test_a_run_that_breaks_off_goes_on_exactly(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = copy.deepcopy(SECTIONS[case])
    spec = plan({"epochs": 4, "checkpoint_steps": 1, **sections.pop("train", {})}, **sections)
    whole = fit(tmp_path / "whole", spec)
    finite, calls = steps._check_finite, [0]

    def crash(*args: Any) -> None:
        calls[0] += 1
        if calls[0] == 9:  # of 12 steps
            raise MemoryError
        finite(*args)

    monkeypatch.setattr(steps, "_check_finite", crash)
    with pytest.raises(MemoryError):
        fit(tmp_path / "broken", spec)
    monkeypatch.undo()
    run = fit(tmp_path / "broken", spec, resume=True)
    assert digest(tmp_path / "broken") == digest(tmp_path / "whole")
    assert untimed(run) == untimed(whole)


# Questions of their own, in a whole training


def test_workers_change_nothing(tmp_path: Path) -> None:
    for workers in (0, 2):
        fit(tmp_path / str(workers), plan({"epochs": 1, "workers": workers}))
    assert digest(tmp_path / "0") == digest(tmp_path / "2")


def test_masked_words_are_filled_in_from_another_input(tmp_path: Path) -> None:
    """The colour can be told from the number alone, and only where attention lets the text look at it."""
    tasks = {"words": {"type": "mask", "input": "title", "column": "title", "share": 0.34}}
    train = {"epochs": 40, "lr": 1e-2, "batch": 24, "weight_decay": 0.0}
    run = fit(tmp_path / "run", plan(train, tasks=tasks, attention={"type": "bidirectional", "heads": 2}))
    found = run.evaluate(table())
    both = found.tasks["words"].measures["perplexity"]["value"]
    alone = found.withheld["code"]["words"]["perplexity"]["value"]
    assert both < 0.7 * alone, (both, alone)
    assert found.withheld["title"]["words"]["masked_accuracy"]["value"] is None, "nothing to ask"
    said = run.predict({"code": [0.0, 1.0, 2.0, 1.0], "title": ["a qqq mug"] * 3 + ["a green mug"]})
    rows = list(said.to_dict("records")) if hasattr(said, "to_dict") else list(said)
    right = sum(row["words"] == f"a {colour} mug" for row, colour in zip(rows, COLOURS, strict=False))
    assert right >= 2, [row["words"] for row in rows]
    assert rows[3]["words"] is None


def test_scenes_end_to_end(tmp_path: Path) -> None:
    scenes = polymodal.make_scenes(tmp_path / "scenes", rows=48, size=16, seed=0)
    spec = {
        "data": {"split": "column", "split_column": "split"},
        "inputs": {
            "picture": {"type": "image", "size": [16, 16], "encoder": {"type": "cnn", "channels": [4, 8]}},
            "caption": {"type": "text", "min_count": 1, "encoder": {"type": "gru", "width": 8}},
        },
        "attention": {"type": "co", "heads": 2},
        "fusion": "concat",
        "align": {"type": "contrastive", "width": 4},
        "balance": {"type": "unimodal"},
        "weigh": "gradnorm",
        "tasks": {
            "words": {"type": "mask", "input": "caption", "column": "caption"},
            "pair": {"type": "match", "input": "caption", "column": "caption"},
            "shape": {"type": "classify"},
        },
        "train": {"epochs": 2, "batch": 12, "device": "cpu", "threads": 1, "monitor": "shape.accuracy"},
    }
    run = polymodal.train(scenes, spec=spec, out=tmp_path / "run", quiet=True)
    for entry in run.history:
        assert set(entry["train"]) == {"loss", "words", "pair", "shape", "align", "unimodal"}
        assert {"words.masked_accuracy", "words.perplexity", "pair.auroc", "shape.accuracy"} <= set(entry["valid"])
    assert run.assembly.model.balance.probes.names == ("shape",), "tasks that pose questions have no probes"
    found, again = run.evaluate(scenes), polymodal.load(tmp_path / "run").evaluate(scenes)
    assert found.json() == again.json(), "the same questions every time"
    assert found.tasks["pair"].measures["accuracy"]["ci95"][0] is not None
    assert {e.task for e in found.examples} == {"words", "shape"}
    assert found.withheld["caption"]["pair"]["auroc"]["value"] is None
    page = (tmp_path / "run" / "report.html").read_text()
    assert "masked accuracy" in page
    assert "perplexity" in page


def test_only_posed_questions_learn_from_inputs_as_they_are_too(tmp_path: Path) -> None:
    """ALBEF's three losses: alignment sees true pairs, though no task is asked about the inputs as they are."""
    tasks = {k: v for k, v in plan()["tasks"].items() if k in ("words", "pair")}
    one, rows = session(plan(tasks=tasks, align={"type": "contrastive", "width": 4}), tmp_path)
    model, batch, asked = one.assembly.model.train(), load(rows), []
    expected = model.align(model.enter(model.encode(batch.inputs), batch.inputs), batch.inputs, None)
    model.align.register_forward_hook(lambda m, given, out: asked.append(given[1]))
    torch.testing.assert_close(model(batch).notes.losses["align"], expected.losses["align"])
    assert len(asked) == 1, "nothing is learned from pairs that do not fit"
    assert asked[0] is batch.inputs


def test_what_is_exchanged_is_not_encoded_again(tmp_path: Path) -> None:
    one, rows = session(plan(), tmp_path)
    model, batch, seen = one.assembly.model.eval(), load(rows), []
    for name in ("code", "title"):
        model.encoders[name].register_forward_hook(lambda m, given, out, name=name: seen.append(name))
    model(batch, tasks=("label", "pair"))
    assert sorted(seen) == ["code", "title"]
    seen.clear()
    model(batch)
    assert sorted(seen) == ["code", "title", "title"]


# Mistakes


@pytest.mark.parametrize(
    ("sections", "where", "says"),
    [
        ({"weigh": "uncertanty"}, "weigh.type", "no weigh of this name"),
        ({"weigh": "gradnorm", "tasks": {"label": "classify"}}, "weigh", "needs two tasks"),
        ({"weigh": {"type": "dwa", "temperature": 0}}, "weigh.temperature", "greater than 0"),
        ({"weigh": {"type": "dwa", "tasks": []}}, "weigh.tasks", "wired"),
        ({"weigh": "gradnorm", "train": {"turns": "one"}}, "weigh.type", "all tasks in every step"),
        ({"train": {"turns": "two"}}, "train.turns", "one"),
        ({"tasks": {"w": {"type": "mask", "column": "title"}}}, "tasks.w.input", "is needed"),
        ({"tasks": {"w": {"type": "mask", "column": "title", "input": "code"}}}, "tasks.w.input", "is no text"),
        (
            {"tasks": {"w": {"type": "mask", "column": "title", "input": "title", "share": 0}}},
            "tasks.w.share",
            "greater",
        ),
        ({"tasks": {"pair": {"type": "match", "column": "title"}}, "balance": "ogm"}, "balance", "target of its own"),
        ({"tasks": {"pair": {"type": "match", "column": "title"}}, "fusion": "average"}, "fusion.type", "joined"),
    ],
)
def test_mistakes_say_where(sections: dict[str, Any], where: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=says) as error:
        assembled({**plan(), **sections}, table(20), tmp_path)
    assert error.value.where == where


TWO_PROCESSES = """
import sys
import polymodal
sys.path.insert(0, {tests!r})
from test_multitask import plan, table
run = polymodal.train(table(), spec=plan({train!r}, **{sections!r}), out={out!r}, quiet=True)
"""


@pytest.mark.parametrize("case", ["gradnorm", "turns"])
def test_two_processes_learn_the_same_weights(case: str, tmp_path: Path) -> None:
    """Losses and squared norms add up over processes. Matching depends on who stands together, so it is left out."""
    tasks = {k: v for k, v in plan()["tasks"].items() if k != "pair"}
    train = {"epochs": 2, **({"turns": "one"} if case == "turns" else {})}
    sections = {"tasks": tasks, "weigh": "gradnorm" if case == "gradnorm" else "uncertainty"}
    one = fit(tmp_path / "one", plan(train, **sections))
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES.format(tests=str(Path(__file__).parent), train=train, sections=sections,
                                           out=str(tmp_path / "two")))  # fmt: skip
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths,
                                                                        "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    two = polymodal.load(tmp_path / "two")
    for a, b in zip(one.history, two.history, strict=True):
        assert b["weights"] == pytest.approx(a["weights"], rel=1e-3)
        assert b["train"] == pytest.approx(a["train"], rel=1e-3)
