"""The built-in data for the recipe `scenes`: 2,000 rows with pictures of 32 x 32, seed 0."""

from __future__ import annotations

from pathlib import Path

from polymodal.scenes import make_scenes

ROWS, SIZE = 2000, 32


def prepare(data: Path, out: Path) -> Path:
    """Write them to `out`/scenes, unless they are there; nothing is needed of `data`."""
    if not (out / "scenes" / "README.md").is_file():  # written last
        make_scenes(out / "scenes", ROWS, seed=0, size=SIZE)
    return out
