"""Tiny models with random weights in folders, as they would come from a hub; and a stand-in for torchvision."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedTokenizerFast, VideoMAEConfig, ViTConfig

WORDS = ["a", "dog", "runs", "over", "the", "grass", "cat", "sleeps", "狗", "!"]
SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
KINDS = {  # of text models: special tokens, settings, the most tokens it reads
    "bert": (BERT, {"max_position_embeddings": 10}, 10),
    "roberta": (["<s>", "<pad>", "</s>", "<unk>"], {"max_position_embeddings": 12}, 10),
    "clip_text_model": (BERT, {"max_position_embeddings": 10}, 10),
}
VIT = {**SHAPE, "image_size": 32, "patch_size": 8}


def publish_text(kind: str, folder: Path) -> str:
    """A text model of this model type, with its tokenizer."""
    special, shape, _ = KINDS[kind]
    vocabulary = {w: i for i, w in enumerate([*special, *WORDS])}
    pad, unknown, first, last = (special[i] for i in ((1, 3, 0, 2) if kind == "roberta" else (0, 1, 2, 3)))
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ids = [(first, vocabulary[first]), (last, vocabulary[last])]
    made.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", special_tokens=ids)
    fast = PreTrainedTokenizerFast(tokenizer_object=made, pad_token=pad, unk_token=unknown, cls_token=first,
                                   sep_token=last)  # fmt: skip
    config = AutoConfig.for_model(kind, vocab_size=len(vocabulary), pad_token_id=vocabulary[pad], bos_token_id=0,
                                  eos_token_id=2, **SHAPE, **shape)  # fmt: skip
    torch.manual_seed(5)
    AutoModel.from_config(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder)


def publish_image(config: PretrainedConfig, folder: Path, preprocessor: dict | None = None) -> nn.Module:
    """A picture model of this configuration, with the facts of its preprocessing."""
    torch.manual_seed(0)
    model = AutoModel.from_config(config).eval()
    model.save_pretrained(folder)
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return model


def publish(modality: str, folder: Path) -> str:
    """A model for `text`, `image` or `video`."""
    if modality == "text":
        return publish_text("bert", folder)
    publish_image(VideoMAEConfig(**VIT, num_frames=4) if modality == "video" else ViTConfig(**VIT), folder)
    return str(folder)


STAND_IN = """
def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {n: n for n in ("NEAREST", "BILINEAR", "BICUBIC", "BOX", "HAMMING", "LANCZOS")})
"""


def stand_in(folder: Path) -> Path:
    """A folder for the front of the path: a torchvision that holds no more than the names timm asks for."""
    for module in ("", "ops/misc", "transforms/functional", "datasets", "models/feature_extraction"):
        for place in [folder / "torchvision" / module, *(folder / "torchvision" / module).parents]:
            if place.is_relative_to(folder / "torchvision"):
                place.mkdir(parents=True, exist_ok=True)
                (place / "__init__.py").write_text(STAND_IN)
    return folder


def import_timm(folder: Path) -> None:
    """Import timm beside the stand-in, and leave nothing behind that others would take for torchvision."""
    before = set(sys.modules)
    sys.path.insert(0, str(stand_in(folder)))
    importlib.invalidate_caches()
    try:
        importlib.import_module("timm")
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "torchvision":
                del sys.modules[name]
