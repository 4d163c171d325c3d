"""The two faces: what every command prints and returns, and the same from Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import polymodal
from endtoend import INPUTS, TRAIN, Shell, Trained, read_answers, read_ledger, spec, write_spec
from polymodal.core import catalog, yaml12
from polymodal.core import spec as specs

# The command line


def one_object(text: str) -> dict[str, Any]:
    """The text is exactly one JSON object, strictly, and a line end."""

    def no(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    assert text.endswith("}\n")
    assert "\n" not in text[:-1]
    found = json.loads(text, parse_constant=no)
    assert isinstance(found, dict)
    return found


def test_train_says_how_it_went_and_prints_nothing(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    done = shell.works("train", trained.folder / "spec.yaml", "--out", tmp_path / "run")
    assert not done.out
    for said in ("epoch   1/2", "epoch   2/2", "valid\n", "label.accuracy", "without photo", "report.html"):
        assert said in done.err
    assert shell.works("train", trained.folder / "spec.yaml", "--out", tmp_path / "quiet", "--quiet") == (0, "", "")
    names = {"README.md", "drift.json", "drift.safetensors", "environment.json", "fingerprints.safetensors",
             "history.jsonl", "ledger.jsonl", "metrics.json", "readers.json", "report.html", "run.json", "spec.yaml",
             "trust.safetensors", "weights.safetensors"}  # fmt: skip
    assert {p.name for p in (tmp_path / "run").iterdir()} == names


def test_evaluate_prints_one_object(trained: Trained, shell: Shell) -> None:
    done = shell.works("evaluate", trained.run, trained.folder / "rows.csv", "--json")
    found = one_object(done.out)
    assert found.keys() == {"rows", "tasks", "withheld", "alone", "warnings", "calibration", "ledger"}
    assert found["rows"] == 40
    assert found["ledger"] == {}
    assert found["withheld"].keys() == INPUTS.keys()
    for measures in (found, *found["withheld"].values()):
        assert measures["tasks"].keys() == {"label"}
        for measure in measures["tasks"]["label"].values():
            assert measure.keys() == {"value", "ci95"}
            low, high = measure["ci95"]
            assert low <= measure["value"] <= high
    right = sum(a["label"] == r["label"] for a, r in zip(trained.answers, trained.rows, strict=True))
    assert found["tasks"]["label"]["accuracy"]["value"] == pytest.approx(right / 40)


def test_evaluate_for_a_person(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    done = shell.works("evaluate", trained.run, trained.folder / "rows.csv", "--report", tmp_path / "deep" / "report")
    assert "40 rows" in done.out
    assert "label.accuracy" in done.out
    assert "without sound" in done.out
    assert done.err.startswith("report: ")
    assert (tmp_path / "deep" / "report" / "report.html").stat().st_size > 10_000
    done = shell.works("evaluate", trained.run, trained.folder / "rows.csv", "--no-withheld")
    assert "without" not in done.out


def test_a_measure_that_does_not_exist_is_null(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    """One row has no AUROC: `null`, not NaN."""
    found = one_object(
        shell.works("evaluate", trained.run, trained.table(tmp_path / "one.csv", trained.rows[:1]), "--json").out
    )
    assert found["rows"] == 1
    assert None in [m["value"] for m in found["tasks"]["label"].values()]
    assert "n/a" in shell.works("evaluate", trained.run, tmp_path / "one.csv").out


def test_predict_says_where_and_prints_nothing(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folders" / "a.csv"
    done = shell.works("predict", trained.run, trained.folder / "rows.csv", "--out", out)
    assert done == (0, "", f"{out}: 40 rows\n")
    assert read_answers(out) == [{**a, "label.confidence": pytest.approx(a["label.confidence"], abs=1e-9)}
                                 for a in trained.answers]  # fmt: skip
    assert shell.works("predict", trained.run, trained.folder / "rows.csv", "--out", out, "--quiet").out == ""


def test_parts_lists_the_catalogue(shell: Shell) -> None:
    found = one_object(shell.works("parts", "--json").out)
    assert list(found) == catalog.kinds()
    text = shell.works("parts").out
    for kind, parts in found.items():
        assert parts.keys() == catalog.names(kind).keys()
        assert kind in text.splitlines()
        for name, part in parts.items():
            assert part["about"]
            assert f"  {name} " in text
            for setting, form in part["settings"].items():
                assert form.keys() == {"type", "needed", "default"}
                assert f"      {setting}: {form['type']}" in text
    fusion = one_object(shell.works("parts", "fusion", "--json").out)
    assert fusion == {"fusion": found["fusion"]}
    assert "width" not in fusion["fusion"]["concat"]["settings"]  # wired
    told = shell.fails("parts", "fusoin")
    assert "'fusion'" in told


def test_check_without_a_spec(trained: Trained, shell: Shell) -> None:
    found = one_object(shell.works("check", trained.folder / "rows.csv", "--json").out)
    assert found["rows"] == 40
    looks = {c["name"]: c["looks"] for c in found["columns"]}
    assert looks == {"photo": "image", "title": "text", "sound": "audio", "price": "number", "brand": "category",
                     "label": "category"}  # fmt: skip
    assert found["bad"] == []
    text = shell.works("check", trained.folder / "rows.csv").out
    assert "40 rows, 6 columns" in text
    assert "bad: 0 cells" in text


def test_check_with_a_spec(trained: Trained, shell: Shell, tmp_path: Path) -> None:
    rows = [*trained.rows, {**trained.rows[0], "photo": "gone.jpg"}, {**trained.rows[1], "price": "dear"}]
    table = trained.table(tmp_path / "rows.csv", rows)
    path = write_spec(tmp_path / "spec.yaml", spec(table))
    found = one_object(shell.works("check", "--spec", path, "--json").out)
    assert found["parts"] == {"train": 38, "valid": 4}
    assert [(e["row"], e["column"]) for e in found["bad"]] == [(40, "photo"), (41, "price, brand")]
    assert [t["name"] for t in found["targets"]] == ["label"]
    other = trained.table(tmp_path / "other.csv", trained.rows)
    assert one_object(shell.works("check", other, "--spec", path, "--json").out)["bad"] == []
    assert "needs a table" in shell.fails("check")


def test_scenes_and_version(shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = shell.works("scenes", tmp_path / "s", "--rows", 12, "--size", 16)
    assert not done.out
    assert "12 rows" in done.err
    assert len((tmp_path / "s" / "table.csv").read_text(encoding="utf-8").splitlines()) == 13
    with pytest.raises(SystemExit) as stopped:
        shell("--version")
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"polymodal {polymodal.__version__}\n"


def test_ctrl_c_saves_and_ends_with_130(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from polymodal import cli
    from polymodal.work import train

    words = ["train", str(trained.folder / "spec.yaml"), "--out", str(tmp_path / "run"), "--quiet"]
    step, calls = train.step, [0]

    def interrupted(*given: Any) -> None:
        calls[0] += 1
        if calls[0] == 3:
            os.kill(os.getpid(), signal.SIGINT)
        step(*given)

    monkeypatch.setattr(train, "step", interrupted)
    assert cli.main(words) == 130
    said = capsys.readouterr()
    assert said == ("", f"stopped after step 3; the work is saved in {tmp_path / 'run'}\n")
    monkeypatch.undo()
    assert cli.main([*words, "--resume"]) == 0
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == (trained.run / "weights.safetensors").read_bytes()


def test_ctrl_c_before_there_is_work_to_save(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from polymodal import cli
    from polymodal.data.dataset import Dataset

    def interrupted(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Dataset, "scan", interrupted)
    assert cli.main(["train", str(trained.folder / "spec.yaml"), "--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr() == ("", "stopped\n")


def test_resuming_with_the_very_spec_that_was_begun_with(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a spec's settings makes tuples of lists; that is no change."""
    from polymodal.work import train

    def crash(*given: Any) -> None:
        raise MemoryError

    plan = specs.load(trained.folder / "spec.yaml")
    monkeypatch.setattr(train, "step", crash)
    with pytest.raises(MemoryError):
        polymodal.train(spec=plan, out=tmp_path / "run", quiet=True)
    monkeypatch.undo()
    run = polymodal.train(spec=plan, out=tmp_path / "run", resume=True, quiet=True)
    assert weights(run) == (trained.run / "weights.safetensors").read_bytes()


