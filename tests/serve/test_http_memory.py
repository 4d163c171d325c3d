"""Large pieces of memory go back to the system although small ones that live longer lie behind them."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")

CODE = """
import sys
from polymodal.serve.http.memory import give_back
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
if sys.argv[1] == "yes":
    assert give_back()
first = b"x" * (6 << 20)
del first  # from here on glibc keeps pieces of this size
before = resident()
large, small = [], []
for _ in range(40):
    large.append(b"x" * (5 << 20))
    small.append(b"x" * 100_000)
del large
print((resident() - before) >> 20)
"""


def grown(told: str) -> int:
    words = [sys.executable, "-c", CODE, told]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def test_large_pieces_go_back() -> None:
    """4 MB of small pieces are kept, and 200 MB were there for a moment."""
    assert grown("yes") < 12
    assert grown("no") > 100
