"""Noise: every reader that has it under the public checker, and each kind of it against what it promises."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from examples import CELLS, READING, settings
from polymodal.assemble import build
from polymodal.core import catalog
from polymodal.core.checks_noise import check_noise
from polymodal.core.contracts import Field
from polymodal.core.noise import hit, takes, white
from polymodal.core.seeds import generator
from polymodal.core.spec import PartSpec
from polymodal.data.collate import collate
from polymodal.modalities.audio.read import AudioReader
from polymodal.modalities.image.read import ImageReader
from polymodal.modalities.tabular.read import TabularReader
from polymodal.modalities.text.read import TextReader

READERS = list(catalog.PARTS["reader"])
WITH_NOISE = {"image", "text", "audio", "tabular"}  # at least
Data = dict[str, np.ndarray]


def small(name: str):
    """The reader with the settings of the examples."""
    return build(PartSpec("reader", name, settings("reader", name, str) | READING.get(name, {}), "reader"))


def read(reader, cells: list, times: int = 12) -> Data:
    """The cells, several times over, as the collated cells of a batch."""
    reader.fit(iter(cells))
    return collate([reader(cell) for cell in cells] * times, reader.ragged)


@pytest.mark.parametrize("name", READERS)
def test_every_reader_that_has_noise(name: str) -> None:
    reader = small(name)
    if not takes(reader):
        assert name not in WITH_NOISE
        pytest.skip(f"{name} has no noise")
    check_noise(reader, read(reader, CELLS[name][0]))


@pytest.mark.parametrize(
    ("reader", "cells"),
    [
        (ImageReader(normalize="none", channels=1), CELLS["image"][0]),
        (ImageReader(normalize="imagenet"), CELLS["image"][0]),
        (AudioReader(mels=16, normalize="none"), CELLS["audio"][0]),
        (AudioReader(mels=16, normalize="cell"), CELLS["audio"][0]),
        (AudioReader(mels=16, features="mfcc", mfccs=8, deltas=1), CELLS["audio"][0]),
        (TextReader(tokenizer="bpe", vocab=300), CELLS["text"][0]),
        (TextReader(tokenizer="char", min_count=1), CELLS["text"][0]),
        (TabularReader(scale="none", numeric=["n"]), CELLS["tabular"][0]),
        (TabularReader(categorical=["n", "c"]), CELLS["tabular"][0]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_settings(reader, cells: list) -> None:
    check_noise(reader, read(reader, cells))


def broken(change: str) -> ImageReader:
    class Broken(ImageReader):
        def corrupt(self, data: Data, level: float, rng: np.random.Generator) -> Data:
            noise = super().corrupt(data, level, rng)["pixels"]
            match change:
                case "dtype":
                    noise = noise.astype(np.float32)
                case "weak":
                    noise = super().corrupt(data, level / 10, rng)["pixels"]
                case "zero":
                    noise = noise + np.uint8(level == 0)
                case "own randomness":
                    noise = super().corrupt(data, level, np.random.default_rng())["pixels"]
                case "in place":
                    data["pixels"] += np.uint8(1)
                case "not monotone":
                    noise = super().corrupt(data, min(level, 0.5), rng)["pixels"]
                case "names":
                    return {"picture": noise}
            return {"pixels": noise}

    return Broken(size=16)


@pytest.mark.parametrize(
    ("change", "said"),
    [("dtype", "is float32"), ("weak", "leaves too much"), ("zero", "level 0 changes"),
     ("own randomness", "the same generator"), ("in place", "in place"), ("not monotone", "no farther"),
     ("names", "names")],
)  # fmt: skip
def test_the_checker_finds_what_is_broken(change: str, said: str) -> None:
    reader = broken(change)
    with pytest.raises(AssertionError, match=said):
        check_noise(reader, read(reader, CELLS["image"][0]))


def test_the_checker_finds_changed_padding() -> None:
    class Broken(AudioReader):
        def corrupt(self, data: Data, level: float, rng: np.random.Generator) -> Data:
            return data if level <= 0 else data | {"mel": white(data["mel"], level, rng)}

    reader = Broken(mels=16)
    with pytest.raises(AssertionError, match="padding of mel"):
        check_noise(reader, read(reader, CELLS["audio"][0]))


def test_white_noise_keeps_mean_and_variance_and_has_the_ratio_it_says() -> None:
    x = np.random.default_rng(0).normal(3, 2, 200_000).astype(np.float32)
    for level in (0.0, 0.3, 0.5, 0.9, 1.0):
        found = white(x, level, generator(level), 3.0, 2.0)
        assert (found.mean(), found.std()) == pytest.approx((3, 2), abs=0.03)
        assert np.corrcoef(x, found)[0, 1] == pytest.approx(1 - level, abs=0.01)
    signal, noise = 0.5**2, 1 - 0.5**2
    assert 10 * np.log10(signal / noise) == pytest.approx(-5, abs=0.3)


def test_at_level_one_nothing_of_a_cell_is_left() -> None:
    """Whatever a cell holds, level 1 makes the same of it: only lengths, and in tables the other records, remain."""
    for name in sorted(WITH_NOISE):
        reader = small(name)
        data = read(reader, CELLS[name][0])
        masks = [v.sum(1) for k, v in data.items() if k.endswith("_mask")]
        short, long = (int(masks[0].argmin()), int(masks[0].argmax())) if masks else (0, 1)
        names = [k for k in data if not k.endswith("_mask")]
        other = {k: v.copy() for k, v in data.items()}
        for key in names:
            other[key][short] = data[key][long]  # what another cell says, as far as the own length goes
        assert any((other[key] != data[key]).any() for key in names)
        one, two = (reader.corrupt(d, 1.0, generator("one")) for d in (data, other))
        for key in names:
            real = data[key + "_mask"][short] if key + "_mask" in data else ...
            np.testing.assert_array_equal(one[key][short][real], two[key][short][real])


def test_noise_falls_on_more_places_at_a_higher_level() -> None:
    mask = np.random.default_rng(0).random((50, 40)) < 0.7
    few, many = (hit(mask, level, generator(0)) for level in (0.2, 0.6))
    assert (few <= many).all()
    assert not many[~mask].any()
    assert many[mask].mean() == pytest.approx(0.6, abs=0.05)


def test_pixels_are_rounded_and_cut_off() -> None:
    reader = ImageReader(size=32, channels=1, normalize={"mean": [0.1], "std": [0.2]})
    reader.fit([])
    found = reader.corrupt({"pixels": np.full((20, 1, 32, 32), 26, np.uint8)}, 1.0, generator(0))["pixels"]
    assert found.min() == 0
    below = 1 - 0.6915  # of a normal distribution: 0.1 lies half a deviation above 0
    assert (found == 0).mean() == pytest.approx(below, abs=0.01)
    assert np.median(found) == pytest.approx(25.5, abs=1)


def bert(words: list[str]) -> str:
    """A tokenizer in the manner of BERT: [CLS] before and [SEP] after a text."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*names, *words])}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(names)
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    made.enable_padding(pad_id=0, pad_token="[PAD]")
    return made.to_str()


