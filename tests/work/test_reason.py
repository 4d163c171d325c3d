"""Why rows were answered so: beside predictions made by hand with the cell missing, and weights read off the model."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import polymodal
from endtoend import INPUTS, TRAIN, Shell, Trained, read_answers
from polymodal.core.search.speaker import Lips, Remembering
from polymodal.core.streams import Stream
from polymodal.data.ledger import Ledger
from polymodal.data.splits import Part
from polymodal.data.tables import open_table
from polymodal.model import withhold
from polymodal.work.reason import ROWS, _of_classes, reasons
from polymodal.work.reason_looks import _mean

EMPTY: dict[str, Any] = {"front": None, "back": None}


@pytest.fixture(scope="module")
def rows(trained: Trained) -> list[dict[str, Any]]:
    """Two pictures of each thing, its title, what it is, what is true of it, what it costs, and a sentence."""
    photos = [str(trained.folder / row["photo"]) for row in trained.rows]
    return [
        {"front": photo, "back": photos[i - 3], "title": row["title"], "label": row["label"], "price": row["price"],
         "true": [row["brand"], row["label"]], "say": f"a {row['brand']} here {row['label']}"}
        for i, (row, photo) in enumerate(zip(trained.rows, photos, strict=True))
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> polymodal.Run:
    tasks = {
        "label": {"type": "classify", "column": "label"},
        "true": {"type": "classify", "column": "true", "multi": True},
        "price": "regress",
        "say": {"type": "caption", "min_count": 1, "decoder": {"type": "transformer", "layers": 1, "heads": 2}},
    }
    photo = {key: value for key, value in INPUTS["photo"].items() if key != "column"}
    spec = {"inputs": {"photo": {**photo, "columns": ["front", "back"]}, "title": INPUTS["title"]},
            "model": {"width": 8}, "attention": {"type": "co", "layers": 1, "heads": 2}, "fusion": "gated",
            "tasks": tasks, "train": {**TRAIN, "epochs": 3, "lr": 0.02}}  # fmt: skip
    return polymodal.train(rows, spec=spec, out=tmp_path_factory.mktemp("reason") / "run", quiet=True)


def loaded(run: polymodal.Run, rows: list[dict[str, Any]]) -> Any:
    part = Part(open_table(rows), np.arange(len(rows)))
    batch, _ = run.assembly.dataset(part, Ledger(), targets=False).load(part.rows)
    return batch


GONE: dict[str, dict[str, Any]] = {"photo": EMPTY, "title": {"title": None}}


def test_withheld_is_a_prediction_with_the_cells_missing(run: polymodal.Run, rows: list[dict[str, Any]]) -> None:
    told, whole = run.reasons(rows), run.predict(rows)
    moved = 0
    for name, cells in GONE.items():
        without = run.predict([{**row, **cells} for row in rows])
        for reason, line, other in zip(told, whole, without, strict=True):
            for task in ("label", "true", "say"):
                found = reason[task]
                assert found["measure"] == "confidence"
                assert found["whole"] == pytest.approx(line[f"{task}.confidence"], rel=1e-4)
                said = found["without"][name]
                assert said["value"] == other[task]
                assert said["confidence"] == pytest.approx(other[f"{task}.confidence"], rel=1e-4)
                if other[task] == line[task]:  # the same is said, less surely
                    change = other[f"{task}.confidence"] - line[f"{task}.confidence"]
                    assert found["withheld"][name] == pytest.approx(change, abs=1e-5)
                    moved += abs(change) > 1e-3
            if other["label"] != line["label"]:  # one of two classes: what it was is what is left
                left = 1 - other["label.confidence"]
                assert reason["label"]["withheld"][name] == pytest.approx(left - line["label.confidence"], abs=1e-5)
            assert reason["price"]["measure"] == "value"
            assert reason["price"]["withheld"][name] == pytest.approx(other["price"] - line["price"], rel=1e-3)
    assert moved > 20


def test_the_withheld_probability_of_a_set_is_of_exactly_that_set(
    run: polymodal.Run, rows: list[dict[str, Any]]
) -> None:
    batch, task = loaded(run, rows), run.assembly.model.tasks["true"]
    told = run.reasons(rows)
    with torch.inference_mode():
        p = torch.sigmoid(run.assembly.model(withhold(batch, "title"), respond=True).answers["true"]["logits"].double()
                          / task.temperature)  # fmt: skip
    for reason, chances in zip(told, p.tolist(), strict=True):
        set_ = {c for c, p in reason["true"]["likely"] if p > 0.5}
        product = np.prod([x if c in set_ else 1 - x for c, x in zip(task.classes, chances, strict=True)])
        assert reason["true"]["whole"] + reason["true"]["withheld"]["title"] == pytest.approx(product, rel=1e-4)


def test_the_said_sentence_is_judged_token_by_token(run: polymodal.Run, rows: list[dict[str, Any]]) -> None:
    """What the sentence that was said is worth without the pictures: the decoder is made to say it."""
    batch, model = loaded(run, rows), run.assembly.model
    task = model.tasks["say"]
    with torch.inference_mode():
        said = model(batch, respond=True).answers["say"]
        blind = model(withhold(batch, "photo"), respond=True)
        speaker = Remembering(task.decoder, task.memory(blind.attended, blind.fused), task.search.longest, 1)
        lips, ids = Lips(task.field["end"], task.banned, 0), torch.full((len(rows),), task.field["size"])
        total, length = torch.zeros(len(rows)), said["length"][:, 0]
        for step in range(int(length.max())):
            log_p = lips(speaker.next(ids), step)
            ids = said["ids"][:, 0, step]
            total += log_p.gather(1, ids[:, None])[:, 0] * (step < length)
    expected = (total / length).exp().tolist()
    found = [r["say"]["whole"] + r["say"]["withheld"]["photo"] for r in run.reasons(rows)]
    assert found == pytest.approx(expected, rel=1e-3)
    assert np.std(found) > 1e-4


def test_the_likeliest_classes(run: polymodal.Run, rows: list[dict[str, Any]]) -> None:
    for reason, line in zip(run.reasons(rows), run.predict(rows), strict=True):
        (best, p), (other, q) = reason["label"]["likely"]
        assert (best, other) in {("yes", "no"), ("no", "yes")}
        assert best == line["label"]
        assert p == pytest.approx(line["label.confidence"])
        assert p >= q
        assert p + q == pytest.approx(1)
        assert {c for c, p in reason["true"]["likely"] if p > 0.5} == set(line["true"])
        assert "likely" not in reason["price"]


def test_attention_is_where_the_title_looked(run: polymodal.Run, rows: list[dict[str, Any]]) -> None:
    """The notes of the model, averaged by hand: over the words that are there, then cut into both pictures' places."""
    few = [{**rows[0], "title": "red"}, {**rows[1], "title": "blue mug lamp"}, {**rows[2], "back": None}]
    batch, told = loaded(run, few), run.reasons(few)
    with torch.inference_mode():
        out = run.assembly.model(batch, respond=True)
    weights, words = out.notes.weights["title<-photo"], out.attended["title"].mask.sum(1).tolist()
    height, width = out.encoded["photo"].maps[-1].shape[2:]
    assert height * width > 1
    for row, count in enumerate(words):
        looked = np.mean([weights[row, w].numpy() for w in range(count)], axis=0).reshape(2, height, width)
        seen = told[row]["label"]["attention"]
        places = seen["places"]["photo"]
        assert [p["column"] for p in places] == (["front", "back"] if row < 2 else ["front"])
        for k, place in enumerate(places):
            np.testing.assert_allclose(place["grid"], looked[k] / looked.sum(), rtol=0.01)
        assert list(seen["shares"].values()) == pytest.approx(out.notes.weights["fusion"][row].tolist(), rel=0.01)
    both = told[0]["label"]["attention"]["places"]["photo"]
    assert sum(np.sum(p["grid"]) for p in both) == pytest.approx(1, abs=0.02)


