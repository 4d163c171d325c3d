"""The layers of any module, from the bottom up; and what of a model is frozen, for good or until an epoch."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn
from torch.nn import Parameter

LISTS = nn.ModuleList | nn.Sequential


def layers_of(module: nn.Module) -> list[list[Parameter]]:
    """Every parameter of the module, once, in groups: what stands below its layers, each layer, what stands above.

    The layers are those of the `nn.ModuleList` or `nn.Sequential` that holds the most parameters, with the
    `Sequential`s beside it (the stages of a ResNet) and, layer by layer, `ModuleList`s of its length (the other
    direction of a recurrent net). A list among them is cut into its own layers; what has no matrix, such as a
    normalisation, goes with what stands before it. Below is what was registered before the layers, as embeddings are.
    A weight that is tied belongs to where it stands first.
    """
    order, seen = list(module.parameters()), set[int]()
    layers = []
    for modules in _stack(module):
        layers.append([p for m in modules for p in m.parameters() if id(p) not in seen])
        seen |= {id(p) for p in layers[-1]}
    first = next((i for i, p in enumerate(order) if id(p) in seen), len(order))
    below, above = ([p for p in some if id(p) not in seen] for some in (order[:first], order[first:]))
    return _joined([below, *layers, above])


def _stack(module: nn.Module) -> list[list[nn.Module]]:
    """The modules of each layer, from the bottom up; none where there is no list of modules."""
    placed = [(module, [module])]
    placed += [(m, list(parent.children())) for parent in module.modules() for m in parent.children()]
    lists = [(m, beside) for m, beside in placed if isinstance(m, LISTS)]
    if not lists:
        return []
    best, beside = max(lists, key=lambda found: sum(p.numel() for p in found[0].parameters()))  # the outermost of them
    if isinstance(best, nn.Sequential):
        return [[layer] for m in beside if isinstance(m, nn.Sequential) for layer in _flat(m)]
    alike = [m for m in beside if isinstance(m, nn.ModuleList) and len(m) == len(best)]
    return [[layer] for layer in _flat(best)] if len(alike) == 1 else [list(each) for each in zip(*alike, strict=True)]


def _flat(layers: nn.Module) -> list[nn.Module]:
    return [one for m in layers.children() for one in (_flat(m) if isinstance(m, LISTS) else [m])]


def _joined(groups: list[list[Parameter]]) -> list[list[Parameter]]:
    """The groups without empty ones; vectors alone stand with the group before them, or with the first one."""
    found: list[list[Parameter]] = []
    for group in groups:
        small = all(p.ndim < 2 for p in group)
        if found and (small or all(p.ndim < 2 for p in found[-1])):
            found[-1] = found[-1] + group
        elif group:
            found.append(group)
    return found


class Hold(NamedTuple):
    """A module that is frozen: until so many epochs are over, or, without `after`, for good."""

    module: nn.Module
    groups: list[list[Parameter]]  # what is to learn, from the bottom up
    after: int | None = None
    layers: int | None = None  # groups that begin in each epoch, from the top down; all at once when None

    def begun(self, epoch: int) -> int:
        """How many groups learn in this epoch, from 0."""
        if self.after is None or epoch < self.after:
            return 0
        most = len(self.groups)
        return most if self.layers is None else min(most, self.layers * (epoch - self.after + 1))

    def apply(self, epoch: int) -> None:
        """Let the parameters learn, or not, as is right for the epoch."""
        frozen = len(self.groups) - self.begun(epoch)
        for place, group in enumerate(self.groups):
            for parameter in group:
                parameter.requires_grad_(place >= frozen)


def resting(module: nn.Module) -> list[nn.Module]:
    """The largest parts of a module of which no parameter learns."""
    learns = [p.requires_grad for p in module.parameters()]
    if learns and not any(learns):
        return [module]
    return [part for m in module.children() for part in resting(m)] if learns else []
