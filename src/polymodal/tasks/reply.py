"""The task of answering a question in words of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Gt, Le
from jaxtyping import Float

from polymodal.core.contracts import Prediction, Records
from polymodal.core.schema import Json, Natural, PartKind, Positive, Rate, Share, Wired
from polymodal.core.search import Search
from polymodal.core.streams import Answer, Row, Target
from polymodal.tasks import answering
from polymodal.tasks.answers import PEOPLE
from polymodal.tasks.metrics import PerWeighting
from polymodal.tasks.speaking import Speaking, Way, sentence_reader

READER = ("tokenizer", "vocab", "min_count", "max_tokens")  # settings of the target


class Reply(Speaking):
    """An answer said word by word, as in task `caption`: any answer that its words can form, not one of a list.

    The target is read by `sentences`: one answer, or those of several people, each of which is learned. See
    `speaking.Speaking` for what is learned and said. The confidence is the geometric mean of the probabilities of the
    tokens. Measures: `vqa_accuracy`, `exact_match` and, with `wups`, `wups_09`, `wups_00`, see `tasks.language`.

    Settings: `question` and `wups` as of task `answer`; `decoder`; of the target `tokenizer`, `vocab`, `min_count`,
    `max_tokens`; of learning `label_smoothing`, `scheduled_sampling`; of speaking `search`, `beams`, `length_penalty`,
    `temperature`, `top_p`, `top_k`.
    """

    metric, maximize = "vqa_accuracy", True
    says = ("confidence",)

    def __init__(
        self,
        *,
        field: Wired[dict],
        width: Wired[int],
        width_in: Wired[int],
        inputs: Wired[tuple[str, ...]],
        question: str | None = None,
        decoder: Annotated[Any, PartKind("decoder")] = "transformer",
        tokenizer: Literal["word", "char", "bpe", "wordpiece"] = "word",
        vocab: Positive = 10000,
        min_count: Positive = 1,
        max_tokens: Positive = 12,
        label_smoothing: Share = 0.0,
        scheduled_sampling: Share = 0.0,
        search: Way = "greedy",
        beams: Positive = 4,
        length_penalty: float = 1.0,
        temperature: Rate = 1.0,
        top_p: Annotated[float, Gt(0.0), Le(1.0)] = 1.0,
        top_k: Natural = 0,
        wups: bool = False,
    ) -> None:
        how = Search(way=search, longest=field["length"], beams=beams, length_penalty=length_penalty,
                     temperature=temperature, top_p=top_p, top_k=top_k)  # fmt: skip
        super().__init__(field=field, width=width, width_in=width_in, inputs=inputs, decoder=decoder,
                         label_smoothing=label_smoothing, scheduled_sampling=scheduled_sampling, self_critical=None,
                         search=how)  # fmt: skip
        self.question, self.near = answering.check_question(question, inputs), wups

    @staticmethod
    def target(settings: Json, files: Path) -> tuple[str, Json]:
        given = {name: settings[name] for name in READER if name in settings}
        return sentence_reader(settings, files, {"min_count": 1, "max_tokens": 12, "at_least": PEOPLE} | given)

    def predict(self, answer: Answer, rows: Sequence[Row]) -> list[Prediction]:
        sure = self.confidence(answer).tolist()
        return [Prediction(one[0], p) for one, p in zip(self.texts(answer), sure, strict=True)]

    def score(self, answer: Answer, target: Target) -> Records:
        there = target.present
        said = [one[0] for one in self.texts({name: value[there] for name, value in answer.items()})]
        found = answering.records(said, target.data["text"][there].cpu().numpy(), self.near)
        return found | {"error": 1 - found["vqa"]}

    def measure(self, records: Records, weights: Float[np.ndarray, "W n"]) -> dict[str, PerWeighting]:
        return answering.measure(records, weights)

    def charts(self, records: Records) -> list[Json]:
        return []
