"""A comparison as a whole: all trials, some at a time, each in its folder; what is done is never done again."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from polymodal.core import spec as specs
from polymodal.core import yaml12
from polymodal.core.errors import SpecError, Stopped, UserError
from polymodal.core.spec import Spec
from polymodal.data.tables import Table
from polymodal.work import folder as folders
from polymodal.work.compare import plan as plans
from polymodal.work.compare.plan import Candidate, Options
from polymodal.work.compare.shared import Shared
from polymodal.work.compare.trial import FAILED, Trial, run_trial, start
from polymodal.work.compare.tune import tune, tuned
from polymodal.work.job import same_spec
from polymodal.work.progress import Display
from polymodal.work.train import WORST, train

TRIALS = "trials"
SPEC = "spec.yaml"
LOST = "its process, or one beside it, was ended, as for want of memory; try fewer --jobs, or the same command again"


@dataclass
class Contest:
    """All trials of a comparison, and where they are."""

    spec: Spec
    options: Options
    folder: Path
    candidates: list[Candidate]
    failed: dict[str, str] = field(default_factory=dict)  # "candidate, seed 1" -> what went wrong

    @property
    def seeds(self) -> tuple[int, ...]:
        return plans.seeds_of(self.spec, self.options)

    def trial(self, candidate: Candidate, seed: int) -> Trial:
        encoders = {}
        if self.options.frozen and candidate.kind == "joined":
            encoders = {c.inputs[0]: self._place(c, seed) for c in self.candidates if c.kind == "single"}
        return Trial(candidate, seed, self._place(candidate, seed), encoders)

    def _place(self, candidate: Candidate, seed: int) -> Path:
        return self.folder / TRIALS / candidate.name / f"seed-{seed}"

    def of(self, *kinds: str) -> list[Candidate]:
        return [c for c in self.candidates if c.kind in kinds]

    def done(self, candidate: Candidate) -> dict[int, Trial]:
        """The trials of a candidate that are there, by seed."""
        trials = {seed: self.trial(candidate, seed) for seed in self.seeds}
        return {seed: trial for seed, trial in trials.items() if trial.done}


def make_contest(spec: Spec, table: Table | None, folder: Path, options: Options) -> Contest:
    """The trials to be made; raises what is wrong with any part of them before the first is begun."""
    specs.validate(spec)
    plans.refuse_apart(spec)
    if options.jobs > 1 and table is not None:
        raise SpecError("jobs", "needs rows that every process can open", given=options.jobs,
                        advice="jobs=1, or a spec whose data.train names a file")  # fmt: skip
    candidates = [*plans.singles(spec), *plans.joined(spec, options)]
    stored = folder / SPEC
    if stored.is_file():
        same_spec(spec, specs.load(stored), folder)
        frozen = folders.read_json(folder / "options.json")["frozen"]
        if frozen != options.frozen:
            raise SpecError("frozen", f"is not what the comparison in {folder} was begun with", given=options.frozen,
                            advice="another folder")  # fmt: skip
    elif folder.exists() and any(folder.iterdir()):
        raise UserError(str(folder), "is there already and no comparison", advice="a new folder")
    folders.write_bytes(stored, spec.text().encode())
    folders.write_json(folder / "options.json", asdict(options))
    return Contest(spec, options, folder, candidates)


def run_trials(contest: Contest, shared: Shared, display: Display) -> None:
    """Single inputs first: frozen encoders come from there. Raises Stopped after Ctrl-C, with all work saved."""
    with _pool(contest, shared) as pool:
        for kind in ("single", "joined"):
            if contest.options.tune:
                _tune_all(contest, kind, pool, display)
            _run_all(contest, contest.of(kind), pool, display)


def run_end_to_end(contest: Contest, shared: Shared, best: Iterable[Candidate], display: Display) -> None:
    """The same candidates with nothing frozen, as candidates more."""
    more = [plans.end_to_end(candidate, contest.spec) for candidate in best]
    contest.candidates += [c for c in more if c not in contest.candidates]
    with _pool(contest, shared) as pool:
        _run_all(contest, contest.of("end_to_end"), pool, display)


def _run_all(contest: Contest, candidates: list[Candidate], pool: Pool, display: Display) -> None:
    """Seed by seed, so that what one seed's trials share is made once."""
    todo = [t for seed in contest.seeds for c in candidates if not (t := contest.trial(c, seed)).done]
    for trial in (contest.trial(c, seed) for c in candidates for seed in contest.seeds):
        if trial.done:
            trial.page()  # raises for a trial of another spec
    ready = [t for t in todo if all((place / folders.MANIFEST).is_file() for place in t.encoders.values())]
    for trial in todo:
        if trial not in ready:
            contest.failed[_name(trial)] = "an input that it starts from could not be trained"
    with display.bar("trials", len(ready)) as bar:
        for trial, problem in pool.map(run_trial, ready, contest.options.noise):
            bar.advance(1)
            if problem:
                contest.failed[_name(trial)] = problem
                display.say(f"{_name(trial)} failed: {problem.splitlines()[0]}")
            else:
                contest.failed.pop(_name(trial), None)
                display.say(_line(trial))


