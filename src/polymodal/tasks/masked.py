"""The task of filling in words that were masked: a text asks its own questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Gt, Le
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.contracts import Field, Gather, Prediction, Records
from polymodal.core.errors import SpecError, suggest
from polymodal.core.schema import Json, Wired
from polymodal.core.streams import Answer, Cells, Row, Stream, Streams, Target
from polymodal.tasks import metrics
from polymodal.tasks.hiding import choose, gaps, hide, own_cells, tokens_of
from polymodal.tasks.sentences import Words

ROOM = 2**26  # numbers that are computed at once when nothing is learned from them


class Mask(nn.Module):
    """Masked language modelling: some tokens of a text input are hidden, and named from all that is left.

    Of a row's n plain tokens `max(1, round(share · n))` are chosen by lot, a function of the row's key alone. Of those
    80 % become the mask token, 10 % any plain token, and 10 % stay; padding and special tokens are never chosen. The
    input's tokens h [B T D] after attention, which may have looked at the other inputs, give

        logits = W · LayerNorm(GELU(A h + a)) + b        over the V tokens of the vocabulary, plain ones only

    at the chosen places. Loss of a row: the mean of `-ln p(token)` over its chosen tokens; a row without a plain token
    counts for nothing. The mask token is the tokenizer's own (`[MASK]`, `<mask>`) where a pretrained tokenizer has one,
    else the token for unknown words.

    Questions are asked where rows are measured too. `masked_accuracy`: share of the chosen tokens that are named right;
    `perplexity`: `exp` of their mean `-ln p`. A prediction is the text with its gaps filled in; in a text that is given
    to be answered these are its mask tokens, and without any the answer is None. Confidence: the probability of all
    that was filled in, tokens taken as independent.

    Cost: D² + D·V parameters; M·(D² + D·V) multiplications per row, M = max(1, round(share · T)); and the input is
    encoded once more. Source: Devlin et al., "BERT", NAACL 2019; with pictures beside: Lu et al., "ViLBERT", NeurIPS
    2019.

    Settings: `input`, a text, whose encoder must give a token for each of its own (`tokens: all`); `share`.
    """

    reads = frozenset({"tokens"})
    says = ("confidence",)
    metric, maximize = "masked_accuracy", True
    poses = True

    def __init__(
        self,
        *,
        fields: Wired[dict[str, Field]],
        width_in: Wired[int],
        inputs: Wired[tuple[str, ...]],
        input: str,
        share: Annotated[float, Gt(0.0), Le(1.0)] = 0.15,
    ) -> None:
        super().__init__()
        if input not in inputs:
            raise SpecError("input", "no input of this name", given=input, advice=suggest(input, inputs))
        if not {"tokenizer", "size", "unknown"} <= fields[input].keys():
            raise SpecError("input", "is no text", given=input, advice="the name of an input of type text")
        self.input, self.share, field = input, share, fields[input]
        self.words, tokens = Words({**field, "end": -1}), tokens_of(field)
        self.mask, self.pad = tokens.mask, field["pad"]
        self.plain: Tensor
        self.places: Tensor
        self.register_buffer("plain", torch.isin(torch.arange(tokens.size), torch.tensor(tokens.plain)), False)
        self.register_buffer("places", torch.tensor(tokens.plain or [tokens.mask]), False)
        self.head = nn.Sequential(nn.Linear(width_in, width_in), nn.GELU(), nn.LayerNorm(width_in),
                                  nn.Linear(width_in, tokens.size))  # fmt: skip

    @staticmethod
    def target(settings: Json, files: Path) -> tuple[str, Json]:
        return "anything", {}

    def prepare(
        self, inputs: dict[str, Cells], target: Target | None, key: Tensor
    ) -> tuple[dict[str, Cells], Target | None]:
        """Tokens of the input masked in a copy of its cells, one for each row; without a target its gaps are asked for.

        Data of what is asked: `ids` [B L], the row's tokens; `at` [B M], the chosen places among them; `asked` [B M],
        which of these count.
        """
        cells = own_cells(inputs[self.input])
        real = cells.data["ids_mask"] & (cells.index >= 0).flatten()[:, None]
        ids = cells.data["ids"].where(real, self.pad).reshape(len(key), -1)  # [B, K*T]
        if target is None:
            at, asked = gaps(ids, self.mask)
            return inputs, Target({"ids": ids, "at": at, "asked": asked}, torch.zeros_like(key, dtype=torch.bool))
        at, asked = choose(self.plain[ids], self.share, key, cells.index.shape[1])
        hidden = hide(ids, (at, asked), key, self.mask, self.places)
        data = {**cells.data, "ids": hidden.reshape(cells.data["ids"].shape).where(real, cells.data["ids"])}
        posed = Target({**target.data, "ids": ids, "at": at, "asked": asked}, target.present)
        return {**inputs, self.input: cells._replace(data=data)}, posed

    def forward(self, streams: Streams, fused: Stream | None, target: Target | None) -> Answer:
        """`best` [B M] and its probability `sure`, where there are tokens to be named; `surprise`, of the true ones."""
        tokens = streams[self.input].tokens
        if target is None or "at" not in target.data:
            at = torch.arange(tokens.shape[1], device=tokens.device).expand(len(tokens), -1)
            return self._named(tokens, at, None)
        ids, at = target.data["ids"], target.data["at"]
        if tokens.shape[1] != ids.shape[1]:
            problem = f"gives {tokens.shape[1]} tokens for a text of {ids.shape[1]}: filling in needs one for each"
            raise SpecError(f"inputs.{self.input}.encoder", problem, advice="tokens: all, or pool: all")
        posed = {name: target.data[name] for name in ("ids", "at", "asked")}
        return self._named(tokens, at, ids.gather(1, at)) | posed

    def _named(self, tokens: Tensor, at: Tensor, truth: Tensor | None) -> Answer:
        step = len(tokens) if torch.is_grad_enabled() else max(1, ROOM // (len(self.plain) * max(1, at.shape[1])))
        parts = [self._name(tokens[i : i + step], at[i : i + step], None if truth is None else truth[i : i + step])
                 for i in range(0, len(tokens), step)]  # fmt: skip
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _name(self, tokens: Float[Tensor, "B L D"], at: Int[Tensor, "B M"], truth: Int[Tensor, "B M"] | None) -> Answer:
        logits = self.head(tokens.gather(1, at[..., None].expand(-1, -1, tokens.shape[2]))).float()
        logits = logits.masked_fill(~self.plain, torch.finfo(logits.dtype).min)
        top, best = logits.detach().max(2)
        sure = (top - logits.detach().logsumexp(2)).exp()
        if truth is None:
            return {"best": best, "sure": sure}
        surprise = F.cross_entropy(logits.transpose(1, 2), truth.where(self.plain[truth], best), reduction="none")
        return {"best": best, "sure": sure, "surprise": surprise}

    def loss(self, answer: Answer, target: Target, gather: Gather | None) -> Float[Tensor, " B"]:
        asked = target.data["asked"].to(answer["surprise"].dtype)
        return (answer["surprise"] * asked).sum(1) / asked.sum(1).clamp(min=1)

    def weight(self, target: Target) -> Float[Tensor, " B"]:
        return (target.present & target.data["asked"].any(1) if "asked" in target.data else target.present).float()

    def respond(
        self, streams: Streams, fused: Stream | None, *, asked: Target | None = None, **options: Json
    ) -> Answer:
        return self(streams, fused, asked)

    def predict(self, answer: Answer, rows: Sequence[Row]) -> list[Prediction]:
        if "asked" not in answer:
            return [Prediction(None)] * len(rows)
        ids, at, asked = answer["ids"], answer["at"], answer["asked"]
        filled = ids.scatter(1, at, answer["best"].where(asked, ids.gather(1, at)))
        sure = answer["sure"].where(asked, 1.0).log().sum(1).exp()
        each = zip(filled.tolist(), asked.any(1).tolist(), sure.tolist(), strict=True)
        return [Prediction(self.words.say(ids), p) if any_ else Prediction(None) for ids, any_, p in each]

    def score(self, answer: Answer, target: Target) -> Records:
        """Per row how many tokens were `asked`, how many of them are `right`, and their summed `surprise`."""
        asked, truth = target.data["asked"], target.data["ids"].gather(1, target.data["at"])
        found = {
            "asked": asked.sum(1),
            "right": ((answer["best"] == truth) & asked).sum(1),
            "surprise": answer["surprise"].double().where(asked, 0.0).sum(1),
        }
        found["error"] = found["surprise"] / found["asked"].clamp(min=1)
        return {name: value[target.present].detach().double().cpu().numpy() for name, value in found.items()}

    def measure(self, records: Records, weights: Float[np.ndarray, "W n"]) -> dict[str, Float[np.ndarray, " W"]]:
        asked = weights @ records["asked"]
        surprise = metrics.ratio(weights @ records["surprise"], asked)
        return {
            "masked_accuracy": metrics.ratio(weights @ records["right"], asked),
            "perplexity": np.exp(np.minimum(surprise, 700.0)),
        }

    def charts(self, records: Records) -> list[Json]:
        return []
