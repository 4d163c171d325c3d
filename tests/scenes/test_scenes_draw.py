"""Pictures, masks, boxes and tones agree with the ground truth, pixel by pixel and hertz by hertz."""

import numpy as np
import pytest

from polymodal.core.seeds import generator
from polymodal.scenes import scene_rows
from polymodal.scenes.draw import RGB, box, classes, coverage
from polymodal.scenes.facts import COLOURS, PITCHES, SHAPES, Thing
from polymodal.scenes.sound import HERTZ, RATE, tone


def scenes(rows, **setting):
    return {r.scene.number: r.scene for r in scene_rows(rows, **setting)}.values()


@pytest.mark.parametrize("size", [16, 33, 64])
def test_exactly_the_pixels_of_the_masks_have_colour(size):
    for scene in scenes(80, size=size, objects=4):
        pixels = np.asarray(scene.picture).astype(int)
        grey = (pixels.max(2) - pixels.min(2)) == 0
        painted = scene.masks.any(0)
        assert not (~grey & ~painted).any(), "a coloured pixel outside of the masks"
        assert (grey & painted).sum() <= 0.02 * painted.sum(), "grey pixels in a mask"
        assert (scene.masks.sum(0) <= 1).all(), "objects overlap"


def test_the_middle_of_every_mask_has_the_things_colour_and_lies_in_its_place():
    for scene in scenes(80, objects=4):
        pixels = np.asarray(scene.picture).astype(float)
        for thing, mask in zip(scene.facts.things, scene.masks, strict=True):
            y, x = (np.flatnonzero(mask.any(axis)).mean() for axis in (1, 0))
            found = f"{'top' if y < 32 else 'bottom'} {'left' if x < 32 else 'right'}"
            assert found == thing.place
            colour = pixels[round(y), round(x)]
            near = {c: np.abs(colour / np.linalg.norm(colour) - RGB[c] / np.linalg.norm(RGB[c])).sum() for c in COLOURS}
            assert min(near, key=near.get) == thing.colour


@pytest.mark.parametrize(("shape", "area"), [("circle", np.pi), ("square", 4 * 0.886**2), ("triangle", 2.0)])
def test_shapes_cover_their_area(shape, area):
    rng = generator("area", shape)
    radius = generator("area", shape).uniform(0.20, 0.22)  # the first number that `coverage` draws
    cover = coverage(Thing(shape, "red", "large", "bottom left"), 128, rng)
    assert cover.mean() == pytest.approx(area * radius**2, rel=0.01)


def test_boxes_are_tight():
    for scene in scenes(40, objects=4):
        for mask in scene.masks:
            x, y, width, height = box(mask)
            inside = mask[y : y + height, x : x + width]
            assert inside.sum() == mask.sum()
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()


def test_the_picture_of_classes_names_every_shape():
    for scene in scenes(40, objects=4):
        numbers = classes(scene.facts.things, scene.masks)
        for thing, mask in zip(scene.facts.things, scene.masks, strict=True):
            assert set(np.unique(numbers[mask])) == {1 + SHAPES.index(thing.shape)}
        assert not numbers[~scene.masks.any(0)].any()


@pytest.mark.parametrize("pitch", PITCHES)
def test_a_fourier_transform_finds_the_tone(pitch):
    for number in range(20):
        samples = tone(pitch, generator("tone", number))
        assert len(samples) < RATE
        assert 3000 < np.abs(samples.astype(int)).max() < 32767, "too faint, or clipped"
        power = np.abs(np.fft.rfft(samples)) ** 2
        hertz = np.argmax(power) * RATE / len(samples)
        low, high = HERTZ[pitch]
        assert low - 5 < hertz < high + 5
