"""Kill a training with SIGKILL at random moments, resume it each time, and compare the weights' sha256 with an
undisturbed run: `python benchmarks/kill_and_resume.py --kills 10`. Writes benchmarks/kill_and_resume.md.

The model has every kind of state there is to lose: dropout, BatchNorm, augmentation, dropped inputs, averaged weights,
a plateau schedule, accumulated gradients.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from polymodal import make_scenes

SPEC = """
data: {{train: {table}, split: column, split_column: split}}
inputs:
  picture:
    type: image
    size: 32
    augment: {{flip: 0.5, noise: 0.05}}
    encoder: {{type: cnn, channels: [8, 16], dropout: 0.1}}
  sentence: {{type: text, encoder: {{type: gru, width: 32, dropout: 0.1}}}}
  numbers: {{type: tabular, columns: [kilograms, celsius]}}
fusion: gated
tasks: {{colour: classify, kilograms: regress}}
train: {{epochs: 30, batch: 32, accumulate: 2, lr: 3e-3, schedule: plateau, plateau_epochs: 1, factor: 0.5, ema: 0.99,
  drop: 0.1, checkpoint_steps: 3, threads: 1, device: cpu, seed: 5}}
"""


def start(spec: Path, out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "polymodal", "train", str(spec), "--out", str(out), "--resume", "--quiet"]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)


def digest(run: Path) -> str:
    return hashlib.sha256((run / "weights.safetensors").read_bytes()).hexdigest()


def finished(run: Path) -> bool:
    return (run / "run.json").is_file()


def killed(process: subprocess.Popen, moment: float | None) -> bool:
    """Kill the process at that moment after its start, if it still runs then; None lets it end."""
    try:
        assert process.wait(timeout=moment) == 0
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        spec = folder / "spec.yaml"
        spec.write_text(SPEC.format(table=make_scenes(folder / "scenes", rows=800, size=32)))
        began = time.monotonic()
        assert start(spec, folder / "whole").wait() == 0
        whole = time.monotonic() - began
        expected, same, lines, runs = digest(folder / "whole"), True, [], 0
        while len(lines) < options.kills:
            runs += 1
            broken = folder / f"broken-{runs}"
            while not finished(broken):
                moment = float(draw.uniform(1.0, 1.0 + whole / 2)) if len(lines) < options.kills else None
                if killed(start(spec, broken), moment):
                    found = sorted(p.name for p in (broken / "checkpoints").glob("step-*"))
                    lines.append(
                        f"| {len(lines) + 1} | {runs} | {moment:.2f} s | {found[-1] if found else 'none yet'} |"
                    )
            same = same and digest(broken) == expected
    command = f"    python benchmarks/kill_and_resume.py --kills {options.kills} --seed {options.seed}"
    found = "the same, bit for bit" if same else "DIFFERENT"
    kills = f"{len(lines)} kills by SIGKILL over {runs} runs, each resumed to its end"
    result = f"{kills}; an undisturbed run takes {whole:.1f} s. All weights are {found}."
    table = ["| kill | run | after | newest checkpoint then |", "| --- | --- | --- | --- |", *lines]
    page = ["# Killed and resumed", "", command, "", result, "", *table, ""]
    Path(__file__).with_suffix(".md").write_text("\n".join(page))
    print("\n".join(page))
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
