"""Memory that a request took for a moment goes back to the system."""

from __future__ import annotations

import ctypes
import os

LARGE = 4 << 20  # bytes
TRIM, MAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3)


def give_back() -> bool:
    """Whether glibc was told to map pieces from `LARGE` on by themselves, and to keep no more than that of free ones.

    It would else learn from the first large body or picture to keep up to 64 MB for each thread's next one, and pieces
    that live longer hold what lies before them: a server of many threads grows for no use. Other libraries have
    no such setting.
    """
    if os.name != "posix":
        return False
    tell = getattr(ctypes.CDLL(None), "mallopt", None)
    return tell is not None and all([tell(MAP, LARGE), tell(TRIM, LARGE)])
