"""Error rates of words and characters beside jiwer, and the edit distance's own laws."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.tasks.language import edits

text = st.text(alphabet="abc d", max_size=9)


def slow(a: str, b: str, substitution: int = 1) -> int:
    """Wagner and Fischer, one cell at a time."""
    above = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (0 if x == y else substitution)))
        above = row
    return above[-1]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(text, text), max_size=6), st.sampled_from([1, 2]))
def test_distances_of_many_pairs_are_those_of_each(pairs: list[tuple[str, str]], substitution: int) -> None:
    found = edits.distances([a for a, _ in pairs], [b for _, b in pairs], substitution)
    assert found.tolist() == [slow(a, b, substitution) for a, b in pairs]


@settings(deadline=None, max_examples=60)
@given(text, text, text)
def test_a_distance_is_a_metric(a: str, b: str, c: str) -> None:
    ab, ba, bc, ac, aa = edits.distances([a, b, b, a, a], [b, a, c, c, a]).tolist()
    assert ab == ba
    assert ac <= ab + bc
    assert aa == 0
    assert (ab == 0) == (a == b)
    assert abs(len(a) - len(b)) <= ab <= max(len(a), len(b))


def test_more_pairs_than_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    ours, theirs = (["".join(draw.choices("abcd", k=draw.randint(0, 12))) for _ in range(50)] for _ in range(2))
    monkeypatch.setattr(edits, "CHUNK", 7)
    assert edits.distances(ours, theirs).tolist() == [slow(a, b) for a, b in zip(ours, theirs, strict=True)]


def rates(said: list[str], references: list[list[str]], **how: bool) -> dict[str, float]:
    found = edits.measure(edits.records(said, references, **how), np.ones((1, len(said))))
    return {name: float(values[0]) for name, values in found.items()}


def test_like_jiwer() -> None:
    jiwer = pytest.importorskip("jiwer")
    draw = random.Random(1)
    vocabulary = ["one", "two", "three", "eleven", "a", "dog"]
    theirs = [" ".join(draw.choices(vocabulary, k=draw.randint(1, 12))) for _ in range(80)]
    ours = [" ".join(w for w in row.split() if draw.random() < 0.8) + " dog" * draw.randint(0, 2) for row in theirs]
    found = rates(ours, [[t] for t in theirs], as_is=True)
    assert found == pytest.approx({"wer": jiwer.wer(theirs, ours), "cer": jiwer.cer(theirs, ours)})
    assert rates(ours, [[t] for t in theirs]) == pytest.approx(found), "plain words are the same either way"


def test_by_hand() -> None:
    found = rates(["The cat sat, on mat!", "我爱你"], [["the cat sat on the mat"], ["我爱她们"]])
    assert found["wer"] == pytest.approx((1 + 2) / (6 + 4))
    assert found["cer"] == pytest.approx((4 + 2) / (22 + 4)), "no spaces are counted between Chinese characters"
    as_is = rates(["The cat"], [["the  cat"]], as_is=True)
    assert as_is["wer"] == pytest.approx(1 / 2)
    assert as_is["cer"] == pytest.approx(1 / 7)


def test_the_reference_with_the_lowest_rate_counts() -> None:
    """One edit of one word is worse than three of five."""
    records = edits.records(["a b"], [["a", "a b c d e"]])
    assert records["word_edits"].tolist() == [3]
    assert records["word_total"].tolist() == [5]


def test_rates_are_of_sums_and_follow_weights() -> None:
    records = edits.records(["a", "x y z", "b"], [["a b c d"], ["x y z"], []])
    found = edits.measure(records, np.array([[1, 1, 0], [2, 0, 0], [0, 0, 1.0], [1, 1, 1]]))["wer"]
    np.testing.assert_allclose(found, [3 / 7, 3 / 4, np.nan, 4 / 7])


def test_no_rows() -> None:
    assert np.isnan(rates([], [])["wer"])
