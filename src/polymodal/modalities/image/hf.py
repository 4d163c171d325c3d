"""Any vision backbone of transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polymodal.core.errors import SpecError
from polymodal.core.pretrained import changed, fetch_config, is_model_type, stored_config, weights
from polymodal.core.schema import Json, Wired
from polymodal.core.streams import Stream
from polymodal.modalities.image.pyramid import load_into, probe, stream, trim
from polymodal.modalities.pixels import Pixels

PREPROCESSOR = "preprocessor_config.json"
WHERE = "encoder.name"


class HFImage(nn.Module):
    """ResNet, ViT, ConvNeXt, DINOv2, Swin, the picture half of CLIP and others, by hub name or folder.

    The tokens are the last hidden state, or the places of the last map; maps are there where the network has maps. The
    configuration, changed by `config`, is read from `files` only. Parts that have no share in the last hidden state
    (poolers) are left out. Raises SpecError for unknown names and for pictures of a size that the network refuses.
    """

    def __init__(
        self,
        *,
        field: Wired[dict],
        files: Wired[Path],
        name: str,
        pretrained: bool = True,
        config: dict[str, Json] | None = None,
    ) -> None:
        super().__init__()
        from transformers import AutoModel

        self.pixels, self.name, self.wanted = Pixels(field), name, pretrained
        self.settings = _changed(stored_config(files), config)  # not `config`: peft would take this for their model
        self.grid = _patch_grid(self.settings, self.pixels.size)
        self.deep = True
        try:
            seen = probe(lambda: _build(AutoModel, self.settings), self._run, self.pixels.channels, self.pixels.size)
        except (ValueError, RuntimeError, TypeError, AttributeError) as error:
            raise _refused(field, self.settings, name, error) from None
        self.width, self.channels, self.strides, self.levels = seen.width, seen.channels, seen.strides, seen.levels
        self.deep = bool(self.levels) and self.grid is None
        self.model = _build(AutoModel, self.settings)
        trim(self.model, seen.idle, seen.spare)

    @staticmethod
    def wants(settings: Json, files: Path) -> Json:
        """Size, channels and normalisation as the network was trained; keeps its configuration in `files`."""
        name, changes = settings["name"], settings.get("config")
        config = _changed(fetch_config(name, files, WHERE), changes)
        facts = _preprocessing(name, files)
        channels = getattr(config, "num_channels", 3)
        wanted: dict[str, Json] = {"channels": channels} if channels in (1, 3) else {}
        size = _size(config, facts) if "image_size" not in (changes or {}) else _sides(config.image_size)
        wanted |= {"size": size} if size else {}
        mean, std = facts.get("image_mean"), facts.get("image_std")
        if facts.get("do_normalize", True) is False:
            wanted["normalize"] = "none"
        elif isinstance(mean, list) and isinstance(std, list) and len(mean) == len(std) == channels:
            wanted["normalize"] = {"mean": mean, "std": std}
        return {**wanted, "resize": "crop"} if facts.get("do_center_crop") else wanted

    def load_pretrained(self) -> None:
        """The published weights of `name`, when `pretrained` is set. Raises SpecError when they cannot be found."""
        if self.wanted:
            load_into(self.model, weights(type(self.model), self.name, self.settings, WHERE))

    def forward(self, data: dict[str, Tensor]) -> Stream:
        picture = self.pixels(data["pixels"])
        last, maps = self._run(self.model, picture)
        return stream(picture, last, maps, self.levels)

    def _run(self, model: nn.Module, picture: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        output = model(pixel_values=picture, output_hidden_states=self.deep)
        last = output.last_hidden_state
        places = self.grid[0] * self.grid[1] if self.grid is not None else 0  # after the class token and registers
        if self.grid is not None and last.ndim == 3 and places <= last.shape[1]:
            return last, (last[:, -places:].transpose(1, 2).unflatten(2, self.grid),)
        states = (output.get("reshaped_hidden_states") or output.hidden_states) if self.deep else ()
        return last, [s for s in states if s.ndim == 4]


def _build(auto: Any, config: Any) -> nn.Module:
    return auto.from_config(config, dtype=torch.float32)


def _changed(config: Any, changes: dict[str, Json] | None) -> Any:
    """The configuration of the picture part, with the user's changes."""
    return changed(getattr(config, "vision_config", config), changes)


def _patch_grid(config: Any, size: tuple[int, int]) -> tuple[int, int] | None:
    """The grid of patches, for networks that keep one grid from end to end."""
    patch = getattr(config, "patch_size", None)
    flat = getattr(config, "num_hidden_layers", None) is not None and not hasattr(config, "depths")
    return (size[0] // patch, size[1] // patch) if flat and isinstance(patch, int) else None


def _preprocessing(name: str, files: Path) -> dict[str, Json]:
    """The facts of `preprocessor_config.json`, {} where there is none; kept in `files`."""
    path = files / PREPROCESSOR
    if not path.exists():
        from transformers.utils import cached_file

        try:
            found = None if is_model_type(name) else cached_file(name, PREPROCESSOR)
            facts = json.loads(Path(found).read_text(encoding="utf-8")) if found else {}
        except (OSError, ValueError):
            facts = {}
        path.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def _size(config: Any, facts: dict[str, Json]) -> list[int] | None:
    cropped = facts.get("crop_size") if facts.get("do_center_crop") else None
    return _sides(cropped) or _sides(facts.get("size")) or _sides(getattr(config, "image_size", None))


def _sides(value: Json) -> list[int] | None:
    """[height, width] of any of the ways in which a size is written."""
    if isinstance(value, dict):
        value = [value["height"], value["width"]] if {"height", "width"} <= set(value) else value.get("shortest_edge")
    return [value, value] if isinstance(value, int) else list(value) if value else None


def _refused(field: dict, config: Any, name: str, error: Exception) -> SpecError:
    size = _sides(getattr(config, "image_size", None))
    reason = (str(error) or "no reason given").splitlines()[0]
    problem = f"does not take {field['channels']} channel(s) of {field['size']} pixels: {reason}"
    advice = f"size: {size} of the input" if size else "another size of the input"
    return SpecError(WHERE, problem, given=name, advice=advice)
