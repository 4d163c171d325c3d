"""Answers in words: token by token they are what `predict` says; clients of OpenAI's API can ask for them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

import polymodal
from endtoend import INPUTS, TRAIN, Trained
from polymodal.serve.http import ServeSettings, make_app


@pytest.fixture(scope="module")
def run(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> polymodal.Run:
    """Says two sentences, in two languages, about a photo and a title; and what its label is."""
    folder = tmp_path_factory.mktemp("served")
    rows = [{**row, "en": f"a {row['label']} {row['brand']} here", "zh": "红灯" if row["label"] == "yes" else "蓝杯"}
            for row in trained.rows]  # fmt: skip
    table = trained.table(folder / "rows.csv", rows)
    spec = {"data": {"train": str(table)}, "inputs": {n: INPUTS[n] for n in ("photo", "title")}, "fusion": "concat",
            "tasks": {"say": {"type": "caption", "columns": ["en", "zh"], "languages": True, "min_count": 1,
                              "decoder": {"type": "gru", "hidden": 8}},
                      "reply": {"type": "reply", "column": "en", "min_count": 1,
                                "decoder": {"type": "gru", "hidden": 8}},
                      "label": "classify"},
            "train": {**TRAIN, "epochs": 3, "lr": 0.03}}  # fmt: skip
    return polymodal.train(spec=spec, out=folder / "speaker", quiet=True)


@pytest.fixture(scope="module")
def client(run: polymodal.Run) -> Iterator[TestClient]:
    with TestClient(make_app(run, settings=ServeSettings(access_log="none"))) as found:
        yield found


@pytest.fixture(scope="module")
def photo(trained: Trained) -> str:
    return base64.b64encode((trained.folder / trained.rows[3]["photo"]).read_bytes()).decode()


def events(text: str) -> list[Any]:
    found = [one.removeprefix("data: ") for one in text.split("\n\n") if one]
    return [one if one == "[DONE]" else json.loads(one) for one in found]


OPTIONS = [{}, {"respond": {"search": "sample", "temperature": 3.0}, "seed": 5}, {"respond": {"max_tokens": 2}},
           {"respond": {"search": "beam", "beams": 2}}]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_pieces_are_what_predict_says(client: TestClient, photo: str, options: dict[str, Any]) -> None:
    body = {"rows": [{"photo": {"base64": photo}, "title": "sharp mug"}], **options}
    (line,) = client.post("/v1/predict", json=body).json()["rows"]
    answer = client.post("/v1/stream", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *pieces, last = events(answer.text)
    assert last == {"done": True, "row": line}
    said: dict[str, str] = {}
    for piece in pieces:
        said[piece["task"]] = said.get(piece["task"], "") + piece["text"]
    if options.get("respond", {}).get("search") == "beam":
        assert said == {}  # nothing is known before all is known
    else:
        assert said == {"say": line["say"], "reply": line["reply"]}
        assert len(pieces) > 3
    assert line["say.zh"]


def test_a_sentence_drawn_by_lot_is_a_function_of_the_seed_and_of_nothing_else(client: TestClient) -> None:
    def say(seed: int, before: int = 0) -> str:
        respond = {"search": "sample", "temperature": 3.0}
        rows = [{"title": "mug"}] * (before + 1)
        return client.post("/v1/predict", json={"rows": rows, "respond": respond, "seed": seed}).json()["rows"][0][
            "say"
        ]

    assert say(1) == say(1) == say(1, before=5)
    assert len({say(seed) for seed in range(8)}) > 1


def test_lots_do_not_depend_on_who_is_answered_at_the_same_time(run: polymodal.Run) -> None:
    app = make_app(run, settings=ServeSettings(access_log="none", wait_ms=200.0))
    body = {"rows": [{"title": "mug"}], "respond": {"search": "sample", "temperature": 3.0}, "seed": 1}

    async def main() -> list[str]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://here") as client:
            answers = await asyncio.gather(*(client.post("/v1/predict", json=body) for _ in range(6)))
        await app.state.service.close()
        return [answer.json()["rows"][0]["say"] for answer in answers]

    assert len(set(asyncio.run(main()))) == 1
    assert "polymodal_batch_rows_count 1.0" in app.state.service.meters.text().decode()  # all in one batch


def test_a_stream_is_of_one_row_and_says_first_what_is_wrong(client: TestClient) -> None:
    assert client.post("/v1/stream", json={"rows": [{}, {}]}).status_code == 422
    assert client.post("/v1/stream", json={"rows": [{}], "respond": {"beams": 100}}).status_code == 422
    assert client.post("/v1/stream", json={"rows": [{}], "respond": {"search": "loudly"}}).status_code == 422
    (only,) = events(client.post("/v1/stream", json={"rows": [{"photo": {"base64": "AAAA"}}]}).text)
    assert only["row"]["error"].startswith("photo: ")
    assert client.app.state.service.streams == 0  # type: ignore[attr-defined]


def test_models(client: TestClient) -> None:
    found = client.get("/v1/models").json()
    assert [one["id"] for one in found["data"]] == ["speaker", "speaker:say", "speaker:reply"]
    assert found["object"] == "list"


def test_embeddings(client: TestClient, run: polymodal.Run) -> None:
    answer = client.post("/v1/embeddings", json={"model": "speaker", "input": ["a mug", "a lamp"]}).json()
    vectors = [one["embedding"] for one in answer["data"]]
    assert [one["index"] for one in answer["data"]] == [0, 1]
    expected = run.embed([{"title": "a mug", "photo": None}, {"title": "a lamp", "photo": None}])["row"][:, 0]
    assert np.abs(np.array(vectors) - expected).max() < 1e-5
    packed = client.post("/v1/embeddings", json={"model": "speaker", "input": "a mug", "encoding_format": "base64"})
    bytes_of = base64.b64decode(packed.json()["data"][0]["embedding"])
    assert np.abs(np.frombuffer(bytes_of, "<f4") - expected[0]).max() < 1e-5
    assert packed.json()["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    for wrong, status in (
        ({"input": [1, 2]}, 422),
        ({"model": "gpt"}, 404),
        ({"dimensions": 3}, 422),
        ({"input": []}, 422),
    ):
        answer = client.post("/v1/embeddings", json={"model": "speaker", "input": "x"} | wrong)
        assert answer.status_code == status
        assert {"message", "type", "param", "code"} <= answer.json()["error"].keys()


def chat(client: TestClient, photo: str, **more: Any) -> Any:
    parts = [{"type": "text", "text": "sharp mug"},
             {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{photo}"}}]  # fmt: skip
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "what?"},
                {"role": "assistant", "content": "this"}, {"role": "user", "content": parts}]  # fmt: skip
    return client.post("/v1/chat/completions", json={"model": "speaker:reply", "messages": messages, **more})


def test_a_chat_is_answered_as_the_row_is(client: TestClient, photo: str) -> None:
    row = {"photo": {"base64": photo}, "title": "sharp mug"}
    (line,) = client.post("/v1/predict", json={"rows": [row]}).json()["rows"]
    found = chat(client, photo).json()
    assert found["object"] == "chat.completion"
    (choice,) = found["choices"]
    assert choice["message"] == {"role": "assistant", "content": line["reply"], "refusal": None}
    assert choice["finish_reason"] == "stop"
    said = len(line["reply"].split())
    assert found["usage"] == {"prompt_tokens": 2, "completion_tokens": said, "total_tokens": 2 + said}
    greedy = chat(client, photo, temperature=0, max_tokens=2, user="me").json()
    assert greedy["choices"][0]["message"]["content"] == " ".join(line["reply"].split()[:2])


def test_a_chat_is_streamed(client: TestClient, photo: str) -> None:
    whole = chat(client, photo).json()
    *chunks, usage, done = events(chat(client, photo, stream=True, stream_options={"include_usage": True}).text)
    assert done == "[DONE]"
    assert usage["usage"] == whole["usage"]
    assert usage["choices"] == []
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0]["role"] == "assistant"
    assert "".join(d.get("content", "") for d in deltas) == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.png", "https://x.example/a.png", "file:///etc/passwd",
                                 "/etc/passwd", "data:text/plain,abc", "data:image/png;base64,?",
                                 "http://x.example/;base64,AAAA"])  # fmt: skip
def test_only_data_urls_are_taken(client: TestClient, url: str) -> None:
    parts = [{"type": "image_url", "image_url": {"url": url}}]
    body = {"model": "speaker", "messages": [{"role": "user", "content": parts}]}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["error"]["where"].startswith("messages.image_url")


def test_what_a_chat_cannot_do_is_said(client: TestClient, photo: str) -> None:
    assert chat(client, photo, n=2).status_code == 422
    assert chat(client, photo, temperature=-1).status_code == 422
    assert chat(client, photo, model="speaker:label").status_code == 404
    assert chat(client, photo, messages=[{"role": "user", "content": ""}]).status_code == 422
    parts = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{photo}"}}] * 2
    assert chat(client, photo, messages=[{"role": "user", "content": parts}]).status_code == 422
    broken = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    for stream in (False, True):
        answer = chat(client, photo, messages=[{"role": "user", "content": broken}], stream=stream)
        assert answer.status_code == 422
        assert "not a picture" in answer.text
