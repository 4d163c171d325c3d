"""Search over HTTP: what it finds is what the index finds, with pictures; mistakes are told."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image
from starlette.testclient import TestClient

import polymodal
from endtoend import INPUTS, TRAIN, Trained, make_rows, write_table
from polymodal.core.errors import RunError
from polymodal.serve.http import ServeSettings, make_app
from polymodal.serve.index import Query, Searcher

SPEC = {"inputs": {n: INPUTS[n] for n in ("photo", "title")}, "train": {**TRAIN, "epochs": 1},
        "tasks": {"find": {"type": "retrieve", "column": "title", "dim": 8}}}  # fmt: skip


class Shop:
    """A run with one space, an index of its rows, and a client of both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rows = make_rows(folder, 16)
        self.rows = [{"name": f"n/{at}", **{k: v for k, v in r.items() if k != "sound"}} for at, r in enumerate(rows)]
        table = write_table(folder / "rows.csv", self.rows)
        self.run = polymodal.train(table, spec=SPEC, out=folder / "shop", quiet=True)
        self.run.index(table, out=folder / "index", key="name")
        self.index = polymodal.open_index(folder / "index")
        self.app = make_app(self.run, index=self.index, settings=ServeSettings(access_log="none"))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def client(shop: Shop) -> Iterator[TestClient]:
    with TestClient(shop.app) as found:
        yield found


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


def test_it_finds_what_the_index_finds(client: TestClient, shop: Shop) -> None:
    photo = (shop.folder / shop.rows[3]["photo"]).read_bytes()
    queries = [{"input": "title", "value": "sharp mug", "weight": 0.5},
               {"input": "photo", "value": {"base64": base64.b64encode(photo).decode()}}]  # fmt: skip
    body = {"queries": queries, "k": 5, "where": "price > 20", "unlike": ["n/4"], "offset": 1}
    answer = client.post("/v1/search", json=body)
    asked = [Query("title", "sharp mug", 0.5), Query("photo", photo)]
    expected = Searcher(shop.run, shop.index).search(asked, k=5, where="price > 20", unlike=["n/4"], offset=1)
    assert ids(answer) == [hit.id for hit in expected]
    hits = answer.json()["hits"]
    assert [h["score"] for h in hits] == pytest.approx([e.score for e in expected], abs=1e-5)
    assert hits[0]["row"]["price"] > 20
    assert "n/4" not in ids(answer)


def test_what_is_compared_can_be_chosen(client: TestClient, shop: Shop) -> None:
    body: dict[str, Any] = {"queries": [{"input": "title", "value": "小狗在沙滩上"}], "k": 16}

    def asked(**more: Any) -> list[str]:
        return ids(client.post("/v1/search", json={**body, **more}))

    assert asked(space="title", exact=True)[0] == next(h.id for h in shop.index.search(
        shop.run.embedder.query({"title": "小狗在沙滩上"})["title"][0], k=1, space="title"))  # fmt: skip
    assert asked(space="title") != asked()
    assert asked(space=shop.index.spaces[0]) == asked()


def test_a_form_asks_with_files_and_texts(client: TestClient, shop: Shop) -> None:
    photo = (shop.folder / shop.rows[3]["photo"]).read_bytes()
    form = client.post("/v1/search", files={"photo": ("a.png", photo), "options": (None, '{"k": 3}')})
    packed = {"input": "photo", "value": {"base64": base64.b64encode(photo).decode()}}
    assert ids(form) == ids(client.post("/v1/search", json={"queries": [packed], "k": 3}))
    assert ids(form)[0] == "n/3"
    text = client.post("/v1/search", files={"title": (None, "sharp mug")})
    assert ids(text) == ids(client.post("/v1/search", json={"queries": [{"input": "title", "value": "sharp mug"}]}))


def test_pictures_of_hits(client: TestClient, shop: Shop) -> None:
    hit = client.post("/v1/search", json={"like": ["n/5"], "k": 1}).json()["hits"][0]
    assert hit["id"] != "n/5"
    assert hit["pictures"] == {"photo": f"/v1/preview/{quote(hit['id'], safe='')}/photo"}
    answer = client.get(hit["pictures"]["photo"])
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (20, 20)
    for path in ("/v1/preview/none/photo", "/v1/preview/n%2F5/title", "/v1/preview/n%2F5/..%2F..%2Fetc"):
        assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "body",
    [{"queries": [{"input": "photo", "value": "/etc/passwd"}]},
     {"queries": [{"input": "title", "value": {"base64": ""}}]},
     {"queries": [{"input": "nope", "value": "x"}]}, {"like": ["n/99"]}, {"where": "price <"}, {"where": "nope = 1"},
     {"k": 0}, {"k": 100_000}, {"more": 1}, {"space": "nope"},
     {"queries": [{"input": "photo", "value": {"base64": "AAAA"}}]},
     {"queries": [{"input": "title", "value": "x", "weight": 0}]}],
    ids=str,
)  # fmt: skip
def test_mistakes_are_said(client: TestClient, body: Any) -> None:
    answer = client.post("/v1/search", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["problem"]


def test_the_index_is_told(client: TestClient, shop: Shop) -> None:
    told = client.get("/v1/run").json()
    assert told["index"]["rows"] == 16
    assert told["index"]["pictures"] == ["photo"]
    assert {"name": "price", "type": "number"} in told["index"]["columns"]
    assert told["space"] == {"task": "find", "names": ["photo", "title"]}
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/search", "/v1/preview/{id}/{column}"} <= paths.keys()
    assert {p["name"] for p in paths["/v1/preview/{id}/{column}"]["get"]["parameters"]} == {"id", "column"}


def test_texts_are_embedded_as_the_index_does(client: TestClient, shop: Shop) -> None:
    answer = client.post("/v1/embeddings", json={"model": "shop", "input": "sharp mug"}).json()
    expected = shop.run.embedder.query({"title": "sharp mug"})["title"][0]
    assert answer["data"][0]["embedding"] == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_run_that_only_retrieves_answers_too(client: TestClient, shop: Shop) -> None:
    (line,) = client.post("/v1/predict", json={"rows": [{"title": "sharp mug"}]}).json()["rows"]
    expected = shop.run.predict([{"title": "sharp mug", "photo": None}])
    assert isinstance(expected, list)
    assert line == expected[0]
    assert client.post("/v1/predict", json={"rows": [{"title": "mug"}], "reason": True}).status_code == 200
    vectors = client.post("/v1/embed", json={"rows": [{"title": "sharp mug"}]}).json()["vectors"]
    assert vectors["photo"] == [[]]
    assert vectors["title"][0][0] == pytest.approx(
        shop.run.embedder.query({"title": "sharp mug"})["title"][0].tolist(), abs=1e-5
    )


def test_an_index_of_another_run_is_refused(shop: Shop, trained: Trained) -> None:
    with pytest.raises(RunError, match="not the run"):
        make_app(polymodal.load(trained.run), index=shop.index)
