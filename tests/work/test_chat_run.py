"""Talking to a run: what it says is what it predicts, piece by piece; what is attached stays; errors are for people."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

import polymodal
from endtoend import INPUTS, TRAIN, Shell, Trained, write_table
from polymodal.core.errors import UserError
from polymodal.work.chat.pieces import pieces
from polymodal.work.chat.talk import Chat


@pytest.fixture(scope="module")
def speaker(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> polymodal.Run:
    """Says two sentences, in two languages, about a photo and a title; and what its label is."""
    folder = tmp_path_factory.mktemp("speaker")
    rows = [{**row, "en": f"a {row['label']} {row['brand']} here", "zh": "红灯" if row["label"] == "yes" else "蓝杯"}
            for row in trained.rows]  # fmt: skip
    table = trained.table(folder / "rows.csv", rows)
    spec = {"data": {"train": str(table)}, "inputs": {n: INPUTS[n] for n in ("photo", "title")}, "fusion": "concat",
            "tasks": {"say": {"type": "caption", "columns": ["en", "zh"], "languages": True, "min_count": 1,
                              "decoder": {"type": "gru", "hidden": 8}},
                      "label": "classify"},
            "train": {**TRAIN, "epochs": 8, "lr": 0.03}}  # fmt: skip
    return polymodal.train(spec=spec, out=folder / "run", quiet=True)


def given(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_it_says_what_it_predicts(speaker: polymodal.Run, trained: Trained, tmp_path: Path) -> None:
    table = write_table(tmp_path / "one.csv", [{"photo": str(trained.folder / trained.rows[3]["photo"]),
                                               "title": "sharp mug"}])  # fmt: skip
    (line,) = speaker.predict(table)
    assert line["say"]
    assert line["say.zh"]
    chat = speaker.chat().attach(str(trained.folder / trained.rows[3]["photo"]), "photo")
    heard: list[str] = []
    said = chat.say("sharp mug", heard.append)
    assert said.splitlines() == [f"say: [en] {line['say']}", f"[zh] {line['say.zh']}",
                                 f"label: {line['label']}  ({line['label.confidence']:.0%} sure)"]  # fmt: skip
    assert "".join(heard).strip() == said
    assert len(heard) > 7  # token by token


def test_what_is_attached_stays_and_the_question_does_not(speaker: polymodal.Run, trained: Trained) -> None:
    photo = str(trained.folder / trained.rows[3]["photo"])
    chat = speaker.chat().attach(photo)  # the only file
    assert [(s.name, s.kind, s.file, s.given) for s in chat.inputs] == [
        ("photo", "image", True, photo), ("title", "text", False, "")]  # fmt: skip
    first = chat.say("sharp mug")
    assert chat.say("red lamp") == speaker.chat().attach(photo).say("red lamp")
    assert chat.say("sharp mug") == first
    alone = chat.say()
    chat.attach("sharp mug", "title")
    assert chat.say() == first  # a text may be attached too
    chat.clear()
    assert [s.given for s in chat.inputs] == ["", ""]
    with pytest.raises(UserError, match="nothing is attached and nothing asked"):
        chat.say()
    assert alone != chat.say("sharp mug")


def test_words_drawn_by_lot_come_from_the_seed(speaker: polymodal.Run) -> None:
    def talk(seed: int) -> list[str]:
        chat = speaker.chat(temperature=3.0, seed=seed, max_tokens=3)
        return [chat.say("mug") for _ in range(4)]

    assert talk(1) == talk(1)
    assert talk(1) != talk(2)
    assert len(set(talk(1))) > 1  # another lot in every turn
    assert all(len(said.splitlines()[0].split()) <= 5 for said in talk(1))  # say: [en] and three words
    safe = speaker.chat(temperature=0.001).say("mug")
    assert safe == speaker.chat().say("mug")


@pytest.mark.parametrize(
    ("manner", "where"),
    [({"temperature": 0.0}, "--temperature"), ({"top_p": 1.5}, "--top-p"), ({"max_tokens": 0}, "--max-tokens"),
     ({"seed": -1}, "--seed")],
)  # fmt: skip
def test_a_manner_that_makes_no_sense(speaker: polymodal.Run, manner: dict[str, Any], where: str) -> None:
    with pytest.raises(UserError, match=f"{where}: is out of range"):
        speaker.chat(**manner)


def test_a_run_that_says_no_sentences_tells_its_prediction(trained: Trained) -> None:
    run, row, answer = polymodal.load(trained.run), trained.rows[5], trained.answers[5]
    chat = run.chat()
    for name in ("photo", "sound"):
        chat.attach(str(trained.folder / row[name]), name)
    chat.attach(str(row["price"]), "price").attach(row["brand"], "brand")
    assert [s.kind for s in chat.inputs] == ["image", "text", "audio", "tabular", "tabular"]
    assert chat.say(row["title"]) == f"{answer['label']}  ({answer['label.confidence']:.0%} sure)"


# The command


def test_a_pipe(speaker: polymodal.Run, trained: Trained, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = trained.folder / trained.rows[3]["photo"]
    given(monkeypatch, "sharp mug\n/inputs\nred lamp\n/quit\nnever read\n")
    done = shell.works("chat", speaker.folder, "--attach", f"photo={photo}")
    chat = speaker.chat().attach(str(photo), "photo")
    assert done.out == f"{chat.say('sharp mug')}\n{chat.say('red lamp')}\n"
    assert done.err == f"photo  image   {photo}\ntitle  text    -\n"
    given(monkeypatch, "")
    assert shell.works("chat", speaker.folder, f"photo={photo}").out == chat.say() + "\n"
    given(monkeypatch, f"/attach photo {photo}\n/clear\nsharp mug")
    done = shell.works("chat", speaker.folder)
    assert done.out == speaker.chat().say("sharp mug") + "\n"
    assert done.err == f"photo: {photo}\nforgotten\n"
    given(monkeypatch, "/help")
    assert "/attach photo cat.jpg" in shell.works("chat", speaker.folder).err
    given(monkeypatch, "mug")
    drawn = shell.works("chat", speaker.folder, "--temperature", 3, "--seed", 1, "--max-tokens", 3).out
    assert drawn == speaker.chat(temperature=3.0, seed=1, max_tokens=3).say("mug") + "\n"


@pytest.mark.parametrize(
    ("words", "lines", "told"),
    [
        ([], "/attach photo none.png", "none.png: no such file"),
        ([], "/attach phot none.png", "'photo'"),
        ([], "/attach", "/attach: needs a name"),
        ([], "/atach photo x", "'/attach'"),
        ([], "", "nothing is attached and nothing asked"),
        (["photo=none.png"], "", "none.png: no such file"),
        (["none.png"], "", "needs NAME=WHAT"),
        (["phot=none.png"], "", "no input of this name"),
        (["--top-p", "2"], "", "--top-p: is out of range"),
    ],
)
def test_mistakes(speaker: polymodal.Run, shell: Shell, monkeypatch: pytest.MonkeyPatch, words: list[str], lines: str,
                  told: str) -> None:  # fmt: skip
    given(monkeypatch, lines)
    assert told in shell.fails("chat", speaker.folder, *words)


def test_neither_run_nor_model(shell: Shell) -> None:
    assert "needs a run or a model" in shell.fails("chat")


def test_a_file_that_is_no_picture_is_let_go(speaker: polymodal.Run, tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_text("nothing of the kind")
    chat = speaker.chat().attach(str(tmp_path / "a b.png"), "photo")
    with pytest.raises(UserError, match=r"photo: cannot be read: .*\n.*\n.*attach another one"):
        chat.say("mug")
    assert chat.say("mug") == speaker.chat().say("mug")


def test_a_path_with_spaces(speaker: polymodal.Run, trained: Trained, tmp_path: Path,
                            capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    place = tmp_path / "my cat.png"
    place.write_bytes((trained.folder / trained.rows[3]["photo"]).read_bytes())
    for line in (f"/attach photo {place}", f"/attach {place}", f"/attach '{place}'"):
        chat = speaker.chat()
        chat.turn(line)
        assert chat.inputs[0].given == str(place)
    capsys.readouterr()


class Slow:
    """Somebody who is interrupted after two words."""

    wants_words = True

    def slots(self) -> list[Any]:
        return []

    def attach(self, what: str, name: str | None = None) -> Any: ...

    def clear(self) -> None: ...

    def answer(self, line: str, tell: Any) -> None:
        tell("one ")
        tell("two")
        raise KeyboardInterrupt


def test_ctrl_c_stops_an_answer_and_not_the_talk(
    speaker: polymodal.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a terminal: what was said stays, mistakes are shown, Ctrl-D ends."""
    lines = iter(["stop me", "/nothing", "go on"])

    def typed(prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    chat = speaker.chat()
    whole = chat.partner
    monkeypatch.setattr("builtins.input", typed)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(whole, "answer", lambda line, tell: (Slow().answer(line, tell) if line == "stop me"
                                                             else tell(f"heard {line}")))  # fmt: skip
    chat.loop()
    done = capsys.readouterr()
    assert done.out == "one two\nheard go on\n\n"
    assert "(stopped; /quit or Ctrl-D ends)" in done.err
    assert "/nothing" in done.err


def test_an_interrupted_pipe_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, "a\nb\n")
    with pytest.raises(KeyboardInterrupt):
        Chat(Slow()).loop()


