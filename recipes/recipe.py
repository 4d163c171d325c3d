"""A recipe as a list of parts, each of which is run once: trainings, groups left out, baselines, a comparison."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from contest import Contest, compact

from polymodal import api
from polymodal.core import spec as specs
from polymodal.core import yaml12
from polymodal.core.errors import UserError
from polymodal.core.schema import check_settings
from polymodal.core.spec import Spec
from polymodal.data.splits import cell_names
from polymodal.data.tables import open_table
from polymodal.work import folder as folders
from polymodal.work.job import make_run, open_parts, same_spec
from polymodal.work.leave_out import plan_folds
from polymodal.work.left_out import Answered, difference
from polymodal.work.pooling import Scores, spread
from polymodal.work.progress import Display
from polymodal.work.runtime import environment

STEPS = ("seeds", "leave_out", "variants", "only", "baselines", "compare", "also")
WHOLE = "whole"  # the recipe's own spec, as it stands
Found = dict[str, Any]


class Plan:
    """An entry of plans.yaml, where each is explained."""

    def __init__(
        self,
        *,
        seeds: list[int] | None = None,
        leave_out: str | None = None,
        variants: dict[str, list[str]] | None = None,
        only: dict[str, list[str]] | None = None,
        baselines: bool | list[str] = True,
        compare: dict[str, Any] | None = None,
        measures: list[str] | None = None,
        prepare: bool = False,
        also: bool = False,
        cluster: str | None = None,
        first: str | None = None,
    ) -> None:
        self.seeds = [0] if seeds is None else seeds
        self.leave_out, self.variants, self.only = leave_out, variants or {}, only or {}
        self.baselines, self.measures, self.prepare, self.also = baselines, measures or [], prepare, also
        self.cluster, self.first = cluster, first
        self.compare = None if compare is None else Contest(**check_settings(Contest, compare, "compare"))

    @property
    def first_seed(self) -> int:
        """The one of what is done with one seed only."""
        return min(self.seeds, default=0)


class Part(NamedTuple):
    """Something to be run once; what it finds stands at `path` in the results, and beside `folder` in a file."""

    step: str
    path: tuple[str, ...]
    folder: Path
    spec: Spec
    score: Callable[[], Found]
    after: Path | None = None  # the folder of a part that must be done before
    asked: Found | None = None  # what was asked besides the spec; with other wishes it is run again, and goes on

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def done(self) -> bool:
        page = _page(self.folder)
        return page.is_file() and (self.asked is None or folders.read_json(page).get("asked") == self.asked)

    @property
    def ready(self) -> bool:
        return self.done or self.after is None or _page(self.after).is_file()

    def found(self) -> tuple[Found, Found]:
        """What there is to say of the part with the time it took, and the machine; it is run unless it was before.

        Raises UserError when it was run with another spec.
        """
        page = _page(self.folder)
        if not self.done:
            begun, wall, cpu = self.folder.exists(), time.monotonic(), _cpu_seconds()
            found = self.score() | {"spec": _plain(self.spec)} | ({} if self.asked is None else {"asked": self.asked})
            times = {"seconds": round(time.monotonic() - wall, 1), "cpu_seconds": round(_cpu_seconds() - cpu, 1)}
            folders.write_json(page, found | times | {"broken_off": begun, "machine": machine()})
        found = folders.read_json(page)
        if found.pop("spec") != _plain(self.spec):
            advice = f"delete {page} and {self.folder}, or another --out"
            raise UserError(str(page), "was made with another spec", advice=advice)
        found.pop("asked", None)
        return found, found.pop("machine")


def _plain(spec: Spec) -> Found:
    """As it would be read from a file, whether its settings have been checked (and converted) or not."""
    return yaml12.loads(spec.text())


def _page(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def machine() -> Found:
    """What the times were taken on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {**environment(), "cores": cores}


def _cpu_seconds() -> float:
    """Of this process and of those it waited for."""
    return sum(os.times()[:4])


