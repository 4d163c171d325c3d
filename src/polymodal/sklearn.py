"""Estimators in scikit-learn's manner: pictures, texts, sounds and numbers in cross-validation, grids and pipelines."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from polymodal.api import Run, load
from polymodal.core import spec as specs
from polymodal.core.catalog import need
from polymodal.core.errors import UserError
from polymodal.core.schema import Json
from polymodal.data.guess import guess_inputs
from polymodal.data.ledger import Ledger
from polymodal.data.loader import Loader
from polymodal.data.splits import Part
from polymodal.data.tables import Table, open_table
from polymodal.model import on_device
from polymodal.work.job import make_run
from polymodal.work.progress import Display

need("sklearn", "polymodal.sklearn")
# ruff: noqa: E402

from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_array, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

__all__ = ["MultimodalClassifier", "MultimodalRegressor"]


class _Multimodal(BaseEstimator):
    """What both share. X: a pandas DataFrame, a list of dicts (one per row) or a two-dimensional array.

    `inputs`: name -> type or block as in a spec; guessed from the columns when not given, but where all columns are
    numbers they are one table of numbers. `preset`: fast, good, best or None, for what is not given. `fusion`,
    `settings` (the spec's `train` section): as in a spec. `epochs`: over those of settings and preset. `valid`: the
    share of the training rows that chooses the epoch. `random_state`: the seed, 0 when not given; the same seed gives
    the same model. `out`: a folder in which every fit leaves its run, `run-1`, `run-2`, ...; without one it lives in a
    temporary folder for as long as the estimator.

    A cell that cannot be read counts as missing, in fitting and in answering: every row gets an answer. Mistakes that
    the user can mend are ValueErrors.

    After fitting: `run_` (a `polymodal.Run`), `n_features_in_`, `feature_names_in_` where columns have names.
    """

    _task: ClassVar[str]
    n_features_in_: int
    feature_names_in_: np.ndarray
    run_: Run

    def __init__(self, *, inputs: Any = None, preset: Any = "good", fusion: Any = None, epochs: Any = None,
                 settings: Any = None, valid: Any = 0.1, random_state: Any = None, out: Any = None,
                 quiet: Any = True) -> None:  # fmt: skip
        self.inputs, self.preset, self.fusion, self.epochs, self.settings = inputs, preset, fusion, epochs, settings
        self.valid, self.random_state, self.out, self.quiet = valid, random_state, out, quiet

    def _fit(self, X: Any, y: Sequence[Json]) -> None:
        columns, numbers = self._columns(X, reset=True)
        if len(y) < 2:
            raise ValueError(
                f"at least 2 rows are needed, some to learn from and some to hold out: n_samples = {len(y)}"
            )
        target = next(n for n in ("target", "_target", "__target__") if n not in columns)
        with _plainly():
            table = open_table({**columns, target: list(y)})
            spec = specs.parse(self._spec(table, target, list(columns), numbers))
            folder = self._folder()
            shown = Display(self.quiet)
            made = make_run(spec, table, folder, resume=False, display=shown, report=self.out is not None)
            self.run_ = Run(folder, made)
        self._keep(self.run_)

    def _spec(self, table: Table, target: str, columns: list[str], numbers: bool) -> Json:
        if self.inputs is not None:
            inputs = dict(self.inputs)
        elif numbers:
            inputs = {"table": {"type": "tabular", "columns": columns, "numeric": columns}}
        else:
            inputs = guess_inputs(table, target)
        fusion = self.fusion or ("concat" if self.preset is None and len(inputs) > 1 else None)
        seed = self.random_state
        seed = int(seed or 0) if seed is None or isinstance(seed, int) else int(check_random_state(seed).randint(2**31))
        train = {**(self.settings or {}), "seed": seed}
        train |= {} if self.epochs is None else {"epochs": int(self.epochs)}
        split = "stratified" if self._task == "classify" else "random"
        return {
            "preset": self.preset,
            "data": {"split": split, "valid": self.valid, "on_bad": "missing"},
            "inputs": inputs,
            "fusion": fusion,
            "tasks": {"answer": {"type": self._task, "column": target}},
            "train": train,
        }

    def _columns(self, X: Any, reset: bool) -> tuple[dict[str, Any], bool]:
        """The columns of X by name, and whether it is an array of numbers; checked against those that were fitted."""
        if isinstance(X, Sequence) and len(X) and all(isinstance(row, Mapping) for row in X):
            names = dict.fromkeys(str(name) for row in X for name in row)
            if not reset:
                names = dict.fromkeys(self.feature_names_in_)
            else:
                self.n_features_in_, self.feature_names_in_ = len(names), np.array(list(names), dtype=object)
            return {name: [row.get(name) for row in X] for name in names}, False
        if hasattr(X, "iloc") and hasattr(X, "columns"):
            validate_data(self, X, skip_check_array=True, reset=reset)
            if not len(X) or not X.shape[1]:
                raise ValueError(f"found array with 0 {'feature' if len(X) else 'sample'}(s) (shape={X.shape}) while a "
                                 f"minimum of 1 is required.")  # fmt: skip
            numbers = all(getattr(kind, "kind", "O") in "biuf" for kind in X.dtypes)
            return {str(name): X.iloc[:, n] for n, name in enumerate(X.columns)}, numbers
        X = validate_data(self, X, dtype=None, ensure_all_finite="allow-nan", reset=reset)
        return {f"x{n}": X[:, n] for n in range(X.shape[1])}, X.dtype.kind in "biuf"

    def _folder(self) -> Path:
        if self.out is None:
            return Path(tempfile.mkdtemp(prefix="polymodal-")) / "run"
        number = 1
        while True:
            folder = Path(self.out) / f"run-{number}"
            try:
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                number += 1

    def _keep(self, run: Run) -> None:
        """A temporary folder goes when nothing holds the run any more."""
        if self.out is None:
            weakref.finalize(run, shutil.rmtree, run.folder.parent, ignore_errors=True)

    def _answers(self, X: Any) -> np.ndarray:
        """What `_answer` makes of the model's answer for every row, in order."""
        check_is_fitted(self, "run_")
        columns, _ = self._columns(X, reset=False)
        with _plainly():
            table = open_table(columns)
            assembly, runtime = self.run_.assembly, self.run_.runtime
            part = Part(table, np.arange(len(table)))
            dataset = assembly.dataset(part, Ledger(), targets=False, on_bad="missing")
            loader = Loader(dataset, batch=max(64, assembly.spec.train.batch), seed=0, shuffle=False, augment=False,
                            buckets=False)  # fmt: skip
            assembly.model.eval()
            found = []
            with torch.inference_mode():
                for ((batch, _),) in loader.epoch(0):
                    assert batch is not None  # rows in memory are never broken, and bad cells count as missing
                    with runtime.autocast():
                        out = assembly.model(on_device(batch, runtime.move), respond=True)
                    answer = {k: v.float() for k, v in out.answers["answer"].items()}
                    found.append(self._answer(assembly.model.tasks["answer"], answer))
        return np.concatenate(found)

    def _answer(self, task: Any, answer: dict[str, torch.Tensor]) -> np.ndarray:
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        """Without the run, but with the files of its folder: a copy has a run of its own."""
        state = dict(super().__getstate__())
        run = state.pop("run_", None)
        if run is not None:
            files = (p for p in sorted(run.folder.rglob("*")) if p.is_file())
            state["_run_files"] = {p.relative_to(run.folder).as_posix(): p.read_bytes() for p in files}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        files = state.pop("_run_files", None)
        super().__setstate__(state)
        if files is not None:
            folder = Path(tempfile.mkdtemp(prefix="polymodal-")) / "run"
            for name, content in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            self.run_ = load(folder, trust=True)
            weakref.finalize(self.run_, shutil.rmtree, folder.parent, ignore_errors=True)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        tags.target_tags.required = True
        return tags


class MultimodalClassifier(ClassifierMixin, _Multimodal):
    """A class for every row of pictures, texts, sounds, numbers and categories.

    `classes_` are the classes; `predict_proba` gives a column for each of them, in this order.
    """

    _task = "classify"
    __doc__ += "\n\n    " + (_Multimodal.__doc__ or "")

    def fit(self, X: Any, y: Any) -> MultimodalClassifier:
        """Train on the rows of X and their classes y."""
        y = _column(self, X, y)
        check_classification_targets(y)
        check_consistent_length(X, y)
        self.classes_, places = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2 and len(y) > 1:
            raise ValueError(f"at least 2 classes are needed; y has only one class: {self.classes_[0]!r}")
        self._fit(X, places.tolist())
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each of `classes_`: [n, C]."""
        return self._answers(X)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row: [n]."""
        best = self._answers(X).argmax(1)
        return self.classes_[best]

    def _answer(self, task: Any, answer: dict[str, torch.Tensor]) -> np.ndarray:
        found = np.zeros((len(answer["logits"]), len(self.classes_)))
        found[:, task.classes] = task.cooled(answer["logits"]).softmax(1).cpu().numpy()
        return found


class MultimodalRegressor(RegressorMixin, _Multimodal):
    """A number for every row of pictures, texts, sounds, numbers and categories."""

    _task = "regress"
    __doc__ += "\n\n    " + (_Multimodal.__doc__ or "")

    def fit(self, X: Any, y: Any) -> MultimodalRegressor:
        """Train on the rows of X and their numbers y."""
        y = _column(self, X, y)
        y = check_array(y, ensure_2d=False, dtype="numeric", input_name="y").astype(np.float64)
        check_consistent_length(X, y)
        self._fit(X, y.tolist())
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The number of each row: [n]."""
        return self._answers(X)

    def _answer(self, task: Any, answer: dict[str, torch.Tensor]) -> np.ndarray:
        return task.original(answer["value"])


def _column(estimator: Any, X: Any, y: Any) -> np.ndarray:
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")
    y = column_or_1d(y, warn=True)
    if y.dtype.kind == "f":
        check_array(y, ensure_2d=False, input_name="y")
    return y


@contextmanager
def _plainly() -> Iterator[None]:
    """Mistakes that the user can mend as ValueErrors, which scikit-learn's tools expect."""
    try:
        yield
    except UserError as error:
        raise ValueError(str(error)) from None
