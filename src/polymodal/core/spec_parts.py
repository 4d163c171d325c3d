"""A part as a spec names it: its type and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from polymodal.core import catalog
from polymodal.core.errors import SpecError, suggest
from polymodal.core.schema import Json, parameters

EXTRAS = frozenset({"freeze", "thaw", "lr", "layer_lr", "lora", "from"})  # what is said of a part from outside
EXTRAS_ANYWHERE = frozenset({"decoder"})  # kinds of parts that take extras wherever they stand


@dataclass(frozen=True)
class PartSpec:
    """A part by name with its settings; `where` is its path in the spec."""

    kind: str
    type: str
    settings: dict[str, Json]
    where: str
    extras: dict[str, Json] = field(default_factory=dict)  # freeze, lr, lora, ..., see `spec_extras`

    def json(self) -> dict[str, Json]:
        return {"type": self.type, **self.settings, **self.extras}


def mapping(value: Json, where: str) -> None:
    """Raise SpecError unless the value is a section."""
    if not isinstance(value, Mapping):
        raise SpecError(where, "must be a section of names and values", given=value, advice="name: value")


def read_part(value: Json, kind: str, where: str, extras: frozenset[str] = frozenset()) -> PartSpec:
    """`name` or `{type: name, setting: value, ...}` -> PartSpec."""
    if isinstance(value, str):
        value = {"type": value}
    mapping(value, where)
    if not isinstance(value.get("type"), str):
        advice = suggest("", catalog.choices(kind), "or 'package.module:Class'")
        raise SpecError(f"{where}.type", "the name of a part is needed", given=value.get("type"), advice=advice)
    extras = EXTRAS if kind in EXTRAS_ANYWHERE else extras
    settings = {str(k): v for k, v in value.items() if k != "type" and k not in extras}
    return PartSpec(kind, value["type"], settings, where,
                    {str(k): v for k, v in value.items() if k in extras and v is not None})  # fmt: skip


def nested(part: PartSpec) -> list[PartSpec]:
    """The parts inside this part's settings, at any depth."""
    found = inner(part)
    return found + [n for p in found for n in nested(p)]


def inner(part: PartSpec) -> list[PartSpec]:
    """The parts that are this part's own settings."""
    known = parameters(catalog.load(part.kind, part.type, f"{part.where}.type"))
    return [
        read_part(value, known[name].kind or "", f"{part.where}.{name}")
        for name, value in part.settings.items()
        if name in known and known[name].kind
    ]
