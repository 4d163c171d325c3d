"""Every measure against scikit-learn (with sample weights), or a plain loop, on random data with ties."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from polymodal.tasks import metrics, ranking

seeds = st.integers(0, 2**31)
few = settings(max_examples=25, deadline=None)


def draw(seed: int, rows: int = 60, classes: int = 4, weightings: int = 3, steps: int | None = None) -> tuple:
    """Scores (rounded to `steps` levels: ties), truth and guess, weights like those of a bootstrap."""
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet(np.ones(classes), rows)
    if steps:
        scores = np.round(scores * steps) / steps
    truth = rng.integers(0, classes, rows)
    weights = np.r_[np.ones((1, rows)), rng.multinomial(rows, np.ones(rows) / rows, weightings - 1).astype(float)]
    return scores, truth, scores.argmax(1), weights


def kept(weights: np.ndarray, *arrays: np.ndarray) -> list:
    """Rows of weight 0 are absent."""
    return [a[weights > 0] for a in (weights, *arrays)]


@few
@given(seeds, st.sampled_from([2, 3, 7]))
def test_of_classes(seed: int, classes: int) -> None:
    _, truth, guess, weights = draw(seed, rows=30, classes=classes)
    truth = np.where(np.random.default_rng(seed).random(30) < 0.1, -1, truth)  # not seen in training
    right, have, given_ = metrics.hits(truth, guess, classes, weights)
    accuracy, recall = metrics.mean(truth == guess, weights), metrics.recall(right, have)
    macro_f1 = metrics.mean_defined(metrics.f1(right, have, given_))
    for w, row in enumerate(weights):
        used, t, g = kept(row, truth, guess)
        assert accuracy[w] == pytest.approx(sk.accuracy_score(t, g, sample_weight=used))
        assert macro_f1[w] == pytest.approx(sk.f1_score(t, g, sample_weight=used, average="macro", zero_division=0))
        per_class = sk.recall_score(t, g, sample_weight=used, average=None, labels=np.unique(t))
        assert recall[w] == pytest.approx(per_class.mean())


@few
@given(seeds, st.sampled_from([None, 5, 20]), st.sampled_from([2, 4]))
def test_areas(seed: int, steps: int | None, classes: int) -> None:
    scores, truth, _, weights = draw(seed, classes=classes, steps=steps, rows=25)
    one_hot = truth[:, None] == np.arange(classes)
    auroc, precision = ranking.macro_areas(scores, one_hot, weights)
    for w, row in enumerate(weights):
        areas, precisions = [], []
        for c in range(classes):
            used, t, s = kept(row, one_hot[:, c], scores[:, c])
            if t.any():
                precisions.append(sk.average_precision_score(t, s, sample_weight=used))
            if t.any() and not t.all():
                areas.append(sk.roc_auc_score(t, s, sample_weight=used))
        assert auroc[w] == pytest.approx(np.mean(areas), abs=1e-12)
        assert precision[w] == pytest.approx(np.mean(precisions), abs=1e-12)


@few
@given(seeds)
def test_areas_with_any_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, truth, weights = np.round(rng.normal(size=40), 1), rng.random(40) < 0.3, rng.exponential(size=(2, 40))
    truth[:2] = True, False
    auroc, precision = ranking.macro_areas(scores[:, None], truth[:, None], weights)
    for w, row in enumerate(weights):
        assert auroc[w] == pytest.approx(sk.roc_auc_score(truth, scores, sample_weight=row))
        assert precision[w] == pytest.approx(sk.average_precision_score(truth, scores, sample_weight=row))


def test_areas_in_many_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, truth, _, weights = draw(1, weightings=7)
    one_hot = truth[:, None] == np.arange(4)
    whole = ranking.macro_areas(scores, one_hot, weights)
    monkeypatch.setattr(ranking, "MEMORY", 60 * 8 * ranking.COPIES * 2)  # two weightings at once
    for one, two in zip(whole, ranking.macro_areas(scores, one_hot, weights), strict=True):
        np.testing.assert_allclose(one, two)


def test_areas_without_a_contrast() -> None:
    scores, weights = np.array([[0.1], [0.9], [0.5]]), np.array([[1.0, 1, 1], [0, 1, 1], [1, 0, 1]])
    auroc, precision = ranking.macro_areas(scores, np.array([[False], [True], [True]]), weights)
    np.testing.assert_allclose(auroc, [1, np.nan, 1])
    np.testing.assert_allclose(precision, [1, 1, 1])
    nothing = ranking.macro_areas(scores, np.zeros((3, 1), bool), weights)
    assert np.isnan(nothing).all()


@few
@given(seeds, st.sampled_from([1, 5]), st.sampled_from([None, 15, 30]))
def test_calibration_error(seed: int, decisions: int, steps: int | None) -> None:
    rng = np.random.default_rng(seed)
    sure = rng.random((40, decisions))
    if steps:
        sure = np.round(sure * steps) / steps  # on the edges of the bins
    right, weights = rng.random((40, decisions)) < sure, rng.integers(0, 4, (2, 40)).astype(float)
    found = metrics.calibration_error(metrics.calibration_gaps(sure, right), decisions, weights)
    for w, row in enumerate(weights):
        error = 0.0
        for b in range(15):
            inside = [(i, k) for i in range(40) for k in range(decisions)
                      if b / 15 < sure[i, k] <= (b + 1) / 15 or (b == 0 and sure[i, k] == 0)]  # fmt: skip
            mass = sum(row[i] for i, _ in inside)
            if mass:
                accuracy = sum(row[i] * right[i, k] for i, k in inside) / mass
                confidence = sum(row[i] * sure[i, k] for i, k in inside) / mass
                error += mass / (row.sum() * decisions) * abs(accuracy - confidence)
        assert found[w] == pytest.approx(error, abs=1e-12)


@few
@given(seeds, st.floats(-1e6, 1e6))
def test_of_numbers(seed: int, offset: float) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.normal(offset, 3, 30)
    guess, weights = truth + rng.normal(0, 1, 30), rng.integers(0, 4, (3, 30)).astype(float)
    squares, absolute = metrics.mean((truth - guess) ** 2, weights), metrics.mean(np.abs(truth - guess), weights)
    r2 = metrics.r2(truth, guess, weights)
    for w, row in enumerate(weights):
        assert squares[w] == pytest.approx(sk.mean_squared_error(truth, guess, sample_weight=row))
        assert absolute[w] == pytest.approx(sk.mean_absolute_error(truth, guess, sample_weight=row))
        assert r2[w] == pytest.approx(sk.r2_score(truth, guess, sample_weight=row), abs=1e-8)


def test_r2_of_equal_targets_is_not_defined() -> None:
    truth, weights = np.array([0.1, 0.1, 7.3]), np.array([[1.0, 1, 0], [1, 1, 1]])
    found = metrics.r2(truth, truth + 1, weights)
    assert np.isnan(found[0])
    assert np.isfinite(found[1])


def test_without_rows_nothing_is_defined() -> None:
    none, weights = np.zeros(0), np.ones((2, 0))
    labels = none.astype(np.int64)
    assert np.isnan(metrics.mean(none, weights)).all()
    assert np.isnan(metrics.r2(none, none, weights)).all()
    assert np.isnan(metrics.recall(*metrics.hits(labels, labels, 3, weights)[:2])).all()
    assert np.isnan(ranking.macro_areas(np.zeros((0, 3)), np.zeros((0, 3), bool), weights)).all()
    assert np.isnan(
        metrics.calibration_error(metrics.calibration_gaps(np.zeros((0, 1)), np.zeros((0, 1), bool)), 1, weights)
    ).all()


def test_a_thousand_weightings_cost_less_than_forty_by_scikit_learn() -> None:
    scores, truth, _, weights = draw(0, rows=5000, classes=10, weightings=1000)
    one_hot = truth[:, None] == np.arange(10)
    start = time.perf_counter()
    ranking.macro_areas(scores, one_hot, weights)
    ours, start = time.perf_counter() - start, time.perf_counter()
    for row in weights[:40]:
        sk.roc_auc_score(one_hot, scores, average="macro", sample_weight=row)
        sk.average_precision_score(one_hot, scores, average="macro", sample_weight=row)
    assert ours < time.perf_counter() - start
