"""Classification as a task: contract, weights, predictions in the user's terms, measures by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from polymodal.core import catalog
from polymodal.core.checks import check_task
from polymodal.core.errors import SpecError
from polymodal.core.schema import check_settings, settable
from polymodal.core.streams import Row, Stream, Target
from polymodal.tasks.classify import Classify
from polymodal.tasks.targets import Label, Labels

D = 5
SETTINGS = [
    {},
    {"hidden": 8, "dropout": 0.5},
    {"hidden": 8, "norm": "layer"},
    {"label_smoothing": 0.1, "class_weights": "balanced"},
    {"focal": 2.0, "class_weights": {"cat": 3.0}},
]


def build(cells: list, seed: int = 0, **settings: object) -> tuple[Classify, Label]:
    reader = Labels() if settings.get("multi") else Label()
    field = reader.fit(cells)
    torch.manual_seed(seed)
    return Classify(field=field, width=D, inputs=("x",), **settings), reader


def collate(reader: Label, cells: list) -> Target:
    """None is a missing target."""
    samples = [reader.blank() if c is None else reader(c) for c in cells]
    data = {k: torch.from_numpy(np.stack([s[k] for s in samples])) for k in samples[0]}
    return Target(data, torch.tensor([c is not None for c in cells]))


def fused_of(x: torch.Tensor) -> Stream:
    return Stream(x[:, None], torch.ones(len(x), 1, dtype=torch.bool))


def random_fused(rows: int) -> Stream:
    return fused_of(torch.randn(rows, D, generator=torch.Generator().manual_seed(0)))


ONE = ["dog", "cat", None, "cat", "bird", "wolf", "dog"]  # no wolf in training
ANY = ["dog|cat", "", None, ["cat"], "wolf|bird", "dog", "cat|cat"]


@pytest.mark.parametrize("settings", SETTINGS)
def test_contract(settings: dict) -> None:
    train = ["cat", "dog", "dog", "bird"]
    _, reader = build(train)
    check_task(lambda: build(train, **settings)[0], {}, random_fused(7), collate(reader, ONE))


@pytest.mark.parametrize("settings", SETTINGS)
def test_contract_multi(settings: dict) -> None:
    train = ["cat|dog", "dog", "", "bird"]
    _, reader = build(train, multi=True)
    check_task(lambda: build(train, multi=True, **settings)[0], {}, random_fused(7), collate(reader, ANY))


@pytest.mark.parametrize("multi", [False, True])
def test_measures_without_any_target(multi: bool) -> None:
    task, reader = build(["cat", "dog"], multi=multi)
    records = task.score(task({}, random_fused(2), None), collate(reader, [None, None]))
    measures = task.measure(records, np.ones((1, 0)))
    assert all(np.isnan(v).all() for v in measures.values())
    json.dumps(task.charts(records), allow_nan=False)


def test_the_catalogue_and_the_spec() -> None:
    assert catalog.load("task", "classify", "type") is Classify
    assert set(settable(Classify)) == {
        "multi", "separator", "hidden", "dropout", "norm", "label_smoothing", "focal", "class_weights",
    }  # fmt: skip
    good = {"class_weights": {"a": 2}, "focal": 0, "hidden": 3}
    assert check_settings(Classify, good, "tasks.t") == {"class_weights": {"a": 2.0}, "focal": 0.0, "hidden": 3}
    for bad in ({"class_weights": "even"}, {"class_weights": {"a": -1.0}}, {"focal": -1.0}, {"separator": ""}):
        with pytest.raises(SpecError):
            check_settings(Classify, bad, "tasks.t")
    assert Classify.target({}, Path()) == ("label", {})
    assert Classify.target({"multi": True, "separator": ";"}, Path()) == ("labels", {"separator": ";"})


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_weighted_mean_of_the_loss_is_that_of_torch(smoothing: float) -> None:
    task, reader = build(["a", "a", "a", "b", "c", "c"], class_weights="balanced", label_smoothing=smoothing)
    cells = ["a", "b", None, "c", "c", "new", "a"]
    fused, target = random_fused(7), collate(reader, cells)
    answer = task({}, fused, target)
    loss, weight = task.loss(answer, target, None), task.weight(target)
    known = [0, 1, 3, 4, 6]
    classes = torch.tensor([0, 1, 2, 2, 0])
    balanced = torch.tensor([6 / (3 * 3), 6 / (3 * 1), 6 / (3 * 2)])  # as scikit-learn's class_weight="balanced"
    expected = F.cross_entropy(answer["logits"][known], classes, weight=balanced, label_smoothing=smoothing)
    torch.testing.assert_close((loss * weight).sum() / weight.sum(), expected)
    assert weight[[2, 5]].tolist() == [0, 0]
    names = np.array(["a", "a", "a", "b", "c", "c"])
    reference = compute_class_weight("balanced", classes=np.unique(names), y=names)
    np.testing.assert_allclose(task.class_weight.numpy(), reference, rtol=1e-6)


def test_named_weights() -> None:
    task, reader = build([True, False, False], class_weights={"true": 4.0})
    assert task.weight(collate(reader, [True, False, None])).tolist() == [4, 1, 0]
    with pytest.raises(SpecError, match="'false'"):
        build([True, False], class_weights={"flase": 2.0})


def test_balanced_weights_of_many_classes() -> None:
    task, reader = build(["a", "a|b", "a", "", "a"], multi=True, class_weights="balanced")
    assert task.class_weight.tolist() == [1 / 4, 4]
    target = collate(reader, ["a|b", None, ""])
    answer = task({}, random_fused(3), target)
    expected = F.binary_cross_entropy_with_logits(
        answer["logits"], target.data["classes"], pos_weight=torch.tensor([1 / 4, 4]), reduction="none"
    )
    torch.testing.assert_close(task.loss(answer, target, None), expected.mean(1))
    assert task.weight(target).tolist() == [1, 0, 1]


@pytest.mark.parametrize("cells", [["no", "yes"], [3, 10], [False, True], [0.5, 1.5]])
def test_predictions_are_in_the_users_terms(cells: list) -> None:
    task, _ = build(cells)
    logits = torch.tensor([[2.0, 0], [0, 1.0], [0, 800.0]])
    found = task.predict({"logits": logits}, [Row(i) for i in range(3)])
    assert [p.value for p in found] == [cells[0], cells[1], cells[1]]
    assert {type(p.value) for p in found} == {type(cells[0])}
    assert [p.confidence for p in found] == pytest.approx([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1)), 1])
    assert all(set(task.says) == {"confidence", *p.more} for p in found)


def test_predictions_of_many_classes() -> None:
    task, _ = build(["a|b", "c"], multi=True)
    logits = torch.tensor([[2.0, -1, 3], [-1, -2, -3], [0, 0, 1]])
    found = task.predict({"logits": logits}, [Row(i) for i in range(3)])
    assert [p.value for p in found] == [["a", "c"], [], ["c"]]
    p = logits[0].sigmoid()
    assert found[0].confidence == pytest.approx(float(p[0] * (1 - p[1]) * p[2]))


def records_of_one() -> tuple[Classify, dict, torch.Tensor, np.ndarray]:
    task, reader = build(["a", "b", "c"])
    cells = ["a", "b", "c", "c", None, "a", "new"]
    logits = torch.randn(7, 3, generator=torch.Generator().manual_seed(3))
    records = task.score({"logits": logits}, collate(reader, cells))
    return task, records, logits[[0, 1, 2, 3, 5, 6]], np.array([0, 1, 2, 2, 0, -1])


def test_measures_of_one_class() -> None:
    task, records, logits, truth = records_of_one()
    p = logits.double().softmax(1).numpy()
    measures = {k: v[0] for k, v in task.measure(records, np.ones((1, 6))).items()}
    np.testing.assert_array_equal(records["label"], truth)
    np.testing.assert_allclose(records["probabilities"], p)
    np.testing.assert_allclose(records["error"][:5], -np.log(p[np.arange(5), truth[:5]]))
    assert records["error"][5] == pytest.approx(-np.log(1e-15))
    assert measures["accuracy"] == pytest.approx(sk.accuracy_score(truth, p.argmax(1)))
    assert measures["macro_f1"] == pytest.approx(sk.f1_score(truth, p.argmax(1), average="macro", zero_division=0))
    per_class = [(p.argmax(1)[truth == c] == c).mean() for c in (-1, 0, 1, 2)]
    assert measures["balanced_accuracy"] == pytest.approx(np.mean(per_class))
    areas = [sk.roc_auc_score(truth == c, p[:, c]) for c in range(3)]
    assert measures["auroc"] == pytest.approx(np.mean(areas))
    assert measures["log_loss"] == pytest.approx((sk.log_loss(truth[:5], p[:5], labels=[0, 1, 2]) * 5 + 34.538776) / 6)


def test_charts_of_one_class() -> None:
    task, records, logits, truth = records_of_one()
    confusion, reliability = task.charts(records)
    table = sk.confusion_matrix(truth[:5], logits.argmax(1).numpy()[:5], labels=[0, 1, 2])
    assert confusion == {"kind": "confusion", "classes": ["a", "b", "c"], "counts": table.tolist(), "unseen": 1}
    assert sum(b["count"] for b in reliability["bins"]) == 6
    mean = sum(b["confidence"] * b["count"] for b in reliability["bins"]) / 6
    assert mean == pytest.approx(float(logits.double().softmax(1).max(1).values.mean()))
    right = sum(b["accuracy"] * b["count"] for b in reliability["bins"])
    assert right == pytest.approx((logits.argmax(1).numpy() == truth).sum())


def test_no_table_of_a_thousand_classes() -> None:
    task, reader = build(list(range(1000)))
    records = task.score({"logits": torch.randn(2, 1000)}, collate(reader, [0, 1]))
    assert [c["kind"] for c in task.charts(records)] == ["reliability"]


def test_measures_of_many_classes() -> None:
    task, reader = build(["a|b|c"], multi=True)
    cells = ["a", "a|b", "", "c", None, "b|c", "a|c"]
    logits = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    records = task.score({"logits": logits}, collate(reader, cells))
    rows = [0, 1, 2, 3, 5, 6]
    p = logits[rows].double().sigmoid().numpy()
    truth = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 0, 1]])
    measures = {k: v[0] for k, v in task.measure(records, np.ones((1, 6))).items()}
    expected = {
        "subset_accuracy": sk.accuracy_score(truth, p > 0.5),
        "macro_f1": sk.f1_score(truth, p > 0.5, average="macro", zero_division=0),
        "micro_f1": sk.f1_score(truth, p > 0.5, average="micro", zero_division=0),
        "auroc": sk.roc_auc_score(truth, p, average="macro"),
        "average_precision": sk.average_precision_score(truth, p, average="macro"),
        "log_loss": np.mean([sk.log_loss(truth[:, c], p[:, c], labels=[0, 1]) for c in range(3)]),
    }
    for name, value in expected.items():
        assert measures[name] == pytest.approx(value), name
    bars, _ = task.charts(records)
    assert bars["values"] == pytest.approx(sk.f1_score(truth, p > 0.5, average=None, zero_division=0).tolist())


def test_unseen_classes_of_a_row_count_as_missed() -> None:
    task, reader = build(["a|b"], multi=True)
    records = task.score({"logits": torch.tensor([[9.0, -9], [9.0, -9]])}, collate(reader, ["a|new|newer", "a"]))
    measures = {k: v[0] for k, v in task.measure(records, np.ones((1, 2))).items()}
    assert measures["subset_accuracy"] == 0.5
    assert measures["micro_f1"] == pytest.approx(2 * 2 / (4 + 2))  # two hits, four classes to find, two given
    assert measures["macro_f1"] == pytest.approx((1 + 0) / 2)


@pytest.mark.parametrize("settings", [{}, {"hidden": 16}, {"focal": 2.0, "label_smoothing": 0.05}, {"multi": True}])
def test_it_learns_what_can_be_separated(settings: dict) -> None:
    g = torch.Generator().manual_seed(0)
    centres = torch.eye(3, D) * 6
    truth = torch.randint(0, 3, (90,), generator=g)
    fused = fused_of(centres[truth] + torch.randn(90, D, generator=g))
    names = np.array(["low", "mid", "top"])[truth.numpy()].tolist()
    task, reader = build(names, **settings)
    target = collate(reader, names)
    optimizer = torch.optim.Adam(task.parameters(), lr=0.05)
    for _ in range(150):
        weight = task.weight(target)
        loss = (task.loss(task({}, fused, target), target, None) * weight).sum() / weight.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    answer = task.eval().respond({}, fused)
    found = [p.value for p in task.predict(answer, [Row(i) for i in range(90)])]
    assert sum(f in (n, [n]) for f, n in zip(found, names, strict=True)) >= 88
    measures = task.measure(task.score(answer, target), np.ones((1, 90)))
    assert measures[task.metric][0] > 0.97
    assert measures["auroc"][0] > 0.99


def test_a_fused_stream_of_several_tokens_is_pooled() -> None:
    task, _ = build(["a", "b"])
    tokens = torch.randn(2, 3, D)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    mixed = task({}, Stream(tokens * mask[..., None], mask), None)["logits"]
    torch.testing.assert_close(mixed[0], task({}, fused_of(tokens[:1, :2].mean(1)), None)["logits"][0])
