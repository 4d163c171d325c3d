"""The page in a real browser, served by `polymodal serve`: a picture is uploaded, and the right answer read off it."""

from __future__ import annotations

import csv
import io
import re
import wave
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polymodal
from browsing import Watched, browser, refusal, scrolls_sideways, served, until
from polymodal.scenes import make_scenes

DECODER = {"type": "transformer", "layers": 1}
SPEC: dict[str, Any] = {
    "data": {"split": "column", "split_column": "split"},
    "inputs": {
        "picture": {"type": "image", "size": 24, "encoder": {"type": "cnn", "channels": [16, 32]}},
        "caption": {"type": "text", "min_count": 1, "encoder": {"type": "gru", "width": 32}},
        "facts": {"type": "tabular", "columns": ["kilograms", "place"], "numeric": ["kilograms"]},
    },
    "model": {"width": 32},
    "fusion": "attention_pool",
    "tasks": {
        "colour": "classify",
        "find": {"type": "retrieve", "column": "caption", "dim": 32, "between": ["picture", "caption"]},
        "say": {"type": "caption", "column": "caption", "min_count": 1, "decoder": DECODER},
    },
    "train": {"epochs": 6, "batch": 16, "lr": 0.01, "device": "cpu", "threads": 1, "drop": 0.4},
}


RED = "a large red circle at the top left"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(tmp_path_factory.mktemp("page"), rows=240, size=24)


@pytest.fixture(scope="module")
def run(table: Path) -> polymodal.Run:
    return polymodal.train(str(table), spec=SPEC, out=table.parent / "painted things", quiet=True)


@pytest.fixture(scope="module")
def unseen(table: Path) -> list[dict[str, str]]:
    """A row of every colour that was not trained on."""
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    found = {row["colour"]: row for row in rows if row["split"] == "test"}
    assert len(found) > 2
    return [{**row, "picture": str(table.parent / row["picture"])} for row in found.values()]


@pytest.fixture(scope="module")
def indexed(table: Path) -> list[dict[str, Any]]:
    """One row of every scene, as they stand in the index."""
    rows = [row for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines()) if row["match"] == "yes"]
    kept = ("picture", "caption", "colour", "place")
    return [{**{name: row[name] for name in kept}, "picture": str(table.parent / row["picture"]),
             "kilograms": float(row["kilograms"])} for row in rows]  # fmt: skip


@pytest.fixture(scope="module")
def address(run: polymodal.Run, indexed: list[dict[str, Any]]) -> Iterator[str]:
    index = run.folder.parent / "index"
    run.index(indexed, out=index, keep=["picture", "caption", "colour", "kilograms"])
    with served(run.folder.parent / "served.log", run.folder, index) as place:
        yield place


@pytest.fixture(scope="module")
def opened() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture
def watched(opened: Any, address: str) -> Iterator[Callable[..., Watched]]:
    pages: list[Watched] = []

    def watch(**kind: Any) -> Watched:
        pages.append(Watched(opened, address, **kind))
        return pages[-1]

    yield watch
    for one in pages:
        one.check()


def choose(page: Any, picture: str) -> None:
    """As a person does: press the field, pick a file, see it."""
    with page.expect_file_chooser() as chooser:
        page.locator("#fields .picture .drop").click()
    chooser.value.set_files(picture)
    page.wait_for_selector("#fields .picture .preview img")


def ask(page: Any) -> None:
    page.click("#go")
    page.wait_for_selector("#said .raw, #said .note")


def test_the_right_answer_stands_on_the_page(
    watched: Callable[..., Watched], run: polymodal.Run, unseen: list[dict[str, str]]
) -> None:
    page = watched().open()
    assert page.title() == "painted things"
    for row in unseen:
        choose(page, row["picture"])
        ask(page)
        given = [{"picture": row["picture"], "caption": None, "kilograms": None, "place": None}]
        (line,), (reason,) = run.predict(given), run.reasons(given)
        assert page.inner_text("[data-task=colour] .value") == row["colour"] == line["colour"]
        assert page.inner_text("[data-task=say] .said") == line["say"]
        sure = percent(page.inner_text("[data-task=colour] .sure"))
        assert sure == pytest.approx(100 * line["colour.confidence"], abs=1)
        bars = page.locator("[data-task=colour] .likely dd").all_inner_texts()
        assert [percent(bar) for bar in bars] == pytest.approx([100 * p for _, p in reason["colour"]["likely"]], abs=1)
        lost = -100 * reason["colour"]["withheld"]["picture"]
        assert lost > 30
        effect = page.locator("[data-task=colour] [data-input=picture]")
        assert effect.locator(".amount").inner_text().startswith("adds ")
        assert percent(effect.locator(".amount").inner_text()) == pytest.approx(lost, abs=1)
        drawn = effect.locator(".fill").evaluate("fill => fill.clientWidth / fill.parentNode.clientWidth")
        assert drawn == pytest.approx(lost / 100, abs=0.02)
        page.click("#fields .picture .away")


