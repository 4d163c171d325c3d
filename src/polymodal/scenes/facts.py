"""What can be true of a scene, and how scenes are drawn by lot so that no single input gives the answer away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from polymodal.core.seeds import Rng, generator

SHAPES = ("circle", "square", "triangle")
COLOURS = ("red", "green", "blue", "yellow")
SIZES = ("small", "large")
PLACES = ("top left", "top right", "bottom left", "bottom right")
WEIGHTS = ("light", "heavy")
PITCHES = ("low", "high")
VALUES = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "place": PLACES, "weight": WEIGHTS, "pitch": PITCHES}
SEEN = ("shape", "colour", "size", "place")  # facts that stand in the picture
SPOKEN = ("shape", "colour", "place", "weight", "pitch")  # facts that the sentence of a row states


class Thing(NamedTuple):
    """One object of a picture, or what is said of it. No two objects of a picture share a place."""

    shape: str
    colour: str
    size: str  # "" where nothing is said of it
    place: str


@dataclass(frozen=True)
class Facts:
    """All that is said of a scene: its things, the one that sentences speak of first; weight and pitch or ""."""

    things: tuple[Thing, ...]
    weight: str = ""
    pitch: str = ""

    def value(self, fact: str) -> str:
        return getattr(self.things[0] if fact in SEEN else self, fact)

    def change(self, fact: str, value: str) -> Facts:
        if fact in SEEN:
            return replace(self, things=(self.things[0]._replace(**{fact: value}), *self.things[1:]))
        return replace(self, weight=value) if fact == "weight" else replace(self, pitch=value)

    def seen(self) -> Facts:
        """What the picture alone shows, from the top left to the bottom right."""
        return Facts(tuple(sorted(self.things, key=lambda t: PLACES.index(t.place))))

    def spoken(self) -> Facts:
        """What the sentence of a row says: the first thing but for its size, the weight and the pitch."""
        return replace(self, things=(self.things[0]._replace(size=""),))


def pair(seed: int, block: int, objects: int = 1) -> tuple[Facts, Facts, str]:
    """Two scenes that differ, in what sentences speak of, in exactly one fact; and that fact's name.

    Each holds true of one scene and false of the other, so the four ways of putting a sentence beside a scene are a
    block in which every picture, sound, number and sentence is as often right as wrong. Every fact takes its turn as
    the one that differs: once in each run of five blocks, in an order of its own.
    """
    rng = generator(seed, "scene", block)
    turn, step = divmod(block, len(SPOKEN))
    fact = SPOKEN[generator(seed, "turn", turn).permutation(len(SPOKEN))[step]]
    drawn = {name: _pick(rng, values) for name, values in VALUES.items()}
    one = Facts((Thing(*(drawn[f] for f in SEEN)),), drawn["weight"], drawn["pitch"])
    other = one.change(fact, _pick(rng, [v for v in VALUES[fact] if v != drawn[fact]]))
    taken = {(t.things[0].shape, t.things[0].colour) for t in (one, other)}
    return _crowd(one, objects, taken, rng), _crowd(other, objects, taken, rng), fact


def _crowd(facts: Facts, objects: int, taken: set[tuple[str, str]], rng: Rng) -> Facts:
    """Up to `objects` things in all; no further one has shape and colour of a thing that the block's sentences name."""
    looks = [(s, c, z) for s in SHAPES for c in COLOURS for z in SIZES if (s, c) not in taken]
    free = [p for p in PLACES if p != facts.things[0].place]
    more = int(rng.integers(objects))
    places = [free[i] for i in rng.permutation(len(free))[:more]]
    further = tuple(Thing(*looks[int(rng.integers(len(looks)))], p) for p in places)
    return replace(facts, things=facts.things + further)


def _pick(rng: Rng, values: tuple[str, ...] | list[str]) -> str:
    return values[int(rng.integers(len(values)))]
