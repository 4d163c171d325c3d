"""The Transformer decoder against torch's own layers, rotation in complex numbers, and its cache."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from polymodal.core.checks_decoder import check_decoder, talk_like
from polymodal.core.errors import SpecError
from polymodal.core.search.speaker import Remembering
from polymodal.core.streams import Stream
from polymodal.decoders import transformer
from polymodal.decoders.rotary import turned, turns
from polymodal.decoders.transformer import ROOM, TransformerDecoder

WIDTH, SIZE, STARTS = 8, 11, 2


def made(**settings: Any) -> TransformerDecoder:
    torch.manual_seed(0)
    decoder = TransformerDecoder(width=WIDTH, size=SIZE, starts=STARTS, **settings).eval()
    with torch.no_grad():
        for p in decoder.parameters():
            p.add_(0.2 * torch.randn_like(p))  # biases and norms unlike those of a fresh net
    return decoder


@pytest.mark.parametrize(
    "settings", [{}, {"hidden": 12, "heads": 3, "layers": 1, "tied": False, "ratio": 2}, {"dropout": 0.5}], ids=str
)
def test_contract_in_every_form(settings: dict[str, Any]) -> None:
    check_decoder(lambda: TransformerDecoder(width=WIDTH, size=SIZE, starts=STARTS, **settings), WIDTH, SIZE, STARTS)


def layer_like(own: transformer.Layer, hidden: int) -> nn.TransformerDecoderLayer:
    """Torch's layer with the same weights; its keys and values of the memory are as wide as the layer."""
    theirs = nn.TransformerDecoderLayer(hidden, own.heads, 4 * hidden, 0.0, "gelu", batch_first=True, norm_first=True)
    pairs = [
        (theirs.self_attn.in_proj_weight, own.qkv.weight),
        (theirs.self_attn.in_proj_bias, own.qkv.bias),
        (theirs.multihead_attn.in_proj_weight, torch.cat([own.query.weight, own.key_value.weight])),
        (theirs.multihead_attn.in_proj_bias, torch.cat([own.query.bias, own.key_value.bias])),
    ]
    for name, module in (
        ("self_attn.out_proj", own.out1),
        ("multihead_attn.out_proj", own.out2),
        ("norm1", own.norm1),
        ("norm2", own.norm2),
        ("norm3", own.feed.norm),
        ("linear1", own.feed.up),
        ("linear2", own.feed.down),
    ):
        other = theirs.get_submodule(name)
        pairs += [(other.weight, module.weight), (other.bias, module.bias)]
    for theirs_, mine in pairs:
        theirs_.copy_(mine)
    return theirs.eval()


@torch.no_grad()
def test_without_rotation_it_equals_the_layers_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer, "turned", lambda x, turn: x)
    decoder = made(layers=3)
    memory, ids, _ = talk_like(WIDTH, SIZE, STARTS)
    seen = decoder.seen(memory.tokens)
    x = torch.cat([decoder.words.said.weight, decoder.words.starts.weight])[ids]
    causal = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
    for layer in decoder.layers:
        x = layer_like(layer, WIDTH)(x, seen, tgt_mask=causal, tgt_is_causal=True, memory_key_padding_mask=~memory.mask)
    expected = decoder.head(decoder.norm(x))
    there = memory.mask.any(1)
    assert torch.isfinite(expected[there]).all()
    torch.testing.assert_close(decoder(memory, ids)[there], expected[there], rtol=1e-4, atol=1e-5)