def test_special_tokens_stay_and_are_never_put_in() -> None:
    words = [f"w{i}" for i in range(30)]
    reader = TextReader(tokenizer="hf", tokenizer_json=bert(words))
    texts = [" ".join(words[i : i + 9]) for i in range(12)] + ["strange", "w1 strange"]
    data = read(reader, texts)
    check_noise(reader, data)
    found = reader.corrupt(data, 1.0, generator(0))["ids"]
    fixed = np.isin(data["ids"], [0, 2, 3])
    np.testing.assert_array_equal(found[fixed], data["ids"][fixed])
    assert set(np.unique(found[~fixed])) == set(range(5, 35))  # no special token; unknown words are replaced too


def test_texts_are_hit_as_often_as_the_level_says() -> None:
    cells = [" ".join(f"word{(i * 7 + k) % 200}" for k in range(40)) for i in range(50)]
    reader = TextReader(min_count=1)
    data = read(reader, cells, times=1)
    for level in (0.1, 0.5):
        found = reader.corrupt(data, level, generator(1))["ids"]
        assert (found != data["ids"]).mean() == pytest.approx(level * (1 - 1 / 200), abs=0.03)
        assert found.min() >= 2


def table(rows: int = 4000) -> tuple[TabularReader, Data]:
    rng = np.random.default_rng(0)
    cells = [
        {"n": float(n), "m": None if n > 1 else 1.0 * i, "c": "xyz"[i % 3]} for i, n in enumerate(rng.normal(size=rows))
    ]
    reader = TabularReader(numeric=["n", "m"])
    return reader, read(reader, cells, times=1)


def test_values_go_missing_or_to_another_record() -> None:
    reader, data = table()
    found = reader.corrupt(data, 0.4, generator(0))
    lost = found["numbers"][:, 0] != data["numbers"][:, 0]
    assert lost.mean() == pytest.approx(0.4, abs=0.05)
    missing = ~found["known"][:, 0]
    assert missing.mean() == pytest.approx(0.2, abs=0.04)
    assert (found["numbers"][missing, 0] == 0).all()
    swapped = lost & ~missing
    assert np.isin(found["numbers"][swapped, 0], data["numbers"][:, 0]).all()  # values of the column itself
    other = data["numbers"][:, 1][~data["known"][:, 1]]
    assert (other == 0).all()
    assert (found["numbers"][~found["known"]] == 0).all()  # `known` moves with its number
    assert set(np.unique(found["codes"])) == {0, 2, 3, 4}
    assert (found["codes"] == 0).mean() == pytest.approx(0.2, abs=0.04)


def test_a_record_by_itself_loses_its_values() -> None:
    reader, data = table()
    one = {k: v[:1] for k, v in data.items()}
    found = reader.corrupt(one, 1.0, generator(0))
    assert not found["known"].any()
    assert not found["numbers"].any()
    assert not found["codes"].any()


def test_a_field_without_statistics_gives_grey_noise() -> None:
    reader = ImageReader(size=16, normalize="none")
    field: Field = reader.fit([])
    assert field["mean"] == [0.0] * 3
    found = reader.corrupt({"pixels": np.zeros((8, 3, 16, 16), np.uint8)}, 1.0, generator(0))["pixels"]
    assert found.mean() == pytest.approx(127.5, abs=3)
    assert found.std() == pytest.approx(0.25 * 255, rel=0.1)


def test_a_swapped_value_is_never_the_record_s_own() -> None:
    reader, data = table()
    two = {k: v[:2] for k, v in data.items()}
    for seed in range(20):
        found = reader.corrupt(two, 1.0, generator(seed))
        assert not (found["numbers"][:, 0] == two["numbers"][:, 0]).any()
        assert not (found["codes"] == two["codes"]).any()
