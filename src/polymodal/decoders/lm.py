"""A causal language model of transformers that is told of a memory by tokens put before the words."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from torch import Tensor, nn

from polymodal.core.errors import SpecError
from polymodal.core.pretrained import TOKENIZER, is_model_type, stored_config, weights
from polymodal.core.schema import Json, Positive, Wired
from polymodal.core.streams import State, Stream
from polymodal.decoders.lm_build import WHERE, build_core, keep_files, special
from polymodal.decoders.lm_cache import cached, empty, taken
from polymodal.decoders.prefix import Prefix, make_prefix


class LanguageModel(nn.Module):
    """GPT-2, Llama, Qwen, SmolLM and others, by hub name, folder or model type, behind a prefix made of the memory.

    A row reads: the model's own first token (where it has one), the prefix, the `prompt`, a learned start token, and
    what is said. `prefix` maps the memory to the width of the model's words: token by token (`linear`, `mlp`), or by a
    `resampler` of `queries` tokens in all, with `depth` layers of `heads` heads. The real tokens stand together, so
    padding changes nothing; the prefix takes half of the model's positions at most, and what is beyond is not seen.

    A published model speaks its own tokens; with a model type (`gpt2`, `llama`), which stands for a shape that `config`
    changes, the words are those of the table and the weights random (`pretrained: false`). A loaded run needs neither
    hub nor folder. `core` is the language model: `freeze`, `lora` and `lr` are about it, not about prefix and starts.

    Tsimpoukelli et al. 2021, Frozen; Mokady et al. 2021, ClipCap; Liu et al. 2023, LLaVA. Raises SpecError for a model
    that is no causal one, or keeps something else than keys and values (Mamba). Not covered: encoder-decoders.
    """

    before: Tensor  # the model's own first token, if there is one
    prompt: Tensor

    def __init__(
        self,
        *,
        width: Wired[int],
        size: Wired[int],
        starts: Wired[int],
        files: Wired[Path],
        name: str,
        pretrained: bool = True,
        config: dict[str, Json] | None = None,
        prefix: Literal["linear", "mlp", "resampler"] = "mlp",
        queries: Positive = 16,
        depth: Positive = 2,
        heads: Positive = 8,
        prompt: str = "",
    ) -> None:
        super().__init__()
        own = not (files / TOKENIZER).exists()  # a shape only: its words are those of the table
        self.name, self.pretrained, self.size = name, pretrained and not own, size
        self.settings, self.core = build_core(stored_config(files), config, size, own)
        self.width = int(self.core.get_input_embeddings().embedding_dim)
        self.map = make_prefix(prefix, width, self.width, queries=queries, layers=depth, heads=heads)
        self.start = nn.Embedding(starts, self.width)
        nn.init.normal_(self.start.weight, std=0.02)
        first = None if own else special(self.settings)[0]
        self.register_buffer("before", _ids([] if first is None else [first]), persistent=False)
        self.register_buffer("prompt", _ids(_spelt(prompt, files, own)), persistent=False)
        self.positions = getattr(self.settings, "max_position_embeddings", None)
        accepted = inspect.signature(self.core.forward).parameters
        self.accepts = frozenset({"position_ids", "logits_to_keep"} & set(accepted))

    @staticmethod
    def wants(settings: Json, files: Path) -> Json:
        """Keep `config.json` and, of a published model, `tokenizer.json` in `files` (once); its words, and its end."""
        name = settings["name"]
        if not (files / TOKENIZER).exists() and is_model_type(name) and settings.get("pretrained", True):
            advice = "pretrained: false, or the whole name of a published model, such as openai-community/gpt2"
            raise SpecError(WHERE, "is a model type, which has no weights", given=name, advice=advice)
        return keep_files(name, files)

    def load_pretrained(self) -> None:
        """The published weights instead of random ones, unless `pretrained: false`. Raises SpecError."""
        if self.pretrained:
            from transformers import AutoModelForCausalLM

            published = weights(AutoModelForCausalLM, self.name, self.settings, WHERE)
            rows = self.core.get_input_embeddings().num_embeddings
            if rows > published.get_input_embeddings().num_embeddings:  # type: ignore[operator]
                published.resize_token_embeddings(rows, mean_resizing=False)  # type: ignore[operator]
            self.core.load_state_dict(published.state_dict())

    def train(self, mode: bool = True) -> LanguageModel:
        """A frozen language model stays in eval: no dropout in what is not trained."""
        super().train(mode)
        if not any(p.requires_grad for p in self.core.parameters()):
            self.core.eval()
        return self

    def forward(self, memory: Stream, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L V"]:
        """Logits of what follows each of `ids`, which begin with a start token."""
        return self._read(*self._teacher(memory, ids)[:2], keep=ids.shape[1])[0]

    def begin(self, memory: Stream, longest: int) -> State:
        """The prefix and the prompt as keys and values."""
        self._check(longest)
        tokens, mask, _, _ = self._before(memory)
        _, cache = self._read(tokens, mask, keep=1, cache=empty())
        length = tokens.shape[1]
        fixed = {"mask": mask, "real": mask.sum(1)}
        return State(taken(cache, length), fixed | taken(cache, 0, length), 0)

    def step(self, state: State, ids: Int[Tensor, " B"]) -> tuple[Float[Tensor, "B V"], State]:
        """Logits of what follows one more token."""
        fixed, past, at = state.fixed, state.past, state.at
        mask = torch.cat([fixed["mask"], fixed["mask"].new_ones(len(ids), at + 1)], 1)
        place = (fixed["real"] + at)[:, None]
        logits, cache = self._read(self._embed(ids[:, None]), mask, place, keep=1, cache=cached(fixed, past))
        return logits[:, 0], State(taken(cache, fixed["mask"].shape[1]), fixed, at + 1)

    def look(self, memory: Stream, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L S"] | None:
        """Attention to the memory's tokens by way of the prefix, the mean over layers and heads, rows summing to 1."""
        tokens, mask, order, prefix = self._teacher(memory, ids, weigh=True)
        attention = self.core.config._attn_implementation
        self.core.set_attn_implementation("eager")  # the others do not give their weights
        try:
            out = self.core(inputs_embeds=tokens, attention_mask=mask.long(), output_attentions=True, use_cache=False,
                            **self._placed(_places(mask)))  # fmt: skip
        finally:
            self.core.set_attn_implementation(attention)
        seen = torch.stack([a[:, :, -ids.shape[1] :].mean(1) for a in out.attentions]).mean(0)  # [B L P]
        own = seen[:, :, : order.shape[1]] * mask[:, None, : order.shape[1]]
        spread = own.new_zeros(*own.shape[:2], len(self.before) + prefix.tokens.shape[1])
        spread = spread.scatter(2, order[:, None].expand_as(own), own)[:, :, len(self.before) :]
        spread = spread if prefix.weights is None else spread @ prefix.weights
        even = memory.mask[:, None] / memory.mask.sum(1).clamp(min=1)[:, None, None]
        total = spread.sum(2, keepdim=True)  # 0 beyond a sliding window
        return torch.where(total > 0, spread / total.clamp(min=torch.finfo(spread.dtype).tiny), even)

    def _teacher(self, memory: Stream, ids: Int[Tensor, "B L"], weigh: bool = False) -> tuple[Any, Any, Any, Prefix]:
        """All that is read at once: tokens [B T E], mask [B T]; and what `_before` says of the prefix."""
        self._check(ids.shape[1])
        tokens, mask, order, prefix = self._before(memory, weigh)
        tokens = torch.cat([tokens, self._embed(ids)], 1)
        return tokens, torch.cat([mask, mask.new_ones(ids.shape)], 1), order, prefix

    def _before(self, memory: Stream, weigh: bool = False) -> tuple[Any, Any, Any, Prefix]:
        """What stands before the words: padding, own first token, prefix, prompt. Tokens [B P E] and mask [B P]; which
        of first token and prefix stand where; the prefix in its own order."""
        prefix = self.map(memory.tokens, memory.mask, weigh)
        rows = len(prefix.mask)
        tokens = torch.cat([self._words(self.before, rows), prefix.tokens], 1)
        mask = torch.cat([prefix.mask.new_ones(rows, len(self.before)), prefix.mask], 1)
        room = tokens.shape[1] if self.positions is None else min(self.positions // 2, tokens.shape[1])
        mask = mask & (mask.cumsum(1) <= room)
        order = mask.int().argsort(dim=1, stable=True)[:, -room:]  # padding first, then the others as they stood
        mask = mask.gather(1, order)
        tokens = tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[2])) * mask[..., None]
        tokens = torch.cat([tokens, self._words(self.prompt, rows)], 1)
        return tokens, torch.cat([mask, mask.new_ones(rows, len(self.prompt))], 1), order, prefix

    def _read(
        self, tokens: Float[Tensor, "B T E"], mask: Bool[Tensor, "B _P"], places: Int[Tensor, "B T"] | None = None, *,
        keep: int, cache: Any = None,
    ) -> tuple[Float[Tensor, "B _L V"], Any]:  # fmt: skip
        """Logits of what follows the last `keep` tokens, and the cache with these tokens in it."""
        options = self._placed(_places(mask) if places is None else places)
        if "logits_to_keep" in self.accepts:
            options["logits_to_keep"] = keep
        out = self.core(inputs_embeds=tokens, attention_mask=mask.long(), past_key_values=cache,
                        use_cache=cache is not None, **options)  # fmt: skip
        return out.logits[:, -keep:, : self.size], cache

    def _placed(self, places: Int[Tensor, "B T"]) -> dict[str, Any]:
        """Models without positions of their own count what the mask shows."""
        return {"position_ids": places} if "position_ids" in self.accepts else {}

    def _embed(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L E"]:
        words = self.core.get_input_embeddings()(ids.clamp(max=self.size - 1))
        return torch.where((ids < self.size)[..., None], words, self.start((ids - self.size).clamp(min=0)))

    def _words(self, ids: Int[Tensor, " n"], rows: int) -> Float[Tensor, "{rows} n E"]:
        return self.core.get_input_embeddings()(ids.expand(rows, -1))

    def _check(self, longest: int) -> None:
        """Raise SpecError where there are not enough positions for the prompt and so many tokens."""
        if self.positions is not None and self.positions // 2 + len(self.prompt) + longest > self.positions:
            room = self.positions - self.positions // 2 - len(self.prompt)
            problem = f"the model has {self.positions} positions, of which {room} are left to speak in"
            raise SpecError("decoder.name", problem, given=longest, advice="shorter sentences, or another model")


def _places(mask: Bool[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    return (mask.cumsum(1) - 1).clamp(min=0)


def _ids(ids: list[int]) -> Int[Tensor, " n"]:
    return torch.tensor(ids, dtype=torch.long)


def _spelt(prompt: str, files: Path, own: bool) -> list[int]:
    """The prompt in the model's tokens. Raises SpecError where the model has no tokens of its own."""
    if prompt and own:
        raise SpecError("prompt", "is for a published model, which knows words", given=prompt, advice="leave it out")
    return Tokenizer.from_file(str(files / TOKENIZER)).encode(prompt, add_special_tokens=False).ids if prompt else []
