"""Toy parts of other people's making, named in specs by their dotted path: what the hard cases of the design need."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from polymodal.core.contracts import Field, Gather, Records, Sample
from polymodal.core.errors import BadCell
from polymodal.core.schema import Json, Positive, Wired
from polymodal.core.streams import Answer, Cells, Notes, Stream, Streams, Target, pool
from polymodal.tasks.regress import Regress

Prepared = tuple[dict[str, Cells], Target | None]
LENGTH = 4  # of a sentence, as `Letters` reads it


class Cross(nn.Module):
    """Attention: every token looks at the real tokens of all inputs."""

    def __init__(self, *, inputs: Wired[tuple[str, ...]], width: Wired[int], heads: Positive = 2) -> None:
        super().__init__()
        self.look = nn.ModuleList(nn.MultiheadAttention(width, heads, batch_first=True) for _ in inputs)

    def forward(self, streams: Streams) -> tuple[Streams, Notes]:
        tokens = torch.cat([s.tokens for s in streams.values()], 1)
        gone = ~torch.cat([s.mask for s in streams.values()], 1)
        gone = gone & ~gone.all(1, keepdim=True)  # a row with nothing at all looks at its padding
        attended = {}
        for look, (name, s) in zip(self.look, streams.items(), strict=True):
            seen, _ = look(s.tokens, tokens, tokens, key_padding_mask=gone, need_weights=False)
            attended[name] = Stream((s.tokens + seen) * s.mask[..., None], s.mask, s.maps)
        return attended, Notes()


class Letters:
    """Target reader: the first four letters of a text as numbers, 0 after its end."""

    files: ClassVar[bool] = False

    def __init__(self) -> None:
        self.field: Field | None = None

    def fit(self, cells: Iterable[object]) -> Field:
        letters = sorted({letter for cell in cells if isinstance(cell, str) for letter in cell})
        self.field = {"letters": ["", *letters]}
        return self.field

    def __call__(self, cell: object) -> Sample:
        assert self.field is not None
        if not isinstance(cell, str):
            raise BadCell("no text")
        ids = [self.field["letters"].index(letter) for letter in cell[:LENGTH]]
        return {"ids": np.array(ids + [0] * (LENGTH - len(ids)), np.int64)}

    def blank(self) -> Sample:
        return {"ids": np.zeros(LENGTH, np.int64)}


class Picture:
    """Target reader: an array [H, W, 3] of bytes as numbers from 0 to 1, [3, H, W]."""

    files: ClassVar[bool] = False

    def __init__(self) -> None:
        self.field: Field | None = None

    def fit(self, cells: Iterable[object]) -> Field:
        self.field = {"size": next(list(np.shape(c)) for c in cells)}
        return self.field

    def __call__(self, cell: object) -> Sample:
        return {"pixels": (np.asarray(cell).transpose(2, 0, 1) / 255).astype(np.float32)}

    def blank(self) -> Sample:
        assert self.field is not None
        height, width, channels = self.field["size"]
        return {"pixels": np.zeros((channels, height, width), np.float32)}


class Toy(nn.Module):
    """What the toy tasks have in common."""

    reads: frozenset[str] = frozenset({"fused"})

    def prepare(self, inputs: dict[str, Cells], target: Target | None, key: Tensor) -> Prepared:
        return inputs, target

    def weight(self, target: Target) -> Float[Tensor, " B"]:
        return target.present.float()

    def respond(self, streams: Streams, fused: Stream, **options: Json) -> Answer:
        return self(streams, fused, None)


class UNet(Toy):
    """From the coarsest map up to the picture, a finer map joined at every step (Ronneberger et al. 2015)."""

    reads = frozenset({"maps"})

    def __init__(self, *, inputs: Wired[tuple[str, ...]], channels: tuple[Positive, ...]) -> None:
        super().__init__()
        self.input = inputs[0]
        sizes = (3, *channels)
        self.up = nn.ModuleList(nn.Conv2d(a + b, b, 3, padding=1) for a, b in zip(sizes[1:], sizes, strict=False))

    @staticmethod
    def target(settings: Json, files: Path) -> tuple[str, Json]:
        return f"{__name__}:Picture", {}

    def forward(self, streams: Streams, fused: Stream, target: Target | None) -> Answer:
        *finer, x = streams[self.input].maps
        for up, level in zip(reversed(self.up), reversed(finer), strict=True):
            x = up(torch.cat([F.interpolate(x, level.shape[2:]), level], 1))
        return {"picture": x}

    def loss(self, answer: Answer, target: Target, gather: Gather | None) -> Float[Tensor, " B"]:
        return (answer["picture"] - target.data["pixels"]).square().flatten(1).mean(1)


class DnCNN(UNet):
    """The noise in a picture, taken from it (Zhang et al. 2017); in training the noise comes from `prepare`."""

    def __init__(self, *, inputs: Wired[tuple[str, ...]]) -> None:
        super().__init__(inputs=inputs, channels=())
        self.noise = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))

    def prepare(self, inputs: dict[str, Cells], target: Target | None, key: Tensor) -> Prepared:
        cells = inputs[self.input]
        g = torch.Generator().manual_seed(int(key[0]))
        pixels = cells.data["pixels"].float()
        noisy = pixels + 25 * torch.randn(pixels.shape, generator=g)
        return {**inputs, self.input: cells._replace(data={"pixels": noisy})}, target

    def forward(self, streams: Streams, fused: Stream, target: Target | None) -> Answer:
        picture = streams[self.input].maps[0]
        return {"picture": picture - self.noise(picture)}


class Spell(Toy):
    """Letters one after the other: in training after the true ones before, in answering after its own."""

    reads = frozenset({"fused"})
    forced = True

    def __init__(self, *, field: Wired[dict], width: Wired[int]) -> None:
        super().__init__()
        self.count = len(field["letters"])
        self.embed, self.cell = nn.Embedding(self.count + 1, width), nn.GRUCell(width, width)  # the last one: begin
        self.head = nn.Linear(width, self.count)

    @staticmethod
    def target(settings: Json, files: Path) -> tuple[str, Json]:
        return f"{__name__}:Letters", {}

    def forward(self, streams: Streams, fused: Stream, target: Target | None) -> Answer:
        if target is None:
            return self.respond(streams, fused)
        return {"logits": self._say(fused, target.data["ids"])}

    def respond(self, streams: Streams, fused: Stream, **options: Json) -> Answer:
        return {"logits": self._say(fused, None)}

    def _say(self, fused: Stream, known: Tensor | None) -> Float[Tensor, "B L V"]:
        state, said = pool(fused.tokens, fused.mask), []
        before = torch.full((len(state),), self.count)
        for at in range(LENGTH):
            state = self.cell(self.embed(before), state)
            said.append(self.head(state))
            before = said[-1].argmax(1) if known is None else known[:, at]
        return torch.stack(said, 1)

    def loss(self, answer: Answer, target: Target, gather: Gather | None) -> Float[Tensor, " B"]:
        return F.cross_entropy(answer["logits"].transpose(1, 2), target.data["ids"], reduction="none").mean(1)


class Masked(Toy):
    """Masked language modelling: tokens of a text hidden by lot, its letters to be named all the same."""

    reads = frozenset({"fused"})

    def __init__(self, *, field: Wired[dict], width: Wired[int], inputs: Wired[tuple[str, ...]], share: float = 0.5,
                 seed: int = 0) -> None:  # fmt: skip
        super().__init__()
        self.input, self.share, self.seed, self.hidden = inputs[0], share, seed, 1
        self.head = nn.Linear(width, LENGTH * len(field["letters"]))

    @staticmethod
    def target(settings: Json, files: Path) -> tuple[str, Json]:
        return f"{__name__}:Letters", {}

    def prepare(self, inputs: dict[str, Cells], target: Target | None, key: Tensor) -> Prepared:
        cells = inputs[self.input]
        g = torch.Generator().manual_seed(self.seed + int(key[0]))
        hide = torch.rand(cells.data["ids"].shape, generator=g) < self.share
        ids = cells.data["ids"].masked_fill(hide & cells.data["ids_mask"], self.hidden)
        return {**inputs, self.input: cells._replace(data={**cells.data, "ids": ids})}, target

    def forward(self, streams: Streams, fused: Stream, target: Target | None) -> Answer:
        return {"seen": pool(fused.tokens, fused.mask), "logits": self.head(pool(fused.tokens, fused.mask))}

    def loss(self, answer: Answer, target: Target, gather: Gather | None) -> Float[Tensor, " B"]:
        logits = answer["logits"].unflatten(1, (LENGTH, -1)).transpose(1, 2)
        return F.cross_entropy(logits, target.data["ids"], reduction="none").mean(1)


class Match(Toy):
    """Contrastive loss between two inputs over the global batch (Radford et al. 2021); equal targets are one pair."""

    reads = frozenset({"tokens"})

    def __init__(self, *, inputs: Wired[tuple[str, ...]], temperature: float = 0.1) -> None:
        super().__init__()
        self.inputs, self.temperature = inputs, temperature

    @staticmethod
    def target(settings: Json, files: Path) -> tuple[str, Json]:
        return "label", {}

    def forward(self, streams: Streams, fused: Stream, target: Target | None) -> Answer:
        return {n: F.normalize(pool(streams[n].tokens, streams[n].mask), dim=1) for n in self.inputs[:2]}

    def loss(self, answer: Answer, target: Target, gather: Gather | None) -> Float[Tensor, " B"]:
        (one, two), pair = answer.values(), target.data["class"]
        everyone = [gather(x) if gather else x for x in (one, two, pair)]
        same = pair[:, None] == everyone[2]
        return sum(self._side(here, there, same) for here, there in ((one, everyone[1]), (two, everyone[0]))) / 2

    def _side(self, here: Tensor, there: Tensor, same: Tensor) -> Float[Tensor, " B"]:
        logits = here @ there.T / self.temperature
        return logits.logsumexp(1) - logits.masked_fill(~same, -torch.inf).logsumexp(1)


class Players(Toy):
    """A GAN's two players (Goodfellow et al. 2014) with one backward: the generator sees the critic with its weights
    detached, the critic sees pictures that are detached."""

    def __init__(self, *, width: Wired[int]) -> None:
        super().__init__()
        self.generator, self.critic = nn.Linear(width, 1), nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1))

    @staticmethod
    def target(settings: Json, files: Path) -> tuple[str, Json]:
        return "number", {}

    def forward(self, streams: Streams, fused: Stream, target: Target | None) -> Answer:
        return {"made": self.generator(pool(fused.tokens, fused.mask))}

    def loss(self, answer: Answer, target: Target, gather: Gather | None) -> Float[Tensor, " B"]:
        made, real = answer["made"], target.data["value"][:, None]
        still: Any = {n: p.detach() for n, p in self.critic.named_parameters()}
        fooled = F.softplus(-functional_call(self.critic, still, (made,)))
        caught = F.softplus(-self.critic(real)) + F.softplus(self.critic(made.detach()))
        return (fooled + caught)[:, 0]


class Off(Regress):
    """Regression with a measure of its own, of which less is better."""

    metric, maximize = "off", False

    def measure(self, records: Records, weights: Float[np.ndarray, "W n"]) -> dict[str, Float[np.ndarray, " W"]]:
        return {"off": super().measure(records, weights)["mae"]}
