"""Sentences as targets: one or several references of a row, in one or several languages. Free of torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from tokenizers import Tokenizer

from polymodal.core import vocabulary
from polymodal.core.clean import Clean, clean
from polymodal.core.contracts import Field, Sample
from polymodal.core.errors import BadCell, SpecError, TableError, shorten
from polymodal.core.schema import Natural, Positive
from polymodal.tasks.language.cider import Cider

ROOM = 2  # times the longest reference of the training rows, in bytes: what is kept of any for measuring
SMALLEST = 64  # bytes
NO_SPACE_BEFORE = frozenset(".,;:!?%)]}’”、，。！？；：）》」』")
NO_SPACE_AFTER = frozenset("([{“$#（《「『")
EAST_ASIAN = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")


class Reference(NamedTuple):
    """A sentence that a row may be answered with, and the place of its language."""

    text: str
    language: int


class Sentences:
    """Sentences that a row may be answered with: a text, a list of texts, or several columns of such.

    With `languages` every column is a language of its own, which begins with a token of its own; without, all
    sentences of a row are alternatives. Blank sentences are passed over; a cell without any sentence is a bad cell, and
    so is what is neither text nor number. Sentences are cleaned and put in lower case as a text input's are (neither,
    when `tokenizer` is hf, the tokenizer of a pretrained decoder), cut into tokens, and cut after `max_tokens`.

    Field: as of a text input, with `size` V (tokens that can be said, `end` among them), `end`, `languages`, and for
    samples `references` R, `length` L and `bytes` C, from the training rows: sentences after the R-th of a row are left
    out; R is at least `at_least`. With `document_frequencies` also how many `documents` (rows) there are
    and in how many of them each n-gram stands, for training on CIDEr.

    Sample: `ids` int64 [R, L], tokens, then `end`, then padding; `length` int64 [R], with the end, 0 where there is no
    such sentence; `language` int64 [R]; `text` uint8 [R, C], the sentence itself in UTF-8 after it was cleaned.
    """

    files: ClassVar[bool] = False
    incidental: ClassVar[frozenset[str]] = frozenset({"document_frequencies"})

    def __init__(
        self,
        *,
        languages: bool = False,
        clean: Clean | None = None,
        lower: bool | None = None,
        tokenizer: Literal["word", "char", "bpe", "wordpiece", "hf"] = "word",
        tokenizer_json: str | None = None,
        vocab: Positive = 10000,
        min_count: Positive = 2,
        max_tokens: Positive = 40,
        end: Natural | None = None,
        document_frequencies: bool = False,
        at_least: Positive = 1,
    ) -> None:
        if tokenizer == "bpe" and vocab <= vocabulary.SMALLEST_BPE:
            raise SpecError("vocab", f"bpe needs more than {vocabulary.SMALLEST_BPE}: every byte is a token",
                            given=vocab)  # fmt: skip
        if (tokenizer == "hf") != (tokenizer_json is not None and end is not None):
            raise SpecError("tokenizer", "hf is the tokenizer of a pretrained decoder", given=tokenizer,
                            advice="decoder: {type: lm, name: ...}, or tokenizer: word")  # fmt: skip
        self.apart, self.clean = languages, clean or ("none" if tokenizer == "hf" else "basic")
        self.lower = tokenizer != "hf" if lower is None else lower
        self.tokenizer, self.tokenizer_json, self.end = tokenizer, tokenizer_json, end
        self.vocab, self.min_count, self.max_tokens = vocab, min_count, max_tokens
        self.counted, self.at_least = document_frequencies, at_least
        self._field: Field | None = None
        self._words: Words | None = None

    @property
    def field(self) -> Field | None:
        return self._field

    @field.setter
    def field(self, field: Field) -> None:
        self._field, self._words = field, Words(field)

    def fit(self, cells: Iterable[object]) -> Field:
        """Raises TableError when no cell holds a sentence."""
        walk = list(cells) if iter(cells) is cells else cells  # it is gone through more than once
        names = self._named(walk)
        return self._learn(walk, names, self._vocabulary(one.text for row in self._rows(walk, names) for one in row))

    def adopt(self, cells: Iterable[object], field: Field) -> Field:
        """As `fit`, with the tokens and the languages of this field. Raises SpecError for another language."""
        walk = list(cells) if iter(cells) is cells else cells
        others = [name for name in self._named(walk) if name not in field["languages"]]
        if others:
            raise SpecError("columns", "the decoder was not trained on this language", given=others[0],
                            advice=f"columns named as the languages of its run, {field['languages']}")  # fmt: skip
        known = {name: field[name] for name in ("tokenizer", "kind", "size", "pad", "unknown", "end")}
        return self._learn(walk, field["languages"], known)

    def _named(self, cells: Iterable[object]) -> list[str]:
        """The languages, when they are told apart."""
        return next((list(cell) for cell in cells if isinstance(cell, Mapping)), [""]) if self.apart else [""]

    def _learn(self, walk: Iterable[object], names: list[str], known: Field) -> Field:
        words = Words(known | {"languages": names})
        most = {"references": self.at_least, "length": 0, "bytes": SMALLEST, "rows": 0, "cut": 0}
        corpus: list[list[str]] = []
        for row in self._rows(walk, names):
            lengths = [len(words.ids(one.text)) for one in row]
            most["references"] = max(most["references"], len(row))
            most["length"] = max(most["length"], *(min(n, self.max_tokens) + 1 for n in lengths))
            most["bytes"] = max(most["bytes"], *(ROOM * len(one.text.encode()) for one in row))
            most["cut"] += sum(n > self.max_tokens for n in lengths)
            most["rows"] += 1
            corpus += [[one.text for one in row]] if self.counted else []
        if not most["rows"]:
            raise TableError("target", "no training row holds a sentence", advice="check the task's column")
        self.field = field = {**known, "languages": names, **most}
        if self.counted:
            cider = Cider.from_corpus(corpus)
            field |= {"document_frequencies": cider.document_frequencies, "documents": cider.documents}
        return field

    def _rows(self, cells: Iterable[object], names: list[str]) -> Iterator[list[Reference]]:
        for cell in cells:
            try:
                yield self.references(cell, names)
            except BadCell:
                continue

    def references(self, cell: object, names: Sequence[str]) -> list[Reference]:
        """The sentences of a cell, cleaned. Raises BadCell."""
        if isinstance(cell, Mapping):
            each = [(names.index(column) if column in names else 0, inner) for column, inner in cell.items()]
        else:
            each = [(0, cell)]
        found = [Reference(self.prepare(text), at) for at, inner in each for text in texts_in(inner)]
        found = [one for one in found if one.text]
        if not found:
            raise BadCell("holds no sentence")
        return found

    def prepare(self, text: str) -> str:
        """The sentence as it is learned and measured: cleaned, in lower case."""
        cleaned = clean(text, self.clean).strip()
        return cleaned.lower() if self.lower else cleaned

    def _vocabulary(self, texts: Iterable[str]) -> Field:
        if self.tokenizer == "hf":
            return vocabulary.adopt(self.tokenizer_json) | {"end": self.end}
        made = vocabulary.train(self.tokenizer, texts, self.vocab - 1, self.min_count)
        size = made.get_vocab_size()
        return {"tokenizer": made.to_str(), "kind": self.tokenizer, "size": size + 1, "pad": 0, "unknown": 1,
                "end": size}  # fmt: skip

    def __call__(self, cell: object) -> Sample:
        assert self._field is not None, "fit first"
        assert self._words is not None
        sample = self.blank()
        end, longest = self._field["end"], self._field["length"]
        for at, one in enumerate(self.references(cell, self._field["languages"])[: self._field["references"]]):
            ids = [*self._words.ids(one.text)[: longest - 1], end]
            sample["ids"][at, : len(ids)] = ids
            sample["length"][at], sample["language"][at] = len(ids), one.language
            sample["text"][at] = packed(one.text, self._field["bytes"])
        return sample

    def blank(self) -> Sample:
        assert self._field is not None, "fit first"
        shape = self._field["references"], self._field["length"]
        return {
            "ids": np.full(shape, self._field["pad"], np.int64),
            "length": np.zeros(shape[:1], np.int64),
            "language": np.zeros(shape[:1], np.int64),
            "text": np.zeros((shape[0], self._field["bytes"]), np.uint8),
        }


class Words:
    """Sentences as token ids and back, by a field of `Sentences`."""

    def __init__(self, field: Field) -> None:
        vocabulary.stay_single()
        self.kind, self.end, self.silent = field["kind"], field["end"], {field["pad"], field["unknown"], field["end"]}
        self.tokenizer = Tokenizer.from_str(field["tokenizer"])
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def ids(self, text: str) -> list[int]:
        """The tokens of a sentence, without its end."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def say(self, ids: Iterable[int]) -> str:
        """The sentence of some tokens, up to the end."""
        said: list[int] = []
        for token in ids:
            if token == self.end:
                break
            said += [] if token in self.silent else [token]
        if self.kind in ("word", "char"):
            tokens = [self.tokenizer.id_to_token(token) or "" for token in said]
            return joined(tokens) if self.kind == "word" else "".join(tokens)
        return str(self.tokenizer.decode(said, skip_special_tokens=True)).strip()


