"""Series: files, arrays, lists and text -> channels over time."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import UInt64

from polymodal.core.contracts import Archive, Field, Sample
from polymodal.core.errors import BadCell, SpecError
from polymodal.core.fingerprints import exact
from polymodal.core.schema import Chance, Json, Natural, Positive, Rate, Share
from polymodal.core.seeds import Rng
from polymodal.core.traits import Traits
from polymodal.modalities.moments import Moments
from polymodal.modalities.series import draw, grid
from polymodal.modalities.series.augment import Vary
from polymodal.modalities.series.cell import Series, read_series
from polymodal.modalities.series.corrupt import noisy
from polymodal.modalities.series.fingerprint import sides
from polymodal.modalities.series.tally import Layout, Tally, steady
from polymodal.modalities.series.traits import told

FIT_CELLS = 1000
FARTHEST = 1e6  # deviations from the mean; beyond it float32 would overflow on the way

FromZero = Annotated[float, Ge(0.0), Le(100.0)]


class SeriesReader:
    """A series -> {"values": float32 [T, M]}: C channels, then what is missing in them, then the gaps in time.

    A cell is a delimited text file or a .npy file, an array or nested lists [time] or [time, columns], a dict of
    lists, with `form: inline` also numbers in a text, or with `array` the number of an item in an archive; see
    `cell.read_series`. What is missing (empty, NaN) is filled after normalising; with `indicate` each channel has one
    more that is 1 where it was. With `time`, steps are put in order; with `every` too they are brought to a regular
    grid, see `grid.resampled`; without it a last column holds ln(1 + time since the step before / mean in training).
    See `Vary` for augmentation. Raises BadCell for a cell without values, or with other channels than in training.
    """

    files: bool = True
    record: ClassVar[bool] = False
    ragged: ClassVar[frozenset[str]] = frozenset({"values"})
    stack_axis: ClassVar[dict[str, int]] = {"values": 1}
    alike: ClassVar[int] = 6  # bits in which fingerprints of nearly the same series differ: a tenth of a deviation
    incidental: ClassVar[frozenset[str]] = frozenset(
        {"crop", "scale", "jitter", "time_masks", "time_width", "time_share", "array", "key", "offsets"}
    )

    def __init__(
        self,
        *,
        form: Literal["file", "inline"] = "file",
        channels: tuple[int | str, ...] | None = None,
        time: int | str | None = None,
        every: Rate | None = None,
        max_steps: Positive = 2048,
        keep: Literal["first", "last"] = "first",
        diff: bool = False,
        normalize: Literal["dataset", "cell", "none"] = "dataset",
        fill: Literal["last", "mean"] = "last",
        indicate: bool | None = None,
        crop: Chance = 0.0,
        scale: FromZero = 0.0,
        jitter: FromZero = 0.0,
        time_masks: Natural = 0,
        time_width: Positive = 10,
        time_share: Share = 0.2,
        array: str | None = None,
        key: str | None = None,
        offsets: str | None = None,
    ) -> None:
        self.files = form == "file"
        self.channels, self.time, self.every, self.diff = channels, time, every, diff
        self.max_steps, self.last = max_steps, keep == "last"
        self.normalize, self.fill, self.indicate = normalize, fill, indicate
        self.vary = Vary(crop, scale, jitter, time_masks, time_width, time_share)
        self.archive = None if array is None else Archive(array, key, offsets)
        self.field: Field | None = None
        for name, value in (("key", key), ("offsets", offsets)):
            if array is None and value is not None:
                raise SpecError(name, "names something in an array file", given=value, advice="array: series.npz")
        if channels is not None and (not channels or len(set(channels)) < len(channels) or time in channels):
            raise SpecError("channels", "must be different columns, without that of the time", given=list(channels))

    @property
    def augments(self) -> bool:
        return bool(self.vary)

    @property
    def gaps(self) -> bool:
        """Whether a column holds the time since the step before."""
        return self.time is not None and self.every is None

    def fit(self, cells: Iterable[object]) -> Field:
        """The channels that most of the first 1,000 readable cells have, and over their steps mean and deviation.

        Also the mean time between steps, whether any value was missing, and M as "features".
        """
        self.field = None
        tallies: dict[Layout, Tally] = {}
        for series in islice(self._readable(cells), FIT_CELLS):
            tally = tallies.setdefault(Tally.key(series), Tally(series))
            tally.add(series)
        best = max(tallies.values(), key=lambda t: t.cells, default=Tally.empty(len(self.channels or (0,))))
        indicate = best.missing if self.indicate is None else self.indicate
        count = len(best.moments.mean)
        self.field = {
            "channels": count,
            "names": None if best.names is None or self.channels is not None else list(best.names),
            "mean": best.moments.mean.tolist(),
            "std": steady(best.moments).tolist(),
            "gap": best.gap if self.gaps else None,
            "indicate": indicate,
            "features": count * (2 if indicate else 1) + self.gaps,
        }
        return self.field

    def _readable(self, cells: Iterable[object]) -> Iterable[Series]:
        for cell in cells:
            try:
                yield self._series(cell)
            except BadCell:
                continue

    def cost(self, cell: object) -> int:
        """Bytes of the file or of the array, characters of the text, steps of the list."""
        if isinstance(cell, Path):
            return cell.stat().st_size if cell.is_file() else 0
        if isinstance(cell, np.ndarray):
            return cell.nbytes
        return len(cell) if isinstance(cell, bytes | str | list | tuple) else 0

    def decode(self, cell: object) -> Sample:
        """Values as they are, NaN where missing, and times where they are of use, in float64."""
        series = self._series(cell)
        return {"values": series.values} | ({} if series.time is None else {"time": series.time})

    def finish(self, sample: Sample, rng: Rng | None) -> Sample:
        values, time, field = sample["values"], sample.get("time"), self._fitted()
        window = slice(0, len(values)) if rng is None else self.vary.window(len(values), rng)
        values, time = values[window], None if time is None else time[window]
        mean, deviation = np.asarray(field["mean"]), np.asarray(field["std"])
        if self.normalize == "cell":
            own = Moments(values.shape[1])
            own.add(values)
            mean, deviation = own.mean, steady(own)
        if self.normalize != "none":
            values = np.clip((values - mean) / deviation, -FARTHEST, FARTHEST)
            mean, deviation = np.zeros_like(mean), np.ones_like(mean)
        if rng is not None and self.vary:
            values = self.vary(values, deviation, rng)
        columns = [grid.filled(values, self.fill == "last", mean)]
        if field["indicate"]:
            columns.append(np.isnan(values).astype(np.float64))
        if time is not None:
            columns.append(np.log1p(np.diff(time, prepend=time[:1]) / field["gap"])[:, None])
        return {"values": np.concatenate(columns, 1).astype(np.float32)}

    def __call__(self, cell: object, rng: Rng | None = None) -> Sample:
        return self.finish(self.decode(cell), rng)

    def blank(self) -> Sample:
        return {"values": np.zeros((1, self._fitted()["features"]), np.float32)}

    @staticmethod
    def stacked(readers: Sequence[SeriesReader]) -> Field:
        """The field of series joined channel by channel. Raises SpecError where their steps do not lie side by side."""
        if any(r.gaps or r.every != readers[0].every for r in readers):
            raise SpecError("every", "series that are joined need steps of one length",
                            given=[r.every for r in readers], advice="every: 1.0, said of the stack")  # fmt: skip
        if any(r.vary != readers[0].vary for r in readers):
            raise SpecError("crop", "series that are joined need one augmentation, or they would no longer fit",
                            advice="say it of the stack")  # fmt: skip
        return {"features": sum(r._fitted()["features"] for r in readers)}

    def fingerprints(self, cells: Sequence[object], samples: Sequence[Sample]) -> UInt64[np.ndarray, "n words"]:
        """See `fingerprint.sides`; before fitting, digests."""
        if self.field is None:
            return np.stack([exact(s["values"].tobytes()) for s in samples])
        mean, std = (np.asarray(self.field[k]) for k in ("mean", "std"))
        return np.stack([sides(s["values"], mean, std) for s in samples])

    def traits(self, cells: Sequence[object], samples: Sequence[Sample]) -> Traits:
        """See `traits.told`."""
        return told([s["values"] for s in samples], self.channels or self._fitted()["names"])

    def corrupt(self, data: dict[str, np.ndarray], level: float, rng: Rng) -> dict[str, np.ndarray]:
        """See `corrupt.noisy`; what says that values are missing, and the times, stay."""
        if level <= 0:
            return data
        field, plain = self._fitted(), self.normalize == "none"
        count = field["channels"]
        mean, std = (np.asarray(field[k]) if plain else np.full(count, x) for k, x in (("mean", 0.0), ("std", 1.0)))
        found = noisy(data["values"][..., :count], data["values_mask"], level, rng, mean, std)
        return data | {"values": np.concatenate([found, data["values"][..., count:]], 2)}

    def show(self, cell: object) -> Json:
        """The channels as lines: a PNG in base64."""
        return {"kind": "image", "data": base64.b64encode(draw.lines(self._series(cell).values)).decode("ascii")}

    def _fitted(self) -> Field:
        assert self.field is not None, "fit the reader first"
        return self.field

    def _series(self, cell: object) -> Series:
        """The chosen channels in the order of time, resampled and cut; times only where they are of use later."""
        field = self.field or {}
        series = read_series(cell, self.channels, self.time, field.get("names"))
        known = field.get("channels")
        values, time = series.values, series.time
        if known not in (None, values.shape[1]):
            raise BadCell(f"{values.shape[1]} channels; those of training have {known}")
        if time is not None:
            values, time = grid.ordered(values, time)
        if self.every is not None:
            steps = np.arange(float(len(values))) if time is None else time
            values, time = grid.resampled(values, steps, self.every, self.max_steps, self.last), None
        some = grid.cut(len(values), self.max_steps, self.last)
        values, time = values[some], None if time is None else time[some]
        if self.diff:
            values = np.diff(values, axis=0, prepend=values[:1])
        return Series(series.names, np.ascontiguousarray(values), time)
