"""What encoders around foreign networks share: which maps make a pyramid and what is in use, found without computing.

The network is run once on torch's `meta` device, where tensors have shapes but no values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from polymodal.core.streams import Stream
from polymodal.modalities.image.pixels import grid_tokens, whole

Run = Callable[[nn.Module, Tensor], tuple[Tensor, Sequence[Tensor]]]  # -> (last state, maps)


class Probe(NamedTuple):
    """What a dry run has shown."""

    width: int  # features of the last state: its channels when it is a map, else its last axis
    levels: tuple[int, ...]  # which of the maps are a level: the last one of each size, fine to coarse
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    idle: tuple[str, ...]  # names of parameters that take no part in the last state
    spare: tuple[str, ...]  # names of modules that the network runs without


def probe(build: Callable[[], nn.Module], run: Run, channels: int, size: tuple[int, int]) -> Probe:
    """Build the network on `meta`, run it on pictures of this size, and look at what comes out."""
    with torch.device("meta"):
        network, pictures = build(), torch.zeros(2, channels, *size)
        last, maps = run(network, pictures)
        names, parameters = zip(*network.named_parameters(), strict=True)
        gradients = torch.autograd.grad(last.sum(), parameters, allow_unused=True)
        idle = tuple(n for n, g in zip(names, gradients, strict=True) if g is None)
        spare = _spare(network, set(idle))
        try:
            trim(network, (), spare)
            run(network, pictures)
        except (TypeError, ValueError, AttributeError, RuntimeError):  # something looks at them after all
            spare = ()
    levels, strides = pyramid([(m.shape[2], m.shape[3]) for m in maps], size)
    width = last.shape[1] if last.ndim == 4 else last.shape[2]
    return Probe(width, levels, tuple(maps[i].shape[1] for i in levels), strides, idle, spare)


def _spare(network: nn.Module, idle: set[str]) -> tuple[str, ...]:
    """The outermost modules of which every parameter is idle."""
    found: list[str] = []
    for name, module in network.named_modules():
        inner = [f"{name}.{n}" for n, _ in module.named_parameters()]
        if name and inner and idle.issuperset(inner) and not any(name.startswith(f"{f}.") for f in found):
            found.append(name)
    return tuple(found)


def trim(network: nn.Module, idle: Sequence[str], spare: Sequence[str]) -> None:
    """Take spare modules out; other idle parameters stay and are not trained."""
    for name in spare:
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, nn.Identity())
    for name in idle:
        if not any(name.startswith(f"{module}.") for module in spare):
            network.get_parameter(name).requires_grad_(False)


def pyramid(maps: Sequence[tuple[int, int]], size: tuple[int, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Levels and strides: of each size the last map. None at all unless every map has the picture's size over a stride.

    A stride is a power of two, the map's size rounded up, or divides the picture's size.
    """
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for level, shape in enumerate(maps):
        stride = _stride(shape, size)
        if stride is None:
            return (), ()
        if all(shape[0] <= h and shape[1] <= w for h, w in found):
            found[shape] = (level, stride)
    return tuple(level for level, _ in found.values()), tuple(stride for _, stride in found.values())


def _stride(shape: tuple[int, int], size: tuple[int, int]) -> int | None:
    for stride in (*(2**i for i in range(12)), size[0] // shape[0]):
        exact = stride & (stride - 1) != 0
        if all(m * stride == n if exact else m == -(-n // stride) for n, m in zip(size, shape, strict=True)):
            return stride
    return None


def stream(picture: Tensor, last: Tensor, maps: Sequence[Tensor], levels: Sequence[int]) -> Stream:
    """The last state as tokens, with the picture and the levels as maps."""
    tokens = grid_tokens(last) if last.ndim == 4 else last
    return whole(tokens, (picture, *(maps[i] for i in levels)))


def load_into(network: nn.Module, source: nn.Module) -> None:
    """Copy the weights of `source` into a network of the same kind that may have been trimmed."""
    weights = source.state_dict()
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
