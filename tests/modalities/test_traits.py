"""What a person could measure of cells: closed forms for each modality."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from polymodal.core.traits import Names, Numbers, Trait, Words, spread, together
from polymodal.modalities.audio.read import AudioReader
from polymodal.modalities.image.read import ImageReader
from polymodal.modalities.series.read import SeriesReader
from polymodal.modalities.stacked import Stacked
from polymodal.modalities.tabular.read import TabularReader
from polymodal.modalities.text.read import TextReader
from polymodal.modalities.video.read import VideoReader


def measured(reader: Any, cells: list[Any]) -> dict[str, Trait]:
    reader.fit(cells)
    return reader.traits(cells, [reader.decode(cell) for cell in cells])


def values(traits: dict[str, Trait], name: str) -> list[float]:
    one = traits[name]
    assert isinstance(one, Numbers)
    return one.values.tolist()


def test_pictures() -> None:
    grey, red = Image.new("RGB", (40, 20), (51, 51, 51)), Image.new("RGB", (40, 20), (255, 0, 0))
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (16, 8)))
    found = measured(ImageReader(size=16, channels=3), [grey, red, stripes])
    assert values(found, "brightness") == pytest.approx([0.2, 0.299, 0.5], abs=1e-6)
    assert values(found, "contrast") == pytest.approx([0.0, 0.0, 0.5], abs=1e-6)
    assert values(found, "saturation") == pytest.approx([0.0, 1.0, 0.0], abs=1e-6)
    assert values(found, "warmth") == pytest.approx([0.0, 1.0, 0.0], abs=1e-6)
    assert values(found, "sharpness") == pytest.approx([0.0, 0.0, 0.5], abs=1e-6)  # across, not down
    assert values(found, "width") == [40, 40, 16]
    plain = measured(ImageReader(size=16, channels=1), [grey])
    assert "saturation" not in plain
    assert values(plain, "brightness") == pytest.approx([0.2], abs=1e-6)


def test_sounds() -> None:
    t = np.arange(16000) / 16000
    low, loud, high = np.sin(2 * np.pi * 200 * t), 10 * np.sin(2 * np.pi * 200 * t), np.sin(2 * np.pi * 5000 * t)
    half = np.where(t < 0.5, low, 0.0)
    found = measured(AudioReader(rate=16000), [x.astype(np.float32) for x in (low, loud, high, half)])
    assert values(found, "length") == pytest.approx([0.98] * 4, abs=0.011)  # whole frames of a second
    level = values(found, "level")
    assert level[1] - level[0] == pytest.approx(20.0, abs=0.01)
    assert values(found, "pitch")[2] > values(found, "pitch")[0] + 0.3
    assert values(found, "silence") == pytest.approx([0, 0, 0, 0.5], abs=0.03)


def test_texts() -> None:
    found = measured(TextReader(min_count=1), ["a red mug", "ein rotes 杯子 杯子杯", "", "1 2 3"])
    assert values(found, "characters") == [9, 16, 0, 5]
    assert found["script"] == Names(["latin", "latin", None, None])
    assert found["words"] == Words([frozenset({"a", "red", "mug"}), frozenset({"ein", "rotes", "杯", "子"}),
                                    frozenset(), frozenset()])  # fmt: skip
    reader = TextReader(min_count=1)
    reader.fit(["a red mug"])
    cells = ["a red mug", "a blue mug", "x y"]
    assert values(reader.traits(cells, [reader.decode(c) for c in cells]), "unknown") == pytest.approx([0, 1 / 3, 1])
    scripts = ["привет", "κόσμε", "مرحبا", "こんにちは", "안녕"]
    assert measured(TextReader(min_count=1), scripts)["script"] == Names(
        ["cyrillic", "greek", "arabic", "hiragana", "hangul"]
    )


def test_tables() -> None:
    rows = [{"price": "3.5", "brand": "A", "when": "2024-05-31"}, {"price": None, "brand": 3.0, "when": None}]
    found = measured(TabularReader(numeric=["price"], categorical=["brand"], dates=["when"]), rows)
    assert values(found, "price") == pytest.approx([3.5, np.nan], nan_ok=True)
    assert found["brand"] == Names(["A", "3"])
    assert values(found, "when.month") == pytest.approx([5, np.nan], nan_ok=True)
    assert found["when.weekday"] == Names(["fri", None])


def test_series_and_clips() -> None:
    one = np.array([[1.0, 5.0], [3.0, np.nan]])
    found = measured(SeriesReader(form="inline"), [one, one + 1])
    assert values(found, "steps") == [2, 2]
    assert values(found, "gaps") == [0.25, 0.25]
    assert values(found, "level of 0") == [2, 3]
    assert values(found, "spread of 0") == [1, 1]
    still = np.full((4, 12, 12, 3), 51, np.uint8)
    moving = np.stack([np.full((12, 12, 3), 51 * (i % 2), np.uint8) for i in range(4)])
    clips = measured(VideoReader(frames=4, size=12), [still, moving])
    assert values(clips, "motion") == pytest.approx([0.0, 0.2], abs=1e-6)
    assert values(clips, "brightness") == pytest.approx([0.2, 0.1], abs=0.01)
    assert "width" not in clips


def test_a_stack_has_its_members_traits_and_gaps() -> None:
    stack = Stacked({"one": ImageReader(size=8), "two": ImageReader(size=8)}, {"one": ("a",), "two": ("b",)})
    white, black = (Image.new("L", (8, 8), v) for v in (255, 0))
    found = measured(stack, [{"one": white, "two": black}, {"one": black, "two": None}])
    assert values(found, "one.brightness") == [1, 0]
    assert values(found, "two.brightness") == pytest.approx([0, np.nan], nan_ok=True)


def test_lots_of_cells_and_cells_without() -> None:
    one = {"x": Numbers(np.array([1.0]), "s"), "n": Names(["a"]), "w": Words([frozenset("ab")])}
    two = {"x": Numbers(np.array([2.0, 3.0]), "s"), "n": Names([None, "b"]), "w": Words([frozenset(), frozenset("c")])}
    found = together([one, two])
    assert values(found, "x") == [1, 2, 3]
    assert found["n"] == Names(["a", None, "b"])
    assert found["w"] == Words([frozenset("ab"), frozenset(), frozenset("c")])
    assert together([]) == {}
    assert spread(two["n"], [2, 0], 3) == Names(["b", None, None])
    assert spread(two["w"], [1, 2], 3) == Words([frozenset(), frozenset(), frozenset("c")])
    gaps = spread(two["x"], [2, 0], 3)
    assert isinstance(gaps, Numbers)
    assert gaps.values.tolist() == pytest.approx([3, np.nan, 2], nan_ok=True)