def percent(text: str) -> float:
    found = re.search(r"-?[\d.]+", text)
    assert found, text
    return float(found[0])


def test_the_reason_shows_where_it_looked(watched: Callable[..., Watched], run: polymodal.Run,
                                          unseen: list[dict[str, str]]) -> None:  # fmt: skip
    """The light on the canvas is the attention's: a white picture is brightest where the weight is largest."""
    one = watched()
    page = one.open()
    page.evaluate("""async () => {
      const white = document.createElement("canvas");
      [white.width, white.height] = [24, 24];
      const brush = white.getContext("2d");
      brush.fillStyle = "white";
      brush.fillRect(0, 0, 24, 24);
      const { heat } = await import("/page/heat.js");
      const grid = [[0.1, 0, 0], [0, 0, 0.6], [0, 0.3, 0]];
      const places = { photo: [{ column: "photo", grid, picture: white.toDataURL("image/jpeg").split(",")[1] }] };
      const word = [[0, 0, 0], [0, 0, 0], [1, 0, 0]];
      const words = [{ word: "red", places: { photo: [word] } }];
      document.querySelector("#said").replaceChildren(...heat({ places, words }));
    }""")
    until(page, "document.querySelector('#said canvas').width === 320")
    one.expected = "willReadFrequently"  # Chromium's advice to this test
    light = """() => {
      const canvas = document.querySelector("#said canvas");
      const at = (x, y) => canvas.getContext("2d").getImageData((x + .5) * 320 / 3, (y + .5) * 320 / 3, 1, 1).data[0];
      return [0, 1, 2].map(y => [0, 1, 2].map(x => at(x, y)));
    }"""
    grid = np.array(page.evaluate(light))
    assert np.unravel_index(grid.argmax(), grid.shape) == (1, 2)
    assert grid[2, 1] > grid[0, 0] > grid[0, 2]
    assert grid[1, 2] > 240
    assert grid[2, 0] < 110
    page.locator("#said .word").focus()
    lit = np.array(page.evaluate(light))
    assert np.unravel_index(lit.argmax(), lit.shape) == (2, 0)
    page.click("text=Show the picture alone")
    assert np.array(page.evaluate(light)).min() > 240

    choose(page, unseen[0]["picture"])
    page.fill("[data-column=kilograms] input", "3.5")
    ask(page)
    words = page.locator("[data-task=say] .word").all_inner_texts()
    assert " ".join(words) == page.inner_text("[data-task=say] .said")
    assert page.locator("[data-task=say] canvas").count() == 1


def test_what_there_is_no_answer_without_is_told(watched: Callable[..., Watched], unseen: list[dict[str, str]]) -> None:
    """How well picture and caption fit needs both."""
    page = watched().open()
    choose(page, unseen[0]["picture"])
    page.fill("[data-column=caption] textarea", RED)
    ask(page)
    for name in ("picture", "caption"):
        assert page.text_content(f"[data-task=find] [data-input={name}] .amount") == "no answer without it"
    assert page.locator("[data-task=find] .withheld + .hint").count() == 0
    page.click("#fields .picture .away")


def test_sentences_come_piece_by_piece(watched: Callable[..., Watched], unseen: list[dict[str, str]]) -> None:
    page = watched().open()
    page.evaluate("""() => { window.heard = []; new MutationObserver(() => {
      const talking = document.querySelector(".talking");
      if (talking) window.heard.push(talking.textContent);
    }).observe(document.querySelector("#said"), { childList: true, subtree: true, characterData: true }); }""")
    choose(page, unseen[0]["picture"])
    ask(page)
    heard = list(dict.fromkeys(page.evaluate("window.heard")))
    assert all(later.startswith(earlier) for earlier, later in pairwise(heard))
    assert heard[-1].strip() == page.inner_text("[data-task=say] .said")


