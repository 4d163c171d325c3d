"""Which frames a video file holds, and when each is shown, without decoding any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polymodal.core.errors import BadCell
from polymodal.modalities.video.clip import Edges

if TYPE_CHECKING:
    from av.container import InputContainer

TIMED = {"mov", "matroska", "webm", "avi", "flv", "asf", "nut", "ogg"}  # where times can be looked up and relied upon
CUT = 0.1  # share of what a file says it holds that may be lacking at its end
LEAST = 1.0  # seconds that a file may say wrongly of itself
FOREVER = 1e6  # seconds; some say this of streams
USUAL = 25.0  # frames a second, where nothing is said


@dataclass(frozen=True)
class Packets:
    """What the file says of its frames, in the order in which they are shown."""

    begins: list[int]  # in units of the stream's time base; [] where the file has none that can be relied upon
    keys: list[int]  # of these, where decoding can begin
    count: int


def packets_of(file: InputContainer, stream: Any, max_frames: int) -> Packets:
    """Every packet of the stream is looked at, and none decoded."""
    times: list[int | None] = []
    keys: list[int] = []
    for packet in file.demux(stream):
        if not packet.size or packet.is_discard or packet.is_corrupt:
            continue
        times.append(packet.pts)
        if packet.is_keyframe and packet.pts is not None:
            keys.append(packet.pts)
        if len(times) > max_frames:
            raise BadCell(f"more frames than max_frames, {max_frames}")
    begins = sorted({t for t in times if t is not None})
    if not times:
        raise BadCell("a video without frames")
    whole = len(begins) == len(times) and bool(keys) and bool(TIMED & set(file.format.name.split(",")))
    return Packets(begins if whole else [], sorted(keys), len(times))


def edges_of(stream: Any, packets: Packets) -> tuple[Edges, bool]:
    """When each frame begins, in seconds; by the number of frames a second where the file has no times."""
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    if not packets.begins:
        last = np.arange(packets.count + 1, dtype=np.float64)
        return (last / rate, True) if rate else (last, False)
    begins = np.array(packets.begins, np.float64) * float(stream.time_base)
    usual = float(np.median(np.diff(begins))) if len(begins) > 1 else 1 / (rate or USUAL)
    return np.append(begins, begins[-1] + usual), True


def check_whole(file: InputContainer, stream: Any, packets: Packets, lasts: float | None) -> None:
    """Whether the file holds about as much as its header says. Raises BadCell."""
    lacking = stream.frames - packets.count
    if lacking > max(2, CUT * stream.frames):
        raise BadCell(f"a truncated video: {packets.count} of {stream.frames} frames are there")
    said = float(stream.duration * stream.time_base) if stream.duration else 0.0
    if not said and file.duration and not file.streams.audio:
        said = file.duration / 1e6
    if lasts is not None and FOREVER > said > max(LEAST, lasts / (1 - CUT)):
        raise BadCell(f"a truncated video: {lasts:.1f} of {said:.1f} seconds are there")
