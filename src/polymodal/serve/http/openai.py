"""The formats of OpenAI's API, so that its clients work: models, embeddings of texts, and answers in words."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from polymodal.core.schema import Json
from polymodal.serve.http import bodies, forms
from polymodal.serve.http.answerer import Ask
from polymodal.serve.http.bodies import Cells
from polymodal.serve.http.gate import Visit
from polymodal.serve.http.openapi import documented
from polymodal.serve.http.problems import Problem, plain
from polymodal.serve.http.service import Service
from polymodal.work.question import asked

JSON = "application/json"
SOUNDS = ("wav", "mp3")
Text = Annotated[str, Field(max_length=100_000)]


class Loose(BaseModel):
    """What is not known is passed over, as clients send more than is needed."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, hide_input_in_errors=True)


class Embeddings(Loose):
    """Texts to be put into the run's space."""

    model: str = Field(max_length=512)
    input: Annotated[str, Field(min_length=1)] | Annotated[list[str], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)


class Link(Loose):
    url: str


class Sound(Loose):
    data: str
    format: str | None = None


class Content(Loose):
    """A piece of a message."""

    type: Literal["text", "image_url", "input_audio"]
    text: str | None = None
    image_url: Link | None = None
    input_audio: Sound | None = None


class Message(Loose):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Content], Field(max_length=64)] | None = None


class StreamOptions(Loose):
    include_usage: bool = False


