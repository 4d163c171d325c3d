"""Which words of a text its tokens are pieces of, free of torch: tokens may be parts of words, signs of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int64

NONE = -1


def words_of(text: str, encoded: Any) -> Int64[np.ndarray, " T"]:
    """For each token of a text the number of the word it is a piece of, words being what white space separates.

    `encoded` is what a tokenizer of the tokenizers library makes of the text. A token belongs to the word of its first
    character that is no white space; a model's own tokens, and white space by itself, belong to none, -1. A text
    without words is taken for one word.
    """
    solid = np.array([False, *(not c.isspace() for c in text)])
    number = np.cumsum(solid[1:] & ~solid[:-1]) - 1  # of the word that each character stands in
    found = [NONE if special else _word(text, number, *span)
             for span, special in zip(encoded.offsets, encoded.special_tokens_mask, strict=True)]  # fmt: skip
    return np.array(found or [0], np.int64)


def _word(text: str, number: np.ndarray, start: int, end: int) -> int:
    first = start + len(text[start:end]) - len(text[start:end].lstrip())
    return int(number[first]) if first < end else NONE
