"""The spec: one short text that names a part for each step. `parse` checks its form; `validate` checks every part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from polymodal.core import catalog, html, presets, yaml12
from polymodal.core.errors import SpecError, suggest
from polymodal.core.schema import Json, check_settings, parameters
from polymodal.core.settings import Data, EncoderExtras, Lora, Model, Train

INPUT_KEYS = frozenset({"column", "columns", "encoder", "follow", "cache"})
TASK_KEYS = frozenset({"column", "columns", "reader", "weight"})
RESERVED = frozenset({"row", "error"})
ENCODER_EXTRAS = frozenset({"freeze", "lr", "lora"})


@dataclass(frozen=True)
class PartSpec:
    """A part by name with its settings; `where` is its path in the spec."""

    kind: str
    type: str
    settings: dict[str, Json]
    where: str
    extras: dict[str, Json] = field(default_factory=dict)  # freeze, lr, lora of an encoder

    def json(self) -> dict[str, Json]:
        return {"type": self.type, **self.settings, **self.extras}


@dataclass(frozen=True)
class InputSpec:
    """An input: its reader's name and settings, its columns and its encoder."""

    name: str
    reader: PartSpec
    columns: tuple[str, ...]
    encoder: PartSpec
    follow: str | None = None
    cache: bool = True

    def json(self) -> dict[str, Json]:
        where = _where(self.columns)
        extra: dict[str, Json] = {"follow": self.follow} if self.follow else {}
        extra |= {} if self.cache else {"cache": False}
        return {"type": self.reader.type, **where, **self.reader.settings, **extra, "encoder": self.encoder.json()}


@dataclass(frozen=True)
class TaskSpec:
    """A task: its part, the columns of its target, its weight in the loss."""

    name: str
    part: PartSpec
    columns: tuple[str, ...]
    reader: PartSpec | None = None  # the task's own choice when not given
    weight: float = 1.0

    def json(self) -> dict[str, Json]:
        where = _where(self.columns)
        extra: dict[str, Json] = {"reader": self.reader.json()} if self.reader else {}
        extra |= {} if self.weight == 1.0 else {"weight": self.weight}
        return {"type": self.part.type, **where, **self.part.settings, **extra}


@dataclass(frozen=True)
class Spec:
    """The whole of it. `json()` gives back the plain form, `text()` the YAML."""

    data: Data
    inputs: dict[str, InputSpec]
    tasks: dict[str, TaskSpec]
    train: Train
    model: Model = field(default_factory=Model)
    attention: PartSpec | None = None
    fusion: PartSpec | None = None

    def json(self) -> dict[str, Json]:
        plain: dict[str, Json] = {"data": _changed(self.data), "inputs": {n: i.json() for n, i in self.inputs.items()}}
        if self.model != Model():
            plain["model"] = _changed(self.model)
        if self.attention:
            plain["attention"] = self.attention.json()
        if self.fusion:
            plain["fusion"] = self.fusion.json()
        return {**plain, "tasks": {n: t.json() for n, t in self.tasks.items()}, "train": _changed(self.train)}

    def text(self) -> str:
        return yaml12.dumps(self.json())

    def _repr_html_(self) -> str:
        return html.frame(html.source(self.text()))

    def dotted(self) -> list[PartSpec]:
        """Parts that come from outside the catalogue: their code must be trusted. None of them is imported."""
        found, left = [], self._outer()
        while left:
            part = left.pop(0)
            found += [part] if catalog.is_dotted(part.type) else []
            left += [] if catalog.is_dotted(part.type) else inner(part)
        return found

    def parts(self) -> list[PartSpec]:
        outer = self._outer()
        return outer + [n for p in outer for n in nested(p)]

    def _outer(self) -> list[PartSpec]:
        found = [p for i in self.inputs.values() for p in (i.reader, i.encoder)]
        found += [p for t in self.tasks.values() for p in (t.part, t.reader) if p]
        return found + [p for p in (self.attention, self.fusion) if p]

    def only(self, inputs: list[str]) -> Spec:
        """The same spec with just these inputs; one input needs no fusion."""
        kept = {n: i for n, i in self.inputs.items() if n in inputs}
        return replace(self, inputs=kept, fusion=self.fusion if len(kept) > 1 else None)


