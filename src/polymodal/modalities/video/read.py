"""A cell with a clip -> frames, uint8 [T, C, H, W]."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from jaxtyping import UInt64
from PIL import Image

from polymodal.core import catalog
from polymodal.core.contracts import Archive, Field, Sample
from polymodal.core.errors import BadCell, SpecError
from polymodal.core.schema import Json, Positive, Rate, Share
from polymodal.core.seeds import Rng, generator
from polymodal.core.traits import Traits
from polymodal.modalities.damage import MOST_PIXELS
from polymodal.modalities.video.augment import Vary
from polymodal.modalities.video.clip import choose
from polymodal.modalities.video.fingerprint import mean_picture, motion
from polymodal.modalities.video.frames import opened
from polymodal.modalities.video.traits import moved

FITTED_FRAMES = 4  # of each clip
SHOWN, ACROSS, SIDE = 8, 4, 120  # frames on a contact sheet, in a row of it, and their longer side in pixels
MOST_FRAMES = 1_000_000


class VideoReader:
    """Reads a video file, an animation, the pictures of a folder, an array or a list of pictures; see `frames.opened`.

    At most `frames` frames, evenly over the clip's time or `fps` to the second, are decoded; each is read as a picture
    by the reader of pictures, whose settings have the same names here and whose changes fall on all frames of a clip
    alike. `array`, `key` and `offsets` name an archive, see `contracts.Archive`.

    The sample is {"frames": uint8 [T, C, H, W]}, T <= `frames`; the field that of pictures, and "frames".
    """

    files: ClassVar[bool] = True
    folders: ClassVar[bool] = True
    record: ClassVar[bool] = False
    ragged: ClassVar[frozenset[str]] = frozenset({"frames"})
    stack_axis: ClassVar[dict[str, int]] = {"frames": 1}
    alike: ClassVar[int] = 24  # bits in which fingerprints of nearly the same clips differ
    incidental: ClassVar[frozenset[str]] = frozenset(
        {"augment", "jitter", "trim", "reverse", "max_pixels", "max_frames", "array", "key", "offsets"}
    )

    def __init__(
        self,
        *,
        frames: Annotated[int, Gt(0), Le(4096)] = 16,
        fps: Rate | None = None,
        size: Positive | Annotated[list[Positive], MinLen(2), MaxLen(2)] = 64,
        channels: Literal[1, 3] = 3,
        resize: Literal["squash", "crop", "pad"] = "squash",
        range: Literal["full"] | Annotated[list[float], MinLen(2), MaxLen(2)] = "full",
        normalize: Literal["dataset", "imagenet", "half", "none"] | dict[str, list[float]] = "dataset",
        denoise: Literal["none", "median", "gaussian"] = "none",
        max_pixels: Annotated[int, Gt(0), Le(MOST_PIXELS)] = MOST_PIXELS,
        max_frames: Annotated[int, Gt(0), Le(MOST_FRAMES)] = 100_000,
        jitter: bool = False,
        trim: Annotated[float, Ge(0.0), Le(0.9)] = 0.0,
        reverse: Share = 0.0,
        augment: dict[str, Json] | None = None,
        array: str | None = None,
        key: str | None = None,
        offsets: str | None = None,
    ) -> None:
        pictures: Any = catalog.load("reader", "image", "type")
        self.picture = pictures(
            size=size, channels=channels, resize=resize, range=range, normalize=normalize, denoise=denoise,
            max_pixels=max_pixels, augment=augment,
        )  # fmt: skip
        self.frames, self.fps, self.max_frames, self.max_pixels = frames, fps, max_frames, max_pixels
        self.longest = math.inf  # seconds; a server sets it
        self.vary = Vary(jitter=jitter, trim=trim, reverse=reverse)
        self.archive = None if array is None else Archive(array, key, offsets)
        for name, value in (("key", key), ("offsets", offsets)):
            if array is None and value is not None:
                raise SpecError(name, "names something in an array file", given=value, advice="array: clips.npz")

    @property
    def field(self) -> Field | None:
        return self.picture.field

    @field.setter
    def field(self, field: Field | None) -> None:
        self.picture.field = field

    @property
    def augments(self) -> bool:
        return self.vary.any or self.picture.augments

    def fit(self, cells: Iterable[object]) -> Field:
        """As of pictures, from four frames each of the first clips: 1,000 frames altogether."""
        self.field = {**self.picture.fit(self._some(cells)), "frames": self.frames}
        return self.field

    def _some(self, cells: Iterable[object]) -> Iterator[Any]:
        for cell in cells:
            try:
                with opened(cell, self.max_frames, self.max_pixels, self.longest) as clip:
                    yield from clip.take(np.unique(choose(clip, FITTED_FRAMES)))
            except BadCell:
                continue

    def cost(self, cell: object) -> int:
        """How many frames come of it, as far as it is known without opening a file."""
        return min(self.frames, len(cell)) if isinstance(cell, np.ndarray | list | tuple) else self.frames

    def decode(self, cell: object) -> Sample:
        """The frames, resized; three times as many as are used when `jitter` or `trim` choose. Raises BadCell."""
        room = self.vary.room
        with opened(cell, self.max_frames, self.max_pixels, self.longest) as clip:
            wanted = choose(clip, self.frames * room, None if self.fps is None else self.fps * room)
            numbers, places = np.unique(wanted, return_inverse=True)
            pixels = [self._read(p, int(n)) for n, p in zip(numbers, clip.take(numbers), strict=True)]
        return {"frames": np.stack(pixels)[places]}

    def _read(self, picture: Any, number: int) -> np.ndarray:
        try:
            return self.picture.decode(picture)["pixels"]
        except BadCell as error:
            raise BadCell(f"frame {number}: {error.reason}") from None

    def finish(self, sample: Sample, rng: Rng | None) -> Sample:
        """The frames that are used, each changed as a picture is, and all of a clip alike."""
        frames = sample["frames"]
        if rng is not None or len(frames) > self.frames:
            frames = frames[self.vary(len(frames), self.frames, rng)]
        if not self.picture.augments:
            return {"frames": frames}
        seed = None if rng is None else int(rng.integers(1 << 62))
        rngs = (None if seed is None else generator("frame", seed) for _ in frames)
        changed = [self.picture.finish({"pixels": f}, r)["pixels"] for f, r in zip(frames, rngs, strict=True)]
        return {"frames": np.stack(changed)}

    def __call__(self, cell: object, rng: Rng | None = None) -> Sample:
        return self.finish(self.decode(cell), rng)

    def blank(self) -> Sample:
        """One frame of the mean colour."""
        return {"frames": self.picture.blank()["pixels"][None]}

    @staticmethod
    def stacked(readers: Sequence[VideoReader]) -> Field:
        """The field of clips joined channel by channel, as of pictures. Raises SpecError where they do not fit."""
        for name in ("frames", "fps", "vary"):
            given = [getattr(r, name) for r in readers]
            if any(one != given[0] for one in given):
                place = "jitter" if name == "vary" else name
                raise SpecError(place, "clips that are joined need the same frames", given=[str(g) for g in given],
                                advice="say it of the stack")  # fmt: skip
        one = readers[0]
        return {**one.picture.stacked([r.picture for r in readers]), "frames": one.frames}

    def corrupt(self, data: dict[str, np.ndarray], level: float, rng: Rng) -> dict[str, np.ndarray]:
        """Every frame with the noise of pictures; padding stays zero."""
        frames, mask = data["frames"], data["frames_mask"]
        noisy = self.picture.corrupt({"pixels": frames.reshape(-1, *frames.shape[2:])}, level, rng)["pixels"]
        return {**data, "frames": noisy.reshape(frames.shape) * mask[:, :, None, None, None]}

    def fingerprints(self, cells: Sequence[object], samples: Sequence[Sample]) -> UInt64[np.ndarray, "n words"]:
        """The words of the mean picture, then those of what moves: `fingerprint.motion`."""
        means = [{"pixels": mean_picture(sample["frames"])} for sample in samples]
        moves = np.stack([motion(sample["frames"]) for sample in samples])
        return np.concatenate([self.picture.fingerprints(cells, means), moves], axis=1)

    def traits(self, cells: Sequence[object], samples: Sequence[Sample]) -> Traits:
        """Those of the mean picture, and `traits.moved`."""
        clips = [sample["frames"] for sample in samples]
        means = [mean_picture(clip) for clip in clips]
        found = self.picture.traits([mean.transpose(1, 2, 0) for mean in means], [{"pixels": mean} for mean in means])
        return {n: trait for n, trait in found.items() if n not in ("width", "height")} | moved(clips)

    def show(self, cell: object) -> Json:
        """Up to eight frames, evenly over time, on one sheet: base64 of a JPEG."""
        with opened(cell, self.max_frames, self.max_pixels, self.longest) as clip:
            shown = [self.picture.show(p)["data"] for p in clip.take(np.unique(choose(clip, SHOWN)))]
        frames = [Image.open(BytesIO(base64.b64decode(data))) for data in shown]
        return {"kind": "image", "data": base64.b64encode(_sheet(frames)).decode()}


def _sheet(frames: Sequence[Image.Image]) -> bytes:
    """Pictures side by side, in rows of four, as a JPEG."""
    for frame in frames:
        frame.thumbnail((SIDE, SIDE))
    wide, high = max(f.width for f in frames), max(f.height for f in frames)
    rows = -(-len(frames) // ACROSS)
    sheet = Image.new("RGB", (wide * min(len(frames), ACROSS), high * rows))
    for at, frame in enumerate(frames):
        sheet.paste(frame, (at % ACROSS * wide, at // ACROSS * high))
    file = BytesIO()
    sheet.save(file, "JPEG", quality=85)
    return file.getvalue()
