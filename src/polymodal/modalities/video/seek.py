"""Frames of a video file that are wanted, decoded from the key frame before each."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from polymodal.core.errors import BadCell
from polymodal.modalities.damage import DAMAGE
from polymodal.modalities.video.clip import Frames, nth
from polymodal.modalities.video.packets import CUT, Packets

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer

TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what PyAV raises on a broken file into BadCell."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise BadCell(f"not a video, or a damaged one: {error.strerror or error}") from None
    except DAMAGE as error:
        raise BadCell(f"not a video, or a damaged one: {error}") from None


@dataclass(frozen=True)
class Video:
    """An open file whose frames can be looked up."""

    file: InputContainer
    stream: Any
    packets: Packets
    max_pixels: int
    all: Callable[[], Iterator[VideoFrame]]  # every frame from the beginning, also where nothing can be looked up

    def onward(self, key: int) -> Iterator[VideoFrame]:
        """The frames from the last key frame at or before this time, as they are shown."""
        self.file.seek(key, stream=self.stream, backward=True)
        for frame in self.file.decode(self.stream):
            if frame.pts is not None:
                yield frame


def pictures(video: Video, wanted: Frames) -> Iterator[Image.Image]:
    """The frames that are wanted; packets at the very end may hold none, and the last frame then stands for them."""
    found = _by_time(video, wanted) if video.packets.begins else nth(video.all(), wanted)
    picture = None
    for at in wanted.tolist():
        with refusing():
            frame = next(found, None)
            picture = picture if frame is None else _upright(frame, video.max_pixels)
        if picture is None or (frame is None and at < (1 - CUT) * video.packets.count):
            raise BadCell(f"a truncated or damaged video: frame {at} cannot be decoded")
        yield picture


def _by_time(video: Video, wanted: Frames) -> Iterator[VideoFrame]:
    """The frames that are shown at these times: from the last key frame before each, or from where decoding stands."""
    begins, keys = video.packets.begins, video.packets.keys
    frames: Iterator[VideoFrame] = iter(())
    here: VideoFrame | None = None  # the frame that was decoded last
    for at in wanted.tolist():
        aim = begins[at]
        key = keys[max(0, bisect_right(keys, aim) - 1)]
        if here is None or key > (here.pts or 0):
            frames = video.onward(key)
            here = next(frames, None)
            if here is None or (here.pts or 0) > aim:  # the file has no index that leads there
                frames = (f for f in video.all() if f.pts is not None)
                here = next(frames, None)
        while here is not None and (here.pts or 0) < aim:
            here = next(frames, None)
        if here is None:
            return
        yield here


def _upright(frame: VideoFrame, max_pixels: int) -> Image.Image:
    """The frame as RGB, turned as its display matrix says."""
    if frame.is_corrupt:
        raise BadCell("a truncated or damaged video")
    if frame.width * frame.height > max_pixels:
        raise BadCell(f"{frame.width} x {frame.height} pixels, more than max_pixels {max_pixels}")
    picture, turn = frame.to_image(), TURNS.get(round(frame.rotation) % 360)
    return picture if turn is None else picture.transpose(turn)