def _where(columns: tuple[str, ...]) -> dict[str, Json]:
    return {"column": columns[0]} if len(columns) == 1 else {"columns": list(columns)}


def _changed(section: Any) -> dict[str, Json]:
    return {f.name: getattr(section, f.name) for f in fields(section) if getattr(section, f.name) != f.default}


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


def load(path: str | Path, changes: list[str] | None = None) -> Spec:
    """Read a spec file; `changes` are `a.b=value` as the command line takes them. Raises SpecError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(str(path), f"cannot be read: {error.strerror}", advice="check the path") from None
    except UnicodeDecodeError as error:
        raise SpecError(str(path), f"is not UTF-8 (byte {error.start})", advice="save the spec as UTF-8") from None
    return parse(override(yaml12.loads(text, str(path)), changes or []))


def override(plain: Json, changes: list[str]) -> Json:
    """`plain` with each `a.b=value` set; the value is read as YAML; missing sections are made."""
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals or not path:
            raise SpecError("--set", "needs NAME=VALUE", given=change, advice="--set train.lr=3e-4")
        value, here = yaml12.loads(text, f"--set {path}"), plain
        *outer, last = path.split(".")
        for step in outer:
            inner = here.setdefault(step, {}) if isinstance(here, dict) else None
            if isinstance(inner, str):
                inner = here[step] = {"type": inner}  # the short form of a part
            if not isinstance(inner, dict):
                raise SpecError(f"--set {path}", f"{step!r} is not a section", given=change)
            here = inner
        here[last] = value
    return plain


def parse(plain: Json) -> Spec:
    """Plain values -> Spec, checking the form: sections, names and values, but no part's own settings yet."""
    _mapping(plain, "spec")
    plain = presets.expand(plain)
    known = ("data", "inputs", "model", "attention", "fusion", "tasks", "train")
    for name in plain:
        if name not in known:
            raise SpecError(str(name), "no section of this name", given=name, advice=suggest(name, (*known, "preset")))
    for name in ("inputs", "tasks"):
        if not plain.get(name):
            raise SpecError(name, "at least one is needed", advice=f"see `polymodal parts {name[:-1]}`")
        _mapping(plain[name], name)
    inputs = {str(n): _input(str(n), v) for n, v in plain["inputs"].items()}
    tasks = {str(n): _task(str(n), v) for n, v in plain["tasks"].items()}
    attention, fusion = (read_part(plain[k], k, k) if plain.get(k) else None for k in ("attention", "fusion"))
    if len(inputs) > 1 and fusion is None:
        advice = f"fusion: concat, {suggest('', catalog.names('fusion'))}"
        raise SpecError("fusion", "several inputs need a way of joining them", advice=advice)
    for one in inputs.values():
        if one.follow is not None and one.follow not in inputs:
            raise SpecError(f"inputs.{one.name}.follow", "no input of this name", given=one.follow,
                            advice=suggest(one.follow, inputs))  # fmt: skip
    data, model, train = (_section(c, plain.get(c.__name__.lower())) for c in (Data, Model, Train))
    for name in RESERVED & tasks.keys():
        raise SpecError(f"tasks.{name}", "is the name of another column of a prediction file", given=name,
                        advice=f"a name of its own, with `column: {name}`")  # fmt: skip
    if train.monitor is not None and train.monitor.partition(".")[0] not in tasks:
        raise SpecError("train.monitor", "no task of this name", given=train.monitor, advice=suggest("", tasks))
    return Spec(data, inputs, tasks, train, model, attention, fusion)


def _mapping(value: Json, where: str) -> None:
    if not isinstance(value, Mapping):
        raise SpecError(where, "must be a section of names and values", given=value, advice="name: value")


def _section(cls: type, plain: Json) -> Any:
    where = cls.__name__.lower()
    if plain is None:
        return cls()
    _mapping(plain, where)
    return cls(**check_settings(cls, plain, where))


