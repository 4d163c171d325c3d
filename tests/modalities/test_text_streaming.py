"""Texts pass by: vocabularies and counts are those of all texts at once, without holding them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core.errors import BadCell
from polymodal.modalities.text.read import TextReader

KINDS = ["word", "char", "bpe", "wordpiece"]
TEXT = st.text(st.sampled_from("ab cé狗,&\n"), max_size=40)


class Passing:
    """Texts made anew for every walk; how many of them are alive at once is counted."""

    def __init__(self, count: int) -> None:
        self.count, self.walks = count, 0

    def __iter__(self) -> Iterator[str]:
        self.walks += 1
        return (f"word{n % 97} word{n % 31} and word{n % 7}" for n in range(self.count))


@pytest.mark.parametrize("kind", KINDS)
def test_a_walk_a_generator_and_a_list_give_the_same_field(kind: str) -> None:
    made = [TextReader(tokenizer=kind, vocab=300, min_count=1).fit(cells)  # type: ignore[arg-type]
            for cells in (Passing(500), iter(Passing(500)), list(Passing(500)))]  # fmt: skip
    assert made[0] == made[1] == made[2]
    assert made[0]["texts"] == 500


def test_texts_that_pass_are_not_held() -> None:
    import tracemalloc

    cells = Passing(30_000)
    size = sum(len(text) + 49 for text in cells)
    tracemalloc.start()
    TextReader().fit(cells)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < size / 3, f"{held} of {size} bytes"


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=8), st.sampled_from(KINDS), st.integers(1, 12), st.integers(1, 30))
def test_what_is_cut_is_counted_as_by_hand(texts: list[str], kind: str, tokens: int, chars: int) -> None:
    reader = TextReader(tokenizer=kind, vocab=400, min_count=1, max_tokens=tokens, max_chars=chars)  # type: ignore[arg-type]
    field = reader.fit([*texts, None, b"no text"])
    whole = reader._encoding()
    whole.no_truncation()
    expected = sum(len(t) > chars or len(whole.encode(reader.prepare(t)).ids) > tokens for t in texts)
    assert (field["texts"], field["cut"]) == (len(texts), expected)


@settings(max_examples=40, deadline=None)
@given(st.lists(TEXT | st.integers() | st.just(b"x"), max_size=8), st.sampled_from(KINDS))
def test_many_at_once_are_as_one_by_one(cells: list, kind: str) -> None:
    reader = TextReader(tokenizer=kind, vocab=300, min_count=1, max_tokens=6)  # type: ignore[arg-type]
    reader.fit(["ab c", "aa, b", "狗 é"])
    for cell, found in zip(cells, reader.decode_all(cells), strict=True):
        if isinstance(cell, bytes):
            assert isinstance(found, BadCell)
            assert found.reason == "not a text: bytes"
        else:
            assert isinstance(found, dict)
            assert found["ids"].tolist() == reader.decode(cell)["ids"].tolist()
