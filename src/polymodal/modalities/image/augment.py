"""Random changes of a picture that keep its meaning. Everything is off by default and drawn from the generator given.

Pictures are PIL images of mode L or RGB. Each change is a function of its own; `augment` draws and applies
them in order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le, Lt
from PIL import Image, ImageFilter

from polymodal.core.schema import Share
from polymodal.core.seeds import Rng

Jitter = Annotated[float, Ge(0.0)]
Area = Annotated[float, Ge(0.01), Le(1.0)]
Box = tuple[float, float, float, float]  # left, top, right, bottom
Colour = tuple[int, ...]  # a value per channel


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What is changed at random, and how far."""

    crop: tuple[Area, Area] | None = None  # a part of this share of the area, at the full size again
    flip: Share = 0.0  # chance of left for right
    flip_vertical: Share = 0.0  # chance of top for bottom
    rotate: Annotated[float, Ge(0.0), Le(180.0)] = 0.0  # up to so many degrees either way
    scale: Annotated[float, Ge(0.0), Lt(1.0)] = 0.0  # 0.2: drawn at 0.8 to 1.2 times its size
    brightness: Jitter = 0.0  # 0.2: times 0.8 to 1.2
    contrast: Jitter = 0.0  # likewise, about the mean grey
    saturation: Jitter = 0.0  # likewise, about grey
    hue: Annotated[float, Ge(0.0), Le(0.5)] = 0.0  # up to this share of the colour circle either way
    blur: Jitter = 0.0  # Gaussian, standard deviation up to so many pixels
    noise: Share = 0.0  # Gaussian, standard deviation up to this share of the full range
    erase: Share = 0.0  # chance that a rectangle is painted over

    @property
    def any(self) -> bool:
        return any(getattr(self, f.name) for f in fields(self))

    @property
    def room(self) -> float:
        """How much larger than needed a picture is decoded, so that its crops stay sharp: at most twice."""
        return min(2.0, self.crop[0] ** -0.5) if self.crop else 1.0


def augment(picture: Image.Image, how: Augment, size: tuple[int, int], fill: Colour, rng: Rng) -> Image.Image:
    """The picture after every change that is on, at `size` (height, width); corners and holes are filled."""
    if how.crop:
        picture = resize(picture, size, crop_box(picture.size, how.crop, rng))
    if how.rotate or how.scale:
        degrees, factor = rng.uniform(-how.rotate, how.rotate), rng.uniform(1 - how.scale, 1 + how.scale)
        picture = turn(picture, degrees, factor, fill)
    if how.flip and rng.random() < how.flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if how.flip_vertical and rng.random() < how.flip_vertical:
        picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    picture = _recolour(picture, how, rng)
    if how.blur:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, how.blur)))
    if how.noise:
        picture = add_noise(picture, rng.uniform(0, how.noise), rng)
    if how.erase and rng.random() < how.erase:
        picture = erase(picture, erase_box(picture.size, rng), fill)
    return picture


def _recolour(picture: Image.Image, how: Augment, rng: Rng) -> Image.Image:
    colour = picture.mode == "RGB"
    for change, reach in ((brighten, how.brightness), (contrast, how.contrast), (saturate, how.saturation)):
        if reach and (colour or change is not saturate):
            picture = change(picture, max(0.0, rng.uniform(1 - reach, 1 + reach)))
    return shift_hue(picture, rng.uniform(-how.hue, how.hue)) if how.hue and colour else picture


def crop_box(size: tuple[int, int], area: tuple[float, float], rng: Rng, ratio: float = 4 / 3) -> Box:
    """A random part of this share of the area of `size` (width, height), its aspect within `ratio` either way.

    The random resized crop of Szegedy et al., "Going deeper with convolutions", 2015.
    """
    width, height = float(size[0]), float(size[1])
    whole = rng.uniform(min(area), max(area)) * width * height
    aspect = math.exp(rng.uniform(-math.log(ratio), math.log(ratio)))
    w, h = min(width, math.sqrt(whole * aspect)), min(height, math.sqrt(whole / aspect))
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return left, top, min(width, left + w), min(height, top + h)


def resize(picture: Image.Image, size: tuple[int, int], box: Box | None = None) -> Image.Image:
    """A part of the picture, or all of it, at `size` (height, width)."""
    return picture.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box)


def turn(picture: Image.Image, degrees: float, factor: float, fill: Colour) -> Image.Image:
    """Turned counter-clockwise and drawn `factor` times as large about its centre."""
    angle = math.radians(degrees)
    cos, sin = round(math.cos(angle), 15) / factor, round(math.sin(angle), 15) / factor
    x, y = picture.width / 2, picture.height / 2
    matrix = (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)  # where each new pixel comes from
    colour = fill if len(fill) > 1 else fill[0]
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=colour)


def brighten(picture: Image.Image, factor: float) -> Image.Image:
    return _through(picture, np.arange(256) * factor)


def contrast(picture: Image.Image, factor: float) -> Image.Image:
    """About the mean luma (ITU-R BT.601)."""
    middle = float(np.asarray(picture.convert("L")).mean())
    return _through(picture, (np.arange(256) - middle) * factor + middle)


def _through(picture: Image.Image, curve: np.ndarray) -> Image.Image:
    return picture.point(_bytes(curve).tolist() * len(picture.getbands()))


def saturate(picture: Image.Image, factor: float) -> Image.Image:
    return Image.blend(picture.convert("L").convert("RGB"), picture, factor)


def shift_hue(picture: Image.Image, turns: float) -> Image.Image:
    """Every hue moved by `turns` of the colour circle."""
    hue, saturation, value = picture.convert("HSV").split()
    shifted = hue.point([(h + round(turns * 256)) % 256 for h in range(256)])
    return Image.merge("HSV", (shifted, saturation, value)).convert("RGB")


def add_noise(picture: Image.Image, deviation: float, rng: Rng) -> Image.Image:
    """Gaussian noise, its standard deviation a share of the full range."""
    pixels = np.asarray(picture)
    return Image.fromarray(_bytes(pixels + np.float32(255 * deviation) * rng.standard_normal(pixels.shape, np.float32)))


def erase_box(size: tuple[int, int], rng: Rng) -> tuple[int, int, int, int]:
    """A random rectangle of 2 to 33 % of the area of `size` (width, height), aspect 0.3 to 3.3.

    Zhong et al., "Random erasing data augmentation", 2020.
    """
    width, height = size
    area, aspect = rng.uniform(0.02, 0.33) * width * height, math.exp(rng.uniform(math.log(0.3), -math.log(0.3)))
    w = min(width, max(1, round(math.sqrt(area * aspect))))
    h = min(height, max(1, round(area / w)))
    left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    return left, top, left + w, top + h


def erase(picture: Image.Image, box: tuple[int, int, int, int], fill: Colour) -> Image.Image:
    holed = picture.copy()
    holed.paste(fill if len(fill) > 1 else fill[0], box)
    return holed


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
