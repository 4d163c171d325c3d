"""Is one run really better than another? Both measured on the same rows, each difference with interval and p-value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool

from polymodal.core.contracts import Records
from polymodal.core.errors import TableError
from polymodal.core.schema import Json
from polymodal.core.spec import Spec
from polymodal.work.beside import limits, signed
from polymodal.work.compare.bootstrap import Draws, Samples, difference, holm, told
from polymodal.work.evaluation import Measures, TaskResult
from polymodal.work.left_out import Answered, matched
from polymodal.work.words import main_measure, measure, written

LEVEL = 0.05  # p-values below it tell two runs apart


@dataclass(frozen=True)
class Duel:
    """One task of two runs, on the rows that both answered. `difference` is this run minus the other.

    `p` is that of the main measure, by Holm's correction for the number of tasks. `flips` is there where answers are
    right or wrong: `gained` rows that only this run has right, `lost` those that only the other has, and McNemar's
    exact p-value.
    """

    rows: int
    only_this: int  # rows that only this run could read
    only_other: int
    main: str
    this: Measures
    other: Measures
    difference: Measures  # each with "p" besides
    p: float | None
    flips: dict[str, Json] | None

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `not told apart` or `cannot be compared`."""
        gap = self.difference[self.main]["value"]
        if self.p is None or gap is None:
            return "cannot be compared"
        if self.p >= LEVEL or not gap:
            return "not told apart"
        return "better" if (gap < 0) == measure(self.main).lower else "worse"

    def sentence(self, task: str) -> str:
        """The verdict, what it rests on, and how many rows were left out."""
        gap, name = self.difference[self.main], self.main
        scores = " against ".join(written(one[name]["value"], name) for one in (self.this, self.other))
        left = [f"{self.only_this:,} rows that only this run could read"] if self.only_this else []
        left += [f"{self.only_other:,} {'only' if left else 'rows that only'} the other{'' if left else ' could read'}"
                 ] if self.only_other else []  # fmt: skip
        told = [f"{signed(gap['value'], name)} [{limits(gap, name)}]", p_words(self.p)] if self.p is not None else []
        body = ", ".join([f"{measure(name).name} {scores}", *told, f"on {self.rows:,} rows"])
        return f"{task}: {self.verdict}: {body}" + (f"; left out: {', '.join(left)}" if left else "")

    def json(self) -> dict[str, Json]:
        found = {m: {"this": one, "other": self.other[m], "difference": self.difference[m]}
                 for m, one in self.this.items()}  # fmt: skip
        plain: dict[str, Json] = {"verdict": self.verdict, "measure": self.main, "p": self.p, "rows": self.rows,
                                  "only_this": self.only_this, "only_other": self.only_other}  # fmt: skip
        return {**plain, "measures": found, **({"flips": self.flips} if self.flips else {})}


@dataclass(frozen=True)
class Against:
    """Every task that two runs share; `text()` says which is better. `unshared` are tasks that only one of them has."""

    other: str  # what it is called
    tasks: dict[str, Duel]
    unshared: tuple[str, ...]
    resampled: str  # "rows", or the column whose rows of equal value are drawn together

    def json(self) -> dict[str, Json]:
        tasks = {name: {**duel.json(), "sentence": duel.sentence(name)} for name, duel in self.tasks.items()}
        return {"other": self.other, "resampled": self.resampled, "unshared": list(self.unshared), "tasks": tasks}

    def sentences(self) -> list[str]:
        """A line for each task; then what was not compared."""
        lines = [duel.sentence(name) for name, duel in self.tasks.items()]
        for name, duel in self.tasks.items():
            if duel.flips:
                flips = duel.flips
                lines.append(f"{name}: {flips['gained']} rows only this run has right, {flips['lost']} only the other "
                             f"(McNemar's exact test: {p_words(flips['p'])})")  # fmt: skip
        return lines + ([f"not compared: {', '.join(self.unshared)}"] if self.unshared else [])

    def text(self) -> str:
        return "\n".join([f"against {self.other}", *(f"  {line}" for line in self.sentences())])

    def __repr__(self) -> str:
        return self.text()


def against(
    ours: Mapping[str, TaskResult], theirs: Mapping[str, TaskResult], *, other: str = "the other run", seed: int = 0,
    clusters: tuple[str, np.ndarray] | None = None,
) -> Against:  # fmt: skip
    """Compare two runs that were measured on one table, task by task, on the rows that both could read.

    Differences are drawn by a paired bootstrap: both runs on the same resamples of rows, or of the groups of rows that
    `clusters`, a column and its value for every row of the table, says hang together. Raises TableError where no task
    is shared, or one asks something else in the other run, or was measured on other rows.
    """
    shared = shared_tasks({n: r.asks for n, r in ours.items()}, {n: r.asks for n, r in theirs.items()})
    drawn = None if clusters is None else np.unique(clusters[1].astype(str), return_inverse=True)[1]
    found = {name: _duel(name, ours[name], theirs[name], seed, drawn) for name in shared}
    corrected = holm({name: duel.difference[duel.main]["p"] for name, duel in found.items()})
    duels = {name: replace(duel, p=corrected[name]) for name, duel in found.items()}
    unshared = tuple(dict.fromkeys(n for n in (*ours, *theirs) if n not in shared))
    return Against(other, duels, unshared, "rows" if clusters is None else clusters[0])


