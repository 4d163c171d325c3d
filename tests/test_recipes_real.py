"""The recipes that compare ways of joining, on the real data: who trains, chooses and is tested; one of them run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from polymodal.core import yaml12
from polymodal.data.splits import Part
from polymodal.work.job import open_parts
from test_recipes import PLANS, ROOT, recipe_module

# recipe: rows that train, choose and are tested; a column whose values no two parts share
PARTS = {
    "avletters": ((4 * 260, 130, 130), "utterance"),
    "medpix2": (None, "case"),
    "mvsa_single": ((2560, 640, 800), None),
    "ham10000_subset": ((3561, 628, 597), "lesion_id"),
    "houses": ((321, 107, 107), "house"),
}


def parts_of(name: str, data: Path, out: Path) -> dict[str, Part]:
    """`out` is for the table, where the recipe makes one."""
    run = recipe_module("run")
    plan = run.Plan(**run.check_settings(run.Plan, PLANS[name], name))
    data = recipe_module(name).prepare(data, out) if plan.prepare else data
    return open_parts(run.Recipe(name, plan, ROOT, data, Path("runs")).spec(), None)


def cells(part: Part, column: str) -> list[str]:
    return [str(part.table.cell(int(row), column)) for row in part.rows]


@pytest.mark.parametrize("name", PARTS)
def test_nobody_is_tested_on_what_was_trained(name: str, real_data: Path, tmp_path: Path) -> None:
    wanted, column = PARTS[name]
    parts = parts_of(name, real_data, tmp_path)
    if wanted is not None:
        assert tuple(len(parts[p].rows) for p in ("train", "valid", "test")) == wanted
    held = [set(part.rows.tolist()) if column is None else set(cells(part, column)) for part in parts.values()]
    assert sum(map(len, held)) == len(set().union(*held))


def test_the_split_is_the_one_that_is_told(real_data: Path, tmp_path: Path) -> None:
    letters = parts_of("avletters", real_data, tmp_path)
    assert {p: set(cells(part, "take")) for p, part in letters.items()} == {
        "train": {"1"},
        "valid": {"2"},
        "test": {"2"},
    }
    for part in ("valid", "test"):
        assert set(Counter(cells(letters[part], "letter")).values()) == {5}
        assert set(Counter(cells(letters[part], "speaker")).values()) == {13}
    scans = parts_of("medpix2", real_data, tmp_path)
    assert {p: set(cells(part, "split")) for p, part in scans.items()} == {
        "train": {"train"}, "valid": {"train"}, "test": {"dev"},
    }  # fmt: skip
    assert len(scans["test"].rows) == 197
    assert len(scans["valid"].rows) == pytest.approx(1653 * 0.16, abs=12)
    houses = parts_of("houses", real_data, tmp_path)
    assert {p: set(cells(part, "fold")) for p, part in houses.items()} == {
        "train": set("234"),
        "valid": {"1"},
        "test": {"0"},
    }
    assert set(cells(parts_of("mvsa_single", real_data, tmp_path)["test"], "fold")) == {"0"}


def test_what_gives_the_answer_away_is_no_input() -> None:
    spec = yaml12.loads((ROOT / "medpix2.yaml").read_text())
    used = {one.get("column", name) for name, one in spec["inputs"].items()}
    assert used == {"image", "history"}
    assert set(spec["tasks"]) == {"location_category", "modality"}


def test_lips_and_sound_are_compared(real_data: Path, tmp_path: Path) -> None:
    """A short training of the recipe with real clips and sounds, from the plan to the page."""
    recipe_module("avletters")  # as if run.py were started from its own folder
    (tmp_path / "avletters.yaml").write_text((ROOT / "avletters.yaml").read_text())
    short = {"fusion": ["average"], "seeds": 1, "end_to_end": 0, "noise": False, "baselines": []}
    plan = PLANS["avletters"] | {"compare": PLANS["avletters"]["compare"] | short}
    (tmp_path / "plans.yaml").write_text(yaml12.dumps({"avletters": plan}))
    where = ["--data", real_data, "--out", tmp_path / "runs", "--results", tmp_path]
    small = ["--set", "train.epochs=1", "--set", "train.threads=1", "--set", "inputs.lips.frames=2"]
    assert recipe_module("run").main(["avletters", *map(str, where), *small, "--quiet"], tmp_path) == 0
    found = json.loads((tmp_path / "results" / "avletters.json").read_text())["compare"]
    assert found["trials"].keys() == {"only lips", "only sound", "average"}
    one = found["tasks"]["letter"]
    assert (one["rows"], one["clusters"], found["cluster"]) == (130, 10, "speaker")
    assert "130 test rows in 10 clusters by `speaker`" in (tmp_path / "RESULTS.md").read_text()
