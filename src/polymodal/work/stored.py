"""What a finished run holds, read only after its sha256 was compared with the manifest's."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from torch import Tensor

from polymodal.core import spec as specs
from polymodal.core import yaml12
from polymodal.core.schema import Json
from polymodal.core.spec import Spec
from polymodal.work import folder as folders

WEIGHTS = "weights.safetensors"


class Stored:
    """A finished run folder. Raises RunError where it is none, or damaged, and SpecError for a spec that is not right.

    Nothing of it is code, and no part that it names is imported.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hashes: dict[str, str] = folders.manifest(folder)["files"]

    @cached_property
    def spec(self) -> Spec:
        text = folders.read_bytes(self.folder / "spec.yaml", self._hash("spec.yaml")).decode()
        return specs.parse(yaml12.loads(text, str(self.folder / "spec.yaml")))

    @cached_property
    def fields(self) -> Json:
        """What its readers learned, as `assemble.fields_of` gives it."""
        return folders.read_json(self.folder / "readers.json", self._hash("readers.json"))

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        return folders.read_tensors(self.folder / WEIGHTS, self._hash(WEIGHTS))

    @property
    def weights_hash(self) -> str:
        return self._hash(WEIGHTS)

    def parts(self, under: str = "") -> dict[str, bytes]:
        """The files of pretrained parts in this folder of `parts`, by their path in it."""
        begins = f"parts/{under}"
        return {name.removeprefix(begins): folders.read_bytes(self.folder / name, digest)
                for name, digest in self.hashes.items() if name.startswith(begins)}  # fmt: skip

    def _hash(self, name: str) -> str:
        return self.hashes.get(name, "")
