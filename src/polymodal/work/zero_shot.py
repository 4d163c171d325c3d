"""Classes that nobody trained: each is what sentences about it say; a row's is the nearest one in the run's space."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from polymodal.core import yaml12
from polymodal.core.contracts import Prediction
from polymodal.core.errors import RunError, TableError, UserError, suggest
from polymodal.core.schema import Json
from polymodal.data.ledger import Ledger
from polymodal.data.splits import Part, cell_names
from polymodal.tasks.classes import OneOf
from polymodal.work.embed import Embedder, Lot
from polymodal.work.evaluation import Evaluation, TaskResult
from polymodal.work.intervals import intervals

Classes = Mapping[str, Sequence[str]] | Sequence[str]  # names, or for each name the texts that may stand for it
NAME = "class"  # of the answers' column
PLACE = "{}"
AT_ONCE = 256  # sentences embedded together


class Prompts(NamedTuple):
    """What is told of each class, in every way."""

    names: list[str]
    sentences: list[list[str]]


class ZeroShot:
    """Zero-shot classification (Radford et al., "CLIP", ICML 2021), by a run with the task `retrieve`.

    A class's vector is the mean, of length 1, of the vectors that the input `by` gives its sentences: each of its texts
    in each of the templates. A row's logits are the cosines of its vector in the input `input` to them, times the
    sharpness that the run has learned; the mean, of length 1, stands for several columns. Probabilities are a softmax
    over the classes that are given, so they tell which is the nearest, not whether any of them fits.

    `input` and `by` may be left out where the run has a single input of text and a single other one.
    """

    def __init__(
        self, embedder: Embedder, classes: Classes, templates: Sequence[str] = (PLACE,), *, input: str | None = None,
        by: str | None = None,
    ) -> None:  # fmt: skip
        self.embedder = embedder
        if embedder.task is None or not hasattr(embedder.embeds, "sharpness"):
            raise RunError("zero_shot", "the run has no task that brings inputs into one space",
                           given=list(embedder.assembly.spec.tasks),
                           advice="train with tasks: {find: {type: retrieve, ...}}")  # fmt: skip
        texts = [n for n in embedder.names if embedder.assembly.spec.inputs[n].reader.type == "text"]
        self.by = self._chosen("by", by, texts)
        self.input = self._chosen("input", input, [n for n in embedder.names if n != self.by])
        self.prompts = prompts(classes, templates)
        self.sharpness = float(embedder.embeds.sharpness)
        self.vectors = self._vectors()

    def _chosen(self, setting: str, given: str | None, options: Sequence[str]) -> str:
        names = self.embedder.names
        if given is not None and given not in names:
            raise UserError(setting, "no input of this name in the run's space", given=given,
                            advice=suggest(given, names))  # fmt: skip
        if given is None and len(options) != 1:
            raise UserError(setting, "which input is meant?", given=list(options) or None, advice=suggest("", names))
        return options[0] if given is None else given

    def _vectors(self) -> Float[np.ndarray, "C E"]:
        """One for each class. Raises UserError for a sentence that cannot be read."""
        sentences = [s for each in self.prompts.sentences for s in each]
        found = []
        for start in range(0, len(sentences), AT_ONCE):
            lot = self.embedder.batch([{self.by: s} for s in sentences[start : start + AT_ONCE]], names=(self.by,))
            there = lot.present[self.by].any(1)
            if not there.all():
                at = start + int(np.argmin(there))
                raise UserError("classes", "nothing can be read from this", given=sentences[at], advice="other words")
            found.append(_one_each(lot, self.by))
        ends = np.cumsum([len(each) for each in self.prompts.sentences])[:-1]
        return np.stack([_unit(part.mean(0)) for part in np.split(np.concatenate(found), ends)])

    def logits(self, lot: Lot) -> Float[np.ndarray, "n C"]:
        """Of each row of the lot, whether it holds anything or not."""
        return (self.sharpness * _one_each(lot, self.input) @ self.vectors.T).astype(np.float64)

    def predict(
        self, part: Part, ledger: Ledger, *, keep: bool = False, on_bad: str | None = "missing",
        step: Callable[[int], None] | None = None,
    ) -> Iterator[dict[str, Json]]:  # fmt: skip
        """A line for each row, in order: `row`, `class`, `class.confidence`, `error`; `keep` adds the input's cells."""
        columns = [c for c in self.embedder.columns[self.input] if c in part.table.columns] if keep else []
        for lot in self.embedder.rows(part, ledger, names=(self.input,), on_bad=on_bad, step=step):
            said = OneOf(self.prompts.names).predict(torch.from_numpy(self.logits(lot)))
            for row, held, one in zip(lot.rows.tolist(), lot.present[self.input].tolist(), said, strict=True):
                there = any(held)
                answer = one if there else Prediction(None)
                error = lot.errors.get(row) or (None if there else f"{self.input} is missing")
                line = {"row": row, NAME: answer.value, f"{NAME}.confidence": answer.confidence, "error": error}
                given = {c: part.table.cell(row, c) for c in columns}
                yield line | {n: v if isinstance(v, str | int | float | bool | None) else f"<{type(v).__name__}>"
                              for n, v in given.items()}  # fmt: skip

    def evaluate(
        self, part: Part, ledger: Ledger, target: str, *, step: Callable[[int], None] | None = None
    ) -> Evaluation:
        """Measures as of `classify`, with intervals, over the rows that have a class and can be read.

        A class of the table that is none of those given is never right. Raises TableError where no row has a class.
        """
        part.table.need([target], "--target")
        truth = cell_names(part.table, target)
        places = {name: at for at, name in enumerate(self.prompts.names)}
        rows, logits = [], []
        for lot in self.embedder.rows(part, ledger, names=(self.input,), step=step):
            known = lot.present[self.input].any(1) & (truth[lot.rows] != "")
            rows.append(lot.rows[known])
            logits.append(self.logits(lot)[known])
        at, found = np.concatenate(rows), torch.from_numpy(np.concatenate(logits))
        if not len(at):
            raise TableError(part.table.name, f"no row has both {self.input!r} and {target!r}")
        labels = [places.get(name, -1) for name in truth[at].tolist()]
        kind = OneOf(self.prompts.names)
        records = kind.score(found, {"class": torch.tensor(labels)})
        measures = intervals(kind.measure, records, self.embedder.assembly.spec.train.seed)
        result = TaskResult(measures, kind.charts(records), records, at, truth[at].tolist(), kind.predict(found),
                            kind.metric)  # fmt: skip
        made = Evaluation(len(at), {NAME: result}, ledger.counts())
        made.warnings = _strangers(sorted({name for name in truth[at].tolist() if name not in places}), target)
        return made


