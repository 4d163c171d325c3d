"""Tiny models with random weights in folders, as they would come from a hub; and a stand-in for torchvision."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    CLIPConfig,
    CLIPModel,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    VideoMAEConfig,
    ViTConfig,
)

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


CAUSAL = {  # language models: sizes, with keys and values for fewer heads where the kind can
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "llama": {**SHAPE, "num_key_value_heads": 1, "max_position_embeddings": 64},
    "qwen2": {**SHAPE, "num_key_value_heads": 1, "max_position_embeddings": 64},
    "mistral": {**SHAPE, "num_key_value_heads": 1, "sliding_window": 6},
    "bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2},
}
END = "<|end|>"


def words_tokenizer(*special: str) -> PreTrainedTokenizerFast:
    """A tokenizer of `WORDS`; its end is `END`."""
    vocabulary = {w: i for i, w in enumerate(["<unk>", END, *special, *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token=END,
                                   additional_special_tokens=list(special))  # fmt: skip


def publish_lm(kind: str, folder: Path, spare: int = 0, **shape: object) -> str:
    """A causal language model of this model type with its tokenizer, and `spare` rows of weights for no token."""
    fast = words_tokenizer()
    config = AutoConfig.for_model(kind, vocab_size=len(fast) + spare, bos_token_id=None, pad_token_id=None,
                                  eos_token_id=fast.eos_token_id, **{**CAUSAL[kind], **shape})  # fmt: skip
    torch.manual_seed(6)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.mul_(8.0 if weight.ndim > 1 and "embed" not in name else 1.0)  # so that attention is not even
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder)


TURNS = """{% for m in messages %}{{ m.role }} : {% for c in m.content %}{% if c.type == 'image' %}PICTURE{% else
%}{{ c.text }}{% endif %} {% endfor %}{% endfor %}{% if add_generation_prompt %}assistant :{% endif %}"""
SPEAKS = {**SHAPE, "num_key_value_heads": 1, "max_position_embeddings": 256, "bos_token_id": None, "pad_token_id": 0}
IDEFICS = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<row_1_col_1>")
QWEN = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")


def publish_vlm(kind: str, folder: Path) -> str:
    """A vision-language model: `llava`, `idefics3`, `smolvlm`, `qwen2_vl` or `qwen2_5_vl`, with its processor."""
    marks = QWEN if kind.startswith("qwen") else IDEFICS if kind in ("idefics3", "smolvlm") else ("<image>",)
    words = words_tokenizer(*marks, "user", "assistant")
    ids = {mark: words.convert_tokens_to_ids(mark) for mark in marks}
    text = {**SPEAKS, "vocab_size": len(words), "eos_token_id": words.eos_token_id}
    template = TURNS.replace("PICTURE", "".join(QWEN[:3]) if kind.startswith("qwen") else "<image>")
    config = {"llava": _llava, "idefics3": _idefics, "smolvlm": _idefics}.get(kind, _qwen)(kind, text, ids)
    torch.manual_seed(7)
    model = transformers.AutoModelForImageTextToText.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.mul_(8.0 if weight.ndim > 1 and "embed" not in name else 1.0)
    model.save_pretrained(folder)
    if kind == "llava":
        pictures = transformers.CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
        made = transformers.LlavaProcessor(pictures, words, patch_size=8, vision_feature_select_strategy="default",
                                           num_additional_image_tokens=1, chat_template=template)  # fmt: skip
        made.save_pretrained(folder)
    elif kind.startswith("qwen"):  # as they are published: their processors want torchvision, for clips
        sizes = {"shortest_edge": 64, "longest_edge": 1024}
        transformers.Qwen2VLImageProcessorPil(patch_size=4, size=sizes).save_pretrained(folder)
        words.chat_template = template
        words.save_pretrained(folder)
    else:
        name = "SmolVLMImageProcessorPil" if kind == "smolvlm" else "Idefics3ImageProcessorPil"
        side = {"longest_edge": 16}
        pictures = getattr(transformers, name)(size=side, max_image_size=side)
        transformers.Idefics3Processor(pictures, words, image_seq_len=4, chat_template=template).save_pretrained(folder)
        if kind == "smolvlm":  # its own processor cannot be made without the one for clips
            facts = json.loads((folder / "processor_config.json").read_text())
            (folder / "processor_config.json").write_text(json.dumps({**facts, "processor_class": "SmolVLMProcessor"}))
    return str(folder)


def _llava(kind: str, text: dict, ids: dict[str, int]) -> PretrainedConfig:
    return AutoConfig.for_model(kind, vision_config={"model_type": "clip_vision_model", **SHAPE, "image_size": 16,
                                                     "patch_size": 8},
                                text_config={"model_type": "llama", **text}, image_token_id=ids["<image>"])  # fmt: skip


def _idefics(kind: str, text: dict, ids: dict[str, int]) -> PretrainedConfig:
    return AutoConfig.for_model(kind, vision_config={**SHAPE, "image_size": 16, "patch_size": 4}, scale_factor=2,
                                text_config={"model_type": "llama", **text}, image_token_id=ids["<image>"],
                                pad_token_id=0)  # fmt: skip


def _qwen(kind: str, text: dict, ids: dict[str, int]) -> PretrainedConfig:
    own = {"embed_dim": 16} if kind == "qwen2_vl" else {"out_hidden_size": 16, "intermediate_size": 24}
    pictures = {"depth": 2, "hidden_size": 16, "num_heads": 2, "patch_size": 4, **own}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    start, picture, last, clip = (ids[mark] for mark in QWEN)
    return AutoConfig.for_model(kind, vision_config=pictures, text_config={**text, "rope_parameters": rope},
                                image_token_id=picture, video_token_id=clip, vision_start_token_id=start,
                                vision_end_token_id=last)  # fmt: skip


def publish_image(config: PretrainedConfig, folder: Path, preprocessor: dict | None = None) -> nn.Module:
    """A picture model of this configuration, with the facts of its preprocessing."""
    torch.manual_seed(0)
    model = AutoModel.from_config(config).eval()
    model.save_pretrained(folder)
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return model


def publish_clip(folder: Path) -> str:
    """A CLIP with its tokenizer and how its pictures are prepared."""
    words = ["<end>", "<unk>", "A", "photo", "depicts", "a", "red", "dog", "cat"]
    shape = {**SHAPE, "num_hidden_layers": 1}
    ids = dict.fromkeys(("eos_token_id", "bos_token_id", "pad_token_id"), 0)
    ids |= {"vocab_size": len(words), "max_position_embeddings": 8}
    vision = {**shape, "image_size": 24, "patch_size": 8}
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config={**shape, **ids}, vision_config=vision, projection_dim=12)).save_pretrained(folder)
    made = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 0)])
    PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<end>", eos_token="<end>", unk_token="<unk>",
                            model_input_names=["input_ids", "attention_mask"]).save_pretrained(folder)  # fmt: skip
    facts = {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}, "do_center_crop": True,
             "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "resample": 3}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(facts), encoding="utf-8")
    return str(folder)


def publish(modality: str, folder: Path) -> str:
    """A model for `text`, `image` or `video`; `lm` is a language model."""
    if modality == "text":
        return publish_text("bert", folder)
    if modality == "clip":
        return publish_clip(folder)
    if modality == "lm":
        return publish_lm("gpt2", folder)
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
