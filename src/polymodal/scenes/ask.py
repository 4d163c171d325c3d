"""Questions about a picture, with their answers."""

from __future__ import annotations

from polymodal.core.seeds import Rng
from polymodal.scenes.facts import COLOURS, SHAPES, Thing
from polymodal.scenes.say import Language, word

ASKED = {
    "en": {
        "colour": "what colour is the {shape} at the {place}?",
        "shape": "what shape is at the {place}?",
        "size": "how large is the {colour} {shape} at the {place}?",
        "place": "where is the {size} {colour} {shape}?",
        "count": "how many objects are there?",
        "is": "is there a {colour} {shape}?",
    },
    "zh": {
        "colour": "{place}的{shape}是什么颜色？",
        "shape": "{place}是什么形状？",
        "size": "{place}的{colour}{shape}是大是小？",
        "place": "{size}的{colour}{shape}在哪里？",
        "count": "有几个物体？",
        "is": "有{colour}的{shape}吗？",
    },
}
KINDS = tuple(ASKED["en"])
YES_NO = {"en": ("no", "yes"), "zh": ("没有", "有")}


def ask(things: tuple[Thing, ...], kind: str, language: Language, rng: Rng) -> tuple[str, str]:
    """A question of this kind about the first thing, and its answer; of yes and no each is as likely."""
    about = things[0]
    if kind == "is":
        return _is_there(things, language, rng)
    question = ASKED[language][kind].format(**{n: word(v, language) for n, v in about._asdict().items()})
    return question, str(len(things)) if kind == "count" else word(getattr(about, kind), language)


def _is_there(things: tuple[Thing, ...], language: Language, rng: Rng) -> tuple[str, str]:
    there = sorted({(t.colour, t.shape) for t in things})
    absent = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in there]
    yes = int(rng.integers(2))
    options = there if yes else absent
    colour, shape = options[int(rng.integers(len(options)))]
    words = {"colour": word(colour, language), "shape": word(shape, language)}
    return ASKED[language]["is"].format(**words), YES_NO[language][yes]
