"""Words of a text as a full-text index takes them, in languages with spaces between words and in those without.

A run of Chinese, Japanese or Korean letters counts as its letters and its pairs of neighbours (bigrams; Nie, Gao,
Zhang and Zhou 2000 found them about as good as dictionaries); everything else as words in small letters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import pairwise

LONGEST = 20_000  # characters of a cell that are looked at
PIECES = re.compile(
    r"(?P<packed>[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\uac00-\ud7af\U00020000-\U0003134f]+)"
    r"|(?P<word>[^\W_\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\uac00-\ud7af\U00020000-\U0003134f]+)"
)


def stored(cells: Iterable[object]) -> str:
    """What the index holds of a row's texts: words with single spaces between them."""
    return " ".join(w for cell in cells if isinstance(cell, str) for w in _words(cell[:LONGEST], every=True))


def asked(text: str) -> list[str]:
    """The words that are looked for; of letters in a run only the pairs, where there are any."""
    return list(dict.fromkeys(_words(text[:LONGEST], every=False)))


def _words(text: str, every: bool) -> Iterable[str]:
    for piece in PIECES.finditer(unicodedata.normalize("NFKC", text).casefold()):
        if piece.lastgroup == "word":
            yield piece.group()
            continue
        run = piece.group()
        yield from (a + b for a, b in pairwise(run))
        if every or len(run) == 1:
            yield from run
