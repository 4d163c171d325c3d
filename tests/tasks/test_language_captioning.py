"""BLEU, ROUGE-L, CIDEr-D and distinct-n beside pycocoevalcap and beside counts by hand."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.tasks.language import captioning
from polymodal.tasks.language.bleu import sentence_bleu
from polymodal.tasks.language.cider import Cider
from polymodal.tasks.language.words import words

WORDS = ["a", "red", "dog", "runs", "on", "the", "grass", "with", "two", "balls"]
sentence = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
spoken_sentence = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)
corpora = st.lists(
    st.tuples(sentence, st.lists(spoken_sentence, min_size=1, max_size=3)), min_size=2, max_size=6,
    unique_by=lambda row: tuple(row[1]),
)  # fmt: skip


def official(said: list[str], references: list[list[str]]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """What pycocoevalcap says, of the whole and of each row; it is given our words."""
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu")
    rouge, cider = (pytest.importorskip(f"pycocoevalcap.{name}.{name}") for name in ("rouge", "cider"))
    ours = {at: [" ".join(words(text))] for at, text in enumerate(said)}
    theirs = {at: [" ".join(words(text)) for text in row] for at, row in enumerate(references)}
    bleus, _ = bleu.Bleu(4).compute_score(theirs, ours, verbose=0)
    rouge_l, rouges = rouge.Rouge().compute_score(theirs, ours)
    mean, ciders = cider.Cider().compute_score(theirs, ours)
    whole = {f"bleu_{n}": score for n, score in enumerate(bleus, 1)} | {"rouge_l": rouge_l, "cider": mean}
    return whole, {"rouge_l": rouges, "cider": ciders}


def corpus(rows: int, references: int = 5, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """Sentences with words as frequent as in a language; what is said is a spoilt reference."""
    draw = random.Random(seed)
    vocabulary = [f"w{n}" for n in range(400)]

    def word() -> str:
        return vocabulary[min(399, int(draw.expovariate(1 / 30)))]

    made = [[" ".join(word() for _ in range(draw.randint(3, 18))) for _ in range(references)] for _ in range(rows)]
    said = []
    for row in made:
        kept = [w if draw.random() < 0.7 else word() for w in draw.choice(row).split()]
        said.append(" ".join(kept[: draw.randint(1, len(kept))]))
    return said, made


def measured(said: list[str], references: list[list[str]]) -> dict[str, float]:
    found = captioning.measure(captioning.records(said, references), np.ones((1, len(said))))
    return {name: float(values[0]) for name, values in found.items()}


def test_like_pycocoevalcap() -> None:
    said, references = corpus(120)
    whole, rows = official(said, references)
    found, records = measured(said, references), captioning.records(said, references)
    assert {name: found[name] for name in whole} == pytest.approx(whole, rel=1e-9)
    np.testing.assert_allclose(records["rouge_l"], rows["rouge_l"], rtol=1e-9)
    np.testing.assert_allclose(captioning.ciders(records), rows["cider"], rtol=1e-9)


@settings(deadline=None, max_examples=60)
@given(corpora)
def test_like_pycocoevalcap_on_odd_sentences(rows: list[tuple[str, list[str]]]) -> None:
    """Nothing said, repetitions, references of one word, the same reference twice."""
    said, references = [r[0] for r in rows], [r[1] for r in rows]
    whole, by_row = official(said, references)
    found = measured(said, references)
    assert {name: found[name] for name in whole} == pytest.approx(whole, rel=1e-9, abs=1e-9)
    scorer = Cider.from_corpus(references)
    np.testing.assert_allclose(scorer.score(said, references), by_row["cider"], atol=1e-9)


def test_bleu_by_hand() -> None:
    """Papineni's example: `the` counts twice, as in the first reference; 9 words against 9, so no penalty."""
    found = measured(["the the the the the the the"], [["The cat is on the mat.", "There is a cat on the mat."]])
    assert found["bleu_1"] == pytest.approx(2 / 7)
    short = measured(["the cat is"], [["the cat is on the mat", "a cat sat on a mat once again"]])
    assert short["bleu_1"] == pytest.approx(np.exp(1 - 6 / 3))
    assert short["bleu_3"] == pytest.approx(np.exp(1 - 6 / 3))


def test_the_shorter_of_two_references_as_close() -> None:
    records = captioning.records(["a b c d"], [["a b c d e", "a b c", "a"]])
    assert records["closest"].tolist() == [3]


def test_sentence_bleu_is_bleu_of_one_row() -> None:
    said, references = corpus(10)
    records = captioning.records(said, references)
    found = sentence_bleu(records["right"], records["length"], records["closest"])
    each = [measured([s], [r])["bleu_4"] for s, r in zip(said, references, strict=True)]
    np.testing.assert_allclose(found, each)


def test_rouge_takes_the_best_precision_and_recall_of_any_reference() -> None:
    """Police example of Lin (2004): LCS of 3 of 4 words; and P from one reference with R from another."""
    found = measured(["police kill the gunman"], [["police killed the gunman"]])
    assert found["rouge_l"] == pytest.approx(3 / 4)
    mixed = measured(["a b c d"], [["a b c d e f g h", "a"]])
    p, r = 4 / 4, 1 / 1
    assert mixed["rouge_l"] == pytest.approx((1 + 1.44) * p * r / (r + 1.44 * p))


