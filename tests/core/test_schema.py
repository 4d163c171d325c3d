"""A signature as a schema, over a class made for the purpose and over every part in the catalogue."""

from __future__ import annotations

from typing import Literal

import pytest

from polymodal.core import catalog
from polymodal.core.errors import SpecError
from polymodal.core.schema import Chance, Part, Positive, Wired, check_settings, describe, parameters, settable


class Example:
    def __init__(
        self, *, field: Wired[dict], size: Positive, kind: Literal["a", "b"] = "a", drop: Chance = 0.0,
        sizes: tuple[int, ...] = (1,), name: str | None = None, inner: Part["fusion"] = None,
    ) -> None:  # fmt: skip
        pass


def test_what_a_user_may_set() -> None:
    assert list(settable(Example)) == ["size", "kind", "drop", "sizes", "name", "inner"]
    assert parameters(Example)["field"].wired
    assert parameters(Example)["inner"].kind == "fusion"
    assert parameters(Example)["size"].required


def test_values_are_checked_and_converted() -> None:
    good = {"size": 3, "kind": "b", "drop": 0, "sizes": [1, 2], "name": None}
    assert check_settings(Example, good, "x") == {"size": 3, "kind": "b", "drop": 0.0, "sizes": (1, 2), "name": None}


@pytest.mark.parametrize(
    ("given", "where"),
    [({"size": 0}, "x.size"), ({"size": True}, "x.size"), ({"size": "3"}, "x.size"), ({"size": 2.5}, "x.size"),
     ({}, "x.size"), ({"size": 1, "kind": "c"}, "x.kind"), ({"size": 1, "drop": 1.0}, "x.drop"),
     ({"size": 1, "sizes": [1, "b"]}, "x.sizes.1"), ({"size": 1, "field": {}}, "x.field"),
     ({"size": 1, "nmae": "n"}, "x.nmae"), ({"size": 1, "name": {1, 2}}, "x.name")],
)  # fmt: skip
def test_what_is_wrong_says_where(given: dict, where: str) -> None:
    with pytest.raises(SpecError) as error:
        check_settings(Example, given, "x")
    assert error.value.where == where


def test_types_as_people_read_them() -> None:
    known = parameters(Example)
    assert describe(known["size"].annotation) == "int > 0"
    assert describe(known["kind"].annotation) == "'a' | 'b'"
    assert describe(known["name"].annotation) == "str | None"
    assert describe(known["inner"].annotation) == "fusion part"
    assert describe(known["drop"].annotation) == "float >= 0.0 < 1.0"


@pytest.mark.parametrize("kind", catalog.PARTS)
def test_every_part_in_the_catalogue_is_its_own_schema(kind: str) -> None:
    for name in catalog.PARTS[kind]:
        cls = catalog.load(kind, name, kind)
        assert cls.__doc__, f"{kind} {name} has no docstring"
        for parameter in settable(cls).values():
            assert describe(parameter.annotation)
            if not parameter.required and parameter.kind is None and parameter.default is not None:
                plain = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
                assert check_settings(cls, {parameter.name: plain} | _needed(cls), "x") is not None


def _needed(cls: type) -> dict:
    return {n: "x" for n, p in settable(cls).items() if p.required}
