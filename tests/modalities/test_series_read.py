"""Series: every form of a cell, time, missing values, statistics, augmentation, noise, pictures of lines."""

import base64
import io
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from polymodal.core.checks import check_reader
from polymodal.core.checks_noise import check_noise
from polymodal.core.errors import BadCell, SpecError
from polymodal.core.seeds import generator
from polymodal.modalities.moments import Moments
from polymodal.modalities.series import text
from polymodal.modalities.series.augment import Vary
from polymodal.modalities.series.cell import read_series
from polymodal.modalities.series.grid import filled, ordered, resampled
from polymodal.modalities.series.read import SeriesReader

NAN = float("nan")


def walk(steps: int, channels: int = 2, name: object = 0) -> np.ndarray:
    return generator("walk", name).standard_normal((steps, channels)).cumsum(0)


def saved(array: np.ndarray) -> bytes:
    memory = io.BytesIO()
    np.save(memory, array)
    return memory.getvalue()


def written(array: np.ndarray, head: str = "a,b\n", separator: str = ",") -> bytes:
    rows = (separator.join("" if np.isnan(v) else repr(float(v)) for v in row) for row in array)
    return (head + "\n".join(rows) + "\n").encode()


def reason(cell: object, **options) -> str:
    with pytest.raises(BadCell) as error:
        SeriesReader(**options).decode(cell)
    return error.value.reason


def holes(steps: int, name: object = 0) -> np.ndarray:
    found = walk(steps, 2, name)
    return np.where(generator("holes", name).random(found.shape) < 0.2, np.nan, found)


CELLS = [
    walk(9),
    saved(walk(4, 2, 1)),
    written(walk(1, 2, 2)),
    walk(30, 2, 3).tolist(),
    {"a": [1.0, 2], "b": [None, 4]},
]
TIMED = [np.c_[np.sort(generator("t", n).uniform(0, 9, n)), holes(n, n)] for n in (5, 12, 1, 40)]
BAD = [b"", b"\xff\xfe", b"a,b\n", b"a,b\n1,x\n", walk(3)[:0], np.full((2, 2), NAN), [[1, 2], [3]], ["x"], "1 2", None,
       3, np.zeros((2, 2, 2)), np.array([[1.0, np.inf]]), {"a": [1], "b": [1, 2]}, saved(walk(3))[:-1], b"PK\x03\x04",
       1.5, {}, [], [[]], np.array(["x"]), [["x", "y"]], walk(5, 3), np.array([[1e20, 0]])]  # fmt: skip
AUGMENTED = {"crop": 0.5, "scale": 0.1, "jitter": 0.1, "time_masks": 2}


@pytest.mark.parametrize(
    "options",
    [{}, {"normalize": "cell"}, {"normalize": "none"}, {"diff": True}, {"every": 0.5}, {"max_steps": 5, "keep": "last"},
     {"fill": "mean"}, {"indicate": True}, {"indicate": False}, AUGMENTED, {**AUGMENTED, "normalize": "none"}],
)  # fmt: skip
def test_contract(options):
    check_reader(lambda: SeriesReader(**options), CELLS, BAD)


@pytest.mark.parametrize("options", [{}, {"every": 0.25}, {"every": 3.0}, AUGMENTED, {"channels": (2,)}])
def test_contract_with_times(options):
    check_reader(lambda: SeriesReader(time=0, **options), TIMED, [walk(5, 1), np.c_[[NAN, 1], walk(2)]])


def test_contract_inline():
    cells = ["1 2 3", "4.5,nan,6", "[1, null, 2]", "[[1], [2]]", "7\n8"]
    check_reader(
        lambda: SeriesReader(form="inline"), cells, ["", "x", "1 2; 3 4", "[", "[1, [2]]", "1; 2 3", "[" * 9999]
    )


# ---- what a cell may be


