from __future__ import annotations

import base64
import io
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from polymodal.core.checks import check_reader
from polymodal.core.errors import BadCell, SpecError
from polymodal.modalities.damage import MOST_PIXELS
from polymodal.modalities.image import pictures
from polymodal.modalities.image.read import ImageReader

BILINEAR = Image.Resampling.BILINEAR


def noise(width: int = 50, height: int = 40, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def slope(width: int, height: int) -> Image.Image:
    """A smooth picture without symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    layers = [255 * x / width, 255 * y / height, 127 * (x / width) ** 2 + 127 * y / height]
    return Image.fromarray(np.stack(layers, 2).astype(np.uint8))


def encode(picture: Image.Image, kind: str, mode: str | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(file, kind, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


FORMS = [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "LA"), ("PNG", "1"),
         ("GIF", "P"), ("BMP", "RGB"), ("TIFF", "RGB"), ("WEBP", "RGB"), ("PPM", "RGB")]  # fmt: skip
DEEP = Image.fromarray((np.arange(400, dtype=np.uint16) * 160).reshape(20, 20))
CELLS = [*(encode(noise(), kind, mode) for kind, mode in FORMS), encode(DEEP, "PNG"), noise(), np.asarray(noise()),
         DEEP, np.asarray(DEEP), np.asarray(noise())[..., 0], np.asarray(noise())[..., :1],
         np.asarray(noise().convert("RGBA"))]  # fmt: skip
BAD = [
    b"",
    b"a plain text",
    CELLS[0][:300],
    CELLS[3][:900],
    3,
    "photo.jpg",
    None,
    np.full((4, 4), 300.0),
    np.zeros((4, 4), complex),
    Image.new("F", (4, 4), 2.0),
]
EVERYTHING = {
    "crop": [0.3, 1], "flip": 0.5, "flip_vertical": 0.5, "rotate": 20, "scale": 0.2, "brightness": 0.3, "contrast": 0.3,
    "saturation": 0.3, "hue": 0.1, "blur": 1.0, "noise": 0.1, "erase": 0.5,
}  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {"size": 32},
        {"size": [24, 32], "channels": 1, "resize": "crop", "denoise": "median", "normalize": "none"},
        {"size": [24, 33], "resize": "pad", "denoise": "gaussian", "augment": EVERYTHING},
        {"size": 16, "channels": 1, "normalize": "imagenet", "augment": EVERYTHING},
    ],
)
def test_contract(settings: dict) -> None:
    check_reader(lambda: ImageReader(**settings), CELLS, BAD)


def test_reading_needs_no_torch() -> None:
    code = "import sys, polymodal.modalities.image.read; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def pixels(cell: object, **settings: object) -> np.ndarray:
    """[H, W, C], as Pillow has it."""
    return ImageReader(**settings)(cell)["pixels"].transpose(1, 2, 0)


@pytest.mark.parametrize("source", [(50, 40), (40, 90), (17, 20)])
def test_resizing_agrees_with_pillow(source: tuple[int, int]) -> None:
    picture = noise(*source)
    squashed = np.asarray(picture.resize((36, 24), BILINEAR))
    covering = np.asarray(ImageOps.fit(picture, (36, 24), BILINEAR))
    assert np.array_equal(pixels(picture, size=[24, 36]), squashed)
    assert np.abs(pixels(picture, size=[24, 36], resize="crop").astype(int) - covering).max() <= 1
    assert np.array_equal(
        pixels(picture, size=[24, 36], resize="pad"), np.asarray(ImageOps.pad(picture, (36, 24), BILINEAR))
    )


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    digit = np.asarray(noise(28, 28))[..., 0]
    assert np.array_equal(ImageReader(size=28, channels=1)(digit)["pixels"][0], digit)
    assert np.array_equal(pixels(encode(noise(30, 20), "PNG"), size=[20, 30]), np.asarray(noise(30, 20)))


def test_large_jpeg_is_decoded_small(monkeypatch: pytest.MonkeyPatch) -> None:
    picture, seen = slope(1280, 960), []
    original = pictures.scale
    monkeypatch.setattr(pictures, "scale", lambda p, *rest: seen.append(p.size) or original(p, *rest))
    got = pixels(encode(picture, "JPEG", quality=95), size=64)
    assert seen == [(160, 120)]
    assert np.abs(got.astype(int) - np.asarray(picture.resize((64, 64), BILINEAR))).max() <= 6


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation(turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    cell = encode(slope(60, 40), "PNG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(cell)))
    got = pixels(cell, size=[30, 20])
    assert np.abs(got.astype(int) - np.asarray(upright.resize((20, 30), BILINEAR))).max() <= 1
    assert np.abs(pixels(Image.open(io.BytesIO(cell)), size=[30, 20]).astype(int) - got).max() == 0


def test_spoilt_exif_spoils_no_picture() -> None:
    for junk in (b"Exif\0\0no TIFF", b"Exif\0\0MM\0*" + b"\xff" * 40, b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x05\0"):
        for kind in ("JPEG", "WEBP", "PNG"):
            cell = encode(slope(40, 30), kind, exif=junk)
            assert np.abs(pixels(cell, size=[30, 40]).astype(int) - np.asarray(slope(40, 30))).mean() < 4


def test_transparency_is_laid_over_white() -> None:
    glass = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30])
    assert (pixels(encode(glass, "PNG"), size=8) == 255).all()
    assert np.abs(pixels(encode(half, "PNG"), size=8).astype(int) - 127).max() <= 1
    assert (pixels(encode(palette, "PNG", transparency=0), size=8) == 255).all()
    assert (pixels(encode(palette, "PNG"), size=8) == [10, 20, 30]).all()


def test_sixteen_bits_and_cmyk() -> None:
    deep = np.full((8, 8), 0x8040, np.uint16)
    assert (pixels(encode(Image.fromarray(deep), "PNG"), size=8) == 0x80).all()
    assert (pixels(encode(Image.fromarray(deep), "TIFF"), size=8, channels=1) == 0x80).all()
    red = encode(Image.new("RGB", (8, 8), (255, 0, 0)), "JPEG", "CMYK", quality=95)
    assert np.abs(pixels(red, size=8).astype(int) - [255, 0, 0]).max() <= 4


def test_grey_is_luma() -> None:
    expected = np.asarray(noise()) @ [0.299, 0.587, 0.114]
    assert np.abs(pixels(noise(), size=[40, 50], channels=1)[..., 0] - expected).max() <= 1


def test_the_callers_picture_is_left_alone() -> None:
    file = io.BytesIO(encode(noise(640, 480), "JPEG"))
    picture = Image.open(file)
    pixels(picture, size=16)
    assert picture.size == (640, 480)


def test_denoising() -> None:
    spots = Image.new("L", (16, 16), 100)
    spots.putpixel((5, 5), 255)
    assert (pixels(spots, size=16, channels=1, denoise="median") == 100).all()
    smooth = pixels(spots, size=16, channels=1, denoise="gaussian")[..., 0].astype(int)
    assert 100 < smooth[5, 5] < 160
    assert smooth[5, 6] > 100


def test_statistics_are_those_of_the_training_cells() -> None:
    cells = [noise(20, 20, seed) for seed in range(5)]
    field = ImageReader(size=20).fit([cells[0], b"bad", *cells[1:]])
    whole = np.stack([np.asarray(c) for c in cells]).reshape(-1, 3) / 255
    assert field["size"] == [20, 20]
    assert field["channels"] == 3
    assert np.allclose(field["mean"], whole.mean(0), atol=1e-5)
    assert np.allclose(field["std"], whole.std(0), atol=1e-5)


def test_statistics_take_a_thousand_cells_and_no_more() -> None:
    def cells():
        for _ in range(1000):
            yield np.zeros((2, 2), np.uint8)
        raise AssertionError("read further")

    field = ImageReader(size=2, channels=1).fit(cells())
    assert field["mean"] == [0.0]
    assert field["std"][0] > 0, "pictures of one colour must not divide by zero"


def test_known_and_explicit_statistics() -> None:
    assert ImageReader(normalize="imagenet").fit([])["mean"] == [0.485, 0.456, 0.406]
    assert ImageReader(normalize="half", channels=1).fit([])["std"] == [0.5]
    given = {"mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0]}
    field = ImageReader(normalize=given).fit([])
    assert {"mean": field["mean"], "std": field["std"]} == given
    assert ImageReader().fit([b"bad"])["mean"] == [0.5, 0.5, 0.5], "without one good cell"
    for wrong in ({"mean": [0.1], "std": [1.0]}, {"mean": [0.0] * 3}, {"mean": [0.0] * 3, "std": [0.0] * 3}):
        with pytest.raises(SpecError, match="normalize"):
            ImageReader(normalize=wrong)


def test_a_huge_picture_is_refused_by_its_header() -> None:
    cell, reader = png_header(50_000, 50_000), ImageReader()
    reader.decode(noise())  # plugins are loaded
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(BadCell, match="pixels"):
        reader.decode(cell)
    took, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 0.5
    assert peak < 2**20


def test_pixels_are_counted_before_decoding() -> None:
    with pytest.raises(BadCell, match="2000 x 1000 pixels, more than max_pixels 1000000"):
        ImageReader(max_pixels=1_000_000).decode(png_header(2000, 1000))
    for cell in (noise(20, 20), np.zeros((20, 20), np.uint8), encode(noise(20, 20), "JPEG")):
        with pytest.raises(BadCell, match="max_pixels"):
            ImageReader(max_pixels=399).decode(cell)
        ImageReader(max_pixels=400).decode(cell)


def test_pillows_warning_is_ours_and_its_limits_stay() -> None:
    filters, limit = list(warnings.filters), Image.MAX_IMAGE_PIXELS
    large = pictures.open_picture(png_header(10_000, 10_000), MOST_PIXELS)  # Pillow would warn
    assert large.size == (10_000, 10_000)
    assert list(warnings.filters) == filters
    assert limit == Image.MAX_IMAGE_PIXELS


def test_truncated_files() -> None:
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"):
        whole = encode(noise(), kind)
        with pytest.raises(BadCell):
            ImageReader().decode(whole[: len(whole) // 2])


def test_empty_file() -> None:
    with pytest.raises(BadCell, match="empty"):
        ImageReader().decode(b"")


def test_text_that_calls_itself_a_picture() -> None:
    for text in (
        b"this is no picture\n" * 50,
        "图片".encode(),
        b"P5 is how a text may begin",
        b"<svg></svg>",
        b"%!PS\n",
    ):
        with pytest.raises(BadCell):
            ImageReader().decode(text)


def test_cells_of_a_wrong_type() -> None:
    for cell, reason in ((7, "int"), ("a.jpg", "str"), (np.full((4, 4), -1.0, np.float32), "floating-point"),
                         (np.zeros((3, 5, 5), np.uint8), "shape"), (np.zeros((0, 4), np.uint8), "pixels")):  # fmt: skip
        with pytest.raises(BadCell, match=reason):
            ImageReader().decode(cell)


@settings(deadline=None, max_examples=150)
@given(
    which=st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=12),
    keep=st.floats(0.05, 1),
)
def test_damage_ends_in_a_picture_or_a_bad_cell(which: str, changes: list[tuple[float, int]], keep: float) -> None:
    data = bytearray(encode(noise(24, 18), which))
    data = data[: max(1, int(len(data) * keep))]
    for place, value in changes:
        data[int(place**3 * (len(data) - 1))] = value  # headers rather than pixels
    try:
        sample = ImageReader(size=8, max_pixels=10**6).decode(bytes(data))
    except BadCell as error:
        outcome = error.reason
    else:
        outcome = sample["pixels"].shape
    assert outcome == (3, 8, 8) or (isinstance(outcome, str) and outcome and "\n" not in outcome)


@pytest.mark.parametrize(("size", "shown"), [((400, 100), (160, 40)), ((30, 20), (30, 20)), ((1, 900), (1, 160))])
def test_show(size: tuple[int, int], shown: tuple[int, int]) -> None:
    answer = ImageReader().show(encode(noise(*size), "PNG"))
    assert answer["kind"] == "image"
    assert Image.open(io.BytesIO(base64.b64decode(answer["data"]))).size == shown


def test_show_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    answer = ImageReader().show(encode(slope(320, 160), "JPEG", exif=exif))
    assert Image.open(io.BytesIO(base64.b64decode(answer["data"]))).size == (80, 160)


@pytest.mark.data
def test_real_pictures(real_data: Path) -> None:
    files = sorted((real_data / "mvsa_single" / "images").glob("*.jpg"))[:100]
    reader = ImageReader(size=48)
    field = reader.fit(f.read_bytes() for f in files)
    assert all(0.2 < m < 0.8 for m in field["mean"])
    gaps = []
    for file in files:
        expected = np.asarray(Image.open(file).convert("RGB").resize((48, 48), BILINEAR))
        gaps.append(np.abs(reader(file.read_bytes())["pixels"].transpose(1, 2, 0).astype(int) - expected).mean())
    assert np.mean(gaps) < 2, "decoding small must stay close to decoding whole"
    assert max(gaps) < 10
