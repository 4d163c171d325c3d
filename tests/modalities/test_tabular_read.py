"""Records: what a value means, guessing, scaling against scikit-learn, unseen and senseless values."""

import contextlib
import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from polymodal.core.checks import check_reader
from polymodal.core.errors import BadCell, SpecError
from polymodal.core.seeds import generator
from polymodal.modalities.tabular.cells import MISSING, category, is_missing, number
from polymodal.modalities.tabular.columns import normal_score, sign_log
from polymodal.modalities.tabular.read import TabularReader
from polymodal.modalities.tabular.tally import looks_numeric

ROWS = [
    {"price": 9.5, "brand": "Acme", "stock": 3},
    {"price": "12.25", "brand": "Bolt", "stock": None},
    {"price": None, "brand": "Acme", "stock": "n/a"},
    {"price": 1e3, "brand": "", "stock": 0},
    {"price": np.float64(7.0), "brand": np.str_("Cog"), "stock": np.int64(12)},
    {},
]
BAD = [
    {"price": "abc", "brand": "Acme", "stock": 1},
    {"price": math.inf, "brand": "Acme", "stock": 1},
    {"price": 1.0, "brand": ["Acme"], "stock": 1},
    "no record",
    None,
    7,
]
NUMBERS = ["price", "stock"]


def fitted(cells=ROWS, **options) -> TabularReader:
    reader = TabularReader(**options)
    reader.fit(cells)
    return reader


def column(values, **options) -> np.ndarray:
    """One numeric column through a reader fitted on it."""
    cells = [{"x": v} for v in values]
    reader = fitted(cells, numeric=["x"], **options)
    return np.array([reader(cell)["numbers"][0] for cell in cells])


def reason(cell, **options) -> str:
    with pytest.raises(BadCell) as error:
        fitted(numeric=NUMBERS, **options).decode(cell)
    return error.value.reason


@pytest.mark.parametrize(
    "options",
    [
        {"numeric": NUMBERS},
        {"numeric": NUMBERS, "scale": "quantile", "min_count": 2},
        {"numeric": NUMBERS, "scale": "none", "log": ["price"]},
        {"numeric": ["price"], "categorical": ["stock"]},
    ],
)
def test_contract(options):
    check_reader(lambda: TabularReader(**options), ROWS, BAD)


def test_only_numbers_and_only_categories():
    numbers = [{"a": 0.5, "b": 2}, {"a": None, "b": 7.5}]
    check_reader(lambda: TabularReader(numeric=["a", "b"]), numbers, [{"a": "x"}])
    assert fitted(numbers, numeric=["a", "b"])(numbers[0])["codes"].shape == (0,)
    check_reader(lambda: TabularReader(categorical=["a", "b"]), numbers, [{"a": b"x"}])
    assert fitted(numbers, categorical=["a", "b"])(numbers[0])["numbers"].shape == (0,)


def test_a_sample_by_hand():
    sample = fitted(numeric=NUMBERS, scale="none")(ROWS[1])
    assert sample["numbers"].tolist() == [12.25, 0.0]
    assert sample["known"].tolist() == [True, False]
    assert sample["codes"].tolist() == [3]  # Acme, seen twice, is 2; then by name
    assert {k: str(v.dtype) for k, v in sample.items()} == {"numbers": "float32", "known": "bool", "codes": "int64"}


def test_a_record_with_nothing_in_it():
    reader = fitted(numeric=NUMBERS)
    for cell in ({}, {"price": None, "brand": "-", "stock": math.nan}, {"other": 3}):
        sample = reader(cell)
        assert not sample["numbers"].any()
        assert not sample["known"].any()
        assert sample["codes"].tolist() == [0]


# scaling


def test_standard_is_that_of_scikit_learn():
    x = generator("x").lognormal(3.0, 2.0, 500)
    np.testing.assert_allclose(column(x), StandardScaler().fit_transform(x[:, None])[:, 0], rtol=1e-5)


@pytest.mark.parametrize("value", [0.1, 0.0, -1e9, 1e-30])
def test_a_constant_column_is_only_centred(value):
    values = np.full(777, value)
    np.testing.assert_allclose(column(values), StandardScaler().fit_transform(values[:, None])[:, 0], atol=1e-6)
    assert TabularReader(numeric=["x"]).fit({"x": v} for v in values)["numeric"][0]["std"] == 1.0


def test_quantile_is_that_of_scikit_learn():
    """Continuous values, and rounded ones with many ties; new values between and beyond those of training."""
    for x in (generator("x").lognormal(0.0, 1.0, 2000), generator("y").poisson(3.0, 2000).astype(float)):
        rival = QuantileTransformer(n_quantiles=256, output_distribution="normal", subsample=None).fit(x[:, None])
        new = np.concatenate([x[:300], [-5.0, 0.5, 2.5, 99.0, x.min(), x.max()]])
        reader = fitted([{"x": v} for v in x], numeric=["x"], scale="quantile")
        ours = [reader({"x": v})["numbers"][0] for v in new]
        np.testing.assert_allclose(ours, rival.transform(new[:, None])[:, 0], atol=2e-3)


