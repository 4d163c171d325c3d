"""What can be counted in a text: characters, tokens, those that are not known, its script and its words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from polymodal.core.traits import Names, Traits, Words, numbers

LETTERS = 200  # of a text that its script is told from
CHARACTERS = 2000  # of a text whose words are looked at
ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"  # kana, Han, Hangul: a sign stands for itself
WORD = re.compile(rf"[{ALONE}]|(?:(?![{ALONE}])[^\W\d_])+")


def counted(texts: Sequence[str], ids: Sequence[np.ndarray], unknown: int | None) -> Traits:
    """`characters`; `tokens`; `unknown`, the share of tokens that the vocabulary lacks; `tokens per character`, which
    grows where a tokenizer of word pieces does not know a language; `script`, of most letters; `words`, in lower case,
    each sign by itself in Chinese, Japanese and Korean."""
    lengths = [len(text) for text in texts]
    per_character = (len(one) / max(1, n) for one, n in zip(ids, lengths, strict=True))
    found: Traits = {
        "characters": numbers(lengths),
        "tokens": numbers((len(one) for one in ids), fitted=True),
        "tokens per character": numbers(per_character, fitted=True),
    }
    if unknown is not None:
        found["unknown"] = numbers(((one == unknown).mean() for one in ids), fitted=True)
    return found | {"script": Names([script(text) for text in texts]), "words": Words([words(text) for text in texts])}


def script(text: str) -> str | None:
    """The script of most of a text's first letters, as Unicode calls it: `latin`, `cyrillic`, `cjk`; None without."""
    letters = [c for c in text[: 4 * LETTERS] if c.isalpha()][:LETTERS]
    return Counter(map(_script, letters)).most_common(1)[0][0] if letters else None


@lru_cache(4096)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "unnamed").split()[0].split("-")[0].lower()


def words(text: str) -> frozenset[str]:
    return frozenset(WORD.findall(text[:CHARACTERS].lower()))
