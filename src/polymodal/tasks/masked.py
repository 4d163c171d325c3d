"""The task of filling in words that were masked: a text asks its own questions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from annotated_types import Gt, Le
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.contracts import Field, Gather, Prediction, Records
from polymodal.core.errors import SpecError, suggest
from polymodal.core.lots import numbers, uniform
from polymodal.core.schema import Json, Wired
from polymodal.core.streams import Answer, Cells, Row, Stream, Streams, Target
from polymodal.tasks import metrics
from polymodal.tasks.sentences import Words

MASKED, CHANGED = 0.8, 0.1  # of the chosen tokens; the others stay as they are
MASKS = ("[MASK]", "<mask>")  # as pretrained models call their mask token
Chosen = tuple[Int[Tensor, "B M"], Bool[Tensor, "B M"]]
ROOM = 2**26  # numbers that are computed at once when nothing is learned from them


class Tokens(NamedTuple):
    """A vocabulary as masking sees it."""

    size: int
    mask: int  # what stands in place of a masked token, and for a gap in a text that is given to be filled in
    plain: list[int]  # the tokens that are words or parts of words


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
            at, asked = _found(ids == self.mask)
            return inputs, Target({"ids": ids, "at": at, "asked": asked}, torch.zeros_like(key, dtype=torch.bool))
        at, asked = self._choose(ids, numbers(key, "mask.columns", cells.index.shape[1]))
        hidden = self._hide(ids, at, asked, key)
        data = {**cells.data, "ids": hidden.reshape(cells.data["ids"].shape).where(real, cells.data["ids"])}
        posed = Target({**target.data, "ids": ids, "at": at, "asked": asked}, target.present)
        return {**inputs, self.input: cells._replace(data=data)}, posed

    def _choose(self, ids: Int[Tensor, "B L"], keys: Int[Tensor, "B K"]) -> Chosen:
        """The places of the tokens that draw lowest, and which of them are as many as shall be chosen."""
        plain = self.plain[ids]
        draws = uniform(keys, "mask.choose", ids.shape[1] // keys.shape[1]).flatten(1).where(plain, 2.0)
        at = draws.argsort(dim=1, stable=True)[:, : int(self._share_of(torch.tensor(ids.shape[1])))]
        count = self._share_of(plain.sum(1)).minimum(plain.sum(1))
        return at, torch.arange(at.shape[1], device=ids.device) < count[:, None]

    def _share_of(self, count: Int[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        return (self.share * count).round().clamp(min=1)

    def _hide(
        self, ids: Int[Tensor, "B L"], at: Int[Tensor, "B M"], asked: Bool[Tensor, "B M"], key: Int[Tensor, " B"]
    ) -> Int[Tensor, "B L"]:
        known, fate = ids.gather(1, at), uniform(key, "mask.fate", at.shape[1])
        other = self.places[numbers(key, "mask.other", at.shape[1]) % len(self.places)]
        new = torch.where(fate < MASKED, self.mask, torch.where(fate < MASKED + CHANGED, other, known))
        return ids.scatter(1, at, new.where(asked, known))

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


def tokens_of(field: Field) -> Tokens:
    """What masking needs to know of a text reader's vocabulary."""
    described = json.loads(field["tokenizer"])
    special = {token["id"] for token in described["added_tokens"] if token["special"]}
    added = Tokenizer.from_str(field["tokenizer"]).encode("").ids  # such as [CLS] and [SEP]
    own = next((t["id"] for t in described["added_tokens"] if t["content"] in MASKS), None)
    silent = special | {field["pad"], field["unknown"], *added}
    plain = [i for i in range(field["size"]) if i not in silent]
    return Tokens(field["size"], field["unknown"] if own is None else own, plain)


def own_cells(cells: Cells) -> Cells:
    """The same cells, with one of its own for every row and column: what is done to one row's touches no other."""
    each = cells.index.flatten().clamp(min=0)
    index = torch.arange(len(each), device=each.device).view(cells.index.shape).where(cells.index >= 0, -1)
    return Cells({name: value[each] for name, value in cells.data.items()}, index, cells.id[each])


def _found(gaps: Bool[Tensor, "B L"]) -> Chosen:
    """The places of gaps, as many as the row has that has most of them, and which of them are any."""
    count = gaps.sum(1)
    most = int(count.max())
    return (~gaps).long().argsort(dim=1, stable=True)[:, :most], torch.arange(most, device=gaps.device) < count[:, None]
