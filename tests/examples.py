"""What a part of the catalogue needs to be tested by being listed: cells for its reader, settings its defaults lack;
and a model of a spec on a small table. A part that is not named here is built with its defaults.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from polymodal.assemble import Assembly, build, fit
from polymodal.core import catalog
from polymodal.core.checks import streams_like
from polymodal.core.contracts import Block
from polymodal.core.spec import PartSpec, parse
from polymodal.core.streams import Batch, Cells, Stream, Streams, Target
from polymodal.data.collate import collate
from polymodal.data.dataset import Dataset
from polymodal.data.ledger import Ledger
from polymodal.data.splits import Part
from polymodal.data.tables import open_table
from polymodal.tasks.alone import Alone, Probes
from polymodal.tasks.classify import Classify
from polymodal.tasks.regress import Regress
from polymodal.work.look import Ground, Look

Hub = Callable[[str], str]
RANDOM = np.random.default_rng(0)


def picture(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def sound(seconds: float) -> tuple[int, np.ndarray]:
    return 8000, RANDOM.normal(0, 0.1, round(8000 * seconds)).astype(np.float32)


def signal(steps: int) -> np.ndarray:
    return RANDOM.normal(2.0, 3.0, (steps, 3))


def clip(frames: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (frames, 20, 30, 3), dtype=np.uint8)


CELLS: dict[str, tuple[list, list]] = {  # by reader: four different cells that can be read, and some that cannot
    "image": ([picture(40, 30), picture(17, 23), picture(64, 64), picture(33, 8)], [b"", b"text", picture(9, 9)[:60]]),
    "text": (["the dog runs", "the cat", "a dog sleeps over the grass!", "狗"], [None, b"text", ["the", "dog"]]),
    "audio": ([sound(0.3), sound(0.11), sound(0.2), sound(0.05)], [b"", b"text", (8000, np.array([np.nan])), None]),
    "video": ([clip(9), clip(1), clip(3), (picture(30, 20), picture(20, 20))], [b"", b"text", clip(0), 3, None]),
    "series": (
        [signal(9), signal(1), b"1,2,3\n4,,6\n", signal(4).tolist()],
        [b"", b"text", signal(0), signal(3)[0], None],
    ),
    "tabular": (
        [{"n": 0.5, "c": "x"}, {"n": 2.5, "c": "y"}, {"n": None, "c": "x"}, {"n": "-1", "c": None}],
        [{"n": "one", "c": "x"}, {"n": 1.0, "c": ["x"]}, "text"],
    ),
}
TARGETS: dict[str, tuple[list, list]] = {  # by reader of targets, likewise
    "label": (["dog", "cat", "bird", "cat"], [None, ["dog"], float("nan")]),
    "labels": (["dog|cat", "", ["bird"], "cat"], [None, [["dog"]]]),
    "number": ([1.5, "20", -3, 4e2], [None, "n/a", "1,200"]),
    "sentences": (
        ["a red dog .", ["a red cat", "the cat"], '["a dog", "one dog"]', "the red dog"],
        [None, "", [" "], {1}],
    ),
    "answers": (["two dogs", ["yes", "no", "yes"], '["a cat", "cat"]', "cup, book"], [None, "", [], "the", b"yes"]),
    "anything": (["a", 1, {"a": 1}, b"x"], []),
    "item": (["a", 12, {"item": "12", "before_1.item": "a"}, "b"], [1.5, ["a"], b"a", True]),
    "group": (["a", 1, 1.0, True, "1", "a", 2.5], [None, ["a"], float("nan")]),
    "tags": (["B I O B I O", ["O"] * 6, '["B", "I", "I", "O", "B", "O"]', "O B I I O C"], [None, 3, [["B"]]]),
}
READING: dict[str, dict] = {  # settings of readers, to have small cells
    "image": {"size": [32, 24]},
    "text": {"min_count": 1},
    "audio": {"mels": 16},
    "video": {"size": [24, 16], "frames": 4},
    "series": {},
    "tabular": {"numeric": ["n"]},
}
SETTINGS: dict[tuple[str, str], dict] = {  # what has no default, and what keeps an encoder small
    ("reader", "tabular"): {"numeric": ["n"]},
    ("encoder.image", "cnn"): {"channels": (4, 8)},
    ("encoder.image", "resnet"): {"base": 4},
    ("encoder.image", "vit"): {"width": 24, "layers": 2},
    ("encoder.image", "hf"): {"name": "hub:image"},
    ("encoder.image", "timm"): {"name": "test_vit", "pretrained": False},
    ("encoder.text", "hf"): {"name": "hub:text"},
    ("encoder.video", "frames"): {"width": 8},
    ("encoder.video", "conv3d"): {"widths": (4, 8)},
    ("encoder.video", "hf"): {"name": "hub:video"},
    ("attention", "bidirectional"): {"heads": 2},
    ("attention", "co"): {"heads": 2},
    ("attention", "bottleneck"): {"heads": 2},
    ("attention", "perceiver"): {"heads": 2},
    ("fusion", "attention_pool"): {"heads": 2},
    ("fusion", "transformer"): {"heads": 2},
    ("fusion", "graph"): {"heads": 2},
    ("task", "mask"): {"input": "b"},
    ("task", "transcribe"): {"input": "a", "tokenizer": "word"},
    ("task", "tag"): {"input": "a"},
    ("task", "reply"): {"decoder": {"type": "gru", "dropout": 0.0}},
    ("task", "caption"): {"min_count": 1, "decoder": {"type": "gru", "dropout": 0.0}},
    ("decoder", "lm"): {
        "name": "gpt2",
        "pretrained": False,
        "config": {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 64},
    },
    ("baseline", "boosted_trees"): {"iterations": 10, "leaves": (2, 3)},
    ("baseline", "mel_svm"): {"strengths": (1.0, 10.0)},
    ("baseline", "frozen_trees"): {"iterations": 10, "smallest": 1},
}
SIZES = {
    ("encoder.image", "hf"): {"size": [32, 32]},
    ("encoder.image", "timm"): {"size": [32, 48]},
    ("encoder.video", "hf"): {"size": [32, 32]},
}


def settings(kind: str, name: str, hub: Hub) -> dict[str, Any]:
    """The settings of a part; `hub:` in them stands before what `hub` is asked for."""
    plain = SETTINGS.get((kind, name), {})
    return {k: hub(v[4:]) if isinstance(v, str) and v.startswith("hub:") else v for k, v in plain.items()}


def reading(kind: str, name: str) -> dict[str, Any]:
    """The settings of the reader before an encoder."""
    return READING[kind.removeprefix("encoder.")] | SIZES.get((kind, name), {})


def tensors(samples: list, ragged: frozenset[str] = frozenset()) -> dict[str, torch.Tensor]:
    return {k: torch.from_numpy(v) for k, v in collate(samples, ragged).items()}


def encoder(name: str, kind: str, files: Path, hub: Hub) -> tuple[Any, dict[str, torch.Tensor]]:
    """A function that builds the encoder, and the cells of its modality, a blank one among them."""
    modality, chosen = kind.removeprefix("encoder."), settings(kind, name, hub)
    cells = CELLS[modality][0]
    wanted: Any = catalog.load(kind, name, "encoder.type")
    reader = build(PartSpec("reader", modality, {**wanted.wants(chosen, files), **reading(kind, name)}, "input"))
    field = reader.fit(iter(cells))
    data = tensors([*(reader(cell) for cell in cells), reader.blank()], reader.ragged)
    return lambda: build(PartSpec(kind, name, chosen, "encoder"), field=field, files=files), data


def decoder(name: str, files: Path, hub: Hub) -> tuple[Any, int, int, int]:
    """A function that builds the decoder, and the memory's width, the tokens and the starts that it is built with."""
    chosen, width, size, starts = settings("decoder", name, hub), 8, 11, 2
    part: Any = catalog.load("decoder", name, "decoder.type")
    if hasattr(part, "wants"):
        part.wants(chosen, files)
    wired = {"width": width, "size": size, "starts": starts, "files": files}
    return lambda: build(PartSpec("decoder", name, chosen, "decoder"), **wired), width, size, starts


