"""The page shows the numbers it was given, escapes what users wrote, and stands missing pieces."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from polymodal.core.contracts import Prediction
from polymodal.scenes import scene_rows
from polymodal.scenes.sound import wav
from polymodal.work import plots
from polymodal.work.card import write_card
from polymodal.work.evaluation import Evaluation, Example, TaskResult
from polymodal.work.report import chart, write_report
from polymodal.work.words import change, falls, guessing, written

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
KINDS = ["茶杯", "teapot", "花瓶", "plate", "椅子", "lamp with a rather long name"]
VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Elements of a page: every start tag with its attributes, `<data>` values, text; fails on tags out of balance."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.values, self.text, self.open = [], [], "", []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "data":
            self.values.append(dict(attrs)["value"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"closed without being opened: {tag}"
        assert self.open.pop() == tag, f"closed out of order: {tag}"

    def handle_data(self, data):
        self.text += data


def read(path):
    html = path.read_text("utf-8")
    return html, Page(html)


def measured(value, low=None, high=None):
    return {"value": value, "ci95": [low, high]}


def result(measures, charts=(), truth=("yes", "no", "no"), guesses=("yes", "no", "yes")):
    error = np.arange(len(truth), dtype=float)
    predictions = [Prediction(g, 0.9) for g in guesses]
    return TaskResult(measures, list(charts), {"error": error}, np.arange(len(truth)), list(truth), predictions)


def picture(row):
    file = io.BytesIO()
    row.scene.picture.save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def example(task, row, truth, answer, confidence, error, sentence=None):
    shown = {
        "picture": [{"kind": "image", "data": picture(row)}],
        "sentence": [{"kind": "text", "data": sentence or row.sentence}],
        "sound": [{"kind": "audio", "data": base64.b64encode(wav(row.scene.sound)).decode()}],
        "numbers": [{"kind": "table", "data": {"kilograms": str(row.scene.kilograms), "celsius": ""}}],
    }
    return Example(task, row.number, truth, Prediction(answer, confidence), error, shown)


def evaluation(seed):
    """Three tasks as they come from measuring: yes or no, kinds with Chinese names, a number."""
    rng, rows = np.random.default_rng(seed), list(scene_rows(40, language="both"))
    counts = (np.eye(6) * 40 + rng.integers(0, 6, (6, 6))).astype(int)
    bins = [
        {"confidence": c, "accuracy": c - 0.08 * np.sin(4 * c), "count": int(300 * c)} for c in np.linspace(0.5, 1, 8)
    ]
    price = rng.lognormal(3, 0.8, 200)
    match = {"accuracy": measured(0.9425 if seed else 0.935, 0.9125, 0.9675), "auroc": measured(0.981, 0.969, 0.991),
             "calibration_error": measured(0.0315, 0.02, 0.06), "log_loss": measured(0.184, 0.12, 0.25)}  # fmt: skip
    tasks = {
        "match": result(match, [{"kind": "confusion", "classes": ["no", "yes"], "counts": [[190, 10], [13, 187]]},
                                {"kind": "reliability", "bins": bins}], ["yes", "no"] * 200, ["yes", "no"] * 200),
        "种类": result({"accuracy": measured(0.861, 0.82, 0.9), "macro_f1": measured(0.85, 0.81, 0.89)},
                     [{"kind": "confusion", "classes": KINDS, "counts": counts.tolist()}, {"kind": "novel", "x": 1}],
                     KINDS * 50, KINDS * 50),
        "price": result({"rmse": measured(12.345, 10.9, 14.1), "r2": measured(0.72, 0.61, 0.79)},
                        [{"kind": "scatter", "truth": price.tolist(), "log": True,
                          "predicted": (price * rng.lognormal(0, 0.25, 200)).tolist()}],
                        price.tolist(), price.tolist()),
    }  # fmt: skip
    worth = {
        "picture": (0.69, 0.64, 0.73),
        "sentence": (0.5, 0.45, 0.55),
        "sound": (0.89, 0.85, 0.92),
        "numbers": (0.945, 0.91, 0.97),
    }
    withheld = {
        name: {"match": {"accuracy": measured(*v)}, "price": {"rmse": measured(12 + 20 * (0.95 - v[0]))}}
        for name, v in worth.items()
    }
    examples = [example("match", r, r.match, "no" if r.match == "yes" else "yes", 0.97 - 0.03 * k, 3.5 - 0.2 * k)
                for k, r in enumerate(rows[8:14])]  # fmt: skip
    examples += [example("price", r, 88.0 + k, 21.5, None, 66.5 - k) for k, r in enumerate(rows[20:22])]
    return Evaluation(400, tasks, {"skipped": 3}, withheld, examples)


def fill(folder, epochs=25):
    """The other files of a run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for e in range(1, epochs + 1):
        loss = 0.7 / (1 + np.exp((e - 10) / 3)) + 0.05
        valid = {"match.loss": loss + 0.06 + 0.002 * e, "match.accuracy": 1 - loss / 1.5, "种类.loss": 3 * loss,
                 "price.loss": None, "种类.accuracy": 1 - loss, "price.rmse": 40 * loss}  # fmt: skip
        train = {"loss": 2.2 * loss, "match": loss, "种类": 2 * loss, "price": loss / 3}
        lines.append({"epoch": e, "step": 44 * e, "lr": 1e-3, "seconds": 2.41, "rows_per_second": 1162.0 + e,
                      "train": train, "valid": valid, "best": e in (3, 9, 21)})  # fmt: skip
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    bad = [{"table": "products.csv", "row": 17 * k, "column": "photo", "file": f"photos/图片 {k:03d}.jpg",
            "reason": "truncated: 1,204 bytes are missing", "action": "skipped" if k % 3 else "missing"}
           for k in range(130)]  # fmt: skip
    (folder / "ledger.jsonl").write_text("".join(json.dumps(b, ensure_ascii=False) + "\n" for b in bad), "utf-8")
    spec = "inputs:\n  picture: {type: image, encoder: cnn}\n  sentence: {type: text, encoder: gru}\n"
    (folder / "spec.yaml").write_text(
        spec + "fusion: gated\ntasks:\n  match: {type: classify, column: match}\n", "utf-8"
    )
    environment = {"python": "3.12.1", "torch": "2.13.0", "threads": 2, "seconds": 61.2}
    (folder / "environment.json").write_text(json.dumps(environment), "utf-8")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = fill(tmp_path_factory.mktemp("runs") / "shop-2024")
    evaluations = {"valid": evaluation(0), "test": evaluation(1)}
    return folder, evaluations, *read(write_report(folder, evaluations))


