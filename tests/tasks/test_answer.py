"""Answers to questions: what the reader makes of a cell, soft targets and their losses, measures by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from polymodal.core import catalog
from polymodal.core.build import build
from polymodal.core.checks import check_target, check_task
from polymodal.core.errors import BadCell, SpecError, TableError
from polymodal.core.spec_parts import PartSpec
from polymodal.core.streams import Row, Stream, Target
from polymodal.tasks.answer import Answer
from polymodal.tasks.answers import PEOPLE, Answers
from polymodal.tasks.reply import Reply
from polymodal.tasks.sentences import texts_of

D = 5
TRAIN = ["2 dogs", "two dogs", "Two dogs.", ["yes", "yes", "no"], "yes", '["red", "a red"]', "cup, book", 3]
GIVEN = ["two dogs", ["yes", "no", "no", "yes", "blue"], None, "a whale", ["whale", "yes"], ["whale"] * 3]


def made(cells: list, most: int = 1000, **settings: object) -> tuple[Answer, Answers]:
    reader = Answers(most=most)
    field = reader.fit(cells)
    torch.manual_seed(0)
    return Answer(field=field, width=D, inputs=("x",), **settings), reader


def collate(reader: Answers, cells: list) -> Target:
    samples = [reader.blank() if c is None else reader(c) for c in cells]
    data = {k: torch.from_numpy(np.stack([s[k] for s in samples])) for k in samples[0]}
    return Target(data, torch.tensor([c is not None for c in cells]))


def fused(rows: int) -> Stream:
    x = torch.randn(rows, 1, D, generator=torch.Generator().manual_seed(0))
    return Stream(x, torch.ones(rows, 1, dtype=torch.bool))


def sure_of(classes: list[int], size: int) -> dict[str, torch.Tensor]:
    return {"logits": 9.0 * F.one_hot(torch.tensor(classes), size).float()}


def test_answers_that_say_the_same_are_one_and_the_most_frequent_come_first() -> None:
    field = Answers().fit(TRAIN)
    assert field["classes"] == ["2 dogs", "yes", "red", "3", "cup, book", "no"]
    assert field["counts"] == [3, 3, 2, 1, 1, 1]
    assert (field["people"], field["rows"]) == (11, 8)
    assert Answers(most=2).fit(TRAIN)["classes"] == field["classes"][:2]
    json.dumps(field, allow_nan=False)
    assert Answers(min_count=2).fit(TRAIN)["classes"] == field["classes"][:3]
    with pytest.raises(TableError, match="no answer was given by 4 people"):
        Answers(min_count=4).fit(TRAIN)


def test_an_answer_is_written_as_most_people_wrote_it() -> None:
    assert Answers().fit(["The Cup", "cup!", "a cup", "cup!"])["classes"] == ["cup!"]
    assert Answers().fit(["the b", "b", "a b"])["classes"] == ["b"]  # equals: the shortest


def test_several_columns_are_several_people() -> None:
    reader = Answers()
    reader.fit([{"one": "yes", "two": "no", "three": None}, {"one": "yes", "two": ["yes", "no"]}])
    assert reader({"one": "no", "two": "yes", "three": "yes"})["share"].tolist() == pytest.approx([2 / 3, 1 / 3])


def test_the_share_of_the_people_is_the_target() -> None:
    _, reader = made(TRAIN)
    sample = reader(["Yes!", "no", "no", "yes", "blue"])
    assert sample["share"].tolist() == pytest.approx([0, 0.4, 0, 0, 0, 0.4])
    assert int(sample["class"]) == 1  # yes was said first
    unseen = reader(["whale", "yes", "whale"])
    assert int(unseen["class"]) == -1
    assert unseen["share"].tolist() == pytest.approx([0, 1 / 3, 0, 0, 0, 0])
    assert texts_of(sample["text"][None]) == [["Yes!", "no", "no", "yes", "blue"]]


def test_what_does_not_fit_is_cut_and_stays_wrong() -> None:
    reader = Answers()
    reader.fit(["yes", "no"])
    assert sum(map(bool, texts_of(reader(["yes"] * 30)["text"][None])[0])) == PEOPLE
    (kept,) = texts_of(reader("yes " * 1000)["text"][None])[0]
    assert kept.startswith("yes yes")
    assert int(reader("yes " * 1000)["class"]) == -1


def test_contracts() -> None:
    check_target(Answers, TRAIN, bad=[None, [], "", "the", b"yes", [None]])
    _, reader = made(TRAIN)
    for settings in ({}, {"loss": "binary"}, {"hidden": 7, "label_smoothing": 0.1, "norm": "layer"}):
        check_task(lambda s=settings: made(TRAIN, **s)[0], {}, fused(6), collate(reader, GIVEN))
    with pytest.raises(TableError, match="no training row holds an answer"):
        Answers().fit(["", []])
    with pytest.raises(BadCell, match="holds no answer"):
        reader("an")


def test_the_soft_loss_is_the_cross_entropy_with_the_known_shares() -> None:
    task, reader = made(TRAIN)
    target = collate(reader, GIVEN)
    answer = task({}, fused(6), target)
    known = [0, 1, 4]
    q = torch.zeros(3, 6)
    q[0, 0], q[1, 1], q[1, 5], q[2, 1] = 1, 0.5, 0.5, 1  # blue and whale are never trained on
    expected = F.cross_entropy(answer["logits"][known], q, reduction="none")
    torch.testing.assert_close(task.loss(answer, target, None)[known], expected)
    assert task.weight(target).tolist() == [1, 1, 0, 0, 1, 0]
    smooth, _ = made(TRAIN, label_smoothing=0.2)
    expected = F.cross_entropy(answer["logits"][known], q, reduction="none", label_smoothing=0.2)
    torch.testing.assert_close(smooth.loss(answer, target, None)[known], expected)


def test_the_binary_loss_is_the_sum_over_the_answers() -> None:
    task, reader = made(TRAIN, loss="binary")
    target = collate(reader, GIVEN)
    answer = task({}, fused(6), target)
    expected = F.binary_cross_entropy_with_logits(answer["logits"], target.data["share"], reduction="none").sum(1)
    torch.testing.assert_close(task.loss(answer, target, None), expected)


def test_unseen_answers_have_no_gradient() -> None:
    task, reader = made(TRAIN)
    target = collate(reader, ["a whale", "a shark"])
    answer = task({}, fused(2), target)
    (task.loss(answer, target, None) * task.weight(target)).sum().backward()
    assert not any(p.grad.any() for p in task.parameters())


def test_measures_by_hand() -> None:
    task, reader = made(TRAIN)
    #                2 dogs     yes (2 of 5 people)   none      never seen   yes (1 of 2)      never seen
    target, answer = collate(reader, GIVEN), sure_of([0, 1, 1, 2, 1, 0], 6)
    records = task.score(answer, target)
    found = {name: float(v[0]) for name, v in task.measure(records, np.ones((1, 5))).items()}
    two_of_five = (2 * min(1 / 3, 1) + 3 * min(2 / 3, 1)) / 5
    one_of_two = (1 * 0 + 1 * min(1 / 3, 1)) / 2
    assert found["vqa_accuracy"] == pytest.approx((1 + two_of_five + 0 + one_of_two + 0) / 5)
    assert found["exact_match"] == pytest.approx(3 / 5)
    assert found["in_reach"] == pytest.approx(3 / 5)
    assert next(iter(found)) == task.metric
    assert "wups_09" not in found
    assert records["error"].argmax() in (2, 3, 4)  # none of the people's favourite answers could be given


def test_wups_forgives_near_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    from polymodal.tasks import answering

    class Near:
        @staticmethod
        def similarity(one: str, two: str) -> float:
            return 1.0 if one == two else 0.95 if {one, two} == {"sofa", "couch"} else 0.2

    monkeypatch.setattr(answering, "wordnet", Near)
    task, reader = made(["sofa", "lamp"], wups=True)
    records = task.score(sure_of([1, 0, 1], 2), collate(reader, ["couch", "sofa", "lamp"]))
    found = {name: float(v[0]) for name, v in task.measure(records, np.ones((1, 3))).items()}
    assert found["wups_09"] == pytest.approx((0.95 + 0.02 + 0.02) / 3)
    assert found["wups_00"] == pytest.approx((0.95 + 0.2 + 0.2) / 3)
    assert found["exact_match"] == 0


def test_the_answer_is_given_as_it_was_written() -> None:
    task, _ = made(TRAIN)
    (one,) = task.predict(sure_of([4], 6), [Row(0)])
    assert one.value == "cup, book"
    assert one.confidence == pytest.approx(1 / (1 + 5 * np.exp(-9)))


def test_records_of_another_list_of_answers() -> None:
    """What leaving groups out needs: two lists, one table."""
    small, reader = made(["yes", "no", "yes"])
    whole, wide = made(["yes", "red", "no"])
    cells = ["yes", "red", "no"]
    records = small.score(sure_of([0, 1, 1], 2), collate(reader, cells))
    samples = [wide(c) for c in cells]
    target = {k: np.stack([s[k] for s in samples]) for k in samples[0]}
    moved = whole.align(records, reader.field, target)
    assert whole.classes == ["no", "red", "yes"]
    assert moved["label"].tolist() == [2, 1, 0]
    assert moved["probabilities"].argmax(1).tolist() == [2, 0, 0]
    assert float(whole.measure(moved, np.ones((1, 3)))["vqa_accuracy"][0]) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", ["answer", "reply"])
def test_a_question_that_is_no_input(name: str) -> None:
    field = Answers().fit(TRAIN) if name == "answer" else None
    target, wanted = catalog.load("task", name, "type").target({}, Path())
    reader = build(PartSpec("target", target, wanted, "reader"))
    field = reader.fit(TRAIN)
    words = {"size": field["size"], "starts": 1} if name == "reply" else {}
    wired = {"field": field, "width": 8, "width_in": 8, **words}
    part = PartSpec("task", name, {"question": "wuestion"}, "tasks.t")
    with pytest.raises(SpecError, match="'question'"):
        build(part, inputs=("picture", "question"), **wired)
    build(part, inputs=("picture",), **wired)  # a model of one input alone


def test_the_catalogue() -> None:
    assert catalog.load("task", "answer", "type") is Answer
    assert catalog.load("task", "reply", "type") is Reply
    assert Answer.target({}, Path()) == ("answers", {})
    assert Answer.target({"answers": 3, "min_count": 2}, Path()) == ("answers", {"most": 3, "min_count": 2})
    wanted = {"min_count": 1, "max_tokens": 5, "at_least": PEOPLE}
    assert Reply.target({"max_tokens": 5}, Path()) == ("sentences", wanted)
