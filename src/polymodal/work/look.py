"""What simple models see of a table: its rows gone over once, read by the readers that the trained model has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from polymodal import assemble
from polymodal.core.contracts import Answers, Baseline, Block, Field, Given, Reader, TargetReader
from polymodal.core.errors import TableError
from polymodal.core.spec import Spec
from polymodal.core.streams import Batch, Stream, Target, pool
from polymodal.data.dataset import Dataset
from polymodal.data.ledger import Ledger
from polymodal.data.loader import Loader
from polymodal.data.splits import Part
from polymodal.data.tables import Table
from polymodal.model import Model, on_device
from polymodal.work.runtime import Runtime
from polymodal.work.transfer import starts_of

WIDTH = 8  # of a head that is not used
Kind = Literal["class", "classes", "value"]
KINDS: dict[frozenset[str], Kind] = {  # by the arrays of a target
    frozenset({"class"}): "class",
    frozenset({"class", "share", "text"}): "class",  # the answer that most people gave
    frozenset({"classes", "unseen"}): "classes",
    frozenset({"value"}): "value",
}


@dataclass
class Ground:
    """What a trained model and the simple ones share: a spec, its readers fitted on the training rows, their files."""

    spec: Spec
    readers: dict[str, Reader]
    targets: dict[str, TargetReader]
    files: Path

    @property
    def types(self) -> dict[str, str]:
        return {name: one.reader.type for name, one in self.spec.inputs.items()}

    @property
    def fields(self) -> dict[str, Field]:
        return {name: reader.field or {} for name, reader in self.readers.items()}

    @property
    def kinds(self) -> dict[str, Kind]:
        """Of every task that a simple model can answer: one class, a set of classes, or a number.

        Two things show it: the arrays of its target, and the form of its answer to a row of nothing.
        """
        found = {name: KINDS.get(frozenset(reader.blank())) for name, reader in self.targets.items()}
        return {name: kind for name, kind in found.items() if kind is not None and self._answers(name, kind)}

    def _answers(self, name: str, kind: Kind) -> bool:
        task = self.task(name)
        if "maps" in task.reads:
            return False
        nothing = Stream(torch.zeros(1, 1, WIDTH), torch.ones(1, 1, dtype=torch.bool))
        with torch.no_grad():
            answer = task.eval().respond(dict.fromkeys(self.spec.inputs, nothing), nothing)
        wanted = {"value": (1,)} if kind == "value" else {"logits": (1, self.classes(name))}
        return {part: tuple(values.shape) for part, values in answer.items()} == wanted

    def classes(self, name: str) -> int:
        """How many the target of a task has; 0 for a number."""
        return len((self.targets[name].field or {}).get("classes", []))

    def task(self, name: str) -> Any:
        """The task as the model has it, for its measures; its head is not used."""
        return assemble.build(self.spec.tasks[name].part, inputs=tuple(self.spec.inputs), width=WIDTH,
                              field=self.targets[name].field or {})  # fmt: skip

    def dataset(self, part: Part) -> Dataset:
        return assemble.make_dataset(self.spec, self.readers, self.targets, part, Ledger(), None)


@dataclass
class Seen:
    """The usable rows of a part: what each baseline sees of them, by its name, and their targets, by task."""

    table: Table
    rows: np.ndarray  # row numbers in the table
    features: dict[str, np.ndarray]
    targets: dict[str, Target]
    ledger: Ledger

    def known(self, task: str) -> np.ndarray:
        """Which rows have a target."""
        return self.targets[task].present.numpy()


class Look:
    """Goes over a dataset once and keeps what each of the baselines wants of every row."""

    def __init__(self, ground: Ground, baselines: Mapping[str, Baseline], runtime: Runtime | None = None,
                 model: Model | None = None) -> None:  # fmt: skip
        self.ground, self.baselines = ground, baselines
        self._runtime, self._model = runtime, model

    def __call__(self, dataset: Dataset, step: Callable[[int], None]) -> Seen:
        """Raises TableError when no row can be used."""
        settings, ledger = self.ground.spec.train, Ledger(dataset.ledger)
        dataset = copy(dataset)
        dataset.drop = 0.0  # simple models are fitted on whole rows
        loader = Loader(dataset, batch=max(64, settings.batch), seed=settings.seed, shuffle=False, augment=False,
                        buckets=False, workers=settings.workers)  # fmt: skip
        batches: list[tuple[np.ndarray, dict[str, Target]]] = []
        features: dict[str, list[np.ndarray]] = {name: [] for name in self.baselines}
        for micro in loader.epoch(0):
            for batch, bad in micro:
                ledger.extend(bad)
                if batch is None:
                    continue
                block = self.block(dataset, batch)
                for name, baseline in self.baselines.items():
                    features[name].append(baseline.features(block))
                batches.append((np.array([row.number for row in batch.rows]), batch.targets))
                step(block.rows)
        if not any(bool(target.present.any()) for _, targets in batches for target in targets.values()):
            raise nothing(dataset, ledger)
        return Seen(
            dataset.table,
            np.concatenate([rows for rows, _ in batches]),
            {name: np.concatenate(found) for name, found in features.items()},
            {name: _joined([targets[name] for _, targets in batches]) for name in batches[0][1]},
            ledger,
        )

    def block(self, dataset: Dataset, batch: Batch) -> Block:
        """A batch as baselines see it."""
        inputs = {}
        for name, cells in batch.inputs.items():
            index, source = cells.index.numpy(), dataset.inputs[name]
            raw = [
                [source.raw(row.number, k) if at >= 0 else None for k, at in enumerate(found)]
                for row, found in zip(batch.rows, index.tolist(), strict=True)
            ]
            inputs[name] = Given(raw, {k: v.numpy() for k, v in cells.data.items()}, index)
        return Block(inputs, lambda: self.encode(batch), len(batch.rows))

    def encode(self, batch: Batch) -> Answers:
        """The mean of each encoder's tokens, before any training or as `model` has it; zeros where missing."""
        runtime = self._runtime = self._runtime or Runtime(self.ground.spec.train)
        model = self._model = self._model or self._untrained(runtime)
        inputs, found = on_device(batch, runtime.move).inputs, {}
        with torch.inference_mode():
            for name, stream in model.encode(inputs).items():
                index = inputs[name].index
                cells = pool(stream.tokens.float(), stream.mask)[index.clamp(min=0)] * (index >= 0)[..., None]
                found[name] = cells.flatten(1).cpu().numpy()
        return found

    def _untrained(self, runtime: Runtime) -> Model:
        ground = self.ground
        model = assemble.make_model(ground.spec, ground.readers, ground.targets, ground.files, fresh=True,
                                    starts=starts_of(ground.spec))  # fmt: skip
        return model.to(runtime.device).eval()


def nothing(dataset: Dataset, ledger: Ledger, most: int = 5) -> TableError:
    reasons = [f"\n  row {row}: {text}" for row, text in list(ledger.reasons.items())[:most]]
    return TableError(dataset.table.name, f"none of {len(dataset.rows)} rows can be used{''.join(reasons)}",
                      advice="rows that can be read, with a target")  # fmt: skip


def _joined(targets: list[Target]) -> Target:
    data = {k: torch.cat([t.data[k] for t in targets]) for k in targets[0].data}
    return Target(data, torch.cat([t.present for t in targets]))
