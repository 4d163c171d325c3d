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

from polymodal.core.checks_traits import check_traits
from polymodal.core.contracts import (
    Attention,
    Bounded,
    Calibrated,
    Encoder,
    Fusion,
    Prediction,
    Reader,
    Sample,
    Selective,
    TargetReader,
    Task,
)
from polymodal.core.errors import BadCell
from polymodal.core.schema import Json
from polymodal.core.seeds import generator
from polymodal.core.streams import Cells, Notes, Row, Stream, Streams, Target, check_stream


def _close(one: Tensor, two: Tensor, what: str) -> None:
    assert one.shape == two.shape, f"{what}: shapes {tuple(one.shape)} and {tuple(two.shape)}"
    gap = (one - two).abs().max().item() if one.numel() else 0.0
    assert torch.allclose(one, two, atol=1e-5, rtol=1e-4), f"{what}: differs by {gap:.2e}"


def _check_plain(value: Json, what: str) -> Json:
    """The value after writing and reading it as JSON: the same."""
    try:
        again = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{what} is not plain JSON: {error}") from None
    assert again == value, f"{what} is not plain JSON: {value!r} comes back as {again!r}"
    return again


def _check_names(part: object, contract: type) -> None:
    """Everything that the contract names is there."""
    promised = [n for n in (*contract.__annotations__, *vars(contract)) if not n.startswith("_")]
    lacking = [n for n in promised if not hasattr(part, n)]
    assert not lacking, f"{type(part).__name__} lacks {', '.join(lacking)}"


def _fresh(make: Callable[[], Any], contract: type) -> Any:
    torch.manual_seed(0)
    part = make()
    assert isinstance(part, nn.Module), f"{type(part).__name__} is no nn.Module"
    _check_names(part, contract)
    return part.eval()


def _check_saving(part: nn.Module, make: Callable[[], Any], run: Callable[[nn.Module], Tensor]) -> None:
    """A part built anew and given the saved weights answers the same."""
    saved = save_tensors({k: v.clone().contiguous() for k, v in part.state_dict().items()})  # tied ones twice
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


def _exported(part: nn.Module, given: dict[str, Any]) -> nn.Module:
    try:
        return torch.export.export(part, (given,), strict=False).module()
    except RuntimeError as error:
        raise AssertionError(f"torch.export: {str(error).strip().splitlines()[0]}") from error


def check_encoder(make: Callable[[], Any], data: dict[str, Tensor], export: bool = True) -> None:
    """Check the Encoder contract on `data` (as in `Cells.data`, at least three cells, of different lengths if padded).

    Widths and maps as promised, zeros where masked, no influence of padding or neighbours, order kept, finite gradients
    for all parameters, `data` left as it was, saving and loading, `torch.export`.
    """
    part = _fresh(make, Encoder)
    rows = len(next(iter(data.values())))
    assert rows >= 3, "give at least three cells"
    kept = {k: v.clone() for k, v in data.items()}
    with torch.no_grad():
        stream = part(data)
    assert all(torch.equal(v, kept[k]) for k, v in data.items()), "the cells were changed in place"
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
        with torch.no_grad():
            _close(stream.tokens, _exported(part, data)(data).tokens, "after torch.export")
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
    return {n: _row(s, order) for n, s in streams.items()}


def _row(stream: Stream, order: Tensor) -> Stream:
    return Stream(stream.tokens[order], stream.mask[order], tuple(m[order] for m in stream.maps))


def _longer(stream: Stream) -> Stream:
    return Stream(_lengthen(stream.tokens, 2), _lengthen(stream.mask, 2), stream.maps)


def check_fusion(make: Callable[[], Any], streams: Streams, export: bool = True) -> None:
    """Check the Fusion contract: width, padding, neighbours, order, every subset missing, gradients, saving, export."""
    part = _fresh(make, Fusion)

    def run(given: Streams, module: nn.Module = part) -> Tensor:
        fused, notes = module(given)
        rows = len(next(iter(given.values())).tokens)
        check_stream(fused, rows, part.width, "fusion")
        _check_notes(notes, rows)
        return fused.tokens

    _check_joining(part, streams, run, make, export)


