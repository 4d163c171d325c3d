"""One token for every word, whatever the tokenizer makes of it: against the words as Python splits them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from polymodal.core.checks import check_encoder, check_reader
from polymodal.core.errors import SpecError
from polymodal.data.collate import collate
from polymodal.modalities.text.encode import TextGRU, TextTransformer
from polymodal.modalities.text.hf import HFText
from polymodal.modalities.text.read import TextReader

TEXTS = [
    "Dr. Ann-Lee's dog ran 3.5 km (fast).",
    " two  spaces\tand a tab ",
    "don't   U.S.A. 狗 一只黑狗",
    "one",
    "   ",
    "",
]
KINDS = ["word", "char", "bpe", "wordpiece"]


def reader_of(kind: str, **settings: object) -> TextReader:
    reader = TextReader(tokenizer=kind, min_count=1, vocab=400, words=True, **settings)
    reader.fit(TEXTS)
    return reader


def data_of(reader: TextReader, texts: list[str] = TEXTS) -> dict[str, torch.Tensor]:
    samples = [reader(text) for text in texts]
    return {k: torch.from_numpy(v) for k, v in collate(samples, reader.ragged).items()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_piece_knows_its_word(kind: str) -> None:
    reader = reader_of(kind, lower=False)
    check_reader(lambda: TextReader(tokenizer=kind, min_count=1, vocab=400, words=True), TEXTS, [None, ["a"]])
    for text in TEXTS:
        word, encoded = reader(text)["word"], reader._encoding().encode(text)
        assert len(word) == max(1, len(encoded.ids))
        pieces = [""] * len(text.split())
        for number, (start, end) in zip(word, encoded.offsets, strict=False):
            if number >= 0 and pieces:
                pieces[number] += text[start:end].strip()
        assert pieces == text.split()
        assert (np.diff(word[word >= 0]) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cls", [TextGRU, TextTransformer])
def test_encoders_give_a_token_for_every_word(kind: str, cls: type) -> None:
    """That of its first piece, as `tokens: all` has it."""
    reader = reader_of(kind)
    assert cls.wants({"tokens": "words"}, Path()) == {"words": True}
    torch.manual_seed(0)
    whole = cls(field=reader.field, width=8, dropout=0.0).eval()
    words = cls(field=reader.field, width=8, dropout=0.0, tokens="words").eval()
    words.load_state_dict(whole.state_dict())
    data = data_of(reader)
    every, found = whole(data), words(data)
    assert found.mask.sum(1).tolist() == [max(1, len(text.split())) for text in TEXTS]
    for row, text in enumerate(TEXTS):
        for number in range(len(text.split())):
            first = data["word"][row].tolist().index(number)
            torch.testing.assert_close(found.tokens[row, number], every.tokens[row, first])
    check_encoder(lambda: cls(field=reader.field, width=8, dropout=0.0, tokens="words"), data)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_pretrained_tokenizers(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from published import publish_text

    name = publish_text(kind, tmp_path / "hub")
    settings = {"name": name, "pool": "words"}
    reader = TextReader(**HFText.wants(settings, tmp_path / "run"))
    field = reader.fit([])
    texts = ["A dog runs over the grass", "the cat sleeps!", "dog", "unheard-of cat's grass"]
    data = data_of(reader, texts)

    def make() -> HFText:
        return HFText(field=field, files=tmp_path / "run", **settings)

    check_encoder(make, data)
    assert make().eval()(data).mask.sum(1).tolist() == [len(text.split()) for text in texts]
    theirs = reader._encoding().encode(texts[0])
    assert data["word"][0, : len(theirs.ids)].tolist()[:1] == [-1]  # the model's own token is no word's


def test_what_is_cut_has_no_token() -> None:
    reader = reader_of("word", max_tokens=3)
    data = data_of(reader, ["one two three four five", "one"])
    encoder = TextGRU(field=reader.field, width=4, tokens="words").eval()
    assert encoder(data).mask.sum(1).tolist() == [3, 1]


def test_words_stay_what_they_are() -> None:
    assert reader_of("word").prepare("A&amp;B&nbsp;C  D") == "a&amp;b&nbsp;c  d"
    with pytest.raises(SpecError, match="words that each have"):
        TextReader(words=True, stop_words="english")
