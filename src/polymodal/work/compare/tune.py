"""The learning rate and width that suit a candidate best, by validation rows: as many tries for each of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from polymodal.core import catalog
from polymodal.core.errors import UserError
from polymodal.core.schema import Json
from polymodal.core.seeds import derive
from polymodal.core.spec import Spec
from polymodal.work import folder as folders

PAGE = "tune.json"
RATES = (0.1, 10.0)  # of the spec's own learning rate, the smallest and the largest that is tried
STEP = 8  # widths are multiples of this: heads must divide them

Try = Callable[
    [Spec, Path], float
]  # trains in a folder; how good the best epoch is on validation rows, larger = better


def tune(spec: Spec, width: int, folder: Path, tries: int, attempt: Try) -> None:
    """Try so many settings and write them to `tune.json`; the first is the spec as it is, `width` its common width.

    A search by a tree-structured Parzen estimator (optuna's; Bergstra et al. 2011) over `train.lr`, ten times less to
    ten times more, and `model.width`, half to twice. What stands in the page is not tried again, and the search goes
    on as if it had not been broken off. A setting whose training diverges has no score.
    """
    catalog.need("optuna", "tune")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    page, widths = folder / PAGE, _widths(width)
    tried: list[dict[str, Json]] = folders.read_json(page) if page.is_file() else []
    sampler = optuna.samplers.TPESampler(seed=derive("tune", spec.text()) % 2**32, n_startup_trials=min(10, tries))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial({"lr": spec.train.lr, "width": width})
    for number in range(tries):
        trial = study.ask()
        lr = trial.suggest_float("lr", spec.train.lr * RATES[0], spec.train.lr * RATES[1], log=True)
        chosen = {"lr": lr, "width": trial.suggest_categorical("width", widths)}
        if number >= len(tried):
            place = folder / f"tune-{number}"
            shutil.rmtree(place, ignore_errors=True)
            tried.append({**chosen, "score": _score(_with(spec, chosen), place, attempt)})
            folders.write_json(page, tried)
            shutil.rmtree(place, ignore_errors=True)
        score = tried[number]["score"]
        study.tell(trial, score, state=optuna.trial.TrialState.FAIL if score is None else None)


def tuned(spec: Spec, folder: Path, tries: int) -> Spec:
    """The spec with the best of the settings that were tried; as it is where none was."""
    page = folder / PAGE
    tried = folders.read_json(page)[:tries] if page.is_file() else []
    scored = [one for one in tried if one["score"] is not None]
    return _with(spec, max(scored, key=lambda one: one["score"])) if scored else spec


def _score(spec: Spec, place: Path, attempt: Try) -> float | None:
    try:
        return attempt(spec, place)
    except UserError as error:
        if error.where != "train":  # a loss that is no longer finite
            raise
        return None


def _widths(width: int) -> list[int]:
    """Half of it, itself, twice; heads must divide what is not the spec's own."""
    return [max(STEP, round(width / 2 / STEP) * STEP), width, round(width * 2 / STEP) * STEP or STEP]


def _with(spec: Spec, chosen: dict[str, Json]) -> Spec:
    return replace(spec, train=replace(spec.train, lr=chosen["lr"]), model=replace(spec.model, width=chosen["width"]))
