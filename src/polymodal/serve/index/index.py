"""The index as people see it: search by vector, by words, by both, among rows that pass a filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from polymodal.core.errors import UserError, suggest
from polymodal.core.schema import Json
from polymodal.serve.index import filters
from polymodal.serve.index.hits import Hit
from polymodal.serve.index.place import Found, Gone, Key, Place
from polymodal.serve.index.words import asked

AMONG = 100  # rows of each kind of match, at least, that are joined
SOON = 60  # softens the first ranks (Cormack, Clarke and Büttcher 2009)
MOST = 10_000  # hits at once
TRIES = 5


class Index:
    """Rows that can be found.

    Open one with `polymodal.open_index`; make or change one with `Run.index` or `polymodal index`.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        about = place.about
        self.spaces: list[str] = list(about["spaces"])
        self.columns: dict[str, str] = {one["name"]: one["type"] for one in about["columns"]}
        self.width = int(about["width"])

    @property
    def about(self) -> dict[str, Json]:
        """What the index is, as plain JSON; `count` is the number of rows now."""
        return self.place.about

    def __len__(self) -> int:
        return int(self.about["count"])

    def __repr__(self) -> str:
        return f"Index({len(self)} rows, spaces={self.spaces}, columns={list(self.columns)})"

    def search(self, vector: Float[np.ndarray, " E"] | Sequence[float] | None = None, *, k: int = 10,
               where: str | None = None, words: str | None = None, exact: bool = False, offset: int = 0,
               space: str | None = None, without: Sequence[str] = ()) -> list[Hit]:  # fmt: skip
        """The `k` rows, after the first `offset`, that are most like `vector`, and have these `words`; best first.

        `where` lets only rows pass that suit it, see `filters`; with nothing else they come in the order of writing.
        With a vector and words both lists are joined by reciprocal rank: the score is the sum of 1 / (60 + rank).
        `exact` compares all vectors. `space` is one of `spaces`, the first when not given. `without`: ids to be left
        out. Raises UserError.
        """
        self._check(k, offset)
        self._space(space)
        for _ in range(TRIES):
            try:
                return self._search(vector, k, where, words, exact, offset, space, without)
            except Gone:  # another process wrote between the steps
                continue
        raise UserError("search", "the index is being changed too fast to be searched", advice="try again")

    def _search(self, vector: Any, k: int, where: str | None, words: str | None, exact: bool, offset: int,
                space: str | None, without: Sequence[str]) -> list[Hit]:  # fmt: skip
        wanted = None if where is None or not where.strip() else filters.parse(where, self.columns)
        more = k + offset + len(without)
        said = None if words is None or not words.strip() else asked(words)
        lists: list[list[Found]] = []
        deep = more if vector is None or said is None else max(AMONG, 5 * more)
        if vector is not None:
            at = self._space(space)
            lists.append(self.place.nearest(at, self._unit(vector), deep, wanted, exact=exact))
        if said is not None:
            lists.append(self.place.worded(said, deep, wanted))
        found = _joined(lists) if lists else [Found(key, 0.0) for key in self.place.some(more, wanted)]
        gone = set(self.place.keys(list(without))) if without else set()
        kept = [one for one in found if one.key not in gone][offset : offset + k]
        shown = self.place.shown([one.key for one in kept])
        return [Hit(id, one.score, row) for one, (id, row) in zip(kept, shown, strict=True)]

    def rows(self, ids: Sequence[str]) -> list[dict[str, Json]]:
        """The kept columns of these rows. Raises UserError for an id that is not there."""
        return [row for _, row in self.place.shown(self._keys(ids))]

    def vectors(self, ids: Sequence[str], space: str | None = None) -> Float[np.ndarray, "n E"]:
        """Of length 1; zeros for a row that holds nothing in this space. Raises UserError for an unknown id."""
        return self.place.vectors(self._keys(ids), self._space(space))

    def has(self, ids: Sequence[str]) -> list[bool]:
        """Which of these are there."""
        return [key is not None for key in self.place.keys(list(ids))]

    def preview(self, id: str, column: str) -> bytes | None:
        """A JPEG of at most 256 pixels a side of a picture column; None where the row has none. Raises UserError."""
        pictures = self.about["pictures"]
        if column not in pictures:
            raise UserError("preview", "the index keeps no pictures of this name", given=column,
                            advice=suggest(column, pictures))  # fmt: skip
        return self.place.preview(self._keys([id])[0], pictures.index(column))

    def delete(self, ids: Sequence[str]) -> int:
        """Take rows out; those that are not there are passed over. Returns how many were."""
        return writing(self.place, lambda place: place.delete(list(ids)))

    def _keys(self, ids: Sequence[str]) -> list[Key]:
        found = []
        for one, key in zip(ids, self.place.keys(list(ids)), strict=True):
            if key is None:
                raise UserError("id", "no row of the index has it", given=one, advice="an id as a search gives it")
            found.append(key)
        return found

    def _space(self, name: str | None) -> int:
        if name is not None and name not in self.spaces:
            raise UserError("in", "the index holds nothing of this name", given=name, advice=suggest(name, self.spaces))
        return 0 if name is None else self.spaces.index(name)

    def _unit(self, vector: Float[np.ndarray, " E"] | Sequence[float]) -> Float[np.ndarray, " E"]:
        found = np.asarray(vector, np.float32)
        if found.shape != (self.width,) or not np.isfinite(found).all():
            raise UserError("vector", f"must be {self.width} finite numbers", given=list(found.shape),
                            advice="one of the run that the index was made with")  # fmt: skip
        length = float(np.linalg.norm(found))
        if not length:
            raise UserError("vector", "has no direction: it is zero", advice="other queries or weights")
        return found / np.float32(length)

    def _check(self, k: int, offset: int) -> None:
        if not 1 <= k <= MOST or not 0 <= offset <= MOST:
            raise UserError("k", f"1 to {MOST} rows can be asked for, after 0 to {MOST} others", given=[k, offset],
                            advice="k=10, offset=0")  # fmt: skip


