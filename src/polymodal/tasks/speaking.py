"""Saying a sentence about a row: what every task that answers in words has in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core import catalog
from polymodal.core.contracts import Gather
from polymodal.core.errors import UserError, suggest
from polymodal.core.schema import Json, check_value
from polymodal.core.search import Said, Search, decode
from polymodal.core.seeds import generator
from polymodal.core.spec_parts import read_part
from polymodal.core.streams import Answer, Cells, Stream, Streams, Target
from polymodal.tasks.critic import Critic
from polymodal.tasks.memory import Memory, of_rows
from polymodal.tasks.sentences import Words, texts_of

Way = Literal["greedy", "beam", "sample"]


class Speaking(nn.Module):
    """Streams and the fused stream -> a sentence in every language of the field; learned by teacher forcing.

    The loss of a row is the mean over its references of the cross-entropy per token, with `label_smoothing`, and the
    decoder's own `penalty`. `scheduled_sampling` is the chance, reached at the end of the training and risen to in a
    straight line, that the decoder reads a token of its own in place of the true one (Bengio et al. 2015; in two
    passes, as Mihaylova and Martins 2019). From the share `self_critical` of the training on, sentences it draws are
    rewarded by CIDEr-D over those it would say (Rennie et al., "Self-critical Sequence Training", 2017), in place of
    the cross-entropy.

    How it speaks: see `core.search`. What `respond` answers: `ids` [B, K, L] of K languages, `length` [B, K] with the
    end, `score` [B, K], the sum of the tokens' log-probabilities.
    """

    reads = frozenset({"tokens", "fused"})
    forced = draws = True

    def __init__(
        self,
        *,
        field: dict,
        width: int,
        width_in: int,
        inputs: tuple[str, ...],
        decoder: Any,
        label_smoothing: float,
        scheduled_sampling: float,
        self_critical: float | None,
        search: Search,
    ) -> None:
        super().__init__()
        self.field, self.search, self.smoothing = field, search, label_smoothing
        self.scheduled, self.critical, self.done = scheduled_sampling, self_critical, 0.0
        self.memory = Memory(inputs=inputs, width=width, width_in=width_in)
        self.decoder = decoder
        self.words, self.languages = Words(field), tuple(field["languages"])
        self.banned = tuple({field["pad"], field["unknown"]} - {field["end"]})
        self.critic = None if self_critical is None else Critic(field, self.words)

    def prepare(
        self, inputs: dict[str, Cells], target: Target | None, key: Tensor
    ) -> tuple[dict[str, Cells], Target | None]:
        return inputs, target

    def progress(self, done: float) -> None:
        """How much of the training is done, 0 to 1."""
        self.done = done

    def forward(self, streams: Streams, fused: Stream | None, target: Target | None) -> Answer:
        """With a target its `loss` [B]; without one what `respond` says."""
        if target is None:
            return self.respond(streams, fused)
        memory = self.memory(streams, fused)
        length = target.data["length"]  # [B R]
        rows, at = (length > 0).nonzero(as_tuple=True)
        if not len(rows):
            return {"loss": memory.tokens.sum((1, 2)) * 0.0}
        start = self.field["size"] + target.data["language"][rows, at]
        ids, length = target.data["ids"][rows, at], length[rows, at]
        own = of_rows(memory, rows)
        if self.training and self.critic is not None and self.done >= (self.critical or 0.0):
            each = self._criticised(own, start, rows, target)
        else:
            each = self._taught(own, start, ids, length)
        total = each.new_zeros(len(memory.mask)).index_add(0, rows, each)
        return {"loss": total / each.new_zeros(len(total)).index_add(0, rows, torch.ones_like(each)).clamp(min=1)}

    def _taught(
        self, memory: Stream, start: Int[Tensor, " N"], ids: Int[Tensor, "N L"], length: Int[Tensor, " N"]
    ) -> Float[Tensor, " N"]:
        """The mean cross-entropy of the tokens of each sentence."""
        spoken = torch.arange(ids.shape[1], device=ids.device) < length[:, None]
        given = torch.cat([start[:, None], ids[:, :-1]], 1)
        if self.training and self.scheduled:
            given = self._mixed(memory, given)
        teach = getattr(self.decoder, "teach", None)
        logits, own = (self.decoder(memory, given), 0.0) if teach is None else teach(memory, given, spoken)
        penalty = None if teach is not None else getattr(self.decoder, "penalty", None)
        own = own if penalty is None else penalty(memory, given, spoken)
        each = F.cross_entropy(logits.float().transpose(1, 2), ids, reduction="none", label_smoothing=self.smoothing)
        return (each * spoken).sum(1) / length + own

    def _mixed(self, memory: Stream, given: Int[Tensor, "N L"]) -> Int[Tensor, "N L"]:
        """What the decoder reads, some tokens being what it would have said in their place."""
        with torch.no_grad():
            said = self.decoder(memory, given).argmax(2)
        lot = torch.rand(given.shape, device=given.device) < self.scheduled * self.done
        lot[:, 0] = False
        return torch.where(lot, said.roll(1, 1), given)

    def _criticised(
        self, memory: Stream, start: Int[Tensor, " N"], rows: Int[Tensor, " N"], target: Target
    ) -> Float[Tensor, " N"]:
        """Self-critical loss of one drawn sentence for each reference, all of a row's references rewarding it."""
        assert self.critic is not None
        drawn = self.search._replace(way="sample", temperature=1.0, top_p=1.0, top_k=0)
        lot = torch.rand(len(start), drawn.longest, device=start.device)
        with torch.no_grad():
            self.decoder.eval()
            ids, length, _ = self._say(memory, start, drawn, lot)
            usual, _, _ = self._say(memory, start, drawn._replace(way="greedy"), None)
            self.decoder.train()
            references = [texts_of(target.data["text"][row : row + 1].cpu().numpy())[0] for row in rows.tolist()]
            gain = self.critic(ids, references) - self.critic(usual, references)
        given = torch.cat([start[:, None], ids[:, :-1]], 1)
        spoken = torch.arange(ids.shape[1], device=ids.device) < length[:, None]
        log_p = self.decoder(memory, given).float().log_softmax(2).gather(2, ids[..., None])[..., 0]
        return -gain.to(log_p) * (log_p * spoken).sum(1) / length

    def loss(self, answer: Answer, target: Target, gather: Gather | None) -> Float[Tensor, " B"]:
        return answer["loss"]

    def weight(self, target: Target) -> Float[Tensor, " B"]:
        return (target.present & (target.data["length"] > 0).any(1)).float()

    @torch.no_grad()
    def respond(self, streams: Streams, fused: Stream | None, *, key: Tensor | None = None, **options: Json) -> Answer:
        """A sentence in every language. `options` replace the task's own search settings for this time."""
        memory, search = self.memory(streams, fused), chosen(self.search, options)
        rows, count = len(memory.mask), len(self.languages)
        lot = draws(key, rows, count * search.longest) if search.way == "sample" else None
        start = self.field["size"] + torch.arange(count, device=memory.mask.device).repeat(rows)
        shared = of_rows(memory, torch.arange(rows, device=start.device).repeat_interleave(count))
        lots = None if lot is None else lot.to(start.device).reshape(rows * count, search.longest)
        ids, length, score = self._say(shared, start, search, lots)
        return {"ids": ids.unflatten(0, (rows, count)), "length": length.unflatten(0, (rows, count)),
                "score": score.unflatten(0, (rows, count))}  # fmt: skip

    def _say(self, memory: Stream, start: Int[Tensor, " N"], search: Search, lot: Tensor | None) -> Said:
        """As `decode`, `search.longest` tokens of each; `score` is the sum of log-probabilities in beams too."""
        end = self.field["end"]
        said = decode(self.decoder, memory, start, end=end, banned=self.banned, search=search, draws=lot)
        ids = F.pad(said.ids, (0, search.longest - said.ids.shape[1]), value=end)
        score = said.score * said.length**search.length_penalty if search.way == "beam" else said.score
        return Said(ids, said.length, score)

    def texts(self, answer: Answer) -> list[list[str]]:
        """What was said of each row, in every language."""
        return [[self.words.say(ids) for ids in row] for row in answer["ids"].tolist()]

    def confidence(self, answer: Answer) -> Float[np.ndarray, " B"]:
        """The geometric mean of the probabilities of the tokens, in the first language."""
        score, length = answer["score"][:, 0], answer["length"][:, 0].clamp(min=1)
        return (score / length).exp().double().cpu().numpy()

    @torch.no_grad()
    def looks(self, streams: Streams, fused: Stream | None, answer: Answer) -> dict[str, Float[Tensor, "B L _T"]]:
        """Where each token of the first language looked: by input, the weights of its tokens; {} where none is told."""
        memory, ids = self.memory(streams, fused), answer["ids"][:, 0]
        given = torch.cat([torch.full_like(ids[:, :1], self.field["size"]), ids[:, :-1]], 1)
        looked = self.decoder.look(memory, given)
        return {} if looked is None else self.memory.parts(looked, streams, fused)


