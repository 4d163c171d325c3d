"""Recurrent decoders against Show, Attend and Tell written step by step for one row, and against torch's own cells."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from polymodal.core.checks_decoder import check_decoder, talk_like
from polymodal.core.search import Search, decode
from polymodal.core.streams import Stream
from polymodal.decoders.cells import GRUStep, LSTMStep
from polymodal.decoders.recurrent import GRUDecoder, LSTMDecoder
from polymodal.decoders.words import Words

WIDTH, SIZE, STARTS = 8, 11, 2
FORMS: list[dict[str, Any]] = [
    {},
    {"hidden": 6, "embed": 5, "layers": 2},
    {"attend": False, "layers": 2, "tied": True},
    {"tied": True, "doubly_stochastic": 0.0},
]
each_kind = pytest.mark.parametrize("cls", [LSTMDecoder, GRUDecoder])


def made(cls: Any, **settings: Any) -> Any:
    torch.manual_seed(0)
    return cls(width=WIDTH, size=SIZE, starts=STARTS, **settings).eval()


@each_kind
@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_contract_in_every_form(cls: Any, settings: dict[str, Any]) -> None:
    check_decoder(lambda: cls(width=WIDTH, size=SIZE, starts=STARTS, **settings), WIDTH, SIZE, STARTS)


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def by_hand(decoder: Any, tokens: Tensor, ids: list[int]) -> tuple[Tensor, Tensor]:
    """Scores and attention of one row, with its real tokens only: the formulas of the docstring, one by one."""
    p = dict(decoder.named_parameters())
    hidden = p["net.steps.0.keep.weight"].shape[1]
    parts, layers = len(decoder.parts), decoder.layers
    mean = sum(tokens) / len(tokens) if len(tokens) else torch.zeros(WIDTH)
    first = torch.tanh(p["first.weight"] @ mean + p["first.bias"]).view(parts, layers, hidden)
    h = [first[0, n] for n in range(layers)]
    c = [first[-1, n] for n in range(layers)]
    scores, looks = [], []
    for y in ids:
        word = p["words.said.weight"][y] if y < SIZE else p["words.starts.weight"][y - SIZE]
        asked = p["net.attention.ask.weight"] @ h[-1] + p["net.attention.ask.bias"]
        energy = [p["net.attention.score.weight"][0] @ torch.tanh(p["net.attention.key.weight"] @ m + asked[:-1])
                  for m in tokens]  # fmt: skip
        exps = [math.exp(float(e)) for e in energy]
        a = [e / sum(exps) for e in exps]
        z = sigmoid(asked[-1]) * sum((s * m for s, m in zip(a, tokens, strict=True)), torch.zeros(WIDTH))
        x = p["net.steps.0.read.weight"] @ word + p["net.steps.0.read.bias"] + p["net.take.weight"] @ z
        for n in range(layers):
            name = f"net.steps.{n}"
            if n:
                x = p[f"{name}.read.weight"] @ h[n - 1] + p[f"{name}.read.bias"]
            kept = p[f"{name}.keep.weight"] @ h[n]
            if parts == 2:
                i, f, o, g = (x + kept).chunk(4)
                c[n] = sigmoid(f) * c[n] + sigmoid(i) * torch.tanh(g)
                h[n] = sigmoid(o) * torch.tanh(c[n])
            else:
                (r, u, v), (rh, uh, vh) = x.chunk(3), (kept + p[f"{name}.keep.bias"]).chunk(3)
                v = torch.tanh(v + sigmoid(r + rh) * vh)
                h[n] = (1 - sigmoid(u + uh)) * v + sigmoid(u + uh) * h[n]
        deep = word + p["from_state.weight"] @ h[-1] + p["from_state.bias"] + p["from_taken.weight"] @ z
        scores.append(decoder.head.weight @ deep + p["head.bias"])
        looks.append(torch.tensor(a))
    return torch.stack(scores), torch.stack(looks)


@each_kind
@pytest.mark.parametrize("settings", [{"doubly_stochastic": 0.7}, {"hidden": 6, "embed": 5, "layers": 3}], ids=str)
@torch.no_grad()
def test_show_attend_and_tell_step_by_step(cls: Any, settings: dict[str, Any]) -> None:
    decoder = made(cls, **settings)
    memory, ids, _ = talk_like(WIDTH, SIZE, STARTS)
    for module in decoder.modules():
        if isinstance(module, nn.Linear) and module is not decoder.head:
            module.weight.mul_(2)  # an attention that is not nearly even
    scores, looks = decoder(memory, ids), decoder.look(memory, ids)
    spoken = torch.arange(ids.shape[1]) < torch.arange(2, 7)[:, None]
    penalty = decoder.penalty(memory, ids, spoken)
    for row in range(len(ids)):
        real = memory.mask[row]
        expected, a = by_hand(decoder, memory.tokens[row][real], ids[row].tolist())
        torch.testing.assert_close(scores[row], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(looks[row][:, real], a.reshape(ids.shape[1], -1), rtol=1e-4, atol=1e-5)
        steps = row + 2
        looked = [sum(float(a[t, s]) for t in range(steps)) for s in range(int(real.sum()))]
        wanted = settings.get("doubly_stochastic", 1.0) / steps * sum((1 - x) ** 2 for x in looked)
        assert float(penalty[row]) == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    assert looks[0].amax() > 0.3


@torch.no_grad()
def test_steps_equal_the_cells_of_torch() -> None:
    torch.manual_seed(0)
    x, h, c = torch.randn(5, 7), torch.randn(5, 6), torch.randn(5, 6)
    lstm, cell = LSTMStep(7, 6), nn.LSTMCell(7, 6)
    order = torch.tensor([0, 1, 3, 2])  # theirs: i, f, g, o
    for mine, theirs in ((lstm.read.weight, cell.weight_ih), (lstm.keep.weight, cell.weight_hh)):
        mine.copy_(theirs.view(4, 6, -1)[order].flatten(0, 1))
    lstm.read.bias.copy_((cell.bias_ih + cell.bias_hh).view(4, 6)[order].flatten())
    torch.testing.assert_close(lstm(lstm.read(x), (h, c)), cell(x, (h, c)))
    gru, other = GRUStep(7, 6), nn.GRUCell(7, 6)
    for mine, theirs in (
        (gru.read.weight, other.weight_ih),
        (gru.keep.weight, other.weight_hh),
        (gru.read.bias, other.bias_ih),
        (gru.keep.bias, other.bias_hh),
    ):
        mine.copy_(theirs)
    torch.testing.assert_close(gru(gru.read(x), (h,))[0], other(x, h))


@each_kind
@torch.no_grad()
def test_without_attention_it_is_a_language_model_that_was_told_the_mean(cls: Any) -> None:
    decoder = made(cls, attend=False, layers=2)
    memory, ids, _ = talk_like(WIDTH, SIZE, STARTS)
    mean = torch.stack(
        [memory.tokens[row][m].mean(0) if m.any() else torch.zeros(WIDTH) for row, m in enumerate(memory.mask)]
    )
    first = decoder.first(mean).tanh().view(5, len(decoder.parts), 2, WIDTH).permute(1, 2, 0, 3).contiguous()
    words = torch.cat([decoder.words.said.weight, decoder.words.starts.weight])[ids]
    states, _ = decoder.net.net(words, (first[0], first[1]) if len(first) == 2 else first[0])
    torch.testing.assert_close(decoder(memory, ids), decoder.head(words + decoder.from_state(states)))
    assert decoder.look(memory, ids) is None
    assert not decoder.penalty(memory, ids, torch.ones_like(ids, dtype=torch.bool)).any()


def test_tied_words_are_one_table() -> None:
    words = Words(SIZE, STARTS, 4)
    assert words.head(True).weight is words.said.weight
    assert words.head(False).weight is not words.said.weight
    decoder = made(LSTMDecoder, tied=True, embed=5)
    assert (
        sum(p.numel() for p in made(LSTMDecoder, embed=5).parameters()) - sum(p.numel() for p in decoder.parameters())
        == SIZE * 5
    )


@each_kind
def test_dropout_is_for_training(cls: Any) -> None:
    decoder = made(cls, dropout=0.5)
    memory, ids, _ = talk_like(WIDTH, SIZE, STARTS)
    torch.testing.assert_close(decoder(memory, ids), decoder(memory, ids))
    decoder.train()
    assert not torch.allclose(decoder(memory, ids), decoder(memory, ids))


def named(rows: int, seed: int = 0) -> tuple[Stream, Tensor, Tensor]:
    """Memories of three tokens, each of one of six kinds, a place in each; and the kinds, in order, then the end, 0."""
    g = torch.Generator().manual_seed(seed)
    kinds = torch.randint(1, 7, (rows, 3), generator=g)
    tokens = torch.zeros(rows, 3, 10)
    tokens.scatter_(2, kinds[..., None], 1.0)
    tokens[:, torch.arange(3), torch.arange(7, 10)] = 1.0
    ids = torch.cat([kinds, torch.zeros(rows, 1, dtype=torch.long)], 1)
    return Stream(tokens, torch.ones(rows, 3, dtype=torch.bool)), ids, torch.full((rows,), 7)


@each_kind
def test_it_learns_to_name_what_it_sees_in_order(cls: Any) -> None:
    torch.manual_seed(0)
    decoder = cls(width=10, size=7, starts=1, hidden=32, dropout=0.0)
    adam = torch.optim.Adam(decoder.parameters(), lr=0.01)
    for step in range(150):
        memory, ids, start = named(32, step)
        given = torch.cat([start[:, None], ids[:, :-1]], 1)
        scores, penalty = decoder.teach(memory, given, torch.ones_like(given, dtype=torch.bool))
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), ids.flatten()) + penalty.mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    memory, ids, start = named(64, 1000)
    found = decode(decoder.eval(), memory, start, end=0, search=Search("beam", 6, beams=3))
    assert (found.ids[:, :4] == ids).all(1).float().mean() > 0.9
    looks = decoder.look(memory, torch.cat([start[:, None], ids[:, :-1]], 1))
    assert (looks[:, :3].argmax(2) == torch.arange(3)).float().mean() > 0.8, "each word looks at its own token"