def task(name: str) -> tuple[Any, Streams, Stream, Target, dict[str, Cells]]:
    """A function that builds the task, two inputs' streams (one with maps of odd sizes), targets of most rows, and the
    cells that the streams come from: pictures, and a text of three tokens or fewer."""
    chosen, width = SETTINGS.get(("task", name), {}), 6
    part: Any = catalog.load("task", name, "task.type")
    target, wanted = part.target(chosen, Path())
    reader, cells = build(PartSpec("target", target, wanted, "task.reader")), TARGETS[target][0]
    field = reader.fit(iter(cells))
    samples = [reader.blank() if cell is None else reader(cell) for cell in [*cells, None, cells[0], None]]
    rows = len(samples)
    g = torch.Generator().manual_seed(0)
    pixels = tuple(torch.randn(rows, c, h, w, generator=g) for c, h, w in ((3, 9, 7), (4, 5, 4), (8, 3, 2)))
    mask = torch.arange(3) < torch.randint(1, 4, (rows, 1), generator=g)
    streams = {
        "a": Stream(pixels[2].flatten(2).transpose(1, 2)[..., :width], torch.ones(rows, 6, dtype=torch.bool), pixels),
        "b": Stream(torch.randn(rows, 3, width, generator=g) * mask[..., None], mask),
    }
    present = torch.tensor([True] * len(cells) + [False, True, False])
    text: Any = build(PartSpec("reader", "text", {"min_count": 1}, "input"))
    words = torch.randint(2, text.fit(["one two three four five six seven"])["size"], mask.shape, generator=g)
    each = torch.arange(rows)
    inputs = {
        "a": Cells({"pixels": pixels[0]}, each[:, None], each + 100),
        "b": Cells({"ids": words * mask, "ids_mask": mask}, each[:, None], each + 200),
    }
    wired = {"field": field, "width": width, "width_in": width, "inputs": tuple(streams), "files": Path()}
    wired |= {"fields": {"a": {}, "b": text.field}}
    wired |= {"size": field["size"], "starts": len(field["languages"])} if "languages" in field else {}
    return (
        lambda: build(PartSpec("task", name, chosen, "task"), **wired),
        streams,
        streams["b"],
        Target(tensors(samples), present),
        inputs,
    )


