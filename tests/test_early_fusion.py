"""Early fusion from end to end: equal to late fusion where the encoder is linear, and a stack through every face."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import polymodal
from endtoend import TRAIN, Shell
from polymodal import assemble
from polymodal.assemble import Assembly
from polymodal.core import spec as specs
from polymodal.core import yaml12
from polymodal.core.seeds import generator
from polymodal.data.ledger import Ledger
from polymodal.data.splits import Part
from polymodal.data.tables import Table, open_table

SIZE = 8
CAMERA: dict[str, Any] = {"type": "image", "column": "cam", "size": SIZE}
RADAR: dict[str, Any] = {"type": "image", "column": "rad", "size": SIZE, "channels": 1}
TASKS: dict[str, Any] = {"label": "classify"}


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """A bright square in each of two pictures; the label says whether it is at the same place in both."""
    rng, made = generator("early", seed), []
    for _ in range(count):
        same = bool(rng.integers(2))
        one = rng.integers(0, 4, 2)
        two = one if same else (one + rng.integers(1, 4, 2)) % 4
        pictures = [rng.integers(0, 60, (SIZE, SIZE), dtype=np.uint8) for _ in range(2)]
        for picture, (y, x) in zip(pictures, (one, two), strict=True):
            picture[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] += 180
        made.append({"cam": np.repeat(pictures[0][..., None], 3, 2), "rad": pictures[1], "label": str(same)})
    return made


def built(table: Table, part: Part, tmp_path: Path, **plain: Any) -> Assembly:
    return assemble.fit(specs.parse({"tasks": TASKS, **plain}), part, tmp_path)


def fused(assembly: Assembly, part: Part) -> torch.Tensor:
    """The fused vectors of all rows [B D]."""
    dataset = assembly.dataset(part, Ledger(), targets=False)
    batch, _ = dataset.load(part.rows)
    assert batch is not None
    with torch.no_grad():
        return assembly.model.eval()(batch, respond=True).fused.tokens[:, 0]


@pytest.mark.parametrize(("encoder", "equal"), [("LinearPixels", True), ("BentPixels", False)])
def test_early_is_late_fusion_where_the_encoder_is_linear(encoder: str, equal: bool, tmp_path: Path) -> None:
    """W [x; y] + b = (U x + c) + (V y + d) with W = [U, V] and b = c + d; not so through a kink."""
    table = open_table(rows(24))
    part = Part(table, np.arange(24))
    chosen = {"type": f"linear_parts:{encoder}", "width": 6}
    inputs = {"camera": CAMERA, "radar": RADAR}
    early = built(table, part, tmp_path / "early",
                  inputs={**inputs, "rig": {"stack": ["camera", "radar"], "encoder": chosen}})  # fmt: skip
    late = built(table, part, tmp_path / "late", inputs={n: {**one, "encoder": chosen} for n, one in inputs.items()},
                 fusion="sum")  # fmt: skip
    whole, first, second = (
        early.model.encoders["rig"].map, late.model.encoders["camera"].map, late.model.encoders["radar"].map,
    )  # fmt: skip
    with torch.no_grad():
        first.weight.copy_(whole.weight[:, : 3 * SIZE * SIZE])
        second.weight.copy_(whole.weight[:, 3 * SIZE * SIZE :])
        first.bias.copy_(0.25 * whole.bias)
        second.bias.copy_(0.75 * whole.bias)
    gap = (fused(early, part) - fused(late, part)).abs().max().item()
    assert (gap < 1e-5) == equal, gap
    assert equal or gap > 0.01


@pytest.mark.parametrize(("encoder", "equal"), [("linear", True), ("cnn", False)])
def test_early_is_late_fusion_of_series(encoder: str, equal: bool, tmp_path: Path) -> None:
    """The same with series of three and two channels, step by step: `linear` is, a net with a kink is not."""
    draw = generator("early series")
    table = open_table([{"pulse": draw.normal(size=(9, 3)), "breath": draw.normal(size=(9, 2)), "label": str(i % 2)}
                        for i in range(20)])  # fmt: skip
    part, chosen = Part(table, np.arange(20)), {"type": encoder, "width": 6}
    inputs: dict[str, Any] = {n: {"type": "series", "column": n} for n in ("pulse", "breath")}
    body = {"stack": list(inputs), "encoder": chosen}
    early = built(table, part, tmp_path / "early", inputs={**inputs, "body": body})
    late = built(table, part, tmp_path / "late", inputs={n: {**one, "encoder": chosen} for n, one in inputs.items()},
                 fusion="sum")  # fmt: skip
    maps = [early.model.encoders["body"], late.model.encoders["pulse"], late.model.encoders["breath"]]
    with torch.no_grad():
        whole, *parts = ([m.map] if encoder == "linear" else list(m.convolutions) for m in maps)
        for at, (one, two) in enumerate(zip(*parts, strict=True)):
            weight, bias = whole[at].weight, whole[at].bias
            split = (weight[:, :3], weight[:, 3:]) if at == 0 else (weight, weight)
            for share, mine, block in ((0.25, one, split[0]), (0.75, two, split[1])):
                mine.weight.copy_(block)
                mine.bias.copy_(share * bias)
    gap = (fused(early, part) - fused(late, part)).abs().max().item()
    assert (gap < 1e-5) == equal, gap
    assert equal or gap > 0.01


def test_two_arrays_of_one_archive_are_two_members(tmp_path: Path) -> None:
    """Both members read one column, the number of an item, each from an array of its own."""
    draw = generator("early archive")
    pulse, breath = draw.normal(size=(16, 9, 3)), draw.normal(size=(16, 9, 2))
    np.savez(tmp_path / "body.npz", pulse=pulse, breath=breath)
    table = open_table([{"item": i, "label": str(i % 2)} for i in range(16)], root=tmp_path)
    part = Part(table, np.arange(16))
    stack = {n: {"column": "item", "array": "body.npz", "key": n, "normalize": "none"} for n in ("pulse", "breath")}
    inputs = {"body": {"type": "series", "stack": stack, "encoder": {"type": "linear", "width": 4}}}
    made = built(table, part, tmp_path / "parts", inputs=inputs)
    batch, bad = made.dataset(part, Ledger(), targets=False).load(part.rows)
    assert batch is not None
    assert not bad
    expected = np.concatenate([pulse, breath], 2).astype(np.float32)
    assert np.array_equal(batch.inputs["body"].data["values"].numpy(), expected)
    assert made.dataset(part, Ledger(), targets=False).costs().tolist() == [pulse[0].nbytes] * 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Picture files and a table of them: row 0 lacks its camera, row 1 both, row 2's radar is no picture."""
    place = tmp_path_factory.mktemp("early")
    lines = rows(480, seed=1)
    for i, row in enumerate(lines):
        for column in ("cam", "rad"):
            Image.fromarray(row[column]).save(place / f"{column}{i}.png")
            row[column] = f"{column}{i}.png"
    lines[0]["cam"] = lines[1]["cam"] = lines[1]["rad"] = ""
    (place / "rad2.png").write_bytes(b"no picture")
    for i, row in enumerate(lines):
        row["split"] = "test" if i % 8 == 7 else "train"
    with open(place / "rows.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    spec: dict[str, Any] = {
        "data": {"train": str(place / "rows.csv"), "split": "column", "split_column": "split"},
        "inputs": {"camera": CAMERA, "radar": RADAR,
                   "rig": {"stack": ["camera", "radar"],
                           "encoder": {"type": "cnn", "channels": [16, 32], "norm": "batch"}}},
        "tasks": TASKS, "train": {**TRAIN, "epochs": 12, "batch": 32},
    }  # fmt: skip
    (place / "spec.yaml").write_text(yaml12.dumps(spec))
    return place


