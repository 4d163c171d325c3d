"""The only place that wires: spec -> readers, targets, datasets, model, groups of parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from polymodal.assemble_tasks import decides, make_objectives, make_tasks
from polymodal.core import catalog
from polymodal.core.build import build, placing
from polymodal.core.contracts import Field, Reader, TargetReader
from polymodal.core.errors import SpecError
from polymodal.core.schema import Json
from polymodal.core.seeds import derive, generator
from polymodal.core.settings import Lora
from polymodal.core.spec import InputSpec, PartSpec, Spec, TaskSpec, validate
from polymodal.data.cache import Cache
from polymodal.data.dataset import Dataset, InputPlan, TargetPlan
from polymodal.data.ledger import Ledger
from polymodal.data.splits import Part
from polymodal.modalities.stacked import Stacked
from polymodal.model import Model

DRAWN = 4096  # rows by lot that readers see first when they are fitted


@dataclass
class Assembly:
    """Everything a spec stands for, ready to train or to answer. `files` holds what pretrained parts need."""

    spec: Spec
    readers: dict[str, Reader]
    targets: dict[str, TargetReader]
    model: Model
    files: Path

    def fields(self) -> dict[str, dict[str, Field]]:
        """What fitting learned, as plain JSON; with the spec and the weights it is the whole run."""
        return fields_of(self.readers, self.targets)

    def dataset(self, part: Part, ledger: Ledger, *, targets: bool, cache: Cache | None = None,
                on_bad: str | None = None, drop: float = 0.0) -> Dataset:  # fmt: skip
        """The part's rows, read by these readers; without `targets` for predicting."""
        return make_dataset(self.spec, self.readers, self.targets if targets else {}, part, ledger, cache, on_bad, drop)


def make_readers(spec: Spec, files: Path) -> tuple[dict[str, Reader], dict[str, TargetReader]]:
    """Unfitted readers of inputs and targets. What an encoder wants of its reader gives way to what the user set."""
    readers = {}
    for name, one in spec.inputs.items():
        own = _folder(files, name)
        encoder: Any = catalog.load(one.encoder.kind, one.encoder.type, f"{one.encoder.where}.type")
        with placing(one.encoder.where):
            wanted = encoder.wants(one.encoder.settings, own)
        readers[name] = _stacked(one, wanted) if one.stack else _reader(one.reader, wanted)
    return readers, {name: build(target_part(task)) for name, task in spec.tasks.items()}


def _reader(part: PartSpec, wanted: Json) -> Reader:
    return build(replace(part, settings={**wanted, **part.settings}))


def _stacked(one: InputSpec, wanted: Json) -> Any:
    with placing(one.reader.where):
        return Stacked({n: _reader(m.reader, wanted) for n, m in one.stack.items()},
                       {n: m.columns for n, m in one.stack.items()})  # fmt: skip


def target_part(task: TaskSpec) -> PartSpec:
    """The reader of a task's target: the one the spec names, or the task's own choice."""
    if task.reader is not None:
        return task.reader
    cls: Any = catalog.load("task", task.part.type, f"{task.part.where}.type")
    name, settings = cls.target(task.part.settings)
    return PartSpec("target", name, settings, f"{task.part.where}.reader")


def make_dataset(spec: Spec, readers: dict[str, Reader], targets: dict[str, TargetReader], part: Part, ledger: Ledger,
                 cache: Cache | None, on_bad: str | None = None, drop: float = 0.0) -> Dataset:  # fmt: skip
    """Check that the table has the columns the spec names, and lay the readers over them."""
    for name, one in spec.inputs.items():
        part.table.need(one.columns, f"inputs.{name}.column{'s' if len(one.columns) > 1 else ''}")
    for name in targets:
        part.table.need(spec.tasks[name].columns, f"tasks.{name}.column")
    inputs = {n: InputPlan(readers[n], one.columns, one.cache) for n, one in spec.inputs.items()}
    plans = {n: TargetPlan(reader, spec.tasks[n].columns) for n, reader in targets.items()}
    return Dataset(part, inputs, plans, on_bad=on_bad or spec.data.on_bad, ledger=ledger, cache=cache, drop=drop)


def fit_readers(spec: Spec, part: Part, files: Path) -> tuple[dict[str, Reader], dict[str, TargetReader]]:
    """Readers of inputs and targets, fitted on the training rows."""
    readers, targets = make_readers(spec, files)
    part = Part(part.table, _for_fitting(part.rows, spec.train.seed))
    dataset = make_dataset(spec, readers, targets, part, Ledger(), None)
    for name, target in targets.items():
        with placing(f"tasks.{name}"):
            target.fit(dataset.target_cells(name))
    for name, reader in readers.items():
        with placing(f"inputs.{name}"):
            reader.fit(dataset.cells(name))
    return readers, targets


def _for_fitting(rows: np.ndarray, seed: int) -> np.ndarray:
    """Some rows drawn by lot, then the others from top to bottom: some readers look at the first thousand only, and
    tables are often sorted; but rows that stand together are faster to read."""
    mixed = generator(seed, "fit").permutation(rows)
    return np.concatenate([mixed[:DRAWN], np.sort(mixed[DRAWN:])])


