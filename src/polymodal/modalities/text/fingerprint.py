"""When two texts are nearly the same: a simhash of their letters."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt64

from polymodal.core.fingerprints import exact, mix, pack

CHARS = 4000  # looked at
SHORT = 40  # shingles below which one changed word makes another text
AT_ONCE = 64  # texts that are looked at together
PLANES = np.arange(1, 9, 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
WIDE = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")  # scripts whose words have few letters
_APART = re.compile(r"(?:(?:https?://|www\.)[^\s\u3000-\u9fff]+|[\W_]*@\w+|[\W_]+)+")


def simhash(texts: Sequence[str]) -> UInt64[np.ndarray, "n words"]:
    """256 bits for each text: on which sides of 256 planes drawn by lot the bag of its shingles lies.

    Links, @names, a leading RT, case and punctuation do not count; shingles are 4 letters long, 2 in scripts with short
    words. The share of bits that differ is about the angle between the bags over pi. A text with fewer than 40
    shingles is its own digest: nothing but the same words is like it.
    Source: Charikar, "Similarity estimation techniques from rounding algorithms", 2002.
    """
    words = np.empty((len(texts), 4), np.uint64)
    waiting: dict[int, list[tuple[int, str]]] = {2: [], 4: []}
    for i, text in enumerate(texts):
        plain = normal(text)
        length = 2 if not plain.isascii() and 2 * len(WIDE.findall(plain)) > len(plain) else 4
        if len(plain) - length + 1 < SHORT:
            words[i] = exact((plain or text).encode("utf-8", "surrogatepass"))
        else:
            waiting[length].append((i, plain))
    for length, long in waiting.items():
        for first in range(0, len(long), AT_ONCE):
            some = long[first : first + AT_ONCE]
            words[[i for i, _ in some]] = _sides([plain for _, plain in some], length)
    return words


def _sides(texts: Sequence[str], length: int) -> UInt64[np.ndarray, "n words"]:
    """The simhashes of texts that are long enough, their shingles looked at together."""
    letters = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    codes = letters[: 1 - length]
    for i in range(1, length):
        codes = codes * np.uint64(0x100000001B3) + letters[i : i + len(codes)]
    drawn = mix(codes)[:, None] * PLANES
    drawn ^= drawn >> np.uint64(32)
    sides = np.unpackbits(drawn.view(np.uint8), axis=1)
    above, start = np.empty((len(texts), 256), bool), 0
    for i, text in enumerate(texts):
        count = len(text) - length + 1  # what reaches into the next text is passed over
        above[i] = 2 * sides[start : start + count].sum(0, dtype=np.uint16) > count
        start += len(text)
    return pack(above)


def normal(text: str) -> str:
    """What is compared: letters and digits in lower case, single spaces between words."""
    text = html.unescape(text[:CHARS]) if "&" in text else text[:CHARS]
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return _APART.sub(" ", text.casefold()).strip().removeprefix("rt ")