def read_part(value: Json, kind: str, where: str, extras: frozenset[str] = frozenset()) -> PartSpec:
    """`name` or `{type: name, setting: value, ...}` -> PartSpec."""
    if isinstance(value, str):
        value = {"type": value}
    _mapping(value, where)
    if not isinstance(value.get("type"), str):
        advice = suggest("", catalog.names(kind), "or 'package.module:Class'")
        raise SpecError(f"{where}.type", "the name of a part is needed", given=value.get("type"), advice=advice)
    settings = {str(k): v for k, v in value.items() if k != "type" and k not in extras}
    return PartSpec(kind, value["type"], settings, where, {k: value[k] for k in extras if value.get(k) is not None})


def _columns(value: dict, name: str, where: str) -> tuple[str, ...]:
    if "column" in value and "columns" in value:
        raise SpecError(f"{where}.columns", "stands beside column", given=value["columns"], advice="keep one of them")
    found = value["columns"] if "columns" in value else [value.get("column", name)]
    if not isinstance(found, list) or not found or not all(isinstance(c, str) and c for c in found):
        raise SpecError(f"{where}.columns", "must be names of columns", given=found, advice="[front, back]")
    return tuple(found)


def _input(name: str, value: Json) -> InputSpec:
    where = f"inputs.{name}"
    value = {"type": value} if isinstance(value, str) else value
    reader = read_part(value, "reader", where)
    settings = {k: v for k, v in reader.settings.items() if k not in INPUT_KEYS}
    kind = f"encoder.{reader.type}"
    choice = value.get("encoder") or catalog.DEFAULT_ENCODER.get(reader.type)
    if choice is None:
        _known("reader", reader.type, f"{where}.type")
        raise SpecError(f"{where}.encoder", "is needed", advice=suggest("", catalog.names(kind)))
    encoder = read_part(choice, kind, f"{where}.encoder", ENCODER_EXTRAS)
    _check_extras(encoder)
    cache = value.get("cache", True)
    if not isinstance(cache, bool):
        raise SpecError(f"{where}.cache", "must be true or false", given=cache, advice="cache: false")
    return InputSpec(name, replace(reader, settings=settings), _columns(value, name, where), encoder,
                     value.get("follow"), cache)  # fmt: skip


def _known(kind: str, name: str, where: str) -> None:
    if name not in catalog.names(kind) and not catalog.is_dotted(name):
        catalog.load(kind, name, where)


def _check_extras(encoder: PartSpec) -> None:
    check_settings(EncoderExtras, encoder.extras, encoder.where)
    lora = encoder.extras.get("lora")
    if isinstance(lora, Mapping):
        check_settings(Lora, lora, f"{encoder.where}.lora")
    if lora and encoder.extras.get("freeze"):
        raise SpecError(f"{encoder.where}.lora", "stands beside freeze: lora already freezes the encoder's own weights",
                        advice="leave out freeze")  # fmt: skip


def _task(name: str, value: Json) -> TaskSpec:
    where = f"tasks.{name}"
    value = {"type": value} if isinstance(value, str) else value
    part = read_part(value, "task", where)
    reader = read_part(value["reader"], "target", f"{where}.reader") if value.get("reader") is not None else None
    weight = value.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise SpecError(f"{where}.weight", "must be a number, 0 or more", given=weight, advice="weight: 1.0")
    settings = {k: v for k, v in part.settings.items() if k not in TASK_KEYS}
    return TaskSpec(name, replace(part, settings=settings), _columns(value, name, where), reader, float(weight))


def validate(spec: Spec) -> Spec:
    """The spec with every part's settings checked against its signature. Imports the parts. Raises SpecError."""
    also = {"reader": INPUT_KEYS, "task": TASK_KEYS, "encoder": ENCODER_EXTRAS}
    for part in spec.parts():
        cls = catalog.load(part.kind, part.type, f"{part.where}.type")
        others = also.get(part.kind.partition(".")[0], frozenset()) | {"type"}
        part.settings.update(check_settings(cls, part.settings, part.where, others))
    return spec
