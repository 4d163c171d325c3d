"""Polymodal on one table, with the flags of the other tools' scripts (see README.md beside this file).

    python benchmarks/rivals/polymodal_run.py --table T/table.csv --root T --image image --text text --target label \\
        --split-column fold --test 0 --epochs 1 --settings own --out run.json

`--settings equal` trains as the plain loop does; `own` as the project would by itself: the same model, rows, epochs,
batch and learning rate, but bf16 arithmetic, pictures with the channels last and batches of texts of like length.

`fit_s` ends when the best epoch's weights are on the disk and in the model: reading the table and the pictures, fitting
the readers, training, scoring every epoch, a checkpoint with the optimiser's state after every epoch. `whole_s` goes
on to the sealed run folder: intervals, withheld inputs, report, model card. Only the standard library is imported at
the top, so that the import of the tool can be timed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PART = "part_of_the_rows"  # the column that says which rows choose the best epoch
PACKAGES = ("polymodal", "torch", "transformers", "pandas")
OWN = {"precision": "bf16", "channels_last": True, "buckets": True}


def parse(given: list[str] | None = None) -> argparse.Namespace:
    """The flags; from here on the process has `--threads` threads and no network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--table", "--root", "--target", "--split-column", "--test", "--out"):
        parser.add_argument(name, required=True)
    for name in ("--image", "--numeric", "--category"):
        parser.add_argument(name, type=lambda text: [c for c in text.split(",") if c], default=[])
    parser.add_argument("--text", default="")
    parser.add_argument("--task", choices=("classify", "regress"), default="classify")
    for name, value in {"epochs": 3, "size": 64, "batch": 32, "threads": 2, "seed": 0, "text-length": 32}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--settings", choices=("equal", "own"), default="equal")
    args = parser.parse_args(given)
    os.environ |= {f"{name}_NUM_THREADS": str(args.threads) for name in ("OMP", "MKL", "OPENBLAS")}
    os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return args


def rows(args: argparse.Namespace) -> tuple[Any, Any, Any]:
    """The frames to fit, to choose the epoch, and to test: the same rows that the other tools get.

    Test rows are those whose split column equals `--test`; a tenth of the others, drawn by scikit-learn with the seed
    and in the proportion of the classes, chooses the epoch. A regression target is its natural logarithm.
    """
    import numpy as np
    import pandas as pd
    from sklearn.model_selection import train_test_split

    frame = pd.read_csv(args.table)
    testing = frame[args.split_column].astype(str) == args.test
    words = [*([args.text] if args.text else []), *args.category]
    frame = frame[[*args.image, *words, *args.numeric, args.target]].copy()
    root = Path(args.root).resolve()
    for column in args.image:
        frame[column] = [str(root / path) for path in frame[column]]
    for column in words:
        frame[column] = ["missing" if pd.isna(value) else str(value) for value in frame[column]]
    classes = args.task == "classify"
    frame[args.target] = frame[args.target].astype(str) if classes else np.log(frame[args.target].astype(float))
    known, test = frame[~testing], frame[testing]
    proportions = known[args.target] if classes else None
    fit, valid = train_test_split(known, test_size=0.1, random_state=args.seed, stratify=proportions)
    return fit, valid, test


def spec(args: argparse.Namespace) -> dict[str, Any]:
    """The plain loop's model and training, as near as the parts allow; README.md says what differs."""
    inputs: dict[str, Any] = {}
    if args.image:
        encoder = {"type": "resnet", "depth": 18, "stem": "large", "tokens": "mean"}
        inputs["pictures"] = {"type": "image", "columns": args.image, "size": args.size, "normalize": "imagenet",
                              "encoder": encoder}  # fmt: skip
    if args.text:
        inputs["words"] = {"type": "text", "column": args.text, "max_tokens": args.text_length,
                           "encoder": {"type": "hf", "name": "minilm", "pool": "mean"}}  # fmt: skip
    if args.numeric or args.category:
        inputs["record"] = {"type": "tabular", "columns": [*args.numeric, *args.category], "numeric": args.numeric,
                            "categorical": args.category,
                            "encoder": {"type": "mlp", "width": 32, "layers": 1, "embed": 16}}  # fmt: skip
    train = {"epochs": args.epochs, "batch": args.batch, "lr": args.lr, "weight_decay": 1e-3, "schedule": "linear",
             "warmup": 0.1, "clip": 1.0, "threads": args.threads, "device": "cpu", "seed": args.seed}  # fmt: skip
    return {
        "data": {"split": "column", "split_column": PART},
        "inputs": inputs,
        **({"fusion": "concat"} if len(inputs) > 1 else {}),
        "tasks": {args.target: {"type": args.task, "hidden": 128, "dropout": 0.1, "norm": "layer"}},
        "train": train | (OWN if args.settings == "own" else {}),
    }


