"""The step `compare` of `recipes/run.py` on a tiny recipe: what is compared, what is kept, what is written."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from endtoend import make_rows, write_spec, write_table
from polymodal import api
from polymodal.core import yaml12
from test_recipes import SPEC, recipe_module

PLAN: dict[str, Any] = {
    "seeds": [],
    "compare": {"fusion": ["concat", "average"], "seeds": 2, "frozen": True, "end_to_end": 1, "cluster": "fold",
                "noise": False, "baselines": ["majority"]},
    "measures": ["macro_f1", "accuracy"],
}  # fmt: skip
SPLIT = {"train": "things/rows.csv", "leave_out": {"fold": ["0"]}, "valid": 0.3}
NAMES = {"concat", "average", "only title", "only facts", "majority", "concat (end to end)", "average (end to end)"}


@pytest.fixture(scope="module")
def run() -> ModuleType:
    return recipe_module("run")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and its data."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "data" / "things").mkdir(parents=True)
    rows = [{**row, "fold": i // 2 % 3} for i, row in enumerate(make_rows(folder, 90))]
    write_table(folder / "data" / "things" / "rows.csv", rows)
    write_spec(folder / "tiny.yaml", {**SPEC, "data": SPLIT, "train": {**SPEC["train"], "epochs": 1}})
    (folder / "tiny.yaml").write_text("# A tiny one.\n" + (folder / "tiny.yaml").read_text())
    (folder / "plans.yaml").write_text(yaml12.dumps({"tiny": PLAN}))
    return folder


def command(place: Path) -> list[str]:
    where = ["--data", place / "data", "--out", place / "runs", "--results", place]
    return ["tiny", *map(str, where), "--quiet"]


@pytest.fixture(scope="module")
def found(run: ModuleType, place: Path) -> dict[str, Any]:
    assert run.main(command(place), place) == 0
    return told(place)


def told(place: Path) -> dict[str, Any]:
    return json.loads((place / "results" / "tiny.json").read_text())


def whole(place: Path) -> dict[str, Any]:
    return json.loads((place / "runs" / "tiny" / "compare" / "compare.json").read_text())


def test_all_that_the_plan_asks_for_was_compared(found: dict[str, Any], place: Path) -> None:
    assert found["missing"] == []
    assert found.keys() & {"test", "leave_out"} == set()
    one = found["compare"]
    assert {n: one[n] for n in ("split", "seeds", "frozen", "cluster", "inputs", "failed")} == {
        "split": "test", "seeds": [0, 1], "frozen": True, "cluster": "fold", "inputs": ["title", "facts"], "failed": {},
    }  # fmt: skip
    assert {line["name"] for line in one["tasks"]["label"]["candidates"]} == NAMES
    assert one["trials"].keys() == NAMES - {"majority"}
    assert one["seconds"] > 0
    assert found["machines"][0]["threads"] == 1
    assert str(place) not in (place / "results" / "tiny.json").read_text()


def test_what_is_kept_is_what_was_found(found: dict[str, Any], place: Path) -> None:
    kept, full = found["compare"]["tasks"]["label"], whole(place)["tasks"]["label"]
    for line in kept["candidates"]:
        there = full["candidates"][line["name"]]
        assert {"value": line["value"], "ci95": line["ci95"]} == there["measures"][full["measure"]]
        assert (line["valid"], line["against"]) == (there["valid"], there.get("against", {}))
    trained = [line["valid"] for line in kept["candidates"] if line["name"] != "majority"]
    assert trained == sorted(trained, reverse=True)
    assert kept["candidates"][-1]["name"] == "majority"
    best = full["candidates"][full["best"]]
    assert (kept["contribution"], kept["interaction"]) == (best["contribution"], best["interaction"])
    assert set(kept["robustness"]) == {full["best"], "average"}
    curve = best["robustness"]["missing"]["title"]
    assert list(kept["robustness"][full["best"]]["missing"]["title"]["scores"].values()) == [
        score["value"] for score in curve["scores"]
    ]
    costs = found["compare"]["trials"]["concat"]
    assert {n: whole(place)["trials"]["concat"][n] for n in costs} == costs
    assert any("validation rows chose" in s for s in kept["sentences"])


def test_the_page_tells_it(found: dict[str, Any], place: Path) -> None:
    page = (place / "RESULTS.md").read_text()
    one = found["compare"]["tasks"]["label"]
    lines = page.splitlines()
    for sentence in one["sentences"]:
        assert f"- {sentence}" in lines
    names = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")]
    shown = [n for n in names if n in NAMES]
    assert shown[: len(NAMES)] == [line["name"] for line in one["candidates"]]
    concat = next(line for line in one["candidates"] if line["name"] == "concat")
    cells = next(line for line in lines if line.startswith("| concat |")).split(" | ")
    assert cells[1] == f"{concat['valid']:.4f}"
    assert cells[2].startswith(f"{concat['value']:.4f} [")
    gap = concat["against"]["single"]
    assert f"{gap['value']:+.4f} [" in " | ".join(cells)
    assert f"{gap['holm']:.3f}" in cells
    assert "30 test rows in 1 clusters by `fold`; seeds 0, 1; encoders trained once" in page
    assert "Wall time, reading and scoring included: comparison " in page


def test_what_is_compared_is_not_compared_again(found: dict[str, Any], run: ModuleType, place: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    def never(*_: object, **__: object) -> None:
        raise AssertionError("done again")

    with monkeypatch.context() as patch:
        patch.setattr(api, "compare", never)
        (place / "results" / "tiny.json").unlink()
        assert run.main(command(place), place) == 0
    assert told(place) == found


def test_other_wishes_go_on_from_there(found: dict[str, Any], run: ModuleType, tmp_path: Path, place: Path) -> None:
    """One fusion more: what was trained before stays as it is, and the new one stands beside it."""
    for name in ("tiny.yaml", "data"):
        (tmp_path / name).symlink_to(place / name)
    first = {**PLAN, "compare": {"fusion": ["concat"], "seeds": 1, "baselines": []}}
    (tmp_path / "plans.yaml").write_text(yaml12.dumps({"tiny": first}))
    assert run.main(command(tmp_path), tmp_path) == 0
    weights = tmp_path / "runs" / "tiny" / "compare" / "trials" / "concat" / "seed-0" / "weights.safetensors"
    made = weights.stat().st_mtime_ns
    first["compare"]["fusion"].append("sum")
    (tmp_path / "plans.yaml").write_text(yaml12.dumps({"tiny": first}))
    assert run.main(command(tmp_path), tmp_path) == 0
    assert {"concat", "sum"} <= told(tmp_path)["compare"]["trials"].keys()
    assert weights.stat().st_mtime_ns == made


def test_a_wrong_wish_is_told(run: ModuleType, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("tiny.yaml", "data"):
        (tmp_path / name).symlink_to(place / name)
    (tmp_path / "plans.yaml").write_text(yaml12.dumps({"tiny": {"compare": {"fusions": ["concat"]}}}))
    assert run.main(command(tmp_path), tmp_path) == 2
    assert "fusion" in capsys.readouterr().err
