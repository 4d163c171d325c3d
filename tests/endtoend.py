"""What the end-to-end tests share: real files, small tables, a small spec, the command line, what it leaves behind."""

from __future__ import annotations

import csv
import json
import struct
import wave
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from polymodal import cli
from polymodal.core import yaml12

INPUTS: dict[str, Any] = {
    "photo": {"type": "image", "size": 16, "encoder": {"type": "cnn", "channels": [4, 8]}},
    "title": {"type": "text", "min_count": 1, "encoder": {"type": "gru", "width": 8}},
    "sound": {"type": "audio", "rate": 8000, "mels": 16, "encoder": {"type": "gru", "width": 8}},
    "facts": {
        "type": "tabular", "columns": ["price", "brand"], "numeric": ["price"], "encoder": {"type": "mlp", "width": 8},
    },
}  # fmt: skip
TRAIN = {"epochs": 1, "batch": 8, "lr": 0.01, "device": "cpu", "threads": 1}
COLUMNS = ("photo", "title", "sound", "price", "brand", "label")
Rows = list[dict[str, Any]]


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


class Shell:
    """The command line in this process; no command may end in a traceback or in a code of its own making."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self.captured = captured

    def __call__(self, *words: object) -> Done:
        self.captured.readouterr()
        code = cli.main([str(w) for w in words])
        done = Done(code, *self.captured.readouterr())
        assert "Traceback" not in done.err
        assert code in (0, 2)
        return done

    def fails(self, *words: object) -> str:
        """The message of a command that must end as a user's mistake: one screen, on standard error alone."""
        done = self(*words)
        assert done.code == 2, done
        assert not done.out
        assert 1 <= len(done.err.splitlines()) <= 25
        assert all(len(line) < 1000 for line in done.err.splitlines())
        return done.err

    def works(self, *words: object) -> Done:
        done = self(*words)
        assert done.code == 0, done.err
        return done


class Trained(NamedTuple):
    """Good rows, their files, and a run trained on them. Nothing in the folder is to be changed by a test."""

    folder: Path
    run: Path
    rows: Rows
    answers: Rows  # to the rows, in order

    @classmethod
    def make(cls, folder: Path) -> Trained:
        rows = make_rows(folder, 40)
        table = write_table(folder / "rows.csv", rows)
        plan = write_spec(folder / "spec.yaml", spec(table, train={"epochs": 2}))
        assert cli.main(["train", str(plan), "--out", str(folder / "run"), "--quiet"]) == 0
        assert cli.main(["predict", str(folder / "run"), str(table), "--out", str(folder / "answers.jsonl")]) == 0
        return cls(folder, folder / "run", rows, read_answers(folder / "answers.jsonl"))

    def table(self, path: Path, rows: Rows) -> Path:
        """A table somewhere else whose cells find these files."""

        def there(row: dict[str, Any]) -> dict[str, Any]:
            named = {c: str(self.folder / row[c]) for c in ("photo", "sound") if isinstance(row.get(c), str)}
            return {**row, **named}

        return write_table(path, [there(row) for row in rows])


def spec(table: Path | str | None, inputs: Iterable[str] = INPUTS, **sections: Any) -> dict[str, Any]:
    """A small spec over some of `INPUTS`, or inputs of its own; `data` and `train` are merged, others replaced."""
    chosen = dict(inputs) if isinstance(inputs, Mapping) else {name: INPUTS[name] for name in inputs}
    plain: dict[str, Any] = {"data": {"train": str(table)}, "inputs": chosen, "tasks": {"label": "classify"}}
    if len(chosen) > 1:
        plain["fusion"] = {"type": "concat"}
    merged = {"data": {**plain["data"], **sections.pop("data", {})}, "train": {**TRAIN, **sections.pop("train", {})}}
    return json.loads(json.dumps({**plain, **merged, **sections}))


def write_spec(path: Path, plain: Mapping[str, Any]) -> Path:
    path.write_text(yaml12.dumps(plain), encoding="utf-8")
    return path


def make_rows(folder: Path, count: int, seed: int = 0) -> Rows:
    """Rows with files of their own, of which all columns say a little about the label."""
    g = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        label = "yes" if i % 2 else "no"
        red = 160 if i % 2 else 60
        picture = g.integers(0, 90, (20, 20, 3)) + np.array([red, 0, 60])
        photo, sound = folder / f"photo-{seed}-{i}.png", folder / f"sound-{seed}-{i}.wav"
        Image.fromarray(picture.astype(np.uint8)).save(photo)
        write_wav(sound, np.sin(np.arange(800) * (0.3 if i % 2 else 0.9)) * g.uniform(0.2, 0.9))
        words = g.choice(["red", "blue", "green", "mug", "lamp", "bowl"], 4).tolist() + (["sharp"] if i % 2 else [])
        price, brand = round(float(g.normal(30 + 10 * (i % 2), 5)), 2), str(g.choice(["Acme", "Bolt"]))
        rows.append({"photo": photo.name, "title": " ".join(words), "sound": sound.name, "price": price,
                     "brand": brand, "label": label})  # fmt: skip
    return rows


def write_wav(path: Path, samples: np.ndarray, rate: int = 8000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def write_table(path: Path, rows: Rows) -> Path:
    """The rows as CSV, JSON Lines or Parquet, by the ending; a column of many types is text in Parquet."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(names)
            table.writerows([["" if row.get(n) is None else row[n] for n in names] for row in rows])
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {n: [row.get(n) for row in rows] for n in names}
        mixed = {n for n, cells in columns.items() if len({type(c) for c in cells if c is not None}) > 1}
        text = {n: [None if c is None else str(c) for c in cells] if n in mixed else cells
                for n, cells in columns.items()}  # fmt: skip
        pq.write_table(pa.table(text), path)
    return path


def read_answers(path: Path) -> Rows:
    """The lines of a prediction file; empty cells are None, whatever the format."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            found = [{k: v or None for k, v in line.items()} for line in csv.DictReader(file)]
        for line in found:
            line["row"] = int(line["row"] or 0)
            confidence = line["label.confidence"]
            line["label.confidence"] = None if confidence is None else float(confidence)
        return found
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()


def read_ledger(run: Path) -> Rows:
    return [json.loads(line) for line in (run / "ledger.jsonl").read_text(encoding="utf-8").splitlines()]


def same_answer(a: Mapping[str, Any], b: Mapping[str, Any], within: float = 1e-5) -> bool:
    """Whether two lines say the same of a row, wherever the row stands."""
    if a["label"] is None or b["label"] is None:
        return a["label"] is b["label"] is None and a["error"] == b["error"]
    return a["label"] == b["label"] and abs(a["label.confidence"] - b["label.confidence"]) <= within


def huge_png(side: int) -> bytes:
    """A whole, valid grey PNG of side x side black pixels, in a moment: the stream is one block of zeros repeated.

    After a full flush a piece of a deflate stream stands for itself, and the Adler-32 of n zeros is (n mod 65521, 1).
    """
    total = side * (side + 1)  # a filter byte before every row
    piece = 1 << 20

    def deflated(size: int) -> bytes:
        packer = zlib.compressobj(wbits=-15)
        return packer.compress(bytes(size)) + packer.flush(zlib.Z_FULL_FLUSH)

    body = deflated(piece) * (total // piece) + deflated(total % piece) + b"\x03\x00"
    stream = b"\x78\x9c" + body + struct.pack(">HH", total % 65521, 1)
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", stream), (b"IEND", b"")]
    packed = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)
