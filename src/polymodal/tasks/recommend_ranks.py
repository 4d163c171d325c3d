"""How high the right item stands among all items of the rows that are measured."""

from __future__ import annotations

import weakref
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from polymodal.core.contracts import Records
from polymodal.tasks import metrics
from polymodal.tasks.metrics import PerWeighting, Weights

AT = (1, 5, 10)
TOP = 10
ENTRIES = 1 << 24  # similarities at once


class Ranks(NamedTuple):
    """Of n rows among M items."""

    rank: Float[np.ndarray, " n"]  # 1 = the right one stands first; those that are as near share their places
    top: Int[np.ndarray, "n top"]  # the ten nearest items, by their places in the catalogue, in no order
    items: int  # M


class Ranked:
    """The ranks of those rows that are `asked`, kept for the last records: a bootstrap wants them over and over."""

    def __init__(self) -> None:
        self._last: tuple[weakref.ref[np.ndarray], Ranks] | None = None

    def __call__(self, records: Records) -> Ranks:
        if self._last is None or self._last[0]() is not records["user"]:
            asked = {name: column[records["asked"]] for name, column in records.items()}
            self._last = weakref.ref(records["user"]), ranks(asked)
        return self._last[1]


def ranks(records: Records) -> Ranks:
    """Every row's right item among the distinct items of the rows, by the cosine to its user's vector.

    Columns `user` and `vector` [n E], `item` [n], and `before` [n H]: items that the user had, which are left out
    (-1: none). The rank is 1 + the number of items that are nearer + half of the others that are as near.
    """
    names, first, own = np.unique(records["item"], return_index=True, return_inverse=True)
    vectors, users, gone = records["vector"][first], records["user"], places(names, records["before"])
    step = max(1, ENTRIES // max(1, len(names)))
    parts = [slice(start, start + step) for start in range(0, max(1, len(users)), step)]
    found = [order(users[rows] @ vectors.T, own[rows], gone[rows]) for rows in parts]
    return Ranks(np.concatenate([rank for rank, _ in found]), np.concatenate([top for _, top in found]), len(names))


def order(
    near: Float[np.ndarray, "n M"], own: Int[np.ndarray, " n"], gone: Int[np.ndarray, "n H"]
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, "n _top"]]:
    """The rank of the item at the place `own` of each row, and the nearest ten, of all but those at `gone`."""
    mine = own[:, None]
    at, which = np.nonzero((gone >= 0) & (gone != mine))
    near = near.copy()
    near[at, gone[at, which]] = -np.inf
    right = np.take_along_axis(near, mine, 1)
    most = min(TOP, near.shape[1])
    top = np.argpartition(-near, most - 1, axis=1)[:, :most] if near.size else np.zeros((len(near), most), np.int64)
    return 0.5 + (near > right).sum(1) + (near == right).sum(1) / 2, top


def places(names: Int[np.ndarray, " M"], wanted: Int[np.ndarray, "n H"]) -> Int[np.ndarray, "n H"]:
    """Where each of `wanted` stands in ascending `names`; -1 where it does not."""
    at = np.searchsorted(names, wanted).clip(max=max(0, len(names) - 1))
    return np.where(names[at] == wanted, at, -1) if len(names) else np.full(wanted.shape, -1)


def measures(found: Ranks, new: Bool[np.ndarray, " n"], weights: Weights) -> dict[str, PerWeighting]:
    """Of one right item per row: recall (hit rate), mean reciprocal rank (which is then also the mean average
    precision), nDCG, the median rank, and the share of the items that stand among anybody's first ten.

    `_new` are those of rows whose item no training row has. Source of nDCG: Järvelin & Kekäläinen, "Cumulated
    gain-based evaluation of IR techniques", ACM TOIS 2002; with one right item it is 1 / log2(1 + rank).
    """
    rank = found.rank
    told = {f"recall_{k}": metrics.mean(rank <= k, weights) for k in AT}
    told |= {
        "mrr": metrics.mean(1 / rank, weights),
        "ndcg_10": metrics.mean(np.where(rank <= TOP, 1 / np.log2(1 + rank), 0.0), weights),
        "median_rank": median(rank, weights),
        "coverage_10": coverage(found, weights),
    }
    fresh = weights * new
    return told | {
        "recall_10_new": metrics.mean(rank <= TOP, fresh),
        "mrr_new": metrics.mean(1 / rank, fresh),
        "new_items": metrics.mean(new, weights),
    }


def median(values: Float[np.ndarray, " n"], weights: Weights) -> PerWeighting:
    """The weighted median; midway where half of the weight lies on each side; NaN without any weight."""
    order = np.argsort(values, kind="stable")
    up_to = weights[:, order].cumsum(1)
    half = up_to[:, -1:] / 2 if len(values) else np.zeros((len(weights), 1))
    if not len(values):
        return np.full(len(weights), np.nan)
    low, high = (up_to >= half).argmax(1), (up_to > half).argmax(1)
    middle = (values[order][low] + values[order][high]) / 2
    return np.where(half[:, 0] > 0, middle, np.nan)


def coverage(found: Ranks, weights: Weights) -> PerWeighting:
    """The share of the items that stand among the first ten of any row. NaN for a weighting that leaves rows out: the
    fewer different rows, the fewer items, so resamples say nothing of it."""
    share = len(np.unique(found.top)) / found.items if found.items else np.nan
    return np.where((weights > 0).all(1), share, np.nan)
