"""Whether a model that answers questions looks at anything but the question.

Three ways to answer the same rows, compared row by row: with all inputs, with the question alone, and with the question
and what belongs to another row. The last is the harder test: a model that never met a row without a picture may fail
without one and still not care which picture it gets.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from polymodal.assemble import Assembly
from polymodal.core.schema import Json
from polymodal.core.spec import Spec
from polymodal.core.streams import Batch, Cells
from polymodal.data.tables import Table
from polymodal.work.beside import limits, signed
from polymodal.work.collect import Change, Collected, Withheld, without
from polymodal.work.evaluation import Evaluation, Measures
from polymodal.work.intervals import intervals, paired
from polymodal.work.words import measure, written


class Asked(NamedTuple):
    """A task that answers questions: the input that asks, and the others, which it should look at."""

    question: str
    others: tuple[str, ...]


def asked(assembly: Assembly) -> dict[str, Asked]:
    """By task; those without a question, and those of which nobody can tell what the question is, are left out."""
    found, inputs = {}, assembly.spec.inputs
    for name, task in assembly.model.tasks.items():
        if hasattr(task, "question"):
            texts = [n for n, one in inputs.items() if one.reader.type == "text"]
            one = task.question or (texts[0] if len(texts) == 1 else None)
            others = tuple(n for n in inputs if n != one)
            if one in inputs and others:
                found[name] = Asked(one, others)
    return found


def changes(assembly: Assembly, withheld: Sequence[Withheld]) -> dict[Hashable, Change]:
    """How else the rows are answered: with each of `withheld` taken away, and as `compare` needs them.

    Nothing besides the rows as they are when nothing is to be withheld.
    """
    made: dict[Hashable, Change] = {w: without(w) for w in withheld}
    for one in asked(assembly).values() if withheld else ():
        made |= {("alone", one): without(one.others), ("strange", one): strange(one.others)}
    return made


def strange(inputs: tuple[str, ...]) -> Change:
    """Batches in which every cell of these inputs has given its place to the next one of the batch.

    What rows share they share afterwards too, and what is missing stays missing. A batch with a single cell of an input
    has no other one to give.
    """

    def moved(cells: Cells) -> Cells:
        there = cells.index >= 0
        return cells._replace(index=torch.where(there, (cells.index + 1) % len(cells.id), cells.index))

    def change(batch: Batch) -> Batch:
        return batch._replace(inputs={n: moved(c) if n in inputs else c for n, c in batch.inputs.items()})

    return change


def compare(assembly: Assembly, table: Table, whole: Collected, changed: Mapping[Any, Collected]) -> dict[str, Json]:
    """By task: the question alone, other rows' inputs, the whole less each with paired intervals, and it in words.

    Rows that have the same cells besides the question, such as all questions about one picture, are drawn together.
    """
    found: dict[str, Json] = {}
    seed = assembly.spec.train.seed
    for name, one in asked(assembly).items():
        if name not in whole.records or not len(whole.rows[name]):
            continue
        task: Any = assembly.model.tasks[name]
        groups = clusters(assembly.spec, table, whole.rows[name], one.others)
        plain: dict[str, Json] = {"question": one.question, "others": list(one.others), "measure": task.metric}
        for kind in ("alone", "strange"):
            rival = changed[kind, one].records[name]
            plain[kind] = intervals(task.measure, rival, seed, clusters=groups)
            plain[f"gain_{kind}"] = paired(task.measure, whole.records[name], rival, seed, clusters=groups)
        full = intervals(task.measure, whole.records[name], seed, draws=0)
        found[name] = plain | verdict(plain, full)
    return found


def clusters(spec: Spec, table: Table, rows: np.ndarray, inputs: tuple[str, ...]) -> np.ndarray | None:
    """Which rows have the same cells in these inputs; None where none do, or where cells cannot be compared."""
    columns = [table.cells(rows, column) for name in inputs for column in spec.inputs[name].columns]
    numbers: dict[tuple[object, ...], int] = {}
    try:
        places = [numbers.setdefault(cells, len(numbers)) for cells in zip(*columns, strict=True)]
    except TypeError:
        return None
    return np.array(places, np.int64) if len(numbers) < len(rows) else None


def verdict(found: Mapping[str, Json], full: Measures) -> dict[str, Json]:
    """`looks`, whether it looks at the other inputs (None where the measure is not defined), and `text`, why."""
    name, others = found["measure"], " and ".join(found["others"])
    gained = [found[f"gain_{kind}"].get(name, {}).get("ci95") for kind in ("alone", "strange")]
    ends: list[list[float]] = [pair for pair in gained if pair and None not in pair]
    if len(ends) < 2:
        return {"looks": None, "text": f"whether it looks at {others} cannot be told from these rows"}
    scores = ", ".join(
        f"{said} {written(value, name)}"
        for said, value in ((f"{measure(name).name} with all inputs", full[name]["value"]),
                            (f"with {found['question']} alone", found["alone"][name]["value"]),
                            (f"with {others} of another row", found["strange"][name]["value"]))
    )  # fmt: skip
    gains = "; ".join(
        f"{said} {_gain(found[f'gain_{kind}'][name], name)}"
        for kind, said in (("alone", "over the question alone"), ("strange", "over another row's"))
    )
    told = f"({scores}; gain {gains})"
    alone, strange = (_sign(pair, name) for pair in ends)
    if alone == 0:
        return {"looks": False, "text": f"it does not look at {others}: {found['question']} alone does as well {told}"}
    if alone < 0:
        return {"looks": False, "text": f"it is misled by {others}: {found['question']} alone does better {told}"}
    if strange <= 0:
        return {"looks": False, "text": f"it does not look at what {others} shows: another row's does as well {told}"}
    return {"looks": True, "text": f"it looks at {others} {told}"}


def warnings(found: Evaluation) -> list[dict[str, Json]]:
    """Of each task that does not look at anything but its question."""
    return [{"kind": "blind", "task": name, "text": f"{name}: {one['text']}"}
            for name, one in found.question.items() if one["looks"] is False]  # fmt: skip


def _sign(ends: Sequence[float], name: str) -> int:
    """1 where the whole is better, -1 where it is worse, 0 where the interval holds 0."""
    low, high = ends
    if low <= 0 <= high:
        return 0
    return 1 if (low > 0) != measure(name).lower else -1


def _gain(found: dict[str, Json], name: str) -> str:
    return f"{signed(found['value'], name)} [{limits(found, name)}]"
