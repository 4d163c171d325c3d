"""The API over a trained run: what it answers is what `predict` says, and what it refuses it says why."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

import polymodal
from endtoend import Trained, huge_png, same_answer
from polymodal.core.errors import UserError
from polymodal.data import cells
from polymodal.serve.http import ServeSettings, bodies, columns, make_app
from polymodal.serve.http.problems import Problem
from polymodal.serve.http.settings import TOKENS, read_keys

KEY = "a-token-of-twenty-letters"
Row = dict[str, Any]


@pytest.fixture(scope="module")
def run(trained: Trained) -> polymodal.Run:
    return polymodal.load(trained.run)


@pytest.fixture(scope="module")
def client(run: polymodal.Run) -> Iterator[TestClient]:
    with TestClient(make_app(run, settings=ServeSettings(access_log="none"))) as found:
        yield found


@pytest.fixture
def serving(run: polymodal.Run) -> Iterator[Callable[..., TestClient]]:
    """A client of an application with settings of its own."""
    opened = []

    def serve(**settings: Any) -> TestClient:
        found = TestClient(make_app(run, settings=ServeSettings(**{"access_log": "none", **settings})))
        opened.append(found.__enter__())
        return found

    yield serve
    for one in opened:
        one.__exit__(None, None, None)


def sent(trained: Trained, row: Row) -> Row:
    """A row of the table as a client sends it."""
    kept = {k: v for k, v in row.items() if k != "label"}
    return kept | {c: packed((trained.folder / row[c]).read_bytes()) for c in ("photo", "sound")}


def packed(content: bytes) -> Row:
    return {"base64": base64.b64encode(content).decode()}


def wrong(answer: Any, status: int) -> Row:
    """The error of an answer, which must have every part."""
    assert answer.status_code == status, answer.text
    found = answer.json()
    assert found["id"] == answer.headers["x-request-id"]
    assert {"where", "problem", "given", "advice"} <= found["error"].keys()
    return found["error"]


def test_it_says_what_predict_says(client: TestClient, trained: Trained) -> None:
    rows = [sent(trained, row) for row in trained.rows]
    answer = client.post("/v1/predict", json={"rows": rows})
    assert answer.status_code == 200
    found = answer.json()["rows"]
    assert [line["row"] for line in found] == list(range(40))
    assert all(same_answer(a, b) for a, b in zip(found, trained.answers, strict=True))
    alone = client.post("/v1/predict", json={"rows": rows[7:8]}).json()["rows"][0]
    assert same_answer(alone, trained.answers[7])


def test_a_hundred_at_once_get_their_own_answers(run: polymodal.Run, trained: Trained) -> None:
    app = make_app(run, settings=ServeSettings(access_log="none", batch=16))

    async def ask(client: httpx.AsyncClient, at: int) -> bool:
        answer = await client.post("/v1/predict", json={"rows": [sent(trained, trained.rows[at % 40])]})
        (line,) = answer.json()["rows"]
        return same_answer(line, trained.answers[at % 40])

    async def main() -> list[bool]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            found = await asyncio.gather(*(ask(client, at) for at in range(100)))
        await app.state.service.close()
        return found

    assert all(asyncio.run(main()))
    meters = app.state.service.meters.text().decode()
    batches = float(meters.split("polymodal_batch_rows_count ")[1].split()[0])
    assert batches < 60  # rows of several requests went together
    assert 'polymodal_requests_total{method="POST",path="/v1/predict",status="200"} 100.0' in meters
    assert 'polymodal_rows_total{path="/v1/predict"} 100.0' in meters


def test_a_form_is_a_row(client: TestClient, trained: Trained) -> None:
    row = trained.rows[3]
    files = {c: (row[c], (trained.folder / row[c]).read_bytes()) for c in ("photo", "sound")}
    texts = {c: str(row[c]) for c in ("title", "price", "brand")}
    answer = client.post("/v1/predict", data=texts | {"options": '{"reason": true}'}, files=files)
    (line,) = answer.json()["rows"]
    assert same_answer(line, trained.answers[3])
    withheld = line["reason"]["label"]["withheld"]
    assert withheld.keys() == {"photo", "title", "sound", "facts"}
    parts = [(name, (None, text)) for name, text in texts.items()]  # no files: still a form of parts
    empty = client.post("/v1/predict", files=[*parts, ("photo", (None, "")), ("sound", (None, ""))]).json()["rows"][0]
    missing = client.post("/v1/predict", json={"rows": [{k: row[k] for k in texts}]}).json()["rows"][0]
    assert same_answer(empty, missing)
    for name, part, where in (("photo", (None, "a.png"), "photo"), ("title", ("a", b"b"), "title"),
                              ("nope", (None, "1"), "rows.0.nope"), ("options", (None, "["), "options"),
                              ("brand", (None, "Bolt"), "brand")):  # fmt: skip
        found = client.post("/v1/predict", files=[*parts, (name, part)])
        assert wrong(found, 400 if where == "options" else 422)["where"] == where
    assert wrong(client.post("/v1/predict", content=b"x", headers={"content-type": "multipart/form-data"}), 400)
    assert wrong(client.post("/v1/predict", data={"title": "mug"}), 415)


def test_a_bad_row_has_its_reason_and_the_others_their_answers(client: TestClient, trained: Trained) -> None:
    rows = [sent(trained, row) for row in trained.rows[:4]]
    rows[1]["photo"] = packed(b"no picture")
    rows[2]["price"] = "dear"
    lines = client.post("/v1/predict", json={"rows": rows}).json()["rows"]
    assert [line["error"] for line in lines] == [
        None, "photo: not a picture of a known format", "price, brand: price: 'dear' is no number", None]  # fmt: skip
    assert lines[1]["label"] is lines[2]["label"] is None
    assert same_answer(lines[0], trained.answers[0])
    assert same_answer(lines[3], trained.answers[3])


NAMES = ["/etc/passwd", "../../etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/a.png", "photo-0-0.png",
         {"path": "/etc/passwd"}, {"bytes": None, "path": "/etc/passwd"}, ["/etc/passwd"], 3, True]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_nothing_that_a_client_names_is_opened(
    client: TestClient, name: Any, monkeypatch: pytest.MonkeyPatch, trained: Trained
) -> None:
    def opened(*given: Any) -> bytes:
        raise AssertionError(f"{given} was opened")

    for opener in ("open_file", "open_folder", "is_folder"):
        monkeypatch.setattr(f"polymodal.data.raw.{opener}", opened)
        monkeypatch.setattr(cells, opener, opened)
    monkeypatch.chdir(trained.folder)
    for path in ("/v1/predict", "/v1/embed", "/v1/stream"):
        error = wrong(client.post(path, json={"rows": [{"photo": name}]}), 422)
        assert error["where"].startswith("rows.0.photo")
    text = client.post("/v1/predict", json={"rows": [{"title": str(name)}]})
    assert text.json()["rows"][0]["error"] is None  # as a text it is a text


def test_what_is_wrong_is_said(client: TestClient) -> None:
    def error(body: Any, status: int = 422, **more: Any) -> Row:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return wrong(client.post("/v1/predict", content=content, **more), status)

    assert error({"rows": [{"nope": 1}]})["where"] == "rows.0.nope"
    assert "photo" in error({"rows": [{"nope": 1}]})["advice"]
    assert error({"rows": [{"price": {"a": 1}}]})["problem"] == "must be a number, a text, true or false"
    assert error({"rows": []})["where"] == "rows"
    assert error({"rows": [{}] * 257})["where"] == "rows"
    assert error({"rows": [{"title": "x" * 100_001}]})["where"] == "rows.0.title"
    assert error({"rows": [{}], "sets": 1.5})["where"] == "sets"
    assert error({"rows": [{}], "respond": {"beams": 3}})["where"] == "respond"  # no task says sentences
    assert error({"rows": [{"photo": {"base64": "?"}}]})["where"] == "rows.0.photo.base64"
    for broken in (b"", b"{", b"[" * 100_000, b'{"rows": [{"title": "\\ud800"}]}', b"\xff"):
        assert error(broken, 400)["where"] == "body"
    for number in ("NaN", "Infinity", "1e999", "1" * 5000):
        found = client.post("/v1/predict", content=f'{{"rows": [{{"price": {number}}}]}}'.encode())
        assert found.status_code in (400, 422), number
    (line,) = client.post("/v1/predict", json={"rows": [{"price": 10**40}]}).json()["rows"]
    assert line["error"].startswith("price, brand: price: 1e+40 is not finite")


def test_other_types_methods_and_paths(client: TestClient) -> None:
    assert wrong(client.post("/v1/predict", content=b"a=b", headers={"content-type": "text/csv"}), 415)
    assert wrong(client.post("/v1/predict", content=b"{}", headers={"content-encoding": "gzip"}), 415)
    assert wrong(client.get("/v1/predict"), 405)
    assert wrong(client.get("/v1/nothing"), 404)
    assert wrong(client.post("/v1/search", json={}), 404)  # no index


def test_sizes_are_limited(serving: Callable[..., TestClient], trained: Trained) -> None:
    client = serving(body_mb=0.05, pixels=300, seconds=0.05, rows=2, text=20)
    whole = json.dumps({"rows": [{"title": "x" * 60_000}]}).encode()
    assert wrong(client.post("/v1/predict", content=whole), 413)
    assert wrong(client.post("/v1/predict", content=iter([whole[:40_000], whole[40_000:]])), 413)  # no length was told
    assert wrong(client.post("/v1/predict", json={"rows": [{}] * 3}), 422)["where"] == "rows"
    row = sent(trained, trained.rows[0])
    photo, sound, huge = client.post("/v1/predict", json={"rows": [{"photo": row["photo"]}]}), client.post(
        "/v1/predict", json={"rows": [{"sound": row["sound"]}]}), client.post(
        "/v1/predict", json={"rows": [{"photo": packed(huge_png(3000))}]})  # fmt: skip
    assert photo.json()["rows"][0]["error"] == "photo: 20 x 20 pixels, more than max_pixels 300"
    assert sound.json()["rows"][0]["error"] == "sound: 0.1 seconds, more than 0.1"
    assert huge.json()["rows"][0]["error"] == "photo: 3000 x 3000 pixels, more than max_pixels 300"
    assert client.app.state.service.run.assembly is not polymodal.load(trained.run).assembly  # type: ignore[attr-defined]


def test_the_run_itself_keeps_its_limits(run: polymodal.Run, serving: Callable[..., TestClient]) -> None:
    before = run.assembly.readers["photo"].max_pixels  # type: ignore[attr-defined]
    serving(pixels=300)
    assert run.assembly.readers["photo"].max_pixels == before  # type: ignore[attr-defined]


def test_tokens(serving: Callable[..., TestClient]) -> None:
    client = serving(keys=("another-token-of-letters", KEY))
    assert client.get("/health").status_code == 200
    assert client.get("/ready").status_code in (200, 503)
    for given in (None, "", "Bearer", f"Bearer {KEY[:-1]}", f"Bearer {KEY}x", f"Basic {KEY}", KEY, "Bearer \u00e9"):
        headers = {} if given is None else {"authorization": given.encode()}
        for path in ("/v1/run", "/metrics", "/openapi.json", "/v1/predict"):
            answer = client.get(path, headers=headers)  # type: ignore[arg-type]
            assert wrong(answer, 401)["where"] == "authorization"
            assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/v1/run", headers={"authorization": f"bearer {KEY}"}).status_code == 200


def test_tokens_are_read_from_a_file_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKENS, raising=False)
    assert read_keys(None) == ()
    (tmp_path / "keys").write_text(f"# for the shop\n{KEY}\n\n", encoding="utf-8")
    assert read_keys(str(tmp_path / "keys")) == (KEY,)
    monkeypatch.setenv(TOKENS, "one-of-the-environment two")
    assert read_keys(None) == ("one-of-the-environment", "two")
    (tmp_path / "none").write_text("# nothing\n", encoding="utf-8")
    for path in ("none", "nowhere"):
        with pytest.raises(UserError, match="--token-file"):
            read_keys(str(tmp_path / path))
    with pytest.raises(UserError, match="fewer than 16"):
        ServeSettings(keys=("short",)).check()
    with pytest.raises(UserError, match="--batch: is out of range"):
        ServeSettings(batch=0).check()


def test_rates(serving: Callable[..., TestClient]) -> None:
    client = serving(rate=0.5, burst=3)
    assert [client.get("/v1/run").status_code for _ in range(3)] == [200] * 3
    answer = client.get("/v1/run")
    assert wrong(answer, 429)["where"] == "rate"
    assert 1 <= int(answer.headers["retry-after"]) <= 2
    assert client.get("/health").status_code == 200  # whoever watches is not counted


def test_a_full_queue_and_a_late_answer_are_503(serving: Callable[..., TestClient], trained: Trained) -> None:
    client = serving(timeout=0.001)
    answer = client.post("/v1/predict", json={"rows": [sent(trained, trained.rows[0])]})
    assert wrong(answer, 503)["where"] == "queue"
    assert int(answer.headers["retry-after"]) >= 1


def test_request_ids_and_safe_headers(client: TestClient) -> None:
    assert client.get("/health", headers={"x-request-id": "Abc-1.2:3_x"}).headers["x-request-id"] == "Abc-1.2:3_x"
    ids = set()
    for strange in ("a b", "x" * 65, "<script>", 'a"b', ""):
        ids.add(client.get("/health", headers={"x-request-id": strange}).headers["x-request-id"])
    assert len(ids) == 5
    assert not ids & {"a b", "<script>"}
    for path in ("/health", "/v1/nothing", "/v1/run"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "access-control-allow-origin" not in client.get(path, headers={"origin": "http://evil"}).headers


def test_pages_of_other_hosts_only_when_told(serving: Callable[..., TestClient]) -> None:
    client = serving(origins=("https://shop.example",))
    for origin, allowed in (("https://shop.example", "https://shop.example"), ("https://evil.example", None)):
        headers = {"origin": origin, "access-control-request-method": "POST"}
        assert client.options("/v1/predict", headers=headers).headers.get("access-control-allow-origin") == allowed
        assert client.get("/v1/run", headers={"origin": origin}).headers.get("access-control-allow-origin") == allowed


def test_ready_only_between_warming_up_and_leaving(run: polymodal.Run) -> None:
    app = make_app(run, settings=ServeSettings(access_log="none"))
    service = app.state.service
    cold = TestClient(app)  # without its lifespan
    assert "warming up" in wrong(cold.get("/ready"), 503)["problem"]
    assert cold.get("/health").status_code == 200
    with TestClient(app) as client:
        for _ in range(1000):
            if client.get("/ready").status_code == 200:
                break
        assert client.get("/ready").json() == {"status": "ready"}
        service.draining = True
        assert "draining" in wrong(client.get("/ready"), 503)["problem"]
        assert (
            client.post("/v1/predict", json={"rows": [{"title": "mug"}]}).status_code == 200
        )  # what comes is answered


def test_the_run_is_told(client: TestClient) -> None:
    told = client.get("/v1/run").json()
    assert told["name"] == "run"
    assert told["inputs"]["photo"] == {"type": "image", "columns": ["photo"], "file": True, "label": "photo"}
    assert told["inputs"]["facts"]["columns"] == ["price", "brand"]
    assert told["tasks"]["label"] == {"type": "classify", "speaks": False, "says": ["label", "label.confidence"],
                                      "classes": ["no", "yes"], "confidence": True}  # fmt: skip
    assert told["index"] is None
    assert told["space"]["names"] == ["row"]


def test_vectors_are_those_of_embed(client: TestClient, run: polymodal.Run, trained: Trained) -> None:
    rows = [sent(trained, row) for row in trained.rows[:3]]
    found = client.post("/v1/embed", json={"rows": [*rows, {}]}).json()
    table = trained.folder / "rows.csv"
    expected = run.embed(table)["row"][:3, 0]
    assert found["errors"] == [None] * 4
    for vectors, wanted in zip(found["vectors"]["row"][:3], expected, strict=True):
        assert max(abs(a - b) for a, b in zip(vectors[0], wanted.tolist(), strict=True)) < 1e-5
    assert found["vectors"]["row"][3] == []  # it holds nothing


def test_sets_are_those_of_predict(client: TestClient, run: polymodal.Run, trained: Trained) -> None:
    rows = [sent(trained, row) for row in trained.rows]
    lines = client.post("/v1/predict", json={"rows": rows, "sets": 0.8}).json()["rows"]
    expected = run.predict(trained.folder / "rows.csv", sets=0.8)
    assert isinstance(expected, list)
    assert [line["label.set"] for line in lines] == [line["label.set"] for line in expected]
    kept = client.post("/v1/predict", json={"rows": rows, "abstain": 0.999}).json()["rows"]
    assert any(line["label"] is None and "unsure" in line["error"] for line in kept)


def test_openapi_tells_the_columns_and_every_reference_leads_somewhere(client: TestClient) -> None:
    plain = client.get("/openapi.json").json()
    schemas = plain["components"]["schemas"]

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield from [value] if key == "$ref" and isinstance(value, str) else walk(value)
        elif isinstance(node, list):
            for one in node:
                yield from walk(one)

    found = set(walk(plain))
    assert found
    assert {ref.removeprefix("#/components/schemas/") for ref in found} <= schemas.keys()
    assert schemas["Row"]["properties"].keys() == {"photo", "title", "sound", "price", "brand"}
    assert schemas["Row"]["additionalProperties"] is False
    assert "respond" not in schemas["Predict"]["properties"]
    assert {"label", "label.confidence", "error"} <= schemas["Answer"]["properties"].keys()
    predict = plain["paths"]["/v1/predict"]["post"]
    assert predict["requestBody"]["content"].keys() == {"application/json", "multipart/form-data"}
    assert {"200", "400", "408", "413", "415", "422", "503"} == predict["responses"].keys()
    assert "/v1/search" not in plain["paths"]
    parts = predict["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert parts["photo"] == {"type": "string", "contentMediaType": "application/octet-stream"}


def test_what_was_refused_is_not_kept(run: polymodal.Run) -> None:
    """Not even until the next round of the garbage collector: errors hold frames, and frames what was sent."""
    app = make_app(run, settings=ServeSettings(access_log="none"))
    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "raw_path": b"/v1/predict", "query_string": b"",
             "headers": [(b"content-type", b"application/json")], "client": ("x", 1), "server": ("x", 1),
             "scheme": "http", "http_version": "1.1", "root_path": ""}  # fmt: skip

    async def ask() -> int:
        said: list[Any] = []
        body = [json.dumps({"rows": [{"title": "x" * 1_000_000}]}).encode()]

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body.pop()}

        async def send(message: Any) -> None:
            said.append(message)

        await app(dict(scope), receive, send)
        return int(said[0]["status"])

    async def many() -> int:
        assert await ask() == 422
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            assert [await ask() for _ in range(5)] == [422] * 5
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
            gc.enable()

    assert asyncio.run(many()) < 500_000


def test_a_search_is_shown_with_an_input_that_the_run_has(run: polymodal.Run) -> None:
    slots = columns.slots(run.assembly)
    query = bodies.searching(ServeSettings(), slots).model_json_schema()["$defs"]["Query"]["properties"]
    assert query["input"]["examples"] == ["title"]
    assert isinstance(query["value"]["examples"][0], str)


def test_an_integer_may_have_a_point_as_json_schema_has_it(run: polymodal.Run) -> None:
    model = bodies.searching(ServeSettings(), columns.slots(run.assembly))
    assert bodies.read(model, b'{"k": 3.0, "offset": 0.0}', {}).k == 3
    for wrong in (b'{"k": 3.5}', b'{"k": "3"}', b'{"k": true}', b'{"k": 1e400}'):
        with pytest.raises(Problem):
            bodies.read(model, wrong, {})


def test_requests_are_written_down(run: polymodal.Run, tmp_path: Path) -> None:
    told: list[Row] = []
    app = make_app(run, settings=ServeSettings(), told=told.append)
    with TestClient(app) as client:
        client.post("/v1/predict", json={"rows": [{"title": "mug"}, {"photo": packed(b"x")}]})
        client.get("/v1/nothing")
        client.post("/v1/predict", content=b"{")
    assert [(line["path"], line["status"], line.get("rows"), line.get("errors")) for line in told] == [
        ("/v1/predict", 200, 2, 1), ("/v1/nothing", 404, None, None), ("/v1/predict", 400, None, None)]  # fmt: skip
    assert all(line["id"] and line["ms"] >= 0 and line["time"].endswith("Z") for line in told)
    assert "invalid JSON" in told[2]["problem"]
    app = make_app(run, settings=ServeSettings(access_log=str(tmp_path / "access.jsonl")))
    with TestClient(app) as client:
        client.get("/health", headers={"x-request-id": "mine"})
    (line,) = (tmp_path / "access.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["id"] == "mine"


def test_our_own_fault_is_500_and_tells_nothing(run: polymodal.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(run, settings=ServeSettings(access_log="none"))
    with TestClient(app, raise_server_exceptions=False) as client:
        client.post("/v1/predict", json={"rows": [{}]})

        def broken(lot: Any) -> Any:
            raise ZeroDivisionError("secret")

        monkeypatch.setattr(app.state.service.answerer, "answer", broken)
        answer = client.post("/v1/predict", json={"rows": [{"title": "mug"}]})
        assert answer.status_code == 500
        assert "secret" not in answer.text
        monkeypatch.undo()
        assert client.post("/v1/predict", json={"rows": [{"title": "mug"}]}).status_code == 200
