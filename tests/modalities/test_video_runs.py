"""Clips from a table to predictions: files, folders of frames and archives; what the columns are taken for."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import animation, film, picture, scene

import polymodal
from polymodal.data.source import Source
from polymodal.data.tables import open_table
from polymodal.modalities.video.read import VideoReader

PICTURE = {"type": "cnn", "channels": [4], "head": "mean"}
CLIP = {"type": "video", "column": "clip", "frames": 3, "size": [8, 12], "channels": 1,
        "encoder": {"type": "frames", "picture": PICTURE, "width": 4}}  # fmt: skip
TASK = {"way": {"type": "classify", "column": "way"}}


def rows(folder: Path) -> Path:
    """Twelve clips, every third a video file, an animation and a folder of frames; the last row's file is cut off."""
    lines = ["clip,way"]
    for at in range(12):
        frames, name = scene(5, 16, 24, seed=at), f"{at}{('.mp4', '.gif', '')[at % 3]}"
        if at % 3 == 2:
            (folder / name).mkdir()
            for i, frame in enumerate(frames):
                (folder / name / f"frame{9 + i}.png").write_bytes(picture(frame))
        else:
            content = animation(frames, "GIF") if at % 3 else film(frames)
            (folder / name).write_bytes(content)
        lines.append(f"{name},{'left' if at % 2 else 'right'}")
    (folder / "cut.mp4").write_bytes(film(scene(9))[:600])
    (folder / "rows.csv").write_text("\n".join([*lines, "cut.mp4,left"]))
    return folder / "rows.csv"


def answers(run: Any, table: Path, out: Path) -> list[dict[str, str]]:
    run.predict(table, out=out)
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("clips")
    table = rows(folder)
    spec = {"data": {"train": str(table), "valid": 0.25}, "inputs": {"clip": CLIP}, "tasks": TASK,
            "train": {"epochs": 1, "batch": 4, "device": "cpu"}}  # fmt: skip
    return polymodal.train(spec=spec, out=folder / "run", quiet=True), table


def test_files_animations_and_folders_in_one_column(trained: tuple[Any, Path], tmp_path: Path) -> None:
    run, table = trained
    found = answers(run, table, tmp_path / "answers.csv")
    assert len(found) == 13
    assert all(row["way"] in ("left", "right") and not row["error"] for row in found[:12])
    assert "not a video" in found[12]["error"]
    assert not found[12]["way"]


def test_items_of_an_archive(tmp_path: Path) -> None:
    """They are read as the same frames in folders are; a number without an item is a bad cell."""
    clips = [scene(length, 16, 24, seed=length) for length in (5, 1, 3, 9, 2, 4, 6, 7)]
    edges = np.cumsum([0, *map(len, clips)])
    np.savez(tmp_path / "clips.npz", video=np.concatenate(clips), offsets=edges)
    lines = [f"{at},{'left' if at % 2 else 'right'}" for at in [*range(8), 8]]
    (tmp_path / "rows.csv").write_text("\n".join(["clip,way", *lines]))
    archive = {**CLIP, "array": "clips.npz", "key": "video", "offsets": "offsets"}
    spec = {"data": {"train": str(tmp_path / "rows.csv"), "valid": 0.25}, "inputs": {"clip": archive}, "tasks": TASK,
            "train": {"epochs": 1, "batch": 4, "device": "cpu"}}  # fmt: skip
    run = polymodal.train(spec=spec, out=tmp_path / "run", quiet=True)
    found = answers(run, tmp_path / "rows.csv", tmp_path / "answers.csv")
    assert [row["error"] == "" for row in found] == [True] * 8 + [False]
    assert "no item 8" in found[8]["error"]
    reader, plain = VideoReader(**settings(archive)), VideoReader(**settings(CLIP))
    source = Source(open_table(tmp_path / "rows.csv"), "clip", reader, ("clip",), target=False, cache=None)
    for cell, clip in zip(source.cells(np.arange(8)), clips, strict=True):
        folder = tuple(picture(frame) for frame in clip)
        assert np.array_equal(reader.decode(cell)["frames"], plain.decode(folder)["frames"])


def settings(block: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in block.items() if k not in ("type", "column", "encoder")}


def test_what_a_column_is_taken_for(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    for at in range(8):
        (tmp_path / f"{at}.mp4").write_bytes(film(scene(3, seed=at)))
    table.write_text("clip,way\n" + "\n".join(f"{at}.mp4,{'ab'[at % 2]}" for at in range(8)))
    draft = polymodal.draft(table, "way")
    assert draft.spec.inputs["clip"].reader.type == "video"
    assert draft.spec.inputs["clip"].encoder.type == "frames"
