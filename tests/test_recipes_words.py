"""The recipes that answer in words: their judge, their tables, and the pretrained ones on tiny stand-ins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from polymodal.core import spec as specs
from polymodal.core import yaml12
from polymodal.data.tables import open_table
from test_recipes import ROOT, recipe_module

TRUE = "a large red circle at the top left and a small blue square at the top right"


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        (TRUE, (8, 8, 2, 2)),
        ("a large red circle at the top left", (4, 4, 2, 1)),
        ("a small red circle at the top left", (4, 3, 2, 1)),  # its size is no part of being named
        ("a large green circle at the top left and a small blue square at the top right", (8, 7, 2, 1)),
        ("a large red circle at the bottom left", (4, 0, 2, 0)),
        ("a red", (8, 0, 2, 0)),
        ("", (8, 0, 2, 0)),
        ("左上角有一个大的红色圆形；右上角有一个小的蓝色正方形", (8, 8, 2, 2)),
    ],
)
def test_what_a_caption_states_is_judged(said: str, counts: tuple[int, int, int, int]) -> None:
    assert recipe_module("scenes_captions").judge(said, TRUE) == counts


def test_shares_are_of_all_facts_and_things_not_means_over_rows() -> None:
    module = recipe_module("scenes_captions")
    records = module.judged([TRUE, "a large red circle at the top left"], [TRUE, TRUE])
    found = module.shares(records, np.array([[1.0, 1.0], [1.0, 0.0]]))
    np.testing.assert_allclose(found["facts_right"], [1.0, 1.0])
    np.testing.assert_allclose(found["objects_named"], [3 / 4, 1.0])


def test_the_sentence_needs_all_three_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = recipe_module("text_image_audio_to_text")
    monkeypatch.setattr(module, "ROWS", 80)
    table = open_table(module.prepare(tmp_path, tmp_path) / "scenes" / "told.csv")
    pictures = [table.cell(i, "picture") for i in range(len(table))]
    assert len(set(pictures)) == len(pictures) == 40
    for i in range(len(table)):
        kilograms = float(str(table.cell(i, "text")).split()[3])
        assert ("heavy" in str(table.cell(i, "sentence"))) == (kilograms > 5)


def photographs(folder: Path) -> Path:
    """A folder like the data set's, with eight small pictures of noise."""
    (folder / "flickr8k" / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, said in {"captions.csv": "a dog number {}", "captions_zh.csv": "第{}只狗"}.items():
        lines = ["split,image,caption"]
        for i in range(8):
            path = f"images/{i}.jpg"
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(folder / "flickr8k" / path)
            lines += [f"{'train' if i < 5 else 'val'},{path},{said.format(k)}" for k in range(3)]
        (folder / "flickr8k" / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_photographs_have_their_sentences_in_one_row(tmp_path: Path) -> None:
    module = recipe_module("flickr8k")
    table = open_table(module.prepare(photographs(tmp_path / "data"), tmp_path / "out") / "flickr8k" / "table.csv")
    splits = [table.cell(i, "split") for i in range(len(table))]
    assert splits == ["valid", "train", "train", "train", "train", "test", "test", "test"]
    assert json.loads(str(table.cell(0, "zh"))) == ["第0只狗", "第1只狗", "第2只狗"]
    assert len({table.cell(i, "blank") for i in range(8)}) == 1


def test_other_peoples_pictures_are_never_ones_own() -> None:
    order = recipe_module("flickr8k").derangement(50)
    assert sorted(order) == list(range(50))
    assert all(i != j for i, j in enumerate(order))


@pytest.mark.parametrize("name", ["flickr8k_pretrained", "text_image_audio_to_text_pretrained"])
def test_pretrained_recipes_run_on_stand_ins(
    name: str, hub: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from polymodal import api

    module = recipe_module(name)
    if name.startswith("flickr8k"):
        data = module.prepare(photographs(tmp_path / "data"), tmp_path / "out")
        stands = ["inputs.picture.encoder.name=" + hub("image"), "tasks.en.decoder.name=" + hub("lm")]
    else:
        monkeypatch.setattr(recipe_module("text_image_audio_to_text"), "ROWS", 80)
        data = module.prepare(tmp_path, tmp_path / "out")
        stands = ["inputs.picture.encoder.name=" + hub("image"), "inputs.text.encoder.name=" + hub("text"),
                  "tasks.sentence.decoder.name=" + hub("lm")]  # fmt: skip
    plain: Any = yaml12.loads((ROOT / f"{name}.yaml").read_text(encoding="utf-8"), name)
    plain["data"]["train"] = str(data / plain["data"]["train"])
    small = ["train.epochs=1", "train.threads=1", "model.width=16", "inputs.picture.size=null", *stands]
    plain = specs.override(plain, small)
    plain["inputs"]["picture"].pop("size")  # as its stand-in wants it
    run = api.train(spec=plain, out=tmp_path / "run", quiet=True)
    task = next(iter(plain["tasks"]))
    assert {"cider", "bleu_4"} <= run.metrics["test"]["tasks"][task].keys()
    assert module.also(run, data)
