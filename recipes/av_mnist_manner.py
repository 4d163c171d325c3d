"""Audio-visual digits in the manner of AV-MNIST: pictures that lost 75 % of their energy, sounds in loud noise.

    python recipes/av_mnist_manner.py --data DATA --out FOLDER

AV-MNIST (Vielzeuf et al., "CentralNet: a Multilayer Approach for Multimodal Fusion", 2018) joins MNIST's pictures, of
whose energy PCA removed 75 %, with spoken digits in noises of ESC-50. What is done here, and where it differs:

- Pictures: PCA (the mean and the directions of most variance) is fitted on the pictures of the training rows. A picture
  becomes the mean and its projection on the first k directions, cut to 0 ... 255 and stored as a PNG. k is the fewest
  directions that hold at least a quarter of the variance; the others, with up to 75 % of it, are gone.
- Sounds: those of the Free Spoken Digit Dataset, up to a second of each, somewhere in one second of pink noise (power
  falls as 1 / f above 50 Hz) in place of ESC-50's noises. The noise is as loud as SNR says: the mean power of the sound
  over that of the noise, in decibels. The sum is made as loud as 0.1 of full scale, so that loudness tells nothing.
- Pairs are made up, as there. Every sound stands in COPIES rows of its part, each time with other noise and another
  picture of its class; no picture stands in two rows. Takes 0 to 4 are the test rows, as the data set has it, 5 to 13
  validation rows, the others train; test rows take MNIST's test pictures. All six speakers are in every part.

Noise, places and pairs are drawn from fixed seeds. SNR was chosen by validation rows: both inputs leave room.

Needs DATA/mnist (IDX files) and DATA/fsdd (table.csv). Writes FOLDER/av_mnist_manner/table.parquet: split, image (PNG),
audio (WAV, 8 kHz), label, speaker, sound (its file), picture (its number in MNIST's part). The same versions of numpy,
pyarrow and Pillow write the same bytes.
"""

from __future__ import annotations

import argparse
import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
from audio_visual_digits import PICTURES, by_class, png, write_once

from polymodal.core.seeds import Rng, generator
from polymodal.data.tables import open_table

KEPT = 0.25  # of the pictures' energy
SNR = -10.0  # decibels
RATE, SECONDS, LOUDNESS = 8000, 1.0, 0.1
COPIES = {"train": 2, "valid": 2, "test": 4}  # rows in which a sound stands
LOWEST = 50.0  # hertz, from where the noise's power falls
TEST_TAKES, VALID_TAKES = range(5), range(5, 14)


def prepare(data: Path, out: Path) -> Path:
    """Write the table, unless it is there; returns `out`, where the recipe's spec finds it."""
    write_once(out / "av_mnist_manner" / "table.parquet", lambda: rows(data))
    return out


def rows(data: Path) -> list[dict[str, Any]]:
    """Sound by sound in the order of their table, each with its copies."""
    paired, pictures = pairs(data), {}
    for part, name in PICTURES.items():
        table = open_table(data / "mnist" / name)
        pictures[part] = {r["picture"]: np.asarray(table.cell(r["picture"], "image"))
                          for r in paired if source(r["split"]) == part}  # fmt: skip
    mean, directions = principal(np.stack([pictures["train"][r["picture"]] for r in paired if r["split"] == "train"]))
    made = []
    for number, row in enumerate(paired):
        picture = pictures[source(row["split"])][row["picture"]]
        heard = read_wav(data / "fsdd" / row["sound"])
        image = png(project(picture, mean, directions))
        audio = write_wav(noisy(heard, generator(0, "av-mnist manner", "noise", number)))
        made.append({"split": row["split"], "image": image, "audio": audio} | row)
    return made


def pairs(data: Path) -> list[dict[str, Any]]:
    """Which sound meets which picture: split, label, speaker, sound, picture."""
    sounds = open_table(data / "fsdd" / "table.csv")
    waiting = {part: by_class(open_table(data / "mnist" / name), part) for part, name in PICTURES.items()}
    found = []
    for i in range(len(sounds)):
        label, part = sounds.cell(i, "label"), split(int(sounds.cell(i, "take")))
        found += [
            {"split": part, "label": label, "speaker": sounds.cell(i, "speaker"), "sound": sounds.cell(i, "audio"),
             "picture": waiting[source(part)][label].pop(0)}
            for _ in range(COPIES[part])
        ]  # fmt: skip
    return found


def split(take: int) -> str:
    return "test" if take in TEST_TAKES else "valid" if take in VALID_TAKES else "train"


def source(part: str) -> str:
    """MNIST's part that a part's pictures are from."""
    return "test" if part == "test" else "train"


def principal(pictures: np.ndarray, kept: float = KEPT) -> tuple[np.ndarray, np.ndarray]:
    """The mean picture, and the fewest directions [k, pixels] of most variance that hold at least this share of it."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float64)
    mean = flat.mean(0)
    variances, directions = np.linalg.eigh(np.cov(flat, rowvar=False))  # ascending
    shares = np.cumsum(variances[::-1]) / variances.sum()
    return mean, directions.T[::-1][: int(np.searchsorted(shares, kept)) + 1]


def project(picture: np.ndarray, mean: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """What these directions leave of a picture, in whole gray levels."""
    left = mean + (picture.reshape(-1) - mean) @ directions.T @ directions
    return np.clip(np.rint(left), 0, 255).astype(np.uint8).reshape(picture.shape)


def noisy(sound: np.ndarray, rng: Rng, snr: float = SNR) -> np.ndarray:
    """A second of pink noise with the sound somewhere in it."""
    count = round(RATE * SECONDS)
    sound = sound[:count]
    start = int(rng.integers(count - len(sound) + 1))
    noise = pink(count, rng)
    level = np.sqrt((sound**2).mean()) * 10 ** (-snr / 20) / np.sqrt((noise**2).mean())
    mixed = level * noise
    mixed[start : start + len(sound)] += sound
    return mixed * LOUDNESS / np.sqrt((mixed**2).mean())


def pink(count: int, rng: Rng) -> np.ndarray:
    """White noise whose spectrum was divided by the root of the frequency."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(np.fft.rfftfreq(count, 1 / RATE), LOWEST)), count)


def read_wav(path: Path) -> np.ndarray:
    """Samples of a mono file of 16 bits, -1 ... 1."""
    with wave.open(str(path), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE), path
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768.0


def write_wav(samples: np.ndarray) -> bytes:
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setparams((1, 2, RATE, len(samples), "NONE", "not compressed"))
        file.writeframes(np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes())
    return held.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds mnist and fsdd")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write av_mnist_manner/ into")
    options = parser.parse_args()
    prepare(options.data, options.out)
    print(options.out / "av_mnist_manner" / "table.parquet")
