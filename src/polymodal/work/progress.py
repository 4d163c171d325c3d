"""What a person sees while work is going on: a bar on a terminal, one place that is drawn anew in a notebook, elsewhere
a line per epoch; on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from polymodal.core.schema import Json
from polymodal.work.notebook import Cell, open_cell


class Display:
    """Bars with rate and time left. `quiet` shows nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.cell = None if quiet else open_cell()
        self.live = not quiet and self.cell is None and sys.stderr.isatty()

    @contextmanager
    def bar(self, title: str, total: int, done: int = 0) -> Iterator[_Bar]:
        """A bar over `total` rows, of which `done` are behind us already."""
        if not self.live:
            yield _Bar() if self.cell is None else _CellBar(self.cell, title, total, done)
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                   TextColumn("{task.fields[rate]}"), TimeRemainingColumn())  # fmt: skip
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            yield _LiveBar(progress, progress.add_task(title, total=total, completed=done, rate=""))

    def say(self, text: str) -> None:
        if self.cell is not None:
            self.cell.say(text)
        elif not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def epoch(self, entry: dict[str, Json], epochs: int) -> None:
        """One line for a finished epoch."""
        shown = [f"{k} {v:.4f}" for k, v in entry["valid"].items() if v is not None and _headline(k)]
        mark = "  *" if entry["best"] else ""
        self.say(f"epoch {entry['epoch']:>3}/{epochs}  loss {entry['train']['loss']:.4f}  {'  '.join(shown)}"
                 f"  {entry['rows_per_second']:.0f} rows/s{mark}")  # fmt: skip


def _headline(name: str) -> bool:
    return name.rpartition(".")[2] in {"loss", "accuracy", "average_precision", "rmse"}


class _Bar:
    def advance(self, rows: int) -> None:
        """Count rows; without a terminal nothing is drawn."""


class _CellBar(_Bar):
    def __init__(self, cell: Cell, title: str, total: int, done: int) -> None:
        self.cell, self.title, self.total, self.done = cell, title, total, done

    def advance(self, rows: int) -> None:
        self.done += rows
        self.cell.bar(self.title, self.done, self.total)


class _LiveBar(_Bar):
    def __init__(self, progress, task) -> None:  # type: ignore[no-untyped-def]
        self.progress, self.task = progress, task

    def advance(self, rows: int) -> None:
        self.progress.advance(self.task, rows)
        speed = self.progress.tasks[self.task].speed
        if speed:
            self.progress.update(self.task, rate=f"{speed:,.0f} rows/s")