@pytest.mark.parametrize(
    "cell",
    [b"1,2\n3,4\n", b"1;2\n3;4", b"1\t2\r\n3\t4\r\n", b"1 2\n\n 3   4 \n", b"a,b\n1,2\n3,4\n", b'"a","b"\n"1","2"\n3,4',
     b"\xef\xbb\xbfa,b\n1,2\n3,4\n", b"1|2\n3|4", [[1, 2], [3, 4]], ((1, 2), (3, 4)),
     np.array([[1, 2], [3, 4]], np.int16), np.array([[1, 2], [3, 4]], np.float16),
     saved(np.array([[1, 2], [3, 4]], ">f4")), {"a": [1, 3], "b": (2, 4)},
     saved(np.asfortranarray([[1.0, 2.0], [3.0, 4.0]])), np.array([[1, 2], [3, 4]], object)],
)  # fmt: skip
def test_one_series_in_many_forms(cell):
    assert read_series(cell).values.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "cell", [[1, 2, 3], np.array([1, 2, 3]), b"1\n2\n3\n", b"x\n1\n2\n3", saved(np.array([1.0, 2, 3]))]
)
def test_one_channel(cell):
    assert read_series(cell).values.tolist() == [[1], [2], [3]]


@pytest.mark.parametrize(
    ("given", "expected"),
    [("1 2 3", [[1], [2], [3]]), (" 1,2 ,3 ", [[1], [2], [3]]), ("1 2; 3 4", [[1, 2], [3, 4]]),
     ("1,2\n3,4\n", [[1, 2], [3, 4]]),
     ("[1, 2.5]", [[1], [2.5]]), ("[[1, 2], [3, 4]]", [[1, 2], [3, 4]]), ("1e3", [[1000]]), ("-1.5", [[-1.5]])],
)  # fmt: skip
def test_numbers_in_a_text(given, expected):
    assert SeriesReader(form="inline").decode(given)["values"].tolist() == expected
    assert SeriesReader().files
    assert not SeriesReader(form="inline").files


def test_missing_values_have_many_names():
    found = read_series(b"a,b\n1,\nNA,2\nnull,nan\n?,-\n,3\n").values
    assert np.array_equal(found, [[1, NAN], [NAN, 2], [NAN, NAN], [NAN, NAN], [NAN, 3]], equal_nan=True)
    assert np.array_equal(read_series([[1, None], [NAN, 2]]).values, [[1, NAN], [NAN, 2]], equal_nan=True)
    assert np.array_equal(SeriesReader(form="inline").decode("1 nan 3")["values"], [[1], [NAN], [3]], equal_nan=True)


def test_a_first_line_with_holes_is_no_line_of_names():
    assert read_series(b"1,,3\n4,5,6\n").names is None
    assert read_series(b"2024-01-01,1\n2024-01-02,2\n", time=0).values.tolist() == [[1], [2]]
    assert read_series(b"a,,c\n4,5,6\n").names == ("a", "c")  # the index that pandas writes has no name


def test_channels_by_name_and_number():
    cell = b"t,a,b,note\n0,1,2,x\n1,3,4,y\n"
    assert read_series(cell, ("b", "a"), "t").values.tolist() == [[2, 1], [4, 3]]
    assert read_series(cell, (2,), 0).values.tolist() == [[2], [4]]
    assert read_series(walk(4, 3), (2, 0)).values.tolist() == walk(4, 3)[:, [2, 0]].tolist()
    assert "column 'note': 'x' is no number" in reason(cell, time="t")
    assert "no column 'c'" in reason(cell, channels=("c",))
    assert "no column 4: there are 4" in reason(cell, channels=(4,))
    assert "no names" in reason(walk(3), channels=("a",))
    assert "two have this name" in reason(b"a,a\n1,2\n", channels=("a",))


def test_columns_in_another_order_are_the_same_channels():
    reader = SeriesReader()
    field = reader.fit([b"a,b\n1,10\n2,20\n", b"b,a\n30,3\n", b"c\n5\n"])
    assert (field["names"], field["channels"], field["mean"]) == (["a", "b"], 2, [2, 20])
    assert np.array_equal(reader.decode(b"b,x,a\n10,0,1\n")["values"], [[1, 10]])
    assert np.array_equal(reader.decode({"b": [10], "a": [1]})["values"], [[1, 10]])
    assert np.array_equal(reader.decode([[1, 10]])["values"], [[1, 10]])
    with pytest.raises(BadCell, match="1 channels; those of training have 2"):
        reader.decode([1, 10])
    with pytest.raises(BadCell, match="no column 'a'"):
        reader.decode(b"b,x\n1,2\n")


