"""The tables that recipes make: what is done to pictures and sounds, who is paired with whom, the same bytes again."""

from __future__ import annotations

import csv
import gzip
import io
import struct
import wave
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from polymodal.core.seeds import generator
from polymodal.data.tables import open_table
from test_recipes import recipe_module

SPEAKERS = ("ada", "ben")


@pytest.fixture(scope="module")
def made() -> ModuleType:
    return recipe_module("av_mnist_manner")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small data sets of the same form: two digits, two speakers, 15 takes; 200 training pictures and 100 others."""
    folder = tmp_path_factory.mktemp("data")
    rng = generator(0, "small digits")
    (folder / "mnist").mkdir()
    for name, count in (("train", 200), ("t10k", 100)):
        labels = np.arange(count) % 2
        pixels = rng.integers(0, 80, (count, 28, 28)) + 100 * labels[:, None, None] * (np.arange(28) < 14)
        write_idx(folder / "mnist" / f"{name}-images-idx3-ubyte.gz", pixels.astype(np.uint8))
        write_idx(folder / "mnist" / f"{name}-labels-idx1-ubyte.gz", labels.astype(np.uint8))
    (folder / "fsdd").mkdir()
    rows = []
    for digit in "01":
        for speaker in SPEAKERS:
            for take in range(15):
                rows.append({"split": "test" if take < 5 else "train", "audio": f"{digit}_{speaker}_{take}.wav",
                             "label": digit, "speaker": speaker, "take": take})  # fmt: skip
                tone = np.sin(np.arange(int(rng.integers(1000, 9000))) * (0.1 + 0.3 * int(digit)))
                write_wav(folder / "fsdd" / rows[-1]["audio"], tone)
    with (folder / "fsdd" / "table.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty pictures of both sets, by name only, with two questions each, in an order of their own."""
    folder = tmp_path_factory.mktemp("questions")
    for name, file in (("easy_vqa", "images/{}.png"), ("daquar", "images/image{}.jpg")):
        (folder / name).mkdir()
        order = generator(0, name).permutation(50).tolist()
        lines = [f"{file.format(n)},{word},yes" for n in order for word in ("what", '"a, or b"')]
        (folder / name / "questions.csv").write_text("\n".join(["image,question,answer", *lines]) + "\n")
    return folder


@pytest.mark.parametrize("name", ["easy_vqa", "daquar"])
def test_no_picture_is_asked_about_in_two_parts(name: str, questions: Path, tmp_path: Path) -> None:
    module = recipe_module(name)
    assert module.prepare(questions, tmp_path) == tmp_path
    table = open_table(tmp_path / name / "table.parquet")
    parts: dict[int, set[str]] = {}
    for i in range(len(table)):
        parts.setdefault(table.cell(i, "picture"), set()).add(table.cell(i, "split"))
        assert Path(table.cell(i, "image")).parent == (questions / name / "images").resolve()
        assert str(table.cell(i, "picture")) in Path(table.cell(i, "image")).stem
    assert len(table) == 100
    assert sorted(parts) == list(range(50))
    assert all(len(part) == 1 for part in parts.values())
    by_part = {part: [n for n in sorted(parts) if parts[n] == {part}] for part in ("train", "valid", "test")}
    if name == "easy_vqa":
        assert by_part == {"train": [*range(36)], "valid": [*range(36, 40)], "test": [*range(40, 50)]}
    else:
        assert {n // 10 for n in by_part["test"]}.isdisjoint(n // 10 for n in by_part["train"])
        assert [len(by_part[part]) for part in ("train", "valid", "test")] == [30, 10, 10]
    assert {table.cell(i, "question") for i in range(100)} == {"what", "a, or b"}


def write_idx(path: Path, array: np.ndarray) -> None:
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes(), mtime=0))


