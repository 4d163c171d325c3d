"""What the tests of the fusions share: every fusion and form, rows that lack inputs, and mean tokens by plain loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from polymodal.core.checks import streams_like
from polymodal.core.streams import Stream, Streams
from polymodal.fusion.attention_pool import AttentionPool
from polymodal.fusion.bilinear import Bilinear
from polymodal.fusion.concat import Concat
from polymodal.fusion.film import FiLM
from polymodal.fusion.gated import Gated
from polymodal.fusion.graph import Graph
from polymodal.fusion.low_rank import LowRank
from polymodal.fusion.max import Max
from polymodal.fusion.mixture import Mixture
from polymodal.fusion.sum import Sum
from polymodal.fusion.tensor import TensorFusion
from polymodal.fusion.transform import Transform
from polymodal.fusion.transformer import JointTransformer
from polymodal.fusion.weighted import Weighted

NAMES = ("photo", "a title", "weight.sum")
D = 6
FUSIONS: dict[str, tuple[type, dict[str, Any]]] = {  # the name in the catalogue, then what is special
    "concat": (Concat, {}),
    "concat-out": (Concat, {"out": 5}),
    "sum": (Sum, {}),
    "max": (Max, {}),
    "weighted": (Weighted, {}),
    "transform": (Transform, {"dropout": 0.3}),
    "transform-all": (Transform, {"hidden": 7, "out": 3, "activation": "tanh"}),
    "gated": (Gated, {}),
    "gated-sigmoid": (Gated, {"gates": "sigmoid"}),
    "film": (FiLM, {}),
    "film-by": (FiLM, {"by": NAMES[0]}),
    "tensor": (TensorFusion, {"hidden": 2}),
    "tensor-out": (TensorFusion, {"hidden": 3, "out": 5}),
    "low_rank": (LowRank, {}),
    "low_rank-all": (LowRank, {"rank": 2, "out": 5}),
    "bilinear": (Bilinear, {}),
    "bilinear-all": (Bilinear, {"hidden": 5, "rank": 2, "out": 3}),
    "bilinear-mlb": (Bilinear, {"form": "mlb", "hidden": 7}),
    "bilinear-compact": (Bilinear, {"form": "compact", "hidden": 7, "out": 5}),
    "attention_pool": (AttentionPool, {"heads": 3}),
    "transformer": (JointTransformer, {"heads": 2}),
    "transformer-mean": (JointTransformer, {"heads": 3, "layers": 1, "ratio": 2, "pool": "mean", "dropout": 0.1}),
    "transformer-none": (JointTransformer, {"heads": 1, "layers": 1, "pool": "none"}),
    "mixture": (Mixture, {}),
    "mixture-all": (Mixture, {"experts": 3, "active": 1, "hidden": 4, "out": 5, "balance": 0.5}),
    "graph": (Graph, {"heads": 2}),
    "graph-nodes": (Graph, {"heads": 3, "reach": 2, "layers": 1, "pool": "nodes", "dropout": 0.1}),
    "graph-none": (Graph, {"heads": 1, "layers": 1, "pool": "none"}),
    "graph-inputs": (Graph, {"heads": 2, "nodes": "inputs"}),
    "graph-convolution": (Graph, {"form": "convolution", "reach": 2}),
    "graph-convolution-inputs": (Graph, {"form": "convolution", "nodes": "inputs", "layers": 1}),
}


def make(name: str, inputs: tuple[str, ...] = NAMES) -> torch.nn.Module:
    """The fusion as it is before training."""
    cls, chosen = FUSIONS[name]
    by = {"by": inputs[0]} if "by" in chosen else {}
    return cls(inputs=inputs, width=D, **{**chosen, **by})


def build(name: str, inputs: tuple[str, ...] = NAMES, seed: int = 0) -> torch.nn.Module:
    """The fusion with random weights everywhere: zeros at the start would hide mistakes."""
    torch.manual_seed(seed)
    part = make(name, inputs)
    for p in part.parameters():
        torch.nn.init.normal_(p)
    return part.eval()


def ragged(inputs: tuple[str, ...] = NAMES, seed: int = 3) -> Streams:
    """Six rows in float64: two are whole, every input is missing in one, all of them in the last."""
    streams = {}
    for i, (name, (tokens, mask, _)) in enumerate(streams_like(inputs, D, rows=6, seed=seed).items()):
        kept = mask.clone()
        kept[:2, 0] = True
        kept[[i + 2, 5]] = False
        streams[name] = Stream(torch.where(kept[..., None], tokens.double(), 0.0), kept)
    return streams


def nothing(rows: int = 3) -> Streams:
    return {n: Stream(torch.zeros(rows, 2, D), torch.zeros(rows, 2, dtype=torch.bool)) for n in NAMES}


def means(streams: Streams, row: int) -> list[np.ndarray | None]:
    """The mean real token of each input by a plain loop, None where it is missing."""
    found = []
    for tokens, mask, _ in streams.values():
        real = [tokens[row, t].numpy() for t in range(tokens.shape[1]) if mask[row, t]]
        found.append(sum(real) / len(real) if real else None)
    return found


def filled(part: torch.nn.Module, streams: Streams, row: int) -> list[np.ndarray]:
    """The mean token of each input, or the learned one of its slot."""
    learned = array(part.slots.missing.weight)
    return [learned[i] if v is None else v for i, v in enumerate(means(streams, row))]


def array(weight: torch.Tensor) -> np.ndarray:
    return weight.detach().double().numpy()


def linear(module: torch.nn.Linear, x: np.ndarray) -> np.ndarray:
    """`W x + b` by loops."""
    W, b = array(module.weight), [0.0] * module.out_features if module.bias is None else array(module.bias)
    return np.array([sum(w * v for w, v in zip(row, x, strict=True)) + c for row, c in zip(W, b, strict=True)])


def count(part: torch.nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())
