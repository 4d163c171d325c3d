"""Captions, and questions with their answers, in both languages."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core.seeds import generator
from polymodal.scenes import Facts, Thing, caption, parse_caption, scene_rows
from polymodal.scenes.ask import KINDS, ask
from polymodal.scenes.facts import COLOURS, PITCHES, PLACES, SHAPES, SIZES, WEIGHTS

thing = st.tuples(*map(st.sampled_from, (SHAPES, COLOURS, ("", *SIZES), PLACES)))
things = st.lists(thing, min_size=1, max_size=4)


@given(things, st.sampled_from(("", *WEIGHTS)), st.sampled_from(("", *PITCHES)))
@settings(deadline=None, max_examples=100)
def test_captions_parse_back_to_their_facts(things, weight, pitch):
    said = Facts(tuple(Thing(*t) for t in things), weight, pitch)
    assert parse_caption(caption(said, "en")) == said
    assert parse_caption(caption(said, "zh")) == said


def test_captions_as_they_are_meant():
    said = Facts((Thing("circle", "red", "large", "top left"),), "heavy", "high")
    assert caption(said) == "a large red circle at the top left, heavy, with a high tone"
    assert caption(said, "zh") == "左上角有一个大的红色圆形，很重，发出高音"
    assert caption(said.spoken()) == "a red circle at the top left, heavy, with a high tone"
    assert caption(said.seen()) == "a large red circle at the top left"


@pytest.mark.parametrize(
    "text", ["", "a circle", "a red circle at the top left, ", "a red circle at the top left 很重"]
)
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="not the caption of a scene"):
        parse_caption(text)


TWO = (Thing("circle", "red", "large", "top left"), Thing("square", "blue", "small", "bottom right"))


@pytest.mark.parametrize(
    ("kind", "english", "chinese"),
    [
        ("colour", ("what colour is the circle at the top left?", "red"), ("左上角的圆形是什么颜色？", "红色")),
        ("shape", ("what shape is at the top left?", "circle"), ("左上角是什么形状？", "圆形")),
        ("size", ("how large is the red circle at the top left?", "large"), ("左上角的红色圆形是大是小？", "大")),
        ("place", ("where is the large red circle?", "top left"), ("大的红色圆形在哪里？", "左上角")),
        ("count", ("how many objects are there?", "2"), ("有几个物体？", "2")),
    ],
)
def test_questions_and_answers(kind, english, chinese):
    assert ask(TWO, kind, "en", generator(0)) == english
    assert ask(TWO, kind, "zh", generator(0)) == chinese


def test_yes_and_no_questions_are_true_and_balanced():
    answers = Counter()
    for number in range(400):
        question, answer = ask(TWO, "is", "en", generator("ask", number))
        named = question.removeprefix("is there a ").removesuffix("?")
        assert (named in {"red circle", "blue square"}) == (answer == "yes")
        answers[answer] += 1
    assert 160 < answers["yes"] < 240


def test_every_kind_of_question_is_asked_and_both_languages_take_turns():
    rows = list(scene_rows(400, size=16, objects=4, language="both"))
    assert {r.language for r in rows if r.block % 2} == {"zh"}
    assert {r.language for r in rows if r.block % 2 == 0} == {"en"}
    for row in rows:
        assert row.question.isascii() == (row.language == "en")
        assert row.sentence.isascii() == (row.language == "en")
    assert len({r.question.split()[0] for r in rows if r.language == "en"}) == 4  # what, how, where, is
    assert len(KINDS) == 6
