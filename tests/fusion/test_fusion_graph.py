"""Fusion over a graph, against edges, normalised adjacencies and attention written out node by node in float64."""

from __future__ import annotations

from math import erf, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fusing import FUSIONS, NAMES, D, array, build, count, linear, make, means, ragged
from polymodal.core.errors import SpecError
from polymodal.core.schema import settable
from polymodal.core.streams import Stream, Streams
from polymodal.fusion.graph import Graph
from polymodal.fusion.links import Links, links
from polymodal.fusion.messages import GraphConvolution

GRAPHS = [n for n in FUSIONS if n.partition("-")[0] == "graph"]
Node = tuple[int, int | None]  # number of the input; place of the token among its real ones, None for the input itself


def long(inputs: tuple[str, ...] = NAMES, seed: int = 3) -> Streams:
    """Twice as many tokens as `ragged` gives, real ones anywhere."""
    one, two = ragged(inputs, seed), ragged(inputs, seed + 1)
    return {n: Stream(*(torch.cat([one[n][i], two[n][i]], 1) for i in (0, 1))) for n in one}


def joined(one: Node, two: Node, reach: int) -> bool:
    """Whether there is an edge, the one from a node to itself too."""
    (i, s), (j, t) = one, two
    if s is None and t is None:
        return True
    if i != j:
        return False
    return s is None or t is None or abs(s - t) <= reach


def loop_graph(part, streams, row):
    """The states of a row's nodes, and how much each input took from each."""
    nodes, x = started(part, streams, row)
    A = [[joined(one, two, part.reach) for two in nodes] for one in nodes]
    alpha = np.zeros((len(nodes), len(nodes)))
    for layer in part.layers:
        normed = [normalised(layer.norm, v) for v in x]
        told, alpha = (convolved if isinstance(layer.told, GraphConvolution) else attended)(layer.told, A, normed)
        x = [v + np.array([0.5 * u * (1 + erf(u / sqrt(2))) for u in h]) for v, h in zip(x, told, strict=True)]
    weights, first = np.zeros((len(streams), len(streams))), [n for n, (_, t) in enumerate(nodes) if t is None]
    for n in first:
        for m in first:
            weights[nodes[n][0], nodes[m][0]] = alpha[n][m]
    return nodes, [normalised(part.norm, v) for v in x], weights


def started(part, streams, row):
    nodes: list[Node] = []
    x, marks = [], array(part.marks.weight)
    for i, mean in enumerate(means(streams, row)):
        nodes, x = (nodes, x) if mean is None else ([*nodes, (i, None)], [*x, mean + marks[i]])
    for i, (tokens, mask, _) in enumerate(streams.values() if part.nodes == "tokens" else ()):
        for rank, place in enumerate(t for t in range(tokens.shape[1]) if mask[row, t]):
            nodes.append((i, rank))
            x.append(tokens[row, place].numpy() + marks[i])
    return nodes, x


def normalised(norm, v):
    return (v - v.mean()) / np.sqrt(v.var() + 1e-5) * array(norm.weight) + array(norm.bias)


def convolved(told, A, x):
    """S^(−½) (A + I) S^(−½) X W + b, with the matrices written out."""
    if not x:
        return [], np.zeros((0, 0))
    root = np.diag([1 / sqrt(sum(row)) for row in A])
    mean = root @ np.array(A, float) @ root @ np.stack(x)
    return [linear(told.map, v) for v in mean], np.zeros((len(x), len(x)))


def attended(told, A, x):
    """Brody et al. 2022, equation 7, edge by edge and head by head."""
    d, a = D // told.heads, array(told.score.weight)[0]
    own, other = ([linear(m, v) for v in x] for m in (told.own, told.other))
    taken, alpha = np.zeros((len(x), D)), np.zeros((len(x), len(x)))
    for h in range(told.heads):
        part = slice(h * d, (h + 1) * d)
        for i in range(len(x)):
            scores = {}
            for j in range(len(x)):
                if A[i][j]:
                    bent = [u if u > 0 else 0.2 * u for u in own[i][part] + other[j][part]]
                    scores[j] = np.exp(sum(c * u for c, u in zip(a[part], bent, strict=True)))
            for j, score in scores.items():
                weight = score / sum(scores.values())
                taken[i, part] += weight * other[j][part]
                alpha[i, j] += weight / told.heads
    return list(taken), alpha


