"""The application: every endpoint of `polymodal serve`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.staticfiles import StaticFiles

from polymodal import __version__
from polymodal.core.errors import UserError
from polymodal.core.schema import Json
from polymodal.serve.http import bodies, forms
from polymodal.serve.http.answerer import Ask
from polymodal.serve.http.bodies import Cells
from polymodal.serve.http.gate import OPENAI, Gate, Told, Visit, writer
from polymodal.serve.http.meters import Meters
from polymodal.serve.http.openai import BODIES as OPENAI_BODIES
from polymodal.serve.http.openai import add_openai
from polymodal.serve.http.openapi import describe, documented
from polymodal.serve.http.problems import Problem, plain
from polymodal.serve.http.service import Service
from polymodal.serve.http.settings import ServeSettings

PAGE = Path(__file__).parents[1] / "page"
JSON = "application/json"
PLAIN = Ask()


def make_app(
    run: Any, *, index: Any = None, settings: ServeSettings | None = None, told: Told | None = None
) -> FastAPI:
    """The ASGI application of a run, and of an index of it.

    `told` is handed a dict for every request, in place of the access log. `app.state.service` is what it works with.
    """
    settings = (settings or ServeSettings()).check()
    meters = Meters()
    service = Service(run, index, settings, meters)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(service.warm())
        warming.add_done_callback(_tell_failure)
        yield
        await asyncio.wait([warming])
        await service.close()

    app = FastAPI(title=f"Polymodal: {service.name}", version=__version__, docs_url=None, redoc_url=None,
                  openapi_url=None, lifespan=lifespan, redirect_slashes=False)  # fmt: skip
    app.state.service = service
    endpoints = Endpoints(service, app)
    endpoints.add(app)
    add_openai(app, service)
    _add_page(app)
    for kind, handler in ((HTTPException, _http), (Exception, _ours)):
        app.add_exception_handler(kind, handler)  # type: ignore[arg-type]
    app.add_middleware(Gate, settings=settings, meters=meters, told=told or writer(settings),
                       direct=endpoints.direct)  # fmt: skip
    if settings.origins:
        from starlette.middleware.cors import CORSMiddleware

        app.add_middleware(CORSMiddleware, allow_origins=list(settings.origins), allow_methods=["GET", "POST"],
                           allow_headers=["authorization", "content-type", "x-request-id"],
                           expose_headers=["x-request-id", "retry-after"], max_age=600)  # fmt: skip
    return app


class Endpoints:
    """Everything but the formats of others."""

    def __init__(self, service: Service, app: FastAPI) -> None:
        self.service, self.app = service, app
        self.schema: bytes | None = None
        self.direct = {("POST", "/v1/predict"): self.predict, ("POST", "/v1/stream"): self.stream,
                       ("POST", "/v1/embed"): self.embed}  # fmt: skip

    def add(self, app: FastAPI) -> None:
        get: Any = (("/health", self.health), ("/ready", self.ready), ("/metrics", self.metrics), ("/v1/run", self.run),
               ("/openapi.json", self.openapi))  # fmt: skip
        post: Any = [("/v1/predict", self.predict), ("/v1/stream", self.stream), ("/v1/embed", self.embed)]
        for path, endpoint in get:
            app.add_api_route(path, endpoint, methods=["GET"], **documented(path, self.service))
        for path, endpoint in [*post, *([("/v1/search", self.search)] if self.service.index is not None else [])]:
            app.add_api_route(path, endpoint, methods=["POST"], **documented(path, self.service))
        if self.service.index is not None:
            told = documented("/v1/preview/{id}/{column}", self.service)
            app.add_api_route("/v1/preview/{id:path}/{column}", self.preview, methods=["GET"], **told)

    async def health(self) -> Response:
        return Response(b'{"status":"ok"}', media_type=JSON)

    async def ready(self) -> Response:
        if self.service.ready:
            return Response(b'{"status":"ready"}', media_type=JSON)
        state = "draining" if self.service.draining else "warming up"
        raise Problem(503, "ready", f"not ready: {state}", after=1.0)

    async def metrics(self) -> Response:
        return Response(await asyncio.to_thread(self.service.meters.text), media_type=CONTENT_TYPE_LATEST)

    async def run(self) -> Response:
        return Response(plain(await self.service.in_model(self.service.about)), media_type=JSON)

    async def openapi(self) -> Response:
        if self.schema is None:
            self.schema = json.dumps(describe(self.app, self.service, OPENAI_BODIES)).encode()
        return Response(self.schema, media_type=JSON)

    async def predict(self, request: Request) -> Response:
        body, rows = await self._asked(request, self.service.Predict)
        visit: Visit = request.scope["visit"]
        lines = await self.service.predict(rows, ask_of(body), getattr(body, "seed", 0), visit, "/v1/predict")
        return answer({"id": visit.id, "rows": lines})

    async def stream(self, request: Request) -> Response:
        body, rows = await self._asked(request, self.service.Stream)
        visit: Visit = request.scope["visit"]
        pieces = self.service.stream(rows[0], ask_of(body), getattr(body, "seed", 0), visit, "/v1/stream")
        first = await anext(pieces)  # what is wrong with the request is said before the stream begins

        async def events() -> AsyncIterator[bytes]:
            piece = first
            while True:
                yield event({"done": True, "row": piece} if isinstance(piece, dict) else
                            {"task": piece[0], "text": piece[1]})  # fmt: skip
                try:
                    piece = await anext(pieces)
                except StopAsyncIteration:
                    return
                except Problem as problem:
                    yield event(json.loads(problem.body(visit.id)))
                    return

        return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-store"})

    async def embed(self, request: Request) -> Response:
        _, rows = await self._asked(request, self.service.Embed)
        visit: Visit = request.scope["visit"]
        found = await self.service.embed(rows, visit, "/v1/embed")
        names = self.service.answerer.embedder.names
        vectors = {name: [each[name].tolist() for each, _ in found] for name in names}
        errors = [error for _, error in found]
        return answer({"id": visit.id, "vectors": vectors, "errors": errors})

    async def search(self, request: Request) -> Response:
        asked, queries = await self._searched(request)
        hits = await self.service.in_model(lambda: self._search(asked, queries))
        return answer({"id": request.scope["visit"].id, "hits": hits})

    def _search(self, asked: Any, queries: list[tuple[str, Any, float]]) -> list[Json]:
        from polymodal.serve.index import Query

        found = self.service.searcher.search(
            [Query(*one) for one in queries], k=asked.k, where=asked.where, words=asked.words, like=asked.like,
            unlike=asked.unlike, offset=asked.offset, exact=asked.exact, space=asked.space,
        )  # fmt: skip
        shown = self.service.about_index()["pictures"]
        return [{"id": hit.id, "score": float(hit.score), "row": hit.row,
                 "pictures": {c: f"/v1/preview/{quote(hit.id, safe='')}/{quote(c, safe='')}" for c in shown}}
                for hit in found]  # fmt: skip

    async def preview(self, request: Request, id: str, column: str) -> Response:
        asked = request.scope.get("raw_path", b"").decode("latin-1").split("/")
        if len(asked) == 5:  # as it was sent: an id may hold slashes, which are escaped there
            id, column = unquote(asked[3]), unquote(asked[4])
        try:
            found = await asyncio.to_thread(self.service.index.preview, id, column)
        except UserError as error:
            raise Problem.of(error, 404) from None
        if found is None:
            raise Problem(404, "preview", "no picture of this row and column", given=[id, column])
        return Response(found, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

    async def _asked(self, request: Request, model: type[bodies.Strict]) -> tuple[Any, list[Cells]]:
        """The body, and its rows as cells. Raises Problem."""
        rows = self.service.rows
        if forms.is_form(request):
            form = await forms.parts(request, self._most)
            try:
                return await forms.row(form, rows, model)
            finally:
                await form.close()
        body = bodies.read(model, await request.body(), self.service.slots)
        return body, [rows.cells(row, f"rows.{at}") for at, row in enumerate(body.rows)]

    @property
    def _most(self) -> int:
        return int(self.service.settings.body_mb * 2**20)

    async def _searched(self, request: Request) -> tuple[Any, list[tuple[str, Any, float]]]:
        """The body of a search, and its queries with files as bytes. Raises Problem."""
        slots = {slot.input: slot for slot in self.service.slots.values()} | self.service.slots
        if forms.is_form(request):
            form = await forms.parts(request, self._most)
            try:
                files, texts = await forms.told_apart(form, slots)
            finally:
                await form.close()
            asked = bodies.checked(self.service.Search, forms.parsed(texts.pop(forms.OPTIONS, None)), {})
            return asked, [(name, value, 1.0) for name, value in [*files.items(), *texts.items()]]
        asked = bodies.read(self.service.Search, await request.body(), {})
        queries = []
        for at, query in enumerate(asked.queries):
            slot, where = slots.get(query.input), f"queries.{at}"
            value = query.value.content(f"{where}.value") if isinstance(query.value, bodies.File) else query.value
            if slot is None:
                raise Problem(422, f"{where}.input", "no input of this name", given=query.input,
                              advice=f"one of {sorted(slots)}")  # fmt: skip
            if slot.file != isinstance(value, bytes):
                raise Problem(422, f"{where}.value", "is a file" if slot.file else "is no file", given=query.input,
                              advice=bodies.FILE if slot.file else "a text")  # fmt: skip
            queries.append((query.input, value, query.weight))
        return asked, queries


def ask_of(body: Any) -> Ask:
    """What a body asks besides its rows."""
    respond = getattr(body, "respond", None)
    if respond is None and not body.reason and getattr(body, "sets", None) is getattr(body, "abstain", None) is None:
        return PLAIN
    options = {} if respond is None else respond.model_dump(exclude_none=True)
    return Ask("predict", getattr(body, "sets", None), getattr(body, "abstain", None), body.reason,
               json.dumps(options, sort_keys=True))  # fmt: skip


def answer(value: Json) -> Response:
    return Response(plain(value), media_type=JSON, headers={"cache-control": "no-store"})


def event(value: Json) -> bytes:
    """One server-sent event."""
    return b"data: " + plain(value) + b"\n\n"


def _add_page(app: FastAPI) -> None:
    if not (PAGE / "index.html").is_file():
        return

    async def index() -> Response:
        return FileResponse(PAGE / "index.html", headers={"cache-control": "no-cache"})

    app.add_api_route("/", index, methods=["GET"], include_in_schema=False)
    app.mount("/page", _Fresh(directory=PAGE), name="page")


class _Fresh(StaticFiles):
    """Files that a browser asks about every time, so that none of an older version stays beside newer ones."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        found = super().file_response(*args, **kwargs)
        found.headers["cache-control"] = "no-cache"
        return found


def _tell_failure(warming: asyncio.Task[None]) -> None:
    """A server that cannot be warmed up is never ready: its log says why."""
    if not warming.cancelled() and (error := warming.exception()) is not None:
        logging.getLogger("uvicorn.error").error("the run cannot be warmed up", exc_info=error)


def _visit(request: Request) -> Visit:
    return request.scope.get("visit") or Visit("")


async def _problem(request: Request, error: Problem) -> Response:
    visit = _visit(request)
    visit.problem = error.told()
    body = error.body(visit.id, openai=request.url.path.startswith(OPENAI))
    return Response(body, error.status, headers=error.headers())


async def _http(request: Request, error: HTTPException) -> Response:
    advice = {404: "GET /openapi.json lists what there is", 405: "another method"}.get(error.status_code, "")
    found = await _problem(request, Problem(error.status_code, request.url.path[:200], str(error.detail).lower(),
                                            advice=advice))  # fmt: skip
    for name, value in (error.headers or {}).items():
        found.headers[name] = value
    return found


async def _ours(request: Request, error: Exception) -> Response:
    """Our fault: the traceback is in the server's log, not in the answer."""
    return await _problem(request, Problem(500, "server", "something went wrong here", advice="tell who runs it"))
