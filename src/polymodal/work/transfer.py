"""Starting a part from another run: its weights, what its reader learned there, its files; and where they came from."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from polymodal.assemble import target_part
from polymodal.assemble_extras import Start, Starts, input_folder
from polymodal.assemble_tasks import decoders_of, task_folder
from polymodal.core import catalog
from polymodal.core.build import placing
from polymodal.core.errors import RunError, SpecError, shorten, suggest
from polymodal.core.names import key
from polymodal.core.schema import Json, check_settings, settable
from polymodal.core.settings import Lora, Source
from polymodal.core.spec import InputSpec, PartSpec, Spec, TaskSpec
from polymodal.core.spec_extras import lora_of, source_of
from polymodal.core.spec_parts import read_part
from polymodal.work import folder as folders
from polymodal.work.stored import Stored

FILE = "origins.json"
FREE = frozenset({"dropout", "pretrained"})  # settings of parts on which the meaning of their weights does not depend


def starts_of(spec: Spec) -> Starts:
    """What every part with a `from` begins with, by its place in the spec; the runs are opened, their hashes checked.

    A part that reads the streams brings the projections with it of those inputs whose encoders come from the same run.
    Raises SpecError where there is no such run, or where part or reader are not set as they were there.
    """
    runs: dict[str, Stored] = {}
    found: dict[str, Start] = {}
    for name, one in spec.inputs.items():
        if source := source_of(one.encoder):
            found[one.encoder.where] = _encoder(_open(runs, one.encoder, source), one, source.input or name)
    for part in (spec.attention, spec.fusion):
        if part is not None and (source := source_of(part)):
            found[part.where] = _joining(_open(runs, part, source), spec, part)
    for task, own, part in decoders_of(spec):
        if source := source_of(part):
            found[part.where] = _decoder(_open(runs, part, source), spec.tasks[task], own, part, source.task or task)
    return found | _projections(spec, found, runs)


class Other:
    """The run from which the part at `where` starts, and the words for what does not fit."""

    def __init__(self, stored: Stored, where: str) -> None:
        self.stored, self.where, self.spec = stored, where, stored.spec
        self.name = stored.folder.resolve().name

    def pick(self, names: Mapping[str, Any], wished: str, what: str) -> Any:
        """What has this name there."""
        if wished not in names:
            raise SpecError(f"{self.where}.from", f"the run {self.name} has no {what} of this name", given=wished,
                            advice=f"{{run: ..., {what}: ...}} with {suggest(wished, names)}")  # fmt: skip
        return names[wished]

    def agree(self, where: str, name: str, ours: Json, theirs: Json) -> None:
        if ours != theirs:
            raise SpecError(f"{where}.{name}", f"is not as in the run {self.name}, from which {self.where} starts",
                            given=ours, advice=f"{name}: {shorten(theirs)}")  # fmt: skip

    def alike(self, ours: PartSpec, theirs: PartSpec, wanted: Json, free: Iterable[str]) -> None:
        """Both are the same part with the same settings, those aside that are free."""
        self.agree(ours.where, "type", ours.type, theirs.type)
        cls = catalog.load(ours.kind, ours.type, f"{ours.where}.type")
        given = [check_settings(cls, {**wanted, **part.settings}, part.where) for part in (ours, theirs)]
        for name, p in settable(cls).items():
            values = [settings.get(name, p.default) for settings in given]
            if name in free:
                continue
            if p.kind and None not in values:
                inner, other = (read_part(value, p.kind, f"{ours.where}.{name}") for value in values)
                self.alike(inner, other, {}, free)
            else:
                self.agree(ours.where, name, *values)

    def start(self, prefix: str, part: PartSpec | None, of: Mapping[str, Json], **more: Any) -> Start:
        """Those weights whose names begin so; adapters beside them are added to them."""
        lora = None if part is None else lora_of(part)

        def weights(module: nn.Module) -> dict[str, Tensor]:
            own = {n.removeprefix(prefix): w for n, w in self.stored.weights.items() if n.startswith(prefix)}
            return own if lora is None else merged(own, lora, module)

        origin = {"run": self.name, **of, "weights": self.stored.weights_hash}
        return Start(weights, origin, **more)

    @contextmanager
    def files(self, under: Path) -> Iterator[Path]:
        """The files of a part in a folder for the moment."""
        with tempfile.TemporaryDirectory() as place:
            self.install(under, Path(place))
            yield Path(place)

    def install(self, under: Path, place: Path) -> None:
        for name, data in self.stored.parts(f"{under.as_posix()}/").items():
            folders.write_bytes(place / name, data)


def _open(runs: dict[str, Stored], part: PartSpec, source: Source) -> Other:
    try:
        runs[source.run] = runs.get(source.run) or Stored(Path(source.run).expanduser())
        return Other(runs[source.run], part.where)
    except RunError as error:
        raise SpecError(f"{part.where}.from", error.problem, given=source.run, advice=error.advice) from None


def _encoder(other: Other, one: InputSpec, name: str) -> Start:
    theirs: InputSpec = other.pick(other.spec.inputs, name, "input")
    where, under = f"inputs.{one.name}", input_folder(Path(), name)
    other.agree(where, "type", one.reader.type, theirs.reader.type)
    other.alike(one.encoder, theirs.encoder, {}, FREE)
    encoder: Any = catalog.load(one.encoder.kind, one.encoder.type, f"{one.encoder.where}.type")
    with other.files(under) as files, placing(one.encoder.where):
        wanted = encoder.wants(one.encoder.settings, files)
    reader: Any = catalog.load("reader", one.reader.type, f"{where}.type")
    other.agree(where, "stack", list(one.stack), list(theirs.stack))
    pairs: list[tuple[Any, Any]] = [(one.stack[n], theirs.stack[n]) for n in one.stack]
    for mine, its in pairs or [(one, theirs)]:
        other.alike(mine.reader, its.reader, wanted, getattr(reader, "incidental", ()))
        if reader.record:
            other.agree(mine.reader.where, "columns", list(mine.columns), list(its.columns))
    return other.start(f"encoders.parts.{key(name)}.", theirs.encoder, {"input": name},
                       field=other.stored.fields["inputs"][name],
                       install=lambda files: other.install(under, input_folder(files, one.name)))  # fmt: skip


def _joining(other: Other, spec: Spec, part: PartSpec) -> Start:
    theirs: PartSpec | None = getattr(other.spec, part.kind)
    if theirs is None or theirs.kind != part.kind:
        raise SpecError(f"{part.where}.from", f"the run {other.name} has no {part.kind}", advice="leave it out")
    other.alike(part, theirs, {}, FREE)
    other.agree(part.where, "inputs", list(spec.inputs), list(other.spec.inputs))
    return other.start(f"{part.kind}.", theirs, {})


def _decoder(other: Other, task: TaskSpec, own: str, part: PartSpec, name: str) -> Start:
    theirs: TaskSpec = other.pick(other.spec.tasks, name, "task")
    if catalog.is_dotted(theirs.part.type):
        other.agree(f"tasks.{task.name}", "type", task.part.type, theirs.part.type)  # nothing of theirs is imported
    cls = catalog.load("task", theirs.part.type, f"tasks.{name}.type")
    known = settable(cls).get(own)
    chosen = theirs.part.settings.get(own, None if known is None else known.default)
    if known is None or known.kind != "decoder" or chosen is None:
        raise SpecError(f"{part.where}.from", f"the task {name} of the run {other.name} has no decoder",
                        given=theirs.part.type, advice="from: {run: ..., task: NAME}")  # fmt: skip
    decoder, under = read_part(chosen, "decoder", f"tasks.{name}.{own}"), task_folder(Path(), name)
    other.alike(part, decoder, {}, FREE)
    with other.files(under) as files:
        readers = [target_part(one, files) for one in (task, theirs)]
    reader = catalog.load("target", readers[0].type, f"{task.part.where}.reader")
    mine = replace(readers[0], where=readers[0].where if task.reader else task.part.where)
    other.alike(mine, readers[1], {}, getattr(reader, "incidental", ()))
    return other.start(f"tasks.parts.{key(name)}.{own}.", decoder, {"task": name},
                       field=other.stored.fields["targets"][name],
                       install=lambda files: other.install(under, task_folder(files, task.name)))  # fmt: skip


def _projections(spec: Spec, found: Starts, runs: Mapping[str, Stored]) -> dict[str, Start]:
    """Between an encoder and what reads the streams, where both come from one run; by the inputs' places."""
    first = spec.attention or spec.fusion
    source = None if first is None or first.where not in found else source_of(first)
    made = {}
    for name, one in spec.inputs.items():
        begun = source_of(one.encoder)
        if source is not None and begun is not None and begun.run == source.run and (begun.input or name) == name:
            other = Other(runs[source.run], one.reader.where)
            if len(other.spec.inputs[name].columns) == len(one.columns):
                made[one.reader.where] = other.start(f"entries.parts.{key(name)}.", None, {"input": name})
    return made


