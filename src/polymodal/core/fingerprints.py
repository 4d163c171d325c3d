"""Fingerprints: a few words of 64 bits that differ in few bits where two cells are nearly the same.

A reader may have `fingerprints(cells, samples)`, the words of some decoded cells, and `alike`, how many of their bits
may differ between cells that a person would call the same. `data.duplicates` compares them.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, UInt64

Words = UInt64[np.ndarray, " words"]

WAVES = 23  # cosines along each axis; the 256 of lowest frequency, u + v <= 22 without the mean, fill four words
SIGNS = 256


def takes(reader: Any) -> bool:
    """Whether a reader gives fingerprints."""
    return hasattr(reader, "fingerprints") and hasattr(reader, "alike")


def exact(content: bytes, words: int = 4) -> Words:
    """A digest: far from every other fingerprint but that of the same content."""
    return np.frombuffer(hashlib.blake2b(content, digest_size=8 * words).digest(), np.uint64)


def pack(bits: Bool[np.ndarray, "n bits"]) -> UInt64[np.ndarray, "n words"]:
    """Rows of bits as words; the number of bits is a multiple of 64."""
    return np.packbits(np.ascontiguousarray(bits), axis=1).view(np.uint64)


def cosines(planes: Float32[np.ndarray, "n H W"]) -> Float32[np.ndarray, "n u v"]:
    """The first `WAVES` by `WAVES` coefficients of each plane's two-dimensional DCT-II (not scaled)."""
    n, high, wide = planes.shape
    across = (planes.reshape(n * high, wide) @ _waves(wide)).reshape(n, high, WAVES)
    flat = np.ascontiguousarray(across.transpose(0, 2, 1)).reshape(n * WAVES, high) @ _waves(high)
    return flat.reshape(n, WAVES, WAVES).transpose(0, 2, 1)


def lowest(coefficients: Float32[np.ndarray, "n u v"], most: int = SIGNS) -> Float32[np.ndarray, "n most"]:
    """The coefficients of the lowest frequencies, the mean left out."""
    return coefficients.reshape(len(coefficients), WAVES * WAVES)[:, _order()[:most]]


@cache
def _order() -> np.ndarray:
    u, v = np.divmod(np.arange(WAVES * WAVES), WAVES)
    return np.lexsort((u, u + v))[1:]


@cache
def _waves(size: int) -> np.ndarray:
    x = (np.arange(size) + 0.5) / size
    return np.cos(np.pi * np.arange(WAVES) * x[:, None]).astype(np.float32)


def mix(values: UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    """Every value as 64 bits that look drawn by lot (the finaliser of splitmix64, see `core.seeds.row_keys`)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))
