"""Facts as sentences, English and Chinese, and back again."""

from __future__ import annotations

import re
from typing import Literal

from polymodal.core.errors import shorten
from polymodal.scenes.facts import COLOURS, PITCHES, PLACES, SHAPES, SIZES, VALUES, WEIGHTS, Facts, Thing

Language = Literal["en", "zh"]

CHINESE = {
    **dict(zip(SHAPES, ("圆形", "正方形", "三角形"), strict=True)),
    **dict(zip(COLOURS, ("红色", "绿色", "蓝色", "黄色"), strict=True)),
    **dict(zip(SIZES, ("小", "大"), strict=True)),
    **dict(zip(PLACES, ("左上角", "右上角", "左下角", "右下角"), strict=True)),
    **dict(zip(WEIGHTS, ("很轻", "很重"), strict=True)),
    **dict(zip(PITCHES, ("低音", "高音"), strict=True)),
}
ENGLISH = {word: name for name, word in CHINESE.items()}
THING = {"en": "a {size}{colour} {shape} at the {place}", "zh": "{place}有一个{size}{colour}{shape}"}
SIZE = {"en": "{} ", "zh": "{}的"}
AND = {"en": " and ", "zh": "；"}
WEIGHT = {"en": ", {}", "zh": "，{}"}
PITCH = {"en": ", with a {} tone", "zh": "，发出{}"}


def word(name: str, language: Language) -> str:
    """A fact's value as it is said: `word("red", "zh")` is 红色."""
    return CHINESE[name] if language == "zh" else name


def caption(facts: Facts, language: Language = "en") -> str:
    """`a large red circle at the top left, heavy, with a high tone`, or 左上角有一个大的红色圆形，很重，发出高音."""
    things = [_thing(thing, language) for thing in facts.things]
    weight = WEIGHT[language].format(word(facts.weight, language)) if facts.weight else ""
    pitch = PITCH[language].format(word(facts.pitch, language)) if facts.pitch else ""
    return AND[language].join(things) + weight + pitch


def _thing(thing: Thing, language: Language) -> str:
    said = {name: word(value, language) for name, value in thing._asdict().items() if value}
    return THING[language].format(**{**said, "size": SIZE[language].format(said["size"]) if thing.size else ""})


def parse_caption(text: str) -> Facts:
    """The facts of a caption in either language: the inverse of `caption`. Raises ValueError for any other text."""
    for language, (whole, one) in PATTERNS.items():
        found = whole.fullmatch(text)
        if found:
            things = [Thing(*(_name(t[f], language) for f in Thing._fields)) for t in one.finditer(found["things"])]
            return Facts(tuple(things), _name(found["weight"], language), _name(found["pitch"], language))
    raise ValueError(f"not the caption of a scene: {shorten(text)}")


def _name(said: str | None, language: Language) -> str:
    return ENGLISH[said] if said and language == "zh" else said or ""


def _patterns(language: Language) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Of a whole caption, and of one thing in it."""
    said = {name: "|".join(re.escape(word(value, language)) for value in values) for name, values in VALUES.items()}
    named = {name: f"(?P<{name}>{words})" for name, words in said.items()}
    plain = {name: f"(?:{words})" for name, words in said.items()}
    one, any_one = (
        THING[language].format(**{**words, "size": f"(?:{SIZE[language].format(words['size'])})?"})
        for words in (named, plain)
    )
    weight, pitch = WEIGHT[language].format(named["weight"]), PITCH[language].format(named["pitch"])
    whole = f"(?P<things>{any_one}(?:{AND[language]}{any_one})*)(?:{weight})?(?:{pitch})?"
    return re.compile(whole), re.compile(one)


PATTERNS: dict[Language, tuple[re.Pattern[str], re.Pattern[str]]] = {"en": _patterns("en"), "zh": _patterns("zh")}
