"""An index and the run it was made with: what is asked is embedded, weighed and searched for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from polymodal.core.errors import RunError, UserError, suggest
from polymodal.core.schema import Json
from polymodal.serve.index.hits import Hit, Query
from polymodal.serve.index.index import Index
from polymodal.work.embed import Embedder
from polymodal.work.folder import MANIFEST, digest

LIKE, UNLIKE = 0.75, 0.5  # how much rows that are liked and those that are not count beside the queries


class Searcher:
    """Searches an index by what its run's inputs can show; `run` may be left out where rows of the index are enough.

    `run` is a `polymodal.Run`. Raises RunError where it is not the one that the index was made with.
    """

    def __init__(self, run: Any, index: Index) -> None:
        self.run, self.index = run, index
        if run is not None:
            check_run(index, run.folder)
        self._embedder: Embedder | None = getattr(run, "embedder", None)

    @property
    def embedder(self) -> Embedder:
        if self.run is None:
            raise UserError("search", "needs the run to understand what is asked", advice="--run RUN, or --like ID")
        if self._embedder is None:
            self._embedder = Embedder(self.run.assembly, self.run.runtime)
        return self._embedder

    def search(self, queries: Sequence[Query] = (), *, k: int = 10, where: str | None = None,
               words: str | None = None, like: Sequence[str] = (), unlike: Sequence[str] = (), offset: int = 0,
               exact: bool = False, space: str | None = None) -> list[Hit]:  # fmt: skip
        """The rows that are most like the queries together, and like the rows `like`, and less like those `unlike`.

        With unit vectors q, weights w, and the means of the rows' vectors, what is searched for is
        unit(sum w q) + 0.75 mean(like) - 0.5 mean(unlike) (Rocchio 1971). These rows themselves are not among the hits.
        For the rest see `Index.search`. Raises UserError.
        """
        at = self.index.spaces[0] if space is None else space
        vector = self.vector(queries, like, unlike, at)
        return self.index.search(vector, k=k, where=where, words=words, exact=exact, offset=offset, space=at,
                                 without=[*like, *unlike])  # fmt: skip

    def vector(self, queries: Sequence[Query], like: Sequence[str], unlike: Sequence[str],
               space: str) -> Float[np.ndarray, " E"] | None:  # fmt: skip
        """What is searched for; None where nothing is asked that has a vector."""
        found = None
        if queries:
            own = [self._embedded(query, space) for query in queries]
            found = _unit(np.sum([q.weight * v for q, v in zip(queries, own, strict=True)], axis=0), "queries")
        for ids, weight in ((like, LIKE), (unlike, -UNLIKE)):
            if ids:
                mean = self.index.vectors(list(dict.fromkeys(ids)), space).mean(0)
                found = weight * mean if found is None else found + weight * mean
        return None if found is None else _unit(found, "like and unlike")

    def _embedded(self, query: Query, space: str) -> Float[np.ndarray, " E"]:
        if not np.isfinite(query.weight):
            raise UserError("weight", "must be a number", given=query.weight, advice="1.0")
        found = self.embedder.query({query.input: query.value})
        if not found:
            raise UserError("query", "holds nothing that the index knows", given=query.input,
                            advice=f"one of {list(self.embedder.assembly.spec.inputs)}")  # fmt: skip
        chosen = next((name for name in (query.input, space) if name in found), next(iter(found)))
        return _unit(found[chosen].mean(0), "query")


def _unit(vector: Float[np.ndarray, " E"], where: str) -> Float[np.ndarray, " E"]:
    length = float(np.linalg.norm(vector))
    if length < 1e-6:
        raise UserError(where, "cancel each other out: nothing is left to search for", advice="other weights")
    return (vector / length).astype(np.float32)


def identity(folder: Path) -> dict[str, Json]:
    """By what an index knows its run: the sha256 of the manifest, which vouches for everything in the folder."""
    return {"path": str(folder.resolve()), "sha256": digest(folder / MANIFEST)}


def check_run(index: Index, folder: Path) -> None:
    """Raise RunError unless the index was made with this run."""
    wanted = index.about["run"]["sha256"]
    if digest(folder / MANIFEST) != wanted:
        raise RunError(str(folder), "is not the run that the index was made with",
                       advice=f"the run at {index.about['run']['path']}, or index the table with this one")  # fmt: skip


def run_of(index: Index, given: str | None) -> Path:
    """The folder of the run of an index: as given, else where it was. Raises RunError."""
    folder = Path(given if given is not None else index.about["run"]["path"])
    if not (folder / MANIFEST).is_file():
        raise RunError(str(folder), "the run of this index is not there", advice="--run RUN, where it is now")
    check_run(index, folder)
    return folder


def input_of(run: Any, text: str) -> str:
    """The input that a query on the command line is for: of a file's ending, else the only text. Raises UserError."""
    inputs = {name: one.reader.type for name, one in run.spec.inputs.items()}
    kind = KINDS.get(Path(text).suffix.lower()) if Path(text).is_file() else None
    fits = [n for n, type in inputs.items() if type == (kind or "text")]
    if len(fits) != 1:
        problem = "say which input it is for" if fits else "the run has no input for it"
        raise UserError("QUERY", problem, given=text, advice=f"--ask NAME=WHAT, NAME {suggest('', fits or inputs)}")
    return fits[0]


KINDS = {
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".avif"), "image"),
    **dict.fromkeys((".wav", ".flac", ".mp3", ".ogg", ".aiff", ".aif"), "audio"),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv", ".webm"), "video"),
}
