"""Co-attention in two forms: parallel, over one affinity, and stacked, with guided attention."""

from __future__ import annotations

from typing import Literal

from torch import nn

from polymodal.attention.parallel import Parallel, scaled
from polymodal.attention.stacked import Stacked
from polymodal.attention.tokens import put, take
from polymodal.core.errors import SpecError
from polymodal.core.schema import Chance, Positive, Wired
from polymodal.core.streams import Notes, Streams


class CoAttention(nn.Module):
    """Inputs that tell each other where to look.

    `form: stacked` is deep co-attention. In each layer, for all inputs at once, and then a last normalisation:

        s_i ← x_i + SelfAttention_i(norm(x_i))
        g_i ← s_i + Attend_i(norm_i(s_i), [norm_j(s_j) for all j ≠ i])       guided by all others, one sequence
        x_i ← g_i + W_2 GELU(W_1 norm(g_i))

    It differs from `bidirectional`: an input is guided by what the others have become after their self-attention of
    the same layer, not by what they were before the layer; the tokens of all others stand in one softmax and compete,
    instead of one softmax for each other input and the mean of the answers; and the weights grow with N, not with N².
    Cost per layer, r = `ratio`: N·((8 + 2r)·D² + (15 + r)·D) parameters, and 2·N·D at the end; with one input
    (4 + 2r)·D² + (9 + r)·D per layer. Multiplications per row and layer:
    N·((4 + 2r)·T·D² + 2·T²·D) + N·(2·N·T·D² + 2·(N − 1)·T²·D).
    Source: the SGA units of Yu et al., "Deep Modular Co-Attention Networks for Visual Question Answering" (MCAN), CVPR
    2019, in its stacking form; here every input is guided, and the normalisation stands before each step.

    `form: parallel` weighs the tokens and leaves them otherwise as they are, `x_it ← T_i a_it x_it` with the
    attention a_i of `parallel.Parallel` and T_i real tokens, so that the mean over the tokens is the attended sum
    `Σ_t a_it x_it`.
    Cost: N·(N − 1)/2·D² + N·(D² + D) parameters; N·(N − 1)/2·(T·D² + 3·T²·D) + N·(T·D² + T·D) multiplications.
    Source: Lu et al., "Hierarchical Question-Image Co-Attention for Visual Question Answering", NeurIPS 2016, 3.3.

    Streams of [B T D] -> the same. A missing input guides nobody; an input alone looks only at itself.
    `Notes.weights`, stacked, outside training: `"photo<-title"` [B T S] in the last layer, the mean over the heads;
    for a token of `photo` they add up to 1 over the tokens of all other inputs together. Parallel: `"<-photo"` [B T],
    which is a.

    Settings: `form`; for the stacked form `layers` (2); `heads` (4), which must divide D; `ratio` (4), hidden width of
    the feed-forward nets over D; `dropout` (0).
    """

    def __init__(
        self,
        *,
        inputs: Wired[tuple[str, ...]],
        width: Wired[int],
        form: Literal["stacked", "parallel"] = "stacked",
        layers: Positive | None = None,
        heads: Positive | None = None,
        ratio: Positive | None = None,
        dropout: Chance | None = None,
    ) -> None:
        super().__init__()
        self.inputs, self.form = inputs, form
        if form == "parallel":
            for name, value in (("layers", layers), ("heads", heads), ("ratio", ratio), ("dropout", dropout)):
                if value is not None:
                    raise SpecError(name, "belongs to the stacked form", given=value, advice="form: stacked")
            self.look: Parallel | Stacked = Parallel(len(inputs), width)
        else:
            self.look = Stacked(len(inputs), width, layers or 2, heads or 4, dropout or 0.0, ratio or 4)

    def forward(self, streams: Streams) -> tuple[Streams, Notes]:
        tokens, masks = take(streams, self.inputs)
        if isinstance(self.look, Parallel):
            shares = self.look(tokens, masks)
            notes = Notes(weights={f"<-{name}": a for name, a in zip(self.inputs, shares, strict=True)})
            return put(streams, self.inputs, scaled(tokens, masks, shares)), notes
        lengths = [x.shape[1] for x in tokens]
        tokens, weights = self.look(tokens, masks, not self.training)
        named = {}
        for i, looked in enumerate(weights):
            others = [j for j in range(len(self.inputs)) if j != i]
            for j, part in zip(others, looked.split([lengths[j] for j in others], 2), strict=True):
                named[f"{self.inputs[i]}<-{self.inputs[j]}"] = part
        return put(streams, self.inputs, tokens), Notes(weights=named)
