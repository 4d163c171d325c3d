"""Memory tokens -> what a language model reads before it speaks: tokens of its own width, as if they were words."""

from __future__ import annotations

from typing import Literal, NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor, nn

from polymodal.core.transformer import Attend, FeedForward, check_heads, rows_of


class Prefix(NamedTuple):
    """P tokens of the language model's width E; `weights` say of how much of which memory token each is made."""

    tokens: Float[Tensor, "B P E"]
    mask: Bool[Tensor, "B P"]
    weights: Float[Tensor, "B P S"] | None = None  # each token is its own memory token when not given


class Linear(nn.Module):
    """Every memory token by itself, `W x + b` (Liu et al. 2023, LLaVA). (W + 1)·E parameters, S·W·E multiplications."""

    def __init__(self, width: int, width_out: int) -> None:
        super().__init__()
        self.map: nn.Module = nn.Linear(width, width_out)

    def forward(self, tokens: Float[Tensor, "B S W"], mask: Bool[Tensor, "B S"], weigh: bool = False) -> Prefix:
        return Prefix(self.map(tokens), mask)


class MLP(Linear):
    """Every memory token by itself, through two layers with GELU between them (Liu et al. 2023, LLaVA-1.5).

    (W + 1)·E + (E + 1)·E parameters, S·(W + E)·E multiplications.
    """

    def __init__(self, width: int, width_out: int) -> None:
        super().__init__(width, width_out)
        self.map = nn.Sequential(self.map, nn.GELU(), nn.Linear(width_out, width_out))


class Resampler(nn.Module):
    """Any number of memory tokens in `queries` tokens: learned queries that attend to the memory, layer after layer.

    A layer is `q + attend(norm(q), memory)`, then a feed-forward net (Alayrac et al. 2022, Flamingo's Perceiver
    Resampler; Li et al. 2023, the Q-Former). (W + 1)·E + layers·(12·E² + 11·E) + queries·E parameters, besides norms;
    S·W·E + layers·((2·S + 10·P)·E² + 2·P·S·E) multiplications for P queries. Raises SpecError unless `heads` divides E.
    """

    def __init__(self, width: int, width_out: int, queries: int, layers: int, heads: int) -> None:
        super().__init__()
        check_heads(width_out, heads)
        self.queries = nn.Embedding(queries, width_out)
        nn.init.normal_(self.queries.weight, std=0.02)
        self.map, self.seen = nn.Linear(width, width_out), nn.LayerNorm(width_out)
        self.norms = nn.ModuleList(nn.LayerNorm(width_out) for _ in range(layers))
        self.attends = nn.ModuleList(Attend(width_out, heads, 0.0) for _ in range(layers))
        self.feeds = nn.ModuleList(FeedForward(width_out, 0.0, 4) for _ in range(layers))

    def forward(self, tokens: Float[Tensor, "B S W"], mask: Bool[Tensor, "B S"], weigh: bool = False) -> Prefix:
        seen = self.seen(self.map(tokens))
        x = rows_of(self.queries, len(tokens))
        looks: list[Tensor] = []
        for norm, attend, feed in zip(self.norms, self.attends, self.feeds, strict=True):
            taken, look = attend(norm(x), seen, mask, weigh)
            looks += [] if look is None else [look]
            x = feed(x + taken)
        return Prefix(x, mask.new_ones(x.shape[:2]), sum(looks) / len(looks) if looks else None)  # type: ignore[arg-type]


def make_prefix(kind: Literal["linear", "mlp", "resampler"], width: int, width_out: int, *, queries: int, layers: int,
                heads: int) -> Linear | Resampler:  # fmt: skip
    """The map of this name; the last three settings are the resampler's."""
    if kind == "resampler":
        return Resampler(width, width_out, queries, layers, heads)
    return (MLP if kind == "mlp" else Linear)(width, width_out)
