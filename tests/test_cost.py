"""Attentions and fusions cost what they say: parameters to the last one, multiplications as torch counts them.

The formulas stand in `benchmarks/cost_claims.py`, quoted from the docstrings; `benchmarks/cost.py` measures times.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import cost  # noqa: E402
from cost_claims import CLAIMS, Claim, value  # noqa: E402

from polymodal.core import catalog  # noqa: E402

ALL = [(kind, name) for kind, claims in CLAIMS.items() for name in claims]


@pytest.mark.parametrize("kind", CLAIMS)
def test_every_part_of_the_catalogue_has_a_claim(kind: str) -> None:
    assert {name.partition("-")[0] for name in CLAIMS[kind]} == set(catalog.PARTS[kind])


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_claims_are_words_of_the_docstring(kind: str, name: str) -> None:
    claim = CLAIMS[kind][name]
    said = " ".join(str(cost.part_of(kind, name).__doc__).split())
    assert not [quote for quote in claim.quotes() if quote not in said]
    assert claim.quotes() or name == "none"


@pytest.mark.parametrize(("kind", "name"), ALL)
@pytest.mark.parametrize(("inputs", "width"), [(2, 4), (2, 16), (3, 8)])
def test_parameters(kind: str, name: str, inputs: int, width: int) -> None:
    part = cost.build(kind, name, inputs, width)
    assert sum(p.numel() for p in part.parameters()) == CLAIMS[kind][name].count("parameters", inputs, 1, width)


@pytest.mark.parametrize(("kind", "name"), ALL)
@pytest.mark.parametrize(("inputs", "length", "width"), [(2, 8, 4), (2, 16, 16), (3, 12, 8), (2, 5, 32)])
def test_multiplications(kind: str, name: str, inputs: int, length: int, width: int) -> None:
    """All that are products of matrices; the others, which torch does not count, are only said."""
    claim, rows = CLAIMS[kind][name], 3
    seen, unseen = (claim.count(formula, inputs, length, width) for formula in ("operations", "unseen"))
    assert cost.multiplications(kind, name, inputs, length, width, rows) == rows * (seen - unseen)


def test_formulas_are_read_as_they_are_written() -> None:
    letters = {"N": 3, "T": 5, "D": 7, "r": 4, "H": 8, "K": 2}
    assert value("«N·((4 + 2r)·(T + K)·D² + 2·(T + K)²·D)»", letters) == 3 * (12 * 7 * 49 + 2 * 49 * 7)
    assert value("«N − 1»·«D»^N", letters) == 2 * 7**3
    assert value("N·H·log H", letters) == 3 * 8 * 3


def test_degrees() -> None:
    claim = Claim({}, "«D²»", "«N·T·D² + T²·D»")
    assert claim.degree("operations", "T", 2, 16, 64) == pytest.approx(2, abs=0.01)
    assert claim.degree("operations", "D", 2, 16, 64) == pytest.approx(2, abs=0.01)
    assert claim.degree("parameters", "T", 2, 16, 64) == 0
    assert CLAIMS["fusion"]["sum"].degree("operations", "T", 2, 16, 64) == pytest.approx(1)
    assert CLAIMS["fusion"]["graph"].degree("operations", "T", 2, 16, 64) == pytest.approx(1, abs=0.01)
    assert CLAIMS["fusion"]["graph-inputs"].degree("operations", "T", 2, 16, 64) == pytest.approx(1, abs=0.01)
    assert CLAIMS["attention"]["none"].degree("operations", "T", 2, 16, 64) == 0


def test_the_peak_counts_what_lives_at_the_same_time() -> None:
    x = torch.ones(1000)

    def run() -> None:
        y = x * 2  # 4,000 bytes
        z = y + 1  # 8,000
        del y
        _ = (z[:500] * 3, z.view(10, 100))  # 6,000, a view adds nothing

    assert cost.peak(run) == 8000
    assert cost.peak(lambda: x.mul_(1)) == 0  # in place, and x was there before


def test_the_peak_counts_what_the_autograd_graph_keeps() -> None:
    x = torch.ones(1000, requires_grad=True)
    with cost.Live() as live:
        total = x.exp().exp().sum()
        assert live.live == 2 * 4000 + 4  # each exp keeps its result
        total.backward()
        del total
    x.grad = None
    assert live.live == 0


def test_slope() -> None:
    assert cost.slope([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2)
    assert cost.slope([64, 128, 256], [5, 5, 5]) == pytest.approx(0)


@pytest.mark.parametrize(("power", "said"), [(1.0, ""), (1.2, ""), (1.5, "memory grows with T^1.50, stated 1.00")])
def test_what_grows_faster_than_stated_is_named(power: float, said: str) -> None:
    sizes = [(t, 64) for t in cost.LENGTHS]
    times = [[1e-3 * t, 2e-3 * t] for t, _ in sizes]
    one = cost.growth(CLAIMS["fusion"]["sum"], "T", sizes, times, [int(100 * t**power) for t, _ in sizes])
    assert (one["time"], one["time_least"], one["stated"]) == pytest.approx((1, 1, 1))
    found = cost.worse({"name": "sum", "T": one})
    assert (said in "".join(found)) if said else (power > 1.05) == bool(found)


def test_the_script_writes_its_page(tmp_path: Path) -> None:
    options = {"--rounds": "1", "--doublings": "2", "--out": str(tmp_path / "c.md")}
    command = [sys.executable, str(BENCHMARKS / "cost.py"), *(text for pair in options.items() for text in pair)]
    command += ["--only", "concat", "sum", "stack"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1), done.stderr  # one round on a busy machine proves nothing
    page, results = (tmp_path / "c.md").read_text(), json.loads((tmp_path / "c.json").read_text())
    assert [r["name"] for r in results] == ["concat", "sum", "stack"]
    assert [len(r[axis]["sizes"]) for r in results for axis in "TD" if axis in r] == [3] * 5
    assert page.count("| fusion `sum` | 1.00 |") == 2
    assert page.count("| decision `stack` | 2.00 |") == 1


def test_the_page_that_is_kept_has_every_part_and_none_is_worse() -> None:
    results = json.loads((BENCHMARKS / "cost.json").read_text())
    assert [(r["kind"], r["name"]) for r in results] == ALL
    assert not [line for r in results for line in cost.worse(r)]
    for result in results:
        claim = CLAIMS[result["kind"]][result["name"]]
        for axis in (a for a in "TD" if a in result):
            sizes = cost.sizes_of(result["kind"], axis, cost.LENGTHS, cost.WIDTHS)
            assert result[axis]["sizes"] == [t if axis == "T" else d for t, d in sizes]
            for key, formula in (("multiplications", "operations"), ("parameters", "parameters")):
                assert result[axis][key] == [claim.count(formula, cost.INPUTS, *size) for size in sizes]
