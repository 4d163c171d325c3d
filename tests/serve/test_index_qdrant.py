"""An index in Qdrant answers as one in a folder does; against Qdrant's own client in this process."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from indexing import Row, about, as_rows, row, unit
from test_index_filters import rows, said, wishes

from polymodal.core.errors import RunError, UserError
from polymodal.serve.index import filters
from polymodal.serve.index.filters import passes
from polymodal.serve.index.index import Index, open_index, writing
from polymodal.serve.index.qdrant import QdrantPlace

qdrant = pytest.importorskip("qdrant_client")


@pytest.fixture(scope="module")
def client() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield qdrant.QdrantClient(":memory:")


def make(client: Any, name: str, listed: list[Row]) -> Index:
    index = Index(QdrantPlace.create(client, name, about()))
    writing(index.place, lambda place: place.put(as_rows(listed), fresh=True))
    return index


def close(index: Index, model: dict[str, Row]) -> None:
    ids = list(index.place.ids())
    assert sorted(ids) == sorted(model)
    np.testing.assert_allclose(index.vectors(ids, "a"), [model[i]["vector"] for i in ids], atol=1e-6)
    assert index.rows(ids) == [model[i]["cells"] for i in ids]
    assert [index.preview(i, "photo") for i in ids] == [model[i]["picture"] for i in ids]
    assert len(index) == len(model)


def test_rows_are_added_replaced_and_taken_out(client: Any) -> None:
    vectors = unit(300)
    model = {str(n): row(str(n), vectors[n], b=n > 3, price=float(n), stock=n, tags=[1, {"x": None}], picture=b"jpg")
             for n in range(300)}  # fmt: skip
    index = make(client, "many", list(model.values()))
    close(index, model)
    known = index.place.known()
    new = {str(n): row(str(n), unit(1, seed=n)[0], brand="new") for n in range(295, 305)}
    writing(index.place, lambda place: place.put(as_rows(list(new.values())), fresh=False))
    close(Index(QdrantPlace(client, "many")), model | new)
    assert len(known) == 300
    assert index.delete(["1", "2", "none", "1"]) == 2
    assert index.has(["1", "3"]) == [False, True]
    with pytest.raises(UserError, match="no row"):
        index.vectors(["1"])


def test_it_finds_what_an_index_in_a_folder_finds(client: Any) -> None:
    vectors, query = unit(40), unit(1, seed=9)[0]
    index = make(client, "found", [row(str(n), vectors[n], b=n > 3, brand=f"word{n % 5} mug") for n in range(40)])
    order = [str(n) for n in np.argsort(-vectors @ query)]
    found = index.search(query * 3, k=40)
    assert [h.id for h in found] == order
    np.testing.assert_allclose([h.score for h in found], np.sort(vectors @ query)[::-1], atol=1e-5)
    assert [h.id for h in index.search(query, k=5, offset=4, exact=True, without=order[:1])] == order[5:10]
    assert [h.id for h in index.search(query, k=40, space="b")] == [n for n in order[::-1] if int(n) > 3]
    assert {h.id for h in index.search(words="word3", k=20)} == {str(n) for n in range(3, 40, 5)}
    some = index.search(words="mug", where="brand = 'word1 mug'", k=40)
    assert {h.id for h in some} == {str(n) for n in range(1, 40, 5)}
    both = index.search(query, words="word2", k=3)
    worded = [h.id for h in index.search(words="word2", k=40)]
    places = order.index(both[0].id), worded.index(both[0].id)
    assert both[0].score == pytest.approx(sum(1 / (61 + place) for place in places))
    assert index.search(words="nowhere") == []


@settings(max_examples=40, deadline=None)
@given(wanted=wishes())
def test_filters_mean_the_same(client: Any, wanted: filters.Filter) -> None:
    if not client.collection_exists("filters"):
        vectors = unit(56)
        make(client, "filters", [row(str(n), vectors[n], **cells) for n, cells in enumerate(rows())])
    index = Index(QdrantPlace(client, "filters"))
    expected = {str(n) for n, cells in enumerate(rows()) if passes(wanted, cells)}
    if ordered(wanted):
        with pytest.raises(UserError, match="by order"):
            index.search(k=100, where=said(wanted))
    else:
        assert {h.id for h in index.search(k=100, where=said(wanted))} == expected


def ordered(wanted: filters.Filter) -> bool:
    """Whether texts, or whole numbers that floats do not hold, are compared by order, which Qdrant cannot."""
    if isinstance(wanted, filters.Is):
        beyond = wanted.column == "stock" and any(abs(value) >= 2**53 for value in wanted.values)
        return (wanted.column == "brand" or beyond) and wanted.sign in ("<", "<=", ">", ">=")
    return any(map(ordered, [wanted.inner] if isinstance(wanted, filters.Not) else wanted.parts))


def test_what_is_not_there_is_told(client: Any) -> None:
    with pytest.raises(RunError, match="no such index"):
        QdrantPlace(client, "nothing")
    for address in ("qdrant://", "qdrant://host:x/name", "qdrant://host/na me", "qdrant://host:6333/a/b"):
        with pytest.raises(UserError, match="no address"):
            open_index(address)
    with pytest.raises(UserError, match="cannot be asked"):
        open_index("qdrant://127.0.0.1:9/name")
