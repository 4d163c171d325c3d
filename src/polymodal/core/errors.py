"""Errors for people: where it is, what was given, what to try."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake that the user can mend: shown in one screen, without a traceback; the process ends with code 2.

    `where` is a place the user knows (a path in the spec, a file and line, a command's flag).
    """

    def __init__(self, where: str, problem: str, *, given: object = None, advice: str = "") -> None:
        self.where, self.problem, self.given, self.advice = where, problem, given, advice
        lines = [f"{where}: {problem}"]
        if given is not None:
            lines.append(f"  given: {shorten(given)}")
        if advice:
            lines.append(f"  try:   {advice}")
        super().__init__("\n".join(lines))


class SpecError(UserError):
    """Something in the spec is not right."""


class TableError(UserError):
    """A table cannot be read or does not have what the spec names."""


class RunError(UserError):
    """A run folder is missing, incomplete, altered or of another format."""


class BadCell(Exception):
    """A cell that cannot be read: its reason goes to the ledger. It never ends a run by itself."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Stopped(Exception):
    """Ctrl-C was pressed and the work has been saved; the process ends with code 130."""


@contextmanager
def saving(
    place: object, kind: type[UserError] = UserError, advice: str = "check the path and the space"
) -> Iterator[None]:
    """What the system refuses while `place` is written, as an error for people: no space, no permission, no folder."""
    try:
        yield
    except OSError as error:
        raise kind(str(place), f"cannot be written: {error.strerror or error}", advice=advice) from None


def shorten(value: object, limit: int = 120) -> str:
    """`repr(value)`, cut in the middle when it is longer than `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 25]} … {text[-20:]}"


def suggest(given: object, options: Iterable[str], more: str = "") -> str:
    """Advice for a misspelt name: the nearest option first, then all of them, then `more`."""
    known = sorted(options)
    near = difflib.get_close_matches(str(given), known, n=1, cutoff=0.5)
    listed = f"one of {known}" if known else ""
    more = more if known else more.removeprefix("or ")
    return ", ".join(part for part in (*(repr(n) for n in near), listed, more) if part)
