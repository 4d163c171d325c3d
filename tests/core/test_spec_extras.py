"""What is said of parts from outside: where it may stand, its short forms, and what does not go together."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from polymodal.core import spec as specs
from polymodal.core.errors import SpecError
from polymodal.core.settings import Source, Thaw
from polymodal.core.spec_extras import lora_of, source_of, thaw_of
from polymodal.core.spec_parts import nested

PLAIN: dict[str, Any] = {
    "inputs": {"photo": "image", "title": "text"},
    "attention": {"type": "co", "heads": 2},
    "fusion": "gated",
    "tasks": {"said": {"type": "caption", "decoder": {"type": "lstm"}}},
}


def spec_with(path: str, value: Any) -> specs.Spec:
    return specs.validate(specs.parse(specs.override(copy.deepcopy(PLAIN), [f"{path}={value}"])))


def test_extras_are_kept_apart_from_settings_and_come_back() -> None:
    plain = copy.deepcopy(PLAIN)
    extras = {"freeze": True, "thaw": {"after": 2, "layers": 1}, "lr": 1e-4, "layer_lr": 0.8,
              "from": {"run": "runs/a"}}  # fmt: skip
    plain["inputs"]["title"] = {"type": "text", "encoder": {"type": "gru", "width": 8, **extras}}
    plain["tasks"]["said"]["decoder"] |= {"dropout": 0.2, **extras}
    plain["fusion"] = {"type": "gated", **extras}
    spec = specs.validate(specs.parse(plain))
    (decoder,) = nested(spec.tasks["said"].part)
    for part, settings in (
        (spec.inputs["title"].encoder, {"width": 8}),
        (decoder, {"dropout": 0.2}),
        (spec.fusion, {}),
    ):
        assert part is not None
        assert part.extras == extras
        assert part.settings == settings
        assert thaw_of(part) == Thaw(after=2, layers=1)
        assert source_of(part) == Source(run="runs/a")
    assert specs.parse(spec.json()).json() == spec.json()
    assert list(spec.json()["inputs"]["title"]["encoder"]) == ["type", "width", *extras]  # in order, in every process


def test_short_forms_from_the_command_line() -> None:
    part = spec_with("inputs.photo.encoder", "{type: cnn, freeze: true, thaw: 3, from: runs/a, lora: false}")
    encoder = part.inputs["photo"].encoder
    assert thaw_of(encoder) == Thaw(after=3)
    assert source_of(encoder) == Source(run="runs/a")
    assert lora_of(encoder) is None
    plain = specs.override({**copy.deepcopy(PLAIN), "inputs": {"photo": {"type": "image", "encoder": "cnn"}}},
                           ["inputs.photo.encoder.from=runs/b"])  # fmt: skip
    assert source_of(specs.parse(plain).inputs["photo"].encoder) == Source(run="runs/b")
    assert source_of(specs.parse(PLAIN).inputs["photo"].encoder) is None


WRONG = {
    "thaw what learns": ("inputs.photo.encoder", "{type: cnn, thaw: 3}", "encoder.thaw", "freeze: true"),
    "thaw value": ("inputs.photo.encoder", "{type: cnn, freeze: true, thaw: -1}", "encoder.thaw", ">= 0"),
    "thaw name": ("inputs.photo.encoder", "{type: cnn, freeze: true, thaw: {afer: 1}}", "thaw.afer", "after"),
    "thaw layers": ("inputs.photo.encoder", "{type: cnn, freeze: true, thaw: {after: 1, layers: 0}}", "layers", "> 0"),
    "layer rate": ("inputs.photo.encoder", "{type: cnn, layer_lr: 1.5}", "encoder.layer_lr", "<= 1"),
    "from nothing": ("inputs.photo.encoder", "{type: cnn, from: 3}", "encoder.from", "runs/run-1"),
    "from without run": ("inputs.photo.encoder", "{type: cnn, from: {input: photo}}", "encoder.from.run", "str"),
    "encoder from a task": ("inputs.photo.encoder", "{type: cnn, from: {run: a, task: said}}", "from.task", "leave"),
    "fusion from an input": ("fusion", "{type: gated, from: {run: a, input: photo}}", "fusion.from.input", "leave"),
    "decoder freeze": ("tasks.said.decoder", "{type: lstm, freeze: perhaps}", "tasks.said.decoder.freeze", "bool"),
    "decoder setting": ("tasks.said.decoder", "{type: lstm, frezee: true}", "tasks.said.decoder.frezee", "freeze"),
    "decoder lora": ("tasks.said.decoder", "{type: lstm, lora: {rnak: 3}}", "decoder.lora.rnak", "rank"),
    "both": ("tasks.said.decoder", "{type: lstm, freeze: true, lora: true}", "decoder.lora", "leave out freeze"),
    "decision": ("fusion", "{type: average, freeze: true}", "fusion.freeze", "no setting of this name"),
    "inner encoder": ("inputs.photo", "{type: video, encoder: {type: frames, picture: {type: cnn, freeze: true}}}",
                      "picture.freeze", "no setting of this name"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "value", "where", "advice"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told(path: str, value: str, where: str, advice: str) -> None:
    with pytest.raises(SpecError) as raised:
        spec_with(path, value)
    assert where in raised.value.where
    assert advice in str(raised.value)
