"""The only place that wires: spec -> readers, targets, datasets, model, groups of parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polymodal.assemble_extras import NO_STARTS, Starts, dress, input_folder, known_fields, parameter_groups
from polymodal.assemble_tasks import decides, make_objectives, make_tasks, task_folder
from polymodal.core import catalog
from polymodal.core.build import build, placing
from polymodal.core.contracts import Field, Reader, TargetReader
from polymodal.core.schema import Json
from polymodal.core.seeds import derive, generator
from polymodal.core.spec import InputSpec, PartSpec, Spec, TaskSpec, validate
from polymodal.core.spec_extras import source_of
from polymodal.data.cache import Cache
from polymodal.data.dataset import Dataset, InputPlan, TargetPlan
from polymodal.data.ledger import Ledger
from polymodal.data.raw import columns_of
from polymodal.data.splits import Part
from polymodal.modalities.stacked import Stacked
from polymodal.model import Model

__all__ = ["Assembly", "fit", "fit_readers", "make_model", "make_readers", "parameter_groups", "restore"]

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
        own = input_folder(files, name)
        encoder: Any = catalog.load(one.encoder.kind, one.encoder.type, f"{one.encoder.where}.type")
        with placing(one.encoder.where):
            wanted = encoder.wants(one.encoder.settings, own)
        readers[name] = _stacked(one, wanted) if one.stack else _reader(one.reader, wanted)
    return readers, {name: build(target_part(task, task_folder(files, name))) for name, task in spec.tasks.items()}


def _reader(part: PartSpec, wanted: Json) -> Reader:
    return build(replace(part, settings={**wanted, **part.settings}))


def _stacked(one: InputSpec, wanted: Json) -> Any:
    with placing(one.reader.where):
        return Stacked({n: _reader(m.reader, wanted) for n, m in one.stack.items()},
                       {n: m.columns for n, m in one.stack.items()})  # fmt: skip


def target_part(task: TaskSpec, files: Path) -> PartSpec:
    """The reader of a task's target: the one the spec names, or the task's own choice; `files` are the task's."""
    if task.reader is not None:
        return task.reader
    cls: Any = catalog.load("task", task.part.type, f"{task.part.where}.type")
    with placing(task.part.where):
        name, settings = cls.target(task.part.settings, files)
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


def fit_readers(spec: Spec, part: Part, files: Path,
                starts: Starts = NO_STARTS) -> tuple[dict[str, Reader], dict[str, TargetReader]]:  # fmt: skip
    """Readers of inputs and targets, fitted on the training rows; those that come with a part, as they were."""
    for start in starts.values():
        start.install(files)
    readers, targets = make_readers(spec, files)
    part = Part(part.table, _for_fitting(part.rows, spec.train.seed))
    dataset = make_dataset(spec, readers, targets, part, Ledger(), None)
    known = known_fields(spec, starts)
    for name, target in targets.items():
        with placing(f"tasks.{name}"):
            _fit(target, known["targets"].get(name), dataset.target_cells(name))
    for name, reader in readers.items():
        with placing(f"inputs.{name}"):
            _fit(reader, known["inputs"].get(name), dataset.cells(name))
    return readers, targets


def _fit(reader: Any, known: Field | None, cells: Iterable[object]) -> None:
    if known is None:
        reader.fit(cells)
    elif hasattr(reader, "adopt"):
        reader.adopt(cells, known)
    else:
        reader.field = known


def _for_fitting(rows: np.ndarray, seed: int) -> np.ndarray:
    """Some rows drawn by lot, then the others from top to bottom: some readers look at the first thousand only, and
    tables are often sorted; but rows that stand together are faster to read."""
    mixed = generator(seed, "fit").permutation(rows)
    return np.concatenate([mixed[:DRAWN], np.sort(mixed[DRAWN:])])


def fit(spec: Spec, part: Part, files: Path, starts: Starts = NO_STARTS) -> Assembly:
    """A new assembly: readers fitted on the training part, a model with fresh weights, published ones, or `starts`."""
    validate(spec)
    readers, targets = fit_readers(spec, part, files, starts)
    model = make_model(spec, readers, targets, files, fresh=True, starts=starts)
    return Assembly(spec, readers, targets, model, files)


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


def restore(spec: Spec, fields: dict[str, dict[str, Field]], files: Path, *, fresh: bool = False,
            starts: Starts = NO_STARTS) -> Assembly:  # fmt: skip
    """The assembly of a stored run; its weights are loaded by whoever calls this, unless it begins `fresh`."""
    validate(spec)
    readers, targets = known_readers(spec, fields, files)
    model = make_model(spec, readers, targets, files, fresh=fresh, starts=starts)
    return Assembly(spec, readers, targets, model, files)


def make_model(spec: Spec, readers: dict[str, Reader], targets: dict[str, TargetReader], files: Path,
               *, fresh: bool, starts: Starts = NO_STARTS) -> Model:  # fmt: skip
    """The model of a spec. The same seed gives the same weights; the global random state is left as it was.

    Parts begin with published weights, or those in `starts`, when the model is `fresh`.
    """
    with torch.random.fork_rng(devices=[]):
        encoders = {}
        for name, one in spec.inputs.items():
            torch.manual_seed(derive(spec.train.seed, "encoder", name))
            encoders[name] = _encoder(one, readers[name].field or {}, input_folder(files, name), fresh)
        torch.manual_seed(derive(spec.train.seed, "model"))
        width = spec.model.width or max(e.width for e in encoders.values())
        wired: dict[str, Any] = {"inputs": tuple(spec.inputs), "width": width}
        attention = build(spec.attention, **wired) if spec.attention else None
        fusion = build(spec.fusion, **wired) if spec.fusion and not decides(spec.fusion) else None
        known = {n: reader.field or {} for n, reader in targets.items()}
        columns = {n: columns_of(readers[n], one.columns) for n, one in spec.inputs.items()}
        read = {n: {**(r.field or {}), "covers": getattr(encoders[n], "covers", 1), "columns": columns[n]}
                for n, r in readers.items()}  # fmt: skip
        tasks = make_tasks(spec, known, width, fusion, read, files, fresh)
        objectives: dict[str, Any] = {**make_objectives(spec, known, width, read, files)}
        model = Model(encoders=encoders, columns=columns, width=width, tasks=tasks, attention=attention,
                      fusion=fusion, **objectives)  # fmt: skip
        dress(spec, model, starts, fresh=fresh)
    return model


def _encoder(one: InputSpec, field: Field, files: Path, fresh: bool) -> Any:
    encoder = build(one.encoder, field=field, files=files)
    load: Callable[[], None] | None = getattr(encoder, "load_pretrained", None)
    if fresh and load is not None and source_of(one.encoder) is None:
        with placing(one.encoder.where):
            load()
    return encoder
