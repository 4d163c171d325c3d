"""IDX, the format of MNIST: big-endian arrays, pictures and labels in sister files.

Format: LeCun, Cortes, Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import gzip
import re
import zlib
from math import prod
from pathlib import Path

import numpy as np

from polymodal.core.errors import TableError
from polymodal.data.columns import Contents, from_values

NAME = re.compile(r"idx\d-ubyte(\.gz)?$")
KINDS = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_ADVICE = "give the images file, such as train-images-idx3-ubyte.gz, whole and unaltered"


def read_pictures(path: Path) -> Contents:
    """Columns `image` (arrays [H W]) and, where the sister file is there, `label` (whole numbers)."""
    pictures = read_idx(path)
    if pictures.ndim < 2:
        raise TableError(str(path), "holds labels, not pictures", advice=_ADVICE)
    sister = labels_of(path)
    if sister is None:
        return Contents({"image": pictures}, {})
    labels = read_idx(sister)
    if labels.ndim != 1 or len(labels) != len(pictures):
        raise TableError(str(sister), f"has shape {labels.shape} beside {len(pictures)} pictures", advice=_ADVICE)
    return Contents({"image": pictures, "label": from_values(labels)}, {})


def labels_of(path: Path) -> Path | None:
    """`t10k-labels-idx1-ubyte.gz` for `t10k-images-idx3-ubyte.gz`, packed or not; None when there is none."""
    name = re.sub(r"idx\d-ubyte", "idx1-ubyte", path.name.replace("images", "labels"))
    bare = name.removesuffix(".gz")
    found = (path.with_name(n) for n in (name, bare, f"{bare}.gz"))
    return next((p for p in found if p.is_file() and p != path), None)


def read_idx(path: Path) -> np.ndarray:
    """The array of an IDX file; memory-mapped when it is not packed. Raises TableError when it is not whole."""
    try:
        packed = path.suffix == ".gz"
        data = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8) if packed else _mapped(path)
    except (OSError, EOFError, zlib.error) as error:
        raise TableError(str(path), f"cannot be read: {error}", advice=_ADVICE) from None
    if len(data) < 4 or data[0] or data[1] or int(data[2]) not in KINDS or not data[3]:
        magic = f"0x{data[:4].tobytes().hex()}"
        raise TableError(str(path), "is no IDX file: wrong magic number", given=magic, advice=_ADVICE)
    start = 4 + 4 * int(data[3])
    if len(data) < start:
        raise TableError(str(path), "ends within its header", advice=_ADVICE)
    shape = tuple(np.frombuffer(data[4:start].tobytes(), ">u4").tolist())
    kind = np.dtype(KINDS[int(data[2])])
    size = prod(shape) * kind.itemsize
    if len(data) - start != size:
        raise TableError(str(path), f"is {len(data) - start} bytes long after the header, not {size}",
                         given=f"shape {shape}", advice=_ADVICE)  # fmt: skip
    array = data[start:].view(kind).reshape(shape)
    return array if kind.isnative else array.astype(kind.newbyteorder("="))


def _mapped(path: Path) -> np.ndarray:
    if not path.stat().st_size:
        return np.empty(0, np.uint8)
    return np.asarray(np.memmap(path, np.uint8, mode="r"))
