"""Cells on their way to a reader: opening the files they name, and the digest of their content."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.core.errors import BadCell

LARGEST = 1 << 30  # bytes of a file, or of all files of a folder, that may be opened
MOST = 1 << 16  # files of a folder


def path_of(cell: str, root: Path | None) -> Path:
    """Where the file of a cell is: relative paths start from the table's folder."""
    return Path(cell) if root is None else root / cell


def is_folder(cell: str, root: Path | None) -> bool:
    """Whether a cell names a folder that is there."""
    try:
        return path_of(cell, root).is_dir()
    except (OSError, ValueError):
        return False


def open_folder(cell: str, root: Path | None) -> tuple[bytes, ...]:
    """The content of a folder's files in the natural order of their names (frame 2 before frame 10).

    Hidden files and folders inside are passed over. Raises BadCell where there are none, too many, or too large ones.
    """
    try:
        files = [p for p in path_of(cell, root).iterdir() if not p.name.startswith(".") and p.is_file()]
        if not files:
            raise BadCell("the folder holds no files")
        if len(files) > MOST:
            raise BadCell(f"the folder holds {len(files)} files; up to {MOST} can be read")
        if sum(p.stat().st_size for p in files) > LARGEST:
            raise BadCell(f"the files of the folder are larger than {LARGEST >> 20} MB")
        return tuple(p.read_bytes() for p in sorted(files, key=natural))
    except OSError as error:
        raise BadCell(f"the folder cannot be read: {error.strerror or error}") from None


def natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """A key that sorts names as people count: runs of digits by their value."""
    pieces = re.split(r"([0-9]+)", path.name.casefold())
    return [(int(p), "") if at % 2 and len(p) < 1000 else (-1, p) for at, p in enumerate(pieces)], path.name


def open_file(cell: str, root: Path | None) -> bytes:
    """The content of the file that a cell names. Raises BadCell where there is none to read."""
    try:
        path = path_of(cell, root)
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise BadCell("is a folder, not a file")
        if not stat.S_ISREG(found.st_mode):
            raise BadCell("is not a regular file")
        if found.st_size > LARGEST:
            raise BadCell(f"the file is larger than {LARGEST >> 20} MB")
        return path.read_bytes()
    except FileNotFoundError:
        raise BadCell("file not found") from None
    except (OSError, ValueError) as error:  # no permission, too long a name, a zero byte in it
        raise BadCell(f"the file cannot be opened: {getattr(error, 'strerror', None) or error}") from None


def digest(cell: Any) -> int:
    """63 bits that stand for the cell's content: file bytes, text, arrays, pictures, or records of these."""
    return int.from_bytes(hashlib.blake2b(_content(cell), digest_size=8).digest(), "big") >> 1


def _content(cell: Any) -> bytes:
    if isinstance(cell, bytes):
        return cell
    if isinstance(cell, str):
        return cell.encode("utf-8", "surrogatepass")
    if isinstance(cell, np.ndarray):
        return f"{cell.dtype}{cell.shape}".encode() + np.ascontiguousarray(cell).tobytes()
    if hasattr(cell, "tobytes") and hasattr(cell, "mode") and hasattr(cell, "size"):  # a PIL picture
        return f"{cell.mode}{cell.size}".encode() + cell.tobytes()
    return json.dumps(cell, ensure_ascii=False, default=_stand_in).encode("utf-8", "surrogatepass")


def _stand_in(inner: Any) -> str:
    if isinstance(inner, bytes | np.ndarray) or hasattr(inner, "tobytes"):
        return f"{type(inner).__name__}:{digest(inner)}"
    return repr(inner)
