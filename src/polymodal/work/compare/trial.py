"""One training of a comparison: a candidate with a seed, in a run folder of its own, measured and told."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.assemble import Assembly
from polymodal.core import yaml12
from polymodal.core.errors import RunError
from polymodal.core.names import key
from polymodal.core.schema import Json
from polymodal.data.dataset import Dataset
from polymodal.work import folder as folders
from polymodal.work.checkpoint import Checkpoints, State
from polymodal.work.compare.cost import cpu_seconds, operations, seconds_per_row
from polymodal.work.compare.plan import Candidate
from polymodal.work.compare.probe import Answered, probe
from polymodal.work.compare.shared import Shared
from polymodal.work.job import seal_run
from polymodal.work.progress import Display
from polymodal.work.train import train
from polymodal.work.transfer import note, starts_of
from polymodal.work.trust import store
from polymodal.work.trust.calibrate import calibrate

PAGE = "trial.json"
FAILED = "failed.json"


@dataclass(frozen=True)
class Trial:
    """`encoders`: folders of the single inputs' trials whose encoders it starts from, frozen."""

    candidate: Candidate
    seed: int
    folder: Path
    encoders: dict[str, Path]

    @property
    def done(self) -> bool:
        return (self.folder / PAGE).is_file()

    def page(self) -> dict[str, Json]:
        """What is known of it. Raises RunError when it was run with another spec."""
        found = folders.read_json(self.folder / PAGE)
        if found["spec"] != yaml12.loads(self.candidate.seeded(self.seed).text()):
            raise RunError(str(self.folder), "was trained with another spec", advice="delete it, or another --out")
        return found

    def answered(self) -> Answered:
        return Answered.read(self.folder)


def run_trial(trial: Trial, shared: Shared, noise: bool) -> None:
    """Train, or go on with what was broken off, seal the run folder, measure, and write the page.

    Raises what training raises; Stopped after Ctrl-C with the work saved.
    """
    spec, folder, runtime = trial.candidate.seeded(trial.seed), trial.folder, shared.runtime
    began, cpu = time.monotonic(), cpu_seconds()
    datasets = shared.datasets_for(spec)
    assembly = start(trial, shared)
    _begin(assembly, folder, shared)
    state = train(assembly, datasets, folder, runtime, resume=True, display=Display(quiet=True))
    store.save(folder, calibrate(assembly, datasets["valid"], runtime))
    seal_run(assembly, folder)
    spent = _spent("", began, cpu)
    began, cpu = time.monotonic(), cpu_seconds()
    split = shared.split
    features = shared.features(trial.seed, assembly.model) if assembly.model.frozen else None
    found = {name: probe(assembly, datasets[name], runtime, whole=name != split, noise=noise, features=features)
             for name in dict.fromkeys(("valid", split))}  # fmt: skip
    found[split].write(folder)
    valid = {task: _values(assembly, task, records) for task, records in found["valid"].whole.records.items()}
    costs = _costs(assembly, datasets[split], state, runtime)
    spent |= _spent("measuring_", began, cpu)
    folders.write_json(folder / PAGE, {
        "candidate": trial.candidate.name, "kind": trial.candidate.kind, "seed": trial.seed,
        "spec": yaml12.loads(spec.text()), "valid": valid, "best_epoch": state.best_epoch,
        "epochs": len(state.history), **spent, **costs,
    })  # fmt: skip
    Checkpoints(folder).clear()


def _spent(what: str, began: float, cpu: float) -> dict[str, float]:
    """Seconds since then, by the clock and of this process."""
    return {f"{what}seconds": round(time.monotonic() - began, 2),
            f"{what}cpu_seconds": round(cpu_seconds() - cpu, 2)}  # fmt: skip


def start(trial: Trial, shared: Shared) -> Assembly:
    """The model before its training, with the encoders of the single inputs where it starts from them."""
    assembly = shared.assembly(trial.candidate.seeded(trial.seed))
    for name, folder in trial.encoders.items():
        begins = f"encoders.parts.{key(name)}."
        stored = folders.read_tensors(folder / "weights.safetensors")
        weights = {n.removeprefix(begins): value for n, value in stored.items() if n.startswith(begins)}
        assembly.model.encoders[name].load_state_dict(weights)
    if assembly.model.frozen:
        assembly.model.recall = shared.features(trial.seed, assembly.model).recall
    return assembly


def _begin(assembly: Assembly, folder: Path, shared: Shared) -> None:
    folders.write_bytes(folder / "spec.yaml", assembly.spec.text().encode())
    folders.write_json(folder / "readers.json", assembly.fields())
    note(folder, starts_of(assembly.spec))
    shared.copy_files(assembly.spec.inputs, folder)


def _values(assembly: Assembly, task: str, records: dict[str, Any]) -> dict[str, float | None]:
    found = assembly.model.tasks[task].measure(records, np.ones((1, len(records["error"]))))
    return {name: float(v[0]) if np.isfinite(v[0]) else None for name, v in found.items()}


def _costs(assembly: Assembly, dataset: Dataset, state: State, runtime: Any) -> dict[str, Json]:
    parameters = list(assembly.model.parameters())
    speeds = [entry["rows_per_second"] for entry in state.history]
    return {
        "parameters": sum(p.numel() for p in parameters),
        "trained": sum(p.numel() for p in parameters if p.requires_grad),
        "operations": operations(assembly.model, dataset, runtime),
        "latency_ms": round(1000 * seconds_per_row(assembly.model, dataset, runtime), 3),
        "rows_per_second": round(statistics.median(speeds), 1) if speeds else None,
    }
