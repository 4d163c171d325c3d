""".npy and .npz files: one array of numbers, memory-mapped where it lies unpacked. Nothing in them is ever executed."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from os import stat_result
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.core.errors import TableError, suggest
from polymodal.core.npy import MAGIC, Form, form_of
from polymodal.data.cells import LARGEST

ZIP = b"PK\x03\x04"
LOCAL = struct.Struct("<4s22xHH")  # a member's own header: signature ... length of its name, of its extra field
_ADVICE = "an array of numbers, saved by numpy.save or numpy.savez"


def regular_file(path: Path) -> stat_result:
    """What the system knows of the file. Raises TableError where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        problem = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be opened: {error}"
        raise TableError(str(path), problem, advice="check the path; it starts from the table's folder") from None
    if not stat.S_ISREG(found.st_mode):
        raise TableError(str(path), "is not a regular file", advice=_ADVICE)
    return found


def open_array(path: Path, key: str | None, *, besides: str | None = None) -> np.ndarray:
    """The array of a .npy file, or the one called `key` of an .npz file: its only one when None, `besides` left out.

    Read-only. Raises TableError for what is no such file, not whole, or holds anything but numbers.
    """
    size = regular_file(path).st_size
    try:
        with path.open("rb") as file:
            begins = file.read(6)
            file.seek(0)
            if begins == MAGIC:
                if key is not None or besides is not None:
                    raise TableError(str(path), "is a single array: nothing in it has a name", given=key or besides,
                                     advice="an .npz file, or leave it out")  # fmt: skip
                return _mapped(path, file, str(path), size)
            if begins[:4] != ZIP:
                raise TableError(str(path), "is neither a .npy nor an .npz file", advice=_ADVICE)
            with zipfile.ZipFile(file) as members:
                return _member(path, members, key, besides)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise TableError(str(path), f"cannot be read: {error}", advice=_ADVICE) from None
    except NotImplementedError as error:  # a way of packing that zipfile does not know
        raise TableError(str(path), f"cannot be unpacked: {error}", advice="numpy.savez") from None


def _member(path: Path, members: zipfile.ZipFile, key: str | None, besides: str | None) -> np.ndarray:
    names = [i.filename.removesuffix(".npy") for i in members.infolist() if i.filename.endswith(".npy")]
    if key is None:
        others = [n for n in names if n != besides]
        if len(others) != 1:
            given = others or None
            raise TableError(str(path), f"holds {len(others)} arrays", given=given, advice="name one as its key")
        key = others[0]
    if key not in names:
        raise TableError(str(path), "holds no array of this name", given=key, advice=suggest(key, names))
    info, where = members.getinfo(f"{key}.npy"), f"{path}: {key}"
    if info.flag_bits & 1:
        raise TableError(where, "is encrypted", advice=_ADVICE)
    return (_stored if info.compress_type == zipfile.ZIP_STORED else _unpacked)(path, members, info, where)


def _stored(path: Path, members: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> np.ndarray:
    """A member that lies in the file as it is."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        signature, name, extra = LOCAL.unpack(file.read(LOCAL.size))
        if signature != ZIP:
            raise TableError(where, "is not where the file's table of contents says", advice=_ADVICE)
        file.seek(name + extra, 1)
        return _mapped(path, file, where, file.tell() + info.file_size)


def _unpacked(path: Path, members: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> np.ndarray:
    """A compressed member, in memory."""
    with members.open(info) as stream:
        form = _form(stream, where)
    if form.size > LARGEST:
        raise TableError(where, f"is compressed, and larger than {LARGEST >> 20} MB when unpacked", given=str(form),
                         advice="numpy.savez, not numpy.savez_compressed: it is then read where it lies")  # fmt: skip
    with members.open(info) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
    array.setflags(write=False)
    return array


def _form(stream: Any, where: str) -> Form:
    try:
        return form_of(stream)
    except ValueError as error:
        raise TableError(where, str(error), advice=_ADVICE) from None


def _mapped(path: Path, file: io.BufferedIOBase, where: str, end: int) -> np.ndarray:
    """The array whose header is at the file's place, and which must not reach beyond `end`."""
    form = _form(file, where)
    if file.tell() + form.size > end:
        raise TableError(where, f"is cut off: {end - file.tell()} of {form.size} bytes",
                         given=str(form), advice="copy or save it once more")  # fmt: skip
    if not form.size:
        return np.zeros(form.shape, form.dtype)
    return np.asarray(np.memmap(path, form.dtype, "r", file.tell(), form.shape, form.order))  # type: ignore[call-overload]
