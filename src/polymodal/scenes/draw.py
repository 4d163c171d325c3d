"""Pictures of coloured shapes on grey ground, with the exact mask of every object."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8

from polymodal.core.seeds import Rng
from polymodal.scenes.facts import SHAPES, Thing

RGB = {"red": (214, 58, 50), "green": (44, 160, 70), "blue": (52, 96, 214), "yellow": (236, 194, 44)}
RADIUS = {"small": (0.12, 0.14), "large": (0.20, 0.22)}  # share of the picture's side
FINE = 4  # points per pixel and axis that coverage is counted on


def draw(
    things: tuple[Thing, ...], size: int, rng: Rng
) -> tuple[UInt8[np.ndarray, "S S 3"], Bool[np.ndarray, "K S S"]]:
    """The picture, and each thing's mask: the pixels it covers, even in part. Edges are smoothed.

    The ground is grey, so exactly the pixels of the masks have colour. Objects never overlap nor leave the picture.
    """
    picture = (rng.uniform(205, 240) + rng.normal(0, 4, (size, size, 1))).repeat(3, axis=2)
    masks = np.zeros((len(things), size, size), bool)
    for mask, thing in zip(masks, things, strict=True):
        cover = coverage(thing, size, rng)
        colour = np.array(RGB[thing.colour]) * rng.uniform(0.85, 1.05)
        picture += cover[..., None] * (colour - picture)
        mask[:] = cover > 0
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), masks


def coverage(thing: Thing, size: int, rng: Rng) -> Float[np.ndarray, "S S"]:
    """The share of every pixel that the thing covers, its centre and radius drawn by lot within its place and size."""
    radius = rng.uniform(*RADIUS[thing.size])
    reach = max(0.0, 0.245 - radius) * 0.8
    down, right = (0.75 if word in thing.place else 0.25 for word in ("bottom", "right"))
    y0, x0 = down + rng.uniform(-reach, reach), right + rng.uniform(-reach, reach)
    points = (np.arange(size * FINE) + 0.5) / (size * FINE)
    y, x = (points[:, None] - y0) / radius, (points[None, :] - x0) / radius
    inside = {
        "circle": lambda: y**2 + x**2 <= 1,
        "square": lambda: np.maximum(abs(y), abs(x)) <= 0.886,  # of the circle's area
        "triangle": lambda: (abs(x) <= (y + 1) / 2) & (y <= 1),
    }[thing.shape]()
    return inside.reshape(size, FINE, size, FINE).mean((1, 3))


def box(mask: Bool[np.ndarray, "S S"]) -> list[int]:
    """The smallest box around a mask as COCO writes it: left, top, width, height, in pixels."""
    y, x = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return [int(x[0]), int(y[0]), int(x[-1] - x[0]) + 1, int(y[-1] - y[0]) + 1]


def classes(things: tuple[Thing, ...], masks: Bool[np.ndarray, "K S S"]) -> UInt8[np.ndarray, "S S"]:
    """One picture of classes: 0 for the ground, 1 + the place in `SHAPES` for a thing."""
    numbers = np.array([1 + SHAPES.index(t.shape) for t in things], np.uint8)
    return (masks * numbers[:, None, None]).max(0).astype(np.uint8)