def test_every_measure_stands_in_the_page_as_it_was_given(run):
    _, evaluations, _, page = run
    for found in evaluations.values():
        for task in found.tasks.values():
            for one in task.measures.values():
                assert str(one["value"]) in page.values
    for tasks in evaluations["test"].withheld.values():
        assert str(tasks["match"]["accuracy"]["value"]) in page.values


def test_the_headline_speaks_of_test_in_words(run):
    text = " ".join(run[3].text.split())
    assert "94.2 %" in text
    assert "95 % interval 91.2 to 96.8 %, 400 rows. Always answering “yes” would score 50.0 %." in text
    assert "12.3" in text
    assert "25 epochs in 60 s, 1,175 rows a second · best epoch 21" in text
    assert "−25.3 points" in text  # without the picture
    assert "+4.85" in text  # the error of the price without the picture


def test_the_page_is_one_file_without_scripts_and_network(run):
    _, _, html, page = run
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    for tag, attrs in page.tags:
        if "src" in attrs:
            assert attrs["src"].startswith("data:"), tag
        assert not any(name.startswith("on") for name in attrs), tag
        assert attrs.get("href", "#").startswith("#"), tag
    assert not re.search(r"url\((?!#)", html)


def test_ids_are_unique_and_links_lead_somewhere(run):
    _, _, html, page = run
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    wanted = {a.get("href") or a.get("xlink:href") for _, a in page.tags} - {None}
    wanted |= {f"#{name}" for name in re.findall(r"url\(#([^)]+)\)", html)}
    assert {w[1:] for w in wanted} <= set(ids)


