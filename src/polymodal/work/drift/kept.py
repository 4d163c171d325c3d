"""What a run keeps of its rows so that later ones can be compared with them: numbers and words, no cell of the table.

Names and words are chosen on one half of the rows and counted on the other: those that were frequent by luck on the
first are not on the second, nor on the rows that come later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from polymodal.core.schema import Json
from polymodal.core.traits import Names, Numbers, Trait
from polymodal.work import folder as folders
from polymodal.work.drift.survey import Seen
from polymodal.work.drift.vectors import Vectors

FILES = ("drift.json", "drift.safetensors")
FORMAT = 1
BYTES = 150_000  # of numbers, and as many of vectors
MARKS, FEWEST_MARKS = 257, 33  # values that are kept of a trait
COLUMNS = 500  # traits that are kept
VECTORS = 500
NAMED, LONGEST = 3000, 60  # names and words in all; characters of each
RAREST = 20  # words that are kept, by which those that are not are judged


@dataclass(frozen=True)
class KeptNumbers:
    """`marks` stand for `count` numbers in rising order: all of them, or an even selection."""

    count: int
    missing: int
    marks: Float32[np.ndarray, " q"]
    unit: str = ""


@dataclass(frozen=True)
class KeptNames:
    """How many of `count` cells have each name; `rest` have others."""

    count: int
    missing: int
    counts: dict[str, int]
    rest: int


@dataclass(frozen=True)
class KeptWords:
    """In how many of `count` texts each word stands; one that is not listed, in about `rare` of them at most."""

    count: int
    counts: dict[str, int]
    rare: int


Kept = KeptNumbers | KeptNames | KeptWords


@dataclass(frozen=True)
class Column:
    """One column of an input; `states` count its cells that are there, missing and bad."""

    states: dict[str, int]
    traits: dict[str, Kept]


@dataclass(frozen=True)
class Reference:
    """What later rows are compared with: `columns` of training rows, `vectors` and `answers` of validation rows."""

    rows: int
    columns: dict[str, Column]
    vectors: Vectors = field(default_factory=dict)
    answers: dict[str, dict[str, Kept]] = field(default_factory=dict)


def reduce(
    rows: int, seen: Mapping[str, Seen], vectors: Vectors, answers: Mapping[str, Mapping[str, Trait]]
) -> Reference:
    """The reference of what was seen, in a bounded number of bytes however many columns there are."""
    some = max(1, sum(len(s.traits) for s in seen.values()) + sum(map(len, answers.values())))
    kept = _Room(marks=max(FEWEST_MARKS, min(MARKS, BYTES // (4 * some))), named=max(10, NAMED // some), left=COLUMNS)
    columns = {label: Column(one.states, kept.all(one.traits)) for label, one in seen.items()}
    widest = max((v.shape[1] for v in vectors.values()), default=1)
    most = min(VECTORS, max(20, BYTES // (2 * widest * max(1, len(vectors)))))
    return Reference(rows, columns, {name: v[:most] for name, v in vectors.items()},
                     {task: kept.all(traits) for task, traits in answers.items()})  # fmt: skip


@dataclass
class _Room:
    """How much may be kept of each trait."""

    marks: int
    named: int
    left: int

    def all(self, traits: Mapping[str, Trait]) -> dict[str, Kept]:
        found = {}
        for name, trait in list(traits.items())[: max(0, self.left)]:
            found[name] = self.one(trait)
        self.left -= len(found)
        return found

    def one(self, trait: Trait) -> Kept:
        if isinstance(trait, Numbers):
            known = np.sort(trait.values[np.isfinite(trait.values)])
            at = np.arange(len(known))
            if len(known) > self.marks:
                at = ((np.arange(self.marks) + 0.5) * len(known) / self.marks).astype(np.int64)
            return KeptNumbers(len(known), len(trait.values) - len(known), known[at].astype(np.float32), trait.unit)
        if isinstance(trait, Names):
            names = [short(n) for n in trait.values if n is not None]
            listed = _counts(([n] for n in names[::2]), self.named)
            counts = Counter(names[1::2])
            own = {n: counts[n] for n in listed}
            count = len(names[1::2])
            return KeptNames(count, len(trait.values) - len(names), own, count - sum(own.values()))
        halves = trait.values[::2], trait.values[1::2]
        listed = _counts(halves[0], self.named)
        counts = Counter(word for one in halves[1] for word in one)
        last = [counts[word] for word in listed[-RAREST:]] if len(listed) == self.named else []
        return KeptWords(len(halves[1]), {word: counts[word] for word in listed}, round(sum(last) / RAREST) or 1)


def _counts(cells: Iterable[Iterable[str]], most: int) -> list[str]:
    """The most frequent words, ties by the alphabet, of no more than so many characters."""
    counts = Counter(word for cell in cells for word in cell if len(word) <= LONGEST)
    return sorted(counts, key=lambda word: (-counts[word], word))[:most]


def short(name: str) -> str:
    """A name as it is kept."""
    return name[:LONGEST]


def save(folder: Path, kept: Reference) -> None:
    """Write `drift.json` and `drift.safetensors`."""
    tensors: dict[str, torch.Tensor] = {}

    def plain(traits: Mapping[str, Kept]) -> Json:
        return {name: _plain(one, tensors) for name, one in traits.items()}

    found: dict[str, Json] = {"format": FORMAT, "rows": kept.rows}
    found["columns"] = {n: {"states": c.states, "traits": plain(c.traits)} for n, c in kept.columns.items()}
    found["answers"] = {task: plain(traits) for task, traits in kept.answers.items()}
    found["vectors"] = list(kept.vectors)
    for at, vectors in enumerate(kept.vectors.values()):
        tensors[f"vectors/{at}"] = torch.from_numpy(np.ascontiguousarray(vectors)).to(torch.float16)
    tensors["rows"] = torch.tensor(kept.rows)  # no file without a tensor
    folders.write_json(folder / FILES[0], found)
    folders.write_tensors(folder / FILES[1], tensors)


def _plain(one: Kept, tensors: dict[str, torch.Tensor]) -> Json:
    if isinstance(one, KeptNumbers):
        at = f"marks/{len(tensors)}"
        tensors[at] = torch.from_numpy(np.ascontiguousarray(one.marks))
        return {"kind": "numbers", "count": one.count, "missing": one.missing, "unit": one.unit, "marks": at}
    if isinstance(one, KeptNames):
        return {"kind": "names", "count": one.count, "missing": one.missing, "counts": one.counts, "rest": one.rest}
    return {"kind": "words", "count": one.count, "counts": one.counts, "rare": one.rare}


def load(folder: Path) -> Reference | None:
    """What `save` wrote; None for a run without it, such as an older one. Raises RunError when it was changed."""
    digests = folders.manifest(folder)["files"]
    if not all(name in digests and (folder / name).is_file() for name in FILES):
        return None
    found = folders.read_json(folder / FILES[0], digests[FILES[0]])
    if found["format"] != FORMAT:
        return None
    tensors = {n: t.float().numpy() for n, t in folders.read_tensors(folder / FILES[1], digests[FILES[1]]).items()}

    def traits(plain: Mapping[str, Any]) -> dict[str, Kept]:
        return {name: _restored(one, tensors) for name, one in plain.items()}

    columns = {n: Column(c["states"], traits(c["traits"])) for n, c in found["columns"].items()}
    vectors = {name: tensors[f"vectors/{at}"] for at, name in enumerate(found["vectors"])}
    return Reference(found["rows"], columns, vectors, {t: traits(one) for t, one in found["answers"].items()})


def _restored(one: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Kept:
    if one["kind"] == "numbers":
        return KeptNumbers(one["count"], one["missing"], tensors[one["marks"]], one["unit"])
    if one["kind"] == "names":
        return KeptNames(one["count"], one["missing"], one["counts"], one["rest"])
    return KeptWords(one["count"], one["counts"], one["rare"])


def names_of(kept: Mapping[str, Kept]) -> dict[str, Trait]:
    """Empty traits of the same kinds, which say of later rows what is to be measured."""
    empty: Sequence[Any] = ()
    return {
        n: Names([]) if isinstance(one, KeptNames) else Numbers(np.array(empty, np.float64)) for n, one in kept.items()
    }
