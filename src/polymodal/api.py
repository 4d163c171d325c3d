"""The Python face: `train`, `load`, `check`, `make_scenes` and `Run`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from polymodal import assemble
from polymodal.assemble import Assembly
from polymodal.core import spec as specs
from polymodal.core.catalog import need
from polymodal.core.errors import RunError, SpecError
from polymodal.core.schema import Json, check_settings
from polymodal.core.settings import Train
from polymodal.core.spec import Spec
from polymodal.data.check import Inspection, inspect
from polymodal.data.dataset import InputPlan, TargetPlan
from polymodal.data.draft import Draft, Target
from polymodal.data.draft import draft as draft_spec
from polymodal.data.histories import Begin, Names
from polymodal.data.histories import histories as each_history
from polymodal.data.ledger import Ledger
from polymodal.data.splits import Part, cell_names
from polymodal.data.tables import Table, open_table
from polymodal.serve.index.build import Told, index_table
from polymodal.serve.index.index import Index
from polymodal.serve.index.index import open_index as open_any_index
from polymodal.serve.log_table import Logged, is_log, open_log
from polymodal.serve.log_table import log_table as write_log_table
from polymodal.work import fingerprints
from polymodal.work import folder as folders
from polymodal.work.against import Against, against, asked, shared_tasks
from polymodal.work.chat.partner import Manner
from polymodal.work.chat.run import RunPartner
from polymodal.work.chat.talk import Chat
from polymodal.work.compare.compare import compare as compare_ways
from polymodal.work.compare.plan import Options
from polymodal.work.compare.result import Comparison
from polymodal.work.drift import kept
from polymodal.work.drift.drift import LEVEL, ROWS, Drift, drift, reference
from polymodal.work.embed import Embedder, vectors_of
from polymodal.work.evaluate import evaluate
from polymodal.work.evaluation import Evaluation
from polymodal.work.job import fit_baselines, make_run, open_parts, refuse_used
from polymodal.work.leave_out import leave_out as leave_groups_out
from polymodal.work.left_out import LeftOut
from polymodal.work.notebook import run_html
from polymodal.work.predict import Line, only_plain, predict, write
from polymodal.work.progress import Display
from polymodal.work.reason import reasons_of_part
from polymodal.work.recommend import recommend
from polymodal.work.runtime import Runtime
from polymodal.work.stored import Stored
from polymodal.work.transfer import starts_of
from polymodal.work.trust import store
from polymodal.work.trust.terms import make_terms
from polymodal.work.zero_shot import Classes, ZeroShot

__all__ = [
    "Run",
    "baselines",
    "chat",
    "check",
    "compare",
    "draft",
    "histories",
    "leave_out",
    "load",
    "log_table",
    "make_scenes",
    "open_index",
    "train",
]


def train(
    data: Any = None,
    *,
    spec: str | Path | Mapping[str, Json] | Spec | None = None,
    inputs: Mapping[str, Json] | None = None,
    target: Target | None = None,
    ignore: Sequence[str] = (),
    fusion: Json = None,
    preset: str | None = None,
    settings: Mapping[str, Json] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    baselines: bool | Sequence[str] = False,
) -> Run:
    """Train a model and return its run.

    `data`: a path, a pandas DataFrame, a pyarrow Table, a dict of lists or a list of dicts; left out when the spec
    names its tables. Either `spec` (a path, plain values or a Spec), or `target` (a column, several, or column -> task)
    with `inputs` (name -> type or block); what is left out is guessed, and the guess is printed as a spec that can be
    saved. `ignore` are columns that are not to be inputs. `preset` (fast, good, best) gives the settings that nobody
    gave; it is `good` where the inputs are guessed. `settings` are the spec's `train` section. `out`: the run folder,
    the next free `runs/run-N` when not given.
    `baselines`: simple models to be measured beside it, on the same rows: true, or their names; see `baselines`.

    Raises SpecError, TableError and RunError for what the user can mend; Stopped after Ctrl-C with the work saved.
    """
    display = Display(quiet)
    if spec is not None:
        plan = _as_spec(spec, preset)
        table = _opened(data, plan)
    elif data is None or target is None:
        raise SpecError("train", "needs a spec, or a table and a target", advice='train("rows.csv", target="label")')
    else:
        if out is not None and not resume:
            refuse_used(Path(out))
        table = open_table(data)
        found = draft(table, target, inputs=inputs, ignore=ignore, fusion=fusion, preset=preset, settings=settings)
        plan = found.spec
        if inputs is None:
            display.say(found.told(table.name))
    if table is not None and isinstance(data, str | Path):
        plan = replace(plan, data=replace(plan.data, train=str(data)))
    where = Path(out) if out is not None else _free_folder(Path("runs"))
    if resume and (where / folders.MANIFEST).is_file():
        display.say(f"{where} is finished already")
        return load(where, trust=True)
    return Run(where, make_run(plan, table, where, resume=resume, display=display, baselines=baselines))


def draft(data: Any, target: Target, *, inputs: Mapping[str, Json] | None = None, preset: str | None = None,
          **given: Any) -> Draft:  # fmt: skip
    """The spec that `train` would guess, without training: `.spec`, `.remarks`, and `.text()`, YAML to be saved.

    `given` may hold `ignore`, `fusion` and `settings` as `train` takes them, and `changes`, a list of `a.b=value`.
    """
    preset = preset or ("good" if inputs is None else None)
    return draft_spec(open_table(data), target, inputs=inputs, preset=preset, **given)


def _free_folder(parent: Path) -> Path:
    number = 1
    while (parent / f"run-{number}").exists():
        number += 1
    return parent / f"run-{number}"


def load(folder: str | Path, *, trust: bool = False) -> Run:
    """Open a finished run; hashes are checked. `trust` allows parts named by a dotted path, whose code is then run."""
    place = Path(folder)
    stored = Stored(place)
    if not trust:
        _refuse_code(stored.spec, place)
    stored.parts()  # checks them
    assembly = assemble.restore(stored.spec, stored.fields, place / "parts")
    try:
        assembly.model.load_state_dict(stored.weights)
    except RuntimeError as error:
        raise RunError(str(place), f"the weights do not fit the spec: {str(error).splitlines()[0]}") from None
    assembly.model.eval()
    return Run(place, assembly)


def plan_of(source: str | Path, changes: list[str] | None = None, *, trust: bool = False) -> Spec:
    """The spec of a run folder, or of a spec file, with changes as the command line takes them."""
    place = Path(source)
    spec = specs.load(place / "spec.yaml" if place.is_dir() else place, changes)
    if place.is_dir() and not trust:
        _refuse_code(spec, place)
    return spec


def _refuse_code(spec: Spec, folder: Path) -> None:
    foreign = [part.type for part in spec.dotted()]
    if foreign:
        raise RunError(str(folder), "names a part by a dotted path, which is code from elsewhere", given=foreign[0],
                       advice="if you trust it: load(..., trust=True), or --trust on the command line")  # fmt: skip


class Run:
    """A finished run: what it is (`spec`, `metrics`, `history`, `ledger`), and what it does (`predict`, `evaluate`)."""

    def __init__(self, folder: Path, assembly: Assembly) -> None:
        self.folder, self.assembly = folder, assembly

    def _repr_html_(self) -> str:
        return run_html(self.folder, self.spec, self.metrics, self.history, len(self.ledger))

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
        """Measures with intervals for `valid` and, where there was one, `test`, as they were when the run was made;
        and `baselines`, where they were asked for, with the model's difference from each."""
        return folders.read_json(self.folder / "metrics.json")

    @property
    def history(self) -> list[Json]:
        """One entry per epoch."""
        return [json.loads(line) for line in (self.folder / "history.jsonl").read_text().splitlines()]

    @property
    def ledger(self) -> Ledger:
        return Ledger.load(self.folder / "ledger.jsonl")

    @cached_property
    def witnesses(self) -> store.Trust:
        """What is kept of validation rows to judge confidence by, by task; nothing in a run of an older version."""
        return store.load(self.folder, folders.manifest(self.folder)["files"])

    def evaluate(self, data: Any, *, withheld: bool = True, abstain: float | None = None, clip: str | None = None,
                 against: Run | str | Path | None = None, cluster: str | None = None,
                 quiet: bool = True) -> Evaluation:  # fmt: skip
        """Measure the run on a table with targets. `evaluate(...).json()` is what the command line prints.

        `abstain`: also the share of rows that `predict(..., abstain=...)` answers, and the accuracy among them.
        `clip`: a folder or hub name of a model like CLIP, by which sentences are judged beside their pictures.
        `against`: another run, or its folder, measured on the same rows: `evaluate(...).compared` says which is better,
        by a paired bootstrap of the rows, or of those groups of rows that have the same `cluster`, a column.
        """
        terms = make_terms(self.assembly, self.witnesses, self.folder, abstain=abstain)
        part = self._part(data)
        with Display(quiet).bar("scoring", len(part.rows)) as bar:
            found = evaluate(self.assembly, part, self.runtime, Ledger(), withheld=withheld, step=bar.advance,
                             trust=self.witnesses, thresholds=terms.thresholds,
                             train=fingerprints.load(self.folder))  # fmt: skip
        if clip is not None:
            from polymodal.work.clip import add_clip

            add_clip(self.assembly, found, part, clip)
        if against is not None:
            rival = against if isinstance(against, Run) else load(against)
            found.compared = self._against(found, rival, part, cluster, quiet)
        return found

    def _against(self, found: Evaluation, rival: Run, part: Part, cluster: str | None, quiet: bool) -> Against:
        """Both on the same rows; groups of rows are those of `cluster`, or those that splits go by."""
        shared_tasks(asked(self.spec), asked(rival.spec))  # before any work is done
        data = self.spec.data
        column = cluster or (data.split_column if data.split == "grouped" else None)
        if cluster is not None:
            part.table.need([cluster], "--cluster")
        known = column is not None and column in part.table.columns
        other = rival.evaluate(part.table, withheld=False, quiet=quiet)
        return against(found.tasks, other.tasks, other=rival.folder.resolve().name, seed=self.spec.train.seed,
                       clusters=(str(column), cell_names(part.table, str(column))) if known else None)  # fmt: skip

    def drift(self, data: Any, *, against: Any = None, rows: int | None = None, level: float = LEVEL,
              quiet: bool = True) -> Drift:  # fmt: skip
        """Whether a table's rows are still like those of the training; `drift(...).text()` says what changed.

        `against`: a table to compare with, better not the training's, instead of what the run keeps of its own; a run
        of an older version keeps nothing. `rows`: so many are looked at, by lot. See `docs/watch.md` for tests,
        corrections and `level`.
        """
        part, own = self._part(data), kept.load(self.folder) if against is None else None
        if against is None and own is None:
            raise RunError(str(self.folder), "keeps nothing of its training rows to compare with",
                           advice="a run of this version, or --against a table of rows from before")  # fmt: skip
        if own is None:
            other = self._part(against)
            own = reference(self.assembly, other, None, self.runtime)
        with Display(quiet).bar("looking", len(self.spec.inputs)) as bar:
            return drift(self.assembly, part, self.runtime, own, rows=rows or ROWS, level=level, step=bar.advance)

    def leave_out(self, column: str, *, out: str | Path, data: Any = None, folds: int | None = None,
                  quiet: bool = True) -> LeftOut:  # fmt: skip
        """Train this run's spec anew without each group of rows, and score the group; see `polymodal.leave_out`."""
        return leave_out(data, spec=self.spec, column=column, out=out, folds=folds, quiet=quiet)

    def predict(self, data: Any, *, out: str | Path | None = None, keep: bool = False, on_bad: str | None = None,
                sets: float | None = None, abstain: float | None = None, respond: dict[str, Json] | None = None,
                reasons: bool = False, quiet: bool = True) -> list[Line] | int:  # fmt: skip
        """One answer per row, in order: a list of dicts, or the number of rows written when `out` names a file.

        `respond`: how to answer this time, for tasks that say sentences: `{"search": "beam", "beams": 5}`.

        `sets`: besides, a set of classes or an interval that holds the truth in this share of rows. `abstain`: the
        accuracy wanted among the rows that are answered; those of too little confidence are left empty. `reasons`: why
        each row was answered so, `work.reason` without its pictures.
        """
        display, asked = Display(quiet), sets is not None or abstain is not None
        terms = make_terms(self.assembly, self.witnesses if asked else {}, self.folder, sets=sets, abstain=abstain)
        for note in terms.notes():
            display.say(note)
        part = self._part(data)
        with display.bar("predicting", len(part.rows)) as bar:
            lines = predict(self.assembly, part, self.runtime, Ledger(), on_bad=on_bad, keep=keep, step=bar.advance,
                            terms=terms, respond=respond, why=reasons)  # fmt: skip
            return list(lines) if out is None else write(lines, Path(out))

    @cached_property
    def embedder(self) -> Embedder:
        """What this run knows of rows as vectors; see `work.embed`."""
        return Embedder(self.assembly, self.runtime)

    def embed(self, data: Any, names: Sequence[str] | None = None, *, quiet: bool = True) -> dict[str, np.ndarray]:
        """The vectors of a table's rows, by name (`names`, all that the run can embed when not given): float32 [n K E]
        of length 1, NaN where a row holds nothing; K is the number of columns that the input has."""
        part = self._part(data)
        with Display(quiet).bar("embedding", len(part.rows)) as bar:
            lots = self.embedder.rows(part, Ledger(), names=names, step=bar.advance)
            return vectors_of(lots, self.embedder.names if names is None else names)

    def index(self, data: Any, *, out: str | Path, key: str | None = None, of: Sequence[str] = (),
              keep: Sequence[str] | None = None, prune: bool = False, on_bad: str | None = None, ray: str | None = None,
              shards: int | None = None, quiet: bool = True) -> Told:  # fmt: skip
        """Put a table's rows into an index: a folder, or `qdrant://host:port/name`. What is there already stays.

        Rows are known by their cell in the column `key`, else by their number; one that is known is replaced. `of`:
        what is embedded, `keep`: columns to filter by and to show, `prune`: take out rows that the table has no more.
        `ray`: embed on a Ray cluster, by its address or `local`. See `docs/search.md`. Raises UserError.
        """
        table = self._part(data).table
        make = None
        if ray is not None:
            from polymodal.serve.index.scale import Cluster

            make = partial(Cluster, partial(load, trust=True), self, data, address=ray, shards=shards, on_bad=on_bad)
        with Display(quiet).bar("indexing", len(table)) as bar:
            return index_table(self, table, out, key=key, of=of, keep=keep, prune=prune, on_bad=on_bad, elsewhere=make,
                               step=bar.advance)  # fmt: skip

    def zero_shot(self, data: Any, *, classes: Classes, templates: Sequence[str] = ("{}",), input: str | None = None,
                  by: str | None = None, target: str | None = None, out: str | Path | None = None, keep: bool = False,
                  quiet: bool = True) -> list[Line] | int | Evaluation:  # fmt: skip
        """The nearest of `classes` to each row's `input`, as the input `by` reads their names in `templates`.

        `classes`: names, or for each name the texts that may stand for it. A list of dicts, or the number of rows
        written when `out` names a file; with a column `target` they are measured instead. See `docs/zero_shot.md`.
        """
        asked, part = ZeroShot(self.embedder, classes, templates, input=input, by=by), self._part(data)
        with Display(quiet).bar("scoring" if target else "predicting", len(part.rows)) as bar:
            if target is not None:
                return asked.evaluate(part, Ledger(), target, step=bar.advance)
            lines = asked.predict(part, Ledger(), keep=keep, step=bar.advance)
            return list(lines) if out is None else write(lines, Path(out))

    def recommend(self, history: Any, items: Any = None, *, index: Any = None, k: int = 10, user: str = "user",
                  item: str = "item", time: str = "time", again: bool = False, out: str | Path | None = None,
                  quiet: bool = True) -> list[Line] | int:  # fmt: skip
        """The `k` items that each user may want next, nearest first: `row`, `user`, `rank`, `item`, `score`.

        `history`: rows as `polymodal.histories` makes them, or interactions with columns `user`, `item`, `time`, of
        which every user's latest count. Items come from the table `items`, named by its column `item`, or from an
        `index` of the run's space `item`, or its folder. Unless `again`, nothing of the history is recommended. See
        `docs/recommend.md`.
        """
        tables = [None if one is None else self._part(one).table for one in (history, items)]
        index = open_any_index(index) if isinstance(index, str | Path) else index
        assert tables[0] is not None, "history"
        with Display(quiet).bar("embedding", 0 if tables[1] is None else len(tables[1])) as bar:
            lines = recommend(self.embedder, tables[0], tables[1], index, k=k, names=Names(user, item, time),
                              again=again, step=bar.advance)  # fmt: skip
            return list(lines) if out is None else write(lines, Path(out))

    def reasons(self, data: Any, *, respond: dict[str, Json] | None = None) -> list[dict[str, Json]]:
        """Why each row of a table is answered so, by task; {} for one that cannot be read: `docs/page.md`."""
        return reasons_of_part(self.assembly, self._part(data), self.runtime, options=respond)

    def chat(self, *, temperature: float | None = None, top_p: float | None = None, max_tokens: int | None = None,
             seed: int = 0) -> Chat:  # fmt: skip
        """A conversation: `attach("cat.jpg", "photo")`, then `say("what colour?")`; see `docs/chat.md`.

        With a `temperature` or a `top_p` sentences are drawn by lot, from `seed`; else they are said as trained.
        """
        manner = Manner(temperature, top_p, max_tokens, seed).check()
        return Chat(RunPartner(self.assembly, self.runtime, manner))

    def serve(self, *, index: Any = None, host: str = "127.0.0.1", port: int = 8000, **settings: Any) -> None:
        """Answer over HTTP until Ctrl-C or SIGTERM, in this process; `index` is one of this run, or its folder.

        `settings` are those of `polymodal.serve.http.ServeSettings`: see `docs/serve.md`.
        """
        need("fastapi", "serving")
        from polymodal.serve.http import ServeSettings, start

        opened = open_index(index) if isinstance(index, str | Path) else index
        start(self, index=opened, settings=ServeSettings(**settings), host=host, port=port)

    def _part(self, data: Any) -> Part:
        if is_log(data):
            table = open_log(data)
        else:
            table = open_table(data, root=self.spec.data.root, encoding=self.spec.data.encoding)
        return Part(table, np.arange(len(table)))


