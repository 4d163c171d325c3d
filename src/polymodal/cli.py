"""The command line: `polymodal --help`. Thin: each command calls the Python face."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from polymodal import __version__
from polymodal.core.errors import Stopped, UserError
from polymodal.serve.http.flags import add_flags as add_serve_flags
from polymodal.serve.index.flags import add_index_flags, add_search_flags

EPILOG = "Start with `polymodal demo`, or on rows of your own: `polymodal train TABLE --target COLUMN --out RUN`."


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 our fault, 2 the user's mistake, 3 drift (`drift --fail-on-drift`), 130 stopped by Ctrl-C
    with the work saved."""
    options = parser().parse_args(arguments)
    options.words = sys.argv[1:] if arguments is None else [str(word) for word in arguments]
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while they wait stall a shared machine
    try:
        from polymodal import commands

        _never_refuse_a_letter()
        code = int(getattr(commands, options.command)(options) or 0)
        sys.stdout.flush()  # what goes wrong with it shall not go wrong after `main`
        return code
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except Stopped as error:
        print(error, file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _let_go_of_output()
        return 0
    except OSError as error:
        place, problem = str(error.filename or options.command), f"cannot be used: {error.strerror or error}"
        print(UserError(place, problem, advice="check the path, its permissions and the space"), file=sys.stderr)
        if error.filename is None:
            _let_go_of_output()
        return 2


def _never_refuse_a_letter() -> None:
    """A terminal that does not know a letter is shown its number."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _let_go_of_output() -> None:
    """What standard output could not take is not tried again when the process ends."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parser() -> argparse.ArgumentParser:
    """Every command with its flags."""
    about = "Multimodal models from tables, with evidence."
    top = argparse.ArgumentParser(prog="polymodal", description=about, epilog=EPILOG)
    top.add_argument("--version", action="version", version=f"polymodal {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, about: str) -> Any:
        return commands.add_parser(name, help=about, description=about)

    demo = command("demo", "train, compare and report on the built-in scenes, in minutes on two cores")
    demo.add_argument("--out", default="demo", help="folder for the data, the runs and the report (default: demo)")
    demo.add_argument("--rows", type=int, default=None, help="rows of scenes to draw")

    scenes = command("scenes", "write the built-in data as a table with pictures and sounds")
    scenes.add_argument("out", help="folder to make")
    scenes.add_argument("--rows", type=int, default=2000)
    scenes.add_argument("--size", type=int, default=64, help="width and height of the pictures in pixels")
    scenes.add_argument("--seed", type=int, default=0)
    scenes.add_argument("--language", choices=["en", "zh", "both"], default="en")

    check = command("check", "read every cell, guess types, list bad cells, duplicates and leaks between splits")
    check.add_argument("table", nargs="?", help="CSV, JSONL, Parquet, a folder of class folders, or an IDX file")
    check.add_argument("--spec", help="read the columns as this spec says")
    check.add_argument("--target", action="append", metavar="COLUMN", help="print the spec that train would guess")
    check.add_argument("--ignore", action="append", default=[], metavar="COLUMN", help="no input (repeatable)")
    check.add_argument("--preset", help="fast, good or best, for that spec (default: good)")
    check.add_argument("--json", action="store_true", help="print one JSON object")

    train = command("train", "train a model; the run folder holds everything about it")
    train.add_argument("spec", nargs="?", metavar="SPEC|TABLE",
                       help="YAML file, or a table with --target; not needed with --resume")  # fmt: skip
    train.add_argument("--target", action="append", metavar="COLUMN",
                       help="what is to be learned from a table; all else is guessed (repeatable)")  # fmt: skip
    train.add_argument("--ignore", action="append", default=[], metavar="COLUMN",
                       help="a column of the table that is not to be an input (repeatable)")  # fmt: skip
    train.add_argument("--preset", help="fast, good or best: settings that the spec does not give (a table: good)")
    train.add_argument("--out", required=True, help="the run folder")
    train.add_argument("--set", action="append", default=[], metavar="a.b=c", help="change the spec (repeatable)")
    train.add_argument("--baselines", action="store_true", help="measure simple models beside it, on the same rows")
    train.add_argument("--resume", action="store_true", help="go on with a run that was broken off, bit for bit")
    train.add_argument("--quiet", action="store_true")

    evaluate = command("evaluate", "metrics with 95 %% intervals, per task, and with each input withheld")
    _run_and_table(evaluate, table="?")
    leave = evaluate.add_argument_group("leaving groups out", "train RUN's spec, or a spec file, without each group")
    leave.add_argument("--leave-out", metavar="COLUMN", help="score every value's rows by a model trained without them")
    leave.add_argument("--out", metavar="DIR", help="folder for the runs; what is finished there is not repeated")
    leave.add_argument("--folds", type=int, metavar="K", help="deal the values into K groups")
    leave.add_argument("--set", action="append", default=[], metavar="a.b=c", help="change the spec (repeatable)")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    evaluate.add_argument("--no-withheld", action="store_true", help="skip measuring with each input withheld")
    evaluate.add_argument("--report", help="write an HTML report to this folder")
    evaluate.add_argument("--abstain", type=float, metavar="LEVEL", help="also measure `predict --abstain LEVEL`")
    evaluate.add_argument("--clip", metavar="MODEL", help="also judge sentences beside their pictures by this model")
    evaluate.add_argument("--against", metavar="RUN2", help="is RUN better than RUN2: paired tests on the same rows")
    evaluate.add_argument("--cluster", metavar="COLUMN", help="with --against: rows of equal value hang together")

    drift = command("drift", "whether a table's rows are still like those of the training, and what changed")
    _run_and_table(drift)
    drift.add_argument("--against", metavar="TABLE", help="compare with this table instead of the training's rows")
    drift.add_argument("--rows", type=int, metavar="N", help="look at so many rows, by lot (4000)")
    drift.add_argument("--level", type=float, default=0.05, metavar="Q", help="of false alarms among the alarms (0.05)")
    drift.add_argument("--report", metavar="DIR", help="write an HTML report to this folder")
    drift.add_argument("--json", action="store_true", help="print one JSON object")
    drift.add_argument("--fail-on-drift", action="store_true", help="exit with code 3 when rows have drifted")

    _zero_shot(evaluate).add_argument("--target", metavar="COLUMN", help="with the classes of the rows")

    predict = command("predict", "one answer per row, in order")
    _run_and_table(predict)
    predict.add_argument("--out", required=True, help="a file ending in .csv, .jsonl or .parquet")
    predict.add_argument("--keep", action="store_true", help="add the input columns")
    predict.add_argument("--on-bad", choices=["fail", "skip", "missing"], help="what happens to rows with bad cells")
    sets = "add sets of classes, and intervals, that hold the truth in this share of rows (0.9)"
    predict.add_argument("--sets", type=float, metavar="LEVEL", help=sets)
    abstain = "answer only rows sure enough that this share of the answers is right (0.95)"
    predict.add_argument("--abstain", type=float, metavar="LEVEL", help=abstain)
    predict.add_argument("--reasons", action="store_true", help="add why: each input withheld, where the model looked")
    predict.add_argument("--respond", action="append", default=[], metavar="OPTION=VALUE",
                         help="how to say sentences: search=beam, beams=5, top_p=0.9, … (repeatable)")  # fmt: skip

    _zero_shot(predict)

    histories = command("histories", "from who took what and when to the table that `recommend` learns from")
    histories.add_argument("interactions", help="a table: which user took which item at which time")
    histories.add_argument("items", help="a table: what each item shows, a row for each")
    histories.add_argument("--out", required=True, help="a file ending in .csv, .jsonl or .parquet")
    _takes(histories)
    histories.add_argument("--keep", type=int, default=8, metavar="N", help="earlier items in a row (8)")
    histories.add_argument("--least", type=int, default=0, metavar="N", help="leave out rows with fewer of them (0)")
    begin = "the latest share of the rows, or the time from which on they are held out (0.1)"
    histories.add_argument("--valid", default="0.1", metavar="SHARE|TIME", help=begin)
    histories.add_argument("--test", default="0.1", metavar="SHARE|TIME", help=begin)
    histories.add_argument("--skip-unknown", action="store_true", help="pass over items that are not in ITEMS")

    recommend = command("recommend", "the items that each user may want next, by a run with the task `recommend`")
    recommend.add_argument("run", help="the run folder")
    recommend.add_argument("--history", required=True, metavar="TABLE",
                           help="interactions, or rows as `polymodal histories` makes them")  # fmt: skip
    recommend.add_argument("--items", metavar="TABLE", help="what can be recommended, with a column of names")
    recommend.add_argument("--index", metavar="INDEX", help="the same, as an index of the run's space `item`")
    recommend.add_argument("-k", type=int, default=10, help="items for each user (10)")
    _takes(recommend)
    recommend.add_argument("--again", action="store_true", help="also what a user had")
    recommend.add_argument("--out", metavar="FILE", help="write .csv, .jsonl or .parquet instead of printing")
    recommend.add_argument("--json", action="store_true", help="print a JSON object for each")
    recommend.add_argument("--trust", action="store_true",
                           help="allow parts named by a dotted path (their code is run)")  # fmt: skip
    recommend.add_argument("--quiet", action="store_true")

    baselines = command("baselines", "simple models on the training rows of a spec, measured on its test rows")
    baselines.add_argument("spec", help="YAML file")
    baselines.add_argument("--set", action="append", default=[], metavar="a.b=c", help="change the spec (repeatable)")
    baselines.add_argument("--only", metavar="NAME,…", help="which; all that the inputs suit when not given")
    baselines.add_argument("--give", action="append", default=[], metavar="NAME.SETTING=VALUE",
                           help="a setting of a baseline, see `polymodal parts baseline` (repeatable)")  # fmt: skip
    baselines.add_argument("--json", action="store_true", help="print one JSON object")
    baselines.add_argument("--quiet", action="store_true")

    compare = command("compare", "train every way of joining the inputs with one budget, and say which is best")
    compare.add_argument("spec", help="YAML file")
    compare.add_argument("--out", required=True, metavar="DIR", help="folder of all runs; what is done is not repeated")
    compare.add_argument("--set", action="append", default=[], metavar="a.b=c", help="change the spec (repeatable)")
    compare.add_argument("--fusion", action="append", default=[], metavar="A,B,…",
                         help="names, or a block such as '{type: low_rank, rank: 8}' (repeatable; all)")  # fmt: skip
    compare.add_argument("--attention", action="append", default=[], metavar="A,B,…", help="the same (the spec's own)")
    compare.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each candidate (3)")
    compare.add_argument("--frozen", action="store_true", help="train encoders alone, once, and freeze them")
    compare.add_argument("--end-to-end", type=int, default=3, metavar="N",
                         help="with --frozen: so many of the best and worst are trained whole (3)")  # fmt: skip
    compare.add_argument("--tune", type=int, default=0, metavar="N", help="settings tried for each candidate (0)")
    compare.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that train (1)")
    compare.add_argument("--cluster", metavar="COLUMN", help="rows of equal value hang together (case, speaker)")
    compare.add_argument("--baselines", metavar="A,B,…", help="simple models beside them; all that suit, or `none`")
    compare.add_argument("--no-noise", action="store_true", help="do not measure robustness to noise")
    compare.add_argument("--json", action="store_true", help="print one JSON object")
    compare.add_argument("--quiet", action="store_true")

    chat = command("chat", "talk to a run, or to a vision-language model; lines come from the terminal or a pipe")
    chat.add_argument("run", nargs="?", metavar="RUN", help="the run folder; not with --model")
    chat.add_argument("given", nargs="*", metavar="NAME=WHAT", help="what is attached at first: photo=cat.jpg")
    chat.add_argument("--model", metavar="NAME", help="a vision-language model of transformers, hub name or folder")
    chat.add_argument("--attach", action="append", default=[], metavar="NAME=WHAT", help="the same (repeatable)")
    chat.add_argument("--temperature", type=float, help="draw words by lot: above 1 bolder, below 1 safer")
    chat.add_argument("--top-p", type=float, help="draw among the likeliest words that have this share of probability")
    chat.add_argument("--max-tokens", type=int, help="the longest answer (a run: as trained; a model: 256)")
    chat.add_argument("--seed", type=int, default=0, help="of the lot (0)")
    chat.add_argument("--trust", action="store_true", help="allow parts named by a dotted path (their code is run)")

    log = command("log", "what `serve --log` kept, as a table that can be labelled, compared and learned from")
    log.add_argument("folder", metavar="FOLDER", help="the folder of the log")
    log.add_argument("--out", required=True, help="a file ending in .csv, .jsonl or .parquet")
    log.add_argument("--since", metavar="TIME", help="from there on, in UTC: 2026-05-31, or 2026-05-31T12:00")
    log.add_argument("--until", metavar="TIME", help="before this time")

    index = command("index", "put a table's rows into an index that can be searched; add, replace, take out")
    add_index_flags(index)

    search = command("search", "rows of an index that are like a text, a picture, a sound, other rows, or have words")
    add_search_flags(search)

    serve = command("serve", "answer over HTTP: every task of a run, search of an index, and a page to try them")
    add_serve_flags(serve)

    parts = command("parts", "every part in the catalogue, with its parameters")
    parts.add_argument("kind", nargs="?", help="reader, encoder.image, fusion, task, ...")
    parts.add_argument("--json", action="store_true", help="print one JSON object")
    return top


def _zero_shot(command: argparse.ArgumentParser) -> Any:
    about = "classes that nobody trained, by a run with the task `retrieve`"
    group = command.add_argument_group("zero-shot classification", about)
    group.add_argument("--zero-shot", metavar="FILE", help="classes: a line each, or .json, .yaml: class -> texts")
    group.add_argument("--template", action="append", default=[], metavar="TEXT",
                       help="what is said of a class, `a photo of a {}` (repeatable; the class alone)")  # fmt: skip
    group.add_argument("--input", metavar="NAME", help="the input that has a class (the only one that is no text)")
    group.add_argument("--by", metavar="NAME", help="the input that reads the texts (the only one of text)")
    return group


def _takes(command: argparse.ArgumentParser) -> None:
    command.add_argument("--user", default="user", metavar="COLUMN", help="who took it (user)")
    command.add_argument("--item", default="item", metavar="COLUMN", help="what was taken; names the items too (item)")
    command.add_argument("--time", default="time", metavar="COLUMN", help="when: a number, or an ISO 8601 date (time)")


def _run_and_table(command: argparse.ArgumentParser, table: str | None = None) -> None:
    command.add_argument("run", help="the run folder")
    command.add_argument("table", nargs=table, help="CSV, JSONL, Parquet, a folder of class folders, or an IDX file")
    command.add_argument("--trust", action="store_true", help="allow parts named by a dotted path (their code is run)")
    command.add_argument("--quiet", action="store_true")
