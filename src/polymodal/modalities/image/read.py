"""A cell with a picture -> pixels, uint8 [C, H, W]."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Gt, Le, MaxLen, MinLen
from jaxtyping import UInt64
from PIL import Image

from polymodal.core.contracts import Field, Sample
from polymodal.core.errors import BadCell, SpecError
from polymodal.core.schema import Json, Positive, check_settings
from polymodal.core.seeds import Rng
from polymodal.core.traits import Traits, numbers
from polymodal.modalities.damage import MOST_PIXELS
from polymodal.modalities.image.augment import Augment, augment, resize
from polymodal.modalities.image.corrupt import noisy
from polymodal.modalities.image.depth import Span
from polymodal.modalities.image.fingerprint import light_and_colour
from polymodal.modalities.image.pictures import Denoise, Resize, decode, open_picture, thumbnail
from polymodal.modalities.image.traits import seen

FITTED_CELLS = 1000
THUMBNAIL = 160
KNOWN = {
    ("imagenet", 3): ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ("imagenet", 1): ((0.449,), (0.226,)),  # the means of the three
    ("half", 3): ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ("half", 1): ((0.5,), (0.5,)),
    ("none", 3): ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    ("none", 1): ((0.0,), (1.0,)),
}


class ImageReader:
    """Reads the bytes of a file, a PIL picture or an array ([H, W] or [H, W, C]) of 8, 16 or more bits or floats.

    `range` says which stored values become 0 to 255: `full`, `minmax` or `[low, high]`, see `depth.to_bytes`.

    The sample is {"pixels": uint8 [C, H, W]}; the field {"size": [h, w], "channels", "mean", "std"}, mean and standard
    deviation per channel in shares of the full range. Encoders normalise with it (`pixels.Pixels`).
    """

    files: ClassVar[bool] = True
    record: ClassVar[bool] = False
    ragged: ClassVar[frozenset[str]] = frozenset()
    stack_axis: ClassVar[dict[str, int]] = {"pixels": 0}
    alike: ClassVar[int] = 16  # bits in which fingerprints of nearly the same pictures differ
    incidental: ClassVar[frozenset[str]] = frozenset({"augment", "max_pixels"})

    def __init__(
        self,
        *,
        size: Positive | Annotated[list[Positive], MinLen(2), MaxLen(2)] = 64,
        channels: Literal[1, 3] = 3,
        resize: Resize = "squash",
        range: Literal["full", "minmax"] | Annotated[list[float], MinLen(2), MaxLen(2)] = "full",
        normalize: Literal["dataset", "imagenet", "half", "none"] | dict[str, list[float]] = "dataset",
        denoise: Denoise = "none",
        max_pixels: Annotated[int, Gt(0), Le(MOST_PIXELS)] = MOST_PIXELS,
        augment: dict[str, Json] | None = None,
    ) -> None:
        self.size: tuple[int, int] = (size, size) if isinstance(size, int) else (size[0], size[1])
        self.channels, self.resize, self.normalize, self.denoise = channels, resize, normalize, denoise
        self.max_pixels = max_pixels
        self.span: Span = range if isinstance(range, str) else (range[0], range[1])
        if not isinstance(range, str) and not range[0] < range[1]:
            raise SpecError("range", "the first number must be below the second", given=range, advice="[0, 4095]")
        self.augment = Augment(**check_settings(Augment, augment or {}, "augment"))
        room = self.augment.room
        self.decoded_size = (round(self.size[0] * room), round(self.size[1] * room))
        self.field: Field | None = None
        if not isinstance(normalize, str):
            _check_statistics(normalize, channels)

    @property
    def augments(self) -> bool:
        return self.augment.any

    def fit(self, cells: Iterable[object]) -> Field:
        """Mean and deviation of the first 1,000 cells when `normalize` is `dataset`, otherwise the known ones."""
        if isinstance(self.normalize, str):
            known = KNOWN.get((self.normalize, self.channels))
            mean, std = known or self._statistics(islice(cells, FITTED_CELLS))
        else:
            mean, std = tuple(self.normalize["mean"]), tuple(self.normalize["std"])
        self.field = {"size": list(self.size), "channels": self.channels, "mean": list(mean), "std": list(std)}
        return self.field

    def _statistics(self, cells: Iterable[object]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        total, squares, count = np.zeros(self.channels), np.zeros(self.channels), 0
        for cell in cells:
            try:
                pixels = self.decode(cell)["pixels"].reshape(self.channels, -1) / 255
            except BadCell:
                continue
            total, squares, count = total + pixels.sum(1), squares + (pixels**2).sum(1), count + pixels.shape[1]
        if not count:
            return KNOWN["half", self.channels]
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, (1 / 255) ** 2))  # pictures of one colour have no deviation
        return tuple(mean.round(6).tolist()), tuple(std.round(6).tolist())

    def cost(self, cell: object) -> int:
        """Every picture costs the same: all have one size."""
        return 1

    def decode(self, cell: object) -> Sample:
        """The picture upright, resized, in one or three channels. Raises BadCell."""
        picture = decode(cell, self.decoded_size, self.channels, self.resize, self.max_pixels, self.denoise,
                         self.span)  # fmt: skip
        return {"pixels": _pixels(picture)}

    def finish(self, sample: Sample, rng: Rng | None) -> Sample:
        """The decoded picture augmented, or as it is, at the final size."""
        if rng is not None and self.augments:
            picture = augment(_picture(sample), self.augment, self.size, self._fill(), rng)
        elif self.decoded_size != self.size:
            picture = resize(_picture(sample), self.size)
        else:
            return sample
        return {"pixels": _pixels(picture)}

    def _fill(self) -> tuple[int, ...]:
        """The colour that becomes zero when normalised."""
        mean = self.field["mean"] if self.field else [0.0] * self.channels
        return tuple(min(255, max(0, round(255 * m))) for m in mean)

    def blank(self) -> Sample:
        """A picture of the mean colour."""
        pixels = np.empty((self.channels, *self.size), np.uint8)
        pixels[:] = np.array(self._fill(), np.uint8)[:, None, None]
        return {"pixels": pixels}

    @staticmethod
    def stacked(readers: Sequence[ImageReader]) -> Field:
        """The field of pictures joined channel by channel. Raises SpecError where size or augmentation differ."""
        for name, what in (("size", "one size"), ("augment", "one augmentation, or they would no longer fit")):
            given = [getattr(r, name) for r in readers]
            if any(one != given[0] for one in given):
                raise SpecError(name, f"pictures that are joined need {what}", given=[str(one) for one in given],
                                advice="say it of the stack")  # fmt: skip
        fields = [r.field or {} for r in readers]
        joined = {k: [value for field in fields for value in field[k]] for k in ("mean", "std")}
        return {"size": fields[0]["size"], "channels": sum(f["channels"] for f in fields), **joined}

    def show(self, cell: object) -> Json:
        """A thumbnail as base64 of a JPEG, at most 160 pixels wide or high."""
        small = thumbnail(cell, THUMBNAIL, self.max_pixels, self.span)
        return {"kind": "image", "data": base64.b64encode(small).decode()}

    def fingerprints(self, cells: Sequence[object], samples: Sequence[Sample]) -> UInt64[np.ndarray, "n words"]:
        """See `fingerprint.light_and_colour`."""
        return light_and_colour(np.stack([sample["pixels"] for sample in samples]))

    def traits(self, cells: Sequence[object], samples: Sequence[Sample]) -> Traits:
        """See `traits.seen`; besides `width` and `height` of the picture as it is stored."""
        sizes = [open_picture(cell, self.max_pixels, self.span).size for cell in cells]
        measured = {n: numbers((s[at] for s in sizes), "pixels") for at, n in enumerate(("width", "height"))}
        return {**seen([sample["pixels"] for sample in samples]), **measured}

    def corrupt(self, data: dict[str, np.ndarray], level: float, rng: Rng) -> dict[str, np.ndarray]:
        """See `corrupt.noisy`."""
        return data if level <= 0 else data | {"pixels": noisy(data["pixels"], level, rng, self.field or {})}

    def __call__(self, cell: object, rng: Rng | None = None) -> Sample:
        return self.finish(self.decode(cell), rng)


def _pixels(picture: Image.Image) -> np.ndarray:
    array = np.asarray(picture)
    return np.array(array.transpose(2, 0, 1) if array.ndim == 3 else array[None], order="C")


def _picture(sample: Sample) -> Image.Image:
    pixels = sample["pixels"]
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _check_statistics(given: dict[str, list[float]], channels: int) -> None:
    right = set(given) == {"mean", "std"} and all(len(v) == channels for v in given.values())
    if not right or min(given["std"]) <= 0:
        advice = "{mean: [...], std: [...]}, one number above 0 in std for each channel, in shares of the full range"
        raise SpecError("normalize", f"needs mean and std of {channels} channel(s)", given=given, advice=advice)
