"""CTC against all alignments written out, the contract of every way, decoding, measures by hand, what is said aloud."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from polymodal.core.checks import check_target, check_task, streams_like
from polymodal.core.errors import SpecError, UserError
from polymodal.core.schema import check_settings
from polymodal.core.streams import Row, Stream, Target
from polymodal.decoders.recurrent import GRUDecoder
from polymodal.tasks import ctc
from polymodal.tasks.sentences import Sentences
from polymodal.tasks.speller import PATIENCE
from polymodal.tasks.transcribe import READER, Transcribe

D = 6
TEXTS = ["one two", "two", "three one", "one one"]


def frames(rows: int, steps: int, classes: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, steps, classes, generator=torch.Generator().manual_seed(seed)).log_softmax(2)


def every_text(log_p: Tensor) -> dict[tuple[int, ...], float]:
    """The probability of each text, summed over all paths, one by one."""
    found: dict[tuple[int, ...], float] = defaultdict(float)
    steps, classes = log_p.shape
    for path in itertools.product(range(classes), repeat=steps):
        merged = [sign for sign, _ in itertools.groupby(path)]
        found[tuple(s for s in merged if s)] += math.exp(sum(float(log_p[t, c]) for t, c in enumerate(path)))
    return found


STEPS = torch.tensor([4, 2, 3, 1])


def test_the_loss_sums_all_alignments() -> None:
    log_p = frames(4, 4, 3)
    texts = [(1, 2), (2,), (1, 1), ()]
    labels = torch.tensor([[*t, 0, 0, 0][:3] for t in texts])
    found = ctc.surprise(log_p, STEPS, labels, torch.tensor([len(t) for t in texts]))
    for row, text in enumerate(texts):
        expected = -math.log(every_text(log_p[row, : STEPS[row]])[text])
        assert found[row].item() == pytest.approx(expected, abs=1e-5)


def test_a_text_without_steps_enough_has_no_loss_and_no_gradient() -> None:
    log_p = frames(3, 3, 3).requires_grad_()
    labels, length = torch.tensor([[1, 1, 0], [1, 1, 2], [1, 2, 1]]), torch.tensor([2, 3, 3])
    assert ctc.needed(labels, length).tolist() == [3, 4, 3]  # a blank between two that are alike
    found = ctc.surprise(log_p, torch.tensor([3, 3, 3]), labels, length)
    found.sum().backward()
    assert found[1] == 0
    assert (found[[0, 2]] > 0).all()
    assert not log_p.grad[1].any()
    assert log_p.grad[0].any()


def test_the_likeliest_path() -> None:
    path = torch.tensor([[0, 1, 1, 0, 1, 2], [2, 2, 2, 1, 1, 2], [0, 0, 0, 0, 0, 1]])
    log_p = torch.nn.functional.one_hot(path, 3).float().mul(5).log_softmax(2)
    steps = torch.tensor([6, 4, 5])
    said = ctc.best_path(log_p, steps)
    assert [row[:n].tolist() for row, n in zip(said.labels, said.length.tolist(), strict=True)] == [
        [1, 1, 2],
        [2, 1],
        [],
    ]
    assert not said.labels[1, 2:].any()
    sure = log_p.max(2).values[0, 0].item()
    torch.testing.assert_close(said.score, sure * steps.float())


def test_prefix_search_with_room_for_all_is_exact() -> None:
    log_p = frames(4, 4, 3, seed=1)
    found = ctc.prefix_search(log_p, STEPS, 40)
    for row in range(4):
        exact = every_text(log_p[row, : STEPS[row]])
        there = torch.isfinite(found.score[row])
        texts, lengths, scores = (x[row][there].tolist() for x in found)
        said = {tuple(t[:n]): math.exp(s) for t, n, s in zip(texts, lengths, scores, strict=True)}
        assert said.keys() == exact.keys()
        assert all(said[text] == pytest.approx(p, abs=1e-6) for text, p in exact.items())
        assert (found.score[row].diff()[there[1:]] <= 0).all()  # the likeliest first


def test_beams_find_what_the_best_path_misses() -> None:
    """Graves 2006, figure 2: the likeliest path says nothing, though saying something is likelier."""
    log_p = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]]).log()
    steps = torch.tensor([2])
    assert ctc.best_path(log_p, steps).length.tolist() == [0]
    found = ctc.prefix_search(log_p, steps, 2)
    assert found.labels[0, 0].tolist() == [1, 0]
    assert found.score[0, 0].exp().item() == pytest.approx(0.64)


@pytest.mark.parametrize("seed", range(5))
def test_few_beams_give_a_row_what_it_has_by_itself(seed: int) -> None:
    log_p, steps = frames(5, 9, 5, seed), torch.tensor([9, 3, 5, 1, 7])
    whole = ctc.prefix_search(log_p, steps, 3)
    exact = [every_text(log_p[row, : int(steps[row])]) for row in (1, 3)]
    for row in range(5):
        n = int(steps[row])
        alone = ctc.prefix_search(log_p[row : row + 1, :n], steps[row : row + 1], 3)
        assert torch.equal(whole.labels[row, :, :n], alone.labels[0])
        torch.testing.assert_close(whole.score[row], alone.score[0])
    for row, texts in zip((1, 3), exact, strict=True):
        for text, n, score in zip(whole.labels[row], whole.length[row].tolist(), whole.score[row].exp(), strict=True):
            assert score <= texts[tuple(text[:n].tolist())] + 1e-6  # never more than all paths together


# the task


def reader_of(texts: list = TEXTS, **settings: object) -> Sentences:
    reader = Sentences(**(READER | settings))
    reader.fit(texts)
    return reader


def decoder(field: dict, width: int = D) -> nn.Module:
    return GRUDecoder(width=width, size=field["size"], starts=1, dropout=0.0)


def build(reader: Sentences, seed: int = 0, inputs: tuple[str, ...] = ("x",), **settings: object) -> Transcribe:
    torch.manual_seed(seed)
    field = reader.field
    speaks = {} if settings.get("way", "ctc") == "ctc" else {"decoder": decoder(field, int(settings.get("width", D)))}
    wired = {"field": field, "width": D, "width_in": D, "inputs": inputs}
    return Transcribe(**(wired | speaks | settings))


def target(reader: Sentences, cells: list) -> Target:
    samples = [reader.blank() if c is None else reader(c) for c in cells]
    data = {k: torch.from_numpy(np.stack([s[k] for s in samples])) for k in samples[0]}
    return Target(data, torch.tensor([c is not None for c in cells]))


def streams(rows: int = 6, steps: int = 14) -> dict[str, Stream]:
    """The second row has no sound, the last one too few steps for its text."""
    g = torch.Generator().manual_seed(0)
    count = torch.tensor([steps, 0, 9, steps - 1, 12, 2][:rows])
    mask = torch.arange(steps) < count[:, None]
    return {"x": Stream(torch.randn(rows, steps, D, generator=g) * mask[..., None], mask)}


ASKED = ["one two", "two", None, "three one", ["one", "one one"], "three"]
WAYS = [
    {},
    {"search": "beam", "beams": 3, "norm": "layer"},
    {"way": "attention"},
    {"way": "attention", "search": "beam", "beams": 2},
    {"way": "both"},
    {"way": "both", "search": "beam", "beams": 3, "width": 8},
]


@pytest.mark.parametrize("settings", WAYS)
def test_contract(settings: dict) -> None:
    reader = reader_of()
    fused = Stream(torch.zeros(6, 1, D), torch.ones(6, 1, dtype=torch.bool))
    check_task(lambda: build(reader, **settings), streams(), fused, target(reader, ASKED))


def test_the_target_is_read_sign_by_sign() -> None:
    name, wanted = Transcribe.target({"max_tokens": 9}, Path())
    assert (name, wanted["tokenizer"], wanted["max_tokens"]) == ("sentences", "char", 9)
    check_target(lambda: Sentences(**wanted), TEXTS, [None, "", []])


def test_ctc_loss_is_that_of_the_text_per_sign() -> None:
    reader = reader_of()
    task, asked = build(reader), target(reader, ASKED)
    answer = task(streams(), None, asked)
    loss = task.loss(answer, asked, None)
    known = [reader.field["end"], reader.field["pad"], reader.field["unknown"]]
    assert answer["logits"].shape[2] == 1 + reader.field["size"] - len(set(known))
    signs = {int(token): place for place, token in enumerate(task.speller.token.tolist()) if place}
    ids = asked.data["ids"][0, 0, : int(asked.data["length"][0, 0]) - 1].tolist()
    assert len(ids) == len("one two")
    expected = torch.nn.functional.ctc_loss(
        answer["logits"][0, :, None].log_softmax(2),
        torch.tensor([[signs[i] for i in ids]]),
        (14,),
        (len(ids),),
        reduction="none",
    )
    assert loss[0].item() == pytest.approx(expected.item() / len(ids), rel=1e-5)
    assert loss[5] == 0  # "three" in two steps
    records = task.score(task.respond(streams(), None), asked)
    assert records["unreachable"].tolist() == [False, True, False, False, True]  # "two" without a sound: one step
    assert task.measure(records, np.ones((1, 5)))["too_few_steps"] == pytest.approx(0.4)


def test_hybrid_loss_is_between_the_two() -> None:
    reader = reader_of()
    asked, given = target(reader, ASKED), streams()
    both = build(reader, way="both", ctc_share=0.25).eval()
    answer = both(given, None, asked)
    mixed, decoded = both.loss(answer, asked, None), answer["taught"]
    spelled = both.speller.loss(answer, asked)
    torch.testing.assert_close(mixed, 0.25 * spelled + 0.75 * decoded)
    ids, length = asked.data["ids"][:, 0], asked.data["length"][:, 0]
    start = torch.full((6, 1), reader.field["size"])
    memory = both._memory(*both._heard(given))
    fed = torch.cat([start, ids[:, :-1]], 1)
    log_p = both.decoder(memory, fed).log_softmax(2)
    n = int(length[3])
    mean = -sum(log_p[3, t, ids[3, t]] for t in range(n)) / n
    own = both.decoder.penalty(memory, fed, torch.arange(ids.shape[1]) < length[:, None])[3]
    assert own > 0
    torch.testing.assert_close(decoded[3], mean + own, rtol=1e-4, atol=1e-5)


def test_rescoring_takes_the_best_of_both() -> None:
    """Every text that CTC offers, scored by both heads one at a time."""
    reader = reader_of()
    task = build(reader, way="both", search="beam", beams=4, ctc_share=0.5).eval()
    given = streams()
    with torch.no_grad():
        answer = task.respond(given, None)
        heard, steps = task._heard(given)
        log_p = answer["logits"].log_softmax(2)
        found = ctc.prefix_search(log_p, steps, 4)
        best, scores = task.speller.said(answer, 4)
        assert torch.equal(best.labels, found.labels)
        for row in (0, 2, 3, 4):
            rated = []
            for k in range(4):
                labels, n = found.labels[row, k], int(found.length[row, k])
                exact = -ctc.surprise(log_p[row : row + 1], steps[row : row + 1], labels[None], torch.tensor([n]))
                assert scores[row, k] == pytest.approx(exact.item(), abs=1e-4)
                tokens = [*task.speller.token[labels[:n]].tolist(), reader.field["end"]]
                memory = task._memory(heard[row : row + 1], steps[row : row + 1])
                fed = torch.tensor([[reader.field["size"], *tokens[:-1]]])
                own = task.decoder(memory, fed)[0].log_softmax(1)
                decoded = sum(own[t, token].item() for t, token in enumerate(tokens))
                rated.append((0.5 * exact.item() + 0.5 * decoded, tokens[:-1]))
            said = answer["ids"][row].tolist()
            assert said[: said.index(reader.field["end"])] == max(rated)[1]


def test_options_replace_the_search_once() -> None:
    reader = reader_of()
    task = build(reader).eval()
    one, two = task.respond(streams(), None), task.respond(streams(), None, search="beam", beams=5)
    beams = build(reader, search="beam", beams=5).eval()
    beams.load_state_dict(task.state_dict())
    assert torch.equal(two["ids"], beams.respond(streams(), None)["ids"])
    assert (two["confidence"] >= one["confidence"] - 1e-6).any()
    decoded = build(reader, way="attention").eval()
    drawn = [decoded.respond(streams(), None, key=torch.arange(6) + n, search="sample")["ids"] for n in (0, 0, 9)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    with pytest.raises(UserError, match="no option"):
        task.respond(streams(), None, beam=5)


def test_measures_by_hand() -> None:
    reader = reader_of([*TEXTS, ["two", "one"]])
    task = build(reader)
    asked = target(reader, ["one two", "three one", None, ["two", "one one"]])
    words = ["one too", "three one", "two", "one"]
    longest = max(map(len, words)) + 1
    ids = torch.full((4, longest), reader.field["end"])
    table = {reader._words.tokenizer.id_to_token(i): i for i in range(reader.field["size"] - 1)}
    for row, text in enumerate(words):
        ids[row, : len(text)] = torch.tensor([table[c] for c in text])
    answer = {
        "ids": ids,
        "confidence": torch.tensor([0.5, 0.9, 0.1, 0.4]),
        "logits": torch.zeros(4, 30, 5),
        "steps": torch.full((4,), 30),
    }
    records = task.score(answer, asked)
    found = task.measure(records, np.ones((1, 3)))
    assert found["wer"] == pytest.approx((1 + 0 + 1) / (2 + 2 + 2))  # "one" is nearer to "one one" than to "two"
    assert found["exact_match"] == pytest.approx(1 / 3)
    assert records["char_edits"].tolist()[:2] == [1, 0]
    assert [p.value for p in task.predict(answer, [Row(i) for i in range(4)])] == words
    sure, right = task.certainty(records)
    assert sure.tolist() == pytest.approx([0.5, 0.9, 0.4])
    assert right.tolist() == [False, True, False]


def test_what_was_never_heard_cannot_be_said() -> None:
    reader = reader_of()
    task = build(reader)
    asked = target(reader, ["one x two", "xx", None])
    _, length = task.speller.labels(asked)
    assert length.tolist()[:2] == [len("one  two"), 0]
    assert torch.isfinite(task.loss(task(streams(3), None, asked), asked, None)).all()


def test_training_that_cannot_work_says_so() -> None:
    reader = reader_of()
    task = build(reader).train()
    few = {"x": Stream(torch.randn(50, 1, D), torch.ones(50, 1, dtype=torch.bool))}
    asked = target(reader, ["one two"] * 50)
    for _ in range(PATIENCE // 50 - 1):
        task.loss(task(few, None, asked), asked, None)
    with pytest.raises(UserError, match="stride"):
        task.loss(task(few, None, asked), asked, None)
    task.eval()
    task.loss(task(few, None, asked), asked, None)  # who only measures is told by `too_few_steps`


def test_a_letter_a_step_is_learned() -> None:
    """Steps that hold their letter and noise between: CTC finds where the letters are."""
    reader = reader_of(["abc", "cab", "bca", "aab"])
    torch.manual_seed(0)
    task = build(reader)
    texts = ["abc", "cab", "bca", "aab"] * 2
    x = torch.zeros(8, 8, D)
    for row, text in enumerate(texts):
        for at, letter in enumerate(text):
            x[row, 2 * at + row // 4, "abc".index(letter)] = 1.0
    given = {"x": Stream(x, torch.ones(8, 8, dtype=torch.bool))}
    asked = target(reader, texts)
    optimizer = torch.optim.Adam(task.parameters(), 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        task.loss(task(given, None, asked), asked, None).mean().backward()
        optimizer.step()
    said = task.eval().predict(task.respond(given, None), [Row(i) for i in range(8)])
    assert [p.value for p in said] == texts
    assert all(p.confidence is not None and p.confidence > 0.8 for p in said)


def test_which_input_is_heard() -> None:
    reader = reader_of()
    fields = {"photo": {"size": [8, 8]}, "sound": {"bands": 8}, "note": {"tokenizer": "{}"}}
    assert build(reader, inputs=tuple(fields), fields=fields).input == "sound"
    assert build(reader, inputs=("note",), fields=fields).input == "note"
    assert build(reader, inputs=tuple(fields), fields=fields, input="note").input == "note"
    with pytest.raises(SpecError, match="which of the inputs"):
        build(reader, inputs=("photo", "note"), fields=fields)
    with pytest.raises(SpecError, match="no input of this name"):
        build(reader, inputs=tuple(fields), fields=fields, input="sounds")


def test_a_decoder_where_it_belongs() -> None:
    reader = reader_of()
    with pytest.raises(SpecError, match="is needed"):
        build(reader, way="both", decoder=None)
    with pytest.raises(SpecError, match="does not go"):
        build(reader, decoder=decoder(reader.field))
    check_settings(Transcribe, {"decoder": {"type": "gru"}, "way": "attention"}, "tasks.text")


def test_several_columns_are_heard_one_after_the_other() -> None:
    """Gaps between the real steps of a row are closed: the same as without them."""
    reader = reader_of()
    task = build(reader).eval()
    whole = streams_like(["x"], D)["x"]
    scattered = torch.zeros(4, 9, D), torch.zeros(4, 9, dtype=torch.bool)
    places = torch.tensor([1, 4, 6])[: whole.mask.shape[1]]
    for into, x in zip(scattered, (whole.tokens, whole.mask), strict=True):
        into[:, places] = x
    one, two = task.respond({"x": whole}, None), task.respond({"x": Stream(*scattered)}, None)
    torch.testing.assert_close(one["confidence"], two["confidence"])
    assert task._texts(one["ids"]) == task._texts(two["ids"])