def prompts(classes: Classes, templates: Sequence[str]) -> Prompts:
    """Every text of every class in every template, `{}` being its place. Raises UserError."""
    named = classes if isinstance(classes, Mapping) else {name: [name] for name in classes}
    if len(named) < 2 or (not isinstance(classes, Mapping) and len(named) < len(classes)):
        raise UserError("classes", "at least two are needed, each once", given=list(classes))
    for template in templates or [""]:
        if PLACE not in template:
            raise UserError("template", "has no place for the class", given=template, advice="a photo of a {}")
    sentences = []
    for name, texts in named.items():
        if isinstance(texts, str) or not texts:
            raise UserError("classes", f"{name!r} needs texts, as a list", given=texts, advice=f"[{name}]")
        sentences.append([template.replace(PLACE, str(text)) for text in texts for template in templates])
    return Prompts([str(name) for name in named], sentences)


def read_classes(path: str | Path) -> Classes:
    """A class on each line of a .txt; of a .json or .yaml a list of classes, or class -> texts. Raises UserError."""
    place = Path(path)
    try:
        text = place.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(str(path), f"cannot be read: {error}", advice="a class on each line, in UTF-8") from None
    if place.suffix.lower() not in (".json", ".yaml", ".yml"):
        return [line.strip() for line in text.splitlines() if line.strip()]
    found: Any = yaml12.loads(text, str(path))
    if isinstance(found, dict):
        return {str(name): [str(t) for t in texts] if isinstance(texts, list) else [str(texts)]
                for name, texts in found.items()}  # fmt: skip
    if not isinstance(found, list):
        raise UserError(str(path), "is neither a list of classes nor a mapping from class to texts")
    return [str(name) for name in found]


def _strangers(names: list[str], target: str) -> list[dict[str, Json]]:
    if not names:
        return []
    text = f"column {target!r} has classes that are not among those given, and are never right: {names[:5]}"
    return [{"kind": "classes", "task": NAME, "text": text}]


def _one_each(lot: Lot, name: str) -> Float[np.ndarray, "n E"]:
    """A vector of length 1 for each row: the mean over its columns."""
    return _unit(lot.vectors[name].sum(1))


def _unit(vectors: Float[np.ndarray, "*n E"]) -> Float[np.ndarray, "*n E"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
