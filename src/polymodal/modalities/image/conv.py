"""Convolution of feature maps, quick to train on a CPU where maps are small."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

FEW = 9  # places of the new map up to which the whole convolution is quicker as a product of matrices ...
SOME = 16  # ... and up to which the gradient of the weights is; in 16-bit numbers it is for all but large maps:
LARGE = 1 << 22  # numbers in all patches together


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` with zero padding, no groups and no dilation: the same weights, the same values within rounding.

    In training, patches are laid side by side and multiplied as one matrix (im2col; Chellapilla, Puri, Simard, "High
    performance convolutional neural networks for document processing", 2006) where maps have few places, and for the
    gradient of the weights where they have some more. The usual CPU kernels have next to nothing to share out among
    512 x 512 channels there, and their threads wait for each other at full speed, which a machine that has other work
    to do pays dearly. Such a map is computed in the type of its input.
    """

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, *, bias: bool = True) -> None:
        super().__init__(before, after, kernel, stride, padding=kernel // 2, bias=bias)

    def forward(self, input: Float[Tensor, "N C H W"]) -> Float[Tensor, "N _C _H _W"]:
        if not self.training:
            return super().forward(input)
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        height, width = ((size + 2 * (kernel // 2) - kernel) // stride + 1 for size in input.shape[2:])
        if height * width > FEW:
            out = _Convolution.apply(input, self.weight.to(input.dtype), stride)
            return out if self.bias is None else out + self.bias.to(out.dtype)[:, None, None]
        patches = _Patches.apply(input, kernel, stride)  # [N*H*W C*k*k]
        rows = F.linear(patches, self.weight.flatten(1), self.bias)
        return rows.unflatten(0, (-1, height, width)).permute(0, 3, 1, 2)


class _Patches(torch.autograd.Function):
    """Map [N C H W] -> the square around each place, [N*H'*W' C*k*k], as `unfold` orders them.

    One shifted map after the other, with the channels last: a copy of long runs, and its gradient as many sums.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(input: Tensor, kernel: int, stride: int) -> Tensor:
        edge = kernel // 2
        padded = F.pad(input.permute(0, 2, 3, 1), (0, 0, edge, edge, edge, edge))
        return torch.stack(_shifted(padded, kernel, stride), -1).flatten(3).flatten(0, 2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, int], output: Tensor) -> None:
        ctx.shape, ctx.how = tuple(inputs[0].shape), inputs[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Map.apply(grad, ctx.shape, *ctx.how), None, None


class _Map(torch.autograd.Function):
    """The adjoint of `_Patches`: what overlaps is summed, [N*H'*W' C*k*k] -> [N C H W]."""

    generate_vmap_rule = True

    @staticmethod
    def forward(patches: Tensor, shape: tuple[int, int, int, int], kernel: int, stride: int) -> Tensor:
        (count, channels, height, width), edge = shape, kernel // 2
        padded = patches.new_zeros(count, height + 2 * edge, width + 2 * edge, channels)
        steps = patches.unflatten(1, (channels, -1)).permute(2, 0, 1).contiguous()  # [k*k N*H'*W' C]
        for place, step in zip(_shifted(padded, kernel, stride), steps, strict=True):
            place += step.view(place.shape)
        return padded[:, edge : edge + height, edge : edge + width].permute(0, 3, 1, 2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, tuple, int, int], output: Tensor) -> None:
        ctx.how = inputs[2:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return _Patches.apply(grad, *ctx.how), None, None, None


def _shifted(padded: Float[Tensor, "N H W C"], kernel: int, stride: int) -> list[Tensor]:
    """Views of what each of the k*k weights of a kernel sees, [N H' W' C] each."""
    height, width = ((size - kernel) // stride + 1 for size in padded.shape[1:3])
    return [
        padded[:, i : i + stride * height : stride, j : j + stride * width : stride]
        for i, j in product(range(kernel), repeat=2)
    ]


class _Convolution(torch.autograd.Function):
    """The usual convolution [N C H W] * [O C k k], but for the gradient of its weights."""

    generate_vmap_rule = True

    @staticmethod
    def forward(input: Tensor, weight: Tensor, stride: int) -> Tensor:
        return F.conv2d(input, weight, stride=stride, padding=weight.shape[2] // 2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.stride = inputs[2]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        before, weight = ctx.saved_tensors
        input, kernels, edge = before.to(grad.dtype), weight.to(grad.dtype), weight.shape[2] // 2
        wanted, learns = ctx.needs_input_grad[:2]
        places = grad.shape[2] * grad.shape[3]
        small = grad.element_size() == 2 and len(grad) * places * weight[0].numel() <= LARGE
        multiply = learns and (places <= SOME or small)
        to_input, to_weight, _ = torch.ops.aten.convolution_backward(
            grad, input, kernels, None, [ctx.stride] * 2, [edge] * 2, [1, 1], False, [0, 0], 1,
            [wanted, learns and not multiply, False],
        )  # fmt: skip
        if multiply:
            to_weight = _to_weight(grad, input, weight.shape[2], ctx.stride)
        return to_input.to(before.dtype) if wanted else None, to_weight.to(weight.dtype) if learns else None, None


def _to_weight(grad: Tensor, input: Tensor, kernel: int, stride: int) -> Tensor:
    """[N O H W] and [N C ...] -> [O C k k]: every patch, its channels last, times the gradient at its place."""
    edge = kernel // 2
    padded = F.pad(input.permute(0, 2, 3, 1), (0, 0, edge, edge, edge, edge))
    patches = padded.unfold(1, kernel, stride).unfold(2, kernel, stride)  # [N H W C k k]
    patches = patches[:, : grad.shape[2], : grad.shape[3]].permute(0, 1, 2, 4, 5, 3)
    rows = grad.permute(0, 2, 3, 1).flatten(0, 2)
    grads = rows.t() @ patches.flatten(3).flatten(0, 2)
    return grads.unflatten(1, (kernel, kernel, -1)).permute(0, 3, 1, 2).contiguous()
