"""Scenes to be found by what is said of them: ROWS rows, a picture stands in two; up to OBJECTS things in each."""

from __future__ import annotations

from pathlib import Path

from polymodal.scenes import make_scenes

ROWS, SIZE, OBJECTS = 8000, 32, 3


def prepare(data: Path, out: Path) -> Path:
    """Write them to `out`/scenes, unless they are there; nothing is needed of `data`."""
    if not (out / "scenes" / "README.md").is_file():  # written last
        make_scenes(out / "scenes", ROWS, seed=1, size=SIZE, objects=OBJECTS)
    return out