def _name(trial: Trial) -> str:
    return f"{trial.candidate.name}, seed {trial.seed}"


def _line(trial: Trial) -> str:
    page = trial.page()
    task, measures = next(iter(page["valid"].items()))
    shown = [f"{n} {v:.4f}" for n, v in measures.items() if v is not None][:1]
    return f"{_name(trial):<40} validation {task}.{'  '.join(shown)}  {page['seconds']:.0f} s"


def _tune_all(contest: Contest, kind: str, pool: Pool, display: Display) -> None:
    """Settings of its own for every candidate of the kind, from as many tries."""
    todo, tries = [contest.trial(c, contest.seeds[0]) for c in contest.of(kind)], contest.options.tune
    with display.bar("tuning", len(todo)) as bar:
        for trial, problem in pool.map(_tune, todo, tries):
            bar.advance(1)
            if problem:
                display.say(f"tuning {trial.candidate.name} failed: {problem.splitlines()[0]}")
    chosen = {c.name: tuned(c.spec, contest.folder / TRIALS / c.name, tries) for c in contest.of(kind)}
    contest.candidates = [replace(c, spec=chosen.get(c.name, c.spec)) for c in contest.candidates]


class Pool:
    """Does trials here, or in processes of their own that each open the comparison once."""

    def __init__(self, shared: Shared, workers: ProcessPoolExecutor | None) -> None:
        self.shared, self.workers = shared, workers

    def map(self, work: Any, trials: list[Trial], given: Any) -> Iterator[tuple[Trial, str]]:
        """Each trial as it is done, and what went wrong with it."""
        if self.workers is None:
            for trial in trials:
                yield trial, _guarded(work, trial, self.shared, given)
            return
        running = {}
        for trial in trials:
            try:
                running[self.workers.submit(_elsewhere, work, trial, given)] = trial
            except BrokenProcessPool:
                yield trial, LOST
        try:
            for done in as_completed(running):
                yield running[done], _result(done)
        except (KeyboardInterrupt, Stopped):
            for one in running:
                one.cancel()
            raise Stopped("stopped; what was done is saved, and the same command goes on from there") from None


def _tune(trial: Trial, shared: Shared, tries: int) -> None:
    def attempt(spec: Spec, place: Path) -> float:
        one = replace(trial, candidate=replace(trial.candidate, spec=spec), folder=place)
        assembly = start(one, shared)
        state = train(assembly, shared.datasets_for(assembly.spec), place, shared.runtime, display=Display(quiet=True))
        return state.best[0] if state.best is not None else WORST

    spec, folder = trial.candidate.spec, trial.folder.parent
    tune(spec, shared.width(spec), folder, tries, attempt)


def _guarded(work: Any, trial: Trial, shared: Shared, given: Any) -> str:
    """What went wrong with a trial, '' if nothing did: the others are not to suffer from it."""
    failed = trial.folder / FAILED
    try:
        work(trial, shared, given)
    except (Stopped, KeyboardInterrupt):
        raise Stopped("stopped; what was done is saved, and the same command goes on from there") from None
    except UserError as error:
        problem = str(error)
    except Exception as error:  # whatever it is, it is told, and the other trials go on
        problem = f"{type(error).__name__}: {error}"
        folders.write_json(failed, {"error": problem, "trace": traceback.format_exc()})
    else:
        failed.unlink(missing_ok=True)
        return ""
    return problem


_here: dict[str, Shared] = {}  # of a worker process


def _open(text: str, folder: Path, threads: int) -> None:
    import torch

    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(threads)
    _here["shared"] = Shared(specs.parse(yaml12.loads(text)), None, folder)


def _elsewhere(work: Any, trial: Trial, given: Any) -> str:
    return _guarded(work, trial, _here["shared"], given)


def _result(done: Future[str]) -> str:
    """What went wrong, also where the process itself came to an end: with it go those that were waiting."""
    try:
        return done.result()
    except BrokenProcessPool:
        return LOST


class _pool:
    """The pool of a comparison, and its end."""

    def __init__(self, contest: Contest, shared: Shared) -> None:
        self.contest, self.shared = contest, shared

    def __enter__(self) -> Pool:
        jobs = self.contest.options.jobs
        self.workers = None
        if jobs > 1:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            threads = self.contest.spec.train.threads or max(1, cores // jobs)
            given = (self.contest.spec.text(), self.contest.folder, threads)
            self.workers = ProcessPoolExecutor(jobs, get_context("spawn"), _open, given)
        return Pool(self.shared, self.workers)

    def __exit__(self, *problem: object) -> None:
        if self.workers is not None:
            self.workers.shutdown(cancel_futures=True)
