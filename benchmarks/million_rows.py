"""A table of a million rows, trained and predicted in bounded memory: `python benchmarks/million_rows.py`.

Makes a Parquet table (a text of a dozen words, ten numbers, a small PNG as bytes; the class is told by one bit of
each), then runs `polymodal train` for an epoch and `polymodal predict` in processes of their own, one core each, and
samples the memory of the whole process tree. Writes benchmarks/million_rows.md.
"""

from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

SPEC = """
data: {{train: {table}}}
inputs:
  title: {{type: text, column: title, max_tokens: 32, encoder: {{type: {text}, width: 32}}}}
  photo: {{type: image, column: photo, size: 16, encoder: {{type: cnn, channels: [8, 16]}}}}
  facts: {{type: tabular, columns: [{numbers}], encoder: {{type: mlp, width: 32}}}}
fusion: concat
tasks: {{kind: classify}}
train: {{epochs: 1, batch: 512, lr: 3e-3, threads: 1, device: cpu}}
"""
NUMBERS = [f"n{i}" for i in range(10)]
TELLING = np.array([0, 0, 1, 0, 0, 1, 0, -1, 0, 0])  # the sign of this sum is the numbers' bit
WORDS, LENGTH, TOPIC = 4000, 12, 40  # words in all, in a text, and that speak of one of the two topics
GROUP = 20_000  # rows made, and written, at once
CHANCE = 1 / 8


def make_table(path: Path, rows: int, seed: int = 0) -> None:
    """The same table for the same number of rows and seed; memory for one row group is all it takes."""
    syllables = ["ka", "lo", "mi", "ne", "pu", "ra", "si", "to", "vu", "zen"]
    names = np.array([syllables[i // 1000 % 10] + syllables[i // 100 % 10] + syllables[i // 10 % 10] + syllables[i % 10]
                      for i in range(WORDS)])  # fmt: skip
    schema = pa.schema([("title", pa.string()), ("photo", pa.binary()), *((n, pa.float64()) for n in NUMBERS),
                        ("kind", pa.string())])  # fmt: skip
    with pq.ParquetWriter(path, schema) as out:
        for start in range(0, rows, GROUP):
            draw = np.random.default_rng([seed, start])
            count = min(GROUP, rows - start)
            bits = draw.integers(0, 2, (count, 3))
            numbers = draw.normal(size=(count, len(NUMBERS)))
            bits[:, 1] = numbers @ TELLING > 0
            columns = [texts(draw, names, bits[:, 0]), pictures(draw, bits[:, 2]), *numbers.T,
                       np.char.add("kind ", (bits @ [4, 2, 1]).astype(str))]  # fmt: skip
            out.write_table(pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema))


def texts(draw: np.random.Generator, names: np.ndarray, topic: np.ndarray) -> list[str]:
    """Frequent and rare words, three of them (in any place) from the words of the row's topic."""
    share = 1 / np.arange(1, WORDS - 2 * TOPIC + 1)
    words = 2 * TOPIC + draw.choice(len(share), (len(topic), LENGTH), p=share / share.sum())
    words[:, :3] = draw.integers(0, TOPIC, (len(topic), 3)) + TOPIC * topic[:, None]
    return [" ".join(row) for row in names[draw.permuted(words, axis=1)]]


def pictures(draw: np.random.Generator, side: np.ndarray) -> list[bytes]:
    """16 x 16 colours in blocks of four, each picture its own; the left half or the right half is the brighter one."""
    blocks = draw.integers(0, 160, (len(side), 4, 2, 2, 3), np.uint8)
    blocks[np.arange(len(side)), :, side] += np.uint8(80)
    pixels = blocks.reshape(len(side), 4, 4, 3).repeat(4, 1).repeat(4, 2)
    lines = np.zeros((len(side), 16, 1 + 48), np.uint8)  # a zero says: this line is not filtered
    lines[:, :, 1:] = pixels.reshape(len(side), 16, 48)
    return [png(line.tobytes()) for line in lines]


def png(lines: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines, 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@dataclass
class Watched:
    """What a command took. Memory in bytes: the largest sums over its processes that were seen, and the kernel's own
    mark of the main process."""

    seconds: float = 0.0
    cpu: float = 0.0
    resident: int = 0
    anonymous: int = 0
    files: int = 0
    mark: int = 0
    curve: list[tuple[float, int]] = field(default_factory=list)


def watch(command: list[str], every: float = 0.05) -> Watched:
    """Run a command to its end. Raises CalledProcessError where it fails."""
    found = Watched()
    began = time.monotonic()
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
    told: list[str] = []
    reader = threading.Thread(target=lambda: told.extend(process.stderr or ()))
    reader.start()
    while process.poll() is None:
        _look(psutil.Process(process.pid), found, time.monotonic() - began)
        time.sleep(every)
    reader.join()
    found.seconds = time.monotonic() - began
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr="".join(told))
    return found


