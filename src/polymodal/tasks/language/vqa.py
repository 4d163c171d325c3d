"""Accuracy of short answers: among several people's (VQA), or word for word.

Source: Antol et al., "VQA: Visual Question Answering", ICCV 2015, and the rules of its evaluation server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from polymodal.core.contracts import Records
from polymodal.tasks.metrics import PerWeighting, Weights, mean

AGREE = 3  # people whose agreement makes an answer wholly right

_SIGNS = ';/[]"{}()=+\\_-><@`,?!'
_THOUSANDS = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
_ARTICLES = {"a", "an", "the"}
_COUNTED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(_COUNTED)}
_WRITTEN = """ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
he'd've he's how'd how'll how's i'd've i'm i've isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't
must've needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll
somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't
wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've"""


def _lacking(word: str) -> Iterator[str]:
    """The word without one of its apostrophes: `couldnt've` and `couldn'tve`."""
    return (word[:at] + word[at + 1 :] for at, sign in enumerate(word) if sign == "'")


_CONTRACTIONS = {short: word for word in _WRITTEN.split() for short in _lacking(word)}


def normal(answer: str) -> str:
    """An answer as VQA compares it: lower case; no punctuation, articles; number words as digits; contractions mended.

    A sign becomes a space between two words and nothing beside a space (or wherever the answer holds a number such as
    1,000); full stops are kept in front of a digit only. Contractions are those of the evaluation server, but for
    'ow's'at and for its turning somebody'd into somebodyd.

    >>> normal("The two dogs, dont you see?")
    "2 dogs don't you see"
    """
    text = " ".join(answer.replace("\u2019", "'").split())
    thousands = _THOUSANDS.search(text) is not None
    cleaned = text
    for sign in _SIGNS:
        beside = sign + " " in text or " " + sign in text
        cleaned = cleaned.replace(sign, "" if beside or thousands else " ")
    words = (_NUMBERS.get(word, word) for word in _FULL_STOP.sub("", cleaned).lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def accuracy(matching: int, people: int) -> float:
    """VQA accuracy of an answer that `matching` of so many people gave: `min(others who gave it / 3, 1)`.

    It is averaged over leaving out each of the people, so that fewer than four people never make a whole point: two
    make at most 1/3. A single person's answer is right or wrong; 0 where nobody answered.
    """
    if people < 2:
        return float(matching)
    left_out = matching * min((matching - 1) / AGREE, 1.0) + (people - matching) * min(matching / AGREE, 1.0)
    return left_out / people


def records(said: Sequence[str], answers: Sequence[Iterable[str]]) -> Records:
    """Per row `vqa`, the accuracy among the people's answers, and `exact`, 1 where any of them is the same, each [n].

    Both compare `normal` answers. Unlike the evaluation server, which compares answers as they stand where all people
    agree, all rows are treated alike; answers as VQA publishes them are normal already.
    """
    matching, people = np.zeros(len(said), np.int64), np.zeros(len(said), np.int64)
    for row, (ours, theirs) in enumerate(zip(said, answers, strict=True)):
        given = [normal(answer) for answer in theirs]
        matching[row], people[row] = given.count(normal(ours)), len(given)
    right = [accuracy(int(m), int(p)) for m, p in zip(matching, people, strict=True)]
    return {"vqa": np.array(right, np.float64), "exact": (matching > 0).astype(np.float64)}


def measure(records: Records, weights: Weights) -> dict[str, PerWeighting]:
    """`vqa_accuracy` and `exact_match`: the weighted means of the rows."""
    return {"vqa_accuracy": mean(records["vqa"], weights), "exact_match": mean(records["exact"], weights)}
