"""Constructing a part from what a spec says of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from polymodal.core import catalog
from polymodal.core.errors import SpecError, TableError
from polymodal.core.schema import check_settings, parameters
from polymodal.core.spec_parts import PartSpec, read_part


def build(part: PartSpec, **wired: Any) -> Any:
    """Construct a part: checked settings from the spec, `wired` values where its signature marks them, nested parts."""
    cls = catalog.load(part.kind, part.type, f"{part.where}.type")
    known = parameters(cls)
    given = dict(part.settings)
    for name, p in known.items():
        chosen = given.get(name, p.default if isinstance(p.default, str) else None)
        if p.kind and chosen is not None:
            inner = read_part(chosen, p.kind, f"{part.where}.{name}")
            inner_cls = catalog.load(inner.kind, inner.type, f"{inner.where}.type")
            inner.settings.update(check_settings(inner_cls, inner.settings, inner.where))  # lists become tuples
            given[name] = build(inner, **wired)
    with placing(part.where):
        return cls(**given, **{n: wired[n] for n, p in known.items() if p.wired and n in wired})


@contextmanager
def placing(where: str) -> Iterator[None]:
    """A part's own complaint, `augment.fip`, at its place in the spec: `inputs.photo.augment.fip`."""
    try:
        yield
    except SpecError as error:
        inner = error.where.removeprefix("encoder.")
        place = error.where if error.where.startswith(where) else f"{where}.{inner}"
        raise SpecError(place, error.problem, given=error.given, advice=error.advice) from None
    except TableError as error:
        place = f"{where}.column" if error.where == "target" else error.where
        raise TableError(place, error.problem, given=error.given, advice=error.advice) from None
