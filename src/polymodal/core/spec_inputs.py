"""The inputs of a spec: how each is read and encoded, and which are joined before they are encoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from polymodal.core import catalog
from polymodal.core.errors import SpecError, suggest
from polymodal.core.schema import Json
from polymodal.core.spec_extras import check_extras
from polymodal.core.spec_parts import EXTRAS, PartSpec, read_part

INPUT_KEYS = frozenset({"column", "columns", "encoder", "follow", "cache", "stack"})


@dataclass(frozen=True)
class Member:
    """One of several inputs that are joined before they are encoded: how it is read, and from which columns."""

    reader: PartSpec
    columns: tuple[str, ...]

    def json(self, shared: dict[str, Json]) -> dict[str, Json]:
        """Its columns, and the settings that are not those of the whole stack."""
        own = {k: v for k, v in self.reader.settings.items() if k not in shared or shared[k] != v}
        return {**where_of(self.columns), **own}


@dataclass(frozen=True)
class InputSpec:
    """An input: its reader's name and settings, its columns and its encoder.

    With a `stack` its members are read, each by a reader of its own, and joined; `reader` is then what is said of all.
    """

    name: str
    reader: PartSpec
    columns: tuple[str, ...]
    encoder: PartSpec
    follow: str | None = None
    cache: bool = True
    stack: dict[str, Member] = field(default_factory=dict)

    @property
    def parts(self) -> list[PartSpec]:
        """The readers, then the encoder."""
        shared = [self.reader] if self.reader.settings or not self.stack else []
        return [*shared, *(m.reader for m in self.stack.values()), self.encoder]

    def json(self) -> dict[str, Json]:
        shared = self.reader.settings
        stack: dict[str, Json] = {"stack": {n: m.json(shared) for n, m in self.stack.items()}}
        read = {"type": self.reader.type, **(stack if self.stack else where_of(self.columns)), **shared}
        extra: dict[str, Json] = {"follow": self.follow} if self.follow else {}
        extra |= {} if self.cache else {"cache": False}
        return {**read, **extra, "encoder": self.encoder.json()}


def where_of(columns: tuple[str, ...]) -> dict[str, Json]:
    return {"column": columns[0]} if len(columns) == 1 else {"columns": list(columns)}


def read_columns(value: Mapping[str, Json], name: str, where: str) -> tuple[str, ...]:
    """The columns that a block names, `name` where it names none. Raises SpecError."""
    if "column" in value and "columns" in value:
        raise SpecError(f"{where}.columns", "stands beside column", given=value["columns"], advice="keep one of them")
    found = value["columns"] if "columns" in value else [value.get("column", name)]
    if not isinstance(found, list) or not found or not all(isinstance(c, str) and c for c in found):
        raise SpecError(f"{where}.columns", "must be names of columns", given=found, advice="[front, back]")
    return tuple(found)


def read_input(name: str, value: Json) -> InputSpec:
    """The block of an input, its stack written out (`spec_stack.unfold`), -> InputSpec. Raises SpecError."""
    where = f"inputs.{name}"
    value = {"type": value} if isinstance(value, str) else value
    reader = read_part(value, "reader", where)
    reader = replace(reader, settings={k: v for k, v in reader.settings.items() if k not in INPUT_KEYS})
    encoder = _encoder(value, reader)
    cache = value.get("cache", True)
    if not isinstance(cache, bool):
        raise SpecError(f"{where}.cache", "must be true or false", given=cache, advice="cache: false")
    stack = {n: _member(n, block, reader) for n, block in value.get("stack", {}).items()}
    columns = tuple(dict.fromkeys(c for m in stack.values() for c in m.columns))
    return InputSpec(name, reader, columns or read_columns(value, name, where), encoder, value.get("follow"), cache,
                     stack)  # fmt: skip


def _member(name: str, block: Mapping[str, Json], shared: PartSpec) -> Member:
    where = f"{shared.where}.stack.{name}"
    own = {str(k): v for k, v in block.items() if k not in INPUT_KEYS and k != "type"}
    return Member(replace(shared, settings={**shared.settings, **own}, where=where), read_columns(block, name, where))


def _encoder(value: Mapping[str, Json], reader: PartSpec) -> PartSpec:
    kind = f"encoder.{reader.type}"
    choice = value.get("encoder") or catalog.DEFAULT_ENCODER.get(reader.type)
    if choice is None:
        if reader.type not in catalog.names("reader") and not catalog.is_dotted(reader.type):
            catalog.load("reader", reader.type, f"{reader.where}.type")
        raise SpecError(f"{reader.where}.encoder", "is needed", advice=suggest("", catalog.names(kind)))
    return check_extras(read_part(choice, kind, f"{reader.where}.encoder", EXTRAS))
