"""How well questions were answered, whichever way the answers were found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from polymodal.core.contracts import Records
from polymodal.core.errors import SpecError, suggest
from polymodal.tasks.language import vqa, wups
from polymodal.tasks.language.wordnet import wordnet
from polymodal.tasks.metrics import PerWeighting, Weights
from polymodal.tasks.sentences import texts_of


def records(said: Sequence[str], text: UInt8[np.ndarray, "n R C"], near: bool) -> Records:
    """How well each row was answered, beside the answers of its people; `near` adds WUPS, which needs WordNet."""
    people = texts_of(text)
    found = vqa.records(said, people)
    return found | wups.records(said, people, wordnet().similarity) if near else found


def measure(records: Records, weights: Weights) -> dict[str, PerWeighting]:
    """`vqa_accuracy`, `exact_match`, and `wups_09`, `wups_00` where the records have them."""
    found = vqa.measure(records, weights)
    return found | wups.measure(records, weights) if "wups_00" in records else found


def check_question(question: str | None, inputs: Sequence[str]) -> str | None:
    """The input that asks, if it is named. Raises SpecError where there are several inputs and none of this name."""
    if question is not None and len(inputs) > 1 and question not in inputs:
        raise SpecError("question", "no input of this name", given=question, advice=suggest(question, inputs))
    return question
