"""The recipe of made-up tastes: what is drawn is what is said, and what it is compared with is counted right."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import binomtest

from polymodal.data.tables import open_table

HERE = Path(__file__).parents[1] / "recipes"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])
    module = importlib.import_module("recommend_digits")
    monkeypatch.setattr(module, "USERS", 60)
    return module


def test_tastes_are_as_they_are_said(recipe: ModuleType) -> None:
    g = np.random.default_rng(0)
    digits, appeal = g.integers(0, 10, 2000), np.exp(g.normal(size=2000))
    takes = recipe.takes(digits, appeal)
    assert takes == recipe.takes(digits, appeal), "the same for everybody"
    assert len(takes) == 60 * recipe.TAKES
    odds, taken = np.array([t["odds"] for t in takes]), np.array([digits[t["item"]] for t in takes])
    np.testing.assert_allclose(odds.sum(1), 1)
    likely = odds.argmax(1)
    share = recipe.TURN * (1 - recipe.WHIM) + recipe.WHIM / 10
    assert binomtest(int((likely == taken).sum()), len(takes), share).pvalue > 1e-3
    for t in takes:
        assert t["time"] - recipe.WINDOW - 1 / 2000 <= t["item"] / 2000 < t["time"], "it had appeared, and not long ago"
    for user in range(60):
        mine = [t for t in takes if t["user"] == user]
        assert [t["time"] for t in mine] == sorted(t["time"] for t in mine)
        liked = {int(d) for t in mine for d in np.flatnonzero(np.array(t["odds"]) > recipe.WHIM / 10)}
        assert len(liked) in (2, 3), "two digits, one of which may have given its place to another"
    assert np.mean(appeal[[t["item"] for t in takes]]) > 1.3 * appeal.mean()


def test_popularity_is_of_the_past(recipe: ModuleType) -> None:
    g = np.random.default_rng(1)
    time, item = g.random(200), g.integers(0, 12, 200)
    names, asked = np.array([2, 3, 5, 11]), g.random(20)
    found = recipe.taken_before(open_table({"time": time, "item": item}), names, asked)
    wanted = [[((item == name) & (time < at)).sum() for name in names] for at in asked]
    np.testing.assert_array_equal(found, wanted)
