"""Answers to questions as targets: what one person or several answered. Free of torch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import ClassVar

import numpy as np

from polymodal.core.clean import clean
from polymodal.core.contracts import Field, Sample
from polymodal.core.errors import BadCell, TableError
from polymodal.core.schema import Positive
from polymodal.tasks.language.vqa import normal
from polymodal.tasks.sentences import ROOM, SMALLEST, packed, texts_in
from polymodal.tasks.targets import UNSEEN, readable

PEOPLE = 10  # answers of a row that are kept at least, as many as VQA has


class Answers:
    """One answer, or those of several people: a text, a list of texts, the JSON of one, or several columns of such.

    Answers that say the same (see `language.vqa.normal`) are one, written as most people wrote it, of equals in short.
    The `most` that most people of the training rows gave, `min_count` of them or more, are the classes; equals come in
    alphabetical order.

    Field: `classes`, the most frequent first; `counts`, the people who gave each; `people`, all who answered a training
    row; `rows`; `references` R and `bytes` C, what is kept of a row for measuring: ten answers or more, if a training
    row has more, and twice as many bytes as the longest. Sample: `class`, int64, of the answer that most people of the
    row gave (the first of equals), -1 when it is none of the classes; `share`, float32 [K], the share of the row's
    people who gave each class; `text`, uint8 [R, C], the answers in UTF-8, zero-padded. A cell without any answer is
    a bad cell.
    """

    files: ClassVar[bool] = False

    def __init__(self, *, most: Positive = 1000, min_count: Positive = 1) -> None:
        self.most, self.min_count = most, min_count
        self._field: Field | None = None
        self._places: dict[str, int] = {}

    @property
    def field(self) -> Field | None:
        return self._field

    @field.setter
    def field(self, field: Field) -> None:
        self._field, self._places = field, {normal(answer): at for at, answer in enumerate(field["classes"])}

    def answers(self, cell: object) -> list[str]:
        """What each person answered. Raises BadCell."""
        given = cell.values() if isinstance(cell, Mapping) else [cell]
        cleaned = [clean(text, "basic") for one in given for text in texts_in(one)]
        found = [text for text in cleaned if normal(text)]
        if not found:
            raise BadCell("holds no answer")
        return found

    def fit(self, cells: Iterable[object]) -> Field:
        """Raises TableError when no cell holds an answer, or no answer is frequent enough."""
        written: defaultdict[str, Counter[str]] = defaultdict(Counter)
        rows, references, room = 0, PEOPLE, SMALLEST
        for found in readable(cells, self.answers):
            for answer in found:
                written[normal(answer)][answer] += 1
            rows, references = rows + 1, max(references, len(found))
            room = max(room, *(ROOM * len(answer.encode()) for answer in found))
        if not rows:
            raise TableError("target", "no training row holds an answer", advice="check the task's column")
        counts = {answer: ways.total() for answer, ways in written.items()}
        enough = [answer for answer, people in counts.items() if people >= self.min_count]
        if not enough:
            raise TableError("target", f"no answer was given by {self.min_count} people", advice="a lower min_count")
        frequent = sorted(enough, key=lambda answer: (-counts[answer], answer))[: self.most]
        self.field = field = {
            "classes": [usual(written[answer]) for answer in frequent],
            "counts": [counts[answer] for answer in frequent], "people": sum(counts.values()), "rows": rows,
            "references": references, "bytes": room,
        }  # fmt: skip
        return field

    def __call__(self, cell: object) -> Sample:
        assert self._field is not None, "fit first"
        sample, found = self.blank(), self.answers(cell)
        counts = Counter(map(normal, found))
        sample["class"] = np.asarray(self._places.get(counts.most_common(1)[0][0], UNSEEN), np.int64)
        for answer, people in counts.items():
            if answer in self._places:
                sample["share"][self._places[answer]] = people / len(found)
        for at, answer in enumerate(found[: self._field["references"]]):
            sample["text"][at] = packed(answer, self._field["bytes"])
        return sample

    def blank(self) -> Sample:
        assert self._field is not None, "fit first"
        return {
            "class": np.asarray(UNSEEN, np.int64),
            "share": np.zeros(len(self._places), np.float32),
            "text": np.zeros((self._field["references"], self._field["bytes"]), np.uint8),
        }


def usual(ways: Counter[str]) -> str:
    """The most frequent way of writing, of equals the shortest, of these the first in the alphabet."""
    return min(ways, key=lambda way: (-ways[way], len(way), way))
