"""What frozen encoders say of a table's cells, computed once: every epoch after that only gathers it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from copy import copy

import numpy as np
import torch

from polymodal.core.contracts import Sample
from polymodal.core.streams import Batch, Cells, Stream, Streams
from polymodal.data.cache import Cache, Packed
from polymodal.data.dataset import Dataset
from polymodal.data.loader import Loader
from polymodal.model import Model, on_device
from polymodal.work.progress import Display
from polymodal.work.runtime import Runtime

RAGGED = frozenset({"tokens", "mask"})
BATCH = 64  # rows whose cells are encoded together; always the same ones, so that resuming finds the same bits


class Features:
    """Encoded cells of frozen inputs by their digest, in memory: tokens [T W] and mask [T] up to the last real token.

    An input is kept when its encoder is frozen, its reader never augments, no task reads its maps, and all its cells
    fit into what is left of `limit_mb`; others are encoded in every batch as ever. A `Model` whose `recall` is that of
    this object gets what is kept, which is what encoding gives within 1e-5 (batches are put together otherwise).
    """

    def __init__(self, limit_mb: int) -> None:
        self._cache = Cache(limit_mb)
        self._kept: dict[str, Packed] = {}
        self._forms: dict[str, tuple[torch.dtype, torch.device]] = {}
        self._others: dict[Hashable, Streams] = {}

    def fill(self, model: Model, datasets: Iterable[Dataset], runtime: Runtime,
             display: Display | None = None) -> tuple[str, ...]:  # fmt: skip
        """Encode all cells of these rows, of inputs that were not encoded before; the names of those that are kept."""
        datasets = [_whole(dataset) for dataset in datasets]
        names = [n for n in suited(model, datasets) if n not in self._kept]
        rows = sum(len(dataset.rows) for dataset in datasets)
        if names:
            with torch.inference_mode(), (display or Display(quiet=True)).bar("encoding", rows) as bar:
                self._fill(model, names, datasets, rows, runtime, bar.advance)
        return tuple(self._kept)

    def _fill(self, model: Model, names: list[str], datasets: list[Dataset], rows: int, runtime: Runtime,
              step: Callable[[int], None]) -> None:  # fmt: skip
        model.eval()
        for batch in _batches(datasets):
            moved = {n: c for n, c in on_device(batch, runtime.move).inputs.items() if n in names}
            with runtime.autocast():
                encoded = model.encode(moved)
            for name, stream in encoded.items():
                samples, cells = _samples(stream, moved[name]), moved[name].index.shape[1]
                self._forms[name] = stream.tokens.dtype, stream.tokens.device
                if name not in self._kept and samples and not self._open(name, samples, cells * rows):
                    names.remove(name)
                elif samples:
                    shelf = self._kept[name]
                    new = [digest for digest in samples if shelf.slots.get(digest, -1) < 0]
                    shelf.put_all(new, [samples[digest] for digest in new])
            if not names:
                return
            step(len(batch.rows))

    def _open(self, name: str, samples: dict[int, Sample], cells: int) -> bool:
        """A shelf for the input, if what its cells will take is left."""
        each = sum(sum(a.nbytes for a in s.values()) for s in samples.values()) / len(samples)
        if each * cells > self._cache.left:
            return False
        self._kept[name] = Packed(self._cache, RAGGED, cells)
        return True

    def recall(self, name: str, cells: Cells) -> Stream | None:
        """The encoded cells [N T W]; None when they are not kept."""
        shelf = self._kept.get(name)
        if shelf is None:
            return None
        slots = shelf.slots.find(cells.id.cpu().numpy())
        if (slots < 0).any():
            return None
        found = shelf.gather(slots)
        dtype, device = self._forms[name]
        tokens, mask = torch.from_numpy(found["tokens"]), torch.from_numpy(found["mask"])
        return Stream(tokens.to(device, dtype), mask.to(device))

    def once(self, key: Hashable, inputs: Iterable[str], make: Callable[[], Streams]) -> Streams:
        """What `make` gives for other cells of these inputs, such as noisy ones: made once for each key, if they are
        inputs that are kept and there is room."""
        found = self._others.get(key)
        if found is None:
            found = make()
            size = sum(s.tokens.nbytes + s.mask.nbytes for s in found.values())
            if self._kept.keys() >= set(inputs) and self._cache.claim(size):
                self._others[key] = found
        return found

    def close(self) -> None:
        for shelf in self._kept.values():
            shelf.close()
        self._kept, self._others = {}, {}
        self._cache.close()


def suited(model: Model, datasets: Iterable[Dataset]) -> list[str]:
    """The inputs whose encoded cells are the same in every epoch."""
    if any("maps" in task.reads for _, task in model.tasks.items()):
        return []
    return [n for n in model.encoders.names
            if n in model.frozen and not any(d.inputs[n].augments for d in datasets)]  # fmt: skip


def _whole(dataset: Dataset) -> Dataset:
    """The dataset with nothing dropped: features are those of whole rows."""
    whole = copy(dataset)
    whole.drop = 0.0
    return whole


def _batches(datasets: Iterable[Dataset]) -> Iterator[Batch]:
    for dataset in datasets:
        loader = Loader(dataset, batch=BATCH, seed=0, shuffle=False, augment=False, buckets=False)
        for micro in loader.epoch(0):
            yield from (batch for batch, _ in micro if batch is not None)


def _samples(stream: Stream, cells: Cells) -> dict[int, Sample]:
    """By digest, each cell's tokens up to its last real one; nothing of the blank cell that stands for none."""
    named = np.unique(cells.index.cpu().numpy())
    tokens, mask = stream.tokens.float().cpu().numpy(), stream.mask.cpu().numpy()
    ends = mask.shape[1] - mask[:, ::-1].argmax(1)
    return {
        int(digest): {"tokens": tokens[i, : ends[i]], "mask": mask[i, : ends[i]]}
        for i, digest in enumerate(cells.id.tolist())
        if i in named
    }
