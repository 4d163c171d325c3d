"""The folder on disk: the same bytes, and readable by independent readers."""

import csv
import hashlib
import io
import json
import wave

import numpy as np
import pytest
from PIL import Image

from polymodal.scenes import make_scenes, scene_rows
from polymodal.scenes.facts import SHAPES
from polymodal.scenes.sound import wav


def digest(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    table = make_scenes(folder, 80, seed=5, size=32, objects=3, language="both")
    with table.open(encoding="utf-8", newline="") as file:
        return folder, list(csv.DictReader(file))


def test_the_same_call_writes_the_same_bytes_and_a_shorter_table_is_its_beginning(made, tmp_path):
    folder, _ = made
    again, fewer = tmp_path / "again", tmp_path / "fewer"
    make_scenes(again, 80, seed=5, size=32, objects=3, language="both")
    assert digest(again) == digest(folder)
    make_scenes(fewer, 40, seed=5, size=32, objects=3, language="both")
    assert (folder / "table.csv").read_bytes().startswith((fewer / "table.csv").read_bytes())
    assert {n: d for n, d in digest(folder).items() if n in digest(fewer) and "/" in n} == {
        n: d for n, d in digest(fewer).items() if "/" in n
    }


def test_every_row_points_to_its_files(made):
    folder, table = made
    rows = list(scene_rows(80, seed=5, size=32, objects=3, language="both"))
    assert len(table) == 80
    for cells, row in zip(table, rows, strict=True):
        assert np.array_equal(np.asarray(Image.open(folder / cells["picture"])), np.asarray(row.scene.picture))
        mask = np.asarray(Image.open(folder / cells["mask"]))
        assert np.array_equal(mask > 0, row.scene.masks.any(0))
        with wave.open(str(folder / cells["sound"])) as sound:
            assert (sound.getframerate(), sound.getsampwidth(), sound.getnchannels()) == (8000, 2, 1)
            assert sound.getnframes() < 8000
            read = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
        assert np.array_equal(read, row.scene.sound)
        assert (cells["sentence"], cells["match"], cells["split"]) == (row.sentence, row.match, row.split)
        assert float(cells["kilograms"]) == row.scene.kilograms
        assert cells["shape"] == row.scene.facts.things[0].shape


def test_boxes_follow_the_format_of_coco(made):
    folder, table = made
    boxes = json.loads((folder / "boxes.json").read_text("utf-8"))
    assert [c["name"] for c in boxes["categories"]] == list(SHAPES)
    assert {i["file_name"] for i in boxes["images"]} == {cells["picture"] for cells in table}
    assert sum(int(c["count"]) for c in table) == 2 * len(boxes["annotations"])  # a scene stands in two rows
    masks = {
        i["id"]: np.asarray(Image.open(folder / i["file_name"].replace("pictures", "masks"))) for i in boxes["images"]
    }
    for one in boxes["annotations"]:
        x, y, width, height = one["bbox"]
        inside = masks[one["image_id"]][y : y + height, x : x + width] == one["category_id"]
        assert inside.sum() == one["area"]


def test_a_sound_in_memory_is_a_whole_file():
    samples = np.arange(-100, 100, dtype=np.int16)
    with wave.open(io.BytesIO(wav(samples))) as sound:
        assert np.array_equal(np.frombuffer(sound.readframes(200), "<i2"), samples)
