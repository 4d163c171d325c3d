"""Video files, through PyAV: which frames there are, and on demand those that are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

from polymodal.core.catalog import need
from polymodal.core.errors import BadCell
from polymodal.modalities.video.clip import Clip
from polymodal.modalities.video.packets import check_whole, edges_of, packets_of
from polymodal.modalities.video.seek import Video, pictures, refusing

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer

# What may be inside a cell. None of these opens other files or addresses, as playlists would.
CONTAINERS = (
    "3gp,asf,avi,dv,flv,h263,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,mxf,nut,obu,ogg,rm,"
    "vc1,webm,wtv,yuv4mpegpipe"
)
OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}


@contextmanager
def container(content: bytes, max_frames: int, max_pixels: int) -> Iterator[Clip]:
    """The clip of a video file. Raises BadCell for a file that is none, has no picture, is damaged or too large."""
    need("av", "video files")
    with ExitStack() as stack:
        with refusing():
            file = stack.enter_context(_open(content))
            stream = _stream(file, max_pixels)
            packets = packets_of(file, stream, max_frames)
            edges, clock = edges_of(stream, packets)
            check_whole(file, stream, packets, float(edges[-1] - edges[0]) if clock else None)
        video = Video(file, stream, packets, max_pixels, lambda: _again(content, stream.index))
        yield Clip(edges, clock, lambda wanted: pictures(video, wanted))


def _open(content: bytes) -> InputContainer:
    import av

    return av.open(BytesIO(content), "r", options=dict(OPTIONS), metadata_errors="replace")


def _again(content: bytes, index: int) -> Iterator[VideoFrame]:
    """Every frame, from a file that is opened once more."""
    with _open(content) as file:
        stream: Any = file.streams[index]
        _alone(stream)
        yield from file.decode(stream)


def _alone(stream: Any) -> None:
    """One thread: workers share out cells, not frames."""
    stream.thread_type, stream.codec_context.thread_count = "NONE", 1


def _stream(file: InputContainer, max_pixels: int) -> Any:
    moving = [s for s in file.streams.video if not s.disposition & _cover()]
    if not moving:
        raise BadCell("a file without a picture: it holds sound only" if file.streams.audio else "holds no video")
    stream = moving[0]
    if stream.codec_context is None:
        raise BadCell("a video of a codec that is not known")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > max_pixels:
        raise BadCell(f"{width} x {height} pixels, more than max_pixels {max_pixels}")
    _alone(stream)
    return stream


def _cover() -> Any:
    from av.stream import Disposition

    return Disposition.attached_pic
