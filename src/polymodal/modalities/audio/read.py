"""Sounds: a file or an array -> log-mel bands or MFCCs over time."""

from __future__ import annotations

import base64
import io
import wave as wav
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import UInt64

from polymodal.core.contracts import Field, Sample
from polymodal.core.errors import BadCell, SpecError
from polymodal.core.schema import Json, Natural, Positive, Rate, Share
from polymodal.core.seeds import Rng
from polymodal.core.traits import Traits
from polymodal.modalities.audio.augment import SpecAugment, Vary
from polymodal.modalities.audio.corrupt import noisy
from polymodal.modalities.audio.features import Features
from polymodal.modalities.audio.fingerprint import spectral_signs
from polymodal.modalities.audio.traits import heard
from polymodal.modalities.audio.wave import Wave, read_wave, resample
from polymodal.modalities.moments import Moments

FIT_CELLS = 1000
SHOWN_SECONDS = 5.0
STILL = 1e-3  # deviation below which a band counts as constant; that of speech is 1 to 4

FromZero = Annotated[float, Ge(0.0)]
Decibels = Annotated[float, Ge(0.0), Le(60.0)]
Half = Annotated[float, Ge(0.0), Le(0.5)]


class AudioReader:
    """A sound -> {"mel": float32 [T, M]}: M log-mel bands, or MFCCs, every `hop` ms.

    A cell is the bytes of a WAV, FLAC, OGG or MP3 file (soundfile), a pair (rate, samples) or float samples at `rate`,
    [time] or [time, channels]. Channels are averaged, the sound resampled to `rate` (soxr) and cut at `max_seconds`.
    See `Features` for the computation, `Vary` and `SpecAugment` for augmentation. Raises BadCell for a cell without
    samples, truncated, shorter than `min_seconds`, with samples that are not finite, or that is no sound.
    """

    files: ClassVar[bool] = True
    record: ClassVar[bool] = False
    ragged: ClassVar[frozenset[str]] = frozenset({"mel"})
    stack_axis: ClassVar[dict[str, int]] = {"mel": 1}
    alike: ClassVar[int] = 16  # bits in which fingerprints of nearly the same sounds differ
    incidental: ClassVar[frozenset[str]] = frozenset(
        {"speed", "shift", "gain", "noise", "freq_masks", "freq_width", "time_masks", "time_width", "time_share"}
    )

    def __init__(
        self,
        *,
        rate: Positive = 16000,
        features: Literal["logmel", "mfcc"] = "logmel",
        mels: Positive = 64,
        mfccs: Positive = 20,
        window: Rate = 25.0,
        hop: Rate = 10.0,
        n_fft: Positive | None = None,
        fmin: FromZero = 20.0,
        fmax: Rate | None = None,
        top_db: Rate | None = None,
        deltas: Literal[0, 1, 2] = 0,
        min_seconds: FromZero = 0.0,
        max_seconds: Rate = 30.0,
        normalize: Literal["dataset", "cell", "none"] = "dataset",
        speed: Half = 0.0,
        shift: Share = 0.0,
        gain: Decibels = 0.0,
        noise: Decibels | None = None,
        freq_masks: Natural = 0,
        freq_width: Positive = 8,
        time_masks: Natural = 0,
        time_width: Positive = 25,
        time_share: Share = 0.2,
    ) -> None:
        self.rate, self.min_seconds, self.max_seconds, self.normalize = rate, min_seconds, max_seconds, normalize
        span, step = round(rate * window / 1000), round(rate * hop / 1000)
        points = n_fft or 1 << max(1, span - 1).bit_length()
        top = rate / 2 if fmax is None else fmax
        if span < 2 or step < 1:
            name, given = ("window", window) if span < 2 else ("hop", hop)
            raise SpecError(name, f"is no sample long at {rate} Hz", given=given, advice="25.0 ms, 10.0 ms")
        if points < span:
            raise SpecError("n_fft", f"is less than the window of {span} samples", given=n_fft, advice="leave it out")
        if not fmin < top <= rate / 2:
            raise SpecError("fmax", f"must lie above fmin and at most at half the rate, {rate / 2:g}", given=top)
        if features == "mfcc" and mfccs > mels:
            raise SpecError("mfccs", f"must not be more than mels, {mels}", given=mfccs)
        self.features = Features(rate=rate, mels=mels, window=span, hop=step, n_fft=points, fmin=fmin, fmax=top,
                                 mfccs=mfccs if features == "mfcc" else None, top_db=top_db, deltas=deltas)  # fmt: skip
        self.vary = Vary(speed=speed, shift=shift, gain=gain, noise=noise)
        self.mask = SpecAugment(freq_masks, freq_width, time_masks, time_width, time_share)
        self.field: Field | None = None

    @property
    def augments(self) -> bool:
        return bool(self.vary or self.mask)

    def fit(self, cells: Iterable[object]) -> Field:
        """{"bands": M}, `hop` and `window` in seconds, mean and deviation of each band over the frames of the first
        1,000 readable cells."""
        self.field = {"bands": self.features.bands, "hop": self.features.hop / self.rate,
                      "window": self.features.window / self.rate}  # fmt: skip
        if self.normalize == "dataset":
            mean, deviation = _moments(islice(self._readable(cells), FIT_CELLS), self.features.bands)
            self.field |= {"mean": mean.tolist(), "std": deviation.tolist()}
        return self.field

    def _readable(self, cells: Iterable[object]) -> Iterable[np.ndarray]:
        for cell in cells:
            try:
                yield self.features(self._wave(cell))
            except BadCell:
                continue

    def cost(self, cell: object) -> int:
        """Bytes of the file or of the array."""
        if isinstance(cell, str | Path):
            path = Path(cell)
            return path.stat().st_size if path.is_file() else 0
        cell = cell[1] if isinstance(cell, tuple) and len(cell) == 2 else cell
        return cell.nbytes if isinstance(cell, np.ndarray) else len(cell) if isinstance(cell, bytes) else 0

    def decode(self, cell: object) -> Sample:
        """The features, not yet normalised; the waveform instead, when it is to be augmented."""
        wave = self._wave(cell)
        return {"wave": wave} if self.vary else {"mel": self.features(wave)}

    def finish(self, sample: Sample, rng: Rng | None) -> Sample:
        mel = self._normalized(sample["mel"] if "mel" in sample else self._varied(sample["wave"], rng))
        return {"mel": self.mask(mel, rng) if rng is not None and self.mask else mel}

    def __call__(self, cell: object, rng: Rng | None = None) -> Sample:
        return self.finish(self.decode(cell), rng)

    def blank(self) -> Sample:
        return {"mel": np.zeros((1, self.features.bands), np.float32)}

    @staticmethod
    def stacked(readers: Sequence[AudioReader]) -> Field:
        """The field of sounds joined band by band. Raises SpecError where their frames do not lie side by side."""
        frames = [r.features.hop / r.rate for r in readers]
        if any(abs(one - frames[0]) > 1e-9 for one in frames):
            raise SpecError("hop", "sounds that are joined need frames of one length", given=frames)
        if any((r.vary, r.mask) != (readers[0].vary, readers[0].mask) for r in readers):
            raise SpecError("speed", "sounds that are joined need one augmentation, or they would no longer fit",
                            advice="say it of the stack")  # fmt: skip
        return {"bands": sum((r.field or {})["bands"] for r in readers)}

    def fingerprints(self, cells: Sequence[object], samples: Sequence[Sample]) -> UInt64[np.ndarray, "n words"]:
        """See `fingerprint.spectral_signs`."""
        found = (s["mel"] if "mel" in s else self.features(s["wave"]) for s in samples)
        return np.stack([spectral_signs(self.features.bands_of(bands)) for bands in found])

    def traits(self, cells: Sequence[object], samples: Sequence[Sample]) -> Traits:
        """See `traits.heard`."""
        found = (s["mel"] if "mel" in s else self.features(s["wave"]) for s in samples)
        return heard([self.features.bands_of(bands) for bands in found], self.features.hop / self.rate)

    def corrupt(self, data: dict[str, np.ndarray], level: float, rng: Rng) -> dict[str, np.ndarray]:
        """See `corrupt.noisy`."""
        if level <= 0:
            return data
        return data | {"mel": noisy(data["mel"], data["mel_mask"], level, rng, self.normalize != "none")}

    def show(self, cell: object) -> Json:
        """The first 5 seconds as a WAV file, mono, 16 bit, at 8 or 16 kHz, in base64."""
        rate = 16000 if self.rate >= 16000 else 8000
        wave = resample(self._wave(cell)[: round(SHOWN_SECONDS * self.rate)], self.rate, rate)
        memory = io.BytesIO()
        with wav.open(memory, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes(np.rint(wave.clip(-1.0, 1.0) * 32767.0).astype("<i2").tobytes())
        return {"kind": "audio", "data": base64.b64encode(memory.getvalue()).decode("ascii")}

    def _wave(self, cell: object) -> Wave:
        wave = read_wave(cell, self.rate, self.max_seconds)
        if len(wave) < self.min_seconds * self.rate:
            raise BadCell(f"{len(wave) / self.rate:.3f} s long, shorter than min_seconds, {self.min_seconds:g}")
        return wave

    def _varied(self, wave: Wave, rng: Rng | None) -> np.ndarray:
        wave = self.vary(wave, rng) if rng is not None else wave
        return self.features(wave[: max(1, round(self.max_seconds * self.rate))])

    def _normalized(self, mel: np.ndarray) -> np.ndarray:
        if self.normalize == "none":
            return mel
        if self.normalize == "cell":
            mean, deviation = _moments([mel], mel.shape[1])
        else:
            assert self.field is not None, "fit the reader first"
            mean, deviation = (np.asarray(self.field[k]) for k in ("mean", "std"))
        return ((mel - mean) / deviation).astype(np.float32)


def _moments(cells: Iterable[np.ndarray], bands: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each band over all frames; a band that does not vary has deviation 1."""
    found = Moments(bands)
    for mel in cells:
        found.add(mel)
    return found.mean, np.where(found.deviation < STILL, 1.0, found.deviation)
