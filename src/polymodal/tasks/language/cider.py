"""CIDEr-D: n-grams weighed by how telling they are, as a measure of captions and as a reward.

Source: Vedantam et al., "CIDEr: Consensus-based Image Description Evaluation", CVPR 2015; as a reward, Rennie et al.,
"Self-critical Sequence Training for Image Captioning", CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from polymodal.tasks.language.ngrams import ORDERS, Grams, Matched, grams, matched
from polymodal.tasks.language.words import words

SIGMA = 6.0  # of the penalty on lengths, in words


class Cider:
    """CIDEr-D with document frequencies that were counted before, such as those of the training references.

    A document is all the references of one row. `document_frequencies` tells of n-grams of 1 to 4 words, written with
    one space between words, in how many of the `documents` they stand; what is not named counts as 1. It can be written
    as JSON. `score` gives 0 to 10; 10 is what every reference says, in four words or more.
    """

    def __init__(self, document_frequencies: Mapping[str, int], documents: int) -> None:
        self.document_frequencies = dict(document_frequencies)
        self.documents = documents

    @classmethod
    def from_corpus(cls, references: Iterable[Iterable[str]]) -> Cider:
        """Counted in the references of every row; only n-grams of two or more documents are kept."""
        documents = [sentences_of(row) for row in references]
        sentences, owner = [sentence for row in documents for sentence in row], _numbers(documents)
        flat = [word for sentence in sentences for word in sentence]
        kept: dict[str, int] = {}
        for order, found in enumerate(grams(sentences), 1):
            counts = frequencies(owner[found.sentence], found)
            for kind in np.flatnonzero(counts >= 2):
                start = int(found.first[kind])
                kept[" ".join(flat[start : start + order])] = int(counts[kind])
        return cls(kept, len(documents))

    def score(self, said: Sequence[str], references: Sequence[Sequence[str]]) -> Float[np.ndarray, " n"]:
        """CIDEr-D of each text against its row's references; 0 for a row without any word in them."""
        ours, theirs = [words(text) for text in said], [sentences_of(row) for row in references]
        flat = [word for s in ours for word in s] + [word for row in theirs for s in row for word in s]
        found, counts = matched(ours, theirs), []
        for order, match in enumerate(found, 1):
            names = [" ".join(flat[at : at + order]) for at in match.said.first.tolist()]
            counts.append(np.array([self.document_frequencies.get(name, 1) for name in names], np.int64))
        return _cider(found, counts, self.documents, _numbers(theirs), len(ours))


def cider(
    found: Sequence[Matched], document: Int[np.ndarray, " n"], reference_row: Int[np.ndarray, " R"]
) -> Float[np.ndarray, " n"]:
    """CIDEr-D of each row, n-grams being counted in the rows' own references.

    `document` [n] numbers the rows: rows of equal number have the same references and count as one document.
    `reference_row` is the row of each reference, in the order of `found`.
    """
    counts = [frequencies(document[match.row], match.reference) for match in found]
    return _cider(found, counts, len(np.unique(document[reference_row])), reference_row, len(document))


def sentences_of(references: Iterable[str]) -> list[list[str]]:
    """The words of each reference; a reference without any word is none."""
    return [sentence for text in references if (sentence := words(text))]


def frequencies(document: Int[np.ndarray, " E"], found: Grams) -> Int[np.ndarray, " kinds"]:
    """In how many documents each n-gram stands; `document` is that of each entry."""
    pairs = np.unique(document * max(1, found.kinds) + found.kind)
    return np.bincount(pairs % max(1, found.kinds), minlength=found.kinds)


def _numbers(references: Sequence[Sequence[object]]) -> Int[np.ndarray, " R"]:
    """The row of each reference."""
    return np.repeat(np.arange(len(references)), np.array([len(row) for row in references], np.int64))


def _cider(
    found: Sequence[Matched], counts: Sequence[np.ndarray], documents: int, row: Int[np.ndarray, " R"], rows: int
) -> Float[np.ndarray, " n"]:
    """`10 / (4 R) Σ_references Σ_orders cosine · exp(-Δ² / 2σ²)`; over TF-IDF vectors.

    What was said counts at most as often as in the reference. Δ is the difference of lengths, as `pycocoevalcap` takes
    it: of the numbers of word pairs.
    """
    total = np.zeros(len(row))
    for match, count in zip(found, counts, strict=True):
        rare = np.maximum(np.log(max(1, documents)) - np.log(np.maximum(count, 1)), 0.0) ** 2
        said, reference = match.said, match.reference
        shared = rare[reference.kind] * np.minimum(match.there, reference.times) * reference.times
        above = _sums(reference.sentence, shared, len(row))
        below = np.sqrt(_squares(reference, rare, len(row)) * _squares(said, rare, rows)[row])
        total += np.divide(above, below, out=np.zeros(len(row)), where=below > 0)
    pairs = found[1]
    longer = np.bincount(pairs.said.sentence, pairs.said.times, rows)[row]
    longer = longer - np.bincount(pairs.reference.sentence, pairs.reference.times, len(row))
    total *= np.exp(-(longer**2) / (2 * SIGMA**2))
    references = np.bincount(row, minlength=rows)
    return 10 / ORDERS * _sums(row, total, rows) / np.maximum(references, 1)


def _squares(found: Grams, rare: Float[np.ndarray, " kinds"], sentences: int) -> Float[np.ndarray, " S"]:
    """Squared lengths of the sentences' vectors."""
    return _sums(found.sentence, rare[found.kind] * found.times**2, sentences)


def _sums(place: Int[np.ndarray, " E"], values: Float[np.ndarray, " E"], places: int) -> Float[np.ndarray, " P"]:
    """What falls to each place; floats even where nothing does."""
    return np.bincount(place, values, places).astype(np.float64)
