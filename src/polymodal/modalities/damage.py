"""What Pillow raises on broken files, as the reason of a bad cell: for pictures, still or moving."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from polymodal.core.errors import BadCell

MOST_PIXELS = 178_956_970  # Pillow itself refuses more
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    MemoryError,
    NotImplementedError,
    ZeroDivisionError,
)  # fmt: skip  what Pillow raises on broken files


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn what Pillow raises on a broken file into BadCell; its warnings about odd files are not passed on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            yield
        except UnidentifiedImageError:
            raise BadCell("not a picture of a known format") from None
        except Image.DecompressionBombError:
            raise BadCell(f"more than {MOST_PIXELS:,} pixels") from None
        except DAMAGE as error:
            raise BadCell(f"{what}: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from None
