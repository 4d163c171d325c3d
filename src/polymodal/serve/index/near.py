"""The nearest vectors: exactly, or among those that an inverted file of compressed vectors finds likely.

Approximate search is faiss' inverted file (Jégou, Douze and Schmid 2011) with 4 bits for every two numbers, scanned in
registers (André, Kermarrec and Le Scouarnec 2015); the best that it finds are compared exactly. How many lists are
looked into and how many candidates compared is chosen when it is built, by searching for known rows: the cheapest that
finds TARGET of their true ten nearest.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from polymodal.core.catalog import need
from polymodal.core.errors import RunError, saving
from polymodal.core.seeds import generator
from polymodal.serve.index.state import KEPT, NEAR
from polymodal.work.folder import digest, sync_folder

WORTH = 50_000  # rows below which exact search is as good
TAIL = 10_000  # rows that came since, up to which they are compared exactly
GROWN = 4  # times as many rows as it was made of: the lists are chosen anew
AT_ONCE = 1 << 16  # vectors compared at once
FEW = 20_000  # rows that a filter lets pass, up to which they are compared exactly
SAMPLED, TARGET, SOUGHT = 300, 0.997, 10
PROBES, DEPTHS = (8, 16, 32, 64, 128, 256), (100, 200, 400, 800)
PER_LIST, ROUNDS = 64, 10  # vectors that each list is chosen by, and rounds of choosing
Numbers = Int[np.ndarray, " _"]
Scores = Float[np.ndarray, " _"]
Best = tuple[Numbers, Scores]  # rows, and how near they are; best first


class Made(NamedTuple):
    """An approximate index that counts."""

    file: str
    sha256: str
    upto: int  # the number of the first row that is not in it
    rows: int  # rows it was made of
    lists: int
    probes: int  # lists looked into
    depth: int  # candidates compared exactly, for ten hits
    recall: float  # of the ten nearest, as measured when it was built


def exact(vectors: Any, query: Float[np.ndarray, " E"], allowed: Bool[np.ndarray, " n"], k: int,
          begin: int = 0) -> Best:  # fmt: skip
    """The `k` rows, from number `begin` on, of largest dot product among those allowed."""
    size = len(allowed)
    if np.count_nonzero(allowed[begin:]) * 20 < size - begin:
        return among(vectors, query, begin + np.flatnonzero(allowed[begin:]), k)
    best: Best = (np.zeros(0, np.int64), np.zeros(0, np.float32))
    for start in range(begin, size, AT_ONCE):
        stop = min(start + AT_ONCE, size)
        scores = np.where(allowed[start:stop], vectors[start:stop] @ query, np.float32(-np.inf))
        keep = _largest(scores, k)
        best = _merged(best, (start + keep, scores[keep]), k)
    there = np.isfinite(best[1])
    return best[0][there], best[1][there]


def among(vectors: Any, query: Float[np.ndarray, " E"], numbers: Numbers, k: int) -> Best:
    """The `k` of these rows of largest dot product, compared exactly."""
    best: Best = (np.zeros(0, np.int64), np.zeros(0, np.float32))
    for start in range(0, len(numbers), AT_ONCE):
        some = np.sort(numbers[start : start + AT_ONCE])
        scores = vectors[some] @ query
        keep = _largest(scores, k)
        best = _merged(best, (some[keep], scores[keep]), k)
    return best


def _largest(scores: Scores, k: int) -> Numbers:
    return np.argpartition(-scores, k)[:k] if k < len(scores) else np.arange(len(scores))


def _merged(one: Best, two: Best, k: int) -> Best:
    """The `k` best of both, best first; of equals the lower number."""
    numbers, scores = np.concatenate([one[0], two[0]]), np.concatenate([one[1], two[1]])
    order = np.lexsort((numbers, -scores))[:k]
    return numbers[order], scores[order]


class Near:
    """An approximate index, and the vectors it is of."""

    def __init__(self, faiss_index: Any, made: Made) -> None:
        self.index, self.made = faiss_index, made

    @classmethod
    def open(cls, folder: Path, made: Made) -> Near:
        """Raises RunError where the file is not the one that was saved."""
        import faiss

        path = folder / NEAR / made.file
        try:
            sound = digest(path) == made.sha256
        except OSError:
            sound = False
        if not sound:
            raise RunError(str(path), "is not there, or damaged", advice="`polymodal index` makes it anew")
        return cls(faiss.read_index(str(path)), made)

    def search(self, vectors: Any, query: Float[np.ndarray, " E"], allowed: Bool[np.ndarray, " n"],
               k: int) -> Best:  # fmt: skip
        """About the `k` allowed rows of largest dot product; those that are not in the index are compared exactly."""
        upto, passing = self.made.upto, np.count_nonzero(allowed)
        if passing <= max(FEW, k):
            return among(vectors, query, np.flatnonzero(allowed), k)
        share = max(1, np.count_nonzero(allowed[:upto])) / max(1, self.index.ntotal)
        depth = math.ceil(self.made.depth * max(1.0, k / SOUGHT) / share)
        probes = math.ceil(self.made.probes / math.sqrt(share))
        tail = exact(vectors, query, allowed, k, upto)
        while True:
            found = self._candidates(query, depth, probes)
            found = found[allowed[found]]
            if len(found) >= k or probes >= self.made.lists:
                return _merged(among(vectors, query, found, k), tail, k)
            depth, probes = 4 * depth, 4 * probes

    def _candidates(self, query: Float[np.ndarray, " E"], depth: int, probes: int) -> Numbers:
        faiss: Any = importlib.import_module("faiss")
        row = _even(query[None].astype(np.float32))
        how = faiss.SearchParametersIVF(nprobe=min(probes, self.made.lists))
        found = self.index.search(row, min(depth, self.index.ntotal), params=how)[1][0]
        return found[found >= 0]


def make(vectors: Any, alive: Bool[np.ndarray, " n"], queries: Float[np.ndarray, "q E"]) -> Near:
    """An approximate index of the living rows; `queries` choose how hard it searches."""
    need("faiss", "approximate search", "index")
    faiss = importlib.import_module("faiss")
    numbers = np.flatnonzero(alive)
    lists = 2 ** round(math.log2(math.sqrt(len(numbers))))
    width = vectors.shape[1] + vectors.shape[1] % 2
    index = faiss.index_factory(width, f"IVF{lists},PQ{width // 2}x4fs", faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.max_points_per_centroid = ROUNDS, PER_LIST
    mixed = generator(0, "near").permutation(numbers)[: PER_LIST * lists]
    index.train(_even(vectors[np.sort(mixed)])[generator(1, "near").permutation(len(mixed))])
    _add(index, vectors, numbers)
    made = Made("", "", len(alive), len(numbers), lists, PROBES[0], DEPTHS[0], 0.0)
    return tuned(Near(index, made), vectors, alive, queries)


def grown(near: Near, vectors: Any, alive: Bool[np.ndarray, " n"]) -> Near:
    """The same with the rows that came since."""
    upto = near.made.upto
    _add(near.index, vectors, upto + np.flatnonzero(alive[upto:]))
    return Near(near.index, near.made._replace(upto=len(alive)))


def _add(index: Any, vectors: Any, numbers: Numbers) -> None:
    for start in range(0, len(numbers), AT_ONCE):
        some = numbers[start : start + AT_ONCE]
        index.add_with_ids(_even(vectors[some]), some.astype(np.int64))


def _even(vectors: Any) -> Any:
    """With a zero more where the width is odd."""
    whole = np.ascontiguousarray(vectors, np.float32)
    return np.pad(whole, ((0, 0), (0, 1))) if whole.shape[1] % 2 else whole


def tuned(near: Near, vectors: Any, alive: Bool[np.ndarray, " n"], queries: Float[np.ndarray, "q E"]) -> Near:
    """With the fewest lists and candidates that find TARGET of the ten nearest; as hard as can be where none does."""
    truth = [set(numbers.tolist()) for numbers in _nearest(vectors, alive, queries)]
    choices = sorted(product(PROBES, DEPTHS), key=lambda one: _cost(near.made, *one))
    tried = near.made
    for probes, depth in [one for one in choices if one[0] <= near.made.lists]:
        tried = near.made._replace(probes=probes, depth=depth)
        found = [_refined(Near(near.index, tried), vectors, alive, query) for query in queries]
        recall = float(np.mean([len(t & f) / max(1, len(t)) for t, f in zip(truth, found, strict=True)]))
        tried = tried._replace(recall=round(recall, 4))
        if recall >= TARGET:
            break
    return Near(near.index, tried)


def _cost(made: Made, probes: int, depth: int) -> float:
    """About what a search costs: scanning lists of compressed vectors, comparing candidates of the full ones."""
    return probes * made.rows / made.lists + 40 * depth


def _refined(near: Near, vectors: Any, alive: Bool[np.ndarray, " n"], query: Float[np.ndarray, " E"]) -> set[int]:
    found = near._candidates(query, near.made.depth, near.made.probes)
    return set(among(vectors, query, found[alive[found]], SOUGHT)[0].tolist())


def _nearest(vectors: Any, alive: Bool[np.ndarray, " n"], queries: Float[np.ndarray, "q E"]) -> Iterator[Numbers]:
    """The true nearest rows of many queries, in one pass."""
    best = [(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(queries)
    for start in range(0, len(alive), AT_ONCE):
        stop = min(start + AT_ONCE, len(alive))
        scores = np.where(alive[start:stop], queries @ vectors[start:stop].T, np.float32(-np.inf))
        for at, own in enumerate(scores):
            keep = _largest(own, SOUGHT)
            best[at] = _merged(best[at], (start + keep, own[keep]), SOUGHT)
    return (numbers for numbers, _ in best)


def sample(vectors: list[Any], alive: Bool[np.ndarray, " n"], space: int) -> Float[np.ndarray, "q E"]:
    """Queries to be tuned by: stored rows, half of them as another space has them where there is one."""
    numbers = np.sort(generator(2, "near", space).permutation(np.flatnonzero(alive))[:SAMPLED])
    own = np.asarray(vectors[space][numbers])
    others = [at for at in range(len(vectors)) if at != space]
    for turn, at in enumerate(others):
        rows = np.arange(1 + turn, len(numbers), 2 * len(others))
        other = np.asarray(vectors[at][numbers[rows]])
        own[rows] = np.where(np.abs(other).sum(1, keepdims=True) > 0, other, own[rows])
    return own


def save(near: Near, folder: Path, name: str) -> Made:
    """Write it, made to last. The file counts when the state names it."""
    import faiss

    path = folder / NEAR / name
    with saving(path, RunError, KEPT):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            faiss.write_index(near.index, str(path))
        except RuntimeError as error:
            raise OSError(str(error).splitlines()[0]) from None
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        sync_folder(path.parent)
    return near.made._replace(file=name, sha256=digest(path))
