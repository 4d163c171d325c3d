"""The estimators keep scikit-learn's conventions, by its own checks, and work with its tools on mixed rows."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polymodal

pytest.importorskip("sklearn")
pytest.importorskip("pandas")

import pandas as pd
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator

from polymodal.sklearn import MultimodalClassifier, MultimodalRegressor

G = np.random.default_rng(0)
QUICK: dict[str, Any] = {"preset": None, "epochs": 6, "settings": {"lr": 0.01, "batch": 16, "threads": 1}}
ESTIMATORS = (MultimodalClassifier(**QUICK), MultimodalRegressor(**{**QUICK, "epochs": 10}))
TWICE = {
    "check_classifiers_train",
    "check_regressors_train",
    "check_estimators_pickle",
}  # run a second time on memory maps


def checks() -> list[Any]:
    """Every check that scikit-learn has for these estimators, once: some are there for memory maps a second time."""
    found, seen = [], set()
    for estimator in ESTIMATORS:
        for one, check in estimator_checks_generator(estimator):
            name = getattr(check, "func", check).__name__
            key = type(one).__name__, name
            if not (name in TWICE and key in seen):
                found.append(pytest.param(one, check, id="-".join(key)))
            seen.add(key)
    return found


@pytest.mark.parametrize(("estimator", "check"), checks())
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_own_check(estimator: Any, check: Callable[[Any], None]) -> None:
    """All of them; array-API input alone is skipped where scipy has it switched off."""
    from unittest import SkipTest

    try:
        check(estimator)
    except SkipTest as reason:
        pytest.skip(str(reason))


def rows(count: int = 48) -> tuple[pd.DataFrame, np.ndarray]:
    """Words, numbers, categories and small pictures; the answer is in the words."""
    good = G.random(count) > 0.5
    words = np.where(good, "lovely", "awful")
    frame = pd.DataFrame({
        "said": [f"it was a {w} day number {i}" for i, w in enumerate(words)],
        "price": G.normal(size=count), "brand": G.choice(["Acme", "Bolt"], count),
        "photo": [G.integers(0, 256, (8, 8), dtype=np.uint8) for _ in range(count)],
    }, index=G.permutation(count) * 3)  # fmt: skip
    return frame, np.where(good, "yes", "no")


INPUTS: dict[str, Any] = {
    "said": {"type": "text", "min_count": 1, "encoder": {"type": "bag", "width": 16}},
    "facts": {"type": "tabular", "columns": ["price", "brand"], "encoder": {"type": "mlp", "width": 8}},
    "photo": {"type": "image", "size": 8, "encoder": {"type": "cnn", "channels": [4]}},
}
WORDS = {**QUICK, "inputs": INPUTS, "settings": {"lr": 0.05, "batch": 8, "threads": 1}}
X, Y = rows()


def test_cross_validation_of_mixed_rows() -> None:
    """Words that tell the answer are found in every fold; rows are told apart by place, not by their index."""
    scores = cross_val_score(MultimodalClassifier(**WORDS), X, Y, cv=3)
    assert scores.mean() > 0.9
    parts = cross_val_predict(MultimodalClassifier(**WORDS), X, Y, cv=3)
    assert accuracy_score(Y, parts) > 0.9


def test_a_grid_over_settings_presets_and_inputs() -> None:
    grid = {"epochs": [1, 6], "inputs": [{"facts": INPUTS["facts"]}, {"said": INPUTS["said"]}]}
    found = GridSearchCV(MultimodalClassifier(**WORDS), grid, cv=2).fit(X, Y)
    assert found.best_params_ == {"epochs": 6, "inputs": {"said": INPUTS["said"]}}
    assert found.predict(X[:3]).tolist() == found.best_estimator_.predict(X[:3]).tolist()
    presets = GridSearchCV(MultimodalClassifier(epochs=1, inputs={"said": "text"}), {"preset": ["fast", None]}, cv=2)
    assert presets.fit(X, Y).cv_results_["mean_test_score"].shape == (2,)


def test_in_a_pipeline() -> None:
    fewer = FunctionTransformer(lambda frame: frame[["said", "price", "brand"]])
    inputs = {name: INPUTS[name] for name in ("said", "facts")}
    pipeline = make_pipeline(fewer, MultimodalClassifier(**{**WORDS, "inputs": inputs})).fit(X, Y)
    assert pipeline.score(X, Y) > 0.9
    assert pipeline[-1].feature_names_in_.tolist() == ["said", "price", "brand"]


@pytest.fixture(scope="module")
def fitted() -> MultimodalClassifier:
    return MultimodalClassifier(**WORDS).fit(X, Y)


def test_probabilities_are_those_of_the_run(fitted: MultimodalClassifier) -> None:
    p = fitted.predict_proba(X)
    assert fitted.classes_.tolist() == ["no", "yes"]
    assert np.allclose(p.sum(1), 1)
    lines = fitted.run_.predict(X)
    assert isinstance(lines, list)
    assert [fitted.classes_[line["answer"]] for line in lines] == fitted.predict(X).tolist()
    assert np.allclose([line["answer.confidence"] for line in lines], p.max(1))
    assert fitted.run_.spec.data.split == "stratified"


@pytest.mark.parametrize("form", ["DataFrame", "dicts", "rows turned round"])
def test_any_form_of_the_same_rows(fitted: MultimodalClassifier, form: str) -> None:
    p = fitted.predict_proba(X)
    if form == "dicts":
        assert np.array_equal(fitted.predict_proba(X.to_dict("records")), p)
        names = MultimodalClassifier(**WORDS).fit(X.to_dict("records"), Y)
        assert np.array_equal(names.predict_proba(X), p)
        assert names.feature_names_in_.tolist() == list(X.columns)
    elif form == "DataFrame":
        assert np.array_equal(fitted.predict_proba(X.reset_index(drop=True)), p)
    else:
        assert np.allclose(fitted.predict_proba(X[::-1])[::-1], p, atol=1e-6)


def test_what_cannot_be_read_is_missing_and_every_row_has_an_answer(fitted: MultimodalClassifier) -> None:
    spoilt = X.copy()
    spoilt["photo"] = [b"no picture" if i % 2 else p for i, p in enumerate(X["photo"])]
    spoilt.iloc[0] = [None] * 4
    p = fitted.predict_proba(spoilt)
    assert p.shape == (len(X), 2)
    assert np.isfinite(p).all()
    without = X.copy()
    without["photo"] = [None if i % 2 else p for i, p in enumerate(X["photo"])]
    assert np.array_equal(p[1:], fitted.predict_proba(without)[1:])


def test_copies_answer_alike_and_own_their_files(fitted: MultimodalClassifier) -> None:
    p = fitted.predict_proba(X)
    for twice in (lambda: pickle.loads(pickle.dumps(fitted)), lambda: copy.deepcopy(fitted)):
        twin = twice()
        assert np.array_equal(twin.predict_proba(X), p)
        assert twin.run_.folder != fitted.run_.folder
        folder = twin.run_.folder
        del twin
        assert not folder.exists()
    assert not hasattr(clone(fitted), "run_")
    assert fitted.run_.folder.exists()


def test_runs_go_when_nothing_holds_them_and_stay_where_out_says(tmp_path: Path) -> None:
    numbers = X[["price"]]
    one = MultimodalClassifier(**QUICK).fit(numbers, Y)
    first = one.run_.folder
    one.fit(numbers, Y)
    assert not first.exists()
    kept = MultimodalClassifier(**QUICK, out=tmp_path)
    cross_val_score(kept, numbers, Y, cv=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run-1", "run-2"]
    assert (tmp_path / "run-2" / "report.html").is_file()
    assert polymodal.load(tmp_path / "run-1").metrics["valid"]["rows"] > 0


def test_seeds() -> None:
    numbers = X[["price", "brand"]]
    p = [MultimodalClassifier(**QUICK, random_state=seed).fit(numbers, Y).predict_proba(numbers)
         for seed in (None, 0, 1, np.random.RandomState(3), np.random.RandomState(3))]  # fmt: skip
    assert np.array_equal(p[0], p[1])
    assert not np.array_equal(p[1], p[2])
    assert np.array_equal(p[3], p[4])


@pytest.mark.parametrize(
    "labels", [np.array([3, 7, 11]), np.array([0.5, 2.0, 1.0]) * 2, np.array([True, False])], ids=str
)
def test_classes_keep_their_type(labels: np.ndarray) -> None:
    y = labels[G.integers(0, len(labels), 40)]
    found = MultimodalClassifier(**QUICK).fit(G.normal(size=(40, 3)), y)
    assert found.classes_.dtype == y.dtype
    assert set(found.predict(G.normal(size=(9, 3))).tolist()) <= set(labels.tolist())


def test_numbers_are_found() -> None:
    x = G.normal(size=(200, 4))
    y = 3 * x[:, 0] - 2 * x[:, 1] + 100
    found = MultimodalRegressor(**{**QUICK, "epochs": 20}).fit(x, y)
    assert found.score(x, y) > 0.95
    assert found.predict(x).shape == (200,)


@pytest.mark.parametrize(
    ("settings", "columns", "problem"),
    [
        ({"epochs": -1}, ["price"], "train.epochs"),
        ({"preset": "quick"}, ["price"], "preset: no preset of this name"),
        ({"inputs": {"x": {"type": "tabular", "columns": ["cost"]}}}, ["price"], "no column of this name"),
        ({"settings": {"rate": 1}}, ["price"], "train.rate"),
    ],
)
def test_mistakes_are_value_errors(settings: dict[str, Any], columns: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        MultimodalClassifier(**{**QUICK, **settings}).fit(X[columns], Y)


def test_before_fitting_and_with_other_columns(fitted: MultimodalClassifier) -> None:
    for ask in (MultimodalClassifier().predict, MultimodalClassifier().predict_proba, MultimodalRegressor().predict):
        with pytest.raises(NotFittedError):
            ask(X)
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(X.rename(columns={"said": "told"}))
    with pytest.raises(ValueError, match="0 sample"):
        fitted.predict(X[:0])


def test_everything_guessed() -> None:
    """A column named like our own target is no trouble."""
    frame = X.drop(columns="photo").assign(target=G.normal(size=len(X)), id=np.arange(len(X)))
    found = MultimodalClassifier(preset="fast", epochs=2).fit(frame, Y)
    assert found.run_.spec.inputs.keys() == {"said", "table"}
    assert found.run_.spec.inputs["table"].columns == ("price", "brand", "target")
    assert found.n_features_in_ == 5
