"""Sounds: every container, resampling, truncated and senseless files, statistics, augmentation."""

import base64
import contextlib
import io
import struct
import wave as wav

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from polymodal.core.checks import check_reader
from polymodal.core.errors import BadCell, SpecError
from polymodal.core.seeds import generator
from polymodal.modalities.audio.augment import SpecAugment, Vary
from polymodal.modalities.audio.read import AudioReader
from polymodal.modalities.audio.wave import Memory, is_sound, read_wave

AUGMENTED = {"speed": 0.1, "shift": 0.2, "gain": 6.0, "noise": 20.0, "freq_masks": 2, "time_masks": 2}


def tone(seconds: float = 0.4, rate: int = 16000, hertz: float = 440.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds: float, rate: int = 16000) -> np.ndarray:
    return (0.1 * generator("noise", seconds).standard_normal(round(seconds * rate))).astype(np.float32)


def encoded(samples: np.ndarray, rate: int = 16000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    memory = io.BytesIO()
    soundfile.write(memory, samples, rate, format=kind, subtype=subtype)
    return memory.getvalue()


def reason(cell: object, **options) -> str:
    with pytest.raises(BadCell) as error:
        AudioReader(**options).decode(cell)
    return error.value.reason


CELLS = [encoded(tone(0.3)), (8000, tone(0.2, 8000)), tone(0.5), encoded(tone(0.1, 44100), 44100, "FLAC")]
BAD = [b"", encoded(np.zeros(0)), b"no sound at all", encoded(tone())[:3000], (16000, np.array([np.nan, 0.0])), None]


@pytest.mark.parametrize("options", [{}, {"features": "mfcc"}, {"normalize": "cell"}, {"normalize": "none"}, AUGMENTED])
def test_contract(options):
    check_reader(lambda: AudioReader(**options), CELLS, BAD)


WRITTEN = [("WAV", "PCM_16", 1e-4), ("WAV", "FLOAT", 0), ("WAV", "PCM_24", 1e-6), ("AIFF", "PCM_16", 1e-4),
           ("FLAC", None, 1e-4), ("OGG", "VORBIS", 0.05), ("OGG", "OPUS", 0.05), ("MP3", None, 0.05)]  # fmt: skip


@pytest.mark.parametrize(("kind", "subtype", "gap"), WRITTEN)
def test_files_hold_what_was_written(kind, subtype, gap):
    wave = read_wave(encoded(tone(), kind=kind, subtype=subtype), 16000, 30.0)
    assert wave.shape == tone().shape
    np.testing.assert_allclose(wave[800:-800], tone()[800:-800], atol=gap)


def test_channels_are_averaged():
    stereo = np.stack([tone(), -0.5 * tone()], 1)
    np.testing.assert_allclose(read_wave(encoded(stereo, subtype="FLOAT"), 16000, 30.0), 0.25 * tone(), atol=1e-7)
    np.testing.assert_allclose(read_wave((16000, stereo), 16000, 30.0), 0.25 * tone(), atol=1e-7)


@pytest.mark.parametrize("old", [8000, 44100, 48000])
def test_resampling_keeps_the_tone(old):
    """A tone read at another rate is the same tone, sampled anew (away from the ends)."""
    wave = read_wave((old, tone(1.0, old)), 16000, 30.0)
    assert len(wave) == 16000
    np.testing.assert_allclose(wave[2000:-2000], tone(1.0)[2000:-2000], atol=1e-3)


@pytest.mark.parametrize(("dtype", "full"), [("int16", 2**15), ("int32", 2**31), ("uint8", 2**7)])
def test_whole_numbers_are_scaled_to_one(dtype, full):
    steps = np.array([-full, -full // 2, 0, full // 2]) + (128 if dtype == "uint8" else 0)
    np.testing.assert_array_equal(read_wave((16000, steps.astype(dtype)), 16000, 30.0), [-1.0, -0.5, 0.0, 0.5])


def test_a_long_sound_is_cut():
    for cell in (encoded(tone(3.0, 8000), 8000), (8000, tone(3.0, 8000)), tone(3.0)):
        assert len(read_wave(cell, 16000, 0.25)) == 4000


def test_a_monstrous_file_is_read_only_as_far_as_it_is_wanted(monkeypatch):
    """Twelve hours of silence in a small file: not more than one block beyond what is wanted is ever decoded."""
    data = encoded(np.zeros(12 * 3600 * 800, np.int16), 800, "FLAC")
    read, asked = soundfile.SoundFile.read, []
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda self, n, **k: asked.append(n) or read(self, n, **k))
    assert len(read_wave(data, 800, 2.0)) == 1600
    assert sum(asked) == 1600


# what cannot be read, each with its reason


def test_empty_file():
    assert reason(b"") == "empty file"


def test_wav_without_samples():
    assert reason(encoded(np.zeros(0))) == "no samples"


def test_array_without_samples():
    assert reason(np.zeros(0)) == reason((8000, np.zeros((0, 2)))) == "no samples"


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("part", [0.6, 0.97])
def test_truncated_file(kind, part):
    data = encoded(tone(2.0), kind=kind)
    said = reason(data[: int(len(data) * part)])
    assert "truncated" in said or (kind == "FLAC" and "lost sync" in said)


def test_header_only():
    assert reason(encoded(tone())[:20]).startswith("not a sound file that can be read")


def test_a_streamed_wav_of_unknown_length_is_read():
    data = encoded(tone())
    place = data.index(b"data") + 4
    streamed = data[:place] + struct.pack("<I", 0xFFFFFFFF) + data[place + 4 :]
    assert len(read_wave(streamed, 16000, 30.0)) == len(tone())


@pytest.mark.parametrize(
    "data", [b"GIF89a" + bytes(500), b"some words, no sound", bytes(1000), b"\xff\xfb\x90" + bytes(99)]
)
def test_not_a_sound(data):
    said = reason(data)
    assert "0x" not in said  # no address of an object


@pytest.mark.parametrize("worst", [np.nan, np.inf, -np.inf, 1e35])
def test_samples_that_are_no_samples(worst):
    spoilt = tone()
    spoilt[77] = worst
    assert "NaN" in reason(spoilt)
    assert "NaN" in reason(encoded(spoilt, subtype="FLOAT"))


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (np.zeros((2, 9, 2)), "shape"),
        (np.zeros((2, 16000)), "channels"),
        (np.array(["a"]), "floats"),
        (np.arange(9), "int64"),
        (np.float64(1.0), "no sound"),
        ((0, tone()), "rate"),
        ((True, tone()), "rate"),
        ((16000.5, tone()), "rate"),
        ((10**12, tone()), "rate"),
        ((16000, "x"), "array"),
        ("a.wav", "no sound"),
        (3, "no sound"),
        ((48000, np.ones(1)), "too short"),
    ],
)
def test_cells_of_a_wrong_kind(cell, said):
    assert said in reason(cell)


