"""Stacks in a spec: the forms it can have, the one it is written in, and what every mistake says."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from polymodal.core import spec as specs
from polymodal.core import yaml12
from polymodal.core.errors import SpecError

CAMERA: dict[str, Any] = {"type": "image", "column": "cam", "size": 32}
RADAR: dict[str, Any] = {"type": "image", "size": 32, "channels": 1}
ENCODER: dict[str, Any] = {"type": "cnn", "norm": "batch"}


def plain(**inputs: Any) -> dict[str, Any]:
    return {"inputs": copy.deepcopy(inputs), "tasks": {"y": "classify"}}


def named(**rig: Any) -> dict[str, Any]:
    return plain(camera=CAMERA, radar=RADAR, rig={"stack": ["camera", "radar"], "encoder": ENCODER, **rig})


def test_a_list_takes_inputs_of_these_names_out_of_the_inputs() -> None:
    spec = specs.validate(specs.parse(named()))
    assert list(spec.inputs) == ["rig"]
    assert spec.fusion is None, "one input is left"
    rig = spec.inputs["rig"]
    assert rig.reader.type == "image"
    assert rig.columns == ("cam", "radar")
    assert {n: m.columns for n, m in rig.stack.items()} == {"camera": ("cam",), "radar": ("radar",)}
    assert rig.stack["radar"].reader.settings == {"size": 32, "channels": 1}
    assert rig.json() == {
        "type": "image",
        "stack": {"camera": {"column": "cam", "size": 32}, "radar": {"column": "radar", "size": 32, "channels": 1}},
        "encoder": ENCODER,
    }


def test_every_form_means_the_same_and_round_trips() -> None:
    written = plain(rig={"stack": {"camera": CAMERA, "radar": RADAR}, "encoder": ENCODER})
    shared = plain(rig={"type": "image", "size": 32, "encoder": ENCODER,
                        "stack": {"camera": {"column": "cam"}, "radar": {"channels": 1}}})  # fmt: skip
    parts = [specs.parse(form).inputs["rig"].stack for form in (named(), written, shared)]
    assert parts[0] == parts[1] == parts[2]
    for form in (named(), written, shared):
        spec = specs.validate(specs.parse(form))
        assert specs.parse(spec.json()).json() == spec.json()
        assert yaml12.loads(spec.text()) == spec.json()
        assert specs.validate(specs.parse(spec.json())).inputs["rig"].stack == spec.inputs["rig"].stack


def test_with_a_type_the_names_may_be_columns() -> None:
    spec = specs.validate(specs.parse(plain(rig={"type": "image", "stack": ["front", "back"], "size": 64})))
    rig = spec.inputs["rig"]
    assert rig.columns == ("front", "back")
    assert [m.reader.settings for m in rig.stack.values()] == [{"size": 64}] * 2
    assert rig.json()["stack"] == {"front": {"column": "front"}, "back": {"column": "back"}}
    mixed = specs.parse(plain(camera=CAMERA, rig={"type": "image", "stack": ["camera", "back"]}))
    assert mixed.inputs["rig"].columns == ("cam", "back")


def test_what_is_said_of_a_member_comes_before_what_is_said_of_all() -> None:
    spec = specs.parse(named(size=16, normalize="half"))
    sizes = {n: m.reader.settings for n, m in spec.inputs["rig"].stack.items()}
    assert sizes["camera"] == {"size": 32, "normalize": "half"}
    assert specs.parse(spec.json()).inputs["rig"].stack == spec.inputs["rig"].stack


def test_short_forms_and_records_of_several_columns() -> None:
    spec = specs.parse(plain(left="audio", right="audio", both={"stack": ["left", "right"]}))
    assert spec.inputs["both"].encoder.type == "gru", "the default of its type"
    tables = {"body": {"type": "tabular", "columns": ["age", "weight"]}, "blood": {"type": "tabular", "column": "iron"}}
    record = specs.parse(plain(record={"stack": tables})).inputs["record"]
    assert record.columns == ("age", "weight", "iron")
    twice = specs.parse(plain(rig={"stack": {"grey": {**CAMERA, "channels": 1}, "all": CAMERA}}))
    assert twice.inputs["rig"].columns == ("cam",), "a column read in two ways is one column"


def test_other_inputs_stay_and_are_fused() -> None:
    spec = specs.parse({**named(), "inputs": {**named()["inputs"], "title": "text"}, "fusion": "sum"})
    assert list(spec.inputs) == ["rig", "title"]
    assert list(spec.only(["rig"]).inputs) == ["rig"]
    assert spec.only(["rig"]).inputs["rig"].stack
    with pytest.raises(SpecError, match="several inputs"):
        specs.parse({**named(), "inputs": {**named()["inputs"], "title": "text"}})
    with pytest.raises(SpecError) as error:
        specs.parse(plain(camera=CAMERA, radar=RADAR, rig={"stack": ["camera", "radar"], "follow": "camera"}))
    assert error.value.where == "inputs.rig.follow", "camera is no input of its own any more"


@pytest.mark.parametrize("preset", ["fast", "good", "best"])
def test_presets_see_a_stack_as_one_input(preset: str) -> None:
    given = plain(camera="image", radar={"type": "image", "size": 48}, rig={"stack": ["camera", "radar"]})
    spec = specs.parse({**given, "preset": preset})
    alone = specs.parse({**plain(camera="image"), "preset": preset}).inputs["camera"]
    rig = spec.inputs["rig"]
    assert rig.encoder.json() == alone.encoder.json()
    assert rig.stack["camera"].reader.settings == alone.reader.settings
    assert rig.stack["radar"].reader.settings == {**alone.reader.settings, "size": 48}
    assert spec.fusion is None
    specs.validate(spec)


def test_changes_from_the_command_line_reach_the_stack() -> None:
    changed = specs.override(named(), ["inputs.rig.normalize=half", "inputs.radar.size=16"])
    stack = specs.parse(changed).inputs["rig"].stack
    assert stack["radar"].reader.settings == {"size": 16, "channels": 1, "normalize": "half"}
    stored = specs.override(specs.parse(named()).json(), ["inputs.rig.stack.radar.channels=3"])
    assert specs.parse(stored).inputs["rig"].stack["radar"].reader.settings["channels"] == 3


def test_code_from_elsewhere_is_found_in_a_stack() -> None:
    foreign = "evil.code:Reader"
    rig = {"stack": {"a": foreign, "b": foreign}, "encoder": "evil.code:Encoder"}
    assert {p.where for p in specs.parse(plain(rig=rig)).dotted()} == {
        "inputs.rig.stack.a", "inputs.rig.stack.b", "inputs.rig.encoder",
    }  # fmt: skip


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "no input of this name": (plain(camera=CAMERA, rig={"stack": ["camera", "radr"]}), "inputs.rig.stack", "radr"),
    "one input": (plain(camera=CAMERA, rig={"stack": ["camera"]}), "inputs.rig.stack", "two or more"),
    "twice": (plain(camera=CAMERA, rig={"stack": ["camera", "camera"]}), "inputs.rig.stack", "different"),
    "no names": (plain(rig={"stack": "camera"}), "inputs.rig.stack", "names of inputs"),
    "no text": (plain(rig={"type": "image", "stack": [1, 2]}), "inputs.rig.stack", "no input"),
    "two types": (plain(a=CAMERA, b="audio", rig={"stack": ["a", "b"]}), "inputs.rig.stack", "one type"),
    "another type": (plain(a=CAMERA, b=RADAR, rig={"type": "audio", "stack": ["a", "b"]}), "inputs.rig.stack", "type"),
    "an encoder": (
        plain(camera={**CAMERA, "encoder": "cnn"}, radar=RADAR, rig={"stack": ["camera", "radar"]}),
        "inputs.camera.encoder", "belongs to the stack",
    ),
    "a cache": (
        plain(rig={"stack": {"camera": {**CAMERA, "cache": False}, "radar": RADAR}}),
        "inputs.rig.stack.camera.cache", "inputs.rig.cache",
    ),
    "a stack of stacks": (
        plain(a=CAMERA, b=RADAR, rig={"stack": ["a", "b"]}, more={"stack": ["rig", "a"]}),
        "inputs.rig.stack", "stacked again",
    ),
    "a column of its own": (named(column="cam"), "inputs.rig.column", "stands beside stack"),
    "no type": (plain(rig={"stack": {"a": {"column": "a"}, "b": CAMERA}}), "inputs.rig.stack.a.type", "name of a part"),
    "no section": (plain(rig={"type": "image", "stack": {"a": 3, "b": CAMERA}}), "inputs.rig.stack.a", "section"),
    "columns": (
        plain(rig={"stack": {"a": {**CAMERA, "columns": ["b"]}, "b": RADAR}}), "inputs.rig.stack.a.columns", "beside",
    ),
    "a member's setting": (plain(rig={"stack": {"a": {**CAMERA, "siez": 3}, "b": RADAR}}), "inputs.rig.stack.a.siez",
                           "size"),
    "everybody's setting": (named(siez=3), "inputs.rig.siez", "size"),
    "a member's value": (plain(rig={"stack": {"a": {**CAMERA, "size": "x"}, "b": RADAR}}), "inputs.rig.stack.a.size",
                         "int"),
    "text": (plain(a="text", b="text", rig={"stack": ["a", "b"]}), "inputs.rig.stack", "no axis"),
    "unknown type": (plain(rig={"type": "imgae", "stack": ["a", "b"]}), "inputs.rig.type", "image"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_says_where_and_what(case: str) -> None:
    given, where, said = WRONG[case]
    with pytest.raises(SpecError) as error:
        specs.validate(specs.parse(given))
    assert error.value.where == where
    assert said in str(error.value)
    assert error.value.advice
