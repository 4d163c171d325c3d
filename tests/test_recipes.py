"""`recipes/run.py` on a tiny recipe: what is run, what is kept, what is written; and the recipes themselves."""

from __future__ import annotations

import csv
import importlib
import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from endtoend import make_rows, write_spec, write_table
from polymodal import api
from polymodal.core import spec as specs
from polymodal.core import yaml12

ROOT = Path(__file__).parents[1] / "recipes"
SPEC = {
    "data": {"train": "things/rows.csv", "split": "column", "split_column": "fold", "split_test": "0"},
    "inputs": {
        "title": {"type": "text", "min_count": 1, "encoder": {"type": "gru", "width": 8}},
        "facts": {
            "type": "tabular",
            "columns": ["price", "brand"],
            "log": ["price"],
            "encoder": {"type": "mlp", "width": 8},
        },
    },
    "fusion": "concat",
    "tasks": {"label": "classify"},
    "train": {"epochs": 2, "batch": 16, "lr": 0.02, "device": "cpu", "threads": 1},
}
PLAN = {
    "seeds": [0, 1],
    "leave_out": "fold",
    "variants": {"wide": ["inputs.title.encoder.width=16"]},
    "only": {"facts": ["facts"]},
    "baselines": ["majority"],
    "measures": ["macro_f1", "accuracy"],
}
KEPT = "## older\n\nWhat an older recipe says.\n"


@pytest.fixture(scope="module")
def run() -> ModuleType:
    return recipe_module("run")


