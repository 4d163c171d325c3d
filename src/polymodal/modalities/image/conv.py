"""Convolution of feature maps, quick to train on a CPU where maps are small."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

FEW = 9  # places of the new map up to which the whole convolution is quicker as a product of matrices ...
SOME = 16  # ... and up to which the gradient of the weights is; in 16-bit numbers it is for all but large maps:
LARGE = 1 << 24  # numbers in all patches together


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
        patches = F.unfold(input, kernel, padding=kernel // 2, stride=stride)  # [N C*k*k H*W]
        rows = F.linear(patches.transpose(1, 2).flatten(0, 1), self.weight.flatten(1), self.bias)
        return rows.unflatten(0, (-1, height, width)).permute(0, 3, 1, 2)


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
    product = rows.t() @ patches.flatten(3).flatten(0, 2)
    return product.unflatten(1, (kernel, kernel, -1)).permute(0, 3, 1, 2).contiguous()