def test_two_languages(watched: Callable[..., Watched], unseen: list[dict[str, str]]) -> None:
    """The browser's at first; then the one that was chosen, also after the page is opened anew; nothing is lost."""
    page = watched(locale="zh-CN").open()
    assert page.inner_text("#form h2") == "您手头有什么？"
    assert page.get_attribute("html", "lang") == "zh-CN"
    choose(page, unseen[0]["picture"])
    page.fill("[data-column=kilograms] input", "2")
    ask(page)
    assert "把握" in page.inner_text("[data-task=colour] .sure")
    said = page.inner_text("[data-task=say] .said")
    page.click("text=English")
    assert page.inner_text("#form h2") == "What do you have?"
    assert "sure" in page.inner_text("[data-task=colour] .sure")
    assert page.inner_text("[data-task=say] .said") == said
    assert page.input_value("[data-column=kilograms] input") == "2"
    assert not re.search(r"[\u4e00-\u9fff]", page.inner_text("main"))
    page.reload()
    page.wait_for_selector(".field")
    assert page.inner_text("#form h2") == "What do you have?"


def test_on_a_phone(watched: Callable[..., Watched], unseen: list[dict[str, str]]) -> None:
    kind = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "color_scheme": "dark"}
    page = watched(**kind).open()
    assert not scrolls_sideways(page)
    choose(page, unseen[0]["picture"])
    ask(page)
    page.click("#said .raw summary")
    assert not scrolls_sideways(page)
    assert page.locator("#answer-title").bounding_box()["y"] < 740  # brought into sight
    small = page.locator("button:visible, select:visible, input:visible:not(.unseen)")
    assert min(one.bounding_box()["height"] for one in small.all()) >= 24


def test_what_cannot_be_read_is_told_kindly(watched: Callable[..., Watched], tmp_path: Path) -> None:
    page = watched().open()
    ask(page)
    assert "Give me something first" in page.inner_text("#said .note")
    (tmp_path / "notes.png").write_text("no picture")
    page.set_input_files("#fields .picture input >> nth=0", tmp_path / "notes.png")
    page.wait_for_selector("text=“notes.png” is no picture.")
    page.fill("[data-column=kilograms] input", "a lot")
    ask(page)
    assert "“kilograms” needs a number." in page.inner_text("#said .note")
    page.click("#said .note summary")
    assert "'a lot' is no number" in page.inner_text("#said .note")
    page.click("text=中文")
    assert "“kilograms”需要填数字。" in page.inner_text("#said .note")


def test_a_busy_server_and_none_at_all(watched: Callable[..., Watched]) -> None:
    one = watched()
    page = one.open()
    page.fill("[data-column=kilograms] input", "1")
    for status, told in ((429, "Wait 7 seconds"), (503, "more to do"), (413, "smaller file"), (500, "not your fault")):
        one.expected = f"status of {status}"
        page.route("**/v1/stream", refusal(status))
        ask(page)
        page.wait_for_selector(f"#said .note >> text={told}")
        page.unroute("**/v1/stream")
    page.click("#said .note summary")
    assert "Request abc" in page.inner_text("#said .note")
    one.expected = "net::ERR_FAILED"
    page.route("**/v1/stream", lambda route: route.abort())
    ask(page)
    page.wait_for_selector("text=cannot be reached")
    page.unroute("**/v1/stream")
    ask(page)
    page.wait_for_selector("[data-task=colour] .value")  # and then it goes on


def test_a_token_is_asked_for_and_sent(watched: Callable[..., Watched]) -> None:
    one = watched()
    one.expected = "status of 401"

    def guard(route: Any) -> None:
        if route.request.headers.get("authorization") == "Bearer sesame-open-yourself":
            return route.continue_()
        return refusal(401)(route)

    one.page.route("**/v1/**", guard)
    one.page.goto(one.address)
    for token in ("guessed", "sesame-open-yourself"):
        one.page.wait_for_selector("#token-field")
        one.page.fill("#token-field", token)
        one.page.keyboard.press("Enter")
        if token == "guessed":
            one.page.wait_for_selector("text=does not know this token")
    one.page.wait_for_selector(".field")
    one.page.fill("[data-column=kilograms] input", "1")
    ask(one.page)
    assert one.page.locator("[data-task=colour] .value").count() == 1
    assert one.page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 1]  # gone with the tab