@dataclass
class Recipe:
    """Where a recipe's spec, its data and its run folders are."""

    name: str
    plan: Plan
    place: Path  # of NAME.yaml
    data: Path
    out: Path
    changes: list[str] = field(default_factory=list)
    quiet: bool = False
    jobs: int = 1  # processes that train in a comparison

    def spec(self, changes: list[str] | None = None, seed: int | None = None) -> Spec:
        """The recipe's spec with its tables under the folder of the data."""
        name = f"{self.name}.yaml"
        plain = yaml12.loads((self.place / name).read_text(encoding="utf-8"), name)
        plain = specs.override(plain, [*self.changes, *(changes or [])])
        for part in ("train", "valid", "test"):
            if isinstance(plain["data"].get(part), str):
                plain["data"][part] = str(self.data / plain["data"][part])
        for one in plain["inputs"].values():
            encoder = one.get("encoder")
            if self.plan.first and isinstance(encoder, dict) and encoder.get("from") == self.plan.first:
                encoder["from"] = str(self.out.parent / self.plan.first / "test-whole-seed-0")
        return specs.parse(plain if seed is None else specs.override(plain, [f"train.seed={seed}"]))

    def models(self, step: str, seed: int) -> Iterator[tuple[str, str, Spec]]:
        """The whole (of the step `step`), its variants, and some inputs alone: step, name, spec."""
        yield step, WHOLE, self.spec(seed=seed)
        for name, changes in self.plan.variants.items():
            yield "variants", name, self.spec(changes, seed)
        for name, inputs in self.plan.only.items():
            yield "only", f"only {name}", self.spec(seed=seed).only(inputs)

    def parts(self) -> Iterator[Part]:
        """All that the plan asks for, in the order in which it is run."""
        for seed in self.plan.seeds:
            whole = self._folder("test", WHOLE, f"seed-{seed}")
            for step, name, spec in self.models("seeds", seed):
                folder = self._folder("test", name, f"seed-{seed}")
                path, after = ("test", "models", name, str(seed)), None if name == WHOLE else whole
                yield Part(step, path, folder, spec, self._on_test(spec, folder, after), after)
        if self.plan.also:
            yield from self._also()
        if self.plan.leave_out:
            whole = self._folder("leave-out", WHOLE)
            for step, name, spec in self.models("leave_out", self.plan.first_seed):
                folder, after = self._folder("leave-out", name), None if name == WHOLE else whole
                score = self._on_groups(spec, folder, after)
                yield Part(step, ("leave_out", "models", name), folder, spec, score, after)
        if self.plan.baselines:
            yield from self._baselines()
        if self.plan.compare is not None:
            yield self._comparison(self.plan.compare)

    def _folder(self, *words: str) -> Path:
        return self.out / "-".join(words).replace(" ", "-")

    def _on_test(self, spec: Spec, folder: Path, whole: Path | None) -> Callable[[], Found]:
        def score() -> Found:
            done = {"test": _trained(spec, folder, self.quiet)}
            return done if whole is None else done | {"gain": _gain(whole, folder, self.plan.cluster)}

        return score

    def _on_groups(self, spec: Spec, folder: Path, whole: Path | None) -> Callable[[], Found]:
        column = self.plan.leave_out

        def score() -> Found:
            done = api.leave_out(spec=spec, column=column, out=folder, quiet=self.quiet)
            plain = done.json()
            for group in plain["groups"].values():
                group.pop("withheld", None)  # their means are kept
                group.pop("alone", None)
            if whole is None:
                return plain
            best = api.leave_out(spec=self.spec(seed=self.plan.first_seed), column=column, out=whole, quiet=True)
            return plain | {"gain": best.against(done)}

        return score

    def _also(self) -> Iterator[Part]:
        """What the recipe's own module makes of its runs, the whole and the variants, besides: name -> measures."""
        for seed in self.plan.seeds:
            for name in (WHOLE, *self.plan.variants):
                run = self._folder("test", name, f"seed-{seed}")

                def score(run: Path = run) -> Found:
                    module = importlib.import_module(self.name)
                    return {"found": module.also(api.load(run, trust=True), self.data)}

                yield Part("also", ("also", name, str(seed)), run.with_name(f"{run.name}-also"), self.spec(seed=seed),
                           score, run)  # fmt: skip

    def _comparison(self, contest: Contest) -> Part:
        spec, folder = self.spec(), self._folder("compare")

        def score() -> Found:
            done = api.compare(spec=spec, out=folder, jobs=self.jobs, quiet=self.quiet, **contest.options)
            return compact(done, contest.tasks)

        asked = {**contest.options, "tasks": contest.tasks}
        return Part("compare", ("compare",), folder, spec, score, asked=asked)

    def _baselines(self) -> Iterator[Part]:
        """Simple models on the rows that the recipe is scored on."""
        spec, names = self.spec(seed=self.plan.first_seed), self.plan.baselines
        only = {} if names is True else {"names": names}

        def on_test() -> Found:
            return {"models": {n: e.json() for n, e in api.baselines(spec=spec, **only).items()}}

        def on_groups() -> Found:
            table = open_table(spec.data.train, root=spec.data.root, encoding=spec.data.encoding)
            folds = plan_folds(spec, table, self.plan.leave_out or "", None)
            each = [api.baselines(spec=fold.spec, **only) for fold in folds]
            return {"models": {n: {"mean": spread([found[n].json()["tasks"] for found in each])} for n in each[0]}}

        if self.plan.seeds:
            yield Part("baselines", ("test", "baselines"), self._folder("test-baselines"), spec, on_test)
        if self.plan.leave_out:
            yield Part("baselines", ("leave_out", "baselines"), self._folder("leave-out-baselines"), spec, on_groups)


def _trained(spec: Spec, folder: Path, quiet: bool) -> Found:
    """The test rows' measures of a run, which is trained unless it is finished."""
    if (folder / folders.MANIFEST).is_file():
        same_spec(spec, specs.load(folder / "spec.yaml"), folder)
    else:
        make_run(spec, None, folder, resume=(folder / "spec.yaml").is_file(), display=Display(quiet),
                 scored=lambda found: Scores.of(found["test"]).write(folder))  # fmt: skip
    return folders.read_json(folder / "metrics.json")["test"]


def _gain(whole: Path, rival: Path, cluster: str | None) -> Found:
    """How much the whole is above its rival on test rows that both answered, by task, with paired intervals.

    Rows with the same value in the column `cluster` are drawn together.
    """
    best, ours, theirs = api.load(whole, trust=True), Scores.read(whole), Scores.read(rival)
    found = {}
    for name in ours.rows:
        one, two = (Answered(s.records[name], s.rows[name]) for s in (ours, theirs))
        groups = None if cluster is None else _groups(best.spec, cluster, one.rows)
        found[name] = difference(best.assembly.model.tasks[name].measure, name, one, two, best.spec.train.seed, groups)
    return found


def _groups(spec: Spec, column: str, rows: np.ndarray) -> np.ndarray:
    """The number of the value that each of these test rows has in the column."""
    names = cell_names(open_parts(spec, None)["test"].table, column)
    return np.unique(names.astype(str), return_inverse=True)[1][rows]
