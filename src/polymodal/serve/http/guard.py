"""Readers for cells of strangers: what is too large is refused before it is decoded; many files are decoded at once."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any

from polymodal.assemble import Assembly
from polymodal.core.contracts import Sample
from polymodal.core.errors import BadCell
from polymodal.modalities.audio.wave import Memory, is_sound
from polymodal.serve.http.settings import ServeSettings

WORTH = 1 << 16  # bytes of files from which on they are decoded side by side


def guarded(assembly: Assembly, settings: ServeSettings, pool: Executor | None = None) -> Assembly:
    """The same assembly with readers of its own that keep to the limits; the given one stays as it was."""
    readers = {name: limited(reader, settings, pool) for name, reader in assembly.readers.items()}
    return replace(assembly, readers=readers)


def limited(reader: Any, settings: ServeSettings, pool: Executor | None = None) -> Any:
    """A copy of a reader that keeps to the limits."""
    made = copy.copy(reader)
    if hasattr(made, "members"):  # several readers in one
        made.members = {name: limited(member, settings) for name, member in made.members.items()}
    if hasattr(made, "picture"):  # which reads the frames of a clip
        made.picture = copy.copy(made.picture)
        made.picture.max_pixels = min(made.picture.max_pixels, settings.pixels)
    if hasattr(made, "max_pixels"):
        made.max_pixels = min(made.max_pixels, settings.pixels)
    if hasattr(made, "longest"):  # of clips
        made.longest = settings.seconds
    if getattr(made, "files", False):
        made.decode = partial(_decode, type(made).decode.__get__(made), settings.seconds)
        if not hasattr(made, "decode_all"):
            made.decode_all = partial(_decode_all, made.decode, pool)
    return made


def _decode(decode: Any, seconds: float, cell: object) -> Sample:
    """Raises BadCell."""
    if isinstance(cell, str):
        raise BadCell("a path is not opened here")
    if isinstance(cell, bytes):
        refuse_long(cell, seconds)
    return decode(cell)


def _decode_all(decode: Any, pool: Executor | None, cells: Sequence[object]) -> list[Sample | BadCell]:
    tried = partial(_tried, decode)
    if pool is None or len(cells) < 2 or sum(len(c) for c in cells if isinstance(c, bytes)) < WORTH:
        return [tried(cell) for cell in cells]
    return list(pool.map(tried, cells))


def _tried(decode: Any, cell: object) -> Sample | BadCell:
    try:
        return decode(cell)
    except BadCell as error:
        return error


def refuse_long(cell: bytes, seconds: float) -> None:
    """Raise BadCell for a sound that says that it lasts longer."""
    lasts = _seconds(cell)
    if lasts is not None and lasts > seconds:
        raise BadCell(f"{lasts:.1f} seconds, more than {seconds:.1f}")


def _seconds(cell: bytes) -> float | None:
    """How long a file says that it lasts; None for what is no sound."""
    if cell[:4] in (b"RIFF", b"FORM", b"fLaC", b"OggS") or cell[:3] == b"ID3" or cell[:2] in (b"\xff\xfb", b"\xff\xf3"):
        return _sound_seconds(cell) if is_sound(cell) else None
    return None


def _sound_seconds(cell: bytes) -> float | None:
    try:
        import soundfile
    except ImportError:
        return None
    try:
        with soundfile.SoundFile(Memory(cell)) as sound:
            return sound.frames / sound.samplerate if sound.samplerate > 0 and sound.frames < 2**62 else None
    except (soundfile.LibsndfileError, OSError, ValueError):
        return None  # the reader says what is wrong with it