def test_sounds_become_wav(watched: Callable[..., Watched]) -> None:
    """What is recorded, and what the browser decodes, is what the server can read: samples are kept."""
    page = watched().open()
    told = page.evaluate("""async () => {
      const { wav, record, readable } = await import("/page/sound.js");
      const bytes = async (file) => [...new Uint8Array(await file.arrayBuffer())];
      const wave = (phase) => Float32Array.from({ length: 800 }, (_, i) => 0.5 * Math.sin(i / 5 + phase));
      const tone = wav([wave(0), wave(0)], 8000, "tone.wav");
      const recording = await record();
      await new Promise((resolve) => setTimeout(resolve, 900));
      const taken = await recording.stop();
      const other = await readable(new File([tone], "tone.m4a"));
      return { tone: await bytes(tone), taken: await bytes(taken), name: taken.name, other: await bytes(other) };
    }""")
    samples, rate = sound(bytes(told["tone"]))
    assert rate == 8000
    np.testing.assert_allclose(samples, 0.5 * np.sin(np.arange(800) / 5), atol=1e-4)
    taken, rate = sound(bytes(told["taken"]))
    assert told["name"] == "recording.wav"
    assert 0.3 < len(taken) / rate < 3
    assert np.abs(taken).max() > 0.01  # the make-believe microphone beeps
    other, rate = sound(bytes(told["other"]))
    assert abs(len(other) / rate - 0.1) < 0.01


def sound(data: bytes) -> tuple[np.ndarray, int]:
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767, file.getframerate()


def test_a_photo_is_taken(watched: Callable[..., Watched]) -> None:
    page = watched().open()
    page.click("text=Take a photo")
    until(page, "document.querySelector('#finder').videoWidth > 0")
    page.click("#snap")
    page.wait_for_selector("#fields .picture .preview img")
    assert page.evaluate("document.querySelector('#fields .picture .preview img').naturalWidth") > 100
    assert page.evaluate("document.querySelector('#finder').srcObject") is None
    ask(page)
    assert page.locator("[data-task=colour] .value").count() == 1


def test_everything_has_a_name_and_can_be_reached_by_keyboard(watched: Callable[..., Watched]) -> None:
    page = watched().open()
    nameless = page.evaluate("""() => [...document.querySelectorAll("input, select, textarea, button, summary, canvas")]
      .filter(one => one.getAttribute("aria-hidden") !== "true" && one.checkVisibility())
      .filter(one => ![...(one.labels ?? [])].some(label => label.textContent.trim())
        && !(one.getAttribute("aria-label") ?? "").trim() && !one.textContent.trim()).map(one => one.outerHTML)""")
    assert nameless == []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = []
    while "go" not in reached:
        assert len(reached) < 20
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    columns = [page.evaluate("id => document.getElementById(id).closest('[data-column]').dataset.column", one)
               for one in reached if one.startswith("field")]  # fmt: skip
    assert columns == ["picture", "caption", "kilograms", "place"]
    page.focus("[data-column=kilograms] input")
    page.keyboard.type("4")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-task=colour] .value")


# Searching


def nearest(run: polymodal.Run, rows: list[dict[str, Any]], query: dict[str, Any]) -> list[int]:
    """The rows by how near their pictures are, without the index."""
    pictures = run.embed(rows, ["picture"])["picture"][:, 0]
    (vector,) = [found[0] for found in run.embedder.query(query).values()]
    return np.argsort(-(pictures @ vector), kind="stable").tolist()


def search(page: Any) -> None:
    """Press the button, and wait until what was found before has given way."""
    page.evaluate("document.querySelector('#count').textContent = ''")
    page.click("#find")
    page.wait_for_selector("#count:not(:empty)")
    page.wait_for_selector("#found[aria-busy=false]")


def hits(page: Any) -> list[int]:
    return [int(one.get_attribute("data-id")) for one in page.locator(".hit").all()]


