"""The task that says sentences: what it learns, what it says, what is measured."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from polymodal.core.build import build
from polymodal.core.errors import SpecError, UserError
from polymodal.core.spec_parts import PartSpec
from polymodal.core.streams import Row, Stream, Target
from polymodal.tasks.language import captioning
from polymodal.tasks.sentences import Sentences

CELLS: list[Any] = [["a red dog", "the dog"], ["two cats run"], ["a cat", "the red cat runs", "cats"], None]
WIDTH = 8


def made(cells: list[Any] = CELLS, **chosen: Any) -> tuple[Any, dict[str, Stream], Stream, Target]:
    chosen = {"min_count": 1, "decoder": {"type": "gru", "dropout": 0.0, "doubly_stochastic": 0.0}, **chosen}
    part = PartSpec("task", "caption", chosen, "tasks.said")
    from polymodal.tasks.caption import Caption

    name, wanted = Caption.target(chosen, Path())
    reader = build(PartSpec("target", name, wanted, "tasks.said.reader"))
    assert isinstance(reader, Sentences)
    field = reader.fit(c for c in cells if c is not None)
    torch.manual_seed(0)
    wired = {"field": field, "width": WIDTH, "width_in": WIDTH, "inputs": ("a", "b"), "files": Path(),
             "size": field["size"], "starts": len(field["languages"])}  # fmt: skip
    task = build(part, **wired)
    samples = [reader.blank() if c is None else reader(c) for c in cells]
    data = {n: torch.from_numpy(np.stack([s[n] for s in samples])) for n in samples[0]}
    mask = torch.arange(5) < torch.tensor([[5], [2], [3], [1]])[: len(cells)]
    streams = {"a": Stream(torch.randn(len(cells), 5, WIDTH) * mask[..., None], mask),
               "b": Stream(torch.randn(len(cells), 1, WIDTH), torch.ones(len(cells), 1, dtype=torch.bool))}  # fmt: skip
    fused = Stream(torch.randn(len(cells), 1, WIDTH), torch.ones(len(cells), 1, dtype=torch.bool))
    return task, streams, fused, Target(data, torch.tensor([c is not None for c in cells]))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_mean_over_references_of_that_per_token(smoothing: float) -> None:
    task, streams, fused, target = made(label_smoothing=smoothing)
    task.eval()
    found = task.loss(task(streams, fused, target), target, None)
    memory = task.memory(streams, fused)
    for row, cell in enumerate(CELLS[:3]):
        each = []
        for text in cell:
            ids = [*task.words.ids(text), task.field["end"]]
            given = torch.tensor([[task.field["size"], *ids[:-1]]])
            logits = task.decoder(Stream(memory.tokens[row : row + 1], memory.mask[row : row + 1]), given)[0]
            each.append(F.cross_entropy(logits, torch.tensor(ids), label_smoothing=smoothing))
        torch.testing.assert_close(found[row], torch.stack(each).mean())
    assert found[3] == 0
    assert task.weight(target).tolist() == [1, 1, 1, 0]


def test_the_memory_is_the_fused_token_then_the_inputs_each_with_its_mark() -> None:
    task, streams, fused, _ = made()
    memory = task.memory(streams, fused)
    marks = task.memory.marks.weight
    torch.testing.assert_close(memory.tokens[:, 0], fused.tokens[:, 0] + marks[0])
    torch.testing.assert_close(memory.tokens[1, 1:3], streams["a"].tokens[1, :2] + marks[1])
    assert not memory.tokens[1, 3:6].any()
    assert memory.mask[1].tolist() == [True, True, True, False, False, False, True]


def test_every_language_has_a_beginning_of_its_own() -> None:
    cells = [{"en": "a dog", "zh": "狗"}, {"en": "cats", "zh": None}, {"en": None, "zh": "猫"}, None]
    task, streams, fused, target = made(cells, languages=True)
    assert task.says == ("confidence", "zh")
    optimizer = torch.optim.Adam(task.parameters(), 0.05)
    for _ in range(80):
        optimizer.zero_grad()
        loss = (task.loss(task(streams, fused, target), target, None) * task.weight(target)).sum()
        loss.backward()
        optimizer.step()
    task.eval()
    answer = task.respond(streams, fused)
    said = task.predict(answer, [Row(i) for i in range(4)])
    assert (said[0].value, said[0].more["zh"]) == ("a dog", "狗")
    assert said[1].value == "cats"
    assert said[2].more["zh"] == "猫"
    records = task.score(answer, target)
    assert records["known"].tolist() == [True, True, False]
    assert records["known_zh"].tolist() == [True, False, True]
    measures = task.measure(records, np.ones((1, 3)))
    assert measures["bleu_1"][0] == pytest.approx(1.0)
    assert measures["bleu_1_zh"][0] == pytest.approx(1.0)


def test_measures_are_those_of_the_texts() -> None:
    task, streams, fused, target = made()
    task.eval()
    answer = task.respond(streams, fused)
    records = task.score(answer, target)
    said = [p.value for p in task.predict(answer, [Row(i) for i in range(4)])][:3]
    expected = captioning.measure(captioning.records(said, CELLS[:3]), np.ones((1, 3)))
    measured = task.measure(records, np.ones((1, 3)))
    assert measured.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(measured[name], value)
    np.testing.assert_allclose(records["error"], 1 - records["rouge_l"])


def test_options_of_answering_and_their_mistakes() -> None:
    task, streams, fused, _ = made()
    task.eval()
    one, two = (task.respond(streams, fused, search="beam", beams=n) for n in (1, 6))
    assert (two["score"] / two["length"] >= one["score"] / one["length"] - 1e-5).all()
    assert task.respond(streams, fused, max_tokens=1)["length"].max() == 1
    assert task.search.way == "greedy", "options are for one time"
    for options, said in [
        ({"beam": 2}, "no option of this name"),
        ({"beams": 0}, "out of range"),
        ({"beams": "two"}, "beams"),
    ]:
        with pytest.raises((UserError, SpecError), match=said):
            task.respond(streams, fused, **options)


def test_what_is_drawn_is_a_function_of_the_rows_key() -> None:
    task, streams, fused, _ = made()
    task.eval()
    key = torch.tensor([5, 6, 7, 8])
    whole = task.respond(streams, fused, key=key, search="sample")["ids"]
    assert torch.equal(whole, task.respond(streams, fused, key=key, search="sample")["ids"])
    assert not torch.equal(whole, task.respond(streams, fused, key=key + 9, search="sample")["ids"])
    for row in range(4):
        own = {n: Stream(s.tokens[row : row + 1], s.mask[row : row + 1]) for n, s in streams.items()}
        only = Stream(fused.tokens[row : row + 1], fused.mask[row : row + 1])
        alone = task.respond(own, only, key=key[row : row + 1], search="sample")
        assert torch.equal(alone["ids"][0], whole[row])


def test_scheduled_sampling_begins_with_the_truth() -> None:
    plain, streams, fused, target = made()
    mixed, *_ = made(scheduled_sampling=1.0)
    mixed.load_state_dict(plain.state_dict())
    with torch.no_grad():
        truth = plain.train()(streams, fused, target)["loss"]
        mixed.train().progress(0.0)
        torch.testing.assert_close(mixed(streams, fused, target)["loss"], truth)
        mixed.progress(1.0)
        assert (mixed(streams, fused, target)["loss"] - truth).abs().max() > 1e-4
        torch.testing.assert_close(
            mixed.eval()(streams, fused, target)["loss"], plain.eval()(streams, fused, target)["loss"]
        )


def test_a_decoder_that_always_says_the_truth_reads_the_truth_when_it_reads_itself() -> None:
    task, streams, fused, target = made()
    own = target.data["ids"][:2, 0]
    given = torch.cat([torch.full((2, 1), task.field["size"]), own[:, :-1]], 1)

    class Knows(torch.nn.Module):
        def forward(self, memory: Any, ids: torch.Tensor) -> torch.Tensor:
            return F.one_hot(own, task.field["size"]).float()

    task.decoder, task.scheduled, task.done = Knows(), 1.0, 1.0
    assert torch.equal(task._mixed(task.memory(streams, fused), given), given)


def test_self_critical_training_raises_the_reward() -> None:
    cells = [["a red dog", "the red dog"], ["two cats run"], ["a cat sleeps here"], ["the bird sings"]]
    task, streams, fused, target = made(cells, self_critical=0.0)
    assert task.field["documents"] == 4

    def reward() -> float:
        task.eval()
        ids = task.respond(streams, fused)["ids"][:, 0]
        task.train()
        return float(task.critic(ids, cells).mean())

    torch.manual_seed(0)
    optimizer = torch.optim.Adam(task.parameters(), 0.01)
    task.done = -1.0  # cross-entropy first
    for step in range(160):
        task.done = -1.0 if step < 12 else 1.0
        before = reward() if step == 12 else None if step else 0.0
        start = before if step == 12 else start if step > 12 else 0.0
        optimizer.zero_grad()
        task.loss(task(streams, fused, target), target, None).sum().backward()
        optimizer.step()
    assert reward() > start + 0.1


def test_where_it_looked_adds_up_and_belongs_to_the_inputs() -> None:
    task, streams, fused, _ = made()
    task.eval()
    answer = task.respond(streams, fused)
    found = task.looks(streams, fused, answer)
    assert {n: w.shape[2] for n, w in found.items()} == {"a": 5, "b": 1}
    memory = task.memory(streams, fused)
    given = torch.cat([torch.full((4, 1), task.field["size"]), answer["ids"][:, 0, :-1]], 1)
    looked = task.decoder.look(memory, given)
    torch.testing.assert_close(looked.sum(2), torch.ones(looked.shape[:2]))
    torch.testing.assert_close(found["a"], looked[..., 1:6])
    assert not found["a"][1, :, 2:].any(), "padding is not looked at"


def test_a_row_without_any_reference_changes_no_gradient() -> None:
    task, streams, fused, target = made([["a dog"], None, None, None])
    loss = task.loss(task(streams, fused, target), target, None)
    assert loss[1:].tolist() == [0, 0, 0]
    nothing = Target({n: torch.zeros_like(v) for n, v in target.data.items()}, torch.zeros(4, dtype=torch.bool))
    task(streams, fused, nothing)["loss"].sum().backward()
