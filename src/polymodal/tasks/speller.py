"""The head that spells: every step says one token of a vocabulary, or nothing."""

from __future__ import annotations

from collections.abc import Collection

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from polymodal.core.errors import UserError
from polymodal.core.streams import Answer, Target
from polymodal.tasks import ctc
from polymodal.tasks.head import HeadNorm, head
from polymodal.tasks.packed import prefix

PATIENCE = 200  # rows of which none has steps enough for its text, after which the training is not worth going on


class Speller(nn.Module):
    """Steps [B T D] -> `logits` [B T C] over the blank and the tokens that can be said, zero where there is no step.

    Classes are not tokens: `silent` tokens (padding, the unknown one, the end) have none.
    """

    def __init__(self, *, width: int, size: int, silent: Collection[int], end: int, dropout: float,
                 norm: HeadNorm) -> None:  # fmt: skip
        super().__init__()
        sayable = [token for token in range(size) if token not in silent]
        places = torch.zeros(size, dtype=torch.int64)
        places[sayable] = torch.arange(1, 1 + len(sayable))
        self.head, self.end = head(width, 1 + len(sayable), 0, dropout, norm), end
        self.token: Tensor  # of each class; the end stands for the blank
        self.class_of: Tensor  # of each token; 0 where it has none
        self.register_buffer("token", torch.tensor([end, *sayable]), persistent=False)
        self.register_buffer("class_of", places, persistent=False)
        self.rows, self.fitting = 0, False  # seen in training; whether any had steps enough

    def forward(self, heard: Float[Tensor, "B T D"], steps: Int[Tensor, " B"]) -> Answer:
        return {"logits": self.head(heard) * prefix(steps, heard.shape[1])[..., None], "steps": steps}

    def labels(self, target: Target) -> tuple[Int[Tensor, "B L"], Int[Tensor, " B"]]:
        """The first reference of each row in classes; what cannot be said is left out."""
        ids, length = target.data["ids"][:, 0], target.data["length"][:, 0]
        classes = self.class_of[ids]
        return ctc.closed_up(classes, (classes > 0) & prefix(length, ids.shape[1]))

    def fits(self, answer: Answer, target: Target) -> Bool[Tensor, " B"]:
        """Whether a row has steps enough for its text."""
        return ctc.needed(*self.labels(target)) <= answer["steps"]

    def loss(self, answer: Answer, target: Target) -> Float[Tensor, " B"]:
        """-log P(text) / (number of its tokens); 0 where there are too few steps."""
        labels, length = self.labels(target)
        if self.training and not self.fitting:
            self._watch(self.fits(answer, target) & target.present)
        return ctc.surprise(log_p(answer), answer["steps"], labels, length) / length.clamp(min=1)

    def _watch(self, fits: Bool[Tensor, " B"]) -> None:
        """Raise UserError when row after row has fewer steps than its text has tokens."""
        self.rows, self.fitting = self.rows + len(fits), bool(fits.any())
        if not self.fitting and self.rows >= PATIENCE:
            problem = f"none of the first {self.rows} rows has a step for every token of its text"
            raise UserError("transcribe", problem, advice="an encoder with `tokens: all` and a smaller `stack` or "
                            "`stride`, a reader with a smaller `hop`, or way: attention")  # fmt: skip

    def said(self, answer: Answer, beams: int | None) -> tuple[ctc.Spelled, Float[Tensor, "B K"]]:
        """The texts [B K L], best first, and the log-probability of each: the likeliest path's, or of `beams`."""
        scores, steps = log_p(answer), answer["steps"]
        if beams is None:
            found = ctc.Spelled(*(x[:, None] for x in ctc.best_path(scores, steps)))
        else:
            found = ctc.prefix_search(scores, steps, beams)
        rows, count = found.length.shape
        each = torch.arange(rows, device=steps.device).repeat_interleave(count)
        lost = ctc.surprise(scores[each], steps[each], found.labels.flatten(0, 1), found.length.flatten())
        return found, (-lost).unflatten(0, (rows, count)).masked_fill(~torch.isfinite(found.score), -torch.inf)

    def tokens(self, labels: Int[Tensor, "*B L"], length: Int[Tensor, "*B"]) -> Int[Tensor, "*B L"]:
        """Texts as tokens, the end after each."""
        there = torch.arange(labels.shape[-1], device=labels.device) < length[..., None]
        return torch.where(there, self.token[labels], self.end)


def log_p(answer: Answer) -> Float[Tensor, "B T C"]:
    return answer["logits"].float().log_softmax(2)
