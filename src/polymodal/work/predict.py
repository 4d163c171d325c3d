"""Answers for a table: exactly its rows, in order; a bad row has an empty answer and its reason."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch

from polymodal.assemble import Assembly
from polymodal.core.contracts import Prediction
from polymodal.core.errors import UserError, saving
from polymodal.core.schema import Json
from polymodal.core.streams import Batch
from polymodal.data.ledger import Entry, Ledger
from polymodal.data.loader import Loader
from polymodal.data.splits import Part
from polymodal.model import on_device
from polymodal.work.collect import as_float
from polymodal.work.reason import reasons
from polymodal.work.runtime import Runtime
from polymodal.work.trust.terms import Terms

Line = dict[str, Json]  # one row of a prediction file


def columns(assembly: Assembly, terms: Terms | None = None, why: bool = False) -> list[str]:
    """The columns of a prediction file: `row`, each task with what it says besides, `error`."""
    terms = terms or Terms()
    names = ["row"]
    for name, task in assembly.model.tasks.items():
        said = (*task.says, *terms.columns(name, task), *(("reason",) if why else ()))
        names += [name, *(f"{name}.{suffix}" for suffix in said)]
    return [*names, "error"]


def predict(
    assembly: Assembly, part: Part, runtime: Runtime, ledger: Ledger, *, on_bad: str | None = None,
    keep: bool = False, step: Callable[[int], None] | None = None, terms: Terms | None = None,
    respond: dict[str, Json] | None = None, why: bool = False,
) -> Iterator[Line]:  # fmt: skip
    """One line per row of the part, in order, in bounded memory; `terms` may ask for sets, or leave rows unanswered.

    `respond` says how tasks that decode do so this time; `why` adds the reason of every answer, see `work.reason`.
    """
    refuse_options(assembly, respond or {})
    terms = terms or Terms()
    dataset = assembly.dataset(part, ledger, targets=False, on_bad=on_bad)
    size = max(64, assembly.spec.train.batch)
    loader = Loader(dataset, batch=size, seed=0, shuffle=False, augment=False, buckets=False)
    given = list(dict.fromkeys(c for one in assembly.spec.inputs.values() for c in one.columns)) if keep else []
    names = columns(assembly, terms, why)
    assembly.model.eval()
    for number, micro in enumerate(loader.epoch(0)):
        batch, entries = micro[0]
        ledger.extend(entries)
        answers, unsure = ({}, {}) if batch is None else _answers(assembly, batch, runtime, terms, respond)
        told = _told(assembly, batch, runtime, respond) if why and batch is not None else {}
        bad = _joined(reasons_of(entries), unsure)
        for row in part.rows[number * size : (number + 1) * size].tolist():
            line = line_of(names, row, answers.get(row), bad.get(row, "")) | told.get(row, {})
            for column in given:
                line[column if column not in names else f"given.{column}"] = _plain(part.table.cell(row, column))
            yield line
        if step is not None:
            step(len(part.rows[number * size : (number + 1) * size]))


def _answers(
    assembly: Assembly, batch: Batch, runtime: Runtime, terms: Terms, respond: dict[str, Json] | None
) -> tuple[dict[int, dict[str, Prediction]], dict[int, str]]:
    """Row number -> task -> what it says of the row; row number -> why an answer is left empty."""
    found = {row.number: said for row, said in zip(batch.rows, answered(assembly, batch, runtime, terms, respond),
                                                   strict=True)}  # fmt: skip
    return {n: one.said for n, one in found.items()}, {n: one.unsure for n, one in found.items() if one.unsure}


class Answered(NamedTuple):
    """What each task says of a row, and why any of it is left empty."""

    said: dict[str, Prediction]
    unsure: str = ""


@torch.inference_mode()
def answered(
    assembly: Assembly, batch: Batch, runtime: Runtime, terms: Terms, respond: dict[str, Json] | None
) -> list[Answered]:
    """What the model says of every row of a batch, in its order."""
    said: list[dict[str, Prediction]] = [{} for _ in batch.rows]
    unsure: list[list[str]] = [[] for _ in batch.rows]
    with runtime.autocast():
        out = assembly.model(on_device(batch, runtime.move), respond=True, options=respond)
    for name, task in assembly.model.tasks.items():
        answer = as_float(out.answers[name])
        predictions = terms.apply(name, task, answer, batch.rows, task.predict(answer, batch.rows))
        for at, (prediction, reason) in enumerate(predictions):
            said[at][name] = prediction
            unsure[at] += [reason] if reason else []
    return [Answered(one, "; ".join(why)) for one, why in zip(said, unsure, strict=True)]


def _told(assembly: Assembly, batch: Batch, runtime: Runtime, respond: dict[str, Json] | None) -> dict[int, Line]:
    """Row number -> a cell for each task: why it was answered so."""
    found = reasons(assembly, batch, runtime, options=respond, pictures=False)
    return {row.number: {f"{n}.reason": r for n, r in of.items()} for row, of in zip(batch.rows, found, strict=True)}


def refuse_options(assembly: Assembly, options: dict[str, Json]) -> None:
    """Raise UserError for options of answering where no task has any."""
    if options and not any(getattr(task, "draws", False) for _, task in assembly.model.tasks.items()):
        raise UserError(f"respond.{next(iter(options))}", "no task of this run says sentences", given=options,
                        advice="leave it out")  # fmt: skip


def _joined(one: dict[int, str], two: dict[int, str]) -> dict[int, str]:
    return one | {row: f"{one[row]}; {text}" if one.get(row) else text for row, text in two.items()}


def reasons_of(entries: Iterable[Entry]) -> dict[int, str]:
    """Row number -> what was bad in it."""
    found: dict[int, list[str]] = {}
    for e in entries:
        found.setdefault(e.row, []).append(f"{e.column}: {e.reason}" if e.column else e.reason)
    return {row: "; ".join(dict.fromkeys(texts)) for row, texts in found.items()}


def line_of(names: list[str], row: int, answers: dict[str, Prediction] | None, reason: str) -> Line:
    """One row of a prediction file."""
    line: Line = dict.fromkeys(names)
    line["row"], line["error"] = row, reason or None
    for task, prediction in (answers or {}).items():
        said = {"confidence": prediction.confidence, **prediction.more}
        line[task] = prediction.value
        line |= {name: v for k, v in said.items() if (name := f"{task}.{k}") in line}
    return line


def _plain(value: object) -> Json:
    return value if isinstance(value, str | int | float | bool | None) else f"<{type(value).__name__}>"


def only_plain(lines: Iterable[Line], out: Path) -> Iterator[Line]:
    """The lines as they are. Raises UserError where a cell cannot stand in a file of this ending."""
    for line in lines:
        for name, cell in line.items():
            if isinstance(cell, bytes) and out.suffix.lower() == ".parquet":
                continue
            if not isinstance(cell, str | int | float | bool | list | dict | None):
                raise UserError(str(out), f"cannot hold the cells of column {name!r}", given=type(cell).__name__,
                                advice="paths of files, or bytes and a name ending in .parquet")  # fmt: skip
        yield line


def write(lines: Iterator[Line], out: Path) -> int:
    """Write the lines as csv, jsonl or parquet by the file's ending; the file appears when it is whole. Row count."""
    writers: dict[str, Callable[[Iterator[Line], Path], int]] = {
        ".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet,
    }  # fmt: skip
    writer = writers.get(out.suffix.lower())
    if writer is None:
        advice = "a name ending in .csv, .jsonl or .parquet"
        raise UserError("--out", "the ending says the format", given=out.name, advice=advice)
    fresh = out.with_name(f".{out.name}.{os.getpid()}.new")
    try:
        with saving(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            count = writer(lines, fresh)
            os.replace(fresh, out)
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
    return count


def _write_csv(lines: Iterator[Line], path: Path) -> int:
    def cell(value: Json) -> Any:
        if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, dict) for one in value)):
            return json.dumps(value, ensure_ascii=False)
        return "|".join(map(str, value)) if isinstance(value, list) else value

    return _write_text(lines, path, lambda file, line: _csv_row(file, [cell(v) for v in line.values()]), header=True)


