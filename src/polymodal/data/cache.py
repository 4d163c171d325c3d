"""Decoded samples, kept exactly: in memory up to a limit, beyond it in packed files on disk."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.core.contracts import Sample
from polymodal.data.collate import MASK, pad
from polymodal.data.digests import Digests
from polymodal.data.store import Budget, Store


class Cache(Budget):
    """Shelves of samples under one limit of memory; what does not fit goes to disk.

    Forked workers read what was cached before the fork and add nothing.
    """

    def __init__(self, limit_mb: int, folder: Path | None = None) -> None:
        super().__init__(limit_mb, folder)
        self._shelves: dict[tuple, tuple[Any, Packed | Loose]] = {}
        self._shared: dict[tuple, Any] = {}

    def shared(self, key: tuple, make: Callable[[], Any]) -> Any:
        """What was made for this key before, or is made now: what the parts of one table know about its cells."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def shelf(self, key: tuple, holder: object, ragged: frozenset[str] | None, expect: int) -> Packed | Loose:
        """The shelf of this key, made when it is new.

        `ragged` says which arrays differ in length, None that samples may differ in any way (they are then gathered
        one by one). `holder` is kept alive as long as the shelf; `expect` is how many samples may come.
        """
        if key not in self._shelves:
            made = Loose(self) if ragged is None else Packed(self, ragged, expect)
            self._shelves[key] = holder, made
        return self._shelves[key][1]

    def close(self) -> None:
        """Let go of all samples."""
        for _, shelf in self._shelves.values():
            shelf.close()
        self._shelves, self._shared = {}, {}
        super().close()


class Packed:
    """Samples of one form: equal shapes, but for the first axis of `ragged` arrays. A batch is one gather per array."""

    def __init__(self, cache: Cache, ragged: frozenset[str], expect: int) -> None:
        self.cache, self.ragged, self.expect = cache, ragged, expect
        self.slots = Digests()
        self._stores: dict[str, Store] = {}
        self._edges: dict[str, array] = {}  # where each sample's items begin; one more for the end of the last

    def put(self, digest: int, sample: Sample) -> int:
        """Keep the sample of this digest; its slot, -1 when nothing can be added in this process."""
        return self.put_all([digest], [sample])[0]

    def put_all(self, digests: Sequence[int], samples: Sequence[Sample]) -> list[int]:
        """Keep samples of distinct, new digests; their slots."""
        if not self.cache.writable or not samples:
            return [-1] * len(samples)
        if not self._stores:
            self._open(samples[0])
        if any(sample.keys() != self._stores.keys() for sample in samples):
            names = sorted({name for sample in samples for name in sample})
            raise ValueError(f"samples differ in names: {names} and {sorted(self._stores)}")
        for name, store in self._stores.items():
            values = [sample[name] for sample in samples]
            if name in self.ragged:
                _same_form(name, values, store, 1)
                edges = self._edges[name]
                edges.extend((edges[-1] + np.cumsum([len(v) for v in values])).tolist())
                store.append(np.concatenate(values))
            else:
                _same_form(name, values, store, 0)
                store.append(np.stack(values))
        first = len(self.slots)
        for slot, digest in enumerate(digests, first):
            self.slots.add(digest, slot)
        return list(range(first, first + len(samples)))

    def _open(self, sample: Sample) -> None:
        for name, value in sample.items():
            ragged = name in self.ragged
            shape, each = (value.shape[1:], 2 * len(value)) if ragged else (value.shape, 1)
            self._stores[name] = Store(self.cache, shape, value.dtype, self.expect * each)
            if ragged:
                self._edges[name] = array("q", [0])

    def gather(self, slots: np.ndarray) -> dict[str, np.ndarray]:
        """The samples at `slots` as `collate` stacks them."""
        found: dict[str, np.ndarray] = {}
        for name, store in self._stores.items():
            if name not in self.ragged:
                found[name] = store.take(slots)
                continue
            edges = np.frombuffer(self._edges[name], np.int64)
            starts, lengths = edges[slots], edges[slots + 1] - edges[slots]
            ends = np.cumsum(lengths)
            pieces = np.repeat(starts - ends + lengths, lengths) + np.arange(int(ends[-1]))
            found[name], found[name + MASK] = pad(store.take(pieces), ends - lengths, lengths)
        return found

    def sample(self, slot: int) -> Sample:
        found = {}
        for name, store in self._stores.items():
            if name in self.ragged:
                found[name] = store.slice(self._edges[name][slot], self._edges[name][slot + 1])
            else:
                found[name] = store.slice(slot, slot + 1)[0]
        return found

    def close(self) -> None:
        for store in self._stores.values():
            store.close()


def _same_form(name: str, values: Sequence[np.ndarray], store: Store, ragged: int) -> None:
    for value in values:
        if value.shape[ragged:] != store.shape or value.dtype != store.dtype:
            found, expected = f"{value.dtype}{value.shape[ragged:]}", f"{store.dtype}{store.shape}"
            raise ValueError(f"samples differ in the form of {name!r}: {found}, {expected}")


class Loose:
    """Samples of any form, as bytes beside their dtypes and shapes; taken out one by one."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.slots = Digests()
        self._store = Store(cache, (), np.dtype(np.uint8), 0)
        self._forms: dict[tuple[tuple[str, np.dtype, tuple[int, ...]], ...], int] = {}
        self._known: list[tuple] = []  # the forms by number
        self._form, self._edges = array("q"), array("q", [0])  # of each sample, and where its bytes begin

    def put(self, digest: int, sample: Sample) -> int:
        if not self.cache.writable:
            return -1
        form = tuple((name, value.dtype, value.shape) for name, value in sample.items())
        if form not in self._forms:
            self._forms[form] = len(self._known)
            self._known.append(form)
        flat = [np.ascontiguousarray(value).reshape(-1).view(np.uint8) for value in sample.values()]
        self._store.append(np.concatenate([*flat, np.empty(0, np.uint8)]))
        self._form.append(self._forms[form])
        self._edges.append(self._edges[-1] + sum(map(len, flat)))
        slot = len(self.slots)
        self.slots.add(digest, slot)
        return slot

    def put_all(self, digests: Sequence[int], samples: Sequence[Sample]) -> list[int]:
        return [self.put(digest, sample) for digest, sample in zip(digests, samples, strict=True)]

    def sample(self, slot: int) -> Sample:
        found: Sample = {}
        flat = self._store.slice(self._edges[slot], self._edges[slot + 1]).tobytes()
        start = 0
        for name, dtype, shape in self._known[self._form[slot]]:
            found[name] = np.frombuffer(flat, dtype, prod(shape), start).reshape(shape)
            start += prod(shape) * dtype.itemsize
        return found

    def close(self) -> None:
        self._store.close()
