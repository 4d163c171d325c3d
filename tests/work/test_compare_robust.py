"""Curves and the two kinds of robustness against closed forms and MultiBench's own sums."""

import numpy as np
import pytest

from polymodal.core.contracts import Records
from polymodal.work.compare.robust import effective, gone, mixed, relative, scaled

TENTHS = [i / 10 for i in range(11)]


def curve(*scores: float) -> np.ndarray:
    return np.array(scores)[:, None]


def test_relative_is_the_area_under_the_curve() -> None:
    x = np.array(TENTHS)
    assert relative(TENTHS, curve(*(1 - x))) == pytest.approx(0.5)
    assert relative([0.0, 0.1, 1.0], curve(1.0, 0.9, 0.0)) == pytest.approx(0.5)  # levels need not be even
    assert relative([0.0, 0.5], curve(0.8, 0.4)) == pytest.approx(0.6)  # nor reach 1
    assert relative(TENTHS, curve(*(1 - x) ** 2)) == pytest.approx(1 / 3, abs=0.003)
    assert relative(TENTHS, curve(*x)) == pytest.approx(np.trapezoid(x, x))
    samples = np.random.default_rng(0).random((11, 5))
    np.testing.assert_allclose(relative(TENTHS, samples), np.trapezoid(samples, dx=0.1, axis=0))


def test_effective_is_beyond_what_the_clean_score_predicts() -> None:
    base = curve(0.9, 0.7, 0.5)
    levels = [0.0, 0.5, 1.0]
    assert effective(levels, base, base) == pytest.approx(0)
    assert effective(levels, base - 0.2, base) == pytest.approx(0)  # worse, and falls as the baseline does
    assert effective(levels, curve(0.9, 0.9, 0.9), base) == pytest.approx((0 + 0.2) / 4 + (0.2 + 0.4) / 4)
    assert effective(levels, curve(0.9, 0.5, 0.1), base) < 0
    error = effective(levels, 1 - curve(0.9, 0.9, 0.9), 1 - base, lower=True)
    assert error == pytest.approx(effective(levels, curve(0.9, 0.9, 0.9), base))


def test_effective_orders_as_multibench_does() -> None:
    """There the gaps are summed over eleven levels; by trapezoids the last one counts half, the first is 0."""
    rng = np.random.default_rng(0)
    ours, late = np.sort(rng.random((2, 11, 1)), axis=1)[:, ::-1]
    gap = (ours - (late + ours[0] - late[0]))[:, 0]
    assert effective(TENTHS, ours, late) == pytest.approx((gap.sum() - gap[-1] / 2) / 10)


def test_levels_must_rise() -> None:
    one, two, three = curve(1.0), curve(1.0, 1.0), curve(1.0, 1.0, 1.0)
    for levels, scores in (([0.0], one), ([0.0, 0.0], two), ([0.0, 1.0], three), ([1.0, 0.0], two)):
        with pytest.raises(ValueError, match="rising"):
            relative(levels, scores)


def test_scaled_runs_from_the_worst_to_the_best() -> None:
    assert scaled({"a": 1.0, "b": 3.0, "c": 2.5, "failed": None}) == {"a": 0.0, "b": 1.0, "c": 0.75, "failed": None}
    assert scaled({"a": 1.0, "b": 3.0, "c": 2.5}, lower=True) == {"a": 1.0, "b": 0.0, "c": 0.25}
    assert scaled({"a": 1.0, "b": 1.0}) == {"a": None, "b": None}
    assert scaled({}) == {}


def test_rows_go_missing_by_lot_and_stay_missing() -> None:
    rows = np.arange(4000) * 3
    lacking = {share: gone(rows, share, 0, "photo") for share in (0.0, 0.25, 0.5, 1.0)}
    assert not lacking[0.0].any()
    assert lacking[1.0].all()
    assert lacking[0.25].mean() == pytest.approx(0.25, abs=0.03)
    assert (lacking[0.25] <= lacking[0.5]).all()
    np.testing.assert_array_equal(gone(rows[::-1], 0.5, 0, "photo")[::-1], lacking[0.5])
    both = (gone(rows, 0.5, 0, "title") & lacking[0.5]).mean()
    assert both == pytest.approx(0.25, abs=0.03)  # inputs go missing by themselves
    assert (gone(rows, 0.5, 1, "photo") != lacking[0.5]).mean() == pytest.approx(0.5, abs=0.05)


def test_records_of_lacking_rows_are_those_without_the_input() -> None:
    whole: Records = {"error": np.arange(4.0), "scores": np.zeros((4, 2))}
    blind: Records = {"error": np.arange(4.0) + 10, "scores": np.ones((4, 2))}
    found = mixed(whole, blind, np.array([True, False, False, True]))
    assert found["error"].tolist() == [10, 1, 2, 13]
    assert found["scores"].tolist() == [[1, 1], [0, 0], [0, 0], [1, 1]]