@pytest.mark.parametrize("inputs", [NAMES[:1], NAMES[:2], NAMES])
@pytest.mark.parametrize("name", GRAPHS)
def test_graph_against_a_plain_loop(name: str, inputs: tuple[str, ...]) -> None:
    streams, part = long(inputs), build(name, inputs).double()
    fused, notes = part(streams)
    assert set(notes.weights) == (set() if "convolution" in name else {"inputs"})
    for row in range(6):
        nodes, states, weights = loop_graph(part, streams, row)
        if part.pool == "none":
            np.testing.assert_allclose(array(fused.tokens[row, fused.mask[row]]), states or np.zeros((0, D)), atol=1e-9)
        else:
            kept = [x for (_, t), x in zip(nodes, states, strict=True) if t is None or part.pool == "nodes"]
            mean = sum(kept, np.zeros(D)) / max(len(kept), 1)
            np.testing.assert_allclose(array(fused.tokens[row, 0]), mean, atol=1e-9)
        if notes.weights:
            np.testing.assert_allclose(array(notes.weights["inputs"][row]), weights, atol=1e-12)


def dense(edges: Links, row: int) -> np.ndarray:
    """The links of a row as a matrix."""
    _, N, M = edges.inputs.shape
    A = np.zeros((M, M), int)
    A[:N] = edges.inputs[row]
    for t, (who, open) in enumerate(zip(edges.who[row].tolist(), edges.open[row].tolist(), strict=True)):
        for node, heard in zip(who, open, strict=True):
            A[N + t, node] += heard
    return A


masks = st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(masks, st.integers(1, 3))
def test_links_are_the_edges_of_the_graph(rows: list[list[bool]], reach: int) -> None:
    found = links(torch.tensor([[any(m) for m in rows]]), [torch.tensor([m]) for m in rows], reach)
    nodes: list[Node | None] = [(i, None) if any(m) else None for i, m in enumerate(rows)]
    nodes += [(i, sum(m[:t])) if real else None for i, m in enumerate(rows) for t, real in enumerate(m)]
    A = [[int(bool(a and b) and joined(a, b, reach)) for b in nodes] for a in nodes]
    assert dense(found, 0).tolist() == A  # no edge twice either
    assert found.degrees()[0].tolist() == [sum(row) for row in A]


def test_links_without_tokens_join_the_inputs_that_are_there() -> None:
    found = links(torch.tensor([[True, False, True]]), [], 1)
    assert dense(found, 0).tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 1]]


def test_a_convolution_among_equals_is_the_mean() -> None:
    """Complete graph of inputs: S^(−½) (A + I) S^(−½) has 1/N everywhere."""
    part, x = GraphConvolution(D).double(), torch.randn(2, 3, D).double()
    told, _ = part(x, links(torch.ones(2, 3).bool(), [], 1))
    torch.testing.assert_close(told, part.map(x.mean(1, keepdim=True)).expand(-1, 3, -1))


@pytest.mark.parametrize("name", GRAPHS)
def test_new_names_and_order_with_the_marks_of_old_change_nothing(name: str) -> None:
    streams, part, order = long(), build(name).double(), [2, 0, 1]
    named = dict(zip("xyz", (streams[NAMES[i]] for i in order), strict=True))
    other = make(name, tuple("xyz")).double().eval()
    other.load_state_dict({**part.state_dict(), "marks.weight": part.marks.weight[order]})
    (one, first), (two, second) = part(streams), other(named)
    if name.endswith("none"):  # the same nodes, in another order
        inputs, *tokens = one.tokens.split([3, *(s.tokens.shape[1] for s in streams.values())], 1)
        torch.testing.assert_close(torch.cat([inputs[:, order], *(tokens[i] for i in order)], 1), two.tokens)
    else:
        torch.testing.assert_close(one.tokens, two.tokens)
    for key, weights in first.weights.items():
        torch.testing.assert_close(weights[:, order][:, :, order], second.weights[key])


@pytest.mark.parametrize("name", GRAPHS)
def test_a_missing_input_is_as_if_it_were_not_in_the_spec(name: str) -> None:
    streams, part = long(NAMES[:2]), build(name, NAMES[:2]).double()
    alone = make(name, NAMES[:1]).double().eval()
    alone.load_state_dict({**part.state_dict(), "marks.weight": part.marks.weight[:1]})
    one, two = part(streams)[0], alone({NAMES[0]: streams[NAMES[0]]})[0]
    torch.testing.assert_close(one.tokens[3][one.mask[3]], two.tokens[3][two.mask[3]])  # row 3 lacks the second input
    assert not torch.allclose(one.tokens[0][one.mask[0]].mean(0), two.tokens[0][two.mask[0]].mean(0))  # row 0 does not


