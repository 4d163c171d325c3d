"""Video files and animations: the right frames, only those that are needed, and every kind of broken file."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clips import animation, film, index_first, picture, projected, scene, sound_only, turned
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from polymodal.core.errors import BadCell, UserError
from polymodal.modalities.image.read import ImageReader
from polymodal.modalities.video import container, seek
from polymodal.modalities.video.frames import opened
from polymodal.modalities.video.read import VideoReader
from polymodal.serve.http import ServeSettings, guard

LONG, WIDE, HIGH = 60, 64, 48
FILMS = {
    "mpeg4, mp4, key frames": ("mpeg4", "mp4", "yuv420p", {"g": "12"}),
    "mpeg4, mp4, reordered": ("mpeg4", "mp4", "yuv420p", {"g": "12", "bf": "2"}),
    "mpeg4, avi, reordered": ("mpeg4", "avi", "yuv420p", {"g": "10", "bf": "2"}),
    "mpeg4, mov": ("mpeg4", "mov", "yuv420p", {"g": "600"}),
    "mjpeg, avi": ("mjpeg", "avi", "yuvj420p", {}),
    "ffv1, matroska": ("ffv1", "matroska", "bgr0", {}),
    "raw, avi": ("rawvideo", "avi", "bgr24", {}),
    "mpeg2, program stream": ("mpeg2video", "mpeg", "yuv420p", {"bf": "2"}),
    "mpeg2, transport stream": ("mpeg2video", "mpegts", "yuv420p", {"bf": "2"}),
    "mpeg4, elementary stream": ("mpeg4", "m4v", "yuv420p", {}),
}
OPTIONAL = {
    "h264, mp4": ("libx264", "mp4", "yuv420p", {"g": "20", "bf": "3"}),
    "h264, open groups": ("libx264", "mp4", "yuv420p", {"x264-params": "keyint=20:open-gop=1:bframes=3"}),
    "vp8, hidden frames": ("libvpx", "webm", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "10", "g": "20"}),
    "vp9, hidden frames": ("libvpx-vp9", "webm", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "10", "g": "20"}),
}
ANIMATIONS = {"GIF": {}, "WEBP": {"lossless": True}, "PNG": {}}
SMALL = film(scene(20), g="5")


def can_write(codec: str) -> bool:
    import av

    try:
        av.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def reader(frames: int = 7, **options: object) -> VideoReader:
    return VideoReader(frames=frames, size=[HIGH, WIDE], **options)


def read(content: bytes, **options: object) -> np.ndarray:
    """[T H W 3]"""
    return reader(**options).decode(content)["frames"].transpose(0, 2, 3, 1)


@pytest.mark.parametrize("name", [*FILMS, *OPTIONAL])
@pytest.mark.parametrize("frames", [1, 7, 100])
def test_the_right_frames_as_if_all_were_decoded(name: str, frames: int) -> None:
    codec, form, pixels, options = (FILMS | OPTIONAL)[name]
    if not can_write(codec):
        pytest.skip(f"this build of PyAV cannot write {codec}")
    content = film(scene(LONG), codec, form, pixels, **options)
    whole = projected(content)
    assert len(whole) == LONG
    middles = ((np.arange(frames) + 0.5) * LONG / frames).astype(int) if frames < LONG else np.arange(LONG)
    assert np.array_equal(read(content, frames=frames), whole[middles])


def test_lossless_files_give_back_the_array() -> None:
    content = film(scene(LONG), "ffv1", "matroska", "bgr0")
    assert np.array_equal(read(content, frames=LONG), scene(LONG))


def test_only_what_is_needed_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a key frame on, not from the beginning."""
    counted: list[int] = []
    onward = seek.Video.onward

    def counting(video: seek.Video, key: int) -> object:
        for frame in onward(video, key):
            counted.append(frame.pts)
            yield frame

    monkeypatch.setattr(seek.Video, "onward", counting)
    read(film(scene(100), g="5"), frames=4)  # frames 12, 37, 62 and 87
    assert len(counted) == 4 * 3
    counted.clear()
    read(film(scene(100), "mjpeg", "matroska", "yuvj420p"), frames=4)
    assert len(counted) == 4


