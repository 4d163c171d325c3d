"""The Python face: `train`, `load`, `check`, `make_scenes` and `Run`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from polymodal import assemble
from polymodal.assemble import Assembly
from polymodal.core import spec as specs
from polymodal.core import yaml12
from polymodal.core.errors import RunError, SpecError
from polymodal.core.schema import Json
from polymodal.core.spec import Spec
from polymodal.data.check import Inspection, guess_inputs, guess_task, inspect
from polymodal.data.dataset import InputPlan, TargetPlan
from polymodal.data.ledger import Ledger
from polymodal.data.splits import Part
from polymodal.data.tables import Table, open_table
from polymodal.work import folder as folders
from polymodal.work.evaluate import evaluate
from polymodal.work.evaluation import Evaluation
from polymodal.work.job import make_run, open_parts
from polymodal.work.predict import Line, predict, write
from polymodal.work.progress import Display
from polymodal.work.runtime import Runtime

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
    if resume and (where / folders.MANIFEST).is_file():
        display.say(f"{where} is finished already")
        return load(where, trust=True)
    return Run(where, make_run(plan, table, where, resume=resume, display=display))


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
    parts = open_parts(plan, table)
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
