"""How well a text fits a picture, judged by a model that holds both in one space; no reference is needed.

Source: Hessel et al., "CLIPScore: A Reference-free Evaluation Metric for Image Captioning", EMNLP 2021.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from polymodal.core.contracts import Records
from polymodal.core.errors import SpecError
from polymodal.core.pretrained import fast_tokenizer, fetch_config, weights
from polymodal.core.schema import Json
from polymodal.tasks.metrics import PerWeighting, Weights, mean, ratio

if TYPE_CHECKING:
    from torch import Tensor

SCALE = 2.5  # so that scores of good captions, which are cosines of about 0.3, come near 1
PROMPT = "A photo depicts "
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's own
BICUBIC = 3
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")

Vectors = Float[np.ndarray, "n D"]


def clip_score(pictures: Vectors, texts: Vectors) -> Float[np.ndarray, " n"]:
    """CLIP-S of each pair of embeddings: `2.5 max(cos, 0)`, 0 to 2.5."""
    return SCALE * np.maximum((_unit(pictures) * _unit(texts)).sum(1), 0.0)


def ref_clip_score(
    pictures: Vectors, texts: Vectors, references: Float[np.ndarray, "R D"], row: Int[np.ndarray, " R"]
) -> Float[np.ndarray, " n"]:
    """RefCLIP-S: the harmonic mean of CLIP-S and of `max(cos, 0)` of the text and its nearest reference.

    `row` tells to which row each reference belongs. NaN for a row without references, 0 where both means are 0.
    """
    plain, near = clip_score(pictures, texts), np.full(len(texts), -np.inf)
    np.maximum.at(near, row, (_unit(texts)[row] * _unit(references)).sum(1))
    near = np.where(np.isneginf(near), np.nan, np.maximum(near, 0.0))
    return np.where(plain + near == 0, 0.0, ratio(2 * plain * near, plain + near))


def _unit(vectors: Float[np.ndarray, "m D"]) -> Float[np.ndarray, "m D"]:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)


def records(
    judge: Aligned,
    pictures: Sequence[UInt8[np.ndarray, "_ _ _"]],
    said: Sequence[str],
    references: Sequence[Sequence[str]],
) -> Records:
    """Per row `clip_score` and `ref_clip_score` [n] (NaN without references); pictures [H W 3] of any sizes."""
    seen, read = judge.embed_pictures(pictures), judge.embed_texts(said)
    row = np.repeat(np.arange(len(said)), np.array([len(r) for r in references], np.int64))
    others = judge.embed_texts([text for r in references for text in r]) if len(row) else read[:0]
    return {"clip_score": clip_score(seen, read), "ref_clip_score": ref_clip_score(seen, read, others, row)}


def measure(records: Records, weights: Weights) -> dict[str, PerWeighting]:
    """`clip_score`, and `ref_clip_score` where the records have it: means over the rows in which they are defined."""
    found: dict[str, PerWeighting] = {}
    for name in ("clip_score", "ref_clip_score"):
        if name in records:
            known = ~np.isnan(records[name])
            found[name] = mean(np.where(known, records[name], 0.0), weights * known)
    return found


class Aligned:
    """A model of transformers that puts pictures and texts into one space (CLIP, Chinese CLIP, SigLIP), to judge with.

    `name` is a folder or a hub name with config.json, safetensors weights, tokenizer.json and, where pictures are not
    prepared as CLIP does it, preprocessor_config.json. Raises SpecError at `where` when one is missing or the model has
    no such space. `embed_pictures` and `embed_texts` give float32 [n D], `batch` rows at a time.
    """

    def __init__(self, name: str, *, device: str = "cpu", batch: int = 64, where: str = "clip_score") -> None:
        with TemporaryDirectory() as folder:
            config = fetch_config(name, Path(folder), where)
        from transformers import AutoModel

        self.model: Any = weights(AutoModel, name, config, where).eval().to(device)
        if not all(hasattr(self.model, part) for part in ("get_image_features", "get_text_features")):
            raise SpecError(where, "this model has no common space of pictures and texts", given=name,
                            advice="a model such as openai/clip-vit-base-patch32")  # fmt: skip
        self.tokenizer = fast_tokenizer(name, where)
        self.prepare = Preparation(_facts(name), config.vision_config.image_size)
        self.longest = config.text_config.max_position_embeddings
        self.padding = "max_length" if str(config.model_type).startswith("siglip") else "longest"
        self.device, self.batch = device, batch

    def embed_pictures(self, pictures: Sequence[UInt8[np.ndarray, "_ _ _"]]) -> Float[np.ndarray, "n D"]:
        """Of pictures [H W 3] of any sizes."""
        import torch

        pixels = (torch.from_numpy(np.stack([self.prepare(p) for p in part])) for part in self._parts(pictures))
        return self._embedded(self.model.get_image_features, ({"pixel_values": p} for p in pixels))

    def embed_texts(self, texts: Sequence[str], prompt: str = PROMPT) -> Float[np.ndarray, "n D"]:
        """Of texts, each after `prompt`, cut at the longest text that the model takes."""
        ids = (
            self.tokenizer([prompt + text for text in part], padding=self.padding, truncation=True,
                           max_length=self.longest, return_tensors="pt")
            for part in self._parts(texts)
        )  # fmt: skip
        return self._embedded(self.model.get_text_features, (dict(i) for i in ids))

    def _parts(self, rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
        return (rows[start : start + self.batch] for start in range(0, len(rows), self.batch))

    def _embedded(self, embed: Any, inputs: Iterator[dict[str, Tensor]]) -> Float[np.ndarray, "n D"]:
        import torch

        found = []
        with torch.inference_mode():
            for one in inputs:
                given = embed(**{name: value.to(self.device) for name, value in one.items()})
                vectors = given if isinstance(given, torch.Tensor) else given.pooler_output
                found.append(vectors.float().cpu().numpy())
        return np.concatenate(found) if found else np.zeros((0, 1), np.float32)


class Preparation:
    """Pictures as the model was trained on them: size, crop, mean and spread of its preprocessor's configuration.

    `facts` is that configuration, {} for CLIP's own way: the shorter side to `size` pixels, the middle square.
    """

    def __init__(self, facts: dict[str, Json], size: int) -> None:
        whole = facts.get("size", {"shortest_edge": size})
        self.size: dict[str, int] = {"shortest_edge": whole} if isinstance(whole, int) else whole
        crop = facts.get("crop_size", size) if facts.get("do_center_crop", "shortest_edge" in self.size) else None
        self.crop: dict[str, int] | None = {"height": crop, "width": crop} if isinstance(crop, int) else crop
        self.mean = np.array(facts.get("image_mean", MEAN), np.float32)
        self.std = np.array(facts.get("image_std", STD), np.float32)
        self.resample = facts.get("resample", BICUBIC)

    def __call__(self, picture: UInt8[np.ndarray, "_ _ _"]) -> Float[np.ndarray, "3 h w"]:
        from PIL import Image

        one = Image.fromarray(picture).convert("RGB")
        small = one.resize(self._sides(*one.size), self.resample)
        if self.crop is not None:
            wide, high = self.crop["width"], self.crop["height"]
            left, top = (small.width - wide) // 2, (small.height - high) // 2
            small = small.crop((left, top, left + wide, top + high))
        pixels = np.asarray(small, np.float32) / 255
        return np.ascontiguousarray(((pixels - self.mean) / self.std).transpose(2, 0, 1))

    def _sides(self, wide: int, high: int) -> tuple[int, int]:
        if "shortest_edge" not in self.size:
            return self.size["width"], self.size["height"]
        short, edge = min(wide, high), self.size["shortest_edge"]
        return (edge, edge * high // short) if wide <= high else (edge * wide // short, edge)


def _facts(name: str) -> dict[str, Json]:
    """How the model's pictures are prepared, {} where it does not say."""
    from transformers.utils import cached_file

    for file in PREPROCESSORS:
        try:
            found = cached_file(name, file)
        except (OSError, ValueError):
            continue
        if found:
            facts = json.loads(Path(found).read_text(encoding="utf-8"))
            return facts.get("image_processor", facts)
    return {}
