"""Start-up times and the size of the core install: `python benchmarks/startup.py`. Writes benchmarks/startup.md.

Times are the best of several runs beside `python -c pass` in the same minute; the packages are those that the core
dependencies reach through their requirements, extras and CUDA's packages left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

CASES = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "python -c 'import polymodal'": [sys.executable, "-c", "import polymodal"],
    "polymodal --help": [sys.executable, "-m", "polymodal", "--help"],
}
NAME = re.compile(r"^[A-Za-z0-9._-]+")


def best(command: list[str], runs: int = 15) -> float:
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return min(times)


def closure(package: str) -> set[str]:
    """Every installed package that `package` needs, without extras and without the needs of other systems."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    waiting = [package]
    while waiting:
        name = waiting.pop()
        try:
            needs = [Requirement(r) for r in requires(name) or []]
        except PackageNotFoundError:
            continue
        for need in needs:
            wanted = need.marker is None or need.marker.evaluate({"extra": ""})
            plain = re.sub(r"[-_.]+", "-", need.name).lower()
            if wanted and plain not in found and not plain.startswith(("nvidia-", "cuda-", "triton")):
                found.add(plain)
                waiting.append(need.name)
    return found


def main() -> None:
    rows = [f"| `{name}` | {best(command):.3f} s |" for name, command in CASES.items()]
    packages = sorted(closure("polymodal"))
    times = ["| command | best of 15 |", "| --- | --- |", *rows]
    reached = f"The core install reaches {len(packages)} packages: {', '.join(packages)}."
    page = ["# Start-up", "", "    python benchmarks/startup.py", "", *times, "", reached, ""]
    Path(__file__).with_suffix(".md").write_text("\n".join(page))
    print("\n".join(page))


if __name__ == "__main__":
    main()
