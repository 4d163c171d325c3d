"""Text encoders trained from scratch: recurrent nets, a Transformer, a bag of words."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from polymodal.core.schema import Chance, Json, Positive, Wired
from polymodal.core.streams import Stream, pool
from polymodal.core.transformer import TransformerStack
from polymodal.modalities.sequence import Recurrent, sinusoid
from polymodal.modalities.text.embed import WordVectors, note_vectors
from polymodal.modalities.text.first import first_pieces


class _TextEncoder(nn.Module):
    """What all have in common: ids [N T] with their mask, and an embedding that may start from word vectors."""

    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    words: WordVectors
    covers = 1  # as `modalities.steps.StepEncoder` has it

    @staticmethod
    def wants(settings: Json, files: Path) -> Json:
        note_vectors(settings, files)
        return {"words": True} if settings.get("tokens") == "words" else {}

    def load_pretrained(self) -> None:
        """Start from the word vectors in the file `embeddings`."""
        self.words.load()


class _TextRecurrent(_TextEncoder):
    kind: ClassVar[Literal["rnn", "lstm", "gru"]]

    def __init__(
        self,
        *,
        field: Wired[dict],
        files: Wired[Path | None] = None,
        width: Positive = 128,
        embed: Positive | None = None,
        embeddings: str | None = None,
        layers: Positive = 1,
        bidirectional: bool = True,
        dropout: Chance = 0.1,
        tokens: Literal["all", "words", "mean", "last"] = "all",
    ) -> None:
        super().__init__()
        self.words = WordVectors(field, embed, width, embeddings, files)
        self.dropout = nn.Dropout(dropout)
        self.stack = Recurrent(kind=self.kind, features=self.words.width, width=width, layers=layers,
                               bidirectional=bidirectional, dropout=dropout)  # fmt: skip
        self.width, self.bidirectional, self.tokens = self.stack.width, bidirectional, tokens
        self.covers = int(tokens in ("all", "words"))

    def forward(self, data: dict[str, Tensor]) -> Stream:
        mask = data["ids_mask"]
        states = self.stack(self.dropout(self.words(data["ids"])), mask)
        if self.tokens == "all":
            return Stream(states, mask)
        if self.tokens == "words":
            return first_pieces(states, mask, data["word"])
        return Stream(self._end(states, mask) if self.tokens == "last" else pool(states, mask)[:, None], mask[:, :1])

    def _end(self, states: Float[Tensor, "N T W"], mask: Bool[Tensor, "N T"]) -> Float[Tensor, "N 1 W"]:
        """What each direction knows when it has read the whole row: one at the last real token, one at the first."""
        place = (mask.sum(1) - 1).clamp(min=0)[:, None, None].expand(-1, 1, self.width)
        end = states.gather(1, place)
        if not self.bidirectional:
            return end
        half = self.width // 2
        return torch.cat([end[..., :half], states[:, :1, half:]], 2)


class TextRNN(_TextRecurrent):
    """Embedding and Elman RNN (tanh) over the tokens: T tokens, or their `mean` or the `last` states as one."""

    kind = "rnn"


class TextLSTM(_TextRecurrent):
    """Embedding and LSTM (Hochreiter and Schmidhuber 1997): T tokens, or their `mean` or the `last` states as one."""

    kind = "lstm"


class TextGRU(_TextRecurrent):
    """Embedding and GRU (Cho et al. 2014): T tokens, or their `mean` or the `last` states as one."""

    kind = "gru"


class TextTransformer(_TextEncoder):
    """Embedding, sinusoidal positions and a pre-norm Transformer encoder (Vaswani et al. 2017), for any length.

    Gives T tokens, one for each word with `tokens: words`, or with `tokens: mean` their mean as one.
    """

    def __init__(
        self,
        *,
        field: Wired[dict],
        files: Wired[Path | None] = None,
        width: Positive = 128,
        embed: Positive | None = None,
        embeddings: str | None = None,
        layers: Positive = 2,
        heads: Positive = 4,
        dropout: Chance = 0.1,
        tokens: Literal["all", "words", "mean"] = "all",
    ) -> None:
        super().__init__()
        self.words = WordVectors(field, embed, width, embeddings, files)
        self.project = nn.Identity() if self.words.width == width else nn.Linear(self.words.width, width)
        self.dropout = nn.Dropout(dropout)
        self.stack = TransformerStack(width=width, layers=layers, heads=heads, dropout=dropout)
        self.width, self.tokens, self.covers = width, tokens, int(tokens != "mean")

    def forward(self, data: dict[str, Tensor]) -> Stream:
        mask = data["ids_mask"]
        x = self.project(self.words(data["ids"]))
        x = x + sinusoid(x.shape[1], self.width, x.device).to(x.dtype)
        x = self.stack(self.dropout(x), mask)
        if self.tokens == "words":
            return first_pieces(x, mask, data["word"])
        return Stream(pool(x, mask)[:, None], mask[:, :1]) if self.tokens == "mean" else Stream(x, mask)


class TextBag(_TextEncoder):
    """The mean of the embeddings of a text's tokens, as one token: fast, blind to order (Joulin et al. 2017)."""

    def __init__(
        self,
        *,
        field: Wired[dict],
        files: Wired[Path | None] = None,
        width: Positive | None = None,
        embeddings: str | None = None,
        dropout: Chance = 0.0,
    ) -> None:
        super().__init__()
        self.words = WordVectors(field, width, 128, embeddings, files)
        self.dropout = nn.Dropout(dropout)
        self.width, self.covers = self.words.width, 0

    def forward(self, data: dict[str, Tensor]) -> Stream:
        mask = data["ids_mask"]
        return Stream(pool(self.dropout(self.words(data["ids"])), mask)[:, None], mask[:, :1])
