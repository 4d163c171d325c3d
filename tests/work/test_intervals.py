"""Bootstrap intervals against closed forms, and how often they hold the truth."""

import json

import numpy as np
import pytest
from scipy import stats

from polymodal.core.contracts import Records
from polymodal.work import intervals as module
from polymodal.work.intervals import intervals, paired, resamples


def mean(records: Records, weights: np.ndarray) -> dict[str, np.ndarray]:
    return {"mean": weights @ records["error"] / weights.sum(1)}


def of(values: np.ndarray) -> Records:
    return {"error": np.asarray(values, np.float64)}


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    x = np.random.default_rng(0).normal(5, 2, 400)
    found = intervals(mean, of(x), seed=1, draws=4000)["mean"]
    width = 1.96 * x.std() / np.sqrt(400)
    assert found["value"] == pytest.approx(x.mean())
    assert found["ci95"] == pytest.approx([x.mean() - width, x.mean() + width], abs=0.1 * width)


def test_it_holds_the_truth_in_about_95_of_100() -> None:
    rng, held = np.random.default_rng(0), 0
    for trial in range(300):
        low, high = intervals(mean, of(rng.random(200) < 0.7), seed=trial, draws=300)["mean"]["ci95"]
        held += low <= 0.7 <= high
    assert stats.binomtest(held, 300, 0.94).pvalue > 0.001, held


def test_clusters_are_drawn_together() -> None:
    values = np.random.default_rng(0).normal(size=100)
    rows, clusters = of(np.repeat(values, 10)), np.repeat(np.arange(100), 10) * 7 - 3
    alone, grouped = intervals(mean, rows, 0), intervals(mean, rows, 0, clusters=clusters)
    widths = [np.ptp(i["mean"]["ci95"]) for i in (intervals(mean, of(values), 0), grouped, alone)]
    assert widths[0] == pytest.approx(widths[1])  # ten copies of a row tell nothing new
    assert widths[2] == pytest.approx(widths[0] / np.sqrt(10), rel=0.15)
    for weights in resamples(1000, 0, 20, clusters):
        assert (weights.reshape(-1, 100, 10) == weights.reshape(-1, 100, 10)[:, :, :1]).all()


def test_the_same_seed_draws_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x = of(np.random.default_rng(0).normal(size=50))
    whole = np.concatenate(list(resamples(50, 3, 100)))
    assert intervals(mean, x, 3) == intervals(mean, x, 3)
    assert intervals(mean, x, 3) != intervals(mean, x, 4)
    assert (whole[0] == 1).all()
    assert (whole.sum(1) == 50).all()
    assert len(whole) == 101
    monkeypatch.setattr(module, "ENTRIES", 50 * 7)  # seven resamples at once
    np.testing.assert_array_equal(np.concatenate(list(resamples(50, 3, 100))), whole)


def test_counts_are_those_of_drawing_with_replacement() -> None:
    counts = np.concatenate(list(resamples(20, 0, 5000)))[1:]
    np.testing.assert_allclose(counts.mean(0), 1, atol=0.1)
    np.testing.assert_allclose(counts.var(), 1 - 1 / 20, rtol=0.05)  # multinomial


def test_pairs_are_measured_on_the_same_rows() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 5, 300)  # the rows differ much, the models little
    ours, rival = of(hard + rng.normal(0.1, 0.1, 300)), of(hard)
    found = paired(mean, ours, rival, seed=0)["mean"]
    assert found["value"] == pytest.approx(np.mean(ours["error"] - rival["error"]))
    width = 1.96 * np.std(ours["error"] - rival["error"]) / np.sqrt(300)
    assert found["ci95"] == pytest.approx([found["value"] - width, found["value"] + width], abs=0.2 * width)
    assert paired(mean, ours, ours, seed=0)["mean"] == {"value": 0.0, "ci95": [0.0, 0.0]}
    with pytest.raises(ValueError, match="same rows"):
        paired(mean, ours, of(hard[:5]), seed=0)


def test_what_is_not_defined_is_none() -> None:
    def odd(records: Records, weights: np.ndarray) -> dict[str, np.ndarray]:
        every = np.where(weights[:, 0] > 0, weights[:, 0], np.nan)
        return {"never": np.full(len(weights), np.nan), "often": every}

    found = intervals(odd, of(np.zeros(5)), 0)
    assert found["never"] == {"value": None, "ci95": [None, None]}
    assert found["often"]["ci95"][0] == 1
    assert intervals(odd, of(np.zeros(1)), 0, draws=0)["often"] == {"value": 1.0, "ci95": [None, None]}
    json.dumps(found, allow_nan=False)


def test_no_rows() -> None:
    def empty(records: Records, weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"mean": np.full(len(weights), np.nan)}

    assert intervals(empty, of(np.zeros(0)), 0) == {"mean": {"value": None, "ci95": [None, None]}}


@pytest.mark.parametrize(("rows", "draws"), [(1, 1000), (20, 1000), (40, 500), (100, 200), (9000, 200)])
def test_many_rows_are_drawn_fewer_times(monkeypatch: pytest.MonkeyPatch, rows: int, draws: int) -> None:
    """So that time does not grow with a thousand times the rows (here in thousandths); no more are made at once."""
    monkeypatch.setattr(module, "DRAWN", 20_000)
    monkeypatch.setattr(module, "ENTRIES", 2_000)
    made = list(resamples(rows, 0, 1000))
    assert sum(map(len, made)) == 1 + draws
    assert max(weights.size for weights in made) <= max(2_000, rows)
    assert sum(map(len, resamples(rows, 0, 7))) == 8
