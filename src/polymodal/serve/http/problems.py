"""What a client is told when something is wrong: one form for all of it."""

from __future__ import annotations

import json
from typing import Any

from polymodal.core.errors import UserError, shorten
from polymodal.core.schema import Json

BUSY = 503


class Problem(Exception):
    """An answer that is no answer. `after`: seconds after which to try again."""

    def __init__(self, status: int, where: str, problem: str, *, given: object = None, advice: str = "",
                 after: float | None = None) -> None:  # fmt: skip
        self.status, self.where, self.problem, self.advice = status, where, problem, advice
        self.given = None if given is None else shorten(given)  # not all of what a client sent
        self.after = after
        super().__init__(f"{status} {where}: {problem}")

    def told(self) -> str:
        """What is written down of it; nothing that the request held is kept alive by it any more."""
        self.__traceback__ = self.__context__ = None
        return str(self)[:300]

    @classmethod
    def of(cls, error: UserError, status: int = 422) -> Problem:
        """A mistake that somebody can mend, as the client is told it."""
        where = error.where.removeprefix("--")
        return cls(status, where, error.problem, given=error.given, advice=error.advice)

    def body(self, id: str, *, openai: bool = False) -> bytes:
        """JSON: `{"error": {...}, "id"}`; for clients of OpenAI in the form that they know."""
        error: dict[str, Json] = {name: getattr(self, name) for name in ("where", "problem", "given", "advice")}
        if openai:
            kind = "invalid_request_error" if self.status < 500 else "server_error"
            message = ": ".join(filter(None, (self.where, self.problem))) + (f"; {self.advice}" if self.advice else "")
            error |= {"message": message, "type": kind, "param": self.where or None, "code": None}
        return json.dumps({"error": error, "id": id}).encode()

    def headers(self) -> dict[str, str]:
        found = {"content-type": "application/json"}
        if self.after is not None:
            found["retry-after"] = str(max(1, round(self.after)))
        if self.status == 401:
            found["www-authenticate"] = "Bearer"
        return found


def busy(where: str, problem: str, after: float = 1.0) -> Problem:
    """Too much to do: come again."""
    return Problem(BUSY, where, problem, advice="try again after a moment", after=after)


def plain(value: Any) -> bytes:
    """JSON of an answer; numbers that JSON does not have become null."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:  # NaN, infinity, half characters
        return json.dumps(finite(value), separators=(",", ":")).encode()


def finite(value: Any) -> Any:
    """The same with null for what is not finite."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    return [finite(v) for v in value] if isinstance(value, list | tuple) else value
