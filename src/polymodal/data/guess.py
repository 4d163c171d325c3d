"""What a column seems to hold, and the blocks of a spec that would read it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image

from polymodal.core.errors import TableError
from polymodal.core.schema import Json
from polymodal.data.cells import path_of
from polymodal.data.over_time import over_time
from polymodal.data.splits import MARKS
from polymodal.data.tables import Table

SAMPLE = 2000  # cells of a column that are looked at
FEW = 20  # distinct whole numbers up to which a target counts as classes
WIDE = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")  # scripts without spaces between words
DATE = re.compile(r"\d{4}[-/]\d{2}[-/]\d{2}([T ]\d{2}:\d{2}.*)?")
NOTHING = {"", "n/a", "na", "null", "none", "nan", "-", "?"}  # words for a missing cell, in any case
LATIN = "\u024f"  # the last Latin letter before other scripts
BOOKKEEPING = {"split", "fold", "index", "column 1", "unnamed: 0"}  # columns that say nothing about a row
TRAINING = {"train", "training"}

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_SOUNDS = (".wav", ".flac", ".ogg", ".mp3")
_CLIPS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
_SERIES = (".csv", ".tsv")


@dataclass(frozen=True)
class Kinds:
    """How the catalogue calls the readers of what cells look like."""

    endings: Mapping[str, str] = field(
        default_factory=lambda: (
            dict.fromkeys(_PICTURES, "image")
            | dict.fromkeys(_SOUNDS, "audio")
            | dict.fromkeys(_CLIPS, "video")
            | dict.fromkeys(_SERIES, "series")
        )
    )
    text: str = "text"
    record: str = "tabular"
    array: str = "image"
    sound: str = "audio"
    clip: str = "video"
    series: str = "series"


KINDS = Kinds()


def sample_of(table: Table, column: str, most: int = SAMPLE) -> list[Any]:
    """Present cells from all over the column."""
    rows = np.unique(np.linspace(0, len(table) - 1, min(most, len(table))).astype(int)).tolist()
    return [cell for row in rows if (cell := table.cell(row, column)) is not None]


def look(table: Table, column: str, kinds: Kinds = KINDS) -> str:
    """What a column of a table looks like; a number that no two rows share, and that counts them, is an `id` too."""
    cells = sample_of(table, column)
    found = looks_like(cells, kinds)
    if found == kinds.array and _animated(table, cells):
        return kinds.clip
    arrays = over_time(table, cells)
    if arrays:
        return kinds.clip if arrays == "clip" else kinds.series
    return "id" if found == "number" and _counts(table, column, cells) else found


def _counts(table: Table, column: str, cells: Sequence[Any]) -> bool:
    """Whether distinct whole numbers fill most of their span, as the numbers of mixed rows do, or are called ids."""
    numbers = [number_of(str(c)) for c in cells]
    whole = [n for n in numbers if n is not None and n == n // 1]
    if len(whole) < len(cells) or len(whole) <= FEW or len(set(whole)) < len(whole):
        return False
    named = column.lower() == "id" or column.endswith(("_id", " id", "Id", "ID"))
    if not named and max(whole) - min(whole) > 1.5 * len(table):
        return False
    present = [c for c in table.column(column) if c is not None]
    return len(set(present)) == len(present)


def looks_like(cells: Sequence[Any], kinds: Kinds = KINDS) -> str:
    """`number`, `category`, `date`, `id`, `list`, `record`, `nothing`, or the name of a reader."""
    if not cells:
        return "nothing"
    first = cells[0]
    if isinstance(first, dict | list):
        return "record" if isinstance(first, dict) else "list"
    if isinstance(first, bytes):
        return _in_bytes(first, kinds)
    if isinstance(first, tuple):
        return kinds.sound
    if not isinstance(first, str | bool | int | float):
        shape: tuple[int, ...] = getattr(first, "shape", (0, 0))
        moving = len(shape) == 4 or (len(shape) == 3 and shape[2] > 4)  # more than colours: it is a width
        return "list" if len(shape) < 2 else kinds.clip if moving else kinds.array
    texts = [t for c in cells if (t := str(c)).strip().casefold() not in NOTHING]
    if not texts:
        return "nothing"
    ended = [kinds.endings.get(PurePath(t).suffix.lower(), "") for t in texts]
    named = max(set(ended), key=ended.count)
    if named and ended.count(named) >= 0.8 * len(ended):
        return named
    return "category" if isinstance(first, bool) else _number_or_words(texts, kinds)


def _in_bytes(content: bytes, kinds: Kinds) -> str:
    """A sound, a clip or a picture, by the first bytes of a file."""
    if content[:4] in (b"fLaC", b"OggS") or content[:3] == b"ID3" or content[8:12] == b"WAVE":
        return kinds.sound
    boxes = content[4:8] == b"ftyp" and content[8:12] not in (b"avif", b"mif1")
    return kinds.clip if boxes or content[:4] == b"\x1aE\xdf\xa3" or content[8:12] == b"AVI " else kinds.array


def _animated(table: Table, cells: Sequence[Any]) -> bool:
    """Whether the cells are paths of GIF files of which the first that is there holds an animation."""
    if not all(isinstance(c, str) and c.lower().endswith(".gif") for c in cells):
        return False
    for cell in cells:
        with suppress(OSError, ValueError, SyntaxError), Image.open(path_of(cell, table.root)) as picture:
            return getattr(picture, "is_animated", False)
    return False


def _number_or_words(texts: list[str], kinds: Kinds) -> str:
    distinct = len(set(texts))
    numbers = [n for t in texts if (n := number_of(t)) is not None]
    if len(numbers) >= 0.95 * len(texts):
        steps = np.diff(np.array(numbers))
        counted = len(numbers) > FEW and distinct == len(texts) and not any(n % 1 for n in numbers)
        return "id" if counted and (steps > 0).all() and len(np.unique(steps)) <= 2 else "number"
    if sum(DATE.fullmatch(t.strip()) is not None for t in texts) >= 0.95 * len(texts):
        return "date"
    words = float(np.mean([len(t.split()) + len(WIDE.findall(t)) / 2 for t in texts]))
    if words >= 3 and distinct > max(0.02 * len(texts), min(FEW, 0.5 * len(texts))):
        return kinds.text
    if distinct <= max(FEW, 0.2 * len(texts)):
        return "category"
    return kinds.text if words >= 1.5 else ("id" if distinct > 0.95 * len(texts) and len(texts) > FEW else "category")


def number_of(text: str) -> float | None:
    """The number that a text is, if it is one."""
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


def guess_inputs(table: Table, targets: str | Collection[str], kinds: Kinds = KINDS,
                 left_out: dict[str, str] | None = None) -> dict[str, Json]:  # fmt: skip
    """A spec's `inputs` for all columns but the targets: files and texts one input each, all others together one.

    Columns that count or name the rows, never change, are empty or say the split or fold are left out; `left_out` is
    told of each, and why. Raises TableError when no column is left.
    """
    blocks: dict[str, Json] = {}
    together: dict[str, str] = {}
    gone: dict[str, str] = {} if left_out is None else left_out
    readers = {*kinds.endings.values(), kinds.text, kinds.array, kinds.sound, kinds.clip, kinds.series}
    split = split_column(table)
    for name in table.columns:
        if name in ({targets} if isinstance(targets, str) else targets):
            continue
        looks = "split" if name == split else "bookkeeping" if name.lower() in BOOKKEEPING else look(table, name, kinds)
        cells = sample_of(table, name) if looks not in WHY else []
        if looks in readers:
            blocks[name] = {"type": looks, "column": name, **_how_to_read(cells, looks, kinds)}
        elif looks in ("number", "category", "date") and len(set(cells)) > 1:
            together[name] = looks
        else:
            gone[name] = WHY.get(looks, "it never changes")
    if together:
        name = next(n for n in ("table", "record", "columns", "_table") if n not in blocks)
        dates = [c for c, looks in together.items() if looks == "date"]
        blocks[name] = {"type": kinds.record, "columns": list(together), **({"dates": dates} if dates else {})}
    if not blocks:
        raise TableError(table.name, "no column could be an input", given=gone or table.columns,
                         advice="name them: inputs=...")  # fmt: skip
    return blocks


WHY = {
    "split": "it says which rows train and which are held out",
    "bookkeeping": "by its name it counts or divides the rows",
    "id": "it names or counts the rows",
    "nothing": "it is empty",
    "list": "it holds lists",
    "record": "it holds records",
}


def _how_to_read(cells: Sequence[Any], looks: str, kinds: Kinds) -> dict[str, Json]:
    """What has to be said besides the type: words for letters that are not Latin; the range of deep pixels."""
    if looks == kinds.text:
        letters = [c for cell in cells[:200] for c in str(cell)[:200] if c.isalpha()]
        return {"tokenizer": "word"} if sum(c > LATIN for c in letters) > 0.3 * len(letters) else {}
    deep = [c for c in cells[:200] if isinstance(c, np.ndarray) and c.size and c.dtype.kind in "iuf"]
    deep = [c for c in deep if c.dtype != np.uint8]
    if looks not in (kinds.array, kinds.clip) or not deep:
        return {}
    low, high = (float(end.reduce([end.reduce(c, axis=None) for c in deep])) for end in (np.fmin, np.fmax))
    return {} if not np.isfinite([low, high]).all() else _range(low, high, deep[0].dtype.kind == "f")


def _range(low: float, high: float, fraction: bool) -> dict[str, Json]:
    """The usual range that these pixels stay in: 0 to 1, 255, 4095 or 65535; otherwise their own."""
    tops = [1.0, 255.0, 4095.0, 65535.0]
    top = next((t for t in tops[0 if fraction else 1 :] if high <= t), None)
    if low < 0 or top is None:
        return {"range": [low, high]} if low < high else {}
    return {} if top == (1.0 if fraction else 65535.0) else {"range": [0.0, top]}


def guess_task(table: Table, target: str) -> Json:
    """A spec's task for this target: regression for numbers of many values, else classification."""
    cells = sample_of(table, target)
    if not cells:
        raise TableError(table.name, f"column {target!r} has no values", advice="the name of the target column")
    if isinstance(cells[0], list | tuple | set | frozenset):
        return {"type": "classify", "column": target, "multi": True}
    cells = [c for c in cells if str(c).strip().casefold() not in NOTHING] or cells
    numbers = [number_of(str(c)) for c in cells if not isinstance(c, bool)]
    known = {n for n in numbers if n is not None}
    many = len(known) > FEW or any(n % 1 for n in known)
    regress = len(numbers) == len(cells) and None not in numbers and many
    return {"type": "regress" if regress else "classify", "column": target}
