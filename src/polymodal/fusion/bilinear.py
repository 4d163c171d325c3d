"""Fusion by bilinear products."""

from __future__ import annotations

from functools import reduce
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.errors import SpecError
from polymodal.core.schema import Positive, Wired
from polymodal.core.streams import Notes, Stream, Streams
from polymodal.fusion.slots import Slots, one_token

Form = Literal["mlb", "mutan", "compact"]


class Bilinear(nn.Module):
    """Products of features of different inputs, in one of three forms; with more than two inputs over all of them.

    - `form: mlb`: `z = P ∘_i tanh(U_i x_i + c_i) + b`, of `hidden` features each (low-rank bilinear pooling);
    - `form: mutan`: `z = P Σ_r ∘_i M_i^r tanh(U_i x_i + c_i) + b`, the Tucker decomposition of a bilinear map, where
      each slice of the core has rank `rank`;
    - `form: compact`: each `x_i` is projected by a fixed count sketch (every feature lands, with a fixed random sign,
      at a fixed random one of `hidden` places), and the sketches are convolved in a circle, which gives the sketch y of
      the outer product; then `z = P s/‖s‖ + b` with `s = sign(y) √|y|`.

    Streams of [B T D] -> one token [B 1 out]. A missing input's place holds its own learned token.

    Cost, with H for `hidden`: N·T·D additions; `mlb` N·D·H + H·out multiplications, `mutan` N·rank·H² more; `compact`
    N·D additions, about N·H·log H for the convolution, and H·out. Parameters: N·D + (H + 1)·out for `compact`, with
    N·(D + 1)·H more for `mlb`, and again N·rank·H² more for `mutan`.
    Sources: Kim et al., "Hadamard Product for Low-rank Bilinear Pooling", ICLR 2017; Ben-younes et al., "MUTAN:
    Multimodal Tucker Fusion for Visual Question Answering", ICCV 2017; Fukui et al., "Multimodal Compact Bilinear
    Pooling for Visual Question Answering and Visual Grounding", EMNLP 2016.

    Settings: `form`; `hidden` (D when not given, 4·D for `compact`); `rank` of `mutan` (4 when not given); `out`, the
    width of the result (D when not given).
    """

    def __init__(
        self,
        *,
        inputs: Wired[tuple[str, ...]],
        width: Wired[int],
        form: Form = "mutan",
        hidden: Positive | None = None,
        rank: Positive | None = None,
        out: Positive | None = None,
    ) -> None:
        super().__init__()
        if rank is not None and form != "mutan":
            raise SpecError("fusion.rank", f"form: {form} has none", given=rank, advice="leave it out, or form: mutan")
        hidden = hidden or (4 * width if form == "compact" else width)
        self.width, self.form, self.hidden = out or width, form, hidden
        self.slots = Slots(inputs=inputs, width=width)
        self.factors = nn.ModuleList(_factor(form, width, hidden, rank or 4) for _ in inputs)
        self.map = nn.Linear(hidden, self.width)

    def forward(self, streams: Streams) -> tuple[Stream, Notes]:
        vectors, _ = self.slots(streams)
        factors = [f(v) for f, v in zip(self.factors, vectors.unbind(1), strict=True)]
        if self.form == "compact":
            joined = _normal(_convolved(factors))
        else:
            joined = reduce(torch.mul, factors).unflatten(1, (-1, self.hidden)).sum(1)  # over the terms r
        return one_token(self.map(joined)), Notes()


def _factor(form: Form, width: int, hidden: int, rank: int) -> nn.Module:
    """What is multiplied with that of the other inputs: [B D] -> [B H], for `mutan` [B rank·H]."""
    if form == "compact":
        return CountSketch(width, hidden)
    terms = [nn.Linear(hidden, rank * hidden, bias=False)] if form == "mutan" else []
    return nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), *terms)


class CountSketch(nn.Module):
    """[B D] -> [B H]: `y_h = Σ s_d x_d` over the features d that were sent to place h (Charikar et al. 2002).

    Places and signs are drawn once, from the seed of the weights, and kept with them. D additions per row.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.places: Tensor
        self.signs: Tensor
        self.register_buffer("places", torch.randint(0, hidden, (width,)))
        self.register_buffer("signs", torch.randint(0, 2, (width,)) * 2.0 - 1.0)

    def forward(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B H"]:
        signed = x * self.signs
        return signed.new_zeros(x.shape[0], self.hidden).index_add(1, self.places, signed)


def _convolved(sketches: list[Tensor]) -> Float[Tensor, "B H"]:
    """The circular convolution of all of them, as a product of their spectra; at least in fp32, which the FFT needs."""
    dtype = sketches[0].dtype
    spectra = [torch.fft.rfft(s.to(torch.promote_types(dtype, torch.float32)), dim=1) for s in sketches]
    return torch.fft.irfft(reduce(torch.mul, spectra), n=sketches[0].shape[1], dim=1).to(dtype)


def _normal(y: Float[Tensor, "B H"]) -> Float[Tensor, "B H"]:
    """Square roots with their signs, then length 1; both slopes are kept finite at zero."""
    return F.normalize(y / (y.abs() + 1e-6).sqrt(), dim=1, eps=1e-3)
