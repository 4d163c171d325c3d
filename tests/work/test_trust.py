"""Trust from end to end: a small run is trained, keeps its witnesses, and answers on terms, from both faces."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import polymodal
from endtoend import Shell, read_answers, write_table
from polymodal.core.errors import RunError, UserError
from polymodal.work.folder import read_tensors

STORED = Path(__file__).parents[1] / "stored" / "format-1"


def table(rows: int, seed: int) -> list[dict]:
    """A label that two numbers show well but not surely, a number, and several classes."""
    g = np.random.default_rng(seed)
    x, y = g.normal(size=(2, rows))
    chance = 1 / (1 + np.exp(-4 * x))
    label = np.where(g.random(rows) < chance, "up", "down")
    price = np.exp(1 + 0.5 * y + 0.3 * g.normal(size=rows))
    tags = [
        "|".join(t for t, on in (("far", abs(a) > 1), ("high", b > 0)) if on) or None for a, b in zip(x, y, strict=True)
    ]
    columns = {"x": x.tolist(), "y": y.tolist(), "label": label.tolist(), "price": price.tolist(), "tags": tags}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


SPEC = {
    "data": {"valid": 0.4, "test": 0.3},
    "inputs": {"numbers": {"type": "tabular", "columns": ["x", "y"], "encoder": {"type": "mlp", "width": 16}}},
    "tasks": {
        "label": "classify",
        "price": {"type": "regress", "log": True},
        "tags": {"type": "classify", "multi": True, "weight": 0.3},
    },
    "train": {"epochs": 6, "batch": 16, "lr": 0.02, "device": "cpu", "threads": 1},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("trust")
    write_table(place / "rows.csv", table(1600, 0))
    write_table(place / "new.csv", table(900, 1))
    spec = {**SPEC, "data": {**SPEC["data"], "train": str(place / "rows.csv")}}
    polymodal.train(spec=spec, out=place / "run", quiet=True)
    return place


@pytest.fixture(scope="module")
def run(folder: Path) -> polymodal.Run:
    return polymodal.load(folder / "run")


def test_the_run_keeps_its_witnesses_under_its_seal(folder: Path, run: polymodal.Run, tmp_path: Path) -> None:
    listed = json.loads((folder / "run" / "run.json").read_text())
    assert listed["format"] == 1
    assert "trust.safetensors" in listed["files"]
    kept = run.witnesses
    assert set(kept) == {"label", "price", "tags"}
    assert {w.rows for n, w in kept.items() if n != "tags"} == {640}
    assert all(w.scores is not None and (np.diff(w.scores) >= 0).all() for w in kept.values())
    assert kept["price"].confidence is None
    assert kept["label"].right is not None
    assert kept["label"].right.mean() == run.metrics["valid"]["tasks"]["label"]["accuracy"]["value"]
    shutil.copytree(folder / "run", tmp_path / "run")
    data = bytearray((tmp_path / "run" / "trust.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "run" / "trust.safetensors").write_bytes(data)
    changed = polymodal.load(tmp_path / "run")
    with pytest.raises(RunError, match="sha256 differs"):
        changed.predict(folder / "new.csv", sets=0.9)


def test_metrics_tell_of_coverage_and_of_scaling(run: polymodal.Run) -> None:
    valid, test = run.metrics["valid"], run.metrics["test"]
    assert not [m for t in valid["tasks"].values() for m in t if m.startswith("coverage")]
    for task, size in (("label", "set_size_90"), ("tags", "set_size_90"), ("price", "interval_width_90")):
        found = test["tasks"][task]
        low, high = test["calibration"][task]["sets"]["expected95"]
        assert low <= found["coverage_90"]["value"] <= high
        assert found["coverage_90"]["ci95"][0] < found["coverage_90"]["value"] < found["coverage_90"]["ci95"][1]
        assert found[size]["value"] > 0
    for part in (valid, test):
        assert part["calibration"].keys() >= {"label", "tags"}
        for task in ("label", "tags"):
            fitted = part["calibration"][task]
            assert fitted["after"]["log_loss"] == part["tasks"][task]["log_loss"]
            moved = fitted["after"]["log_loss"]["value"] - fitted["before"]["log_loss"]["value"]
            assert fitted["difference"]["log_loss"]["value"] == pytest.approx(moved, abs=1e-12)
            assert fitted["temperature"] > 0
    for page in ("report.html", "README.md"):
        assert "How far to believe it" in (run.folder / page).read_text(encoding="utf-8")
    assert "rows behind them" in (run.folder / "README.md").read_text(encoding="utf-8")


def test_the_temperature_is_in_the_weights(folder: Path, run: polymodal.Run) -> None:
    """A run with another temperature is as sure as its logits over that temperature, and answers the same."""
    weights = read_tensors(folder / "run" / "weights.safetensors")
    assert sum(n.endswith("temperature") for n in weights) == 2
    other = polymodal.load(folder / "run")
    other.assembly.model.tasks["label"].temperature *= 3
    one, two = (r.predict(folder / "new.csv") for r in (run, other))
    assert [a["label"] for a in one] == [a["label"] for a in two]
    odds = [np.log(c / (1 - c)) for a in (one, two) for c in [np.array([line["label.confidence"] for line in a])]]
    assert odds[0] == pytest.approx(3 * odds[1], rel=1e-4)


def test_sets_and_intervals_in_a_prediction_file(
    folder: Path, run: polymodal.Run, shell: Shell, tmp_path: Path
) -> None:
    words = ("predict", folder / "run", folder / "new.csv", "--sets", 0.9, "--out")
    shell.works(*words, tmp_path / "a.jsonl")
    lines = read_answers(tmp_path / "a.jsonl")
    assert list(lines[0]) == ["row", "label", "label.confidence", "label.set", "price", "price.low", "price.high",
                              "tags", "tags.confidence", "tags.set", "error"]  # fmt: skip
    assert lines == run.predict(folder / "new.csv", sets=0.9)
    rows = table(900, 1)
    labels = np.mean([r["label"] in a["label.set"] for a, r in zip(lines, rows, strict=True)])
    prices = np.mean([a["price.low"] <= r["price"] <= a["price.high"] for a, r in zip(lines, rows, strict=True)])
    found = run.evaluate(folder / "new.csv").json()
    assert found["tasks"]["label"]["coverage_90"]["value"] == pytest.approx(labels)
    assert found["tasks"]["price"]["coverage_90"]["value"] == pytest.approx(prices)
    for task, share in (("label", labels), ("price", prices)):
        low, high = found["calibration"][task]["sets"]["expected95"]
        assert low <= share <= high
    assert found["tasks"]["label"]["set_size_90"]["value"] == pytest.approx(
        np.mean([len(a["label.set"]) for a in lines])
    )
    width = np.mean([a["price.high"] - a["price.low"] for a in lines])
    assert found["tasks"]["price"]["interval_width_90"]["value"] == pytest.approx(width)
    assert all(a["label"] in a["label.set"] for a in lines if a["label.set"])
    plain = run.predict(folder / "new.csv")
    assert [{k: a[k] for k in plain[0]} for a in lines] == plain
    for ending in ("csv", "parquet"):
        shell.works(*words, tmp_path / f"a.{ending}")
    assert (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()[0] == ",".join(lines[0])
    again = read_answers(tmp_path / "a.parquet")
    assert [a["label.set"] for a in again] == [a["label.set"] for a in lines]
    assert [len(a["label.set"]) for a in run.predict(folder / "new.csv", sets=0.999999)] == [2] * 900
    assert {a["price.low"] for a in run.predict(folder / "new.csv", sets=0.999999)} == {None}


def test_a_rows_set_does_not_hang_on_its_place(folder: Path, run: polymodal.Run) -> None:
    rows = table(200, 1)
    order = np.random.default_rng(0).permutation(200)
    one, two = run.predict(rows, sets=0.8, abstain=0.9), run.predict([rows[i] for i in order], sets=0.8, abstain=0.9)
    for place, i in enumerate(order):
        for column in ("label", "label.set", "tags.set"):
            assert two[place][column] == one[i][column]
        assert two[place]["price.high"] == pytest.approx(one[i]["price.high"], rel=1e-3)


def test_abstaining_leaves_the_unsure_rows_empty(
    folder: Path, run: polymodal.Run, shell: Shell, tmp_path: Path
) -> None:
    done = shell.works("predict", folder / "run", folder / "new.csv", "--abstain", 0.9, "--out", tmp_path / "a.jsonl")
    assert "no row is answered" not in done.err.replace("tags: no row is answered", "")
    lines, rows = read_answers(tmp_path / "a.jsonl"), table(900, 1)
    assert [a["row"] for a in lines] == list(range(900))
    answered = [a["label"] is not None for a in lines]
    assert 0.2 < np.mean(answered) < 0.95
    sure = np.array([a["label.confidence"] for a in lines])
    assert sure[answered].min() > sure[~np.array(answered)].max()
    right = np.mean([a["label"] == r["label"] for a, r in zip(lines, rows, strict=True) if a["label"] is not None])
    assert right > 0.88
    for a in lines:
        unsure = a["error"] is not None and "label: unsure (" in a["error"]
        assert unsure == (a["label"] is None)
        assert a["price"] is not None
    told = next(a["error"] for a in lines if a["label"] is None)
    assert told.startswith("label: unsure (0.")
    assert "for accuracy 0.9)" in told
    found = run.evaluate(folder / "new.csv", abstain=0.9).json()["tasks"]["label"]
    assert found["answered_at"]["value"] == pytest.approx(np.mean(answered))
    assert found["accuracy_answered"]["value"] == pytest.approx(right)
    shown = shell.works("evaluate", folder / "run", folder / "new.csv", "--abstain", 0.9).out
    assert "label.accuracy_answered" in shown
    assert "label: temperature" in shown


def test_an_accuracy_that_nothing_shows_is_said(folder: Path, run: polymodal.Run, shell: Shell, tmp_path: Path) -> None:
    words = ("predict", folder / "run", folder / "new.csv", "--abstain", 0.9999, "--out", tmp_path / "a.jsonl")
    done = shell.works(*words)
    assert "label: no row is answered: 640 validation rows show no confidence above which 0.9999" in done.err
    lines = read_answers(tmp_path / "a.jsonl")
    assert len(lines) == 900
    assert {a["label"] for a in lines} == {None}
    assert all("no confidence is enough for accuracy 0.9999" in a["error"] for a in lines)
    assert all(a["label.confidence"] > 0 for a in lines)
    nothing = run.evaluate(folder / "new.csv", abstain=0.9999).json()["tasks"]["label"]
    assert (nothing["answered_at"]["value"], nothing["accuracy_answered"]["value"]) == (0, None)


def test_a_bad_row_keeps_its_own_reason(run: polymodal.Run) -> None:
    lines = run.predict([{"x": 3.0, "y": 0.0}, {"x": "far", "y": 1.0}], sets=0.9, abstain=0.9)
    assert lines[1]["label"] is lines[1]["label.set"] is lines[1]["price.low"] is None
    assert "unsure" not in lines[1]["error"]


@pytest.mark.parametrize("flag", ["--sets", "--abstain"])
@pytest.mark.parametrize("level", [0, 1, 1.5, -0.1, "nan", 90])
def test_wrong_levels(folder: Path, shell: Shell, tmp_path: Path, flag: str, level: object) -> None:
    told = shell.fails("predict", folder / "run", folder / "new.csv", flag, level, "--out", tmp_path / "a.csv")
    assert told.startswith(f"{flag}: must lie between 0 and 1")
    assert not (tmp_path / "a.csv").exists()


def test_what_a_run_cannot_do_is_refused(folder: Path, tmp_path: Path) -> None:
    spec = {**SPEC, "tasks": {"price": "regress"}, "train": {**SPEC["train"], "epochs": 1}}
    only = polymodal.train(table(80, 0), spec=spec, out=tmp_path / "run", quiet=True)
    with pytest.raises(UserError, match="no task of this run has answers that are right or wrong"):
        only.predict(folder / "new.csv", abstain=0.9)
    assert set(only.predict(table(3, 2), sets=0.5)[0]) == {"row", "price", "price.low", "price.high", "error"}
    with pytest.raises(UserError, match="must lie between 0 and 1"):
        only.predict(folder / "new.csv", sets=2.0)


def test_a_run_from_before_there_was_trust_opens_and_says_what_it_lacks() -> None:
    old = polymodal.load(STORED / "run")
    assert old.witnesses == {}
    assert old.assembly.model.tasks["colour"].calibrated() == {"temperature": 1}
    with pytest.raises(RunError, match="earlier version"):
        old.predict(STORED / "table.csv", sets=0.9)
    with pytest.raises(RunError, match="earlier version"):
        old.evaluate(STORED / "table.csv", abstain=0.9)
