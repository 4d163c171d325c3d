"""Where the rows of an index are kept: in a folder, or in Qdrant. What both can do."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from polymodal.core.schema import Json
from polymodal.data.digests import Digests
from polymodal.serve.index.filters import Filter

Key = Hashable  # names a row inside its place


class Rows(NamedTuple):
    """Rows to be written. A row takes the place of the one that has its id."""

    ids: list[str]
    digests: Int[np.ndarray, " n"]  # of what they were made from
    vectors: list[Float[np.ndarray, "n E"]]  # by space; of length 1, zeros where there is none
    cells: list[list[Json]]  # by column, [n] each
    previews: list[list[bytes | None]]  # by picture column, [n] each
    words: list[str]  # as `words.stored` gives them

    @property
    def has(self) -> list[Bool[np.ndarray, " n"]]:
        """By space, which rows have a vector."""
        return [np.asarray(v.any(1)) for v in self.vectors]


class Gone(Exception):
    """A row that a search had just found is there no more."""


class Found(NamedTuple):
    key: Key
    score: float


@runtime_checkable
class Place(Protocol):
    """`about` says what it holds: run, spaces, width, key, columns, pictures, words, count, store."""

    @property
    def about(self) -> dict[str, Json]: ...

    def nearest(
        self, space: int, vector: Float[np.ndarray, " E"], k: int, wanted: Filter | None, *, exact: bool = False
    ) -> list[Found]: ...  # by cosine, best first
    def worded(self, words: list[str], k: int, wanted: Filter | None) -> list[Found]: ...  # best first
    def some(self, k: int, wanted: Filter | None) -> list[Key]: ...  # in the order of the place
    def keys(self, ids: Sequence[str]) -> list[Key | None]: ...
    def shown(self, keys: Sequence[Key]) -> list[tuple[str, dict[str, Json]]]: ...  # ids and kept columns
    def vectors(self, keys: Sequence[Key], space: int) -> Float[np.ndarray, "n E"]: ...
    def preview(self, key: Key, picture: int) -> bytes | None: ...
    def ids(self) -> Iterator[str]: ...

    def known(self) -> Digests: ...  # id's digest -> the row's
    def put(self, rows: Rows, *, fresh: bool) -> None: ...  # lasts when it returns; `fresh`: none of the ids is there
    def delete(self, ids: Sequence[str]) -> int: ...  # how many were there
    def finish(self) -> None: ...  # whatever makes searching fast
