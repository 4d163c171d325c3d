"""Fusion by a few of many experts."""

from __future__ import annotations

import torch
from torch import nn

from polymodal.core.errors import SpecError
from polymodal.core.schema import Positive, Share, Wired
from polymodal.core.streams import Notes, Stream, Streams
from polymodal.fusion.slots import Slots, one_token


class Mixture(nn.Module):
    """A sparse mixture of experts over the mean tokens side by side: each row is sent to the few that suit it.

    With `x = [x_1; ...; x_N]` and E experts `f_e(x) = V_e ReLU(W_e x + b_e) + c_e`, the gate `p = softmax(G x + g)`
    chooses the `active` largest, and `z = Σ_e w_e f_e(x)`, where w are the chosen p scaled to add up to 1, zero for the
    others. With `active: 1` the chosen p is not scaled: the gate could not learn from a weight that is always 1.

    In training `Notes.losses["balance"]` [B], `balance · E · Σ_e s_e p_e` with `s_e` the share of the batch's choices
    that fell on expert e, keeps all of them in use. `Notes.weights["experts"]` [B E] is w.

    Streams of [B T D] -> one token [B 1 out]. A missing input's place holds its own learned token, so experts may
    specialise in rows that lack it.

    Cost: all experts are computed (shapes do not depend on the data) and most are dropped: N·T·D additions and
    E·(N·D + out)·(hidden + 1) multiplications, E more in training for the balance; N·D + E·((N·D + 1)·(hidden + 1) +
    (hidden + 1)·out) parameters.
    Sources: Shazeer et al., "Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer", ICLR
    2017, without its noise; the balance, and the gate of one expert, of Fedus et al., "Switch Transformers: Scaling to
    Trillion Parameter Models with Simple and Efficient Sparsity", JMLR 2022.

    Settings: `experts`, E; `active`; `hidden` and `out` (D when not given); `balance`.
    """

    def __init__(
        self,
        *,
        inputs: Wired[tuple[str, ...]],
        width: Wired[int],
        experts: Positive = 4,
        active: Positive = 2,
        hidden: Positive | None = None,
        out: Positive | None = None,
        balance: Share = 0.01,
    ) -> None:
        super().__init__()
        if active > experts:
            raise SpecError("fusion.active", f"more than the {experts} experts", given=active,
                            advice=f"at most {experts}, or more experts")  # fmt: skip
        joined, hidden = len(inputs) * width, hidden or width
        self.width, self.active, self.balance = out or width, active, balance
        self.slots = Slots(inputs=inputs, width=width)
        self.gate = nn.Linear(joined, experts)
        nets = [[nn.Linear(joined, hidden), nn.ReLU(), nn.Linear(hidden, self.width)] for _ in range(experts)]
        self.experts = nn.ModuleList(nn.Sequential(*net) for net in nets)

    def forward(self, streams: Streams) -> tuple[Stream, Notes]:
        vectors, _ = self.slots(streams)
        x = vectors.flatten(1)
        chances = self.gate(x).softmax(1)  # [B E]
        chosen = torch.zeros_like(chances).scatter(1, chances.topk(self.active, 1).indices, 1.0)
        weights = chances * chosen
        if self.active > 1:
            weights = weights / weights.sum(1, keepdim=True)
        answers = torch.stack([expert(x) for expert in self.experts], 1)
        notes = Notes(weights={"experts": weights})
        if self.training and self.balance:
            shares = chosen.mean(0) / self.active
            notes = notes._replace(losses={"balance": self.balance * len(self.experts) * (chances @ shares)})
        return one_token(torch.einsum("be,bed->bd", weights, answers)), notes
