"""Nets of torch with the weights of ours, to compare with; and sequences of different lengths to run them on."""

from __future__ import annotations

import torch
from torch import nn

from polymodal.core.transformer import TransformerStack

LENGTHS = [5, 1, 7, 4]


def sequences(features: int, lengths: list[int] = LENGTHS) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise everywhere, padding too: whoever looks at the padding gives a different answer."""
    torch.manual_seed(3)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randn(len(lengths), max(lengths), features), mask


def unusual(part: nn.Module) -> None:
    """Biases and scales that are not the usual zeros and ones."""
    for name, p in part.named_parameters():
        nn.init.normal_(p, 1.0 if "norm" in name else 0.0, 0.3)


def encoder_like(own: TransformerStack) -> nn.TransformerEncoder:
    """torch's own pre-norm Transformer encoder, without dropout, with the same weights in the same precision."""
    first = own.layers[0]
    layer = nn.TransformerEncoderLayer(
        own.width, first.heads, first.up.out_features, 0.0, "gelu", batch_first=True, norm_first=True
    )
    theirs = nn.TransformerEncoder(layer, len(own.layers), norm=nn.LayerNorm(own.width), enable_nested_tensor=False)
    theirs = theirs.to(own.norm.weight.dtype)
    theirs.norm.load_state_dict(own.norm.state_dict())
    for mine, other in zip(own.layers, theirs.layers, strict=True):
        pairs = [
            (mine.norm1, other.norm1), (mine.norm2, other.norm2), (mine.out, other.self_attn.out_proj),
            (mine.up, other.linear1), (mine.down, other.linear2),
        ]  # fmt: skip
        for one, two in pairs:
            two.load_state_dict(one.state_dict())
        other.self_attn.in_proj_weight.data.copy_(mine.qkv.weight)
        other.self_attn.in_proj_bias.data.copy_(mine.qkv.bias)
    return theirs
