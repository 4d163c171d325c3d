"""Mistakes in the spec, on the command line, in run folders and outputs: exit code 2, one screen, nothing lost."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from endtoend import INPUTS, Shell, Trained, make_rows, spec, write_spec, write_table
from polymodal.core import yaml12


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A spec that is right, and uses every section."""
    folder = tmp_path_factory.mktemp("whole")
    table = write_table(folder / "rows.csv", make_rows(folder, 16))
    plain = spec(table, INPUTS, model={"width": 8}, data={"valid": 0.25})
    plain["tasks"] = {"label": {"type": "classify"}, "price": {"type": "regress"}}
    return plain


def changed(plain: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The spec with one place set; `...` takes it away."""
    plain = copy.deepcopy(plain)
    here: Any = plain
    *outer, last = path.split(".")
    for step in outer:
        if isinstance(here.get(step), str):
            here[step] = {"type": here[step]}
        here = here.setdefault(step, {})
    if value is ...:
        del here[last]
    else:
        here[last] = value
    return plain


TYPOS: list[tuple[str, Any, str, str]] = [  # place, value, where the message points, what it advises
    ("trian", {"epochs": 2}, "trian", "'train'"),
    ("data", 3, "data", "name: value"),
    ("data.trian", "x.csv", "data.trian", "'train'"),
    ("data.on_bad", "ignore", "data.on_bad", "'fail' | 'skip' | 'missing'"),
    ("data.valid", 1.5, "data.valid", ""),
    ("data.valid", 0, "data.valid", "a share above 0"),
    ("data.split", "randon", "data.split", "'random'"),
    ("data.split", "grouped", "data.split_column", "the name of a column"),
    ("data.encoding", "utf-9", "data.encoding", "latin-1"),
    ("data.train", ..., "data.train", "the path of a table"),
    ("data.cache_mb", "lots", "data.cache_mb", "int >= 0"),
    ("inputs", ..., "inputs", "polymodal parts input"),
    ("inputs", ["photo"], "inputs", "name: value"),
    ("inputs.photo", None, "inputs.photo", "name: value"),
    ("inputs.photo.type", ..., "inputs.photo.type", "'image'"),
    ("inputs.photo.type", "imgae", "inputs.photo.type", "'image'"),
    ("inputs.photo.type", 3, "inputs.photo.type", "'image'"),
    ("inputs.photo.sise", 32, "inputs.photo.sise", "'size'"),
    ("inputs.photo.size", "big", "inputs.photo.size", "int > 0"),
    ("inputs.photo.size", -1, "inputs.photo.size", "int > 0"),
    ("inputs.photo.augment", {"fip": 1}, "inputs.photo.augment.fip", "'flip'"),
    ("inputs.photo.colunm", "photo", "inputs.photo.colunm", "'column'"),
    ("inputs.photo.column", 3, "inputs.photo.columns", "[front, back]"),
    ("inputs.photo.columns", [], "inputs.photo.columns", "[front, back]"),
    ("inputs.photo.follow", "phto", "inputs.photo.follow", "'photo'"),
    ("inputs.photo.cache", "no", "inputs.photo.cache", "true"),
    ("inputs.photo.encoder", "cmn", "inputs.photo.encoder.type", "'cnn'"),
    ("inputs.photo.encoder", ["cnn"], "inputs.photo.encoder", "name: value"),
    ("inputs.photo.encoder.type", "resnt", "inputs.photo.encoder.type", "'resnet'"),
    ("inputs.photo.encoder.chanels", [4], "inputs.photo.encoder.chanels", "'channels'"),
    ("inputs.photo.encoder.channels", [4, "8"], "inputs.photo.encoder.channels", "int"),
    ("inputs.photo.encoder.freeze", "yes", "inputs.photo.encoder.freeze", "bool"),
    ("inputs.photo.encoder.lr", -1, "inputs.photo.encoder.lr", "float > 0"),
    ("inputs.photo.encoder.lora", {"rnak": 2}, "inputs.photo.encoder.lora.rnak", "'rank'"),
    ("inputs.title.encoder", {"type": "transformer", "width": 9, "heads": 2}, "inputs.title.encoder.heads", "3"),
    ("inputs.title.encoder", {"type": "hf", "name": "/no/such/folder"}, "inputs.title.encoder.name", "config.json"),
    ("inputs.title.tokenizer", "wrod", "inputs.title.tokenizer", "'word'"),
    ("inputs.title.tokenizer", "hf", "inputs.title.tokenizer", "tokenizer: word"),
    ("inputs.sound.rate", 0, "inputs.sound.rate", "int > 0"),
    ("inputs.sound.fmax", 9000.0, "inputs.sound.fmax", ""),
    ("inputs.facts.numeric", ["prize"], "inputs.facts.numeric", "'price'"),
    ("inputs.facts.log", ["brand"], "inputs.facts.log", "numeric: [brand]"),
    ("model.wdith", 8, "model.wdith", "'width'"),
    ("model.width", 0, "model.width", "int > 0"),
    ("attention", "cross", "attention.type", "package.module:Class"),
    ("fusion", ..., "fusion", "'concat'"),
    ("fusion", "concta", "fusion.type", "'concat'"),
    ("fusion", {"type": "transform", "hiden": 3}, "fusion.hiden", "'hidden'"),
    ("fusion", {"type": "concat", "width": 3}, "fusion.width", "leave it out"),
    ("fusion", "nowhere.at_all:Fusion", "fusion.type", "check the name"),
    ("tasks", ..., "tasks", "polymodal parts task"),
    ("tasks.label", None, "tasks.label", "name: value"),
    ("tasks.label.type", "clasify", "tasks.label.type", "'classify'"),
    ("tasks.label.smoothing", 0.1, "tasks.label.smoothing", "'label_smoothing'"),
    ("tasks.label.label_smoothing", 2, "tasks.label.label_smoothing", "float"),
    ("tasks.label.class_weights", {"maybe": 2.0}, "tasks.label.class_weights", "'yes'"),
    ("tasks.label.weight", -1, "tasks.label.weight", "weight: 1.0"),
    ("tasks.label.weight", float("nan"), "tasks.label.weight", "weight: 1.0"),
    ("tasks.label.reader", "lable", "tasks.label.reader.type", "'label'"),
    ("tasks.label.reader", {"type": "labels", "sep": ";"}, "tasks.label.reader.sep", "'separator'"),
    ("tasks.label.column", "lable", "tasks.label.column", "'label'"),
    ("tasks.label.type", "regress", "tasks.label.column", "the task's column"),
    ("tasks.error", {"type": "classify", "column": "label"}, "tasks.error", "column: error"),
    ("tasks.row", {"type": "classify", "column": "label"}, "tasks.row", "column: row"),
    ("train", [1], "train", "name: value"),
    ("train.lrr", 0.1, "train.lrr", "'lr'"),
    ("train.lr", float("-inf"), "train.lr", "float > 0"),
    ("train.lr", 1e30, "train", "a lower train.lr"),
    ("train.weight_decay", -0.1, "train.weight_decay", "float >= 0"),
    ("train.epochs", 0, "train.epochs", "int > 0"),
    ("train.epochs", "ten", "train.epochs", "int > 0"),
    ("train.lr", float("nan"), "train.lr", "float > 0"),
    ("train.lr", float("inf"), "train.lr", "float > 0"),
    ("train.optimizer", "adamn", "train.optimizer", "'adam'"),
    ("train.precision", "fp8", "train.precision", "'fp32' | 'bf16'"),
    ("train.device", "tpu", "train.device", "'cpu'"),
    ("train.threads", 10**12, "train.threads", "<= 1024"),
    ("train.monitor", "lable.accuracy", "train.monitor", "'label'"),
    ("train.monitor", "label.acuracy", "train.monitor", "'label.accuracy'"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value", "where", "advice"), TYPOS, ids=[f"{p}={v}" for p, v, _, _ in TYPOS])
def test_a_typo_in_the_spec(
    whole: dict[str, Any], shell: Shell, tmp_path: Path, place: str, value: Any, where: str, advice: str
) -> None:
    """The message begins with the place, says what was given and what to try; no folder is left behind."""
    path = write_spec(tmp_path / "spec.yaml", changed(whole, place, value))
    told = shell.fails("train", path, "--out", tmp_path / "run")
    assert told.partition(": ")[0].startswith(where), told
    assert advice in told
    assert where != place or value is ... or value is None or "  given: " in told
    assert not advice or "  try:   " in told
    assert not (tmp_path / "run").exists()


def test_the_spec_without_a_typo_is_right(whole: dict[str, Any], shell: Shell, tmp_path: Path) -> None:
    shell.works("train", write_spec(tmp_path / "spec.yaml", whole), "--out", tmp_path / "run", "--quiet")


FILES = {
    "not there": (None, "cannot be read"),
    "empty": (b"", "must be a section"),
    "a word": (b"hello", "must be a section"),
    "a list": (b"- a\n- b\n", "must be a section"),
    "an open bracket": (b"data: {train: x.csv\n", "line 2, column 1: not valid YAML"),
    "a tab": (b"data:\n\ttrain: x.csv\n", "line 2, column 1: not valid YAML"),
    "a key twice": (b"train: {lr: 1, lr: 2}\n", "line 1, column 16: not valid YAML: the key 'lr' stands twice"),
    "a tag with code": (b"train: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
    "an anchor to nowhere": (b"train: *x\n", "not valid YAML"),
    "latin-1": ("# Größe\n".encode("latin-1"), "is not UTF-8"),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00\x00\x00", "is not UTF-8"),
    "zero bytes": (b"\x00" * 100, "not valid YAML"),
    "brackets without end": (b"[" * 2000, "not valid YAML"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_spec_that_is_none(shell: Shell, tmp_path: Path, name: str) -> None:
    content, problem = FILES[name]
    path = tmp_path / "spec.yaml"
    if content is not None:
        path.write_bytes(content)
    for words in (("train", path, "--out", tmp_path / "run"), ("check", "--spec", path)):
        told = shell.fails(*words)
        assert problem in told
    assert not (tmp_path / "run").exists()


def test_a_folder_for_a_spec(shell: Shell, tmp_path: Path) -> None:
    """It may be a folder of class folders, but is none."""
    assert "has no class folders" in shell.fails("train", tmp_path, "--out", tmp_path / "run")
    assert "cannot be read: Is a directory" in shell.fails("check", "--spec", tmp_path)


@pytest.mark.parametrize(
    ("change", "where", "advice"),
    [
        ("train.lr", "--set", "--set train.lr=3e-4"),
        ("=3", "--set", "--set train.lr=3e-4"),
        ("train.lrr=3", "train.lrr", "'lr'"),
        ("train.lr=fast", "train.lr", "float > 0"),
        ("train.lr.x=3", "--set train.lr.x", "'lr' is not a section"),
        ("train.lr={", "--set train.lr, line 1", "not valid YAML"),
        ("inputs.photo.encoder.type=resnt", "inputs.photo.encoder.type", "'resnet'"),
        ("..=3", "", ""),
    ],
)
def test_a_wrong_change_of_the_spec(
    whole: dict[str, Any], shell: Shell, tmp_path: Path, change: str, where: str, advice: str
) -> None:
    told = shell.fails("train", write_spec(tmp_path / "s.yaml", whole), "--out", tmp_path / "run", "--set", change)
    assert told.startswith(where)
    assert advice in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "words",
    [(), ("trian",), ("train",), ("train", "x.yaml"), ("predict", "run", "t.csv"),
     ("predict", "r", "t", "--out", "a.csv", "--on-bad", "x")],
)  # fmt: skip
def test_a_wrong_command_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    from polymodal import cli

    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert not said.out
    assert said.err.startswith("usage: polymodal")


def test_resume_without_anything_to_resume(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    assert shell.fails("train", "--out", tmp_path / "run", "--resume").startswith("SPEC: is needed")
    done = shell.works("train", "--out", trained.run, "--resume")
    assert "finished already" in done.err


def test_a_spec_in_the_run_folder_is_what_was_given(whole: dict[str, Any], shell: Shell, tmp_path: Path) -> None:
    path = write_spec(tmp_path / "spec.yaml", whole)
    shell.works("train", path, "--out", tmp_path / "run", "--quiet", "--set", "train.lr=0.02")
    stored = yaml12.loads((tmp_path / "run" / "spec.yaml").read_text())
    assert stored["train"]["lr"] == 0.02
    assert stored["data"] == whole["data"]


@pytest.mark.parametrize("words", [("--rows", "0"), ("--rows", "-3"), ("--size", "0"), ("--size", "-1")])
def test_scenes_that_cannot_be_drawn(shell: Shell, tmp_path: Path, words: tuple[str, str]) -> None:
    told = shell.fails("scenes", tmp_path / "scenes", *words)
    assert words[0].lstrip("-") in told
    assert not (tmp_path / "scenes").exists()
