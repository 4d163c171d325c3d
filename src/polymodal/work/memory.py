"""Memory of the process while it trains on a CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # of mallopt(3)
NEVER, USUAL_MAPS = (1 << 31) - 1, 1 << 16
TRIM, LARGE = 64 << 20, 32 << 20  # where glibc's own thresholds end up in a process that frees large blocks


@contextmanager
def kept() -> Iterator[None]:
    """What is freed stays with the process until the end, on Linux with glibc; elsewhere nothing happens.

    Every step frees and takes again the same blocks for gradients and activations. By default the large ones go back to
    the kernel each time, which clears every page anew: about a tenth of a step's CPU time for models of 10 to 30
    million parameters. The largest size of the process stays much the same.
    """
    try:
        library = ctypes.CDLL(None)
        allow, trim = library.mallopt, library.malloc_trim
    except (OSError, TypeError, AttributeError):
        yield
        return
    allow(MMAP_MAX, 0)
    allow(TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        allow(MMAP_MAX, USUAL_MAPS)
        allow(MMAP_THRESHOLD, LARGE)
        allow(TRIM_THRESHOLD, TRIM)
        trim(0)
