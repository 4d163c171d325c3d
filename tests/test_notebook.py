"""What a notebook shows: the right numbers, nothing of the table as HTML, one place for work that goes on."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import polymodal
from endtoend import TRAIN, Trained
from polymodal.core import html
from polymodal.core import spec as specs
from polymodal.core.contracts import Prediction
from polymodal.work.evaluation import Evaluation, TaskResult
from polymodal.work.notebook import Cell, run_html
from polymodal.work.progress import Display
from polymodal.work.words import written

EVIL = "<script>alert('x')</script><img src=x onerror=y>&\""


class Page(HTMLParser):
    """Every element and every cell of a table, and that all that was opened is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag != "br":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def safe(page: Page) -> None:
    assert not {"script", "img", "iframe", "link", "style"} & set(page.elements)


def evaluation(name: str = "label") -> Evaluation:
    measures = {"accuracy": {"value": 0.75, "ci95": [0.5, 1.0]}, "log_loss": {"value": 0.3333, "ci95": None}}
    task = TaskResult(
        measures, [], {"error": np.zeros(4)}, np.arange(4), list("abab"), [Prediction("a")] * 4, "accuracy"
    )
    blind = {EVIL: {name: {"accuracy": {"value": 0.25, "ci95": [0.0, 0.5]}}}}
    return Evaluation(4, {name: task}, {"skipped": 2}, blind)


def test_an_evaluation() -> None:
    page = Page(evaluation()._repr_html_())
    assert ["label", "accuracy", "75.0 %  (50.0 to 100.0 %)"] in page.rows
    assert ["label", "log loss", "0.333"] in page.rows
    assert [EVIL, "25.0 %  (0.0 to 50.0 %)"] in page.rows
    assert "rows with bad cells: 2 skipped" in evaluation()._repr_html_()
    assert repr(evaluation()) == "Evaluation of 4 rows: label accuracy 75.0 %  (50.0 to 100.0 %)"
    safe(page)


def test_a_run(trained: Trained) -> None:
    run = polymodal.load(trained.run)
    text = run._repr_html_()
    page = Page(text)
    found = run.metrics["valid"]["tasks"]["label"]["accuracy"]
    row = next(r for r in page.rows if r[:2] == ["label", "accuracy"])
    assert row[2].startswith(written(found["value"], "accuracy"))
    assert [r[0] for r in page.rows[-len(run.spec.inputs) :]] == list(run.spec.inputs), (
        "what is left without each input"
    )
    assert text.count("<svg") == 2, "the loss and the accuracy"
    assert "photo: image through cnn" in text
    assert len(text) < 60_000
    safe(page)


def test_a_run_of_one_epoch_without_measures() -> None:
    plan = specs.parse({"inputs": {"a": "text"}, "tasks": {"y": "classify"}})
    entry = {"epoch": 1, "train": {"loss": 1.0, "y": 1.0}, "valid": {}, "best": True}
    page = Page(run_html(Path(EVIL), plan, {}, [entry], 3))
    assert "svg" not in page.elements
    safe(page)


def test_a_check_of_a_table() -> None:
    found = polymodal.check({EVIL: ["a", None, EVIL] * 10, "b": [1, 2, 3] * 10})
    page = Page(found._repr_html_())
    assert page.rows[0] == ["column", "looks like", "example", "missing", "distinct", "bad"]
    assert page.rows[1] == [EVIL, "category", "'a'", "10", "2", "0"]
    assert page.rows[2] == ["b", "number", "1", "0", "3", "0"]
    assert repr(found) == str(found)
    safe(page)


def test_a_spec_can_be_read_back() -> None:
    from html import unescape

    plan = specs.parse({"inputs": {EVIL: "text"}, "tasks": {"y": "classify"}})
    text = plan._repr_html_()
    safe(Page(text))
    body = re.findall(r"<pre[^>]*>(.*)</pre>", text, re.S)[0]
    from polymodal.core import yaml12

    assert specs.parse(yaml12.loads(unescape(body))) == plan


def test_colours_are_the_pages_own() -> None:
    """No opaque background and no colour of text: both light and dark pages fit."""
    shown = "".join([evaluation()._repr_html_(), html.frame(html.folded("a", "b"), html.lines(["c"]))])
    assert not re.search(r"[;\"]color:(?!inherit)", shown)
    assert not re.search(r"background:#(?:\w{3}|\w{6})[;\"]", shown)


class Handle:
    """What IPython gives to draw a place anew."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []

    def update(self, bundle: dict[str, str], raw: bool) -> None:
        assert raw
        self.shown.append(bundle)


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Handle:
    """A process in which a notebook's kernel runs."""
    handle, ipython = Handle(), ModuleType("IPython")
    ipython.get_ipython = lambda: object()  # type: ignore[attr-defined]
    ipython.display = SimpleNamespace(display=lambda *_, raw, display_id: handle)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    return handle


def test_work_that_goes_on_has_one_place(listening: Handle, capsys: pytest.CaptureFixture[str]) -> None:
    """Instead of a line on standard error for each epoch, which notebooks paint red."""
    data = {"x": np.random.default_rng(0).normal(size=24).tolist(), "y": ["a", "b"] * 12}
    polymodal.train(
        data,
        target="y",
        settings={**TRAIN, "epochs": 20, "patience": 30},
        preset="fast",
        out="run-in-a-notebook",
        quiet=False,
    )
    assert capsys.readouterr() == ("", "")
    last = listening.shown[-1]
    safe(Page(last["text/html"]))
    assert "epoch  20/20" in last["text/plain"]
    assert "guessed from the columns" in last["text/html"]
    assert "guessed from the columns" not in last["text/plain"], "folded away"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_quiet_display_draws_nothing(listening: Handle) -> None:
    display = Display(quiet=True)
    display.say("nothing")
    with display.bar("reading", 3) as bar:
        bar.advance(3)
    assert not listening.shown


def test_a_bar_is_drawn_now_and_then_and_goes(listening: Handle) -> None:
    display = Display()
    with display.bar(EVIL, 1000) as bar:
        for _ in range(999):
            bar.advance(1)
        assert 1 <= len(listening.shown) < 100
        safe(Page(listening.shown[-1]["text/html"]))
        assert "of 1,000" in listening.shown[0]["text/html"]
        bar.advance(1)
    assert "of 1,000" not in listening.shown[-1]["text/html"]


def test_what_is_said_is_text() -> None:
    handle = Handle()
    Cell(handle).say(EVIL)
    safe(Page(handle.shown[-1]["text/html"]))
    assert EVIL in handle.shown[-1]["text/plain"]
