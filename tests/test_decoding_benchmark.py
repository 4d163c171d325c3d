"""The benchmark of decoding on a few tokens: all ways say the same; what is short of a claim is told."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")
PLACE = Path(__file__).parents[1] / "benchmarks" / "decoding.py"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("decoding_benchmark", PLACE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_ways_say_the_same(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "LAYERS", 2)
    threads = torch.get_num_threads()
    try:
        benchmark.main(["--rounds", "2", "--rows", "3", "--longest", "5", "--out", str(tmp_path / "page.md")])
    finally:
        torch.set_num_threads(threads)
    found = json.loads((tmp_path / "page.json").read_text())
    assert [p["same"] for p in found["pairs"]] == [True] * 4
    assert {len(times) for times in found["times"].values()} == {2}
    text = (tmp_path / "page.md").read_text()
    assert text.count("| yes |") == 4
    assert "--rounds 2 --rows 3" in text


def test_what_falls_short_is_told(benchmark: Any) -> None:
    times = {name: [1.0, 2.0] for _, *names in benchmark.PAIRS for name in names}
    times["greedy, no cache"] = [6.0, 6.0]
    said = {name: torch.zeros(2, 3) for name in times} | {"beams, `lm`": torch.ones(2, 3)}
    pairs = benchmark.compared(times, said)
    assert (pairs[0]["ratio"], pairs[0]["least"], pairs[0]["most"]) == (4.5, 3.0, 6.0)
    short = benchmark.failed(pairs)
    assert short == ["greedy, cache: 4.50, claimed 5.0", "beams, all rows: 1.00, claimed 3.0",
                     "beams, `lm` and beams, `generate` say different things"]  # fmt: skip
    assert "Short of what is claimed: greedy, cache" in benchmark.page(times, pairs, "command", 2, 3)