def python(*words: str, **options: Any) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60, check=False, **options)


def cpu_seconds(*words: str) -> float:
    """The best of five: seconds of processor time, so that other work on the machine does not count."""
    resource = pytest.importorskip("resource")

    def used() -> float:
        found = resource.getrusage(resource.RUSAGE_CHILDREN)
        return found.ru_utime + found.ru_stime

    best = float("inf")
    for _ in range(5):
        before = used()
        assert python(*words).returncode == 0
        best = min(best, used() - before)
    return best


def test_help_and_import_are_fast() -> None:
    bare = cpu_seconds("-c", "pass")
    assert cpu_seconds("-m", "polymodal", "--help") < max(0.3, 2 * bare)
    assert cpu_seconds("-c", "import polymodal") < max(0.15, 2 * bare)


def test_help_and_import_leave_the_heavy_alone() -> None:
    program = "import sys, polymodal; from polymodal import cli; cli.parser().format_help(); print(*sys.modules)"
    loaded = set(python("-c", program).stdout.split())
    assert "polymodal" in loaded
    assert not loaded & {"torch", "numpy", "pyarrow", "PIL", "pydantic", "transformers", "rich", "matplotlib"}


@pytest.mark.parametrize("words", [["parts"], ["parts", "--json"], ["parts", "fusion"]])
def test_a_reader_that_goes_away(words: list[str]) -> None:
    """`polymodal parts | head -1` is no mistake of anybody."""
    process = subprocess.Popen([sys.executable, "-m", "polymodal", *words], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": ""})  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), said) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_result_that_finds_no_space() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "polymodal", "parts", "fusion"], stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_terminal_that_knows_ascii_only(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("名字,label\n你好 😀,a\n再见,b\n", encoding="utf-8")
    for words in ([], ["--json"]):
        done = python("-m", "polymodal", "check", str(tmp_path / "rows.csv"), *words,
                      env={**os.environ, "PYTHONIOENCODING": "ascii"})  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "\\u540d\\u5b57" in done.stdout
    assert one_object(done.stdout)["columns"][0]["name"] == "名字"


# Python


def test_every_public_name_is_there() -> None:
    assert polymodal.__all__ == sorted(polymodal.__all__)
    public: dict[str, Any] = {}
    exec("from polymodal import *", public)
    for name in polymodal.__all__:
        assert public[name] is getattr(polymodal, name)
        assert name == "__version__" or getattr(polymodal, name).__doc__
    assert set(dir(polymodal)) == set(polymodal.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        polymodal.trian  # type: ignore[attr-defined]  # noqa: B018
    for error in (polymodal.SpecError, polymodal.TableError, polymodal.RunError):
        assert issubclass(error, polymodal.UserError)


def sources(trained: Trained) -> dict[str, Any]:
    """The same rows in every form that Python may pass."""
    import pandas as pd
    import pyarrow as pa

    rows = [{**r, "photo": str(trained.folder / r["photo"]), "sound": str(trained.folder / r["sound"])}
            for r in trained.rows]  # fmt: skip
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    path = trained.folder / "rows.csv"
    return {"dict": columns, "list": rows, "DataFrame": pd.DataFrame(columns), "Table": pa.table(columns),
            "path": path, "str": str(path)}  # fmt: skip


SMALL = {"photo": INPUTS["photo"], "title": "text", "facts": {"type": "tabular", "columns": ["price", "brand"]}}
SETTINGS = {**TRAIN, "epochs": 1}


def weights(run: polymodal.Run) -> bytes:
    return (run.folder / "weights.safetensors").read_bytes()


def test_train_on_anything_with_rows(trained: Trained, tmp_path: Path) -> None:
    """All forms of the same rows give the same bytes, but for CSV, where numbers are text: they give them too."""
    found = set()
    for name, source in sources(trained).items():
        run = polymodal.train(source, inputs=SMALL, target="label", settings=SETTINGS, out=tmp_path / name, quiet=True)
        found.add(weights(run))
        assert run.predict(source) == run.predict(trained.folder / "rows.csv")
    assert len(found) == 1


def test_rows_in_memory_begin_their_paths_where_the_spec_says(trained: Trained, tmp_path: Path) -> None:
    spec = {"data": {"root": str(trained.folder)}, "inputs": {"photo": INPUTS["photo"]}, "tasks": {"label": "classify"},
            "train": SETTINGS}  # fmt: skip
    rows = [{"photo": row["photo"], "label": row["label"]} for row in trained.rows]
    run = polymodal.train(rows, spec=spec, out=tmp_path / "run", quiet=True)
    assert len(run.predict(rows)) == len(rows)


def test_inputs_are_guessed_and_the_guess_is_a_spec(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = sources(trained)["DataFrame"]
    run = polymodal.train(source, target="label", settings=SETTINGS, out=tmp_path / "guessed")
    said = capsys.readouterr()
    assert not said.out
    assert run.spec.json()["inputs"].keys() == {"photo", "title", "sound", "table"}
    assert "# guessed from the columns of DataFrame" in said.err
    text = said.err.partition("\n")[2].partition("\nepoch")[0]
    assert specs.parse(yaml12.loads(text)) == run.spec
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    again = polymodal.train(source, spec=tmp_path / "spec.yaml", out=tmp_path / "again", quiet=True)
    assert weights(again) == weights(run)


@pytest.mark.parametrize(
    ("target", "expected"),
    [([1.5, 2.5, 3.25, 4.0] * 6, "regress"), (["a", "b"] * 12, "classify"), ([True, False] * 12, "classify"),
     ([1, 2, 3] * 8, "classify"), ([["a"], ["a", "b"], []] * 8, "classify")],
)  # fmt: skip
def test_the_task_is_guessed(tmp_path: Path, target: list, expected: str) -> None:
    """And answers come in the target's own type."""
    data = {"x": np.random.default_rng(0).normal(size=24).tolist(), "y": target}
    run = polymodal.train(data, target="y", settings=SETTINGS, out=tmp_path / "run", quiet=True)
    assert run.spec.tasks["y"].part.type == expected
    lines = run.predict(data)
    assert isinstance(lines, list)
    assert all(type(line["y"]) is type(target[0]) for line in lines)
    if expected == "classify" and not isinstance(target[0], list):
        assert {line["y"] for line in lines} <= set(target)


def test_a_spec_in_any_form(trained: Trained, tmp_path: Path) -> None:
    plain = spec(trained.folder / "rows.csv", ["title", "facts"])
    forms = {"dict": plain, "Spec": specs.parse(plain), "path": write_spec(tmp_path / "s.yaml", plain)}
    runs = [polymodal.train(spec=form, out=tmp_path / name, quiet=True) for name, form in forms.items()]
    assert len({weights(run) for run in runs}) == 1
    assert plain == spec(trained.folder / "rows.csv", ["title", "facts"])  # not changed


def test_what_train_cannot_do_without(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(polymodal.SpecError, match="needs a spec, or a table and a target"):
        polymodal.train()
    with pytest.raises(polymodal.SpecError, match="needs a spec, or a table and a target"):
        polymodal.train({"x": [1.0], "y": [2.0]})
    with pytest.raises(polymodal.TableError, match="target: no column of this name"):
        polymodal.train(trained.folder / "rows.csv", target="lable")
    with pytest.raises(polymodal.TableError, match="is of no kind that can be read"):
        polymodal.train(3, target="x")
    with pytest.raises(polymodal.RunError, match="no such run folder"):
        polymodal.load(tmp_path / "nothing")


def test_runs_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = {"x": [0.0, 1.0] * 8, "y": ["a", "b"] * 8}
    for number in (1, 2):
        run = polymodal.train(data, target="y", settings=SETTINGS, quiet=True)
        assert run.folder == Path("runs") / f"run-{number}"


def test_a_loaded_run_answers_bit_for_bit(trained: Trained, tmp_path: Path) -> None:
    """As the run that was trained, and as often as it is asked; also from another place."""
    path = trained.folder / "rows.csv"
    run = polymodal.train(spec=trained.folder / "spec.yaml", out=tmp_path / "run", quiet=True)
    lines = run.predict(path)
    assert lines == trained.answers
    (tmp_path / "run").rename(tmp_path / "moved")
    loaded = polymodal.load(tmp_path / "moved")
    assert loaded.predict(path) == lines == loaded.predict(path)
    assert loaded.evaluate(path).json() == polymodal.load(trained.run).evaluate(path).json()
    assert repr(loaded) == f"Run('{tmp_path / 'moved'}', tasks=['label'], inputs={list(INPUTS)})"


def test_what_a_run_knows(trained: Trained) -> None:
    run = polymodal.load(trained.run)
    assert run.metrics.keys() == {"valid"}
    last = run.history[-1]
    assert [entry["epoch"] for entry in run.history] == [1, 2]
    assert last.keys() == {"epoch", "step", "lr", "seconds", "rows_per_second", "train", "valid", "best"}
    best = next(entry for entry in reversed(run.history) if entry["best"])
    kept = run.metrics["valid"]["tasks"]["label"]
    assert kept["accuracy"]["value"] == pytest.approx(best["valid"]["label.accuracy"])
    assert len(run.ledger) == 0
    assert run.spec.text() == specs.load(trained.folder / "spec.yaml").text()
    assert [e._asdict() for e in run.ledger] == read_ledger(trained.run)


def test_predict_writes_or_returns(trained: Trained, tmp_path: Path) -> None:
    run = polymodal.load(trained.run)
    rows = trained.table(tmp_path / "rows.jsonl", [*trained.rows, {**trained.rows[0], "sound": "gone.wav"}])
    assert run.predict(rows, out=tmp_path / "a.jsonl") == 41
    lines = run.predict(rows)
    assert lines == read_answers(tmp_path / "a.jsonl")
    kept = run.predict(rows, keep=True)
    assert isinstance(kept, list)
    assert [line["title"] for line in kept] == [row["title"] for row in [*trained.rows, trained.rows[0]]]
    with pytest.raises(polymodal.TableError, match="row 40: sound: file not found"):
        run.predict(rows, on_bad="fail")


def test_evaluate_needs_its_target_and_nothing_else(trained: Trained) -> None:
    run = polymodal.load(trained.run)
    found = run.evaluate(sources(trained)["dict"], withheld=False)
    assert found.json()["tasks"] == run.evaluate(trained.folder / "rows.csv").json()["tasks"]
    without = {k: v for k, v in sources(trained)["dict"].items() if k != "label"}
    with pytest.raises(polymodal.TableError, match="no column of this name"):
        run.evaluate(without)


def test_check_from_python(trained: Trained) -> None:
    assert polymodal.check(sources(trained)["list"]).rows == 40
    found = polymodal.check(sources(trained)["DataFrame"], spec=trained.folder / "spec.yaml")
    assert found.parts == {"train": 36, "valid": 4}
    assert found.json()["bad"] == []


def test_precisions_do_not_leak_from_run_to_run(trained: Trained, tmp_path: Path) -> None:
    """A process may hold runs of both: neither the training nor the answers of one depend on the other."""
    path = trained.folder / "rows.csv"

    def fit(name: str, precision: str) -> polymodal.Run:
        plain = spec(path, ["title", "facts"], train={"precision": precision})
        return polymodal.train(spec=plain, out=tmp_path / name, quiet=True)

    first = fit("first", "fp32")
    before = first.predict(path)
    half = fit("half", "bf16")
    halved = half.predict(path)
    assert first.predict(path) == before
    second = fit("second", "fp32")
    assert weights(second) == weights(first)
    assert weights(half) != weights(first)
    assert second.predict(path) == before
    assert half.predict(path) == halved != before
    loaded = [polymodal.load(tmp_path / name) for name in ("first", "half")]
    assert [run.predict(path) for run in loaded] == [before, halved]
    assert [run.predict(path) for run in reversed(loaded)] == [halved, before]
