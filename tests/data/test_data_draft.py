"""Drafts: what a newcomer's tables become, what is left out and said, and what nothing can be learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from polymodal.core import spec as specs
from polymodal.core import yaml12
from polymodal.core.errors import SpecError, TableError
from polymodal.data.draft import draft
from polymodal.data.guess import look
from polymodal.data.tables import open_table

G = np.random.default_rng(0)
N = 60
Y = G.choice(["a", "b"], N).tolist()


def drafted(columns: dict[str, Any], target: Any = "y", **given: Any) -> Any:
    return draft(open_table({**columns, **({} if "y" in columns else {"y": Y})}), target, **given)


def inputs(found: Any) -> dict[str, tuple[str, ...]]:
    return {f"{one.reader.type} {name}": one.columns for name, one in found.spec.inputs.items()}


def titanic() -> Any:
    """The columns of the passengers of the Titanic, with rows of our own."""
    import pandas as pd

    return pd.DataFrame({
        "PassengerId": np.arange(1, N + 1), "Survived": G.integers(0, 2, N), "Pclass": G.integers(1, 4, N),
        "Name": [f"{G.choice(['Smith', 'Li'])}, Mr. {G.choice(['John', 'Owen', 'Wei'])} {i}" for i in range(N)],
        "Sex": pd.Categorical(G.choice(["male", "female"], N)),
        "Age": np.where(G.random(N) < 0.3, np.nan, G.integers(1, 80, N)),
        "Ticket": [str(G.integers(10**9)) if i % 4 else f"A/5 {G.integers(10**9)}" for i in range(N)],
        "Fare": G.gamma(2, 15, N), "Cabin": [f"C{G.integers(9)}" if i % 5 == 0 else None for i in range(N)],
        "Embarked": G.choice(["S", "C", "Q"], N), "Boarded": pd.date_range("1912-04-01", periods=N, freq="7h"),
        "Ship": "Titanic",
    })  # fmt: skip


@pytest.mark.parametrize("form", ["DataFrame", "shuffled", "csv"])
def test_passengers(form: str, tmp_path: Path) -> None:
    frame = titanic().sample(frac=0.9, random_state=1) if form == "shuffled" else titanic()
    frame.to_csv(tmp_path / "t.csv", index=False)
    found = draft(open_table(tmp_path / "t.csv" if form == "csv" else frame), "Survived", preset="fast")
    facts = ("Pclass", "Sex", "Age", "Fare", "Cabin", "Embarked", "Boarded")
    assert inputs(found) == {"text Name": ("Name",), "tabular table": facts}
    assert found.spec.inputs["table"].reader.settings["dates"] == ["Boarded"]
    assert found.spec.tasks["Survived"].part.type == "classify"
    assert found.spec.data.split == "stratified"
    told = "\n".join(found.remarks)
    for name, why in (("PassengerId", "names or counts"), ("Ticket", "names or counts"), ("Ship", "never changes")):
        assert f"left out: {name}: it {why}" in told
    assert "--set tasks.Survived.type=regress" in told


def test_the_draft_is_a_spec_with_remarks() -> None:
    """What is printed can be saved as it is, and is what will be trained."""
    found = drafted(
        {"x": G.normal(size=N), "id": range(N), "t": [f"a few words about {i}" for i in range(N)]}, preset="good"
    )
    assert "# left out: id" in found.text()
    assert specs.parse(yaml12.loads(found.text())) == found.spec
    assert "preset" not in yaml12.loads(found.text())
    assert found.spec.fusion is not None


@pytest.mark.parametrize(
    ("cells", "looks"),
    [
        (G.permutation(N) + 1000, "id"),
        (G.permutation(2 * N)[:N], "number"),
        ([str(i) for i in G.permutation(N)], "id"),
        (G.integers(18, 90, N), "number"),
        (["NA" if i % 3 else str(i * 7919 % 1000) for i in range(N)], "number"),
        (["NA"] * N, "nothing"),
        ([f"2024-{1 + i % 12:02}-03" for i in range(N)], "date"),
        ([f"2024/{1 + i % 12:02}/03 10:30" for i in range(N)], "date"),
        (["2024-13"] * N, "category"),
        ([np.zeros(5)] * N, "list"),
        ([Image.new("L", (3, 3))] * N, "image"),
        (["lower left arm", "upper right leg", "back of head"] * 20, "category"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_columns_look_like(cells: Any, looks: str) -> None:
    assert look(open_table({"c": list(cells)}), "c") == looks


@pytest.mark.parametrize(
    ("name", "looks"), [("user_id", "id"), ("ID", "id"), ("userId", "id"), ("valid", "number"), ("paid", "number")]
)
def test_a_name_helps(name: str, looks: str) -> None:
    """Distinct whole numbers from a wide span are ids when they are called so."""
    assert look(open_table({name: G.choice(10**9, N, replace=False).tolist()}), name) == looks


@pytest.mark.parametrize(
    ("texts", "expected"),
    [("今天天气很好我们去公园玩{}吧", {"tokenizer": "word"}),
     ("сегодня погода очень хорошая {}", {"tokenizer": "word"}),
     ("the weather is fine today {}", {}), ("das Wetter ist heute schön, oder? {}", {})],
)  # fmt: skip
def test_letters_that_are_not_latin(texts: str, expected: dict[str, Any]) -> None:
    """They are cut into words of their own, so that no preset takes the packaged English model."""
    found = drafted({"t": [texts.format(i) for i in range(N)]}, preset="good")
    settings = found.spec.inputs["t"].reader.settings
    assert {k: v for k, v in settings.items() if k == "tokenizer"} == expected
    assert not expected or found.spec.inputs["t"].encoder.type == "gru"


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (G.integers(0, 256, (N, 4, 4), dtype=np.uint8), None),
        (G.integers(0, 60000, (N, 4, 4)).astype(np.uint16), None),
        (G.integers(0, 4096, (N, 4, 4)).astype(np.uint16), [0.0, 4095.0]),
        (G.integers(0, 256, (N, 4, 4)), [0.0, 255.0]),
        (G.random((N, 4, 4)), None),
        (G.random((N, 4, 4)) * 255, [0.0, 255.0]),
        (np.linspace(-1000, 3000, N * 16).reshape(N, 4, 4).astype(np.int16), [-1000.0, 3000.0]),
        (np.full((N, 4, 4), np.nan), None),
    ],
    ids=["bytes", "16 bits", "12 of 16 bits", "int64", "shares", "floats to 255", "Hounsfield", "nothing"],
)
def test_the_range_of_deep_pixels(pixels: np.ndarray, expected: list[float] | None) -> None:
    found = drafted({"p": list(pixels)})
    assert found.spec.inputs["p"].reader.settings.get("range") == expected


@pytest.mark.parametrize(
    ("target", "task"),
    [(G.integers(0, 2, N), "classify"), (G.integers(0, 2, N).astype(float), "classify"),
     (G.random(N) > 0.5, "classify"),
     (G.integers(0, 1000, N), "regress"), (G.normal(size=N), "regress"), (["NA", "1.5", "2.5", "3.25"] * 15, "regress"),
     (Y, "classify"), ([["a"], ["a", "b"]] * 30, "classify")],
)  # fmt: skip
def test_tasks(target: Any, task: str) -> None:
    found = drafted({"x": G.normal(size=N).tolist(), "y": list(target)})
    assert found.spec.tasks["y"].part.type == task
    assert (found.spec.data.split == "stratified") == (task == "classify" and not isinstance(target[0], list))


def test_tasks_that_are_told() -> None:
    stars = {"x": G.normal(size=N), "stars": G.integers(1, 6, N), "y": Y}
    assert {n: t.part.type for n, t in drafted(stars, {"stars": "regress", "y": None}).spec.tasks.items()} == {
        "stars": "regress", "y": "classify",
    }  # fmt: skip
    assert set(drafted(stars, ["stars", "y"]).spec.tasks) == {"stars", "y"}
    found = drafted(stars, {"good": {"type": "regress", "column": "stars", "loss": "huber"}})
    assert found.spec.tasks["good"].columns == ("stars",)
    assert inputs(found) == {"tabular table": ("x", "y")}
    assert set(drafted({0: G.normal(size=N), 1: Y}, 1).spec.tasks) == {"1"}
    with pytest.raises(SpecError, match="target: at least one"):
        drafted(stars, [])


def test_a_split_of_ones_own_is_used() -> None:
    part = ["train"] * 40 + ["val"] * 10 + ["test"] * 10
    found = drafted({"x": G.normal(size=N), "part": part})
    assert (found.spec.data.split, found.spec.data.split_column) == ("column", "part")
    assert "left out: part: it says which rows train and which are held out" in found.remarks


def test_changes_come_before_the_preset() -> None:
    changes = ["preset=best", "train.epochs=2", "inputs.id.type=tabular", "fusion=sum"]
    found = drafted({"x": G.normal(size=N), "id": range(N)}, preset="fast", changes=changes)
    assert inputs(found) == {"tabular table": ("x",), "tabular id": ("id",)}
    assert (found.spec.train.epochs, found.spec.train.ema) == (2, 0.999)
    assert found.spec.inputs["id"].encoder.type == "ft_transformer"
    assert found.spec.fusion is not None
    assert found.spec.fusion.type == "sum"


@pytest.mark.parametrize(
    ("target", "said"),
    [(np.exp(G.normal(12, 1, N)), True), (G.normal(100, 5, N), False), (np.exp(G.normal(0, 1, N)) - 0.5, False)],
    ids=["prices", "lengths", "below zero"],
)
def test_a_target_that_spans_factors(target: np.ndarray, said: bool) -> None:
    told = [r for r in drafted({"x": G.normal(size=N), "y": target}).remarks if "logarithm" in r]
    assert bool(told) == said
    assert not said or told[0].endswith("--set tasks.y.log=true")
    assert not any(
        "logarithm" in r
        for r in drafted({"x": [1.5, 2.5] * 30, "y": target}, {"y": {"type": "regress", "log": True}}).remarks
    )


def test_what_is_not_to_be_an_input() -> None:
    """A column named like the target is pointed at; one that is ignored is in no input."""
    leaky = {"text_label": Y, "x": G.normal(size=N).tolist(), "label": Y, "y": Y}
    told = [r for r in drafted(leaky, "label", ignore=["y"]).remarks if "named like" in r]
    assert told == ["text_label: named like label; what is known only when label is gives it away: --ignore text_label"]
    found = drafted(leaky, "label", ignore=["y", "text_label"])
    assert inputs(found) == {"tabular table": ("x",)}
    assert not [r for r in found.remarks if "named like" in r]
    with pytest.raises(TableError, match="ignore: no column of this name"):
        drafted(leaky, "label", ignore=["z"])


@pytest.mark.parametrize(
    ("columns", "target", "problem"),
    [
        ({"x": [1.0], "y": ["a"]}, "y", r"1 row\(s\) are too few"),
        ({"x": [1.0] * N, "y": ["a"] * N}, "y", "never changes"),
        ({"x": range(N), "y": Y}, "z", "target: no column of this name"),
        ({"x": range(N), "y": Y}, "y", "no column could be an input"),
        (
            {"x": [1.5] * N, "y": [f"${i},000" for i in range(N)]},
            "y",
            "60 different values in 60 rows: they are no classes",
        ),
        ({"x": [1.5] * N, "y": [None] * N}, "y", "has no values"),
    ],
)
def test_what_nothing_can_be_learned_from(columns: dict[str, Any], target: str, problem: str) -> None:
    with pytest.raises(TableError, match=problem):
        drafted(columns, target)