def _look(process: psutil.Process, found: Watched, now: float) -> None:
    try:
        tree = [process, *process.children(recursive=True)]
        status = [dict(line.split(":", 1) for line in Path(f"/proc/{p.pid}/status").read_text().splitlines())
                  for p in tree]  # fmt: skip
        times = [p.cpu_times() for p in tree]
    except (psutil.Error, OSError):
        return
    kilobytes = {key: sum(int(s.get(key, "0 kB").split()[0]) for s in status) for key in
                 ("VmRSS", "RssAnon", "RssFile", "RssShmem")}  # fmt: skip
    found.resident = max(found.resident, 1024 * kilobytes["VmRSS"])
    found.anonymous = max(found.anonymous, 1024 * (kilobytes["RssAnon"] + kilobytes["RssShmem"]))
    found.files = max(found.files, 1024 * kilobytes["RssFile"])
    found.mark = max(found.mark, 1024 * int(status[0].get("VmHWM", "0 kB").split()[0]))
    found.cpu = max(found.cpu, sum(t.user + t.system for t in times))
    if not found.curve or now - found.curve[-1][0] >= 1.0:
        found.curve.append((now, 1024 * kilobytes["VmRSS"]))


def accuracy(table: Path, answers: Path, rows: int) -> float:
    """The share of right answers. Raises AssertionError unless there is one for each row, in order."""
    truth = pq.ParquetFile(table).iter_batches(8192, columns=["kind"])
    given = pq.ParquetFile(answers)
    assert given.metadata.num_rows == rows, f"{given.metadata.num_rows} answers for {rows} rows"
    right = at = 0
    numbers = given.iter_batches(8192, columns=["row", "kind", "error"])
    for true, said in zip(truth, numbers, strict=True):
        assert said["row"].to_pylist() == list(range(at, at + len(true))), f"out of order after row {at}"
        assert said["error"].null_count == len(true), f"a row after {at} was not answered"
        right += sum(a == b for a, b in zip(true["kind"].to_pylist(), said["kind"].to_pylist(), strict=True))
        at += len(true)
    return right / rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--text", default="gru", help="encoder of the text: gru, bag, ...")
    parser.add_argument("--limit", type=float, default=1.5, help="GB of resident memory that are allowed")
    parser.add_argument("--folder", type=Path, help="keep table, run and answers here")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sys.exit(measure(options, options.folder or Path(scratch)))


def measure(options: argparse.Namespace, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    table, run, answers, spec = (folder / n for n in ("rows.parquet", "run", "answers.parquet", "spec.yaml"))
    began = time.monotonic()
    make_table(table, options.rows)
    made = time.monotonic() - began
    spec.write_text(SPEC.format(table=table, text=options.text, numbers=", ".join(NUMBERS)))
    polymodal = [sys.executable, "-m", "polymodal"]
    took = {
        "train": watch([*polymodal, "train", str(spec), "--out", str(run)]),
        "predict": watch([*polymodal, "predict", str(run), str(table), "--out", str(answers), "--quiet"]),
    }
    share = accuracy(table, answers, options.rows)
    within = max(w.resident for w in took.values()) < options.limit * 1e9
    page = written(options, table.stat().st_size, made, took, share, within)
    options.out.write_text(page)
    print(page)
    for name, w in took.items():
        print(name, " ".join(f"{t:.0f}s:{m / 1e6:.0f}" for t, m in w.curve[:: max(1, len(w.curve) // 60)]))
    return 0 if within and share > 2 * CHANCE else 1


def written(options: argparse.Namespace, size: int, made: float, took: dict[str, Watched], share: float,
            within: bool) -> str:  # fmt: skip
    head = "| command | wall | CPU | rows/s | peak resident | of it anonymous | of it files | kernel's mark |"
    lines = [head, "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for name, w in took.items():
        memory = " | ".join(f"{x / 1e6:,.0f} MB" for x in (w.resident, w.anonymous, w.files, w.mark))
        lines.append(f"| `{name}` | {w.seconds:,.0f} s | {w.cpu:,.0f} s | {options.rows / w.seconds:,.0f} | {memory} |")
    table = (f"{options.rows:,} rows in {size / 1e6:,.0f} MB of Parquet (made in {made:.0f} s): a text of {LENGTH} "
             f"words, {len(NUMBERS)} numbers, a 16 × 16 PNG; no two pictures are equal. One core.")  # fmt: skip
    verdict = "below" if within else "NOT below"
    result = (f"Resident memory is {verdict} {options.limit} GB. `train` reads everything, trains one epoch on nine "
              f"tenths, and scores the tenth held out, whole and with each input withheld. `predict` wrote exactly one "
              f"answer per row, in order; {share:.1%} are right (chance: {CHANCE:.1%}).")  # fmt: skip
    note = "Peaks of anonymous and file memory need not fall together. MB are 10^6 bytes."
    command = f"    python benchmarks/million_rows.py --rows {options.rows} --text {options.text}"
    return "\n".join(["# A million rows", "", command, "", table, "", *lines, "", result, "", note, ""])


if __name__ == "__main__":
    main()