class Clock:
    """Wall and CPU seconds (of this process and its children) since it was started, the load, and what was stolen."""

    def __init__(self) -> None:
        self.load, self.ticks = [os.getloadavg()[0]], stolen()
        self.began = self.now()

    @staticmethod
    def now() -> tuple[float, float]:
        return time.perf_counter(), sum(os.times()[:4])

    def passed(self) -> tuple[float, float]:
        wall, cpu = self.now()
        return wall - self.began[0], cpu - self.began[1]

    def machine(self) -> dict[str, Any]:
        """What else the machine did meanwhile."""
        gone, total = (after - before for after, before in zip(stolen(), self.ticks, strict=True))
        load = [round(one, 2) for one in (*self.load, os.getloadavg()[0])]
        return {"load_before_after": load, "stolen_percent": round(100 * gone / max(total, 1), 1)}


def stolen() -> tuple[int, int]:
    """Ticks that the host gave to other machines, and all ticks, since this machine was started (Linux)."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return 0, 0
    return int(fields[7]), sum(int(field) for field in fields[:8])


def stamping(clock: Clock) -> Any:
    """A display that shows nothing and notes when each stage (reading, each epoch, scoring) begins and ends."""
    from polymodal.work.progress import Display

    class Stamps(Display):
        def __init__(self) -> None:
            super().__init__(quiet=True)
            self.stages: list[dict[str, Any]] = []
            self.trained: tuple[float, float] | None = None
            self.about: dict[str, Any] = {}

        @contextmanager
        def bar(self, title: str, total: int, done: int = 0) -> Iterator[Any]:
            began = clock.passed()
            if title.startswith("scoring") and self.trained is None:
                self.trained, self.about = began, clock.machine()
            with super().bar(title, total, done) as bar:
                yield bar
            wall, cpu = clock.passed()
            self.stages.append({"stage": title, "s": round(wall - began[0], 2), "cpu_s": round(cpu - began[1], 2)})

    return Stamps()


def scores(args: argparse.Namespace, truth: list, guess: list) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score, r2_score, root_mean_squared_error

    if args.task == "classify":
        found = {"accuracy": accuracy_score(truth, guess), "macro_f1": f1_score(truth, guess, average="macro")}
    else:
        found = {"rmse": root_mean_squared_error(truth, guess), "r2": r2_score(truth, guess)}
    return {name: round(float(value), 4) for name, value in found.items()}


def main(given: list[str] | None = None) -> None:
    args = parse(given)
    began = time.perf_counter()
    from polymodal.api import Run
    from polymodal.core import spec as specs
    from polymodal.data.tables import open_table
    from polymodal.work.job import make_run

    if args.text:
        from transformers import AutoModel, AutoTokenizer  # noqa: F401  imported before fitting by the others too
    import_s = time.perf_counter() - began

    import pandas as pd

    fit, valid, test = rows(args)
    plan = spec(args)
    with tempfile.TemporaryDirectory() as scratch:
        clock = Clock()
        display = stamping(clock)
        frame = pd.concat([fit.assign(**{PART: "train"}), valid.assign(**{PART: "valid"})], ignore_index=True)
        folder = Path(scratch) / "run"
        assembly = make_run(specs.parse(plan), open_table(frame), folder, resume=False, display=display)
        whole_s, whole_cpu_s = clock.passed()
        run = Run(folder, assembly)
        clock = Clock()
        answers = run.predict(test.drop(columns=args.target))
        predict_s, predict_cpu_s = clock.passed()
        history = run.history
    assert display.trained is not None
    fit_s, fit_cpu_s = display.trained
    guess = [line[args.target] for line in answers]
    result = {
        "tool": f"Polymodal, {args.settings}", "table": Path(args.table).resolve().parent.name, "task": args.task,
        "settings": args.settings, "image_encoder": "resnet18" if args.image else "",
        "text_encoder": "MiniLM-L6" if args.text else "",
        **{name: getattr(args, name) for name in ("epochs", "size", "batch", "threads", "seed", "lr")},
        "inputs": {name: getattr(args, name) for name in ("image", "text", "numeric", "category")},
        "fit_rows": len(fit), "val_rows": len(valid), "test_rows": len(test), "spec": plan,
        "import_s": round(import_s, 2), "fit_s": round(fit_s, 2), "fit_cpu_s": round(fit_cpu_s, 2), **display.about,
        "rows_per_s": round(len(fit) * args.epochs / fit_s, 2),
        "whole_s": round(whole_s, 2), "whole_cpu_s": round(whole_cpu_s, 2), "stages": display.stages,
        "predict_s": round(predict_s, 2), "predict_cpu_s": round(predict_cpu_s, 2),
        "predict_rows_per_s": round(len(test) / predict_s, 2),
        **scores(args, list(test[args.target]), guess), "history": [entry["valid"] for entry in history],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(),
    }  # fmt: skip
    text = json.dumps(result, indent=1)
    Path(args.out).write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
