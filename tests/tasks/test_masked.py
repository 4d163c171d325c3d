"""Masked language modelling: which tokens are hidden, how, and that it depends on nothing but the row's key."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from polymodal.core.errors import SpecError
from polymodal.core.lots import numbers, uniform
from polymodal.core.seeds import derive
from polymodal.core.streams import Cells, Row, Stream, Target
from polymodal.data.collate import collate
from polymodal.modalities.text.read import TextReader
from polymodal.tasks.hiding import tokens_of
from polymodal.tasks.masked import Mask

WIDTH = 6
WORDS = [
    "red",
    "green",
    "blue",
    "grey",
    "mug",
    "bowl",
    "lamp",
    "chair",
    "small",
    "large",
    "old",
    "new",
    "on",
    "under",
    "the",
    "a",
]


@pytest.fixture(scope="module")
def reader() -> TextReader:
    made = TextReader(min_count=1)
    made.fit([" ".join(WORDS)])
    return made


def task(reader: TextReader, **settings: Any) -> Mask:
    torch.manual_seed(0)
    return Mask(fields={"title": reader.field or {}}, width_in=WIDTH, inputs=("photo", "title"), input="title",
                **settings)  # fmt: skip


def cells(reader: TextReader, texts: list[str], index: list[list[int]] | None = None, padding: int = 0) -> Cells:
    data = {k: torch.from_numpy(v) for k, v in collate([reader(t) for t in texts], reader.ragged).items()}
    data = {k: torch.nn.functional.pad(v, (0, padding)) for k, v in data.items()}
    where = torch.tensor(index or [[i] for i in range(len(texts))])
    return Cells(data, where, torch.arange(len(texts)) + 10)


def known(rows: int) -> Target:
    return Target({"there": torch.ones(rows, dtype=torch.int64)}, torch.ones(rows, dtype=torch.bool))


def keys(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(2**62, (rows,), generator=torch.Generator().manual_seed(seed))


def prepared(part: Mask, given: Cells, key: torch.Tensor) -> tuple[torch.Tensor, Target]:
    """The hidden ids by row, [B K*T], and what is asked."""
    inputs, asked = part.prepare({"title": given}, known(len(key)), key)
    assert asked is not None
    found = inputs["title"]
    ids = found.data["ids"][found.index.clamp(min=0)].flatten(1)
    return ids, asked


def streams_of(asked: Target, seed: int = 0) -> dict[str, Stream]:
    shape = asked.data["ids"].shape
    tokens = torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(seed))
    return {"title": Stream(tokens, torch.ones(shape, dtype=torch.bool))}


# Chance from keys


def test_numbers_are_splitmix64_in_plain_integers() -> None:
    def mixed(x: int) -> int:
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = ((x ^ (x >> shift)) * factor) % 2**64
        return x ^ (x >> 31)

    key = torch.tensor([5, 2**62 + 12345, 0, 2**63 - 1])
    found = numbers(key, "it", 4)
    for row, one in enumerate(key.tolist()):
        start = mixed((one + derive("it")) % 2**64)
        assert found[row].tolist() == [mixed((start + i * 0x9E3779B97F4A7C15) % 2**64) >> 1 for i in range(1, 5)]
    assert torch.equal(numbers(key, "it", 2), found[:, :2])
    draws = uniform(keys(500), "it", 40)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert chisquare(np.histogram(draws.numpy(), 50, (0, 1))[0]).pvalue > 1e-3
    pairs = np.histogram2d(draws[:, 0], draws[:, 1], 5, [(0, 1), (0, 1)])[0]
    assert chisquare(pairs.ravel()).pvalue > 1e-3


# What is hidden


def test_which_tokens_are_chosen_and_what_becomes_of_them(reader: TextReader) -> None:
    part = task(reader, share=0.25)
    texts = [" ".join(WORDS[i % 4 :][: 4 + i % 9]) for i in range(4000)]
    given = cells(reader, texts)
    ids, asked = prepared(part, given, keys(4000))
    truth, at, chosen = asked.data["ids"], asked.data["at"], asked.data["asked"]
    lengths = given.data["ids_mask"].sum(1)
    assert chosen.sum(1).tolist() == [max(1, round(0.25 * n)) for n in lengths.tolist()]
    touched = torch.zeros_like(truth, dtype=torch.bool).scatter(1, at, chosen)
    assert not (touched & ~given.data["ids_mask"]).any(), "padding is never asked for"
    assert torch.equal(ids[~touched], truth[~touched])
    assert all(len(set(row[here].tolist())) == int(here.sum()) for row, here in zip(at, chosen, strict=True))
    old, new = truth[touched], ids[touched]
    hidden = int((new == part.mask).sum())
    plain = len(WORDS)
    same = len(old) * (0.1 + 0.1 / plain)  # some are changed to what they are
    counts = [hidden, int((new == old).sum()), len(old) - hidden - int((new == old).sum())]
    expected = [0.8 * len(old), same, 0.1 * len(old) * (1 - 1 / plain)]
    assert chisquare(counts, expected).pvalue > 1e-3, (counts, expected)
    other = new[(new != part.mask) & (new != old)]
    assert set(other.tolist()) == set(tokens_of(reader.field).plain)
    assert chisquare(np.unique(other, return_counts=True)[1]).pvalue > 1e-3
    whole = lengths == 12
    places = at[whole][chosen[whole]]
    assert chisquare(np.bincount(places, minlength=12)).pvalue > 1e-3, "every place is as likely"


def test_a_row_is_masked_alike_alone_among_others_and_with_more_padding(reader: TextReader) -> None:
    part, texts = task(reader, share=0.4), [" ".join(WORDS[i:][: 2 + i]) for i in range(8)]
    key = keys(8)
    ids, asked = prepared(part, cells(reader, texts), key)
    mixed = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    turned, _ = prepared(part, cells(reader, [texts[i] for i in mixed]), key[mixed])
    longer, wide = prepared(part, cells(reader, texts, padding=5), key)
    for row in range(8):
        alone, own = prepared(part, cells(reader, [texts[row]]), key[row : row + 1])
        length = alone.shape[1]
        assert torch.equal(alone[0], ids[row, :length])
        assert torch.equal(alone[0], turned[mixed.tolist().index(row), :length])
        assert torch.equal(alone[0], longer[row, :length])
        for other in (asked, wide):
            count = int(own.data["asked"].sum())
            assert int(other.data["asked"][row].sum()) == count
            assert torch.equal(own.data["at"][0, :count], other.data["at"][row, :count])
    again, _ = prepared(part, cells(reader, texts), key)
    assert torch.equal(again, ids)
    fresh, _ = prepared(part, cells(reader, texts), keys(8, seed=1))
    assert not torch.equal(fresh, ids)


def test_rows_that_share_a_cell_are_masked_apart_and_nothing_is_changed_in_place(reader: TextReader) -> None:
    part = task(reader, share=0.5)
    given = cells(reader, [" ".join(WORDS[:8]), "red mug"], [[0], [0], [1], [-1], [0]])
    kept = given.data["ids"].clone()
    ids, asked = prepared(part, given, keys(5))
    assert torch.equal(given.data["ids"], kept)
    assert not torch.equal(ids[0], ids[1])
    assert asked.data["asked"].sum(1).tolist() == [4, 4, 1, 0, 4]
    assert part.weight(asked).tolist() == [1, 1, 1, 0, 1], "a row without the text counts for nothing"


def test_several_columns_are_one_text(reader: TextReader) -> None:
    part = task(reader, share=0.3)
    given = cells(reader, ["red mug on the chair", "a lamp", "old blue bowl"], [[0, 1], [1, -1], [2, 0]])
    ids, asked = prepared(part, given, keys(3))
    assert ids.shape == (3, 10)
    assert asked.data["asked"].sum(1).tolist() == [round(0.3 * 7), 1, round(0.3 * 8)]
    alone, own = prepared(part, cells(reader, ["old blue bowl", "red mug on the chair"], [[0, 1]]), keys(3)[2:])
    assert torch.equal(alone[0], ids[2])
    assert torch.equal(own.data["ids"][0], asked.data["ids"][2])


def test_a_row_of_nothing_but_unknown_words_is_not_asked(reader: TextReader) -> None:
    part = task(reader)
    _, asked = prepared(part, cells(reader, ["qqq zzz", "", "red"]), keys(3))
    assert asked.data["asked"].any(1).tolist() == [False, False, True]
    answer = part(streams_of(asked), None, asked)
    assert part.loss(answer, asked, None)[:2].tolist() == [0, 0]
    records = part.score(answer, asked)
    assert records["asked"].tolist() == [0, 0, 1]
    assert np.isnan(part.measure(records, np.array([[1.0, 1, 0]]))["masked_accuracy"]).all()


# What it costs to be wrong


def test_loss_and_measures_against_a_loop_over_the_chosen_tokens(reader: TextReader) -> None:
    part = task(reader, share=0.4).eval()
    _, asked = prepared(part, cells(reader, [" ".join(WORDS[i : 2 * i + 3]) for i in range(6)]), keys(6))
    streams = streams_of(asked)
    answer = part.respond(streams, None, asked=asked)
    loss, records, plain = part.loss(answer, asked, None), part.score(answer, asked), tokens_of(reader.field).plain
    rights = counts = total = 0.0
    for row in range(6):
        surprises = []
        for at, here in zip(asked.data["at"][row].tolist(), asked.data["asked"][row].tolist(), strict=True):
            if here:
                logits = part.head(streams["title"].tokens[row, at])[plain].detach()
                truth = plain.index(int(asked.data["ids"][row, at]))
                surprises.append(-float(logits.log_softmax(0)[truth]))
                rights += float(logits.argmax() == truth)
        assert loss[row].item() == pytest.approx(np.mean(surprises), rel=1e-5)
        assert records["error"][row] == pytest.approx(np.mean(surprises), rel=1e-5)
        counts, total = counts + len(surprises), total + sum(surprises)
    found = part.measure(records, np.ones((1, 6)))
    assert found["masked_accuracy"][0] == pytest.approx(rights / counts)
    assert found["perplexity"][0] == pytest.approx(math.exp(total / counts), rel=1e-5)


def test_knowing_nothing_is_the_perplexity_of_the_vocabulary(reader: TextReader) -> None:
    part = task(reader)
    torch.nn.init.zeros_(part.head[-1].weight)
    torch.nn.init.zeros_(part.head[-1].bias)
    _, asked = prepared(part, cells(reader, ["red mug", "blue lamp"]), keys(2))
    answer = part(streams_of(asked), None, asked)
    found = part.measure(part.score(answer, asked), np.ones((1, 2)))
    assert found["perplexity"][0] == pytest.approx(len(WORDS), rel=1e-6)


# Texts with gaps


def test_gaps_are_filled_in(reader: TextReader) -> None:
    part = task(reader).eval()
    places = {word: reader(word)["ids"][0] for word in WORDS}
    given = {"title": cells(reader, ["red qqq on the qqq", "red mug", "qqq"], [[0], [1], [2], [-1]])}
    inputs, asked = part.prepare(given, None, keys(4))
    assert inputs is given
    assert asked is not None
    assert not asked.present.any()
    streams = streams_of(asked)
    with torch.no_grad():
        answer = part.respond(streams, None, asked=asked)
        found = part.predict(answer, [Row(i) for i in range(4)])
        logits = part.head(streams["title"].tokens[0, [1, 4]])
    p, best = logits[:, sorted(places.values())].softmax(1).max(1)
    words = [next(w for w, i in places.items() if i == sorted(places.values())[b]) for b in best.tolist()]
    assert found[0].value == f"red {words[0]} on the {words[1]}"
    assert found[0].confidence == pytest.approx(float(p.prod()), rel=1e-4)
    assert [one.value is None for one in found] == [False, True, False, True]
    assert found[1].confidence is None


def pretrained() -> dict[str, Any]:
    """The field of a tokenizer as pretrained models bring it, whose padding is not 0."""
    names = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]", "red", "mug", "blue"]
    made = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(names[:5])
    ends = [("[CLS]", 0), ("[SEP]", 2)]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    made.enable_padding(pad_id=1, pad_token="[PAD]")
    fitted = TextReader(tokenizer="hf", tokenizer_json=made.to_str())
    return fitted.fit(["red"])


def test_the_mask_token_of_a_pretrained_tokenizer_is_used() -> None:
    field = pretrained()
    found = tokens_of(field)
    assert found.mask == 4
    assert found.plain == [5, 6, 7]
    reader = TextReader(tokenizer="hf", tokenizer_json=field["tokenizer"])
    reader.field = field
    part = Mask(fields={"t": field}, width_in=WIDTH, inputs=("t",), input="t", share=1.0)
    inputs, asked = part.prepare({"t": cells(reader, ["red mug", "blue"])}, known(2), keys(2))
    assert inputs["t"].data["ids"][:, 0].tolist() == [0, 0]
    assert inputs["t"].data["ids"][0, 3].item() == 2, "special tokens stay"
    assert asked is not None
    assert asked.data["asked"].sum(1).tolist() == [2, 1]
    assert asked.data["ids"][1].tolist() == [0, 7, 2, 1], "padding is the tokenizer's own"
    gaps = {"t": cells(reader, ["[MASK] mug", "blue [UNK]"])}
    _, asked = part.prepare(gaps, None, keys(2))
    assert asked is not None
    answer = part.respond({"t": streams_of(asked)["title"]}, None, asked=asked)
    first, second = part.predict(answer, [Row(0), Row(1)])
    assert first.value in ("red mug", "mug mug", "blue mug")
    assert second.value is None, "an unknown word is no gap where there is a mask token"


def test_own_vocabularies_have_the_unknown_token_for_a_mask(reader: TextReader) -> None:
    found = tokens_of(reader.field)
    assert found.mask == reader.field["unknown"]
    assert found.plain == list(range(2, 2 + len(WORDS)))
    assert json.loads(reader.field["tokenizer"])["added_tokens"] == []


def test_mistakes_say_where(reader: TextReader) -> None:
    wired: dict[str, Any] = {"fields": {"title": reader.field, "photo": {"size": [3, 3]}}, "width_in": WIDTH,
                             "inputs": ("title", "photo")}  # fmt: skip
    with pytest.raises(SpecError, match="no input of this name") as error:
        Mask(**wired, input="titel")
    assert "'title'" in error.value.advice
    with pytest.raises(SpecError, match="is no text"):
        Mask(**wired, input="photo")
    part = Mask(**wired, input="title")
    _, asked = prepared(part, cells(reader, ["red mug on the chair"]), keys(1))
    pooled = {"title": Stream(torch.zeros(1, 1, WIDTH), torch.ones(1, 1, dtype=torch.bool))}
    with pytest.raises(SpecError, match="gives 1 tokens for a text of 5") as error:
        part(pooled, None, asked)
    assert error.value.where == "inputs.title.encoder"
