"""Regression as a task: units, logarithms, losses and measures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch.nn import functional as F

from polymodal.core import catalog
from polymodal.core.checks import check_task
from polymodal.core.schema import settable
from polymodal.core.streams import Row, Stream, Target
from polymodal.tasks.regress import Regress
from polymodal.tasks.targets import Number

D = 5
PRICES = [100, 250.0, "300", 1200, 90]


def build(log: bool = False, **settings: object) -> tuple[Regress, Number]:
    reader = Number(log=log)
    field = reader.fit(PRICES)
    return Regress(field=field, width=D, inputs=("x",), log=log, **settings), reader


def collate(reader: Number, cells: list) -> Target:
    samples = [reader.blank() if c is None else reader(c) for c in cells]
    value = torch.from_numpy(np.stack([s["value"] for s in samples]))
    return Target({"value": value}, torch.tensor([c is not None for c in cells]))


def random_fused(rows: int) -> Stream:
    x = torch.randn(rows, 1, D, generator=torch.Generator().manual_seed(0))
    return Stream(x, torch.ones(rows, 1, dtype=torch.bool))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "settings", [{}, {"hidden": 7, "dropout": 0.3, "norm": "layer", "loss": "mae"}, {"loss": "huber"}]
)
def test_contract(log: bool, settings: dict) -> None:
    target = collate(build(log)[1], [100, None, 5000, 20, None, 90])
    check_task(lambda: build(log, **settings)[0], {}, random_fused(6), target)


def test_the_catalogue_and_the_spec() -> None:
    assert catalog.load("task", "regress", "type") is Regress
    assert set(settable(Regress)) == {"log", "hidden", "dropout", "norm", "loss"}
    assert Regress.target({"log": True, "hidden": 3}, Path()) == ("number", {"log": True})


@pytest.mark.parametrize(("name", "torch_loss"), [("mse", F.mse_loss), ("mae", F.l1_loss), ("huber", F.huber_loss)])
def test_loss_of_rows_with_a_target(name: str, torch_loss: object) -> None:
    task, reader = build(loss=name)
    cells = [100, None, 5000]
    target, fused = collate(reader, cells), random_fused(3)
    answer = task({}, fused, target)
    loss, weight = task.loss(answer, target, None), task.weight(target)
    values = np.array([100, 250, 300, 1200, 90.0])
    wanted = torch.tensor([(c - values.mean()) / values.std() for c in (100, 5000)], dtype=torch.float32)
    torch.testing.assert_close((loss * weight).sum() / weight.sum(), torch_loss(answer["value"][[0, 2]], wanted))


@pytest.mark.parametrize("log", [False, True])
def test_predictions_are_in_the_tables_units(log: bool) -> None:
    task, reader = build(log)
    cells = [100, 5000.0, 0.5]
    answer = {"value": collate(reader, cells).data["value"]}
    found = task.predict(answer, [Row(i) for i in range(3)])
    assert [p.value for p in found] == pytest.approx(cells, rel=1e-5, abs=1e-3)
    assert all(p.confidence is None and not p.more and not task.says for p in found)


def test_an_absurd_logarithm_stays_finite() -> None:
    task, _ = build(log=True)
    found = task.predict({"value": torch.tensor([1e6, -1e6])}, [Row(0), Row(1)])
    assert 0 < found[1].value < found[0].value < float("inf")


@pytest.mark.parametrize("log", [False, True])
def test_measures(log: bool) -> None:
    task, reader = build(log)
    truth = np.array([120.0, 80, 3000, 400])
    guess = np.array([100.0, 90, 2500, 700])
    target = collate(reader, [120, None, 80, 3000, 400])
    answer = {"value": collate(reader, [100, 7, 90, 2500, 700]).data["value"]}
    records = task.score(answer, target)
    found = {k: v[0] for k, v in task.measure(records, np.ones((1, 4))).items()}
    t, g = (np.log(truth), np.log(guess)) if log else (truth, guess)
    expected = {
        "rmse": sk.root_mean_squared_error(t, g),
        "mae": sk.mean_absolute_error(t, g),
        "r2": sk.r2_score(t, g),
    }
    if log:
        expected["rmse_original"] = sk.root_mean_squared_error(truth, guess)
        expected["mae_original"] = sk.mean_absolute_error(truth, guess)
        expected["mape"] = sk.mean_absolute_percentage_error(truth, guess)
    assert found == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(records["error"], np.abs(t - g), rtol=1e-4)
    np.testing.assert_allclose(records["truth"], truth, rtol=1e-5)


def test_the_field_says_whether_there_is_a_logarithm() -> None:
    field = Number(log=True)
    task = Regress(field=field.fit(PRICES), width=D, inputs=("x",))  # a reader of the user's own choice
    answer = {"value": torch.from_numpy(field(400)["value"])[None]}
    assert task.predict(answer, [Row(0)])[0].value == pytest.approx(400, rel=1e-5)


def test_a_chart_has_at_most_two_thousand_points() -> None:
    task, _ = build()
    many = {"truth": np.arange(5000.0), "predicted": -np.arange(5000.0), "error": np.zeros(5000)}
    (chart,) = task.charts(many)
    assert chart["kind"] == "scatter"
    assert len(chart["truth"]) == len(set(chart["truth"])) == 2000
    assert chart["predicted"] == [-t for t in chart["truth"]]
    assert (chart["truth"][0], chart["truth"][-1]) == (0, 4999)
    assert len(task.charts({k: v[:5] for k, v in many.items()})[0]["truth"]) == 5


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_it_learns_a_line(loss: str) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(80, D, generator=g)
    prices = (1000 + 300 * (x @ torch.linspace(-1, 1, D))).tolist()
    reader = Number()
    task = Regress(field=reader.fit(prices), width=D, inputs=("x",), loss=loss)
    fused, target = Stream(x[:, None], torch.ones(80, 1, dtype=torch.bool)), collate(reader, prices)
    optimizer = torch.optim.Adam(task.parameters(), lr=0.03)
    for _ in range(200):
        optimizer.zero_grad()
        task.loss(task({}, fused, target), target, None).mean().backward()
        optimizer.step()
    measures = task.measure(task.score(task.respond({}, fused), target), np.ones((1, 80)))
    assert measures["r2"][0] > 0.99
    assert measures["rmse"][0] < 60
