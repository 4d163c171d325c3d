"""The fields of a form: every column that a run reads, once, as what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import polymodal
from endtoend import INPUTS, TRAIN, Trained
from polymodal.serve.form import form


def test_every_column_of_a_run_is_a_field(trained: Trained) -> None:
    found = {field["column"]: field for field in form(polymodal.load(trained.run).assembly)}
    assert list(found) == ["photo", "title", "sound", "price", "brand"]
    assert [f["kind"] for f in found.values()] == ["picture", "text", "sound", "number", "choice"]
    assert [f["input"] for f in found.values()] == ["photo", "title", "sound", "facts", "facts"]
    assert set(found["brand"]["choices"]) == {"Acme", "Bolt"}
    assert found["brand"]["more"] is False
    prices = [row["price"] for row in trained.rows]
    assert min(prices) < found["price"]["typical"] < max(prices)


@pytest.mark.parametrize("how", [{}, {"scale": "quantile"}, {"log": ["a"]}, {"scale": "none"}])
def test_a_typical_number_is_in_the_tables_own_terms(how: dict[str, object], tmp_path: Path) -> None:
    numbers = np.linspace(90, 110, 41)
    days = [f"2024-05-{1 + i % 28:02}" for i in range(41)]
    rows = {"a": numbers, "day": days, "label": ["yes", "no"] * 20 + ["yes"]}
    facts = {"type": "tabular", "columns": ["a", "day"], "numeric": ["a"], "dates": ["day"], **how}
    words = {"type": "text", "column": "day", "encoder": INPUTS["title"]["encoder"]}
    spec = {"inputs": {"facts": facts, "words": words},
            "fusion": "sum", "tasks": {"label": "classify"}, "train": TRAIN}  # fmt: skip
    run = polymodal.train(rows, spec=spec, out=tmp_path / "run", quiet=True)
    a, day = form(run.assembly)
    assert (day["column"], day["kind"]) == ("day", "date")
    if how == {"scale": "none"}:
        assert "typical" not in a
    else:
        assert a["typical"] == pytest.approx(100, rel=0.01)
