"""A vision-language model of transformers as somebody to talk to: pictures and words in turns, by its chat template."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from polymodal.core.catalog import need
from polymodal.core.errors import UserError
from polymodal.core.pretrained import find_config, is_model_type, weights
from polymodal.core.seeds import derive
from polymodal.work.chat.partner import Manner, Slot, Tell, existing
from polymodal.work.runtime import Runtime

WHERE = "--model"
ADVICE = "a vision-language model: SmolVLM, Idefics, Qwen-VL, LLaVA and their kin"
TOKENS = 256  # of an answer, when nothing else is said


class VisionPartner:
    """SmolVLM and Idefics3, Qwen2-VL and 2.5-VL, LLaVA and others, by hub name or folder.

    A picture belongs to the turn that follows; all turns so far stand before the next question. Weights are read from
    safetensors only, and code from a hub is never run. On a CPU it computes in fp32, elsewhere as it was saved. Raises
    UserError for a name without such a model, and for a conversation that is longer than it can read.
    """

    wants_words = True

    def __init__(self, name: str, runtime: Runtime, manner: Manner) -> None:
        need("transformers", f"the model {name!r}", WHERE)
        from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoModelForImageTextToText

        config = find_config(name, WHERE)
        if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING or is_model_type(name):
            raise UserError(WHERE, f"is no model that reads pictures and says words ({config.model_type})", given=name,
                            advice=ADVICE)  # fmt: skip
        self.processor = processor(name, config)
        self.longest = getattr(config.get_text_config(), "max_position_embeddings", None)
        model = weights(AutoModelForImageTextToText, name, config, WHERE)
        self.model: Any = (model.float() if runtime.device.type == "cpu" else model).to(runtime.device)
        self.runtime, self.manner = runtime, manner
        self.turns: list[dict[str, Any]] = []
        self.pictures: list[tuple[str, Image.Image]] = []

    def slots(self) -> list[Slot]:
        return [Slot("picture", "image", True, ", ".join(path for path, _ in self.pictures))]

    def attach(self, what: str, name: str | None = None) -> Slot:
        """A picture for the next turn; several are allowed, under any name."""
        path = existing(what)
        self.pictures.append((path, _opened(path)))
        return Slot("picture", "image", True, path)

    def clear(self) -> None:
        self.turns, self.pictures = [], []

    @torch.inference_mode()
    def answer(self, line: str, tell: Tell) -> None:
        """The next turn. An answer that is broken off is remembered as far as it came."""
        if not line and not self.pictures:
            raise UserError("chat", "nothing is attached and nothing asked", advice="a question, or /attach cat.jpg")
        words = [{"type": "text", "text": line}] if line else []
        content = [{"type": "image", "image": picture} for _, picture in self.pictures] + words
        turns = [*self.turns, {"role": "user", "content": content}]
        inputs = self._inputs(turns)
        streamer = _streamer(self.processor.tokenizer, tell)
        try:
            self._generate(inputs, streamer, derive(self.manner.seed, "chat", len(turns)))
        except KeyboardInterrupt:
            self._remember(turns, streamer.told)
            raise
        self._remember(turns, streamer.told)

    def _generate(self, inputs: Any, streamer: Any, seed: int) -> None:
        """The global random state, which transformers draws from, is left as it was."""
        device = self.runtime.device
        with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
            self.runtime.seed(seed)
            self.model.generate(**inputs, streamer=streamer, generation_config=self._how())

    def _remember(self, turns: list[dict[str, Any]], told: list[str]) -> None:
        said = {"type": "text", "text": "".join(told).strip()}
        self.turns, self.pictures = [*turns, {"role": "assistant", "content": [said]}], []

    def _inputs(self, turns: list[dict[str, Any]]) -> Any:
        """The conversation as the model reads it. Raises UserError."""
        try:
            inputs = self.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=True,
                                                        return_dict=True, return_tensors="pt")  # fmt: skip
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(WHERE, f"its chat template cannot be used: {reason}", advice=ADVICE) from None
        length, room = inputs["input_ids"].shape[1], self.manner.max_tokens or TOKENS
        if self.longest is not None and length + room > self.longest:
            problem = f"the conversation has {length} tokens, and with the answer the model reads {self.longest}"
            raise UserError("chat", problem, advice="/clear, or a smaller --max-tokens")
        return inputs.to(self.runtime.device, dtype=self.model.dtype)

    def _how(self) -> Any:
        """The model's own special tokens; nothing else of how it would answer by itself."""
        from transformers import GenerationConfig

        own, manner = self.model.generation_config, self.manner
        ids = {name: getattr(own, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        if ids["eos_token_id"] is None:
            ids["eos_token_id"] = self.processor.tokenizer.eos_token_id
        if ids["pad_token_id"] is None:
            end = ids["eos_token_id"]
            ids["pad_token_id"] = end[0] if isinstance(end, list) else end
        drawn = {"temperature": manner.temperature or 1.0, "top_p": manner.top_p or 1.0, "top_k": 0}
        return GenerationConfig(max_new_tokens=manner.max_tokens or TOKENS, do_sample=manner.drawn, **ids,
                                **(drawn if manner.drawn else {}))  # fmt: skip


def processor(name: str, config: Any) -> Any:
    """The model's processor; where that of clips cannot load (it wants torchvision), the one of pictures alone."""
    from transformers import PROCESSOR_MAPPING, AutoProcessor, Idefics3Processor

    try:
        return AutoProcessor.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        lines = str(error).strip().splitlines()
        refused = UserError(WHERE, f"its processor cannot be loaded: {lines[0] if lines else type(error).__name__}",
                            given=name, advice=ADVICE)  # fmt: skip
    try:
        own: Any = PROCESSOR_MAPPING[type(config)]
        own = Idefics3Processor if own.__name__ == "SmolVLMProcessor" else own  # the same for pictures
        return _of_pictures(own).from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError):
        raise refused from None


def _of_pictures(cls: Any) -> Any:
    """The processor's class without what it needs for clips."""
    kept = [attribute for attribute in cls.get_attributes() if attribute != "video_processor"]
    return type(cls.__name__, (cls,), {"get_attributes": classmethod(lambda _: kept)})


def _streamer(tokenizer: Any, tell: Tell) -> Any:
    """Tells every piece of text as soon as it is whole, and keeps it in `told`."""
    from transformers import TextStreamer

    class Streamer(TextStreamer):
        def __init__(self) -> None:
            super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
            self.told: list[str] = []

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            self.told.append(text)
            tell(text)

    return Streamer()


def _opened(path: str) -> Image.Image:
    """The picture as it is meant to be looked at, in RGB. Raises UserError."""
    try:
        with Image.open(path) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        reason = "is no picture" if isinstance(error, UnidentifiedImageError) else f"cannot be read: {error}"
        raise UserError(path, reason, advice="a JPEG, PNG, WebP or another picture") from None