def test_quantiles_make_a_normal_distribution():
    ours = column(generator("x").lognormal(0.0, 3.0, 5000), scale="quantile")
    assert abs(np.median(ours)) < 0.01
    assert abs(np.mean(np.abs(ours) < 1.0) - 0.6827) < 0.01


def test_a_median_is_zero_and_a_constant_column_too():
    assert normal_score(3.0, [1.0, 3.0, 9.0]) == pytest.approx(0.0)
    assert column([4.0] * 9, scale="quantile").tolist() == [0.0] * 9


def test_log_comes_before_scaling():
    x = np.array([-1e6, -1.0, 0.0, 1.0, 10.0, 1e6])
    logged = np.sign(x) * np.log1p(np.abs(x))
    np.testing.assert_allclose([sign_log(v) for v in x], logged)
    np.testing.assert_allclose(column(x, log=["x"], scale="none"), logged, rtol=1e-6)
    np.testing.assert_allclose(column(x, log=["x"]), (logged - logged.mean()) / logged.std(), rtol=1e-5)


def test_only_training_values_that_can_be_read_count():
    spoilt = [{"x": v} for v in (1.0, 2.5, "abc", math.inf, None, "n/a", 6.0)]
    field = TabularReader(numeric=["x"]).fit(spoilt)
    assert field["numeric"][0]["mean"] == pytest.approx(9.5 / 3)


def test_far_values_stay_finite():
    reader = fitted([{"x": 0.0}, {"x": 1e-20}], numeric=["x"])
    assert reader({"x": 1e30})["numbers"].tolist() == [1e6]
    assert reader({"x": -1e30})["numbers"].tolist() == [-1e6]
    assert fitted([{"x": 0.5}], numeric=["x"], scale="none")({"x": 5e8})["numbers"].tolist() == [5e8]


def test_a_numeric_column_without_a_number():
    for scale in ("standard", "quantile", "none"):
        reader = fitted([{"x": None}, {"x": "abc"}], numeric=["x"], scale=scale)
        assert np.isfinite(reader({"x": 3.5})["numbers"]).all()


# categories


def test_categories_count_and_unseen_ones_differ_from_missing():
    cells = [{"c": v} for v in ["b", "a", "b", "c", "b", "a", None]]
    reader = fitted(cells)
    assert reader.field["categorical"] == [{"column": "c", "categories": ["b", "a", "c"]}]
    assert [reader({"c": v})["codes"][0] for v in ("b", "a", "c", "new", None, "n/a")] == [2, 3, 4, 1, 0, 0]
    rare = fitted(cells, min_count=2)
    assert [rare({"c": v})["codes"][0] for v in ("b", "a", "c", "new", None)] == [2, 3, 1, 1, 0]


def test_unseen_category():
    assert fitted(numeric=NUMBERS)({"brand": "Zeta"})["codes"].tolist() == [1]


@pytest.mark.parametrize(
    "same", [(3, 3.0, "3", "3.0", " 3 ", np.int8(3)), (True, "true", "True", np.True_), (0.5, "0.5"), ("007", " 007")]
)
def test_one_category_however_it_is_stored(same):
    assert len({category(v) for v in same}) == 1


@pytest.mark.parametrize("pair", [("007", "7"), ("A", "a"), ("1.10", "1.1"), (1, True), (2, 2.5)])
def test_different_categories_stay_apart(pair):
    assert category(pair[0]) != category(pair[1])


# missing and senseless values


@pytest.mark.parametrize("value", [None, "", "  ", "NaN", "n/a", "N/A", "NA", "null", "none", "None", "-", "?",
                                   math.nan, np.float32("nan"), Decimal("NaN"), Decimal("sNaN")])  # fmt: skip
def test_missing_values(value):
    sample = fitted(numeric=NUMBERS)({"price": value, "brand": value, "stock": 1})
    assert sample["known"].tolist() == [False, True]
    assert sample["numbers"][0] == 0.0
    assert sample["codes"].tolist() == [0]


@pytest.mark.parametrize("value", [0, 0.0, False, "0", "no", "nil", ".", "--"])
def test_values_that_are_there(value):
    assert not is_missing(value)


NUMBERS_WRITTEN = [("12", 12.0), (" -0.5 ", -0.5), ("+1.5e3", 1500.0), (".5", 0.5), ("5.", 5.0), ("1E-3", 1e-3),
                   (True, 1.0), (Decimal("2.5"), 2.5), (np.int16(-4), -4.0)]  # fmt: skip
NO_NUMBERS = ["abc", "1,000", "1 000", "1_000", "$5", "5 kg", "12%", "0x10", "١٢", "1e", "e5", "1.2.3", "inf", "-inf"]
INFINITE = [math.inf, -math.inf, np.float32("inf"), 1e31, "1e999", 10**400, Decimal("inf")]


@pytest.mark.parametrize(("text", "value"), NUMBERS_WRITTEN)
def test_numbers(text, value):
    assert number(text) == value


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_text_in_a_numeric_column(value):
    assert reason({"price": value}) == f"price: {value!r} is no number"


