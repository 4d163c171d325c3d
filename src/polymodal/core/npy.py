"""The .npy format, numbers only: a header that says shape, order and type, then the numbers. Nothing is executed."""

from __future__ import annotations

import io
import tokenize
import warnings
from math import prod
from typing import NamedTuple

import numpy as np

MAGIC = b"\x93NUMPY"
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Form(NamedTuple):
    """What the header of an array says."""

    shape: tuple[int, ...]
    order: str  # C or F
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Bytes of the numbers."""
        return prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype} of shape {self.shape}"


def form_of(stream: io.BufferedIOBase) -> Form:
    """The header at the stream's place; the stream then stands at the first number.

    Raises ValueError for what is no header, for anything but numbers and for an array without axes.
    """
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"version {version[0]}.{version[1]} of the format holds no numbers")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers of Python 2
            shape, fortran, dtype = _HEADERS[version](stream)
    except (SyntaxError, TypeError, tokenize.TokenError) as error:
        raise ValueError(f"a header that cannot be read: {error}") from None
    if dtype.kind not in "biuf" or dtype.subdtype is not None:
        raise ValueError(f"must hold numbers, not {dtype}")
    if not shape or min(shape) < 0:
        raise ValueError(f"must have at least one axis, not shape {shape}")
    return Form(shape, "F" if fortran else "C", dtype)


def from_bytes(data: bytes) -> np.ndarray:
    """The array of a .npy file's bytes, read-only, without a copy. Raises ValueError unless it is one, and whole."""
    stream = io.BytesIO(data)
    form = form_of(stream)
    start = stream.tell()
    if len(data) - start < form.size:
        raise ValueError(f"is cut off: {len(data) - start} of {form.size} bytes of {form}")
    flat = np.frombuffer(data, form.dtype, prod(form.shape), start)
    return flat.reshape(form.shape, order=form.order)  # type: ignore[call-overload]
