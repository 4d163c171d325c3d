"""Near-duplicates: the search against brute force, what is found and what is not, and what a reader's hook is worth."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from polymodal.core.fingerprints import cosines, exact, lowest, pack, takes
from polymodal.data.check import inspect
from polymodal.data.dataset import InputPlan
from polymodal.data.duplicates import by_nature, find_near, first_of_each, near, nearest
from polymodal.data.fingerprints import Marks, marks_of, watch
from polymodal.data.prints import Prints
from polymodal.data.source import Source
from polymodal.data.splits import Part
from polymodal.data.tables import open_table


def words(rng: np.random.Generator, rows: int, width: int = 4) -> np.ndarray:
    return rng.integers(0, 2**64, (rows, width), dtype=np.uint64)


def flipped(one: np.ndarray, bits: int, rng: np.random.Generator) -> np.ndarray:
    """The fingerprint with exactly so many bits changed."""
    whole = np.unpackbits(one.view(np.uint8))
    whole[rng.permutation(len(whole))[:bits]] ^= 1
    return np.packbits(whole).view(np.uint64)


def distance(one: np.ndarray, two: np.ndarray) -> int:
    return sum(int(a ^ b).bit_count() for a, b in zip(one.tolist(), two.tolist(), strict=True))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), alike=st.integers(0, 120), width=st.integers(1, 5), poor=st.booleans())
def test_search_is_that_of_brute_force(seed: int, alike: int, width: int, poor: bool) -> None:
    rng = np.random.default_rng(seed)
    known = words(rng, 90, width)
    if poor:  # most bits never change: nearly everything is a candidate
        known &= np.uint64(0xFF)
    asked = np.concatenate([words(rng, 20, width), np.stack([flipped(known[i], i, rng) for i in range(60)])])
    found, at = nearest(asked, known, alike)
    table = np.bitwise_count(asked[:, None] ^ known[None]).sum(2, dtype=int)
    best = table.min(1)
    assert found.tolist() == np.where(best <= alike, best, -1).tolist()
    hits = np.flatnonzero(found >= 0)
    assert (table[hits, at[hits]] == best[hits]).all()


def test_search_crosses_blocks() -> None:
    rng = np.random.default_rng(0)
    known, asked = words(rng, 9000), words(rng, 200)
    planted = {5: (17, 3), 70: (4096, 0), 199: (0, 16), 64: (4095, 17)}
    for row, (other, bits) in planted.items():
        asked[row] = flipped(known[other], bits, rng)
    known[8000] = flipped(asked[5], 10, rng)  # farther than the one planted, in another block
    found, at = nearest(asked, known, 16)
    assert {int(r): (int(at[r]), int(found[r])) for r in np.flatnonzero(found >= 0)} == {
        row: pair for row, pair in planted.items() if pair[1] <= 16
    }


def test_rows_pairs_and_counts() -> None:
    rng = np.random.default_rng(1)
    train = words(rng, 50)
    other = words(rng, 30)
    other[3], other[4], other[9] = flipped(train[7], 5, rng), train[8], flipped(train[7], 30, rng)
    other[5] = flipped(train[9], 2, rng)
    rows = np.arange(30) // 2  # two cells a row: cell 3 is in row 1, cells 4 and 5 are in row 2
    found = near("photo", "test", 16, Marks(train, np.arange(50) + 100), Marks(other, rows))
    assert found is not None
    assert (found.rows, found.of, found.same) == (2, 15, 1)
    assert [tuple(p) for p in found.pairs] == [(2, 108, 0), (1, 107, 5)]
    assert sorted(found.numbers) == [1, 2]
    assert "2 of 15 test rows nearly repeat a training row in photo, 1 of them without a difference" in str(found)
    assert near("photo", "test", 16, Marks(train, np.arange(50)), Marks(words(rng, 30), rows)) is None
    assert near("photo", "test", 16, Marks(train[:0], np.arange(0)), Marks(other, rows)) is None


def test_many_pairs_are_counted_and_few_are_named() -> None:
    train = np.repeat(words(np.random.default_rng(2), 1), 500, axis=0)
    found = near("photo", "test", 16, Marks(train, np.arange(500)), Marks(train[:300], np.arange(300)))
    assert found is not None
    assert (found.rows, found.same, len(found.pairs), len(found.numbers)) == (300, 300, 20, 300)


def test_too_many_rows_are_looked_up_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polymodal.data.duplicates.COMPARED", 1000)
    same = words(np.random.default_rng(3), 100)
    found = near("photo", "test", 16, Marks(same, np.arange(100)), Marks(same, np.arange(100)))
    assert found is not None
    assert found.rows == found.of == 10


def test_what_repeats_by_nature_is_not_compared() -> None:
    rng = np.random.default_rng(4)
    few = words(rng, 20)
    templates = Marks(few[rng.integers(0, 20, 2000)], np.arange(2000))
    twice = Marks(np.repeat(words(rng, 1000), 2, axis=0), np.arange(2000))
    assert by_nature(templates, 16, files=True)
    assert not by_nature(twice, 16, files=True)
    assert not by_nature(twice, 16, files=False)
    assert by_nature(Marks(np.repeat(words(rng, 500), 4, axis=0), np.arange(2000)), 16, files=False)

    class Reader:
        files, alike = True, 16

    found, natural = find_near({"a": templates, "b": twice}, {"test": {"a": templates, "b": twice}},
                               {"a": Reader(), "b": Reader()})  # fmt: skip
    assert natural == ["a"]
    assert [(n.input, n.rows) for n in found] == [("b", 2000)]


def test_large_tables_in_seconds() -> None:
    import time

    rng = np.random.default_rng(5)
    train, other = words(rng, 60_000), words(rng, 10_000)
    other[77] = flipped(train[31_000], 12, rng)
    began = time.process_time()
    found = near("photo", "test", 16, Marks(train, np.arange(60_000)), Marks(other, np.arange(10_000)))
    assert found is not None
    assert [tuple(p) for p in found.pairs] == [(77, 31_000, 12)]
    assert time.process_time() - began < 30  # 2 s on one quiet core


def test_exact_is_far_from_all_but_itself() -> None:
    assert distance(exact(b"a"), exact(b"a")) == 0
    assert distance(exact(b"a"), exact(b"b")) > 80
    assert len(exact(b"a", 5)) == 5


def test_cosines_are_those_of_scipy() -> None:
    fft = pytest.importorskip("scipy.fft")
    planes = np.random.default_rng(6).normal(size=(3, 40, 31)).astype(np.float32)
    expected = fft.dctn(planes, type=2, axes=(1, 2))[:, :23, :23] / 4
    np.testing.assert_allclose(cosines(planes), expected, rtol=1e-3, atol=1e-3)
    few = lowest(cosines(planes), 3)
    np.testing.assert_allclose(few, np.stack([expected[:, 0, 1], expected[:, 1, 0], expected[:, 0, 2]], 1), rtol=1e-3)


def test_bits_become_words() -> None:
    bits = np.random.default_rng(7).random((3, 128)) < 0.5
    words = pack(bits)
    assert words.shape == (3, 2)
    assert [distance(words[0], w) for w in words] == (bits != bits[0]).sum(1).tolist()


class Hashes:
    """A reader of texts with a fingerprint: its first letters."""

    files = record = augments = False
    ragged: frozenset[str] = frozenset()
    field = None
    alike = 0

    def __init__(self) -> None:
        self.asked = 0

    def decode(self, cell: str) -> dict[str, np.ndarray]:
        return {"x": np.array([len(cell)])}

    def finish(self, sample: dict, rng: object) -> dict:
        return sample

    def fingerprints(self, cells: list[str], samples: list[dict]) -> np.ndarray:
        self.asked += len(cells)
        return np.stack([exact(cell[:5].encode()) for cell in cells])


def test_fingerprints_are_taken_while_reading_once_per_content() -> None:
    table = open_table({"t": ["abcde 1", "abcde 2", None, "abcde 1", "x"]})
    reader = Hashes()
    assert takes(reader)
    assert not takes(object())
    sources: dict[str, Source] = {"t": Source(table, "t", reader, ("t",), target=False, cache=None)}
    kept: dict[str, Prints] = {}
    watch(sources, kept)
    for row in (0, 1, 3):
        sources["t"].read(np.array([row]), {})
    seen = marks_of(sources, np.arange(5))["t"]  # row 4 is read now
    assert seen.rows.tolist() == [0, 1, 3, 4]
    assert [distance(seen.words[0], w) == 0 for w in seen.words] == [True, True, True, False]
    assert len(kept["t"]) == reader.asked == 3  # rows 0 and 3 are equal
    assert marks_of(sources, np.array([2]))["t"].words.shape[0] == 0


def test_every_cell_of_a_row_counts() -> None:
    table = open_table({"a": ["one", "two", None], "b": ["three", None, "four"]})
    sources = {"t": Source(table, "t", Hashes(), ("a", "b"), target=False, cache=None)}
    watch(sources, {})
    assert marks_of(sources, np.arange(3))["t"].rows.tolist() == [0, 0, 1, 2]
    assert marks_of(sources, np.array([2, 0]))["t"].rows.tolist() == [2, 0, 0]


def test_check_names_pairs_between_parts() -> None:
    one = open_table({"t": [f"word{i:02} and more" for i in range(40)]})
    two = open_table({"t": ["word07 or less", "other", "word08 and more"]})
    parts = {"train": Part(one, np.arange(40)), "test": Part(two, np.arange(3))}

    class Six(Hashes):
        def fingerprints(self, cells: list[str], samples: list[dict]) -> np.ndarray:
            return np.stack([exact(cell[:6].encode()) for cell in cells])

    found = inspect(one, parts=parts, inputs={"t": InputPlan(Six(), ("t",))}, targets={})
    assert [(n.input, n.part, n.rows, n.of) for n in found.near] == [("t", "test", 2, 3)]
    assert [(p.row, p.train_row) for p in found.near[0].pairs] == [(0, 7), (2, 8)]
    assert found.json()["near"][0]["pairs"][0] == {"row": 0, "train_row": 7, "distance": 0}
    assert "near: 2 of 3 test rows" in str(found)
    assert "test row 0, train row 7" in str(found)


def test_check_compares_texts_by_guess_too() -> None:
    rng = np.random.default_rng(9)
    words = ["".join(rng.choice(list("abcdefghijklmnoprstuvw"), 6)) for _ in range(300)]
    texts = [" ".join(rng.choice(words, 12)) for _ in range(60)]
    texts[50] = "RT @you: " + texts[3].upper()
    table = open_table({"text": texts, "price": [i / 4 for i in range(60)], "split": ["train"] * 40 + ["test"] * 20})
    found = inspect(table)
    assert [(n.input, n.part, n.rows, [tuple(p) for p in n.pairs]) for n in found.near] == [
        ("text", "test", 1, [(50, 3, 0)])
    ]


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    memory = io.BytesIO()
    picture.save(memory, "JPEG", quality=quality)
    return Image.open(io.BytesIO(memory.getvalue()))


def photograph(rng: np.random.Generator, side: int = 96) -> Image.Image:
    """Light and dark of all sizes, large areas of colour, and some noise, as photographs have."""

    def areas(cells: int, strength: float) -> np.ndarray:
        small = Image.fromarray(rng.normal(0, strength, (cells, cells)).astype(np.float32))
        return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))

    light = 128 + sum(areas(cells, 120 / cells**0.7) for cells in (3, 6, 12, 24, 48))
    whole = np.stack([light + areas(4, 25) for _ in range(3)], axis=2)
    return Image.fromarray((whole + rng.normal(0, 2, whole.shape)).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures(channels: Any) -> None:
    from polymodal.modalities.image.read import ImageReader

    reader = ImageReader(size=64, channels=channels)

    def mark(picture: Any) -> np.ndarray:
        return reader.fingerprints([picture], [reader.decode(picture)])[0]

    rng = np.random.default_rng(7)
    photos = [photograph(rng) for _ in range(40)]
    marks = [mark(p) for p in photos]
    assert all(len(m) == (4 if channels == 1 else 5) for m in marks)
    for photo, own in zip(photos, marks, strict=True):
        changed = np.asarray(photo) * 0.9 + 8
        small = photo.resize((80, 80), Image.Resampling.BICUBIC)
        for other in (jpeg(photo, 60), small, Image.fromarray(changed.astype(np.uint8))):
            assert distance(mark(other), own) <= reader.alike
    apart = [distance(a, b) for i, a in enumerate(marks) for b in marks[:i]]
    assert min(apart) > 3 * reader.alike
    mirrored = photos[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert distance(mark(mirrored), marks[0]) > reader.alike  # not covered, as the documents say


def test_pictures_of_one_colour_and_of_another_colour() -> None:
    from polymodal.modalities.image.read import ImageReader

    reader = ImageReader(size=32)

    def mark(picture: np.ndarray) -> np.ndarray:
        return reader.fingerprints([picture], [reader.decode(picture)])[0]

    plain = np.full((32, 32, 3), 90, np.uint8)
    assert distance(mark(plain), mark(plain)) == 0
    assert distance(mark(plain), mark(plain + np.uint8(1))) > 60  # nothing to compare but the pixels themselves
    shapes = []
    for colour in ((200, 40, 40), (40, 200, 40)):
        picture = np.full((32, 32, 3), 220, np.uint8)
        picture[5:15, 5:15] = colour
        shapes.append(mark(picture))
    assert distance(*shapes) > reader.alike


def test_texts() -> None:
    from polymodal.modalities.text.read import TextReader

    reader = TextReader()

    def mark(text: str) -> np.ndarray:
        return reader.fingerprints([text], [{}])[0]

    text = "The council has decided to close the old bridge over the river for repairs until the end of next summer"
    same = [
        f"RT @someone: {text} http://t.co/abc",
        text.upper() + "!!!",
        text.replace("repairs", "renovation"),
        text.replace("&", "&amp;") + " ",
        text + " 2024",
    ]
    for other in same:
        assert distance(mark(text), mark(other)) <= reader.alike, other
    assert distance(mark(text), mark(same[0])) == 0
    for other in ("A dog runs over the wet sand with a yellow ball in its mouth while two children look on", "", "no"):
        assert distance(mark(text), mark(other)) > 2 * reader.alike, other
    short = "Happy birthday to you"  # one word makes another text of it
    assert distance(mark(short), mark("happy   BIRTHDAY to you!")) == 0
    assert distance(mark(short), mark("Happy birthday to me")) > reader.alike
    chinese = "市政府决定关闭河上的老桥进行维修直到明年夏天结束为止请市民绕行并留意沿途的交通标志和指示牌注意安全"
    assert distance(mark(chinese), mark(chinese.replace("维修", "重建"))) <= reader.alike
    assert distance(mark("\ud800" * 80), mark("🎉" * 80)) > 0
    assert mark("")[0] == mark("")[0]


def test_neighbours_change_no_text() -> None:
    from polymodal.modalities.text.fingerprint import simhash

    rng = np.random.default_rng(10)
    letters = [*"abcdefghij ", *"天地人水火山"]
    texts = ["".join(rng.choice(letters[: int(k)], 60 + i)) for i, k in enumerate(rng.integers(8, 17, 150))]
    texts += [
        "短" * 9,
        "",
        "市政府决定关闭河上的老桥进行维修直到明年夏天结束为止请市民绕行并留意" * 2,
    ]
    whole = simhash(texts)
    assert (whole == np.concatenate([simhash([text]) for text in texts])).all()
    assert (whole[::-1] == simhash(texts[::-1])).all()


@pytest.mark.parametrize("features", ["logmel", "mfcc"])
@pytest.mark.parametrize("gain", [0.0, 3.0])
def test_sounds(features: Any, gain: float) -> None:
    from polymodal.modalities.audio.read import AudioReader

    reader = AudioReader(rate=8000, features=features, mels=32, gain=gain)

    def mark(wave: np.ndarray) -> np.ndarray:
        wave = wave.astype(np.float32)
        return reader.fingerprints([wave], [reader.decode(wave)])[0]

    rng = np.random.default_rng(8)
    waves = []
    for _ in range(12):
        steps = np.repeat(rng.uniform(200, 3000, 8), 800)
        loud = np.repeat(rng.uniform(0.2, 1.0, 8), 800)
        waves.append(0.3 * loud * np.sin(np.cumsum(2 * np.pi * steps / 8000)))
    marks = [mark(w) for w in waves]
    for wave, own in zip(waves, marks, strict=True):
        assert distance(mark(0.5 * wave), own) <= 2
        assert distance(mark(wave + rng.normal(0, 0.0015, len(wave))), own) <= reader.alike
    assert min(distance(a, b) for i, a in enumerate(marks) for b in marks[:i]) > 2 * reader.alike
    assert distance(mark(np.zeros(4000)), marks[0]) > reader.alike


def test_real_pictures(real_data: Path) -> None:
    """The houses of which the description says that they share pictures are found, and hardly any other."""
    from polymodal.modalities.image.read import ImageReader

    table = open_table(real_data / "houses/table.csv")
    source = {"frontal": Source(table, "frontal", ImageReader(size=64), ("frontal",), target=False, cache=None)}
    watch(source, {})
    marks = marks_of(source, np.arange(len(table)))["frontal"]
    number = {int(c): i for i, c in enumerate(table.column("house"))}
    found = set()
    for row in range(1, len(table)):
        one = near("frontal", "later", 16, Marks(marks.words[:row], marks.rows[:row]),
                   Marks(marks.words[row : row + 1], marks.rows[row : row + 1]))  # fmt: skip
        found |= {(p.train_row, p.row) for p in one.pairs} if one else set()
    shared = {(number[a], number[b]) for a, b in ((199, 214), (292, 293), (331, 351))}
    assert shared <= found
    assert len(found) <= len(shared) + 5


@given(words=arrays(np.uint64, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.integers(0, 2)))
@settings(deadline=None, max_examples=50)
def test_the_first_of_each_fingerprint(words: np.ndarray) -> None:
    seen: set[tuple[int, ...]] = set()
    expected = [i for i, one in enumerate(map(tuple, words.tolist())) if one not in seen and not seen.add(one)]
    assert first_of_each(words).tolist() == expected
