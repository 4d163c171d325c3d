"""The comparison from its spec to its page."""

from __future__ import annotations

from pathlib import Path

from polymodal.core.errors import UserError
from polymodal.core.schema import Json
from polymodal.core.spec import Spec
from polymodal.data.tables import Table
from polymodal.model import Model
from polymodal.work import folder as folders
from polymodal.work.compare.judge import cluster_column, judge, ranked
from polymodal.work.compare.page import write_page
from polymodal.work.compare.plan import Options
from polymodal.work.compare.result import PAGE, Comparison
from polymodal.work.compare.run import Contest, make_contest, run_end_to_end, run_trials
from polymodal.work.compare.shared import Shared
from polymodal.work.compare.simple import names_of, simple_models
from polymodal.work.compare.trial import start
from polymodal.work.job import not_left_behind
from polymodal.work.progress import Display

TRIED = "trials/*/*"  # stands in the folder as soon as a trial was begun


def compare(spec: Spec, table: Table | None, folder: Path, options: Options, display: Display) -> Comparison:
    """Train every candidate with every seed, measure them on the same rows, and write what was found into `folder`.

    What is there already is not repeated, what was broken off goes on, what failed is tried again. Raises SpecError and
    TableError for what is wrong with spec and data, UserError when no trial could be finished, Stopped after Ctrl-C.
    """
    with not_left_behind(folder, TRIED):
        contest = make_contest(spec, table, folder, options)
        shared = Shared(spec, table, folder, display)
        try:
            found = _found(contest, shared, display)
        finally:
            shared.close()
    folders.write_json(folder / PAGE, found)
    result = Comparison(folder, found)
    write_page(result)
    return result


def _found(contest: Contest, shared: Shared, display: Display) -> dict[str, Json]:
    """All trials, and what they say."""
    options, folder = contest.options, contest.folder
    if (column := cluster_column(contest)) is not None:
        shared.parts[shared.split].table.need([column], "cluster")
    simple = names_of(shared, options.baselines)  # raises before anything is trained
    run_trials(contest, shared, display)
    if options.frozen and options.end_to_end:
        order = ranked(contest, shared)
        chosen = dict.fromkeys([*order[: options.end_to_end], *order[-options.end_to_end :]])
        run_end_to_end(contest, shared, chosen, display)
    if not any(contest.done(candidate) for candidate in contest.candidates):
        raise UserError(str(folder), f"no trial could be finished: {next(iter(contest.failed.values()), '')}",
                        advice="polymodal train SPEC shows what is wrong")  # fmt: skip
    display.say("measuring")
    return judge(contest, shared, simple_models(shared, simple, folder, display, _trained(contest, shared)))


def _trained(contest: Contest, shared: Shared) -> Model | None:
    """A model with the frozen encoders of the first seed."""
    if not contest.options.frozen:
        return None
    trials = (contest.done(candidate).get(contest.seeds[0]) for candidate in contest.of("joined"))
    trial = next((one for one in trials if one is not None), None)
    return None if trial is None else start(trial, shared).model.eval()