@pytest.mark.parametrize("name", GRAPHS)
def test_the_order_of_tokens_says_who_are_neighbours(name: str) -> None:
    streams, part = long(), build(name).double()
    moved = [{n: Stream(s.tokens[:, o(s)], s.mask[:, o(s)]) for n, s in streams.items()} for o in (turned, shuffled)]
    plain, back, mixed = (part(s)[0].tokens.sum(1) for s in (streams, *moved))
    torch.testing.assert_close(plain, back)
    assert torch.allclose(plain, mixed) == (part.nodes == "inputs")


def turned(stream: Stream) -> torch.Tensor:
    return torch.arange(stream.tokens.shape[1]).flip(0)


def shuffled(stream: Stream) -> torch.Tensor:
    return torch.randperm(stream.tokens.shape[1], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", GRAPHS)
def test_a_masked_token_says_nothing_wherever_it_stands(name: str) -> None:
    streams, part = long(), build(name).double()
    loud = {n: Stream(torch.where(s.mask[..., None], s.tokens, 7.0), s.mask) for n, s in streams.items()}
    torch.testing.assert_close(part(streams)[0].tokens, part(loud)[0].tokens)
    spread = {n: Stream(s.tokens.repeat_interleave(2, 1), torch.stack([s.mask, s.mask & False], 2).flatten(1))
              for n, s in streams.items()}  # fmt: skip
    torch.testing.assert_close(part(streams)[0].tokens.sum(1), part(spread)[0].tokens.sum(1))


@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_parameters_as_stated(inputs: int) -> None:
    for name, layers in (("graph", 2), ("graph-inputs", 2), ("graph-none", 1)):
        assert count(make(name, NAMES[:inputs])) == layers * (2 * D**2 + 5 * D) + (inputs + 2) * D
    for name, layers in (("graph-convolution", 2), ("graph-convolution-inputs", 1)):
        assert count(make(name, NAMES[:inputs])) == layers * (D**2 + 3 * D) + (inputs + 2) * D


def test_width_and_settings() -> None:
    assert {make(n).width for n in GRAPHS} == {D}
    assert set(settable(Graph)) == {"form", "nodes", "reach", "layers", "heads", "dropout", "pool"}
    made = Graph(inputs=NAMES, width=8)
    assert (made.nodes, made.reach, made.pool) == ("tokens", 1, "inputs")
    assert [layer.told.heads for layer in made.layers] == [4, 4]


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"heads": 4}, r"heads: must divide the width, 6(.|\n)*one of \[1, 2, 3, 6\]"),
        ({"form": "convolution", "heads": 2}, r"fusion\.heads: form: convolution has none(.|\n)*form: attention"),
        ({"nodes": "inputs", "reach": 2, "heads": 2}, r"fusion\.reach: (.|\n)*nodes: inputs has none(.|\n)*nodes: tok"),
    ],
)
def test_settings_that_cannot_work(chosen: dict, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Graph(inputs=NAMES, width=D, **chosen)


def test_weights_are_shown_outside_training_only() -> None:
    part = build("graph").double()
    weights = part(long())[1].weights["inputs"]
    assert weights.shape == (6, 3, 3)
    assert not weights[5].any()
    assert not weights[2][0].any()  # row 2 lacks the first input: it takes nothing, and nothing is taken from it
    assert not weights[2][:, 0].any()
    assert not part.train()(long())[1].weights


def test_dropout_only_in_training() -> None:
    streams, part = ragged(), Graph(inputs=NAMES, width=D, heads=2, dropout=0.5).double()
    assert not torch.allclose(part.train()(streams)[0].tokens, part(streams)[0].tokens)
    torch.testing.assert_close(part.eval()(streams)[0].tokens, part(streams)[0].tokens)


def test_every_parameter_lives_in_a_module_that_takes_rows_first() -> None:
    assert {type(m) for n in GRAPHS for m in make(n).modules() if list(m.parameters(recurse=False))} == {
        nn.Linear, nn.Embedding, nn.LayerNorm}  # fmt: skip
