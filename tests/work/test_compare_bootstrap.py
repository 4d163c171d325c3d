"""The hierarchical bootstrap against closed forms, brute force and simulation; Holm and Kendall against references."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from polymodal.core.contracts import Records
from polymodal.work import intervals as resampling
from polymodal.work.compare.bootstrap import Draws, difference, holm, kendall, needed, p_value, told
from polymodal.work.intervals import intervals, resamples


def mean(records: Records, weights: np.ndarray) -> dict[str, np.ndarray]:
    return {"mean": weights @ records["error"] / weights.sum(1)}


def of(values: np.ndarray) -> Records:
    return {"error": np.asarray(values, np.float64)}


def runs(rng: np.random.Generator, rows: np.ndarray, seeds: int, of_seed: float, of_both: float) -> dict[int, Records]:
    """Row effects that all seeds share, seed effects that all rows share, and what only a row of one seed has."""
    return {s: of(rows + rng.normal(0, of_seed) + rng.normal(0, of_both, len(rows))) for s in range(seeds)}


def test_a_draw_is_the_mean_over_drawn_seeds_on_drawn_rows() -> None:
    """By brute force: every draw is one of the means over S - 1 seeds, on that draw's rows."""
    records = runs(np.random.default_rng(0), np.zeros(30), 3, 1.0, 1.0)
    samples = Draws(30, [0, 1, 2], seed=5, draws=40).level(mean, records)["mean"]
    weights = np.concatenate(list(resamples(30, 5, 40)))
    by_seed = np.stack([weights @ r["error"] / 30 for r in records.values()])
    assert samples[0] == pytest.approx(by_seed[:, 0].mean())
    pairs = np.array(list(itertools.combinations_with_replacement(range(3), 2)))
    possible = by_seed[pairs].mean(1)
    fits = np.isclose(possible, samples).any(0)
    assert fits[1:].all()
    chosen = np.isclose(possible, samples).argmax(0)[1:]
    assert len(np.unique(chosen)) == len(pairs)  # all of them are drawn


def test_one_seed_or_none_is_a_bootstrap_of_rows() -> None:
    x, clusters = of(np.random.default_rng(0).normal(size=60)), np.repeat(np.arange(20), 3)
    for groups in (None, clusters):
        draws = Draws(60, [7], seed=3, clusters=groups)
        expected = intervals(mean, x, 3, clusters=groups)["mean"]
        for samples in (draws.level(mean, {7: x}), draws.fixed(mean, x)):
            found = told(samples["mean"])
            assert found["value"] == pytest.approx(expected["value"])
            assert found["ci95"] == pytest.approx(expected["ci95"])


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_variance_of_seeds_is_that_of_their_mean(seeds: int) -> None:
    """Seeds alone differ: the draws vary by s^2 / S, not by the (S - 1) / S of it that S drawn seeds would give."""
    levels = np.random.default_rng(1).normal(size=seeds)
    records = {s: of(np.full(8, level)) for s, level in enumerate(levels)}
    samples = Draws(8, range(seeds), draws=40_000).level(mean, records)["mean"]
    assert samples[1:].var() == pytest.approx(levels.var(ddof=1) / seeds, rel=0.03)


def test_the_variance_of_rows_and_seeds_adds_up() -> None:
    rng = np.random.default_rng(2)
    records = runs(rng, rng.normal(0, 1, 400), 6, 0.08, 0.0)
    samples = Draws(400, range(6), draws=4000).level(mean, records)["mean"]
    levels = np.array([r["error"].mean() for r in records.values()])
    expected = levels.var(ddof=1) / 6 + records[0]["error"].var() / 400
    assert samples[1:].var() == pytest.approx(expected, rel=0.08)


def test_clusters_of_rows_are_drawn_together() -> None:
    values = np.random.default_rng(0).normal(size=(2, 50))
    records = {s: of(np.repeat(v, 10)) for s, v in enumerate(values)}
    clustered = Draws(500, [0, 1], clusters=np.repeat(np.arange(50), 10)).level(mean, records)["mean"]
    single = Draws(50, [0, 1]).level(mean, {s: of(v) for s, v in enumerate(values)})["mean"]
    np.testing.assert_allclose(clustered, single)  # ten copies of a row tell nothing new


def test_intervals_hold_the_truth_and_tests_keep_their_level() -> None:
    """No difference between two candidates on shared rows, five seeds: the interval holds 0 in about 95 of 100."""
    rng, held, rejected, trials = np.random.default_rng(0), 0, 0, 200
    for trial in range(trials):
        rows = rng.normal(0, 1, 100)
        draws = Draws(100, range(5), seed=trial, draws=200)
        ours = runs(rng, rows + rng.normal(0, 0.5, 100), 5, 0.05, 0.2)
        rival = runs(rng, rows, 5, 0.05, 0.2)
        found = difference(draws.level(mean, ours)["mean"], draws.level(mean, rival)["mean"])
        low, high = found["ci95"]
        held += low <= 0 <= high
        rejected += found["p"] < 0.05
        assert (found["p"] < 0.05) == (not low <= 0 <= high) or abs(found["p"] - 0.05) < 0.02
    assert 0.90 <= held / trials <= 0.99
    assert 0.01 <= rejected / trials <= 0.10


