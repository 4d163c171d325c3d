"""Batches of a dataset in an order that is a function of (seed, epoch), for any number of workers and processes."""

from __future__ import annotations

import math
import signal
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from polymodal.core.errors import UserError
from polymodal.core.seeds import derive, generator
from polymodal.core.streams import Batch
from polymodal.data.dataset import Dataset
from polymodal.data.ledger import Entry

Loaded = tuple[Batch | None, list[Entry]]
SPAN = 64  # batches among which rows of like length are sorted together, at most


class Loader:
    """Micro-batches of a dataset's rows, grouped by optimiser step.

    A global micro-batch holds `batch` rows; process `rank` of `world` loads every world-th of them. With `shuffle` and
    `buckets`, rows of like cost share a batch where costs differ. `workers` are processes that load ahead; their number
    changes no batch.
    """

    def __init__(self, dataset: Dataset, *, batch: int, seed: int, shuffle: bool, augment: bool, buckets: bool = True,
                 workers: int = 0, accumulate: int = 1, rank: int = 0, world: int = 1) -> None:  # fmt: skip
        self.dataset, self.batch, self.seed, self.shuffle, self.augment = dataset, batch, seed, shuffle, augment
        self.workers, self.accumulate, self.rank, self.world = workers, accumulate, rank, world
        self._rows = dataset.rows
        costs = dataset.costs() if shuffle and buckets else np.zeros(0)
        self._costs = costs if len(np.unique(costs)) > 1 else None

    @property
    def steps(self) -> int:
        """Optimiser steps in an epoch."""
        return math.ceil(len(self._rows) / (self.batch * self.accumulate))

    def __len__(self) -> int:
        return self.steps

    def order(self, epoch: int) -> list[np.ndarray]:
        """The row numbers of every global micro-batch, in order: a function of (seed, epoch) alone."""
        if not self.shuffle:
            return self._cut(self._rows)
        rng = generator(self.seed, "order", epoch)
        mixed = rng.permutation(len(self._rows))
        if self._costs is None:
            return self._cut(self._rows[mixed])
        full = len(mixed) // self.batch
        span = self.batch * max(1, min(SPAN, full // 4))
        whole, rest = mixed[: full * self.batch], mixed[full * self.batch :]
        spans = [whole[i : i + span] for i in range(0, len(whole), span)]
        spans = [s[np.argsort(self._costs[s], kind="stable")] for s in spans]
        batches = self._cut(self._rows[np.concatenate([*spans, whole[:0]])])
        return [batches[i] for i in rng.permutation(full)] + self._cut(self._rows[rest])

    def _cut(self, rows: np.ndarray) -> list[np.ndarray]:
        return [rows[i : i + self.batch] for i in range(0, len(rows), self.batch)]

    def epoch(self, number: int, start: int = 0) -> Iterator[list[Loaded]]:
        """One list of micro-batches per optimiser step, from step `start` on; nothing before it is loaded."""
        batches = self.order(number)[start * self.accumulate :]
        work = _Work(self.dataset, batches, self.seed, number, self.augment, self.rank, self.world)
        loaded = map(work.__getitem__, range(len(batches))) if not self._helps() else self._ahead(work, number)
        step: list[Loaded] = []
        try:
            for at, one in enumerate(loaded, 1):
                if isinstance(one, _Failure):
                    raise one.error()
                step.append(one)
                if len(step) == self.accumulate or at == len(batches):
                    yield step
                    step = []
        finally:
            if isinstance(loaded, Iterator) and hasattr(loaded, "close"):
                loaded.close()

    def _helps(self) -> bool:
        return self.workers > 0 and not self.dataset.at_hand(self.augment)

    def _ahead(self, work: _Work, number: int) -> Iterator[Loaded | _Failure]:
        from torch.utils.data import DataLoader

        own = torch.Generator().manual_seed(derive(self.seed, "workers", number))  # the global one is left alone
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*worker processes in total")  # more workers than cores
            whole: Any = work
            loader: Any = DataLoader(whole, batch_size=None, sampler=range(len(work)), num_workers=self.workers,
                                     prefetch_factor=2, multiprocessing_context="fork", generator=own,
                                     collate_fn=_as_it_is, worker_init_fn=_quiet)  # fmt: skip
        found = iter(loader)
        try:
            yield from found
        finally:
            found._shutdown_workers()


class _Work:
    """What workers do: the n-th micro-batch, this process's share of it."""

    def __init__(self, dataset: Dataset, batches: list[np.ndarray], seed: int, epoch: int, augment: bool, rank: int,
                 world: int) -> None:  # fmt: skip
        self.dataset, self.batches, self.rank, self.world = dataset, batches, rank, world
        self.how: dict[str, Any] = {"seed": seed, "epoch": epoch, "augment": augment}

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, at: int) -> Loaded | _Failure:
        rows = self.batches[at]
        mine = rows[self.rank :: self.world]
        try:
            if len(mine):
                return self.dataset.load(mine, **self.how)
            batch, _ = self.dataset.load(rows[:1], **self.how)
            return batch and _without_targets(batch), []
        except UserError as error:
            return _Failure(type(error), vars(error))


def _without_targets(batch: Batch) -> Batch:
    """A row that only keeps this process in step with the others: it counts nowhere."""
    return batch._replace(
        targets={n: t._replace(present=torch.zeros_like(t.present)) for n, t in batch.targets.items()}
    )


class _Failure(NamedTuple):
    """A UserError on its way out of a worker."""

    kind: type[UserError]
    told: dict[str, Any]

    def error(self) -> UserError:
        place, problem = self.told["where"], self.told["problem"]
        return self.kind(place, problem, given=self.told["given"], advice=self.told["advice"])


def _as_it_is(loaded: Any) -> Any:
    return loaded


def _quiet(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's business