def test_too_short():
    assert "min_seconds" in reason(tone(0.05), min_seconds=0.1)
    assert AudioReader(min_seconds=0.1).decode(tone(0.1))


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF", "AU", "RF64"])
def test_every_kind_of_sound_is_known_by_its_beginning(kind):
    data = encoded(tone(0.1), kind=kind)
    assert is_sound(data)
    assert AudioReader().decode(data)


def test_an_id3_tag_before_the_sound_is_passed_over():
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 1, 2]) + bytes(130)
    assert is_sound(tag + b"\xff\xfb\x90\x00")
    assert not is_sound(tag + b"MZ")
    assert not is_sound(tag)


@pytest.mark.parametrize(
    "data", [b"MZ" + bytes(99), b"RIFF\0\0\0\0AVI " + bytes(99), b"FORM\0\0\0\0ILBM", b"\xff\x00", b"ID3"]
)
def test_what_begins_like_no_sound_is_not_given_to_libsndfile(data, monkeypatch):
    """It would look for files with names of its own in the working directory."""
    import soundfile

    monkeypatch.setattr(soundfile, "SoundFile", None)
    assert "begins like none" in reason(data)


def test_a_decoder_sent_before_the_beginning_stops_there():
    memory = Memory(b"abcdef")
    assert [memory.seek(-1), memory.seek(4), memory.seek(-9, 1), memory.seek(-2, 2), memory.seek(1, 1)] == [
        0,
        4,
        0,
        4,
        5,
    ]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_spoilt_files_are_read_or_refused(data):
    """Bytes changed, cut out or put in: a sample or BadCell, nothing else."""
    kind = data.draw(st.sampled_from(["WAV", "FLAC", "OGG"]))
    spoilt = bytearray(encoded(tone(0.1), kind=kind))
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(spoilt) - 1), st.integers(0, 255)), max_size=8)
    ):
        spoilt[place] = value
    spoilt = spoilt[data.draw(st.integers(0, 50)) :] if data.draw(st.booleans()) else spoilt
    _read_or_refuse(bytes(spoilt))


