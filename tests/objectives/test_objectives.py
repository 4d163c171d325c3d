"""Balance and alignment against loops and numbers worked out by hand, alone and in a model."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from examples import assembled, learning, load, probes
from polymodal.core.checks import streams_like
from polymodal.core.checks_decision import check_align, check_balance
from polymodal.core.contracts import Paced
from polymodal.core.streams import Batch, Cells, Outputs, Stream
from polymodal.model import Model
from polymodal.objectives.blending import Blending, blend
from polymodal.objectives.contrastive import Contrastive
from polymodal.objectives.gradient import shaken, weighed
from polymodal.objectives.ogm import OGM, coefficients
from polymodal.objectives.unimodal import Unimodal

NAMES, D = ("a", "b", "c.d"), 6
BALANCES: dict[str, tuple[type, dict[str, Any]]] = {
    "unimodal": (Unimodal, {"weight": 0.7}),
    "ogm": (OGM, {}),
    "ogm-plain": (OGM, {"noise": False, "alpha": 2.0}),
    "blending": (Blending, {"every": 2}),
}


def make(name: str) -> Any:
    cls, chosen = BALANCES[name]
    return cls(inputs=NAMES, width=D, probes=probes(NAMES, D), **chosen)


@pytest.mark.parametrize("name", BALANCES)
def test_contract(name: str) -> None:
    check_balance(lambda: make(name), *learning())
    assert isinstance(make(name), Paced) == (name == "blending")


@pytest.mark.parametrize("count", [2, 3])
def test_contract_align(count: int) -> None:
    part = {"weight": 0.5, "temperature": 0.2, "width": 4}
    check_align(lambda: Contrastive(inputs=NAMES[:count], width_in=D, **part), streams_like(NAMES[:count], D, rows=6))


# Gradients on their way back


def test_a_weighed_gradient() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = weighed(x, torch.tensor(0.25))
    assert torch.equal(y, x)
    (y * torch.tensor([3.0, 5.0])).sum().backward()
    assert x.grad.tolist() == [0.75, 1.25]


def test_a_shaken_gradient_has_noise_of_its_own_spread_at_real_tokens() -> None:
    mask = torch.arange(40) < torch.tensor([[40], [25], [0]])
    g = 3 + 2 * torch.randn(3, 40, 50, generator=torch.Generator().manual_seed(0)) * mask[..., None]
    g = g * mask[..., None]

    def back(seed: int, factor: float) -> torch.Tensor:
        x = torch.zeros(3, 40, 50, requires_grad=True)
        torch.manual_seed(seed)
        y = shaken(x, torch.tensor(factor), mask)
        torch.rand(7)  # what is drawn afterwards makes no difference
        (y * g).sum().backward()
        return x.grad

    found = back(1, 0.3)
    assert torch.equal(found, back(1, 0.3))
    assert not torch.equal(found, back(2, 0.3))
    noise = (found - 0.3 * g)[mask]
    assert not (found - 0.3 * g)[~mask].any()
    spread = g[mask].std().item()
    assert noise.std().item() == pytest.approx(spread, rel=0.05)
    assert abs(noise.mean().item()) < 5 * spread / math.sqrt(noise.numel())
    torch.testing.assert_close(back(1, 1.0) - back(1, 0.3), 0.7 * g)  # the noise does not depend on the factor


# OGM-GE


def test_coefficients_by_hand() -> None:
    two = coefficients(torch.tensor([6.0, 3.0]), torch.tensor([10.0, 10.0]), 0.5)
    assert two.tolist() == pytest.approx([1 - math.tanh(0.5 * 2.0), 1.0])  # rho = 2 and 1/2
    rows = coefficients(torch.tensor([3.0, 3.0]), torch.tensor([5.0, 10.0]), 1.0)
    assert rows.tolist() == pytest.approx([1 - math.tanh(2.0), 1.0])  # means of 0.6 and 0.3
    three = coefficients(torch.tensor([8.0, 4.0, 6.0]), torch.tensor([10.0, 10.0, 10.0]), 0.1)
    assert three.tolist() == pytest.approx([1 - math.tanh(0.1 * 0.8 / 0.5), 1.0, 1.0])
    assert coefficients(torch.tensor([5.0, 0.0]), torch.tensor([5.0, 0.0]), 0.5).tolist() == [1, 1]
    assert coefficients(torch.zeros(3), torch.zeros(3), 0.5).tolist() == [1, 1, 1]


SPEC = {
    "inputs": {
        "title": {"type": "text", "min_count": 1, "encoder": {"type": "gru", "width": 5, "dropout": 0.0}},
        "u": {"type": "tabular", "numeric": ["u"], "encoder": {"type": "mlp", "width": 4, "dropout": 0.0}},
    },
    "fusion": {"type": "transform", "dropout": 0.0},
    "tasks": {"y": "classify", "z": {"type": "regress", "weight": 0.5}},
}
ROWS = {
    "title": ["red mug", None, "blue bowl", "red lamp", "green mug", "red mug"],
    "u": [0.1, 0.5, None, -1.0, 2.0, 0.3],
    "y": ["p", "q", "p", None, "q", "q"],
    "z": [1.0, 2.0, 3.5, 0.5, None, 1.0],
}


def model(files: Any, **sections: Any) -> tuple[Model, Batch]:
    assembly, rows = assembled({**copy.deepcopy(SPEC), **sections}, ROWS, files)
    return assembly.model, load(rows)


def total(m: Model, out: Outputs, batch: Batch) -> torch.Tensor:
    found = sum(x.sum() for x in out.notes.losses.values()) / 6
    for name, weight in (("y", 1.0), ("z", 0.5)):
        counts = m.tasks[name].weight(batch.targets[name])
        found = found + weight * (out.losses[name] * counts).sum() / counts.sum()
    return found


def gradients(m: Model, batch: Batch) -> tuple[dict[str, torch.Tensor], Outputs]:
    torch.manual_seed(0)
    m.zero_grad()
    out = m.train()(batch)
    total(m, out, batch).backward()
    return {n: p.grad.clone() for n, p in m.named_parameters() if p.grad is not None}, out


def test_what_is_added_leaves_the_first_weights_alone(tmp_path: Any) -> None:
    plain, _ = model(tmp_path / "a")
    more, _ = model(tmp_path / "b", balance="ogm", align="contrastive")
    for name, value in plain.state_dict().items():
        assert torch.equal(value, more.state_dict()[name]), name


def test_modulating_streams_is_scaling_the_gradients_of_their_encoders(tmp_path: Any) -> None:
    plain, batch = model(tmp_path / "a")
    slowed, _ = model(tmp_path / "b", balance={"type": "ogm", "noise": False, "alpha": 0.8})
    expected, _ = gradients(plain, batch)
    found, out = gradients(slowed, batch)
    k = dict(zip(("title", "u"), out.notes.weights["ogm"][0].tolist(), strict=True))
    assert sorted(k.values())[0] < 1 == sorted(k.values())[1]
    seen = set()
    for name, value in expected.items():
        room, _, rest = name.partition(".parts._")
        factor = k[rest.partition(".")[0]] if room in ("encoders", "entries") else 1.0
        torch.testing.assert_close(found[name], factor * value, msg=name)
        seen.add(factor)
    assert seen == {1.0, min(k.values())}
    assert any(n.startswith("balance.") for n in found), "the probes learn"


def test_the_slower_input_is_the_one_that_answers_better(tmp_path: Any) -> None:
    m, batch = model(tmp_path, balance={"type": "ogm", "noise": False})
    inputs = m.enter(m.encode(batch.inputs), batch.inputs)
    earned, counts = m.balance.probes.credits(inputs, batch.targets)
    out = m.train()(batch)
    better = int((earned / counts).argmax())
    assert int(out.notes.weights["ogm"][0].argmin()) == better


# Unimodal losses, blending


def test_unimodal_losses_are_added(tmp_path: Any) -> None:
    plain, batch = model(tmp_path / "a")
    more, _ = model(tmp_path / "b", balance={"type": "unimodal", "weight": 0.25})
    before, _ = gradients(plain, batch)
    found, out = gradients(more, batch)
    streams = more.enter(more.encode(batch.inputs), batch.inputs)
    own = more.balance.probes.losses(streams, batch.targets)
    torch.testing.assert_close(out.notes.losses["unimodal"], 0.25 * own.sum(1))
    more.zero_grad()
    (0.25 * own.sum(1).mean()).backward()
    for name, value in before.items():
        extra = dict(more.named_parameters())[name].grad
        torch.testing.assert_close(found[name], value if extra is None else value + extra, atol=1e-6, rtol=1e-4)


def test_blending_weights_by_hand() -> None:
    """Losses of a, b, and both: G = 0.4, 0.1, 0.2; O = 0.1, 0.05, 0.2; G / O^2 = 40, 40, 5."""
    before = torch.tensor([[1.0, 1.0, 1.0], [1.2, 1.1, 1.0]], dtype=torch.float64)  # T, V
    now = torch.tensor([[0.5, 0.85, 0.6], [0.8, 1.0, 0.8]], dtype=torch.float64)
    assert blend(before, now).tolist() == pytest.approx([40 / 85, 40 / 85, 5 / 85])
    worse = now.clone()
    worse[1, 0] = 1.3  # what got worse on new rows has no weight
    assert blend(before, worse).tolist() == pytest.approx([0, 40 / 45, 5 / 45])
    assert blend(before, before + 0.1) is None
    same = before - 0.1  # nothing is overfitted: the gap counts as 1 % of the validation loss
    each = [0.1 / (0.01 * v) ** 2 for v in (1.2, 1.1, 1.0)]
    assert blend(before, same).tolist() == pytest.approx([x / sum(each) for x in each])


def test_blending_begins_even_and_keeps_what_it_learned() -> None:
    part = make("blending")
    assert part.weights.tolist() == [0.25] * 4
    assert [part.due(e) for e in (1, 2, 3, 4)] == [False, True, False, True]
    part.learn([1.0] * 4, [1.2] * 4)
    assert part.weights.tolist() == [0.25] * 4  # one measurement says nothing of change
    part.learn([0.5, 0.9, 0.9, 0.9], [1.1, 1.1, 1.2, 1.3])
    gain, gap = [0.1, 0.1, 0.0, 0.0], [0.4, 0.012, 0.1, 0.2]
    raw = [g / o**2 for g, o in zip(gain, gap, strict=True)]
    assert part.weights.tolist() == pytest.approx([r / sum(raw) for r in raw], rel=1e-4, abs=1e-6)
    kept = part.weights.clone()
    part.learn([math.nan] * 4, [1.0] * 4)
    part.learn([2.0] * 4, [3.0] * 4)
    assert torch.equal(part.weights, kept)
    other = make("blending")
    other.load_state_dict(part.state_dict())
    assert torch.equal(other.before, part.before)


def test_the_blended_gradient_is_that_of_the_weighted_sum(tmp_path: Any) -> None:
    m, batch = model(tmp_path, balance="blending")
    w = torch.tensor([0.1, 0.3, 0.6])
    m.balance.weights.copy_(w)
    found, out = gradients(m, batch)
    m.zero_grad()
    streams = m.enter(m.encode(batch.inputs), batch.inputs)
    own = m.balance.probes.losses(streams, batch.targets)
    m.balance, blended = None, m.balance
    torch.manual_seed(0)
    plain = m(batch)
    torch.testing.assert_close(plain.losses["y"], out.losses["y"])  # reported as it is
    torch.testing.assert_close(blended.probes.joint(plain.losses, batch.targets).mean(), total(m, plain, batch))
    (w[2] * total(m, plain, batch) + (own @ w[:2]).mean()).backward()
    m.balance = blended
    for name, p in m.named_parameters():
        torch.testing.assert_close(found[name], p.grad, atol=1e-6, rtol=1e-4, msg=name)


# Contrastive alignment


def cells(ids: list[list[int]]) -> Cells:
    """Every row shows these cells, by their digests; 0 is none."""
    known = sorted({i for row in ids for i in row if i}) or [1]
    index = torch.tensor([[known.index(i) if i else -1 for i in row] for row in ids])
    return Cells({}, index, torch.tensor(known))


def loop_align(part: Contrastive, streams: dict, shown: dict, names: tuple[str, ...]) -> np.ndarray:
    vectors: dict[str, list] = {}
    for place, name in enumerate(names):
        w, b = (p.detach().double().numpy() for p in (part.maps[place].weight, part.maps[place].bias))
        tokens, mask, _ = streams[name]
        vectors[name] = []
        for row in range(len(mask)):
            real = [tokens[row, t].double().numpy() for t in range(mask.shape[1]) if mask[row, t]]
            v = w @ (sum(real) / len(real)) + b if real else None
            vectors[name].append(None if v is None else v / np.linalg.norm(v))
    rows, found = len(vectors[names[0]]), np.zeros(len(vectors[names[0]]))
    pairs = [(p, q) for i, p in enumerate(names) for q in names[i + 1 :]]
    for p, q in pairs:
        for row in range(rows):
            for one, other in ((p, q), (q, p)):
                if vectors[one][row] is None or vectors[other][row] is None:
                    continue
                own = math.exp(vectors[one][row] @ vectors[other][row] / part.temperature)
                against = 0.0
                for c in range(rows):
                    stranger = shown[p][c] != shown[p][row] and shown[q][c] != shown[q][row]
                    if vectors[other][c] is not None and stranger:
                        against += math.exp(vectors[one][row] @ vectors[other][c] / part.temperature)
                found[row] -= 0.5 * math.log(own / (own + against)) / len(pairs)
    return part.weight * found


@pytest.mark.parametrize("names", [NAMES[:2], NAMES])
def test_contrastive_against_a_plain_loop(names: tuple[str, ...]) -> None:
    streams = streams_like(names, D, rows=7, seed=4)
    shown = {n: [[10 * i + r] if s.mask[r].any() else [0] for r in range(7)]
             for i, (n, s) in enumerate(streams.items(), 1)}  # fmt: skip
    shown[names[1]][3] = shown[names[1]][4] = shown[names[1]][0]  # one picture of three rows
    torch.manual_seed(0)
    part = Contrastive(inputs=names, width_in=D, weight=0.3, temperature=0.5, width=4)
    found = part(streams, {n: cells(ids) for n, ids in shown.items()}, None).losses["align"]
    assert found[1] == 0 or len(names) > 2
    np.testing.assert_allclose(found.detach(), loop_align(part, streams, shown, names), rtol=1e-4, atol=1e-6)


def test_contrastive_is_cross_entropy_of_the_similarities_when_all_cells_differ() -> None:
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(8, 1, D, generator=g), torch.randn(8, 1, D, generator=g)
    there = torch.ones(8, 1, dtype=torch.bool)
    part = Contrastive(inputs=("a", "b"), width_in=D, weight=1.0, temperature=0.1, width=3)
    different = cells([[i] for i in range(1, 9)])
    found = part({"a": Stream(x, there), "b": Stream(y, there)}, {"a": different, "b": different}, None)
    u, v = (torch.nn.functional.normalize(m(t[:, 0]), dim=1) for m, t in zip(part.maps, (x, y), strict=True))
    s, own = u @ v.T / 0.1, torch.arange(8)
    expected = sum(torch.nn.functional.cross_entropy(z, own, reduction="none") for z in (s, s.T)) / 2
    torch.testing.assert_close(found.losses["align"], expected)


def test_captions_of_one_picture_are_no_strangers_and_what_is_missing_takes_no_part() -> None:
    streams = streams_like(("a", "b"), D, rows=5)
    part = Contrastive(inputs=("a", "b"), width_in=D)
    one, several = cells([[7]] * 5), cells([[i] for i in range(1, 6)])
    assert not part(streams, {"a": one, "b": several}, None).losses["align"].any()
    found = part(streams, {"a": several, "b": several}, None).losses["align"]
    assert (found > 0).tolist() == [True, False, True, True, True]  # row 1 lacks a
    two = cells([[1, 2], [2, 1], [1, 0], [1, 2], [3, 3]])  # several columns: all of them must be the same
    kept = part(streams, {"a": two, "b": several}, None).losses["align"]
    less = cells([[1], [2], [3], [1], [4]])
    torch.testing.assert_close(kept, part(streams, {"a": less, "b": several}, None).losses["align"])


def test_contrastive_looks_at_the_rows_of_all_processes() -> None:
    """Two processes with 3 and 2 rows: what `gather` gives is put together by hand."""
    streams = streams_like(("a", "b"), D, rows=5)
    shown = {"a": cells([[1], [0], [3], [3], [5]]), "b": cells([[i] for i in range(11, 16)])}
    part = Contrastive(inputs=("a", "b"), width_in=D)
    whole = part(streams, shown, None).losses["align"]
    halves = [torch.arange(3), torch.arange(3, 5)]
    for mine, rest in (halves, halves[::-1]):
        sent: dict[int, list[torch.Tensor]] = {0: [], 1: []}  # by process, in order
        given = [
            ({n: Stream(s.tokens[at], s.mask[at]) for n, s in streams.items()},
             {n: c._replace(index=c.index[at]) for n, c in shown.items()})
            for at in (mine, rest)
        ]  # fmt: skip
        for process, (some, their) in enumerate(given):
            part(some, their, partial(_send, sent[process]))
        both = iter(zip(*sent.values(), strict=True))
        found = part(*given[0], lambda x, both=both: torch.cat(next(both)))
        torch.testing.assert_close(found.losses["align"], whole[mine])


def _send(sent: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The process's own rows, as if there were no others, but the largest process has three."""
    sent.append(x)
    return torch.tensor([3]) if x.shape == (1,) else x


# Not in use


def test_answers_do_not_need_them(tmp_path: Any) -> None:
    """Predicting and scoring call neither; no parameter of theirs is in a model without them."""
    m, batch = model(tmp_path / "a", balance="unimodal", align="contrastive")
    plain, _ = model(tmp_path / "b")
    assert set(m.train()(batch).notes.losses) == {"unimodal", "align"}

    def never(*_: Any) -> None:
        raise AssertionError("asked while answering")

    m.balance.forward = m.align.forward = never
    for mode in (True, False):
        m.train(mode)
        with torch.no_grad():
            m(batch, respond=True)
    found = m.eval()(batch)
    assert not found.notes.losses
    torch.testing.assert_close(found.answers["y"]["logits"], plain.eval()(batch).answers["y"]["logits"])
    assert not [n for n in plain.state_dict() if n.startswith(("balance", "align"))]
