"""Sets and intervals hold the truth exactly as often as the law says, whatever the scores are like."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy import stats

from polymodal.core.streams import Row, Target
from polymodal.tasks.classify import Classify
from polymodal.tasks.regress import Regress
from polymodal.work.trust.calibrate import witness
from polymodal.work.trust.chance import binomial_tail, covered, expected_coverage
from polymodal.work.trust.conformal import limits, lots, place, ranked, step_of
from polymodal.work.trust.evidence import coverage, covers, trust_measures
from polymodal.work.trust.terms import Terms

FIELD = {"classes": ["a", "b", "c"], "counts": [5, 3, 2], "rows": 10}


def share(level: float, rows: int, scores: np.ndarray, seed: int, new: np.ndarray) -> float:
    """How many of `new` a limit from `scores` covers."""
    numbers = np.arange(rows + len(new))
    step = step_of(scores)
    kept = ranked(scores, lots("y", f"witness {seed}", numbers[:rows]), step)
    return float((new <= limits(kept, level, lots("y", f"answer {seed}", numbers[rows:]), step)).mean())


@pytest.mark.parametrize(("rows", "level"), [(9, 0.9), (20, 0.9), (57, 0.8), (200, 0.95)])
@pytest.mark.parametrize("kind", ["normal", "ties", "certain"])
def test_coverage_over_many_draws_is_k_over_n_plus_one(rows: int, level: float, kind: str) -> None:
    """Also where the scores are only 0, 1 and 2, and where 99.6 % of them are nearly the same."""
    g = np.random.default_rng(rows)

    def draw(count: int) -> np.ndarray:
        if kind == "ties":
            return g.choice([0.0, 1.0, 2.0], count, p=[0.7, 0.2, 0.1])
        sure = -30 - g.exponential(2.0, count)
        return (
            np.where(g.random(count) < 0.996, sure, g.normal(2, 1, count))
            if kind == "certain"
            else g.normal(size=count)
        )

    found = [share(level, rows, draw(rows), seed, draw(100)) for seed in range(1500)]
    k = math.ceil(Fraction(str(level)) * (rows + 1))
    law = stats.beta(k, rows + 1 - k)
    spread = np.sqrt(law.var() + 0.25 / 100)
    assert np.mean(found) == pytest.approx(k / (rows + 1), abs=4 * spread / np.sqrt(1500))
    if kind == "normal":
        assert np.std(found) == pytest.approx(np.sqrt(law.var() + law.mean() * (1 - law.mean()) / 100), rel=0.15)


def test_every_order_of_a_few_scores_by_hand() -> None:
    """Of 5 scores each is the new one as often as any other: covered in k of 5 cases, for every level."""
    values = np.array([-2.0, 0.5, 3.0, 7.0, 7.5])
    for level, expected in ((0.2, 1), (0.3, 2), (0.6, 3), (0.75, 4), (0.8, 4), (0.9, 5)):
        orders = [np.array(p) for p in permutations(values)]
        hits = [share(level, 4, p[:4], i, p[4:]) for i, p in enumerate(orders)]
        assert sum(hits) == expected * len(orders) / 5


def test_with_too_few_rows_nothing_is_ruled_out() -> None:
    step = 1e-6
    kept = ranked(np.arange(8.0), np.zeros(8), step)
    assert np.isinf(limits(kept, 0.9, np.zeros(3), step)).all()
    assert np.isfinite(limits(ranked(np.arange(9.0), np.zeros(9), step), 0.9, np.zeros(3), step)).all()
    assert (place(9, 0.9), place(19, 0.95), place(99, 0.9), place(320, 0.9)) == (9, 19, 90, 289)


def test_lots_are_fair_and_the_same_again() -> None:
    one = lots("label", "answer", np.arange(20000))
    assert (one == lots("label", "answer", np.arange(20000))).all()
    assert stats.kstest(one, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(one, lots("label", "witness", np.arange(20000)))[0, 1]) < 0.03


def test_the_laws_of_counting() -> None:
    for count, trials, chance in ((0, 45, 0.05), (3, 320, 0.05), (40, 400, 0.1), (7, 7, 0.5), (900, 6000, 0.16)):
        assert binomial_tail(count, trials, chance) == pytest.approx(stats.binom.cdf(count, trials, chance), rel=1e-8)
    for k, n, m in ((289, 320, 800), (9, 9, 50), (5401, 6000, 10000)):
        law = stats.betabinom(m, k, n + 1 - k)
        assert covered(k, n, m) == pytest.approx(law.pmf(np.arange(m + 1)), rel=1e-6, abs=1e-12)
        assert expected_coverage(k, n, m) == (law.ppf(0.025) / m, law.ppf(0.975) / m)
    assert expected_coverage(10, 9, 50) == (1.0, 1.0)


def classifier(heat: float = 1.0) -> Classify:
    part = Classify(field=FIELD, width=4, inputs=("x",))
    part.temperature.fill_(heat)
    return part


def rows_of(count: int, seed: int, sharp: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    g = np.random.default_rng(seed)
    z = sharp * g.normal(size=(count, 3))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    label = (p.cumsum(1) > g.random((count, 1))).argmax(1)
    return torch.from_numpy(z).float(), torch.from_numpy(label)


@pytest.mark.parametrize("heat", [1.0, 2.0])
def test_sets_of_classes_by_brute_force(heat: float) -> None:
    """A class is in the set when it is no stranger than the limit; coverage and size are counted row by row."""
    part = classifier(heat)
    logits, label = rows_of(60, 0)
    records = part.score({"logits": logits}, Target({"class": label}, torch.ones(60, dtype=torch.bool)))
    p = logits.double().softmax(1).numpy()  # without the temperature
    limit = np.random.default_rng(1).normal(0, 2.5, 60)
    expected = [
        [c for c, q in zip("abc", row, strict=True) if np.log((1 - q) / q) <= t]
        for row, t in zip(p, limit, strict=True)
    ]
    assert part.region({"logits": logits}, limit) == [{"set": e} for e in expected]
    assert {len(e) for e in expected} == {0, 1, 2, 3}
    assert part.extents(records, limit).tolist() == [len(e) for e in expected]
    held = ["abc"[y] in e for y, e in zip(label.tolist(), expected, strict=True)]
    assert (part.strangeness(records) <= limit).tolist() == held


def test_rows_that_are_all_alike_are_told_apart_by_lot_and_measured_as_they_are_answered() -> None:
    """One answer for every row, right in 70 %: 60 % sets hold the truth in 60 %, by the same lots in both places."""
    part, numbers = classifier(), np.arange(6000)
    logits = torch.tensor([[2.0, 1.0, 0.0]]).expand(6000, 3)
    label = torch.from_numpy((np.random.default_rng(0).random(6000) > 0.7).astype(np.int64))
    records = part.score({"logits": logits}, Target({"class": label}, torch.ones(6000, dtype=torch.bool)))
    one, two = ({n: v[w] for n, v in records.items()} for w in (numbers < 3000, numbers >= 3000))
    kept, answer = witness(part, "y", one, numbers[:3000]), {"logits": logits[3000:]}
    rows = [Row(int(i)) for i in numbers[3000:]]
    answers = Terms(0.6, {"y": kept}).apply("y", part, answer, rows, part.predict(answer, rows))
    held = ["abc"[y] in p.more["set"] for y, (p, _) in zip(label[3000:].tolist(), answers, strict=True)]
    assert held == covers(part, "y", two, numbers[3000:], kept, 0.6)["covered"].tolist()
    assert np.mean(held) == pytest.approx(0.6, abs=0.04)
    assert {len(p.more["set"]) for p, _ in answers} == {0, 1}


def test_a_class_that_was_never_seen_is_in_no_set() -> None:
    part = classifier()
    logits, label = rows_of(40, 0)
    label[:10] = -1
    target = Target({"class": label}, torch.ones(40, dtype=torch.bool))
    records, numbers = part.score({"logits": logits}, target), np.arange(40)
    assert np.isinf(part.strangeness(records)[:10]).all()
    kept = witness(part, "y", records, numbers)
    assert kept.scores is not None
    held = covers(part, "y", records, numbers, kept, 0.9)["covered"]
    assert (held == [0] * 10 + [1] * 30).all()  # the limit is infinite: 10 of 40 are worse than anything


def test_sets_of_several_classes_hold_all_of_a_rows_classes() -> None:
    part = Classify(field=FIELD, width=4, inputs=("x",), multi=True)
    g = np.random.default_rng(0)
    logits = torch.from_numpy(2 * g.normal(size=(4000, 3))).float()
    truth = torch.from_numpy(g.random((4000, 3))) < logits.sigmoid()
    data = {"classes": truth.float(), "unseen": torch.zeros(4000, dtype=torch.int64)}
    records = part.score({"logits": logits}, Target(data, torch.ones(4000, dtype=torch.bool)))
    half, numbers = np.arange(4000) < 2000, np.arange(4000)
    one, two = ({n: v[w] for n, v in records.items()} for w in (half, ~half))
    kept = witness(part, "y", one, numbers[half])
    assert kept.scores is not None
    limit = limits(kept.scores, 0.9, lots("y", "answer", numbers[~half]), kept.step)
    regions = part.region({"logits": logits[2000:]}, limit)
    classes = [{c for c, yes in zip("abc", row, strict=True) if yes} for row in truth[2000:].tolist()]
    held = [t <= set(r["set"]) for t, r in zip(classes, regions, strict=True)]
    assert np.mean(held) == pytest.approx(0.9, abs=0.03)
    assert covers(part, "y", two, numbers[~half], kept, 0.9)["covered"].tolist() == held


@pytest.mark.parametrize("log", [False, True])
def test_intervals_of_a_number(log: bool) -> None:
    """Ends in the table's units hold the truth in 90 % of new rows; with `log` they are factors, not differences."""
    part = Regress(field={"mean": 3.0, "std": 0.5, "log": log}, width=4, inputs=("x",))
    g = np.random.default_rng(0)
    value = torch.from_numpy(g.normal(size=4000)).float()
    truth = value + torch.from_numpy(0.7 * g.normal(size=4000)).float()
    records = part.score({"value": value}, Target({"value": truth}, torch.ones(4000, dtype=torch.bool)))
    half, numbers = np.arange(4000) < 2000, np.arange(4000)
    kept = witness(part, "y", {n: v[half] for n, v in records.items()}, numbers[half])
    assert kept.scores is not None
    limit = limits(kept.scores, 0.9, lots("y", "answer", numbers[~half]), kept.step)
    assert limit == pytest.approx(0.5 * 0.7 * 1.645, rel=0.06)  # of a normal law
    regions = part.region({"value": value[2000:]}, limit)
    low, high = (np.array([r[end] for r in regions]) for end in ("low", "high"))
    new = {n: v[~half] for n, v in records.items()}
    held = (low <= new["truth"]) & (new["truth"] <= high)
    assert held.mean() == pytest.approx(0.9, abs=0.03)
    assert (held == covers(part, "y", new, numbers[~half], kept, 0.9)["covered"]).all()
    assert part.extents(new, limit) == pytest.approx(high - low)
    middle = np.sqrt(low * high) if log else (low + high) / 2
    assert middle == pytest.approx(new["predicted"])
    assert part.region({"value": value[:1]}, np.array([np.inf])) == [{"low": None, "high": None}]