def leave_out(
    data: Any = None,
    *,
    spec: str | Path | Mapping[str, Json] | Spec,
    column: str,
    out: str | Path,
    folds: int | None = None,
    quiet: bool = False,
) -> LeftOut:
    """Score every group of rows by a model that was trained without it: leave one speaker, case or fold out.

    A group is a value of `column`; `folds` deals the values into so many groups. `out` gets a run folder for each
    group; those that are finished are not repeated. The result has each group's scores, their mean and spread, and all
    rows measured together; `.against(other)` is the paired difference between two of them.
    """
    plan = _as_spec(spec)
    table = _opened(data, plan)
    if isinstance(data, str | Path):
        plan = replace(plan, data=replace(plan.data, train=str(data)))
    return leave_groups_out(plan, table, column, Path(out), folds=folds, display=Display(quiet))


def histories(
    interactions: Any, items: Any, *, user: str = "user", item: str = "item", time: str = "time", keep: int = 8,
    least: int = 0, valid: Begin = 0.1, test: Begin = 0.1, skip_unknown: bool = False,
    out: str | Path | None = None,
) -> Any:  # fmt: skip
    """The table that the task `recommend` learns from: a pandas DataFrame, or the number of rows written to `out`.

    `interactions` says which `user` took which `item` at which `time`; `items` what each item shows. Every interaction
    becomes a row with what its item shows and what the user's `keep` items before it show; `split` is one in time. See
    `data.histories` for the rest, and `docs/recommend.md`. Raises TableError.
    """
    lines = each_history(open_table(interactions), open_table(items), Names(user, item, time), keep=keep, least=least,
                         valid=valid, test=test, skip_unknown=skip_unknown)  # fmt: skip
    if out is not None:
        return write(only_plain(lines, Path(out)), Path(out))
    need("pandas", "a DataFrame", "histories")
    import pandas as pd

    return pd.DataFrame(list(lines))


