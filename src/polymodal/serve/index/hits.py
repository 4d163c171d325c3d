"""What is asked of an index, and what it answers."""

from __future__ import annotations

from typing import NamedTuple

from polymodal.core.schema import Json


class Hit(NamedTuple):
    """A row that was found. `score` is the cosine; the words' BM25 where only words were asked for; of both, the sum
    of reciprocal ranks."""

    id: str
    score: float
    row: dict[str, Json]  # the columns that the index keeps


class Query(NamedTuple):
    """Something that the rows should be like: the cell of an input, or of a column, of the run."""

    input: str
    value: object  # text, a number; for an input of files a path, bytes or a PIL picture
    weight: float = 1.0  # less than nothing: unlike it
