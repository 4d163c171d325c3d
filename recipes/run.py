"""Run a recipe and write what came out into recipes/RESULTS.md: `python recipes/run.py mnist_cnn --data DATA`.

Trains once per seed; validation chooses the epoch and the test split is scored once per seed. The mean over seeds
stands beside every seed's own score with its 95 % interval (bootstrap over test rows). Nothing is written by hand.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from polymodal import api
from polymodal.core import spec as specs
from polymodal.core import yaml12

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"


def plan(name: str, data: Path, seed: int, changes: list[str]) -> specs.Spec:
    """The recipe's spec with its tables under `data`."""
    plain = yaml12.loads((HERE / f"{name}.yaml").read_text(encoding="utf-8"), f"{name}.yaml")
    for part in ("train", "valid", "test"):
        if isinstance(plain["data"].get(part), str):
            plain["data"][part] = str(data / plain["data"][part])
    plain["train"]["seed"] = seed
    return specs.parse(specs.override(plain, changes))


def section(name: str, runs: list[tuple[int, dict[str, Any], float, float]], command: str) -> str:
    """One recipe's part of the page."""
    lines = [
        f"## {name}",
        "",
        (HERE / f"{name}.yaml").read_text(encoding="utf-8").split("data:")[0].replace("# ", "").strip(),
    ]
    lines += ["", f"    {command}", ""]
    first = runs[0][1]["test"]
    blind = list(first.get("withheld", {}))
    heads = ["task.measure", "mean over seeds", *(f"seed {s}" for s, *_ in runs), *(f"without {i}" for i in blind)]
    lines += ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for task, measures in first["tasks"].items():
        for measure in measures:
            found = [m["test"]["tasks"][task][measure] for _, m, *_ in runs]
            gone = [[m["test"]["withheld"][i]["tasks"][task][measure]["value"] for _, m, *_ in runs] for i in blind]
            cells = [_mean([f["value"] for f in found]), *(_with_interval(f) for f in found), *(_mean(g) for g in gone)]
            lines.append(f"| {task}.{measure} | " + " | ".join(cells) + " |")
    walls, cpus = ([f"{r[i]:.0f}" for r in runs] for i in (2, 3))
    times = f"{', '.join(walls)} s wall time and {', '.join(cpus)} s of CPU"
    machine = f"{os.cpu_count()} cores without GPU, reading and scoring included"
    lines += ["", f"{first['rows']} test rows. Ledger: {first['ledger'] or 'empty'}. Per seed {times}, on {machine}."]
    return "\n".join(lines) + "\n"


def _mean(values: list[float | None]) -> str:
    known = [v for v in values if v is not None]
    return f"{statistics.mean(known):.4f}" if known else "n/a"


def _with_interval(found: dict[str, Any]) -> str:
    if found["value"] is None:
        return "n/a"
    low, high = found["ci95"]
    return f"{found['value']:.4f} [{low:.4f}, {high:.4f}]"


def record(name: str, text: str) -> None:
    """Put the section in its place in RESULTS.md; the others stay as they are."""
    head = (
        "# Results\n\nEvery section is written by the command it shows; scores are on test rows, which chose nothing.\n"
    )
    page = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else head
    parts = {m.group(1): m.group(0).strip() for m in re.finditer(r"^## (\w+)\n.*?(?=^## |\Z)", page, re.M | re.S)}
    parts[name] = text.strip()
    RESULTS.write_text(head + "\n" + "\n\n".join(parts[n] for n in sorted(parts)) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", choices=sorted(p.stem for p in HERE.glob("*.yaml")))
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the data sets")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, help="keep the run folders here")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c")
    options = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in options.seeds:
            began, cpu = time.monotonic(), time.process_time()
            folder = (options.out or Path(scratch)) / f"{options.recipe}-{seed}"
            run = api.train(spec=plan(options.recipe, options.data, seed, options.set), out=folder)
            runs.append((seed, run.metrics, time.monotonic() - began, time.process_time() - cpu))
    changes = "".join(f" --set {c}" for c in options.set)
    seeds = " ".join(map(str, options.seeds))
    record(
        options.recipe,
        section(options.recipe, runs, f"python recipes/run.py {options.recipe} --data DATA --seeds {seeds}{changes}"),
    )


if __name__ == "__main__":
    main()
