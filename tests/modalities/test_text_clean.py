"""Cleaning: each rule on its own example, and what must hold for any text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core.clean import clean
from polymodal.modalities.text.stopwords import CHINESE, ENGLISH, pattern

TEXTS = st.one_of(
    st.text(st.characters(), max_size=60),
    st.lists(st.sampled_from(["&amp;", "&", "lt;", "#38;", "@a", "http://", "www.", "\u200b", "<b", ">", "é", "ﬁ", "爱",
                              " "]), max_size=12).map("".join),
)  # fmt: skip


@pytest.mark.parametrize(
    ("how", "text", "expected"),
    [
        ("none", " a\tb&amp; ", " a\tb&amp; "),
        ("none", "a\ud800b", "a\ufffdb"),
        ("basic", "fish &amp; chips\u00a0 \n&#39;hot&#39;", "fish & chips 'hot'"),
        ("basic", "&amp;amp;lt;", "<"),
        ("basic", "cafe\u0301", "café"),
        ("basic", "a\u200bb\ufeffc\x00d\u202ee", "abcde"),
        ("basic", "x < 3 <b>bold</b>", "x < 3 <b>bold</b>"),
        ("basic", "👩\u200d🚀", "👩\u200d🚀"),  # the joiner is part of the picture
        ("basic", "ＡＢＣ，好", "ＡＢＣ，好"),
        ("html", "x < 3 <b class='y'>bold</b><br/>!", "x < 3 bold !"),
        ("html", "&lt;p&gt;one", "one"),
        ("tweet", "RT @bob: see https://t.co/Ab1?x=2 now", "RT @user: see http now"),
        ("tweet", "a@b.com WWW.site.org", "a@b.com http"),
        ("tweet", "看https://t.cn/abc真好＠小明 ＡＢＣ", "看http真好@小明 ABC"),
    ],
)
def test_rules(how, text, expected):
    assert clean(text, how) == expected


@pytest.mark.parametrize("how", ["none", "basic", "html", "tweet"])
@given(text=TEXTS)
@settings(deadline=None, max_examples=60)
def test_cleaning_twice_is_cleaning_once(how, text):
    once = clean(text, how)
    assert clean(once, how) == once
    once.encode("utf-8")
    if how != "none":
        assert once == " ".join(once.split())


def test_hostile_text_takes_no_time():
    begin = time.perf_counter()
    for text in ("&amp" + ";amp" * 2500, "<a" * 5000, "&#38;" * 2000, "@" * 10000, "http://" * 1500):
        for how in ("basic", "html", "tweet"):
            clean(text, how)
    assert time.perf_counter() - begin < 5


@pytest.mark.parametrize(
    ("words", "text", "expected"),
    [
        (ENGLISH, "The cat isn't on a mat, it's there", "cat mat,"),
        (ENGLISH, "don’t anthem itself's", "anthem itself's"),
        (ENGLISH, "l'on O'do", "l'on O'do"),
        (ENGLISH, "他the猫", "他 猫"),
        (CHINESE, "这是我们的猫", "猫"),
        (["rock'n'roll", "pop"], "popular pop rock'n'roll", "popular"),
        ([" ", "."], "a . b.", "a b."),
    ],
)
def test_stop_words(words, text, expected):
    assert " ".join(pattern(words).sub(" ", text).split()) == expected


def test_no_stop_words_no_pattern():
    assert pattern([]) is None
