"""The task of saying a sentence about a row: captions of pictures, of sounds, of any mix of inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt, Le
from jaxtyping import Float

from polymodal.core.clean import Clean
from polymodal.core.contracts import Prediction, Records
from polymodal.core.schema import Json, Natural, PartKind, Positive, Rate, Share, Wired
from polymodal.core.search import Search
from polymodal.core.streams import Answer, Row, Target
from polymodal.tasks.language import captioning
from polymodal.tasks.sentences import texts_of
from polymodal.tasks.speaking import Speaking, Way, sentence_reader

READER = ("languages", "clean", "lower", "tokenizer", "vocab", "min_count", "max_tokens")  # settings of the target


class Caption(Speaking):
    """A sentence about a row, in one or several languages. See `speaking.Speaking` for what is learned and said.

    The target is read by `sentences`: `languages` (every column is a language, named as the column; a prediction file
    then has the first one's sentence under the task's name, every other one's under `TASK.LANGUAGE`), `clean`, `lower`,
    `tokenizer`, `vocab`, `min_count`, `max_tokens`.

    Measures, with several references as in pycocoevalcap: `cider` (CIDEr-D, chooses the epoch), `bleu_1` to `bleu_4`,
    `rouge_l`, `distinct_1`, `distinct_2`; of a language after the first with its name, `cider_zh`. A row that has no
    reference in a language does not count there.
    """

    metric, maximize = "cider", True

    def __init__(
        self,
        *,
        field: Wired[dict],
        width: Wired[int],
        width_in: Wired[int],
        inputs: Wired[tuple[str, ...]],
        decoder: Annotated[Any, PartKind("decoder")] = "transformer",
        languages: bool = False,
        clean: Clean | None = None,
        lower: bool | None = None,
        tokenizer: str = "word",
        vocab: Positive = 10000,
        min_count: Positive = 2,
        max_tokens: Positive = 40,
        label_smoothing: Share = 0.0,
        scheduled_sampling: Share = 0.0,
        self_critical: Share | None = None,
        search: Way = "greedy",
        beams: Positive = 4,
        length_penalty: float = 1.0,
        temperature: Rate = 1.0,
        top_p: Annotated[float, Gt(0.0), Le(1.0)] = 1.0,
        top_k: Natural = 0,
    ) -> None:
        how = Search(way=search, longest=field["length"], beams=beams, length_penalty=length_penalty,
                     temperature=temperature, top_p=top_p, top_k=top_k)  # fmt: skip
        super().__init__(field=field, width=width, width_in=width_in, inputs=inputs, decoder=decoder,
                         label_smoothing=label_smoothing, scheduled_sampling=scheduled_sampling,
                         self_critical=self_critical, search=how)  # fmt: skip
        self.says = ("confidence", *self.languages[1:])

    @staticmethod
    def target(settings: Json, files: Path) -> tuple[str, Json]:
        own = {name: settings[name] for name in READER if name in settings}
        counted = {"document_frequencies": True} if settings.get("self_critical") is not None else {}
        return sentence_reader(settings, files, own | counted)

    def predict(self, answer: Answer, rows: Sequence[Row]) -> list[Prediction]:
        said, sure = self.texts(answer), self.confidence(answer).tolist()
        return [Prediction(one[0], p, dict(zip(self.languages[1:], one[1:], strict=True)))
                for one, p in zip(said, sure, strict=True)]  # fmt: skip

    def score(self, answer: Answer, target: Target) -> Records:
        there = target.present
        said = self.texts({name: value[there] for name, value in answer.items()})
        text, language = target.data["text"][there].cpu().numpy(), target.data["language"][there].cpu().numpy()
        kept = target.data["length"][there].cpu().numpy() > 0
        found: dict[str, Any] = {}
        for at, name in enumerate(self.languages):
            own = texts_of(text * (kept & (language == at))[..., None])
            records = captioning.records([one[at] for one in said], [r or [""] for r in own])
            records["known"] = np.array([bool(r) for r in own], bool)
            found |= {_named(column, name, at): values for column, values in records.items()}
        return found | {"error": 1 - found["rouge_l"]}

    def measure(self, records: Records, weights: Float[np.ndarray, "W n"]) -> dict[str, Float[np.ndarray, " W"]]:
        found: dict[str, Any] = {}
        for at, name in enumerate(self.languages):
            columns = captioning.COLUMNS
            known = records[_named("known", name, at)]
            own = {column: records[_named(column, name, at)][known] for column in columns}
            measured = captioning.measure(own, weights[:, known])
            found |= {_named(measure, name, at): values for measure, values in measured.items()}
        return found

    def charts(self, records: Records) -> list[Json]:
        return []


def _named(name: str, language: str, at: int) -> str:
    """A measure of the first language by its own name, of another one with the language's."""
    return f"{name}_{language}" if at else name
