"""Whether the rows of a table are still like those that a run was trained on, column by column and to the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from polymodal.assemble import Assembly
from polymodal.core.contracts import Prediction
from polymodal.core.schema import Json
from polymodal.core.seeds import generator
from polymodal.core.traits import Traits
from polymodal.data.splits import Part
from polymodal.work.compare.bootstrap import needed
from polymodal.work.drift import kept as keeping
from polymodal.work.drift.judge import FEWEST, Finding, Lots, figures, judged, of_states, of_trait, of_vectors
from polymodal.work.drift.kept import VECTORS, Reference, names_of
from polymodal.work.drift.survey import ROWS, Seen, survey
from polymodal.work.drift.vectors import Answered, look, said
from polymodal.work.runtime import Runtime

LEVEL = 0.05
MOST_DRAWS = 10_000


@dataclass(frozen=True)
class Drift:
    """What changed between the training rows and a table's, the most changed first. `text()` says it in words."""

    rows: int  # of the table that were looked at
    of_rows: int  # that the table has
    trained: int  # training rows behind the reference
    level: float
    findings: list[Finding]

    @property
    def drifted(self) -> bool:
        """Whether anything changed by much, and not by chance."""
        return any(f.level == "drift" for f in self.findings)

    def json(self) -> dict[str, Json]:
        return {"rows": self.rows, "of_rows": self.of_rows, "trained": self.trained, "level": self.level,
                "drifted": self.drifted, "findings": [f.json() for f in self.findings]}  # fmt: skip

    def headline(self) -> str:
        counts = {k: sum(f.level == k for f in self.findings) for k in ("drift", "slight")}
        words = "no drift" if not self.drifted else f"{counts['drift']} of {len(self.findings)} traits drifted"
        beside = f", {counts['slight']} changed slightly" if counts["slight"] else ""
        some = f" of {self.of_rows:,}" if self.rows < self.of_rows else ""
        return f"{words}{beside}: {self.rows:,}{some} rows beside {self.trained:,} of the training"

    def text(self) -> str:
        """A line for each trait that changed."""
        told = [f for f in self.findings if f.level != "none"]
        lines = [
            f"  {f.where}, {f.what}{'' if f.level == 'drift' else ' (slightly)'}: {f.text}   [{figures(f)}]"
            for f in told
        ]
        few = [f"  too few rows to test anything: {FEWEST} are needed"] if not self.findings else []
        return "\n".join([self.headline(), *lines, *few])

    def __repr__(self) -> str:
        return self.text()

    def write(self, folder: str | Path) -> Path:
        """`drift.json` and the page `report.html` into a folder; the page's path."""
        from polymodal.work.drift.page import write_page

        return write_page(self, Path(folder))


def reference(assembly: Assembly, train: Part, valid: Part | None, runtime: Runtime, *,
              answers: Mapping[str, list[Prediction]] | None = None) -> Reference:  # fmt: skip
    """What is kept of a training: traits of its rows; of its validation rows vectors, answers, and the traits that
    depend on what readers learned: of rows that nothing was fitted to, which training rows are unlike.

    `answers` are those to validation rows, where they are known already. Without validation rows `train` are any rows,
    of which it is not known whether they were trained on: traits that depend on it are left out.
    """
    seed = assembly.spec.train.seed
    seen = _seen(assembly, train, valid, seed)
    held = train if valid is None else valid
    found = look(assembly, held, runtime, VECTORS, seed=seed, answer=answers is None)
    given = found.answers if answers is None else answers
    return keeping.reduce(min(ROWS, len(train.rows)), seen, found.vectors, {t: said(p) for t, p in given.items()})


def _seen(assembly: Assembly, train: Part, valid: Part | None, seed: int) -> dict[str, Seen]:
    seen = survey(assembly, train, seed=seed)
    fitted = {one.input for one in seen.values() if one.fitted}
    held = {} if valid is None or not fitted else survey(assembly, valid, seed=seed, only=fitted)

    def kept(label: str, one: Seen) -> Seen:
        own = {n: trait for n, trait in one.traits.items() if n not in one.fitted}
        return one._replace(traits=own | {n: trait for n, trait in _of(held, label).items() if n in one.fitted})

    return {label: kept(label, one) for label, one in seen.items()}


def _of(held: Mapping[str, Seen], label: str) -> Traits:
    return held[label].traits if label in held else {}


def drift(assembly: Assembly, part: Part, runtime: Runtime, before: Reference, *, rows: int = ROWS,
          level: float = LEVEL, step: Callable[[int], None] | None = None) -> Drift:  # fmt: skip
    """Compare a table's rows with what a run kept. At most `rows` of them are looked at, drawn by lot.

    Of all tests together q-values below `level` are by chance, on average, no more often than that; a change is called
    drift where it is large as well, see `judge.Finding`. Raises TableError for a table without the inputs' columns.
    """
    seed = assembly.spec.train.seed
    seen = survey(assembly, part, rows=rows, seed=seed + 1, step=step)
    looked = look(assembly, part, runtime, min(rows, VECTORS), seed=seed + 1)
    tests = sum(1 + len(c.traits) for c in before.columns.values()) + 2 * len(before.vectors)
    lots = Lots(generator(seed, "drift", "tests"), min(MOST_DRAWS, needed(tests, level)))
    found = judged(_findings(before, seen, looked, lots), level)
    return Drift(min(rows, len(part.rows)), len(part.rows), before.rows, level, found)


def _findings(before: Reference, seen: Mapping[str, Seen], looked: Answered, lots: Lots) -> Iterator[Finding]:
    tried = [*_of_cells(before, seen, lots), *_of_model(before, looked, lots)]
    return (f for f in tried if f is not None)


def _of_cells(before: Reference, seen: Mapping[str, Seen], lots: Lots) -> Iterator[Finding | None]:
    for where, column in before.columns.items():
        now = seen[where]
        yield of_states(where, column.states, now.states, lots)
        for what, trait in column.traits.items():
            if what in now.traits:
                yield of_trait(where, what, trait, now.traits[what], lots)


def _of_model(before: Reference, looked: Answered, lots: Lots) -> Iterator[Finding | None]:
    for where, vectors in before.vectors.items():
        if where in looked.vectors:
            yield of_vectors(where, vectors, looked.vectors[where], lots)
    for task, traits in before.answers.items():
        now = said(looked.answers.get(task, []), names_of(traits))
        for what, trait in traits.items():
            if what in now:
                yield of_trait(f"answers to {task}", what, trait, now[what], lots)
