"""A run as somebody to talk to: one row of a table, filled bit by bit, and answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from polymodal.assemble import Assembly
from polymodal.core.contracts import Prediction
from polymodal.core.errors import UserError, suggest
from polymodal.core.schema import Json
from polymodal.core.search import stream
from polymodal.core.seeds import derive, generator
from polymodal.core.streams import Batch, Stream, Streams
from polymodal.data.ledger import Ledger
from polymodal.data.splits import Part
from polymodal.data.tables import open_table
from polymodal.model import on_device
from polymodal.tasks.speaking import Speaking, chosen
from polymodal.work.chat.partner import Manner, Slot, Tell, existing
from polymodal.work.chat.pieces import pieces
from polymodal.work.question import asked
from polymodal.work.runtime import Runtime


class RunPartner:
    """Inputs that were attached stay for the next turns; a line is the question, where the run has an input for it.

    Tasks that say sentences say them token by token; of the others the prediction is told, with its confidence.
    """

    def __init__(self, assembly: Assembly, runtime: Runtime, manner: Manner) -> None:
        self.assembly, self.runtime, self.manner = assembly, runtime, manner
        self.cells: dict[str, str] = {}
        self.turns = 0
        self.kinds = dict(_columns(assembly))  # column -> its slot, nothing given
        self.names = _names(assembly)
        assembly.model.eval()

    def slots(self) -> list[Slot]:
        return [slot._replace(given=self.cells.get(column, "")) for column, slot in self.kinds.items()]

    def attach(self, what: str, name: str | None = None) -> Slot:
        """Put it in the row. `name` is an input or a column; it may be left out where only one takes files."""
        column = self._column(name)
        slot = self.kinds[column]
        self.cells[column] = existing(what) if slot.file else what
        return slot._replace(given=self.cells[column])

    def _column(self, name: str | None) -> str:
        files = [column for column, slot in self.kinds.items() if slot.file]
        if name is None and len(files) == 1:
            return files[0]
        if name not in self.names:
            problem = "no input of this name" if name else "this run has several inputs: say which"
            raise UserError("/attach", problem, given=name, advice=suggest(name or "", self.names))
        return self.names[name]

    def clear(self) -> None:
        self.cells.clear()

    @property
    def question(self) -> str | None:
        """The column of the question: of the input that a task says it is, or of the only text."""
        told = {one.question for one in asked(self.assembly).values()}
        inputs = self.assembly.spec.inputs
        texts = list(told) if len(told) == 1 else [n for n, one in inputs.items() if one.reader.type == "text"]
        return inputs[texts[0]].columns[0] if len(texts) == 1 else None

    @property
    def wants_words(self) -> bool:
        return self.question is not None

    @torch.inference_mode()
    def answer(self, line: str, tell: Tell) -> None:
        """Answer the row; `line` is its question. Raises UserError where nothing is given, or a cell is bad."""
        cells = dict(self.cells)
        if line and self.question is not None:
            cells[self.question] = line
        if not cells:
            raise UserError("chat", "nothing is attached and nothing asked", advice="/inputs lists what can be")
        self.turns += 1
        with self.runtime.autocast():
            batch = on_device(self._batch(cells), self.runtime.move)
            model = self.assembly.model
            streams, fused, _ = model.join(model.recalled(batch.inputs), batch.inputs)
            for number, (name, task) in enumerate(model.tasks.items()):
                tell(("\n" if number else "") + (f"{name}: " if len(model.tasks.names) > 1 else ""))
                for piece in self._said(task, streams, fused, batch):
                    tell(piece)

    def _batch(self, cells: dict[str, str]) -> Batch:
        """The row as a batch of one."""
        data = self.assembly.spec.data
        table = open_table([{column: cells.get(column) for column in self.kinds}], root=data.root)
        dataset = self.assembly.dataset(Part(table, np.arange(1)), Ledger(), targets=False, on_bad="skip")
        batch, entries = dataset.load(np.arange(1))
        if entries or batch is None:
            bad = entries[0]
            self.cells.pop(bad.column, None)
            slot = self.kinds.get(bad.column)
            raise UserError(slot.name if slot else bad.column, f"cannot be read: {bad.reason}", given=bad.file or None,
                            advice="attach another one")  # fmt: skip
        return batch

    def _said(self, task: Any, streams: Streams, fused: Stream | None, batch: Batch) -> Iterator[str]:
        """The answer of one task, in pieces."""
        options = self.manner.options()
        if isinstance(task, Speaking) and chosen(task.search, options).way != "beam":
            yield from self._streamed(task, task.memory(streams, fused), options)
            return
        drawn = {"key": batch.key, **options} if getattr(task, "draws", False) else {}
        answer = {k: v.float() if v.is_floating_point() else v for k, v in
                  task.respond(streams, fused, **drawn).items()}  # fmt: skip
        (prediction,) = task.predict(answer, batch.rows)
        yield _told(prediction)

    def _streamed(self, task: Speaking, memory: Stream, options: dict[str, Json]) -> Iterator[str]:
        """A sentence in every language, token by token."""
        search, size, end = chosen(task.search, options), task.field["size"], task.field["end"]
        for number, language in enumerate(task.languages):
            start = torch.tensor([size + number], device=memory.mask.device)
            rng = generator(derive(self.manner.seed, "chat", self.turns, number))
            draws = torch.from_numpy(rng.random((1, search.longest), np.float32)).to(start.device)
            if len(task.languages) > 1:
                yield f"{chr(10) if number else ''}[{language}] "
            said = stream(task.decoder, memory, start, end=end, banned=task.banned, search=search, draws=draws)
            yield from pieces(task.words.say, (int(token) for token in said))


def _columns(assembly: Assembly) -> Iterator[tuple[str, Slot]]:
    """Every column that the run reads."""
    for name, one in assembly.spec.inputs.items():
        reader: Any = assembly.readers[name]
        parts = getattr(reader, "parts", {name: (reader, one.columns)})
        for member, columns in parts.values():
            for column in columns:
                yield column, Slot(name if len(one.columns) == 1 else column, one.reader.type, member.files)


def _names(assembly: Assembly) -> dict[str, str]:
    """What a person may call a column: its own name, or its input's where that has no other."""
    own = {column: column for one in assembly.spec.inputs.values() for column in one.columns}
    return own | {name: one.columns[0] for name, one in assembly.spec.inputs.items() if len(one.columns) == 1}


def _told(prediction: Prediction) -> str:
    value, sure = prediction.value, prediction.confidence
    values = value if isinstance(value, list) else [value]
    text = ", ".join(f"{one:.6g}" if isinstance(one, float) else str(one) for one in values) or "(nothing)"
    return text if sure is None else f"{text}  ({sure:.0%} sure)"
