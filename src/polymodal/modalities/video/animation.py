"""Animated GIF, WebP and PNG files, through Pillow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from PIL import Image

from polymodal.core.errors import BadCell
from polymodal.modalities.damage import refusing
from polymodal.modalities.video.clip import Clip, Frames, counted

FORMATS = ("GIF", "WEBP", "PNG")
SHORTEST = 0.02  # seconds; browsers show a frame that says less for a tenth of a second
USUAL = 0.1
DAMAGED = "a truncated or damaged animation"


@contextmanager
def animation(content: bytes, max_frames: int, max_pixels: int) -> Iterator[Clip]:
    """The clip of such a file; frames last as long as the file says. Raises BadCell."""
    with refusing(DAMAGED):
        picture = Image.open(BytesIO(content), formats=FORMATS)
        frames = getattr(picture, "n_frames", 1)
    if picture.width * picture.height > max_pixels:
        raise BadCell(f"{picture.width} x {picture.height} pixels, more than max_pixels {max_pixels}")
    if frames > max_frames:
        raise BadCell(f"{frames} frames, more than max_frames {max_frames}")
    with picture:
        if frames == 1:
            yield Clip(counted(1), False, lambda wanted: iter([content]))
        else:
            lasts = [_lasts(_at(picture, at)) for at in range(frames)]
            yield Clip(np.concatenate([[0.0], np.cumsum(lasts)]), True, lambda wanted: _taken(picture, wanted))


def _taken(picture: Image.Image, wanted: Frames) -> Iterator[Image.Image]:
    for at in wanted.tolist():
        found = _at(picture, at)
        with refusing(DAMAGED):
            found.load()
        yield found.copy()  # without the file behind it, whose other frames are none of the reader's business


def _at(picture: Image.Image, frame: int) -> Image.Image:
    with refusing(DAMAGED):
        picture.seek(frame)
    return picture


def _lasts(picture: Image.Image) -> float:
    """How long the frame is shown, in seconds."""
    with refusing(DAMAGED):
        if picture.format == "WEBP":  # says it only when the frame is decoded
            picture.load()
    said = float(picture.info.get("duration", 0.0)) / 1000
    return said if said >= SHORTEST else USUAL
