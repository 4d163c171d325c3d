"""The task of writing down what is said in a sound, in its order: by CTC, by a decoder, or by both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.clean import Clean
from polymodal.core.contracts import Gather, Prediction, Records
from polymodal.core.errors import SpecError
from polymodal.core.schema import Chance, Json, PartKind, Positive, Share, Wired
from polymodal.core.search import Search, decode
from polymodal.core.streams import Answer, Cells, Row, Stream, Streams, Target
from polymodal.tasks import metrics
from polymodal.tasks.head import HeadNorm
from polymodal.tasks.language import edits
from polymodal.tasks.packed import covered, packed, prefix, the_input
from polymodal.tasks.sentences import Words, texts_of
from polymodal.tasks.speaking import chosen, draws, sentence_reader
from polymodal.tasks.speller import Speller

READER: Json = {"tokenizer": "char", "min_count": 1, "max_tokens": 400}  # what this task's target is read with
READS = ("clean", "lower", "tokenizer", "vocab", "min_count", "max_tokens")  # settings of the target's reader
HEARD = ("bands", "features")  # what only fields of sounds and series have


class Transcribe(nn.Module):
    """The text of one input's tokens in their order: speech, or any series that spells something.

    Input [B T D], its real tokens -> by `way`:

    - `ctc`: a head gives every step one of the target's tokens or a blank (connectionist temporal classification, see
      `ctc`); the loss is -log P(text) / (number of the text's tokens). A text can have as many tokens as there are
      steps, a token that is said twice in a row needing one more; a row with fewer steps gives no loss.
    - `attention`: a `decoder` attends to the steps; the loss is the mean cross-entropy of the text's tokens and end.
    - `both`: `ctc_share` times the first plus the rest times the second (Watanabe et al., "Hybrid CTC/Attention
      Architecture for End-to-End Speech Recognition", 2017).

    How it is said: `search: greedy`, CTC's likeliest path, or the decoder's likeliest token each time; `beam`: the
    likeliest of `beams` texts, by CTC's prefix search or the decoder's beams. With `both` the texts are CTC's, and with
    `beam` the decoder scores them too (attention rescoring; Zhang et al., "Unified Streaming and Non-Streaming Two-Pass
    End-to-End Speech Recognition", 2020). The confidence is P(text | row), as a geometric mean per token.

    Measures: `wer`, `cer` (see `language.edits`), `exact_match`, and with CTC `too_few_steps`, the share of the rows
    that it cannot possibly write down. Records: columns of `edits`, `exact`, `confidence`, `unreachable`, and `error`,
    the row's own character error rate.

    A row without the input has one step, zeros. What stands in several columns is heard one after the other.
    """

    reads = frozenset({"tokens"})
    says = ("confidence",)
    metric, maximize = "wer", False
    draws = True  # a decoder may be asked to

    def __init__(
        self,
        *,
        field: Wired[dict],
        width: Wired[int],
        width_in: Wired[int],
        inputs: Wired[tuple[str, ...]],
        fields: Wired[dict | None] = None,
        input: str | None = None,
        way: Literal["ctc", "attention", "both"] = "ctc",
        decoder: Annotated[Any, PartKind("decoder")] = None,
        ctc_share: Share = 0.3,
        clean: Clean | None = None,
        lower: bool | None = None,
        tokenizer: Literal["char", "word", "bpe", "wordpiece"] = "char",
        vocab: Positive = 10000,
        min_count: Positive = 1,
        max_tokens: Positive = 400,
        dropout: Chance = 0.0,
        norm: HeadNorm = "none",
        search: Literal["greedy", "beam"] = "greedy",
        beams: Positive = 8,
    ) -> None:
        super().__init__()
        if (way == "ctc") != (decoder is None):
            problem, advice = (
                ("does not go with way: ctc", "way: both, or leave it out")
                if way == "ctc"
                else (f"is needed by way: {way}", "decoder: {type: transformer}")
            )
            raise SpecError("decoder", problem, advice=advice)
        self.input = the_input(input, inputs, fields or {}, HEARD)
        if way != "attention":
            covered(self.input, fields or {})
        self.words, self.share, self.forced = Words(field), ctc_share, decoder is not None
        self.start, self.end, self.silent = field["size"], field["end"], self.words.silent
        self.search = Search(way=search, longest=field["length"], beams=beams)
        self.decoder = decoder
        self.project = nn.Linear(width_in, width) if decoder is not None and width_in != width else nn.Identity()
        self.speller = None if way == "attention" else Speller(
            width=width_in, size=self.start, silent=self.silent, end=self.end, dropout=dropout, norm=norm)  # fmt: skip

    @staticmethod
    def target(settings: Json, files: Path) -> tuple[str, Json]:
        own = READER | {name: settings[name] for name in READS if name in settings}
        return sentence_reader(settings, files, own) if settings.get("decoder") is not None else ("sentences", own)

    def prepare(
        self, inputs: dict[str, Cells], target: Target | None, key: Tensor
    ) -> tuple[dict[str, Cells], Target | None]:
        return inputs, target

    def forward(self, streams: Streams, fused: Stream | None, target: Target | None) -> Answer:
        """With CTC `logits` [B T C] and `steps` [B]; with a decoder `taught` [B], its loss on the target's text."""
        if target is None:
            return self.respond(streams, fused)
        heard, steps = self._heard(streams)
        spelled = {} if self.speller is None else self.speller(heard, steps)
        if self.decoder is None:
            return spelled
        memory, ids, length = self._memory(heard, steps), target.data["ids"][:, 0], target.data["length"][:, 0]
        return spelled | {"taught": self._taught(memory, ids, length)}

    def _heard(self, streams: Streams) -> tuple[Float[Tensor, "B T D"], Int[Tensor, " B"]]:
        tokens, count = packed(streams[self.input])
        return tokens, count.clamp(min=1)

    def _memory(self, heard: Float[Tensor, "B T D"], steps: Int[Tensor, " B"]) -> Stream:
        mask = prefix(steps, heard.shape[1])
        return Stream(self.project(heard) * mask[..., None], mask)

    def _taught(self, memory: Stream, ids: Int[Tensor, "B L"], length: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        gains, spoken, given = self._gains(memory, ids, length)
        penalty = getattr(self.decoder, "penalty", None)
        own = None if penalty is None else penalty(memory, given, spoken)
        loss = -gains.sum(1) / spoken.sum(1).clamp(min=1)
        return loss if own is None else loss + own

    def _gains(
        self, memory: Stream, ids: Int[Tensor, "B L"], length: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B L"], Bool[Tensor, "B L"], Int[Tensor, "B L"]]:
        """What the decoder gives each token of a text, its end among them: log-probabilities, zero after it.

        Tokens that cannot be said (unknown ones) do not count. Also where it counts, and what the decoder was given.
        """
        assert self.decoder is not None
        given = torch.cat([torch.full_like(ids[:, :1], self.start), ids[:, :-1]], 1)
        unsaid = torch.stack([ids == token for token in self.silent - {self.end}]).any(0)
        spoken = prefix(length, ids.shape[1]) & ~unsaid
        loss = F.cross_entropy(self.decoder(memory, given).float().transpose(1, 2), ids, reduction="none")
        return -loss * spoken, spoken, given

    def loss(self, answer: Answer, target: Target, gather: Gather | None) -> Float[Tensor, " B"]:
        if self.speller is None:
            return answer["taught"]
        spelled = self.speller.loss(answer, target)
        return spelled if self.decoder is None else self.share * spelled + (1 - self.share) * answer["taught"]

    def weight(self, target: Target) -> Float[Tensor, " B"]:
        return (target.present & (target.data["length"][:, 0] > 0)).float()

    @torch.no_grad()
    def respond(self, streams: Streams, fused: Stream | None, *, key: Tensor | None = None, **options: Json) -> Answer:
        """`ids` [B L], the tokens that are said and then the end, and `confidence` [B]; with CTC what `forward` gives.

        `options` replace the task's own search for this time: `search`, `beams`, and for a decoder by itself all that
        `core.search.Search` has; what is drawn by lot is a function of `key`.
        """
        search = chosen(self.search, options)
        heard, steps = self._heard(streams)
        if self.speller is None:
            memory = self._memory(heard, steps)
            lot = draws(key, len(heard), search.longest) if search.way == "sample" else None
            ids, length = self._decoded(memory, search, lot)
            gains, spoken, _ = self._gains(memory, ids, length)
            return {"ids": ids, "confidence": (gains.sum(1) / spoken.sum(1).clamp(min=1)).exp()}
        spelled = self.speller(heard, steps)
        return spelled | self._best(spelled, heard, search.beams if search.way == "beam" else None)

    def _decoded(
        self, memory: Stream, search: Search, lot: Tensor | None
    ) -> tuple[Int[Tensor, "B L"], Int[Tensor, " B"]]:
        start = torch.full(memory.mask.shape[:1], self.start, device=memory.mask.device)
        banned = tuple(self.silent - {self.end})
        lot = None if lot is None else lot.to(start.device)
        said = decode(self.decoder, memory, start, end=self.end, banned=banned, search=search, draws=lot)
        return F.pad(said.ids, (0, search.longest - said.ids.shape[1]), value=self.end), said.length

    def _best(self, spelled: Answer, heard: Float[Tensor, "B T D"], beams: int | None) -> Answer:
        """Of CTC's texts of each row the likeliest, the decoder having a say if there is one, and how sure it is."""
        assert self.speller is not None
        found, score = self.speller.said(spelled, beams)
        ids, (rows, count) = self.speller.tokens(found.labels, found.length), found.length.shape
        sure = score / found.length.clamp(min=1)
        if self.decoder is not None:
            each = torch.arange(rows, device=ids.device).repeat_interleave(count)
            memory = self._memory(heard[each], spelled["steps"][each])
            gains, spoken, _ = self._gains(memory, F.pad(ids.flatten(0, 1), (0, 1), value=self.end),
                                           found.length.flatten() + 1)  # fmt: skip
            said, tokens = (x.sum(1).unflatten(0, (rows, count)) for x in (gains, spoken))
            score = self.share * score + (1 - self.share) * said
            sure = self.share * sure + (1 - self.share) * said / tokens
        best = score.argmax(1, keepdim=True)
        chosen_ids = ids.gather(1, best[..., None].expand(-1, -1, ids.shape[2]))[:, 0]
        return {"ids": chosen_ids, "confidence": sure.gather(1, best)[:, 0].exp()}

    def predict(self, answer: Answer, rows: Sequence[Row]) -> list[Prediction]:
        sure = answer["confidence"].double().tolist()
        return [Prediction(text, p) for text, p in zip(self._texts(answer["ids"]), sure, strict=True)]

    def _texts(self, ids: Int[Tensor, "B L"]) -> list[str]:
        return [" ".join(self.words.say(one).split()) for one in ids.tolist()]

    def score(self, answer: Answer, target: Target) -> Records:
        there = target.present
        references = texts_of(target.data["text"][there].cpu().numpy())
        found = edits.records(self._texts(answer["ids"][there]), [row or [""] for row in references])
        fits = torch.ones_like(there) if self.speller is None else self.speller.fits(answer, target)
        return found | {
            "exact": found["char_edits"] == 0,
            "confidence": answer["confidence"][there].double().cpu().numpy(),
            "unreachable": ~fits[there].cpu().numpy(),
            "error": found["char_edits"] / np.maximum(found["char_total"], 1),
        }

    def measure(self, records: Records, weights: Float[np.ndarray, "W n"]) -> dict[str, Float[np.ndarray, " W"]]:
        found = edits.measure(records, weights) | {"exact_match": metrics.mean(records["exact"], weights)}
        lacking = metrics.mean(records["unreachable"], weights)
        return found if self.speller is None else found | {"too_few_steps": lacking}

    def certainty(self, records: Records) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """The confidence, and whether the text is right but for case and punctuation."""
        return records["confidence"], records["exact"]

    def charts(self, records: Records) -> list[Json]:
        return []