@pytest.mark.parametrize("value", INFINITE)
def test_infinite_number(value):
    assert reason({"price": value}).startswith("price: ")
    assert "finite" in reason({"price": value})


def test_a_whole_number_that_python_does_not_print():
    assert reason({"price": 10**5000}).startswith("price: a whole number of thousands of digits")
    assert fitted(numeric=NUMBERS)({"brand": 10**5000})["codes"].tolist() == [1]


@pytest.mark.parametrize("value", [[1], {"a": 1}, b"1", (1, 2), object, np.array([1.0]), np.datetime64("2020-01-01")])
def test_values_of_a_wrong_kind(value):
    assert reason({"price": value}).startswith("price: a number is needed")
    assert reason({"brand": value}).startswith("brand: text or a number is needed")


@pytest.mark.parametrize("cell", ["text", None, 3, [1, 2], b"x"])
def test_cells_that_are_no_record(cell):
    assert "record" in reason(cell)


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from(["price", "brand", "stock", "other"]),
        st.one_of(
            st.none(), st.text(max_size=8), st.floats(), st.integers(), st.booleans(), st.binary(max_size=3),
            st.decimals(), st.complex_numbers(), st.lists(st.integers(), max_size=2), st.sampled_from(sorted(MISSING)),
        ),
    ),
    st.sampled_from(["standard", "quantile", "none"]),
)  # fmt: skip
def test_arbitrary_values_are_read_or_refused(cell, scale):
    with contextlib.suppress(BadCell):
        sample = fitted(numeric=NUMBERS, scale=scale)(cell)
        assert np.isfinite(sample["numbers"]).all()
        assert not sample["numbers"][~sample["known"]].any()
        assert ((sample["codes"] >= 0) & (sample["codes"] < 5)).all()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.one_of(st.none(), st.text(max_size=4), st.floats(), st.integers(), st.booleans()), max_size=20))
def test_fitting_takes_any_values(values):
    """Whatever the column: what is guessed reads its own training values or refuses them; nothing overflows."""
    reader = fitted([{"x": v} for v in values])
    for value in values:
        with contextlib.suppress(BadCell):
            assert np.isfinite(reader({"x": value})["numbers"]).all()


# guessing


@pytest.mark.parametrize(
    ("values", "numeric"),
    [
        ([1.5, 2.0, 3.0], True),
        (["1.5", "2", None], True),
        (range(11), True),
        (range(10), False),
        ([0, 1] * 50, False),
        ([*range(95), *["abc"] * 5], True),
        ([*range(94), *["abc"] * 6], False),
        (["red", "blue"], False),
        ([f"0{n:04}" for n in range(50)], False),
        (["0.25", "0", "7"], True),
        ([True, False] * 20, False),
        ([None, "n/a"], False),
        ([], False),
    ],
)
def test_guessing(values, numeric):
    assert looks_numeric(v for v in values if not is_missing(v)) == numeric
    assert bool(fitted([{"x": v} for v in values]).field["numeric"]) == numeric


def test_what_is_named_is_not_guessed():
    cells = [{"zip": 10000 + n, "size": n % 3, "name": f"n{n}"} for n in range(40)]
    field = fitted(cells, categorical=["zip"], numeric=["size"]).field
    assert [c["column"] for c in field["numeric"]] == ["size"]
    assert [c["column"] for c in field["categorical"]] == ["zip", "name"]


@pytest.mark.parametrize("options", [{"numeric": ["prize"]}, {"categorical": ["prize"]}, {"log": ["prize"]}])
def test_a_setting_that_names_no_column(options):
    with pytest.raises(SpecError) as error:
        fitted(**options)
    assert error.value.where == next(iter(options))
    assert "'price'" in error.value.advice


def test_log_of_a_category():
    with pytest.raises(SpecError, match="not a column of numbers"):
        fitted(log=["brand"])


def test_a_column_of_both_kinds():
    with pytest.raises(SpecError, match="either"):
        TabularReader(numeric=["a", "b"], categorical=["b"])


def test_what_a_person_sees():
    shown = fitted(numeric=NUMBERS).show({"price": 9.5, "brand": None, "stock": "3", "other": 1})
    assert shown == {"kind": "table", "data": {"price": "9.5", "stock": "3", "brand": ""}}


@pytest.mark.data
def test_houses_are_read(real_data):
    """The statistics of a real table, against numpy on the file itself."""
    import csv

    with open(real_data / "houses" / "table.csv", newline="", encoding="utf-8") as file:
        rows = [{k: r[k] for k in ("bedrooms", "bathrooms", "area", "zipcode")} for r in csv.DictReader(file)]
    reader = fitted(rows, categorical=["zipcode"], min_count=3)
    area = np.array([float(r["area"]) for r in rows])
    stats = {c["column"]: c for c in reader.field["numeric"]}
    assert stats["area"]["mean"] == pytest.approx(area.mean())
    assert len(next(c for c in reader.field["categorical"] if c["column"] == "zipcode")["categories"]) == 49 - 26