def draws(key: Tensor | None, rows: int, count: int) -> Float[Tensor, "{rows} {count}"]:
    """Uniform numbers for each row, a function of its key."""
    keys = [0] * rows if key is None else key.tolist()
    return torch.from_numpy(np.stack([generator(int(k), "say").random(count, np.float32) for k in keys]))


def chosen(search: Search, options: dict[str, Json]) -> Search:
    """The search with some settings replaced, checked. `search` names the way. Raises UserError."""
    hints = {"search": Way, "beams": int, "length_penalty": float, "temperature": float, "top_p": float, "top_k": int,
             "max_tokens": int}  # fmt: skip
    places = {"search": "way", "max_tokens": "longest"}
    for name, value in options.items():
        if name not in hints:
            raise UserError(f"respond.{name}", "no option of this name", given=name, advice=suggest(name, hints))
        search = search._replace(**{places.get(name, name): check_value(hints[name], value, f"respond.{name}")})
    search.check("respond")
    return search


def sentence_reader(settings: Json, files: Path, own: Json) -> tuple[str, Json]:
    """The target reader `sentences` as a task with a `decoder` needs it; `own` are the task's settings of it."""
    part = read_part(settings.get("decoder", "transformer"), "decoder", "decoder")
    cls: Any = catalog.load("decoder", part.type, "decoder.type")
    wanted = cls.wants(part.settings, files) if hasattr(cls, "wants") else {}
    return "sentences", {**own, **wanted}
