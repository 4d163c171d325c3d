"""A picture encoder for every frame, then what goes over time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Int, Real
from torch import Tensor, nn

from polymodal.core import catalog
from polymodal.core.schema import Chance, Json, PartKind, Positive, Wired
from polymodal.core.spec_parts import read_part
from polymodal.core.streams import Stream, pool
from polymodal.modalities.video.over import Over, Tokens, over_time

WHERE = "encoder.picture"
USUAL = {"channels": (16, 32, 64), "head": "flatten", "dense": 128}


class VideoFrames(nn.Module):
    """Every frame through one picture encoder, its tokens' mean as the frame's vector; then `over` the frames.

    `none`: a token per frame; `mean`, `max`: one token; `rnn`, `lstm`, `gru` (CNN -> RNN; Donahue et al., "Long-term
    recurrent convolutional networks", 2015) and `transformer`: a token per frame that knows the others, or with
    `tokens` their mean, or where each direction of a recurrent net ends (`last`). `width`, `layers`, `bidirectional`,
    `heads` and `dropout` are those of the part over time.

    `picture` is any encoder of pictures; a small CNN when not given. Its cost times T, and
    that of the part over time. Padding takes no part in any answer; before the picture encoder it is filled with the
    clip's own frames from the beginning, so that batch normalisation in training sees none but real ones.
    """

    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()

    def __init__(
        self,
        *,
        field: Wired[dict],
        picture: Annotated[Any, PartKind("encoder.image")] = None,
        over: Over = "gru",
        width: Positive = 128,
        layers: Positive = 1,
        bidirectional: bool = True,
        heads: Positive = 4,
        dropout: Chance = 0.0,
        tokens: Tokens = "all",
    ) -> None:
        super().__init__()
        usual: Any = catalog.load("encoder.image", "cnn", WHERE)
        self.picture = usual(field=field, **USUAL) if picture is None else picture
        self.over = over_time(
            over, self.picture.width, width=width, layers=layers, bidirectional=bidirectional, heads=heads,
            dropout=dropout, tokens=tokens,
        )  # fmt: skip
        self.width = self.over.width

    @staticmethod
    def wants(settings: Json, files: Path) -> Json:
        """What the picture encoder wants: its size, channels and normalisation hold for frames too."""
        if settings.get("picture") is None:
            return {}
        part = read_part(settings["picture"], "encoder.image", WHERE)
        picture: Any = catalog.load(part.kind, part.type, f"{WHERE}.type")
        return picture.wants(part.settings, files)

    def load_pretrained(self) -> None:
        """The published weights of the picture encoder, where it has some."""
        if hasattr(self.picture, "load_pretrained"):
            self.picture.load_pretrained()

    def forward(self, data: dict[str, Tensor]) -> Stream:
        frames, mask = data["frames"], data["frames_mask"]
        seen = self.picture({"pixels": take(frames, around(mask)).flatten(0, 1)})
        vectors = pool(seen.tokens, seen.mask).unflatten(0, mask.shape)
        return self.over({"vectors": vectors, "vectors_mask": mask})


def around(mask: Bool[Tensor, "N T"]) -> Int[Tensor, "N T"]:
    """Numbers of real frames: each row's own from the beginning, over and over."""
    here = torch.arange(mask.shape[1], device=mask.device)
    return here % mask.sum(1, keepdim=True).clamp(min=1)


def take(frames: Real[Tensor, "N T C H W"], numbers: Int[Tensor, "N S"]) -> Real[Tensor, "N S C H W"]:
    """The frames of each row by their numbers."""
    return frames.gather(1, numbers[:, :, None, None, None].expand(-1, -1, *frames.shape[2:]))
