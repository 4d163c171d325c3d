"""Everything that can be asked of a server, as generators of requests and pauses that know no transport."""

from __future__ import annotations

import json
import random
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from polymodal.client.asks import AT_ONCE, Ask, Row, cell, given, lots, rows_ask
from polymodal.client.replies import Reply, answer, error_of
from polymodal.client.results import About, Answer, Hit, Input, Query, ServerError, TaskInfo, Vectors
from polymodal.core.catalog import need
from polymodal.core.schema import Json

BUSY = (429, 503)  # nothing was done: the same may be asked again
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0  # seconds

T = TypeVar("T")


class Pause(NamedTuple):
    """Seconds to wait."""

    seconds: float


Steps = Generator[Ask | Pause, Reply, T]


class Asking:
    """What both clients are made with, and how they ask again."""

    def __init__(self, url: str, token: str | None = None, *, timeout: float = 60.0, tries: int = 5,
                 at_once: int = AT_ONCE, http: Any = None) -> None:  # fmt: skip
        """`timeout` in seconds. `tries`: how often something is asked that the server is too busy for. `at_once`: rows
        in a request. `http`: an httpx client to use instead of an own one."""
        self.url, self.timeout, self.tries, self.at_once = url.rstrip("/"), timeout, tries, at_once
        self.headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._lot = random.Random()
        if http is None:
            need("httpx", "the client")
            http = self._connect()
        self.http: Any = http

    def _connect(self) -> Any:
        raise NotImplementedError

    def _asked(self, ask: Ask) -> Steps[Reply]:
        """The answer; asked again after a pause while the server is busy or not there. Raises ServerError.

        Nothing that can be asked changes anything on the server, so that asking twice is asking once.
        """
        for turn in range(max(1, self.tries)):
            reply = yield ask
            if 200 <= reply.status < 300:
                return reply
            if turn + 1 < self.tries and (reply.status in BUSY or not reply.status):
                yield Pause(self._pause(turn, reply.headers.get("retry-after")))
            else:
                break
        raise error_of(self.url, ask, reply)

    def _pause(self, turn: int, asked_for: str | None) -> float:
        """What the server asked for, or twice as long each turn; a little more by lot, so that not all come at once."""
        known = asked_for is not None and asked_for.isdigit()
        seconds = float(asked_for or 0) if known else FIRST_PAUSE * 2**turn
        return min(LONGEST_PAUSE, seconds) * (1 + 0.25 * self._lot.random())

    def _json(self, ask: Ask) -> Steps[dict[str, Any]]:
        reply = yield from self._asked(ask)
        try:
            found = json.loads(reply.content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ServerError(reply.status, f"{self.url}{ask.path}", "answers no JSON: this is no polymodal server",
                              given=reply.content[:200])  # fmt: skip
        return found

    # what can be asked, free of any transport

    def _about(self) -> Steps[About]:
        """What the server serves."""
        found = yield from self._json(Ask("GET", "/v1/run"))
        inputs = {n: Input(i["type"], i["columns"], i["file"]) for n, i in found["inputs"].items()}
        tasks = {n: TaskInfo(t["type"], t["says"], t["classes"], t["speaks"]) for n, t in found["tasks"].items()}
        space = (found.get("space") or {}).get("names", [])
        return About(found["name"], found["version"], inputs, tasks, space, found.get("index"), found["limits"])

    def _ready(self) -> Steps[bool]:
        """Whether the server answers, now."""
        reply = yield Ask("GET", "/ready")
        return reply.status == 200

    def _predict(self, rows: Iterable[Row] | Row, *, sets: float | None = None, abstain: float | None = None,
                 reason: bool = False, respond: Mapping[str, Json] | None = None,
                 seed: int | None = None) -> Steps[list[Answer]]:  # fmt: skip
        """An answer for every row, in order; many rows are sent in several requests.

        `sets`, `abstain` and `respond` as in `Run.predict`; `reason`: also why. `seed`: of drawing by lot.
        """
        options = given(sets=sets, abstain=abstain, reason=reason or None, respond=respond, seed=seed)
        answers: list[Answer] = []
        for lot in lots([rows] if isinstance(rows, Mapping) else rows, self.at_once):
            found = yield from self._json(rows_ask("/v1/predict", lot, options))
            answers += [answer(line, len(answers) + at, found["id"]) for at, line in enumerate(found["rows"])]
        return answers

    def _embed(self, rows: Iterable[Row] | Row) -> Steps[Vectors]:
        """The vectors of every row, by space."""
        all_spaces, errors = dict[str, list[list[list[float]]]](), list[str | None]()
        for lot in lots([rows] if isinstance(rows, Mapping) else rows, self.at_once):
            found = yield from self._json(rows_ask("/v1/embed", lot, {}))
            for space, vectors in found["vectors"].items():
                all_spaces.setdefault(space, []).extend(vectors)
            errors += found["errors"]
        return Vectors(all_spaces, errors)

    def _search(self, queries: Query | Sequence[Query] = (), *, k: int = 10, where: str | None = None,
                words: str | None = None, like: Sequence[str] = (), unlike: Sequence[str] = (),
                offset: int = 0, space: str | None = None, exact: bool = False) -> Steps[list[Hit]]:  # fmt: skip
        """The nearest rows of the index; see `docs/search.md` for filters and words."""
        asked = [queries] if isinstance(queries, Query) else queries
        listed = [{"input": q.input, "value": cell(q.value), "weight": float(q.weight)} for q in asked]
        body = given(where=where, words=words, like=list(like) or None, unlike=list(unlike) or None,
                     space=space, exact=exact or None)  # fmt: skip
        found = yield from self._json(Ask("POST", "/v1/search", {"queries": listed, "k": k, "offset": offset, **body}))
        return [Hit(h["id"], h["score"], h["row"], list(h.get("pictures", {}))) for h in found["hits"]]

    def _preview(self, id: str, column: str) -> Steps[bytes]:
        """The small picture of a row of the index: a JPEG."""
        reply = yield from self._asked(Ask("GET", f"/v1/preview/{quote(id, safe='')}/{quote(column, safe='')}"))
        return reply.content

    def _sentence(self, row: Row, respond: Mapping[str, Json] | None, seed: int | None) -> tuple[Ask, dict[str, str]]:
        """The request of `stream`, and its headers."""
        return rows_ask("/v1/stream", [row], given(respond=respond, seed=seed)), self.headers
