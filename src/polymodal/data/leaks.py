"""Columns that give the target away: what one column alone predicts of rows held out, by simple means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from polymodal.core.schema import Json
from polymodal.core.seeds import generator
from polymodal.data import singles
from polymodal.data.cells import path_of
from polymodal.data.guess import BOOKKEEPING, KINDS, Kinds, guess_task, look, split_column
from polymodal.data.tables import Table

ROWS = 5000  # looked at
FEWEST = 50  # rows from which on a score says something
FOLDS = 5
CLASSES = 100  # the most common ones are looked at
SURE = 0.98  # accuracy or share of the variance from which on a column gives the target away
BALANCED = 0.9  # and the mean over the classes, so that one common class is not enough
HOPELESS = 0.9  # score on the first fold below which the others are not tried


@dataclass
class Giveaway:
    """A column that predicts a target by itself. `by`: its value, text, path or file size; `rows` were held out."""

    column: str
    target: str
    by: str
    measure: str  # accuracy, or r2
    score: float
    guessing: float  # the same for always giving the most common answer, or the mean
    rows: int

    def __str__(self) -> str:
        shown = {"accuracy": "accuracy {:.3f}", "r2": "R² {:.3f}"}[self.measure].format(self.score)
        guess = f"; always the same answer: {self.guessing:.3f}" if self.measure == "accuracy" else ""
        whose = {"value": "", "text": "", "path": "the path in ", "file size": "the size of the files in "}[self.by]
        return f"{whose}{self.column} alone predicts {self.target}: {shown} on {self.rows} held-out rows{guess}"

    @property
    def advice(self) -> str:
        return {
            "path": "the model reads the file and not its name: keep the name out of its other inputs",
            "file size": "were the files of each class made in another way? A model may learn that instead",
        }.get(self.by, "is it known before the answer is? If not, leave it out")


class View(NamedTuple):
    """One way of looking at a column, and what predicts from it."""

    by: str
    predict: Callable[[singles.Target, singles.Held], singles.Answers]


def giveaways(table: Table, target: str, columns: Sequence[str] | None = None, rows: np.ndarray | None = None,
              kinds: Kinds = KINDS) -> list[Giveaway]:  # fmt: skip
    """The columns that predict `target` by themselves, at most one finding each, the surest first.

    At most 5,000 of `rows` are looked at, in five folds; each column through simple predictors of its values, words,
    path and file size. What files hold is not looked at. A column stands accused only where there are others:
    `columns` are those that could be inputs, all others of the table when not given. A column that counts the rows is
    passed over, since rows are often sorted.
    """
    split = split_column(table)
    apart = {target, split}
    columns = columns or [c for c in table.columns if c not in apart and c.lower() not in BOOKKEEPING]
    columns = [c for c in columns if c in table.columns]
    found = _target(table, target, np.arange(len(table)) if rows is None else rows)
    if len(columns) < 2 or found is None:
        return []
    rows, answers = found
    fold = generator("giveaways").permutation(len(rows)) % FOLDS
    given = [_best(table, c, target, rows, answers, fold, kinds) for c in dict.fromkeys(columns)]
    return sorted([g for g in given if g is not None], key=lambda g: -g.score)


def _target(table: Table, target: str, rows: np.ndarray) -> tuple[np.ndarray, singles.Target] | None:
    """Some rows and their answers: classes that are not rare as numbers, or values; None for too few rows."""
    rows = np.sort(generator("giveaways", "rows").permutation(rows)[: 2 * ROWS])
    cells = [table.cell(int(r), target) for r in rows]
    present = np.array([c is not None for c in cells], bool)
    if not present.any():
        return None
    if guess_task(table, target)["type"] == "regress":
        values = _numbers(cells)
        kept = np.flatnonzero(np.isfinite(values))[:ROWS]
        enough = len(kept) >= FEWEST and values[kept].std() > 0
        return (rows[kept], values[kept]) if enough else None
    codes = singles.codes_of([_name(c) for c in cells])
    counts = np.bincount(codes, weights=present)
    often = [c for c in np.argsort(-counts, kind="stable")[:CLASSES] if counts[c] >= FOLDS]
    kept = np.flatnonzero(np.isin(codes, often) & present)[:ROWS]
    if len(often) < 2 or len(kept) < FEWEST:
        return None
    return rows[kept], np.unique(codes[kept], return_inverse=True)[1].reshape(-1).astype(np.int64)


def _best(table: Table, column: str, target: str, rows: np.ndarray, answers: singles.Target, fold: np.ndarray,
          kinds: Kinds) -> Giveaway | None:  # fmt: skip
    cells = [table.cell(int(r), column) for r in rows]
    best: Giveaway | None = None
    for view in _views(table, cells, look(table, column, kinds), answers, kinds):
        score = _score(view, answers, fold)
        if score is not None and (best is None or score > best.score):
            classes = answers.dtype != np.float64
            guessing = float(np.bincount(answers).max() / len(answers)) if classes else 0.0
            best = Giveaway(column, target, view.by, "accuracy" if classes else "r2", score, guessing, len(rows))
    return best


def _score(view: View, answers: singles.Target, fold: np.ndarray) -> float | None:
    """Accuracy or R² over all folds; None where it is not near enough to 1."""
    given = np.empty_like(answers)
    for k in range(FOLDS):
        held = fold == k
        given[held] = view.predict(answers, held)
        if k == 0 and _measure(given[held], answers[held]) < HOPELESS:
            return None
    score = _measure(given, answers)
    if score < SURE:
        return None
    if answers.dtype == np.float64:
        return score
    right = np.bincount(answers, weights=given == answers) / np.maximum(np.bincount(answers), 1)
    return score if right.mean() >= BALANCED else None


def _measure(given: np.ndarray, answers: np.ndarray) -> float:
    if answers.dtype != np.float64:
        return float((given == answers).mean())
    total = float(((answers - answers.mean()) ** 2).sum())
    return 1.0 - float(((answers - given) ** 2).sum()) / total if total else 0.0


def _views(table: Table, cells: list[Any], looks: str, answers: singles.Target, kinds: Kinds) -> Iterator[View]:
    files = {*kinds.endings.values(), kinds.array, kinds.sound, kinds.clip}
    classes = answers.dtype != np.float64
    if looks in files:
        named = [c if isinstance(c, str) else None for c in cells]
        yield from _pieces(named, "path")
        yield from _ordered(_sizes(table, cells), "file size", classes)
    elif looks == "number":
        values = _numbers(cells)
        if not _counts(values, answers):
            yield from _ordered(values, "value", classes)
            yield _grouped(cells, "value")
    elif looks == kinds.text:
        texts = [None if c is None else str(c) for c in cells]
        words = singles.words_of(texts)
        yield _grouped(texts, "text")
        if classes:
            yield View("text", lambda target, held: singles.by_marker(words, target, held))
            yield View("text", lambda target, held: singles.by_words(words, target, held))
        else:
            for values in singles.numbers_of(texts):
                yield from _ordered(values, "text", classes)
    elif looks in ("category", "date", "list"):
        yield _grouped(cells, "value")
        yield from _pieces([c if isinstance(c, str) else None for c in cells], "value")
    elif looks == "id":
        yield from _pieces([c if isinstance(c, str) else None for c in cells], "value")


def _grouped(cells: Sequence[Any], by: str) -> View:
    codes = singles.codes_of([_name(c) for c in cells])
    return View(by, lambda target, held: singles.by_category(codes, target, held))


def _ordered(values: np.ndarray, by: str, classes: bool) -> Iterator[View]:
    yield View(by, lambda target, held: singles.by_number(values, target, held))
    if not classes:
        yield View(by, lambda target, held: singles.between_numbers(values, target, held))


def _pieces(names: list[str | None], by: str) -> Iterator[View]:
    for pieces in singles.pieces_of(names):
        if len(set(pieces)) > 1:
            yield _grouped(pieces, by)


def _counts(values: np.ndarray, answers: singles.Target) -> bool:
    """Whether the numbers only grow from row to row and say more than the answers could: the rows' places, or times."""
    known = values[np.isfinite(values)]
    grows = len(known) > 1 and bool((np.diff(known) > 0).all())
    return grows and len(known) > 2 * len(np.unique(answers))


def _sizes(table: Table, cells: Sequence[Any]) -> np.ndarray:
    """Bytes of each cell's file; NaN where there is none."""
    return np.array([_size(table, c) for c in cells], np.float64)


def _size(table: Table, cell: Any) -> float:
    if isinstance(cell, bytes):
        return float(len(cell))
    try:
        return float(path_of(cell, table.root).stat().st_size) if isinstance(cell, str) else np.nan
    except (OSError, ValueError):
        return np.nan


def _numbers(cells: Sequence[Any]) -> np.ndarray:
    def read(cell: Any) -> float:
        try:
            return float(cell)
        except (TypeError, ValueError):
            return np.nan

    values = np.array([read(c) for c in cells], np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _name(cell: Any) -> Json:
    """The cell as what equal cells share."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return None if cell is None else " ".join(sorted(map(str, cell))) if isinstance(cell, list) else str(cell)
