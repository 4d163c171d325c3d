"""A cell -> a mono waveform: the bytes of a sound file, a (rate, samples) pair, or samples at the target rate."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from polymodal.core.catalog import need
from polymodal.core.errors import BadCell, shorten

if TYPE_CHECKING:
    from soundfile import SoundFile

Wave = Float32[np.ndarray, " _n"]

BLOCK = 1 << 16  # frames read at a time, so that many channels cost no memory
CHANNELS, RATES = 64, range(100, 1_000_001)  # what a header may claim
LOUDEST = 1e30  # beyond it float32 would overflow on the way
INTEGERS = {"uint8": 128.0, "int16": 2.0**15, "int32": 2.0**31}  # full scale, as in wav files
FORMS = {b"RIFF": (b"WAVE",), b"RIFX": (b"WAVE",), b"RF64": (b"WAVE",), b"FORM": (b"AIFF", b"AIFC", b"8SVX", b"16SV")}
BEGINNINGS = (b"fLaC", b"OggS", b"caff", b".snd", b"dns.", b"riff", b"NIST_1A", b"Creative Voice File")
UNKNOWN = 0x7FFFF000  # chunk sizes from here on are what programs write that stream to a pipe


def read_wave(cell: object, rate: int, seconds: float) -> Wave:
    """The first `seconds` of a sound: float32 at `rate` Hz, channels averaged, full scale at ±1. Raises BadCell."""
    if isinstance(cell, bytes):
        own, wave = _from_file(cell, seconds)
    elif isinstance(cell, tuple) and len(cell) == 2:
        own, wave = _from_pair(*cell, seconds)
    elif isinstance(cell, np.ndarray):
        own, wave = rate, _from_array(cell[: _frames(seconds, rate)] if cell.ndim else cell)
    else:
        raise BadCell(f"no sound: bytes of a file, samples, or (rate, samples) are needed, not {shorten(cell, 60)}")
    if not len(wave):
        raise BadCell("no samples")
    if not (np.abs(wave) < LOUDEST).all():
        raise BadCell("samples that are NaN, infinite or absurdly large")
    return resample(wave, own, rate)[: _frames(seconds, rate)]


def resample(wave: Wave, old: int | float, new: int | float) -> Wave:
    """The sound at another rate (soxr, high quality). Raises BadCell when not one sample is left."""
    if old == new:
        return wave
    need("soxr", f"a sound at {old:g} Hz where {new:g} Hz is wanted")
    import soxr

    changed = soxr.resample(wave, old, new)
    if not len(changed):
        raise BadCell(f"too short: {len(wave)} samples at {old:g} Hz are none at {new:g} Hz")
    return changed


def _frames(seconds: float, rate: int) -> int:
    return max(1, round(seconds * rate))


def _from_file(data: bytes, seconds: float) -> tuple[int, Wave]:
    if not data:
        raise BadCell("empty file")
    need("soundfile", "reading sound files")
    import soundfile

    if not is_sound(data):
        raise BadCell("not a sound file that can be read: it begins like none")
    _check_complete(data)
    try:
        with soundfile.SoundFile(Memory(data)) as sound:
            _check_header(sound.samplerate, sound.channels)
            claimed = sound.frames if sound.format != "MP3" or _counted(data) else 0
            wave = _read_mono(sound, _frames(seconds, sound.samplerate))
            if len(wave) < min(claimed, _frames(seconds, sound.samplerate)) and claimed < 2**62:
                raise BadCell(f"truncated: {len(wave)} of {claimed} frames")
            return sound.samplerate, wave
    except soundfile.LibsndfileError as error:
        raise BadCell(f"not a sound file that can be read: {error.error_string.strip()}") from None


class Memory(io.BytesIO):
    """Bytes whose seek stops at their beginning where a spoilt file sends the decoder before it, instead of raising."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self.getbuffer().nbytes}[whence]
        return super().seek(max(0, start + offset))


