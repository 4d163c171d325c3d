"""The reader: the contract, tokenizers against counts by hand, determinism, limits, and any text at all."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from polymodal.core.checks import check_reader
from polymodal.core.errors import BadCell, SpecError
from polymodal.modalities.text.read import TextReader

OWN = ["word", "char", "bpe", "wordpiece"]
TEXTS = [
    "A brown dog runs over the green grass.",
    "Two dogs don't run, they sleep: 3.5 hours!",
    "一只棕色的狗在草地上奔跑。",
    "两只狗在睡觉，very cute @bob_x",
    "café naïve 🚀 ﬁn",
]
CELLS = TEXTS + TEXTS


def fitted(cells=CELLS, **options) -> TextReader:
    reader = TextReader(**options)
    reader.fit(cells)
    return reader


def tokens(reader: TextReader, text: str) -> list[str]:
    tokenizer = Tokenizer.from_str(reader.field["tokenizer"])
    return [tokenizer.id_to_token(int(i)) for i in reader(text)["ids"]]


@pytest.mark.parametrize("kind", OWN)
def test_contract(kind):
    cells = [*CELLS, 7, 2.5, True, np.float32(1.5), "", "   ", "\x00", "x" * 3000]
    check_reader(lambda: TextReader(tokenizer=kind, max_tokens=20), cells, bad=[None, b"bytes", ["list"], {"a": 1}, 1j])


@pytest.mark.parametrize("options", [{"stop_words": "english"}, {"clean": "tweet", "lower": False}, {"max_chars": 5}])
def test_contract_with_other_settings(options):
    check_reader(lambda: TextReader(**options), CELLS)


def test_words_and_their_counts():
    reader = fitted(["b a! a", "c a b", "A"], min_count=2)
    counts = Counter("ba!acaba")
    kept = sorted((w for w in counts if counts[w] >= 2), key=lambda w: (-counts[w], w))
    vocabulary = Tokenizer.from_str(reader.field["tokenizer"]).get_vocab()
    assert [w for w, _ in sorted(vocabulary.items(), key=lambda e: e[1])][2:] == kept == ["a", "b"]
    assert reader("a b c !")["ids"].tolist() == [2, 3, 1, 1]
    assert reader.field["size"] == 4
    assert (reader.field["pad"], reader.field["unknown"]) == (0, 1)
    assert reader("")["ids"].tolist() == reader.blank()["ids"].tolist() == [1]


def test_vocab_keeps_the_most_frequent():
    assert fitted(["a a a b b c"], min_count=1, vocab=4).field["size"] == 4
    assert tokens(fitted(["a a a b b c"], min_count=1, vocab=4), "a b c")[:2] == ["a", "b"]


def test_words_of_many_scripts():
    reader = fitted()
    assert tokens(reader, TEXTS[1]) == ["two", "dogs", "don't", "run", ",", "they", "sleep", ":", "3.5", "hours", "!"]
    assert tokens(reader, TEXTS[2]) == list("一只棕色的狗在草地上奔跑。")
    assert tokens(reader, TEXTS[3])[-3:] == ["very", "cute", "@bob_x"]
    assert tokens(reader, TEXTS[4]) == ["café", "naïve", "🚀", "ﬁn"]


def test_characters():
    assert tokens(fitted(tokenizer="char"), "a 狗") == ["a", " ", "狗"]


def test_wordpiece_is_greedy_longest_match():
    reader = fitted(["hug hugs pug pugs bun bunny"] * 3, tokenizer="wordpiece", vocab=40)
    vocabulary = Tokenizer.from_str(reader.field["tokenizer"]).get_vocab()
    for word in ["hugs", "pun", "bunny", "gug"]:
        expected, at = [], 0
        while at < len(word):
            ends = [e for e in range(len(word), at, -1) if ("##" if at else "") + word[at:e] in vocabulary]
            if not ends:
                expected = ["[unknown token]"]
                break
            expected.append(("##" if at else "") + word[at : ends[0]])
            at = ends[0]
        assert tokens(reader, word) == expected


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
@pytest.mark.parametrize("size", [300, 400])
def test_pieces_stay_within_vocab(kind, size):
    assert fitted(tokenizer=kind, vocab=size, min_count=1).field["size"] <= size


def test_thousands_of_characters_leave_room_for_pieces():
    han = "".join(map(chr, range(0x4E00, 0x4E00 + 500)))
    reader = fitted([han, "hug hugs hugging"] * 2 + ["hug hugs hugging"], tokenizer="wordpiece", vocab=60)
    assert reader.field["size"] <= 60
    assert "hug" in tokens(reader, "hug")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@settings(deadline=None, max_examples=40)
def test_bytes_lose_nothing(text):
    reader = BYTES
    made = Tokenizer.from_str(reader.field["tokenizer"])
    kept = reader.prepare(text)
    if kept:
        assert made.decode(reader(text)["ids"].tolist()) == kept


BYTES = fitted(tokenizer="bpe", max_tokens=1000)
READERS = [fitted(tokenizer=k, max_tokens=16, clean=c) for k in OWN for c in ("none", "tweet")]


@given(st.text(st.characters(), max_size=80))
@settings(deadline=None, max_examples=60)
def test_any_text_is_read(text):
    for reader in READERS:
        ids = reader(text)["ids"]
        assert ids.dtype == np.int64
        assert 1 <= len(ids) <= 16
        assert ids.min() >= 1, "a real token is never the padding"
        assert ids.max() < reader.field["size"]
        json.dumps(reader.show(text))


@pytest.mark.parametrize("kind", OWN)
def test_names_of_special_tokens_are_just_text(kind):
    reader = fitted(["[no token] [unknown token] [PAD]"] * 9, tokenizer=kind)
    assert 0 not in reader("[no token][PAD] [unknown token]")["ids"]


def test_long_texts_are_cut_and_counted():
    reader = TextReader(max_tokens=3, max_chars=20)
    field = reader.fit(["one two three", "one two three four", "one" + " " * 30])
    assert (field["texts"], field["cut"]) == (3, 2)
    assert len(reader("one two three one two")["ids"]) == 3
    assert reader("one two three one two")["ids"].tolist() == reader("one two three")["ids"].tolist()


def test_cost_is_the_number_of_tokens():
    """Not of characters: of texts that are cut, or of words of many pieces, these say little."""
    reader = fitted()
    texts = ["a brown dog", "dog", "a", "dog " * 500, ""]
    assert [reader.cost(text) for text in texts] == [len(reader(text)["ids"]) for text in texts]
    assert reader.cost(7) == len(reader(7)["ids"])


def test_very_long_text_is_quick():
    reader, text = fitted(clean="tweet"), "a brown @dog &amp; 狗 " * 600_000
    assert len(text) > 10_000_000
    begin = time.perf_counter()
    assert len(reader(text)["ids"]) == 128
    assert reader.cost(text) == 128
    assert TextReader().cost(text) == 64 * 128
    assert len(reader.show(text)["data"]) == 500
    assert time.perf_counter() - begin < 1


def test_stop_words_are_left_out():
    assert tokens(fitted(stop_words="english"), "The dog runs over the grass") == ["dog", "runs", "grass"]
    assert tokens(fitted(stop_words="chinese"), "一只棕色的狗") == list("一只棕色狗")
    assert tokens(fitted(stop_words=["dog"]), "the dog runs") == ["the", "runs"]
    assert fitted(stop_words="english")("the")["ids"].tolist() == [1]


def test_case_is_kept_when_asked():
    assert tokens(fitted(["Dog dog"] * 2, lower=False), "Dog dog") == ["Dog", "dog"]


def test_numbers_are_their_text():
    reader = fitted(["3.5", "7"], min_count=1)
    assert reader(3.5)["ids"].tolist() == reader("3.5")["ids"].tolist() != [1]
    assert reader(np.int64(7))["ids"].tolist() == reader("7")["ids"].tolist() != [1]


@pytest.mark.parametrize("kind", OWN)
def test_no_cells_at_all(kind):
    assert fitted([], tokenizer=kind)("a")["ids"].min() >= 1


TRAIN = """
import hashlib, random, sys
from polymodal.modalities.text.read import TextReader
draw = random.Random(0)
letters = "abcdefghijklmno" + "".join(map(chr, range(0x4E00, 0x4E60)))
texts = [" ".join("".join(draw.choices(letters, k=draw.randint(1, 6))) for _ in range(8)) for _ in range(300)]
for kind in ["word", "char", "bpe", "wordpiece"]:
    field = TextReader(tokenizer=kind, vocab=500, min_count=1).fit(texts)
    print(kind, hashlib.sha256(field["tokenizer"].encode()).hexdigest())
