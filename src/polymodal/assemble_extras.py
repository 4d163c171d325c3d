"""What a spec says of parts from outside: first weights out of another run, what is frozen, how fast each learns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from polymodal.assemble_tasks import decoders_of
from polymodal.core import catalog
from polymodal.core.contracts import Field
from polymodal.core.errors import SpecError
from polymodal.core.layers import Hold, layers_of
from polymodal.core.names import key
from polymodal.core.schema import Json
from polymodal.core.seeds import derive
from polymodal.core.settings import Lora
from polymodal.core.spec import PartSpec, Spec
from polymodal.core.spec_extras import lora_of, source_of, thaw_of
from polymodal.model import Model


class Start(NamedTuple):
    """What a part begins with, out of another run."""

    weights: Callable[[nn.Module], dict[str, Tensor]]  # for this module, by their names in it
    origin: dict[str, Json]  # "run", "input" or "task" there, and the sha256 of its "weights"
    field: Field | None = None  # what the reader of an encoder's input, or of a decoder's target, learned there
    install: Callable[[Path], None] = lambda files: None  # put what the part needs among the files of a run


Starts = Mapping[str, Start]  # by the part's place in the spec, or the input's for its projection
NO_STARTS: Starts = {}


class Place(NamedTuple):
    """A part of which something may be said from outside, and its module in a model."""

    part: PartSpec
    module: nn.Module

    @property
    def core(self) -> nn.Module:
        """What freezing, adapters and rates are about: the whole part, unless it names its `core`."""
        core = getattr(self.module, "core", None)
        return core if isinstance(core, nn.Module) else self.module


def places(spec: Spec, model: Model) -> list[Place]:
    found = [Place(one.encoder, model.encoders[name]) for name, one in spec.inputs.items()]
    found += [Place(part, module) for part, module in ((spec.attention, model.attention), (spec.fusion, model.fusion))
              if part is not None and module is not None]  # fmt: skip
    return found + [Place(part, getattr(model.tasks[task], name)) for task, name, part in decoders_of(spec)
                    if part.extras]  # fmt: skip


def known_fields(spec: Spec, starts: Starts) -> dict[str, dict[str, Field]]:
    """What readers know already: those before encoders, and of targets of decoders, that come from another run."""
    inputs = {name: one.encoder.where for name, one in spec.inputs.items()}
    targets = {task: part.where for task, _, part in decoders_of(spec)}
    found: dict[str, dict[str, Field]] = {}
    for kind, group in (("inputs", inputs), ("targets", targets)):
        fields = {name: starts[where].field for name, where in group.items() if where in starts}
        found[kind] = {name: field for name, field in fields.items() if field is not None}
    return found


def dress(spec: Spec, model: Model, starts: Starts, *, fresh: bool) -> None:
    """Freeze what is to be frozen, and give parts of a fresh model their first weights where they come from a run."""
    for name, one in spec.inputs.items():
        if fresh and one.reader.where in starts:
            _begin(model.entries[name], starts[one.reader.where], one.reader.where)
    holds = []
    for place in places(spec, model):
        if fresh and source_of(place.part) is not None:
            _begin(place.module, starts[place.part.where], place.part.where)
        if place.part.extras.get("freeze"):
            holds.append(_hold(place))
        lora = lora_of(place.part)
        if lora is not None:
            torch.manual_seed(derive(spec.train.seed, "lora", place.part.where))
            _add_lora(place.core, lora, place.part)
    model.holds = tuple(holds)
    waiting = {id(hold.module) for hold in holds if hold.after is not None}
    model.frozen = frozenset(
        name for name, encoder in model.encoders.items()
        if id(Place(spec.inputs[name].encoder, encoder).core) not in waiting
        and not any(p.requires_grad for p in encoder.parameters())
    )  # fmt: skip


def _begin(module: nn.Module, start: Start, where: str) -> None:
    """Raises SpecError for weights of another shape."""
    mine, theirs = module.state_dict(), start.weights(module)
    for name in (*mine, *theirs):
        shapes = [list(some[name].shape) if name in some else None for some in (mine, theirs)]
        if shapes[0] != shapes[1]:
            problem = f"the weights of {start.origin['run']} do not fit: {name} is {shapes[1]} there, {shapes[0]} here"
            raise SpecError(f"{where}.from", problem, advice="the settings of that run, its model.width among them")
    module.load_state_dict(theirs)


def _hold(place: Place) -> Hold:
    thaw = thaw_of(place.part)
    groups = [[p for p in group if p.requires_grad] for group in layers_of(place.core)]
    place.core.requires_grad_(False)
    return Hold(place.core, groups) if thaw is None else Hold(place.core, groups, thaw.after, thaw.layers)


def _add_lora(module: nn.Module, lora: Lora, part: PartSpec) -> None:
    """Freeze the module and put low-rank adapters beside its linear layers (from outside: the part never knows)."""
    catalog.need("peft", f"{part.where}.lora")
    from peft import LoraConfig, inject_adapter_in_model

    linear, turned = _linear(module)
    targets = linear if lora.targets is None else [n for n in linear if any(n.endswith(t) for t in lora.targets)]
    if not linear:
        raise SpecError(f"{part.where}.lora", f"this {part.kind.partition('.')[0]} has no linear layers for adapters",
                        advice="lr, or freeze: true")  # fmt: skip
    if not targets:
        ends = sorted({n.rpartition(".")[2] for n in linear})
        raise SpecError(f"{part.where}.lora.targets", "no linear layer has such a name", given=lora.targets,
                        advice=str(ends))  # fmt: skip
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets,  # type: ignore[arg-type]
                        fan_in_fan_out=turned)  # fmt: skip
    inject_adapter_in_model(config, module)


def _linear(module: nn.Module) -> tuple[list[str], bool]:
    """Linear layers by name, but what gives words their scores, which is often the table of words itself; and whether
    they are GPT-2's, whose weights lie the other way round."""
    out = getattr(module, "get_output_embeddings", lambda: None)()
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    linear = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Linear) or type(m).__name__ == "Conv1D"]
    linear = [(n, m) for n, m in linear if m is not out and id(m.weight) not in tables]
    return [n for n, _ in linear], any(not isinstance(m, nn.Linear) for _, m in linear)


def parameter_groups(model: Model, spec: Spec) -> list[dict[str, Any]]:
    """Groups for the optimiser: each part's own rates; no weight decay on biases, norms and other vectors.

    What will learn only after some epochs is among them from the start: without a gradient nothing is done to it.
    """
    rates = {id(p): rate for place in places(spec, model) for p, rate in _rates(place, spec.train.lr)}
    waiting = {id(p) for h in model.holds if h.after is not None for group in h.groups for p in group}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for p in model.parameters():
        if p.requires_grad or id(p) in waiting:
            decay = spec.train.weight_decay if p.ndim > 1 else 0.0
            groups.setdefault((rates.get(id(p), spec.train.lr), decay), []).append(p)
    return [{"params": ps, "lr": lr, "peak": lr, "weight_decay": decay} for (lr, decay), ps in groups.items()]


def _rates(place: Place, usual: float) -> Iterator[tuple[nn.Parameter, float]]:
    """Each parameter's rate: `lr`, times `layer_lr` for every group of layers above it (Howard and Ruder 2018)."""
    top, fall = float(place.part.extras.get("lr") or usual), float(place.part.extras.get("layer_lr") or 1.0)
    for height, group in enumerate(reversed(layers_of(place.core))):
        yield from ((p, top * fall**height) for p in group)


def input_folder(files: Path, name: str) -> Path:
    """Where a run keeps what the pretrained parts of an input need."""
    return files / key(name)