def probes(inputs: tuple[str, ...], width: int) -> Probes:
    """Heads of a classification and a regression for every input by itself."""
    wired = {"field": {"classes": ["p", "q", "r"], "counts": [1, 2, 1], "rows": 4}, "width": width}
    label = Alone({n: Classify(inputs=(n,), **wired) for n in inputs})
    number = {"field": {"mean": 0.0, "std": 1.0, "log": False}, "width": width}
    return Probes({"y": label, "z": Alone({n: Regress(inputs=(n,), **number) for n in inputs})}, {"y": 1.0, "z": 0.5})


def learning() -> tuple[Streams, dict[str, Target]]:
    """Streams of the three inputs `a`, `b`, `c.d` and targets for `probes`, of which some are not known."""
    targets = {
        "y": Target({"class": torch.tensor([0, 2, -1, 1])}, torch.tensor([True, True, False, True])),
        "z": Target({"value": torch.tensor([0.5, -1.0, 0.0, 2.0])}, torch.tensor([True, False, True, True])),
    }
    return streams_like(("a", "b", "c.d"), 6), targets


def baseline(name: str, files: Path) -> tuple[Any, Block]:
    """A function that builds the baseline, and sixteen rows of all inputs that the built-in readers read."""
    cells = {n: [good[i % 4] for i in range(16)] for n, (good, _) in CELLS.items()}
    rows: dict[str, list] = {n: cells[n] for n in ("image", "text", "audio")}
    rows |= {column: [record[column] for record in cells["tabular"]] for column in ("n", "c")}
    for number, column in enumerate(rows):
        rows[column] = [None if i % 5 == number else cell for i, cell in enumerate(rows[column])]
    inputs: dict[str, Any] = {n: {"type": n, "column": n, **READING[n]} for n in ("image", "text", "audio")}
    inputs |= {"table": {"type": "tabular", "columns": ["n", "c"], **READING["tabular"]}}
    plain = {"inputs": inputs, "fusion": "concat", "tasks": {"y": "classify"}}
    assembly, dataset = assembled(plain, {**rows, "y": list("pq" * 8)}, files)
    ground = Ground(assembly.spec, assembly.readers, assembly.targets, files)
    part = PartSpec("baseline", name, SETTINGS.get(("baseline", name), {}), "baseline")
    wired = {"seed": 0, "types": ground.types, "fields": ground.fields}
    return lambda: build(part, **wired), Look(ground, {}).block(dataset, load(dataset))


def assembled(plain: dict, rows: dict[str, list], files: Path) -> tuple[Assembly, Dataset]:
    """The model of a spec with readers fitted on these rows, and the rows as it reads them."""
    part = Part(open_table(rows), np.arange(len(next(iter(rows.values())))))
    assembly = fit(parse(plain), part, files)
    return assembly, assembly.dataset(part, Ledger(), targets=True)


def load(dataset: Dataset, rows: list[int] | None = None, **options: Any) -> Batch:
    """These rows, or all of them, of which none may be bad."""
    batch, bad = dataset.load(dataset.rows if rows is None else np.array(rows), **options)
    assert batch is not None
    assert not bad
    return batch
