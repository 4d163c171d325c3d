"""Every simple model against scikit-learn used by hand, closed forms and brute force."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.sparse import hstack
from scipy.special import log_softmax, softmax
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR

from polymodal.core.contracts import Block, Given, Goal
from polymodal.modalities.tabular.read import TabularReader
from polymodal.simple import estimate, machine
from polymodal.simple.boosted_trees import BoostedTrees
from polymodal.simple.frozen_trees import FrozenTrees
from polymodal.simple.linear import LinearTable
from polymodal.simple.machine import Machine
from polymodal.simple.majority import Majority
from polymodal.simple.mel_svm import MelSVM, statistics
from polymodal.simple.same_text import SameText
from polymodal.simple.tfidf import Tfidf

G = np.random.default_rng(0)
START = G.bit_generator.state
WORDS = np.array(["red", "blue", "mug", "lamp", "sharp", "old", "cheap", "狗"])


@pytest.fixture(autouse=True)
def _the_same_numbers_for_every_test() -> None:
    G.bit_generator.state = START


def accuracy(y: np.ndarray) -> Any:
    return lambda found, rows: float((found["logits"].argmax(1) == y[rows]).mean())


def of_class(y: np.ndarray, classes: int) -> Goal:
    return Goal("class", y, classes, accuracy(y))


def of_value(y: np.ndarray) -> Goal:
    return Goal("value", y, 0, lambda found, rows: -float(((found["value"] - y[rows]) ** 2).mean()))


def table_block(records: list[dict], reader: TabularReader) -> Block:
    samples = [reader(record) for record in records]
    data = {name: np.stack([s[name] for s in samples]) for name in samples[0]}
    given = Given([[record] for record in records], data, np.arange(len(records))[:, None])
    return Block({"t": given}, dict, len(records))


def text_block(texts: list[str | None]) -> Block:
    index = np.array([[-1 if t is None else i] for i, t in enumerate(texts)])
    return Block({"t": Given([[t] for t in texts], {}, index)}, dict, len(texts))


def with_table(cls: Any, reader: TabularReader, **settings: Any) -> Any:
    return cls(seed=0, types={"t": "tabular"}, fields={"t": reader.field}, **settings)


def probabilities(answer: dict[str, np.ndarray]) -> np.ndarray:
    return np.exp(answer["logits"])


# Nobody looks


def test_majority_answers_the_shares_of_the_classes() -> None:
    y = np.array([0, 2, 2, 2])
    found = Majority().fit(np.zeros((4, 0)), of_class(y, 4))(np.zeros((2, 0)))["logits"]
    np.testing.assert_allclose(np.exp(found), [[0.25, 0, 0.75, 0]] * 2, atol=1e-12)
    some = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 1]], bool)
    odds = Majority().fit(np.zeros((4, 0)), Goal("classes", some, 3, accuracy(y)))(np.zeros((1, 0)))["logits"][0]
    assert odds[0] > 30  # all rows have it
    np.testing.assert_allclose(odds[1:], [math.log(0.25 / 0.75)] * 2)
    value = of_value(np.array([0.0, 0.0, 0.0, 8.0]))
    assert Majority().fit(np.zeros((4, 0)), value)(np.zeros((1, 0)))["value"] == [2.0]
    assert Majority(center="median").fit(np.zeros((4, 0)), value)(np.zeros((1, 0)))["value"] == [0.0]


# Tables


def records(rows: int) -> list[dict]:
    made = []
    for i in range(rows):
        number = None if i % 7 == 0 else float(G.normal())
        name = None if i % 11 == 0 else str(G.choice(["x", "y", "z"]))
        made.append({"n": number, "c": name, "p": str(G.choice(["100", "200", "300"]))})
    return made


def tables() -> tuple[TabularReader, list[dict], list[dict]]:
    train, test = records(60), [*records(20), {"n": 0.5, "c": "new", "p": "250"}]
    reader = TabularReader(numeric=["n"], categorical=["c", "p"], scale="none")
    reader.fit(iter(train))
    return reader, train, test


def by_hand(reader: TabularReader, rows: list[dict]) -> np.ndarray:
    """Numbers, then the category that is a number, then codes; NaN is missing."""
    assert reader.field is not None
    codes = [{name: 2 + i for i, name in enumerate(c["categories"])} for c in reader.field["categorical"]]
    found = []
    for row in rows:
        numbers = [math.nan if row["n"] is None else np.float32(row["n"]), float(row["p"])]
        found.append([*numbers, math.nan if row["c"] is None else codes[0].get(row["c"], 1), codes[1].get(row["p"], 1)])
    return np.array(found, float)


def test_trees_are_those_of_sklearn() -> None:
    reader, train, test = tables()
    x, z = by_hand(reader, train), by_hand(reader, test)
    y = (np.nan_to_num(x[:, 0]) > 0).astype(np.int64) + (x[:, 1] > 150)
    made = with_table(BoostedTrees, reader, iterations=20, leaves=(7,))
    answer = made.fit(made.features(table_block(train, reader)), of_class(y, 3))
    same: dict[str, Any] = {"learning_rate": 0.05, "max_iter": 20, "max_leaf_nodes": 7, "min_samples_leaf": 5,
                            "l2_regularization": 1.0, "categorical_features": [2, 3],
                            "early_stopping": False}  # fmt: skip
    rival = HistGradientBoostingClassifier(**same).fit(x, y)
    found = answer(made.features(table_block(test, reader)))
    np.testing.assert_allclose(probabilities(found), rival.predict_proba(z), rtol=1e-6)
    t = np.nan_to_num(x[:, 0]) + x[:, 1] / 100
    answer = made.fit(made.features(table_block(train, reader)), of_value(t))
    rival = HistGradientBoostingRegressor(**same).fit(x, t)
    np.testing.assert_allclose(answer(made.features(table_block(test, reader)))["value"], rival.predict(z), rtol=1e-6)


def test_the_linear_model_is_that_of_sklearn() -> None:
    reader, train, test = tables()
    x, z = by_hand(reader, train), by_hand(reader, test)
    mean = np.nanmean(x[:, 0])

    def columns(rows: np.ndarray) -> np.ndarray:
        numbers = np.c_[np.where(np.isnan(rows[:, 0]), mean, rows[:, 0]), rows[:, 1]]
        hot = [OneHotEncoder(categories=[np.arange(5)], sparse_output=False).fit_transform(codes[:, None])
               for codes in np.nan_to_num(rows[:, 2:]).T]  # fmt: skip
        return np.c_[numbers, np.isnan(rows[:, :2]), *hot]

    y = np.array([0, 1, 2] * 20)
    scale = StandardScaler().fit(columns(x))
    made = with_table(LinearTable, reader, strengths=(0.5,))
    features, others = made.features(table_block(train, reader)), made.features(table_block(test, reader))
    # a missing number does not count when its column is scaled; elsewhere scaling is scikit-learn's
    scaled = [scale.transform(columns(part)) for part in (x, z)]
    for part, plain in zip(scaled, (x, z), strict=True):
        part[:, 0] = np.nan_to_num((plain[:, 0] - mean) / np.nanstd(x[:, 0]))
    rival = LogisticRegression(C=0.5, max_iter=1000).fit(scaled[0], y)
    found = made.fit(features, of_class(y, 3))(others)
    np.testing.assert_allclose(probabilities(found), rival.predict_proba(scaled[1]), atol=1e-3)
    t = x[:, 1] / 100 + y
    found = made.fit(features, of_value(t))(others)
    np.testing.assert_allclose(found["value"], Ridge(alpha=2.0).fit(scaled[0], t).predict(scaled[1]), rtol=1e-5)


def test_categories_beyond_what_trees_take_count_as_unseen() -> None:
    rows = [{"c": f"name{i // 2}"} for i in range(600)]
    reader = TabularReader(categorical=["c"])
    reader.fit(iter(rows))
    made = with_table(BoostedTrees, reader, iterations=2, leaves=(3,))
    features = made.features(table_block(rows, reader))
    assert features.max() < 255
    assert (features == 1).sum() == 2 * (302 - 255)
    made.fit(features, of_value(np.arange(600.0)))(features)


def test_a_row_without_a_table() -> None:
    reader, train, _ = tables()
    block = table_block(train, reader)
    gone = block.inputs["t"]._replace(index=np.full((60, 1), -1), cells=[[None]] * 60)
    empty = Block({"t": gone}, dict, 60)
    assert np.isnan(with_table(BoostedTrees, reader).features(empty)).all()
    one_hot = with_table(LinearTable, reader).features(empty)[:, 4:]
    np.testing.assert_array_equal(one_hot[0].nonzero()[0], [0, 5])  # the code of a missing value, twice


# Text


def texts(rows: int) -> list[str]:
    return [" ".join(G.choice(WORDS, 5)) for _ in range(rows)]


def test_tfidf_is_that_of_sklearn() -> None:
    train, test = [*texts(60), "", None], [*texts(20), "unheard of", None]
    y = np.array(["red" in (t or "") for t in train], int) + np.array(["mug" in (t or "") for t in train], int)
    made = Tfidf(seed=0, types={"t": "text"}, strengths=(3.0,))
    features = made.features(text_block(train))
    vectorizers = [
        TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True),
    ]
    plain, other = ([t or "" for t in part] for part in (train, test))
    x = hstack([v.fit_transform(plain) for v in vectorizers]).tocsr()
    z = hstack([v.transform(other) for v in vectorizers]).tocsr()
    rival = OneVsRestClassifier(LogisticRegression(C=3.0, solver="liblinear", dual=True, max_iter=1000)).fit(x, y)
    found = made.fit(features, of_class(y, 3))(made.features(text_block(test)))
    np.testing.assert_allclose(probabilities(found), rival.predict_proba(z), atol=0.01)
    assert (found["logits"].argmax(1) == rival.predict(z)).mean() > 0.95
    t = y + 0.5
    found = made.fit(features, of_value(t))(made.features(text_block(test)))
    np.testing.assert_allclose(found["value"], Ridge(alpha=1 / 3.0).fit(x.toarray(), t).predict(z.toarray()), atol=2e-3)


def test_the_same_text_gets_the_answers_it_had() -> None:
    train = ["what colour", "What  colour", "what colour", "how many", None]
    y = np.array([0, 0, 1, 2, 2])
    made = SameText(types={"q": "text", "p": "image"}, prior=0.5)
    features = made.features(renamed(text_block(train), "q"))
    test = made.features(renamed(text_block(["WHAT colour", "who", None]), "q"))
    shares = np.bincount(y, minlength=4) / 5
    expected = np.array([(np.array([2, 1, 0, 0]) + 0.5 * shares) / 3.5, shares, (np.eye(4)[2] + 0.5 * shares) / 1.5])
    np.testing.assert_allclose(probabilities(made.fit(features, of_class(y, 4))(test)), expected, atol=1e-12)
    t = np.array([1.0, 2.0, 6.0, 0.0, 1.0])
    means = [(9 + 0.5 * 2) / 3.5, 2.0, (1 + 0.5 * 2) / 1.5]
    np.testing.assert_allclose(made.fit(features, of_value(t))(test)["value"], means)
    several = np.array([[1, 0], [1, 0], [0, 0], [0, 1], [1, 1]], bool)
    odds = made.fit(features, Goal("classes", several, 2, lambda found, rows: 0.0))(test)["logits"]
    np.testing.assert_allclose(1 / (1 + np.exp(-odds[0])), (np.array([2, 0]) + 0.5 * np.array([0.6, 0.4])) / 3.5)


def renamed(block: Block, name: str) -> Block:
    return block._replace(inputs={name: next(iter(block.inputs.values()))})


def test_all_texts_of_a_row_are_one() -> None:
    given = {"a": Given([["one", None, "two"]], {}, np.array([[0, -1, 1]])),
             "n": Given([[7]], {}, np.array([[0]])), "x": Given([["no"]], {}, np.array([[0]]))}  # fmt: skip
    made = Tfidf(seed=0, types={"a": "text", "x": "image", "n": "text"})
    assert made.features(Block(given, dict, 1)).tolist() == ["one\ntwo\n7"]


def test_texts_without_a_letter_leave_the_shares() -> None:
    made = Tfidf(seed=0, types={"t": "text"})
    features = made.features(text_block([None] * 4))
    found = made.fit(features, of_class(np.array([0, 0, 0, 1]), 2))(features)
    np.testing.assert_allclose(probabilities(found), [[0.75, 0.25]] * 4)


# Sound


def brute_statistics(mel: np.ndarray, segments: int) -> list[float]:
    found: list[float] = []
    for x in (mel, np.array([mel[i + 1] - mel[i] for i in range(len(mel) - 1)])):
        for measure in (np.mean, np.std, np.min, np.max):
            found += [measure(x[:, band]) for band in range(mel.shape[1])]
        for k in range(segments):
            piece = [
                row for i, row in enumerate(x) if i + 1 > len(x) * k / segments and i < len(x) * (k + 1) / segments
            ]
            for measure in (np.mean, np.std):
                found += [measure([row[band] for row in piece]) for band in range(mel.shape[1])]
    return found


@pytest.mark.parametrize("frames", [2, 5, 8, 21])
def test_statistics_of_a_spectrogram(frames: int) -> None:
    mel = G.normal(size=(frames, 3))
    np.testing.assert_allclose(statistics(mel, 4), brute_statistics(mel, 4), atol=1e-12)


def test_sounds_of_one_frame_and_missing_ones() -> None:
    mel = G.normal(size=(2, 4, 3)).astype(np.float32)
    there = np.array([[True, False, False, False], [True] * 4])
    index = np.array([[0, 1], [1, -1], [-1, -1]])
    given = Given([["a", "b"], ["b", None], [None, None]], {"mel": mel, "mel_mask": there}, index)
    found = MelSVM(seed=0, types={"s": "audio"}).features(Block({"s": given}, dict, 3)).reshape(3, 2, -1)
    np.testing.assert_allclose(found[0, 1], statistics(mel[1], 4))
    np.testing.assert_array_equal(found[0, 1], found[1, 0])
    np.testing.assert_allclose(found[0, 0, :3], mel[0, 0])  # mean over one frame
    assert np.isnan(found[1, 1]).all()
    assert np.isnan(found[2]).all()


def blobs(rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(rows) % classes
    return G.normal(size=(rows, 6)) + 1.2 * np.eye(6)[y % 6], y


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("held", [True, False], ids=["kernel in memory", "kernel from rows"])
def test_the_machine_is_that_of_sklearn(classes: int, held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not held:
        monkeypatch.setattr(machine, "LARGE", 10)
    (x, y), (z, _) = blobs(80, classes), blobs(40, classes)
    made = Machine(True, strength=10.0, seed=0).fit(x, y + 5)
    rival = SVC(C=10.0, gamma=1 / 6, decision_function_shape="ovo").fit(x, y)
    np.testing.assert_allclose(made.machine.decision_function(made._kernel(z)), rival.decision_function(z), atol=2e-3)
    found = made.predict_proba(z)
    assert made.classes_.tolist() == [5 + c for c in range(classes)]
    scores = machine.smallest(made.machine, made._kernel(z))
    np.testing.assert_allclose(found, softmax(scores / made.temperature, axis=1))
    assert (found.argmax(1) == rival.predict(z)).mean() >= (1.0 if classes == 2 else 0.9)
    number = Machine(False, strength=2.0, seed=0).fit(x, x[:, 0])
    np.testing.assert_allclose(number.predict(z), SVR(C=2.0, gamma=1 / 6).fit(x, x[:, 0]).predict(z), atol=1e-2)


def test_the_score_of_a_class_is_its_smallest_distance() -> None:
    x, y = blobs(60, 4)
    rival = SVC(decision_function_shape="ovo").fit(x, y)
    pairs = rival.decision_function(x)
    sides = {0: (0, 1, 2), 1: (~0, 3, 4), 2: (~1, ~3, 5), 3: (~2, ~4, ~5)}  # of the pairs 01 02 03 12 13 23; ~: behind
    found = machine.smallest(rival, x)
    for c, columns in sides.items():
        distances = [pairs[:, k] if k >= 0 else -pairs[:, ~k] for k in columns]
        np.testing.assert_array_equal(found[:, c], np.min(distances, axis=0))


def test_the_temperature_is_the_best_for_unseen_rows() -> None:
    x, y = blobs(90, 3)
    made = Machine(True, strength=10.0, seed=0).fit(x, y)
    fold = estimate.deal(y, machine.FOLDS, 0)
    losses = []
    for temperature in np.exp(np.linspace(-3, 3, 121)):
        loss = 0.0
        for number in range(machine.FOLDS):
            inside, outside = fold != number, fold == number
            rival = SVC(C=10.0, gamma=1 / 6, decision_function_shape="ovo").fit(x[inside], y[inside])
            scores = machine.smallest(rival, x[outside]) / temperature
            loss -= log_softmax(scores, axis=1)[np.arange(outside.sum()), y[outside]].sum()
        losses.append(loss)
    assert made.temperature == pytest.approx(np.exp(np.linspace(-3, 3, 121))[int(np.argmin(losses))], rel=0.06)


def test_a_class_of_one_row_is_borne() -> None:
    x, y = blobs(30, 2)
    y[0] = 2
    assert np.isfinite(Machine(True, strength=1.0, seed=0).fit(x, y).predict_proba(x)).all()
    lonely = Machine(True, strength=1.0, seed=0).fit(x[:2], np.array([0, 1]))
    assert lonely.temperature == 1.0


# Frozen encoders


def test_frozen_trees_take_vectors_and_tables_together() -> None:
    reader, train, _ = tables()
    seen = {"photo": G.normal(size=(60, 5)), "t": G.normal(size=(60, 9))}
    index = np.where(np.arange(60) % 10 == 0, -1, np.arange(60))[:, None]
    inputs = {"photo": Given([[None]] * 60, {}, index), **table_block(train, reader).inputs}
    made = FrozenTrees(seed=0, types={"photo": "image", "t": "tabular"}, fields={"photo": {}, "t": reader.field},
                       iterations=5)  # fmt: skip
    found = made.features(Block(inputs, lambda: seen, 60))
    there = index[:, 0] >= 0
    np.testing.assert_array_equal(found[there, :5], seen["photo"][there])
    assert np.isnan(found[~there, :5]).all()
    np.testing.assert_array_equal(found[:, 5:], by_hand(reader, train))
    y = np.arange(60) % 2
    rival = HistGradientBoostingClassifier(learning_rate=0.1, max_iter=5, max_leaf_nodes=15, min_samples_leaf=10,
                                           l2_regularization=1.0, categorical_features=[7, 8],
                                           early_stopping=False).fit(found, y)  # fmt: skip
    np.testing.assert_allclose(probabilities(made.fit(found, of_class(y, 2))(found)), rival.predict_proba(found))


# Choosing


def test_the_best_candidate_is_that_of_cross_validation_by_hand() -> None:
    x = G.normal(size=(80, 30))
    y = (x[:, 0] + G.normal(size=80) > 0).astype(np.int64)
    strengths = (0.03, 1e-4, 1000.0)
    candidates = [lambda c, s=s: LogisticRegression(C=s, max_iter=2000) for s in strengths]
    split = PredefinedSplit(estimate.deal(y, 4, 0))
    scores = [(cross_val_predict(make(True), x, y, cv=split) == y).mean() for make in candidates]
    assert len({round(s, 3) for s in scores}) == 3
    assert np.argmax(scores) != 1  # which would be taken without looking
    best = strengths[int(np.argmax(scores))]
    found = estimate.best(candidates, x, of_class(y, 2), 4, 0)(x)
    rival = LogisticRegression(C=best, max_iter=2000).fit(x, y)
    np.testing.assert_allclose(probabilities(found), rival.predict_proba(x), atol=1e-12)


def test_the_tasks_own_measure_decides() -> None:
    """The same candidates and rows; what counts as better is turned round."""
    x, y = G.normal(size=(60, 3)), G.normal(size=60)
    candidates = [lambda c, a=a: Ridge(alpha=a) for a in (1e-6, 1e6)]
    worst = Goal("value", y, 0, lambda found, rows: float((found["value"] ** 2).mean()))  # the largest answers
    found = estimate.best(candidates, x, worst, 3, 0)(x)["value"]
    assert np.abs(found).max() > 0.05
    least = worst._replace(score=lambda found, rows: -float((found["value"] ** 2).mean()))
    assert np.abs(estimate.best(candidates, x, least, 3, 0)(x)["value"] - y.mean()).max() < 1e-3


def test_without_cross_validation_the_middle_one_is_taken() -> None:
    fitted: list[float] = []

    def candidate(alpha: float) -> estimate.Make:
        def make(classifier: bool) -> Ridge:
            fitted.append(alpha)
            return Ridge(alpha=alpha)

        return make

    estimate.best([candidate(a) for a in (1.0, 2.0, 3.0)], np.zeros((4, 1)), of_value(np.arange(4.0)), 1, 0)
    estimate.best([candidate(a) for a in (1.0, 2.0, 3.0)], np.zeros((4, 1)), of_value(np.arange(4.0)), 5, 0)
    assert fitted == [2.0, 2.0]


def test_folds_are_in_proportion_and_drawn_by_the_seed() -> None:
    y = np.repeat([0, 1, 2], [50, 30, 20])
    fold = estimate.deal(y, 5, 0)
    for number in range(5):
        assert np.bincount(y[fold == number], minlength=3).tolist() == [10, 6, 4]
    assert not np.array_equal(fold, estimate.deal(y, 5, 1))
    assert np.bincount(estimate.deal(np.zeros((17, 2), bool), 4, 0)).tolist() == [5, 4, 4, 4]


def test_a_class_without_a_row_gets_no_chance_and_one_class_all() -> None:
    x, y = G.normal(size=(20, 2)), np.array([0, 2] * 10)
    found = estimate.learn(lambda c: LogisticRegression(), x, of_class(y, 4))(x)
    assert (probabilities(found)[:, [1, 3]] <= 1.01e-15).all()
    np.testing.assert_allclose(probabilities(found)[:, [0, 2]], LogisticRegression().fit(x, y).predict_proba(x))
    only = estimate.learn(lambda c: LogisticRegression(), x, of_class(np.full(20, 1), 2))(x)
    np.testing.assert_allclose(probabilities(only), [[0, 1]] * 20, atol=1e-12)


def test_a_set_of_classes_is_one_decision_for_each() -> None:
    x = G.normal(size=(40, 3))
    some = np.stack([x[:, 0] > 0, x[:, 1] > 0.5, np.ones(40, bool)], axis=1)
    found = estimate.learn(lambda c: LogisticRegression(), x, Goal("classes", some, 3, accuracy(some)))(x)["logits"]
    for j in range(2):
        rival = LogisticRegression().fit(x, some[:, j]).decision_function(x)
        np.testing.assert_allclose(found[:, j], rival, rtol=1e-6)
    assert (found[:, 2] > 30).all()