@pytest.mark.parametrize(
    ("cell", "said"),
    [(b"", "empty file"), (b" \n", "empty file"), (b"a,b\n", "no steps"), (b"a,b\n1,2\n3\n", "line 3 has 1 fields"),
     (b"\xff", "neither a .npy file nor UTF-8"), ([], "no steps"), (np.full(3, NAN), "all of them are missing"),
     (np.array([1e300]), "absurdly large"), ([float("inf")], "infinite"), (np.zeros((2, 3, 4)), "not of shape"),
     (np.zeros(()), "not of shape"), (np.zeros((3, 0)), "0 channels"), ("x.csv", "is no number"), (None, "no series"),
     (b"PK\x03\x04...", "name it as `array`"), (saved(walk(3))[:-2], "cut off"), ([[1, 2], [3]], "numbers [time]"),
     (np.array([[1, "x"]], object), "numbers [time]"), (np.array([1j]), "numbers [time]"), ({"a": 1}, "one length"),
     (saved(np.array(["x"])), "must hold numbers"), ([10**400], "numbers [time]"), (b"1e999", "infinite")],
)  # fmt: skip
def test_bad_cells_say_why(cell, said):
    assert said in reason(cell)


def test_too_much_text(monkeypatch):
    monkeypatch.setattr(text, "LARGEST", 10)
    assert "save it as .npy" in reason(b"1\n" * 6)


@given(st.binary(max_size=80) | st.text(max_size=40).map(str.encode))
@settings(max_examples=80, deadline=None)
def test_any_bytes_are_a_series_or_bad(content):
    try:
        values = SeriesReader().decode(content)["values"]
    except BadCell:
        return
    assert values.ndim == 2
    assert (np.isnan(values) | np.isfinite(values)).all()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=8,
)  # fmt: skip


@given(JSON)
@settings(max_examples=80, deadline=None)
def test_any_value_is_a_series_or_bad(value):
    for form, cell in (("file", value), ("inline", json.dumps(value))):
        reader = SeriesReader(form=form)
        try:
            reader.fit([cell])
            found = reader(cell)["values"]
        except BadCell:
            continue
        assert found.dtype == np.float32
        assert np.isfinite(found).all()


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(-1e14, 1e14)))
@settings(max_examples=50, deadline=None)
def test_finite_whatever_the_numbers(values):
    """Tiny and huge deviations, constant channels."""
    for normalize in ("dataset", "cell"):
        reader = SeriesReader(normalize=normalize)
        reader.fit([values[:1], values])
        found = reader(values * 1.0)["values"]
        assert np.isfinite(found).all()
        assert np.abs(found).max() <= 1e6


# ---- time


def test_steps_are_put_in_the_order_of_time():
    values, time = ordered(np.array([[1.0], [2], [3], [4]]), np.array([3.0, 1, 3, 0]))
    assert values[:, 0].tolist() == [4, 2, 1, 3]
    assert time.tolist() == [0, 1, 3, 3]


def test_dates_are_seconds():
    cell = b"when,x\n2024-01-01T00:00:00,1\n2024-01-01 00:01,2\n2024-01-01T02:00:00+01:00,3\n"
    assert np.diff(read_series(cell, None, "when").time).tolist() == [60, 3540]
    assert "is no date" in reason(b"2024-01-01,1\nyesterday,2\n", time=0)
    assert "without a time" in reason(b"t,x\n1,2\n,3\n", time="t")
    assert "absurdly large" in reason([[1e300, 1.0], [0, 1]], time=0)


def test_the_gaps_in_time_are_a_column():
    """ln(1 + gap / mean gap of training): 0 for the first step."""
    reader = SeriesReader(time=0, normalize="none")
    field = reader.fit([[[0, 5.0], [1, 6.0]], [[0, 1.0], [3, 1.0], [5, 1.0]], [[7, 1.0]]])
    assert field["gap"] == (1 + 5) / 3
    assert (field["channels"], field["features"]) == (1, 2)
    found = reader([[10, 1.0], [14, 2.0], [14, 3.0]])["values"]
    assert np.allclose(found, [[1, 0], [2, np.log(3)], [3, 0]])


