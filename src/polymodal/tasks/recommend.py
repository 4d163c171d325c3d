"""The task of telling what a user takes next from what the user took before, by what the items show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polymodal.core.contracts import Gather, Prediction, Records
from polymodal.core.contrast import common, everyone, nearest
from polymodal.core.errors import SpecError, suggest
from polymodal.core.schema import Chance, Json, Natural, Positive, Rate, Wired
from polymodal.core.streams import Answer, Cells, Embedded, Row, Stream, Streams, Target, pool
from polymodal.core.transformer import check_heads, rows_of
from polymodal.tasks.head import HeadNorm
from polymodal.tasks.recommend_ranks import Ranked, measures
from polymodal.tasks.recommend_towers import ItemTower, Order, UserTower

SHARPEST = 100.0  # 1 / τ


class Recommend(nn.Module):
    """Two towers: items by their content, users by the items they had; near to each other is what a user takes next.

    Every input that shows items has K columns: the item at hand, then K − 1 earlier ones of the same user, the latest
    first. An item's vector is made of its inputs' mean tokens by `ItemTower`, so one that was never seen in training
    has a vector at once; a user's of the earlier items' vectors by `UserTower`, and of inputs that tell `about` the
    user. With s(u, i) = u · i / τ, τ learned, the loss of row b is InfoNCE over the batch, of all processes:

        L_b = −ln e^s(u_b, i_b) / (e^s(u_b, i_b) + Σ_c e^s(u_b, i_c))

    over the rows c whose item is another one and, unless it may come `again`, none that the user had. With `log_q`
    every s(u, i) is less ln q(i), the item's share of the training rows: batches show common items more often, and are
    not to be punished for it. The target is the item's name, in one column, or in K: those of the earlier items too.

    Inputs must not look at each other: with `attention` in the spec the vectors would know the answer, and it is
    refused. A `fusion` is not read. Predictions are the cosine of the item at hand to the user. Measures: see
    `recommend_ranks.measures`; the catalogue are the items at hand of the measured rows, less what a user had.

    Cost: N·(D + 1)·E parameters of the item tower without a hidden layer, E² of the user tower for `mean`, 6·E² for
    a layer of `gru`, 12·E² of `transformer`; B·E multiplications per row of a batch of B besides.
    Sources: Covington et al., "Deep Neural Networks for YouTube Recommendations", RecSys 2016 (two towers); Hidasi et
    al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016 (`gru`); Kang & McAuley,
    "Self-Attentive Sequential Recommendation", ICDM 2018 (`transformer`); Yi et al., "Sampling-Bias-Corrected Neural
    Modeling for Large Corpus Item Recommendations", RecSys 2019 (`log_q`).

    Settings: `dim`, E; `history`; `layers` and `heads` of it (`heads`: of the Transformer); `hidden`, `dropout` and
    `norm` of the item tower; `about`, inputs that tell of the user; `temperature`, τ at first; `log_q`; `again`.
    """

    reads = frozenset({"tokens"})
    says: tuple[str, ...] = ()
    spaces = ("item", "user")
    metric, maximize = "mrr", True
    alike = apart = whole = True

    def __init__(
        self,
        *,
        field: Wired[dict],
        fields: Wired[dict],
        inputs: Wired[tuple[str, ...]],
        width_in: Wired[int],
        dim: Positive = 64,
        history: Order = "gru",
        layers: Positive = 1,
        heads: Positive = 2,
        hidden: Natural = 0,
        dropout: Chance = 0.0,
        norm: HeadNorm = "none",
        about: tuple[str, ...] = (),
        temperature: Rate = 0.07,
        log_q: bool = False,
        again: bool = False,
    ) -> None:
        super().__init__()
        if history == "transformer":
            check_heads(dim, heads)
        self.about, self.log_q, self.again = about, log_q, again
        self.inputs, self.columns = shown(inputs, about, fields)
        self.dim, self.rows = dim, max(1, field["rows"])
        self.item_tower = ItemTower(inputs=self.inputs, columns=self.columns, width=width_in, dim=dim, hidden=hidden,
                                    dropout=dropout, norm=norm)  # fmt: skip
        self.user_tower = UserTower(history=history, earlier=self.columns - 1, dim=dim, layers=layers, heads=heads,
                                    dropout=dropout, about=len(about) * (width_in + 1))  # fmt: skip
        self.start = -math.log(temperature)
        self.learned = nn.Embedding(1, 1)  # moves away from the start
        nn.init.zeros_(self.learned.weight)
        self._ranked = Ranked()

    @staticmethod
    def target(settings: Json, files: Path) -> tuple[str, Json]:
        return "item", {}

    def made_of(self, space: str, columns: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        """The columns of a table that the vectors of a space are made of, of all columns of each input."""
        first = {name: len(columns[name]) // self.columns for name in self.inputs}
        item = [c for name, count in first.items() for c in columns[name][:count]]
        if space == "item":
            return tuple(item)
        return tuple(c for name in columns for c in columns[name] if name in self.about or c not in item)

    def progress(self, done: float) -> None:
        """Before every step: similarities are multiplied by no more than 100."""
        with torch.no_grad():
            self.learned.weight.clamp_(max=math.log(SHARPEST) - self.start)

    def prepare(
        self, inputs: dict[str, Cells], target: Target | None, key: Tensor
    ) -> tuple[dict[str, Cells], Target | None]:
        return inputs, target

    def forward(self, streams: Streams, fused: Stream | None, target: Target | None) -> Answer:
        items = self.item_tower(streams)
        told = [x for name in self.about for x in _told(streams[name])]
        user = self.user_tower(items.vectors[:, 1:], items.present[:, 1:], torch.cat(told, 1) if told else None)
        scale = self.start + rows_of(self.learned, len(user))[:, 0, 0].float()
        return {"user": user, "item": items.vectors[:, 0], "there": items.present[:, 0], "scale": scale}

    def users(self, items: Float[Tensor, "B H E"], present: Bool[Tensor, "B H"]) -> Float[Tensor, "B E"]:
        """Users by the vectors of their earlier items, the latest first; of whom nothing else is told."""
        return self.user_tower(items, present, None)

    def embed(self, streams: Streams, fused: Stream | None) -> dict[str, Embedded]:
        """The item at hand, where it is there, and the user, who is always there: a new one by a learned vector."""
        answer = self(streams, fused, None)
        there = answer["there"][:, None]
        return {"item": Embedded(answer["item"][:, None], there),
                "user": Embedded(answer["user"][:, None], torch.ones_like(there))}  # fmt: skip

    def loss(self, answer: Answer, target: Target, gather: Gather | None) -> Float[Tensor, " B"]:
        asked, item, share = self._asked(answer, target), target.data["item"], self._share(target)
        columns = (answer["item"], item, asked, share)
        vectors, items, there, shares = everyone(columns, gather)
        scale = answer["scale"].exp()
        own = scale * (answer["user"] * answer["item"]).sum(1) - share
        against = scale[:, None] * (answer["user"] @ vectors.T) - shares
        known = item[:, None] if self.again else torch.cat([item[:, None], target.data["before"]], 1)
        barred = common(known, items[:, None]) | ~there
        return nearest(own[:, None], against, barred)[:, 0].where(asked, 0.0)

    def _share(self, target: Target) -> Float[Tensor, " B"]:
        """ln q of each row's item, that of the rarest for one which no training row is about; 0 without `log_q`."""
        counts = target.data["count"].clamp(min=1).float()
        return (counts / self.rows).log() if self.log_q else torch.zeros_like(counts)

    @staticmethod
    def _asked(answer: Answer, target: Target) -> Bool[Tensor, " B"]:
        return answer["there"] & target.present & (target.data["item"] >= 0)

    def weight(self, target: Target) -> Float[Tensor, " B"]:
        return (target.present & (target.data["item"] >= 0)).float()

    def respond(self, streams: Streams, fused: Stream | None, **options: Json) -> Answer:
        return self(streams, fused, None)

    def predict(self, answer: Answer, rows: Sequence[Row]) -> list[Prediction]:
        near = (answer["user"] * answer["item"]).sum(1).double().tolist()
        return [Prediction(x if there else None) for x, there in zip(near, answer["there"].tolist(), strict=True)]

    def score(self, answer: Answer, target: Target) -> Records:
        """Per row both vectors, the items' digests, whether the item is `new` to the run, whether it is `asked`."""
        before = target.data["before"]
        asked = self._asked(answer, target)
        found = {"user": answer["user"], "vector": answer["item"], "item": target.data["item"],
                 "before": before[:, :0] if self.again else before, "new": target.data["count"] < 0, "asked": asked,
                 "error": (1 - (answer["user"] * answer["item"]).sum(1)).where(asked, 0.0)}  # fmt: skip
        return {name: value[target.present].detach().cpu().numpy() for name, value in found.items()}

    def measure(self, records: Records, weights: Float[np.ndarray, "W n"]) -> dict[str, Float[np.ndarray, " W"]]:
        asked = records["asked"]
        if not asked.all():
            weights = weights[:, asked]
        return measures(self._ranked(records), records["new"][asked], weights)

    def charts(self, records: Records) -> list[Json]:
        return []


def _told(stream: Stream) -> list[Tensor]:
    """What an input says of the user, zeros where it is missing, and whether it is there."""
    return [pool(stream.tokens, stream.mask), stream.mask.any(1, keepdim=True).to(stream.tokens.dtype)]


def shown(inputs: tuple[str, ...], about: tuple[str, ...], fields: dict) -> tuple[tuple[str, ...], int]:
    """The inputs that show items, and how many items each shows. Raises SpecError where they do not agree."""
    for name in about:
        if name not in inputs:
            raise SpecError("about", "no input of this name", given=name, advice=suggest(name, inputs))
    items = tuple(name for name in inputs if name not in about)
    if not items:
        raise SpecError("about", "leaves no input that shows items", given=list(about), advice="an input of items")
    columns = {name: fields.get(name, {}).get("columns", 1) for name in items}
    if len(set(columns.values())) > 1:
        raise SpecError("about", "the inputs show different numbers of items: each needs the item at hand and the "
                        "same earlier ones", given=columns,
                        advice="as many columns (a record: with `each`); about: what tells of the user")  # fmt: skip
    return items, next(iter(columns.values()))
