"""Target readers: types are kept, order is natural, bad cells say why."""

import json
import math
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core import catalog
from polymodal.core.errors import BadCell, TableError
from polymodal.tasks.targets import Label, Labels, Number


def test_reading_targets_needs_no_torch() -> None:
    code = "import sys, polymodal.tasks.targets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_catalogue_finds_them() -> None:
    assert [catalog.load("target", n, "reader") for n in ("label", "labels", "number")] == [Label, Labels, Number]


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["b", "a", "b"], ["a", "b"]),
        (["a10", "a2", "A3", "a02"], ["a02", "a2", "A3", "a10"]),
        (["10", "9", "-1"], ["9", "10", "-1"]),  # text stays text; "-" is a letter like others
        ([10, 9, 2.5], [2.5, 9, 10]),
        ([True, False, True], [False, True]),
        ([np.int64(3), np.int64(1)], [1, 3]),
        ([np.str_("x"), "y"], ["x", "y"]),
        (["猫", "狗", "cat"], ["cat", "狗", "猫"]),
        ([1, True, "1", 0], [True, 0, 1, "1"]),
    ],
)
def test_classes_keep_their_type_in_natural_order(cells: list, classes: list) -> None:
    field = Label().fit(cells)
    assert field["classes"] == classes
    assert [type(c) for c in field["classes"]] == [type(c) for c in classes]
    assert json.loads(json.dumps(field)) == field


def test_label_counts_and_finds_places() -> None:
    reader = Label()
    field = reader.fit(["b", "a", None, "b", float("nan"), ["a"], "b"])
    assert field == {"classes": ["a", "b"], "counts": [1, 3], "rows": 4} == reader.field
    other = Label()
    other.field = json.loads(json.dumps(field))
    samples = [other(c)["class"] for c in ("a", "b", "never", 1)]
    assert [int(s) for s in samples] == [0, 1, -1, -1]
    assert all(s.dtype == np.int64 and s.shape == () for s in [*samples, other.blank()["class"]])


def test_a_whole_number_is_the_same_class_as_a_float_but_not_as_text_or_truth() -> None:
    reader = Label()
    reader.fit([1.0, 2.0])
    assert [int(reader(c)["class"]) for c in (1, 2.0, np.float32(2), True, "1")] == [0, 1, 1, -1, -1]


@pytest.mark.parametrize("cell", [None, float("nan"), float("inf"), ["a"], {"a": 1}, b"a", object()])
def test_what_is_no_class(cell: object) -> None:
    reader = Label()
    reader.fit(["a"])
    with pytest.raises(BadCell, match="is no class"):
        reader(cell)


@pytest.mark.parametrize("make", [Label, Labels, Number])
def test_nothing_to_fit_on(make: type) -> None:
    with pytest.raises(TableError, match="no training row"):
        make().fit([None, {}])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.text(), st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False))))
def test_every_fitted_cell_is_found_again(cells: list) -> None:
    reader = Label()
    if not cells:
        return
    field = reader.fit(cells)
    for cell in cells:
        place = int(reader(cell)["class"])
        assert field["classes"][place] == cell
        assert isinstance(field["classes"][place], bool) == isinstance(cell, bool)
    assert sum(field["counts"]) == len(cells) == field["rows"]


def test_labels_from_text_and_lists() -> None:
    reader = Labels()
    field = reader.fit(["red | blue", ["blue"], "", [], "red|red", np.array(["blue", "green"]), 5, None, [None]])
    assert field == {"classes": [5, "blue", "green", "red"], "counts": [1, 3, 1, 2], "rows": 7}
    sample = reader("red|never|blue| neither ")
    assert sample["classes"].tolist() == [0, 1, 0, 1]
    assert sample["classes"].dtype == np.float32
    assert int(sample["unseen"]) == 2
    assert not reader([])["classes"].any()
    assert not reader(" ")["classes"].any()
    assert {k: (v.shape, v.dtype) for k, v in sample.items()} == {
        k: (v.shape, v.dtype) for k, v in reader.blank().items()
    }


def test_labels_with_another_separator() -> None:
    reader = Labels(separator=", ")
    assert reader.fit(["a|b, c"])["classes"] == ["a|b", "c"]
    with pytest.raises(BadCell):
        reader([["a"]])


@pytest.mark.parametrize(
    ("cell", "value"),
    [(3, 3), (2.5, 2.5), ("12", 12), (" -1.5e3 ", -1500), ("+.5", 0.5), ("7.", 7), (np.float32(0.5), 0.5),
     (np.int8(4), 4), (Decimal("1.25"), 1.25), (Fraction(1, 4), 0.25)],
)  # fmt: skip
def test_numbers(cell: object, value: float) -> None:
    assert Number().number(cell) == value


@pytest.mark.parametrize(
    "cell",
    [None, "", "n/a", "nan", "inf", "-Infinity", float("nan"), float("inf"), "1e999", 10**400, "1,200", "1_000",
     "12 kg", "٣", "0x10", True, np.bool_(False), [1.0], b"1", 1j, Decimal("sNaN")],
)  # fmt: skip
def test_what_is_no_number(cell: object) -> None:
    with pytest.raises(BadCell, match="is no finite number"):
        Number().number(cell)


def test_number_is_standardised() -> None:
    reader, cells = Number(), [1, "2", 4.5, "n/a", None, 10]
    field = reader.fit(cells)
    values = np.array([1, 2, 4.5, 10])
    assert field["rows"] == 4
    assert (field["mean"], field["std"]) == pytest.approx((values.mean(), values.std()))
    found = [reader(v)["value"] for v in values]
    assert np.allclose(found, (values - values.mean()) / values.std())
    assert all(v.dtype == np.float32 and v.shape == () for v in [*found, reader.blank()["value"]])


def test_number_with_logarithm() -> None:
    reader = Number(log=True)
    field = reader.fit(["1", 10, 100, 0, -5])
    assert field == {"mean": pytest.approx(math.log(10)), "std": pytest.approx(np.std(np.log([1, 10, 100]))),
                     "log": True, "rows": 3}  # fmt: skip
    assert float(reader(10)["value"]) == pytest.approx(0, abs=1e-6)
    for cell in (0, "-1"):
        with pytest.raises(BadCell, match="no logarithm"):
            reader(cell)


@pytest.mark.parametrize("cells", [[5, 5, 5], [0.1] * 10, [0], [1e300, -1e300], [1e-300, 2e-300], [1.7e9, 1.7e9 + 1]])
def test_odd_scales(cells: list) -> None:
    reader = Number()
    field = reader.fit(cells)
    assert 0 < field["std"] < math.inf
    assert all(abs(reader(c)["value"]) <= 1.001 for c in cells)


def test_a_number_too_far_from_all_others_is_bad() -> None:
    reader = Number()
    reader.fit([1, 2])
    with pytest.raises(BadCell, match="too far"):
        reader(1e300)
