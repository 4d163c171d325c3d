"""Talking to vision-language models: tiny ones, of the families that are named, against transformers by hand."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import polymodal
from endtoend import Shell
from polymodal.core.errors import UserError
from published import END, WORDS, publish_lm, publish_vlm

transformers = pytest.importorskip("transformers")

KINDS = ["llava", "idefics3", "smolvlm", "qwen2_vl", "qwen2_5_vl"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    return cache(lambda kind: publish_vlm(kind, tmp_path_factory.mktemp("hub")))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder, rng, paths = tmp_path_factory.mktemp("photos"), np.random.default_rng(0), []
    for number in range(2):
        paths.append(str(folder / f"photo {number}.png"))
        Image.fromarray(rng.integers(0, 255, (16 + 4 * number, 24, 3), np.uint8)).save(paths[-1])
    return paths


def marked(kind: str) -> str:
    return "<|vision_start|><|image_pad|><|vision_end|>" if kind.startswith("qwen") else "<image>"


def greedy(kind: str, name: str, text: str, photos: list[str], count: int) -> list[int]:
    """The likeliest tokens, one after the other, all being read again each time."""
    model = transformers.AutoModelForImageTextToText.from_pretrained(name).eval()
    made = polymodal.chat(name).partner.processor  # type: ignore[attr-defined]
    pictures = [Image.open(p).convert("RGB") for p in photos]
    inputs = dict(made(text=[text], images=pictures or None, return_tensors="pt"))
    said: list[int] = []
    end = made.tokenizer.eos_token_id
    while len(said) < count and end not in said:
        with torch.no_grad():
            said.append(int(model(**inputs, use_cache=False).logits[0, -1].argmax()))
        more = {"input_ids": said[-1], "attention_mask": 1, "mm_token_type_ids": 0}
        for key, value in more.items():
            if key in inputs:
                inputs[key] = torch.cat([inputs[key], torch.full((1, 1), value, dtype=inputs[key].dtype)], 1)
    return said


@pytest.mark.parametrize("kind", KINDS)
def test_turns_stand_one_after_the_other(kind: str, models: Callable[[str], str], photos: list[str]) -> None:
    """What it says in the second turn is what the model says after the first turn, its answer and the question."""
    name = models(kind)
    chat = polymodal.chat(name, max_tokens=5)
    decode = chat.partner.processor.tokenizer.decode  # type: ignore[attr-defined]
    heard: list[str] = []
    first = chat.attach(photos[0]).say("a dog", heard.append)
    assert "".join(heard).strip() == first
    text = f"user : {marked(kind)} a dog assistant :"
    expected = greedy(kind, name, text, photos[:1], 5)
    assert first == decode(expected, skip_special_tokens=True)
    if len(first.split()) > 1:
        assert len([piece for piece in heard if piece]) > 1  # word by word
    assert [s.given for s in chat.inputs] == [""]  # the picture belongs to the turn that is over
    second = chat.attach(photos[1], "photo").say("the cat sleeps")
    text = f"user : {marked(kind)} a dog assistant : {first} user : {marked(kind)} the cat sleeps assistant :"
    assert second == decode(greedy(kind, name, text, photos, 5), skip_special_tokens=True)
    assert [t["role"] for t in chat.partner.turns] == ["user", "assistant"] * 2  # type: ignore[attr-defined]
    assert chat.clear().attach(photos[0]).say("a dog") == first


def test_they_have_something_to_say(models: Callable[[str], str], photos: list[str]) -> None:
    """The test above means something: answers differ from model to model."""
    said = {kind: polymodal.chat(models(kind), max_tokens=5).attach(photos[0]).say("a dog") for kind in KINDS}
    assert len({text for text in said.values() if text}) >= 2


def test_words_drawn_by_lot_come_from_the_seed(models: Callable[[str], str]) -> None:
    def talk(seed: int, **manner: float) -> list[str]:
        chat = polymodal.chat(models("llava"), max_tokens=6, seed=seed, **manner)  # type: ignore[arg-type]
        return [chat.say("a dog") for _ in range(2)]

    before = torch.random.get_rng_state()
    assert talk(1, temperature=5.0) == talk(1, temperature=5.0)
    assert talk(1, temperature=5.0) != talk(2, temperature=5.0)
    assert talk(1, top_p=0.0001) == talk(2)  # the likeliest
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_answer_that_is_broken_off_is_remembered(models: Callable[[str], str]) -> None:
    chat = polymodal.chat(models("llava"), max_tokens=9, temperature=5.0)
    heard: list[str] = []

    def interrupt(piece: str) -> None:
        heard.append(piece)
        if len(heard) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chat.say("a dog", interrupt)
    turns = chat.partner.turns  # type: ignore[attr-defined]
    assert turns[1]["content"][0]["text"] == "".join(heard).strip() != ""
    chat.say("the cat")
    assert len(turns) + 2 == len(chat.partner.turns)  # type: ignore[attr-defined]


def test_the_command(models: Callable[[str], str], photos: list[str], shell: Shell,
                     monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    chat = polymodal.chat(models("idefics3"), max_tokens=4)
    expected = [chat.attach(photos[0]).say("a dog"), chat.attach(photos[1]).say("the cat"), chat.say("!")]
    for words in ([f"photo={photos[0]}"], [photos[0]], ["--attach", photos[0]]):
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"a dog\n/attach {photos[1]}\nthe cat\n!\n"))
        done = shell.works("chat", "--model", models("idefics3"), *words, "--max-tokens", 4)
        assert done.out.splitlines() == expected
        assert done.err.splitlines()[-1] == f"picture: {photos[1]}"


def test_models_that_are_none(tmp_path: Path, shell: Shell) -> None:
    for name in (publish_lm("gpt2", tmp_path / "hub"), "llava", "gpt2"):
        assert "is no model that reads pictures and says words" in shell.fails("chat", "--model", name)
    assert "no configuration of this model" in shell.fails("chat", "--model", tmp_path / "nothing")


def test_only_safetensors_and_no_code(models: Callable[[str], str], tmp_path: Path, shell: Shell) -> None:
    folder = Path(models("llava"))
    plain = json.loads((folder / "config.json").read_text())
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(plain))
    torch.save({}, tmp_path / "pytorch_model.bin")
    assert "the weights of this model cannot be loaded" in shell.fails("chat", "--model", tmp_path)
    (tmp_path / "trap.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    own = {"AutoConfig": "trap.Trap", "AutoModelForImageTextToText": "trap.Trap"}
    (tmp_path / "config.json").write_text(json.dumps({**plain, "model_type": "trap", "auto_map": own}))
    assert "code from a hub is never run" in shell.fails("chat", "--model", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**plain, "auto_map": own}))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    facts = json.loads((tmp_path / "processor_config.json").read_text())
    (tmp_path / "processor_config.json").write_text(json.dumps({**facts, "auto_map": {"AutoProcessor": "trap.Trap"}}))
    assert polymodal.chat(str(tmp_path), max_tokens=2).say("a dog") is not None
    assert not (tmp_path / "ran").exists()


def test_what_cannot_be_said(models: Callable[[str], str], photos: list[str], tmp_path: Path) -> None:
    chat = polymodal.chat(models("llava"), max_tokens=4)
    with pytest.raises(UserError, match="nothing is attached and nothing asked"):
        chat.say()
    assert chat.attach(photos[0]).say() is not None  # a picture by itself is enough
    with pytest.raises(UserError, match=r"the model reads 256\n.*/clear"):
        chat.say("dog " * 300)
    turns: list[Any] = chat.partner.turns  # type: ignore[attr-defined]
    assert len(turns) == 2  # it is as if that had not been said
    (tmp_path / "no.png").write_text("nothing of the kind")
    with pytest.raises(UserError, match="is no picture"):
        chat.attach(str(tmp_path / "no.png"))
    with pytest.raises(UserError, match="no such file"):
        chat.attach(str(tmp_path / "nothing.png"))
    with pytest.raises(UserError, match=r"chat\.device"):
        polymodal.chat(models("llava"), device="abacus")


def test_a_model_without_a_template(models: Callable[[str], str], tmp_path: Path) -> None:
    for path in Path(models("llava")).iterdir():
        if path.name != "chat_template.jinja":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="its chat template cannot be used"):
        polymodal.chat(str(tmp_path)).say("a dog")
    assert {END, *WORDS} <= set(polymodal.chat(str(tmp_path)).partner.processor.tokenizer.get_vocab())  # type: ignore[attr-defined]
