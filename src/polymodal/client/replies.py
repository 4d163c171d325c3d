"""What comes back, as results or as the error that it tells of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from polymodal.client.asks import Ask
from polymodal.client.results import Answer, Piece, ServerError
from polymodal.core.schema import Json


class Reply(NamedTuple):
    """What came back; `status` 0 and a reason where nothing did."""

    status: int
    content: bytes
    headers: Mapping[str, str]


def answer(line: Mapping[str, Json], row: int, id: str) -> Answer:
    values = {n: v for n, v in line.items() if n not in ("row", "error", "reason")}
    return Answer(row, values, line.get("error"), line.get("reason") or {}, id)


def event(line: str, url: str, headers: Mapping[str, str]) -> Iterator[Piece | Answer]:
    """A line of `text/event-stream`. Raises ServerError for one that says so."""
    if not line.startswith("data:"):
        return
    found = json.loads(line.removeprefix("data:"))
    if "error" in found:
        raise told(200, url, found)
    if found.get("done"):
        yield answer(found["row"], 0, headers.get("x-request-id", ""))
    else:
        yield Piece(found["task"], found["text"])


def nothing(error: Exception) -> Reply:
    return Reply(0, (str(error) or type(error).__name__).encode(), {})


def error_of(url: str, ask: Ask, reply: Reply) -> ServerError:
    """What a reply without an answer says."""
    if not reply.status:
        return ServerError(0, url, f"cannot be reached: {reply.content.decode(errors='replace')}",
                           advice="polymodal serve RUN; check host, port and whether it is up")  # fmt: skip
    try:
        found = json.loads(reply.content)
        return told(reply.status, url, found)
    except (ValueError, KeyError, TypeError, AttributeError):
        text = reply.content[:200].decode(errors="replace")
        return ServerError(reply.status, f"{url}{ask.path}", f"answered {reply.status}", given=text or None,
                           advice="check that this is the address of `polymodal serve`")  # fmt: skip


def told(status: int, url: str, found: Mapping[str, Any]) -> ServerError:
    error = found["error"]
    return ServerError(status, error["where"] or url, error["problem"], given=error.get("given"),
                       advice=error.get("advice") or "", id=found.get("id"))  # fmt: skip