def joined(words: Sequence[str]) -> str:
    """Words and signs as a sentence is written: no space before a comma, none between Chinese characters."""
    text = ""
    for word in words:
        east = bool(EAST_ASIAN.match(word) or EAST_ASIAN.match(text[-1:]))
        close = not text or word[:1] in NO_SPACE_BEFORE or text[-1] in NO_SPACE_AFTER or east
        text += word if close or word.startswith(("'", "’")) else f" {word}"
    return text


def texts_of(text: np.ndarray) -> list[list[str]]:
    """The references of rows, [B, R, C] bytes as in a sample's `text`; those that are not there are left out."""
    return [[bytes(one[one > 0]).decode() for one in row if one.any()] for row in text]


def packed(text: str, room: int) -> np.ndarray:
    """UTF-8, cut at a character's end, then zeros."""
    cut = text.encode()[:room].decode(errors="ignore").encode().replace(b"\0", b"")
    return np.frombuffer(cut.ljust(room, b"\0"), np.uint8)


def texts_in(cell: Any) -> list[str]:
    """The texts of one column: a text, a list of texts, the JSON of such a list."""
    if cell is None:
        return []
    if isinstance(cell, str):
        listed = _listed(cell) if cell.lstrip().startswith("[") else None
        return [cell] if listed is None else listed
    if isinstance(cell, list | tuple | np.ndarray):
        return [text for one in cell for text in texts_in(one)]
    if isinstance(cell, bool | int | float | np.number):
        return [str(cell)]
    raise BadCell(f"is no sentence: {shorten(cell, 60)}")


def _listed(cell: str) -> list[str] | None:
    try:
        found = json.loads(cell)
    except ValueError:
        return None
    return found if isinstance(found, list) and all(isinstance(one, str) for one in found) else None
