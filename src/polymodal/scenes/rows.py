"""Scenes and rows in memory. A scene stands in two rows: beside a sentence that is true of it, and one that is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int16
from PIL import Image

from polymodal.core.errors import UserError
from polymodal.core.seeds import derive, generator
from polymodal.scenes.ask import KINDS, ask
from polymodal.scenes.draw import draw
from polymodal.scenes.facts import PLACES, VALUES, Facts, pair
from polymodal.scenes.say import Language, caption
from polymodal.scenes.sound import tone

BLOCK = 4  # rows: two scenes beside two sentences
KILOGRAMS = {"light": (1.0, 4.0), "heavy": (6.0, 9.0)}
GOLDEN = 0.6180339887498949  # the next block's place in the split lies this much further round the circle


@dataclass(frozen=True)
class Scene:
    """What is drawn, heard and weighed, and all that is true of it."""

    number: int
    facts: Facts
    picture: Image.Image
    masks: Bool[np.ndarray, "K S S"]  # one per thing
    sound: Int16[np.ndarray, " N"]
    kilograms: float
    celsius: float  # says nothing


@dataclass(frozen=True)
class SceneRow:
    """A scene beside a sentence that is true of it or not."""

    number: int
    scene: Scene
    sentence: str
    match: Literal["yes", "no"]
    differs: str  # the fact in which the block's two scenes differ: the one that is false where `match` is no
    question: str
    answer: str
    language: Language
    split: Literal["train", "valid", "test"]

    @property
    def block(self) -> int:
        return self.number // BLOCK


def scene_rows(
    rows: int = 2000,
    *,
    seed: int = 0,
    size: int = 64,
    language: Literal["en", "zh", "both"] = "en",
    objects: int = 1,
    valid: float = 0.15,
    test: float = 0.15,
) -> Iterator[SceneRow]:
    """The rows in order, a block of four at a time; a block is a function of (seed, its number) and the other settings.

    `rows` is a multiple of 4, `size` the side of the pictures in pixels (at least 16), `objects` how many things a
    picture has at most (1 to 4), `both` has English and Chinese blocks in turn; `valid` and `test` are shares of the
    blocks. Raises UserError for other settings.
    """
    check(rows, size, language, objects, valid, test)
    return (
        row
        for block in range(rows // BLOCK)
        for row in _block(seed, block, size, language, objects, split_of(seed, block, valid, test))
    )


def check(rows: int, size: int, language: str, objects: int, valid: float, test: float) -> None:
    """Raise UserError for settings that no scenes can be made with."""
    if rows < BLOCK or rows % BLOCK:
        near = max(BLOCK, round(rows / BLOCK) * BLOCK)
        raise UserError("scenes.rows", "must be a multiple of 4, so that yes and no balance", given=rows,
                        advice=str(near))  # fmt: skip
    if size < 16:
        raise UserError("scenes.size", "is too small to see anything", given=size, advice="16 or more pixels")
    if language not in ("en", "zh", "both"):
        raise UserError("scenes.language", "no such language", given=language, advice="'en', 'zh' or 'both'")
    if not 1 <= objects <= len(PLACES):
        raise UserError("scenes.objects", "must be 1 to 4", given=objects, advice="1")
    if min(valid, test) < 0 or valid + test >= 1:
        raise UserError("scenes.valid, scenes.test", "leave no rows to train on", given=(valid, test),
                        advice="shares that add up to less than 1")  # fmt: skip


def split_of(seed: int, block: int, valid: float, test: float) -> Literal["train", "valid", "test"]:
    """Where a block belongs. Steps of the golden ratio spread the shares evenly over any run of blocks."""
    place = (derive(seed, "split") % 2**32 / 2**32 + GOLDEN * block) % 1.0
    return "valid" if place < valid else "test" if place < valid + test else "train"


def _block(
    seed: int, block: int, size: int, language: str, objects: int, split: Literal["train", "valid", "test"]
) -> Iterator[SceneRow]:
    said: Language = "zh" if language == "zh" or (language == "both" and block % 2) else "en"
    one, other, differs = pair(seed, block, objects)
    scenes = [_scene(seed, 2 * block + i, facts, size) for i, facts in enumerate((one, other))]
    sentences = [caption(facts.spoken(), said) for facts in (one, other)]
    rng = generator(seed, "rows", block)
    order = [(int(i) // 2, int(i) % 2) for i in rng.permutation(BLOCK)]
    for k, (scene, sentence) in enumerate(order):
        kind = KINDS[int(rng.integers(len(KINDS)))]
        question, answer = ask(scenes[scene].facts.things, kind, said, rng)
        yield SceneRow(
            number=BLOCK * block + k,
            scene=scenes[scene],
            sentence=sentences[sentence],
            match="yes" if scene == sentence else "no",
            differs=differs,
            question=question,
            answer=answer,
            language=said,
            split=split,
        )


def _scene(seed: int, number: int, facts: Facts, size: int) -> Scene:
    rng = generator(seed, "look", number)
    picture, masks = draw(facts.things, size, rng)
    return Scene(
        number=number,
        facts=facts,
        picture=Image.fromarray(picture),
        masks=masks,
        sound=tone(facts.pitch, rng),
        kilograms=round(float(rng.uniform(*KILOGRAMS[facts.weight])), 1),
        celsius=round(float(rng.uniform(-10, 40)), 1),
    )


def truth(scene: Scene) -> dict[str, str]:
    """Every fact of the scene: of the thing that sentences speak of, its weight and its pitch."""
    return {name: scene.facts.value(name) for name in VALUES}