def test_the_decoder_tells_word_by_word_where_it_looked(run: polymodal.Run, rows: list[dict[str, Any]]) -> None:
    batch = loaded(run, rows)
    with torch.inference_mode():
        out = run.assembly.model(batch, respond=True)
        looked = run.assembly.model.tasks["say"].looks(out.attended, out.fused, out.answers["say"])["photo"]
    size = out.encoded["photo"].maps[-1].shape[2:]
    line = run.predict(rows)[4]
    seen = run.reasons(rows)[4]["say"]["attention"]
    assert [w["word"] for w in seen["words"]] == line["say"].split()
    for step, word in enumerate(seen["words"]):
        expected = looked[4, step].reshape(2, *size)
        np.testing.assert_allclose(word["places"]["photo"], expected, rtol=0.01)
    steps = int(out.answers["say"]["length"][4, 0])
    mean = looked[4, :steps].mean(0).reshape(2, *size)
    np.testing.assert_allclose([p["grid"] for p in seen["places"]["photo"]], mean / mean.sum(), rtol=0.01)


def test_the_picture_is_the_one_the_model_saw(run: polymodal.Run, rows: list[dict[str, Any]]) -> None:
    front, back = run.reasons(rows[:1])[0]["label"]["attention"]["places"]["photo"]
    size = INPUTS["photo"]["size"]
    for column, place in (("front", front), ("back", back)):
        shown = Image.open(io.BytesIO(base64.b64decode(place["picture"])))
        with Image.open(rows[0][column]) as picture:
            expected = np.asarray(picture.convert("RGB").resize((size, size)), float)
        assert np.abs(np.asarray(shown, float) - expected).mean() < 25  # a JPEG of noise
    assert front["picture"] != back["picture"]
    (bare,) = reasons(run.assembly, loaded(run, rows[:1]), run.runtime, pictures=False)
    assert all("picture" not in p for p in bare["label"]["attention"]["places"]["photo"])