def check_attention(make: Callable[[], Any], streams: Streams, export: bool = True) -> None:
    """Check the Attention contract: the same names, widths and masks come out; otherwise as for a fusion."""
    part = _fresh(make, Attention)
    lengths = {n: s.tokens.shape[1] for n, s in streams.items()}

    def run(given: Streams, module: nn.Module = part) -> Tensor:
        out, notes = module(given)
        assert list(out) == list(given), f"attention gives {list(out)} for {list(given)}"
        for name, stream in out.items():
            rows, _, width = given[name].tokens.shape
            check_stream(stream, rows, width, f"attention: {name}")
            assert torch.equal(stream.mask, given[name].mask), f"attention: {name}: the mask is not the one given"
            _check_notes(notes, rows)
        return torch.cat([out[n].tokens[:, :length] for n, length in lengths.items()], 1)

    _check_joining(part, streams, run, make, export)


def _check_notes(notes: Notes, rows: int) -> None:
    assert all(v.shape == (rows,) for v in notes.losses.values()), "notes.losses must be one number per row"


def _check_joining(
    part: nn.Module, streams: Streams, run: Callable[..., Tensor], make: Callable[[], Any], export: bool
) -> None:
    """What fusion and attention have in common; `run(streams, module)` gives the tokens that must not change."""
    rows = len(next(iter(streams.values())).tokens)
    kept = {n: s.tokens.clone() for n, s in streams.items()}
    with torch.no_grad():
        whole = run(streams)
        assert all(torch.equal(s.tokens, kept[n]) for n, s in streams.items()), "the streams were changed in place"
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(0))
        _close(run(_rows(streams, order)), whole[order], "after changing the order of the rows")
        for row in range(rows):
            alone = run(_rows(streams, torch.tensor([row])))
            _close(alone[0], whole[row], f"row {row} without the others")
        padded = run({n: _longer(s) for n, s in streams.items()})
        if padded.shape == whole.shape:
            _close(padded, whole, "after more padding")
        else:
            _close(padded.sum(1), whole.sum(1), "after more padding")
        for count in range(1, len(streams) + 1):
            for gone in combinations(streams, count):
                run(_without(streams, gone))  # finite, and of the right shape
    _check_saving(part, make, lambda m: run(streams, m))
    if export:
        with torch.no_grad():
            _close(whole, run(streams, _exported(part, streams)), "after torch.export")
    part.train()
    total = run(streams)
    _check_gradients(part, (total * torch.randn_like(total)).sum())


def check_reader(make: Callable[[], Reader], cells: Sequence[object], bad: Sequence[object] = ()) -> None:
    """Check the Reader contract on good `cells` and `bad` ones.

    The field is plain JSON and enough to read alike in a new reader; samples agree in names, dtypes and fixed axes,
    with each other and with `blank`; bad cells raise BadCell and spoil neither fitting nor reading; augmenting is a
    function of the generator; nothing is changed in place.
    """
    reader, other = _fitted(make, Reader, [*cells, *bad])
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
        shown = _check_plain(reader.show(cell), "what show gives")
        assert set(shown) == {"kind", "data"}, f"show gives {sorted(shown)}, not a kind and data"
        assert isinstance(reader.cost(cell), int), "cost must be a whole number"
        assert reader.cost(cell) >= 0, "cost must not be negative"
        assert all(len(plain[k]) > 0 for k in reader.ragged), f"cell {number}: a present cell is empty"
    _check_bad(reader.decode, bad)
    if hasattr(reader, "decode_all"):
        _check_all_at_once(reader, cells, bad)
    if hasattr(reader, "fingerprints"):
        _check_fingerprints(reader, other, cells)
    if hasattr(reader, "traits"):
        check_traits(reader, other, cells)


def _check_fingerprints(reader: Any, other: Any, cells: Sequence[object]) -> None:
    """The same words for the same cell, whatever stands beside it and whichever reader with this field reads it."""
    samples = [reader.decode(cell) for cell in cells]
    kept = [{k: v.copy() for k, v in sample.items()} for sample in samples]
    words = reader.fingerprints(list(cells), samples)
    form = f"{words.dtype} {words.shape}"
    assert words.dtype == np.uint64, f"fingerprints must be uint64 [{len(cells)}, words], not {form}"
    assert words.ndim == 2, f"fingerprints must be uint64 [{len(cells)}, words], not {form}"
    assert len(words) == len(cells), f"fingerprints must be uint64 [{len(cells)}, words], not {form}"
    assert 0 <= reader.alike < 64 * words.shape[1], f"alike, {reader.alike}, is no number of these bits"
    for number, cell in enumerate(cells):
        _same(samples[number], kept[number], f"cell {number}: fingerprints changed the decoded sample")
        alone = other.fingerprints([cell], [other.decode(cell)])
        assert (alone == words[number]).all(), f"cell {number} has another fingerprint by itself in a new reader"


