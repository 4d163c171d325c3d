"""The task of finding what belongs together: two or more inputs in one space."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal.core.contracts import Field, Gather, Prediction, Records
from polymodal.core.contrast import digests
from polymodal.core.errors import SpecError, suggest
from polymodal.core.schema import Chance, Json, Natural, Positive, Rate, Wired
from polymodal.core.streams import Answer, Cells, Embedded, Row, Stream, Streams, Target
from polymodal.tasks.head import HeadNorm
from polymodal.tasks.metrics import mean_defined
from polymodal.tasks.retrieve.losses import Loss, Negatives, one_way
from polymodal.tasks.retrieve.maps import Map, Pool, one_each
from polymodal.tasks.retrieve.queue import Queue
from polymodal.tasks.retrieve.ranks import Found, Side, find, measures
from polymodal.tasks.retrieve.views import View, gathered, own, same

STARTS = {"infonce": (0.07, ()), "sigmoid": (0.1, (-10.0,)), "triplet": (1.0, ())}  # temperature; what is added
HOTTEST = 100.0  # similarities are multiplied by no more


class Retrieve(nn.Module):
    """Retrieval: what belongs together is near, what does not is far; for every pair of the inputs.

    An input's tokens [B K*T D] become vectors of length 1 by a map of its own: `u` [B K E], one for each of its K
    columns (five captions of one picture), all of which belong to the row. `s(u, v) = u · v`. For a cell u of row b in
    one input, its own v in another one, and the cells v' of other rows there, with learned t and c, margin m:

        infonce   −ln e^(t s(u, v)) / (e^(t s(u, v)) + Σ e^(t s(u, v')))
        sigmoid   −ln σ(t s(u, v) + c) − Σ ln σ(−t s(u, v') − c)
        triplet   max(0, m + s(u, v') − s(u, v)), v' by `negatives`

    The loss of a row is the mean over these pairs, both ways and over the pairs of inputs that it has. The v' are those
    of all rows of the batch in all processes, and of the `queue`, but for those that are no wrong answer: rows that
    show the same cell in either input, by its digest, or with `same` have the same value in the task's column. What is
    missing counts for nothing. With `late`, a cell keeps up to `tokens` vectors, `s(u, v)` is the mean over those of u
    of the greatest product with one of v, which differs by direction, and one vector must stand for all in an index.

    Measured is how each cell finds its own among all distinct ones of the other input: see `ranks.find`. By direction,
    `picture_to_text_recall_1`, `..._5`, `..._10`, `median_rank`, `map`, `ndcg_10`; `mean_recall`, the mean of all
    recalls (rsum / 6 for two inputs), chooses the epoch. A prediction is how well the row's own inputs fit: the mean of
    `s` over the pairs of its cells, −1 to 1.

    Cost: N·(D + 1)·E parameters for N inputs; N·K·D·E + N·(N − 1)·K²·B·E multiplications per row of a batch of B (M²
    times the latter with `late`). Sources: InfoNCE, learned t ≤ 100: Radford et al., "CLIP", ICML 2021; sigmoid: Zhai
    et al., "SigLIP", ICCV 2023; triplet: Faghri et al., "VSE++", BMVC 2018 (hardest), Schroff et al., "FaceNet", CVPR
    2015 (semi-hard); queue: Wang et al., "XBM", CVPR 2020; late: Khattab and Zaharia, "ColBERT", SIGIR 2020, Yao et
    al., "FILIP", ICLR 2022.

    Settings: `between`, the inputs, all when not given; `same`; `dim`, E; `pool`; `hidden`, `dropout`, `norm` of the
    maps; `loss`; `temperature`, 1/t at first; `margin`, `negatives`; `queue`, in rows; `late`, `tokens`.
    """

    reads = frozenset({"tokens"})
    says: tuple[str, ...] = ()
    metric, maximize = "mean_recall", True
    poses = apart = alike = whole = True

    def __init__(
        self,
        *,
        inputs: Wired[tuple[str, ...]],
        width_in: Wired[int],
        fields: Wired[dict[str, Field]],
        between: tuple[str, ...] | None = None,
        same: bool = False,
        dim: Positive = 256,
        pool: Pool = "mean",
        hidden: Natural = 0,
        dropout: Chance = 0.0,
        norm: HeadNorm = "none",
        loss: Loss = "infonce",
        temperature: Rate | None = None,
        margin: Rate = 0.2,
        negatives: Negatives = "hardest",
        queue: Natural = 0,
        late: bool = False,
        tokens: Positive = 32,
    ) -> None:
        super().__init__()
        self.spaces = _chosen(between, inputs)
        self.pairs = list(combinations(range(len(self.spaces)), 2))
        self.dim, self.kind, self.margin, self.negatives = dim, loss, margin, negatives
        columns = [_columns(fields[name]) for name in self.spaces]
        most = tokens if late else 0
        self.maps = nn.ModuleList(
            Map(width=width_in, dim=dim, columns=k, pool=pool, tokens=most, hidden=hidden, dropout=dropout, norm=norm)
            for k in columns
        )
        usual, added = STARTS[loss]
        self.start: Tensor
        self.register_buffer("start", torch.tensor([-math.log(temperature or usual), *added]), False)
        self.learned = None if loss == "triplet" else nn.Embedding(1, 1 + len(added))  # moves away from the start
        if self.learned is not None:
            nn.init.zeros_(self.learned.weight)
        past = Queue(inputs=self.spaces, rows=queue, columns=columns, tokens=max(1, most), dim=dim) if queue else None
        self.queue = past
        self._last: tuple[weakref.ref[np.ndarray], dict[str, Found]] | None = None

    @staticmethod
    def target(settings: Json, files: Path) -> tuple[str, Json]:
        return ("group" if settings.get("same") else "anything"), {}

    def progress(self, done: float) -> None:
        """Before every step: similarities are multiplied by no more than 100."""
        if self.learned is not None:
            with torch.no_grad():
                self.learned.weight[:, :1].clamp_(max=math.log(HOTTEST) - float(self.start[0]))

    @property
    def sharpness(self) -> float:
        """What similarities are multiplied by, t, as it was learned."""
        moved = self.start if self.learned is None else self.start + self.learned.weight[0].detach()
        return float(moved[0].exp())

    def prepare(
        self, inputs: dict[str, Cells], target: Target | None, key: Tensor
    ) -> tuple[dict[str, Cells], Target | None]:
        """The inputs as they are. Data of what is asked besides: `shown.INPUT` [B K], digests of the cells."""
        if target is None:
            return inputs, None
        shown = {f"shown.{name}": digests(inputs[name]) for name in self.spaces}
        return inputs, Target({**target.data, **shown}, target.present)

    def forward(self, streams: Streams, fused: Stream | None, target: Target | None) -> Answer:
        """`vectors.INPUT` [B K M E] and `there.INPUT` [B K M]; `scale` [B S], what the loss has learned."""
        answer: Answer = {}
        for name, part in zip(self.spaces, self.maps, strict=True):
            answer[f"vectors.{name}"], answer[f"there.{name}"] = part(streams[name])
        rows = answer[f"there.{name}"].new_zeros(len(streams[name].tokens), dtype=torch.long)
        moved = self.start if self.learned is None else self.start + self.learned(rows)
        return answer | {"scale": moved.expand(len(rows), -1).float()}

    def embed(self, streams: Streams, fused: Stream | None) -> dict[str, Embedded]:
        """By input a vector of length 1 for each column; with `late` the mean of its vectors stands for them."""
        found = self(streams, fused, None)
        each = {n: (found[f"vectors.{n}"], found[f"there.{n}"]) for n in self.spaces}
        return {n: Embedded(one_each(vectors, there), there.any(2)) for n, (vectors, there) in each.items()}

    def loss(self, answer: Answer, target: Target, gather: Gather | None) -> Float[Tensor, " B"]:
        mine = self._views(answer, target)
        all_rows = {name: gathered(view, gather) for name, view in mine.items()}
        others = all_rows
        if self.queue is not None and self.training:
            others = self.queue.after(all_rows)
            self.queue.push(all_rows)
        total = answer["scale"].new_zeros(len(target.present))
        counts = torch.zeros_like(total)
        for a, b in ((self.spaces[i], self.spaces[j]) for i, j in self.pairs):
            alike = same((mine[a], mine[b]), (others[a], others[b]))
            for one, two in ((a, b), (b, a)):
                total = total + one_way(mine[one], mine[two], others[two], alike, answer["scale"], self.kind,
                                        self.margin, self.negatives) / 2  # fmt: skip
            counts = counts + (mine[a].present.any(1) & mine[b].present.any(1))
        return total / counts.clamp(min=1)

    def weight(self, target: Target) -> Float[Tensor, " B"]:
        if f"shown.{self.spaces[0]}" not in target.data:
            return target.present.float()
        there = torch.stack([(target.data[f"shown.{name}"] >= 0).any(1) for name in self.spaces], 1)
        return (target.present & (there.sum(1) > 1)).float()

    def respond(
        self, streams: Streams, fused: Stream | None, *, asked: Target | None = None, **options: Json
    ) -> Answer:
        return self(streams, fused, asked)

    def predict(self, answer: Answer, rows: Sequence[Row]) -> list[Prediction]:
        fit, known = self._fit(answer)
        return [Prediction(x if k else None) for x, k in zip(fit.tolist(), known.tolist(), strict=True)]

    def score(self, answer: Answer, target: Target) -> Records:
        """Per row its vectors, which cells they are of, its `group`; `error` is how badly its own inputs fit."""
        found = {f"{field}.{name}": column for name, view in self._views(answer, target).items()
                 for field, column in view._asdict().items() if field != "group"}  # fmt: skip
        fit, known = self._fit(answer)
        found |= {"group": _group(target), "error": (1 - fit).where(known, 0.0)}
        return {name: value[target.present].detach().cpu().numpy() for name, value in found.items()}

    def measure(self, records: Records, weights: Float[np.ndarray, "W n"]) -> dict[str, Float[np.ndarray, " W"]]:
        rows = len(records["error"])
        each = {way: measures(found, rows, weights) for way, found in self._found(records).items()}
        recalls = np.stack([v for one in each.values() for name, v in one.items() if name.startswith("recall")], 1)
        named = {f"{way}_{name}": value for way, one in each.items() for name, value in one.items()}
        return {"mean_recall": mean_defined(recalls), **named}

    def charts(self, records: Records) -> list[Json]:
        return []

    def _views(self, answer: Answer, target: Target) -> dict[str, View]:
        return {name: View(answer[f"vectors.{name}"], answer[f"there.{name}"], target.data[f"shown.{name}"],
                           _group(target)) for name in self.spaces}  # fmt: skip

    def _fit(self, answer: Answer) -> tuple[Tensor, Tensor]:
        """How well each row's own inputs fit, -1 to 1, and whether it has two of them."""
        each = [(answer[f"vectors.{name}"], answer[f"there.{name}"]) for name in self.spaces]
        views = [View(vectors, there, there.any(2).long(), there.any(2).any(1).long()) for vectors, there in each]
        fits, counts = answer["scale"].new_zeros(2, len(answer["scale"]))
        for one, two in permutations(views, 2):
            both = one.present[:, :, None] & two.present[:, None]
            fits, counts = fits + (own(one, two) * both).sum((1, 2)), counts + both.sum((1, 2))
        return (fits / counts.clamp(min=1)).double(), counts > 0

    def _found(self, records: Records) -> dict[str, Found]:
        """Every direction's ranks; kept while the same records are weighted in other ways."""
        column = records[f"vectors.{self.spaces[0]}"]
        if self._last is None or self._last[0]() is not column:
            sides = {n: Side(*(records[f"{field}.{n}"] for field in Side._fields)) for n in self.spaces}
            ways = {f"{_plain(a)}_to_{_plain(b)}": (sides[a], sides[b]) for a, b in permutations(self.spaces, 2)}
            self._last = weakref.ref(column), {w: find(a, b, records["group"]) for w, (a, b) in ways.items()}
        return self._last[1]


def _chosen(between: tuple[str, ...] | None, inputs: tuple[str, ...]) -> tuple[str, ...]:
    for name in between or ():
        if name not in inputs:
            raise SpecError("between", "no input of this name", given=name, advice=suggest(name, inputs))
    chosen = tuple(dict.fromkeys(inputs if between is None else between))
    if len(chosen) < 2:
        raise SpecError("between", "needs two inputs or more", given=list(chosen), advice="another input")
    return chosen


def _columns(field: Field) -> int:
    """The cells that a row has; where nothing is said of it, one."""
    found = field.get("columns", 1)
    return found if isinstance(found, int) else 1


def _group(target: Target) -> Tensor:
    """-1 where rows are the same by what they show alone, and where it is not known."""
    none = torch.full_like(target.present, -1, dtype=torch.long)
    return none if "group" not in target.data else target.data["group"].where(target.present, none)


def _plain(name: str) -> str:
    return name.replace(".", "_")
