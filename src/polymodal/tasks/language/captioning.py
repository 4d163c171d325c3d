"""Measures of captions: BLEU, ROUGE-L, CIDEr-D and distinct-n, per row and over many weightings of the rows."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from polymodal.core.contracts import Records
from polymodal.tasks.language import bleu
from polymodal.tasks.language.cider import cider, sentences_of
from polymodal.tasks.language.distinct import distinct
from polymodal.tasks.language.ngrams import Grams, grams, matched
from polymodal.tasks.language.rouge import rouge_l
from polymodal.tasks.language.words import words
from polymodal.tasks.metrics import PerWeighting, Weights, mean

COLUMNS = ("right", "length", "closest", "rouge_l", "said", "references")  # of records
KEPT = 4  # sets of records whose CIDEr is remembered: a bootstrap asks for the same rows many times


def records(said: Sequence[str], references: Sequence[Iterable[str]]) -> Records:
    """What `measure` needs of each row; a reference without any word (see `words.words`) counts as none.

    Columns, each [n] or [n 4]: `right` n-grams of 1 to 4 words that stand in a reference, `length` of what was said and
    `closest` reference length in words, `rouge_l`, and `said` and `references`, the words themselves with a space
    between words and a line for each reference.
    """
    ours, theirs = [words(text) for text in said], [sentences_of(row) for row in references]
    return {
        "right": bleu.right(matched(ours, theirs), len(ours)),
        "length": np.array([len(sentence) for sentence in ours], np.int64),
        "closest": np.array([bleu.closest(len(o), [len(s) for s in t]) for o, t in zip(ours, theirs, strict=True)],
                            np.int64),
        "rouge_l": rouge_l(ours, theirs),
        "said": np.array([" ".join(sentence) for sentence in ours], np.str_),
        "references": np.array(["\n".join(map(" ".join, row)) for row in theirs], np.str_),
    }  # fmt: skip


def measure(records: Records, weights: Weights) -> dict[str, PerWeighting]:
    """`bleu_1` ... `bleu_4` of the whole, the means of `rouge_l` and `cider` over rows, `distinct_1`, `distinct_2`.

    CIDEr counts documents in the references of all rows, whatever their weight, so that a row's score does not change
    from one resample to the next; rows with the very same references count as one document.
    """
    scores = bleu.bleu(records["right"], records["length"], records["closest"], weights)
    whole = _whole(records)
    found = {f"bleu_{order}": score for order, score in enumerate(scores, 1)}
    found |= {"rouge_l": mean(records["rouge_l"], weights), "cider": mean(whole.cider, weights)}
    return found | {f"distinct_{order}": distinct(said, weights) for order, said in enumerate(whole.said, 1)}


def ciders(records: Records) -> Float[np.ndarray, " n"]:
    """CIDEr-D of each row, as `measure` averages it."""
    return _whole(records).cider


class _Whole(NamedTuple):
    """What can only be told from all rows together."""

    cider: Float[np.ndarray, " n"]
    said: list[Grams]  # single words and pairs


_known: OrderedDict[bytes, _Whole] = OrderedDict()


def _whole(records: Records) -> _Whole:
    """Computed once for the same texts; the latest `KEPT` are remembered."""
    texts = [np.ascontiguousarray(records[name]) for name in ("said", "references")]
    digest = hashlib.blake2b(repr([(t.shape, t.dtype.str) for t in texts]).encode(), digest_size=16)
    for text in texts:
        digest.update(text.tobytes())
    key = digest.digest()
    if key not in _known:
        _known[key] = _compute(*texts)
        while len(_known) > KEPT:
            _known.popitem(last=False)
    return _known[key]


def _compute(said: np.ndarray, references: np.ndarray) -> _Whole:
    ours = [text.split() for text in said.tolist()]
    theirs = [[line.split() for line in text.splitlines()] for text in references.tolist()]
    document = np.unique(references, return_inverse=True)[1]
    row = np.repeat(np.arange(len(ours)), np.array([len(r) for r in theirs], np.int64))
    return _Whole(cider(matched(ours, theirs), document, row), grams(ours, 2))