def check_target(make: Callable[[], TargetReader], cells: Sequence[object], bad: Sequence[object] = ()) -> None:
    """Check the TargetReader contract on good `cells` and `bad` ones.

    The field is plain JSON and enough to read alike in a new reader; samples agree in names, dtypes and shapes, with
    each other and with `blank`; bad cells raise BadCell and do not spoil fitting.
    """
    reader, other = _fitted(make, TargetReader, [*cells, *bad])
    form = _form(reader, reader.blank())
    for number, cell in enumerate(cells):
        sample = reader(cell)
        assert _form(reader, sample) == form, f"cell {number}: {_form(reader, sample)}, blank: {form}"
        _same(sample, other(cell), f"cell {number} through a new reader with the same field")
    _check_bad(reader, bad)


def _fitted(make: Callable[[], Any], contract: type, cells: Sequence[object]) -> tuple[Any, Any]:
    """A reader fitted on the cells, and another one that was only given its field."""
    reader, other = make(), make()
    _check_names(reader, contract)
    field = reader.fit(iter(cells))
    assert reader.field == field, "fit must set reader.field"
    other.field = _check_plain(field, "the field")
    return reader, other


def _check_all_at_once(reader: Any, cells: Sequence[object], bad: Sequence[object]) -> None:
    """`decode_all` gives what `decode` does, bit for bit, with and without bad cells among the good ones."""
    for mixed in (cells, [*bad[:1], *cells, *bad[1:]], cells[:1], []):
        found = list(reader.decode_all(list(mixed)))
        assert len(found) == len(mixed), f"decode_all gives {len(found)} samples for {len(mixed)} cells"
        for number, (cell, sample) in enumerate(zip(mixed, found, strict=True)):
            alone = _decoded(reader, cell)
            if isinstance(sample, BadCell) or isinstance(alone, BadCell):
                said, expected = (x.reason if isinstance(x, BadCell) else "a sample" for x in (sample, alone))
                assert said == expected, f"{cell!r}: decode_all gives {said!r}, decode {expected!r}"
            else:
                _same(sample, alone, f"cell {number} by decode_all")


def _decoded(reader: Any, cell: object) -> Sample | BadCell:
    try:
        return reader.decode(cell)
    except BadCell as error:
        return error


def _check_bad(read: Callable[[object], object], bad: Sequence[object]) -> None:
    for number, cell in enumerate(bad):
        try:
            read(cell)
            reason = None
        except BadCell as error:
            reason = error.reason
        assert reason, f"bad cell {number} was read, or refused without a reason"


def _form(reader: Reader | TargetReader, sample: dict[str, np.ndarray]) -> dict[str, tuple]:
    ragged: frozenset[str] = getattr(reader, "ragged", frozenset())
    return {k: (str(v.dtype), v.shape[1:] if k in ragged else v.shape) for k, v in sorted(sample.items())}


def _same(one: dict[str, np.ndarray], two: dict[str, np.ndarray], what: str) -> None:
    assert sorted(one) == sorted(two), f"{what}: {sorted(one)} and {sorted(two)}"
    for name in one:
        alike = np.array_equal(one[name], two[name], equal_nan=one[name].dtype.kind == "f")
        assert alike, f"{what}: {name} differs"


