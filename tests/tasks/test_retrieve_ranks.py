"""Ranks, recall, average precision and nDCG against loops and sklearn; ties, copies, weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, ndcg_score

from polymodal.tasks.retrieve import ranks
from polymodal.tasks.retrieve.ranks import Side, find, measures
from polymodal.tasks.retrieve.views import View, near


def side(rows: int, columns: int, shown: list[list[int]], dim: int = 6, tokens: int = 1, seed: int = 0) -> Side:
    """Vectors that are a function of what is shown."""
    vectors, there = np.zeros((rows, columns, tokens, dim), np.float32), np.zeros((rows, columns, tokens), bool)
    for b, row in enumerate(shown):
        for k, digest in enumerate(row):
            if digest >= 0:
                g = np.random.default_rng((seed, digest))
                v = g.normal(size=(tokens, dim))
                vectors[b, k] = v / np.linalg.norm(v, axis=1, keepdims=True)
                there[b, k] = g.random(tokens) < 0.8
                there[b, k, 0] = True
                vectors[b, k] *= there[b, k][:, None]
    return Side(vectors, there, np.array(shown, np.int64))


def drawn(rows: int, columns: int, most: int, base: int, seed: int) -> list[list[int]]:
    g = np.random.default_rng(seed)
    return [[base + int(g.integers(most)) if g.random() > 0.15 else -1 for _ in range(columns)] for _ in range(rows)]


def told(one: Side, two: Side, group: list[int]) -> list[tuple[int, int, float, float]]:
    """(row, rank, average precision, nDCG) of every query, cell by cell; the last two by sklearn."""
    rows = range(len(group))
    items = sorted({int(d) for row in two.shown for d in row if d >= 0})
    where = {d: [(b, k) for b in rows for k in range(two.shown.shape[1]) if two.shown[b, k] == d] for d in items}
    found = []
    for b in rows:
        for k in range(one.shown.shape[1]):
            if one.shown[b, k] < 0:
                continue
            showing = [r for r in rows if one.shown[b, k] in one.shown[r] or r == b]
            alike = [r for r in rows if r in showing or any(group[r] == group[s] != -1 for s in showing)]
            right = np.array([any(r in alike for r, _ in where[d]) for d in items])
            if not right.any():
                continue
            scores = np.array([one.vectors[b, k, 0] @ two.vectors[where[d][0]][0] for d in items])
            order = np.argsort(-scores, kind="stable")
            rank = 1 + int(np.flatnonzero(right[order])[0])
            gain = ndcg_score(right[None].astype(float), scores[None], k=10) if len(items) > 1 else 1.0
            found.append((b, rank, average_precision_score(right, scores), gain))
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("grouped", [False, True])
def test_ranks_against_a_loop_and_sklearn(seed: int, grouped: bool) -> None:
    rows = 30
    one = side(rows, 1, drawn(rows, 1, 20, 0, seed), seed=seed)
    two = side(rows, 3, drawn(rows, 3, 60, 100, seed + 50), seed=seed)
    group = np.random.default_rng(seed).integers(-1, 5, rows) if grouped else np.full(rows, -1)
    for a, b in ((one, two), (two, one)):
        found = find(a, b, group)
        got = sorted(zip(found.row.tolist(), found.rank.tolist(), found.precision, found.gain, strict=True))
        wanted = sorted(told(a, b, group.tolist()))
        np.testing.assert_allclose(np.array(got), np.array(wanted), atol=1e-9)


def test_the_gallery_holds_every_content_once() -> None:
    """Five captions of a picture in five rows or in five columns: the same ranks, and the picture stands there once."""
    captions = [[100 + 5 * p + k for k in range(5)] for p in range(8)]
    wide = side(8, 1, [[p] for p in range(8)]), side(8, 5, captions)
    long = side(40, 1, [[i // 5] for i in range(40)]), side(40, 1, [[100 + i] for i in range(40)])
    none = np.full(40, -1)
    text = [find(b, a, none[: len(a.shown)]) for a, b in (wide, long)]
    np.testing.assert_array_equal(np.sort(text[0].rank), np.sort(text[1].rank))
    picture = [find(a, b, none[: len(a.shown)]) for a, b in (wide, long)]
    np.testing.assert_array_equal(np.repeat(picture[0].rank, 5), picture[1].rank)
    np.testing.assert_allclose(np.repeat(picture[0].precision, 5), picture[1].precision)


def test_ties_go_against_the_query() -> None:
    one, two = side(6, 1, [[i] for i in range(6)]), side(6, 1, [[10 + i] for i in range(6)])
    same = np.ones_like(one.vectors) / np.sqrt(6)
    noise = np.random.default_rng(0).normal(size=same.shape).astype(np.float32) * 2e-7
    found = find(one._replace(vectors=same), two._replace(vectors=same + noise), np.full(6, -1))
    assert found.rank.tolist() == [6] * 6
    np.testing.assert_allclose(found.precision, 1 / 6)
    shared = two._replace(shown=np.array([[10], [10], [10], [13], [14], [15]]))
    found = find(one._replace(vectors=same), shared._replace(vectors=same), np.full(6, -1))
    assert found.rank.tolist() == [4] * 6


def test_measures_are_counted_over_queries_and_weighted_by_rows() -> None:
    rows = 40
    one, two = (side(rows, k, drawn(rows, k, 200, 1000 * k, k), dim=3) for k in (1, 3))
    g = np.random.default_rng(0)
    weights = g.integers(0, 4, (50, rows)).astype(float)
    for a, b in ((one, two), (two, one)):
        found = find(a, b, np.full(rows, -1))
        got = measures(found, rows, weights)
        assert list(got) == ["recall_1", "recall_5", "recall_10", "median_rank", "map", "ndcg_10"]
        for w in range(50):
            times = weights[w][found.row].astype(int)
            each = {name: np.repeat(value, times) for name, value in found._asdict().items()}
            wanted = [(each["rank"] <= k).mean() for k in (1, 5, 10)]
            wanted += [np.median(each["rank"]), each["precision"].mean(), each["gain"].mean()]
            np.testing.assert_allclose([v[w] for v in got.values()], wanted)
    none = measures(found, rows, np.zeros((2, rows)))
    assert all(np.isnan(v).all() for v in none.values())


def test_memory_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = side(50, 1, [[i] for i in range(50)]), side(50, 2, [[100 + i, 200 + i] for i in range(50)])
    weights, none = np.random.default_rng(0).integers(0, 3, (7, 50)).astype(float), np.full(50, -1)
    whole = find(one, two, none)
    told_measures = measures(whole, 50, weights)
    monkeypatch.setattr(ranks, "ROOM", 130)
    chunks = [scores.shape for _, scores in ranks._scores(ranks._items(one), ranks._items(two))]
    assert set(chunks) == {(1, 100)}
    for a, b in zip(whole, find(one, two, none), strict=True):
        np.testing.assert_array_equal(a, b)
    for name, value in measures(whole, 50, weights).items():
        np.testing.assert_allclose(value, told_measures[name])


def test_late_ranks_are_those_of_the_loss() -> None:
    one, two = (side(9, k, [[100 * k + 3 * i + j for j in range(k)] for i in range(9)], tokens=4) for k in (1, 2))
    views = [View(torch.tensor(s.vectors), torch.tensor(s.there), torch.tensor(s.shown), torch.zeros(9).long())
             for s in (one, two)]  # fmt: skip
    scores = near(*views)[:, 0].numpy()  # [row, row, column]
    found = find(one, two, np.full(9, -1))
    for row in range(9):
        best = scores[row, row].max()
        others = np.delete(scores[row], row, axis=0)
        assert found.rank[row] == 1 + (others >= best).sum()


def test_nobody_asks_where_an_input_is_missing() -> None:
    one, two = side(4, 1, [[-1]] * 4), side(4, 1, [[i] for i in range(4)])
    for a, b in ((one, two), (two, one)):
        found = find(a, b, np.full(4, -1))
        assert len(found.rank) == 0
        assert all(np.isnan(v).all() for v in measures(found, 4, np.ones((3, 4))).values())
