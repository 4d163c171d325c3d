"""What half of a modality's cells missing costs, with and without modality dropout.

    python benchmarks/missing.py --data DATA

Trains the recipe audio_visual_digits (written digits with spoken ones, 300 test rows) with several fusions and seeds,
once with `train.drop` and once without, all else equal, and a model of each input alone, which is what can be had
without the other. The test rows are then answered whole and without each input.
Every row lacks the input with chance one half, so that the accuracy with half of the cells missing is the mean over all
such draws; one draw is answered as a table with empty cells, and must agree row by row. Intervals are 95 %, by
resampling seeds, and test rows within them, the same for both runs. Writes benchmarks/missing.json and missing.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import polymodal
from polymodal.core import spec as specs
from polymodal.core.seeds import generator

HERE = Path(__file__)
INPUTS = ("image", "audio")
RESAMPLES = 10_000
Measured = dict[str, Any]
LIMIT = 0.5  # the claim: what is lost with dropout is less than this share of what is lost without


def without(table: pa.Table, column: str, rows: np.ndarray) -> pa.Table:
    """The table with empty cells in these rows of a column."""
    gone = np.zeros(len(table), bool)
    gone[rows] = True
    cells = pc.if_else(pa.array(gone), pa.scalar(None, table.schema.field(column).type), table[column])
    return table.set_column(table.schema.get_field_index(column), column, cells)


def right(run: polymodal.Run, table: pa.Table) -> np.ndarray:
    """Which rows are answered rightly."""
    lines = run.predict(table)
    assert isinstance(lines, list)
    return np.array(
        [str(line["label"]) == str(label) for line, label in zip(lines, table["label"].to_pylist(), strict=True)]
    )


def trained(plain: dict[str, Any], folder: Path, fusion: str, drop: float, seed: int) -> polymodal.Run:
    """One training; `fusion` is a fusion, or the one input that is left."""
    inputs = {n: one for n, one in plain["inputs"].items() if fusion not in INPUTS or n == fusion}
    joined = None if fusion in INPUTS else fusion
    plain = {**plain, "inputs": inputs, "fusion": joined, "train": {**plain["train"], "drop": drop, "seed": seed}}
    began = time.process_time()
    run = polymodal.train(spec=plain, out=folder / f"{fusion}-{drop}-{seed}", quiet=True)
    print(f"{fusion}, drop {drop}, seed {seed}: {time.process_time() - began:.0f} s", file=sys.stderr)
    return run


def measure(plain: dict[str, Any], table: pa.Table, folder: Path, fusion: str, drop: float, seed: int) -> Measured:
    """One training, and its right answers: [rows] with everything, and without each input."""
    run = trained(plain, folder, fusion, drop, seed)
    found = {"": right(run, table)}
    half = generator("half", seed).permutation(len(table))[: len(table) // 2]
    for name in INPUTS:
        found[name] = right(run, without(table, name, np.arange(len(table))))
        drawn = found[""].copy()
        drawn[half] = found[name][half]
        assert (right(run, without(table, name, half)) == drawn).all(), "an answer depends on other rows"
    return {"fusion": fusion, "drop": drop, "seed": seed, "right": found}


def losses(runs: list[Measured], name: str) -> np.ndarray:
    """[seeds, rows]: what a row loses, on average, when half of the cells of this input are missing."""
    return np.stack([(run["right"][""].astype(float) - run["right"][name]) / 2 for run in runs])


def interval(plainly: np.ndarray, dropped: np.ndarray) -> tuple[float, list[float]]:
    """The ratio of both losses, and its 95 % interval by resampling seeds and rows."""
    draw = generator("resample")
    seeds, rows = plainly.shape
    ratios = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        at = np.ix_(draw.integers(0, seeds, seeds), draw.integers(0, rows, rows))
        below = plainly[at].sum()
        ratios[i] = dropped[at].sum() / below if below > 0 else np.inf
    low, high = np.quantile(ratios, [0.025, 0.975], method="nearest")
    return float(dropped.sum() / plainly.sum()), [float(low), float(high)]


def summary(runs: list[Measured], fusion: str, drop: float, name: str, alone: dict[str, float]) -> dict[str, Any]:
    """A fusion and an input: accuracies with and without dropout, what each loses, the ratio."""
    (left,) = (other for other in INPUTS if other != name)
    found: dict[str, Any] = {"fusion": fusion, "missing": name, "alone": alone[left]}
    kept = {}
    for chance in (0.0, drop):
        mine = [r for r in runs if r["fusion"] == fusion and r["drop"] == chance]
        kept[chance] = losses(mine, name)
        whole, gone = (np.array([r["right"][key].mean() for r in mine]) for key in ("", name))
        found["dropout" if chance else "plain"] = {
            "whole": whole.round(4).tolist(), "half": ((whole + gone) / 2).round(4).tolist(),
            "gone": gone.round(4).tolist(), "lost": float(kept[chance].mean()),
        }  # fmt: skip
    found["ratio"], found["ci95"] = interval(kept[0.0], kept[drop])
    found["holds"] = bool(found["ci95"][1] < LIMIT)
    return found


def page(rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """The result as Markdown."""
    told = [
        f"{facts['rows']} test rows of audio_visual_digits, {facts['seeds']} seeds, {facts['epochs']} epochs; with "
        f"dropout is `train: {{drop: {facts['drop']:g}}}`. {facts['trainings']} trainings, {facts['seconds']:.0f} s of "
        f"one CPU core in all. Accuracies are means over the seeds: with everything, with half of the cells missing, "
        f"with all of them missing. *Alone* is a model that was trained on the other input only: the accuracy with all "
        f"cells missing cannot be expected to be higher. The claim is that what half of the cells cost with dropout is "
        f"less than {LIMIT:g} of what they cost without."
    ]
    names = ["fusion", "missing", "plain: whole", "half", "all", "dropout: whole", "half", "all", "alone"]
    names += ["lost, plain", "lost, dropout", "ratio of losses", "claim"]
    lines = [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
    for row in rows:
        cells = []
        for kind in ("plain", "dropout"):
            one = row[kind]
            cells += [f"{np.mean(one[key]):.3f}" for key in ("whole", "half", "gone")]
        cells += [f"{value:.3f}" for value in (row["alone"], row["plain"]["lost"], row["dropout"]["lost"])]
        low, high = row["ci95"]
        said = "holds" if row["holds"] else "holds on average" if row["ratio"] < LIMIT else "does not hold"
        ratio = f"{row['ratio']:.2f} [{low:.2f}, {high:.2f}]"
        lines.append(f"| {row['fusion']} | {row['missing']} | {' | '.join(cells)} | {ratio} | {said} |")
    return "\n".join(["# Half of a modality missing", "", facts["command"], "", *told, "", *lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds mnist and fsdd")
    parser.add_argument("--fusions", default="concat,gated,sum")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--drop", type=float, default=0.2)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=HERE.with_suffix(".md"), help="the page; .json beside it")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE.parents[1] / "recipes"))
    from audio_visual_digits import prepare

    fusions, seeds = options.fusions.split(","), range(options.seeds)
    with tempfile.TemporaryDirectory() as scratch:
        folder = prepare(options.data, Path(scratch))
        whole = pq.read_table(folder / "audio_visual_digits" / "table.parquet")
        table = whole.filter(pc.equal(whole["split"], "test"))
        plain = specs.load(HERE.parents[1] / "recipes" / "audio_visual_digits.yaml").json()
        plain["data"]["train"] = str(folder / plain["data"]["train"])
        plain["train"] |= {"epochs": options.epochs, "threads": 1, "device": "cpu"}
        runs = [measure(plain, table, folder, fusion, drop, seed)
                for fusion in fusions for drop in (0.0, options.drop) for seed in seeds]  # fmt: skip
        alone = {name: float(np.mean([right(trained(plain, folder, name, 0.0, seed), table) for seed in seeds]))
                 for name in INPUTS}  # fmt: skip
    command = (f"    python benchmarks/missing.py --data DATA --fusions {options.fusions} --seeds {options.seeds} "
               f"--drop {options.drop:g} --epochs {options.epochs}")  # fmt: skip
    facts = {"command": command, "rows": len(table), "seeds": options.seeds, "drop": options.drop,
             "epochs": options.epochs, "trainings": len(runs) + len(seeds) * len(INPUTS),
             "seconds": round(time.process_time())}  # fmt: skip
    rows = [summary(runs, fusion, options.drop, name, alone) for fusion in fusions for name in INPUTS]
    options.out.with_suffix(".json").write_text(json.dumps({**facts, "results": rows}, indent=1) + "\n")
    options.out.write_text(page(rows, facts))
    print(page(rows, facts))


if __name__ == "__main__":
    main()
