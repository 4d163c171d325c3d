"""Token ids -> vectors: an embedding of the reader's vocabulary, which may start from published word vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor, nn

from polymodal.core.errors import SpecError, UserError
from polymodal.core.schema import Json
from polymodal.modalities.text.vectors import read_vectors, read_width

NOTE = "embeddings.json"  # in the run's files: the width of the vectors, so that a loaded run needs no vectors


def note_vectors(settings: Json, files: Path) -> None:
    """Keep in `files` how wide the vectors in `settings["embeddings"]` are. A second call does nothing."""
    path = settings.get("embeddings")
    if path is None or (files / NOTE).exists():
        return
    width = read_width(Path(path).expanduser())
    files.mkdir(parents=True, exist_ok=True)
    (files / NOTE).write_text(json.dumps({"dim": width}), encoding="utf-8")


class WordVectors(nn.Module):
    """`width` numbers for each token; zero for the padding. With `embeddings` the width is that of the file's vectors.

    Tokens that the file does not have keep their random start. Raises SpecError when `width` and the file disagree.
    """

    def __init__(
        self, field: dict[str, Any], width: int | None, default: int, embeddings: str | None, files: Path | None
    ) -> None:
        super().__init__()
        self.field, self.path = field, embeddings
        self.width = (width or default) if embeddings is None else _noted(embeddings, files, width)
        self.table = nn.Embedding(field["size"], self.width, padding_idx=field["pad"])
        if embeddings is not None and field["kind"] not in ("word", "char", "wordpiece"):
            raise SpecError("embeddings", "word vectors need a tokenizer that cuts words", given=field["kind"],
                            advice="tokenizer: word")  # fmt: skip

    def forward(self, ids: Int[Tensor, "N T"]) -> Float[Tensor, "N T D"]:
        return self.table(ids)

    def load(self) -> None:
        """Copy the file's vectors to the tokens that have one. Raises TableError, or UserError when none has."""
        if self.path is None:
            return
        vocabulary = Tokenizer.from_str(self.field["tokenizer"]).get_vocab()
        found = read_vectors(Path(self.path).expanduser(), vocabulary)
        if not found:
            raise UserError(self.path, f"has none of the {len(vocabulary)} words of the training texts",
                            advice="a file in their language; lower: false when its words keep capitals")  # fmt: skip
        rows = torch.tensor([vocabulary[word] for word in found])
        values = torch.stack([torch.from_numpy(vector) for vector in found.values()])
        with torch.no_grad():
            self.table.weight[rows] = values.to(self.table.weight)


def _noted(embeddings: str, files: Path | None, width: int | None) -> int:
    note = None if files is None else files / NOTE
    known = note is not None and note.exists()
    noted = (
        json.loads(note.read_text(encoding="utf-8"))["dim"]
        if known and note
        else read_width(Path(embeddings).expanduser())
    )
    if width is not None and width != noted:
        raise SpecError("embeddings", f"its vectors have {noted} dimensions, not {width}", given=embeddings,
                        advice="leave the width of the embedding out")  # fmt: skip
    return int(noted)
