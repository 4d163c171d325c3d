"""The model card: what the model is, how good it is and where its limits were seen, as the README of its folder."""

from __future__ import annotations

from pathlib import Path

from polymodal.core import yaml12
from polymodal.core.schema import Json
from polymodal.work import transfer
from polymodal.work.evaluation import Evaluation
from polymodal.work.folder import write_bytes
from polymodal.work.report import (
    headline,
    measures,
    read_json,
    read_lines,
    read_text,
    simple_models,
    templates,
    training,
)
from polymodal.work.trust.words import trust_sentences
from polymodal.work.words import falls, main_split

SURE = 0.05  # a calibration error above this is named as a limit


def write_card(folder: Path, evaluations: dict[str, Evaluation]) -> Path:
    """Write README.md, the model card (Mitchell et al. 2019), into the run folder and return its path.

    What only the author can know, the intended use above all, is left open to be filled in.
    """
    split = main_split(evaluations)
    main = evaluations[split] if split else Evaluation(0, {})
    plain = yaml12.loads(read_text(folder / "spec.yaml"))
    spec: dict[str, Json] = plain if isinstance(plain, dict) else {}
    text = (
        templates()
        .get_template("card.md")
        .render(
            title=folder.resolve().name,
            split=split,
            spec={k: spec.get(k) or {} for k in ("inputs", "fusion", "tasks", "data")},
            rows={name: e.rows for name, e in evaluations.items()},
            splits=list(evaluations),
            headline=[headline(name, result) for name, result in main.tasks.items()],
            measures=measures(evaluations),
            beside=simple_models(folder, main),
            falls={name: found for name, r in main.tasks.items() if (found := falls(r.measures, main.withheld, name))},
            overconfident=unsure(main),
            trust=trust_sentences(main),
            warnings=main.warnings,
            ledger=len(read_lines(folder / "ledger.jsonl")),
            training=training(read_lines(folder / "history.jsonl")),
            environment=read_json(folder / "environment.json"),
            origins=read_json(folder / transfer.FILE),
        )
    )
    write_bytes(folder / "README.md", text.encode("utf-8", "replace"))
    return folder / "README.md"


def unsure(main: Evaluation) -> dict[str, Json]:
    """Tasks whose confidence is not to be believed, with their calibration error."""
    errors = {name: r.measures.get("calibration_error", {}).get("value") for name, r in main.tasks.items()}
    return {name: error for name, error in errors.items() if error is not None and error > SURE}
