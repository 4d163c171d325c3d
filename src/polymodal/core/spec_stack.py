"""Early fusion in a spec: `stack` joins aligned inputs of one type before they are encoded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from polymodal.core import catalog
from polymodal.core.errors import SpecError, suggest
from polymodal.core.schema import Json
from polymodal.core.spec_inputs import InputSpec
from polymodal.core.spec_parts import mapping

APART = ("encoder", "follow", "cache", "stack")  # what is said of the whole stack, or not at all


def unfold(plain: Json) -> Json:
    """The spec with every stack written out, as `{type: T, stack: {name: {type: T, column: ...}, ...}}`.

    A stack that is a list names inputs of the spec, which are then no inputs of their own, or columns. What has not
    the form of a spec is left as it is. Raises SpecError.
    """
    inputs = plain.get("inputs") if isinstance(plain, Mapping) else None
    if not isinstance(inputs, Mapping):
        return plain
    inputs = {str(n): {"type": block} if isinstance(block, str) else block for n, block in inputs.items()}
    stacks = {n: block for n, block in inputs.items() if isinstance(block, Mapping) and "stack" in block}
    named = [m for block in stacks.values() if isinstance(block["stack"], list) for m in block["stack"]]
    kept = {n: block for n, block in inputs.items() if n in stacks or n not in named}
    return {**plain, "inputs": kept | {n: _unfolded(n, block, inputs) for n, block in stacks.items()}}


def _unfolded(name: str, block: Mapping[str, Json], inputs: Mapping[str, Json]) -> dict[str, Json]:
    where, stack = f"inputs.{name}", block["stack"]
    for key in ("column", "columns"):
        if key in block:
            raise SpecError(f"{where}.{key}", "stands beside stack, whose inputs have columns of their own",
                            given=block[key], advice="leave it out")  # fmt: skip
    if isinstance(stack, list):
        members = {str(m): _named(m, where, block, inputs) for m in stack}
    elif isinstance(stack, Mapping):
        members = {str(m): _written(str(m), one, where, block) for m, one in stack.items()}
    else:
        raise SpecError(f"{where}.stack", "must be names of inputs", given=stack, advice="[camera, radar]")
    if len(members) < 2 or len(members) < len(stack):
        raise SpecError(f"{where}.stack", "needs two or more different inputs", given=stack, advice="[camera, radar]")
    types = {m: one["type"] for m, one in members.items()} | ({name: block["type"]} if "type" in block else {})
    if len(set(map(str, types.values()))) > 1:
        raise SpecError(f"{where}.stack", "joins inputs of one type only", given=types,
                        advice="inputs of their own, which a fusion joins")  # fmt: skip
    return {**block, "type": next(iter(types.values())), "stack": members}


def _named(name: Json, where: str, block: Mapping[str, Json], inputs: Mapping[str, Json]) -> dict[str, Json]:
    """The block of an input that a list names; one for a column where the stack says its type itself."""
    if isinstance(name, str) and name in inputs:
        return _alone(name, inputs[name], f"inputs.{name}", where)
    if not isinstance(name, str) or "type" not in block:
        raise SpecError(f"{where}.stack", "no input of this name", given=name,
                        advice=suggest(name, inputs, "or a `type` for columns"))  # fmt: skip
    return {"type": block["type"], "column": name}


def _written(name: str, one: Json, where: str, block: Mapping[str, Json]) -> dict[str, Json]:
    one = {"type": one} if isinstance(one, str) else {} if one is None else one
    place = f"{where}.stack.{name}"
    mapping(one, place)
    kind = one.get("type", block.get("type"))
    if not isinstance(kind, str):
        raise SpecError(f"{place}.type", "the name of a part is needed", given=kind,
                        advice=suggest("", catalog.names("reader")))  # fmt: skip
    return _alone(name, {**one, "type": kind}, place, where)


def _alone(name: str, one: Json, place: str, stack: str) -> dict[str, Json]:
    """The member's block, with its column. Raises SpecError for what only the whole stack can have."""
    mapping(one, place)
    for key in APART:
        if one.get(key) is not None:
            what = "cannot be stacked again" if key == "stack" else "belongs to the stack, which is encoded as one"
            raise SpecError(f"{place}.{key}", what, given=one[key], advice=f"{stack}.{key}")
    if not isinstance(one.get("type"), str):
        raise SpecError(f"{place}.type", "the name of a part is needed", given=one.get("type"),
                        advice=suggest("", catalog.names("reader")))  # fmt: skip
    kept = {str(k): v for k, v in one.items() if k not in APART}
    return kept if "column" in kept or "columns" in kept else {**kept, "column": name}


def check_stacks(inputs: Iterable[InputSpec]) -> None:
    """Raise SpecError for a stack of a type whose cells cannot be joined. Imports the readers."""
    for one in inputs:
        if one.stack and not hasattr(catalog.load("reader", one.reader.type, f"inputs.{one.name}.type"), "stacked"):
            problem = f"{one.reader.type} has no axis along which cells could be joined"
            raise SpecError(f"inputs.{one.name}.stack", problem, given=list(one.stack),
                            advice="inputs of their own, which a fusion joins")  # fmt: skip
