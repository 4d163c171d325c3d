"""A constructor is its own schema: its typed, keyword-only signature says what a spec may set."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt

from polymodal.core.errors import SpecError, suggest

Json = Any  # None, bool, int, float, str, list or dict of such

Positive = Annotated[int, Gt(0)]
Natural = Annotated[int, Ge(0)]
Rate = Annotated[float, Gt(0.0)]
Share = Annotated[float, Ge(0.0), Le(1.0)]
Chance = Annotated[float, Ge(0.0), Lt(1.0)]  # dropout and the like


class _WiredMark:
    pass


if typing.TYPE_CHECKING:
    _T = typing.TypeVar("_T")
    Wired = Annotated[_T, _WiredMark()]
else:

    class Wired:
        """`Wired[T]` marks a parameter that `assemble.py` passes; writing it in a spec is an error."""

        def __class_getitem__(cls, item: Any) -> Any:
            return Annotated[item, _WiredMark()]


@dataclass(frozen=True)
class PartKind:
    kind: str


class Part:
    """`Part["fusion"]` marks a parameter that is itself a part of that kind, built before the outer one."""

    def __class_getitem__(cls, kind: str) -> Any:
        return Annotated[Any, PartKind(kind)]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a part: its type, its default (`...` when required), and what marks it."""

    name: str
    annotation: Any
    default: Any
    wired: bool
    kind: str | None  # of a nested part

    @property
    def required(self) -> bool:
        return self.default is ...


def _constructor(cls: type) -> Callable[..., None]:
    return getattr(cls, "__init__")  # noqa: B009  mypy: the class itself is meant, not an instance


def parameters(cls: type) -> dict[str, Parameter]:
    """The parameters of a part's constructor, in order. Raises TypeError where the constructor breaks the rules."""
    hints = typing.get_type_hints(_constructor(cls), include_extras=True)
    found: dict[str, Parameter] = {}
    for name, p in list(inspect.signature(_constructor(cls)).parameters.items())[1:]:
        if p.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise TypeError(f"{cls.__qualname__}: parameter {name!r} must be keyword-only, without *args or **kwargs")
        if name not in hints:
            raise TypeError(f"{cls.__qualname__}: parameter {name!r} has no type")
        marks = getattr(hints[name], "__metadata__", ())
        kinds = [m.kind for m in marks if isinstance(m, PartKind)]
        found[name] = Parameter(
            name=name,
            annotation=hints[name],
            default=... if p.default is inspect.Parameter.empty else p.default,
            wired=any(isinstance(m, _WiredMark) for m in marks),
            kind=kinds[0] if kinds else None,
        )
    return found


def settable(cls: type) -> dict[str, Parameter]:
    """What a user may set on this part."""
    return {name: p for name, p in parameters(cls).items() if not p.wired}


def check_settings(cls: type, settings: Mapping[str, Json], where: str, also: frozenset[str] = frozenset()) -> dict:
    """The settings with their values checked and converted to the types of the signature (defaults not filled in).

    `also` are the names that the surrounding block allows besides; they only appear in the advice.
    Raises SpecError with the path of the first wrong setting.
    """
    known = parameters(cls)
    options = [n for n, p in known.items() if not p.wired] + sorted(also)
    checked = {}
    for name, value in settings.items():
        place = f"{where}.{name}"
        if name in known and known[name].wired:
            raise SpecError(place, "is wired by the program and cannot be set", given=value, advice="leave it out")
        if name not in known:
            raise SpecError(place, "no setting of this name", given=name, advice=suggest(name, options))
        checked[name] = value if known[name].kind else check_value(known[name].annotation, value, place)
    for name, p in known.items():
        if p.required and not p.wired and name not in settings:
            raise SpecError(f"{where}.{name}", "is needed", advice=f"set it, a value of type {describe(p.annotation)}")
    return checked


def check_value(annotation: Any, value: Json, where: str) -> Any:
    """`value` as the annotated type (strictly: no text for a number). Raises SpecError."""
    from pydantic import TypeAdapter, ValidationError

    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise SpecError(where, "is not a plain, finite value", given=value, advice=describe(annotation)) from None
    try:
        return TypeAdapter(annotation).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([where, *(str(step) for step in first["loc"] if isinstance(step, int))])
        reason = first["msg"][0].lower() + first["msg"][1:]
        raise SpecError(place, reason, given=value, advice=f"a value of type {describe(annotation)}") from None


def describe(annotation: Any) -> str:
    """A type as a person reads it: `int > 0`, `'adam' | 'sgd'`, `float | None`."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        signs = {Gt: (">", "gt"), Ge: (">=", "ge"), Lt: ("<", "lt"), Le: ("<=", "le")}
        bounds = [f"{signs[type(m)][0]} {getattr(m, signs[type(m)][1])}" for m in args[1:] if type(m) in signs]
        kinds = [f"{m.kind} part" for m in args[1:] if isinstance(m, PartKind)]
        return kinds[0] if kinds else " ".join([describe(args[0]), *bounds])
    if origin is typing.Literal:
        return " | ".join(repr(a) for a in args)
    if origin is typing.Union or type(annotation).__name__ == "UnionType":
        return " | ".join(describe(a) for a in args)
    if origin is not None:
        inner = ", ".join("..." if a is ... else describe(a) for a in args)
        return f"{getattr(origin, '__name__', origin)}[{inner}]"
    return "None" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))
