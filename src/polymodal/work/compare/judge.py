"""From all trials' answers to a verdict: who is best, by how much, how sure that is, and what each input is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from polymodal.core.contracts import Records
from polymodal.core.schema import Json
from polymodal.data.splits import cell_names
from polymodal.work.compare import robust
from polymodal.work.compare.bootstrap import Draws, Samples, difference, holm, kendall, needed, told
from polymodal.work.compare.contribution import interaction, shapley, wanted
from polymodal.work.compare.plan import Candidate
from polymodal.work.compare.probe import Answered
from polymodal.work.compare.run import Contest
from polymodal.work.compare.shared import Shared

REFERENCE = "concat"
LATE = "average"  # what effective robustness is measured against: late fusion
ROUGH = 300  # draws for what is not tested


def judge(contest: Contest, shared: Shared, simple: Mapping[str, Answered]) -> dict[str, Json]:
    """All that the comparison found, as plain JSON; see `docs/compare.md`."""
    found: dict[str, Json] = {
        "split": shared.split, "seeds": list(contest.seeds), "frozen": contest.options.frozen,
        "tuned": contest.options.tune, "cluster": cluster_column(contest), "inputs": list(contest.spec.inputs),
        "trials": {c.name: _trial_page(contest, c) for c in contest.candidates if contest.done(c)},
        "failed": dict(sorted(contest.failed.items())), "ledger": shared.ledger.counts(), "tasks": {},
    }  # fmt: skip
    for name in contest.spec.tasks:
        answers = {c.name: {seed: t.answered() for seed, t in contest.done(c).items()} for c in contest.candidates}
        answers = {n: a for n, a in answers.items() if a and all(name in one.whole.records for one in a.values())}
        if answers:
            rivals = {n: one.whole.records[name] for n, one in simple.items() if name in one.whole.records}
            found["tasks"][name] = _Task(contest, shared, name, answers).judged(rivals)
    return found


def cluster_column(contest: Contest) -> str | None:
    """The column whose rows of equal value hang together: the one asked for, or the one that splits go by."""
    data = contest.spec.data
    return contest.options.cluster or (data.split_column if data.split == "grouped" else None)


def _trial_page(contest: Contest, candidate: Candidate) -> dict[str, Json]:
    """What the trainings of a candidate cost, means over its seeds."""
    pages = [trial.page() for trial in contest.done(candidate).values()]

    def mean(name: str) -> float | None:
        known = [p[name] for p in pages if p[name] is not None]
        return float(np.mean(known)) if known else None

    costs = ("seconds", "cpu_seconds", "measuring_seconds", "measuring_cpu_seconds", "rows_per_second", "latency_ms")
    return {"kind": candidate.kind, "seeds": list(contest.done(candidate)),
            **{n: pages[0][n] for n in ("parameters", "trained", "operations")}, **{n: mean(n) for n in costs},
            "lr": candidate.spec.train.lr, "width": candidate.spec.model.width}  # fmt: skip


class _Task:
    """One task of a comparison. `answers` are those of each candidate by seed."""

    def __init__(self, contest: Contest, shared: Shared, name: str, answers: dict[str, dict[int, Answered]]) -> None:
        self.contest, self.name, self.answers = contest, name, answers
        self.task = shared.task(name)
        self.main, self.lower = shared.main(name)
        self.inputs = list(contest.spec.inputs)
        first = next(iter(next(iter(answers.values())).values()))
        self.rows = first.whole.rows[name]
        column = cluster_column(contest)
        clusters = None if column is None else _clusters(shared, column, self.rows)
        self.clusters = len(self.rows) if clusters is None else len(np.unique(clusters))
        joined = [c.name for c in contest.of("joined") if c.name in answers]
        count, seeds = len(self.rows), contest.seeds
        seed = contest.spec.train.seed
        self.joined = joined
        self.draws = Draws(count, seeds, seed=seed, draws=needed(max(1, len(joined))), clusters=clusters)
        self.rough = Draws(count, seeds, seed=seed, draws=ROUGH, clusters=clusters)

    def judged(self, simple: Mapping[str, Records]) -> dict[str, Json]:
        whole = {n: {s: a.whole.records[self.name] for s, a in by.items()} for n, by in self.answers.items()}
        levels = {n: self.draws.level(self.task.measure, records) for n, records in whole.items()}
        levels |= {n: self.draws.fixed(self.task.measure, records) for n, records in simple.items()}
        valid = {n: self._valid(n) for n in self.answers}
        best, single = (self._best(valid, kind) for kind in ("joined", "single"))
        reference = self._reference()
        lines = {n: {"measures": {m: told(v) for m, v in level.items()}, "valid": valid.get(n)}
                 for n, level in levels.items()}  # fmt: skip
        for rival, key in ((reference, "reference"), (single, "single")):
            if rival is not None:
                self._test(lines, levels, rival, key)
        for name in self.joined:
            lines[name] |= self._worth(name)
        self._robustness(lines)
        drawn = len(next(iter(levels.values()))[self.main]) - 1
        return {"measure": self.main, "lower": self.lower, "rows": len(self.rows), "clusters": self.clusters,
                "draws": drawn, "best": best, "best_single": single, "reference": reference,
                "simple": list(simple), "candidates": lines, "end_to_end": self._again(levels)}  # fmt: skip

    def _valid(self, name: str) -> float | None:
        """The main measure on validation rows, the mean over seeds: what candidates are chosen by."""
        candidate = next(c for c in self.contest.candidates if c.name == name)
        values = [t.page()["valid"][self.name][self.main] for t in self.contest.done(candidate).values()]
        return None if any(v is None for v in values) else float(np.mean(values))

    def _best(self, valid: Mapping[str, float | None], kind: str) -> str | None:
        known = {c.name: v for c in self.contest.of(kind) if (v := valid.get(c.name)) is not None}
        return (min if self.lower else max)(known, key=known.__getitem__) if known else None

    def _reference(self, fusion: str = REFERENCE) -> str | None:
        """The first candidate of this fusion as it comes."""
        fits = [c.name for c in self.contest.of("joined")
                if c.name in self.answers and c.spec.fusion is not None and c.spec.fusion.type == fusion]  # fmt: skip
        return fits[0] if fits else None

    def _test(self, lines: dict[str, Json], levels: Mapping[str, dict[str, Samples]], rival: str, key: str) -> None:
        """Every other candidate minus this one; p-values of the joined ones are corrected for their number."""
        found = {n: difference(level[self.main], levels[rival][self.main]) for n, level in levels.items() if n != rival}
        corrected = holm({n: found[n]["p"] for n in self.joined if n in found})
        for name, gap in found.items():
            lines[name].setdefault("against", {})[key] = gap | {"holm": corrected.get(name)}

    def _level(self, records: dict[int, Records]) -> Samples:
        return self.rough.level(self.task.measure, records)[self.main]

    def _given(self, name: str, inputs: frozenset[str]) -> dict[int, Records]:
        whole = inputs == frozenset(self.inputs)
        return {seed: one.whole.records[self.name] if whole else one.given(inputs, self.name)
                for seed, one in self.answers[name].items()}  # fmt: skip

    def _worth(self, name: str) -> dict[str, Json]:
        """What each input contributes to a candidate's score, and each pair beyond its two."""
        worth = {some: self._level(self._given(name, some)) for some in wanted(self.inputs)}
        whole, sign = worth[frozenset(self.inputs)], -1.0 if self.lower else 1.0
        values = shapley(worth, self.inputs, lower=self.lower)
        shuffled = {i: sign * (whole - self._level(self._way(name, ("shuffled", i)))) for i in self.inputs}
        pairs = interaction(worth, self.inputs, lower=self.lower)
        return {
            "contribution": {i: {"shapley": told(values[i]), "shuffled": told(shuffled[i])} for i in self.inputs},
            "interaction": [{"inputs": list(pair), **told(samples)} for pair, samples in pairs.items()],
        }

    def _way(self, name: str, way: tuple[str, ...]) -> dict[int, Records]:
        return {seed: one.ways[way].records[self.name] for seed, one in self.answers[name].items()}

    def _robustness(self, lines: dict[str, Json]) -> None:
        """Curves of every joined candidate, and both robustnesses; late fusion, where there, is what is expected."""
        expected = self._reference(LATE) or self._reference() or (self.joined[0] if self.joined else None)
        curves = {n: dict(self._curves(n)) for n in self.joined}
        for name, own in curves.items():
            lines[name]["robustness"] = {
                kind: {i: {"levels": list(robust.LEVELS), "scores": [told(s) for s in curve],
                           "relative": told(robust.relative(robust.LEVELS, curve)),
                           "effective": told(robust.effective(robust.LEVELS, curve, curves[str(expected)][kind, i],
                                                              lower=self.lower))}
                       for (k, i), curve in own.items() if k == kind}
                for kind in ("missing", "noise")
            }  # fmt: skip
            lines[name]["robustness"]["expected"] = expected

    def _curves(self, name: str) -> Iterator[tuple[tuple[str, str], np.ndarray]]:
        whole = self._given(name, frozenset(self.inputs))
        clean = self._level(whole)
        for one in self.inputs:
            blind = self._given(name, frozenset(self.inputs) - {one})
            lacking = [robust.gone(self.rows, share, self.rough.seed, one) for share in robust.LEVELS[1:]]
            mixed = [{s: robust.mixed(whole[s], blind[s], gone) for s in whole} for gone in lacking]
            yield ("missing", one), np.stack([clean, *(self._level(records) for records in mixed)])
            ways = [("noise", one, str(level)) for level in robust.LEVELS[1:]]
            if all(way in answered.ways for answered in self.answers[name].values() for way in ways):
                yield ("noise", one), np.stack([clean, *(self._level(self._way(name, way)) for way in ways)])

    def _again(self, levels: Mapping[str, dict[str, Samples]]) -> dict[str, Json] | None:
        """The order of the candidates that were trained once more with nothing frozen, against their frozen order."""
        pairs = {c.name.removesuffix(" (end to end)"): c.name for c in self.contest.of("end_to_end")}
        pairs = {one: two for one, two in pairs.items() if one in levels and two in levels}
        if len(pairs) < 2:
            return None
        frozen, free = (np.stack([levels[n][self.main] for n in names]) for names in (pairs.keys(), pairs.values()))
        return {"kendall": told(kendall(frozen, free)), "pairs": pairs}


def ranked(contest: Contest, shared: Shared) -> list[Candidate]:
    """The joined candidates by the first task on validation rows, the best first."""
    task = next(iter(contest.spec.tasks))
    main, lower = shared.main(task)
    scored = []
    for candidate in contest.of("joined"):
        values = [t.page()["valid"][task][main] for t in contest.done(candidate).values()]
        if values and all(v is not None for v in values):
            scored.append((float(np.mean(values)), candidate))
    return [c for _, c in sorted(scored, key=lambda one: one[0], reverse=not lower)]


def _clusters(shared: Shared, column: str, rows: np.ndarray) -> np.ndarray:
    """A number for each row, equal where the column has the same value; a row without one stands by itself."""
    names: Any = cell_names(shared.parts[shared.split].table, column)[rows].astype(str)
    _, place = np.unique(names, return_inverse=True)
    empty = names == ""
    return np.where(empty, len(rows) + np.arange(len(rows)), place)
