"""Somebody to talk to: what can be attached, and how an answer is asked for. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from polymodal.core.errors import UserError
from polymodal.core.schema import Json

Tell = Callable[[str], object]  # is handed an answer piece by piece, as it comes


class Manner(NamedTuple):
    """How answers are said: the likeliest, or drawn by lot where a temperature or a `top_p` is given."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int = 0

    @property
    def drawn(self) -> bool:
        return self.temperature is not None or self.top_p is not None

    def options(self) -> dict[str, Json]:
        """As `respond` of a task that says sentences takes them."""
        found: dict[str, Json] = {"search": "sample"} if self.drawn else {}
        known = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}
        return found | {name: value for name, value in known.items() if value is not None}

    def check(self) -> Manner:
        """The same. Raises UserError where a value makes no sense."""
        bounds = {
            "temperature": (self.temperature is None or 0 < self.temperature < math.inf, "more than 0, such as 0.7"),
            "top-p": (self.top_p is None or 0 < self.top_p <= 1, "more than 0, at most 1, such as 0.9"),
            "max-tokens": (self.max_tokens is None or self.max_tokens > 0, "1 or more"),
            "seed": (self.seed >= 0, "0 or more"),
        }
        for name, (right, advice) in bounds.items():
            if not right:
                given = getattr(self, name.replace("-", "_"))
                raise UserError(f"--{name}", "is out of range", given=given, advice=advice)
        return self


class Slot(NamedTuple):
    """Something that can be attached, and what is attached."""

    name: str
    kind: str  # as the spec says: image, text, audio, ...
    file: bool  # it is the path of a file
    given: str = ""


@runtime_checkable
class Partner(Protocol):
    @property
    def wants_words(self) -> bool: ...  # whether a line that is said means anything to it

    def slots(self) -> list[Slot]: ...
    def attach(self, what: str, name: str | None = None) -> Slot: ...  # UserError
    def clear(self) -> None: ...  # forgets what was attached and said
    def answer(self, line: str, tell: Tell) -> None: ...  # UserError; KeyboardInterrupt ends the answer


def existing(what: str) -> str:
    """The path of a file, absolute. Raises UserError where there is none."""
    path = Path(what.strip().strip("'\"")).expanduser()
    if not path.exists():
        raise UserError(str(path), "no such file", advice="check the path; it starts from the folder you are in")
    return str(path.resolve())
