"""Cells on their way to a reader: opening the files they name, and the digest of their content."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.core.errors import BadCell

LARGEST = 1 << 30  # bytes of a file that may be opened


def path_of(cell: str, root: Path | None) -> Path:
    """Where the file of a cell is: relative paths start from the table's folder."""
    return Path(cell) if root is None else root / cell


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
