"""Captions from the command line: two languages, options, words with pictures, what is wrong with rows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import polymodal
from polymodal.core import yaml12
from polymodal.scenes import make_scenes
from polymodal.tasks.language.clipscore import Aligned, clip_score

INPUTS = {
    "picture": {"type": "image", "size": 16, "encoder": {"type": "cnn", "channels": [8, 8], "places": True}},
    "sound": {"type": "audio", "rate": 8000, "mels": 16, "encoder": {"type": "gru", "width": 8}},
}
TASKS = {
    "caption": {
        "type": "caption", "columns": ["caption", "caption_zh"], "languages": True, "min_count": 1,
        "decoder": {"type": "gru", "hidden": 16},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from polymodal import cli

    folder = tmp_path_factory.mktemp("captions")
    make_scenes(folder / "scenes", 48, size=16)
    spec = {
        "data": {"train": str(folder / "scenes" / "table.csv"), "split": "column", "split_column": "split"},
        "inputs": INPUTS, "model": {"width": 16}, "fusion": "concat", "tasks": TASKS,
        "train": {"epochs": 1, "batch": 8, "threads": 1, "drop": 0.1},
    }  # fmt: skip
    (folder / "spec.yaml").write_text(yaml12.dumps(spec), encoding="utf-8")
    assert cli.main(["train", str(folder / "spec.yaml"), "--out", str(folder / "run"), "--quiet"]) == 0
    return folder


def answered(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_row_is_answered_in_both_languages(run: Path, shell: Any, tmp_path: Path) -> None:
    out = tmp_path / "said.jsonl"
    shell.works("predict", run / "run", run / "scenes" / "table.csv", "--out", out)
    lines = answered(out)
    assert [line["row"] for line in lines] == list(range(48))
    assert list(lines[0]) == ["row", "caption", "caption.confidence", "caption.caption_zh", "error"]
    assert all(0 < line["caption.confidence"] <= 1 for line in lines)
    measured = json.loads(shell.works("evaluate", run / "run", run / "scenes" / "table.csv", "--json").out)
    assert {"cider", "bleu_4", "rouge_l", "cider_caption_zh"} <= measured["tasks"]["caption"].keys()


def test_options_of_answering(run: Path, shell: Any, tmp_path: Path) -> None:
    table = run / "scenes" / "table.csv"
    said = {}
    for name, words in {
        "beam": ["search=beam", "beams=2"],
        "lot": ["search=sample"],
        "short": ["max_tokens=2"],
    }.items():
        out = tmp_path / f"{name}.jsonl"
        options = [word for option in words for word in ("--respond", option)]
        shell.works("predict", run / "run", table, "--out", out, *options)
        said[name] = answered(out)
    assert len({line["caption"] for line in said["lot"]}) > 24, "what is drawn differs from row to row"
    assert all(len(line["caption"].split()) <= 2 for line in said["short"])
    again = tmp_path / "again.jsonl"
    shell.works("predict", run / "run", table, "--out", again, "--respond", "search=sample")
    assert answered(again) == said["lot"]
    message = shell.fails("predict", run / "run", table, "--out", tmp_path / "x.jsonl", "--respond", "beam=3")
    assert "respond.beam" in message
    assert "beams" in message
    assert not (tmp_path / "x.jsonl").exists()


def test_options_are_refused_where_nothing_is_said(trained: Any, shell: Any, tmp_path: Path) -> None:
    message = shell.fails("predict", trained.run, next(trained.folder.glob("*.csv")), "--out", tmp_path / "x.csv",
                          "--respond", "beams=3")  # fmt: skip
    assert "no task of this run says sentences" in message


def test_missing_and_bad_cells(run: Path, shell: Any, tmp_path: Path) -> None:
    table = pd.read_csv(run / "scenes" / "table.csv").head(4)
    for column in ("picture", "sound"):
        table[column] = [str(run / "scenes" / name) for name in table[column]]
    whole = tmp_path / "whole.csv"
    table.to_csv(whole, index=False)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    table.loc[1, ["picture", "sound"]] = None
    table.loc[2, "picture"] = str(tmp_path / "broken.png")
    spoilt = tmp_path / "spoilt.csv"
    table.to_csv(spoilt, index=False)
    said = {}
    for name, path in {"whole": whole, "spoilt": spoilt}.items():
        shell.works("predict", run / "run", path, "--out", tmp_path / f"{name}.jsonl")
        said[name] = answered(tmp_path / f"{name}.jsonl")
    assert said["spoilt"][0] == said["whole"][0]
    assert said["spoilt"][3] == said["whole"][3], "no row is answered otherwise because of a neighbour"
    assert said["spoilt"][1]["caption"] is not None
    assert said["spoilt"][2]["caption"] is None
    assert "picture" in said["spoilt"][2]["error"]


def test_the_report_shows_where_each_word_looked(run: Path) -> None:
    page = (run / "run" / "report.html").read_text(encoding="utf-8")
    section = page.partition('id="looks"')[2].partition("</section>")[0]
    assert section.count("<figure>") > 6
    assert "data:image/jpeg;base64," in section


def test_the_same_seed_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    from polymodal import cli

    assert cli.main(["train", str(run / "spec.yaml"), "--out", str(tmp_path / "again"), "--quiet"]) == 0
    one, two = ((f / "weights.safetensors").read_bytes() for f in (run / "run", tmp_path / "again"))
    assert one == two


def test_sentences_are_judged_beside_their_pictures(run: Path, shell: Any, hub: Callable[[str], str]) -> None:
    table = run / "scenes" / "table.csv"
    words = ("evaluate", run / "run", table, "--json", "--no-withheld", "--clip")
    found = json.loads(shell.works(*words, hub("clip")).out)["tasks"]["caption"]
    assert 0 <= found["clip_score"]["value"] <= 2.5
    assert found["clip_score"]["ci95"][0] < found["clip_score"]["ci95"][1]
    aligned = polymodal.load(run / "run").evaluate(table, withheld=False, clip=hub("clip")).tasks["caption"]
    judge, texts = Aligned(hub("clip")), [str(p.value) for p in aligned.predictions]
    files = [np.asarray(Image.open(run / "scenes" / name)) for name in pd.read_csv(table)["picture"]]
    expected = clip_score(judge.embed_pictures(files), judge.embed_texts(texts)).mean()
    assert found["clip_score"]["value"] == pytest.approx(expected, abs=1e-6)
    assert "no common space" in shell.fails("evaluate", run / "run", table, "--clip", hub("text"))


def test_what_cannot_be_judged_is_said(trained: Any, shell: Any, hub: Callable[[str], str]) -> None:
    table = next(trained.folder.glob("*.csv"))
    assert "lacks a task that says sentences" in shell.fails("evaluate", trained.run, table, "--clip", hub("clip"))


def test_groups_left_out_are_measured_together(run: Path, tmp_path: Path) -> None:
    spec = yaml12.loads((run / "spec.yaml").read_text(encoding="utf-8"), "spec")
    spec["data"] = {"train": spec["data"]["train"], "valid": 0.2}
    found = polymodal.leave_out(spec=spec, column="pitch", out=tmp_path / "left", quiet=True)
    assert set(found.groups) == {"high", "low"}
    assert {"cider", "cider_caption_zh"} <= found.json()["tasks"]["caption"].keys()
