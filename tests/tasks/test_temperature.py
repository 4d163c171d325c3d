"""The temperature against other optimisers, what it may not change, and when it is not used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from torch.nn import functional as F

from polymodal.core.contracts import Records
from polymodal.core.streams import Row, Target
from polymodal.tasks.classify import Classify
from polymodal.tasks.temperature import COLDEST, HOTTEST, fit, heated, odds_against

FIELD = {"classes": ["a", "b", "c"], "counts": [5, 3, 2], "rows": 10}


def drawn(rows: int, heat: float, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, `heat` times those that the labels were drawn from: too sure by the factor `heat`."""
    g = np.random.default_rng(seed)
    z = 2 * g.normal(size=(rows, classes))
    label = (softmax(z, 1).cumsum(1) > g.random((rows, 1))).argmax(1)
    return heat * z, label


def task(multi: bool = False) -> Classify:
    return Classify(field=FIELD, width=4, inputs=("x",), multi=multi)


def scored(part: Classify, logits: np.ndarray, label: np.ndarray) -> Records:
    target = Target({"class": torch.from_numpy(label)}, torch.ones(len(label), dtype=torch.bool))
    return part.score({"logits": torch.from_numpy(logits).float()}, target)


def scored_sets(part: Classify, logits: np.ndarray, truth: np.ndarray) -> Records:
    data = {"classes": torch.from_numpy(truth).float(), "unseen": torch.zeros(len(truth), dtype=torch.int64)}
    return part.score({"logits": torch.from_numpy(logits).float()}, Target(data, torch.ones(len(truth)).bool()))


def calibration_error(part: Classify, records: Records) -> float:
    return float(part.measure(records, np.ones((1, len(records["error"]))))["calibration_error"][0])


