"""Where a ranking has what was looked for: ranks, average precision, nDCG; computed once, weighted many times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from polymodal.tasks.metrics import PerWeighting, Weights, ratio

CLOSE = 1e-6  # similarities that differ by less are a tie: rounding decides nothing
ROOM = 2**22  # similarities held at once
TOP = (1, 5, 10)


class Side(NamedTuple):
    """One input of n rows, in numpy; see `views.View`."""

    vectors: Float[np.ndarray, "n K M E"]
    there: Bool[np.ndarray, "n K M"]
    shown: Int[np.ndarray, "n K"]


class Found(NamedTuple):
    """How every query was answered; a cell that stands in several rows is a query of each."""

    row: Int[np.ndarray, " q"]  # the row it stands in
    rank: Int[np.ndarray, " q"]  # of the first right item, from 1
    precision: Float[np.ndarray, " q"]  # average precision
    gain: Float[np.ndarray, " q"]  # nDCG of the first ten


class _Items(NamedTuple):
    """The distinct contents of one input, and which rows show them."""

    vectors: Float[np.ndarray, "u M E"]
    there: Bool[np.ndarray, "u M"]
    cell_row: Int[np.ndarray, " c"]  # of every present cell: its row,
    cell_item: Int[np.ndarray, " c"]  # and its content


def find(one: Side, two: Side, group: Int[np.ndarray, " n"]) -> Found:
    """Every cell of one input looks for its own among all distinct contents of the other.

    Right is what stands in the same row, in a row that shows the same query, or in a row of the same group. Ties go
    against the query: of equal similarity, right items come last. n rows hold at most n·K queries and items.
    """
    queries, items = _items(one), _items(two)
    labels = _labels(group)
    wanted, offered = _lists(queries, labels, by_item=True), _lists(items, labels, by_item=False)
    count = len(queries.vectors)
    rank, precision, gain = np.zeros(count, np.int64), np.zeros(count), np.zeros(count)
    answered = np.zeros(count, bool)
    for first, scores in _scores(queries, items):
        ordered = np.sort(scores, 1)
        for i, (mine, risen) in enumerate(zip(scores, ordered, strict=True), first):
            right = np.unique(np.concatenate([offered.get(label, _NONE) for label in wanted[i]]))
            if len(right):
                places = _places(mine[right], risen)
                answered[i], rank[i] = True, places[0]
                precision[i], gain[i] = np.mean(np.arange(1, len(places) + 1) / places), _ndcg(places)
    asked = answered[queries.cell_item]
    row, item = queries.cell_row[asked], queries.cell_item[asked]
    return Found(row, rank[item], precision[item], gain[item])


_NONE = np.empty(0, np.int64)


def _items(side: Side) -> _Items:
    row, column = np.nonzero(side.there.any(2))
    _, at, item = np.unique(side.shown[row, column], return_index=True, return_inverse=True)
    return _Items(side.vectors[row[at], column[at]], side.there[row[at], column[at]], row, item)


def _labels(group: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """A number for every row, the same for rows of a group."""
    known = group >= 0
    labels = np.arange(len(group))
    labels[known] = len(group) + np.unique(group[known], return_inverse=True)[1]
    return labels


def _lists(items: _Items, labels: Int[np.ndarray, " n"], by_item: bool) -> dict[int, np.ndarray]:
    """The labels of each item, or the items of each label."""
    pairs = np.unique(np.stack([items.cell_item, labels[items.cell_row]][:: 1 if by_item else -1]), axis=1)
    keys, starts = np.unique(pairs[0], return_index=True)
    return dict(zip(keys.tolist(), np.split(pairs[1], starts[1:]), strict=False))  # nothing is cut into one piece


def _scores(queries: _Items, items: _Items) -> Iterator[tuple[int, Float[np.ndarray, "c u"]]]:
    """Similarities, some queries at a time."""
    tokens, others = queries.vectors.shape[1], items.vectors.shape[1]
    flat = items.vectors.reshape(-1, items.vectors.shape[2]).T
    step = max(1, ROOM // max(1, flat.shape[1] * tokens))
    for first in range(0, len(queries.vectors) if flat.size else 0, step):
        part, there = queries.vectors[first : first + step], queries.there[first : first + step]
        products = part.reshape(len(part) * tokens, -1) @ flat
        if tokens == others == 1:
            yield first, products
            continue
        best = np.where(items.there, products.reshape(len(part), tokens, -1, others), -1.0).max(3)
        yield first, np.einsum("bm,bmu->bu", there / there.sum(1, keepdims=True), best).astype(np.float32)


def _places(right: Float[np.ndarray, " r"], risen: Float[np.ndarray, " u"]) -> Int[np.ndarray, " r"]:
    """The places of the right items, the best first, below all others that are as similar."""
    mine = np.sort(right)
    reached = len(risen) - np.searchsorted(risen, mine - CLOSE)
    among = len(mine) - np.searchsorted(mine, mine - CLOSE)
    return np.arange(1, len(mine) + 1) + (reached - among)[::-1]


def _ndcg(places: Int[np.ndarray, " r"], most: int = 10) -> float:
    """Discounted gain of the first ten against the best that was possible (Järvelin and Kekäläinen 2002)."""
    best = 1 / np.log2(1 + np.arange(1, min(len(places), most) + 1))
    return float((1 / np.log2(1 + places[places <= most])).sum() / best.sum())


def measures(found: Found, rows: int, weights: Weights) -> dict[str, PerWeighting]:
    """`recall_1`, `recall_5`, `recall_10`, `median_rank`, `map`, `ndcg_10`; a query counts as its row does."""
    columns = {**{f"recall_{k}": found.rank <= k for k in TOP}, "map": found.precision, "ndcg_10": found.gain}
    asked = weights @ np.bincount(found.row, minlength=rows)
    means = {n: ratio(weights @ np.bincount(found.row, v, minlength=rows), asked) for n, v in columns.items()}
    recalls = {n: means.pop(n) for n in list(means) if n.startswith("recall")}
    return {**recalls, "median_rank": _median(found, weights), **means}


def _median(found: Found, weights: Weights) -> PerWeighting:
    """The weighted median; the mean of two where it lies between them."""
    middle = np.full(len(weights), np.nan)
    order = np.argsort(found.rank, kind="stable")
    ranks, rows = found.rank[order].astype(np.float64), found.row[order]
    step = max(1, ROOM // max(1, len(rows)))
    for first in range(0, len(weights), step):
        upto = weights[first : first + step, rows].cumsum(1)
        for i, sums in enumerate(upto if len(rows) else (), first):
            if sums[-1] > 0:
                low, high = np.searchsorted(sums, sums[-1] / 2), np.searchsorted(sums, sums[-1] / 2, "right")
                middle[i] = (ranks[low] + ranks[min(high, len(ranks) - 1)]) / 2
    return middle
