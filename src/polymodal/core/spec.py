"""The spec: one short text that names a part for each step. `parse` checks its form; `validate` checks every part."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from polymodal.core import catalog, html, presets, yaml12
from polymodal.core.errors import SpecError, suggest
from polymodal.core.schema import Json, check_settings
from polymodal.core.settings import Data, Model, Train
from polymodal.core.spec_apart import check_apart
from polymodal.core.spec_extras import check_extras
from polymodal.core.spec_inputs import INPUT_KEYS, InputSpec, read_columns, read_input, where_of
from polymodal.core.spec_parts import EXTRAS, PartSpec, inner, mapping, nested, read_part
from polymodal.core.spec_stack import check_stacks, unfold

TASK_KEYS = frozenset({"column", "columns", "reader", "weight"})
RESERVED = frozenset({"row", "error"})
JOINING = ("attention", "fusion", "align", "balance", "weigh")


@dataclass(frozen=True)
class TaskSpec:
    """A task: its part, the columns of its target, its weight in the loss."""

    name: str
    part: PartSpec
    columns: tuple[str, ...]
    reader: PartSpec | None = None  # the task's own choice when not given
    weight: float = 1.0

    def json(self) -> dict[str, Json]:
        where = where_of(self.columns)
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
    align: PartSpec | None = None
    balance: PartSpec | None = None
    weigh: PartSpec | None = None

    def json(self) -> dict[str, Json]:
        plain: dict[str, Json] = {"data": _changed(self.data), "inputs": {n: i.json() for n, i in self.inputs.items()}}
        if self.model != Model():
            plain["model"] = _changed(self.model)
        plain |= {part.where: part.json() for part in self._joining()}
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
        found = [p for i in self.inputs.values() for p in i.parts]
        found += [p for t in self.tasks.values() for p in (t.part, t.reader) if p]
        return found + self._joining()

    def _joining(self) -> list[PartSpec]:
        return [p for p in (self.attention, self.fusion, self.align, self.balance, self.weigh) if p]

    def only(self, inputs: list[str]) -> Spec:
        """The same spec with just these inputs; one input needs no fusion, and nothing to weigh it against."""
        kept = {n: i for n, i in self.inputs.items() if n in inputs}
        if len(kept) > 1:
            return replace(self, inputs=kept)
        return replace(self, inputs=kept, fusion=None, align=None, balance=None)


def _changed(section: Any) -> dict[str, Json]:
    return {f.name: getattr(section, f.name) for f in fields(section) if getattr(section, f.name) != f.default}


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
    mapping(plain, "spec")
    plain = presets.expand(unfold(plain))
    known = ("data", "inputs", "model", *JOINING, "tasks", "train")
    for name in plain:
        if name not in known:
            raise SpecError(str(name), "no section of this name", given=name, advice=suggest(name, (*known, "preset")))
    for name in ("inputs", "tasks"):
        if not plain.get(name):
            raise SpecError(name, "at least one is needed", advice=f"see `polymodal parts {name[:-1]}`")
        mapping(plain[name], name)
    inputs = {str(n): read_input(str(n), v) for n, v in plain["inputs"].items()}
    tasks = {str(n): _task(str(n), v) for n, v in plain["tasks"].items()}
    joining = {k: _joining(plain[k], k, len(tasks if k == "weigh" else inputs)) for k in JOINING if plain.get(k)}
    apart = all(task.part.type in catalog.APART or catalog.is_dotted(task.part.type) for task in tasks.values())
    if len(inputs) > 1 and "fusion" not in joining and not apart:
        advice = f"fusion: concat, {suggest('', catalog.choices('fusion'))}"
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
    return Spec(data, inputs, tasks, train, model, **joining)


def _joining(value: Json, name: str, count: int) -> PartSpec:
    model = name in ("attention", "fusion")
    part = read_part(value, name, name, EXTRAS if model else frozenset())
    if not model and count < 2:
        what = "tasks" if name == "weigh" else "inputs"
        raise SpecError(name, f"needs two {what} or more", given=part.type, advice=f"leave out {name}")
    part = replace(part, kind=catalog.stands(name, part.type))
    if part.kind != name:  # what joins answers has nothing that could be frozen or begun with
        part = replace(part, settings={**part.settings, **part.extras}, extras={})
    return check_extras(part)


def _section(cls: type, plain: Json) -> Any:
    where = cls.__name__.lower()
    if plain is None:
        return cls()
    mapping(plain, where)
    return cls(**check_settings(cls, plain, where))


def _task(name: str, value: Json) -> TaskSpec:
    where = f"tasks.{name}"
    value = {"type": value} if isinstance(value, str) else value
    part = read_part(value, "task", where)
    reader = read_part(value["reader"], "target", f"{where}.reader") if value.get("reader") is not None else None
    weight = value.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise SpecError(f"{where}.weight", "must be a number, 0 or more", given=weight, advice="weight: 1.0")
    settings = {k: v for k, v in part.settings.items() if k not in TASK_KEYS}
    return TaskSpec(name, replace(part, settings=settings), read_columns(value, name, where), reader, float(weight))


def validate(spec: Spec) -> Spec:
    """The spec with every part's settings checked against its signature. Imports the parts. Raises SpecError."""
    extras = dict.fromkeys(("encoder", "decoder", "attention", "fusion"), EXTRAS)
    also = {"reader": INPUT_KEYS, "task": TASK_KEYS, **extras}
    for part in map(check_extras, spec.parts()):
        cls = catalog.load(part.kind, part.type, f"{part.where}.type")
        others = also.get(part.kind.partition(".")[0], frozenset()) | {"type"}
        part.settings.update(check_settings(cls, part.settings, part.where, others))
    check_stacks(spec.inputs.values())
    check_apart(spec.tasks.values(), spec.attention, spec.fusion, len(spec.inputs))
    return spec