def baselines(
    data: Any = None,
    *,
    spec: str | Path | Mapping[str, Json] | Spec,
    names: Sequence[str] | None = None,
    settings: Mapping[str, Json] | None = None,
    quiet: bool = True,
) -> dict[str, Evaluation]:
    """Fit simple models on the spec's training rows and measure them on its test rows, else on the validation rows.

    The rows and measures are those of a model trained with the spec, so that the two can be compared row by row.
    `names`: of baselines (`polymodal parts baseline`), all that the inputs suit when not given; `settings` of each, by
    its name.
    Needs scikit-learn, `pip install "polymodal[sklearn]"`. Raises SpecError and TableError.
    """
    plan = _as_spec(spec)
    table = _opened(data, plan)
    return fit_baselines(plan, table, names, settings, display=Display(quiet))


def compare(
    data: Any = None,
    *,
    spec: str | Path | Mapping[str, Json] | Spec,
    out: str | Path,
    fusion: Sequence[Json] = (),
    attention: Sequence[Json] = (),
    seeds: int = 3,
    frozen: bool = False,
    jobs: int = 1,
    tune: int = 0,
    cluster: str | None = None,
    noise: bool = True,
    baselines: Sequence[str] | None = None,
    end_to_end: int = 3,
    quiet: bool = False,
) -> Comparison:
    """Which way of joining the inputs is best, and how sure is that: see `docs/compare.md`.

    Trains the spec with every `fusion` (names or blocks; all of the catalogue when not given) and `attention` (the
    spec's own), each input alone, and simple models (`baselines`, all that suit), with so many `seeds`, on the same
    rows. `out` gets every run, `compare.json` and `report.html`; what is there is not repeated.

    `frozen`: encoders are trained once, each input alone, and only what joins them is trained after that; the
    `end_to_end` best and worst are then trained as a whole. `jobs`: processes. `tune`: settings tried for each
    candidate. `cluster`: a column whose rows of equal value hang together. `noise`: measure robustness to it.
    """
    plan = _as_spec(spec)
    table = _opened(data, plan)
    if isinstance(data, str | Path):
        plan, table = replace(plan, data=replace(plan.data, train=str(data))), None
    options = Options(fusion=tuple(fusion), attention=tuple(attention), seeds=seeds, frozen=frozen, jobs=jobs,
                      tune=tune, cluster=cluster, noise=noise, end_to_end=end_to_end,
                      baselines=None if baselines is None else tuple(baselines))  # fmt: skip
    return compare_ways(plan, table, Path(out), options, Display(quiet))