def check_task(
    make: Callable[[], Any], streams: Streams, fused: Stream, target: Target, inputs: dict[str, Cells] | None = None
) -> None:
    """Check the Task contract; `target` knows some rows and not others.

    Losses, weights, predictions and records per row; no influence of padding or neighbours on an answer; absent
    targets; measures under weights; gradients; saving and loading.

    A task that poses its own questions needs `inputs`, cells that have become these streams: what it asks must be a
    function of the keys, and is then what it has to answer. What padding does to it is left to its own tests.
    """
    part = _fresh(make, Task)
    poses = getattr(part, "poses", False)
    if poses:
        assert inputs is not None, "give inputs: the task poses its own questions"
        target = _check_posing(part, inputs, target)
    rows = len(fused.tokens)
    assert target.present.any(), "give at least one row with a target"
    assert not target.present.all(), "give at least one row without a target"
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
        answer = part.respond(streams, fused, **({"asked": target} if poses else {}))
        predictions = part.predict(answer, _numbered(rows))
        assert len(predictions) == rows, f"{len(predictions)} predictions for {rows} rows"
        assert all(isinstance(p, Prediction) for p in predictions), "predictions must be Prediction"
        _check_plain([p._asdict() for p in predictions], "a prediction")
        _check_answers(part, streams, fused, answer, target if poses else None)
        _check_records(part, part.score(answer, target), int(target.present.sum()))
        _check_trust(part, answer, target)
    _check_saving(part, make, lambda p: torch.cat([v.flatten() for v in p(streams, fused, None).values()]))


def _check_posing(part: Any, inputs: dict[str, Cells], target: Target) -> Target:
    """What it asks, by these keys: the same when asked again, inputs left as they were, rows as known as before."""
    keys = torch.arange(len(target.present)) * 7919 + 1
    kept = copy.deepcopy(inputs)
    changed, asked = part.prepare(inputs, target, keys)
    again, same = part.prepare(inputs, target, keys)
    assert isinstance(asked, Target), "what is asked must be a Target"
    assert torch.equal(asked.present, target.present), "prepare changed which rows have a target"
    assert sorted(changed) == sorted(inputs), "prepare changed the names of the inputs"
    _check_cells_alike(inputs, kept, "the inputs were changed in place")
    _check_cells_alike(changed, again, "the same keys prepare other inputs")
    assert all(torch.equal(v, same.data[k]) for k, v in asked.data.items()), "the same keys ask something else"
    plain, none = part.prepare(inputs, None, keys)
    _check_cells_alike(plain, inputs, "without a target the inputs must stay as they are")
    assert none is None or not none.present.any(), "without a target no row has one"
    return asked


def _check_cells_alike(one: dict[str, Cells], two: dict[str, Cells], what: str) -> None:
    for name, cells in one.items():
        other = two[name]
        assert torch.equal(cells.index, other.index), what
        assert all(torch.equal(v, other.data[k]) for k, v in cells.data.items()), what


def _check_answers(
    part: Any, streams: Streams, fused: Stream, answer: dict[str, Tensor], posed: Target | None = None
) -> None:
    """Each row is answered alike by itself, and with more padding.

    Arrays that have a place for every token, or for every word said, may be of other lengths; what they have in common
    is the same, and so is every prediction.
    """
    predicted = part.predict(answer, _numbered(len(fused.tokens)))
    for row in range(len(fused.tokens)):
        only = torch.tensor([row])
        asked = posed and {"asked": Target({k: v[only] for k, v in posed.data.items()}, posed.present[only])}
        alone = part.respond(_rows(streams, only), _row(fused, only), **(asked or {}))
        what = f"of row {row} without the others"
        for name, value in answer.items():
            _close(*_common(alone[name][0], value[row]), f"{name} {what}")
        _check_predicted(part.predict(alone, _numbered(1)), predicted[row : row + 1], what)
    if posed is not None:
        return
    padded = part.respond({n: _longer(s) for n, s in streams.items()}, _longer(fused))
    for name, value in answer.items():
        _close(*_common(padded[name], value), f"{name} after more padding")
    _check_predicted(part.predict(padded, _numbered(len(predicted))), predicted, "after more padding")


def _common(one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
    """What two arrays of as many axes have in common, from the beginning of each."""
    assert one.ndim == two.ndim, f"an answer has shapes {tuple(one.shape)} and {tuple(two.shape)}"
    places = tuple(slice(min(sizes)) for sizes in zip(one.shape, two.shape, strict=True))
    return one[places].double(), two[places].double()


def _check_predicted(one: list[Prediction], two: list[Prediction], what: str) -> None:
    for a, b in zip(one, two, strict=True):
        assert _alike(a._asdict(), b._asdict()), f"the prediction {what} is {a}, not {b}"


def _alike(one: Json, two: Json) -> bool:
    """Whether plain values are the same, numbers that are not whole but for rounding."""
    if isinstance(one, float) and isinstance(two, float):
        return bool(np.isclose(one, two, rtol=1e-4, atol=1e-5, equal_nan=True))
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_alike(one[k], two[k]) for k in one)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_alike, one, two))
    return bool(one == two)


