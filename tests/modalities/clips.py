"""Clips for the tests: arrays, and the files that PyAV and Pillow make of them."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image


def scene(frames: int, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """A textured wall that runs by, [T H W 3]; no two frames are alike."""
    tiles = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    wall = np.kron(tiles, np.ones((8, 8, 1), np.uint8))
    moved = [np.roll(wall, 3 * i, 1) for i in range(frames)]
    for i, frame in enumerate(moved):
        frame[:8, :8] = 7 * i % 256
    return np.stack(moved) if moved else np.zeros((0, height, width, 3), np.uint8)


def film(frames: np.ndarray, codec: str = "mpeg4", form: str = "mp4", pixels: str = "yuv420p", rate: int = 25,
         times: list[int] | None = None, **options: str) -> bytes:  # fmt: skip
    """A video file of frames [T H W 3]; `times` in milliseconds."""
    import av

    memory = io.BytesIO()
    with av.open(memory, "w", format=form) as file:
        stream: Any = file.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        stream.codec_context.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for at, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if times is not None:
                picture.pts, picture.time_base = times[at], Fraction(1, 1000)
            for packet in stream.encode(picture):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)
    return memory.getvalue()


def projected(content: bytes) -> np.ndarray:
    """Every frame of a video file, decoded from the first to the last, [T H W 3]."""
    import av

    with av.open(io.BytesIO(content)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def sound_only(cover: np.ndarray | None = None) -> bytes:
    """A second of silence; with `cover` also the picture on the record's sleeve."""
    import av
    from av.stream import Disposition

    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as file:
        sound: Any = file.add_stream("aac", rate=16000)
        frame: Any = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        streams = [(sound, frame)]
        if cover is not None:
            sleeve: Any = file.add_stream("png", rate=1)
            sleeve.height, sleeve.width = cover.shape[:2]
            sleeve.pix_fmt, sleeve.disposition = "rgb24", Disposition.attached_pic
            streams.append((sleeve, av.VideoFrame.from_ndarray(cover, format="rgb24")))
        for stream, content in streams:
            for packet in [*stream.encode(content), *stream.encode(None)]:
                file.mux(packet)
    return memory.getvalue()


def animation(frames: np.ndarray, kind: str, lasts: list[int] | int = 40, **options: Any) -> bytes:
    """An animated GIF, WEBP or PNG file; `lasts` in milliseconds."""
    pictures = [Image.fromarray(frame) for frame in frames]
    memory = io.BytesIO()
    pictures[0].save(memory, kind, save_all=True, append_images=pictures[1:], duration=lasts, **options)
    return memory.getvalue()


def picture(frame: np.ndarray, kind: str = "PNG") -> bytes:
    memory = io.BytesIO()
    Image.fromarray(frame).save(memory, kind)
    return memory.getvalue()


def boxes(content: bytes) -> dict[bytes, bytes]:
    """The outer boxes of an MP4 file, by their names."""
    found, at = {}, 0
    while at < len(content):
        size, name = struct.unpack(">I4s", content[at : at + 8])
        found[name] = content[at : at + size]
        at += size
    return found


def index_first(content: bytes) -> bytes:
    """An MP4 file with its index before the frames, as files for streaming are, so that its end can be cut off."""
    part = boxes(content)
    index = bytearray(part[b"moov"])
    at = index.index(b"stco") + 8
    (count,) = struct.unpack(">I", index[at : at + 4])
    places = np.frombuffer(bytes(index[at + 4 : at + 4 + 4 * count]), ">u4") + len(index)
    index[at + 4 : at + 4 + 4 * count] = places.astype(">u4").tobytes()
    return part[b"ftyp"] + bytes(index) + part.get(b"free", b"") + part[b"mdat"]


def turned(content: bytes) -> bytes:
    """An MP4 file that says of its picture that it is to be shown turned clockwise by a quarter, as phones do."""
    straight = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    clockwise = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    at = content.index(straight, content.index(b"tkhd"))
    return content[:at] + clockwise + content[at + len(straight) :]
