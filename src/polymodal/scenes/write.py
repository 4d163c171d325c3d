"""A folder of scenes: table.csv, pictures, sounds, masks, boxes.json and a README."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image

from polymodal.core.schema import Json
from polymodal.scenes.draw import box, classes
from polymodal.scenes.facts import SHAPES
from polymodal.scenes.rows import Scene, SceneRow, scene_rows, truth
from polymodal.scenes.say import caption
from polymodal.scenes.sound import wav

README = Path(__file__).with_name("README.md")


def make_scenes(
    folder: str | Path,
    rows: int = 2000,
    *,
    seed: int = 0,
    size: int = 64,
    language: Literal["en", "zh", "both"] = "en",
    objects: int = 1,
    valid: float = 0.15,
    test: float = 0.15,
) -> Path:
    """Write the rows of `scene_rows` as files and return the path of their table.csv. The same call, the same bytes."""
    made = scene_rows(rows, seed=seed, size=size, language=language, objects=objects, valid=valid, test=test)
    folder = Path(folder)
    for name in ("pictures", "masks", "sounds"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    written: dict[int, Scene] = {}
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as file:
        table = None
        for row in made:
            if row.scene.number not in written:
                _write_scene(folder, row.scene)
                written[row.scene.number] = row.scene
            cells = row_cells(row)
            if table is None:
                table = csv.DictWriter(file, list(cells), lineterminator="\n")
                table.writeheader()
            table.writerow(cells)
    (folder / "boxes.json").write_text(json.dumps(coco([written[n] for n in sorted(written)])) + "\n", "utf-8")
    (folder / "README.md").write_text(README.read_text("utf-8"), "utf-8")
    return folder / "table.csv"


def _files(scene: Scene) -> dict[str, str]:
    name = f"{scene.number:05d}"
    return {"picture": f"pictures/{name}.png", "sound": f"sounds/{name}.wav", "mask": f"masks/{name}.png"}


def _write_scene(folder: Path, scene: Scene) -> None:
    files = _files(scene)
    scene.picture.save(folder / files["picture"])
    Image.fromarray(classes(scene.facts.things, scene.masks)).save(folder / files["mask"])
    (folder / files["sound"]).write_bytes(wav(scene.sound))


def row_cells(row: SceneRow) -> dict[str, Json]:
    """The cells of one row of the table, by column."""
    scene, files = row.scene, _files(row.scene)
    return {
        "picture": files["picture"],
        "sentence": row.sentence,
        "sound": files["sound"],
        "kilograms": scene.kilograms,
        "celsius": scene.celsius,
        "match": row.match,
        **truth(scene),
        "count": len(scene.facts.things),
        "caption": caption(scene.facts.seen(), "en"),
        "caption_zh": caption(scene.facts.seen(), "zh"),
        "question": row.question,
        "answer": row.answer,
        "mask": files["mask"],
        "differs": row.differs,
        "language": row.language,
        "block": row.block,
        "split": row.split,
    }


def coco(scenes: Sequence[Scene]) -> Json:
    """The boxes of every picture as COCO writes them (Lin et al. 2014): left, top, width, height in pixels."""
    images: list[Json] = []
    boxes: list[Json] = []
    for scene in scenes:
        width, height = scene.picture.size
        name = _files(scene)["picture"]
        images.append({"id": scene.number, "file_name": name, "width": width, "height": height})
        for thing, mask in zip(scene.facts.things, scene.masks, strict=True):
            boxes.append(
                {
                    "id": len(boxes) + 1,
                    "image_id": scene.number,
                    "category_id": 1 + SHAPES.index(thing.shape),
                    "bbox": box(mask),
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(SHAPES, 1)]
    return {"images": images, "annotations": boxes, "categories": categories}
