"""The catalogue: every part by name, as a string that is imported only when the part is used.

Parts of others come in through the entry-point group `polymodal.parts` (entry name `fusion.mine`) or are named in a
spec by a dotted path, `package.module:Class`.
"""

from __future__ import annotations

import importlib
import re
from functools import cache

from polymodal.core.errors import SpecError, UserError, suggest

PARTS: dict[str, dict[str, str]] = {
    "reader": {
        "image": "polymodal.modalities.image.read:ImageReader",
        "text": "polymodal.modalities.text.read:TextReader",
        "audio": "polymodal.modalities.audio.read:AudioReader",
        "video": "polymodal.modalities.video.read:VideoReader",
        "tabular": "polymodal.modalities.tabular.read:TabularReader",
        "series": "polymodal.modalities.series.read:SeriesReader",
    },
    "encoder.image": {
        "cnn": "polymodal.modalities.image.cnn:CNN",
        "resnet": "polymodal.modalities.image.resnet:ResNet",
        "vit": "polymodal.modalities.image.vit:ViT",
        "hf": "polymodal.modalities.image.hf:HFImage",
        "timm": "polymodal.modalities.image.timm:TimmImage",
    },
    "encoder.text": {
        "rnn": "polymodal.modalities.text.encode:TextRNN",
        "lstm": "polymodal.modalities.text.encode:TextLSTM",
        "gru": "polymodal.modalities.text.encode:TextGRU",
        "transformer": "polymodal.modalities.text.encode:TextTransformer",
        "bag": "polymodal.modalities.text.encode:TextBag",
        "hf": "polymodal.modalities.text.hf:HFText",
    },
    "encoder.audio": {
        "cnn": "polymodal.modalities.audio.encode:AudioCNN",
        "rnn": "polymodal.modalities.audio.encode:AudioRNN",
        "lstm": "polymodal.modalities.audio.encode:AudioLSTM",
        "gru": "polymodal.modalities.audio.encode:AudioGRU",
        "transformer": "polymodal.modalities.audio.encode:AudioTransformer",
    },
    "encoder.video": {
        "frames": "polymodal.modalities.video.encode:VideoFrames",
        "conv3d": "polymodal.modalities.video.conv3d:Conv3D",
        "hf": "polymodal.modalities.video.hf:HFVideo",
    },
    "encoder.tabular": {
        "mlp": "polymodal.modalities.tabular.encode:TabularMLP",
        "ft_transformer": "polymodal.modalities.tabular.encode:FTTransformer",
    },
    "encoder.series": {
        "tcn": "polymodal.modalities.series.encode:SeriesTCN",
        "cnn": "polymodal.modalities.series.encode:SeriesCNN",
        "rnn": "polymodal.modalities.series.encode:SeriesRNN",
        "lstm": "polymodal.modalities.series.encode:SeriesLSTM",
        "gru": "polymodal.modalities.series.encode:SeriesGRU",
        "transformer": "polymodal.modalities.series.encode:SeriesTransformer",
        "linear": "polymodal.modalities.series.encode:SeriesLinear",
    },
    "attention": {
        "bidirectional": "polymodal.attention.bidirectional:CrossAttention",
        "co": "polymodal.attention.co:CoAttention",
        "bottleneck": "polymodal.attention.bottleneck:Bottleneck",
        "perceiver": "polymodal.attention.perceiver:Perceiver",
        "hierarchical": "polymodal.attention.hierarchical:Hierarchical",
        "none": "polymodal.attention.none:NoAttention",
    },
    "fusion": {
        "concat": "polymodal.fusion.concat:Concat",
        "sum": "polymodal.fusion.sum:Sum",
        "weighted": "polymodal.fusion.weighted:Weighted",
        "transform": "polymodal.fusion.transform:Transform",
        "gated": "polymodal.fusion.gated:Gated",
        "max": "polymodal.fusion.max:Max",
        "film": "polymodal.fusion.film:FiLM",
        "tensor": "polymodal.fusion.tensor:TensorFusion",
        "low_rank": "polymodal.fusion.low_rank:LowRank",
        "bilinear": "polymodal.fusion.bilinear:Bilinear",
        "attention_pool": "polymodal.fusion.attention_pool:AttentionPool",
        "transformer": "polymodal.fusion.transformer:JointTransformer",
        "mixture": "polymodal.fusion.mixture:Mixture",
        "graph": "polymodal.fusion.graph:Graph",
    },
    "decision": {
        "average": "polymodal.fusion.decision.average:Average",
        "product": "polymodal.fusion.decision.product:Product",
        "vote": "polymodal.fusion.decision.vote:Vote",
        "stack": "polymodal.fusion.decision.stack:Stack",
    },
    "balance": {
        "unimodal": "polymodal.objectives.unimodal:Unimodal",
        "ogm": "polymodal.objectives.ogm:OGM",
        "blending": "polymodal.objectives.blending:Blending",
    },
    "align": {
        "contrastive": "polymodal.objectives.contrastive:Contrastive",
    },
    "weigh": {
        "uncertainty": "polymodal.objectives.uncertainty:Uncertainty",
        "gradnorm": "polymodal.objectives.gradnorm:GradNorm",
        "dwa": "polymodal.objectives.dwa:DynamicWeightAverage",
    },
    "decoder": {
        "lstm": "polymodal.decoders.recurrent:LSTMDecoder",
        "gru": "polymodal.decoders.recurrent:GRUDecoder",
        "transformer": "polymodal.decoders.transformer:TransformerDecoder",
        "lm": "polymodal.decoders.lm:LanguageModel",
    },
    "task": {
        "classify": "polymodal.tasks.classify:Classify",
        "regress": "polymodal.tasks.regress:Regress",
        "answer": "polymodal.tasks.answer:Answer",
        "reply": "polymodal.tasks.reply:Reply",
        "mask": "polymodal.tasks.masked:Mask",
        "match": "polymodal.tasks.matching:Match",
        "caption": "polymodal.tasks.caption:Caption",
        "transcribe": "polymodal.tasks.transcribe:Transcribe",
        "tag": "polymodal.tasks.tag:Tag",
        "retrieve": "polymodal.tasks.retrieve.task:Retrieve",
        "recommend": "polymodal.tasks.recommend:Recommend",
    },
    "target": {
        "label": "polymodal.tasks.targets:Label",
        "labels": "polymodal.tasks.targets:Labels",
        "number": "polymodal.tasks.targets:Number",
        "answers": "polymodal.tasks.answers:Answers",
        "anything": "polymodal.tasks.targets:Anything",
        "item": "polymodal.tasks.recommend_items:Item",
        "sentences": "polymodal.tasks.sentences:Sentences",
        "tags": "polymodal.tasks.tags:Tags",
        "group": "polymodal.tasks.retrieve.groups:Group",
    },
    "baseline": {
        "majority": "polymodal.simple.majority:Majority",
        "linear": "polymodal.simple.linear:LinearTable",
        "boosted_trees": "polymodal.simple.boosted_trees:BoostedTrees",
        "same_text": "polymodal.simple.same_text:SameText",
        "tfidf": "polymodal.simple.tfidf:Tfidf",
        "mel_svm": "polymodal.simple.mel_svm:MelSVM",
        "frozen_trees": "polymodal.simple.frozen_trees:FrozenTrees",
    },
}
DEFAULT_ENCODER = {
    "image": "cnn",
    "text": "gru",
    "audio": "gru",
    "video": "frames",
    "tabular": "mlp",
    "series": "transformer",
}
APART = frozenset({"retrieve", "recommend"})  # tasks of inputs that must not meet before: they need no fusion
BESIDE = {"fusion": "decision"}  # parts of another kind that may stand in the same place of a spec
DOTTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@cache
def _entry_points() -> dict[str, dict[str, str]]:
    from importlib.metadata import entry_points

    found: dict[str, dict[str, str]] = {}
    for point in entry_points(group="polymodal.parts"):
        kind, _, name = point.name.rpartition(".")
        found.setdefault(kind, {})[name] = point.value
    return found