def as_complex(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return torch.complex(x[..., :half].double(), x[..., half:].double())


def test_turning_is_multiplication_in_the_plane() -> None:
    x = torch.randn(2, 7, 3, 2, 6, generator=torch.Generator().manual_seed(0))
    found = as_complex(turned(x, turns(5, 7, 6, x)))
    for place in range(7):
        for i in range(3):
            angle = (5 + place) / 10000 ** (2 * i / 6)
            expected = as_complex(x)[:, place, :, :, i] * complex(math.cos(angle), math.sin(angle))
            torch.testing.assert_close(found[:, place, :, :, i], expected, rtol=1e-5, atol=1e-5)


def test_products_know_the_distance_only() -> None:
    x = torch.randn(1, 1, 2, 1, 8, generator=torch.Generator().manual_seed(0))
    query, key = x[:, :, :1], x[:, :, 1:]
    products = [(turned(query, turns(at + 3, 1, 8, x)) * turned(key, turns(at, 1, 8, x))).sum() for at in (0, 4, 200)]
    torch.testing.assert_close(torch.stack(products), products[0].expand(3), rtol=1e-4, atol=1e-4)
    other = (turned(query, turns(4, 1, 8, x)) * turned(key, turns(0, 1, 8, x))).sum()
    assert abs(float(other - products[0])) > 1e-3


@torch.no_grad()
def test_order_matters() -> None:
    decoder = made()
    memory, ids, _ = talk_like(WIDTH, SIZE, STARTS)
    ids[:, 1], ids[:, 2] = 3, 4
    other = ids.clone()
    other[:, 1], other[:, 2] = 4, 3
    assert not torch.allclose(decoder(memory, ids)[:, 5], decoder(memory, other)[:, 5], atol=1e-3)


@torch.no_grad()
def test_the_cache_grows_as_far_as_needed() -> None:
    decoder = made()
    memory, ids, _ = talk_like(WIDTH, SIZE, STARTS, steps=2 * ROOM + 5)
    for longest in (1, ROOM, 1000):
        state = decoder.begin(memory, longest)
        assert state.past["0"].shape[3] == min(longest, ROOM)
        steps = []
        for at in range(ids.shape[1]):
            scores, state = decoder.step(state, ids[:, at])
            steps.append(scores)
        assert state.past["0"].shape[3] < ids.shape[1] + ROOM
        torch.testing.assert_close(torch.stack(steps, 1), decoder(memory, ids), rtol=1e-4, atol=1e-5)


def test_gradients_go_through_the_steps() -> None:
    decoder = made(layers=2)
    memory, ids, _ = talk_like(WIDTH, SIZE, STARTS, steps=ROOM + 3)
    weight = torch.randn(len(ids), ids.shape[1], SIZE, generator=torch.Generator().manual_seed(0))
    (decoder(memory, ids) * weight).sum().backward()
    expected = {n: p.grad.clone() for n, p in decoder.named_parameters() if p.grad is not None}
    decoder.zero_grad()
    state, total = decoder.begin(memory, ids.shape[1]), torch.tensor(0.0)
    for at in range(ids.shape[1]):
        scores, state = decoder.step(state, ids[:, at])
        total = total + (scores * weight[:, at]).sum()
    total.backward()
    for name, p in decoder.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_memory_is_read_once_and_never_reordered(mode: Any) -> None:
    decoder = made(layers=2)
    memory, ids, _ = talk_like(WIDTH, SIZE, STARTS)
    calls: list[int] = []
    for layer in decoder.layers:
        layer.key_value.register_forward_hook(lambda *_: calls.append(1))
    with mode():
        speaker = Remembering(decoder, memory, 6, 2)
        fixed = dict(speaker.state.fixed)
        for at in range(6):
            speaker.next(ids[:, at].repeat_interleave(2))
            speaker.turn(torch.arange(10).view(5, 2).flip(1).flatten())
        assert all(speaker.state.fixed[name] is x for name, x in fixed.items())
    assert len(calls) == 2


@torch.no_grad()
def test_a_look_is_the_mean_over_layers_and_heads() -> None:
    decoder = made(layers=2)
    memory, ids, _ = talk_like(WIDTH, SIZE, STARTS)
    asked: list[Tensor] = []
    for layer in decoder.layers:
        layer.query.register_forward_hook(lambda module, given, out: asked.append(out))
    looks = decoder.look(memory, ids)
    queries, seen = asked[::2], decoder.seen(memory.tokens)  # each is asked twice: for the look, and for the answer
    for row in range(4):
        real, total = memory.mask[row], torch.zeros(ids.shape[1], int(memory.mask[row].sum()))
        for query, layer in zip(queries, decoder.layers, strict=True):
            keys = layer.key_value(seen[row][real])[:, :WIDTH]
            for head in range(4):
                own = slice(2 * head, 2 * head + 2)
                total += torch.softmax(query[row][:, own] @ keys[:, own].T / math.sqrt(2), 1)
        torch.testing.assert_close(looks[row][:, real], total / 8, rtol=1e-4, atol=1e-5)
    assert not looks[4].any()


def test_a_memory_that_is_not_there_changes_nothing() -> None:
    decoder = made()
    _, ids, _ = talk_like(WIDTH, SIZE, STARTS)
    scores = [decoder(Stream(torch.randn(5, n, WIDTH), torch.zeros(5, n, dtype=torch.bool)), ids) for n in (1, 7)]
    torch.testing.assert_close(*scores)


@pytest.mark.parametrize(("heads", "match"), [(3, "must divide the width, 8"), (8, "into even widths")])
def test_heads_that_do_not_fit(heads: int, match: str) -> None:
    with pytest.raises(SpecError, match=match):
        TransformerDecoder(width=WIDTH, size=SIZE, starts=STARTS, heads=heads)


def test_parameters_as_stated() -> None:
    hidden, ratio, layers = 12, 3, 2
    decoder = TransformerDecoder(width=WIDTH, size=SIZE, starts=STARTS, hidden=hidden, ratio=ratio, layers=layers,
                                 heads=2)  # fmt: skip
    per_layer = (6 + 2 * ratio) * hidden**2 + 2 * WIDTH * hidden + (15 + ratio) * hidden
    found = sum(p.numel() for layer in decoder.layers for p in layer.parameters())
    assert found == layers * per_layer
