"""Pixels of any depth against numpy by hand: what 16 bits, floats and windows become."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from polymodal.core.errors import BadCell, SpecError
from polymodal.modalities.image.depth import to_bytes
from polymodal.modalities.image.read import ImageReader

RAMP = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)  # 0, 257, ..., 65535: exactly 0, 1, ..., 255
LOW = (1000 + np.arange(256, dtype=np.uint16) * 2).reshape(16, 16)  # a scan that uses 1000 to 1510 of 16 bits


def pixels(cell: object, **settings: object) -> np.ndarray:
    return ImageReader(size=16, **{"channels": 1, **settings})(cell)["pixels"]


def file(picture: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "array", "picture", "big-endian"])
def test_sixteen_bits_are_scaled_and_never_cut_off(kind: str) -> None:
    forms = {"array": RAMP, "picture": Image.fromarray(RAMP), "big-endian": RAMP.astype(">u2")}
    cell = forms[kind] if kind in forms else file(Image.fromarray(RAMP), kind)
    assert np.array_equal(pixels(cell)[0], np.arange(256).reshape(16, 16))
    assert np.array_equal(pixels(cell, channels=3), np.arange(256).reshape(1, 16, 16).repeat(3, 0))


@pytest.mark.parametrize("form", [np.float32, np.float64, np.float16, "TIFF"])
def test_floats_from_nought_to_one(form: object) -> None:
    share = (np.arange(256) / 255).reshape(16, 16)
    cell = file(Image.fromarray(share.astype(np.float32)), "TIFF") if form == "TIFF" else share.astype(form)  # type: ignore[call-overload]
    assert np.array_equal(pixels(cell)[0], np.arange(256).reshape(16, 16))


def test_floats_and_deep_integers_in_colour() -> None:
    colour = np.stack([RAMP, RAMP[::-1], np.full_like(RAMP, 65535)], 2)
    expected = np.stack([np.arange(256).reshape(16, 16), np.arange(256).reshape(16, 16)[::-1], np.full((16, 16), 255)])
    assert np.array_equal(pixels(colour, channels=3), expected)
    assert np.array_equal(pixels(colour / 65535, channels=3), expected)
    assert np.array_equal(pixels(colour.astype(np.int64), channels=3), expected)


def test_false_and_true_are_black_and_white() -> None:
    mask = np.eye(16, dtype=bool)
    for cell in (mask, Image.fromarray(mask), file(Image.fromarray(mask), "PNG"), file(Image.fromarray(mask), "TIFF")):
        assert np.array_equal(pixels(cell)[0], 255 * mask)


@pytest.mark.parametrize("form", ["array", "PNG", "TIFF"])
def test_a_window_of_intensities(form: str) -> None:
    cell = LOW if form == "array" else file(Image.fromarray(LOW), form)
    by_hand = np.rint(255 * (np.clip(LOW.astype(float), 1100, 1300) - 1100) / 200)
    assert np.array_equal(pixels(cell, range=[1100.0, 1300.0])[0], by_hand)
    assert np.array_equal(pixels(cell, range="minmax")[0], np.arange(256).reshape(16, 16))
    assert np.ptp(pixels(cell)) < 3, "without a window there is next to no contrast"


def test_a_window_also_holds_for_eight_bits() -> None:
    grey = (np.arange(256) % 100 + 50).astype(np.uint8).reshape(16, 16)
    by_hand = np.rint(255 * (np.clip(grey.astype(float), 60, 120) - 60) / 60)
    for cell in (grey, Image.fromarray(grey), file(Image.fromarray(grey), "PNG")):
        assert np.array_equal(pixels(cell, range=[60.0, 120.0])[0], by_hand)
        assert pixels(cell, range="minmax").max() == 255


def test_negative_values_need_a_window() -> None:
    scan = np.linspace(-1000, 3000, 256).astype(np.int16).reshape(16, 16)  # Hounsfield units
    with pytest.raises(
        BadCell, match=r"int16 numbers from -1000 to 3000, not 0 to 65535; say which .*range: \[low, high\]"
    ):
        pixels(scan)
    assert np.array_equal(pixels(scan, range=[-160.0, 240.0])[0],
                          np.rint(255 * (np.clip(scan.astype(float), -160, 240) + 160) / 400))  # fmt: skip


def test_a_picture_of_one_value_is_black_under_minmax() -> None:
    assert (pixels(np.full((16, 16), 7, np.uint16), range="minmax") == 0).all()


def test_what_cannot_be_meant_is_a_bad_cell() -> None:
    for cell, reason in (
        (np.full((4, 4), 255.0), "floating-point numbers from 255 to 255, not 0 to 1"),
        (np.array([[0.0, np.nan]]), "finite"),
        (np.full((4, 4), 1 << 20), "int64 numbers"),
        (file(Image.fromarray(np.full((4, 4), 70000, np.int32)), "TIFF"), "range"),
        (np.full((4, 4), "x"), "holds no pixels"),
    ):
        with pytest.raises(BadCell, match=reason):
            pixels(cell)
    with pytest.raises(BadCell, match="alpha"):
        pixels(np.zeros((4, 4, 4), np.uint8), range="minmax")


def test_the_range_is_checked() -> None:
    for wrong in ([10.0, 10.0], [20.0, 10.0]):
        with pytest.raises(SpecError, match="range"):
            ImageReader(range=wrong)


def test_bytes_pass_untouched() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert to_bytes(grey) is grey


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F"])
def test_every_mode_becomes_one_or_three_channels(mode: str) -> None:
    white = {"I": 65535, "I;16": 65535, "F": 1.0, "CMYK": (0, 0, 0, 0), "1": 1, "LA": (255, 255), "P": 0}
    full = white.get(mode, 255 if mode == "L" else (255,) * len(mode))
    cell = Image.new(mode, (16, 16), full)  # type: ignore[arg-type]
    if mode == "P":
        cell.putpalette([255, 255, 255])
    for channels in (1, 3):
        assert (pixels(cell, channels=channels) == 255).all(), mode


def test_thumbnails_are_windowed_too() -> None:
    import base64

    shown = ImageReader(range="minmax").show(LOW)
    assert np.ptp(np.asarray(Image.open(io.BytesIO(base64.b64decode(shown["data"]))))) > 200
