"""Any video encoder of transformers that reads a fixed number of frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from polymodal.core import catalog
from polymodal.core.errors import SpecError
from polymodal.core.pretrained import changed, stored_config, weights
from polymodal.core.schema import Json, Wired
from polymodal.core.streams import Stream
from polymodal.modalities.pixels import Pixels
from polymodal.modalities.video.encode import take

WHERE = "encoder.name"


class HFVideo(nn.Module):
    """VideoMAE, TimeSformer, ViViT and others, by hub name or folder; or by model type, without published weights.

    Every clip is brought to the number of frames that the network reads: the middles of as many equal stretches, so
    that frames of a shorter clip repeat. `tokens`: the last hidden state, one token per patch of space and time (and
    a class token, where there is one), or their mean. The configuration, changed by `config`, is read from `files`
    only. Poolers are left out. Raises SpecError for what is no video encoder and for frames that it refuses.
    """

    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    def __init__(
        self,
        *,
        field: Wired[dict],
        files: Wired[Path],
        name: str,
        pretrained: bool = True,
        config: dict[str, Json] | None = None,
        tokens: Literal["all", "mean"] = "all",
    ) -> None:
        super().__init__()
        self.pixels, self.name, self.wanted, self.tokens = Pixels(field), name, pretrained, tokens
        self.settings = changed(stored_config(files), config)  # not `config`: peft would take this for their model
        self.frames = _frames(self.settings, name)
        self.model = _build(self.settings)
        self.width = _tried(self.settings, self.frames, field, name)

    @staticmethod
    def wants(settings: Json, files: Path) -> Json:
        """Frames, size, channels and normalisation as the network was trained; keeps its configuration in `files`."""
        pictures: Any = catalog.load("encoder.image", "hf", WHERE)
        wanted = pictures.wants(settings, files)
        frames = _frames(changed(stored_config(files), settings.get("config")), settings["name"])
        return {**wanted, "frames": frames}

    def load_pretrained(self) -> None:
        """The published weights of `name`, when `pretrained` is set. Raises SpecError when they cannot be found."""
        if self.wanted:
            found = weights(type(self.model), self.name, self.settings, WHERE).state_dict()
            self.model.load_state_dict({name: found[name] for name in self.model.state_dict()})

    def forward(self, data: dict[str, Tensor]) -> Stream:
        frames = take(data["frames"], stretched(data["frames_mask"], self.frames))
        states = self.model(pixel_values=self.pixels(frames)).last_hidden_state
        states = states.mean(1, keepdim=True) if self.tokens == "mean" else states
        return Stream(states, torch.ones(states.shape[:2], dtype=torch.bool, device=states.device))


def stretched(mask: Bool[Tensor, "N T"], count: int) -> Int[Tensor, "N {count}"]:
    """The numbers of the real frames in the middle of `count` equal stretches of each row."""
    length = mask.sum(1, keepdim=True).clamp(min=1)
    twice = 2 * torch.arange(count, device=mask.device) + 1
    return twice * length // (2 * count)


def _frames(config: Any, name: str) -> int:
    frames = getattr(config, "num_frames", None)
    if not isinstance(frames, int):
        raise SpecError(WHERE, f"{type(config).__name__} is no video encoder that reads a fixed number of frames",
                        given=name, advice="VideoMAE, TimeSformer or ViViT; of pictures: type: frames")  # fmt: skip
    return frames


def _build(config: Any) -> nn.Module:
    from transformers import AutoModel

    model = AutoModel.from_config(config, dtype=torch.float32)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


def _tried(config: Any, frames: int, field: dict, name: str) -> int:
    """The width of the last hidden state, from a run without values. Raises SpecError where these frames do not fit."""
    try:
        with torch.device("meta"):
            clips = torch.zeros(2, frames, field["channels"], *field["size"])
            return int(_build(config)(pixel_values=clips).last_hidden_state.shape[2])
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        reason = (str(error) or "no reason given").splitlines()[0]
        problem = f"does not take {field['channels']} channel(s) of {field['size']} pixels: {reason}"
        size = getattr(config, "image_size", None)
        raise SpecError(WHERE, problem, given=name, advice=f"size: {size} of the input") from None
