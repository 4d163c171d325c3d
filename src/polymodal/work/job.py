"""A training as a whole: from a spec and a table to a sealed run folder."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
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
from polymodal.data.fingerprints import Marks, marks_of, watch
from polymodal.data.ledger import Ledger
from polymodal.data.prints import Prints
from polymodal.data.splits import Part, make_splits
from polymodal.data.tables import Table, open_table
from polymodal.work import fingerprints, transfer
from polymodal.work import folder as folders
from polymodal.work.baseline import Settings, check_names, measure_baselines
from polymodal.work.beside import beside
from polymodal.work.card import write_card
from polymodal.work.checkpoint import Checkpoints
from polymodal.work.drift import kept
from polymodal.work.drift.drift import reference
from polymodal.work.evaluate import evaluate
from polymodal.work.evaluation import Evaluation
from polymodal.work.features import Features
from polymodal.work.look import Ground
from polymodal.work.progress import Display
from polymodal.work.report import write_report
from polymodal.work.runtime import Runtime, environment
from polymodal.work.train import train
from polymodal.work.trust import store
from polymodal.work.trust.calibrate import calibrate
from polymodal.work.trust.store import Trust


def make_run(spec: Spec, table: Table | None, folder: Path, *, resume: bool, display: Display,
             scored: Callable[[dict[str, Evaluation]], None] | None = None,
             baselines: bool | Sequence[str] = False, report: bool = True) -> Assembly:  # fmt: skip
    """Train, score and seal; the assembly has the best epoch's weights. `table` is None when the spec names it.

    `scored` is told the evaluations before the folder is sealed. `baselines`: simple models to be measured beside it,
    by name, or all that the inputs suit. `report`: whether report and model card are written.

    Raises RunError for a folder in use, SpecError and TableError for what is wrong with spec and data.
    """
    stored = folder / "spec.yaml"
    if resume and stored.is_file():
        same_spec(spec, specs.load(stored), folder)
    else:
        refuse_used(folder)
    specs.validate(spec)
    if baselines is not False:
        check_names(spec, None if baselines is True else baselines)
    began = time.monotonic()
    runtime = Runtime(spec.train)
    display = display if runtime.main else Display(quiet=True)
    parts = open_parts(spec, table)
    cache, features = Cache(spec.data.cache_mb, folder / "cache"), Features(spec.data.features_mb)
    try:
        with not_left_behind(folder):
            assembly = _assembly(spec, parts["train"], folder, resume)
            datasets = _datasets(assembly, parts, cache, display)
            features.fill(assembly.model.to(runtime.device), [datasets["train"], datasets["valid"]], runtime, display)
            assembly.model.recall = features.recall
            train(assembly, datasets, folder, runtime, resume=resume, display=display)
        if runtime.main:
            trust = calibrate(assembly, datasets["valid"], runtime)
            store.save(folder, trust)
            seen = marks_of(datasets["train"].inputs, datasets["train"].rows)
            fingerprints.save(folder, seen)
            evaluations = _score(assembly, parts, datasets, runtime, trust, seen, display)
            if report:
                answers = {name: result.predictions for name, result in evaluations["valid"].tasks.items()}
                kept.save(folder, reference(assembly, parts["train"], parts["valid"], runtime, answers=answers))
            compared = _beside(assembly, parts, datasets, evaluations, baselines, runtime, display)
    finally:
        features.close()
        cache.close()
    if runtime.main:
        ledger = Ledger()
        for dataset in datasets.values():
            ledger.extend(dataset.ledger)
        if scored is not None:
            scored(evaluations)
        _write(assembly, evaluations, compared, folder, ledger, time.monotonic() - began, report)
        if len(ledger):
            display.say(f"ledger: {ledger.counts()}, see {folder / 'ledger.jsonl'}")
    runtime.wait()
    return assembly


def refuse_used(folder: Path) -> None:
    """Raise RunError for a folder that is there already and not empty."""
    if _in_use(folder):
        stored = (folder / "spec.yaml").is_file()
        advice = "--resume to go on with it, or another name" if stored else "a new folder"
        raise RunError(str(folder), "is there already and not empty", advice=advice)


def _in_use(folder: Path) -> bool:
    with saving(folder, RunError, "another folder for the run"):
        found = folder.exists() and any(folder.iterdir())
    return found


@contextmanager
def not_left_behind(folder: Path, work: str = "checkpoints/step-*") -> Iterator[None]:
    """A folder made for work that never got to save anything, because of a mistake of the user, is taken away.

    `work` is what stands in it as soon as something is saved.
    """
    there = _in_use(folder)
    try:
        yield
    except UserError as error:
        saved = any(folder.glob(work))
        if not (there or saved or isinstance(error, RunError)):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def same_spec(spec: Spec, stored: Spec, folder: Path) -> None:
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


def fit_baselines(
    spec: Spec,
    table: Table | None,
    names: Sequence[str] | None = None,
    settings: Settings | None = None,
    display: Display | None = None,
) -> dict[str, Evaluation]:
    """Simple models on the rows a training of this spec would have; see `baseline.measure_baselines`."""
    specs.validate(spec)
    check_names(spec, names, settings)
    parts = open_parts(spec, table)
    with tempfile.TemporaryDirectory() as files:
        readers, targets = assemble.fit_readers(spec, parts["train"], Path(files), transfer.starts_of(spec))
        return measure_baselines(Ground(spec, readers, targets, Path(files)), parts, names, settings, display=display)


def _assembly(spec: Spec, part: Part, folder: Path, resume: bool) -> Assembly:
    """A new assembly, or the one a broken-off run began with; what fitting learned is on the disk from here on."""
    stored, files = folder / "readers.json", folder / "parts"
    begun = resume and any((folder / "checkpoints").glob("step-*"))
    starts = {} if begun else transfer.starts_of(spec)
    if resume and stored.is_file():
        transfer.check_same(folder, starts)
        return assemble.restore(spec, folders.read_json(stored), files, fresh=not begun, starts=starts)
    folders.write_bytes(folder / "spec.yaml", spec.text().encode())
    transfer.note(folder, starts)
    assembly = assemble.fit(spec, part, files, starts)
    folders.write_json(stored, assembly.fields())
    return assembly


def _datasets(assembly: Assembly, parts: dict[str, Part], cache: Cache, display: Display) -> dict[str, Dataset]:
    """Every part with all its cells read once, test too: what is wrong with it shall not show after the training."""
    made: dict[str, Dataset] = {}
    prints: dict[str, Prints] = {}
    for name in parts:
        drop = assembly.spec.train.drop if name == "train" else 0.0
        kept = None if name == "test" else cache
        made[name] = assembly.dataset(parts[name], Ledger(), targets=True, cache=kept, drop=drop)
        watch(made[name].inputs, prints)
        with display.bar(f"reading {name}", len(parts[name].rows)) as bar:
            made[name].scan(bar.advance)
    return made


def _score(assembly: Assembly, parts: dict[str, Part], datasets: dict[str, Dataset], runtime: Runtime,
           trust: Trust, seen: dict[str, Marks], display: Display) -> dict[str, Evaluation]:  # fmt: skip
    """Validation rows measured with intervals and, once, test rows; the former prove nothing of their own limits."""
    found: dict[str, Evaluation] = {}
    for name in ("valid", "test"):
        if name in parts:
            with display.bar(f"scoring {name}", len(datasets[name].rows)) as bar:
                found[name] = evaluate(assembly, parts[name], runtime, datasets[name].ledger,
                                       dataset=datasets[name], step=bar.advance,
                                       trust=trust if name == "test" else None, train=seen)  # fmt: skip
    return found


def _beside(assembly: Assembly, parts: dict[str, Part], datasets: dict[str, Dataset],
            evaluations: dict[str, Evaluation], names: bool | Sequence[str], runtime: Runtime,
            display: Display) -> dict[str, Json]:  # fmt: skip
    """What simple models score on the rows that the headline speaks of, and how far the model is from each."""
    if names is False:
        return {}
    split = "test" if "test" in parts else "valid"
    ground = Ground(assembly.spec, assembly.readers, assembly.targets, assembly.files)
    rivals = measure_baselines(ground, parts, None if names is True else names, datasets=datasets, runtime=runtime,
                               display=display)  # fmt: skip
    tasks, seed = dict(assembly.model.tasks.items()), assembly.spec.train.seed
    return {"baselines": beside(evaluations[split], rivals, tasks, split, seed)}


def _write(assembly: Assembly, evaluations: dict[str, Evaluation], compared: dict[str, Json], folder: Path,
           ledger: Ledger, seconds: float, report: bool) -> None:  # fmt: skip
    """Everything a run folder holds; then the seal, and the checkpoints go."""
    folders.write_json(folder / "metrics.json", {name: e.json() for name, e in evaluations.items()} | compared)
    measured = environment() | {"seconds": round(seconds, 1)} | transfer.told(folder)
    folders.write_json(folder / "environment.json", measured)
    ledger.save(folder / "ledger.jsonl")
    if report:
        write_report(folder, evaluations)
        write_card(folder, evaluations)
    seal_run(assembly, folder)
    Checkpoints(folder).clear()


def seal_run(assembly: Assembly, folder: Path) -> None:
    """Write the weights and vouch for all that the run is loaded from: a finished run."""
    folders.write_tensors(folder / "weights.safetensors", assembly.model.state_dict())
    listed = ["spec.yaml", "readers.json", "weights.safetensors"]
    listed += [str(p.relative_to(folder)) for p in sorted((folder / "parts").rglob("*")) if p.is_file()]
    beside = (store.FILE, fingerprints.NAME, transfer.FILE, *kept.FILES)
    listed += [name for name in beside if (folder / name).is_file()]
    folders.seal(folder, listed)
