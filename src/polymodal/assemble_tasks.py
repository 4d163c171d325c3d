"""The part of the wiring that is about tasks: one head for all inputs, or one for each; objectives beside them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from polymodal.core import catalog
from polymodal.core.build import build
from polymodal.core.contracts import Field, Joinable
from polymodal.core.errors import SpecError
from polymodal.core.seeds import derive
from polymodal.core.spec import PartSpec, Spec, TaskSpec
from polymodal.tasks.alone import Alone, Probes
from polymodal.tasks.late import Late


def decides(part: PartSpec) -> bool:
    """Whether what stands as a spec's fusion joins answers instead of streams; a part of others says it by `learns`."""
    return part.kind == "decision" or hasattr(catalog.load(part.kind, part.type, f"{part.where}.type"), "learns")


def make_tasks(spec: Spec, fields: dict[str, Field], width: int, fusion: Any) -> dict[str, nn.Module]:
    """Every task of the spec, for streams of this width and what `fusion` makes of them, if there is one."""
    if spec.fusion is not None and fusion is None:
        return {name: _late(spec, spec.fusion, task, fields[name], width) for name, task in spec.tasks.items()}
    wired = {"inputs": tuple(spec.inputs), "width": width if fusion is None else fusion.width}
    return {name: build(task.part, **wired, field=fields[name]) for name, task in spec.tasks.items()}


def make_objectives(spec: Spec, fields: dict[str, Field], width: int) -> dict[str, nn.Module]:
    """What the spec asks for beside its tasks' losses: `align`, `balance`. The other weights begin as without them."""
    found, inputs = {}, tuple(spec.inputs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(spec.train.seed, "objectives"))
        if spec.align is not None:
            found["align"] = build(spec.align, inputs=inputs, width_in=width)
        if spec.balance is not None:
            heads = {name: _alone(spec, task, fields[name], width) for name, task in spec.tasks.items()}
            probes = Probes(heads, {name: task.weight for name, task in spec.tasks.items()})
            found["balance"] = build(spec.balance, inputs=inputs, width=width, probes=probes)
    return found


def _alone(spec: Spec, task: TaskSpec, field: Field, width: int) -> Alone:
    return Alone({name: build(task.part, inputs=(name,), width=width, field=field) for name in spec.inputs})


def _late(spec: Spec, part: PartSpec, task: TaskSpec, field: Field, width: int) -> Late:
    alone = _alone(spec, task, field, width)
    if not isinstance(alone.first, Joinable):
        raise SpecError(f"{part.where}.type", f"answers of tasks.{task.name} ({task.part.type}) cannot be joined",
                        given=part.type, advice=f"one of {sorted(catalog.names('fusion'))}")  # fmt: skip
    decision = build(part, inputs=tuple(spec.inputs), kind=alone.first.joins, size=alone.first.size)
    return Late(alone=alone, decision=decision)