def _csv_row(file: IO[str], cells: list[Any]) -> None:
    csv.writer(file, lineterminator="\n").writerow(cells)


def _write_jsonl(lines: Iterator[Line], path: Path) -> int:
    return _write_text(lines, path, lambda file, line: file.write(json.dumps(line, ensure_ascii=False) + "\n"))


def _write_text(lines: Iterator[Line], path: Path, put: Callable[[IO[str], Line], Any], header: bool = False) -> int:
    count = 0
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        for line in lines:
            if header and count == 0:
                _csv_row(file, list(line))
            put(file, line)
            count += 1
    return count


def _write_parquet(lines: Iterator[Line], path: Path, chunk: int = 20_000) -> int:
    """Column types come from the first chunk; a column that is empty there, or of several types, is text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 0
    buffer: list[Line] = []
    writer: Any = None

    def flush() -> Any:
        made = writer or pq.ParquetWriter(path, _schema(buffer))
        columns = [_array([line[f.name] for line in buffer], f) for f in made.schema]
        made.write_table(pa.table(columns, schema=made.schema))
        buffer.clear()
        return made

    try:
        for line in lines:
            buffer.append(line)
            count += 1
            if len(buffer) >= chunk:
                writer = flush()
        writer = flush() if buffer else writer
    finally:
        if writer is not None:
            writer.close()
    return count


def _schema(lines: list[Line]) -> Any:
    import pyarrow as pa

    def kind(cells: list[Json]) -> Any:
        if any(isinstance(c, dict) for c in cells):
            return pa.string()
        try:
            found = pa.array(cells).type
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            return pa.string()
        bare = pa.types.is_list(found) and pa.types.is_null(found.value_type)
        return pa.list_(pa.string()) if bare else pa.string() if pa.types.is_null(found) else found

    return pa.schema([(name, kind([line[name] for line in lines])) for name in lines[0]])


def _array(cells: list[Json], field: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_string(field.type):
        texts = (c if c is None or isinstance(c, str) else json.dumps(c, ensure_ascii=False) for c in cells)
        cells = [t if t is None else t.encode("utf-8", "backslashreplace").decode() for t in texts]
    try:
        return pa.array(cells, field.type)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise UserError("--out", f"cells of column {field.name!r} are not all {field.type}: {error}",
                        advice="a name ending in .csv or .jsonl") from None  # fmt: skip
