"""A training as a whole: from a spec and a table to a sealed run folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polymodal import assemble
from polymodal.assemble import Assembly
from polymodal.core import spec as specs
from polymodal.core import yaml12
from polymodal.core.errors import RunError, SpecError, UserError, saving
from polymodal.core.schema import Json
from polymodal.core.spec import Spec
from polymodal.data.cache import Cache
from polymodal.data.dataset import Dataset
from polymodal.data.ledger import Ledger
from polymodal.data.splits import Part, make_splits
from polymodal.data.tables import Table, open_table
from polymodal.work import folder as folders
from polymodal.work.card import write_card
from polymodal.work.checkpoint import Checkpoints
from polymodal.work.evaluate import evaluate
from polymodal.work.evaluation import Evaluation
from polymodal.work.progress import Display
from polymodal.work.report import write_report
from polymodal.work.runtime import Runtime, environment
from polymodal.work.train import train


def make_run(spec: Spec, table: Table | None, folder: Path, *, resume: bool, display: Display) -> Assembly:
    """Train, score and seal; the assembly has the best epoch's weights. `table` is None when the spec names it.

    Raises RunError for a folder in use, SpecError and TableError for what is wrong with spec and data.
    """
    stored = folder / "spec.yaml"
    if resume and stored.is_file():
        _same_spec(spec, specs.load(stored), folder)
    elif _in_use(folder):
        advice = "--resume to go on with it, or another name" if stored.is_file() else "a new folder"
        raise RunError(str(folder), "is there already and not empty", advice=advice)
    specs.validate(spec)
    began = time.monotonic()
    runtime = Runtime(spec.train)
    display = display if runtime.main else Display(quiet=True)
    parts = open_parts(spec, table)
    cache = Cache(spec.data.cache_mb, folder / "cache")
    try:
        with _not_left_behind(folder):
            assembly = _assembly(spec, parts["train"], folder, resume)
            datasets = _datasets(assembly, parts, cache, display)
            train(assembly, datasets, folder, runtime, resume=resume, display=display)
        if runtime.main:
            evaluations = _score(assembly, parts, datasets, runtime, display)
    finally:
        cache.close()
    if runtime.main:
        ledger = Ledger()
        for dataset in datasets.values():
            ledger.extend(dataset.ledger)
        _write(assembly, evaluations, folder, ledger, time.monotonic() - began)
        if len(ledger):
            display.say(f"ledger: {ledger.counts()}, see {folder / 'ledger.jsonl'}")
    runtime.wait()
    return assembly


def _in_use(folder: Path) -> bool:
    with saving(folder, RunError, "another folder for the run"):
        found = folder.exists() and any(folder.iterdir())
    return found


@contextmanager
def _not_left_behind(folder: Path) -> Iterator[None]:
    """A folder made for a training that never got to save anything, because of a mistake of the user, is taken away."""
    there = _in_use(folder)
    try:
        yield
    except UserError as error:
        saved = any((folder / "checkpoints").glob("step-*"))
        if not (there or saved or isinstance(error, RunError)):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _same_spec(spec: Spec, stored: Spec, folder: Path) -> None:
    ours, theirs = (_flat(yaml12.loads(one.text())) for one in (spec, stored))
    if ours != theirs:
        changed = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
        raise SpecError(changed[0], f"is not what the run in {folder} was begun with", given=ours.get(changed[0]),
                        advice=f"{theirs.get(changed[0])!r}, or another folder for a new run")  # fmt: skip


def _flat(plain: Json, path: str = "") -> dict[str, Json]:
    if not isinstance(plain, dict):
        return {path: plain}
    return {k: v for name, inner in plain.items() for k, v in _flat(inner, f"{path}.{name}".lstrip(".")).items()}


def open_parts(spec: Spec, table: Table | None) -> dict[str, Part]:
    """The rows for training, validation and, where there is one, test, as the spec's `data` says."""

    def opened(source: str) -> Table:
        return open_table(source, root=spec.data.root, encoding=spec.data.encoding)

    if table is None:
        if spec.data.train is None:
            raise SpecError("data.train", "is needed", advice="the path of a table, or pass a DataFrame from Python")
        table = opened(spec.data.train)
    target = next(iter(spec.tasks.values())).columns[0]
    return make_splits(table, spec.data, target, spec.train.seed, opened)


def _assembly(spec: Spec, part: Part, folder: Path, resume: bool) -> Assembly:
    """A new assembly, or the one a broken-off run began with; what fitting learned is on the disk from here on."""
    stored, files = folder / "readers.json", folder / "parts"
    if resume and stored.is_file():
        begun = any((folder / "checkpoints").glob("step-*"))
        return assemble.restore(spec, folders.read_json(stored), files, fresh=not begun)
    folders.write_bytes(folder / "spec.yaml", spec.text().encode())
    assembly = assemble.fit(spec, part, files)
    folders.write_json(stored, assembly.fields())
    return assembly


def _datasets(assembly: Assembly, parts: dict[str, Part], cache: Cache, display: Display) -> dict[str, Dataset]:
    """Every part with all its cells read once, test too: what is wrong with it shall not show after the training."""
    made = {}
    for name in parts:
        drop = assembly.spec.train.drop if name == "train" else 0.0
        kept = None if name == "test" else cache
        made[name] = assembly.dataset(parts[name], Ledger(), targets=True, cache=kept, drop=drop)
        with display.bar(f"reading {name}", len(parts[name].rows)) as bar:
            made[name].scan(bar.advance)
    return made


def _score(assembly: Assembly, parts: dict[str, Part], datasets: dict[str, Dataset], runtime: Runtime,
           display: Display) -> dict[str, Evaluation]:  # fmt: skip
    """Validation rows measured with intervals and, once, test rows."""
    found: dict[str, Evaluation] = {}
    for name in ("valid", "test"):
        if name in parts:
            with display.bar(f"scoring {name}", len(datasets[name].rows)) as bar:
                found[name] = evaluate(assembly, parts[name], runtime, datasets[name].ledger,
                                       dataset=datasets[name], step=bar.advance)  # fmt: skip
    return found


def _write(
    assembly: Assembly, evaluations: dict[str, Evaluation], folder: Path, ledger: Ledger, seconds: float
) -> None:
    """Everything a run folder holds; then the seal, and the checkpoints go."""
    folders.write_tensors(folder / "weights.safetensors", assembly.model.state_dict())
    folders.write_json(folder / "metrics.json", {name: e.json() for name, e in evaluations.items()})
    folders.write_json(folder / "environment.json", environment() | {"seconds": round(seconds, 1)})
    ledger.save(folder / "ledger.jsonl")
    write_report(folder, evaluations)
    write_card(folder, evaluations)
    kept = ["spec.yaml", "readers.json", "weights.safetensors"]
    kept += [str(p.relative_to(folder)) for p in sorted((folder / "parts").rglob("*")) if p.is_file()]
    folders.seal(folder, kept)
    Checkpoints(folder).clear()
