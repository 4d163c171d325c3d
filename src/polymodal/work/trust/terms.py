"""The terms on which rows are answered: with sets at a level, or only where an accuracy is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from polymodal.assemble import Assembly
from polymodal.core.contracts import Bounded, Prediction
from polymodal.core.errors import RunError, UserError
from polymodal.core.streams import Answer, Row
from polymodal.work.trust.abstain import Threshold, threshold
from polymodal.work.trust.conformal import limits, lots
from polymodal.work.trust.store import Trust, Witness


@dataclass(frozen=True)
class Terms:
    """What is asked of every answer besides itself. Without levels nothing is."""

    sets: float | None = None
    bounded: dict[str, Witness] = field(default_factory=dict)  # the tasks that give sets
    thresholds: dict[str, Threshold] = field(default_factory=dict)  # the tasks that may leave a row unanswered

    def apply(
        self, name: str, task: object, answer: Answer, rows: Sequence[Row], predictions: list[Prediction]
    ) -> list[tuple[Prediction, str]]:
        """The predictions on these terms, each with the reason why it is empty, or none."""
        if isinstance(task, Bounded) and name in self.bounded and self.sets is not None:
            numbers, kept = np.array([r.number for r in rows], np.int64), self.bounded[name]
            assert kept.scores is not None
            limit = limits(kept.scores, self.sets, lots(name, "answer", numbers), kept.step)
            regions = task.region(answer, limit)
            predictions = [p._replace(more={**p.more, **r}) for p, r in zip(predictions, regions, strict=True)]
        wanted = self.thresholds.get(name)
        return [(p, "") if wanted is None else _answered(name, p, wanted) for p in predictions]

    def columns(self, name: str, task: object) -> tuple[str, ...]:
        """The columns that a task's answers have besides, by their suffix."""
        return tuple(task.bounds) if isinstance(task, Bounded) and name in self.bounded else ()

    def notes(self) -> list[str]:
        """What a person should know of thresholds that do not exist."""
        return [
            f"{name}: no row is answered: {_shown(t.rows, 'validation row')} show no confidence above which "
            f"{t.level:g} of the answers are right (the surest {t.best[1]} are right in {t.best[0]:.3g})"
            for name, t in self.thresholds.items()
            if not np.isfinite(t.least)
        ]


def make_terms(assembly: Assembly, trust: Trust, where: object, *, sets: float | None = None,
               abstain: float | None = None) -> Terms:  # fmt: skip
    """Check the levels, and find the thresholds. Raises UserError for a level, RunError for a run that cannot do it."""
    for flag, level in (("--sets", sets), ("--abstain", abstain)):
        if level is not None and not (isinstance(level, int | float) and 0 < level < 1):
            raise UserError(flag, "must lie between 0 and 1", given=level, advice="0.9")
    if (sets is not None or abstain is not None) and not trust:
        raise RunError(str(where), "keeps nothing to judge confidence by: it was made by an earlier version",
                       advice="train it again")  # fmt: skip
    bounded = {n: w for n, w in trust.items() if w.scores is not None} if sets is not None else {}
    if sets is not None and not bounded:
        raise UserError("--sets", "no task of this run gives sets or intervals", given=list(assembly.model.tasks.names))
    found = {} if abstain is None else {
        n: threshold(w.confidence, w.right, abstain)
        for n, w in trust.items() if w.confidence is not None and w.right is not None
    }  # fmt: skip
    if abstain is not None and not found:
        raise UserError("--abstain", "no task of this run has answers that are right or wrong",
                        given=list(assembly.model.tasks.names), advice="--sets 0.9, for intervals")  # fmt: skip
    return Terms(sets, bounded, found)


def _answered(name: str, given: Prediction, wanted: Threshold) -> tuple[Prediction, str]:
    sure = given.confidence if given.confidence is not None else -np.inf
    if sure >= wanted.least:
        return given, ""
    reason = _apart(sure, wanted.least) if np.isfinite(wanted.least) else f"{sure:.2g}; no confidence is enough"
    return given._replace(value=None), f"{name}: unsure ({reason} for accuracy {wanted.level:g})"


def _apart(low: float, high: float) -> str:
    """`0.61 < 0.83`, with as many digits as it takes to see it."""
    digits = next((d for d in range(2, 17) if f"{low:.{d}g}" != f"{high:.{d}g}"), 17)
    return f"{low:.{digits}g} < {high:.{digits}g}"


def _shown(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
