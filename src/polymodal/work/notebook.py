"""What a notebook shows of a run, of an evaluation, and of work that is going on."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

from polymodal.core import html
from polymodal.core.schema import Json
from polymodal.core.spec import Spec
from polymodal.work import plots
from polymodal.work.evaluation import Evaluation
from polymodal.work.words import interval, measure, written

EVERY = 0.2  # seconds between two drawings of a bar
KEPT = 12  # lines that stay in sight while a training goes on


def scores(tables: dict[str, dict[str, Json]]) -> str:
    """Measures by table (valid, test) as `Evaluation.json` has them, each with its 95 % interval, then what is left of
    each task's first measure on the last table without each input."""
    named = dict.fromkeys((t, m) for found in tables.values() for t, ms in found["tasks"].items() for m in ms)
    head = ["task", "measure", *(f"{name}, {found['rows']:,} rows" for name, found in tables.items())]
    rows = [[t, measure(m).name, *(_said(found["tasks"].get(t, {}).get(m), m) for found in tables.values())]
            for t, m in named]  # fmt: skip
    return html.grid(head, rows, words=2) + _withheld(tables[list(tables)[-1]])


def _withheld(found: dict[str, Json]) -> str:
    blind, firsts = found.get("withheld"), {t: next(iter(ms)) for t, ms in found["tasks"].items() if ms}
    if not blind:
        return ""
    head = ["without", *(f"{task} {measure(name).name}" for task, name in firsts.items())]
    rows = [
        [given, *(_said(left["tasks"].get(t, {}).get(m), m) for t, m in firsts.items())]
        for given, left in blind.items()
    ]
    return html.grid(head, rows)


def _said(found: Json, name: str) -> str:
    span = "" if found is None else interval(found, name)
    return "–" if found is None else written(found["value"], name) + (f"  ({span})" if span else "")


def evaluation_html(found: Evaluation) -> str:
    ledger = [f"rows with bad cells: {', '.join(f'{n} {k}' for k, n in found.ledger.items())}"] if found.ledger else []
    return html.frame(html.title("Evaluation"), scores({"table": found.json()}), html.lines(ledger))


def evaluation_text(found: Evaluation) -> str:
    """`Evaluation of 150 rows: label accuracy 93.3 % (88.7 to 96.7 %), ...`, by each task's main measure."""
    said = []
    for name, result in found.tasks.items():
        main = result.metric if result.metric in result.measures else next(iter(result.measures), None)
        if main is not None:
            said.append(f"{name} {measure(main).name} {_said(result.measures[main], main)}")
    return f"Evaluation of {found.rows} rows: {', '.join(said)}"


def run_html(folder: Path, spec: Spec, metrics: dict[str, Json], history: list[Json], bad: int) -> str:
    """Scores with intervals, curves of the training, what the model is made of, where the report is."""
    inputs = [f"{n}: {i.reader.type} through {i.encoder.type}" for n, i in spec.inputs.items()]
    made = [*inputs, f"fusion: {spec.fusion.type}" if spec.fusion else "", f"bad cells: {bad}" if bad else ""]
    tables: dict[str, Any] = {name: metrics[name] for name in ("valid", "test") if name in metrics}
    return html.frame(
        html.title("Run", str(folder)),
        scores(tables) if tables else "",
        html.pictures(*_curves(history)),
        html.lines(line for line in made if line),
        html.lines([f"report: {folder / 'report.html'}, model card: {folder / 'README.md'}"]),
        html.folded("spec", spec.text()),
    )


def _curves(history: list[Json]) -> list[tuple[str, str]]:
    """The loss, and each task's first measure, over the epochs; nothing where there are not two of them."""
    if len(history) < 2:
        return []
    best = [e["epoch"] for e in history if e.get("best")]

    def line(part: str, name: str) -> list[tuple[float, float]]:
        return [(float(e["epoch"]), float(e[part][name])) for e in history if e[part].get(name) is not None]

    tasks = [n for n in history[0]["train"] if n != "loss"] or ["loss"]
    first = tasks[0]
    drawn = [
        (f"loss of {first}: training blue, validation orange", [line("train", first), line("valid", f"{first}.loss")])
    ]
    for task in tasks:
        names = [n for n in history[0]["valid"] if n.startswith(f"{task}.") and n != f"{task}.loss"]
        drawn += [
            (f"{task}: {measure(n.rpartition('.')[2]).name} on validation rows", [[], line("valid", n)])
            for n in names[:1]
        ]
    return [(caption, _alone(plots.curves(found, best[-1] if best else None))) for caption, found in drawn[:4]]


def _alone(svg: str) -> str:
    """Without its style sheet, which would hold for the whole notebook."""
    return re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)


class Cell:
    """One place of a notebook that is drawn anew while work goes on: the last lines, and a bar."""

    def __init__(self, handle: Any) -> None:
        self.handle, self.now, self.drawn = handle, "", 0.0
        self.told: list[str] = []

    def say(self, text: str) -> None:
        self.told += text.splitlines()
        self.draw()

    def bar(self, name: str, done: int, total: int) -> None:
        self.now = html.bar(name, done, total) if done < total else ""
        if time.monotonic() - self.drawn > EVERY or done >= total:
            self.draw()

    def draw(self) -> None:
        early, late = self.told[:-KEPT], self.told[-KEPT:]
        shown = html.frame(
            html.folded(f"{len(early)} earlier lines", "\n".join(early)) if early else "",
            html.source("\n".join(late)) if late else "",
            self.now,
        )
        self.handle.update({"text/html": shown, "text/plain": "\n".join(late)}, raw=True)
        self.drawn = time.monotonic()


def open_cell() -> Cell | None:
    """A place in the notebook's output; None where no notebook is listening."""
    ipython: Any = sys.modules.get("IPython")
    if "ipykernel" not in sys.modules or ipython is None or ipython.get_ipython() is None:
        return None
    handle = ipython.display.display({"text/plain": ""}, raw=True, display_id=True)
    return Cell(handle) if handle is not None else None