def merged(weights: Mapping[str, Tensor], lora: Lora, module: nn.Module) -> dict[str, Tensor]:
    """The weights without adapters: W + (alpha / rank) B A of each linear layer that has one (Hu et al. 2021).

    `module` is what they are for, without adapters: its layers say whose weights lie the other way round.
    """
    found = {n.replace(".base_layer.", "."): w for n, w in weights.items() if ".lora_" not in n}
    for name, down in weights.items():
        if layer := re.fullmatch(r"(.*)\.lora_A\.default\.weight", name):
            change = lora.alpha / lora.rank * (weights[f"{layer[1]}.lora_B.default.weight"] @ down)
            turned = not isinstance(module.get_submodule(layer[1]), nn.Linear)
            found[f"{layer[1]}.weight"] = found[f"{layer[1]}.weight"] + (change.T if turned else change)
    return found


def note(folder: Path, starts: Starts) -> None:
    """Write down where first weights come from, in the run that begins with them."""
    if starts:
        folders.write_json(folder / FILE, {where: start.origin for where, start in starts.items()})


def check_same(folder: Path, starts: Starts) -> None:
    """Raise RunError when a training that is begun once more would not begin with the same weights."""
    noted = folders.read_json(folder / FILE) if (folder / FILE).is_file() else {}
    for where, start in starts.items():
        if noted.get(where) != start.origin:
            known = noted.get(where, {}).get("run")
            raise RunError(str(folder), f"{where} began with other weights", given=start.origin["run"],
                           advice=f"the run {known!r} as it was, or a new folder")  # fmt: skip


def told(folder: Path) -> dict[str, Json]:
    """Where first weights come from, for people."""
    noted = folders.read_json(folder / FILE) if (folder / FILE).is_file() else {}
    return {f"{where} from": f"run {origin['run']}, weights {origin['weights']}" for where, origin in noted.items()}