def test_times_count_not_numbers() -> None:
    """The first half of the time shows three frames, the second fifteen."""
    times = [0, 1000, 2000, *range(3000, 6000, 200)]
    content = film(scene(18), "ffv1", "matroska", "bgr0", times=times)
    expected = scene(18)[[0, 1, 2, 5, 10, 15]]
    assert np.array_equal(read(content, frames=6), expected)


@pytest.mark.parametrize(
    ("fps", "frames", "numbers"),
    [
        (5.0, 100, [2, 7, 12, 17, 22, 27, 32, 37, 42, 47, 52, 57]),  # 12 frames in the 2.4 s that the clip lasts
        (5.0, 4, [22, 27, 32, 37]),  # its middle
        (50.0, 3, [28, 30, 31]),  # hardly more than one frame
        (0.1, 4, [30]),
    ],
)
def test_frames_a_second(fps: float, frames: int, numbers: list[int]) -> None:
    content = film(scene(LONG), "ffv1", "matroska", "bgr0")
    found = read(content, frames=frames, fps=fps)
    gaps = np.abs(scene(LONG)[None].astype(int) - found[:, None]).max((2, 3, 4))
    assert gaps.argmin(1).tolist() == pytest.approx(numbers, abs=1), "to the frame, up to rounding of times"
    assert (gaps.min(1) == 0).all()


def test_a_film_that_is_to_be_turned() -> None:
    content = film(scene(3))
    plain = projected(content)
    found = VideoReader(size=[WIDE, HIGH]).decode(turned(content))["frames"].transpose(0, 2, 3, 1)
    assert np.array_equal(found, np.rot90(plain, -1, (1, 2)))


@pytest.mark.parametrize("kind", ANIMATIONS)
def test_animations(kind: str) -> None:
    frames = scene(12)[..., :1].repeat(3, 3) if kind == "GIF" else scene(12)  # a palette holds all greys
    lasts = [40] * 11 + [440]
    content = animation(frames, kind, lasts, **ANIMATIONS[kind])
    assert np.array_equal(read(content, frames=12), frames)
    assert np.array_equal(read(content, frames=4), frames[[2, 8, 11, 11]]), "the last one is shown half of the time"
    with opened(content, 100, 10**6) as clip:
        assert clip.edges == pytest.approx(np.cumsum([0, *lasts]) / 1000)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_a_still_picture_is_a_clip_of_one_frame(kind: str) -> None:
    content = picture(scene(1)[0], kind)
    expected = ImageReader(size=[HIGH, WIDE]).decode(content)["pixels"]
    assert np.array_equal(reader().decode(content)["frames"], expected[None])