def test_exactly_the_references_is_best() -> None:
    references = [row for row in corpus(40, references=1)[1] if len(words(row[0])) >= 4]
    found = measured([row[0] for row in references], references)
    assert found["cider"] == pytest.approx(10)
    assert [found[f"bleu_{n}"] for n in range(1, 5)] == pytest.approx([1] * 4)
    assert found["rouge_l"] == pytest.approx(1)


def test_distinct_by_hand() -> None:
    found = measured(["a dog runs", "a dog sits", ""], [["x"]] * 3)
    assert found["distinct_1"] == pytest.approx(4 / 6)
    assert found["distinct_2"] == pytest.approx(3 / 4)


def test_a_weight_of_two_is_a_row_twice() -> None:
    said, references = corpus(12)
    records = captioning.records(said, references)
    times = 1 + np.arange(12) % 3
    twice = captioning.measure({n: np.repeat(v, times, 0) for n, v in records.items()}, np.ones((1, times.sum())))
    weighed = captioning.measure(records, times[None].astype(float))
    for name, values in weighed.items():
        np.testing.assert_allclose(values, twice[name], err_msg=name)
    assert weighed["cider"] != captioning.measure(records, np.ones((1, 12)))["cider"]


def test_resamples_keep_the_document_frequencies() -> None:
    said, references = corpus(30)
    records = captioning.records(said, references)
    weights = np.random.default_rng(0).multinomial(30, np.ones(30) / 30, size=5).astype(float)
    found = captioning.measure(records, weights)
    np.testing.assert_allclose(found["cider"], weights @ captioning.ciders(records) / 30)
    assert np.isnan(found["distinct_1"]).all(), "a resample tells nothing of variety"
    subset = (np.arange(30) < 10)[None].astype(float)
    only = captioning.measure(captioning.records(said[:10], references[:10]), np.ones((1, 10)))
    same = captioning.measure(records, subset)
    for name in ("bleu_4", "rouge_l", "distinct_1", "distinct_2"):
        assert same[name] == pytest.approx(only[name]), name
    nothing = captioning.measure(records, np.zeros((1, 30)))
    assert all(np.isnan(values).all() for values in nothing.values())


def test_references_that_say_nothing_are_none() -> None:
    found = captioning.records(["a dog", "a cat"], [["a dog", "...", ""], []])
    one = captioning.records(["a dog", "a cat"], [["a dog"], []])
    for name, values in found.items():
        np.testing.assert_array_equal(values, one[name])
    measured_one = captioning.measure(one, np.ones((1, 2)))
    assert measured_one["rouge_l"] == pytest.approx(0.5)
    assert captioning.ciders(one)[1] == 0


def test_records_of_batches_can_be_joined() -> None:
    said, references = corpus(9)
    said[4], references[7] = "", []
    whole = captioning.records(said, references)
    parts = [captioning.records(said[a:b], references[a:b]) for a, b in ((0, 4), (4, 5), (5, 9), (9, 9))]
    for name, values in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), values)


def test_no_rows() -> None:
    found = captioning.measure(captioning.records([], []), np.ones((2, 0)))
    assert all(np.isnan(values).all() and values.shape == (2,) for values in found.values())


def test_remembered_scores_are_those_of_these_texts() -> None:
    """More sets of records than are remembered, then the first again; one letter makes another set."""
    sets = [corpus(8, seed=seed) for seed in range(captioning.KEPT + 2)]
    first = [measured(*one)["cider"] for one in sets]
    assert [measured(*one)["cider"] for one in sets] == first
    assert len(captioning._known) <= captioning.KEPT
    said, references = sets[0]
    changed = [*said[:-1], references[-1][0]]
    assert measured(changed, references)["cider"] > first[0]


def test_the_reward_goes_through_json() -> None:
    said, references = corpus(40)
    scorer = Cider.from_corpus(references)
    assert min(scorer.document_frequencies.values()) == 2, "what stands in one document counts as 1 anyway"
    again = Cider(json.loads(json.dumps(scorer.document_frequencies)), scorer.documents)
    np.testing.assert_array_equal(again.score(said, references), scorer.score(said, references))
    _, rows = official(said, references)
    np.testing.assert_allclose(again.score(said, references), rows["cider"])
    some = again.score(said[3:7], references[3:7])
    np.testing.assert_allclose(
        some, rows["cider"][3:7], err_msg="frequencies are those of the corpus, not of the batch"
    )


def test_the_reward_of_unknown_words_and_of_nothing() -> None:
    scorer = Cider.from_corpus([["a dog"], ["a cat"], ["a bird sings"]])
    found = scorer.score(["zebra", "", "a dog", "a dog"], [["a dog"], ["a dog"], [], ["a dog", "!"]])
    assert found[:3].tolist() == [0, 0, 0]
    assert found[3] > 0
    assert scorer.score([], []).shape == (0,)


def _seconds(what: Callable[[], Any], tries: int = 5) -> float:
    taken = []
    for _ in range(tries):
        start = time.process_time()
        what()
        taken.append(time.process_time() - start)
    return min(taken)


def test_fast_enough_for_a_bootstrap_and_for_a_reward() -> None:
    """A thousand rows and resamples; 64 rewards. Generous bounds: about a tenth is usual."""
    said, references = corpus(1000)
    records = captioning.records(said, references)
    weights = np.random.default_rng(0).multinomial(1000, np.ones(1000) / 1000, size=1000).astype(float)
    captioning.measure(records, weights)
    assert _seconds(lambda: captioning.measure(records, weights), 2) < 1
    scorer = Cider.from_corpus(references)
    assert _seconds(lambda: scorer.score(said[:64], references[:64])) < 0.15