def write_wav(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes((8000 * samples).astype("<i2").tobytes())


@pytest.fixture(scope="module")
def table(made: ModuleType, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.prepare(data, tmp_path_factory.mktemp("first")) / "av_mnist_manner" / "table.parquet"


def test_the_same_bytes_again(made: ModuleType, data: Path, table: Path, tmp_path: Path) -> None:
    again = made.prepare(data, tmp_path) / "av_mnist_manner" / "table.parquet"
    assert again.read_bytes() == table.read_bytes()
    before = again.stat().st_mtime_ns
    made.prepare(data, tmp_path)
    assert again.stat().st_mtime_ns == before  # what is there is not made again


def test_pairs_are_of_one_class_and_parts_share_neither_sounds_nor_pictures(made: ModuleType, data: Path,
                                                                            table: Path) -> None:  # fmt: skip
    rows = open_table(table)
    parts = {part: [i for i in range(len(rows)) if rows.cell(i, "split") == part] for part in made.COPIES}
    assert {part: len(found) for part, found in parts.items()} == {
        "train": 4 * 2 * 1,
        "valid": 4 * 2 * 9,
        "test": 4 * 4 * 5,
    }
    labels = {
        name: open_table(data / "mnist" / f"{name}-images-idx3-ubyte.gz").column("label") for name in ("train", "t10k")
    }
    taken, heard = {}, {}
    for part, found in parts.items():
        source = "t10k" if part == "test" else "train"
        taken[part] = {(source, rows.cell(i, "picture")) for i in found}
        heard[part] = {rows.cell(i, "sound") for i in found}
        assert len(taken[part]) == len(found)  # no picture twice
        for i in found:
            assert str(labels[source][rows.cell(i, "picture")]) == rows.cell(i, "label") == rows.cell(i, "sound")[0]
        assert {rows.cell(i, "speaker") for i in found} == set(SPEAKERS)
    for one, two in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not taken[one] & taken[two]
        assert not heard[one] & heard[two]


def test_pictures_keep_what_the_training_rows_say(made: ModuleType, data: Path, table: Path) -> None:
    """As scikit-learn's PCA, fitted on the pictures of the training rows alone, would leave them."""
    from sklearn.decomposition import PCA

    rows = open_table(table)
    pictures = {n: open_table(data / "mnist" / f"{n}-images-idx3-ubyte.gz") for n in ("train", "t10k")}

    def picture(i: int) -> np.ndarray:
        source = "t10k" if rows.cell(i, "split") == "test" else "train"
        return np.asarray(pictures[source].cell(rows.cell(i, "picture"), "image")).reshape(-1).astype(float)

    training = [i for i in range(len(rows)) if rows.cell(i, "split") == "train"]
    every = PCA(svd_solver="full").fit(np.stack([picture(i) for i in training]))
    count = int((np.cumsum(every.explained_variance_ratio_) < made.KEPT).sum()) + 1
    whole = every.components_[:count]
    for i in range(0, len(rows), 9):
        left = every.mean_ + (picture(i) - every.mean_) @ whole.T @ whole
        shown = np.asarray(Image.open(io.BytesIO(rows.cell(i, "image")))).reshape(-1)
        assert np.abs(shown - np.clip(left, 0, 255)).max() <= 0.5 + 1e-6


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 12), st.floats(0.05, 0.95), st.integers(0, 2**30))
def test_the_fewest_directions_that_hold_a_share(size: int, kept: float, seed: int) -> None:
    made = recipe_module("av_mnist_manner")
    pictures = generator(seed).normal(size=(30, size)) * np.arange(1, size + 1)
    mean, directions = made.principal(pictures, kept)
    gaps = pictures - pictures.mean(0)
    assert np.allclose(mean, pictures.mean(0))
    assert np.allclose(directions @ directions.T, np.eye(len(directions)))
    shares = [((gaps @ directions[:k].T) ** 2).sum() / (gaps**2).sum() for k in range(len(directions) + 1)]
    assert shares[-1] >= kept - 1e-9
    assert shares[-2] < kept + 1e-9


def test_sounds_are_in_noise_of_the_stated_loudness(made: ModuleType) -> None:
    tone = np.sin(np.arange(3000) * 0.7)
    gains = []
    for seed in range(20):
        mixed = made.noisy(tone, generator(seed), snr=-10.0)
        assert len(mixed) == 8000
        assert np.sqrt((mixed**2).mean()) == pytest.approx(made.LOUDNESS)
        rng = generator(seed)
        start, noise = int(rng.integers(8000 - 3000 + 1)), made.pink(8000, rng)
        inside = np.zeros(8000)
        inside[start : start + 3000] = tone
        parts, *_ = np.linalg.lstsq(np.stack([inside, noise], 1), mixed, rcond=None)
        assert np.abs(mixed - np.stack([inside, noise], 1) @ parts).max() < 1e-12
        sound, rest = parts[0] ** 2 * (tone**2).mean(), parts[1] ** 2 * (noise**2).mean()
        assert 10 * np.log10(sound / rest) == pytest.approx(-10.0)
        gains.append(start)
    assert len(set(gains)) > 15  # somewhere in the second
    long = made.noisy(np.ones(12000), generator(0), snr=0.0)
    assert len(long) == 8000