def test_measured_coverage_with_its_interval() -> None:
    part = classifier()
    logits, label = rows_of(3000, 5)
    records = part.score({"logits": logits}, Target({"class": label}, torch.ones(3000, dtype=torch.bool)))
    numbers = np.arange(3000)
    one, two = ({n: v[w] for n, v in records.items()} for w in (numbers < 1000, numbers >= 1000))
    kept = witness(part, "y", one, numbers[:1000])
    found = trust_measures(part, "y", two, numbers[1000:], kept, seed=0)
    assert list(found) == ["coverage_90", "set_size_90"]
    low, high = found["coverage_90"]["ci95"]
    assert low < found["coverage_90"]["value"] < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.09 / 2000), rel=0.25)
    per_row = covers(part, "y", two, numbers[1000:], kept, 0.9)
    assert found["coverage_90"]["value"] == pytest.approx(per_row["covered"].mean())
    assert found["set_size_90"]["value"] == pytest.approx(per_row["extent"].mean())
    curve = coverage(part, "y", two, numbers[1000:], kept)
    assert all(p["low"] <= p["coverage"] <= p["high"] for p in curve)
    assert [p["coverage"] for p in curve] == sorted(p["coverage"] for p in curve)
    assert trust_measures(part, "y", two, numbers[1000:], None, seed=0) == {}


def test_a_handful_of_validation_rows_bounds_no_number() -> None:
    """Five rows cannot vouch for 90 %: every interval is without limits, and so is their mean width."""
    part = Regress(field={"mean": 3.0, "std": 0.5, "log": False}, width=4, inputs=("x",))
    torch.manual_seed(2)
    value, truth = torch.randn(45), torch.randn(45)
    records = part.score({"value": value}, Target({"value": truth}, torch.ones(45, dtype=torch.bool)))
    numbers = np.arange(45)
    one, two = ({n: v[w] for n, v in records.items()} for w in (numbers < 5, numbers >= 5))
    found = trust_measures(part, "y", two, numbers[5:], witness(part, "y", one, numbers[:5]), seed=0)
    assert found["coverage_90"]["value"] == 1.0
    assert found["interval_width_90"] == {"value": None, "ci95": [None, None]}