@pytest.mark.parametrize("heat", [0.3, 1.0, 2.5, 8.0])
@pytest.mark.parametrize("classes", [2, 3, 30])
def test_the_temperature_is_the_optimum_of_other_searches(heat: float, classes: int) -> None:
    logits, label = drawn(700, heat, classes)
    found = fit(log_softmax(logits, 1), label)

    def loss(log_t: float) -> float:
        return -log_softmax(logits / np.exp(log_t), 1)[np.arange(len(label)), label].mean()

    assert found == pytest.approx(np.exp(minimize_scalar(loss, (-1, 1), tol=1e-10).x), rel=1e-5)
    log_t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([log_t], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        search.zero_grad()
        out = F.cross_entropy(torch.from_numpy(logits) / log_t.exp(), torch.from_numpy(label))
        out.backward()
        return out

    search.step(closure)
    assert found == pytest.approx(float(log_t.detach().exp()), rel=1e-4)


def test_what_no_temperature_can_fit_stays_within_bounds() -> None:
    right, wrong = np.array([[9.0, 0.0]] * 40), np.array([[0.0, 9.0]] * 40)
    label = np.zeros(40, np.int64)
    assert fit(log_softmax(right, 1), label) == pytest.approx(COLDEST)
    assert fit(log_softmax(wrong, 1), label) == pytest.approx(HOTTEST)
    assert fit(log_softmax(right, 1), label - 1) == 1  # no class that a training row had
    part = task()
    part.calibrate(scored(part, np.c_[right, np.zeros(40)], label))
    assert part.calibrated() == {"temperature": 1}
    impossible = np.log(np.maximum(np.eye(3)[[0, 1, 2, 0]], 1e-320))
    assert np.isfinite(fit(impossible, np.array([0, 1, 1, 2])))


@pytest.mark.parametrize("seed", range(4))
def test_an_overconfident_model_is_calibrated_on_new_rows(seed: int) -> None:
    part = task()
    logits, label = drawn(2000, 2.5, seed=seed)
    part.calibrate(scored(part, logits, label))
    assert part.calibrated()["temperature"] == pytest.approx(2.5, rel=0.12)
    new = scored(part, *drawn(4000, 2.5, seed=seed + 100))
    before, after = calibration_error(part, part.uncalibrated(new)), calibration_error(part, new)
    assert after < before / 3
    assert new["error"].mean() < part.uncalibrated(new)["error"].mean()


def test_a_calibrated_model_is_left_alone() -> None:
    """Of 60 models that need no temperature, hardly any gets one, and none suffers from it on new rows."""
    used = []
    for seed in range(60):
        part = task()
        part.calibrate(scored(part, *drawn(300, 1.0, seed=seed)))
        used.append(part.calibrated()["temperature"] != 1)
    assert sum(used) <= 2


def test_a_single_mistake_does_not_make_a_model_surer() -> None:
    """59 of 60 rows right at a stated 80 %: without the one mistake nothing would speak against certainty."""
    part = task()
    logits = np.tile([[np.log(4.0), 0.0, -99.0]], (60, 1))
    label = np.zeros(60, np.int64)
    label[17] = 1
    part.calibrate(scored(part, logits, label))
    assert part.calibrated() == {"temperature": 1}


def test_too_few_rows_fit_nothing() -> None:
    part = task()
    part.calibrate(scored(part, *drawn(12, 8.0)))
    assert part.calibrated() == {"temperature": 1}


def test_the_class_stays_the_records_follow_and_the_loss_does_not() -> None:
    part = task()
    logits, label = drawn(500, 3.0)
    answer = {"logits": torch.from_numpy(logits).float()}
    target = Target({"class": torch.from_numpy(label)}, torch.ones(500, dtype=torch.bool))
    rows = [Row(i) for i in range(500)]
    values, loss = [p.value for p in part.predict(answer, rows)], part.loss(answer, target, None)
    plain = scored(part, logits, label)
    given = part.calibrate(plain)
    heat = part.calibrated()["temperature"]
    assert heat > 2
    said = part.predict(answer, rows)
    assert [p.value for p in said] == values
    assert torch.equal(part.loss(answer, target, None), loss)
    expected = softmax(logits.astype(np.float32).astype(float) / heat, 1)
    assert [p.confidence for p in said] == pytest.approx(expected.max(1).tolist())
    again = scored(part, logits, label)
    for name, column in again.items():
        assert np.allclose(column, given[name]), name
        assert np.allclose(plain[name], part.uncalibrated(again)[name]), name
    assert np.allclose(again["probabilities"], expected)
    assert np.allclose(again["error"], -np.log(expected[np.arange(500), label]))
    twice = part.calibrate(again)  # fitting again starts from the plain probabilities
    assert part.calibrated()["temperature"] == pytest.approx(heat)
    assert np.allclose(twice["probabilities"], expected, atol=1e-6)


def test_several_classes_share_one_temperature() -> None:
    g = np.random.default_rng(0)
    z = 2 * g.normal(size=(1500, 3))
    truth = g.random((1500, 3)) < 1 / (1 + np.exp(-z))
    part = task(multi=True)
    plain = scored_sets(part, 3 * z, truth)
    given = part.calibrate(plain)
    flat, labels = 3 * z.astype(np.float32).astype(float).reshape(-1), truth.reshape(-1)
    loss = minimize_scalar(lambda t: np.logaddexp(0, np.where(labels, -1, 1) * flat / np.exp(t)).mean(), (-1, 2))
    heat = part.calibrated()["temperature"]
    assert heat == pytest.approx(np.exp(loss.x), rel=1e-4)
    again = scored_sets(part, 3 * z, truth)
    assert np.allclose(again["probabilities"], 1 / (1 + np.exp(-3 * z / heat)))
    for name, column in again.items():
        assert np.allclose(column, given[name]), name
        assert np.allclose(plain[name], part.uncalibrated(again)[name]), name
    assert calibration_error(part, again) < calibration_error(part, plain) / 3
    sure, right = part.certainty(again)
    p = again["probabilities"]
    assert np.allclose(sure, np.maximum(p, 1 - p).prod(1))
    assert (right == ((p > 0.5) == truth).all(1)).all()


def test_weights_without_a_temperature_load_with_one() -> None:
    part, saved = task(), task().state_dict()
    part.temperature.fill_(3.0)
    assert "temperature" in saved
    part.load_state_dict({n: v for n, v in saved.items() if n != "temperature"})
    assert part.calibrated() == {"temperature": 1}
    whole = torch.nn.ModuleDict({"task": task()})
    whole.load_state_dict({f"task.{n}": v for n, v in saved.items() if n != "temperature"})


def test_odds_are_exact_where_probabilities_are_all_one() -> None:
    """Two classes with a gap of 50: p = 1 - 2e-22 is 1 in doubles; the odds still tell 50 from 50.001."""
    logits = np.array([[50.0, 0.0], [50.001, 0.0], [-1.0, 2.0]])
    p = heated(logits, 1.0)
    assert p[0, 0] == p[1, 0] == 1
    assert np.allclose(odds_against(p)[:, 0], [-50.0, -50.001, 3.0], atol=1e-9)
    g = np.random.default_rng(0).normal(size=(50, 7))
    p = softmax(g, 1)
    assert np.allclose(odds_against(p), np.log((1 - p) / p))