def test_transparent_animations_lie_over_white() -> None:
    frames = [Image.new("RGBA", (8, 8), (255, 0, 0, a)) for a in (255, 0)]
    memory = io.BytesIO()
    frames[0].save(memory, "PNG", save_all=True, append_images=frames[1:], duration=50)
    found = VideoReader(size=8).decode(memory.getvalue())["frames"]
    assert found[:, :, 0, 0].tolist() == [[255, 0, 0], [255, 255, 255]]


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///dev/zero\n#EXT-X-ENDLIST\n"
BROKEN = {
    "nothing": (b"", "empty file"),
    "text": (b"dear diary\n" * 99, "not a video"),
    "sound": (sound_only(), "sound only"),
    "sound with a cover": (sound_only(scene(1)[0]), "sound only"),
    "a playlist": (PLAYLIST, "not a video"),
    "a list of files": (b"ffconcat version 1.0\nfile /dev/zero\n", "not a video"),
    "no index": (SMALL[: len(SMALL) // 2], "not a video"),
    "the second half is gone": (index_first(film(scene(40)))[: len(SMALL)], r"truncated video: \d+ of 40 frames"),
    "half a matroska": ((m := film(scene(80), form="matroska"))[: len(m) // 2], r"truncated video: .* of 3.2 seconds"),
    "half a GIF": ((g := animation(scene(9), "GIF"))[: len(g) // 2], "animation"),
    "half a WebP": ((w := animation(scene(9), "WEBP"))[: len(w) // 2], "animation"),
    "half a PNG": ((p := animation(scene(9), "PNG"))[: len(p) // 2], "animation"),
    "half a JPEG": ((j := picture(scene(1)[0], "JPEG"))[: len(j) // 2], "frame 0: "),
    "no frames": (index_first(film(scene(1))).replace(b"stsz" + bytes(4), b"free" + bytes(4)), "video"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files(name: str) -> None:
    content, reason = BROKEN[name]
    with pytest.raises(BadCell, match=reason):
        reader().decode(content)


def test_no_cell_opens_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg by itself would play what a list names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "film.mp4").write_bytes(SMALL)
    with pytest.raises(BadCell, match="not a video"):
        reader().decode(b"ffconcat version 1.0\nfile film.mp4\n")
    monkeypatch.setattr(container, "OPTIONS", {})
    assert len(reader().decode(b"ffconcat version 1.0\nfile film.mp4\n")["frames"]) == 7, "the list is right"


@pytest.mark.parametrize("content", [SMALL, animation(scene(20), "GIF")], ids=["mp4", "gif"])
def test_limits(content: bytes) -> None:
    with pytest.raises(BadCell, match="max_frames"):
        reader(max_frames=19).decode(content)
    with pytest.raises(BadCell, match="48 pixels, more than max_pixels 3071"):
        reader(max_pixels=3071).decode(content)
    assert len(reader(max_frames=20, max_pixels=3072).decode(content)["frames"]) == 7
    with opened(content, 20, 3072) as clip:
        lasts = float(clip.edges[-1] - clip.edges[0])
    for longest, refused in ((0.9 * lasts, True), (1.1 * lasts, False)):
        served = guard.limited(reader(), ServeSettings(seconds=longest))
        found = served.decode_all([content])[0]
        assert isinstance(found, BadCell) == refused
        assert not refused or "seconds, more than" in str(found)
    assert len(reader().decode(content)["frames"]) == 7


def test_huge_frames_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    content = bytearray(film(scene(2), "mjpeg", "avi", "yuvj420p"))
    monkeypatch.setattr(av.VideoFrame, "to_image", lambda frame: pytest.fail("a frame of it was looked at"))
    at = content.index(b"\xff\xc0") + 5
    while at > 4:  # every picture says that it has 60,000 x 60,000 pixels
        content[at : at + 4] = b"\xea\x60\xea\x60"
        at = content.find(b"\xff\xc0", at) + 5
    with pytest.raises(BadCell):
        reader().decode(bytes(content))


@settings(deadline=None, max_examples=80)
@given(
    which=st.sampled_from(["mp4", "matroska", "avi", "mpegts", "GIF", "PNG", "WEBP"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=12),
    keep=st.floats(0.05, 1),
)
def test_damage_ends_in_a_clip_or_a_bad_cell(which: str, changes: list[tuple[float, int]], keep: float) -> None:
    frames = scene(8)
    data = bytearray(animation(frames, which) if which.isupper() else film(frames, form=which, g="4"))
    data = data[: max(1, int(len(data) * keep))]
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    outcomes = []
    for _ in range(2):
        try:
            outcomes.append(VideoReader(frames=3, size=8, max_pixels=10**6).decode(bytes(data))["frames"].tobytes())
        except BadCell as error:
            outcomes.append(error.reason)
    assert outcomes[0]
    assert outcomes[0] == outcomes[1]


def test_without_the_library_it_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"polymodal\[video\]"):
        reader().decode(SMALL)
    assert len(reader().decode(animation(scene(3), "GIF"))["frames"]) == 3, "animations do without"


def test_a_broken_file_says_nothing_by_itself(tmp_path: Path) -> None:
    """FFmpeg writes to standard error past Python; what it says belongs into the ledger."""
    (tmp_path / "cut.mp4").write_bytes(index_first(SMALL)[:-200])
    program = (
        "import pathlib, sys\nfrom polymodal.core.errors import BadCell\n"
        "from polymodal.modalities.video.read import VideoReader\n"
        "try:\n    VideoReader().decode(pathlib.Path(sys.argv[1]).read_bytes())\nexcept BadCell:\n    pass\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "cut.mp4")], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
