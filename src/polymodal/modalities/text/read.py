"""Text cells -> token ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import UInt64
from tokenizers import Encoding, Tokenizer

from polymodal.core import vocabulary
from polymodal.core.clean import Clean, clean
from polymodal.core.contracts import Field, Sample
from polymodal.core.errors import BadCell, SpecError
from polymodal.core.schema import Json, Positive
from polymodal.core.seeds import Rng
from polymodal.core.traits import Traits
from polymodal.modalities.text import stopwords
from polymodal.modalities.text.corrupt import Ids, noisy, tokens
from polymodal.modalities.text.fingerprint import simhash
from polymodal.modalities.text.pieces import words_of
from polymodal.modalities.text.traits import counted

AT_ONCE = 256  # texts that are encoded together
CHARS_PER_TOKEN = 64  # room enough for words, links and spaces


class TextReader:
    """Cleans a text and cuts it into tokens; numbers are read as their text. Sample: `ids` int64 [T], T >= 1.

    A text longer than `max_tokens` is cut, and only its first `max_chars` characters are looked at (64 for each token
    when not given). `clean` and `lower` are `basic` and true when not given; a pretrained model's tokenizer does both
    itself, so with `hf` they are `none` and false. Encoders with a tokenizer of their own pass `tokenizer_json`.

    `words` (which encoders ask for): a sample also has `word` int64 [T], see `pieces.words_of`, and nothing is cleaned
    when not told otherwise, so that words stay what they are in the table.

    Field: tokenizer (its JSON as text), kind, size, pad, unknown; `texts` and `cut` say how many texts it was fitted on
    and how many of them were cut.
    """

    files: ClassVar[bool] = False
    record: ClassVar[bool] = False
    ragged: frozenset[str] = frozenset({"ids"})
    alike: ClassVar[int] = 40  # bits in which fingerprints of nearly the same texts differ
    augments = False

    def __init__(
        self,
        *,
        clean: Clean | None = None,
        lower: bool | None = None,
        stop_words: Literal["none", "english", "chinese"] | list[str] = "none",
        tokenizer: Literal["word", "char", "bpe", "wordpiece", "hf"] = "word",
        tokenizer_json: str | None = None,
        vocab: Positive = 20000,
        min_count: Positive = 2,
        max_tokens: Positive = 128,
        max_chars: Positive | None = None,
        words: bool = False,
    ) -> None:
        own = tokenizer != "hf"
        if own and tokenizer_json is not None:
            raise SpecError("tokenizer", "stands beside a tokenizer_json", given=tokenizer, advice="tokenizer: hf")
        if tokenizer == "bpe" and vocab < vocabulary.SMALLEST_BPE:
            raise SpecError(
                "vocab", f"bpe needs at least {vocabulary.SMALLEST_BPE}: every byte is a token", given=vocab
            )
        if words and stop_words not in ("none", []):
            raise SpecError("stop_words", "would leave out words that each have a token of their own", given=stop_words,
                            advice="leave them out, or another `tokens` of the encoder")  # fmt: skip
        self.ragged = frozenset({"ids", "word"} if words else {"ids"})
        self.clean: Clean = clean or ("basic" if own and not words else "none")
        self.lower = own if lower is None else lower
        self.stop = stopwords.pattern(
            stop_words if isinstance(stop_words, list) else stopwords.LISTS.get(stop_words, [])
        )
        self.tokenizer, self.tokenizer_json = tokenizer, tokenizer_json
        self.vocab, self.min_count, self.max_tokens = vocab, min_count, max_tokens
        self.max_chars = max_chars or CHARS_PER_TOKEN * max_tokens
        self._field: Field | None = None
        self._encoder: Tokenizer | None = None
        self._tokens: tuple[Ids, Ids] | None = None

    @property
    def field(self) -> Field | None:
        return self._field

    @field.setter
    def field(self, field: Field | None) -> None:
        self._field, self._encoder, self._tokens = field, None, None

    def fit(self, cells: Iterable[object]) -> Field:
        """Train the tokenizer on the cells (bad ones are passed over) and count what it cuts."""
        walk = list(cells) if iter(cells) is cells else cells  # it is gone through more than once
        self.field = self._learn(_Prepared(self, walk))
        texts = cut = 0
        for block in _blocks(_texts(walk)):
            texts += len(block)
            cut += sum(self._cuts(block))
        self.field |= {"texts": texts, "cut": cut}
        return self.field

    def _cuts(self, texts: list[str]) -> list[bool]:
        """Which texts are longer than what is looked at. Own tokenizers make no more tokens than a text has bytes."""
        cut = [len(text) > self.max_chars for text in texts]
        prepared = [self.prepare(text) for text in texts]
        own = self.tokenizer != "hf"
        unsure = [at for at, text in enumerate(prepared)
                  if not cut[at] and not (own and len(text.encode()) <= self.max_tokens)]  # fmt: skip
        for at, found in zip(unsure, self._encoding().encode_batch([prepared[at] for at in unsure]), strict=True):
            cut[at] = len(found.overflowing) > 0
        return cut

    def _learn(self, texts: Iterable[str]) -> Field:
        if self.tokenizer == "hf":
            return vocabulary.adopt(self.tokenizer_json)
        made = vocabulary.train(self.tokenizer, texts, self.vocab, self.min_count)
        ids = {"size": made.get_vocab_size(), "pad": 0, "unknown": 1}
        return {"tokenizer": made.to_str(), "kind": self.tokenizer, **ids}

    def cost(self, cell: object) -> int:
        """Tokens that will be read; before fitting, characters that will be looked at. Raises BadCell."""
        text = _text(cell)
        return min(len(text), self.max_chars) if self._field is None else len(self.decode(text)["ids"])

    def prepare(self, text: str) -> str:
        """The text as the tokenizer sees it: cut, cleaned, in lower case, without stop words."""
        text = clean(text[: self.max_chars], self.clean)
        if self.lower:
            text = text.lower()
        return " ".join(self.stop.sub(" ", text).split()) if self.stop else text

    def decode(self, cell: object) -> Sample:
        """Raises BadCell for what is neither text nor a number."""
        text = self.prepare(_text(cell))
        return self._sample(text, self._encoding().encode(text))

    def _sample(self, text: str, encoded: Encoding) -> Sample:
        ids = {"ids": np.array(encoded.ids or [self._fitted()["unknown"]], dtype=np.int64)}
        return ids | {"word": words_of(text, encoded)} if "word" in self.ragged else ids

    def decode_all(self, cells: Sequence[object]) -> list[Sample | BadCell]:
        """What `decode` gives for each cell, or the BadCell that it raises."""
        found: list[Sample | BadCell] = []
        texts = []
        for cell in cells:
            try:
                texts.append(self.prepare(_text(cell)))
                found.append({})
            except BadCell as error:
                found.append(error)
        encoder = self._encoding()
        encode = encoder.encode_batch if "word" in self.ragged else encoder.encode_batch_fast  # which has no offsets
        encoded = zip(texts, encode(texts), strict=True)
        for at, bad in enumerate(found):
            if not isinstance(bad, BadCell):
                found[at] = self._sample(*next(encoded))
        return found

    def finish(self, sample: Sample, rng: Rng | None) -> Sample:
        return sample

    def __call__(self, cell: object, rng: Rng | None = None) -> Sample:
        return self.finish(self.decode(cell), rng)

    def blank(self) -> Sample:
        return self.decode("")

    def fingerprints(self, cells: Sequence[object], samples: Sequence[Sample]) -> UInt64[np.ndarray, "n words"]:
        """See `fingerprint.simhash`."""
        return simhash([_text(cell) for cell in cells])

    def traits(self, cells: Sequence[object], samples: Sequence[Sample]) -> Traits:
        """See `traits.counted`."""
        return counted([_text(cell) for cell in cells], [s["ids"] for s in samples], self._fitted().get("unknown"))

    def corrupt(self, data: dict[str, np.ndarray], level: float, rng: Rng) -> dict[str, np.ndarray]:
        """See `corrupt.noisy`."""
        if level <= 0:
            return data
        if self._tokens is None:
            self._tokens = tokens(self._fitted(), self._encoding().encode("").ids)
        return data | {"ids": noisy(data["ids"], data["ids_mask"], level, rng, *self._tokens)}

    def show(self, cell: object) -> Json:
        return {"kind": "text", "data": _text(cell)[:500]}

    def _fitted(self) -> Field:
        if self._field is None:
            raise RuntimeError("the reader is not fitted: call fit, or set field")
        return self._field

    def _encoding(self) -> Tokenizer:
        if self._encoder is None:
            vocabulary.stay_single()
            self._encoder = Tokenizer.from_str(self._fitted()["tokenizer"])
            own = (self._encoder.truncation or {}).get("max_length", self.max_tokens)
            self._encoder.no_padding()
            self._encoder.enable_truncation(min(self.max_tokens, own))
        return self._encoder


class _Prepared:
    """The texts among some cells as the tokenizer sees them, over and over."""

    def __init__(self, reader: TextReader, cells: Iterable[object]) -> None:
        self._reader, self._cells = reader, cells

    def __iter__(self) -> Iterator[str]:
        return map(self._reader.prepare, _texts(self._cells))


def _texts(cells: Iterable[object]) -> Iterator[str]:
    """The texts among some cells; bad ones are passed over."""
    for cell in cells:
        try:
            yield _text(cell)
        except BadCell:
            continue


def _blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    walk = iter(texts)
    while block := list(islice(walk, AT_ONCE)):
        yield block


def _text(cell: object) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool | int | float | np.number | np.bool_):
        return str(cell)
    raise BadCell(f"not a text: {type(cell).__name__}")
