"""The benchmark against other tools: its page, its rows, and its own script on a small table."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

pd = pytest.importorskip("pandas")
sklearn = pytest.importorskip("sklearn")
BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


rivals = module(BENCHMARKS / "rivals.py")
ours = module(BENCHMARKS / "rivals" / "polymodal_run.py")


def result(of: str, rival: str, began: float, fit_s: float, cpu: float, seed: int = 0) -> dict:
    return {
        "of": of, "rival": rival, "began": began, "fit_s": fit_s, "fit_cpu_s": cpu, "seed": seed, "epochs": 3,
        "task": "classify", "accuracy": 0.5, "macro_f1": 0.25, "import_s": 1.0, "rows_per_s": 10.0,
        "predict_rows_per_s": 100.0, "peak_mb": 900, "load_before_after": [0.1, 1.9], "stolen_percent": 0.3,
        "versions": {"polymodal": "0.1.0"}, "cores": 2, "threads": 2, "date": "2026-01-01",
    }  # fmt: skip


def test_a_run_is_set_beside_the_rival_nearest_in_time() -> None:
    runs = [result("ham", "plain", 0, 100, 200), result("ham", "equal", 90, 50, 80),
            result("ham", "plain", 1000, 400, 800, 1), result("ham", "equal", 900, 100, 100, 1),
            result("mvsa", "plain", 91, 1, 1)]  # fmt: skip
    assert rivals.ratios(runs, "ham", "equal", "plain", "fit_s") == [0.5, 0.25]
    assert rivals.ratios(runs, "ham", "equal", "plain", "fit_cpu_s") == [0.4, 0.125]
    assert rivals.ratios(runs, "ham", "equal", "automm", "fit_s") == []
    assert rivals.spread([]) == ""
    assert rivals.spread([0.5]) == "0.50"
    assert rivals.spread([0.5, 0.25, 0.26]) == "0.26 (0.25 to 0.50)"


def test_the_page_shows_every_run_and_ratios_only_where_both_are() -> None:
    runs = [
        result("ham", "ludwig", 300, 800, 900),
        result("ham", "own", 200, 40, 60),
        result("ham", "plain", 0, 80, 90),
    ]
    text = rivals.page(runs, "python benchmarks/rivals.py")
    assert "| Polymodal, own settings / Ludwig, its ResNet-18 | 0.05 | 0.07 |" in text
    assert "| Polymodal, own settings / plain PyTorch loop | 0.50 | 0.67 |" in text
    assert "/ AutoGluon" not in text
    rows = [line for line in text.splitlines() if line.startswith("|") and "| 0.5 | 0.25 |" in line]
    assert [row.split(" | ")[0] for row in rows] == [
        "| plain PyTorch loop", "| Polymodal, own settings", "| Ludwig, its ResNet-18"]  # fmt: skip
    assert "\n    python benchmarks/rivals.py\n" in text


def test_runs_are_interleaved_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["rivals.py", "--peers", "p", "--venvs", "v", "--data", "d", "--out", str(tmp_path), "--repeat", "2"]
    monkeypatch.setattr(sys, "argv", [*words, "--tables", "ham", "--tools", "own,plain"])
    args = rivals.parse()
    assert list(rivals.plan(args)) == [("ham", "plain", 0), ("ham", "own", 0), ("ham", "own", 1), ("ham", "plain", 1)]
    command = rivals.command(args, "ham", "plain", 1, tmp_path / "x")
    assert command[:2] == [
        str(Path("v").resolve() / "ag" / "bin" / "python"),
        str(Path("p").resolve() / "plain_loop.py"),
    ]
    assert command[command.index("--category") + 1] == "sex,localization"
    assert rivals.command(args, "ham", "own", 0, tmp_path / "x")[0] == sys.executable
    (tmp_path / "ham-plain-0.json").write_text("{}")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("it is there already"))
    rivals.run(args, "ham", "plain", 0)


def flags(folder: Path, **more: str) -> list[str]:
    plain = {"table": str(folder / "table.csv"), "root": str(folder), "image": "front,back", "numeric": "area",
             "category": "zip", "target": "price", "task": "regress", "split-column": "fold", "test": "2",
             "out": str(folder / "run.json"), **more}  # fmt: skip
    return [text for name, value in plain.items() for text in (f"--{name}", value)]


@pytest.fixture
def houses(tmp_path: Path) -> Path:
    g = np.random.default_rng(0)
    rows = []
    for i in range(60):
        for side in ("front", "back"):
            Image.fromarray(g.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(tmp_path / f"{i}-{side}.png")
        rows.append({"front": f"{i}-front.png", "back": f"{i}-back.png", "area": g.normal(), "fold": i % 5,
                     "zip": g.choice([None, 85255, 36372]), "kind": g.choice(["a", "b", "b", "b"]),
                     "price": float(np.exp(g.normal()))})  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "table.csv", index=False)
    return tmp_path


@pytest.mark.parametrize("seed", [0, 3])
def test_rows_are_those_that_the_other_tools_get(houses: Path, seed: int) -> None:
    """Their rule, written once more with row numbers: sklearn's shuffled split, stratified for classes."""
    from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

    table = pd.read_csv(houses / "table.csv")
    known = np.flatnonzero(table["fold"] != 2)
    drawn = next(ShuffleSplit(1, test_size=0.1, random_state=seed).split(known))
    parts = ours.rows(ours.parse(flags(houses, seed=str(seed))))
    for part, expected in zip(
        parts, [known[drawn[0]], known[drawn[1]], np.flatnonzero(table["fold"] == 2)], strict=True
    ):
        assert part["front"].tolist() == [str(houses.resolve() / f"{i}-front.png") for i in expected]
        np.testing.assert_allclose(part["price"], np.log(table["price"][expected]))
        assert part["zip"].tolist() == ["missing" if np.isnan(z) else str(z) for z in table["zip"][expected]]
    classes = table["kind"][known]
    drawn = next(StratifiedShuffleSplit(1, test_size=0.1, random_state=seed).split(known, classes))
    fit, valid, _ = ours.rows(ours.parse(flags(houses, seed=str(seed), target="kind", task="classify")))
    assert [Path(p).name for p in fit["front"]] == [f"{i}-front.png" for i in known[drawn[0]]]
    assert [Path(p).name for p in valid["front"]] == [f"{i}-front.png" for i in known[drawn[1]]]


