"""How well sentences fit their pictures, judged by an aligned model that took no part in saying them."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageOps

from polymodal.assemble import Assembly
from polymodal.core.errors import BadCell, SpecError
from polymodal.data.dataset import Dataset
from polymodal.data.ledger import Ledger
from polymodal.data.splits import Part
from polymodal.modalities.image.pictures import convert, open_picture
from polymodal.modalities.image.read import ImageReader
from polymodal.tasks.language import clipscore
from polymodal.tasks.sentences import Sentences
from polymodal.work.evaluation import Evaluation
from polymodal.work.intervals import intervals


def add_clip(assembly: Assembly, found: Evaluation, part: Part, name: str) -> None:
    """Add CLIPScore and RefCLIPScore of every task that says sentences, for rows that have the run's first picture.

    `name` is a folder or hub name of a model with one space for pictures and texts. Sentences are those of the first
    language, as they were predicted. Raises SpecError for a run without pictures or without sentences.
    """
    pictures = [n for n, reader in assembly.readers.items() if isinstance(reader, ImageReader)]
    spoken = [n for n in found.tasks if isinstance(assembly.targets.get(n), Sentences)]
    if not pictures or not spoken:
        lacking = "pictures" if not pictures else "a task that says sentences"
        raise SpecError("clip", f"this run lacks {lacking}", given=name, advice="leave it out")
    judge = clipscore.Aligned(name, where="clip")
    dataset = assembly.dataset(part, Ledger(), targets=True)
    for task in spoken:
        result = found.tasks[task]
        seen = [(at, picture) for at, row in enumerate(result.rows.tolist())
                if (picture := _picture(dataset, pictures[0], row)) is not None]  # fmt: skip
        reader: Any = assembly.targets[task]
        truths = [_references(dataset, reader, task, int(result.rows[at])) for at, _ in seen]
        said = [str(result.predictions[at].value) for at, _ in seen]
        records = clipscore.records(judge, [picture for _, picture in seen], said, truths)
        records["error"] = -records["clip_score"]
        result.measures |= intervals(clipscore.measure, records, assembly.spec.train.seed)


def _picture(dataset: Dataset, name: str, row: int) -> np.ndarray | None:
    source = dataset.inputs[name]
    raw = source.raw(row, 0)
    try:
        if raw is None:
            return None
        opened = open_picture(source.opened(raw), source.reader.max_pixels)
        return np.asarray(convert(_upright(opened), 3))
    except BadCell:
        return None


def _upright(picture: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(picture) or picture


def _references(dataset: Dataset, reader: Sentences, task: str, row: int) -> list[str]:
    """The row's sentences in the first language."""
    assert reader.field is not None
    source = dataset.targets[task]
    found = reader.references(source.opened(source.raw(row, 0)), reader.field["languages"])
    return [one.text for one in found if one.language == 0]
