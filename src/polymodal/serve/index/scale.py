"""Embedding on the machines of a Ray cluster: workers that load the run each take shards; one process writes.

Run folder, table and files must be where every machine finds them by the same path. Ray Data holds back workers that
are faster than the writing, so memory stays bounded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.core.catalog import need
from polymodal.core.errors import UserError
from polymodal.data.ledger import Entry, Ledger
from polymodal.data.splits import Part
from polymodal.work.embed import Lot

SHARD = 512  # rows that a worker embeds at once
LOCAL = "local"  # an address: this machine
Load = Callable[[Path], Any]


class Cluster:
    """Embeds rows of a table on Ray; what `build.index_table` calls instead of embedding in its own process.

    `load` opens a run, and its name is imported by the workers; `data` is the path of the table. `shards` workers, as
    many as there are cores when not given.
    """

    at_once = 1 << 17  # rows that are worth a round of all workers

    def __init__(self, load: Load, run: Any, data: Any, *, names: Sequence[str], address: str, shards: int | None,
                 on_bad: str | None) -> None:  # fmt: skip
        if not isinstance(data, str | Path):
            raise UserError("--ray", "needs the table as a path that every machine finds", given=type(data).__name__,
                            advice="a .parquet file in a shared folder")  # fmt: skip
        if shards is not None and shards < 1:
            raise UserError("--shards", "must be 1 or more", given=shards, advice="leave it out")
        need("ray.data", "embedding on many machines", "--ray")
        self.work = {"load": load, "folder": str(Path(run.folder).resolve()), "data": str(Path(data).resolve()),
                     "told": str(data), "names": list(names), "on_bad": on_bad}  # fmt: skip
        self.names, self.address, self.shards = list(names), address, shards

    def __call__(self, rows: np.ndarray, ledger: Ledger) -> Iterator[Lot]:
        """The rows as vectors, shard by shard, in the order in which they are done."""
        import ray

        if not ray.is_initialized():
            address = None if self.address == LOCAL else self.address
            ray.init(address=address, log_to_driver=False, logging_level="error", include_dashboard=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        workers = self.shards or max(1, int(ray.cluster_resources().get("CPU", 1)))
        table = ray.data.from_numpy(np.array_split(rows, max(1, -(-len(rows) // SHARD))))
        done = table.map_batches(Worker, fn_constructor_kwargs=self.work, batch_size=SHARD, compute=_actors(workers))
        for batch in done.iter_batches(batch_size=SHARD, batch_format="numpy", prefetch_batches=1):
            ledger.extend(Entry(*entry) for told in batch["ledger"] for entry in json.loads(told))
            errors = {int(r): str(text) for r, text in zip(batch["row"], batch["error"], strict=True) if text}
            names = self.names
            yield Lot(np.asarray(batch["row"], np.int64),
                      {n: np.stack(batch[f"v{at}"]).astype(np.float32) for at, n in enumerate(names)},
                      {n: np.stack(batch[f"p{at}"]).astype(bool) for at, n in enumerate(names)}, errors)  # fmt: skip


def _actors(workers: int) -> Any:
    from ray.data import ActorPoolStrategy

    return ActorPoolStrategy(size=workers)


class Worker:
    """A process that has loaded the run and opened the table."""

    def __init__(self, load: Load, folder: str, data: str, told: str, names: list[str], on_bad: str | None) -> None:
        self.run = load(Path(folder))
        self.table = self.run._part(data).table
        self.told, self.names = told, names
        self.on_bad = on_bad or self.run.spec.data.on_bad

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Row numbers -> the same with their vectors, and what was bad about them, as JSON."""
        rows, ledger = np.asarray(batch["data"], np.int64), Ledger()
        lots = list(self.run.embedder.rows(Part(self.table, rows), ledger, names=self.names, on_bad=self.on_bad))
        errors = {row: text for lot in lots for row, text in lot.errors.items()}
        entries = [list(e._replace(table=self.told)) for e in ledger]
        found: dict[str, Any] = {"row": rows, "error": np.array([errors.get(r, "") for r in rows.tolist()], object)}
        found["ledger"] = np.array([json.dumps(entries), *["[]"] * (len(rows) - 1)], object)
        for at, name in enumerate(self.names):
            found[f"v{at}"] = np.concatenate([lot.vectors[name] for lot in lots])
            found[f"p{at}"] = np.concatenate([lot.present[name] for lot in lots])
        return found