def asked(spec: Spec) -> dict[str, tuple[str, ...]]:
    """By task its type and the columns of its target, as in `TaskResult.asks`."""
    return {name: (task.part.type, *task.columns) for name, task in spec.tasks.items()}


def shared_tasks(ours: Mapping[str, tuple[str, ...]], theirs: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The tasks that two runs share. Raises TableError where there is none, or one asks something else in the other."""
    shared = [name for name in ours if name in theirs]
    if not shared:
        raise TableError("against", "the two runs have no task in common", given=list(theirs),
                         advice=f"a run with a task named {' or '.join(map(repr, ours))}")  # fmt: skip
    for name in shared:
        if ours[name] != theirs[name]:
            one, two = (f"{a[0]} of {', '.join(a[1:])}" if a else "nothing known" for a in (ours[name], theirs[name]))
            raise TableError(f"against: tasks.{name}", f"asks something else in the other run: {two}, not {one}",
                             advice="two runs of the same task and target columns")  # fmt: skip
    return shared


def _duel(name: str, ours: TaskResult, theirs: TaskResult, seed: int, clusters: np.ndarray | None) -> Duel:
    if ours.task is None or theirs.task is None:
        raise TableError(f"against: tasks.{name}", "was not measured by `evaluate`", advice="Run.evaluate(table)")
    here, there = matched(name, *(Answered(r.records, r.rows, r.truth) for r in (ours, theirs)))
    mine, rival = ({c: v[at] for c, v in r.records.items()} for r, at in ((ours, here), (theirs, there)))
    groups = None if clusters is None else clusters[ours.rows[here]]
    one, two = _levels(ours.task, mine, theirs.task, rival, seed, groups)
    main = main_measure(ours)
    if main is None or main not in one:
        raise TableError(f"against: tasks.{name}", "the two runs have no measure in common",
                         given=list(theirs.measures), advice=f"a run that measures {main}")  # fmt: skip
    gaps = {m: difference(one[m], two[m]) for m in one}
    return Duel(len(here), len(ours.rows) - len(here), len(theirs.rows) - len(here), main,
                {m: told(v) for m, v in one.items()}, {m: told(v) for m, v in two.items()}, gaps, None,
                _flips(ours.task, mine, theirs.task, rival))  # fmt: skip


def _levels(task: Any, mine: Records, other: Any, rival: Records, seed: int,
            clusters: np.ndarray | None) -> tuple[dict[str, Samples], dict[str, Samples]]:  # fmt: skip
    """Samples of every measure that both have. Records that depend on what a run was fitted with, such as its classes,
    are measured by its own task; others, in the table's terms, both by this run's, so that one unit holds."""
    draws = Draws(len(mine["error"]), (0,), seed=seed, clusters=clusters)
    with np.errstate(invalid="ignore", divide="ignore"):
        one = draws.fixed(task.measure, mine)
        two = draws.fixed((other if hasattr(other, "align") else task).measure, rival)
    return {m: v for m, v in one.items() if m in two}, {m: two[m] for m in one if m in two}


def _flips(task: Any, mine: Records, other: Any, rival: Records) -> dict[str, Json] | None:
    """Rows that only one of the two has right, where answers are right or wrong."""
    if not (hasattr(task, "certainty") and hasattr(other, "certainty")):
        return None
    _, one = task.certainty(mine)
    _, two = other.certainty(rival)
    return mcnemar(one, two)


def mcnemar(one: Bool[np.ndarray, " n"], two: Bool[np.ndarray, " n"]) -> dict[str, Json]:
    """`gained`, right in `one` alone, `lost`, right in `two` alone, and the exact two-sided p of "as many of either".

    Source: McNemar 1947; the exact form is a sign test of the rows on which the two differ, `2 P(X <= min)` with X
    binomial of one half.
    """
    gained, lost = int((one & ~two).sum()), int((two & ~one).sum())
    n = gained + lost
    tail = sum(math.exp(_log_choose(n, k) - n * math.log(2)) for k in range(min(gained, lost) + 1))
    return {"gained": gained, "lost": lost, "p": min(1.0, 2 * tail)}


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def p_words(p: float | None) -> str:
    """`p = 0.012`, `p < 0.001`."""
    return "no p-value" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
