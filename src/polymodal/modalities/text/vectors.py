"""Word vectors in text files: word2vec (Mikolov et al. 2013), GloVe (Pennington et al. 2014), fastText.

One word a line with its numbers after it; a first line `count dim` may stand before. Files are streamed, and only the
words asked for are kept. Tokens of GloVe that hold spaces are read right.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Float

from polymodal.core.errors import TableError

ADVICE = "a text file of word2vec, GloVe or fastText, plain or .gz: a word and its numbers on each line"


def read_width(path: str | Path) -> int:
    """The number of dimensions, from the first line. Raises TableError."""
    with _open(path) as lines:
        first = lines.readline().split()
    if _is_header(first):
        return int(first[1])
    if len(first) < 2:
        raise TableError(f"{path}, line 1", "holds no word vector", given=b" ".join(first)[:80], advice=ADVICE)
    return len(first) - 1


def read_vectors(path: str | Path, words: Collection[str]) -> dict[str, Float[np.ndarray, " dim"]]:
    """The vectors (float32) of those `words` that the file has; of a word that stands twice, the first.

    Raises TableError with the line's number when a line has another number of dimensions than the first, or holds
    something that is no finite number (the numbers of words that are not asked for are counted, not read).
    """
    width = read_width(path)
    wanted = {word.encode(): word for word in words}
    found: dict[str, Float[np.ndarray, " dim"]] = {}
    for number, line in _lines(path):
        word, _, rest = line.partition(b" ")
        plain = rest.count(b" ") == width - 1
        if plain and word not in wanted:
            continue
        parts = [word, *rest.split()] if plain else line.rsplit(None, width)
        if len(parts) != width + 1:
            raise TableError(f"{path}, line {number}", f"is not a word and {width} numbers", given=_shown(line),
                             advice=ADVICE)  # fmt: skip
        name = wanted.get(parts[0])
        if name is not None:
            found.setdefault(name, _vector(parts[1:], f"{path}, line {number}", line))
    return found


def _vector(numbers: list[bytes], where: str, line: bytes) -> Float[np.ndarray, " dim"]:
    try:
        vector = np.array([float(n) for n in numbers], dtype=np.float32)
    except ValueError:
        raise TableError(where, "holds something that is no number", given=_shown(line), advice=ADVICE) from None
    if not np.isfinite(vector).all():
        raise TableError(where, "holds a number that is not finite", given=_shown(line), advice=ADVICE)
    return vector


def _lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    with _open(path) as lines:
        for number, line in enumerate(lines, 1):
            text = line.rstrip(b" \t\r\n")
            if text and not (number == 1 and _is_header(text.split())):
                yield number, text


@contextmanager
def _open(path: str | Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    try:
        with gzip.open(path, "rb") if Path(path).suffix == ".gz" else open(path, "rb") as lines:
            yield lines
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TableError(str(path), f"cannot be read: {reason}", advice="check the file") from None


def _is_header(fields: list[bytes]) -> bool:
    return len(fields) == 2 and all(f.isdigit() for f in fields)


def _shown(line: bytes) -> str:
    return line[:80].decode("utf-8", "replace")