def fit(spec: Spec, part: Part, files: Path) -> Assembly:
    """A new assembly: readers fitted on the training part, a model with fresh (or published) weights."""
    validate(spec)
    readers, targets = fit_readers(spec, part, files)
    return Assembly(spec, readers, targets, make_model(spec, readers, targets, files, fresh=True), files)


def known_readers(spec: Spec, fields: dict[str, dict[str, Field]],
                  files: Path) -> tuple[dict[str, Reader], dict[str, TargetReader]]:  # fmt: skip
    """Readers of inputs and targets as they were fitted before; `fields` as `fields_of` gives them."""
    readers, targets = make_readers(spec, files)
    groups: dict[str, dict[str, Any]] = {"inputs": readers, "targets": targets}
    for kind, group in groups.items():
        for name, reader in group.items():
            reader.field = fields[kind][name]
    return readers, targets


def fields_of(readers: dict[str, Reader], targets: dict[str, TargetReader]) -> dict[str, dict[str, Field]]:
    """What fitting these readers learned, as plain JSON."""
    groups: dict[str, dict[str, Any]] = {"inputs": readers, "targets": targets}
    return {kind: {n: r.field or {} for n, r in group.items()} for kind, group in groups.items()}


def restore(spec: Spec, fields: dict[str, dict[str, Field]], files: Path, *, fresh: bool = False) -> Assembly:
    """The assembly of a stored run; its weights are loaded by whoever calls this."""
    validate(spec)
    readers, targets = known_readers(spec, fields, files)
    return Assembly(spec, readers, targets, make_model(spec, readers, targets, files, fresh=fresh), files)


def make_model(spec: Spec, readers: dict[str, Reader], targets: dict[str, TargetReader], files: Path,
               *, fresh: bool) -> Model:  # fmt: skip
    """The model of a spec. The same seed gives the same weights; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        encoders = {}
        for name, one in spec.inputs.items():
            torch.manual_seed(derive(spec.train.seed, "encoder", name))
            encoders[name] = _encoder(one, readers[name].field or {}, _folder(files, name), fresh)
        torch.manual_seed(derive(spec.train.seed, "model"))
        width = spec.model.width or max(e.width for e in encoders.values())
        wired: dict[str, Any] = {"inputs": tuple(spec.inputs), "width": width}
        attention = build(spec.attention, **wired) if spec.attention else None
        fusion = build(spec.fusion, **wired) if spec.fusion and not decides(spec.fusion) else None
        known = {n: reader.field or {} for n, reader in targets.items()}
        tasks = make_tasks(spec, known, width, fusion)
        columns = {n: 1 if readers[n].record else len(one.columns) for n, one in spec.inputs.items()}
        frozen = frozenset(n for n, e in encoders.items() if not any(p.requires_grad for p in e.parameters()))
        return Model(encoders=encoders, columns=columns, width=width, tasks=tasks, attention=attention,
                     fusion=fusion, frozen=frozen, **make_objectives(spec, known, width))  # fmt: skip


def _folder(files: Path, name: str) -> Path:
    from polymodal.model import key

    return files / key(name)


def _encoder(one: InputSpec, field: Field, files: Path, fresh: bool) -> Any:
    encoder = build(one.encoder, field=field, files=files)
    load: Callable[[], None] | None = getattr(encoder, "load_pretrained", None)
    if fresh and load is not None:
        with placing(one.encoder.where):
            load()
    extras = one.encoder.extras
    if extras.get("freeze"):
        encoder.requires_grad_(False)
    if extras.get("lora"):
        _add_lora(encoder, extras["lora"], one.encoder.where)
    return encoder


def _add_lora(encoder: nn.Module, settings: Json, where: str) -> None:
    """Freeze the encoder and put low-rank adapters beside its linear layers (from outside: the encoder never knows)."""
    catalog.need("peft", f"{where}.lora")
    from peft import LoraConfig, inject_adapter_in_model

    lora = Lora(**settings) if isinstance(settings, dict) else Lora()
    linear = [n for n, m in encoder.named_modules() if isinstance(m, nn.Linear)]
    targets = linear if lora.targets is None else [n for n in linear if any(n.endswith(t) for t in lora.targets)]
    if not linear:
        raise SpecError(f"{where}.lora", "this encoder has no linear layers for adapters", advice="lr, or freeze: true")
    if not targets:
        ends = sorted({n.rpartition(".")[2] for n in linear})
        raise SpecError(
            f"{where}.lora.targets", "no linear layer has such a name", given=lora.targets, advice=str(ends)
        )
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)  # type: ignore[arg-type]
    inject_adapter_in_model(config, encoder)


def parameter_groups(model: Model, spec: Spec) -> list[dict[str, Any]]:
    """Groups for the optimiser: an encoder's own learning rate; no weight decay on biases, norms and other vectors."""
    rates = {id(p): float(spec.inputs[n].encoder.extras.get("lr") or spec.train.lr)
             for n, e in model.encoders.items() for p in e.parameters()}  # fmt: skip
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for p in model.parameters():
        if p.requires_grad:
            decay = spec.train.weight_decay if p.ndim > 1 else 0.0
            groups.setdefault((rates.get(id(p), spec.train.lr), decay), []).append(p)
    return [{"params": ps, "lr": lr, "peak": lr, "weight_decay": decay} for (lr, decay), ps in groups.items()]
