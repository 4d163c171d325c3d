"""Which items a user may want next: the nearest ones to what the user had, in a table or in an index."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float

from polymodal.core.errors import RunError, TableError, UserError
from polymodal.core.schema import Json
from polymodal.data.histories import Names, latest
from polymodal.data.ledger import Ledger
from polymodal.data.splits import Part, cell_names
from polymodal.data.tables import Table
from polymodal.work.embed import Embedder

ITEM, USER = "item", "user"
AT_ONCE = 1024  # users whose items are searched together
USUAL = Names()
Step = Callable[[int], None]


@runtime_checkable
class Index(Protocol):
    """What is needed of an index of items: see `polymodal.serve.index`."""

    def search(
        self, vector: Any = None, *, k: int = 10, space: str | None = None, without: Sequence[str] = ()
    ) -> Sequence[Any]: ...  # hits with `id` and `score`
    def has(self, ids: Sequence[str]) -> list[bool]: ...
    def vectors(self, ids: Sequence[str], space: str | None = None) -> np.ndarray: ...  # [n E]


class Users(NamedTuple):
    """Users to be recommended something."""

    names: list[Json]  # as the table has them; None where it has no such column
    vectors: Float[np.ndarray, "n E"]
    had: list[list[str]]  # the items of each, by name


class Items(NamedTuple):
    """Items that can be recommended, by name."""

    names: np.ndarray
    vectors: Float[np.ndarray, "M E"]

    def of(self, wanted: list[list[str]], keep: int) -> tuple[Float[np.ndarray, "n H E"], Bool[np.ndarray, "n H"]]:
        """The vectors of lists of items, and which there are; items that are not known are passed over."""
        place = {name: at for at, name in enumerate(self.names.tolist())}
        known = [[place[name] for name in names if name in place][:keep] for names in wanted]
        present = np.arange(keep) < np.array([len(one) for one in known])[:, None]
        at = np.zeros(present.shape, np.int64)
        at[present] = [p for one in known for p in one]
        found = np.zeros((*present.shape, self.vectors.shape[1]), np.float32)
        found[present] = self.vectors[at[present]]
        return found, present


def recommend(
    embedder: Embedder, history: Table, items: Table | None = None, index: Index | None = None, *, k: int = 10,
    names: Names = USUAL, again: bool = False, ledger: Ledger | None = None, step: Step | None = None,
) -> Iterator[dict[str, Json]]:  # fmt: skip
    """`row`, `user`, `rank` (from 1), `item` and `score`, the cosine: the `k` nearest items of every user, in order.

    `history` has rows as `histories` makes them (columns such as `before_1.photo`), each for a user; or interactions
    with the columns `names`, of which every user's latest count. Items come from a table, with a column `names.item`,
    or from an index of the run's space `item`. Unless `again`, items of the history are not recommended. Raises
    UserError and TableError.
    """
    task = _task(embedder)
    if (items is None) == (index is None):
        raise UserError("recommend", "needs the items, as a table or as an index", advice="--items TABLE, --index DIR")
    ledger = Ledger() if ledger is None else ledger
    known = None if items is None else embed_items(embedder, items, names.item, ledger, step)
    if set(embedder.columns[USER]) & set(history.columns):
        users = _from_rows(embedder, history, names, task.columns - 1, ledger)
    else:
        users = _from_takes(task, history, names, known, index)
    for start in range(0, len(users.vectors), AT_ONCE):
        some = range(start, min(start + AT_ONCE, len(users.vectors)))
        gone = [set() if again else set(users.had[at]) for at in some]
        found = _nearest(known, users.vectors[start : some.stop], gone, k) if known else (
            _searched(index, users.vectors[at], had, k) for at, had in zip(some, gone, strict=True)
        )  # fmt: skip
        for row, hits in zip(some, found, strict=True):
            for rank, (name, score) in enumerate(hits, 1):
                yield {"row": row, "user": users.names[row], "rank": rank, "item": name, "score": score}


def _task(embedder: Embedder) -> Any:
    if not {ITEM, USER} <= set(embedder.names):
        raise RunError("recommend", "the run has no task that recommends", given=list(embedder.names),
                       advice="tasks: {next: {type: recommend, column: item}}")  # fmt: skip
    return embedder.embeds


def embed_items(embedder: Embedder, items: Table, column: str, ledger: Ledger, step: Step | None = None) -> Items:
    """The vectors of a table's items; those of which nothing can be read are left out. Raises TableError."""
    items.need([column], "recommend")
    found, names = [], cell_names(items, column).astype(str)
    kept = np.zeros(len(items), bool)
    for lot in embedder.rows(Part(items, np.arange(len(items))), ledger, names=(ITEM,), step=step):
        there = lot.present[ITEM][:, 0] & (names[lot.rows] != "")
        kept[lot.rows] = there
        found.append(lot.vectors[ITEM][there, 0])
    if not kept.any():
        raise TableError(items.name, "has no item that can be read", advice=f"columns {list(embedder.columns[ITEM])}")
    return Items(names[kept], np.concatenate(found))