@given(st.integers(2, 12), st.floats(0.05, 5.0), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_resampling_by_hand(steps, every, seed):
    """Each point of the grid lies on the line between its neighbours in time; nothing beyond the known ones."""
    rng = generator("resample", seed)
    time, channel = np.cumsum(rng.uniform(0.1, 2.0, steps)) + 5, rng.standard_normal(steps)
    channel[rng.random(steps) < 0.3] = np.nan
    found = resampled(channel[:, None], time, every, 10_000, False)[:, 0]
    known = [(t, v) for t, v in zip(time, channel, strict=True) if not np.isnan(v)]
    assert len(found) == int((time[-1] - time[0]) / every + 1e-9) + 1
    for at, value in enumerate(found):
        t = time[0] + at * every
        left, right = [k for k in known if k[0] <= t], [k for k in known if k[0] >= t]
        if not left or not right:
            assert np.isnan(value)
            continue
        (t0, v0), (t1, v1) = left[-1], right[0]
        expected = v0 if t1 == t0 else v0 + (v1 - v0) * (t - t0) / (t1 - t0)
        assert abs(value - expected) < 1e-9


def test_a_fine_grid_costs_no_memory():
    """Only as many points as are kept are ever made."""
    cell = [[0, 1.0], [1e12, 2.0]]
    assert len(SeriesReader(time=0, every=1e-3, max_steps=7).decode(cell)["values"]) == 7
    last = SeriesReader(time=0, every=1e-3, max_steps=7, keep="last").decode(cell)["values"]
    assert abs(last[-1, 0] - 2) < 1e-6
    assert "a grid of" in reason([[0, 1.0], [1e14, 2.0]], time=0, every=1e-6)


def test_regular_series_are_left_as_they_are():
    values = walk(9)
    assert np.allclose(resampled(values, np.arange(9.0), 1.0, 99, False), values)
    assert np.allclose(SeriesReader(every=2.0).decode(values)["values"], values[::2])
    times = np.arange(9) * 0.1
    assert np.allclose(SeriesReader(time=0, every=0.1).decode(np.c_[times, values])["values"], values)


def test_long_series_are_cut():
    values = walk(9)
    assert np.array_equal(SeriesReader(max_steps=4).decode(values)["values"], values[:4])
    assert np.array_equal(SeriesReader(max_steps=4, keep="last").decode(values)["values"], values[-4:])


def test_differences():
    assert np.array_equal(SeriesReader(diff=True).decode([1, 4, 2])["values"][:, 0], [0, 3, -2])


# ---- what is missing, and statistics


def test_filling():
    values = np.array([[NAN, 1], [2, NAN], [NAN, NAN], [4, 3]])
    assert filled(values, True, np.array([9.0, 9])).tolist() == [[9, 1], [2, 1], [2, 1], [4, 3]]
    assert filled(values, False, np.array([9.0, 8])).tolist() == [[9, 1], [2, 8], [9, 8], [4, 3]]


def test_indicators_stand_beside_the_channels():
    reader = SeriesReader(normalize="none")
    assert reader.fit([[[1, 2], [NAN, 4]]])["features"] == 4
    assert reader([[5, NAN], [NAN, 6]])["values"].tolist() == [
        [5, 3, 0, 1],
        [5, 6, 1, 0],
    ]  # 3: the mean before the first
    whole = SeriesReader(normalize="none")
    assert whole.fit([[[1, 2], [3, 4]]])["features"] == 2
    assert whole([[5, NAN]])["values"].tolist() == [[5, 3]]
    assert SeriesReader(indicate=True).fit([[1, 2]])["features"] == 2
    assert SeriesReader(indicate=False).fit([[1, NAN]])["features"] == 1


def test_statistics_are_numpys():
    cells = [holes(n, n) for n in (3, 50, 1, 17)]
    field = SeriesReader().fit([*BAD, *cells])
    together = np.concatenate(cells)
    assert np.allclose(field["mean"], np.nanmean(together, 0))
    assert np.allclose(field["std"], np.nanstd(together, 0))


def test_normalising():
    cells = [holes(30, n) for n in range(3)]
    reader = SeriesReader(indicate=False)
    reader.fit(cells)
    expected = (cells[0] - np.nanmean(np.concatenate(cells), 0)) / np.nanstd(np.concatenate(cells), 0)
    known = ~np.isnan(cells[0])
    assert np.allclose(reader(cells[0])["values"][known], expected[known], atol=1e-5)
    own = SeriesReader(normalize="cell", indicate=False)
    own.fit(cells)
    expected = (cells[0] - np.nanmean(cells[0], 0)) / np.nanstd(cells[0], 0)
    assert np.allclose(own(cells[0])["values"][known], expected[known], atol=1e-5)
    flat = SeriesReader()
    assert flat.fit([np.full((5, 1), 0.1)])["std"] == [1.0]
    assert np.allclose(flat(np.full((5, 1), 0.1))["values"], 0)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_moments_of_blocks_are_those_of_all(lengths, seed):
    rng = generator("moments", seed)
    blocks = [np.where(rng.random((n, 3)) < 0.3, np.nan, rng.standard_normal((n, 3)) + 100) for n in lengths]
    found = Moments(3)
    for block in blocks:
        found.add(block)
    whole = np.concatenate(blocks)
    for c in range(3):
        known = whole[:, c][~np.isnan(whole[:, c])]
        assert found.count[c] == len(known)
        if len(known):
            assert abs(found.mean[c] - known.mean()) < 1e-9
            assert abs(found.deviation[c] - known.std()) < 1e-6


def test_nothing_readable_to_fit_on():
    reader = SeriesReader()
    assert reader.fit([b"", None])["channels"] == 1
    assert reader.blank()["values"].shape == (1, 1)


# ---- augmentation, noise


def test_augmentation_does_what_it_says():
    values, one = np.ones((1000, 2)), np.ones(2)
    jittered = Vary(jitter=0.5)(values, np.array([1.0, 10.0]), generator(0)) - 1
    assert np.allclose(jittered.std(0), [0.5, 5.0], rtol=0.1)
    scaled = np.array([Vary(scale=0.2)(values, one, generator(n))[0] for n in range(500)])
    assert np.allclose(scaled.std(0), 0.2, rtol=0.15)
    assert (Vary(scale=0.2)(values, one, generator(1)) == Vary(scale=0.2)(values, one, generator(1))[0]).all()
    masked = Vary(time_masks=1, time_width=50)(values, one, generator(2))
    gone = np.isnan(masked).all(1)
    assert 0 < gone.sum() <= 50
    assert (np.isnan(masked).any(1) == gone).all()
    assert np.diff(np.flatnonzero(gone)).max(initial=1) == 1
    windows = [Vary(crop=0.3).window(100, generator(n)) for n in range(200)]
    assert {w.stop - w.start for w in windows} == set(range(70, 101))
    assert min(w.start for w in windows) == 0
    assert max(w.stop for w in windows) == 100
    assert not Vary()


def test_what_is_masked_goes_missing():
    reader = SeriesReader(indicate=True, time_masks=3, time_width=4, time_share=0.5)
    reader.fit([walk(20)])
    found = reader(walk(20), generator(3))["values"]
    gone = found[:, 2] == 1
    assert gone.any()
    assert (found[:, 2] == found[:, 3]).all()
    plain = reader(walk(20))["values"]
    assert np.array_equal(found[~gone, :2], plain[~gone, :2])
    for at in np.flatnonzero(gone):
        before = np.flatnonzero(~gone[:at])
        assert np.array_equal(found[at, :2], plain[before[-1], :2] if len(before) else np.zeros(2))


def collated(reader: SeriesReader, cells: list) -> dict:
    rows = [reader(c)["values"] for c in cells]
    longest = max(map(len, rows))
    mask = np.arange(longest) < np.array([len(r) for r in rows])[:, None]
    return {"values": np.stack([np.pad(r, ((0, longest - len(r)), (0, 0))) for r in rows]), "values_mask": mask}


@pytest.mark.parametrize("normalize", ["dataset", "none"])
def test_noise(normalize):
    cells = [np.c_[np.arange(400.0), holes(400, n) * 3 + 7] for n in range(4)] + [TIMED[1] * 3]
    reader = SeriesReader(time=0, normalize=normalize)
    field = reader.fit(cells)
    data = collated(reader, cells)
    check_noise(reader, data)
    kept = {k: v.copy() for k, v in data.items()}
    assert reader.corrupt(data, 0.0, generator(0)) is data
    mean, std = (np.array(field[k]) if normalize == "none" else np.full(2, d) for k, d in (("mean", 0), ("std", 1)))
    real = data["values_mask"]
    plain = (data["values"][real][:, :2] - mean) / std
    for level in (0.2, 0.5, 0.8, 1.0):
        noisy = reader.corrupt(data, level, generator("noise"))
        assert np.array_equal(noisy["values"][..., 2:], data["values"][..., 2:])  # indicators and gaps stay
        found = (noisy["values"][real][:, :2] - mean) / std
        kept_share = (1 - level) * (1 - level / 2) ** 2  # of the signal, in what is left and in how much is left
        assert abs((found * plain).mean() / (plain**2).mean() - kept_share) < 0.05
        assert abs(found.mean()) < 0.1
        assert abs((found**2).mean() - 1) < 0.1
    assert all(np.array_equal(data[k], kept[k]) for k in kept)
    again = [reader.corrupt(data, 0.5, generator("x"))["values"] for _ in range(2)]
    assert np.array_equal(*again)


# ---- fingerprints, pictures, settings


def differing(one: np.ndarray, two: np.ndarray) -> int:
    return int(np.bitwise_count(one ^ two).sum())


def test_fingerprints_tell_near_from_far():
    cells = [walk(60, 2, n) / 3 for n in range(20)]
    reader = SeriesReader()
    reader.fit(cells)

    def words(several: list) -> np.ndarray:
        return reader.fingerprints(several, [reader.decode(c) for c in several])

    found = words(cells)
    rounded = words([c.round(2) for c in cells])
    assert max(differing(a, b) for a, b in zip(found, rounded, strict=True)) <= reader.alike
    far = [differing(found[i], found[j]) for i in range(20) for j in range(i)]
    assert min(far) > reader.alike
    moved, larger = words([c + 3 for c in cells]), words([c * 2 for c in cells])
    assert min(differing(a, b) for a, b in zip(found, moved, strict=True)) > reader.alike
    assert min(differing(a, b) for a, b in zip(found, larger, strict=True)) > reader.alike
    one, two = (SeriesReader().fingerprints([c], [{"values": c}])[0] for c in cells[:2])
    assert differing(one, two) > 60


def test_a_picture_of_lines():
    reader = SeriesReader()
    for cell in (walk(500, 12), [3.0], [[1, NAN], [NAN, NAN], [2, NAN]], [1, 1, 1], walk(100_000, 1)):
        shown = reader.show(cell)
        assert shown["kind"] == "image"
        picture = Image.open(io.BytesIO(base64.b64decode(shown["data"])))
        assert picture.size == (320, 120)
        assert len(picture.getcolors(1 << 16)) > 1
    rising = np.asarray(Image.open(io.BytesIO(base64.b64decode(reader.show([1.0, 2.0])["data"]))).convert("L"))
    assert rising[115, 4] < 255  # from the lower left
    assert rising[4, 315] < 255  # to the upper right
    assert rising[4, 4] == rising[115, 315] == 255


@pytest.mark.parametrize("options", [{"key": "x"}, {"offsets": "x"}, {"channels": ()}, {"channels": (1, 1)},
                                     {"channels": ("a",), "time": "a"}])  # fmt: skip
def test_settings_that_do_not_fit(options):
    with pytest.raises(SpecError):
        SeriesReader(**options)


def test_joined_channel_by_channel():
    one, two = SeriesReader(), SeriesReader()
    one.fit([walk(5)])
    two.fit([walk(5, 3)])
    assert SeriesReader.stacked([one, two]) == {"features": 5}
    with pytest.raises(SpecError, match="one augmentation"):
        SeriesReader.stacked([one, SeriesReader(crop=0.5)])


def test_lips_and_sounds(real_data):
    """Items of a real archive: 520 utterances, as its README counts them."""
    with np.load(real_data / "avletters" / "avletters_half_takes12.npz", allow_pickle=False) as file:
        mfcc, edges = file["mfcc"], file["mfcc_offsets"]
    cells = [mfcc[a:b] for a, b in pairwise(edges)]
    reader = SeriesReader()
    field = reader.fit(cells)
    assert (len(cells), field["features"], field["indicate"]) == (520, 26, False)
    assert np.allclose(field["mean"], mfcc.astype(np.float64).mean(0), atol=1e-4)
    found = np.concatenate([reader(c)["values"] for c in cells])
    assert np.allclose(found.mean(0), 0, atol=1e-3)
    assert np.allclose(found.std(0), 1, atol=1e-3)
