"""Log-mel bands and MFCCs against a slow textbook version, transformers, closed forms."""

import math

import numpy as np
import pytest
import scipy.fft
import scipy.signal

from polymodal.core.errors import SpecError
from polymodal.core.seeds import generator
from polymodal.modalities.audio.features import Features, dct, mel_filters

SETTINGS = {"rate": 16000, "mels": 64, "window": 400, "hop": 160, "n_fft": 512, "fmin": 20.0, "fmax": 8000.0}
NARROW = {"rate": 8000, "mels": 23, "window": 200, "hop": 80, "n_fft": 256, "fmin": 0.0, "fmax": 3500.0}


def sound(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    noise = generator("sound", seed).standard_normal(round(seconds * rate))
    return (0.1 * noise + 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(noise)) / rate)).astype(np.float32)


def textbook_filter(band: int, f: float, *, mels: int, fmin: float, fmax: float) -> float:
    """The height of one triangle at f Hz, corner by corner (The HTK Book, 5.6)."""

    def corner(i: int) -> float:
        low, high = 2595 * math.log10(1 + fmin / 700), 2595 * math.log10(1 + fmax / 700)
        return 700 * (10 ** ((low + (high - low) * i / (mels + 1)) / 2595) - 1)

    left, peak, right = corner(band), corner(band + 1), corner(band + 2)
    if left <= f <= peak:
        return (f - left) / (peak - left)
    return (right - f) / (right - peak) if peak <= f <= right else 0.0


def textbook(wave: np.ndarray, s: dict) -> np.ndarray:
    overlap = s["window"] - s["hop"]
    f, _, spectrum = scipy.signal.stft(
        wave.astype(np.float64), s["rate"], "hann", s["window"], overlap, s["n_fft"], boundary=None, padded=False
    )
    power = np.abs(spectrum * scipy.signal.get_window("hann", s["window"]).sum()) ** 2
    shape = {k: s[k] for k in ("mels", "fmin", "fmax")}
    weights = np.array([[textbook_filter(m, hertz, **shape) for hertz in f] for m in range(s["mels"])])
    return np.log(np.maximum(weights @ power, 1e-10)).T


@pytest.mark.parametrize("settings", [SETTINGS, NARROW])
def test_log_mel_is_the_textbooks(settings):
    wave = sound(1.0, settings["rate"])
    expected = textbook(wave, settings)
    assert expected.shape == (1 + (len(wave) - settings["window"]) // settings["hop"], settings["mels"])
    np.testing.assert_allclose(Features(**settings)(wave), expected, atol=2e-5)


@pytest.mark.parametrize("settings", [SETTINGS, NARROW])
def test_mfccs_are_the_cosine_transform_of_the_bands(settings):
    wave = sound(0.5, settings["rate"])
    expected = scipy.fft.dct(textbook(wave, settings), type=2, axis=1, norm="ortho")[:, :13]
    np.testing.assert_allclose(Features(**settings, mfccs=13)(wave), expected, atol=1e-4)


@pytest.mark.parametrize("settings", [SETTINGS, NARROW])
def test_filters_are_those_of_transformers(settings):
    audio_utils = pytest.importorskip("transformers.audio_utils")
    s = settings
    expected = audio_utils.mel_filter_bank(
        s["n_fft"] // 2 + 1, s["mels"], s["fmin"], s["fmax"], s["rate"], norm=None, mel_scale="htk"
    )
    ours = mel_filters(rate=s["rate"], n_fft=s["n_fft"], mels=s["mels"], fmin=s["fmin"], fmax=s["fmax"])
    np.testing.assert_allclose(ours, expected, atol=1e-9)


@pytest.mark.parametrize("hertz", [120.0, 440.0, 1000.0, 2500.0, 6000.0])
def test_a_pure_tone_peaks_in_the_band_that_holds_it(hertz):
    wave = np.sin(2 * np.pi * hertz * np.arange(8000) / 16000).astype(np.float32)
    heights = [textbook_filter(m, hertz, mels=64, fmin=20.0, fmax=8000.0) for m in range(64)]
    loudest = Features(**SETTINGS)(wave).argmax(1)
    assert all(heights[band] > 0 for band in loudest)


def test_power_obeys_parseval():
    wave = sound(0.3, 8000)
    features = Features(**{**NARROW, "window": 256})
    both_sides = np.full(129, 2.0)
    both_sides[[0, -1]] = 1.0
    features.filters = both_sides[:, None]
    taper = scipy.signal.get_window("hann", 256)
    energy = [256 * ((wave[i : i + 256] * taper) ** 2).sum() for i in range(0, len(wave) - 255, 80)]
    np.testing.assert_allclose(np.exp(features(wave)[:, 0]), energy, rtol=1e-5)


def test_a_sound_twice_as_loud_is_log_4_above_in_every_band():
    wave = sound(0.2, 16000)
    features = Features(**SETTINGS)
    np.testing.assert_allclose(features(2 * wave) - features(wave), math.log(4), atol=1e-4)


def test_silence_lies_on_the_floor():
    assert np.all(Features(**SETTINGS)(np.zeros(1600, np.float32)) == np.float32(math.log(1e-10)))


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (399, 1), (400, 1), (559, 1), (560, 2), (16000, 98)])
def test_number_of_frames(samples, frames):
    assert Features(**SETTINGS)(np.ones(samples, np.float32)).shape == (frames, 64)


def test_a_short_sound_is_padded_with_silence():
    wave = sound(0.01, 16000)
    np.testing.assert_array_equal(Features(**SETTINGS)(wave), Features(**SETTINGS)(np.pad(wave, (0, 240))))


def test_the_cosines_are_orthonormal():
    np.testing.assert_allclose(dct(17).T @ dct(17), np.eye(17), atol=1e-12)


def test_bands_without_a_bin_are_refused():
    with pytest.raises(SpecError, match="hold no bin") as error:
        Features(**{**SETTINGS, "mels": 256})
    assert "1024" in error.value.advice


@pytest.mark.parametrize("top_db", [20.0, 45.0])
def test_no_band_lies_deeper_than_top_db_under_the_loudest(top_db):
    wave = (np.sin(np.arange(4000) * 0.3) * np.linspace(0, 1, 4000) ** 4).astype(np.float32)
    plain = Features(**SETTINGS)(wave).astype(np.float64)
    decibels = 10.0 * plain / np.log(10.0)
    expected = np.maximum(decibels, decibels.max() - top_db) * np.log(10.0) / 10.0
    assert (decibels.max() - decibels).max() > 45.0, "the sound must be deep enough for the test"
    np.testing.assert_allclose(Features(**SETTINGS, top_db=top_db)(wave), expected, atol=1e-5)


@pytest.mark.parametrize("deltas", [0, 1, 2])
def test_deltas_are_slopes_of_least_squares_over_five_frames(deltas):
    wave = np.random.default_rng(3).standard_normal(3000).astype(np.float32)
    plain = Features(**SETTINGS, mfccs=7)(wave).astype(np.float64)
    expected = [plain]
    for _ in range(deltas):
        padded = np.vstack([expected[-1][:1]] * 2 + [expected[-1]] + [expected[-1][-1:]] * 2)
        lines = [np.polyfit(np.arange(5), padded[t : t + 5], 1)[0] for t in range(len(plain))]
        expected.append(np.array(lines))
    features = Features(**SETTINGS, mfccs=7, deltas=deltas)
    assert features.bands == 7 * (1 + deltas)
    found = features(wave)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.hstack(expected), atol=1e-4)
    np.testing.assert_allclose(features.bands_of(found), Features(**SETTINGS, mfccs=7).bands_of(found[:, :7]))
