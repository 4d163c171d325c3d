"""The promise of abstaining by simulation: rarely broken, worth having, and never read off luck."""

from __future__ import annotations

import numpy as np
import pytest

from polymodal.work.trust.abstain import threshold


def drawn(rows: int, power: float, g: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Confidence in (½, 1) that is as often right as it says."""
    sure = 0.5 + 0.5 * g.random(rows) ** (1 / power)
    return sure, g.random(rows) < sure


def accuracy_from(least: float, power: float) -> float:
    """The mean of the confidence from `least` on, by the density power · u^(power - 1) of u = 2 sure - 1."""
    u = max(0.0, 2 * least - 1)
    mean = power / (power + 1) * (1 - u ** (power + 1)) / (1 - u**power)
    return 0.5 + 0.5 * mean


@pytest.mark.parametrize(
    ("rows", "power", "level"), [(150, 3.0, 0.95), (400, 1.0, 0.9), (400, 10.0, 0.98), (3000, 3.0, 0.95)]
)
def test_the_accuracy_is_kept_in_nine_of_ten_trainings(rows: int, power: float, level: float) -> None:
    g, broken = np.random.default_rng(0), 0
    for _ in range(400):
        least = threshold(*drawn(rows, power, g), level).least
        broken += np.isfinite(least) and accuracy_from(least, power) < level
    assert broken / 400 <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 400)


def test_where_every_threshold_is_a_trap_hardly_any_is_trusted() -> None:
    """Confidence that says nothing, and an accuracy just short of the level: the worst case, at all 24 thresholds."""
    g = np.random.default_rng(3)
    trusted = [np.isfinite(threshold(g.random(1200), g.random(1200) < 0.9495, 0.95).least) for _ in range(600)]
    assert 0.02 < np.mean(trusted) <= 0.1 + 2 * np.sqrt(0.1 * 0.9 / 600)


def test_with_many_rows_nearly_all_that_can_be_answered_is() -> None:
    g = np.random.default_rng(0)
    least = [threshold(*drawn(20000, 3.0, g), 0.95).least for _ in range(20)]
    possible = next(t for t in np.linspace(0.5, 1, 2001) if accuracy_from(t, 3.0) >= 0.95)
    assert all(t > possible - 0.01 for t in least)
    assert np.median(least) < possible + 0.04


def test_a_model_that_is_right_enough_answers_everything() -> None:
    g = np.random.default_rng(1)
    sure = g.random(1000)
    found = threshold(sure, g.random(1000) < 0.99, 0.95)
    assert (found.least, found.answered) == (0.0, 1000)


def test_confidence_that_says_nothing_answers_nothing() -> None:
    g = np.random.default_rng(1)
    found = threshold(g.random(1000), g.random(1000) < 0.8, 0.95)
    assert found.least == np.inf
    assert found.answered == found.right == 0
    assert 0.75 < found.best[0] <= 1
    assert found.best[1] >= 50


def test_one_mistake_among_the_surest_does_not_end_the_search() -> None:
    sure = np.linspace(0.5, 1, 1000)
    right = sure > 0.6
    right[-3] = False
    assert threshold(sure, right, 0.9).answered > 700


def test_rows_of_one_confidence_stand_and_fall_together() -> None:
    sure = np.repeat([0.99, 0.7], 500)
    right = np.r_[np.ones(500, bool), np.arange(500) % 2 == 0]
    found = threshold(sure, right, 0.95)
    assert 0.7 < found.least <= 0.99
    assert found.answered == 500
    assert threshold(np.ones(200), np.ones(200, bool), 0.95).least == 0.0


@pytest.mark.parametrize("rows", [0, 1, 5, 20])
def test_too_few_rows_show_nothing(rows: int) -> None:
    found = threshold(np.full(rows, 0.9), np.ones(rows, bool), 0.95)
    assert (found.least, found.rows) == (np.inf, rows)


def test_the_order_of_the_rows_does_not_matter() -> None:
    g = np.random.default_rng(2)
    sure, right = drawn(500, 3.0, g)
    mixed = g.permutation(500)
    assert threshold(sure, right, 0.9) == threshold(sure[mixed], right[mixed], 0.9)
