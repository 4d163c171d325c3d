"""The loader: every row once, in an order made of (seed, epoch); workers and processes change nothing."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polymodal.core.errors import TableError
from polymodal.core.streams import Batch
from polymodal.data.cache import Cache
from polymodal.data.dataset import Dataset, InputPlan, TargetPlan
from polymodal.data.ledger import Ledger
from polymodal.data.loader import Loader
from polymodal.data.splits import Part
from polymodal.data.tables import open_table


def make(small: Any, tmp_path: Path, rows: int = 37, *, lengths: bool = True, bad: frozenset[int] = frozenset(),
         **more: Any) -> Dataset:  # fmt: skip
    (tmp_path / "f.bin").write_bytes(b"abcdef")
    texts = ["!" if i in bad else "x" * (i * 7 % 11 + 1 if lengths else 3) + str(i) for i in range(rows)]
    table = open_table({"file": ["f.bin"] * rows, "text": texts, "y": list(range(rows))}, root=tmp_path)
    inputs = {"f": InputPlan(small.Bytes(augments=True), ("file",)), "t": InputPlan(small.Letters(), ("text",))}
    targets = {"y": TargetPlan(small.Number(), ("y",))}
    return Dataset(Part(table, np.arange(rows)), inputs, targets, ledger=Ledger(), **more)


def make_loader(dataset: Dataset, **more: Any) -> Loader:
    return Loader(dataset, **{"batch": 4, "seed": 1, "shuffle": True, "augment": True, **more})


def numbers(step: list) -> list[list[int]]:
    return [[] if batch is None else [r.number for r in batch.rows] for batch, _ in step]


def same(one: Batch | None, two: Batch | None) -> bool:
    if one is None or two is None:
        return one is two
    flat = [
        [*(x for c in b.inputs.values() for x in (*c.data.values(), c.index, c.id)),
         *(x for t in b.targets.values() for x in (*t.data.values(), t.present)), b.key]
        for b in (one, two)
    ]  # fmt: skip
    return one.rows == two.rows and all(torch.equal(a, b) for a, b in zip(*flat, strict=True))


@pytest.mark.parametrize("buckets", [False, True])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("rows", [3, 37, 300])
def test_every_row_once_per_epoch(small: Any, tmp_path: Path, buckets: bool, accumulate: int, rows: int) -> None:
    loader = make_loader(make(small, tmp_path, rows), buckets=buckets, accumulate=accumulate)
    orders = []
    for epoch in range(3):
        steps = list(loader.epoch(epoch))
        assert len(steps) == loader.steps == -(-rows // (4 * accumulate))
        assert all(len(s) == accumulate for s in steps[:-1])
        micro = [n for s in steps for n in numbers(s)]
        assert all(len(n) == 4 for n in micro[:-1])
        order = [r for n in micro for r in n]
        assert sorted(order) == list(range(rows))
        orders.append(order)
        assert order == [r for s in loader.epoch(epoch) for n in numbers(s) for r in n]
    assert orders[0] != orders[1] != orders[2]


def test_without_shuffling_the_order_is_kept(small: Any, tmp_path: Path) -> None:
    loader = make_loader(make(small, tmp_path), shuffle=False)
    for epoch in (0, 5):
        assert [r for s in loader.epoch(epoch) for n in numbers(s) for r in n] == list(range(37))


def test_buckets_hold_rows_of_like_cost(small: Any, tmp_path: Path) -> None:
    dataset = make(small, tmp_path, 1200)
    cost = dataset.costs()

    def waste(buckets: bool) -> float:
        batches = [n for s in make_loader(dataset, buckets=buckets).epoch(0) for n in numbers(s)]
        return sum(max(cost[n]) * len(n) for n in batches) / sum(cost)

    assert waste(True) < 1.1 < 1.3 < waste(False)
    even = make_loader(make(small, tmp_path, 9, lengths=False))  # all of one length: nothing to sort
    assert even.order(0)[0].tolist() == make_loader(even.dataset, buckets=False).order(0)[0].tolist()
    means = [cost[n].mean() for s in make_loader(dataset).epoch(0) for n in numbers(s)]
    assert (np.diff(means) < 0).mean() > 0.3  # batches are mixed again


def test_workers_change_nothing(small: Any, tmp_path: Path) -> None:
    dataset = make(small, tmp_path, bad=frozenset({2, 9}), drop=0.3)
    plain = list(make_loader(dataset, accumulate=2).epoch(3))
    torch_state, numpy_state = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    for cache in (None, Cache(1)):
        fresh = make(small, tmp_path, bad=frozenset({2, 9}), drop=0.3, cache=cache)
        for workers in (1, 2):
            found = list(make_loader(fresh, accumulate=2, workers=workers).epoch(3))
            assert [numbers(s) for s in found] == [numbers(s) for s in plain]
            for one, two in zip(plain, found, strict=True):
                assert all(same(a, b) and e == f for (a, e), (b, f) in zip(one, two, strict=True))
    assert torch.equal(torch_state, torch.get_rng_state())
    assert numpy_state == str(np.random.get_state())  # noqa: NPY002
    assert sum(len(e) for s in plain for _, e in s) == 2
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_in_the_middle(small: Any, tmp_path: Path, workers: int) -> None:
    dataset = make(small, tmp_path)
    loader = make_loader(dataset, accumulate=2, workers=workers)
    whole = list(loader.epoch(1))
    for start in (0, 1, 3, 5):
        before = dataset.inputs["t"].reader.reads
        rest = list(loader.epoch(1, start))
        assert len(rest) == len(whole) - start
        for one, two in zip(whole[start:], rest, strict=True):
            assert all(same(a, b) for (a, _), (b, _) in zip(one, two, strict=True))
        if not workers:  # nothing before the start is read
            assert dataset.inputs["t"].reader.reads - before == sum(len(n) for s in rest for n in numbers(s))


def test_processes_share_every_micro_batch(small: Any, tmp_path: Path) -> None:
    dataset = make(small, tmp_path, 33)
    whole = [n for s in make_loader(dataset).epoch(0) for n in numbers(s)]
    shares = [[b for s in make_loader(dataset, rank=r, world=2).epoch(0) for b, _ in s] for r in (0, 1)]
    for number, rows in enumerate(whole):
        mine, theirs = shares[0][number], shares[1][number]
        assert [r.number for r in mine.rows] == rows[0::2]
        if len(rows) > 1:
            assert [r.number for r in theirs.rows] == rows[1::2]
            assert theirs.targets["y"].present.all()
        else:
            assert [r.number for r in theirs.rows] == rows
            assert not theirs.targets["y"].present.any()
    assert len(whole[-1]) == 1


def test_leaving_early_ends_the_workers(small: Any, tmp_path: Path) -> None:
    steps = make_loader(make(small, tmp_path, 300), workers=2).epoch(0)
    next(steps)
    assert len(multiprocessing.active_children()) == 2
    steps.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_keep_their_type(small: Any, tmp_path: Path, workers: int) -> None:
    dataset = make(small, tmp_path, bad=frozenset({5}), on_bad="fail")
    with pytest.raises(TableError, match="1 bad cells in 1 rows") as caught:
        list(make_loader(dataset, workers=workers).epoch(0))
    assert caught.value.where == "dict"
    assert "on_bad" in caught.value.advice

    class Broken(small.Letters):  # type: ignore[name-defined,misc]
        def decode(self, cell: Any) -> dict:
            raise KeyError("a mistake in a reader")

    dataset = Dataset(Part(dataset.table, np.arange(9)), {"t": InputPlan(Broken(), ("text",))}, {}, ledger=Ledger())
    with pytest.raises(KeyError, match="a mistake in a reader"):
        list(make_loader(dataset, workers=workers).epoch(0))
    assert not multiprocessing.active_children()


def test_no_workers_where_all_is_cached(small: Any, tmp_path: Path) -> None:
    dataset = make(small, tmp_path, cache=Cache(1))
    dataset.scan()
    steps = make_loader(dataset, workers=2).epoch(0)  # augments: there is work to do
    next(steps)
    assert multiprocessing.active_children()
    steps.close()  # type: ignore[attr-defined]
