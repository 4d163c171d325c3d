"""Drift: each test beside scipy's, false alarms on rows of the same kind, what is found in rows of another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats

import polymodal
from endtoend import Shell, make_rows, spec, write_table
from polymodal.core.errors import RunError, TableError
from polymodal.core.seeds import generator
from polymodal.core.traits import Names, Numbers, Trait, Words
from polymodal.work.drift import kept, statistics
from polymodal.work.drift.judge import Finding, Lots, judged, of_states, of_trait, of_vectors
from polymodal.work.drift.kept import Reference, reduce
from polymodal.work.drift.survey import Seen

LOTS = Lots(generator("test"), 499)
HERE = {"there": 1000, "missing": 0, "bad": 0}


def reference(**traits: Trait) -> Reference:
    return reduce(1000, {"input": Seen(HERE, dict(traits))}, {}, {})


def found(before: Trait, after: Trait) -> Finding:
    """One trait beside another."""
    one = of_trait("input", "x", reference(x=before).columns["input"].traits["x"], after, LOTS)
    assert one is not None
    return one


# the tests beside independent ones


@pytest.mark.parametrize(("n", "m", "shift"), [(40, 60, 0.0), (250, 250, 0.1), (200, 1000, 0.4), (50, 3000, 1.0)])
def test_ks_is_that_of_scipy(n: int, m: int, shift: float) -> None:
    rng = np.random.default_rng(n)
    before, after = np.sort(rng.normal(size=n)).astype(np.float32), rng.normal(shift, size=m)
    gap, p = statistics.ks(before, n, after)
    known = stats.ks_2samp(before.astype(np.float64), after, method="exact" if n * m < 1e5 else "asymp")
    assert gap == pytest.approx(known.statistic, abs=1e-9)
    assert p == pytest.approx(known.pvalue, rel=0.15, abs=2e-4)


def test_ks_of_few_rows_is_corrected() -> None:
    rng = np.random.default_rng(3)
    before, after = np.sort(rng.normal(size=20)).astype(np.float32), rng.normal(0.6, size=30)
    known = stats.ks_2samp(before.astype(np.float64), after, method="exact").pvalue
    assert statistics.ks(before, 20, after)[1] == pytest.approx(known, rel=0.15)  # without: 0.0022 for 0.0013


def test_kolmogorov_is_that_of_scipy() -> None:
    for x in (0.1, 0.3, 0.7, 0.99, 1.0, 1.36, 2.5):
        assert statistics.kolmogorov(x) == pytest.approx(stats.kstwobign.sf(x), abs=1e-9)


def test_a_selection_of_values_stands_for_all_of_them() -> None:
    rng = np.random.default_rng(0)
    many = rng.normal(size=4000)
    one = reference(x=Numbers(many)).columns["input"].traits["x"]
    assert isinstance(one, kept.KeptNumbers)
    assert (one.count, len(one.marks)) == (4000, kept.MARKS)
    for shift in (0.0, 0.1, 0.3):
        after = rng.normal(shift, size=1000)
        gap, _ = statistics.ks(one.marks, 4000, after)
        known = stats.ks_2samp(many, after).statistic
        assert known - 2.5 / kept.MARKS < gap <= known + 1e-6  # never larger: no alarm comes of selecting


@pytest.mark.parametrize(("before", "after"), [([50, 30, 20], [40, 40, 20]), ([300, 200], [190, 210])])
def test_chi_square_is_that_of_scipy(before: list[int], after: list[int]) -> None:
    p = statistics.chi_square(np.array(before), np.array(after), generator(0), 999)
    assert p == pytest.approx(stats.chi2_contingency([before, after], correction=False).pvalue, rel=1e-9)


def test_small_counts_are_tested_by_lot() -> None:
    before, after = np.array([60, 3, 0]), np.array([20, 1, 3])
    p = statistics.chi_square(before, after, generator(0), 20_000)
    method = stats.PermutationMethod(5_000, rng=np.random.default_rng(0))
    known = stats.chi2_contingency([before, after], correction=False, method=method)
    assert p == pytest.approx(known.pvalue, abs=0.01)


@pytest.mark.parametrize("table", [(3, 10, 8, 12), (0, 2000, 5, 40), (5, 60, 5, 60), (20, 20, 0, 15)])
def test_fisher_is_twice_the_smaller_tail_of_scipys(table: tuple[int, int, int, int]) -> None:
    a, n, b, m = table
    tails = [stats.fisher_exact([[a, n - a], [b, m - b]], alternative=side).pvalue for side in ("less", "greater")]
    assert statistics.fisher(a, n, b, m) == pytest.approx(min(1.0, 2 * min(tails)), rel=1e-8)


def test_correction_is_that_of_scipy() -> None:
    p = np.random.default_rng(0).random(40) ** 3
    assert statistics.corrected(p.tolist()) == pytest.approx(stats.false_discovery_control(p))
    assert statistics.corrected([]) == []


def test_energy_is_the_statistic_of_its_formula_and_fair() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(30, 1)), rng.normal(0.3, 2.0, size=(25, 1))
    p = statistics.energy(x.astype(np.float32), y.astype(np.float32), generator(1), 4000)

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return stats.energy_distance(a[:, 0], b[:, 0]) ** 2

    both, seen, more = np.concatenate([x, y]), distance(x, y), 0
    for _ in range(2000):
        both = rng.permutation(both)
        more += distance(both[:30], both[30:]) >= seen
    assert p == pytest.approx(more / 2000, abs=0.02)  # some 0.065


def test_a_classifier_tells_what_can_be_told() -> None:
    rng = np.random.default_rng(0)

    def area(shift: float, spread: float) -> tuple[float, float, float]:
        x, y = rng.normal(size=(400, 4)), rng.normal(shift, spread, size=(400, 4))
        return statistics.told_apart(x.astype(np.float32), y.astype(np.float32), generator(2))

    same, low, high = area(0.0, 1.0)
    assert low < 0.5 < high
    assert abs(same - 0.5) < 0.06
    shifted, low, high = area(1.0, 1.0)
    best = stats.norm.cdf(2.0 / np.sqrt(2))  # of two normals at distance 2
    assert low < best < high + 0.01
    assert shifted == pytest.approx(best, abs=0.03)
    assert area(0.0, 2.0)[0] > 0.75  # the squares see another spread


def test_psi_of_a_textbook() -> None:
    """Shares of 0.5 and 0.5 that become 0.6 and 0.4: 0.1 ln 1.2 - 0.1 ln 0.8."""
    known = 0.1 * np.log(1.2) - 0.1 * np.log(0.8)
    assert statistics.psi(np.array([5000, 5000]), np.array([6000, 4000])) == pytest.approx(known, rel=1e-3)


# false alarms


WORDS = [f"w{i}" for i in range(300)]


def draw(kind: str, rng: np.random.Generator, rows: int) -> Trait:
    """Rows of one kind: bell curves, ties, gaps, heavy tails, few and many names, texts of Zipf's words."""
    if kind == "names":
        return Names(rng.choice(list("abcde"), rows, p=[0.6, 0.2, 0.1, 0.09, 0.01]).tolist())
    if kind == "many names":
        return Names([f"n{int(i)}" for i in rng.integers(0, 400, rows)])
    if kind == "ids":
        return Names([f"id {int(i)}" for i in rng.integers(0, 10**9, rows)])
    if kind == "words":
        shares = 1 / np.arange(1, 301)
        texts = rng.choice(WORDS, (rows, 8), p=shares / shares.sum())
        return Words([frozenset(text) for text in texts.tolist()])
    values = {"bell": rng.normal(size=rows), "ties": rng.integers(0, 3, rows).astype(np.float64),
              "gaps": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
              "tails": rng.standard_cauchy(rows)}  # fmt: skip
    return Numbers(values[kind])