def open_index(where: str | Path) -> Index:
    """The index in a folder, or in Qdrant, `qdrant://host:port/name`; see `docs/search.md`. Raises UserError."""
    return open_any_index(where)


def log_table(folder: str | Path, out: str | Path, *, since: str | None = None, until: str | None = None) -> Logged:
    """Write what `polymodal serve --log FOLDER` kept as a table, `out`, ending in .jsonl, .csv or .parquet.

    Its columns are `time`, `id` and `n` of the request, the run's inputs, `TASK.said` and what else was answered; with
    labels added it can be trained on. `since` and `until` are times in UTC, `2026-05-31` or longer.
    """
    return write_log_table(folder, out, since=since, until=until)


def chat(model: str, *, temperature: float | None = None, top_p: float | None = None, max_tokens: int | None = None,
         seed: int = 0, device: str = "auto") -> Chat:  # fmt: skip
    """A conversation with a vision-language model of transformers, by hub name or folder; `Run.chat` is one with a run.

    Answers are the likeliest words, or drawn by lot, from `seed`, with a `temperature` or a `top_p`. Raises UserError.
    """
    from polymodal.work.chat.vision import VisionPartner

    manner = Manner(temperature, top_p, max_tokens, seed).check()
    runtime = Runtime(Train(**check_settings(Train, {"device": device}, "chat")))
    return Chat(VisionPartner(str(model), runtime, manner))