@settings(deadline=None, max_examples=60)
@given(
    st.one_of(
        st.none(), st.text(max_size=5), st.binary(max_size=60), st.floats(), st.integers(), st.booleans(),
        hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)),
        st.tuples(st.integers(-5, 10**5), hnp.arrays(np.float32, st.integers(0, 40))),
    )
)  # fmt: skip
def test_arbitrary_cells_are_read_or_refused(cell):
    _read_or_refuse(cell)


def _read_or_refuse(cell: object) -> None:
    with contextlib.suppress(BadCell):
        sample = AudioReader(normalize="cell")(cell)
        assert sample["mel"].shape[1] == 64
        assert np.isfinite(sample["mel"]).all()


# statistics


def test_fitting_gives_mean_and_deviation_of_every_band():
    cells = [noise(0.3), (8000, noise(0.1)), encoded(0.1 * noise(0.2))]
    plain = AudioReader(normalize="none")
    frames = np.concatenate([plain(cell)["mel"] for cell in cells]).astype(np.float64)
    reader = AudioReader()
    field = reader.fit([*cells, *BAD])
    assert field["bands"] == 64
    np.testing.assert_allclose(field["mean"], frames.mean(0), rtol=1e-9)
    np.testing.assert_allclose(field["std"], frames.std(0), rtol=1e-9)
    after = np.concatenate([reader(cell)["mel"] for cell in cells])
    np.testing.assert_allclose(after.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(after.std(0), 1.0, atol=1e-5)


def test_a_band_that_never_varies_is_only_centred():
    reader = AudioReader()
    field = reader.fit([np.zeros(1600)])
    assert field["std"] == [1.0] * 64
    assert not reader(np.zeros(1600))["mel"].any()


def test_each_cell_by_itself():
    mel = AudioReader(normalize="cell")(noise(0.4))["mel"]
    np.testing.assert_allclose(mel.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(mel.std(0), 1.0, atol=1e-4)


def test_fitting_stops_after_a_thousand_cells():
    taken = []
    AudioReader().fit(taken.append(n) or np.full(10, n, np.float32) for n in range(3000))
    assert len(taken) == 1000


def test_fitting_without_a_readable_cell():
    assert AudioReader().fit(BAD)["std"] == [1.0] * 64


def test_cost_is_the_size(tmp_path):
    data = encoded(tone())
    (tmp_path / "a.wav").write_bytes(data)
    reader = AudioReader()
    assert reader.cost(data) == reader.cost(tmp_path / "a.wav") == reader.cost(str(tmp_path / "a.wav")) == len(data)
    assert reader.cost(tmp_path / "none.wav") == 0
    assert reader.cost((8000, np.zeros(9, np.float32))) == 36


@pytest.mark.parametrize(("rate", "shown"), [(16000, 16000), (22050, 16000), (8000, 8000), (11025, 8000)])
def test_what_a_person_hears(rate, shown):
    wave = tone(6.0, rate)
    plain = AudioReader(rate=rate, mels=20).show(wave)
    with wav.open(io.BytesIO(base64.b64decode(plain["data"]))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, shown)
        heard = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
    assert plain["kind"] == "audio"
    assert len(heard) == 5 * shown
    np.testing.assert_allclose(heard[999:-999], tone(5.0, shown)[999:-999], atol=1e-3)


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"fmax": 9000.0}, "fmax"),
        ({"fmin": 500.0, "fmax": 400.0}, "fmax"),
        ({"features": "mfcc", "mfccs": 65}, "mfccs"),
        ({"n_fft": 256}, "n_fft"),
        ({"rate": 10}, "window"),
        ({"hop": 0.01}, "hop"),
        ({"mels": 500}, "mels"),
    ],
)
def test_settings_that_do_not_go_together(options, where):
    with pytest.raises(SpecError) as error:
        AudioReader(**options)
    assert error.value.where == where


