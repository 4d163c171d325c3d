"""Comparisons as a whole, on small tables: what is trained, kept and told, and what is never done twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import polymodal
from polymodal.cli import main
from polymodal.core import yaml12
from polymodal.core.errors import SpecError, UserError
from polymodal.work import step as steps
from polymodal.work.compare import run as runs
from polymodal.work.compare.probe import Answered
from polymodal.work.compare.result import Comparison, sentences

ROWS = 240
Whole = tuple[dict[str, Any], Comparison]


def write_table(folder: Path, rows: int = ROWS) -> Path:
    """Two numbers and a word: the class is whether x and the word agree, so that no input knows it alone."""
    g = np.random.default_rng(0)
    x, word = g.normal(size=rows), g.choice(["up", "down"], size=rows)
    label = np.where((x > 0) == (word == "up"), "same", "other")
    part = np.where(np.arange(rows) % 4 == 0, "test", "train")
    lines = [f"{a:.4f},{w},{y},{p},{i // 3}" for i, (a, w, y, p) in enumerate(zip(x, word, label, part, strict=True))]
    place = folder / "rows.csv"
    place.write_text("\n".join(["x,word,label,part,case", *lines]) + "\n")
    return place


def plan(folder: Path, **train: Any) -> dict[str, Any]:
    return {
        "data": {"train": str(write_table(folder)), "split": "column", "split_column": "part", "valid": 0.25},
        "inputs": {
            "number": {"type": "tabular", "columns": ["x"], "encoder": {"type": "mlp", "width": 16}},
            "word": {"type": "text", "min_count": 1, "encoder": {"type": "gru", "width": 16}},
        },
        "fusion": "concat",
        "tasks": {"label": {"type": "classify", "hidden": 16}},
        "train": {"epochs": 6, "batch": 16, "lr": 1e-2, "seed": 5, "device": "cpu", "threads": 1, **train},
    }  # fmt: skip


def compare(folder: Path, spec: dict[str, Any], **given: Any) -> Comparison:
    chosen = {"fusion": ["concat", "sum"], "seeds": 2, "quiet": True, "baselines": ["majority"], **given}
    return polymodal.compare(spec=spec, out=folder, **chosen)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A comparison that is done; nothing in its folder is to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    spec = plan(folder, epochs=20)
    return spec, compare(folder / "out", spec)


def test_it_finds_that_both_inputs_are_needed(whole: Whole) -> None:
    found = whole[1].found["tasks"]["label"]
    lines = found["candidates"]
    assert set(lines) == {"concat", "sum", "only number", "only word", "majority"}
    assert lines[found["best"]]["measures"]["accuracy"]["value"] > 0.9
    assert lines[found["best_single"]]["measures"]["accuracy"]["value"] < 0.75
    low, high = lines[found["best"]]["against"]["single"]["ci95"]
    assert 0 < low < high
    assert any("joining helps" in sentence for sentence in sentences(found))
    (pair,) = lines[found["best"]]["interaction"]
    assert pair["ci95"][0] > 0  # together they know more than one by one
    assert whole[1].found["failed"] == {}


def test_scores_are_those_of_the_runs_themselves(whole: Whole, tmp_path: Path) -> None:
    spec, result = whole
    table = [line.split(",") for line in Path(spec["data"]["train"]).read_text().splitlines()]
    held = tmp_path / "held.csv"
    held.write_text("\n".join(",".join(row) for row in [table[0], *(r for r in table[1:] if r[3] == "test")]))
    for name in ("concat", "only word"):
        scores, blind = [], []
        for seed in (5, 6):
            run = polymodal.load(result.folder / "trials" / name / f"seed-{seed}")
            one = run.evaluate(held).json()
            scores.append(one["tasks"]["label"]["accuracy"]["value"])
            blind.append(one.get("withheld", {}).get("word", {}).get("tasks", {}).get("label"))
        line = result.found["tasks"]["label"]["candidates"][name]
        assert line["measures"]["accuracy"]["value"] == pytest.approx(np.mean(scores))
        assert line["measures"]["accuracy"]["ci95"][0] <= np.mean(scores) <= line["measures"]["accuracy"]["ci95"][1]
    own, other = (result.found["tasks"]["label"]["candidates"][n]["measures"]["accuracy"]["value"]
                  for n in ("concat", "only word"))  # fmt: skip
    gap = result.found["tasks"]["label"]["candidates"]["only word"]["against"]["reference"]["value"]
    assert gap == pytest.approx(other - own)


def test_contributions_add_up_to_what_is_gained_over_nothing(whole: Whole) -> None:
    folder = whole[1].folder / "trials" / "concat"
    gained = []
    for seed in (5, 6):
        answered = Answered.read(folder / f"seed-{seed}")
        right = [_accuracy(records) for records in
                 (answered.whole.records["label"], answered.given(frozenset(), "label"))]  # fmt: skip
        gained.append(right[0] - right[1])
    parts = whole[1].found["tasks"]["label"]["candidates"]["concat"]["contribution"]
    assert sum(p["shapley"]["value"] for p in parts.values()) == pytest.approx(np.mean(gained))


def test_curves_end_where_the_input_is_gone(whole: Whole) -> None:
    line = whole[1].found["tasks"]["label"]["candidates"]["sum"]
    folders = [whole[1].folder / "trials" / "sum" / f"seed-{seed}" for seed in (5, 6)]
    blind = [_accuracy(Answered.read(folder).given(frozenset({"word"}), "label")) for folder in folders]
    curve = line["robustness"]["missing"]["number"]["scores"]
    assert curve[0]["value"] == pytest.approx(line["measures"]["accuracy"]["value"])
    assert curve[-1]["value"] == pytest.approx(np.mean(blind))
    noise = line["robustness"]["noise"]["number"]["scores"]
    assert noise[-1]["value"] < noise[0]["value"] - 0.1


def _accuracy(records: dict[str, np.ndarray]) -> float:
    return float((records["probabilities"].argmax(1) == records["label"]).mean())


def test_all_seeds_have_the_same_rows(whole: Whole) -> None:
    pages = [Answered.read(p.parent).whole.rows["label"] for p in sorted(whole[1].folder.glob("trials/*/*/trial.json"))]
    assert len(pages) == 8
    assert all(np.array_equal(pages[0], rows) for rows in pages)
    fields = {(p / "readers.json").read_text() for p in (whole[1].folder / "trials" / "sum").iterdir()}
    assert len(fields) == 1


def test_what_is_done_is_not_done_again(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, result = whole
    before = (result.folder / "compare.json").read_bytes()

    def never(*args: object, **more: object) -> None:
        raise AssertionError("this was done before")

    monkeypatch.setattr(runs, "run_trial", never)
    monkeypatch.setattr("polymodal.work.compare.simple.measure_baselines", never)
    again = compare(result.folder, spec)
    assert (result.folder / "compare.json").read_bytes() == before
    assert again.text() == result.text()
    assert Comparison.read(result.folder).found == json.loads(before)


def test_another_spec_is_refused_and_other_folders_too(whole: Whole, tmp_path: Path) -> None:
    spec, result = whole
    other = {**spec, "train": {**spec["train"], "lr": 0.5}}
    with pytest.raises(SpecError, match=r"train\.lr"):
        compare(result.folder, other)
    with pytest.raises(SpecError, match="frozen"):
        compare(result.folder, spec, frozen=True)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="no comparison"):
        compare(tmp_path, spec)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_the_text_the_page_and_the_best_run(whole: Whole) -> None:
    _, result = whole
    page = (result.folder / "report.html").read_text()
    for name in ("concat", "sum", "only number", "only word", "majority"):
        assert name in page
        assert name in result.text()
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    best = polymodal.load(result.best("label"))
    (answer,) = best.predict([{"x": 2.0, "word": "up"}])
    assert answer["label"] in ("same", "other")
    assert "<table" in result._repr_html_()


def test_a_trial_that_fails_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, broken = plan(tmp_path, epochs=1), runs.run_trial

    def sometimes(trial: Any, *more: Any) -> None:
        if trial.candidate.name == "sum" and trial.seed == 6:
            raise MemoryError("no room left")
        broken(trial, *more)

    monkeypatch.setattr(runs, "run_trial", sometimes)
    result = compare(tmp_path / "out", spec)
    assert result.found["failed"] == {"sum, seed 6": "MemoryError: no room left"}
    lines = result.found["tasks"]["label"]["candidates"]
    assert lines["sum"]["measures"]["accuracy"]["value"] is not None  # from the seed that there is
    assert result.found["trials"]["sum"]["seeds"] == [5]
    assert "no room left" in (tmp_path / "out" / "report.html").read_text()
    assert "no room left" in result.text()
    monkeypatch.undo()
    healed = compare(tmp_path / "out", spec)
    assert healed.found["failed"] == {}
    assert healed.found["trials"]["sum"]["seeds"] == [5, 6]


def test_when_nothing_can_be_trained_that_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object) -> None:
        raise MemoryError("no room left")

    monkeypatch.setattr(runs, "run_trial", never)
    with pytest.raises(UserError, match="no room left"):
        compare(tmp_path / "out", plan(tmp_path))


def test_a_trial_that_breaks_off_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = plan(tmp_path, checkpoint_steps=2)
    compare(tmp_path / "straight", spec, fusion=["sum"], seeds=1)
    finite, count = steps._check_finite, [0]

    def crash(*args: object) -> None:
        count[0] += 1
        if count[0] == 25:  # in the first trial: the power goes, and nothing can be told any more
            raise KeyboardInterrupt
        finite(*args)

    monkeypatch.setattr(steps, "_check_finite", crash)
    with pytest.raises(polymodal.core.errors.Stopped):
        compare(tmp_path / "broken", spec, fusion=["sum"], seeds=1)
    monkeypatch.undo()
    assert not (tmp_path / "broken" / "compare.json").exists()
    compare(tmp_path / "broken", spec, fusion=["sum"], seeds=1)
    for name in ("sum", "only word", "only number"):
        one, two = (tmp_path / f / "trials" / name / "seed-5" / "weights.safetensors" for f in ("straight", "broken"))
        assert one.read_bytes() == two.read_bytes()


def test_frozen_encoders_are_those_of_the_single_inputs_and_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polymodal.model import Model

    spec, calls, encode = plan(tmp_path, epochs=3), [0], Model.encode

    def counted(self: Model, inputs: dict) -> dict:
        calls[0] += bool(inputs) and len(self.frozen) == 2 and not torch.is_inference_mode_enabled()
        return encode(self, inputs)

    monkeypatch.setattr(Model, "encode", counted)
    result = compare(tmp_path / "out", spec, frozen=True, seeds=1, end_to_end=1)
    assert calls[0] == 0  # never while what joins them is trained
    trials = result.folder / "trials"
    for name in ("number", "word"):
        alone, sum_ = (polymodal.load(trials / t / "seed-5").assembly.model.encoders[name].state_dict()
                       for t in (f"only {name}", "sum"))  # fmt: skip
        assert all(torch.equal(alone[k], sum_[k]) for k in alone)
    kinds = {n: t["kind"] for n, t in result.found["trials"].items()}
    assert kinds["sum (end to end)"] == kinds["concat (end to end)"] == "end_to_end"
    again = result.found["tasks"]["label"]["end_to_end"]
    assert again["kendall"]["value"] in (-1.0, 1.0, None)
    assert result.found["trials"]["sum"]["trained"] < result.found["trials"]["sum (end to end)"]["trained"]


def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    spec = plan(tmp_path, epochs=1)
    one, two = (compare(tmp_path / f"jobs-{jobs}", spec, jobs=jobs, fusion=["sum"]) for jobs in (1, 2))
    assert one.found["tasks"] == two.found["tasks"]
    with pytest.raises(SpecError, match="jobs"):
        polymodal.compare([{"x": 1.0, "word": "up", "label": "same"}] * 9, spec=spec, out=tmp_path / "none", jobs=2)


def test_every_candidate_is_tuned_with_the_same_budget(tmp_path: Path) -> None:
    spec = plan(tmp_path, epochs=1)
    result = compare(tmp_path / "out", spec, fusion=["sum"], seeds=1, tune=3)
    for name in ("sum", "only number", "only word"):
        page = json.loads((result.folder / "trials" / name / "tune.json").read_text())
        assert len(page) == 3
        assert page[0]["lr"] == pytest.approx(spec["train"]["lr"])
        assert page[0]["width"] == (16 if name == "only number" else 32)  # the widest encoder's
        best = max(page, key=lambda tried: tried["score"])
        assert result.found["trials"][name]["lr"] == pytest.approx(best["lr"])
        assert result.found["trials"][name]["width"] == best["width"]
        own = yaml12.loads((result.folder / "trials" / name / "seed-5" / "spec.yaml").read_text())
        assert own["train"]["lr"] == pytest.approx(best["lr"])
        assert not list((result.folder / "trials" / name).glob("tune-*"))
    page = result.folder / "trials" / "sum" / "tune.json"
    before = json.loads(page.read_text())
    page.write_text(json.dumps(before[:2]))  # broken off after two tries
    (result.folder / "trials" / "sum" / "seed-5" / "trial.json").unlink()
    compare(result.folder, spec, fusion=["sum"], seeds=1, tune=3)
    assert json.loads(page.read_text()) == before


def test_rows_of_one_case_are_drawn_together(whole: Whole, tmp_path: Path) -> None:
    spec, result = whole
    rows = compare(result.folder, spec).found["tasks"]["label"]
    cases = compare(result.folder, spec, cluster="case").found["tasks"]["label"]
    compare(result.folder, spec)  # as it was
    assert rows["clusters"] == rows["rows"] == 60
    assert cases["clusters"] == len({r // 3 for r in range(0, ROWS, 4)})
    values = [one["candidates"]["sum"]["measures"]["accuracy"] for one in (rows, cases)]
    assert values[0]["value"] == values[1]["value"]


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml12.dumps(plan(tmp_path, epochs=1)))
    block = "{type: low_rank, rank: 2}"
    words = ["compare", str(spec), "--out", str(tmp_path / "out"), "--fusion", "sum", "--fusion", block, "--seeds", "1",
             "--attention", "none,bidirectional", "--baselines", "none", "--no-noise", "--json"]  # fmt: skip
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    names = {"none + sum", "none + low_rank rank=2", "bidirectional + sum", "bidirectional + low_rank rank=2"}
    assert set(found["trials"]) == names | {"only number", "only word"}
    assert found["tasks"]["label"]["reference"] is None
    assert main([*words[:-1], "--quiet"]) == 0
    assert "report.html" in capsys.readouterr().err
    mistakes = {"--fusion": "summ", "--seeds": "0", "--cluster": "nobody", "--baselines": "trees", "--jobs": "0"}
    for wrong, what in ((["--fusion", "sum,sum"], "twice"), *(([k, v], v) for k, v in mistakes.items())):
        assert main(["compare", str(spec), "--out", str(tmp_path / "wrong"), *wrong]) == 2
        assert what in capsys.readouterr().err
        assert not list((tmp_path / "wrong").glob("trials/*/*/trial.json"))
    one = plan(tmp_path)
    del one["inputs"]["word"], one["fusion"]
    with pytest.raises(SpecError, match="nothing to join"):
        compare(tmp_path / "one", one)


def test_candidates_are_chosen_by_the_measure_that_chooses_epochs(tmp_path: Path) -> None:
    spec = plan(tmp_path, epochs=1, monitor="label.log_loss")
    found = compare(tmp_path / "out", spec, seeds=1).found["tasks"]["label"]
    assert (found["measure"], found["lower"]) == ("log_loss", True)
    joined = {n: found["candidates"][n]["valid"] for n in ("concat", "sum")}
    assert found["best"] == min(joined, key=joined.__getitem__)


def test_a_mistake_in_the_spec_leaves_nothing_behind(tmp_path: Path) -> None:
    spec = plan(tmp_path, epochs=1)
    wrong = {**spec, "tasks": {"nobody": "classify"}}
    with pytest.raises(UserError, match="nobody"):
        compare(tmp_path / "out", wrong)
    assert not (tmp_path / "out").exists()
    compare(tmp_path / "out", spec, seeds=1, fusion=["sum"])


def test_a_process_that_is_killed_takes_no_result_with_it(tmp_path: Path) -> None:
    """The second of two comparisons in a folder: what the first has found stays, what is lost is told."""
    spec = plan(tmp_path, epochs=1)
    compare(tmp_path / "out", spec, seeds=1, fusion=["sum"])
    spec_of_death = {"type": "killing:Killing"}
    (tmp_path / "killing.py").write_text(
        "import os, signal\nfrom torch import nn\nfrom polymodal.core.schema import Wired\n\n\n"
        "class Killing(nn.Module):\n"
        "    def __init__(self, *, inputs: Wired[tuple[str, ...]], width: Wired[int]) -> None:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
        found = compare(tmp_path / "out", spec, seeds=1, fusion=["sum", spec_of_death], jobs=2).found
    assert set(found["trials"]) == {"only number", "only word", "sum"}
    ((name, why),) = found["failed"].items()
    assert name == "Killing, seed 5"
    assert "memory" in why
