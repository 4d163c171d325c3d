"""What OpenAPI says of every endpoint: bodies, answers and errors, with the run's own columns and tasks."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from polymodal.core.schema import Json

REF = "#/components/schemas/{model}"
MEANINGS = {
    400: "The body cannot be parsed.",
    401: "A bearer token is needed.",
    404: "There is no such thing.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The type of the body is not taken.",
    422: "The body is not what is asked for: the error says where.",
    429: "Too many requests of this client.",
    503: "Too much to do, or not ready: try again after the seconds in Retry-After.",
}
SENT = (400, 408, 413, 415, 422, 503)  # what may happen to a body


class Told(BaseModel):
    """What is wrong, for a person: where, what was given, what to try."""

    where: str = Field(examples=["rows.0.price"])
    problem: str = Field(examples=["no column or option of this name"])
    given: str | None
    advice: str
    message: str | None = Field(None, description="All in one, for clients of OpenAI's API.")
    type: str | None = None
    param: str | None = None
    code: str | None = None


class Error(BaseModel):
    """Every answer that is none."""

    error: Told
    id: str = Field(description="Of the request; also in the header X-Request-ID.")


class Embedded(BaseModel):
    """By space, for every row, the vectors of what it holds: none, one, or one for each column."""

    id: str
    vectors: dict[str, list[list[list[float]]]]
    errors: list[str | None]


class Hit(BaseModel):
    id: str
    score: float
    row: dict[str, Any]
    pictures: dict[str, str] = Field(description="By column, where its picture is.")


class Hits(BaseModel):
    id: str
    hits: list[Hit]


class InputTold(BaseModel):
    type: str
    columns: list[str]
    file: bool
    label: str


class TaskTold(BaseModel):
    type: str
    speaks: bool
    says: list[str]
    classes: list[Any] | None
    confidence: bool


class Space(BaseModel):
    task: str | None
    names: list[str]


class ColumnTold(BaseModel):
    name: str
    type: str


class IndexTold(BaseModel):
    rows: int | None
    columns: list[ColumnTold]
    pictures: list[str]


class RunTold(BaseModel):
    """What the run reads and says, and what this server takes."""

    name: str
    inputs: dict[str, InputTold]
    tasks: dict[str, TaskTold]
    space: Space | None
    index: IndexTold | None
    limits: dict[str, float | None]
    version: str


class Status(BaseModel):
    status: str


ANSWERS: dict[str, type[BaseModel]] = {
    "/health": Status, "/ready": Status, "/v1/run": RunTold, "/v1/embed": Embedded, "/v1/search": Hits,
}  # fmt: skip
SUMMARIES = {
    "/health": "Whether the process is alive",
    "/ready": "Whether requests should be sent here",
    "/metrics": "Numbers for Prometheus",
    "/openapi.json": "This description",
    "/v1/run": "What the run reads and says",
    "/v1/predict": "Answers for rows",
    "/v1/stream": "The answer for a row, token by token",
    "/v1/embed": "Rows as vectors",
    "/v1/search": "Rows of the index that are near",
    "/v1/preview/{id}/{column}": "A small picture of a row of the index",
    "/v1/models": "OpenAI: models",
    "/v1/embeddings": "OpenAI: texts as vectors",
    "/v1/chat/completions": "OpenAI: answers in words",
}
STREAMED = "Server-sent events: `{task, text}`, then `{done: true, row}`; `{error, id}` where it breaks off."


def documented(path: str, service: Any, body: type[BaseModel] | None = None) -> dict[str, Any]:
    """What FastAPI is told of a route. `body` is that of a route of OpenAI's."""
    open_to_all = path in ("/health", "/ready")
    wrong = (
        () if open_to_all else (*((401,) if service.settings.keys else ()), *((429,) if service.settings.rate else ()))
    )
    bodies = {"/v1/predict": service.Predict, "/v1/stream": service.Stream, "/v1/embed": service.Embed,
              "/v1/search": service.Search}  # fmt: skip
    sent = bodies.get(path) or body
    wrong += SENT if sent is not None else ()
    wrong += {"/ready": (503,), "/v1/run": (503,), "/v1/preview/{id}/{column}": (404, 422)}.get(path, ())
    wrong += (404,) if body is not None else ()
    found: dict[str, Any] = {
        "response_model": None,
        "response_class": _Plain,
        "summary": SUMMARIES[path],
        "operation_id": path.strip("/").replace("/", "_").replace("{", "").replace("}", "").replace(".", "_"),
        "responses": {200: _answer(path, service), **{status: _error(status) for status in sorted(set(wrong))}},
    }
    extra: dict[str, Any] = {}
    if sent is not None:
        extra["requestBody"] = {"required": True, "content": _content(path, sent, service)}
    if service.settings.keys and not open_to_all:
        extra["security"] = [{"bearer": []}]
    return found | ({"openapi_extra": extra} if extra else {})


