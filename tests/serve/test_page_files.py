"""The files of the page by themselves: nothing from elsewhere, no word missing in a language, colours to be read by."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import product

import pytest

PAGE = files("polymodal.serve") / "page"
TEXTS = {one.name: one.read_text(encoding="utf-8") for one in PAGE.iterdir()}
WORDS = TEXTS["words.js"]
SCRIPTS = [name for name in TEXTS if name.endswith(".js")]


def test_all_files_are_there() -> None:
    assert {"index.html", "style.css", "app.js", "words.js"} <= TEXTS.keys()


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_comes_from_elsewhere(name: str) -> None:
    text = TEXTS[name].replace("http://www.w3.org/2000/svg", "").replace("http%3A", "")
    assert not re.search(r"https?:|//cdn|@import|@font-face|eval\(|new Function|innerHTML|document\.write", text)


def test_the_page_needs_no_leave_for_code_or_style_of_its_own() -> None:
    html = TEXTS["index.html"]
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\bsrc=)", html)
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in html
    assert not any(re.search(r"setAttribute\(\s*[\"']style", TEXTS[name]) for name in SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_modules_take_only_what_others_give(name: str) -> None:
    for names, source in re.findall(r'import \{([^}]*)\} from "\./([\w.]+)"', TEXTS[name]):
        given = set(re.findall(r"export (?:async )?(?:function|const|class) (\$|\w+)", TEXTS[source]))
        assert {n.strip() for n in names.split(",")} <= given, source


def language(code: str) -> dict[str, str]:
    block = re.search(rf"^  {code}: \{{\n(.*?)^  \}},", WORDS, re.M | re.S)
    assert block
    return dict(re.findall(r'^    "([\w.]+)": "(.*)",$', block[1], re.M))


def test_both_languages_say_everything_with_the_same_gaps() -> None:
    english, chinese = language("en"), language("zh")
    assert list(english) == list(chinese)
    assert len(english) > 80
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", chinese[key])), key
        assert re.search(r"[\u4e00-\u9fff]", chinese[key]) or not re.search(r"[a-z]{3}", text), key


def test_every_word_that_is_said_exists_and_none_is_left_over() -> None:
    known = language("en")
    keyed = "|".join(re.escape(key) for key in sorted(known, key=len, reverse=True))
    named = set(re.findall(r'data-t(?:-\w+)?="([\w.]+)"', TEXTS["index.html"]))
    assert named <= known.keys()
    spoken = {key for name in SCRIPTS if name != "words.js" for key in re.findall(rf'"({keyed})"', TEXTS[name])}
    spoken |= set(re.findall(rf'words\("({keyed})"', WORDS))
    assert named | spoken == known.keys()
    for name in SCRIPTS:
        for key in re.findall(r'\b(?:say|words|hint|refuse)\((?:[^"()]|\([^()]*\))*"([a-z]+\.[\w.]+)"', TEXTS[name]):
            assert key in known, f"{name}: {key}"


def luminance(colour: str) -> float:
    """Relative luminance of a colour #rrggbb, as WCAG 2 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    light, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_letters_stand_out_by_day_and_by_night() -> None:
    """At least 4.5 : 1, WCAG 2 level AA."""
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    blocks = re.findall(r":root \{(.*?)\}", TEXTS["style.css"], re.S)
    schemes = [dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in blocks]
    assert len(schemes) == 2
    for colours in schemes:
        for ink, ground in product(("ink", "quiet"), ("paper", "card", "soft", "bad")):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        assert contrast(colours["main-ink"], colours["main"]) >= 4.5
        for mark in ("main", "against"):
            assert contrast(colours[mark], colours["soft"]) >= 3  # bars
        assert contrast(colours["against"], colours["card"]) >= 4.5  # what is told of a field
