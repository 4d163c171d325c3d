"""Cells joined before encoding: as each reader reads them alone, aligned when augmented; missing and bad members."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from polymodal.core.checks import check_reader
from polymodal.core.checks_noise import check_noise
from polymodal.core.errors import BadCell, SpecError
from polymodal.core.seeds import generator
from polymodal.data.collate import collate
from polymodal.modalities.audio.read import AudioReader
from polymodal.modalities.image.read import ImageReader
from polymodal.modalities.series.read import SeriesReader
from polymodal.modalities.stacked import Stacked
from polymodal.modalities.tabular.read import TabularReader
from polymodal.modalities.video.read import VideoReader


def png(seed: int, size: tuple[int, int] = (20, 24), channels: int = 3) -> bytes:
    rng = generator("stacked", seed)
    coarse = rng.integers(0, 256, (5, 6, 3) if channels == 3 else (5, 6), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def wav(seed: int, seconds: float) -> bytes:
    rng, file = generator("stacked", seed), io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes((rng.normal(0, 3000, round(8000 * seconds))).astype("<i2").tobytes())
    return file.getvalue()


def pictures(**augment: Any) -> Stacked:
    shared: dict[str, Any] = {"size": [12, 16], "augment": augment or None}
    readers = {"camera": ImageReader(**shared), "radar": ImageReader(**shared, channels=1)}
    return Stacked(readers, {"camera": ("cam",), "radar": ("rad",)})


def sounds(**settings: Any) -> Stacked:
    readers = {"left": AudioReader(rate=8000, mels=12, **settings), "right": AudioReader(rate=8000, mels=8, **settings)}
    return Stacked(readers, {"left": ("l",), "right": ("r",)})


def records() -> Stacked:
    readers = {"body": TabularReader(numeric=["age", "weight"]), "home": TabularReader(categorical=["town"])}
    return Stacked(readers, {"body": ("age", "weight"), "home": ("town",)})


PICTURES: list[object] = [
    *({"camera": png(i), "radar": png(100 + i, (18, 18))} for i in range(4)),
    {"camera": png(7), "radar": None},
    {"camera": None, "radar": png(8)},
]
SOUNDS: list[object] = [
    *({"left": wav(i, 0.2 + 0.1 * i), "right": wav(50 + i, 0.5 - 0.1 * i)} for i in range(4)),
    {"left": None, "right": wav(8, 0.3)},
]
RECORDS: list[object] = [
    {"body": {"age": 30, "weight": 71.5}, "home": {"town": "York"}},
    {"body": {"age": 41, "weight": None}, "home": {"town": "Ely"}},
    {"body": {"age": 52, "weight": 80.0}, "home": None},
    {"body": None, "home": {"town": "York"}},
]


def series(**settings: Any) -> Stacked:
    readers = {"pulse": SeriesReader(**settings), "breath": SeriesReader(**settings)}
    return Stacked(readers, {"pulse": ("p",), "breath": ("b",)})


def clips(**settings: Any) -> Stacked:
    shared: dict[str, Any] = {"size": 8, "frames": 4, **settings}
    readers = {"colour": VideoReader(**shared), "depth": VideoReader(**shared, channels=1)}
    return Stacked(readers, {"colour": ("c",), "depth": ("d",)})


def steps(seed: int, length: int, channels: int) -> np.ndarray:
    return generator("stacked steps", seed).normal(size=(length, channels))


def frames(seed: int, length: int) -> np.ndarray:
    return generator("stacked frames", seed).integers(0, 256, (length, 10, 12, 3), dtype=np.uint8)


SERIES: list[object] = [
    *({"pulse": steps(i, 5 + i, 3), "breath": steps(9 + i, 7, 2)} for i in range(3)),
    {"pulse": None, "breath": steps(5, 4, 2)},
]
CLIPS: list[object] = [
    *({"colour": frames(i, 2 + i), "depth": frames(9 + i, 3)} for i in range(3)),
    {"colour": frames(7, 3), "depth": None},
]
KINDS: dict[str, tuple[Callable[..., Stacked], list[object], list[object]]] = {
    "image": (
        pictures,
        PICTURES,
        [{"camera": b"no picture", "radar": png(1)}, {"camera": None, "radar": None}, "text", None],
    ),
    "augmented image": (lambda: pictures(crop=[0.5, 1.0], flip=0.5, noise=0.1), PICTURES, [{}]),
    "audio": (sounds, SOUNDS, [{"left": wav(1, 0.2), "right": b"no sound"}, 3]),
    "augmented audio": (lambda: sounds(speed=0.2, time_masks=1), SOUNDS, [{}]),
    "series": (series, SERIES, [{"pulse": "no file", "breath": steps(1, 3, 2)}, {}]),
    "augmented series": (lambda: series(crop=0.3, time_masks=1), SERIES, [{}]),
    "video": (clips, CLIPS, [{"colour": b"no clip", "depth": frames(1, 2)}, {}]),
    "augmented video": (lambda: clips(trim=0.3, augment={"flip": 0.5, "crop": [0.5, 1.0]}), CLIPS, [{}]),
    "tabular": (records, RECORDS, [{"body": {"age": "old", "weight": 1}, "home": {"town": "Ely"}}, {"body": None}]),
}


def fitted(make: Callable[..., Stacked], cells: list[object], **options: Any) -> Stacked:
    stack = make(**options)
    stack.fit(cells)
    return stack


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_keeps_the_contract_of_a_reader(kind: str) -> None:
    make, cells, bad = KINDS[kind]
    check_reader(make, cells, bad)


def test_pictures_are_joined_channel_by_channel() -> None:
    stack = fitted(pictures, PICTURES)
    cell: Any = PICTURES[0]
    camera, radar = ImageReader(size=[12, 16]), ImageReader(size=[12, 16], channels=1)
    for reader, column in ((camera, "camera"), (radar, "radar")):
        reader.fit([c[column] for c in PICTURES if isinstance(c, dict) and c[column] is not None])
    expected = np.concatenate([camera(cell["camera"])["pixels"], radar(cell["radar"])["pixels"]])
    assert np.array_equal(stack(cell)["pixels"], expected)
    assert camera.field is not None
    assert radar.field is not None
    assert stack.field is not None
    assert stack.field["channels"] == 4
    assert stack.field["mean"] == camera.field["mean"] + radar.field["mean"]
    assert stack.field["std"] == camera.field["std"] + radar.field["std"]


def test_a_missing_picture_is_its_mean() -> None:
    stack = fitted(pictures, PICTURES)
    field: Any = stack.field
    pixels = stack(PICTURES[4])["pixels"]
    assert (pixels[3] == round(255 * field["mean"][3])).all()
    normalised = (pixels / 255 - np.array(field["mean"])[:, None, None]) / np.array(field["std"])[:, None, None]
    assert np.abs(normalised[3]).max() <= 0.5 / 255 / field["std"][3]
    assert normalised[:3].std() > 0.5, "what is there is as it was"
    assert (stack.blank()["pixels"][3] == pixels[3]).all()


def test_sounds_are_joined_band_by_band_and_padded_to_the_longest() -> None:
    stack = fitted(sounds, SOUNDS)
    left, right = stack.members["left"], stack.members["right"]
    for cell in SOUNDS[:4]:
        assert isinstance(cell, dict)
        one, two, both = left(cell["left"])["mel"], right(cell["right"])["mel"], stack(cell)["mel"]
        assert both.shape == (max(len(one), len(two)), 20)
        assert np.array_equal(both[: len(one), :12], one)
        assert np.array_equal(both[: len(two), 12:], two)
        assert not both[len(one) :, :12].any()
        assert not both[len(two) :, 12:].any()
    alone = stack(SOUNDS[4])["mel"]
    assert not alone[:, :12].any()
    assert alone[:, 12:].any()
    assert stack.field is not None
    assert stack.field["bands"] == 20


def test_records_are_joined_column_by_column() -> None:
    stack = fitted(records, RECORDS)
    field: Any = stack.field
    assert [c["column"] for c in field["numeric"]] == ["age", "weight"]
    assert [c["column"] for c in field["categorical"]] == ["town"]
    whole = TabularReader(numeric=["age", "weight"], categorical=["town"])
    flat = [{c: v for part in cell.values() for c, v in (part or {}).items()} for cell in RECORDS]  # type: ignore[attr-defined]
    whole.fit(flat)
    for cell, record in zip(RECORDS, flat, strict=True):
        for key, array in whole(record).items():
            assert np.array_equal(stack(cell)[key], array), (cell, key)


def test_clips_and_series_are_joined_over_time() -> None:
    for make, cells, key, axis in ((clips, CLIPS, "frames", 1), (series, SERIES, "values", 1)):
        stack = fitted(make, cells)
        first, second = stack.members.items()
        for cell in cells[:3]:
            assert isinstance(cell, dict)
            one, two = first[1](cell[first[0]])[key], second[1](cell[second[0]])[key]
            both = stack(cell)[key]
            assert len(both) == max(len(one), len(two))
            width = one.shape[axis]
            assert np.array_equal(both[: len(one), :width], one)
            assert np.array_equal(both[: len(two), width:], two)
            assert not both[len(one) :, :width].any()


GEOMETRY: dict[str, Any] = {"crop": [0.3, 0.9], "rotate": 30.0, "scale": 0.2, "flip": 0.5, "flip_vertical": 0.5}


def test_all_members_are_cropped_turned_and_flipped_alike() -> None:
    shared: dict[str, Any] = {"size": [12, 16], "augment": GEOMETRY, "normalize": "none"}
    readers = {n: ImageReader(**shared) for n in ("one", "two")}
    stack = Stacked(readers, {"one": ("a",), "two": ("b",)})
    same = {"one": png(3), "two": png(3)}
    stack.fit([same])
    seen = set()
    for draw in range(12):
        pixels = stack(same, generator("draw", draw))["pixels"]
        assert np.array_equal(pixels[:3], pixels[3:]), "the same picture twice stays the same picture twice"
        seen.add(pixels.tobytes())
    assert len(seen) == 12, "but every draw is another"


def test_colour_and_grey_are_cropped_alike_too() -> None:
    stack = fitted(pictures, PICTURES, crop=[0.3, 0.9], flip=0.5, brightness=0.3, saturation=0.4, hue=0.1)
    grey = Image.new("L", (24, 20))
    grey.paste(255, (12, 0, 24, 20))  # dark left, bright right
    cell = {"camera": np.asarray(grey.convert("RGB")), "radar": np.asarray(grey)}
    for draw in range(12):
        pixels = stack(cell, generator("draw", draw))["pixels"].astype(int)
        edges = [np.abs(np.diff(pixels[c].mean(0))).argmax() for c in (1, 3)]
        assert pixels[1].std() < 1 or abs(edges[0] - edges[1]) <= 1


def test_a_bad_member_is_named() -> None:
    stack = fitted(pictures, PICTURES)
    with pytest.raises(BadCell, match=r"^radar: not a picture"):
        stack.decode({"camera": png(1), "radar": b"no picture"})
    with pytest.raises(BadCell, match="none of camera, radar"):
        stack.decode({"camera": None, "radar": None})
    with pytest.raises(BadCell, match="a cell for each of camera, radar"):
        stack.decode(png(1))


def two(kind: type, one: dict[str, Any], other: dict[str, Any]) -> Stacked:
    return Stacked({"a": kind(**one), "b": kind(**other)}, {"a": ("a",), "b": ("b",)})


@pytest.mark.parametrize(
    ("stack", "where", "said"),
    [
        (two(ImageReader, {"size": 8}, {"size": 9}), "size", "one size"),
        (two(ImageReader, {"size": 8, "augment": {"flip": 0.5}}, {"size": 8}), "augment", "one augmentation"),
        (two(AudioReader, {"hop": 10.0}, {"hop": 20.0}), "hop", "frames of one length"),
        (two(AudioReader, {"speed": 0.1}, {}), "speed", "one augmentation"),
        (two(SeriesReader, {"every": 1.0}, {"every": 2.0}), "every", "steps of one length"),
        (two(SeriesReader, {"time": 0}, {"time": 0}), "every", "steps of one length"),
        (two(VideoReader, {"frames": 4}, {"frames": 5}), "frames", "the same frames"),
        (two(TabularReader, {}, {"numeric": ["weigth"]}), "stack.b.numeric", "weight"),
    ],
)
def test_readers_that_do_not_go_together(stack: Stacked, where: str, said: str) -> None:
    cells: dict[type, Any] = {ImageReader: png(1), AudioReader: wav(1, 0.2), TabularReader: {"weight": 3},
                               SeriesReader: np.arange(8.0).reshape(4, 2), VideoReader: frames(1, 3)}  # fmt: skip
    cell = cells[type(stack.members["a"])]
    with pytest.raises(SpecError) as error:
        stack.fit([{"a": cell, "b": cell}])
    assert error.value.where == where
    assert said in str(error.value)


def test_a_picture_of_a_stack_has_one_column() -> None:
    with pytest.raises(SpecError, match="from one column"):
        Stacked({"a": ImageReader(), "b": ImageReader()}, {"a": ("a",), "b": ("b", "c")})


def test_frames_of_one_length_may_have_other_bands_and_rates() -> None:
    stack = two(AudioReader, {"rate": 8000, "mels": 12}, {"rate": 16000, "mels": 20})
    stack.fit([{"a": wav(1, 0.5), "b": wav(1, 0.5)}])
    assert stack({"a": wav(1, 0.5), "b": wav(1, 0.5)})["mel"].shape[1] == 32


def test_costs_and_what_is_shown() -> None:
    stack = fitted(sounds, SOUNDS)
    cell: Any = SOUNDS[0]
    assert stack.cost(cell) == max(len(cell["left"]), len(cell["right"]))
    assert stack.cost(SOUNDS[4]) == stack.members["right"].cost(SOUNDS[4]["right"])  # type: ignore[index]
    shown = stack.show(cell)
    assert shown == {"kind": "several", "data": [stack.members["left"].show(cell["left"]),
                                                 stack.members["right"].show(cell["right"])]}  # fmt: skip
    assert len(stack.show(SOUNDS[4])["data"]) == 1


def test_fingerprints_lie_side_by_side() -> None:
    stack = fitted(pictures, PICTURES)
    cells, samples = PICTURES, [stack.decode(c) for c in PICTURES]
    words = stack.fingerprints(cells, samples)
    camera = stack.members["camera"]
    alone = camera.fingerprints([None], [camera.decode(PICTURES[0]["camera"])])  # type: ignore[index]
    grey = stack.members["radar"].fingerprints([None], [stack.members["radar"].decode(PICTURES[5]["radar"])])  # type: ignore[index]
    half = alone.shape[1]
    assert words.shape == (len(cells), half + grey.shape[1])
    assert np.array_equal(words[5, half:], grey[0])
    assert np.array_equal(words[0, :half], alone[0])
    assert not words[4, half:].any()
    assert words[4, :half].any()
    assert stack.alike == 2 * camera.alike
    assert not hasattr(fitted(records, RECORDS), "fingerprints"), "records have none"


@pytest.mark.parametrize("kind", ["image", "audio", "tabular"])
def test_noise_is_that_of_the_members(kind: str) -> None:
    make, cells, _ = KINDS[kind]
    if kind == "tabular":
        cells = [
            {"body": {"age": i % 50, "weight": (7 * i) % 90}, "home": {"town": f"town {i % 9}"}} for i in range(99)
        ]
    stack = fitted(make, cells)
    data = collate([stack(c) for c in cells[: 3 if kind == "image" else 99]], stack.ragged)
    if kind != "audio":  # a sound that is padded to the other's length has noise where it was silent
        check_noise(stack, data)
    member = next(iter(stack.members.values()))
    width = {k: member.blank()[k].shape[axis] for k, axis in stack.axes.items()}

    def first(cells: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {k: np.take(v, range(width[k]), stack.axes[k] + 1) if k in width else v for k, v in cells.items()}

    alone = member.corrupt(first(data), 0.5, generator("noise"))
    noisy = first(stack.corrupt(data, 0.5, generator("noise")))
    assert list(noisy) == list(alone)
    assert all(np.array_equal(noisy[k], alone[k]) for k in alone)
