"""What all trials of a comparison share: rows, fitted readers, decoded cells, features of frozen encoders."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from polymodal import assemble
from polymodal.assemble import Assembly
from polymodal.assemble_tasks import make_measurer
from polymodal.core.names import key
from polymodal.core.spec import Spec
from polymodal.data.cache import Cache
from polymodal.data.dataset import Dataset
from polymodal.data.ledger import Ledger
from polymodal.data.splits import Part
from polymodal.data.tables import Table
from polymodal.work import folder as folders
from polymodal.work.features import Features
from polymodal.work.job import open_parts
from polymodal.work.progress import Display
from polymodal.work.runtime import Runtime
from polymodal.work.transfer import starts_of
from polymodal.work.words import measure

READERS = "readers.json"


class Shared:
    """Opened once in a process. Splits and readers are those of the spec's own seed, whatever a trial's seed is.

    So every trial trains, chooses and is measured on the same rows: those that all inputs can be read of.
    """

    def __init__(self, spec: Spec, table: Table | None, folder: Path, display: Display | None = None) -> None:
        self.spec, self.folder, self.display = spec, folder, display or Display(quiet=True)
        self.files, stored = folder / "parts", folder / READERS
        self.parts: dict[str, Part] = open_parts(spec, table)
        if stored.is_file():
            self.readers, self.targets = assemble.known_readers(spec, folders.read_json(stored), self.files)
        else:
            self.readers, self.targets = assemble.fit_readers(spec, self.parts["train"], self.files, starts_of(spec))
            folders.write_json(stored, assemble.fields_of(self.readers, self.targets))
        self.cache = Cache(spec.data.cache_mb, folder / "cache")
        self.ledger = Ledger()
        self._features: tuple[int, Features] | None = None

    @property
    def split(self) -> str:
        """The rows that the comparison speaks of."""
        return "test" if "test" in self.parts else "valid"

    @cached_property
    def runtime(self) -> Runtime:
        return Runtime(self.spec.train)

    @cached_property
    def datasets(self) -> dict[str, Dataset]:
        """Every part with all cells read once."""
        made = {}
        for name, part in self.parts.items():
            made[name] = self.dataset(self.spec, name)
            with self.display.bar(f"reading {name}", len(part.rows)) as bar:
                made[name].scan(bar.advance)
            self.ledger.extend(made[name].ledger)
        return made

    def dataset(self, spec: Spec, name: str, drop: float = 0.0) -> Dataset:
        readers = {n: self.readers[n] for n in spec.inputs}
        return assemble.make_dataset(spec, readers, self.targets, self.parts[name], Ledger(), self.cache, drop=drop)

    def rows(self, name: str) -> np.ndarray:
        """The row numbers of a part that can be used."""
        return self.datasets[name].rows

    def datasets_for(self, spec: Spec) -> dict[str, Dataset]:
        """Every part as this spec, which may have fewer inputs, sees it: the same rows."""
        made = {n: self.dataset(spec, n, spec.train.drop if n == "train" else 0.0) for n in self.parts}
        for name, dataset in made.items():
            dataset.rows = self.rows(name)
        return made

    def assembly(self, spec: Spec) -> Assembly:
        """A model with fresh weights on the shared readers."""
        readers = {n: self.readers[n] for n in spec.inputs}
        model = assemble.make_model(spec, readers, self.targets, self.files, fresh=True, starts=starts_of(spec))
        return Assembly(spec, readers, self.targets, model, self.files)

    def width(self, spec: Spec) -> int:
        """The common width of its model."""
        return spec.model.width or max(e.width for _, e in self.assembly(spec).model.encoders.items())

    def task(self, name: str) -> Any:
        """The task for its measures; its head is not used."""
        read = {n: reader.field or {} for n, reader in self.readers.items()}
        return make_measurer(self.spec, name, self.targets[name].field or {}, read, self.files)

    def main(self, name: str) -> tuple[str, bool]:
        """What a task is judged by, and whether lower is better: the measure of `train.monitor`, or its own."""
        task, (told, _, wanted) = self.task(name), (self.spec.train.monitor or "").rpartition(".")
        if told == name and wanted not in ("loss", task.metric):
            return wanted, measure(wanted).lower
        return task.metric, not task.maximize

    def features(self, seed: int, model: Any) -> Features:
        """What the frozen encoders of this seed's trials say of all rows; only the last seed's is kept."""
        if self._features is None or self._features[0] != seed:
            if self._features is not None:
                self._features[1].close()
            self._features = seed, Features(self.spec.data.features_mb)
        features = self._features[1]
        model.to(self.runtime.device)
        features.fill(model, [self.datasets[n] for n in self.parts], self.runtime)
        return features

    def copy_files(self, inputs: Iterable[str], folder: Path) -> None:
        """The files of these inputs' pretrained parts, into a run folder."""
        for name in inputs:
            own = self.files / key(name)
            if own.is_dir():
                shutil.copytree(own, folder / "parts" / own.name, dirs_exist_ok=True)

    def close(self) -> None:
        if self._features is not None:
            self._features[1].close()
        self.cache.close()