# augmentation


def test_gain_is_within_its_decibels():
    for n in range(20):
        ratio = Vary(gain=6.0)(tone(), generator(n))[100:200] / tone()[100:200]
        assert np.ptp(ratio) < 1e-4
        assert 10 ** (-6 / 20) - 1e-4 <= ratio[0] <= 10 ** (6 / 20) + 1e-4


def test_noise_has_the_wanted_loudness():
    for n in range(10):
        added = Vary(noise=10.0)(tone(2.0), generator(n)) - tone(2.0)
        ratio = 20 * np.log10(tone(2.0).std() / added.std())
        assert 9.8 < ratio < 30.2
    assert not Vary(noise=10.0)(np.zeros(99, np.float32), generator(0)).any()


def test_shift_moves_and_lets_silence_in():
    seen = set()
    for n in range(20):
        moved = Vary(shift=0.3)(np.arange(1, 101, dtype=np.float32), generator(n))
        by = int(np.flatnonzero(moved)[0]) if moved[0] == 0 else 1 - int(moved[0])
        expected = np.zeros(100)
        expected[max(0, by) : 100 + min(0, by)] = np.arange(1, 101)[max(0, -by) : 100 - max(0, by)]
        np.testing.assert_array_equal(moved, expected)
        assert abs(by) <= 30
        seen.add(np.sign(by))
    assert seen >= {-1, 1}


def test_speed_changes_length_and_pitch_together():
    factors = []
    for n in range(30):
        faster = Vary(speed=0.2)(tone(1.0), generator(n))
        factor = 16000 / len(faster)
        factors.append(factor)
        hertz = np.abs(np.fft.rfft(faster, 160000)).argmax() / 10
        assert hertz == pytest.approx(440 * factor, rel=2e-3)
    assert 0.8 <= min(factors) < 0.83
    assert 1.17 < max(factors) <= 1.2


def test_masks_cover_whole_bands_and_frames():
    mel = generator("mel").standard_normal((50, 20)).astype(np.float32)
    mask = SpecAugment(freq_masks=1, freq_width=5, time_masks=1, time_width=30, time_share=0.2)
    widest = [0, 0]
    for n in range(200):
        hidden = mask(mel, generator(n)) != mel
        bands, frames = hidden.all(0).sum(), hidden.all(1).sum()
        assert hidden.sum() == bands * 50 + frames * 20 - bands * frames
        widest = [max(widest[0], bands), max(widest[1], frames)]
    assert widest == [5, 10]
    hidden = mask(mel, generator(3)) != mel
    np.testing.assert_array_equal(mask(mel, generator(3))[hidden], np.broadcast_to(mel.mean(0), mel.shape)[hidden])


def test_augmenting_changes_something_and_only_with_a_generator():
    reader = AudioReader(normalize="none", **AUGMENTED)
    plain = AudioReader(normalize="none")(tone())["mel"]
    np.testing.assert_array_equal(reader(tone())["mel"], plain)
    varied = reader(tone(), generator(1))["mel"]
    assert varied.shape != plain.shape or np.abs(varied - plain).max() > 0.1
    assert reader.augments
    assert not AudioReader().augments


def test_a_slowed_sound_stays_below_the_limit():
    reader = AudioReader(normalize="none", speed=0.5, max_seconds=0.5)
    assert max(len(reader(tone(0.6), generator(n))["mel"]) for n in range(20)) == 1 + (8000 - 400) // 160


@pytest.mark.data
def test_spoken_digits_are_read(real_data):
    reader = AudioReader(rate=8000)
    files = sorted((real_data / "fsdd" / "recordings").glob("*_theo_0.wav"))
    assert len(files) == 10
    reader.fit(f.read_bytes() for f in files)
    for file in files:
        with wav.open(str(file)) as sound:
            samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
        np.testing.assert_array_equal(reader(file.read_bytes())["mel"], reader((8000, samples))["mel"])
