"""Memory that grows with the rows of a table: a bound on bytes per row, from the peaks of two tables' processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")

SMALL, LARGE = 6_000, 36_000
MADE = """
import json, os, resource, sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq

def table(path, rows, seed=0):
    draw = np.random.default_rng(seed)
    label = draw.integers(0, 2, rows)
    words = draw.integers(0, 3000, (rows, 8)).astype(str)
    words[:, 0] = np.where(label, "yes", "no")
    columns = {"title": pa.array([" ".join(w) for w in words]), "label": pa.array(label.astype(str))}
    columns |= {f"n{i}": pa.array(draw.normal(size=rows)) for i in range(4)}
    pq.write_table(pa.table(columns), path, row_group_size=5000)
    return columns

def peak(work):
    'The most memory that `work` took in a process of its own, in bytes, and what it gave back.'
    out, into = os.pipe()
    child = os.fork()
    if not child:
        given = work()
        with open("/proc/self/status") as status:
            mark = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        os.write(into, json.dumps([1024 * mark, given]).encode())
        os._exit(0)
    os.close(into)
    with open(out) as told:
        found = json.loads(told.read())
    os.waitpid(child, 0)
    return found
"""
TRAINED = """
import torch._dynamo  # which an optimiser imports
from polymodal import api
from polymodal.work.predict import predict

SPEC = {
    "data": {"train": None, "valid": "valid.parquet", "cache_mb": 1},
    "inputs": {"title": {"type": "text", "column": "title", "encoder": {"type": "bag", "width": 8}},
               "facts": {"type": "tabular", "columns": [f"n{i}" for i in range(4)],
                         "encoder": {"type": "mlp", "width": 8}}},
    "fusion": "concat",
    "tasks": {"label": {"type": "classify", "column": "label"}},
    "train": {"epochs": 1, "batch": 256, "lr": 0.02, "device": "cpu", "threads": 1},
}

def train(rows):
    spec = {**SPEC, "data": {**SPEC["data"], "train": f"{rows}.parquet"}}
    run = api.train(spec=spec, out=f"run-{rows}", quiet=True)
    return run.metrics["valid"]["tasks"]["label"]["accuracy"]["value"]

def answer(rows):
    return api.load("run-36000").predict(f"{rows}.parquet", out=f"{rows}.csv", on_bad="fail")

table("valid.parquet", 500, 1)
found = {}
for rows in (6000, 36000):
    table(f"{rows}.parquet", rows)
    found[f"train {rows}"] = peak(lambda: train(rows))
for rows in (6000, 36000):
    found[f"predict {rows}"] = peak(lambda: answer(rows))
print(json.dumps(found))
"""
OPENED = """
import csv
from polymodal.data import spill
from polymodal.data.tables import open_table

spill.IN_MEMORY = 1 << 20

def opened(path):
    table = open_table(path)
    return sum(len(cell) for cell in table.walk("title"))

found = {}
for rows in (6000, 36000):
    columns = {n: c.to_pylist() for n, c in table(f"{rows}.parquet", rows).items()}
    for column in range(20):
        columns[f"more {column}"] = columns["title"]
    with open(f"{rows}.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerows([list(columns), *zip(*columns.values())])
    with open(f"{rows}.jsonl", "w") as file:
        for row in zip(*columns.values()):
            file.write(json.dumps(dict(zip(columns, row))) + chr(10))
    del columns
for ending in ("csv", "jsonl"):
    for rows in (6000, 36000):
        found[f"{ending} {rows}"] = peak(lambda: opened(f"{rows}.{ending}"))
print(json.dumps(found))
"""


def told(script: str, folder: Path) -> dict[str, list]:
    alone = {"OMP_NUM_THREADS": "1", "HOME": str(folder), "PATH": ""}
    command = [sys.executable, "-c", MADE + script]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=alone)
    assert made.returncode == 0, made.stderr[-2000:]
    return json.loads(made.stdout.splitlines()[-1])


def slope(found: dict[str, list], work: str) -> float:
    """Bytes for each further row."""
    return (found[f"{work} {LARGE}"][0] - found[f"{work} {SMALL}"][0]) / (LARGE - SMALL)


def test_training_and_predicting_hold_few_bytes_of_a_row(tmp_path: Path) -> None:
    """A row's cells take some 250 bytes decoded; as Python objects, several thousand."""
    found = told(TRAINED, tmp_path)
    assert found[f"train {LARGE}"][1] > 0.9
    assert [found[f"predict {rows}"][1] for rows in (SMALL, LARGE)] == [SMALL, LARGE]
    assert slope(found, "train") < 800, found
    assert slope(found, "predict") < 180, found


def test_opening_text_tables_holds_few_bytes_of_a_row(tmp_path: Path) -> None:
    """A row is 900 bytes of text."""
    found = told(OPENED, tmp_path)
    assert slope(found, "csv") < 300, found
    assert slope(found, "jsonl") < 300, found