def _joined(lists: list[list[Found]]) -> list[Found]:
    """One list as it is; of several the rows of all, by the sum of 1 / (SOON + rank)."""
    if len(lists) == 1:
        return lists[0]
    scores: dict[Key, float] = {}
    for found in lists:
        for rank, one in enumerate(found, 1):
            scores[one.key] = scores.get(one.key, 0.0) + 1 / (SOON + rank)
    return [Found(*one) for one in sorted(scores.items(), key=lambda one: -one[1])]


def writing(place: Any, write: Callable[[Any], Any]) -> Any:
    """Let `write` change a place: alone, from where it stood, and made fast to search again in the end."""
    from polymodal.serve.index.lance import LancePlace
    from polymodal.serve.index.state import locked

    if not isinstance(place, LancePlace):
        found = write(place)
        place.finish()
        return found
    with locked(place.folder):
        place.begin()
        found = write(place)
        place.finish()
    return found


def open_index(where: str | Path) -> Index:
    """The index in a folder, or in a Qdrant collection, `qdrant://host:6333/name`. Raises UserError."""
    return Index(open_place(where))


def open_place(where: str | Path, about: Mapping[str, Json] | None = None) -> Any:
    """Where an index is; with `about` it is made when it is not there yet."""
    if str(where).startswith(("qdrant://", "qdrants://")):
        from polymodal.serve.index.qdrant import QdrantPlace

        return QdrantPlace.open(str(where), about)
    from polymodal.serve.index.lance import LancePlace
    from polymodal.serve.index.state import NAME

    folder = Path(where).expanduser()
    if about is not None and not (folder / NAME).is_file():
        return LancePlace.create(folder, dict(about))
    return LancePlace(folder)
