"""Sentences as targets."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core.errors import BadCell, SpecError, TableError
from polymodal.tasks.sentences import Sentences, Words, joined, packed, texts_of

CELLS = ["A red dog.", ["the dog runs", "a dog"], '["two dogs", " ", "one"]', "the red dog"]


def fitted(**chosen: object) -> Sentences:
    reader = Sentences(**{"min_count": 1, **chosen})
    reader.fit(CELLS)
    return reader


def test_a_sample_holds_every_reference_with_its_end() -> None:
    reader = fitted()
    field = reader.field
    assert field["references"] == 2, "a blank sentence is none"
    assert field["languages"] == [""]
    sample = reader('["two dogs", " ", "one"]')
    words = Words(field)
    assert sample["length"].tolist() == [3, 2]
    assert [words.say(row) for row in sample["ids"].tolist()] == ["two dogs", "one"]
    assert all(
        row[n - 1] == field["end"] == field["size"] - 1 for row, n in zip(sample["ids"], sample["length"], strict=True)
    )
    assert texts_of(sample["text"][None]) == [["two dogs", "one"]]
    assert texts_of(reader.blank()["text"][None]) == [[]]
    assert reader.blank()["length"].tolist() == [0, 0]


def test_languages_are_columns_and_each_has_a_place() -> None:
    reader = Sentences(languages=True, min_count=1)
    cells = [{"en": "a dog", "zh": "一只狗"}, {"en": None, "zh": ["两只狗", "狗"]}]
    field = reader.fit(cells)
    assert field["languages"] == ["en", "zh"]
    assert reader(cells[0])["language"].tolist()[:2] == [0, 1]
    second = reader(cells[1])
    assert second["language"].tolist() == [1, 1]
    assert texts_of(second["text"][None]) == [["两只狗", "狗"]]
    assert Words(field).say(second["ids"][0].tolist()) == "两只狗", "no space between Chinese characters"


def test_without_languages_several_columns_are_alternatives() -> None:
    reader = Sentences(min_count=1)
    field = reader.fit([{"one": "a dog", "two": "the dog"}])
    assert field["languages"] == [""]
    assert reader({"one": "a dog", "two": "the dog"})["language"].tolist() == [0, 0]


def test_what_is_too_long_is_cut_and_said() -> None:
    reader = Sentences(min_count=1, max_tokens=2)
    field = reader.fit(["one two three", "one two"])
    assert (field["cut"], field["length"]) == (1, 3)
    sample = reader("one two three")
    assert sample["length"].tolist() == [3]
    assert Words(field).say(sample["ids"][0].tolist()) == "one two"
    assert texts_of(sample["text"][None]) == [["one two three"]], "it is measured whole"


def test_words_never_seen_are_unknown_and_cannot_be_said() -> None:
    reader = fitted()
    sample = reader("the zebra runs")
    assert sample["ids"][0, 1] == reader.field["unknown"]
    assert Words(reader.field).say(sample["ids"][0].tolist()) == "the runs"


@pytest.mark.parametrize("cell", ["", "  ", [], ["", None], {"en": None}, {1, 2}, [{"a": 1}]])
def test_cells_without_a_sentence_are_bad(cell: object) -> None:
    with pytest.raises(BadCell):
        fitted()(cell)


def test_a_table_without_any_sentence_is_refused() -> None:
    with pytest.raises(TableError, match="no training row holds a sentence"):
        Sentences().fit(["", [" "]])


@pytest.mark.parametrize(
    "chosen", [{"tokenizer": "hf"}, {"tokenizer": "bpe", "vocab": 100}, {"end": 3, "tokenizer_json": "{}"}]
)
def test_settings_that_do_not_go_together(chosen: dict) -> None:
    with pytest.raises(SpecError):
        Sentences(**chosen)


def test_document_frequencies_count_rows() -> None:
    field = fitted(document_frequencies=True).field
    assert field["documents"] == 4
    assert field["document_frequencies"]["dog"] == 3, "twice in a row counts once"
    assert json.loads(json.dumps(field)) == field


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.text(alphabet="abc de,.é狗猫", min_size=1, max_size=12), min_size=1, max_size=5),
    st.sampled_from(["char", "bpe"]),
)
def test_nothing_is_lost_by_tokens_of_characters_or_bytes(texts: list[str], tokenizer: str) -> None:
    reader = Sentences(min_count=1, tokenizer=tokenizer, vocab=400, clean="none", lower=False)
    known = [t for t in texts if t.strip()]
    if known:
        words = Words(reader.fit(known))
        for text in known:
            assert words.say(words.ids(text.strip())) == text.strip()


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30), st.integers(4, 40))
def test_bytes_are_cut_at_characters(text: str, room: int) -> None:
    kept = packed(text.encode("utf-8", "ignore").decode(), room)
    assert kept.shape == (room,)
    (found,) = texts_of(kept[None, None]) or [[]]
    whole = text.encode("utf-8", "ignore").decode().replace("\0", "")
    assert whole.startswith("".join(found))
    assert len("".join(found).encode()) > room - 4 or "".join(found) == whole or "\0" in text


def test_words_are_joined_as_they_are_written() -> None:
    assert joined(["a", "dog", ",", "it", "'s", "(", "big", ")", "."]) == "a dog, it's (big)."
    assert joined(["左", "上", "角", "，", "很", "轻"]) == "左上角，很轻"
    assert joined([]) == ""


def test_a_field_reads_alike_in_a_new_reader() -> None:
    reader, other = fitted(), Sentences(min_count=1)
    other.field = json.loads(json.dumps(reader.field))
    for cell in CELLS:
        for name, value in reader(cell).items():
            np.testing.assert_array_equal(other(cell)[name], value)
