from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from polymodal.core.errors import SpecError
from polymodal.core.seeds import generator
from polymodal.modalities.image.augment import (
    Augment,
    add_noise,
    augment,
    brighten,
    contrast,
    crop_box,
    erase,
    erase_box,
    saturate,
    shift_hue,
    turn,
)
from polymodal.modalities.image.read import ImageReader

BLACK = (0, 0, 0)


def noise(width: int = 32, height: int = 32, channels: int = 3) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(
        rng.integers(0, 256, (height, width, channels), dtype=np.uint8)[..., slice(None) if channels > 1 else 0]
    )


def changed(picture: Image.Image, **how: object) -> np.ndarray:
    return np.asarray(augment(picture, Augment(**how), picture.size[::-1], BLACK, generator("test")))


def test_everything_is_off_by_default() -> None:
    reader = ImageReader(size=16)
    reader.fit([noise()])
    sample = reader.decode(noise())
    assert not reader.augments
    assert reader.finish(sample, generator("any")) is sample


SETTINGS = {
    "crop": [0.2, 0.4], "flip": 1.0, "flip_vertical": 1.0, "rotate": 90, "scale": 0.5, "brightness": 0.5,
    "contrast": 0.5, "saturation": 0.9, "hue": 0.5, "blur": 3.0, "noise": 0.5, "erase": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_each_change_alone(name: str) -> None:
    reader = ImageReader(size=16, augment={name: SETTINGS[name]})
    reader.fit([noise()])
    sample = reader.decode(noise())
    plain, one, again, other = (reader.finish(sample, r)["pixels"] for r in (None, *(generator(n) for n in "aab")))
    assert plain.shape == one.shape == (3, 16, 16)
    assert np.array_equal(one, again), "a function of the generator"
    assert not np.array_equal(one, plain), "changes nothing"
    assert name.startswith("flip") or not np.array_equal(one, other), "does not depend on the generator"


def test_flips() -> None:
    picture = noise(20, 30)
    across, down = changed(picture, flip=1.0), changed(picture, flip_vertical=1.0)
    assert np.array_equal(across, np.asarray(picture)[:, ::-1])
    assert np.array_equal(down, np.asarray(picture)[::-1])
    assert np.array_equal(changed(Image.fromarray(across), flip=1.0), np.asarray(picture))


def test_flip_is_a_chance() -> None:
    picture = noise(4, 4)
    how, rng = Augment(flip=0.3), generator("chance")
    flips = [np.asarray(augment(picture, how, (4, 4), BLACK, rng)) for _ in range(2000)]
    share = np.mean([not np.array_equal(f, np.asarray(picture)) for f in flips])
    assert abs(share - 0.3) < 0.04


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("side", [8, 9])
def test_quarter_turns(quarters: int, side: int) -> None:
    picture = noise(side, side)
    assert np.array_equal(
        np.asarray(turn(picture, 90.0 * quarters, 1.0, BLACK)), np.rot90(np.asarray(picture), quarters)
    )


def test_corners_take_the_fill_colour() -> None:
    turned = np.asarray(turn(Image.new("RGB", (32, 32), "white"), 45.0, 1.0, (10, 20, 30)))
    assert (turned[0, 0] == [10, 20, 30]).all()
    assert (turned[16, 16] == 255).all()
    assert np.asarray(turn(Image.new("L", (32, 32), 255), 45.0, 1.0, (7,)))[0, 0] == 7


def test_scaling_is_about_the_centre() -> None:
    y, x = np.mgrid[0:32, 0:32]
    ramp = Image.fromarray((4 * x + 2 * y).astype(np.uint8))
    double = np.asarray(turn(ramp, 0.0, 2.0, (0,)), float)
    expected = 4 * ((x - 15.5) / 2 + 15.5) + 2 * ((y - 15.5) / 2 + 15.5)
    assert np.abs(double - expected).max() <= 1.01
    half = np.asarray(turn(ramp, 0.0, 0.5, (0,)))
    assert (half[:7] == 0).all()
    assert half[10:22, 10:22].all()


def test_brightness_and_contrast_against_the_formula() -> None:
    pixels = np.asarray(noise(), float)
    assert np.abs(np.asarray(brighten(noise(), 1.3)) - np.clip(pixels * 1.3, 0, 255)).max() <= 0.51
    middle = (pixels @ [0.299, 0.587, 0.114]).mean()
    expected = np.clip((pixels - middle) * 0.6 + middle, 0, 255)
    assert np.abs(np.asarray(contrast(noise(), 0.6)) - expected).max() <= 1.01
    assert np.array_equal(np.asarray(contrast(noise(), 1.0)), np.asarray(noise()))


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.6])
def test_saturation_against_the_formula(factor: float) -> None:
    pixels = np.asarray(noise(), float)
    grey = (pixels @ [0.299, 0.587, 0.114])[..., None]
    expected = np.clip((pixels - grey) * factor + grey, 0, 255)
    assert np.abs(np.asarray(saturate(noise(), factor)) - expected).max() <= 2