@pytest.mark.parametrize("kind", ["bell", "ties", "gaps", "tails", "names", "many names", "ids", "words"])
def test_rows_of_the_same_kind_raise_no_more_alarms_than_promised(kind: str) -> None:
    alarms, trials = 0, 24
    for trial in range(trials):
        rng = np.random.default_rng([trial, len(kind)])
        one = found(draw(kind, rng, 1200), draw(kind, rng, 300))
        alarms += one.p < 0.05
    assert alarms <= 4, f"{alarms} of {trials}"  # binomial(24, 0.05): above it with chance 0.006


@pytest.mark.parametrize("kind", ["many names", "words"])
def test_names_that_were_frequent_by_luck_raise_no_alarms(kind: str) -> None:
    """Where only 20 of 400 names, or of 300 words, are kept: chosen on one half of the rows, counted on the other."""
    alarms = 0
    for trial in range(24):
        rng = np.random.default_rng([trial, 1])
        before = kept._Room(marks=9, named=20, left=9).one(draw(kind, rng, 1200))
        one = of_trait("input", "x", before, draw(kind, rng, 300), LOTS)
        assert one is not None
        alarms += one.p < 0.05
    assert alarms <= 4


def test_vectors_of_the_same_kind_raise_no_more_alarms_than_promised() -> None:
    alarms = 0
    for trial in range(40):
        rng = np.random.default_rng(trial)
        x = rng.standard_t(4, size=(160, 6)).astype(np.float32)
        one = of_vectors("input", x[:80], x[80:], LOTS)
        assert one is not None
        alarms += one.p < 0.05
    assert alarms <= 7


