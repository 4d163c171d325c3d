"""Connectionist temporal classification: a text from steps that say one sign or nothing each, wherever they stand.

Class 0 is the blank, "nothing"; the text of a path is what is left when repeats are merged and blanks taken out.
Sources: Graves, Fernández, Gomez and Schmidhuber, "Connectionist Temporal Classification", ICML 2006; prefix search:
Graves, "Supervised Sequence Labelling with Recurrent Neural Networks", 2012, and Hannun et al., "First-Pass Large
Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs", 2014.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from polymodal.tasks.packed import prefix

BLANK = 0


class Spelled(NamedTuple):
    """Texts in classes, 1 ... C - 1, zero after their end; each shape may have a dimension of beams after B."""

    labels: Int[Tensor, "*B L"]
    length: Int[Tensor, "*B"]
    score: Float[Tensor, "*B"]  # log-probability, see where it is made


def surprise(
    log_p: Float[Tensor, "B T C"], steps: Int[Tensor, " B"], labels: Int[Tensor, "B L"], length: Int[Tensor, " B"]
) -> Float[Tensor, " B"]:
    """-log of the probability of each text, summed over all paths that spell it; 0 where there are too few steps."""
    real = labels * prefix(length, labels.shape[1])
    return F.ctc_loss(log_p.transpose(0, 1), real, steps, length, BLANK, "none", zero_infinity=True)


def needed(labels: Int[Tensor, "B L"], length: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
    """The fewest steps that can spell a text: one for each sign, and a blank between two that are alike."""
    twice = (labels[:, 1:] == labels[:, :-1]) & prefix(length - 1, max(0, labels.shape[1] - 1))
    return length + twice.sum(1)


def best_path(log_p: Float[Tensor, "B T C"], steps: Int[Tensor, " B"]) -> Spelled:
    """The text of each row's likeliest path; `score` is the path's own log-probability."""
    sure, path = log_p.max(2)
    real = prefix(steps, path.shape[1])
    fresh = torch.cat([torch.ones_like(real[:, :1]), path[:, 1:] != path[:, :-1]], 1)
    labels, length = closed_up(path, (path != BLANK) & fresh & real)
    return Spelled(labels, length, (sure * real).sum(1))


def closed_up(values: Int[Tensor, "B L"], kept: Bool[Tensor, "B L"]) -> tuple[Int[Tensor, "B L"], Int[Tensor, " B"]]:
    """The kept values of each row before everything else, then zeros, and how many they are."""
    order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)
    return (values * kept).gather(1, order), kept.sum(1)


class _Beams(NamedTuple):
    """K beginnings of each row's text, likeliest first."""

    labels: Int[Tensor, "B K L"]
    length: Int[Tensor, "B K"]
    blank: Float[Tensor, "B K"]  # log-probability of the paths so far that spell it and end with a blank
    sign: Float[Tensor, "B K"]  # of those that end with its last sign

    @property
    def score(self) -> Float[Tensor, "B K"]:
        return torch.logaddexp(self.blank, self.sign)

    @property
    def last(self) -> Int[Tensor, "B K"]:
        """The last sign; 0 of an empty text."""
        return self.labels.gather(2, (self.length - 1).clamp(min=0)[..., None])[..., 0]


def prefix_search(log_p: Float[Tensor, "B T C"], steps: Int[Tensor, " B"], beams: int) -> Spelled:
    """The `beams` likeliest texts of each row [B, K], likeliest first; `score` sums the paths that were followed.

    All rows and beams go together, step by step. With as many beams as there are texts nothing is lost, and scores are
    the texts' exact log-probabilities; what a beam that does not exist scores is -inf. T · B · K · (C + K · L) time.
    """
    rows, longest, _ = log_p.shape
    labels = torch.zeros(rows, beams, longest, dtype=torch.int64, device=log_p.device)
    nothing = torch.full((rows, beams), -torch.inf, dtype=log_p.dtype, device=log_p.device)
    first = nothing.index_fill(1, torch.zeros(1, dtype=torch.int64, device=log_p.device), 0.0)
    state = _Beams(labels, torch.zeros_like(labels[..., 0]), first, nothing)
    for at in range(longest):
        later, on = _step(state, log_p[:, at], at), at < steps
        state = _Beams(*(torch.where(on.view(-1, *[1] * (new.ndim - 1)), new, old)
                         for new, old in zip(later, state, strict=True)))  # fmt: skip
    return Spelled(state.labels, state.length, state.score)


def _step(state: _Beams, log_p: Float[Tensor, "B C"], at: int) -> _Beams:
    """The K likeliest beginnings after one more step: each stays as it is, or goes on with one sign."""
    count, last = state.last.shape[1], state.last
    on = _extended(state, log_p, last)  # [B K C], the blank's column is -inf
    stays_blank = state.score + log_p[:, BLANK, None]
    stays_sign = torch.where(state.length > 0, state.sign + log_p.gather(1, last), -torch.inf)
    met = _is_child(state, last, at)  # [B K K]
    through = on.gather(2, last[:, None].expand(-1, count, -1))  # parent k going on with the last sign of j
    stays_sign = torch.logaddexp(stays_sign, torch.where(met, through, -torch.inf).logsumexp(1))
    on = on.masked_fill(_taken(met, last, on.shape[2]), -torch.inf)
    score, place = torch.cat([torch.logaddexp(stays_blank, stays_sign), on.flatten(1)], 1).topk(count, 1)
    grown = place >= count
    parent = torch.where(grown, (place - count) // on.shape[2], place)
    sign = torch.where(grown, (place - count) % on.shape[2], 0)
    labels = state.labels.gather(1, parent[..., None].expand(-1, -1, state.labels.shape[2]))
    length = state.length.gather(1, parent)
    ends = (torch.arange(labels.shape[2], device=labels.device) == length[..., None]) & grown[..., None]
    return _Beams(
        torch.where(ends, sign[..., None], labels),
        length + grown,
        torch.where(grown, -torch.inf, stays_blank.gather(1, parent)),
        torch.where(grown, score, stays_sign.gather(1, parent)),
    )


def _extended(state: _Beams, log_p: Float[Tensor, "B C"], last: Int[Tensor, "B K"]) -> Float[Tensor, "B K C"]:
    """Every beginning with every sign after it; a sign is said twice only with a blank between."""
    sign = torch.arange(log_p.shape[1], device=log_p.device)
    before = torch.where(sign == last[..., None], state.blank[..., None], state.score[..., None])
    return (before + log_p[:, None]).masked_fill(sign == BLANK, -torch.inf)


def _is_child(state: _Beams, last: Int[Tensor, "B K"], at: int) -> Bool[Tensor, "B K K"]:
    """[k, j]: whether beginning j is beginning k with one sign after it (at most `at` signs were said before).

    A beam that does not exist is nobody's child, whatever stands in its place.
    """
    said = state.labels[..., :at]
    shorter = said.masked_fill(torch.arange(at, device=said.device) == (state.length - 1)[..., None], 0)
    alike = (said[:, :, None] == shorter[:, None]).all(3)
    there = torch.isfinite(state.score)
    return alike & (state.length[:, :, None] + 1 == state.length[:, None]) & there[:, None]


def _taken(met: Bool[Tensor, "B K K"], last: Int[Tensor, "B K"], classes: int) -> Bool[Tensor, "B K C"]:
    """Which goings-on [k, sign] are beginnings that are there already."""
    return (met[..., None] & F.one_hot(last, classes).bool()[:, None]).any(2)
