"""The reader of clips: cells, choice of frames, augmentation, fingerprints, noise, what is shown."""

from __future__ import annotations

import base64
import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from clips import film, picture, scene
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from polymodal.core.checks import check_reader
from polymodal.core.checks_noise import check_noise
from polymodal.core.contracts import Archive
from polymodal.core.errors import BadCell, SpecError
from polymodal.core.seeds import generator
from polymodal.data.collate import collate
from polymodal.modalities.image.read import ImageReader
from polymodal.modalities.video.augment import Vary
from polymodal.modalities.video.clip import Clip, choose, counted
from polymodal.modalities.video.read import VideoReader

BAD = [b"", b"text" * 99, 3.0, None, "a.mp4", np.zeros((0, 8, 8), np.uint8), np.zeros((2, 5, 7, 9), np.uint8), (),
       np.zeros((2, 2, 2, 2, 2)), np.full((2, 8, 9), 7.0), (b"", b""), ["a.png"],
       np.zeros((2, 0, 9), np.uint8)]  # fmt: skip
FRAMES = scene(20, 32, 40)


def forms(frames: np.ndarray) -> dict[str, object]:
    """The same clip as every kind of cell that is no file of its own."""
    return {
        "array, colours last": frames,
        "array, colours first": frames.transpose(0, 3, 1, 2),
        "floats": frames / 255,
        "files of a folder": tuple(picture(frame) for frame in frames),
        "pictures": [Image.fromarray(frame) for frame in frames],
        "arrays": list(frames),
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"jitter": True},
        {"trim": 0.5, "reverse": 0.5, "augment": {"flip": 0.5, "crop": [0.5, 1.0], "noise": 0.2}},
        {"fps": 8.0, "channels": 1, "normalize": "half", "resize": "pad"},
    ],
)
def test_contract(options: dict) -> None:
    cells = [FRAMES[:3], film(FRAMES), *forms(FRAMES).values(), FRAMES[0], FRAMES[..., 0], picture(FRAMES[0])]
    check_reader(lambda: VideoReader(frames=6, size=[16, 20], **options), cells, BAD)


@pytest.mark.parametrize("name", forms(FRAMES))
def test_every_kind_of_cell_is_read_alike(name: str) -> None:
    found = VideoReader(frames=5, size=[32, 40]).decode(forms(FRAMES)[name])["frames"]
    assert np.array_equal(found, FRAMES[[2, 6, 10, 14, 18]].transpose(0, 3, 1, 2))


def test_frames_are_read_as_pictures_are() -> None:
    options = {"size": [12, 30], "channels": 1, "resize": "crop", "denoise": "median"}
    pictures = ImageReader(**options)
    expected = np.stack([pictures.decode(frame)["pixels"] for frame in FRAMES])
    assert np.array_equal(VideoReader(frames=20, **options).decode(FRAMES)["frames"], expected)


def test_a_window_of_stored_values_holds_for_all_frames() -> None:
    deep = (np.arange(6, dtype=np.uint16) * 1000)[:, None, None] * np.ones((1, 8, 9), np.uint16)
    found = VideoReader(size=8, channels=1, range=[0.0, 4000.0]).decode(deep)["frames"]
    assert found[:, 0, 0, 0].tolist() == [0, 64, 128, 191, 255, 255]


@settings(deadline=None, max_examples=25)
@given(arrays(np.uint8, st.tuples(*[st.integers(1, 12)] * 3, st.sampled_from([1, 3, 4]))), st.integers(1, 14))
def test_any_array(array: np.ndarray, frames: int) -> None:
    found = VideoReader(frames=frames, size=[array.shape[1], array.shape[2]], channels=1).decode(array)["frames"]
    taken = [int((i + 0.5) * len(array) / frames) for i in range(frames)] if frames < len(array) else range(len(array))
    pictures = ImageReader(size=[array.shape[1], array.shape[2]], channels=1)
    assert [f.tobytes() for f in found] == [pictures.decode(array[i])["pixels"].tobytes() for i in taken]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.01, 2.0), min_size=1, max_size=40), st.integers(1, 12), st.none() | st.floats(0.2, 30.0))