# power, and what is said


def test_what_changed_is_said() -> None:
    rng = np.random.default_rng(0)
    lower = found(Numbers(rng.normal(10, 1, 1000), "s"), Numbers(rng.normal(8, 1, 200), "s"))
    assert lower.text.startswith("lower: ")
    assert " s (" in lower.text
    assert found(Numbers(rng.normal(size=1000)), Numbers(rng.normal(0, 3, 200))).text.startswith("wider: ")
    gaps = np.where(rng.random(200) < 0.3, np.nan, rng.normal(size=200))
    lost = found(Numbers(rng.normal(size=1000)), Numbers(gaps))
    assert lost.p < 1e-6
    assert "missing, was 0 %" in lost.text
    names = found(Names(["a"] * 500 + ["b"] * 500), Names(["a"] * 90 + ["b"] * 90 + ["teal"] * 20))
    assert "'teal' 10 %, was not met" in names.text
    assert names.p < 1e-6
    words = found(draw("words", rng, 1000), Words([frozenset({"der", "w1"}), frozenset({"der", "die"})] * 50))
    assert "'der' 100 %, was not met" in words.text
    assert words.large
    assert words.p < 1e-6
    states = of_states("photo", HERE, {"there": 80, "missing": 5, "bad": 15}, LOTS)
    assert states is not None
    assert states.text == "5 % missing, was 0 %, 15 % bad, was 0 %"
    assert states.p < 0.01


def test_small_changes_are_slight_and_the_largest_stand_first() -> None:
    rng = np.random.default_rng(0)
    shifts = {"much": 2.0, "slight": 0.15, "none": 0.0}
    before = reduce(9, {"i": Seen(HERE, {n: Numbers(rng.normal(size=4000)) for n in shifts})}, {}, {}).columns["i"]
    tried = [of_trait("i", n, before.traits[n], Numbers(rng.normal(s, 1, 4000)), LOTS) for n, s in shifts.items()]
    listed = judged([f for f in tried if f], 0.05)
    assert [(f.what, f.level) for f in listed] == [("much", "drift"), ("slight", "slight"), ("none", "none")]
    assert listed[0].q == pytest.approx(3 * listed[0].p)


def test_too_few_rows_are_not_tested() -> None:
    few = Numbers(np.arange(19.0))
    assert of_trait("i", "x", reference(x=Numbers(np.arange(100.0))).columns["input"].traits["x"], few, LOTS) is None
    assert of_vectors("i", np.zeros((19, 2), np.float32), np.zeros((50, 2), np.float32), LOTS) is None


# a run's own


