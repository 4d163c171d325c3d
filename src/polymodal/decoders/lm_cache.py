"""Keys and values of a language model of transformers as plain tensors, those of the prefix apart from those said."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

Tensors = dict[str, Tensor]


class _Layer(DynamicLayer):
    """One layer's keys and values [B H T d]: the prefix's, then those of the tokens said; put together when used."""

    def __init__(self, fixed: tuple[Tensor, Tensor], past: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.parts = list(zip(fixed, past, strict=True))
        self.dtype, self.device, self.is_initialized = fixed[0].dtype, fixed[0].device, True

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        new = (key_states, value_states)
        self.keys, self.values = (torch.cat([*parts, n], 2) for parts, n in zip(self.parts, new, strict=True))
        return self.keys, self.values

    def get_seq_length(self, *args: object) -> int:
        return self.keys.shape[2] if self.keys is not None else sum(part.shape[2] for part in self.parts[0])


def empty() -> DynamicCache:
    """A cache that has seen nothing."""
    return DynamicCache()


def cached(fixed: Tensors, past: Tensors) -> Cache:
    """The cache that `fixed_part` and `past_part` were taken from."""
    layers = sum(name.startswith("key.") for name in past)
    return Cache(layers=[_Layer(_pair(fixed, n), _pair(past, n)) for n in range(layers)])


def _pair(tensors: Tensors, layer: int) -> tuple[Tensor, Tensor]:
    return tensors[f"key.{layer}"], tensors[f"value.{layer}"]


def taken(cache: Cache, first: int, last: int | None = None) -> Tensors:
    """Keys and values of the tokens from `first` to `last`, by layer. Raises ValueError where a layer keeps others."""
    found: Tensors = {}
    for number, layer in enumerate(cache.layers):
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if not isinstance(layer, DynamicLayer) or keys is None or values is None or keys.ndim != 4:
            raise ValueError("it keeps a state that is not keys and values")
        found |= {f"key.{number}": keys[:, :, first:last], f"value.{number}": values[:, :, first:last]}
    return found