def test_hue_against_colorsys() -> None:
    got = np.asarray(shift_hue(noise(8, 8), 0.25), float) / 255
    for before, after in zip(np.asarray(noise(8, 8)).reshape(-1, 3) / 255, got.reshape(-1, 3), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*before)
        assert np.abs(np.array(colorsys.hsv_to_rgb((h + 0.25) % 1, s, v)) - after).max() < 0.04  # 8-bit hues


def test_grey_pictures_have_no_colour_to_change() -> None:
    grey = noise(channels=1)
    assert np.array_equal(changed(grey, saturation=0.9, hue=0.5), np.asarray(grey))


def test_blur_against_scipy() -> None:
    rng = generator("test")
    deviation = generator("test").uniform(0, 3.0)
    got = np.asarray(augment(noise(channels=1), Augment(blur=3.0), (32, 32), (0,), rng), float)
    expected = ndimage.gaussian_filter(np.asarray(noise(channels=1), float), deviation, mode="nearest")
    assert deviation > 0.5
    assert np.abs(got - expected).mean() < 3  # Pillow approximates by box filters


def test_noise_has_the_deviation_asked_for() -> None:
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    gap = np.asarray(add_noise(grey, 0.1, generator("noise")), float) - 128
    assert abs(gap.std() - 25.5) < 0.5
    assert abs(gap.mean()) < 0.5


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6), width=st.integers(4, 300), height=st.integers(4, 300), low=st.floats(0.02, 1))
def test_crops_and_holes_lie_inside(seed: int, width: int, height: int, low: float) -> None:
    left, top, right, bottom = crop_box((width, height), (low, 1.0), generator(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    share = (right - left) * (bottom - top) / (width * height)
    aspect = (right - left) / (bottom - top)
    clipped = right - left > width - 1e-6 or bottom - top > height - 1e-6
    assert share <= 1 + 1e-9
    assert clipped or (share >= low - 1e-9 and 3 / 4 - 1e-9 <= aspect <= 4 / 3 + 1e-9)
    left, top, right, bottom = erase_box((width, height), generator(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_erased_area() -> None:
    shares = []
    for seed in range(300):
        left, top, right, bottom = erase_box((100, 100), generator(seed))
        shares.append((right - left) * (bottom - top) / 10_000)
    assert min(shares) > 0.015
    assert max(shares) < 0.34
    assert abs(np.mean(shares) - 0.175) < 0.02
    holed = np.asarray(erase(Image.new("RGB", (10, 10), "white"), (2, 3, 5, 9), (1, 2, 3)))
    hole = (holed == [1, 2, 3]).all(2)
    assert hole.sum() == 18
    assert hole[3:9, 2:5].all()


def test_crop_shows_a_part_at_full_size() -> None:
    y, x = np.mgrid[0:64, 0:64]
    ramp = np.stack([4 * x, 4 * y, 0 * x], 2).astype(np.uint8)
    reader = ImageReader(size=32, augment={"crop": [0.25, 0.25]})
    reader.fit([ramp])
    decoded = reader.decode(ramp)
    assert decoded["pixels"].shape == (3, 64, 64), "decoded with room for sharp crops"
    part = reader.finish(decoded, generator("crop"))["pixels"].astype(int)
    step = np.diff(part[0], axis=1).mean(), np.diff(part[1], axis=0).mean()
    assert abs(step[0] * step[1] - 16) < 1.5, "a quarter of the area at twice the sides it would have"
    whole = reader.finish(decoded, None)["pixels"]
    assert np.array_equal(
        whole[0], np.asarray(Image.fromarray(ramp[..., 0]).resize((32, 32), Image.Resampling.BILINEAR))
    )


def test_holes_vanish_after_normalising() -> None:
    reader = ImageReader(size=8, normalize="half", augment={"erase": 1.0})
    reader.fit([])
    out = reader.finish({"pixels": np.zeros((3, 8, 8), np.uint8)}, generator("hole"))["pixels"]
    assert set(np.unique(out)) == {0, 128}


def test_wrong_settings_are_named() -> None:
    with pytest.raises(SpecError, match=r"augment\.flipp: .*\n.*\n.*'flip'"):
        ImageReader(augment={"flipp": 0.5})
    with pytest.raises(SpecError, match=r"augment\.flip: "):
        ImageReader(augment={"flip": 2})
