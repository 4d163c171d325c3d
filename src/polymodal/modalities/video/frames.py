"""A cell of any kind -> a clip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from polymodal.core.errors import BadCell
from polymodal.modalities.video.animation import animation
from polymodal.modalities.video.clip import Clip, Frames, counted
from polymodal.modalities.video.container import container
from polymodal.modalities.video.kinds import is_still, may_move

COLOURS = (1, 3, 4)


@contextmanager
def opened(cell: object, max_frames: int, max_pixels: int, longest: float = math.inf) -> Iterator[Clip]:
    """The clip of a cell, for as long as the block lasts. Raises BadCell, also for one of more than `longest` seconds.

    A cell is the bytes of a file (a video; an animated GIF, WebP or PNG; a still picture), several pictures after each
    other (bytes of files, PIL pictures, arrays), an array [T, H, W], [T, H, W, C] or [T, C, H, W], or one picture.
    """
    if isinstance(cell, bytes):
        with _file(cell, max_frames, max_pixels) as clip:
            lasts = float(clip.edges[-1] - clip.edges[0])
            if clip.clock and lasts > longest:
                raise BadCell(f"{lasts:.1f} seconds, more than {longest:.1f}")
            yield _checked(clip, max_frames)
    elif isinstance(cell, np.ndarray):
        yield _checked(_listed(list(_pictures(cell))), max_frames)
    elif isinstance(cell, list | tuple):
        yield _checked(_listed(cell), max_frames)
    elif isinstance(cell, Image.Image):
        yield _listed([cell])
    else:
        raise BadCell(f"a clip is a file, pictures after each other or an array, not {type(cell).__name__}")


@contextmanager
def _file(content: bytes, max_frames: int, max_pixels: int) -> Iterator[Clip]:
    if not content:
        raise BadCell("an empty file")
    if may_move(content):
        with animation(content, max_frames, max_pixels) as clip:
            yield clip
    elif is_still(content):
        yield _listed([content])
    else:
        with container(content, max_frames, max_pixels) as clip:
            yield clip


def _checked(clip: Clip, max_frames: int) -> Clip:
    if not len(clip):
        raise BadCell("a clip without frames")
    if len(clip) > max_frames:
        raise BadCell(f"{len(clip)} frames, more than max_frames {max_frames}")
    return clip


def _listed(pictures: Sequence[Any]) -> Clip:
    def take(wanted: Frames) -> Iterator[Any]:
        for at in wanted.tolist():
            yield pictures[at]

    return Clip(counted(len(pictures)), False, take)


def _pictures(array: np.ndarray) -> np.ndarray:
    """[T H W], or [T H W C] with colours last; a still picture becomes one of one frame. Raises BadCell."""
    still = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in COLOURS)
    frames = array[None] if still else array
    if frames.ndim == 4 and frames.shape[3] not in COLOURS and frames.shape[1] in COLOURS:
        frames = np.moveaxis(frames, 1, 3)
    if frames.ndim not in (3, 4) or (frames.ndim == 4 and frames.shape[3] not in COLOURS):
        raise BadCell(f"an array of shape {list(array.shape)}; it must be [T, H, W], [T, H, W, C] or [T, C, H, W]")
    return frames