@pytest.fixture(scope="module")
def run(folder: Path) -> polymodal.Run:
    return polymodal.train(spec=folder / "spec.yaml", out=folder / "run", quiet=True)


def test_a_stack_learns_what_only_both_together_say(run: polymodal.Run) -> None:
    assert run.metrics["test"]["tasks"]["label"]["accuracy"]["value"] > 0.8
    assert list(run.spec.inputs) == ["rig"]


def test_a_run_with_a_stack_is_saved_loaded_and_says_the_same(run: polymodal.Run, folder: Path) -> None:
    again = polymodal.load(run.folder)
    assert again.spec.json() == run.spec.json()
    assert again.predict(folder / "rows.csv") == run.predict(folder / "rows.csv")
    assert "input **rig**: image" in (run.folder / "README.md").read_text()


def test_missing_and_bad_members(run: polymodal.Run, folder: Path) -> None:
    lines = run.predict(folder / "rows.csv")
    assert isinstance(lines, list)
    assert lines[0]["label"] in ("True", "False"), "the radar alone is answered"
    assert lines[1]["label"] in ("True", "False"), "and so is a row with neither"
    assert lines[2]["label"] is None
    assert lines[2]["error"] == "cam, rad: radar: not a picture of a known format"
    assert [e.row for e in run.ledger] == [2]
    gone = open_table([{"cam": "none.png", "rad": "rad3.png"}], root=folder)
    assert "camera: file not found" in run.predict(gone)[0]["error"]  # type: ignore[index]


def test_the_check_finds_rows_that_stand_in_two_parts(folder: Path, shell: Shell) -> None:
    done = shell("check", folder / "rows.csv", "--spec", folder / "spec.yaml", "--json")
    assert json.loads(done.out)["leaks"] == []
    with open(folder / "rows.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    lines[7] |= {"cam": lines[8]["cam"], "rad": lines[8]["rad"]}  # a test row with the pictures of a training row
    with open(folder / "leaking.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    found = json.loads(shell("check", folder / "leaking.csv", "--spec", folder / "spec.yaml", "--json").out)
    assert [(leak["input"], leak["rows"]) for leak in found["leaks"]] == [("rig", 1)]


def test_from_python_with_columns_of_a_table() -> None:
    table = rows(60)
    for row in table:
        row["cam"] = row["cam"][..., 0]
    drawn = polymodal.draft(table, "label", inputs={"rig": {"type": "image", "stack": ["cam", "rad"], "size": SIZE}})
    assert drawn.spec.inputs["rig"].columns == ("cam", "rad")


def test_the_estimator_takes_a_stack() -> None:
    pytest.importorskip("sklearn")
    from polymodal.sklearn import MultimodalClassifier

    table = rows(40)
    X = [{k: row[k] for k in ("cam", "rad")} for row in table]
    inputs = {"camera": CAMERA, "radar": RADAR,
              "rig": {"stack": ["camera", "radar"], "encoder": {"type": "cnn", "channels": [4, 8]}}}  # fmt: skip
    made = MultimodalClassifier(inputs=inputs, preset=None, epochs=1, settings={"device": "cpu", "threads": 1})
    assert len(made.fit(X, [row["label"] for row in table]).predict(X)) == 40
