"""A causal language model in the shape that a run keeps, with as many words as can be said; and the files it keeps."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer

from polymodal.core.errors import SpecError
from polymodal.core.pretrained import TOKENIZER, changed, fast_tokenizer, fetch_config, is_model_type, stored_config
from polymodal.core.schema import Json
from polymodal.decoders.lm_cache import empty, taken

if TYPE_CHECKING:
    from transformers import PretrainedConfig

WHERE = "decoder.name"
ADVICE = "a causal language model that keeps keys and values: GPT-2, Llama, Qwen, SmolLM and their kin"


def keep_files(name: str, files: Path) -> Json:
    """Keep the configuration and, of a published model, the tokenizer; settings of the reader that it speaks to."""
    known = (files / "config.json").exists()
    config = fetch_config(name, files, WHERE)
    path = files / TOKENIZER
    if not path.exists() and (known or is_model_type(name)):
        return {}
    if not path.exists():
        tokenizer = fast_tokenizer(name, WHERE)
        if tokenizer.eos_token_id is None:
            raise SpecError(WHERE, "its tokenizer names no token that ends a text", given=name, advice=ADVICE)
        config.eos_token_id, config.bos_token_id = tokenizer.eos_token_id, tokenizer.bos_token_id
        config.save_pretrained(files)
        path.write_text(_bare(tokenizer), encoding="utf-8")
    _, end = special(stored_config(files))
    return {"tokenizer": "hf", "tokenizer_json": path.read_text(encoding="utf-8"), "end": end}


def _bare(tokenizer: Any) -> str:
    """The tokenizer's JSON, for texts of any length; `padding` names its padding, the end where it has none."""
    made = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    made.no_truncation()
    pad = tokenizer.eos_token if tokenizer.pad_token_id is None else tokenizer.pad_token
    made.enable_padding(pad_id=made.token_to_id(pad), pad_token=pad)
    return str(made.to_str())


def special(config: PretrainedConfig) -> tuple[int | None, int]:
    """The tokens that begin (there may be none) and end a text."""
    first, last = config.bos_token_id, config.eos_token_id
    return first, last[0] if isinstance(last, list) else last


def build_core(config: PretrainedConfig, changes: dict[str, Json] | None, size: int, own: bool) -> tuple[Any, Any]:
    """The published configuration with the user's changes; the model, random in fp32, with `size` words or more.

    `own`: it has no words of its own yet, and gets `size` of them. Raises SpecError for what is no causal model.
    """
    from transformers import AutoModelForCausalLM

    config = changed(config, changes)
    if own:  # made anew, for what follows from what was changed
        none = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
        config = type(config)(**{"vocab_size": size, **none, **(changes or {})})
    if hasattr(config, "is_decoder"):
        config.is_decoder = True
    try:
        model = AutoModelForCausalLM.from_config(deepcopy(config), dtype=torch.float32)  # a larger one changes its own
        if size > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(size, mean_resizing=False)
        _try(model.eval())
    except (ValueError, TypeError, RuntimeError, AttributeError, KeyError, IndexError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SpecError("name", f"cannot speak: {reason}", given=config.model_type, advice=ADVICE) from None
    return config, model.train()


@torch.no_grad()
def _try(model: Any) -> None:
    """Raise ValueError unless the model reads vectors, keeps keys and values, and does not look ahead."""
    if model.config.is_encoder_decoder:
        raise ValueError("it is an encoder and a decoder")
    width = model.get_input_embeddings().embedding_dim
    tokens = torch.linspace(-0.1, 0.1, 2 * width).reshape(1, 2, width)
    cache, mask = empty(), torch.ones(1, 2, dtype=torch.long)
    both = model(inputs_embeds=tokens, attention_mask=mask, past_key_values=cache, use_cache=True).logits
    if not taken(cache, 0):
        raise ValueError("it keeps no keys and values")
    alone = model(inputs_embeds=tokens[:, :1], attention_mask=mask[:, :1], use_cache=False).logits
    if not torch.allclose(both[:, :1], alone, atol=1e-4):
        raise ValueError("it looks at words that are yet to come")
