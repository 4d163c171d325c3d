"""The code of README and docs runs: Python blocks alone, specs are checked, commands in order; both READMEs agree."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from endtoend import make_rows, write_table
from polymodal import cli
from polymodal.core import spec as specs
from polymodal.core import yaml12

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "README.zh-CN.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


CASES = [(page.name, i, body) for page in PAGES for i, body in enumerate(blocks(page, "python"))]


@pytest.mark.parametrize(("page", "number", "body"), CASES, ids=[f"{p}-{i}" for p, i, _ in CASES])
def test_python_blocks_run(page: str, number: int, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(body, f"{page}, block {number + 1}", "exec"), {"__name__": "__main__"})


SPECS = [(p.name, i, body) for p in PAGES for i, body in enumerate(blocks(p, "yaml"))]


@pytest.mark.parametrize(("page", "number", "body"), SPECS, ids=[f"{p}-{i}" for p, i, _ in SPECS])
def test_specs_are_right(page: str, number: int, body: str) -> None:
    plain = yaml12.loads(body, page)
    if isinstance(plain, dict) and {"inputs", "tasks"} <= plain.keys():
        specs.validate(specs.parse(plain))


def write_products(folder: Path) -> None:
    """The tables that the first screen stands for: with a target, with one but other rows, and without."""
    rows = [{"category": r.pop("label"), **r} for r in make_rows(folder, 48)]
    write_table(folder / "products.csv", rows[:36])
    write_table(folder / "more.csv", rows[36:])
    write_table(folder / "new.csv", [{k: v for k, v in r.items() if k != "category"} for r in rows[36:]])


def test_commands_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `polymodal` command of the README, one after the other, in an empty folder; `make` is not run again."""
    monkeypatch.chdir(tmp_path)
    write_products(tmp_path)
    for body in blocks(ROOT / "README.md", "sh"):
        for name, text in re.findall(r"^cat > (\S+) <<'END'\n(.*?)^END$", body, re.M | re.S):
            Path(name).write_text(text, encoding="utf-8")
        for line in body.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["polymodal"] and words[1] != "demo":
                assert cli.main(words[1:]) == 0, line


def test_both_readmes_show_the_same_code() -> None:
    one, two = (BLOCK.findall((ROOT / n).read_text(encoding="utf-8")) for n in ("README.md", "README.zh-CN.md"))
    plain = [[(k, re.sub(r"#.*", "", b)) for k, b in found] for found in (one, two)]
    assert plain[0] == plain[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"
