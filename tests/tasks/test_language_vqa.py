"""Answers as VQA's evaluation server compares them; numbers by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymodal.tasks.language import vqa


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("A dog.", "dog"),
        ("The Two dogs", "2 dogs"),
        ("none", "0"),
        ("ten", "10"),
        ("dont know", "don't know"),
        ("couldntve", "couldntve"),  # the server mends one missing apostrophe of two
        ("couldn'tve", "couldn't've"),
        ("its", "its"),  # left as it is: it may be meant
        ("black/white", "black white"),  # a sign between two words becomes a space
        ("yes, please", "yes please"),  # beside a space it is dropped
        ("1,000", "1000"),  # where a number has a comma, so is every sign
        ("t-shirt 1,000", "tshirt 1000"),
        ("3.5 km.", "3.5 km"),
        ("u.s.", "us"),
        ("  on   the\ttable\n", "on table"),
        ("dog’s", "dog's"),
        ("An", ""),
    ],
)
def test_normal_answers(answer: str, expected: str) -> None:
    assert vqa.normal(answer) == expected


@given(st.integers(2, 12).flatmap(lambda people: st.tuples(st.integers(0, people), st.just(people))))
def test_accuracy_is_the_mean_of_leaving_each_person_out(case: tuple[int, int]) -> None:
    matching, people = case
    answers = [True] * matching + [False] * (people - matching)
    subsets = [min(sum(rest) / 3, 1.0) for rest in combinations(answers, people - 1)]
    assert vqa.accuracy(matching, people) == pytest.approx(np.mean(subsets))


def test_published_steps_of_ten_people() -> None:
    """With ten people 0, 1, 2, 3, 4 who agree make 0, 0.3, 0.6, 0.9 and 1."""
    assert [vqa.accuracy(m, 10) for m in range(5)] == pytest.approx([0, 0.3, 0.6, 0.9, 1])
    assert [vqa.accuracy(m, 1) for m in (0, 1)] == [0, 1]
    assert vqa.accuracy(2, 2) == pytest.approx(1 / 3)


def test_records_and_measure() -> None:
    said = ["two", "a cat", "red", "blue", "Yes"]
    people = [["2"] * 3 + ["3"] * 7, ["dog"], ["Red!"], [], ["yes"] * 10]
    records = vqa.records(said, people)
    np.testing.assert_allclose(records["vqa"], [0.9, 0, 1, 0, 1])
    assert records["exact"].tolist() == [1, 0, 1, 0, 1]
    found = vqa.measure(records, np.array([[1, 1, 1, 1, 1], [2, 0, 0, 0, 1], [0, 0, 0, 0, 0.0]]))
    np.testing.assert_allclose(found["vqa_accuracy"], [2.9 / 5, 2.8 / 3, np.nan])
    np.testing.assert_allclose(found["exact_match"], [3 / 5, 1, np.nan])


def test_no_rows() -> None:
    assert np.isnan(vqa.measure(vqa.records([], []), np.ones((1, 0)))["vqa_accuracy"]).all()