def _check_records(part: Any, records: dict[str, np.ndarray], known: int) -> None:
    """One record for each of the `known` rows, and measures in which a weight of 2 is a row twice."""
    assert all(len(v) == known for v in records.values()), "one record per row with a target"
    assert "error" in records, "records lack the column 'error' [n], larger = worse"
    assert records["error"].shape == (known,), f"the column 'error' is {records['error'].shape}, not one number per row"
    _check_plain(part.charts(records), "charts")
    times = np.stack([np.ones(known, np.int64), 1 + np.arange(known) % 3])
    measures = part.measure(copy.deepcopy(records), times.astype(np.float64))
    assert part.metric in measures, f"measures lack {part.metric!r}"
    assert all(np.shape(v) == (2,) for v in measures.values()), "a measure gives one value per weighting"
    for weighting, counts in enumerate(times):
        repeated = {k: np.repeat(v, counts, axis=0) for k, v in records.items()}
        found = part.measure(repeated, np.ones((1, int(counts.sum()))))
        for name, values in measures.items():
            same = np.allclose(found[name][0], values[weighting], equal_nan=True)
            assert same, f"{name}: a weight of 2 is not a row twice"


def _check_trust(part: Any, answer: dict[str, Tensor], target: Target) -> None:
    """What a task offers of Calibrated, Bounded and Selective, each being optional."""
    records, rows = part.score(answer, target), len(target.present)
    known = int(target.present.sum())
    if isinstance(part, Bounded):
        strange = part.strangeness(records)
        assert strange.shape == (known,), f"strangeness is {strange.shape}, not one number per row"
        assert not np.isnan(strange).any(), "strangeness is not a number"
        small, large = (part.extents(records, np.full(known, limit)) for limit in (0.1, 1.0))
        assert (small <= large).all(), "a larger limit gives a smaller region"
        for limit in (-np.inf, 1.0, np.inf):
            regions = part.region(answer, np.full(rows, limit))
            _check_plain(regions, "a region")
            assert [set(r) for r in regions] == [set(part.bounds)] * rows, f"a region for each row, with {part.bounds}"
    said = [p.confidence for p in part.predict(answer, _numbered(rows))]
    if isinstance(part, Selective):
        sure, right = part.certainty(records)
        known_said = np.array(said)[target.present.cpu().numpy()]
        assert np.allclose(sure, known_said), "certainty is not the confidence of predictions"
        assert right.dtype == bool, f"certainty gives {right.dtype}, not whether an answer is right"
    if isinstance(part, Calibrated):
        _check_calibrated(part, records, answer, target)


def _check_calibrated(part: Any, records: dict[str, np.ndarray], answer: dict[str, Tensor], target: Target) -> None:
    part, rows = copy.deepcopy(part), len(target.present)
    values = [p.value for p in part.predict(answer, _numbered(rows))]
    calibrated = part.calibrate(copy.deepcopy(records))
    assert [p.value for p in part.predict(answer, _numbered(rows))] == values, "calibrating changed an answer's value"
    _check_plain(part.calibrated(), "calibrated")
    scored = part.score(answer, target)
    moved = part.calibration(scored, np.ones((1, int(target.present.sum()))))
    for name, one, two in ((n, calibrated[n], scored[n]) for n in scored):
        assert np.allclose(one, two, atol=1e-6), f"calibrate gives other records than score: {name}"
    for name, one, two in ((n, part.uncalibrated(scored)[n], records[n]) for n in records):
        assert np.allclose(one, two, atol=1e-6), f"uncalibrated gives other records than before: {name}"
    measured = part.measure(scored, np.ones((1, int(target.present.sum()))))
    assert all(np.allclose(moved[n], measured[n], equal_nan=True) for n in moved), "calibration differs from measure"


def _numbered(rows: int) -> list[Row]:
    return [Row(i) for i in range(rows)]
