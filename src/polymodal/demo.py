"""`polymodal demo`: each input alone and all together on the built-in scenes; a table, a report, what to do next."""

from __future__ import annotations

import copy
import shutil
import sys
import time
from pathlib import Path

from polymodal.api import Run, make_scenes, train
from polymodal.core import spec as specs
from polymodal.core.errors import RunError
from polymodal.core.schema import Json

ROWS, SIZE = 4000, 32
TASK = "match"
MARK = "scenes"
SIDE: dict[str, Json] = {"type": "classify", "weight": 0.3}  # side tasks lead off the plateau, see docs/scenes.md

PLAN: dict[str, Json] = {
    "data": {"split": "column", "split_column": "split"},
    "inputs": {
        "picture": {
            "type": "image",
            "size": SIZE,
            "encoder": {"type": "cnn", "channels": [16, 32, 64], "head": "mean"},
        },
        "sentence": {"type": "text", "encoder": {"type": "gru", "width": 64, "dropout": 0.0}},
        "sound": {
            "type": "audio",
            "rate": 8000,
            "mels": 32,
            "window": 32,
            "hop": 16,
            "encoder": {"type": "cnn", "width": 64, "filters": 8, "layers": 2},
        },
        "numbers": {
            "type": "tabular",
            "columns": ["kilograms", "celsius"],
            "encoder": {"type": "mlp", "width": 64},
        },
    },
    "model": {"width": 64},
    "fusion": "concat",
    "tasks": {TASK: {"type": "classify", "hidden": 128}}
    | dict.fromkeys(("shape", "colour", "place", "weight", "pitch"), SIDE),
    "train": {"epochs": 14, "batch": 64, "lr": 3e-3},
}


def run_demo(out: str | Path = "demo", rows: int = ROWS) -> dict[str, Run]:
    """Draw the scenes, train, print the table on standard output. Returns the runs by name."""
    folder = Path(out)
    _make_room(folder)
    began = time.monotonic()
    _say(f"drawing {rows} rows of scenes into {folder / MARK}")
    table = make_scenes(folder / MARK, rows=rows, size=SIZE)
    names = list(PLAN["inputs"])
    runs = {}
    for chosen in [[n] for n in names] + [names]:
        name = chosen[0] if len(chosen) == 1 else "all"
        plan = specs.parse({**copy.deepcopy(PLAN), "data": {**PLAN["data"], "train": str(table)}}).only(chosen)
        _say(f"\ntraining on {' + '.join(chosen)}")
        runs[name] = train(spec=plan, out=folder / name)
    print(_table(runs))
    _say(_next(folder, time.monotonic() - began))
    return runs


def _make_room(folder: Path) -> None:
    """A demo of before is drawn anew; anything else that stands there is left alone."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK / "boxes.json").is_file():
            raise RunError(str(folder), "is there already and is no demo", advice="--out with another name")
        shutil.rmtree(folder)


def _table(runs: dict[str, Run]) -> str:
    lines = [f"{'does the sentence describe the scene?':<42}test accuracy   95 % interval"]
    for name, run in runs.items():
        found = run.metrics["test"]["tasks"][TASK]["accuracy"]
        low, high = found["ci95"]
        label = "all together" if name == "all" else f"{name} alone"
        lines.append(f"  {label:<40}{found['value']:10.3f}      [{low:.3f}, {high:.3f}]")
    withheld = runs["all"].metrics["test"]["withheld"]
    for name, found in withheld.items():
        value = found["tasks"][TASK]["accuracy"]["value"]
        lines.append(f"  {f'all together, {name} withheld':<40}{value:10.3f}")
    return "\n".join(lines)


def _next(folder: Path, seconds: float) -> str:
    return f"""
{seconds:.0f} s. No input alone can know the answer (chance is 0.5, by the way scenes are drawn); together they do.

Look at   {folder}/all/report.html
Predict   polymodal predict {folder}/all {folder}/{MARK}/table.csv --out answers.csv
Change    {folder}/all/spec.yaml: one word swaps an encoder or a fusion; `polymodal parts` lists them
Your own  polymodal check rows.csv; then a spec like that one with your columns; polymodal train spec.yaml --out run
"""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
