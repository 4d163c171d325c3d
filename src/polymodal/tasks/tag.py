"""The task of giving every step a label: the words of a text, the moments of a sound or of a series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from polymodal.core.contracts import Gather, Prediction, Records
from polymodal.core.errors import SpecError, UserError
from polymodal.core.schema import Chance, Json, Natural, Positive, Share, Wired
from polymodal.core.streams import Answer, Cells, Row, Stream, Streams, Target
from polymodal.tasks import losses, metrics
from polymodal.tasks.head import HeadNorm, head
from polymodal.tasks.packed import covered, packed, prefix, the_input
from polymodal.tasks.spans import Bio
from polymodal.tasks.targets import UNSEEN

READ = ("outside", "longest")  # settings of the target's reader
ALONG = ("tokenizer", "bands", "features")  # what only fields of texts, sounds and series have


class Steps(NamedTuple):
    """What is to be labelled, N steps of each row: the true label, the token that answers, where both are known."""

    label: Int[Tensor, "B N"]  # -1 for one that no training row had
    token: Int[Tensor, "B N"]
    true: Bool[Tensor, "B N"]  # the row has this step
    answered: Bool[Tensor, "B N"]  # and a token for it


class Tag(nn.Module):
    """A label for every step of one input, from its own token: [B T D] -> `logits` [B T C].

    Labels of steps: the label of step j is answered by token j // s, where s is the number of steps that the encoder
    makes one token of (`stack`, `stride`; 1 for texts); the loss is the mean cross-entropy of the row's labels, rows
    counting by how many these are. Labels that have no token (the input was cut) are not learned and count as wrong.
    More tokens than labels is a mistake of the table: UserError.

    Stretches: a token's label is that of the stretch its centre lies in, else `outside`; times are in seconds where the
    reader knows them (sounds) or in steps (`unit`). The loss is the mean over the row's tokens.

    Measures: `accuracy` of steps (of tokens, for stretches), `macro_f1` over the labels, `unanswered`, the share of
    labels without a token; with `spans: bio`, `span_f1` (chooses the epoch), `span_precision` and `span_recall` of
    whole spans, see `spans.Bio`. Records, per row: `right`, `steps`, `unanswered`; `hits`, `have`, `given` [n C + 1] by
    label (the last: those that no training row had); `found`, `true`, `said` spans; `error`, the share that is wrong.
    """

    reads = frozenset({"tokens"})
    says = ("confidence",)
    maximize = True

    def __init__(
        self,
        *,
        field: Wired[dict],
        width_in: Wired[int],
        inputs: Wired[tuple[str, ...]],
        fields: Wired[dict | None] = None,
        input: str | None = None,
        spans: Literal["none", "bio"] = "none",
        unit: Literal["seconds", "steps"] | None = None,
        outside: str = "O",
        longest: Positive | None = None,
        hidden: Natural = 0,
        dropout: Chance = 0.0,
        norm: HeadNorm = "none",
        label_smoothing: Share = 0.0,
    ) -> None:
        super().__init__()
        self.input = the_input(input, inputs, fields or {}, ALONG)
        read = (fields or {}).get(self.input, {})
        self.covers = covered(self.input, fields or {})
        self.classes, self.stretches, self.outside = field["classes"], field["stretches"], field["outside"]
        self.every, self.first = clock(read, unit) if self.stretches else (1.0, 0.0)
        self.bio = Bio(self.classes) if spans == "bio" else None
        if self.bio is not None and (self.stretches or not self.bio.any):
            raise SpecError("spans", "no label begins with B- or I-", given=spans, advice="spans: none")
        self.metric = "span_f1" if self.bio else "macro_f1"
        self.smoothing = label_smoothing
        self.head = head(width_in, len(self.classes), hidden, dropout, norm)
        self.even: Tensor
        self.register_buffer("even", torch.ones(len(self.classes)), persistent=False)

    @staticmethod
    def target(settings: Json, files: Path) -> tuple[str, Json]:
        return "tags", {name: settings[name] for name in READ if name in settings}

    def prepare(
        self, inputs: dict[str, Cells], target: Target | None, key: Tensor
    ) -> tuple[dict[str, Cells], Target | None]:
        return inputs, target

    def forward(self, streams: Streams, fused: Stream | None, target: Target | None) -> Answer:
        """`logits` [B T C], real tokens first and zero after them, and `tokens` [B], how many there are."""
        tokens, count = packed(streams[self.input])
        return {"logits": self.head(tokens) * prefix(count, tokens.shape[1])[..., None], "tokens": count}

    def loss(self, answer: Answer, target: Target, gather: Gather | None) -> Float[Tensor, " B"]:
        steps = self.steps(answer, target)
        logits = answer["logits"].gather(1, steps.token[..., None].expand(-1, -1, len(self.classes)))
        rows, count = steps.label.shape
        each = losses.one_of(logits.flatten(0, 1), steps.label.flatten(), self.even, self.smoothing, None)
        learned = steps.answered & (steps.label != UNSEEN)
        return (each.view(rows, count) * learned).sum(1) / learned.sum(1).clamp(min=1)

    def weight(self, target: Target) -> Float[Tensor, " B"]:
        size = 1.0 if self.stretches else target.data["length"].float()
        return target.present.float() * size

    def steps(self, answer: Answer, target: Target) -> Steps:
        """The steps of each row, by its labels or, for stretches, its tokens. Raises UserError where they disagree."""
        tokens, longest = answer["tokens"], answer["logits"].shape[1]
        label, length = target.data["class"].long(), target.data["length"]
        if self.stretches:
            real = prefix(tokens, longest)
            place = torch.arange(longest, device=real.device).expand(len(real), -1)
            return Steps(self._at(place, label, length, target.data["bounds"]), place, real, real)
        surplus = target.present & ((tokens - 1) * self.covers >= length.clamp(min=1))
        if bool(surplus.any()):
            raise self._mismatch(int(surplus.sum()), len(surplus), tokens[surplus][0], length[surplus][0])
        true = prefix(length, label.shape[1])
        token = (torch.arange(label.shape[1], device=label.device) // self.covers).expand(len(label), -1)
        answered = true & (token < tokens[:, None])
        return Steps(label, token.clamp(max=longest - 1), true, answered)

    def _at(
        self, place: Int[Tensor, "B T"], label: Int[Tensor, "B R"], length: Int[Tensor, " B"],
        bounds: Float[Tensor, "B R 2"],
    ) -> Int[Tensor, "B T"]:  # fmt: skip
        """The label of the stretch that each token's centre lies in."""
        centre = ((place + 0.5) * self.covers - 0.5) * self.every + self.first
        inside = (bounds[:, None, :, 0] <= centre[..., None]) & (centre[..., None] < bounds[:, None, :, 1])
        inside &= prefix(length, label.shape[1])[:, None]
        found = (inside * label[:, None]).sum(2)
        return found.where(inside.any(2), self.classes.index(self.outside))

    def _mismatch(self, wrong: int, rows: int, tokens: Tensor, labels: Tensor) -> UserError:
        problem = f"{wrong} of {rows} rows have fewer labels than {self.input!r} has steps; the first has {int(labels)}"
        problem += f" labels and {int(tokens)} tokens" + (f" of {self.covers} steps" if self.covers > 1 else "")
        advice = (
            "a label for every step; for words of a text, `tokens: words` of its encoder (`pool: words` of hf), and "
        )
        advice += "`columns: [labels, text]` of the task, so that rows that disagree go to the ledger"
        return UserError("tag", problem, advice=advice)

    def respond(self, streams: Streams, fused: Stream | None, **options: Json) -> Answer:
        return self(streams, fused, None)

    def predict(self, answer: Answer, rows: Sequence[Row]) -> list[Prediction]:
        sure, best = answer["logits"].double().softmax(2).max(2)
        found = []
        for label, p, count in zip(best.tolist(), sure.tolist(), answer["tokens"].tolist(), strict=True):
            value = self._stretches(label[:count]) if self.stretches else self._labels(label[:count])
            found.append(Prediction(value, sum(p[:count]) / count if count else None))
        return found

    def _labels(self, label: list[int]) -> list[Json]:
        return [self.classes[c] for c in label for _ in range(self.covers)]

    def _stretches(self, label: list[int]) -> list[Json]:
        """Tokens of one label after each other as one stretch, without those outside."""
        at = np.asarray([-1, *label, -1])
        borders, size = np.flatnonzero(at[1:] != at[:-1]).tolist(), self.covers * self.every
        shift = self.first - self.every / 2  # so that a token's centre is the middle of what it stands for
        times = [round(b * size + shift, 6) if b else 0.0 for b in borders]
        return [{"start": times[n], "end": times[n + 1], "label": self.classes[label[b]]}
                for n, b in enumerate(borders[:-1]) if self.classes[label[b]] != self.outside]  # fmt: skip

    def score(self, answer: Answer, target: Target) -> Records:
        there = target.present
        known = Target({k: v[there] for k, v in target.data.items()}, there[there])
        steps = self.steps({k: v[there] for k, v in answer.items()}, known)
        guess = answer["logits"][there].argmax(2).gather(1, steps.token)
        return self._records(*(x.cpu().numpy() for x in (steps.label, guess, steps.true, steps.answered)))

    def _records(self, label: np.ndarray, guess: np.ndarray, true: np.ndarray, answered: np.ndarray) -> Records:
        right, size = answered & (label == guess), len(self.classes) + 1
        count = true.sum(1)
        spans = {} if self.bio is None else self.bio.counts(label, true, guess, answered)
        return {
            "right": right.sum(1),
            "steps": count,
            "unanswered": (true & ~answered).sum(1),
            "hits": tally(label, right, size),
            "have": tally(label, true, size),
            "given": tally(guess, answered, size),
            **spans,
            "error": 1 - right.sum(1) / np.maximum(count, 1) - (count == 0),
        }

    def measure(self, records: Records, weights: Float[np.ndarray, "W n"]) -> dict[str, Float[np.ndarray, " W"]]:
        steps = weights @ records["steps"]
        hits, have, given = (weights @ records[name].astype(np.float64) for name in ("hits", "have", "given"))
        found = {
            "accuracy": metrics.ratio(weights @ records["right"], steps),
            "macro_f1": metrics.mean_defined(metrics.f1(hits, have, given)),
            "unanswered": metrics.ratio(weights @ records["unanswered"], steps),
        }
        if self.bio is None:
            return found
        right, true, said = (weights @ records[name] for name in ("found", "true", "said"))
        return {"span_f1": metrics.f1(right, true, said), "span_precision": metrics.ratio(right, said),
                "span_recall": metrics.ratio(right, true), **found}  # fmt: skip

    def charts(self, records: Records) -> list[Json]:
        """F1 of each label (none where no step has or is given it)."""
        hits, have, given = (records[name].sum(0)[:-1] for name in ("hits", "have", "given"))
        values = [None if v != v else v for v in metrics.f1(hits, have, given).tolist()]
        return [{"kind": "bars", "measure": "f1", "classes": self.classes, "counts": have.tolist(), "values": values}]


def clock(read: dict, unit: Literal["seconds", "steps"] | None) -> tuple[float, float]:
    """The time from one step of an input to the next, and of the first one's centre, by its reader's field.

    Raises SpecError where seconds are asked for and the reader does not know them.
    """
    if unit == "steps" or (unit is None and "hop" not in read):
        return 1.0, 0.5
    if "hop" not in read:
        raise SpecError("unit", "the steps of this input have no length in seconds", given=unit, advice="unit: steps")
    return read["hop"], read["window"] / 2


def tally(label: Int[np.ndarray, "n L"], counted: Bool[np.ndarray, "n L"], size: int) -> Int[np.ndarray, "n size"]:
    """How often each label is counted in each row; -1 counts as the last."""
    rows = np.broadcast_to(np.arange(len(label))[:, None], label.shape)
    place = rows * size + np.where(label == UNSEEN, size - 1, label)
    return np.bincount(place[counted], minlength=len(label) * size).reshape(len(label), size)