def _read_mono(sound: SoundFile, limit: int) -> Wave:
    blocks = [np.zeros(0, np.float32)]
    while limit > 0:
        block = sound.read(min(BLOCK, limit), dtype="float32", always_2d=True)
        if not len(block):
            break
        blocks.append(_mono(block))
        limit -= len(block)
    return np.concatenate(blocks)


def is_sound(data: bytes) -> bool:
    """Whether a file begins as one of sound does; libsndfile, asked about others, looks for files beside it."""
    while data[:3] == b"ID3" and len(data) >= 10:  # a tag before the sound, its length in four times 7 bits
        data = data[10 + sum((byte & 127) << 7 * (3 - at) for at, byte in enumerate(data[6:10])) :]
    if data[:4] in FORMS:
        return data[8:12] in FORMS[data[:4]]
    return data.startswith(BEGINNINGS) or (data[:1] == b"\xff" and data[1:2] >= b"\xe0")  # frames of MPEG


def _check_complete(data: bytes) -> None:
    """Raise BadCell where the container itself says that its end is missing (libsndfile reads on in silence)."""
    known = {(b"RIFF", b"WAVE"): (b"data", "<"), (b"FORM", b"AIFF"): (b"SSND", ">")}.get((data[:4], data[8:12]))
    if known is not None:
        place = 12
        while place + 8 <= len(data):
            name, size = struct.unpack_from(f"{known[1]}4sI", data, place)
            if name == known[0] and place + 8 + size > len(data) and size < UNKNOWN:
                raise BadCell(f"truncated: {len(data) - place - 8} of {size} bytes of sound")
            place += 8 + size + size % 2
    elif data[:4] == b"OggS":
        page = data[data.rfind(b"OggS") :]
        segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
        if len(page) < 27 or len(page) < 27 + page[26] + sum(segments):
            raise BadCell("truncated: the last Ogg page is not complete")


def _counted(data: bytes) -> bool:
    """Whether an MP3 file holds the number of its frames; without it the length is a guess."""
    head = data[: 1 << 16]
    return b"Xing" in head or b"Info" in head


def _check_header(rate: object, channels: int) -> None:
    if not isinstance(rate, int | np.integer) or int(rate) not in RATES:
        raise BadCell(f"a rate of {shorten(rate, 60)} Hz; from {RATES[0]} to {RATES[-1]} can be read")
    if not 0 < channels <= CHANNELS:
        raise BadCell(f"{channels} channels; 1 to {CHANNELS} can be read, as samples [time, channels]")


def _from_pair(rate: object, samples: object, seconds: float) -> tuple[int, Wave]:
    _check_header(rate, 1)
    if not isinstance(samples, np.ndarray):
        raise BadCell(f"(rate, samples): samples must be an array, not {shorten(samples, 60)}")
    own = int(rate)  # type: ignore[call-overload]
    return own, _from_array(samples[: _frames(seconds, own)] if samples.ndim else samples)


def _from_array(samples: np.ndarray) -> Wave:
    """Float samples as they are; whole numbers over the full scale of their type (scipy reads wav files so)."""
    if samples.ndim not in (1, 2):
        raise BadCell(f"samples must be [time] or [time, channels], not of shape {samples.shape}")
    _check_header(RATES[-1], samples.shape[1] if samples.ndim == 2 else 1)
    scale = INTEGERS.get(str(samples.dtype))
    if scale is None and samples.dtype.kind != "f":
        raise BadCell(f"samples are {samples.dtype}; floats or one of {', '.join(INTEGERS)} are needed")
    if scale is not None:
        samples = (samples - (128.0 if samples.dtype.kind == "u" else 0.0)) / scale
    return _mono(samples[:, None] if samples.ndim == 1 else samples)


def _mono(samples: np.ndarray) -> Wave:
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found by the check for finite samples
        return samples.mean(1, dtype=np.float64).astype(np.float32)