def test_the_noise_is_pink(made: ModuleType) -> None:
    """Its power falls as 1 / f: an octave as much as the next."""
    power = np.mean([np.abs(np.fft.rfft(made.pink(8000, generator(seed)))) ** 2 for seed in range(100)], 0)
    octaves = [power[low : 2 * low].sum() for low in (100, 200, 400, 800, 1600)]
    assert max(octaves) / min(octaves) < 1.2


def test_scenes_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = recipe_module("scenes")
    monkeypatch.setattr(scenes, "ROWS", 8)
    assert scenes.prepare(tmp_path, tmp_path / "one") == tmp_path / "one"
    scenes.prepare(tmp_path, tmp_path / "two")
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert [(tmp_path / "one" / f).read_bytes() for f in files] == [(tmp_path / "two" / f).read_bytes() for f in files]
    table = tmp_path / "one" / "scenes" / "table.csv"
    made = table.stat().st_mtime_ns
    scenes.prepare(tmp_path, tmp_path / "one")
    assert table.stat().st_mtime_ns == made


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people say three letters in two takes; frames and steps count up, and one pixel of a clip is bright."""
    folder = tmp_path_factory.mktemp("spoken")
    (folder / "avletters").mkdir()
    lines, clips, sounds = ["index,letter,speaker,take"], [], []
    for take in "12":
        for speaker in ("Zoe", "Ann"):
            for letter in "CAB":
                lines.append(f"{len(clips)},{letter},{speaker},{take}")
                count = 20 + len(clips)
                places = np.arange(5)[:, None] * 7 + np.arange(7)
                clips.append((np.arange(count)[:, None, None] + 100 * (places == 17)).astype(np.uint8))
                sounds.append(np.arange(2.0 * count, dtype=np.float32)[:, None] + 1000 * len(sounds))
    (folder / "avletters" / "table.csv").write_text("\n".join(lines) + "\n")
    ends = {f"{name}offsets": np.cumsum([0, *map(len, of)]) for name, of in (("", clips), ("mfcc_", sounds))}
    path = folder / "avletters" / "avletters_half_takes12.npz"
    np.savez_compressed(path, video=np.concatenate(clips), mfcc=np.concatenate(sounds), **ends)
    return folder


def test_take_one_trains_and_take_two_is_dealt_out_like_a_chessboard(spoken: Path, tmp_path: Path) -> None:
    letters = recipe_module("avletters")
    table = open_table(letters.prepare(spoken, tmp_path) / "avletters" / "table.parquet")
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for i in range(len(table)):
        parts[table.cell(i, "split")].append(table.cell(i, "speaker")[0] + table.cell(i, "letter"))
        assert (table.cell(i, "split") == "train") == (str(table.cell(i, "take")) == "1")
    assert sorted(parts["train"]) == sorted([s + n for s in "AZ" for n in "ABC"] * letters.COPIES)
    assert (sorted(parts["valid"]), sorted(parts["test"])) == (["AA", "AC", "ZB"], ["AB", "ZA", "ZC"])
    letters.prepare(spoken, tmp_path / "again")
    for file in ("table.parquet", "clips.npz"):
        assert (tmp_path / "again" / "avletters" / file).read_bytes() == (tmp_path / "avletters" / file).read_bytes()


def test_copies_of_clips_and_sounds_are_shifted_and_trimmed_no_further_than_told(spoken: Path, tmp_path: Path) -> None:
    letters = recipe_module("avletters")
    folder = letters.prepare(spoken, tmp_path) / "avletters"
    table = open_table(folder / "table.parquet")
    with np.load(spoken / "avletters" / letters.SOURCE) as file:
        source = dict(file)
    with np.load(folder / "clips.npz") as file:
        made = dict(file)

    def item(arrays: dict[str, np.ndarray], name: str, ends: str, number: int) -> np.ndarray:
        return arrays[name][arrays[ends][number] : arrays[ends][number + 1]]

    moved, cut, whole = set(), set(), set()
    for i in range(len(table)):
        utterance = table.cell(i, "utterance")
        clip, was = item(made, "video", "offsets", i)[..., 0], item(source, "video", "offsets", utterance)
        sound, said = item(made, "mfcc", "mfcc_offsets", i), item(source, "mfcc", "mfcc_offsets", utterance)
        if table.cell(i, "split") != "train" or utterance not in whole:  # the first of a training utterance's rows
            whole.add(utterance)
            assert np.array_equal(clip, was)
            assert np.array_equal(sound, said)
            continue
        first, start = int(clip[0].min()), int(sound[0, 0] - said[0, 0])
        assert np.array_equal(clip.min((1, 2)), np.arange(first, first + len(clip)))  # frames in their order
        assert np.array_equal(sound, said[start : start + len(sound)])
        for lost, count in ((first, len(was)), (len(was) - first - len(clip), len(was)), (start, len(said)),
                            (len(said) - start - len(sound), len(said))):  # fmt: skip
            assert 0 <= lost <= round(letters.TRIM * count)
            cut.add(lost)
        spot = np.argwhere(clip[0] > 99)[0] - (2, 3)  # where the bright pixel, once in the middle, has gone
        assert np.abs(spot).max() <= letters.SHIFT
        assert (clip[:, spot[0] + 2, spot[1] + 3] == clip.max((1, 2))).all()  # all frames alike
        moved.add(tuple(spot.tolist()))
    assert len(moved) > 4
    assert len(cut) > 4


def test_strings_of_digits_say_what_is_heard(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = recipe_module("transcribe_digits")
    monkeypatch.setattr(module, "ROWS", {"train": 12, "valid": 6, "test": 6})
    table = open_table(module.prepare(data, tmp_path) / "transcribe_digits" / "table.parquet")
    heard: dict[str, set[str]] = {"train": set(), "valid": set(), "test": set()}
    for i in range(len(table)):
        sounds, text, split = table.cell(i, "sounds"), table.cell(i, "text"), table.cell(i, "split")
        heard[split] |= set(sounds)
        assert text == " ".join({"0": "zero", "1": "one"}[name[0]] for name in sounds)
        assert {name.split("_")[1] for name in sounds} == {table.cell(i, "speaker")}
        assert 1 <= len(sounds) == table.cell(i, "digits") <= 4
        whole = samples(io.BytesIO(table.cell(i, "audio")))
        own = [samples(data / "fsdd" / name) for name in sounds]
        assert 0 <= len(whole) - sum(map(len, own)) <= (len(own) + 1) * 0.1 * 8000 + 1
        place = 0
        for sound in own:  # each as it is, after the one before
            place = next(at for at in range(place, len(whole)) if (whole[at : at + len(sound)] == sound).all())
            place += len(sound)
    assert [table.column("split").count(part) for part in heard] == [12, 6, 6]
    assert not heard["train"] & heard["valid"]
    assert not (heard["train"] | heard["valid"]) & heard["test"]
    again = module.prepare(data, tmp_path / "again") / "transcribe_digits" / "table.parquet"
    assert again.read_bytes() == (tmp_path / "transcribe_digits" / "table.parquet").read_bytes()


def samples(file: Path | io.BytesIO) -> np.ndarray:
    with wave.open(str(file) if isinstance(file, Path) else file, "rb") as sound:
        return np.frombuffer(sound.readframes(sound.getnframes()), "<i2")


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 9), st.integers(0, 2**30))
def test_beside_the_grey_frames_stands_what_moves(count: int, seed: int) -> None:
    clip = generator(seed).integers(0, 256, (count, 2, 3)).astype(np.uint8)
    seen = recipe_module("avletters").views(clip)
    assert (seen.shape, seen.dtype) == ((count, 2, 3, 3), np.uint8)
    mean = sum(frame.astype(float) for frame in clip) / count
    spread = np.sqrt(np.mean([(frame - mean) ** 2 for frame in clip])) + 1
    for t, frame in enumerate(clip):
        before = clip[max(t - 1, 0)].astype(float)
        wanted = frame, 128 + 40 * (frame - mean) / spread, 128 + 2 * (frame - before)
        for channel, values in enumerate(wanted):
            assert np.abs(seen[t, ..., channel] - np.clip(values, 0, 255)).max() < 0.51