def test_search_by_words_and_by_a_picture(
    watched: Callable[..., Watched], run: polymodal.Run, indexed: list[dict[str, Any]]
) -> None:
    page = watched().open("#search")
    until(page, "document.querySelector('#search-about').innerText")
    assert page.inner_text("#search-about").startswith(f"{len(indexed)} things")
    page.fill("#query [data-column=caption] textarea", RED)
    search(page)
    expected = nearest(run, indexed, {"caption": RED})
    assert hits(page)[:5] == expected[:5]
    assert {indexed[at]["colour"] for at in hits(page)[:5]} == {"red"}
    assert page.inner_text(".hit >> nth=0 >> .caption").startswith(indexed[expected[0]]["caption"])
    until(page, "document.querySelector('.hit img').naturalWidth > 0")
    page.click("#further")
    until(page, "document.querySelectorAll('.hit').length === 48")
    assert len(set(hits(page))) == 48

    page.click("#forget")
    assert hits(page) == []
    at = next(i for i, row in enumerate(indexed) if row["colour"] == "blue")
    page.set_input_files("#query .picture input >> nth=0", indexed[at]["picture"])
    page.wait_for_selector("#query .picture .preview img")
    assert page.locator(".weight:visible").count() == 0
    search(page)
    assert hits(page)[0] == at


def test_several_things_are_weighed(watched: Callable[..., Watched], indexed: list[dict[str, Any]]) -> None:
    """A picture of one colour and words of another: who counts more wins."""
    page = watched().open("#search")
    at = next(i for i, row in enumerate(indexed) if row["colour"] == "blue")
    page.set_input_files("#query .picture input >> nth=0", indexed[at]["picture"])
    page.wait_for_selector("#query .picture .preview img")
    page.fill("#query [data-column=caption] textarea", RED)
    for weight, colour in (("2", "blue"), ("0", "red")):
        page.locator("#query .picture input[type=range]").fill(weight)
        page.locator("#query .text input[type=range]").fill(str(2 - int(weight)))
        search(page)
        assert indexed[hits(page)[0]]["colour"] == colour


def test_filter_more_and_less_like_this(watched: Callable[..., Watched], indexed: list[dict[str, Any]]) -> None:
    one = watched()
    page = one.open("#search")
    search(page)
    assert "Say what you are looking for first" in page.inner_text("#count")
    page.click("#query .more summary")
    page.fill("#where", "kilograms < 2 and colour = 'red'")
    search(page)
    fitting = {i for i, row in enumerate(indexed) if row["kilograms"] < 2 and row["colour"] == "red"}
    assert set(hits(page)) == fitting
    assert fitting
    first = hits(page)[0]
    page.fill("#where", "")
    page.click(f".hit[data-id='{first}'] .open")
    assert indexed[first]["caption"] in page.inner_text("dialog[open]")
    page.click("dialog[open] >> text=More like this")
    page.wait_for_selector("#liked .chip img")
    page.wait_for_selector(f".hit[data-id='{first}']", state="detached")
    page.wait_for_selector(".hit >> nth=23")
    assert {indexed[at]["colour"] for at in hits(page)[:3]} == {"red"}
    near = hits(page)
    page.locator(".hit >> nth=0 >> .thumb >> nth=1").click()
    page.wait_for_selector("#liked .chip.against")
    page.wait_for_selector(f".hit[data-id='{near[0]}']", state="detached")
    page.locator("#liked .away >> nth=1").click()
    until(page, f"document.querySelector('.hit').dataset.id === '{near[0]}'")
    assert hits(page) == near
    one.expected = "status of 422"
    page.fill("#where", "kilograms about 3")
    search(page)
    assert "The filter cannot be understood" in page.inner_text("#count")


def test_search_on_a_phone_in_chinese(watched: Callable[..., Watched]) -> None:
    page = watched(viewport={"width": 360, "height": 740}, locale="zh-CN", has_touch=True, is_mobile=True).open()
    page.focus("#tab-ask")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#tab-search", "aria-selected") == "true"
    page.fill("#query [data-column=caption] textarea", "a small green square at the top left")
    search(page)
    assert page.inner_text("#count") == "显示 24 项，最接近的在前"
    assert not scrolls_sideways(page)
    page.click(".hit >> nth=0 >> .open")
    box = page.locator("dialog[open]").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_previews_need_the_token_too(watched: Callable[..., Watched]) -> None:
    one = watched()
    one.expected = "status of 401"
    one.page.add_init_script("sessionStorage.setItem('polymodal.token', 'sesame-open-yourself')")
    sent = []

    def guard(route: Any) -> None:
        sent.append(route.request.headers.get("authorization"))
        route.continue_() if sent[-1] else refusal(401)(route)

    one.page.route("**/v1/**", guard)
    page = one.open("#search")
    page.fill("#query [data-column=caption] textarea", "a small green square at the top left")
    search(page)
    until(page, "document.querySelector('.hit img')?.src.startsWith('blob:')")
    assert set(sent) == {"Bearer sesame-open-yourself"}
