"""What a column seems to hold, and the blocks of a spec that would read it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np

from polymodal.core.errors import TableError
from polymodal.core.schema import Json
from polymodal.data.splits import MARKS
from polymodal.data.tables import Table

SAMPLE = 2000  # cells of a column that are looked at
FEW = 20  # distinct whole numbers up to which a target counts as classes
WIDE = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")  # scripts without spaces between words
BOOKKEEPING = {"split", "fold", "index", "column 1"}  # names of columns that say nothing about a row
TRAINING = {"train", "training"}

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_SOUNDS = (".wav", ".flac", ".ogg", ".mp3")


@dataclass(frozen=True)
class Kinds:
    """How the catalogue calls the readers of what cells look like."""

    endings: Mapping[str, str] = field(
        default_factory=lambda: dict.fromkeys(_PICTURES, "image") | dict.fromkeys(_SOUNDS, "audio")
    )
    text: str = "text"
    record: str = "tabular"
    array: str = "image"
    sound: str = "audio"


KINDS = Kinds()


def sample_of(table: Table, column: str, most: int = SAMPLE) -> list[Any]:
    """Present cells from all over the column."""
    rows = np.unique(np.linspace(0, len(table) - 1, min(most, len(table))).astype(int)).tolist()
    return [cell for row in rows if (cell := table.cell(row, column)) is not None]


def looks_like(cells: Sequence[Any], kinds: Kinds = KINDS) -> str:
    """`number`, `category`, `id`, `list`, `record`, `nothing`, or the name of a reader."""
    if not cells:
        return "nothing"
    first = cells[0]
    if isinstance(first, dict | list):
        return "record" if isinstance(first, dict) else "list"
    if isinstance(first, bytes):
        sound = first[:4] in (b"fLaC", b"OggS") or first[:3] == b"ID3" or first[8:12] == b"WAVE"
        return kinds.sound if sound else kinds.array
    if isinstance(first, tuple):
        return kinds.sound
    if not isinstance(first, str | bool | int | float):
        return kinds.array
    texts = [str(c) for c in cells]
    ended = [kinds.endings.get(PurePath(t).suffix.lower(), "") for t in texts]
    named = max(set(ended), key=ended.count)
    if named and ended.count(named) >= 0.8 * len(ended):
        return named
    return "category" if isinstance(first, bool) else _number_or_words(texts, kinds)


def _number_or_words(texts: list[str], kinds: Kinds) -> str:
    distinct = len(set(texts))
    numbers = [n for t in texts if (n := _number(t)) is not None]
    if len(numbers) >= 0.95 * len(texts):
        steps = np.diff(np.array(numbers))
        counted = len(numbers) > FEW and distinct == len(texts) and not any(n % 1 for n in numbers)
        return "id" if counted and (steps > 0).all() and len(np.unique(steps)) <= 2 else "number"
    words = float(np.mean([len(t.split()) + len(WIDE.findall(t)) / 2 for t in texts]))
    if words >= 3 and distinct > 0.02 * len(texts):
        return kinds.text
    if distinct <= max(FEW, 0.2 * len(texts)):
        return "category"
    return kinds.text if words >= 1.5 else ("id" if distinct > 0.95 * len(texts) and len(texts) > FEW else "category")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def split_column(table: Table) -> str | None:
    """The column whose cells are names of parts (train, valid, test), if there is one."""
    known = TRAINING | MARKS["valid"] | MARKS["test"]
    for name in table.columns:
        found = {c.lower() if isinstance(c, str) else "" for c in sample_of(table, name)}
        if len(found) > 1 and found <= known and found & TRAINING:
            return name
    return None


def guess_inputs(table: Table, target: str, kinds: Kinds = KINDS) -> dict[str, Json]:
    """A spec's `inputs` for all columns but the target: files and texts one input each, numbers and categories one.

    Columns that count the rows, never change, are empty or say the split or fold are left out. Raises TableError
    when no column is left.
    """
    blocks: dict[str, Json] = {}
    together: list[str] = []
    readers = {*kinds.endings.values(), kinds.text, kinds.array, kinds.sound}
    apart = {target, split_column(table)}
    for name in table.columns:
        cells = [] if name in apart or name.lower() in BOOKKEEPING else sample_of(table, name)
        looks = looks_like(cells, kinds)
        if looks in readers:
            blocks[name] = {"type": looks, "column": name}
        elif looks in ("number", "category") and len(set(cells)) > 1:
            together.append(name)
    if together:
        name = next(n for n in ("table", "record", "columns", "_table") if n not in blocks)
        blocks[name] = {"type": kinds.record, "columns": together}
    if not blocks:
        raise TableError(table.name, "no column could be an input", given=table.columns, advice="name them: inputs=...")
    return blocks


def guess_task(table: Table, target: str) -> Json:
    """A spec's task for this target: regression for numbers of many values, else classification."""
    cells = sample_of(table, target)
    if not cells:
        raise TableError(table.name, f"column {target!r} has no values", advice="the name of the target column")
    if isinstance(cells[0], list):
        return {"type": "classify", "column": target, "multi": True}
    numbers = [_number(str(c)) for c in cells if not isinstance(c, bool)]
    known = {n for n in numbers if n is not None}
    many = len(known) > FEW or any(n % 1 for n in known)
    regress = len(numbers) == len(cells) and None not in numbers and many
    return {"type": "regress" if regress else "classify", "column": target}