class Watched:
    """A run over pictures, texts, sounds and numbers, and tables of the same kind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rows = make_rows(folder, 260)
        self.table = write_table(folder / "train.csv", rows)
        polymodal.train(spec=spec(self.table, train={"epochs": 2, "batch": 32}), out=folder / "run", quiet=True)
        self.run = polymodal.load(folder / "run")
        self.rows = make_rows(folder, 120, seed=1)

    def changed(self, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
        return write_table(self.folder / f"{name}.csv", [{**row, **change(row)} for row in self.rows])


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    return Watched(tmp_path_factory.mktemp("watched"))


def test_what_is_kept_is_small_and_read_again_as_it_was(watched: Watched) -> None:
    sizes = [(watched.run.folder / name).stat().st_size for name in kept.FILES]
    assert sum(sizes) < 300_000
    one = kept.load(watched.run.folder)
    assert one is not None
    assert one.rows == 234
    assert set(one.columns) == {"photo", "title", "sound", "facts"}
    assert {"brightness", "contrast", "width"} <= set(one.columns["photo"].traits)
    assert {"length", "level", "pitch"} <= set(one.columns["sound"].traits)
    assert {"unknown", "script", "words"} <= set(one.columns["title"].traits)
    assert set(one.columns["facts"].traits) == {"price", "brand"}
    assert set(one.vectors) == {"photo", "title", "sound", "facts", "all inputs"}
    assert set(one.answers["label"]) == {"answer", "confidence"}
    text = (watched.run.folder / "drift.json").read_text()
    assert "photo-0-" not in text  # no cell of the table
    damaged = watched.folder / "damaged"
    shutil.copytree(watched.run.folder, damaged)
    (damaged / "drift.json").write_text(text.replace("234", "235"))
    with pytest.raises(RunError, match="sha256"):
        kept.load(damaged)


def test_a_wide_table_keeps_no_more() -> None:
    rng = np.random.default_rng(0)
    traits: dict[str, Trait] = {f"c{i}": Numbers(rng.normal(size=4000)) for i in range(900)}
    traits |= {
        f"d{i}": Names([f"a name of some length {int(v)}" for v in rng.integers(0, 99, 4000)]) for i in range(99)
    }
    vectors = {f"v{i}": rng.normal(size=(500, 32)).astype(np.float32) for i in range(12)}
    one = reduce(4000, {"facts": Seen(HERE, traits)}, vectors, {})
    size = sum(t.marks.nbytes for t in one.columns["facts"].traits.values() if isinstance(t, kept.KeptNumbers))
    assert size + sum(2 * v.size for v in one.vectors.values()) < 300_000
    assert len(one.columns["facts"].traits) == kept.COLUMNS


def test_rows_of_the_same_kind_have_not_drifted(watched: Watched) -> None:
    same = watched.run.drift(watched.changed("same", lambda row: {}))
    assert not same.drifted, same.text()
    assert len(same.findings) > 20
    assert watched.run.drift(watched.table).text().startswith("no drift")
    assert not watched.run.drift(watched.table, against=watched.table).drifted
    again = watched.run.drift(watched.changed("same", lambda row: {}))
    assert again.json() == same.json()


def test_what_was_learned_from_training_rows_is_compared_with_others(tmp_path: Path) -> None:
    """Texts of rare words: a training text has no unknown one, every other text has many."""
    rng = np.random.default_rng(0)

    def rows(count: int) -> list[dict[str, Any]]:
        titles = [" ".join(f"w{int(i)}" for i in rng.zipf(1.3, 12) % 5000) for _ in range(count)]
        return [{"title": title, "label": "ab"[i % 2]} for i, title in enumerate(titles)]

    title = {"type": "text", "min_count": 1, "encoder": {"type": "gru", "width": 4}}
    table = write_table(tmp_path / "train.csv", rows(400))
    run = polymodal.train(spec=spec(table, {"title": title}, data={"valid": 0.3}), out=tmp_path / "run", quiet=True)
    new = rows(200)
    found = run.drift(new)
    assert not found.drifted, found.text()
    assert "unknown" in {f.what for f in found.findings}
    against = run.drift(new, against=table)
    assert "unknown" not in {f.what for f in against.findings}
    other = [{**row, "title": str(row["title"]).replace("w", "v")} for row in new]
    assert any(f.what == "unknown" and f.level == "drift" for f in run.drift(other).findings)


def test_darkened_pictures_are_found_and_nothing_else(watched: Watched) -> None:
    def darker(row: dict[str, Any]) -> dict[str, Any]:
        name = f"dark-{row['photo']}"
        with Image.open(watched.folder / row["photo"]) as picture:
            picture.point(lambda v: v * 2 // 5).save(watched.folder / name)
        return {"photo": name}

    drift = watched.run.drift(watched.changed("dark", darker))
    first = {f.where for f in drift.findings if f.level == "drift"}
    assert "photo" in first
    assert first <= {"photo", "all inputs", "answers to label"}
    (light,) = [f for f in drift.findings if f.what == "brightness"]
    assert light.level == "drift"
    assert light.text.startswith("lower: ")
    (seen,) = [f for f in drift.findings if f.where == "photo" and f.measure == "auroc"]
    assert seen.level == "drift"


def test_another_language_and_a_new_category_are_found(watched: Watched) -> None:
    def other(row: dict[str, Any]) -> dict[str, Any]:
        chosen = int(row["photo"].split("-")[2].removesuffix(".png"))
        return {"title": f"这 是 一 个 杯子 {chosen % 7}", "brand": "Teal" if chosen % 6 == 0 else row["brand"]}

    drift = watched.run.drift(watched.changed("other", other))
    texts = {(f.where, f.what): f for f in drift.findings if f.level == "drift"}
    assert "'cjk' 100 %, was not met" in texts["title", "script"].text
    assert ("title", "unknown") in texts
    assert ("title", "words") in texts
    assert "'Teal' 17 %, was not met" in texts["facts", "brand"].text
    assert not any(where in ("photo", "sound") for where, _ in texts)


def test_command_line_page_and_exit_code(watched: Watched, shell: Shell) -> None:
    from polymodal import cli

    table = watched.changed("dear", lambda row: {"price": row["price"] * 3 + 1, "brand": "<b>Teal</b>"})
    page = watched.folder / "page"
    done = shell.works("drift", watched.run.folder, table, "--report", page)
    assert "facts, price: higher:" in done.out
    plain = json.loads((page / "drift.json").read_text())
    assert plain["drifted"]
    assert plain["findings"][0]["where"] == "facts"
    html = (page / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;Teal&lt;/b&gt;" in html
    assert "<b>Teal" not in html
    assert "<script" not in html
    assert cli.main(["drift", str(watched.run.folder), str(table), "--json", "--fail-on-drift"]) == 3
    assert json.loads(shell.captured.readouterr().out) == plain
    same = str(watched.changed("same", lambda row: {}))
    assert cli.main(["drift", str(watched.run.folder), same, "--fail-on-drift"]) == 0
    assert "between 0 and 1" in shell.fails("drift", watched.run.folder, table, "--level", "2")


def test_an_older_run_is_compared_with_a_table(watched: Watched, shell: Shell) -> None:
    older = watched.folder / "older"
    shutil.copytree(watched.run.folder, older)
    place = older / "run.json"
    manifest = json.loads(place.read_text())
    for name in kept.FILES:
        (older / name).unlink()
        del manifest["files"][name]
    place.write_text(json.dumps(manifest))
    table = watched.changed("dear", lambda row: {"price": row["price"] * 3 + 1})
    assert "keeps nothing of its training rows" in shell.fails("drift", older, table)
    done = shell.works("drift", older, table, "--against", watched.table)
    assert "facts, price: higher:" in done.out
    with pytest.raises(TableError):
        watched.run.drift({"price": [1.0] * 30})


def test_bad_and_missing_cells_are_counted(watched: Watched) -> None:
    rows = [{**row, "photo": "gone.png" if i % 3 == 0 else row["photo"], "title": None if i % 2 else row["title"]}
            for i, row in enumerate(watched.rows)]  # fmt: skip
    drift = watched.run.drift(write_table(watched.folder / "gaps.csv", rows))
    cells = {f.where: f for f in drift.findings if f.what == "cells" and f.level == "drift"}
    assert cells["photo"].text == "33 % bad, was 0 %"
    assert cells["title"].text == "50 % missing, was 0 %"
    assert set(cells) == {"photo", "title"}