def _from_rows(embedder: Embedder, history: Table, names: Names, keep: int, ledger: Ledger) -> Users:
    """Users by rows that show what they had."""
    lots = embedder.rows(Part(history, np.arange(len(history))), ledger, names=(USER,))
    vectors = np.concatenate([lot.vectors[USER][:, 0] for lot in lots])
    columns = [c for k in range(1, keep + 1) if (c := f"before_{k}.{names.item}") in history.columns]
    had = [[name for name in row if name] for row in zip(*(cell_names(history, c) for c in columns), strict=True)]
    who = history.column(names.user) if names.user in history.columns else [None] * len(history)
    return Users(who, vectors, had or [[]] * len(history))


def _from_takes(task: Any, history: Table, names: Names, known: Items | None, index: Index | None) -> Users:
    """Users by their latest interactions, whose items' vectors are there already."""
    if task.about:
        raise UserError("--history", "must be rows as `polymodal histories` makes them: the run is told of its users",
                        given=list(task.about), advice="polymodal histories ... --out rows.csv")  # fmt: skip
    keep = task.columns - 1
    users, had = latest(history, names, keep=keep)
    if known is None and index is not None:
        wanted = sorted({name for one in had for name in one})
        there = [name for name, is_there in zip(wanted, index.has(wanted), strict=True) if is_there]
        vectors = index.vectors(there, ITEM) if there else np.zeros((0, task.dim))
        known = Items(np.array(there, str), np.asarray(vectors, np.float32))
    assert known is not None
    items, present = known.of(had, keep)
    device = task.learned.weight.device
    with torch.inference_mode():
        vectors = task.users(torch.from_numpy(items).to(device), torch.from_numpy(present).to(device))
    return Users(users, vectors.cpu().numpy(), had)


def _nearest(
    items: Items, users: Float[np.ndarray, "b E"], gone: list[set[str]], k: int
) -> Iterator[list[tuple[str, float]]]:
    """Each user's nearest items, by all products."""
    place = {name: at for at, name in enumerate(items.names.tolist())}
    for near, had in zip(users @ items.vectors.T, gone, strict=True):
        near[[place[name] for name in had if name in place]] = -np.inf
        most = min(k, int((near > -np.inf).sum()))
        first = np.argpartition(-near, most - 1)[:most] if most else np.zeros(0, np.int64)
        first = first[np.lexsort((first, -near[first]))]
        yield [(str(items.names[at]), float(near[at])) for at in first.tolist()]


def _searched(index: Any, user: Float[np.ndarray, " E"], gone: set[str], k: int) -> list[tuple[str, float]]:
    return [(str(hit.id), float(hit.score)) for hit in index.search(user, k=k, space=ITEM, without=sorted(gone))]