print("torch" in sys.modules)
"""


def test_training_gives_the_same_bytes_in_any_process_and_without_torch():
    """Hash tables start from a random seed in each process; many ties here would show it."""
    answers = set()
    for threads in ("1", "2", "4"):
        surroundings = {**os.environ, "TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", TRAIN], env=surroundings, capture_output=True, text=True, check=True
        )
        answers.add(done.stdout)
    assert len(answers) == 1
    assert answers.pop().endswith("False\n")


def test_reader_before_fitting():
    with pytest.raises(RuntimeError, match="not fitted"):
        TextReader()("a")


def test_bad_cells_say_why():
    with pytest.raises(BadCell, match="not a text: bytes"):
        fitted()(b"a")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"tokenizer": "bpe", "vocab": 100}, "vocab: bpe needs at least 258"),
        ({"tokenizer": "word", "tokenizer_json": "{}"}, "stands beside a tokenizer_json"),
    ],
)
def test_settings_that_do_not_fit(options, problem):
    with pytest.raises(SpecError, match=problem):
        TextReader(**options)


@pytest.mark.parametrize(("given", "problem"), [(None, "pretrained encoder"), ("{", "is not JSON")])
def test_hf_needs_a_tokenizer(given, problem):
    with pytest.raises(SpecError, match=problem):
        TextReader(tokenizer="hf", tokenizer_json=given).fit([])


@pytest.mark.parametrize(("name", "cut"), [("captions", str.split), ("captions_zh", list)])
def test_real_captions_are_as_unknown_as_a_plain_count_says(real_data, name, cut):
    """English stands in the file with spaces between its words; Chinese is counted by characters."""
    with open(real_data / "flickr8k" / f"{name}.csv", encoding="utf-8") as file:
        rows = [(r["split"], r["caption"]) for r in csv.DictReader(file)]
    seen = [text for split, text in rows if split == "train"][:5000]
    new = [text for split, text in rows if split == "val"][:2000]
    counts = Counter(token for text in seen for token in cut(text.lower()))
    expected = np.mean([counts[token] < 2 for text in new for token in cut(text.lower())])
    reader = fitted(seen)
    ids = np.concatenate([reader(text)["ids"] for text in new])
    assert (ids == 1).mean() == pytest.approx(expected, abs=0.003)
