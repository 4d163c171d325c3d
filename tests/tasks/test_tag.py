"""Labels of steps: reading them, spans against a loop of its own, the contract, alignment, measures by hand."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from polymodal.core.checks import check_target, check_task
from polymodal.core.errors import BadCell, SpecError, TableError, UserError
from polymodal.core.streams import Row, Stream, Target
from polymodal.tasks.spans import Bio
from polymodal.tasks.tag import Tag
from polymodal.tasks.tags import LEAST, Tags

D = 5
NAMES = ["B-PER I-PER O O", ["O", "B-LOC"], '["B-LOC", "I-LOC", "O"]', "O"]
STRETCHES = [
    [{"start": 0.5, "end": 1.0, "label": "dog"}, {"start": 1.0, "end": 1.2, "label": "cat"}],
    '[{"start": 0, "end": 0.3, "label": "cat"}]',
    {"start": 2, "end": 3, "label": "dog"},
    "[]",
]

# reading


def test_labels_of_steps() -> None:
    reader = Tags()
    check_target(lambda: Tags(), NAMES, [None, 3, [["O"]], [None], [float("nan")]])
    field = reader.fit(NAMES)
    assert field["classes"] == ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]
    assert field["counts"] == [2, 1, 1, 1, 5]
    assert (field["places"], field["stretches"]) == (LEAST, False)
    sample = reader("O I-PER B-NEW")
    assert sample["class"][:3].tolist() == [4, 3, -1]
    assert int(sample["length"]) == 3
    with pytest.raises(BadCell, match="room for 32"):
        reader(["O"] * 33)
    assert int(Tags(longest=3).fit(NAMES)["places"]) == 3
    with pytest.raises(TableError):
        Tags().fit([None])


def test_stretches() -> None:
    bad = [
        None,
        [{"start": 1, "end": 1, "label": "x"}],
        [{"start": -1, "end": 1, "label": "x"}],
        [{"start": 0, "end": 1}],
        [{"start": 0, "end": 2, "label": "x"}, {"start": 1, "end": 3, "label": "y"}],
        "dog cat",
    ]
    check_target(lambda: Tags(), [c for c in STRETCHES if c != "[]"], bad)
    reader = Tags(outside="nothing")
    field = reader.fit(STRETCHES)
    assert field["classes"] == ["cat", "dog", "nothing"]
    sample = reader(STRETCHES[0])
    assert sample["class"][:2].tolist() == [1, 0]
    np.testing.assert_allclose(sample["bounds"][:2], [[0.5, 1.0], [1.0, 1.2]])
    assert int(reader("[]")["length"]) == 0


def test_words_and_labels_must_be_as_many() -> None:
    reader = Tags()
    reader.fit([{"tags": "O B-PER", "words": "hello Ann"}])
    assert int(reader({"tags": "O O", "words": " well  then "})["length"]) == 2
    with pytest.raises(BadCell, match="2 labels for 3 words"):
        reader({"tags": "O O", "words": "a b c"})
    assert int(reader({"tags": "O O", "words": None})["length"]) == 2
    with pytest.raises(BadCell):
        reader({"tags": None, "words": "a b"})


# spans


def loop(labels: list[str]) -> set[tuple[int, int, str]]:
    """The spans of one row, step by step."""
    found, start, kind = set(), None, None
    for at, label in enumerate([*labels, "O"]):
        mark, _, name = label.partition("-")
        if kind is not None and not (mark == "I" and name == kind):
            found.add((start, at - 1, kind))
            kind = None
        if mark == "B" or (mark == "I" and kind is None):
            start, kind = at, name
    return found


LABELS = ["O", "B-A", "I-A", "B-B", "I-B", "other"]
BIO = Bio(LABELS)
rows = st.lists(st.tuples(st.lists(st.sampled_from(LABELS), max_size=9), st.lists(st.sampled_from(LABELS), max_size=9)),
                min_size=1, max_size=4)  # fmt: skip


def arrays(sides: list[list[str]]) -> tuple[np.ndarray, np.ndarray]:
    longest = max(1, *map(len, sides))
    label = np.array([[LABELS.index(one) for one in row] + [0] * (longest - len(row)) for row in sides])
    return label, np.arange(longest) < np.array([len(row) for row in sides])[:, None]


@given(rows)
@settings(deadline=None, max_examples=150)
def test_spans_are_those_of_a_loop(pairs: list) -> None:
    pairs = [(t, (g + ["O"] * len(t))[: len(t)]) for t, g in pairs]
    truth, guess = (arrays([p[i] for p in pairs]) for i in (0, 1))
    found = BIO.counts(*truth, *guess)
    one, two = ([loop(p[i]) for p in pairs] for i in (0, 1))
    assert found["true"].tolist() == [len(s) for s in one]
    assert found["said"].tolist() == [len(s) for s in two]
    assert found["found"].tolist() == [len(a & b) for a, b in zip(one, two, strict=True)]


@pytest.mark.skipif(not find_spec("seqeval"), reason="seqeval is not installed")
@given(rows)
@settings(deadline=None, max_examples=100)
def test_spans_are_those_of_seqeval(pairs: list) -> None:
    from seqeval.metrics.sequence_labeling import get_entities

    sides = [[label if label != "other" else "O" for label in row] for pair in pairs for row in pair]
    label, real = arrays(sides)
    spans = BIO.spans(label, real)
    names = {1: "A", 2: "B"}
    for row, labels in enumerate(sides):
        begins = np.flatnonzero(spans.begins[row]).tolist()
        mine = {(names[spans.type[row, at]], at, int(spans.ends[row, at])) for at in begins}
        assert mine == set(get_entities(labels))


def test_labels_that_are_not_known_make_spans_that_are_never_found() -> None:
    truth, guess = np.array([[-1, -1, 0, -1]]), np.array([[1, 2, 0, 3]])
    real = np.ones((1, 4), bool)
    assert {k: int(v[0]) for k, v in BIO.counts(truth, real, guess, real).items()} == {"found": 0, "true": 2, "said": 2}


# the task


def build(field: dict, seed: int = 0, **wanted: object) -> Tag:
    torch.manual_seed(seed)
    return Tag(**({"field": field, "width_in": D, "inputs": ("x",)} | wanted))


def target(reader: Tags, cells: list) -> Target:
    samples = [reader.blank() if c is None else reader(c) for c in cells]
    data = {k: torch.from_numpy(np.stack([s[k] for s in samples])) for k in samples[0]}
    return Target(data, torch.tensor([c is not None for c in cells]))


def streams(counts: list[int], seed: int = 0) -> dict[str, Stream]:
    mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    tokens = torch.randn(*mask.shape, D, generator=torch.Generator().manual_seed(seed))
    return {"x": Stream(tokens * mask[..., None], mask)}


FUSED = Stream(torch.zeros(5, 1, D), torch.ones(5, 1, dtype=torch.bool))


@pytest.mark.parametrize("wanted", [{}, {"spans": "bio", "hidden": 4, "norm": "layer"}, {"label_smoothing": 0.2}])
def test_contract(wanted: dict) -> None:
    reader = Tags()
    field = reader.fit(NAMES)
    asked = target(reader, ["B-PER I-PER O", "O O", None, "B-NEW O O O", "O O O"])
    check_task(lambda: build(field, **wanted), streams([3, 2, 4, 4, 0]), FUSED, asked)


@pytest.mark.parametrize("read", [{"hop": 0.1, "window": 0.2, "covers": 2}, {}])
def test_contract_of_stretches(read: dict) -> None:
    reader = Tags()
    field = reader.fit(STRETCHES)
    new = [{"start": 0.1, "end": 0.4, "label": "new"}]
    asked = target(reader, [STRETCHES[0], "[]", None, new, STRETCHES[1]])
    check_task(lambda: build(field, fields={"x": read}), streams([6, 1, 4, 5, 0]), FUSED, asked)


def logits(*rows: str, classes: list, longest: int) -> torch.Tensor:
    made = torch.zeros(len(rows), longest, len(classes))
    for row, text in enumerate(rows):
        for at, label in enumerate(text.split()):
            made[row, at, classes.index(label)] = 9.0
    return made


def test_measures_by_hand_and_by_sklearn() -> None:
    reader = Tags()
    field = reader.fit([*NAMES, "O O O O O O"])
    task = build(field, spans="bio")
    truth = ["B-PER I-PER O B-LOC", "O B-LOC I-LOC O O", "B-LOC O B-PER B-PER O"]
    said = ["B-PER I-PER O O", "O B-LOC O O O", "B-LOC O B-PER"]
    answer = {"logits": logits(*said, classes=field["classes"], longest=5), "tokens": torch.tensor([4, 5, 3])}
    records = task.score(answer, target(reader, truth))
    found = {k: float(v[0]) for k, v in task.measure(records, np.ones((1, 3))).items()}
    t = [one for text in truth for one in text.split()]
    g = [one for text in said for one in text.split()] + ["none", "none"]
    assert found["accuracy"] == pytest.approx(np.mean(np.array(t) == np.array(g)))
    known = sk.f1_score(t, g, labels=field["classes"], average=None, zero_division=np.nan)
    assert found["macro_f1"] == pytest.approx(np.nanmean(known))
    assert found["unanswered"] == pytest.approx(2 / 14)
    assert (found["span_precision"], found["span_recall"]) == (pytest.approx(3 / 4), pytest.approx(3 / 6))
    assert found["span_f1"] == pytest.approx(6 / 10)
    assert records["error"].tolist() == pytest.approx([1 / 4, 1 / 5, 2 / 5])
    values = [p.value for p in task.predict(answer, [Row(i) for i in range(3)])]
    assert values == [text.split() for text in said]
    json.dumps(task.charts(records), allow_nan=False)


def test_a_token_answers_for_the_steps_it_covers() -> None:
    reader = Tags()
    field = reader.fit(["a b c d e"])
    task = build(field, fields={"x": {"covers": 2}})
    answer = {"logits": logits("a b", classes=field["classes"], longest=2), "tokens": torch.tensor([2])}
    for cell, right, lost in (("a a b", 3, 0), ("a b b", 2, 0), ("a a b b", 4, 0), ("a a b b b", 4, 1)):
        records = task.score(answer, target(reader, [cell]))
        assert (int(records["right"][0]), int(records["unanswered"][0])) == (right, lost), cell
    assert task.predict(answer, [Row(0)])[0].value == ["a", "a", "b", "b"]
    log_p = answer["logits"].log_softmax(2)
    a, b = (field["classes"].index(c) for c in "ab")
    expected = -(log_p[0, 0, a] + log_p[0, 0, b] + log_p[0, 1, b]) / 3
    asked = target(reader, ["a b b"])
    torch.testing.assert_close(task.loss(answer, asked, None)[0], expected)
    assert task.weight(asked).tolist() == [3.0]


def test_fewer_labels_than_steps_is_a_mistake_of_the_table() -> None:
    reader = Tags()
    field = reader.fit(["a b c"])
    task = build(field)
    given = streams([3, 2])
    with pytest.raises(UserError, match=r"1 of 2 rows .* 2 labels and 3 tokens"):
        task.loss(task(given, FUSED, None), target(reader, ["a b", "a b"]), None)
    longer = build(field, fields={"x": {"covers": 4}})
    asked = target(reader, ["a " * 9, "a " * 5])
    longer.loss(longer(given, FUSED, None), asked, None)  # 9 to 12 labels, 5 to 8
    with pytest.raises(UserError, match="tokens of 4 steps"):
        longer.loss(longer(given, FUSED, None), target(reader, ["a " * 8, "a " * 5]), None)
    task.loss(task(given, FUSED, None), target(reader, [None, "a b"]), None)  # what is not known is not compared


def test_stretches_by_the_centres_of_tokens() -> None:
    """Frames every 0.1 s, 0.2 s long, two to a token: the centres are at 0.15, 0.35, 0.55, ..."""
    reader = Tags()
    field = reader.fit(STRETCHES)
    task = build(field, fields={"x": {"hop": 0.1, "window": 0.2, "covers": 2}})
    cell = [{"start": 0.2, "end": 0.55, "label": "dog"}, {"start": 0.55, "end": 0.6, "label": "cat"}]
    given = streams([5])
    answer = task(given, FUSED, None)
    steps = task.steps(answer, target(reader, [cell]))
    assert [field["classes"][c] for c in steps.label[0]] == ["O", "dog", "cat", "O", "O"]
    answer = {"logits": logits("O dog cat cat O", classes=field["classes"], longest=5), "tokens": torch.tensor([5])}
    assert task.predict(answer, [Row(0)])[0].value == [
        {"start": pytest.approx(0.25), "end": pytest.approx(0.45), "label": "dog"},
        {"start": pytest.approx(0.45), "end": pytest.approx(0.85), "label": "cat"},
    ]
    by_step = build(field, fields={"x": {"covers": 2}})
    assert by_step.predict(answer, [Row(0)])[0].value == [
        {"start": 2.0, "end": 4.0, "label": "dog"},
        {"start": 4.0, "end": 8.0, "label": "cat"},
    ]


def test_labels_that_training_lacks_are_not_learned_and_never_right() -> None:
    reader = Tags()
    field = reader.fit(["a b c"])
    task = build(field).eval()
    given = streams([3])
    answer = task(given, Stream(torch.zeros(1, 1, D), torch.ones(1, 1, dtype=torch.bool)), None)
    new, log_p = target(reader, ["a new c"]), answer["logits"].log_softmax(2)[0]
    torch.testing.assert_close(task.loss(answer, new, None)[0], -(log_p[0, 0] + log_p[2, 2]) / 2)
    records = task.score(answer, new)
    assert records["have"][0].tolist() == [1, 0, 1, 1]
    assert records["hits"][0, 3] == 0
    assert records["error"][0] > 0.33


def test_settings_that_cannot_work() -> None:
    field = Tags().fit(NAMES)
    with pytest.raises(SpecError, match="single token"):
        build(field, fields={"x": {"covers": 0}})
    with pytest.raises(SpecError, match="B- or I-"):
        build(Tags().fit(["a b"]), spans="bio")
    with pytest.raises(SpecError, match="seconds"):
        build(Tags().fit(STRETCHES), unit="seconds", fields={"x": {}})
    assert Tag.target({"outside": "-", "hidden": 3}, Path()) == ("tags", {"outside": "-"})


def test_rows_without_labels_or_steps() -> None:
    reader = Tags()
    field = reader.fit(NAMES)
    task = build(field, spans="bio").eval()
    asked = target(reader, [[], "O B-LOC", None])
    answer = task(streams([1, 0, 2]), Stream(torch.zeros(3, 1, D), torch.ones(3, 1, dtype=torch.bool)), None)
    assert torch.isfinite(task.loss(answer, asked, None)).all()
    records = task.score(answer, asked)
    assert records["error"].tolist() == [0, 1]
    assert records["unanswered"].tolist() == [0, 2]
    nothing = task.predict(answer, [Row(i) for i in range(3)])[1]
    assert (nothing.value, nothing.confidence) == ([], None)
    found = task.measure(task.score(answer, target(reader, [None] * 3)), np.ones((1, 0)))
    assert all(np.isnan(v).all() for v in found.values())
