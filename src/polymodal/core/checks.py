"""One public checker per contract: call it on your own part. Each raises AssertionError with what was broken.

`make` is always a function that builds a fresh part: `check_encoder(lambda: CNN(field=field), data)`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.nn import functional as F

from polymodal.core.contracts import Prediction, Reader
from polymodal.core.errors import BadCell
from polymodal.core.seeds import generator
from polymodal.core.streams import Row, Stream, Streams, Target, check_stream


def _close(one: Tensor, two: Tensor, what: str) -> None:
    assert one.shape == two.shape, f"{what}: shapes {tuple(one.shape)} and {tuple(two.shape)}"
    gap = (one - two).abs().max().item() if one.numel() else 0.0
    assert torch.allclose(one, two, atol=1e-5, rtol=1e-4), f"{what}: differs by {gap:.2e}"


def _fresh(make: Callable[[], Any]) -> Any:
    torch.manual_seed(0)
    part = make()
    assert isinstance(part, nn.Module), f"{type(part).__name__} is no nn.Module"
    return part.eval()


def _check_saving(part: nn.Module, make: Callable[[], Any], run: Callable[[nn.Module], Tensor]) -> None:
    """A part built anew and given the saved weights answers the same."""
    saved = save_tensors({k: v.contiguous() for k, v in part.state_dict().items()})
    torch.manual_seed(1)
    other = make().eval()
    other.load_state_dict(load_tensors(saved))
    with torch.no_grad():
        _close(run(part), run(other), "after saving and loading")


def _check_gradients(part: nn.Module, total: Tensor) -> None:
    """Every trainable parameter gets a finite gradient."""
    part.zero_grad()
    if total.requires_grad:
        total.backward()
    for name, p in part.named_parameters():
        if p.requires_grad:
            assert p.grad is not None, f"parameter {name} takes no part in the output"
            assert torch.isfinite(p.grad).all(), f"the gradient of {name} is not finite"


def check_encoder(make: Callable[[], Any], data: dict[str, Tensor], export: bool = True) -> None:
    """Check the Encoder contract on `data` (as in `Cells.data`, at least three cells, of different lengths if padded).

    Widths and maps as promised, zeros where masked, no influence of padding or neighbours, order kept, finite gradients
    for all parameters, saving and loading, `torch.export`.
    """
    part = _fresh(make)
    rows = len(next(iter(data.values())))
    assert rows >= 3, "give at least three cells"
    with torch.no_grad():
        stream = part(data)
    check_stream(stream, rows, part.width, "encoder")
    assert stream.mask.any(1).all(), "a present cell has no token"
    assert len(part.channels) == len(part.strides), "channels and strides differ in length"
    assert len(stream.maps) in (0, len(part.channels) + 1), "maps are not [picture, *features]"
    for level, (c, s) in enumerate(zip(part.channels, part.strides, strict=True), 1):
        if stream.maps:
            size = tuple(-(-n // s) for n in stream.maps[0].shape[2:])
            expected = (rows, c, *size)
            assert tuple(stream.maps[level].shape) == expected, f"maps[{level}]: {stream.maps[level].shape}, {expected}"
    _check_cells(part, data, stream)
    _check_saving(part, make, lambda p: p(data).tokens)
    if export:
        program = torch.export.export(part, (data,), strict=False)
        with torch.no_grad():
            _close(stream.tokens, program.module()(data).tokens, "after torch.export")
    torch.manual_seed(0)
    part.train()
    out = part(data)
    weight = torch.randn_like(out.tokens)  # a plain sum has no gradient behind a normalisation
    _check_gradients(part, (out.tokens * weight).sum() + sum((m * torch.randn_like(m)).sum() for m in out.maps[1:]))


def _check_cells(part: nn.Module, data: dict[str, Tensor], stream: Stream) -> None:
    rows = len(stream.tokens)
    with torch.no_grad():
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(0))
        mixed = part({k: v[order] for k, v in data.items()})
        _close(mixed.tokens, stream.tokens[order], "after changing the order of the cells")
        for row in (0, rows - 1):
            alone = part({k: v[row : row + 1] for k, v in data.items()})
            _close(
                alone.tokens[0][alone.mask[0]], stream.tokens[row][stream.mask[row]], f"cell {row} without the others"
            )
            for level, here in enumerate(alone.maps):
                _close(here[0], stream.maps[level][row], f"maps[{level}] of cell {row} without the others")
        ragged = {k[: -len("_mask")] for k in data if k.endswith("_mask")}
        if ragged:
            longer = {k: _lengthen(v, 3) if k.removesuffix("_mask") in ragged else v for k, v in data.items()}
            padded = part(longer)
            for row in range(rows):
                _close(padded.tokens[row][padded.mask[row]], stream.tokens[row][stream.mask[row]], "after more padding")


def _lengthen(x: Tensor, by: int) -> Tensor:
    """Zeros (False) after the end of axis 1."""
    return F.pad(x, [0, 0] * (x.ndim - 2) + [0, by])


def streams_like(inputs: Sequence[str], width: int, rows: int = 4, seed: int = 0) -> Streams:
    """Random streams of different lengths for the checkers; row 0 is complete, row 1 misses the first input."""
    g = torch.Generator().manual_seed(seed)
    made = {}
    for i, name in enumerate(inputs):
        mask = torch.rand(rows, 2 + i, generator=g) < 0.7
        mask[0], mask[:, 0] = True, True
        if i == 0 and rows > 1:
            mask[1] = False
        made[name] = Stream(torch.randn(rows, 2 + i, width, generator=g) * mask[..., None], mask)
    return made


def _without(streams: Streams, names: Iterable[str]) -> Streams:
    gone = set(names)
    return {
        n: Stream(torch.zeros_like(s.tokens), torch.zeros_like(s.mask), s.maps) if n in gone else s
        for n, s in streams.items()
    }


def _rows(streams: Streams, order: Tensor) -> Streams:
    return {n: Stream(s.tokens[order], s.mask[order], tuple(m[order] for m in s.maps)) for n, s in streams.items()}


def check_fusion(make: Callable[[], Any], streams: Streams, export: bool = True) -> None:
    """Check the Fusion contract: width, padding, neighbours, order, every subset missing, gradients, saving, export."""
    part = _fresh(make)
    rows = len(next(iter(streams.values())).tokens)

    def run(given: Streams, module: nn.Module = part) -> Tensor:
        fused, notes = module(given)
        check_stream(fused, len(next(iter(given.values())).tokens), part.width, "fusion")
        assert all(v.shape == (rows,) for v in notes.losses.values()), "notes.losses must be one number per row"
        return fused.tokens

    _check_joining(part, streams, run, lambda m: run(streams, m), make)
    if export:
        part.eval()
        program = torch.export.export(part, (streams,), strict=False)
        with torch.no_grad():
            _close(run(streams), program.module()(streams)[0].tokens, "after torch.export")


def check_attention(make: Callable[[], Any], streams: Streams) -> None:
    """Check the Attention contract: the same names, widths and masks come out; otherwise as for a fusion."""
    part = _fresh(make)

    def run(given: Streams, module: nn.Module = part) -> Tensor:
        out, _ = module(given)
        assert list(out) == list(given), f"attention gives {list(out)} for {list(given)}"
        for name, stream in out.items():
            check_stream(stream, len(given[name].tokens), given[name].tokens.shape[2], f"attention: {name}")
        return torch.cat([s.tokens[:, :2] for s in out.values()], 1)

    _check_joining(part, streams, run, lambda m: run(streams, m), make)


def _check_joining(
    part: nn.Module,
    streams: Streams,
    run: Callable[[Streams], Tensor],
    again: Callable[[nn.Module], Tensor],
    make: Callable[[], Any],
) -> None:
    rows = len(next(iter(streams.values())).tokens)
    with torch.no_grad():
        whole = run(streams)
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(0))
        _close(run(_rows(streams, order)), whole[order], "after changing the order of the rows")
        longer = {n: Stream(_lengthen(s.tokens, 2), _lengthen(s.mask, 2), s.maps) for n, s in streams.items()}
        padded = run(longer)
        if padded.shape == whole.shape:
            _close(padded, whole, "after more padding")
        else:
            _close(padded.sum(1), whole.sum(1), "after more padding")
        for count in range(1, len(streams) + 1):
            for gone in combinations(streams, count):
                run(_without(streams, gone))  # finite, and of the right shape
    _check_saving(part, make, again)
    part.train()
    total = run(streams)
    _check_gradients(part, (total * torch.randn_like(total)).sum())


def check_reader(make: Callable[[], Reader], cells: Sequence[object], bad: Sequence[object] = ()) -> None:
    """Check the Reader contract on good `cells` and `bad` ones.

    The field is plain JSON and enough to read alike in a new reader; samples agree in names, dtypes and fixed axes,
    with each other and with `blank`; bad cells raise BadCell and spoil neither fitting nor reading; augmenting is a
    function of the generator; nothing is changed in place.
    """
    reader, other = make(), make()
    field = reader.fit(iter([*cells, *bad]))
    assert reader.field == field, "fit must set reader.field"
    other.field = json.loads(json.dumps(field))
    assert other.field == field, "the field is not plain JSON"
    form = _form(reader, reader.blank())
    for number, cell in enumerate(cells):
        decoded = reader.decode(cell)
        kept = {k: v.copy() for k, v in decoded.items()}
        plain = reader.finish(decoded, None)
        assert _form(reader, plain) == form, f"cell {number}: {_form(reader, plain)}, blank: {form}"
        _same(plain, other(cell), f"cell {number} through a new reader with the same field")
        one, two = (reader.finish(decoded, generator("check", number)) for _ in range(2))
        _same(one, two, f"cell {number}, augmented twice alike")
        assert _form(reader, one) == form, f"cell {number}, augmented: {_form(reader, one)}, blank: {form}"
        if not reader.augments:
            _same(plain, one, f"cell {number}: augments is False")
        _same(decoded, kept, f"cell {number}: finish changed the decoded sample")
        assert {"kind", "data"} == set(json.loads(json.dumps(reader.show(cell)))), "show gives a kind and data"
        assert isinstance(reader.cost(cell), int), "cost must be a whole number"
        assert reader.cost(cell) >= 0, "cost must not be negative"
        assert all(len(plain[k]) > 0 for k in reader.ragged), f"cell {number}: a present cell is empty"
    for number, cell in enumerate(bad):
        try:
            reader.decode(cell)
            reason = None
        except BadCell as error:
            reason = error.reason
        assert reason, f"bad cell {number} was read, or refused without a reason"


def _form(reader: Reader, sample: dict[str, np.ndarray]) -> dict[str, tuple]:
    return {k: (str(v.dtype), v.shape[1:] if k in reader.ragged else v.shape) for k, v in sorted(sample.items())}


def _same(one: dict[str, np.ndarray], two: dict[str, np.ndarray], what: str) -> None:
    assert sorted(one) == sorted(two), f"{what}: {sorted(one)} and {sorted(two)}"
    for name in one:
        assert np.array_equal(one[name], two[name]), f"{what}: {name} differs"


def check_task(make: Callable[[], Any], streams: Streams, fused: Stream, target: Target) -> None:
    """Check the Task contract: losses, weights, predictions and records per row; absent targets; measures; saving."""
    part = _fresh(make)
    rows = len(fused.tokens)
    assert part.reads <= {"tokens", "fused", "maps"}, f"reads {part.reads}"
    part.train()
    answer = part(streams, fused, target)
    assert all(len(v) == rows for v in answer.values()), "every array of an answer has one row per row"
    loss, weight = part.loss(answer, target, None), part.weight(target)
    assert loss.shape == weight.shape == (rows,), f"loss {tuple(loss.shape)} and weight {tuple(weight.shape)}"
    assert torch.isfinite(loss).all(), "the loss is not finite"
    assert not weight[~target.present].any(), "a row without a target counts"
    _check_gradients(part, (loss * weight).sum())
    part.eval()
    with torch.no_grad():
        answer = part.respond(streams, fused)
        predictions = part.predict(answer, [Row(i) for i in range(rows)])
        assert len(predictions) == rows, f"{len(predictions)} predictions for {rows} rows"
        assert all(isinstance(p, Prediction) for p in predictions), "predictions must be Prediction"
        json.dumps([p._asdict() for p in predictions], allow_nan=False)
        records = part.score(answer, target)
    known = int(target.present.sum())
    assert all(len(v) == known for v in records.values()), "one record per row with a target"
    counts = np.stack([np.ones(known), np.eye(known)[0] * known])
    assert records["error"].shape == (known,), "records lack the column 'error' [n], larger = worse"
    json.dumps(part.charts(records), allow_nan=False)
    measures = part.measure(copy.deepcopy(records), counts)
    assert part.metric in measures, f"measures lack {part.metric!r}"
    assert all(np.shape(v) == (2,) for v in measures.values()), "a measure gives one value per weighting"
    twice = part.measure({k: np.concatenate([v, v]) for k, v in records.items()}, np.ones((1, 2 * known)))
    halves = part.measure(records, 2 * np.ones((1, known)))
    for name in measures:
        assert np.allclose(twice[name], halves[name], equal_nan=True), f"{name}: a weight of 2 is not a row twice"
    _check_saving(part, make, lambda p: torch.cat([v.flatten() for v in p(streams, fused, None).values()]))
