"""The benchmark of serving: what is claimed is judged by medians over rounds, beside the better rival of each."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

PLACE = Path(__file__).parents[2] / "benchmarks" / "serving.py"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    pytest.importorskip("litserve")
    spec = importlib.util.spec_from_file_location("serving_benchmark", PLACE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def found_of(benchmark: Any, rate: float, p99: float, off: float, start: float) -> dict[str, Any]:
    def loads(*rates: float, p99: float = 0.02) -> list[Any]:
        return [benchmark.Load(r, p99 / 2, p99, 1.0, 0) for r in rates]

    rivals = {"LitServe": loads(100, 300, 100), "LitServe, fast_queue": loads(200, 100, 200, p99=0.01)}
    own = loads(rate, rate, rate, p99=p99)
    batching = {"polymodal serve": own, "polymodal serve --batch 1": loads(off, off, off), "deep": loads(90, 90, 90),
                "deep --batch 1": loads(30, 10, 30)}  # fmt: skip
    begun = {"polymodal serve": [(start, 1.0)] * 3, "LitServe": [(9.0, 1.0)] * 3}
    return {"beside": {"32": {"polymodal serve": own, **rivals}}, "batching": batching, "starts": begun, "same": True}


def test_what_is_reached_is_told(benchmark: Any) -> None:
    found = found_of(benchmark, 220, 0.009, 50, 2.0)
    claims = benchmark.judged(found, 32)
    assert [c["value"] for c in claims] == pytest.approx([1.1, 0.9, 4.4, 3.0, 2.0])
    assert [c["least"] for c in claims[:2]] == pytest.approx([220 / 300, 0.9])
    assert all(c["holds"] for c in claims)
    assert "Every claim holds." in benchmark.page(found, claims, "command")


def test_what_is_not_reached_is_told(benchmark: Any) -> None:
    claims = benchmark.judged(found_of(benchmark, 190, 0.011, 70, 6.0), 32)
    assert [c["holds"] for c in claims] == [False, False, False, True, False]
    assert "Short of what is claimed" in benchmark.page(found_of(benchmark, 190, 0.011, 70, 6.0), claims, "command")