def names(kind: str) -> dict[str, str]:
    """Name -> `module:Class` of every part of this kind, the built-in ones first."""
    return {**_entry_points().get(kind, {}), **PARTS.get(kind, {})}


def choices(kind: str) -> list[str]:
    """The names that may stand where a spec asks for this kind."""
    return [*names(kind), *(names(BESIDE[kind]) if kind in BESIDE else ())]


def stands(kind: str, name: str) -> str:
    """The kind of the part of this name where one of `kind` is asked for: a decision stands where a fusion may."""
    other = BESIDE.get(kind, kind)
    return other if name in names(other) and name not in names(kind) else kind


def kinds() -> list[str]:
    """Every kind of part, in the order of the data's way through the model."""
    return list(dict.fromkeys([*PARTS, *_entry_points()]))


def is_dotted(name: str) -> bool:
    """Whether the name is `package.module:Class`: code from outside the catalogue."""
    return DOTTED.fullmatch(name) is not None


def load(kind: str, name: str, where: str) -> type:
    """The class of a part. Raises SpecError for an unknown name, or one whose optional library is not installed."""
    listed = names(kind)
    target = listed.get(name) or (name if is_dotted(name) else None)
    if target is None:
        group, _, modality = kind.partition(".")
        noun = f"{group} of this name for {modality}" if modality else f"{group} of this name"
        advice = suggest(name, choices(kind), "or 'package.module:Class'")
        raise SpecError(where, f"no {noun}", given=name, advice=advice)
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise SpecError(where, f"{target} cannot be imported: {error}", given=name, advice=_how(error)) from None
    except AttributeError:
        raise SpecError(where, f"the module {module} has no {attribute}", given=name) from None


EXTRAS = {
    "transformers": "hf",
    "peft": "hf",
    "timm": "timm",
    "torchvision": "timm",
    "soundfile": "audio",
    "soxr": "audio",
    "av": "video",
    "tensorboard": "track",
    "sklearn": "sklearn",
    "optuna": "tune",
    "wn": "wordnet",
    "fastapi": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
    "python_multipart": "serve",
    "lancedb": "search",
    "faiss": "search",
    "qdrant_client": "qdrant",
    "ray": "scale",
}


def _how(error: ImportError) -> str:
    extra = EXTRAS.get((error.name or "").partition(".")[0])
    return f'pip install "polymodal[{extra}]"' if extra else "check the name, and that its package is installed"


def need(module: str, purpose: str, where: str = "install") -> None:
    """Import an optional library, or raise a UserError that says which extra brings it."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise UserError(where, f"{purpose} needs {module}: {error}", advice=_how(error)) from None
