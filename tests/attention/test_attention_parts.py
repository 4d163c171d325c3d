"""Every attention against the loops of `attention_loops`, under the public checker, and with its inputs rearranged."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attention_loops as loops
import numpy as np
import pytest
import torch
from jaxtyping import config

from polymodal.attention.bidirectional import CrossAttention
from polymodal.attention.bottleneck import Bottleneck
from polymodal.attention.co import CoAttention
from polymodal.attention.hierarchical import Hierarchical
from polymodal.attention.none import NoAttention
from polymodal.attention.perceiver import Perceiver
from polymodal.core import catalog
from polymodal.core.checks import check_attention, streams_like
from polymodal.core.errors import SpecError
from polymodal.core.schema import settable
from polymodal.core.streams import Stream, Streams

D, HEADS = 6, 2
NAMES = ("photo", "a title", "weight.sum")

# name -> class, settings, the loop that says the same
PARTS: dict[str, tuple[type, dict[str, Any], Callable]] = {
    "bidirectional": (CrossAttention, {"heads": 2}, lambda w, r: loops.bidirectional(w, r, 2, 2)),
    "bidirectional-share": (CrossAttention, {"layers": 1, "heads": 3, "share": True},
                            lambda w, r: loops.bidirectional(w, r, 1, 3, share=True)),
    "bidirectional-cross": (CrossAttention, {"heads": 2, "ratio": 1, "dropout": 0.2, "self_attention": False},
                            lambda w, r: loops.bidirectional(w, r, 2, 2, self_attention=False)),
    "co": (CoAttention, {"heads": 2}, lambda w, r: loops.stacked(w, r, 2, 2)),
    "co-deep": (CoAttention, {"heads": 1, "layers": 3, "ratio": 2, "dropout": 0.1},
                lambda w, r: loops.stacked(w, r, 3, 1)),
    "co-parallel": (CoAttention, {"form": "parallel"}, loops.parallel),
    "bottleneck": (Bottleneck, {"heads": 2}, lambda w, r: loops.bottleneck(w, r, 2, 2, 0)),
    "bottleneck-mid": (Bottleneck, {"heads": 2, "tokens": 1, "layers": 4, "from_layer": 1, "ratio": 1},
                       lambda w, r: loops.bottleneck(w, r, 4, 2, 1)),
    "perceiver": (Perceiver, {"heads": 2}, lambda w, r: loops.perceiver(w, r, 2, 2)),
    "perceiver-small": (Perceiver, {"heads": 3, "latents": 2, "layers": 1, "ratio": 2, "dropout": 0.3},
                        lambda w, r: loops.perceiver(w, r, 1, 3)),
    "hierarchical": (Hierarchical, {"window": 2}, lambda w, r: loops.hierarchical(w, r, 3, 2)),
    "hierarchical-deep": (Hierarchical, {"levels": 4, "window": 3}, lambda w, r: loops.hierarchical(w, r, 4, 3)),
    "hierarchical-flat": (Hierarchical, {"levels": 1}, lambda w, r: loops.hierarchical(w, r, 1, 4)),
    "none": (NoAttention, {}, loops.none),
}  # fmt: skip
each = pytest.mark.parametrize("name", PARTS)


def build(name: str, inputs: tuple[str, ...], seed: int = 0) -> torch.nn.Module:
    """In double precision, with weights that are not the usual zeros and ones."""
    cls, chosen, _ = PARTS[name]
    part = cls(inputs=inputs, width=D, **chosen)
    g = torch.Generator().manual_seed(seed)
    for key, p in part.named_parameters():
        with torch.no_grad():
            p.copy_(torch.randn(p.shape, generator=g) * 0.5 + (1.0 if "norm" in key and "weight" in key else 0.0))
    return part.double().eval()


def streams(rows: int = 6, seed: int = 3, inputs: tuple[str, ...] = NAMES, longest: int = 9) -> Streams:
    """Rows of different lengths, real tokens anywhere; one row complete, each input missing once, one row empty."""
    g, made = torch.Generator().manual_seed(seed), {}
    for i, name in enumerate(inputs):
        length = longest - 3 * i
        mask = torch.rand(rows, length, generator=g) < 0.6
        mask[:, length // 2] = True
        mask[0] = True
        mask[i + 1] = mask[rows - 1] = False
        maps = (torch.ones(rows, 3, 2, 2), torch.zeros(rows, 1, 1, 1))
        made[name] = Stream(torch.randn(rows, length, D, generator=g).double() * mask[..., None], mask, maps)
    return made


def rows_of(given: Streams, row: int) -> list[np.ndarray]:
    return [s.tokens[row, s.mask[row]].numpy() for s in given.values()]


@each
@pytest.mark.parametrize("count", [1, 2, 3])
def test_contract(name: str, count: int) -> None:
    cls, chosen, _ = PARTS[name]
    given = streams_like(NAMES[:count], D)
    check_attention(lambda: cls(inputs=NAMES[:count], width=D, **chosen), given, export="-" not in name or count == 2)


def test_the_catalogue_finds_them() -> None:
    found = {catalog.load("attention", n, "attention.type") for n in catalog.PARTS["attention"]}
    assert found == {cls for cls, _, _ in PARTS.values()}
    common = {"layers", "heads", "ratio", "dropout"}
    assert set(settable(CrossAttention)) == {*common, "share", "self_attention"}
    assert set(settable(CoAttention)) == {*common, "form"}
    assert set(settable(Bottleneck)) == {*common, "tokens", "from_layer"}
    assert set(settable(Perceiver)) == {*common, "latents"}
    assert set(settable(Hierarchical)) == {"levels", "window"}
    assert not settable(NoAttention)


@each
@pytest.mark.parametrize("count", [1, 2, 3])
def test_against_plain_loops(name: str, count: int) -> None:
    inputs = NAMES[:count]
    part, given = build(name, inputs), streams(inputs=inputs)
    w = {k: v.numpy() for k, v in part.state_dict().items()}
    with torch.no_grad():
        out, notes = part(given)
    assert [s.maps for s in out.values()] == [s.maps for s in given.values()]
    kinds = set()
    for row in range(6):
        expected, weights = PARTS[name][2](w, rows_of(given, row))
        for one, two in zip(rows_of(out, row), expected, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-9)
        for key, value in weights.items():
            targets = [inputs[i] for i in (key if isinstance(key, tuple) else (key,))]
            shown = notes.weights["<-".join(targets if len(targets) == 2 else ["", *targets])]
            real = np.ix_(*(given[n].mask[row].numpy().nonzero()[0] for n in targets))
            np.testing.assert_allclose(shown[row].numpy()[real], value, rtol=1e-9, atol=1e-9)
            assert shown[row].sum().item() == pytest.approx(value.sum())  # nothing on what is masked
            kinds.add(key)
    assert len(kinds) == len(notes.weights)


@each
def test_an_input_whose_others_are_missing_is_alone(name: str) -> None:
    both, alone, given = build(name, NAMES[:2]), build(name, NAMES[:1], seed=1), streams(inputs=NAMES[:2])
    kept = both.state_dict()
    alone.load_state_dict({k: kept[k][: len(v)] for k, v in alone.state_dict().items()})  # of the marks the first
    out, single = both(given)[0][NAMES[0]], alone({NAMES[0]: given[NAMES[0]]})[0][NAMES[0]]
    torch.testing.assert_close(out.tokens[2], single.tokens[2])  # row 2 lacks the second input
    if name != "none":
        assert not torch.allclose(out.tokens[0], single.tokens[0])  # row 0 does not


@pytest.mark.parametrize("name", ["bidirectional", "bidirectional-share", "co", "bottleneck", "perceiver"])
def test_what_is_missing_is_not_seen(name: str) -> None:
    """The Transformer forms mask what is missing, and do not rely on the zeros that stand there."""
    part, given = build(name, NAMES), streams()
    dirty = {n: s._replace(tokens=torch.where(s.mask.any(1)[:, None, None], s.tokens, 7.0)) for n, s in given.items()}
    for one, two in zip(part(dirty)[0].values(), part(given)[0].values(), strict=True):
        torch.testing.assert_close(one.tokens, two.tokens)


PER_INPUT = re.compile(r"\b(norms|rest|blocks|guide|maps|scores)\.(\d)\b|(?<=layers\.\d)\.(\d)\b(?=\.\w)")


def rearranged(weights: dict[str, torch.Tensor], order: list[int]) -> dict[str, torch.Tensor]:
    """The weights for the inputs in another order: new place i is old place order[i]."""
    place = {old: new for new, old in enumerate(order)}
    found = {}
    for key, value in weights.items():
        key = PER_INPUT.sub(lambda m: f"{m[1]}.{place[int(m[2])]}" if m[1] else f".{place[int(m[3])]}", key)
        pair = re.search(r"\b(ask|affinity)\.(\d)_(\d)", key)
        if pair:
            i, j = place[int(pair[2])], place[int(pair[3])]
            if pair[1] == "affinity" and i > j:
                i, j, value = j, i, value.T
            key = key.replace(pair[0], f"{pair[1]}.{i}_{j}")
        found[key] = value[order] if key == "marks.weight" else value
    return found


@each
@pytest.mark.parametrize("order", [[2, 1, 0], [1, 2, 0]])
def test_neither_names_nor_places_matter(name: str, order: list[int]) -> None:
    part, given = build(name, NAMES), streams()
    fresh = [f"input {i}" for i in range(3)]
    other = build(name, tuple(fresh[i] for i in order), seed=1)
    other.load_state_dict(rearranged(part.state_dict(), order))
    renamed = dict(zip(fresh, given.values(), strict=True))
    out, notes = part(given)
    moved, moved_notes = other(renamed)  # the streams in yet another order than the inputs
    for one, two in zip(out.values(), moved.values(), strict=True):
        torch.testing.assert_close(one.tokens, two.tokens)
    for key, value in notes.weights.items():
        for old, new in zip(NAMES, fresh, strict=True):
            key = key.replace(old, new)
        torch.testing.assert_close(moved_notes.weights[key], value)


@each
def test_places_have_weights_of_their_own(name: str) -> None:
    part, given = build(name, NAMES[:2]), streams(inputs=NAMES[:2])
    swapped = dict(zip(reversed(NAMES[:2]), given.values(), strict=True))
    same = torch.allclose(part(given)[0][NAMES[0]].tokens, part(swapped)[0][NAMES[1]].tokens)
    assert same == (name == "none")


def test_weights_are_shown_outside_training_only() -> None:
    given = streams()
    for name, form in (("bidirectional", "pair"), ("co", "pair"), ("perceiver", "one"), ("bottleneck", "none")):
        part = build(name, NAMES)
        shown = {f"{a}<-{b}" for a in NAMES for b in NAMES if a != b} if form == "pair" else {f"<-{n}" for n in NAMES}
        assert set(part(given)[1].weights) == (shown if form != "none" else set())
        assert not part.train()(given)[1].weights
    for name in ("co-parallel", "hierarchical"):
        assert set(build(name, NAMES).train()(given)[1].weights) == {f"<-{n}" for n in NAMES}


@pytest.mark.parametrize("name", ["bidirectional-cross", "co-deep", "perceiver-small"])
def test_dropout_acts_in_training_only(name: str) -> None:
    part, given = build(name, NAMES), streams()
    assert not torch.allclose(part.train()(given)[0][NAMES[0]].tokens, part(given)[0][NAMES[0]].tokens)
    assert torch.equal(part.eval()(given)[0][NAMES[0]].tokens, part(given)[0][NAMES[0]].tokens)


def test_the_mean_over_the_tokens_is_the_attended_sum() -> None:
    given = streams()
    out, notes = build("co-parallel", NAMES)(given)
    for name, stream in given.items():
        a, there = notes.weights[f"<-{name}"], stream.mask.any(1)
        torch.testing.assert_close(a.sum(1), there.double())
        mean = out[name].tokens.sum(1) / stream.mask.sum(1, keepdim=True).clamp(min=1)
        torch.testing.assert_close(mean, torch.einsum("bt,btd->bd", a, stream.tokens))


def test_spans_count_real_tokens_only() -> None:
    """A token between two others that is not real changes nothing: columns of an input may each end with padding."""
    part, given = build("hierarchical", NAMES), streams()
    spread = {
        n: Stream(s.tokens.repeat_interleave(2, 1) * torch.tensor([1.0, 0.0]).repeat(s.tokens.shape[1])[:, None],
                  torch.stack([s.mask, torch.zeros_like(s.mask)], 2).flatten(1))
        for n, s in given.items()
    }  # fmt: skip
    for one, two in zip(part(given)[0].values(), part(spread)[0].values(), strict=True):
        torch.testing.assert_close(one.tokens, two.tokens[:, ::2])


def test_a_flat_hierarchy_is_parallel_coattention() -> None:
    flat, parallel, given = build("hierarchical-flat", NAMES), build("co-parallel", NAMES), streams()
    parallel.load_state_dict({k.replace("levels.0", "look"): v for k, v in flat.state_dict().items()})
    for one, two in zip(flat(given)[0].values(), parallel(given)[0].values(), strict=True):
        torch.testing.assert_close(one.tokens, two.tokens)


@pytest.mark.parametrize("name", ["bottleneck", "bottleneck-mid"])
def test_what_passes_the_bottleneck(name: str) -> None:
    """The other input is heard as soon as two layers share the bottleneck, and not before."""
    part, given = build(name, NAMES[:2]), streams(inputs=NAMES[:2])
    for through in range(1, len(part.layers) + 1):
        short = build(name, NAMES[:2])
        short.layers = short.layers[:through]
        changed = given | {NAMES[1]: given[NAMES[1]]._replace(tokens=given[NAMES[1]].tokens * 2)}
        same = torch.equal(short(given)[0][NAMES[0]].tokens, short(changed)[0][NAMES[0]].tokens)
        assert same == (through < part.from_layer + 2)


@pytest.mark.parametrize(
    "name", ["bidirectional-share", "co", "co-parallel", "bottleneck", "perceiver", "hierarchical"]
)
def test_batches_of_another_size_after_export(name: str) -> None:
    given = streams_like(NAMES[:2], D, rows=4)
    part = PARTS[name][0](inputs=NAMES[:2], width=D, **PARTS[name][1]).eval()
    rows = torch.export.Dim("rows", min=2, max=64)
    shapes = ({n: Stream({0: rows}, {0: rows}, ()) for n in given},)
    config.update("jaxtyping_disable", True)  # comparing shapes would fix them
    try:
        program = torch.export.export(part, (given,), dynamic_shapes=shapes, strict=False)
    finally:
        config.update("jaxtyping_disable", False)
    other = streams_like(NAMES[:2], D, rows=7)
    for one, two in zip(program.module()(other)[0].values(), part(other)[0].values(), strict=True):
        torch.testing.assert_close(one.tokens, two.tokens)


@pytest.mark.parametrize(
    ("cls", "chosen", "where", "said"),
    [
        (CrossAttention, {"heads": 4}, "heads", r"must divide the width, 6(.|\n)*one of \[1, 2, 3, 6\]"),
        (CoAttention, {"heads": 4}, "heads", "must divide the width, 6"),
        (CoAttention, {"form": "parallel", "layers": 2}, "layers", r"stacked form(.|\n)*form: stacked"),
        (CoAttention, {"form": "parallel", "dropout": 0.0}, "dropout", "stacked form"),
        (Bottleneck, {"heads": 4}, "heads", "must divide the width, 6"),
        (Bottleneck, {"heads": 2, "layers": 1}, "layers", r"nothing passes(.|\n)*layers: 2"),
        (Bottleneck, {"heads": 2, "layers": 4, "from_layer": 3}, "layers", r"only 1 after(.|\n)*layers: 5"),
        (Perceiver, {"heads": 5}, "heads", "must divide the width, 6"),
    ],
)
def test_errors(cls: type, chosen: dict, where: str, said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        cls(inputs=NAMES, width=D, **chosen)
    assert caught.value.where == where
