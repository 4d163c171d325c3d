"""The part of the wiring that is about tasks: one head for all inputs, or one for each; objectives beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from polymodal.core import catalog
from polymodal.core.build import build, placing
from polymodal.core.contracts import Field, Joinable
from polymodal.core.errors import SpecError
from polymodal.core.names import key
from polymodal.core.seeds import derive
from polymodal.core.spec import PartSpec, Spec, TaskSpec
from polymodal.core.spec_extras import source_of
from polymodal.core.spec_parts import inner
from polymodal.tasks.alone import Alone, Probes
from polymodal.tasks.late import Late

MEASURING = 8  # width of a head that is not used


def decides(part: PartSpec) -> bool:
    """Whether what stands as a spec's fusion joins answers instead of streams; a part of others says it by `learns`."""
    return part.kind == "decision" or hasattr(catalog.load(part.kind, part.type, f"{part.where}.type"), "learns")


def task_folder(files: Path, name: str) -> Path:
    """Where a run keeps what the pretrained parts of a task need."""
    return files / "tasks" / key(name)


def decoders_of(spec: Spec) -> Iterator[tuple[str, str, PartSpec]]:
    """Every decoder that the spec names: its task, its name among the task's settings and attributes, and the part."""
    for name, task in spec.tasks.items():
        for part in inner(task.part):
            if part.kind == "decoder":
                yield name, part.where.rpartition(".")[2], part


def make_tasks(spec: Spec, fields: dict[str, Field], width: int, fusion: Any, read: dict[str, Field],
               files: Path, fresh: bool) -> dict[str, nn.Module]:  # fmt: skip
    """Every task of the spec, for streams of this width and what `fusion` makes of them, if there is one.

    `fields` are what the readers of targets learned, `read` those of inputs. `fresh`: published weights are loaded.
    """
    widths = {"width": width if fusion is None else fusion.width, "width_in": width}
    late = spec.fusion if fusion is None else None
    made: dict[str, nn.Module] = {}
    for name, task in spec.tasks.items():
        wired = _own(task, fields[name], widths, read, files)
        made[name] = _late(spec, late, task, wired) if late else build(task.part, inputs=tuple(spec.inputs), **wired)
        with placing(task.part.where):
            begins = _unbegun(spec, name, made[name]) if fresh else []
            for load in [getattr(m, "load_pretrained", None) for m in begins]:
                load() if load is not None else None
    return made


def _unbegun(spec: Spec, name: str, task: nn.Module) -> list[nn.Module]:
    """The modules of a task, without those of a decoder that gets its weights from another run."""
    begun = [getattr(task, own) for of, own, part in decoders_of(spec) if of == name and source_of(part) is not None]
    without = {id(m) for decoder in begun for m in decoder.modules()}
    return [m for m in task.modules() if id(m) not in without]


def _own(task: TaskSpec, field: Field, widths: dict[str, int], read: dict[str, Field], files: Path) -> dict[str, Any]:
    """What is wired into a task besides the names of its inputs."""
    words = {"size": field["size"], "starts": len(field["languages"])} if "languages" in field else {}
    return {"field": field, "fields": read, "files": task_folder(files, task.name), **widths, **words}


def make_measurer(spec: Spec, name: str, field: Field, read: dict[str, Field], files: Path) -> Any:
    """A task for its measures alone; its small head has seen nothing."""
    wired = _own(spec.tasks[name], field, {"width": MEASURING, "width_in": MEASURING}, read, files)
    return build(spec.tasks[name].part, inputs=tuple(spec.inputs), **wired)


def make_objectives(spec: Spec, fields: dict[str, Field], width: int, read: dict[str, Field],
                    files: Path) -> dict[str, nn.Module]:  # fmt: skip
    """What the spec asks for beside its tasks' losses: `align`, `balance`. The other weights begin as without them."""
    found, inputs = {}, tuple(spec.inputs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(spec.train.seed, "objectives"))
        if spec.align is not None:
            found["align"] = build(spec.align, inputs=inputs, width_in=width)
        if spec.balance is not None:
            widths = {"width": width, "width_in": width}
            heads = {name: _alone(spec, task, _own(task, fields[name], widths, read, files))
                     for name, task in spec.tasks.items() if not _says(task.part, "poses")}  # fmt: skip
            if not heads:
                raise SpecError("balance", "needs a task with a target of its own", given=spec.balance.type)
            probes = Probes(heads, {name: task.weight for name, task in spec.tasks.items()})
            found["balance"] = build(spec.balance, inputs=inputs, width=width, probes=probes)
        if spec.weigh is not None:
            if spec.train.turns == "one" and _says(spec.weigh, "together"):
                raise SpecError("weigh.type", "needs all tasks in every step", given=spec.weigh.type,
                                advice="train.turns: all, or weigh: uncertainty")  # fmt: skip
            found["weigh"] = build(spec.weigh, tasks=tuple(spec.tasks))
    return found


def _says(part: PartSpec, name: str) -> bool:
    """What a part's class says of itself."""
    return bool(getattr(catalog.load(part.kind, part.type, f"{part.where}.type"), name, False))


def _alone(spec: Spec, task: TaskSpec, wired: dict[str, Any]) -> Alone:
    return Alone({name: build(task.part, inputs=(name,), **wired) for name in spec.inputs})


def _late(spec: Spec, part: PartSpec, task: TaskSpec, wired: dict[str, Any]) -> Late:
    alone = None if _says(task.part, "poses") else _alone(spec, task, wired)
    if alone is None or not isinstance(alone.first, Joinable):
        raise SpecError(f"{part.where}.type", f"answers of tasks.{task.name} ({task.part.type}) cannot be joined",
                        given=part.type, advice=f"one of {sorted(catalog.names('fusion'))}")  # fmt: skip
    decision = build(part, inputs=tuple(spec.inputs), kind=alone.first.joins, size=alone.first.size)
    return Late(alone=alone, decision=decision)
