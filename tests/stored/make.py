"""Make the stored run of the present format: `python tests/stored/make.py`. Done once per format; never done again.

Later versions must open the folder as it is and give the answers written beside it.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from pathlib import Path

import polymodal
from polymodal.work.folder import FORMAT

HERE = Path(__file__).parent / f"format-{FORMAT}"
SPEC = {
    "data": {"split": "column", "split_column": "split"},
    "inputs": {
        "picture": {"type": "image", "size": 16, "encoder": {"type": "cnn", "channels": [4, 8], "head": "mean"}},
        "sentence": {"type": "text", "encoder": {"type": "lstm", "width": 8, "embed": 8}},
        "sound": {"type": "audio", "rate": 8000, "mels": 16, "encoder": {"type": "gru", "width": 8}},
        "numbers": {"type": "tabular", "columns": ["kilograms", "size"], "encoder": {"type": "mlp", "width": 8}},
    },
    "fusion": "gated",
    "tasks": {"colour": "classify", "celsius": "regress"},
    "train": {"epochs": 3, "batch": 16, "lr": 1e-2, "threads": 1, "device": "cpu"},
}


def main() -> None:
    assert not HERE.exists(), f"{HERE} is there already and stays as it is"
    with tempfile.TemporaryDirectory() as scratch:
        table = polymodal.make_scenes(Path(scratch) / "scenes", rows=120, size=16, seed=2)
        run = polymodal.train(str(table), spec=SPEC, out=Path(scratch) / "run")
        kept = ["run.json", *json.loads((run.folder / "run.json").read_text())["files"]]
        for name in kept:
            (HERE / "run" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(run.folder / name, HERE / "run" / name)
        with table.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))[:8]
        rows[2]["sound"] = ""
        rows[5]["picture"] = "pictures/none.png"
        columns = ["picture", "sentence", "sound", "kilograms", "size"]
        with (HERE / "table.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        for path in {p for r in rows for p in (r["picture"], r["sound"]) if p and "none" not in p}:
            (HERE / path).parent.mkdir(exist_ok=True)
            shutil.copy(table.parent / path, HERE / path)
    polymodal.load(HERE / "run").predict(HERE / "table.csv", out=HERE / "answers.jsonl")


if __name__ == "__main__":
    main()