def test_candidates_are_paired_over_rows_and_seeds() -> None:
    """Rows and seeds differ far more than the candidates do: only the difference of the same draws can tell."""
    rng = np.random.default_rng(0)
    rows, levels = rng.normal(0, 5, 200), rng.normal(0, 5, 4)
    rival = {s: of(rows + level) for s, level in enumerate(levels)}
    ours = {s: of(r["error"] + rng.normal(0.1, 0.1, 200)) for s, r in rival.items()}
    draws = Draws(200, range(4), seed=1)
    one, two = draws.level(mean, ours)["mean"], draws.level(mean, rival)["mean"]
    found = difference(one, two)
    assert found["value"] == pytest.approx(0.1, abs=0.02)
    assert 0.08 < found["ci95"][0] < found["ci95"][1] < 0.12
    assert np.ptp(told(one)["ci95"]) > 50 * np.ptp(found["ci95"])
    assert difference(one, one) == {"value": 0.0, "ci95": [0.0, 0.0], "p": 1.0}


def test_a_candidate_may_lack_a_seed() -> None:
    records = {s: of(np.full(4, float(s))) for s in range(3)}
    draws = Draws(4, [0, 1, 2], draws=500)
    whole, two = draws.level(mean, records)["mean"], draws.level(mean, {s: records[s] for s in (0, 2)})["mean"]
    assert (whole[0], two[0]) == (1.0, 1.0)
    seen = set(
        zip(whole[1:].tolist(), two[1:].tolist(), strict=True)
    )  # means of 0 0, 0 1, 0 2, 1 2, 2 2; nothing of 1 1
    assert {pair for pair in seen if not np.isnan(pair[1])} == {(0, 0), (0.5, 0), (1, 1), (1.5, 2), (2, 2)}
    assert {pair[0] for pair in seen if np.isnan(pair[1])} == {1.0}
    assert np.isnan(two).any()
    assert told(two)["ci95"] == [0.0, 2.0]


def test_what_does_not_go_together_is_refused() -> None:
    draws = Draws(4, [0, 1])
    with pytest.raises(ValueError, match="5 rows, not 4"):
        draws.level(mean, {0: of(np.zeros(5))})
    with pytest.raises(ValueError, match=r"seeds \[9\]"):
        draws.level(mean, {9: of(np.zeros(4))})
    with pytest.raises(ValueError, match="different"):
        Draws(4, [1, 1])
    with pytest.raises(ValueError, match="different"):
        Draws(4, [])


def test_memory_is_bounded_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    records = runs(np.random.default_rng(0), np.zeros(40), 3, 1.0, 1.0)
    at_once: list[int] = []

    def watched(given: Records, weights: np.ndarray) -> dict[str, np.ndarray]:
        at_once.append(weights.size)
        return mean(given, weights)

    whole = Draws(40, range(3), draws=100).level(mean, records)["mean"]
    monkeypatch.setattr(resampling, "ENTRIES", 280)
    np.testing.assert_allclose(Draws(40, range(3), draws=100).level(watched, records)["mean"], whole, rtol=1e-12)
    assert max(at_once) <= 280
    assert len(at_once) == 3 * 16  # no seed is measured twice on the same draw of rows


def test_a_measure_that_is_not_defined_is_none() -> None:
    def never(records: Records, weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"never": np.full(len(weights), np.nan)}

    found = Draws(3, [0, 1]).level(never, {0: of(np.zeros(3)), 1: of(np.zeros(3))})["never"]
    assert difference(found, found) == {"value": None, "ci95": [None, None], "p": None}


def test_p_value_by_hand() -> None:
    assert p_value(np.array([9.0, *[1.0] * 99])) == pytest.approx(2 / 100)
    assert p_value(np.array([9.0, *[1.0] * 97, -1.0, -2.0])) == pytest.approx(2 * 3 / 100)
    assert p_value(np.array([9.0, *[-1.0] * 97, 1.0, 2.0])) == pytest.approx(2 * 3 / 100)
    assert p_value(np.array([0.0, 0.0, 0.0])) == 1.0
    assert p_value(np.array([1.0, np.nan])) is None
    for tests in (1, 12, 40):
        assert tests * 2 / (needed(tests) + 1) < 0.025 + 1e-9


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_is_that_of_his_paper(values: list[float]) -> None:
    """The step-down procedure itself: hypotheses are rejected in order until the first that is not."""
    adjusted = holm({str(i): v for i, v in enumerate(values)})
    for alpha in (0.01, 0.05, 0.3):
        rejected: set[str] = set()
        for rank, i in enumerate(sorted(range(len(values)), key=lambda i: (values[i], str(i)))):
            if values[i] > alpha / (len(values) - rank):
                break
            rejected.add(str(i))
        near = {n for n, p in adjusted.items() if p is not None and abs(p - alpha) < 1e-9}
        assert {n for n, p in adjusted.items() if p is not None and p <= alpha} - near == rejected - near


def test_holm_by_hand() -> None:
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005, "failed": None})
    expected = {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02, "failed": None}
    assert list(found) == list(expected)
    assert found == pytest.approx(expected)
    assert holm({}) == {}


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 9), st.integers(0, 10_000), st.integers(2, 12))
def test_kendall_is_scipys(count: int, seed: int, values: int) -> None:
    x, y = np.random.default_rng(seed).integers(0, values, (2, count, 5)).astype(float)
    found = kendall(x, y)
    for draw in range(5):
        assert kendall(x[:, draw], y[:, draw]) == pytest.approx(found[draw], nan_ok=True)
        expected = stats.kendalltau(x[:, draw], y[:, draw]).statistic
        assert found[draw] == pytest.approx(expected, nan_ok=True)


def test_kendall_has_an_interval() -> None:
    rng = np.random.default_rng(0)
    order = np.arange(6.0)[:, None]
    clear = told(kendall(order + rng.normal(0, 0.01, (6, 101)), order + rng.normal(0, 0.01, (6, 101))))
    assert clear == {"value": 1.0, "ci95": [1.0, 1.0]}
    vague = told(kendall(order + rng.normal(0, 2, (6, 101)), order + rng.normal(0, 2, (6, 101))))
    assert vague["ci95"][0] < 0.3
