"""Filters on columns, `price < 50 and brand = 'x'`: a small language of its own, so that nothing else can be said.

    filter  = some { "or" some }
    some    = one { "and" one }
    one     = "not" one | "(" filter ")" | test
    test    = column ( "=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=" ) value
            | column [ "not" ] "in" "(" value { "," value } ")"
            | column [ "not" ] "between" value "and" value
            | column "is" [ "not" ] "missing"
    column  = a bare name, or any name in "double quotes" or `backticks`
    value   = a number, 'text' or "text", true, false

Keywords may be in capitals; a quote inside quotes is doubled. A missing cell passes no test but `is missing`, and
`not` turns around whatever is said after it: `not price < 5` also passes rows without a price, `price >= 5` does not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from polymodal.core.errors import UserError, suggest

WHERE = "where"
LONGEST, DEEPEST, MOST = 10_000, 50, 1000  # characters, brackets in each other, values in a list
KINDS = ("text", "integer", "number", "boolean")  # columns that can be filtered; others only by `is missing`
TOKEN = re.compile(r"""
    (?P<space>\s+)
  | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])
  | (?P<text>'(?:[^']|'')*')
  | (?P<quoted>"(?:[^"]|"")*")
  | (?P<ticked>`(?:[^`]|``)*`)
  | (?P<sign><=|>=|<>|!=|==|=|<|>|\(|\)|,)
  | (?P<word>[^\W\d][\w.]*)
""", re.X)  # fmt: skip
SIGNS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
COMPUTED = {
    "=": "equal",
    "in": "equal",
    "!=": "not_equal",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
}  # fmt: skip  what pyarrow calls them
KEYWORDS = ("and", "or", "not", "in", "between", "is", "missing", "null", "true", "false")
EXAMPLE = "price < 50 and brand = 'x'"
Value = str | int | float | bool


class Is(NamedTuple):
    """A column beside values: `sign` is =, !=, <, <=, >, >= (one value), in (any number) or missing (none)."""

    column: str
    sign: str
    values: tuple[Value, ...] = ()


class Not(NamedTuple):
    inner: Filter


class All(NamedTuple):
    parts: tuple[Filter, ...]


class Any_(NamedTuple):
    parts: tuple[Filter, ...]


Filter = Is | Not | All | Any_


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def parse(text: str, columns: Mapping[str, str]) -> Filter:
    """The filter that a text says; `columns` are those of the index, with their types. Raises UserError."""
    if len(text) > LONGEST:
        raise UserError(WHERE, f"is longer than {LONGEST} characters", advice="a shorter filter")
    return _Parser(text, columns).whole()


class _Parser:
    def __init__(self, text: str, columns: Mapping[str, str]) -> None:
        self.text, self.columns, self.depth, self.next = text, columns, 0, 0
        self.tokens = list(_tokens(text))

    def whole(self) -> Filter:
        found = self._or()
        if self._peek() is not None:
            raise self._error("has more than a filter", "`and` or `or` between two tests")
        return found

    def _or(self) -> Filter:
        parts = [self._and()]
        while self._take("or"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else Any_(tuple(parts))

    def _and(self) -> Filter:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _one(self) -> Filter:
        self.depth += 1
        if self.depth > DEEPEST:
            raise UserError(WHERE, f"has more than {DEEPEST} brackets in each other", advice="a simpler filter")
        try:
            if self._take("not"):
                return Not(self._one())
            if self._take("("):
                inner = self._or()
                self._need(")")
                return inner
            return self._test()
        finally:
            self.depth -= 1

    def _test(self) -> Filter:
        column = self._column()
        if self._take("is"):
            turned = self._take("not")
            if not (self._take("missing") or self._take("null")):
                raise self._error("says nothing after `is`", f"{column} is missing")
            found: Filter = Is(column, "missing")
            return Not(found) if turned else found
        turned = self._take("not")
        if self._take("in"):
            values = self._list(column)
            return self._there(column, Not(Is(column, "in", values))) if turned else Is(column, "in", values)
        if self._take("between"):
            low = self._value(column, ">=")
            self._need("and")
            found = All((Is(column, ">=", (low,)), Is(column, "<=", (self._value(column, "<="),))))
            return self._there(column, Not(found)) if turned else found
        token = self._peek()
        if turned or token is None or token.text not in SIGNS:
            raise self._error(f"says nothing of {column!r}", EXAMPLE)
        self.next += 1
        sign = SIGNS[token.text]
        return Is(column, sign, (self._value(column, sign),))

    def _there(self, column: str, inner: Filter) -> Filter:
        return All((Not(Is(column, "missing")), inner))

    def _column(self) -> str:
        token = self._peek()
        if token is None or token.kind not in ("word", "quoted", "ticked"):
            raise self._error("needs a column here", EXAMPLE)
        name = token.text if token.kind == "word" else _unquoted(token.text)
        if name not in self.columns:
            raise UserError(WHERE, "the index keeps no column of this name", given=name,
                            advice=suggest(name, self.columns))  # fmt: skip
        self.next += 1
        return name

    def _list(self, column: str) -> tuple[Value, ...]:
        self._need("(")
        values = [self._value(column)]
        while self._take(","):
            values.append(self._value(column))
        self._need(")")
        if len(values) > MOST:
            raise UserError(WHERE, f"has more than {MOST} values in a list", advice="a shorter list")
        return tuple(values)

    def _value(self, column: str, sign: str = "=") -> Value:
        """The value that stands here, as the column has them. Raises UserError where it is of another type."""
        token, kind = self._peek(), self.columns[column]
        if token is None:
            raise self._error("ends before a value", EXAMPLE)
        self.next += 1
        value = _value(token)
        right = isinstance(value, str) if kind == "text" else isinstance(value, bool) if kind == "boolean" else (
            kind in KINDS and isinstance(value, int | float) and not isinstance(value, bool))  # fmt: skip
        whole = kind != "integer" or sign[0] in "<>" or not isinstance(value, float) or value.is_integer()
        if value is None or not right or not whole or (sign[0] in "<>" and kind == "boolean"):
            self.next -= 1
            wants = {"text": f"{column} = 'text'", "boolean": f"{column} = true", "integer": f"{column} < 50",
                     "number": f"{column} < 50"}.get(kind, f"{column} is missing")  # fmt: skip
            raise self._error(f"the column {column!r} holds {_spoken(kind)}", wants)
        # without a sign of zero, which the store would tell apart
        return float(value) + 0.0 if kind == "number" else _whole(value, sign) if isinstance(value, float) else value

    def _peek(self) -> _Token | None:
        return self.tokens[self.next] if self.next < len(self.tokens) else None

    def _take(self, text: str) -> bool:
        token = self._peek()
        found = token is not None and token.kind in ("word", "sign") and token.text.lower() == text
        self.next += found
        return found

    def _need(self, text: str) -> None:
        if not self._take(text):
            raise self._error(f"needs {text!r} here", EXAMPLE)

    def _error(self, problem: str, advice: str) -> UserError:
        token = self._peek()
        at = len(self.text) if token is None else token.at
        return UserError(WHERE, problem, given=self.text[:at] + "⟨here⟩" + self.text[at:], advice=advice)


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise UserError(WHERE, "cannot be read from here", given=text[at:], advice=EXAMPLE)
        if match.lastgroup != "space":
            found.append(_Token(str(match.lastgroup), match.group(), at))
        at = match.end()
    return found


def _unquoted(text: str) -> str:
    return text[1:-1].replace(text[0] * 2, text[0])


def _value(token: _Token) -> Value | None:
    if token.kind in ("text", "quoted"):
        return _unquoted(token.text)
    if token.kind == "number":
        return _number(token.text)
    return {"true": True, "false": False}.get(token.text.lower()) if token.kind == "word" else None


def _number(text: str) -> int | float:
    if text.lstrip("+-").isdigit() and len(text) < 19:
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise UserError(WHERE, "is no number that can be compared", given=text, advice="a smaller one")
    return value


def _whole(value: float, sign: str) -> int:
    """The whole number by which whole numbers are compared as by `value`: n < 0.5 is n < 1."""
    found = math.ceil(value) if sign in ("<", ">=") else math.floor(value)
    return min(max(found, -(1 << 63)), (1 << 63) - 1)


def _spoken(kind: str) -> str:
    return {"text": "text", "boolean": "true and false", "integer": "whole numbers", "number": "numbers"}.get(
        kind, "what cannot be compared")  # fmt: skip


def passes(wanted: Filter, row: Mapping[str, Any]) -> bool:
    """Whether a row passes: what every store must agree with."""
    if isinstance(wanted, Not):
        return not passes(wanted.inner, row)
    if isinstance(wanted, All):
        return all(passes(part, row) for part in wanted.parts)
    if isinstance(wanted, Any_):
        return any(passes(part, row) for part in wanted.parts)
    cell = row.get(wanted.column)
    if wanted.sign == "missing" or cell is None:
        return wanted.sign == "missing" and cell is None
    if wanted.sign in ("=", "in"):
        return cell in wanted.values
    value: Any = wanted.values[0]
    return {"!=": cell != value, "<": cell < value, "<=": cell <= value, ">": cell > value, ">=": cell >= value}[
        wanted.sign] if wanted.sign == "!=" or not isinstance(cell, bool) else False  # fmt: skip


def sql(wanted: Filter, stored: Mapping[str, str]) -> str:
    """The filter as SQL over the columns as they are `stored`: never null, so that `not` is plain."""
    if isinstance(wanted, Not):
        return f"(NOT {sql(wanted.inner, stored)})"
    if isinstance(wanted, All | Any_):
        return "(" + (" AND " if isinstance(wanted, All) else " OR ").join(sql(p, stored) for p in wanted.parts) + ")"
    column = stored[wanted.column]
    if wanted.sign == "missing":
        return f"({column} IS NULL)"
    values = [literal(value) for value in wanted.values]
    test = f"{column} IN ({', '.join(values)})" if wanted.sign == "in" else f"{column} {wanted.sign} {values[0]}"
    return f"({column} IS NOT NULL AND {test})"


def mask(wanted: Filter, table: pa.Table, stored: Mapping[str, str]) -> Any:
    """Which rows of an Arrow table pass, as an array of numpy; its columns are those `stored`."""
    return np.asarray(_mask(wanted, table, stored).to_numpy(zero_copy_only=False), bool)


def _mask(wanted: Filter, table: pa.Table, stored: Mapping[str, str]) -> Any:
    compute: Any = pc
    if isinstance(wanted, Not):
        return compute.invert(_mask(wanted.inner, table, stored))
    if isinstance(wanted, All | Any_):
        join = compute.and_ if isinstance(wanted, All) else compute.or_
        return reduce(join, (_mask(part, table, stored) for part in wanted.parts))
    column = table[stored[wanted.column]].combine_chunks()
    if wanted.sign == "missing":
        return compute.is_null(column)
    tests = (getattr(compute, COMPUTED[wanted.sign])(column, pa.scalar(value)) for value in wanted.values)
    return compute.fill_null(reduce(compute.or_, tests), False)


def literal(value: Value) -> str:
    """A value as SQL says it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value) if isinstance(value, int) else f"CAST('{value!r}' AS DOUBLE)"
