"""What benchmarks/missing.py computes from right and wrong answers: losses, their ratio, its interval, the verdict."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest


@pytest.fixture(scope="module")
def missing() -> ModuleType:
    place = Path(__file__).parents[1] / "benchmarks" / "missing.py"
    spec = importlib.util.spec_from_file_location("missing_benchmark", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def runs(lost: dict[float, float], rows: int = 200, seeds: int = 3) -> list[dict]:
    """Everything is right; without an input this share of the rows is wrong."""
    wrong = {drop: np.arange(rows) >= share * rows for drop, share in lost.items()}
    whole = np.ones(rows, bool)
    return [{"fusion": "sum", "drop": drop, "seed": seed, "right": {"": whole, "image": found, "audio": found}}
            for drop, found in wrong.items() for seed in range(seeds)]  # fmt: skip


def test_cells_are_emptied(missing: ModuleType) -> None:
    table = pa.table({"image": [b"a", b"b", b"c"], "label": [1, 2, 3]})
    emptied = missing.without(table, "image", np.array([0, 2]))
    assert emptied["image"].to_pylist() == [None, b"b", None]
    assert emptied["label"] == table["label"]
    assert emptied.schema == table.schema


@pytest.mark.parametrize(("dropped", "said"), [(0.05, "holds"), (0.18, "holds on average"), (0.4, "does not hold")])
def test_half_of_the_cells_cost_half_of_what_all_cost(missing: ModuleType, dropped: float, said: str) -> None:
    row = missing.summary(runs({0.0: 0.4, 0.2: dropped}), "sum", 0.2, "image", {"image": 0.1, "audio": 0.9})
    assert row["plain"]["lost"] == pytest.approx(0.2)
    assert row["plain"]["half"] == pytest.approx([0.8] * 3)
    assert row["dropout"]["lost"] == pytest.approx(dropped / 2)
    assert row["ratio"] == pytest.approx(dropped / 0.4)
    low, high = row["ci95"]
    assert low <= row["ratio"] <= high
    assert row["alone"] == 0.9, "of what is left"
    facts = {"rows": 200, "seeds": 3, "drop": 0.2, "epochs": 1, "trainings": 6, "seconds": 1, "command": "python"}
    assert missing.page([row], facts).rstrip().endswith(f"| {said} |")


def test_the_interval_is_that_of_both_draws_together(missing: ModuleType) -> None:
    """Losses in proportion, row by row, have a ratio without doubt; other rows and seeds have not."""
    plainly = np.random.default_rng(0).random((3, 50)) + 0.1
    ratio, (low, high) = missing.interval(plainly, 0.3 * plainly)
    assert ratio == pytest.approx(0.3)
    assert (low, high) == pytest.approx((0.3, 0.3))
    ratio, (low, high) = missing.interval(plainly, 0.3 * plainly[::-1, ::-1])
    assert low < 0.3 < high
    assert high - low > 0.02
