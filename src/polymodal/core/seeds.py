"""All randomness is a function of named keys: seed, epoch, row, purpose. Nothing is drawn from a global state."""

from __future__ import annotations

import hashlib

import numpy as np

Rng = np.random.Generator


def derive(*names: object) -> int:
    """A 63-bit number from any names, the same on every machine: `derive(seed, "order", epoch)`."""
    text = "\x1f".join(str(n) for n in names).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def generator(*names: object) -> Rng:
    """A numpy generator of its own for `names`."""
    return np.random.Generator(np.random.Philox(key=derive(*names)))


def row_keys(seed: int, epoch: int, rows: np.ndarray) -> np.ndarray:
    """63-bit key of each row in this epoch (splitmix64 finaliser over the mixed words), vectorised.

    Source of the mixing constants: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
    """
    x = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(derive(seed, "rows", epoch))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)
