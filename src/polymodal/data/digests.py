"""A number for each digest, for millions of them: sorted arrays instead of a dictionary's hundred bytes an entry."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

FRESH = 1 << 14  # entries in the dictionary of new ones before they are sorted in


class Digests:
    """A map from whole numbers of 64 bits to others, 16 bytes an entry; entries are added and looked up, never lost.

    New ones wait in a dictionary until there is a sixteenth of the sorted ones, so that sorting them in is rare.
    """

    def __init__(self) -> None:
        self._keys, self._values = np.empty(0, np.int64), np.empty(0, np.int64)
        self._fresh: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._keys) + len(self._fresh)

    def __iter__(self) -> Iterator[int]:
        yield from self._keys.tolist()
        yield from self._fresh

    def items(self) -> Iterator[tuple[int, int]]:
        yield from zip(self._keys.tolist(), self._values.tolist(), strict=True)
        yield from self._fresh.items()

    def get(self, key: int, default: int) -> int:
        found = self._fresh.get(key)
        if found is not None:
            return found
        at = int(self._keys.searchsorted(key))
        return int(self._values[at]) if at < len(self._keys) and self._keys[at] == key else default

    def find(self, keys: np.ndarray, default: int = -1) -> np.ndarray:
        """The numbers of many keys [n] at once, `default` where there is none."""
        found = np.full(len(keys), default, np.int64)
        unknown = np.ones(len(keys), bool)
        if len(self._keys):
            at = np.minimum(self._keys.searchsorted(keys), len(self._keys) - 1)
            known = self._keys[at] == keys
            found[known], unknown = self._values[at[known]], ~known
        if self._fresh:  # asked only for what is not among the sorted ones: a Python number takes four times the memory
            found[unknown] = [self._fresh.get(key, default) for key in keys[unknown].tolist()]
        return found

    def add(self, key: int, value: int) -> None:
        """Add an entry; the key must be a new one."""
        self._fresh[key] = value
        if len(self._fresh) > max(FRESH, len(self._keys) // 16):
            self._sort_in()

    def _sort_in(self) -> None:
        count = len(self._fresh)
        keys = np.concatenate([self._keys, np.fromiter(self._fresh.keys(), np.int64, count)])
        values = np.concatenate([self._values, np.fromiter(self._fresh.values(), np.int64, count)])
        self._fresh = {}
        order = np.argsort(keys, kind="stable")
        self._keys, self._values = keys[order], values[order]