class Chat(Loose):
    """Messages of which the last one of the user is answered, with the files that came last."""

    model: str = Field(max_length=512)
    messages: Annotated[list[Message], Field(min_length=1, max_length=256)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = Field(None, ge=0, lt=2**63)
    n: Literal[1] = 1


BODIES = (Embeddings, Chat)


def add_openai(app: FastAPI, service: Service) -> None:
    """The routes that this run can answer."""
    ways = Ways(service)
    app.add_api_route("/v1/models", ways.models, methods=["GET"], **documented("/v1/models", service))
    if ways.text is not None:
        path = "/v1/embeddings"
        app.add_api_route(path, ways.embeddings, methods=["POST"], **documented(path, service, Embeddings))
    if ways.answers:
        path = "/v1/chat/completions"
        app.add_api_route(path, ways.chat, methods=["POST"], **documented(path, service, Chat))


class Ways:
    """How a run answers such clients. A model is called as the run is; `run:task` names one of several tasks."""

    def __init__(self, service: Service) -> None:
        self.service, self.since = service, int(time.time())
        assembly = service.answerer.assembly
        inputs = assembly.spec.inputs
        texts = [n for n, one in inputs.items() if one.reader.type == "text"]
        self.text = texts[0] if len(texts) == 1 else None
        speaking, questions = service.answerer.speaking, asked(assembly)
        self.answers = [n for n in assembly.model.tasks.names
                        if speaking[n] or hasattr(assembly.model.tasks[n], "question")]  # fmt: skip
        several = self.answers if len(self.answers) > 1 else []
        service.models = (service.name, *(f"{service.name}:{n}" for n in several))
        told = {one.question for one in questions.values()}
        self.question = next(iter(told)) if len(told) == 1 else self.text
        self.assembly = assembly

    async def models(self) -> Response:
        listed = [{"id": n, "object": "model", "created": self.since, "owned_by": "polymodal"}
                  for n in self.service.models]  # fmt: skip
        return Response(plain({"object": "list", "data": listed}), media_type=JSON)

    async def embeddings(self, request: Request) -> Response:
        body = await self._body(request, Embeddings)
        self._task(body.model)
        texts = [body.input] if isinstance(body.input, str) else body.input
        if len(texts) > self.service.settings.rows:
            raise Problem(422, "input", f"more than {self.service.settings.rows} texts", given=len(texts))
        embedder = self.service.answerer.embedder
        if body.dimensions not in (None, embedder.width):
            raise Problem(422, "dimensions", "cannot be chosen", given=body.dimensions, advice=str(embedder.width))
        assert self.text is not None
        column, space = self.assembly.spec.inputs[self.text].columns[0], self._space(embedder)
        for at, text in enumerate(texts):
            self._fits(text, f"input.{at}")
        found = await self.service.embed([{column: text} for text in texts], request.scope["visit"], "/v1/embeddings")
        listed = [self._vector(at, each[space], body.encoding_format) for at, (each, _) in enumerate(found)]
        count = sum(self._count(text) for text in texts)
        usage = {"prompt_tokens": count, "total_tokens": count}
        return Response(plain({"object": "list", "data": listed, "model": body.model, "usage": usage}), media_type=JSON)

    def _space(self, embedder: Any) -> str:
        """The space in which a text is: that of its input, or the only one."""
        column = self.assembly.spec.inputs[str(self.text)].columns[0]
        return next((n for n in embedder.names if n == self.text or column in embedder.columns[n]), embedder.names[0])

    def _vector(self, at: int, found: np.ndarray, form: str) -> Json:
        vector = found[0] if len(found) else np.zeros(self.service.answerer.embedder.width, np.float32)
        packed = base64.b64encode(vector.astype("<f4").tobytes()).decode() if form == "base64" else vector.tolist()
        return {"object": "embedding", "index": at, "embedding": packed}

    async def chat(self, request: Request) -> Response:
        body = await self._body(request, Chat)
        task, visit = self._task(body.model), request.scope["visit"]
        row = self._row(body.messages)
        ask = Ask(respond=json.dumps(self._options(body), sort_keys=True))
        if not row:
            raise Problem(422, "messages", "hold nothing that this run reads", advice="a text, or a data: URL")
        prompt = sum(self._count(cell) for cell in row.values() if isinstance(cell, str))
        if body.stream:
            return await self._streamed(body, task, row, ask, visit, prompt)
        (line,) = await self.service.predict([row], ask, body.seed or 0, visit, "/v1/chat/completions")
        if line["error"]:
            raise Problem(422, "messages", line["error"])
        text = _text(line[task])
        told = self._frame(visit, body.model, "chat.completion")
        message = {"role": "assistant", "content": text, "refusal": None}
        told["choices"] = [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}]
        return Response(plain(told | {"usage": self._usage(prompt, task, text)}), media_type=JSON)

    async def _streamed(self, body: Chat, task: str, row: Cells, ask: Ask, visit: Visit, prompt: int) -> Response:
        pieces = self.service.stream(row, ask, body.seed or 0, visit, "/v1/chat/completions")
        first = await anext(pieces)
        if isinstance(first, dict) and first["error"]:
            raise Problem(422, "messages", first["error"])

        def chunk(delta: Json, finish: str | None = None) -> bytes:
            told = self._frame(visit, body.model, "chat.completion.chunk")
            told["choices"] = [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
            return b"data: " + plain(told) + b"\n\n"

        async def events() -> AsyncIterator[bytes]:
            piece, said = first, ""
            yield chunk({"role": "assistant", "content": ""})
            try:
                while not isinstance(piece, dict):
                    if piece[0] == task:
                        said += piece[1]
                        yield chunk({"content": piece[1]})
                    piece = await anext(pieces)
            except Problem as problem:
                yield b"data: " + problem.body(visit.id, openai=True) + b"\n\n"
                return
            if not said:  # not said token by token
                said = _text(piece[task])
                yield chunk({"content": said})
            yield chunk({}, "stop")
            if body.stream_options is not None and body.stream_options.include_usage:
                told = self._frame(visit, body.model, "chat.completion.chunk")
                yield b"data: " + plain(told | {"choices": [], "usage": self._usage(prompt, task, said)}) + b"\n\n"
            yield b"data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-store"})

    async def _body(self, request: Request, model: type[BaseModel]) -> Any:
        if forms.is_form(request):
            raise Problem(415, "content-type", "is not taken here", advice="application/json")
        return bodies.read(model, await request.body(), {})

    def _task(self, model: str) -> str:
        """The task that a model's name names; that which answers, where it names none. Raises Problem."""
        run, _, task = model.partition(":")
        if run != self.service.name or (task and task not in self.answers):
            raise Problem(404, "model", "no model of this name", given=model, advice="GET /v1/models lists them")
        return task or next(iter(self.answers), "")

    def _options(self, body: Chat) -> dict[str, Json]:
        """As `respond` takes them; a temperature of 0 is the likeliest words."""
        if not self.service.answerer.draws:
            return {}
        drawn = body.temperature != 0 and (body.temperature is not None or body.top_p is not None)
        most = body.max_completion_tokens or body.max_tokens
        found: dict[str, Json] = {"search": "sample" if drawn else "greedy"} if body.temperature is not None else {}
        found |= {"search": "sample"} if drawn else {}
        found |= {"temperature": body.temperature} if drawn and body.temperature else {}
        found |= {"top_p": body.top_p} if drawn and body.top_p else {}
        return found | ({"max_tokens": min(most, self.service.settings.tokens)} if most else {})

    def _row(self, messages: list[Message]) -> Cells:
        """The last text of the user as the question, and the last files, each in a column of its kind."""
        row: Cells = {}
        said = [m for m in messages if m.role == "user" and m.content]
        parts = [[Content(type="text", text=m.content)] if isinstance(m.content, str) else m.content for m in said]
        texts = ["\n".join(p.text for p in one if p.type == "text" and p.text) for one in parts if one]
        question = next((t for t in reversed(texts) if t), "")
        if question and self.question is not None:
            self._fits(question, "messages")
            row[self.assembly.spec.inputs[self.question].columns[0]] = question
        for kind, read in (("image_url", _picture), ("input_audio", _sound)):
            last: list[Content] = next((one for one in reversed(parts) if one and any(p.type == kind for p in one)), [])
            cells = [read(p) for p in last if p.type == kind]
            wanted = "image" if kind == "image_url" else "audio"
            columns = [s.name for s in self.service.slots.values() if s.type == wanted and s.file]
            if len(cells) > len(columns):
                raise Problem(422, "messages", f"{len(cells)} of {kind}; this run takes {len(columns)}")
            row |= dict(zip(columns, cells, strict=False))
        return row

    def _fits(self, text: str, where: str) -> None:
        if len(text) > self.service.settings.text:
            raise Problem(422, where, f"is longer than {self.service.settings.text} characters", given=len(text))

    def _frame(self, visit: Visit, model: str, kind: str) -> dict[str, Json]:
        return {"id": f"chatcmpl-{visit.id}", "object": kind, "created": int(time.time()), "model": model}

    def _usage(self, prompt: int, task: str, text: str) -> dict[str, int]:
        words = getattr(self.assembly.model.tasks[task], "words", None)
        said = len(text.split()) if words is None else len(words.ids(text))
        return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}

    def _count(self, text: str) -> int:
        name = self.question or self.text
        return 0 if name is None else self.assembly.readers[name].cost(text)


def _picture(part: Content) -> bytes:
    """The bytes of a data: URL; no other is opened. Raises Problem."""
    url = "" if part.image_url is None else part.image_url.url
    head, _, data = url.partition(",")
    if not head.startswith("data:") or not head.endswith(";base64"):
        raise Problem(422, "messages.image_url", "only data: URLs are taken; nothing is fetched", given=url[:100],
                      advice="data:image/png;base64,...")  # fmt: skip
    return bodies.File(base64=data, name=None).content("messages.image_url")


def _sound(part: Content) -> bytes:
    if part.input_audio is None:
        raise Problem(422, "messages.input_audio", "is needed", advice='{"data": BASE64, "format": "wav"}')
    return bodies.File(base64=part.input_audio.data, name=None).content("messages.input_audio")


def _text(value: Json) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
