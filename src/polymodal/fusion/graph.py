"""Fusion over a graph whose nodes are the inputs and their tokens."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.errors import SpecError
from polymodal.core.schema import Chance, Positive, Wired
from polymodal.core.streams import Notes, Stream, Streams, pool
from polymodal.core.transformer import rows_of
from polymodal.fusion.links import Links, links
from polymodal.fusion.messages import GraphAttention, GraphConvolution
from polymodal.fusion.slots import one_token, pooled


class Graph(nn.Module):
    """A graph net: a node for every input and one for every token; each hears the nodes that it is joined to.

    The node of input i starts as `x_i + m_i`, its mean token and a learned mark of the input; a token's as `t_j + m_i`.
    Every input is joined to all others and to its own tokens, a token to the `reach` real tokens before it in its input
    and as many after it, and every node to itself. With `nodes: inputs` there are no tokens. Then, `layers` times,

        H ← H + GELU(G(norm(H)))

    and a last normalisation, where G is, with U, V, W, a, b of each layer's own and A the nodes that are joined,

    - `form: convolution`: `S^(−½) (A + I) S^(−½) X W + b`, S being diagonal with the sums of the rows of A + I;
    - `form: attention`: `Σ_j α_ij V x_j`, `α_ij = softmax_j(a · LeakyReLU(U x_i + V x_j))` over the nodes j that are
      joined to node i, in each of the `heads`.

    `pool: inputs` gives the mean state of the inputs' nodes, `nodes` that of all nodes, `none` the states of all nodes
    as a stream, first the inputs.

    Streams of [B T D] -> one token [B 1 D], or with `none` all M nodes [B M D]. A missing input and its tokens are no
    nodes; a row with nothing at all is zero, or with `none` without a real token. Outside training `form: attention`
    gives `Notes.weights["inputs"]` [B N N], how much every input's node took from every other's in the last layer, the
    mean over the heads; what is lacking to 1 it took from its tokens.

    Cost, for T tokens in all, M = N + T nodes and E = (2·reach + 2)·T + N·M places for edges (without tokens M = N and
    E = N²): (T + N)·D additions for the means before and after the layers (`pool: nodes` (T + M)·D), and per layer
    M·D² + E·D multiplications and D² + 3·D parameters (`convolution`), or 2·M·D² + 2·E·D multiplications and
    2·D² + 5·D parameters (`attention`); (N + 2)·D parameters besides. The work is linear in T.
    Sources: Kipf and Welling, "Semi-Supervised Classification with Graph Convolutional Networks", ICLR 2017; Velickovic
    et al., "Graph Attention Networks", ICLR 2018, with the attention of Brody et al., "How Attentive are Graph
    Attention Networks?", ICLR 2022; the residual path around each layer after Li et al., "DeepGCNs: Can GCNs Go as Deep
    as CNNs?", ICCV 2019.

    Settings: `form`; `nodes`; `reach` (1), for `nodes: tokens`; `layers`; `heads` (4) of `form: attention`, which must
    divide D; `dropout`, after the GELU; `pool`.
    """

    def __init__(
        self,
        *,
        inputs: Wired[tuple[str, ...]],
        width: Wired[int],
        form: Literal["attention", "convolution"] = "attention",
        nodes: Literal["tokens", "inputs"] = "tokens",
        reach: Positive | None = None,
        layers: Positive = 2,
        heads: Positive | None = None,
        dropout: Chance = 0.0,
        pool: Literal["inputs", "nodes", "none"] = "inputs",
    ) -> None:
        super().__init__()
        if heads is not None and form == "convolution":
            raise SpecError("fusion.heads", "form: convolution has none", given=heads,
                            advice="leave it out, or form: attention")  # fmt: skip
        if reach is not None and nodes == "inputs":
            raise SpecError("fusion.reach", "is counted in tokens, and nodes: inputs has none", given=reach,
                            advice="leave it out, or nodes: tokens")  # fmt: skip
        self.inputs, self.width, self.pool = inputs, width, pool
        self.nodes, self.reach = nodes, reach or 1
        self.marks = nn.Embedding(len(inputs), width)
        nn.init.normal_(self.marks.weight, std=0.02)
        made = [GraphAttention(width, heads or 4) if form == "attention" else GraphConvolution(width)
                for _ in range(layers)]  # fmt: skip
        self.layers: Any = nn.ModuleList(_Layer(width, one, dropout) for one in made)
        self.norm = nn.LayerNorm(width)

    def forward(self, streams: Streams) -> tuple[Stream, Notes]:
        states, there, edges = self.graph(streams)
        taken = None
        for layer in self.layers:
            states, taken = layer(states, edges)
        count = len(self.inputs)
        shown = {} if taken is None or self.training else {"inputs": taken[..., :count]}
        states = self.norm(states) * there[..., None]
        if self.pool == "none":
            return Stream(states, there), Notes(weights=shown)
        if self.pool == "inputs":
            states, there = states[:, :count], there[:, :count]
        return one_token(pool(states, there)), Notes(weights=shown)

    def graph(self, streams: Streams) -> tuple[Float[Tensor, "B M D"], Bool[Tensor, "B M"], Links]:
        """The nodes as they start, those that are there, and their edges."""
        means, present = pooled(streams, self.inputs)
        marks = rows_of(self.marks, means.shape[0])
        parts = [streams[name] for name in self.inputs] if self.nodes == "tokens" else []
        tokens = [p.tokens + marks[:, i : i + 1] for i, p in enumerate(parts)]
        masks = [p.mask for p in parts]
        return (torch.cat([means + marks, *tokens], 1), torch.cat([present, *masks], 1),
                links(present, masks, self.reach))  # fmt: skip


class _Layer(nn.Module):
    """`x + GELU(G(norm(x)))`, and what G says about who took from whom."""

    def __init__(self, width: int, told: nn.Module, dropout: float) -> None:
        super().__init__()
        self.norm, self.told, self.dropout = nn.LayerNorm(width), told, nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B M D"], edges: Links) -> tuple[Float[Tensor, "B M D"], Tensor | None]:
        told, taken = self.told(self.norm(x), edges)
        return x + self.dropout(F.gelu(told)), taken
