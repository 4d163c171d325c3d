"""The words that measures count."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.tasks.language import vqa
from polymodal.tasks.language import words as module
from polymodal.tasks.language.words import joined, spoken, words

# What Stanford CoreNLP 3.4.1's PTBTokenizer gives with -lowerCase, less the marks that pycocoevalcap drops.
PTB = [
    ("A man riding a wave on top of a surfboard.", "a man riding a wave on top of a surfboard"),
    ("The dog's ball isn't red; it's blue!", "the dog 's ball is n't red it 's blue"),
    ("They can't, won't and shouldn't.", "they ca n't wo n't and should n't"),
    ('Two "t-shirts", 3.5 km -- 1,000 at 10:30', "two t-shirts 3.5 km 1,000 at 10:30"),
    ("I cannot say; I'm gonna go", "i can not say i 'm gon na go"),
    ("salt & pepper, 50% $5 #1", "salt & pepper 50 % $ 5 # 1"),
    ("made in the U.S. today", "made in the u.s. today"),
    ("the boys’ team’s bus", "the boys team 's bus"),
    ("it 's a dog 's ball", "it 's a dog 's ball"),
    ("black/white and/or", "black/white and/or"),
    ("Dr. Smith vs. Mr. Jones Jr.", "dr. smith vs. mr. jones jr."),
    ("AT&T R&B end.Next", "at&t r&b end.next"),
    ("dog,cat a man...with a hat", "dog cat a man with a hat"),
    ("o'clock ma'am 1990's could've they'd've", "o'clock ma'am 1990 's could 've they 'd 've"),
    ("* a star + b = c", "* a star + b = c"),
    ("3rd 2x4 10-year-old dogs' toys", "3rd 2x4 10-year-old dogs toys"),
]


@pytest.mark.parametrize(("text", "expected"), PTB)
def test_english_words_are_those_of_the_ptb_tokenizer(text: str, expected: str) -> None:
    assert words(text) == expected.split()


def test_other_scripts() -> None:
    assert words("一只黑狗在草地上奔跑。") == list("一只黑狗在草地上奔跑")
    assert words("犬がボールで遊ぶ！T-shirt") == [*"犬がボールで遊ぶ", "t-shirt"]
    assert words("검은 개가 달린다.") == ["검은", "개가", "달린다"]
    assert words("Ein Café, naïve Größe") == ["ein", "café", "naïve", "größe"]
    assert words("café") == words("cafe\u0301"), "composed and decomposed accents are the same"
    assert words("यह एक कुत्ता है") == ["यह", "एक", "कुत्ता", "है"]
    assert words("สุนัข น้ำ") == ["สุนัข", "น้ำ"]


def test_nothing_to_say() -> None:
    assert words("") == words(" ... -- ' ?! （）") == []


def test_spoken_words_keep_contractions() -> None:
    assert spoken("I don't know -- it's the DOG's.") == ["i", "don't", "know", "it's", "the", "dog's"]


def test_joined_puts_no_space_between_characters() -> None:
    assert joined(spoken("我 有 iPhone 手机")) == "我有 iphone 手机"


@settings(deadline=None, max_examples=60)
@given(st.text() | st.text("ab'.,-/ &snt'lv1中"))
def test_words_hold_no_white_space_and_are_final(text: str) -> None:
    found = words(text)
    assert all(word and not any(sign.isspace() for sign in word) for word in found)
    assert spoken(joined(spoken(text))) == spoken(text)
    assert words(" ".join(words(text))) == words(text)


@pytest.mark.parametrize("one", [module, vqa])
def test_examples_in_docstrings(one: object) -> None:
    tried = doctest.testmod(one)  # type: ignore[arg-type]
    assert tried.attempted
    assert not tried.failed
