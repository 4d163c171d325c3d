"""Who takes part in a comparison: every way of joining that is asked for, and each input alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from polymodal.core import catalog
from polymodal.core import spec as specs
from polymodal.core.errors import SpecError
from polymodal.core.schema import Json
from polymodal.core.spec import Spec
from polymodal.core.spec_parts import EXTRAS

Kind = Literal["joined", "single", "end_to_end"]
JOINING = ("fusion", "decision")  # kinds of parts that join the inputs
LONGEST = 80  # letters of a candidate's name


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a comparison is asked to do; see `polymodal.compare`."""

    fusion: tuple[Json, ...] = ()  # names or blocks; all when empty
    attention: tuple[Json, ...] = ()  # the spec's own when empty
    seeds: int = 3
    frozen: bool = False
    jobs: int = 1
    tune: int = 0  # settings tried for each candidate
    cluster: str | None = None  # column: rows of equal value hang together
    noise: bool = True
    baselines: tuple[str, ...] | None = None  # simple models by name; all that suit when None
    end_to_end: int = 3  # frozen: how many of the best, and of the worst, are trained once more as a whole

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("jobs", 1), ("tune", 0), ("end_to_end", 0)):
            given = getattr(self, name)
            if given < least:
                raise SpecError(name, f"must be {least} or more", given=given)


@dataclass(frozen=True)
class Candidate:
    """One way of using the inputs; `spec` is as for training it alone, but for the seed."""

    name: str  # also that of its folder
    kind: Kind
    spec: Spec = field(compare=False)
    inputs: tuple[str, ...] = ()  # of `single`: the one

    def seeded(self, seed: int) -> Spec:
        return replace(self.spec, train=replace(self.spec.train, seed=seed))


def seeds_of(spec: Spec, options: Options) -> tuple[int, ...]:
    return tuple(spec.train.seed + i for i in range(options.seeds))


def singles(spec: Spec) -> list[Candidate]:
    """Each input by itself."""
    only = {name: specs.parse(spec.only([name]).json()) for name in spec.inputs}
    return [Candidate(_label(f"only {name}", only), "single", one, (name,)) for name, one in only.items()]


def refuse_apart(spec: Spec) -> None:
    """Raise SpecError for a task that compares the inputs: no way of joining them makes a difference to it."""
    for name, task in spec.tasks.items():
        if getattr(catalog.load("task", task.part.type, f"tasks.{name}.type"), "apart", False):
            raise SpecError(f"tasks.{name}", "compares the inputs: there is nothing to join", given=task.part.type,
                            advice="a spec without this task, or polymodal train")  # fmt: skip


def joined(spec: Spec, options: Options) -> list[Candidate]:
    """Every attention with every fusion that is asked for; all fusions of the catalogue, where none is.

    With `frozen` the encoders are frozen: `trial` gives them what each input's own training has learned.
    Raises SpecError for what is wrong with any of them.
    """
    if len(spec.inputs) < 2:
        raise SpecError("inputs", "there is nothing to join", given=list(spec.inputs), advice="two inputs or more")
    fusions = options.fusion or tuple(name for kind in JOINING if kind in catalog.PARTS for name in catalog.names(kind))
    attentions = options.attention or (spec.attention.json() if spec.attention else None,)
    plain, found = spec.json(), dict[str, Spec]()
    if options.frozen:
        _freeze(plain["inputs"])
    for attention in attentions:
        for fusion in fusions:
            block = {k: v for k, v in plain.items() if k not in ("attention", "fusion")} | {"fusion": fusion}
            block |= {} if attention in (None, "none", {"type": "none"}) else {"attention": attention}
            named = _named(fusion) if len(attentions) == 1 else f"{_named(attention)} + {_named(fusion)}"
            if named in found:
                raise SpecError("fusion", "is asked for twice", given=named, advice="each of them once")
            found[named] = specs.validate(specs.parse(block))
    return [Candidate(_label(name, found), "joined", one) for name, one in found.items()]


def end_to_end(candidate: Candidate, spec: Spec) -> Candidate:
    """A candidate with frozen encoders as it is when all of it is trained. `spec` is the comparison's own."""
    plain = candidate.spec.json() | {"inputs": spec.json()["inputs"]}
    return Candidate(f"{candidate.name} (end to end)", "end_to_end", specs.validate(specs.parse(plain)))


def _freeze(inputs: Mapping[str, dict]) -> None:
    for block in inputs.values():
        block["encoder"] = {k: v for k, v in block["encoder"].items() if k not in EXTRAS} | {"freeze": True}


def _named(block: Json) -> str:
    """`gated`, or `low_rank rank=8`."""
    if block is None or isinstance(block, str):
        return block or "none"
    if not isinstance(block, Mapping) or "type" not in block:
        raise SpecError("fusion", "must be the name of a part, or its block", given=block, advice="{type: gated}")
    settings = (f"{k}={v}" for k, v in block.items() if k != "type")
    return " ".join([str(block["type"]).rpartition(":")[2], *settings])


def _label(name: str, others: Sequence[str] | Mapping[str, object]) -> str:
    """The name in letters that a folder may have."""
    plain = re.sub(r"[^\w .,=+()-]", "_", name)[:LONGEST].strip(". ")
    return plain if plain or len(others) == 1 else f"candidate {list(others).index(name)}"