def test_the_counts_of_confusion_and_ledger_are_there(run):
    _, evaluations, html, page = run
    cells = re.findall(r"color-mix[^>]*>(\d+)</td>", html)
    counts = [n for t in ("match", "种类") for row in evaluations["test"].tasks[t].charts[0]["counts"] for n in row]
    assert [int(c) for c in cells] == counts
    text = " ".join(page.text.split())
    assert "130 cells could not be used as they were: 44 missing, 86 skipped. The first 100 are shown" in text
    assert "图片 099.jpg" in text
    assert "图片 100.jpg" not in text


def test_mistakes_show_what_went_in(run):
    _, evaluations, _, page = run
    pictures = [a["src"] for tag, a in page.tags if tag == "img"]
    sounds = [a["src"] for tag, a in page.tags if tag == "audio"]
    shown = evaluations["test"].examples
    assert pictures == [f"data:image/png;base64,{e.shown['picture'][0]['data']}" for e in shown]
    assert sounds == [f"data:audio/wav;base64,{e.shown['sound'][0]['data']}" for e in shown]
    assert all(e.shown["sentence"][0]["data"] in page.text for e in shown)


def test_what_users_wrote_is_escaped_everywhere(tmp_path):
    folder = fill(tmp_path / "<b>run")
    (folder / "spec.yaml").write_text(HOSTILE)
    entry = dict.fromkeys(("table", "column", "file", "reason", "action"), HOSTILE) | {"row": 1}
    (folder / "ledger.jsonl").write_text(json.dumps(entry) + "\n")
    (folder / "environment.json").write_text(json.dumps({HOSTILE: HOSTILE}))
    charts = [{"kind": "confusion", "classes": [HOSTILE, "b"], "counts": [[1, 1], [1, 1]]},
              {"kind": "confusion", "classes": [HOSTILE] * 30, "counts": np.ones((30, 30), int).tolist()},
              {"kind": "bars", "measure": HOSTILE, "classes": [HOSTILE], "counts": [1], "values": [0.5]}]  # fmt: skip
    task = result({"accuracy": measured(0.5, 0.4, 0.6), HOSTILE: measured(1.0)}, charts, [HOSTILE] * 3, [HOSTILE] * 3)
    row = next(scene_rows(4))
    one = example(HOSTILE, row, HOSTILE, HOSTILE, 0.5, 1.0, HOSTILE)
    one.shown[HOSTILE] = [{"kind": "table", "data": {HOSTILE: HOSTILE}}, {"kind": "image", "data": HOSTILE},
                          {"kind": "audio", "data": HOSTILE}, {"kind": HOSTILE, "data": HOSTILE}]  # fmt: skip
    withheld = {HOSTILE: {HOSTILE: {"accuracy": measured(0.4)}}}
    evaluations = {HOSTILE: Evaluation(3, {HOSTILE: task}, {HOSTILE: 1}, withheld, [one])}
    html, page = read(write_report(folder, evaluations))
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>" not in html
    assert not any("onerror" in attrs for _, attrs in page.tags)
    assert page.text.count(HOSTILE) > 15
    card = write_card(folder, evaluations).read_text("utf-8")
    assert "<script>" not in card
    assert "<img" not in card


@pytest.mark.parametrize("name", ["history.jsonl", "ledger.jsonl", "spec.yaml", "environment.json"])
def test_a_missing_file_leaves_its_section_out(tmp_path, name):
    folder = fill(tmp_path / "run")
    (folder / name).unlink()
    _, page = read(write_report(folder, {"test": evaluation(1)}))
    sections = {a["id"] for tag, a in page.tags if tag == "section"}
    gone = {"history.jsonl": "curves", "spec.yaml": "spec", "environment.json": "environment"}
    assert {"curves", "spec", "environment"} - sections == {gone[name]} - {None} if name in gone else True
    assert ("Every cell could be read." in page.text) == (name == "ledger.jsonl")


def test_an_empty_folder_and_no_evaluations(tmp_path):
    _, page = read(write_report(tmp_path, {}))
    assert "Nothing was measured" in page.text
    assert write_card(tmp_path, {}).exists()


def test_zero_epochs_and_one(tmp_path):
    for epochs in (0, 1):
        _, page = read(write_report(fill(tmp_path / str(epochs), epochs), {"valid": evaluation(1)}))
        assert ("1 epoch in" in " ".join(page.text.split())) == (epochs == 1)


