"""The task of telling whether the inputs of a row belong together: a table asks its own questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.contracts import Gather, Prediction, Records
from polymodal.core.contrast import digests
from polymodal.core.errors import SpecError, suggest
from polymodal.core.lots import numbers, uniform
from polymodal.core.schema import Chance, Json, Natural, Wired
from polymodal.core.streams import Answer, Cells, Row, Stream, Streams, Target, pool
from polymodal.tasks import metrics, ranking
from polymodal.tasks.classes import reliability
from polymodal.tasks.head import HeadNorm, head


class Match(nn.Module):
    """Matching: half of the rows are shown another row's cells in one input, and all are asked whether they fit.

    Drawn by its key, a row keeps its cells or, with probability ½, gets those that another row of the batch has in
    `input`; which one, both rows' keys decide. Rows are not exchanged that have the same cells in `input`, nor those
    that have the same ones in all others: a picture with any of its five captions is a true pair. From the fused stream
    [B T D], pooled over T, comes `logit` [B]. Loss: binary cross-entropy of p = σ(logit), "they belong together".

    A row counts for nothing when it has no cell in `input` or none elsewhere, and when no row of the batch could have
    taken its place, as in a batch of one. So the questions depend on who stands together in a batch, and with several
    processes in the part of it that one of them holds; in the same batch they are always the same.

    Questions are asked where rows are measured too: `auroc`, `accuracy` at p > ½ (½ is guessing) and
    `log_loss`. A prediction is p for the row as it is.

    Cost: D + 1 parameters and multiplications per row, without a hidden layer; B² numbers drawn; and attention and
    fusion run once more, since nothing is encoded again. Sources: image-text matching of Chen et al., "UNITER", ECCV
    2020; Kim et al., "ViLT", ICML 2021. Not covered: hard negatives (Li et al., "ALBEF", NeurIPS 2021).

    Settings: `input`, the one that is exchanged, the last one when not given; `hidden`, `dropout`, `norm` of the head.
    """

    reads = frozenset({"fused"})
    says: tuple[str, ...] = ()
    metric, maximize = "auroc", True
    poses = mixes = True

    def __init__(
        self,
        *,
        width: Wired[int],
        inputs: Wired[tuple[str, ...]],
        input: str | None = None,
        hidden: Natural = 0,
        dropout: Chance = 0.0,
        norm: HeadNorm = "none",
    ) -> None:
        super().__init__()
        if len(inputs) < 2:
            raise SpecError("type", "needs two inputs or more", given="match", advice="another input, or another task")
        self.input = inputs[-1] if input is None else input
        if self.input not in inputs:
            raise SpecError("input", "no input of this name", given=input, advice=suggest(self.input, inputs))
        self.head = head(width, 1, hidden, dropout, norm)

    @staticmethod
    def target(settings: Json, files: Path) -> tuple[str, Json]:
        return "anything", {}

    def prepare(
        self, inputs: dict[str, Cells], target: Target | None, key: Tensor
    ) -> tuple[dict[str, Cells], Target | None]:
        """The input's cells of some rows exchanged, by a new index. Data of what is asked: `together` and `asked` [B].

        Without a target nothing is exchanged: the row itself is asked about.
        """
        if target is None:
            return inputs, None
        cells = inputs[self.input]
        able = strangers(digests(cells), torch.cat([digests(c) for n, c in inputs.items() if n != self.input], 1))
        asked = target.present & able.any(1)
        gone = asked & (uniform(key, "match.exchange", 1)[:, 0] < 0.5)
        pairs = numbers(key[:, None] ^ numbers(key, "match.donor", 1)[:, 0], "match.pair", 1)[..., 0]
        donor = pairs.where(able, -1).argmax(1)
        changed = cells._replace(index=torch.where(gone[:, None], cells.index[donor], cells.index))
        posed = {**target.data, "together": (~gone).float(), "asked": asked}
        return {**inputs, self.input: changed}, Target(posed, target.present)

    def forward(self, streams: Streams, fused: Stream, target: Target | None) -> Answer:
        return {"logit": self.head(pool(fused.tokens, fused.mask))[:, 0]}

    def loss(self, answer: Answer, target: Target, gather: Gather | None) -> Float[Tensor, " B"]:
        return F.binary_cross_entropy_with_logits(answer["logit"].float(), target.data["together"], reduction="none")

    def weight(self, target: Target) -> Float[Tensor, " B"]:
        return (target.present & target.data.get("asked", target.present)).float()

    def respond(self, streams: Streams, fused: Stream, **options: Json) -> Answer:
        return self(streams, fused, None)

    def predict(self, answer: Answer, rows: Sequence[Row]) -> list[Prediction]:
        return [Prediction(p) for p in answer["logit"].double().sigmoid().tolist()]

    def score(self, answer: Answer, target: Target) -> Records:
        """Per row the `probability` that it fits, whether it is `together`, and whether this was `asked` of it."""
        asked, x = target.data["asked"], answer["logit"].double()
        error = F.binary_cross_entropy_with_logits(x, target.data["together"].double(), reduction="none")
        found = {"probability": x.sigmoid(), "together": target.data["together"] > 0, "asked": asked,
                 "error": error.where(asked, 0.0)}  # fmt: skip
        return {name: value[target.present].detach().cpu().numpy() for name, value in found.items()}

    def measure(self, records: Records, weights: Float[np.ndarray, "W n"]) -> dict[str, Float[np.ndarray, " W"]]:
        asked = records["asked"]
        p, truth, weights = records["probability"][asked], records["together"][asked], weights[:, asked]
        auroc, _ = ranking.macro_areas(p[:, None], truth[:, None], weights)
        return {
            "auroc": auroc,
            "accuracy": metrics.mean((p > 0.5) == truth, weights),
            "log_loss": metrics.mean(records["error"][asked], weights),
        }

    def charts(self, records: Records) -> list[Json]:
        """How often rows belong together against how sure the model is that they do."""
        asked = records["asked"]
        return [{"kind": "reliability", "bins": reliability(records["probability"][asked], records["together"][asked])}]


def strangers(one: Int[Tensor, "B K"], others: Int[Tensor, "B J"]) -> Bool[Tensor, "B B"]:
    """Whether row b could be shown what row c has in one input: both have something there and b something elsewhere,
    and neither there nor in all the others do they show the same."""
    there, beside = (one >= 0).any(1), (others >= 0).any(1)
    same = (one[:, None] == one).all(2) | (others[:, None] == others).all(2)
    return there[:, None] & there & beside[:, None] & ~same
