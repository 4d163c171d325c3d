"""Statistics of columns in one pass against numpy over all values at once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core.errors import BadCell
from polymodal.modalities.tabular import tally
from polymodal.modalities.tabular.columns import sign_log
from polymodal.modalities.tabular.read import TabularReader
from polymodal.modalities.tabular.tally import Tally

CELLS = st.none() | st.floats(-1e6, 1e6) | st.integers(-1000, 1000) | st.sampled_from(["1.5", "n/a", "red", "", "-2e3"])


def numbers_in(values: list) -> list[float]:
    found = []
    for value in values:
        try:
            found.append(float(value))
        except (TypeError, ValueError):
            continue
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(CELLS, max_size=40), st.integers(1, 7), st.booleans())
def test_moments_are_those_of_all_numbers_at_once(values: list, block: int, log: bool) -> None:
    """Whatever the blocks: plain numbers, text, missing and bad values mixed."""
    column = Tally("x", log=log, quantiles=False, numeric=True)
    for start in range(0, len(values), block):
        column.add(values[start : start + block])
    x = np.array([sign_log(v) for v in numbers_in(values)] if log else numbers_in(values))
    found = column.scaling("standard")
    if len(x) and x.std() > 1e-9 * abs(x.mean()):
        assert found["mean"] == pytest.approx(x.mean(), rel=1e-12, abs=1e-9)
        assert found["std"] == pytest.approx(x.std(), rel=1e-9)
    elif len(set(x.tolist())) < 2:
        assert found["std"] == 1.0


@pytest.mark.parametrize("size", [1, 5, 300, 5000])
def test_quantiles_of_few_numbers_are_exact(size: int) -> None:
    x = np.random.default_rng(0).normal(size=size)
    column = Tally("x", log=False, quantiles=True, numeric=True)
    for start in range(0, size, 77):
        column.add(x[start : start + 77].tolist())
    expected = np.quantile(x, np.linspace(0, 1, min(max(size, 2), 256)))
    assert column.scaling("quantile")["quantiles"] == pytest.approx(expected.tolist(), abs=1e-12)


def test_quantiles_of_many_numbers_are_those_of_a_fair_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sorted values are the hardest case; smallest and largest are exact; nothing more is held."""
    monkeypatch.setattr(tally, "DRAWN", 4000)
    column = Tally("x", log=False, quantiles=True, numeric=True)
    for start in range(0, 100_000, 1024):
        column.add(np.arange(start, min(start + 1024, 100_000), dtype=float).tolist())
    found = np.array(column.scaling("quantile")["quantiles"])
    assert (found[0], found[-1]) == (0, 99_999)
    assert np.abs(found - np.linspace(0, 99_999, 256)).max() < 4.5 * 100_000 * 0.5 / np.sqrt(4000)  # standard errors
    assert column._drawn is not None
    assert len(column._drawn._kept) == 4000
    again = Tally("x", log=False, quantiles=True, numeric=True)
    for start in range(0, 100_000, 1024):
        again.add(np.arange(start, min(start + 1024, 100_000), dtype=float).tolist())
    assert again.scaling("quantile") == column.scaling("quantile")


class Walks:
    """Cells that count how often they were gone through."""

    def __init__(self, cells: list) -> None:
        self.cells, self.count = cells, 0

    def __iter__(self) -> Iterator:
        self.count += 1
        yield from self.cells


@pytest.mark.parametrize("generator", [False, True])
def test_a_column_that_looks_numeric_for_long_is_counted_once_more(generator: bool) -> None:
    """A thousand fractions, then postcodes: every category is there; a table of numbers is gone through once."""
    late = [{"x": n + 0.5, "y": float(n)} for n in range(1500)] + [{"x": "0123", "y": 0.5}, {"x": "0123", "y": 1.0}]
    cells = Walks(late)
    reader = TabularReader()
    field = reader.fit(iter(late) if generator else cells)
    assert [c["column"] for c in field["numeric"]] == ["y"]
    counts = Counter(["0123"] * 2 + [str(n + 0.5) for n in range(1500)])
    assert sorted(field["categorical"][0]["categories"]) == sorted(counts)
    assert field["categorical"][0]["categories"][0] == "0123"
    assert generator or cells.count == 2
    once = Walks([{"y": n / 3, "z": ["a", "b"][n % 2]} for n in range(3000)])
    TabularReader().fit(once)
    assert once.count == 1


def test_numbers_are_not_counted_as_categories() -> None:
    """A million distinct numbers would take a hundred megabytes."""
    column = Tally("x", log=False, quantiles=False)
    column.add([0.5, 1.5])
    assert column.counts is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fixed_dictionaries({"a": CELLS, "b": CELLS, "c": st.sampled_from(["x", "y", None, True])}),
                min_size=1, max_size=12), st.sampled_from(["standard", "quantile", "none"]), st.booleans())  # fmt: skip
def test_many_records_at_once_are_as_one_by_one(records: list[dict], scale: str, log: bool) -> None:
    """The same bits, and the same complaints."""
    reader = TabularReader(numeric=["a", "b"], scale=scale, log=["a"] if log else None)  # type: ignore[arg-type]
    reader.fit(records)
    for cell, found in zip([*records, 7], reader.decode_all([*records, 7]), strict=True):
        if isinstance(found, BadCell):
            with pytest.raises(BadCell, match=f"^{re.escape(found.reason)}$"):
                reader.decode(cell)
            continue
        alone = reader.decode(cell)
        for name, value in alone.items():
            assert found[name].dtype == value.dtype
            assert found[name].tobytes() == value.tobytes()


def test_plain_records_take_the_quick_way() -> None:
    records = [{"a": n / 7, "b": None if n % 3 else float(n), "c": "x"} for n in range(50)]
    reader = TabularReader(numeric=["a", "b"])
    reader.fit(records)
    assert reader._decode_plain(records) is not None
    assert reader._decode_plain([*records, {"a": "1.5", "b": 1.0, "c": "x"}]) is None