def test_the_choice_of_frames_by_a_loop(lasts: list[float], most: int, fps: float | None) -> None:
    edges = np.concatenate([[0.0], np.cumsum(lasts)])
    found = choose(Clip(edges, True, iter), most, fps)
    assert len(found) <= most
    assert (np.diff(found) >= 0).all()
    total = edges[-1]
    count = min(most, max(1, round(total * fps))) if fps else most
    length = min(total, count / fps) if fps else total
    if fps is None and len(lasts) <= most:
        assert found.tolist() == list(range(len(lasts)))
        return
    assert len(found) == count
    for i, frame in enumerate(found):
        moment = (total - length) / 2 + length * (i + 0.5) / count
        assert edges[frame] - 1e-9 <= moment <= edges[frame + 1] + 1e-9


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 200), st.integers(1, 20))
def test_room_for_augmentation_changes_no_answer(length: int, most: int) -> None:
    """What is used without augmenting is the same whether more was decoded or not."""
    clip = Clip(counted(length), False, iter)
    vary = Vary(jitter=True)
    decoded = choose(clip, vary.room * most)
    assert decoded[vary(len(decoded), most, None)].tolist() == choose(clip, most).tolist()


def test_jitter_takes_any_frame_of_each_stretch() -> None:
    vary, seen = Vary(jitter=True), set()
    for number in range(200):
        chosen = vary(12, 4, generator("jitter", number))
        assert (chosen // 3).tolist() == [0, 1, 2, 3]
        seen |= set(chosen.tolist())
    assert seen == set(range(12))


def test_trim_and_reverse() -> None:
    first = [Vary(trim=0.5, reverse=0.5)(30, 10, generator("trim", n)) for n in range(300)]
    backwards = sum(bool(f[0] > f[-1]) for f in first)
    assert 100 < backwards < 200
    spans = np.array([abs(f[0] - f[-1]) for f in first])
    assert spans.max() >= 26
    assert 12 <= spans.min() <= 16, "at least half of the clip is left"
    assert all(len(f) == 10 for f in first)


def test_all_frames_of_a_clip_are_changed_alike() -> None:
    still = np.repeat(scene(1, 40, 40), 6, 0)
    how = {"flip": 0.5, "crop": [0.3, 1.0], "rotate": 20, "brightness": 0.4, "noise": 0.1, "erase": 0.5}
    reader = VideoReader(size=24, frames=6, augment=how)
    reader.fit([still])
    changed = [reader(still, generator("alike", n))["frames"] for n in range(5)]
    for frames in changed:
        assert (frames == frames[:1]).all()
    assert len({c.tobytes() for c in changed}) == 5
    assert len(np.unique(reader(still)["frames"], axis=0)) == 1


def test_fit_is_that_of_pictures() -> None:
    reader = VideoReader(size=[32, 40], frames=8)
    field = reader.fit([b"", FRAMES[:4], FRAMES[4:8], np.zeros((0, 2, 2))])
    whole = ImageReader(size=[32, 40])
    assert field == {**whole.fit(FRAMES[:8]), "frames": 8}
    assert field["mean"] == pytest.approx(FRAMES[:8].mean((0, 1, 2)) / 255, abs=1e-4)


def test_settings_that_cannot_be() -> None:
    for wrong, where in (({"key": "video"}, "key"), ({"offsets": "o"}, "offsets"), ({"augment": {"fip": 1}}, "augment"),
                         ({"range": [3.0, 1.0]}, "range")):  # fmt: skip
        with pytest.raises(SpecError) as error:
            VideoReader(**wrong)
        assert error.value.where.startswith(where)


def test_archive() -> None:
    assert VideoReader().archive is None
    assert VideoReader(array="a.npz", key="video", offsets="o").archive == Archive("a.npz", "video", "o")


def test_cost() -> None:
    reader = VideoReader(frames=16)
    assert [reader.cost(c) for c in (FRAMES[:3], FRAMES, (b"", b""), Path("a.mp4"), b"x")] == [3, 16, 2, 16, 16]


def words(reader: VideoReader, cells: list) -> np.ndarray:
    return reader.fingerprints(cells, [reader.decode(c) for c in cells])


def differing(one: np.ndarray, two: np.ndarray) -> int:
    return int(np.bitwise_count(one ^ two).sum())


def blob(frames: int, start: float, speed: float, side: int = 64) -> np.ndarray:
    """A light disc that moves over a wall of tiles."""
    y, x = np.mgrid[:side, :side]
    wall = scene(1, side, side)[0].mean(2)
    places = [start + speed * i / frames for i in range(frames)]
    discs = [150 * np.exp(-(((x - p) ** 2 + (y - side / 2) ** 2) / 60)) for p in places]
    return np.stack([np.clip(wall + d, 0, 255) for d in discs]).astype(np.uint8)[..., None].repeat(3, 3)


def test_fingerprints_stay_with_codecs_sizes_and_rates() -> None:
    reader, clip = VideoReader(size=48, frames=16), blob(60, 10, 40)
    small = np.stack([np.asarray(Image.fromarray(f).resize((48, 40))) for f in clip])
    copies = [film(clip), film(clip, "mjpeg", "avi", "yuvj420p"), clip[::2], small]
    original, *others = words(reader, [clip, *copies])
    assert all(differing(original, w) <= reader.alike for w in others)


def test_fingerprints_tell_what_moves_apart() -> None:
    """The same wall and the same places of the disc in another order: only time tells them apart."""
    reader, clip = VideoReader(size=48, frames=16), blob(60, 10, 40)
    still = np.repeat(clip.mean(0, keepdims=True).round().astype(np.uint8), 60, 0)
    original, backwards, none = words(reader, [clip, clip[::-1], still])
    assert differing(original, backwards) > reader.alike
    assert differing(original, none) > reader.alike
    assert np.array_equal(words(reader, [still[:1]])[0], none), "a still picture is a clip without motion"


def test_noise() -> None:
    reader = VideoReader(size=[32, 40], frames=20)
    reader.fit([FRAMES])
    data = collate([reader(FRAMES), reader(FRAMES[:5]), reader(FRAMES[7:9])], reader.ragged)
    check_noise(reader, data)
    kept = {k: v.copy() for k, v in data.items()}
    drift = []
    for level in (0.0, 0.3, 0.6, 1.0):
        noisy = reader.corrupt(data, level, generator("noise"))
        assert all(np.array_equal(data[k], kept[k]) for k in data), "in place"
        assert noisy["frames"].dtype == np.uint8
        assert noisy["frames"].shape == data["frames"].shape
        assert not noisy["frames"][1, 5:].any(), "padding stays zero"
        assert np.array_equal(noisy["frames_mask"], data["frames_mask"])
        pair = noisy["frames"][0, :, 0].ravel().astype(float), data["frames"][0, :, 0].ravel().astype(float)
        drift.append(float(np.corrcoef(*pair)[0, 1]))
    assert drift[0] == pytest.approx(1.0)
    assert drift[0] > drift[1] > drift[2] > drift[3]
    assert abs(drift[3]) < 0.02, "next to nothing is left"


def test_clips_that_are_joined() -> None:
    readers = [VideoReader(size=16, frames=4, channels=c) for c in (3, 1)]
    for reader in readers:
        reader.fit([FRAMES])
    field = VideoReader.stacked(readers)
    assert (field["channels"], field["frames"], field["size"]) == (4, 4, [16, 16])
    assert field["mean"] == readers[0].field["mean"] + readers[1].field["mean"]
    with pytest.raises(SpecError, match="same frames"):
        VideoReader.stacked([readers[0], VideoReader(size=16, frames=5)])


@pytest.mark.parametrize(("frames", "size"), [(20, (480, 192)), (3, (360, 96)), (1, (120, 96))])
def test_show(frames: int, size: tuple[int, int]) -> None:
    """Four frames in a row of the sheet, each at most 120 pixels wide or high; the first one in the corner."""
    shown = VideoReader().show(scene(frames, 128, 160))
    assert shown["kind"] == "image"
    sheet = Image.open(io.BytesIO(base64.b64decode(shown["data"])))
    assert sheet.size == size
    corner = np.asarray(sheet)[:96, :120].astype(int)
    first = scene(frames, 128, 160)[1 if frames == 20 else 0]
    expected = np.asarray(Image.fromarray(first).resize((120, 96), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(corner - expected).mean() < 20


def test_a_bad_frame_is_named() -> None:
    with pytest.raises(BadCell, match=r"^frame 2: not a picture"):
        VideoReader().decode((picture(FRAMES[0]), picture(FRAMES[1]), b"Thumbs.db"))


def test_lips(real_data: Path) -> None:
    """An archive of clips of different lengths; people are seldom so alike that one clip passes for another."""
    with np.load(real_data / "avletters" / "avletters_half_takes12.npz") as file:
        video, offsets = file["video"], file["offsets"]
    clips = [video[a:b] for a, b in itertools.pairwise(offsets[:105])]
    reader = VideoReader(size=[30, 40], channels=1, frames=1000)
    assert all(np.array_equal(reader.decode(c)["frames"][:, 0], c) for c in clips[:10])
    reader = VideoReader(size=[30, 40], channels=1)
    found = words(reader, clips)
    apart = np.bitwise_count(found[:, None] ^ found).sum(2) + 999 * np.eye(len(found), dtype=int)
    assert (apart.min(1) <= reader.alike).mean() < 0.05
