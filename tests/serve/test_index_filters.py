"""Filters: what is said is what is meant, every store agrees with the plain meaning, and nothing else can be said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from indexing import COLUMNS, make, row, unit

from polymodal.core.errors import UserError
from polymodal.serve.index import filters
from polymodal.serve.index.filters import All, Any_, Is, Not, parse, passes, sql
from polymodal.serve.index.index import Index

TEXTS = ["x", "Acme", "it's", "", "%", "狗", 'a"b', "'; drop table rows; --", "a\\b", "NULL", "e\u0301", "\U0001f436"]
PRICES = [None, 0.0, -1.5, 3.0, 49.99, 50.0, 1e300, 1e-300]
STOCKS = [None, 0, 1, -7, 50, 2**53 + 1, 2**61]


def rows() -> list[dict[str, Any]]:
    found = []
    for at in range(56):
        cells = {"price": PRICES[at % len(PRICES)], "stock": STOCKS[at % len(STOCKS)],
                 "brand": None if at % 9 == 0 else TEXTS[at % len(TEXTS)],
                 "sale": [None, True, False][at % 3], "tags": ["q"] if at % 2 else None}  # fmt: skip
        found.append(cells)
    return found


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    vectors = unit(56)
    return make(tmp_path_factory.mktemp("filters") / "index",
                [row(str(at), vectors[at], **cells) for at, cells in enumerate(rows())])  # fmt: skip


def wishes() -> st.SearchStrategy[filters.Filter]:
    values: dict[str, Any] = {"price": st.sampled_from([p for p in PRICES if p is not None]) | st.floats(-9, 60),
                              "stock": st.sampled_from([s for s in STOCKS if s is not None]) | st.integers(-9, 60),
                              "brand": st.sampled_from(TEXTS) | st.text(st.characters(codec="utf-8"), max_size=4),
                              "sale": st.booleans()}  # fmt: skip

    def of(column: str) -> st.SearchStrategy[filters.Filter]:
        signs = ["=", "!="] if column == "sale" else ["=", "!=", "<", "<=", ">", ">="]
        one = st.builds(lambda s, v: Is(column, s, (v,)), st.sampled_from(signs), values[column])
        many = st.builds(lambda v: Is(column, "in", tuple(v)), st.lists(values[column], min_size=1, max_size=3))
        return one | many | st.just(Is(column, "missing"))

    leaves = st.sampled_from(list(values)).flatmap(of) | st.just(Is("tags", "missing"))

    def joined(inner: st.SearchStrategy[filters.Filter]) -> st.SearchStrategy[filters.Filter]:
        several = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return st.builds(Not, inner) | st.builds(All, several) | st.builds(Any_, several)

    return st.recursive(leaves, joined, max_leaves=6)


def said(wanted: filters.Filter) -> str:
    """The filter as a person writes it."""
    if isinstance(wanted, Not):
        return f"not ({said(wanted.inner)})"
    if isinstance(wanted, All | Any_):
        return (" and " if isinstance(wanted, All) else " OR ").join(f"({said(p)})" for p in wanted.parts)
    values = [_value(v) for v in wanted.values]
    if wanted.sign == "missing":
        return f"{wanted.column} is missing"
    if wanted.sign == "in":
        return f'"{wanted.column}" in ({", ".join(values)})'
    return f"{wanted.column} {wanted.sign}{values[0]}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


@settings(max_examples=80, deadline=None)
@given(wanted=wishes())
def test_what_is_written_is_what_is_read(wanted: filters.Filter) -> None:
    assert parse(said(wanted), COLUMNS) == wanted


@settings(max_examples=40, deadline=None)
@given(wanted=wishes())
@example(wanted=Is("price", "=", (-0.0,)))
@example(wanted=Is("price", ">", (-0.0,)))
@example(wanted=All((Is("price", "<=", (0.0,)), Is("tags", "missing"))))
@example(wanted=Any_((Is("price", "<=", (0.0,)), Is("tags", "missing"))))
def test_the_store_agrees_with_the_plain_meaning(index: Index, wanted: filters.Filter) -> None:
    expected = {str(at) for at, cells in enumerate(rows()) if passes(wanted, cells)}
    held = index.place._snapshot()
    assert held.cards is not None
    from_disk = index.place._passing(held._replace(cards=None, passed={}), parse(said(wanted), COLUMNS))
    assert {str(at) for at in np.flatnonzero(from_disk)} == expected
    found = index.search(k=100, where=said(wanted))
    assert {hit.id for hit in found} == expected
    among = index.search(unit(1)[0], k=100, where=said(wanted))
    assert {hit.id for hit in among} == expected
    assert [h.score for h in among] == sorted((h.score for h in among), reverse=True)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("price < 50 and brand = 'x'", All((Is("price", "<", (50.0,)), Is("brand", "=", ("x",))))),
        ('brand = "x" or brand="it\'s"', Any_((Is("brand", "=", ("x",)), Is("brand", "=", ("it's",))))),
        ("not sale = true and stock is not missing", All((Not(Is("sale", "=", (True,))), Not(Is("stock", "missing"))))),
        ("`price` between -1 and .5e1", All((Is("price", ">=", (-1.0,)), Is("price", "<=", (5.0,))))),
        ("price = -0.0", Is("price", "=", (0.0,))),
        ("stock < 0.5", Is("stock", "<", (1,))),
        ("stock <= -0.5", Is("stock", "<=", (-1,))),
        ("stock between 0.5 and 1e30", All((Is("stock", ">=", (1,)), Is("stock", "<=", (2**63 - 1,))))),
        ("stock in (3.0, 4)", Is("stock", "in", (3, 4))),
        ("stock <> 3", Is("stock", "!=", (3,))),
        ("a or b and c", None),
    ],
)  # fmt: skip
def test_examples(text: str, meant: filters.Filter | None) -> None:
    if meant is None:
        columns = dict.fromkeys("abc", "boolean")
        found = parse("a = true or b = true and c = true", columns)
        a, b, c = (Is(n, "=", (True,)) for n in "abc")
        assert found == Any_((a, All((b, c))))
    else:
        assert parse(text, COLUMNS) == meant


def test_not_in_and_not_between_need_a_cell() -> None:
    for text in ("stock not in (1, 2)", "stock not between 1 and 2"):
        wanted = parse(text, COLUMNS)
        assert not passes(wanted, {"stock": None})
        assert passes(wanted, {"stock": 5})
        assert not passes(wanted, {"stock": 1})


@pytest.mark.parametrize(
    "text",
    [
        "", "price", "price <", "price < 'x'", "brand = 3", "brand < ", "sale < true", "price = true",
        "cost < 3", "and", "stock = 0.5", "stock in (1, 1.5)",
        "price < 5 price < 6", "(price < 5", "price < 5)", "price < 5;", "1 = 1", "price < (select 1)", "price = price",
        "_id = '1'", "c0 < 5", "brand = 'x' -- y", "brand like '%x%'", "true", "price < 5 union select 1",
        "price in ()",
        "tags = 'q'", "price < 1e999", "brand = 'x", "price between 1", "price is 5", "price < 5 and", "x" * 20_000,
        "not " * 60 + "sale = true", "(" * 60 + "sale = true" + ")" * 60, "stock in (" + "1," * 1001 + "1)",
        "brand = char(39)", "price < 5 /* x */", "brand = x",
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_the_users_mistake(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text, COLUMNS)
    assert len(str(caught.value)) < 2000


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=40) | st.text(alphabet="price<=>'\"()and or not5.,`", max_size=30))
def test_any_text_is_a_filter_or_a_mistake(text: str) -> None:
    try:
        found = parse(text, COLUMNS)
    except UserError:
        return
    assert isinstance(passes(found, {}), bool)
    assert sql(found, {n: f"c{at}" for at, n in enumerate(COLUMNS)})


def test_nothing_in_quotes_leaves_them(index: Index) -> None:
    before = len(index)
    for text in TEXTS:
        found = index.search(k=100, where=f"brand = {_value(text)}")
        assert {hit.row["brand"] for hit in found} <= {text}
        assert found
    assert len(index) == before