def check(data: Any = None, *, spec: str | Path | Mapping[str, Json] | Spec | None = None,
          target: str | Sequence[str] | None = None) -> Inspection:  # fmt: skip
    """Read every cell of a table; what was found has `.json()` and prints as text.

    With a spec its readers read the cells of its tables, and its splits are searched for leaks; without one the
    columns' types are guessed, and `target` names the columns that no other column should give away.
    """
    if spec is None:
        rows = open_table(data)
        asked = [target] if isinstance(target, str) else list(target or ())
        rows.need(asked, "target")
        return inspect(rows, answers=asked)
    plan = specs.validate(_as_spec(spec))
    table = _opened(data, plan)
    parts = open_parts(plan, table)
    with tempfile.TemporaryDirectory() as files:
        readers, targets = assemble.fit_readers(plan, parts["train"], Path(files), starts_of(plan))
    inputs = {n: InputPlan(readers[n], one.columns) for n, one in plan.inputs.items()}
    answers = {n: TargetPlan(targets[n], one.columns) for n, one in plan.tasks.items()}
    return inspect(parts["train"].table, parts=parts, inputs=inputs, targets=answers)


def _opened(data: Any, plan: Spec) -> Table | None:
    """The table beside a spec, read as the spec says."""
    return None if data is None else open_table(data, root=plan.data.root, encoding=plan.data.encoding)


def _as_spec(spec: str | Path | Mapping[str, Json] | Spec, preset: str | None = None) -> Spec:
    if isinstance(spec, Spec):
        if preset is not None:
            raise SpecError("preset", "stands beside a spec that is parsed already", given=preset,
                            advice="the spec as a path or plain values")  # fmt: skip
        return spec
    named = {} if preset is None else {"preset": preset}
    if isinstance(spec, str | Path):
        return specs.load(spec, [f"{k}={v}" for k, v in named.items()])
    return specs.parse({**spec, **named})


def make_scenes(folder: str | Path, **options: Any) -> Path:
    """Write the built-in data, drawn pictures, sentences, tones and numbers, and return the path of its table.

    `options` are those of `polymodal.scenes.make_scenes`: rows, seed, size, language, objects, valid, test.
    """
    from polymodal import scenes

    return scenes.make_scenes(folder, **options)