def test_values_that_are_not_defined_are_dashes(tmp_path):
    task = result({"accuracy": measured(None), "r2": {"value": 0.25}}, [], [], [])
    empty = Evaluation(0, {"y": task}, {}, {"x": {"y": {"accuracy": measured(None)}}}, [])
    _, page = read(write_report(tmp_path, {"test": empty}))
    assert "–" in page.text
    assert "nan" not in page.text.lower()


def test_the_same_run_gives_the_same_bytes(run, tmp_path):
    folder, evaluations, html, _ = run
    again = fill(tmp_path / folder.name)
    assert write_report(again, evaluations).read_text("utf-8") == html


def test_charts_of_one_class_and_of_a_hundred(tmp_path):
    one = {"kind": "confusion", "classes": ["only"], "counts": [[7]]}
    many = {"kind": "confusion", "classes": [f"class {i}" for i in range(100)],
            "counts": (np.eye(100, dtype=int) * 9 + np.eye(100, k=1, dtype=int) * 3).tolist()}  # fmt: skip
    many["counts"][42][17] = 50
    html, page = read(
        write_report(tmp_path, {"test": Evaluation(7, {"y": result({"accuracy": measured(1.0)}, [one, many])})})
    )
    assert re.findall(r"color-mix[^>]*>(\d+)</td>", html) == ["7"]
    assert len(html) < 100_000
    assert "class42class1750" in "".join(page.text.split())
    assert [chart(c) for c in ({"kind": "new"}, {}, {"kind": "scatter", "truth": [], "predicted": []})] == [None] * 3


def test_curves_draw_the_points_they_are_given():
    """The path's points are an affine image of the data: equal steps across, the least loss lowest."""
    svg = plots.curves([[(1.0, 4.0), (2.0, 1.0), (3.0, 2.0)]], 2)
    path = re.search(r'<path d="(M [^"]+)"[^>]*stroke: var\(--c1\)', svg)[1]
    x, y = np.array([float(n) for n in re.findall(r"[\d.]+", path)]).reshape(-1, 2).T
    assert x[1] - x[0] == pytest.approx(x[2] - x[1])
    assert (y[1] - y[0]) / (y[2] - y[1]) == pytest.approx(-3, abs=1e-3)  # y grows downwards
    assert "#0a0b" not in svg


def test_scatter_passes_over_what_has_no_place():
    svg = plots.scatter([1.0, 10.0, -1.0, float("nan")], [2.0, 20.0, 1.0, 1.0], log=True)
    assert svg.count("<use") - svg.count("var(--ink-soft)") <= 2 + svg.count("<text")
    assert svg.count("fill-opacity: 0.45") == 2


def test_words():
    assert [written(v, "accuracy") for v in (0.9425, 1.0, None, float("nan"))] == ["94.2 %", "100.0 %", "–", "–"]
    assert [written(v) for v in (0.1234, 12.345, 3, 1234567.0)] == ["0.123", "12.35", "3", "1.235e+06"]
    assert (change(0.252, "accuracy"), change(0.1, "rmse"), change(-0.02, "macro_f1")) == (
        "−25.2 points",
        "+0.1",
        "+0.02",
    )


def test_falls_point_the_right_way_for_either_kind_of_measure():
    right, wrong = {"accuracy": measured(0.9)}, {"rmse": measured(2.0)}
    withheld = {
        "a": {"t": {"accuracy": measured(0.6, 0.5, 0.7), "rmse": measured(5.0)}},
        "b": {"t": {"accuracy": measured(0.95), "rmse": measured(1.5)}},
    }
    one, two = falls(right, withheld, "t")
    assert (one["input"], two["input"]) == ("a", "b")
    assert (one["fall"], one["low"], one["high"]) == pytest.approx((0.3, 0.2, 0.4))
    assert (two["fall"], two["low"]) == (pytest.approx(-0.05), None)
    assert [f["fall"] for f in falls(wrong, withheld, "t")] == [3.0, -0.5]


def test_guessing_is_the_share_of_the_most_common_answer():
    assert guessing(result({}, truth=["a", "b", "b", "b"], guesses="abab"), "accuracy") == ("b", 0.75)
    assert guessing(result({}, truth=[["a"], ["b"]], guesses="ab"), "accuracy") is None
    assert guessing(result({}, truth=[1.0, 2.0], guesses="ab"), "rmse") is None