def recipe_module(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, its data, and a page that has a section already."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "data" / "things").mkdir(parents=True)
    rows = [{**row, "fold": i // 2 % 3} for i, row in enumerate(make_rows(folder, 90))]
    write_table(folder / "data" / "things" / "rows.csv", rows)
    write_spec(folder / "tiny.yaml", SPEC)
    (folder / "tiny.yaml").write_text("# A tiny one.\n# Two lines.\n" + (folder / "tiny.yaml").read_text())
    (folder / "plans.yaml").write_text(yaml12.dumps({"tiny": PLAN}))
    (folder / "RESULTS.md").write_text("# Results\n\n" + KEPT)
    return folder


def command(place: Path, *more: str) -> list[str]:
    return [
        "tiny",
        "--data",
        str(place / "data"),
        "--out",
        str(place / "runs"),
        "--results",
        str(place),
        "--quiet",
        *more,
    ]


@pytest.fixture(scope="module")
def found(run: ModuleType, place: Path) -> dict[str, Any]:
    assert run.main(command(place), place) == 0
    return json.loads((place / "results" / "tiny.json").read_text())


def test_all_that_the_plan_asks_for_was_run(found: dict[str, Any], place: Path) -> None:
    assert found["about"] == "A tiny one.\nTwo lines."
    assert found["command"] == "python recipes/run.py tiny --data DATA"
    assert found["missing"] == []
    models = {"whole", "wide", "only facts"}
    assert found["test"]["models"].keys() == models
    assert all(runs.keys() == {"0", "1"} for runs in found["test"]["models"].values())
    assert found["leave_out"]["models"].keys() == models
    assert (
        found["test"]["baselines"]["models"].keys() == found["leave_out"]["baselines"]["models"].keys() == {"majority"}
    )
    for name in ("test-whole-seed-0", "test-wide-seed-1", "test-only-facts-seed-0", "leave-out-whole/2"):
        assert (place / "runs" / "tiny" / name / "run.json").is_file()
    assert str(place) not in (place / "results" / "tiny.json").read_text()


def test_the_numbers_are_those_of_the_runs(found: dict[str, Any], place: Path) -> None:
    runs = place / "runs" / "tiny"
    for name, label in (("whole", "whole"), ("only facts", "only-facts")):
        for seed in "01":
            run = api.load(runs / f"test-{label}-seed-{seed}")
            assert run.spec.train.seed == int(seed)
            assert found["test"]["models"][name][seed]["test"] == run.metrics["test"]
            assert run.metrics["test"]["rows"] == 30
    assert api.load(runs / "test-wide-seed-0").spec.inputs["title"].encoder.settings["width"] == 16
    assert list(api.load(runs / "test-only-facts-seed-0").spec.inputs) == ["facts"]
    left = json.loads((runs / "leave-out-wide" / "leave_out.json").read_text())
    for name in ("tasks", "mean", "withheld", "rows"):
        assert found["leave_out"]["models"]["wide"][name] == left[name]
    assert left["rows"] == 90


def test_rows_that_hang_together_are_drawn_together(found: dict[str, Any], place: Path) -> None:
    runs = [place / "runs" / "tiny" / f"test-{name}-seed-0" for name in ("whole", "wide")]
    recipe = recipe_module("recipe")
    alone, brand = (recipe._gain(*runs, column)["label"]["log_loss"] for column in (None, "brand"))
    assert alone == found["test"]["models"]["wide"]["0"]["gain"]["label"]["log_loss"]
    assert brand["value"] == alone["value"]
    assert brand["ci95"] != alone["ci95"]
    lines = (place / "data" / "things" / "rows.csv").read_text().splitlines()
    brands = np.array([row["brand"] for row in csv.DictReader(lines)])
    rows = np.array([4, 0, 7, 1, 2])
    groups = recipe._groups(api.load(runs[0]).spec, "brand", rows)
    assert (groups[:, None] == groups).tolist() == (brands[rows][:, None] == brands[rows]).tolist()


def test_what_is_looked_at_stands_on_the_page() -> None:
    told = {"answer": {"looks": False, "text": "it does not look at picture"}}
    lines = recipe_module("page").looking({"0": {"question": told}, "1": {"tasks": {}}})
    assert lines == ["- answer, seed 0: it does not look at picture.", ""]
    assert recipe_module("page").looking({"0": {}}) == []


def test_gains_are_differences_on_the_same_rows(found: dict[str, Any]) -> None:
    for models, seed in ((found["test"]["models"], "1"), (found["leave_out"]["models"], None)):
        for name in ("wide", "only facts"):
            whole, other = (models[n] if seed is None else models[n][seed] for n in ("whole", name))
            ours, theirs = ((m if seed is None else m["test"])["tasks"]["label"] for m in (whole, other))
            for measure in ("accuracy", "log_loss"):
                gain = other["gain"]["label"][measure]
                assert gain["value"] == pytest.approx(ours[measure]["value"] - theirs[measure]["value"])
                assert gain["ci95"][0] <= gain["value"] <= gain["ci95"][1]
            assert "gain" not in whole


def test_baselines_answer_the_very_same_rows(found: dict[str, Any]) -> None:
    """45 rows of each class, mixed evenly: on 30 test rows always giving one of them is right in 15."""
    test = found["test"]["baselines"]["models"]["majority"]
    assert test["rows"] == 30
    assert test["tasks"]["label"]["accuracy"]["value"] == 0.5
    mean = found["leave_out"]["baselines"]["models"]["majority"]["mean"]["label"]["accuracy"]
    assert (mean["value"], mean["groups"]) == (0.5, 3)


def test_the_page_has_the_numbers_and_leaves_other_sections_alone(found: dict[str, Any], place: Path) -> None:
    page = (place / "RESULTS.md").read_text()
    assert KEPT.strip() in page
    assert page.index("## older") < page.index("## tiny")
    values = [found["test"]["models"]["whole"][s]["test"]["tasks"]["label"]["macro_f1"]["value"] for s in "01"]
    line = next(one for one in page.splitlines() if one.startswith("| label.macro_f1 |"))
    assert line.split(" | ")[1] == f"{np.mean(values):.4f}"
    assert [cell.split(" ")[0] for cell in line.split(" | ")[2:4]] == [f"{v:.4f}" for v in values]
    said = ("A tiny one.", "    python recipes/run.py tiny --data DATA", "without title", "| only facts, seed 1 |",
            "| baseline majority | ", "Each of 3 groups by `fold`", "paired 95 % intervals", "Machine: ")  # fmt: skip
    assert [text for text in said if text not in page] == []
    order = [
        i for i, one in enumerate(page.splitlines()) if one.startswith(("| label.macro_f1 |", "| label.accuracy |"))
    ]
    assert page.splitlines()[order[0]].startswith("| label.macro_f1 |")


def test_what_is_done_is_not_done_again(found: dict[str, Any], run: ModuleType, place: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    def never(*_: object, **__: object) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr("recipe.make_run", never)
    monkeypatch.setattr(api, "leave_out", never)
    monkeypatch.setattr(api, "baselines", never)
    monkeypatch.setattr("recipe.environment", lambda: {"threads": 64})  # the times are those of the first machine
    (place / "results" / "tiny.json").unlink()
    assert run.main(command(place), place) == 0
    assert what_is_told(place) == found
    assert run.main(command(place, "--steps", "baselines"), place) == 0  # what was done by other steps stays
    assert what_is_told(place) == found


def what_is_told(place: Path) -> dict[str, Any]:
    return json.loads((place / "results" / "tiny.json").read_text())


def test_another_spec_is_not_taken_for_what_is_done(found: dict[str, Any], run: ModuleType, place: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    before = (place / "results" / "tiny.json").read_text()
    assert run.main(command(place, "--set", "train.lr=0.5"), place) == 2
    assert "another spec" in capsys.readouterr().err
    assert (place / "results" / "tiny.json").read_text() == before


def test_what_broke_off_goes_on(run: ModuleType, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken off in the second training: the first one's numbers are written, and the second goes on."""
    options = [
        "--data",
        str(place / "data"),
        "--out",
        str(tmp_path),
        "--results",
        str(tmp_path),
        "--steps",
        "seeds",
        "--quiet",
    ]
    real, taken = recipe_module("recipe").make_run, 0

    def breaks(*given: Any, **named: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == 2:
            raise KeyboardInterrupt
        return real(*given, **named)

    monkeypatch.setattr("recipe.make_run", breaks)
    assert run.main(["tiny", *options], place) == 130
    broken = json.loads((tmp_path / "results" / "tiny.json").read_text())
    assert broken["test"]["models"]["whole"].keys() == {"0"}
    assert "test-whole-seed-1" in broken["missing"]
    assert "Not run yet: " in (tmp_path / "RESULTS.md").read_text()
    assert run.main(["tiny", *options], place) == 0
    assert taken == 3
    done = json.loads((tmp_path / "results" / "tiny.json").read_text())
    assert done["test"]["models"]["whole"].keys() == {"0", "1"}
    assert "test-wide-seed-0" in done["missing"]


def test_what_is_compared_needs_the_whole(run: ModuleType, place: Path, tmp_path: Path,
                                          capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    options = ["--data", str(place / "data"), "--out", str(tmp_path), "--results", str(tmp_path), "--quiet"]
    assert run.main(["tiny", *options, "--steps", "only"], place) == 2
    assert "compared with the whole" in capsys.readouterr().err


PLANS = yaml12.loads((ROOT / "plans.yaml").read_text(encoding="utf-8"), "plans.yaml")


@pytest.mark.parametrize("name", sorted(p.stem for p in ROOT.glob("*.yaml") if p.stem != "plans"))
def test_every_recipe_has_a_plan_that_fits_it(name: str, run: ModuleType, tmp_path: Path) -> None:
    plan = run.Plan(**run.check_settings(run.Plan, PLANS[name], name))
    recipe = run.Recipe(name, plan, ROOT, Path("data"), tmp_path)
    assert recipe.spec().data.train.startswith("data/")
    assert list(recipe.parts())
    plain = recipe_module("recipe")._plain
    for _, model, spec in recipe.models("seeds", 3):
        before = plain(spec)
        assert plain(specs.validate(spec)) == before == json.loads(json.dumps(before))
        assert spec.train.seed == 3
        assert (spec.text() == specs.validate(recipe.spec(seed=3)).text()) == (model == "whole")
    for inputs in plan.only.values():
        assert set(inputs) < set(recipe.spec().inputs)
    assert run.about(ROOT / f"{name}.yaml")


def test_audio_visual_digits_are_pairs_of_one_class(real_data: Path, tmp_path: Path) -> None:
    import soundfile
    from PIL import Image

    from polymodal.data.tables import open_table

    made = recipe_module("audio_visual_digits")
    table = open_table(made.prepare(real_data, tmp_path) / "audio_visual_digits" / "table.parquet")
    sounds = open_table(real_data / "fsdd" / "table.csv")
    for column in ("split", "label", "speaker"):
        assert table.column(column) == sounds.column(column)
    pictures = {p: open_table(real_data / "mnist" / n) for p, n in made.PICTURES.items()}
    taken = list(zip(table.column("split"), table.column("picture"), strict=True))
    assert len(set(taken)) == len(taken) == 3000
    for row in range(0, 3000, 100):
        part, number = taken[row]
        assert str(pictures[part].cell(number, "label")) == table.cell(row, "label")
        shown = np.asarray(Image.open(io.BytesIO(table.cell(row, "image"))))
        assert (shown == pictures[part].cell(number, "image")).all()
        heard, rate = soundfile.read(io.BytesIO(table.cell(row, "audio")))
        original, _ = soundfile.read(real_data / "fsdd" / sounds.cell(row, "audio"))
        assert rate == 8000
        assert (heard == original).all()
    again = made.prepare(real_data, tmp_path / "again") / "audio_visual_digits" / "table.parquet"
    first = tmp_path / "audio_visual_digits" / "table.parquet"
    assert again.read_bytes() == first.read_bytes()
