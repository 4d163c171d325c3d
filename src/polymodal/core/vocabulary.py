"""Tokenizers trained on the table's own texts: the same texts give the same bytes, whatever the number of threads.

Id 0 is the padding and id 1 the unknown token; their names hold a space, so that no text can spell them.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from polymodal.core.contracts import Field
from polymodal.core.errors import SpecError

Kind = Literal["word", "char", "bpe", "wordpiece"]
PAD, UNKNOWN = "[no token]", "[unknown token]"
SMALLEST_BPE = 256 + 2  # every byte is a token

_CJK = r"\p{Han}\p{Hiragana}\p{Katakana}"
_LETTER = rf"[[\p{{L}}\p{{M}}\p{{N}}]&&[^{_CJK}]]"
WORD = rf"@[{_LETTER}_]+|[{_CJK}]|\p{{N}}+(?:[.,]\p{{N}}+)+|{_LETTER}+(?:['’]{_LETTER}+)*|\S"


def train(kind: Kind, texts: Iterable[str], size: int, min_count: int) -> Tokenizer:
    """A tokenizer of at most `size` tokens, of which each stands at least `min_count` times in the texts.

    - word: words, numbers, @names and single signs; Han characters and kana one by one.
    - char: single characters, the space among them.
    - bpe: pairs of bytes merged by frequency (Sennrich et al. 2016; on bytes: Radford et al. 2019); nothing is unknown.
    - wordpiece: words in pieces, longest first (Schuster and Nakajima 2012; Devlin et al. 2019).
    """
    stay_single()
    return _plain({"word": _words, "char": _chars, "bpe": _bpe, "wordpiece": _wordpiece}[kind](texts, size, min_count))


def stay_single() -> None:
    """Keep the library to one thread: its threads and forked readers do not go together."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _words(texts: Iterable[str], size: int, min_count: int) -> Tokenizer:
    return _level(texts, size, min_count, _split(WORD))


def _chars(texts: Iterable[str], size: int, min_count: int) -> Tokenizer:
    return _level(texts, size, min_count, _split(r"(?m:.)"))


def _split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)


def _level(texts: Iterable[str], size: int, min_count: int, split: pre_tokenizers.PreTokenizer) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = split
    trainer = trainers.WordLevelTrainer(**_options(size, min_count))
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _bpe(texts: Iterable[str], size: int, min_count: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(**_options(size, min_count), initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _wordpiece(texts: Iterable[str], size: int, min_count: int) -> Tokenizer:
    """The library numbers single pieces in the order of a hash table: here they are numbered beforehand, and words
    with rarer pieces left out, so that the alphabet (thousands of Han characters) takes half the room at most."""
    split = _split(WORD)

    def rows() -> Iterator[list[str]]:
        return ([word for word, _ in split.pre_tokenize_str(text)] for text in texts)

    counts = Counter(piece for row in rows() for word in row for piece in _pieces(word))
    alphabet = sorted(counts, key=lambda piece: (-counts[piece], piece))[: max(1, (size - 2) // 2)]
    kept = frozenset(alphabet)
    readable = (" ".join(word for word in row if kept.issuperset(_pieces(word))) for row in rows())
    tokenizer = Tokenizer(models.WordPiece({}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(**_options(size, min_count, alphabet))
    tokenizer.train_from_iterator(readable, trainer)
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _pieces(word: str) -> list[str]:
    return [word[0], *("##" + c for c in word[1:])]


def _options(size: int, min_count: int, first: Sequence[str] = ()) -> dict[str, Any]:
    special = [PAD, UNKNOWN, *first]
    return {"vocab_size": size, "min_frequency": min_count, "special_tokens": special, "show_progress": False}


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    """The same vocabulary with no token that is looked for in the raw text."""
    description = json.loads(tokenizer.to_str())
    description["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(description, ensure_ascii=False))


def adopt(text: str | None) -> Field:
    """The field of a ready tokenizer: its `padding` says the padding, its `truncation` how much the model can read."""
    advice = "an encoder that brings its own, encoder: {type: hf, name: ...}, or tokenizer: word"
    if text is None:
        raise SpecError("tokenizer", "hf is the tokenizer of a pretrained encoder", given="hf", advice=advice)
    try:
        json.loads(text)
    except ValueError as error:
        raise SpecError("tokenizer_json", f"is not JSON: {error}", given=text, advice=advice) from None
    made = Tokenizer.from_str(text)
    pad = (made.padding or {}).get("pad_id", 0)
    special = made.encode("").ids  # what stands for nothing when the model adds no token of its own
    named = [made.token_to_id(name) for name in ("[UNK]", "<unk>", "<|endoftext|>")]
    unknown = next((i for i in named if i is not None), special[0] if special else pad)
    return {"tokenizer": text, "kind": "hf", "size": made.get_vocab_size(), "pad": pad, "unknown": unknown}
