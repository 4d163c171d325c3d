"""The spec: its forms, its round trip, and an error with where, given and try for a mistake at every level."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from polymodal.core import spec as specs
from polymodal.core.errors import SpecError

GOOD = {
    "data": {"train": "products.csv", "on_bad": "skip"},
    "inputs": {
        "photo": {"type": "image", "size": 32, "encoder": {"type": "cnn", "freeze": True, "lr": 1e-4}},
        "title": {"type": "text", "column": "name"},
        "stock": {"type": "tabular", "columns": ["price", "weight", "brand"]},
    },
    "fusion": {"type": "gated"},
    "tasks": {"category": {"type": "classify", "column": "label", "label_smoothing": 0.1}},
    "train": {"epochs": 3, "lr": 3e-4},
}


def test_the_plain_form_round_trips() -> None:
    spec = specs.validate(specs.parse(copy.deepcopy(GOOD)))
    assert specs.parse(spec.json()).json() == spec.json()
    from polymodal.core import yaml12

    assert yaml12.loads(spec.text()) == spec.json()
    assert spec.inputs["photo"].columns == ("photo",)
    assert spec.inputs["title"].encoder.type == "gru"
    assert spec.inputs["photo"].encoder.extras == {"freeze": True, "lr": 1e-4}
    assert spec.train.lr == 3e-4


def test_short_forms() -> None:
    spec = specs.parse({"inputs": {"photo": "image"}, "tasks": {"label": "classify"}})
    assert spec.inputs["photo"].json() == {"type": "image", "column": "photo", "encoder": {"type": "cnn"}}
    assert spec.fusion is None


def test_only_keeps_some_inputs() -> None:
    spec = specs.parse(copy.deepcopy(GOOD))
    assert list(spec.only(["title"]).inputs) == ["title"]
    assert spec.only(["title"]).fusion is None
    assert spec.only(["title", "photo"]).fusion is not None


def test_overrides_are_yaml() -> None:
    plain = specs.override(copy.deepcopy(GOOD), ["train.lr=3e-4", "fusion=sum", "inputs.photo.encoder.width=64"])
    assert plain["train"]["lr"] == 3e-4
    assert plain["fusion"] == "sum"
    assert plain["inputs"]["photo"]["encoder"]["width"] == 64
    assert specs.override({"fusion": "sum"}, ["fusion.size=1"])["fusion"] == {"type": "sum", "size": 1}
    for bad in ("train.lr", "=3", "train.lr.x=3"):
        with pytest.raises(SpecError, match="--set"):
            specs.override(copy.deepcopy(GOOD), [bad])


WRONG = {
    "top level": ("trian", {"epochs": 1}, "trian", "train"),
    "data": ("data.trian", "x.csv", "data.trian", "train"),
    "data value": ("data.on_bad", "ignore", "data.on_bad", "skip"),
    "input": ("inputs.photo.siez", 32, "inputs.photo.siez", "size"),
    "input value": ("inputs.photo.size", "big", "inputs.photo.size", "int"),
    "input type": ("inputs.photo.type", "imgae", "inputs.photo.type", "image"),
    "encoder": ("inputs.photo.encoder.chanels", [3], "inputs.photo.encoder.chanels", "channels"),
    "encoder type": ("inputs.photo.encoder.type", "resnt", "inputs.photo.encoder.type", "resnet"),
    "encoder extra": ("inputs.photo.encoder.freeze", "maybe", "inputs.photo.encoder.freeze", "bool"),
    "lora": ("inputs.photo.encoder.lora", {"rnak": 4}, "inputs.photo.encoder.lora.rnak", "rank"),
    "fusion": ("fusion.typ", "sum", "fusion.typ", "type"),
    "fusion type": ("fusion.type", "gate", "fusion.type", "gated"),
    "task": ("tasks.category.lable_smoothing", 0.1, "tasks.category.lable_smoothing", "label_smoothing"),
    "task value": ("tasks.category.label_smoothing", 2.0, "tasks.category.label_smoothing", "<= 1"),
    "task type": ("tasks.category.type", "clasify", "tasks.category.type", "classify"),
    "task weight": ("tasks.category.weight", "much", "tasks.category.weight", "1.0"),
    "train": ("train.epoch", 3, "train.epoch", "epochs"),
    "train value": ("train.epochs", 0, "train.epochs", "> 0"),
    "train text for number": ("train.lr", "3e-4", "train.lr", "float"),
    "monitor": ("train.monitor", "categry.accuracy", "train.monitor", "category"),
    "columns": ("inputs.stock.columns", [], "inputs.stock.columns", "front"),
    "follow": ("inputs.photo.follow", "phto", "inputs.photo.follow", "photo"),
    "wired": ("inputs.photo.encoder.field", {}, "inputs.photo.encoder.field", "leave it out"),
    "task reader": ("tasks.category.reader", "lable", "tasks.category.reader.type", "label"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_at_every_level_says_where_what_and_what_to_try(case: str) -> None:
    path, value, where, advice = WRONG[case]
    plain = copy.deepcopy(GOOD)
    *outer, last = path.split(".")
    here = plain
    for step in outer:
        here = here[step]
    here[last] = value
    with pytest.raises(SpecError) as error:
        specs.validate(specs.parse(plain))
    assert error.value.where == where
    assert advice in error.value.advice, str(error.value)
    assert "given:" in str(error.value)


@pytest.mark.parametrize(
    "plain",
    [None, [], "spec", {}, {"inputs": {}, "tasks": {}}, {"inputs": [], "tasks": {"y": "classify"}},
     {"inputs": {"a": None}, "tasks": {"y": "classify"}}, {"inputs": {"a": "image"}, "tasks": {"y": 3}},
     {"inputs": {"a": "image", "b": "text"}, "tasks": {"y": "classify"}},
     {"inputs": {"a": {"type": "image", "column": "a", "columns": ["b"]}}, "tasks": {"y": "classify"}}],
)  # fmt: skip
def test_forms_that_are_no_spec(plain: object) -> None:
    with pytest.raises(SpecError):
        specs.validate(specs.parse(plain))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        specs.load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"inputs: {caf\xe9: image}")
    with pytest.raises(SpecError, match="not UTF-8"):
        specs.load(tmp_path / "latin.yaml")
