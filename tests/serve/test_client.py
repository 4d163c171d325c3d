"""The typed client: against the real application, against servers that are busy or broken, both clients alike."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import polymodal
from endtoend import Trained
from polymodal.client import Answer, AsyncClient, Client, Piece, Query, ServerError
from polymodal.client.asks import BYTES_AT_ONCE, LARGE, cell, lots, rows_ask
from polymodal.core.errors import UserError
from polymodal.serve.http import ServeSettings, make_app

KEY = "a-token-of-sixteen-letters"
Handler = Callable[[httpx.Request], httpx.Response]


class Served:
    """The application of a trained run, and clients of it."""

    def __init__(self, trained: Trained, http: TestClient, app: Any) -> None:
        self.trained, self.app = trained, app
        self.client = Client("http://testserver", KEY, http=http)

    def rows(self, count: int) -> list[dict[str, Any]]:
        """Rows whose files are paths."""
        found = [{n: v for n, v in row.items() if n != "label"} for row in self.trained.rows[:count]]
        return [{n: self.trained.folder / v if n in ("photo", "sound") else v for n, v in row.items()} for row in found]


@pytest.fixture(scope="module")
def served(trained: Trained) -> Iterator[Served]:
    settings = ServeSettings(keys=(KEY,), access_log="none", rows=16, threads=1)
    app = make_app(polymodal.load(trained.run), settings=settings)
    with TestClient(app) as http:
        yield Served(trained, http, app)


def test_answers_are_those_of_the_run(served: Served) -> None:
    answers = served.client.predict(served.rows(6))
    for at, (answer, known) in enumerate(zip(answers, served.trained.answers[:6], strict=True)):
        assert isinstance(answer, Answer)
        assert answer.row == at
        assert answer["label"] == known["label"]
        assert answer.confidence("label") == pytest.approx(known["label.confidence"], abs=1e-4)
        assert answer.error is None
        assert answer.id


def test_one_row_many_rows_and_reasons(served: Served) -> None:
    row = served.rows(1)[0]
    (one,) = served.client.predict(row, reason=True)
    assert set(one.reason["label"]["withheld"]) == {"photo", "title", "sound", "facts"}
    client = Client("http://testserver", KEY, http=served.client.http, at_once=5)
    many = client.predict([row] * 12)
    assert [a.row for a in many] == list(range(12))
    assert len({a.id for a in many}) == 3
    assert {a["label"] for a in many} == {one["label"]}


def test_files_as_paths_bytes_and_pictures_say_the_same(served: Served) -> None:
    row = served.rows(1)[0]
    path: Path = row["photo"]
    with Image.open(path) as picture:
        given = [path, path.read_bytes(), picture.copy()]
    answers = served.client.predict([{**row, "photo": one, "price": np.float32(row["price"])} for one in given])
    sure = [a.confidence("label") for a in answers]
    assert sure == pytest.approx([sure[0]] * 3, abs=1e-5)
    (text,) = served.client.predict({"title": "red mug", "price": float("nan")})
    assert text["label"] in ("yes", "no")


def test_a_large_file_goes_as_a_form(served: Served) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    row = {"photo": Image.fromarray(noise), "title": "red mug"}
    ask = rows_ask("/v1/predict", [row], {"reason": True})
    assert ask.files is not None
    assert len(ask.files["photo"][1]) >= LARGE
    (form,) = served.client.predict(row, reason=True)
    (plain,) = served.client.predict([row, row])[:1]
    assert form["label"] == plain["label"]
    assert form.confidence("label") == pytest.approx(plain.confidence("label"), abs=1e-5)
    assert form.reason


def test_about_and_ready_and_vectors(served: Served) -> None:
    about = served.client.about()
    assert about.name == "run"
    assert about.inputs["photo"].file
    assert about.inputs["facts"].columns == ["price", "brand"]
    assert about.tasks["label"].classes == ["no", "yes"]
    assert about.index is None
    assert served.client.ready()
    found = served.client.embed(served.rows(3))
    vectors = np.array(found.spaces["row"])
    run = polymodal.load(served.trained.run)
    known = run.embed(served.trained.folder / "rows.csv")["row"][:3]
    assert np.allclose(vectors, known, atol=1e-4)
    assert found.errors == [None, None, None]


def test_mistakes_are_told_as_they_are(served: Served) -> None:
    with pytest.raises(ServerError, match="unknown") as told:
        served.client.predict({"unknown": 1})
    assert told.value.status == 422
    assert told.value.id
    assert isinstance(told.value, UserError)
    with pytest.raises(ServerError) as refused:
        Client("http://testserver", "wrong", http=served.client.http).predict({"title": "mug"})
    assert refused.value.status == 401
    assert "Bearer" in refused.value.advice
    with pytest.raises(UserError, match="cannot be read"):
        served.client.predict({"photo": Path("nothing.png")})
    with pytest.raises(ServerError) as text:
        served.client.predict({"photo": "/etc/passwd"})
    assert text.value.status == 422


def test_the_last_piece_of_a_stream_is_the_answer(served: Served) -> None:
    row = served.rows(1)[0]
    (whole,) = served.client.predict(row)
    *pieces, last = served.client.stream(row)
    assert all(isinstance(piece, Piece) for piece in pieces)
    assert isinstance(last, Answer)
    assert last["label"] == whole["label"]
    with pytest.raises(ServerError) as told:
        list(served.client.stream({"unknown": 1}))
    assert told.value.status == 422


def test_the_other_client_says_the_same(served: Served) -> None:
    rows = served.rows(4)

    async def ask() -> tuple[Any, ...]:
        http = httpx.AsyncClient(transport=httpx.ASGITransport(served.app))
        async with AsyncClient("http://testserver", KEY, http=http) as client:
            streamed = [piece async for piece in client.stream(rows[0])]
            return await client.about(), await client.predict(rows), await client.embed(rows[:1]), streamed

    about, answers, vectors, streamed = asyncio.run(ask())
    assert about == served.client.about()
    plain = served.client.predict(rows)
    assert [a.values["label"] for a in answers] == [a.values["label"] for a in plain]
    assert list(vectors.spaces) == ["row"]
    assert streamed[-1]["label"] == plain[0]["label"]


def test_both_clients_have_the_same_methods() -> None:
    one, two = ({n: inspect.signature(getattr(c, n)).parameters for n in dir(c) if not n.startswith("_")}
                for c in (Client, AsyncClient))  # fmt: skip
    assert {n: list(p) for n, p in one.items()} == {n: list(p) for n, p in two.items()}


def answering(handler: Handler, **given: Any) -> tuple[Client, list[float]]:
    """A client of a server that is this function, and how long it paused."""
    client, pauses = Client("http://there", http=httpx.Client(transport=httpx.MockTransport(handler)), **given), []
    client._do = _counting(client._do, pauses)  # type: ignore[method-assign]
    return client, pauses


def _counting(do: Callable[[Any], Any], pauses: list[float]) -> Callable[[Any], Any]:
    def counted(step: Any) -> Any:
        if hasattr(step, "seconds"):
            pauses.append(step.seconds)
            return None
        return do(step)

    return counted


GOOD = {"id": "7", "rows": [{"row": 0, "label": "cat", "label.confidence": 0.9, "error": None}]}


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_as_it_says(status: int) -> None:
    calls: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        if len(calls) < 3:
            return httpx.Response(status, headers={"retry-after": "7"}, json={})
        return httpx.Response(200, json=GOOD)

    client, pauses = answering(handler)
    (answer,) = client.predict({"title": "a cat"})
    assert answer["label"] == "cat"
    assert len(pauses) == 2
    assert all(7 <= p <= 7 * 1.25 for p in pauses)
    assert calls[0].content == calls[2].content


def test_it_gives_up_after_some_tries_and_at_once_where_asking_again_is_no_use() -> None:
    busy = {"error": {"where": "queue", "problem": "too many", "given": None, "advice": "later"}, "id": "9"}
    client, pauses = answering(lambda _: httpx.Response(503, json=busy), tries=4)
    with pytest.raises(ServerError, match="queue: too many") as told:
        client.predict({"title": "a"})
    assert (told.value.status, told.value.id, told.value.advice) == (503, "9", "later")
    assert len(pauses) == 3
    assert pauses == sorted(pauses)  # ever longer where the server says nothing
    for status in (400, 404, 413, 422, 500):
        client, pauses = answering(lambda _, s=status: httpx.Response(s, text="<html>"))
        with pytest.raises(ServerError, match=f"answered {status}"):
            client.predict({"title": "a"})
        assert not pauses


def test_a_server_that_is_not_there_and_one_that_is_none_of_ours() -> None:
    def nothing(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    client, pauses = answering(nothing, tries=3)
    with pytest.raises(ServerError, match="cannot be reached: refused") as told:
        client.about()
    assert told.value.status == 0
    assert len(pauses) == 2
    with pytest.raises(ServerError, match="cannot be reached"):
        list(client.stream({"title": "a"}))
    assert not client.ready()
    other, _ = answering(lambda _: httpx.Response(200, text="hello"))
    with pytest.raises(ServerError, match="no polymodal server"):
        other.about()


def test_searching_sends_what_was_asked() -> None:
    sent: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/v1/preview"):
            return httpx.Response(200, content=request.url.raw_path)
        sent.append(json.loads(request.content))
        pictures = {"photo": "/v1/preview/a%2Fb/photo"}
        hits = [{"id": "a/b", "score": 0.5, "row": {"price": 3}, "pictures": pictures}]
        return httpx.Response(200, json={"id": "1", "hits": hits})

    client, _ = answering(handler)
    queries = [Query("text", "a dog"), Query("photo", b"picture", 0.5)]
    (hit,) = client.search(queries, k=3, where="price < 5", like=["x"])
    assert sent[0] == {
        "queries": [{"input": "text", "value": "a dog", "weight": 1.0},
                    {"input": "photo", "value": {"base64": "cGljdHVyZQ==", "name": "file"}, "weight": 0.5}],
        "k": 3, "offset": 0, "where": "price < 5", "like": ["x"],
    }  # fmt: skip
    assert (hit.id, hit.row, hit.pictures) == ("a/b", {"price": 3}, ["photo"])
    assert client.preview(hit.id, "photo") == b"/v1/preview/a%2Fb/photo"
    assert client.search(Query("text", "a"))


def test_rows_go_in_lots_of_bounded_size() -> None:
    big = {"photo": b"x" * (BYTES_AT_ONCE // 2 + 1)}
    assert [len(lot) for lot in lots([big] * 3 + [{"a": 1}] * 70)] == [1, 1, 64, 7]
    assert list(lots([])) == []


def test_what_cannot_be_sent_is_refused() -> None:
    assert cell((1, float("nan"), np.int64(3))) == [1, None, 3]
    assert cell({"x": np.array([1.5, np.nan])}) == {"x": [1.5, None]}
    with pytest.raises(UserError, match="cannot be sent"):
        cell(object())
    with pytest.raises(UserError, match="infinite"):
        cell(float("inf"))
