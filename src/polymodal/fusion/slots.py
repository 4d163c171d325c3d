"""What the fusions share: one pooled vector per input, and what stands in the place of an input that is missing."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polymodal.core.streams import Stream, Streams, pool
from polymodal.core.transformer import rows_of


def pooled(streams: Streams, inputs: tuple[str, ...]) -> tuple[Float[Tensor, "B N D"], Bool[Tensor, "B N"]]:
    """The mean token of every input, in the order of `inputs` (zeros where missing), and whether the input is there."""
    vectors = torch.stack([pool(streams[name].tokens, streams[name].mask) for name in inputs], 1)
    return vectors, torch.stack([streams[name].mask.any(1) for name in inputs], 1)


def one_token(vector: Float[Tensor, "B D"]) -> Stream:
    """A fused vector as a stream of one token, which is there in every row."""
    return Stream(vector[:, None], torch.ones(vector.shape[0], 1, dtype=torch.bool, device=vector.device))


class Slots(nn.Module):
    """A fixed place for every input: its mean token, or a learned token of its own where the input is missing.

    O(N T D) operations, N D parameters, for N inputs of T tokens of D features.
    """

    def __init__(self, *, inputs: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.missing = nn.Embedding(len(inputs), width)

    def forward(self, streams: Streams) -> tuple[Float[Tensor, "B N D"], Bool[Tensor, "B N"]]:
        vectors, present = pooled(streams, self.inputs)
        return torch.where(present[..., None], vectors, rows_of(self.missing, vectors.shape[0])), present