def test_the_two_settings_differ_in_what_is_said() -> None:
    words = flags(Path("x"), text="about")
    equal, own = (ours.spec(ours.parse([*words, "--settings", name])) for name in ("equal", "own"))
    changed = {k for k in equal["train"] | own["train"] if equal["train"].get(k) != own["train"].get(k)}
    assert changed == {"precision", "channels_last", "buckets"}
    assert {k: v for k, v in equal.items() if k != "train"} == {k: v for k, v in own.items() if k != "train"}


def test_its_own_script_writes_what_the_page_needs(houses: Path) -> None:
    words = [*flags(houses), "--epochs", "2", "--size", "32", "--threads", "1", "--settings", "own"]
    command = [sys.executable, str(BENCHMARKS / "rivals" / "polymodal_run.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((houses / "run.json").read_text())
    assert found == json.loads(done.stdout)
    assert (found["fit_rows"], found["val_rows"], found["test_rows"]) == (43, 5, 12)
    assert 0 < found["fit_s"] < found["whole_s"]
    assert 0 < found["fit_cpu_s"] < found["whole_cpu_s"]
    assert found["rows_per_s"] == pytest.approx(43 * 2 / found["fit_s"], rel=0.1)
    assert [s["stage"] for s in found["stages"]][:4] == ["reading train", "reading valid", "epoch 1/2", "epoch 2/2"]
    assert found["rmse"] > 0
    text = rivals.page([found | {"of": "houses", "rival": "own", "began": 0.0}], "command")
    assert f"| {found['rmse']} | {found['r2']} | {found['import_s']} | {found['fit_s']} |" in text