def test_an_input_that_a_row_lacks_gives_no_reason(run: polymodal.Run, rows: list[dict[str, Any]]) -> None:
    (found,) = run.reasons([{**rows[0], **EMPTY}])
    assert list(found["label"]["withheld"]) == list(found["label"]["without"]) == ["title"]
    assert "places" not in found["label"]["attention"]
    (nothing,) = run.reasons([{**rows[0], **EMPTY, "title": None}])
    assert nothing["label"]["withheld"] == {}


def test_rows_stay_in_order_and_bad_ones_have_none(
    run: polymodal.Run, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    many = [*rows, {**rows[0], "front": str(tmp_path / "bad.png")}, *rows][: ROWS + 9]
    told = run.reasons(many)
    assert told[len(rows)] == {}
    assert all(t["label"]["whole"] is not None for i, t in enumerate(told) if i != len(rows))
    once = run.reasons(rows)[:8]
    again = told[len(rows) + 1 :][:8]
    for one, two in zip(once, again, strict=True):
        assert one["label"]["withheld"] == pytest.approx(two["label"]["withheld"], abs=1e-5)


def test_the_command_line_writes_a_column(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    table = trained.table(tmp_path / "rows.csv", trained.rows[:5])
    run = polymodal.load(trained.run)
    expected = [r["label"] for r in run.reasons(table)]
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        shell.works("predict", trained.run, table, "--out", tmp_path / name, "--reasons")
        if name.endswith("parquet"):
            cells = pq.read_table(tmp_path / name)["label.reason"].to_pylist()
        else:
            cells = [line["label.reason"] for line in read_answers(tmp_path / name)]
        found = [c if isinstance(c, dict) else json.loads(c) for c in cells]
        assert [f["withheld"] for f in found] == [pytest.approx(e["withheld"], abs=1e-6) for e in expected], name
        assert set(found[0]["withheld"]) == set(INPUTS)
    shell.works("predict", trained.run, table, "--out", tmp_path / "b.jsonl")
    assert all("label.reason" not in line for line in read_answers(tmp_path / "b.jsonl"))


class Told:
    """As much of a classifier as a reason asks for."""

    def __init__(self, multi: bool) -> None:
        self.multi = multi

    def cooled(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.double()


@pytest.mark.parametrize(
    ("multi", "expected"),
    [(False, np.exp(1) / (np.exp(1) + np.exp(3) + 1)),  # of the first class, which was said, though the second is ahead
     (True, (1 / (1 + np.exp(-1))) * (1 - 1 / (1 + np.exp(-3))) * (1 / (1 + np.exp(0))))],
)  # fmt: skip
def test_another_answer_is_asked_for_the_one_that_was_given(multi: bool, expected: float) -> None:
    said, other = torch.tensor([[2.0, -1.0, -0.5]]), torch.tensor([[1.0, 3.0, 0.0]])
    (found,) = _of_classes(Told(multi), {"logits": said}, {"logits": other})
    assert found == pytest.approx(expected)


def test_padding_that_looks_somewhere_does_not_count() -> None:
    weights = torch.tensor([[[0.2, 0.8], [0.6, 0.4], [0.0, 9.0]]])
    looker = Stream(torch.zeros(1, 3, 4), torch.tensor([[True, True, False]]))
    np.testing.assert_allclose(_mean(weights, looker), [[0.4, 0.6]])
    np.testing.assert_allclose(_mean(weights[:, 0], looker), [[0.2, 0.8]])
