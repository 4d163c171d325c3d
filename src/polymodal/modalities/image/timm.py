"""Any network of timm (VGG, Inception, EfficientNet, ...)."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from polymodal.core.errors import RunError, SpecError, UserError
from polymodal.core.schema import Json, Wired
from polymodal.core.streams import Stream
from polymodal.modalities.image.pyramid import load_into, probe, stream, trim
from polymodal.modalities.pixels import Pixels

FACTS = "timm.json"
WHERE = "encoder.name"


class TimmImage(nn.Module):
    """Wightman, "PyTorch image models". The tokens are the network's features before pooling.

    Maps are there where the network gives its intermediate maps and their sizes are the picture's over a stride,
    rounded up. Parts that have no share in the features (VGG's two linear layers) are left out. Raises SpecError for
    unknown names and for pictures of a size that the network refuses, UserError when timm cannot be imported.
    """

    def __init__(self, *, field: Wired[dict], files: Wired[Path], name: str, pretrained: bool = True) -> None:
        super().__init__()
        self.pixels, self.name, self.wanted = Pixels(field), name, pretrained
        self.settings: dict[str, Any] = {"in_chans": self.pixels.channels, "num_classes": 0}
        if _facts(name, files)["fixed"]:
            self.settings["img_size"] = self.pixels.size
        try:
            seen = probe(self._build, self._run, self.pixels.channels, self.pixels.size)
        except (ValueError, RuntimeError, TypeError, AssertionError) as error:
            problem = f"does not take pictures of {field['size']} pixels: {(str(error) or 'too small').splitlines()[0]}"
            raise SpecError(WHERE, problem, given=name, advice="a larger size of the input") from None
        self.width, self.channels, self.strides, self.levels = seen.width, seen.channels, seen.strides, seen.levels
        self.model = self._build()
        trim(self.model, seen.idle, seen.spare)

    @staticmethod
    def wants(settings: Json, files: Path) -> Json:
        """Size and normalisation as the network was trained."""
        facts = _facts(settings["name"], files)
        return {"size": facts["size"], "channels": 3, "normalize": {"mean": facts["mean"], "std": facts["std"]}}

    def load_pretrained(self) -> None:
        """The published weights of `name`, when `pretrained` is set. Raises SpecError when they cannot be loaded."""
        if not self.wanted:
            return
        try:
            source = self._build(pretrained=True)
        except (OSError, RuntimeError, ValueError) as error:
            problem = (
                f"the weights of this network cannot be loaded: {(str(error) or 'no reason given').splitlines()[0]}"
            )
            raise SpecError(
                WHERE, problem, given=self.name, advice="pretrained: false, or a network connection"
            ) from None
        load_into(self.model, source)

    def forward(self, data: dict[str, Tensor]) -> Stream:
        picture = self.pixels(data["pixels"])
        last, maps = self._run(self.model, picture)
        return stream(picture, last, maps, self.levels)

    def _build(self, pretrained: bool = False) -> nn.Module:
        return _timm().create_model(self.name, pretrained=pretrained, **self.settings)

    @staticmethod
    def _run(model: Any, picture: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        if hasattr(model, "forward_intermediates"):
            last, maps = model.forward_intermediates(picture)
        else:
            last, maps = model.forward_features(picture), []
        if last.ndim == 4 and getattr(model, "output_fmt", "NCHW") == "NHWC":
            last = last.permute(0, 3, 1, 2)
        return last, maps


def _timm() -> Any:
    """The library, or a UserError that says what is in its way."""
    try:
        import timm
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # torchvision fails in all these ways
        advice = (
            'pip install "polymodal[timm]"; torchvision must be of the same build as torch (both CPU, or both CUDA)'
        )
        raise UserError("encoder.type", f"timm cannot be imported: {error}", given="timm", advice=advice) from None
    return timm


def _facts(name: str, files: Path) -> dict[str, Json]:
    """Size, mean and deviation of the network's training, and whether its size is fixed; kept in `files`."""
    path = files / FACTS
    if not path.exists():
        files.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_published(name), indent=1), encoding="utf-8")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(str(path), f"cannot be read: {error}", advice="train the run again") from None


def _published(name: str) -> dict[str, Json]:
    timm = _timm()
    try:
        known = timm.get_pretrained_cfg(name)
    except RuntimeError:  # no such tag
        known = None
    if known is None:
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        raise SpecError(WHERE, "timm has no network of this name", given=name,
                        advice=", ".join([*map(repr, near), "or one of timm.list_models()"]))  # fmt: skip
    return {"size": list(known.input_size[1:]), "mean": list(known.mean), "std": list(known.std),
            "fixed": bool(known.fixed_input_size)}  # fmt: skip
