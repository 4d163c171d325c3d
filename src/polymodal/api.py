"""The Python face: `train`, `load`, `check`, `make_scenes` and `Run`."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from polymodal import assemble
from polymodal.assemble import Assembly
from polymodal.core import spec as specs
from polymodal.core import yaml12
from polymodal.core.errors import RunError, SpecError, UserError, saving
from polymodal.core.schema import Json
from polymodal.core.spec import Spec
from polymodal.data.cache import Cache
from polymodal.data.check import Inspection, guess_inputs, guess_task, inspect
from polymodal.data.dataset import Dataset, InputPlan, TargetPlan
from polymodal.data.ledger import Ledger
from polymodal.data.splits import Part, make_splits
from polymodal.data.tables import Table, open_table
from polymodal.work import folder as folders
from polymodal.work.evaluate import evaluate
from polymodal.work.evaluation import Evaluation
from polymodal.work.predict import Line, predict, write
from polymodal.work.progress import Display
from polymodal.work.runtime import Runtime, environment
from polymodal.work.train import train as fit

__all__ = ["Run", "check", "load", "make_scenes", "train"]


def train(
    data: Any = None,
    *,
    spec: str | Path | Mapping[str, Json] | Spec | None = None,
    inputs: Mapping[str, Json] | None = None,
    target: str | None = None,
    fusion: Json = None,
    settings: Mapping[str, Json] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Run:
    """Train a model and return its run.

    `data`: a path, a pandas DataFrame, a pyarrow Table, a dict of lists or a list of dicts; left out when the spec
    names its tables. Either `spec` (a path, plain values or a Spec), or `target` (a column) with `inputs` (name -> type
    or block); inputs left out are guessed from the columns, and the guess is printed as a spec that can be saved.
    `settings` are the spec's `train` section. `out`: the run folder, the next free `runs/run-N` when not given.

    Raises SpecError, TableError and RunError for what the user can mend; Stopped after Ctrl-C with the work saved.
    """
    display = Display(quiet)
    table = None if data is None else open_table(data)
    plan = _plan(spec, table, inputs, target, fusion, settings, display)
    if table is not None and isinstance(data, str | Path):
        plan = replace(plan, data=replace(plan.data, train=str(data)))
    where = Path(out) if out is not None else _free_folder(Path("runs"))
    return _train(plan, table, where, resume, display)


def _plan(spec: Any, table: Table | None, inputs: Any, target: str | None, fusion: Json, settings: Any,
          display: Display) -> Spec:  # fmt: skip
    if spec is not None:
        return _as_spec(spec)
    if table is None or target is None:
        raise SpecError("train", "needs a spec, or a table and a target", advice='train("rows.csv", target="label")')
    table.need([target], "target")
    guessed = inputs is None
    blocks = guess_inputs(table, target) if inputs is None else dict(inputs)
    joined = fusion or ("concat" if len(blocks) > 1 else None)
    plan = specs.parse({"inputs": blocks, "fusion": joined, "tasks": {target: guess_task(table, target)},
                        "train": dict(settings or {})})  # fmt: skip
    if guessed:
        display.say(f"# guessed from the columns of {table.name}; save it as spec.yaml to change it\n{plan.text()}")
    return plan


def _free_folder(parent: Path) -> Path:
    number = 1
    while (parent / f"run-{number}").exists():
        number += 1
    return parent / f"run-{number}"


def _train(spec: Spec, table: Table | None, folder: Path, resume: bool, display: Display) -> Run:
    stored = folder / "spec.yaml"
    if resume and (folder / folders.MANIFEST).is_file():
        display.say(f"{folder} is finished already")
        return load(folder)
    if resume and stored.is_file():
        _same_spec(spec, specs.load(stored), folder)
    elif _in_use(folder):
        advice = "--resume to go on with it, or another name" if stored.is_file() else "a new folder"
        raise RunError(str(folder), "is there already and not empty", advice=advice)
    specs.validate(spec)
    began = time.monotonic()
    runtime = Runtime(spec.train)
    display = display if runtime.main else Display(quiet=True)
    parts = _parts(spec, table)
    ledger, cache = Ledger(), Cache(spec.data.cache_mb, folder / "cache")
    try:
        with _not_left_behind(folder):
            assembly = _assembly(spec, parts["train"], folder, resume)
            datasets = _datasets(assembly, parts, ledger, cache, display)
            fit(assembly, datasets, folder, runtime, resume=resume, display=display)
    finally:
        cache.close()
    if runtime.main:
        _finish(assembly, parts, folder, runtime, ledger, time.monotonic() - began, display)
    runtime.wait()
    return Run(folder, assembly)


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


def _parts(spec: Spec, table: Table | None) -> dict[str, Part]:
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


def _datasets(assembly: Assembly, parts: dict[str, Part], ledger: Ledger, cache: Cache,
              display: Display) -> dict[str, Dataset]:  # fmt: skip
    """Every part with all its cells read once, test too: what is wrong with it shall not show after the training."""
    made = {}
    for name in parts:
        drop = assembly.spec.train.drop if name == "train" else 0.0
        kept = None if name == "test" else cache
        made[name] = assembly.dataset(parts[name], ledger, targets=True, cache=kept, drop=drop)
        with display.bar(f"reading {name}", len(parts[name].rows)) as bar:
            made[name].scan(bar.advance)
    return made


def _finish(assembly: Assembly, parts: dict[str, Part], folder: Path, runtime: Runtime, ledger: Ledger, seconds: float,
            display: Display) -> None:  # fmt: skip
    """Score validation and, once, test; write everything a run folder holds; seal it."""
    from polymodal.work.card import write_card
    from polymodal.work.report import write_report

    evaluations: dict[str, Evaluation] = {}
    for name in ("valid", "test"):
        if name in parts:
            with display.bar(f"scoring {name}", len(parts[name].rows)) as bar:
                evaluations[name] = evaluate(assembly, parts[name], runtime, Ledger(), step=bar.advance)
    folders.write_tensors(folder / "weights.safetensors", assembly.model.state_dict())
    folders.write_json(folder / "metrics.json", {name: e.json() for name, e in evaluations.items()})
    folders.write_json(folder / "environment.json", environment() | {"seconds": round(seconds, 1)})
    ledger.save(folder / "ledger.jsonl")
    write_report(folder, evaluations)
    write_card(folder, evaluations)
    kept = ["spec.yaml", "readers.json", "weights.safetensors"]
    kept += [str(p.relative_to(folder)) for p in sorted((folder / "parts").rglob("*")) if p.is_file()]
    folders.seal(folder, kept)
    from polymodal.work.checkpoint import Checkpoints

    Checkpoints(folder).clear()
    if len(ledger):
        display.say(f"ledger: {ledger.counts()}, see {folder / 'ledger.jsonl'}")


def load(folder: str | Path, *, trust: bool = False) -> Run:
    """Open a finished run; hashes are checked. `trust` allows parts named by a dotted path, whose code is then run."""
    place = Path(folder)
    hashes = folders.manifest(place)["files"]
    text = folders.read_bytes(place / "spec.yaml", hashes.get("spec.yaml", "")).decode()
    spec = specs.parse(yaml12.loads(text, str(place / "spec.yaml")))
    if not trust:
        _refuse_code(spec, place)
    fields = folders.read_json(place / "readers.json", hashes.get("readers.json", ""))
    for name, digest in hashes.items():
        if name.startswith("parts/"):
            folders.read_bytes(place / name, digest)
    assembly = assemble.restore(spec, fields, place / "parts")
    weights = folders.read_tensors(place / "weights.safetensors", hashes.get("weights.safetensors", ""))
    try:
        assembly.model.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(str(place), f"the weights do not fit the spec: {str(error).splitlines()[0]}") from None
    assembly.model.eval()
    return Run(place, assembly)


def _refuse_code(spec: Spec, folder: Path) -> None:
    foreign = [part.type for part in spec.dotted()]
    if foreign:
        raise RunError(str(folder), "names a part by a dotted path, which is code from elsewhere", given=foreign[0],
                       advice="if you trust it: load(..., trust=True), or --trust on the command line")  # fmt: skip


class Run:
    """A finished run: what it is (`spec`, `metrics`, `history`, `ledger`), and what it does (`predict`, `evaluate`)."""

    def __init__(self, folder: Path, assembly: Assembly) -> None:
        self.folder, self.assembly = folder, assembly

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, tasks={list(self.spec.tasks)}, inputs={list(self.spec.inputs)})"

    @property
    def spec(self) -> Spec:
        return self.assembly.spec

    @cached_property
    def runtime(self) -> Runtime:
        runtime = Runtime(self.spec.train)
        self.assembly.model.to(runtime.device)
        return runtime

    @property
    def metrics(self) -> dict[str, Json]:
        """Measures with intervals for `valid` and, where there was one, `test`, as they were when the run was made."""
        return folders.read_json(self.folder / "metrics.json")

    @property
    def history(self) -> list[Json]:
        """One entry per epoch."""
        import json

        return [json.loads(line) for line in (self.folder / "history.jsonl").read_text().splitlines()]

    @property
    def ledger(self) -> Ledger:
        return Ledger.load(self.folder / "ledger.jsonl")

    def evaluate(self, data: Any, *, withheld: bool = True, quiet: bool = True) -> Evaluation:
        """Measure the run on a table with targets. `evaluate(...).json()` is what the command line prints."""
        part = self._part(data)
        with Display(quiet).bar("scoring", len(part.rows)) as bar:
            return evaluate(self.assembly, part, self.runtime, Ledger(), withheld=withheld, step=bar.advance)

    def predict(self, data: Any, *, out: str | Path | None = None, keep: bool = False, on_bad: str | None = None,
                quiet: bool = True) -> list[Line] | int:  # fmt: skip
        """One answer per row, in order: a list of dicts, or the number of rows written when `out` names a file."""
        part = self._part(data)
        with Display(quiet).bar("predicting", len(part.rows)) as bar:
            lines = predict(self.assembly, part, self.runtime, Ledger(), on_bad=on_bad, keep=keep, step=bar.advance)
            return list(lines) if out is None else write(lines, Path(out))

    def _part(self, data: Any) -> Part:
        import numpy as np

        table = open_table(data, root=self.spec.data.root, encoding=self.spec.data.encoding)
        return Part(table, np.arange(len(table)))


def check(data: Any = None, *, spec: str | Path | Mapping[str, Json] | Spec | None = None) -> Inspection:
    """Read every cell of a table; what was found has `.json()` and prints as text.

    With a spec its readers read the cells of its tables, and its splits are searched for leaks; without one the
    columns' types are guessed.
    """
    if spec is None:
        return inspect(open_table(data))
    plan = specs.validate(_as_spec(spec))
    table = None if data is None else open_table(data, root=plan.data.root, encoding=plan.data.encoding)
    parts = _parts(plan, table)
    with tempfile.TemporaryDirectory() as files:
        readers, targets = assemble.fit_readers(plan, parts["train"], Path(files))
    inputs = {n: InputPlan(readers[n], one.columns) for n, one in plan.inputs.items()}
    answers = {n: TargetPlan(targets[n], one.columns) for n, one in plan.tasks.items()}
    return inspect(parts["train"].table, parts=parts, inputs=inputs, targets=answers)


def _as_spec(spec: str | Path | Mapping[str, Json] | Spec) -> Spec:
    if isinstance(spec, Spec):
        return spec
    return specs.load(spec) if isinstance(spec, str | Path) else specs.parse(dict(spec))


def make_scenes(folder: str | Path, **options: Any) -> Path:
    """Write the built-in data, drawn pictures, sentences, tones and numbers, and return the path of its table.

    `options` are those of `polymodal.scenes.make_scenes`: rows, seed, size, language, objects, valid, test.
    """
    from polymodal import scenes

    return scenes.make_scenes(folder, **options)
