"""Late fusion as a task: contract, what it learns from, that nobody learns from another input, what is missing."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from examples import assembled, load
from polymodal.core.checks import check_task, streams_like
from polymodal.core.contracts import Bounded, Calibrated, Joinable, Selective
from polymodal.core.errors import SpecError
from polymodal.core.spec import parse
from polymodal.core.streams import Stream, Streams, Target
from polymodal.fusion.decision.average import Average
from polymodal.fusion.decision.product import Product
from polymodal.fusion.decision.stack import Stack
from polymodal.fusion.decision.vote import Vote
from polymodal.model import withhold
from polymodal.tasks.alone import Alone, Probes, shares
from polymodal.tasks.classify import Classify
from polymodal.tasks.late import Late
from polymodal.tasks.regress import Regress

NAMES, D = ("a", "b.c", "0"), 6
RULES = {"average": Average, "product": Product, "vote": Vote, "stack": Stack}
FIELD = {"classes": ["p", "q", "r"], "counts": [1, 2, 3], "rows": 6}
NUMBER = {"mean": 10.0, "std": 2.0, "log": False}
TASKS = {
    "class": lambda n: Classify(field=FIELD, width=D, inputs=(n,), hidden=4, label_smoothing=0.1),
    "classes": lambda n: Classify(field=FIELD, width=D, inputs=(n,), multi=True),
    "value": lambda n: Regress(field=NUMBER, width=D, inputs=(n,)),
}
TARGETS = {
    "class": {"class": torch.tensor([0, 2, -1, 1, 2])},
    "classes": {"classes": torch.eye(3)[[0, 1, 2, 2, 0]], "unseen": torch.tensor([0, 1, 0, 0, 0])},
    "value": {"value": torch.tensor([0.1, -2.0, 1.0, 0.3, 0.0])},
}
each = pytest.mark.parametrize(("rule", "kind"), [(r, k) for r in RULES for k in TASKS])


def late(rule: str, kind: str, names: tuple[str, ...] = NAMES, seed: int | None = 0) -> Late:
    if seed is not None:
        torch.manual_seed(seed)
    alone = Alone({n: TASKS[kind](n) for n in names})
    return Late(alone=alone, decision=RULES[rule](inputs=names, kind=kind, size=alone.first.size))


def target(kind: str) -> Target:
    return Target(TARGETS[kind], torch.tensor([True, True, False, True, True]))


def streams(rows: int = 5) -> Streams:
    return streams_like(NAMES, D, rows=rows)


def gone(name: str, rows: int = 5) -> Streams:
    found = streams(rows)
    return {n: Stream(0 * s.tokens, s.mask & False) if name in (n, "all") else s for n, s in found.items()}


@each
def test_contract(rule: str, kind: str) -> None:
    check_task(lambda: late(rule, kind, seed=None), streams(), Stream(torch.zeros(5, 1, D), torch.ones(5, 1).bool()),
               target(kind))  # fmt: skip


@each
def test_it_offers_what_the_task_offers_and_no_more(rule: str, kind: str) -> None:
    part, task = late(rule, kind), TASKS[kind]("a")
    for protocol in (Bounded, Calibrated, Selective):
        assert isinstance(part, protocol) == isinstance(task, protocol)
    assert isinstance(task, Joinable)
    same = {"says", "metric", "maximize", *(("bounds", "extent") if isinstance(task, Bounded) else ())}
    assert all(getattr(part, name) == getattr(task, name) for name in same)
    assert not {"fused"} & part.reads


def test_a_copy_speaks_for_itself() -> None:
    part = late("average", "class")
    other = copy.deepcopy(part)
    sure, label = np.eye(3)[np.arange(200) % 3] * 0.97 + 0.01, np.arange(200) % 3
    label[:60] = (label[:60] + 1) % 3  # surer than it is right
    records = {"probabilities": sure, "label": label, "error": np.ones(200)}
    other.calibrate(records)
    assert other.calibrated()["temperature"] == float(other.alone.first.temperature) != 1
    assert part.calibrated()["temperature"] == 1


@each
def test_every_input_learns_as_in_a_model_of_its_own(rule: str, kind: str) -> None:
    part, given, known = late(rule, kind).train(), streams(), target(kind)
    tokens = {n: s.tokens.clone().requires_grad_() for n, s in given.items()}
    live = {n: s._replace(tokens=tokens[n]) for n, s in given.items()}
    (part.loss(part(live, None, known), known, None) * part.weight(known)).sum().backward()
    for place, name in enumerate(NAMES):
        task, own = copy.deepcopy(part.alone.tasks[place]), given[name].tokens.clone().requires_grad_()
        task.zero_grad()
        there = given[name].mask.any(1)
        mask = given[name].mask
        mean = (own * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        alone = Stream(mean[:, None], torch.ones(5, 1, dtype=torch.bool))
        loss = task.loss(task({name: given[name]}, alone, known), known, None)
        (loss * task.weight(known) * there).sum().backward()
        torch.testing.assert_close(tokens[name].grad, own.grad)
        for one, two in zip(part.alone.tasks[place].parameters(), task.parameters(), strict=True):
            torch.testing.assert_close(one.grad, two.grad)


@pytest.mark.parametrize("kind", TASKS)
def test_the_loss_is_the_sum_over_what_is_there_and_in_use_that_of_the_joint_answer(kind: str) -> None:
    part, known = late("average", kind), target(kind)
    whole, less = (part.loss(part(g, None, known), known, None) for g in (streams(), gone("b.c")))
    own = part.alone.tasks[1]
    expected = own.loss(own({}, _mean(streams()["b.c"]), known), known, None)
    torch.testing.assert_close(whole - less, expected)
    assert not part.loss(part(gone("all"), None, known), known, None).any()
    answer = part.respond(streams(), None)
    assert set(answer) == ({"value"} if kind == "value" else {"logits"})
    torch.testing.assert_close(part.loss(answer, known, None), part.alone.first.loss(answer, known, None))


def _mean(stream: Stream) -> Stream:
    mean = stream.tokens.sum(1) / stream.mask.sum(1, keepdim=True).clamp(min=1)
    return Stream(mean[:, None], torch.ones(len(mean), 1, dtype=torch.bool))


@each
def test_only_a_decision_that_learns_learns_from_the_joint_answer(rule: str, kind: str) -> None:
    part, known = late(rule, kind), target(kind)
    answer = part(streams(), None, known)
    own = part.alone.losses(part.alone(streams(), known), known, part.alone.present(streams()), None).sum(1)
    extra = part.loss(answer, known, None) - own
    joint = part.alone.first.loss({k: answer[k] for k in part.respond(streams(), None)}, known, None)
    learns = rule == "stack" or (rule, kind) == ("product", "value")
    torch.testing.assert_close(extra, joint if learns else torch.zeros(5))
    if learns:
        joint.sum().backward()
        assert all(p.grad is not None for p in part.decision.parameters())
        assert all(p.grad is None for p in part.alone.parameters())


@each
def test_a_row_with_nothing_gets_the_prior(rule: str, kind: str) -> None:
    part = late(rule, kind)
    with torch.no_grad():
        found = part.respond(gone("all"), None)
    if kind == "value":
        assert not found["value"].any()
    else:
        p = found["logits"].softmax(1) if kind == "class" else found["logits"].sigmoid()
        np.testing.assert_allclose(p, np.tile([1 / 6, 2 / 6, 3 / 6], (5, 1)), rtol=1e-5)


@each
def test_a_missing_input_is_left_out(rule: str, kind: str) -> None:
    """With one input missing everywhere, average, product and vote are those of the other two."""
    part = late(rule, kind)
    with torch.no_grad():
        found = part.respond(gone("b.c"), None)
        if rule != "stack":
            part.alone.inputs, part.alone.tasks = ("a", "0"), part.alone.tasks[::2]
            if (rule, kind) == ("product", "value"):
                part.decision.precision.num_embeddings = 2
            left = part.respond(gone("b.c"), None)
            for key, value in found.items():
                torch.testing.assert_close(value, left[key])
        for key, value in found.items():
            assert torch.isfinite(value).all(), key


SPEC = {
    "inputs": {
        "title": {"type": "text", "min_count": 1, "encoder": {"type": "bag", "width": 5}},
        "u": {"type": "tabular", "numeric": ["u"], "encoder": {"type": "mlp", "width": 4}},
    },
    "model": {"width": 8},
    "tasks": {"y": "classify", "z": {"type": "regress", "weight": 0.5}},
}
ROWS = {
    "title": ["red mug", None, "blue bowl", "red lamp", "green mug", None],
    "u": [0.1, 0.5, None, -1.0, 2.0, None],
    "y": ["p", "q", "p", None, "q", "q"],
    "z": [1.0, 2.0, 3.5, 0.5, None, 1.0],
}


@pytest.mark.parametrize("attention", [None, "bidirectional"])
@pytest.mark.parametrize("rule", RULES)
def test_in_a_model(rule: str, attention: str | None, tmp_path: Any) -> None:
    assembly, rows = assembled({**copy.deepcopy(SPEC), "fusion": rule, "attention": attention}, ROWS, tmp_path)
    model, batch = assembly.model.eval(), load(rows)
    with torch.no_grad():
        out = model(batch, respond=True)
        assert out.fused is None
        less = model(withhold(batch, "title"), respond=True, encoded=out.encoded)
        for row in range(6):
            alone = model(load(rows, [row]), respond=True)
            for name in ("y", "z"):
                for key, value in out.answers[name].items():
                    torch.testing.assert_close(alone.answers[name][key][0], value[row], atol=1e-5, rtol=1e-4)
    assert (out.answers["z"]["value"] != less.answers["z"]["value"])[[0, 3, 4]].all()
    assert out.answers["y"]["logits"][5].softmax(0).tolist() == pytest.approx([2 / 5, 3 / 5])
    single = assembly.spec.only(["u"])
    assert single.fusion is None


def test_without_attention_an_encoder_gets_the_gradient_of_its_single_model(tmp_path: Any) -> None:
    """The whole way from the cells, in a model with one input that was given the same weights."""
    assembly, rows = assembled({**copy.deepcopy(SPEC), "fusion": "stack"}, ROWS, tmp_path / "late")
    batch, model = load(rows), assembly.model
    (_total(assembly.spec, model(batch), model, batch)).backward()
    for place, name in enumerate(SPEC["inputs"]):
        plain = {**copy.deepcopy(SPEC), "inputs": {name: SPEC["inputs"][name]}}
        one, _ = assembled(plain, ROWS, tmp_path / name)
        one.model.encoders[name].load_state_dict(model.encoders[name].state_dict())
        one.model.entries[name].load_state_dict(model.entries[name].state_dict())
        for task, part in one.model.tasks.items():
            part.load_state_dict(model.tasks[task].alone.tasks[place].state_dict())
        there = batch.inputs[name].index[:, 0] >= 0
        out = one.model(batch._replace(inputs={name: batch.inputs[name]}))
        out = out._replace(losses={n: x.where(there, 0.0) for n, x in out.losses.items()})
        _total(one.spec, out, one.model, batch).backward()
        for group in ("encoders", "entries"):
            pair = (getattr(m, group)[name].parameters() for m in (model, one.model))
            for p, q in zip(*pair, strict=True):
                torch.testing.assert_close(p.grad, q.grad)


def _total(spec: Any, out: Any, model: Any, batch: Any) -> torch.Tensor:
    return sum(
        spec.tasks[n].weight * (out.losses[n] * task.weight(batch.targets[n])).sum() for n, task in model.tasks.items()
    )


def test_a_task_that_cannot_be_joined_is_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Regress, "joined")
    with pytest.raises(SpecError) as error:
        assembled({**copy.deepcopy(SPEC), "fusion": "vote"}, ROWS, tmp_path)
    assert error.value.where == "fusion.type"
    assert "tasks.z (regress)" in str(error.value)
    assert "concat" in error.value.advice


class Loudest(torch.nn.Module):
    """A decision of one's own: the surest input's scores."""

    learns = False

    def __init__(self, *, kind: str = "class") -> None:
        super().__init__()

    def forward(self, scores: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        top = scores.amax(2).masked_fill(~present, -math.inf).argmax(1)
        return scores[torch.arange(len(scores)), top]


def test_a_dotted_path_to_a_decision(tmp_path: Any) -> None:
    plain = {**copy.deepcopy(SPEC), "fusion": f"{__name__}:Loudest"}
    assert parse(copy.deepcopy(plain)).fusion.kind == "fusion"  # nothing is imported yet
    assembly, rows = assembled(plain, ROWS, tmp_path)
    assert isinstance(assembly.model.tasks["y"].decision, Loudest)
    assert assembly.model(load(rows)).fused is None


# Probes: heads of all tasks for every input, their losses and credits


def probes() -> Probes:
    torch.manual_seed(1)
    label = Alone({n: TASKS["class"](n) for n in NAMES})
    return Probes({"y": label, "z": Alone({n: TASKS["value"](n) for n in NAMES})}, {"y": 1.0, "z": 0.5})


@torch.no_grad()
def test_losses_of_probes_average_to_the_weighted_mean_of_each_task() -> None:
    part, given, known = probes(), streams(), {"y": target("class"), "z": target("value")}
    found = part.losses(given, known)
    there = torch.stack([s.mask.any(1) for s in given.values()], 1)
    assert not found[~there].any()
    for place, name in enumerate(NAMES):
        expected = 0.0
        for alone, task, weight in zip(part.tasks, ("y", "z"), (1.0, 0.5), strict=True):
            head = alone.tasks[place]
            loss = head.loss(head({}, _mean(given[name]), known[task]), known[task], None)
            counts = head.weight(known[task])
            expected += weight * float((loss * counts * there[:, place]).sum() / counts.sum())
        assert found[:, place].mean().item() == pytest.approx(expected, rel=1e-5)
    assert shares(torch.zeros(4)).tolist() == [0] * 4


@torch.no_grad()
def test_credits_are_the_chances_of_the_truth() -> None:
    part, given, known = probes(), streams(), {"y": target("class"), "z": target("value")}
    earned, counts = part.credits(given, known)
    for place, name in enumerate(NAMES):
        heads = [alone.tasks[place] for alone in part.tasks]
        logits = heads[0]({}, _mean(given[name]), None)["logits"].softmax(1)
        value = heads[1]({}, _mean(given[name]), None)["value"]
        total, rows = 0.0, 0.0
        for row in range(5):
            if given[name].mask[row].any() and target("class").present[row]:
                total += float(logits[row, TARGETS["class"]["class"][row]])
                total += 0.5 / (1 + float(value[row] - TARGETS["value"]["value"][row]) ** 2)
                rows += 1.5
        assert float(earned[place]) == pytest.approx(total, rel=1e-5)
        assert float(counts[place]) == rows
    sets = TASKS["classes"]("a")
    logits = torch.tensor([[2.0, -1.0, 0.0]])
    one = sets.credit({"logits": logits}, Target({"classes": torch.tensor([[1.0, 0.0, 1.0]])}, torch.tensor([True])))
    p = 1 / (1 + np.exp(-np.array([2.0, 1.0, 0.0])))
    assert one.item() == pytest.approx(p.mean(), rel=1e-5)