class _Plain(Response):
    """Routes say themselves what they answer."""


def _ref(model: type[BaseModel]) -> Json:
    return {"$ref": REF.format(model=model.__name__)}


def _error(status: int) -> Json:
    return {"description": MEANINGS[status], "content": {"application/json": {"schema": _ref(Error)}}}


def _answer(path: str, service: Any) -> Json:
    if path in ANSWERS:
        return {"description": "Well.", "content": {"application/json": {"schema": _ref(ANSWERS[path])}}}
    kinds: dict[str, Json] = {
        "/v1/predict": {"application/json": {"schema": {"$ref": REF.format(model="Predicted")}}},
        "/v1/stream": {"text/event-stream": {"schema": {"description": STREAMED}}},
        "/metrics": {"text/plain": {"schema": {"type": "string"}}},
        "/v1/preview/{id}/{column}": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
        "/v1/chat/completions": {"application/json": {"schema": {"type": "object"}},
                                 "text/event-stream": {"schema": {}}},
    }  # fmt: skip
    return {"description": "Well.", "content": kinds.get(path, {"application/json": {"schema": {"type": "object"}}})}


def _content(path: str, model: type[BaseModel], service: Any) -> Json:
    found: dict[str, Json] = {"application/json": {"schema": _ref(model)}}
    if path in ("/v1/predict", "/v1/stream", "/v1/embed", "/v1/search"):
        found["multipart/form-data"] = {
            "schema": {"type": "object", "additionalProperties": False, "properties": _parts(model, service)},
            "encoding": {"options": {"contentType": "application/json"}},
        }
    return found


def _parts(model: type[BaseModel], service: Any) -> Json:
    """A part for every column of the row, and `options`."""
    parts = {name: {"type": "string", "contentMediaType": "application/octet-stream"}
             if slot.file else {"type": "string", "maxLength": service.settings.text}
             for name, slot in service.slots.items()}  # fmt: skip
    return {"options": {"$ref": REF.format(model=f"{model.__name__}Options")}, **parts}


def predicted(service: Any) -> dict[str, Json]:
    """Schemas of what `predict` answers: a property for everything that the run's tasks say."""
    assembly = service.answerer.assembly
    said: dict[str, Json] = {"row": {"type": "integer"}}
    for name, task in assembly.model.tasks.items():
        said[name] = {"description": f"What {name} says; null where it says nothing."}
        for suffix in task.says:
            sure = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
            said[f"{name}.{suffix}"] = sure if suffix == "confidence" else {}
    said |= {"error": {"type": ["string", "null"], "description": "What could not be read of this row."},
             "reason": {"type": "object", "description": "By task why, where it was asked."}}  # fmt: skip
    needed = [name for name in said if name != "reason"]
    row = {"title": "Answer", "type": "object", "properties": said, "required": needed}
    rows = {"type": "array", "items": {"$ref": REF.format(model="Answer")}}
    whole = {"title": "Predicted", "type": "object", "required": ["id", "rows"],
             "properties": {"id": {"type": "string"}, "rows": rows}}  # fmt: skip
    return {"Answer": row, "Predicted": whole}


def describe(app: FastAPI, service: Any, more: tuple[type[BaseModel], ...] = ()) -> Json:
    """The whole description, as plain JSON."""
    plain: dict[str, Any] = app.openapi()
    models = [service.Predict, service.Stream, service.Embed, service.Search, Error, *ANSWERS.values(), *more]
    _, found = models_json_schema([(m, "validation") for m in models], ref_template=REF)
    schemas = found["$defs"] | predicted(service)
    for name in ("Predict", "Stream", "Embed", "Search"):
        schemas[f"{name}Options"] = _options(schemas[name], f"{name}Options")
    for name in ("Embeddings", "Chat"):
        if name in schemas:
            schemas[name]["properties"]["model"] |= {"enum": list(service.models)}
    plain.setdefault("components", {})["schemas"] = schemas
    if service.settings.keys:
        plain["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    return plain


def _options(schema: dict[str, Any], title: str) -> Json:
    """A body without what a form has in parts of its own."""
    kept = {name: one for name, one in schema["properties"].items() if name not in ("rows", "queries")}
    return {"title": title, "type": "object", "additionalProperties": False, "properties": kept}
