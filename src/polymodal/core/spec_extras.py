"""What a spec says of a part from outside: its first weights, what is frozen and until when, how fast it learns."""

from __future__ import annotations

from collections.abc import Mapping

from polymodal.core.errors import SpecError
from polymodal.core.schema import check_settings
from polymodal.core.settings import Extras, Lora, Source, Thaw
from polymodal.core.spec_parts import PartSpec

OWN = {"encoder": "input", "decoder": "task"}  # kinds of parts, and what they belong to


def check_extras(part: PartSpec) -> PartSpec:
    """The part as it is. Raises SpecError for extras that are wrong, or do not go together."""
    extras, where = part.extras, part.where
    check_settings(Extras, {k: v for k, v in extras.items() if k != "from"}, where, frozenset({"from"}))
    lora_of(part), thaw_of(part), source_of(part)
    if extras.get("lora") and extras.get("freeze"):
        raise SpecError(f"{where}.lora", f"stands beside freeze: lora already freezes the {_noun(part)}'s own weights",
                        advice="leave out freeze")  # fmt: skip
    if extras.get("thaw") is not None and not extras.get("freeze"):
        raise SpecError(f"{where}.thaw", "is for what is frozen", given=extras["thaw"], advice="freeze: true")
    return part


def lora_of(part: PartSpec) -> Lora | None:
    given = part.extras.get("lora")
    settings = check_settings(Lora, given, f"{part.where}.lora") if isinstance(given, Mapping) else {}
    return Lora(**settings) if given else None


def thaw_of(part: PartSpec) -> Thaw | None:
    """`3` is `{after: 3}`: in the first three epochs it is frozen."""
    given = part.extras.get("thaw")
    if given is None:
        return None
    block = given if isinstance(given, Mapping) else {"after": given}
    return Thaw(**check_settings(Thaw, block, f"{part.where}.thaw"))


def source_of(part: PartSpec) -> Source | None:
    """`RUN` is `{run: RUN}`. An encoder may name another input of the run, a decoder another task."""
    given, where = part.extras.get("from"), f"{part.where}.from"
    if given is None:
        return None
    if not isinstance(given, str | Mapping):
        raise SpecError(where, "must name the folder of a run", given=given, advice="from: runs/run-1")
    source = Source(**check_settings(Source, {"run": given} if isinstance(given, str) else given, where))
    for name in ("input", "task"):
        if getattr(source, name) is not None and name != OWN.get(_noun(part)):
            raise SpecError(f"{where}.{name}", f"a part of this kind belongs to no {name}", given=getattr(source, name),
                            advice="leave it out")  # fmt: skip
    return source


def _noun(part: PartSpec) -> str:
    return part.kind.partition(".")[0]