def test_pieces_make_up_the_whole() -> None:
    """Bytes of one character over several tokens, words that a space is put before."""
    text = "a 狗 dog, 🐕!"
    tokens = list(text.encode())

    def say(ids: list[int]) -> str:
        return bytes(ids).decode(errors="replace")

    found = list(pieces(say, tokens))
    assert "".join(found) == text
    assert "狗" in found
    assert "🐕" in found
    assert not any("\ufffd" in piece for piece in found)
    assert list(pieces(lambda ids: " ".join(["x"] * len(ids)), [1, 2, 3])) == ["x", " x", " x"]
    assert list(pieces(say, [])) == []
    assert "".join(pieces(lambda ids: "ab" if len(ids) == 1 else "acd", [1, 2])) == "ab"  # what is shown stays shown


def test_a_run_with_a_language_model(trained: Trained, tmp_path: Path, hub: Any) -> None:
    """From the spec to the conversation, with a pretrained language model that stays as it was."""
    from transformers import AutoModelForCausalLM

    rows = [{**row, "en": "a dog runs" if row["label"] == "yes" else "the cat sleeps"} for row in trained.rows]
    decoder = {"type": "lm", "name": hub("lm"), "freeze": True, "prefix": "resampler", "queries": 2, "heads": 2}
    spec = {"data": {"train": str(trained.table(tmp_path / "rows.csv", rows))}, "inputs": {"photo": INPUTS["photo"]},
            "tasks": {"en": {"type": "caption", "decoder": decoder}}, "train": TRAIN}  # fmt: skip
    run = polymodal.train(spec=spec, out=tmp_path / "run", quiet=True)
    theirs = AutoModelForCausalLM.from_pretrained(hub("lm")).state_dict()
    ours = run.assembly.model.tasks["en"].decoder.core.state_dict()
    assert all(bool((theirs[name] == ours[name]).all()) for name in theirs)
    again = polymodal.load(tmp_path / "run")
    photo = str(trained.folder / rows[0]["photo"])
    (line,) = again.predict([{"photo": photo}])
    assert again.chat().attach(photo).say() == line["en"] != ""
    trainable = {n.split(".decoder.")[1].split(".")[0] for n, p in run.assembly.model.tasks.named_parameters()
                 if p.requires_grad and ".decoder." in n}  # fmt: skip
    assert trainable == {"map", "start"}
    assert list((tmp_path / "run" / "parts").rglob("tokenizer.json"))
