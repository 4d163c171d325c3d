"""The image without an engine that builds it: every instruction is parsed, and what can be run by hand is run."""

from __future__ import annotations

import http.server
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from polymodal import cli

ROOT = Path(__file__).parents[1]
HOST = re.compile(r"https?://(?!127\.0\.0\.1)\S+")


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The instructions in order; the parser works on a copy, since it may write."""
    copy = tmp_path_factory.mktemp("docker") / "Dockerfile"
    copy.write_bytes((ROOT / "Dockerfile").read_bytes())
    return [s for s in DockerfileParser(path=str(copy)).structure if s["instruction"] != "COMMENT"]


def last(steps: list[dict[str, Any]], instruction: str) -> str:
    return [s["value"] for s in steps if s["instruction"] == instruction][-1]


def kept(path: str) -> bool:
    """Whether `.dockerignore` lets a path through: the last pattern that fits it or a folder above decides."""
    found = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        keeps, pattern = pattern.startswith("!"), pattern.removeprefix("!")
        above = [Path(path), *Path(path).parents]
        name = pattern.removeprefix("**/")
        if pattern == "*" or any(str(one) == pattern or (name != pattern and one.name == name) for one in above):
            found = keeps
    return found


def test_everything_that_is_copied_is_there_and_sent(steps: list[dict[str, Any]]) -> None:
    sources = []
    for step in steps:
        words = step["value"].split()
        if step["instruction"] == "COPY" and not words[0].startswith("--from"):
            sources += words[:-1]
    assert set(sources) == {"deploy/gather.sh", "deploy/wheelhouse", "pyproject.toml", "README.md", "LICENSE", "src"}
    for source in sources:
        assert (ROOT / source).exists(), source
        assert kept(source), source
    assert kept("src/polymodal/work/templates/report.html")
    for other in (
        ".git/config",
        "tests/conftest.py",
        "runs/one/weights.safetensors",
        "src/polymodal/__pycache__/x.pyc",
    ):
        assert not kept(other), other


def test_what_a_wheel_is_made_of_is_copied(steps: list[dict[str, Any]]) -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = " ".join(s["value"] for s in steps if s["instruction"] == "COPY")
    for needed in (project["project"]["readme"], *project["project"]["license-files"]):
        assert needed in copied
    given = next(s["value"] for s in steps if s["instruction"] == "ARG" and s["value"].startswith("EXTRAS"))
    extras = given.partition("=")[2].strip('"').split(",")
    assert set(extras) <= set(project["project"]["optional-dependencies"])
    assert f"EXTRAS:-{','.join(extras)}" in (ROOT / "deploy" / "gather.sh").read_text()
    torch = next(d for d in project["project"]["dependencies"] if d.startswith("torch"))
    assert any(s["value"] == f'TORCH="{torch}"' for s in steps if s["instruction"] == "ARG")


def test_every_argument_is_used_and_no_address_is_written_down(steps: list[dict[str, Any]]) -> None:
    for step in steps:
        if step["instruction"] == "ARG":
            name = step["value"].partition("=")[0]
            assert any(f"${{{name}}}" in s["value"] for s in steps), name
    for file in ("Dockerfile", "deploy/gather.sh", "deploy/compose.yaml", ".dockerignore"):
        assert not HOST.search((ROOT / file).read_text()), file


def test_it_runs_as_nobody_in_particular_and_offline(steps: list[dict[str, Any]]) -> None:
    assert int(last(steps, "USER")) > 0
    at = [s["instruction"] for s in steps]
    assert at.index("USER") > max(i for i, name in enumerate(at) if name in ("RUN", "COPY"))
    env = dict(word.split("=", 1) for word in shlex.split(last(steps, "ENV").replace("\\\n", " ")))
    assert env["HF_HUB_OFFLINE"] == env["TRANSFORMERS_OFFLINE"] == "1"
    assert all(env[name].startswith("/tmp") for name in ("HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME"))
    stages = [s["value"] for s in steps if s["instruction"] == "FROM"]
    assert [s.split(" AS ")[-1] for s in stages[:-1]] == ["wheels", "install"]
    final = steps[max(i for i, s in enumerate(steps) if s["instruction"] == "FROM") :]
    assert not any("pip" in s["value"] for s in final)  # the image that runs never installs
    (install,) = [s["value"] for s in steps if s["instruction"] == "RUN" and "pip install" in s["value"]]
    assert "--no-index" in install


def test_its_command_is_one_of_ours(steps: list[dict[str, Any]]) -> None:
    assert json.loads(last(steps, "ENTRYPOINT")) == ["polymodal"]
    options = cli.parser().parse_args(json.loads(last(steps, "CMD")))
    assert (options.command, options.run, options.host) == ("serve", "/srv/run", "0.0.0.0")
    assert str(options.port) == last(steps, "EXPOSE")
    assert last(steps, "STOPSIGNAL") == "SIGTERM"


@pytest.fixture
def answering() -> Iterator[Any]:
    """A server that answers `/ready` with the status it is told."""

    class Handler(http.server.BaseHTTPRequestHandler):
        status = 200

        def do_GET(self) -> None:
            self.send_response(self.status if self.path == "/ready" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Handler, server.server_port
    server.shutdown()
    server.server_close()


def test_the_health_check_tells_ready_from_not(steps: list[dict[str, Any]], answering: Any) -> None:
    handler, port = answering
    python, *words = json.loads(last(steps, "HEALTHCHECK").partition("CMD")[2])
    assert python == "python"
    command = [sys.executable, *(w.replace(":8000", f":{port}") for w in words)]
    assert f":{port}" in command[-1]
    for status, code in ((200, 0), (503, 1)):
        handler.status = status
        assert subprocess.run(command, capture_output=True, timeout=30).returncode == code
    gone = [w.replace(f":{port}", ":9") for w in command]
    assert subprocess.run(gone, capture_output=True, timeout=30).returncode == 1


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, [["torch>=2.11,<2.14"], ["--find-links=OUT", "hatchling", ".[serve,search,audio]"]]),
        ({"INDEX": "file:///a", "TORCH_INDEX": "file:///b", "TORCH": "torch==2.12.0", "EXTRAS": "serve"},
         [["--index-url", "file:///b", "torch==2.12.0"],
          ["--index-url", "file:///a", "--find-links=OUT", "hatchling", ".[serve]"]]),
        ({"WHEELS": "1", "INDEX": "file:///a"},
         [["--no-index", "--find-links=deploy/wheelhouse", "torch>=2.11,<2.14"],
          ["--no-index", "--find-links=deploy/wheelhouse", "--find-links=OUT", "hatchling", ".[serve,search,audio]"]]),
    ],
)  # fmt: skip
def test_gathering_asks_what_it_is_told_to(given: dict[str, str], asked: list[list[str]], tmp_path: Path) -> None:
    """The script with an interpreter that only writes down how it was called."""
    (tmp_path / "deploy" / "wheelhouse").mkdir(parents=True)
    (tmp_path / "deploy" / "gather.sh").write_bytes((ROOT / "deploy" / "gather.sh").read_bytes())
    if given.get("WHEELS"):
        (tmp_path / "deploy" / "wheelhouse" / "torch-2.13.0-cp312.whl").touch()
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done >> calls\necho >> calls\n')
    python.chmod(0o755)
    plain = {k: v for k, v in os.environ.items() if k not in ("INDEX", "TORCH_INDEX", "TORCH", "EXTRAS")}
    environment = plain | given | {"PYTHON": str(python)}
    command = ["sh", "deploy/gather.sh", "wheels"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    calls = [c.splitlines() for c in (tmp_path / "calls").read_text().split("\n\n") if c.strip()]
    head = ["-m", "pip", "wheel", "--wheel-dir", "wheels"]
    assert calls == [head + [w.replace("OUT", "wheels") for w in words] for words in asked]


def test_compose_starts_what_we_have_and_takes_rights_away() -> None:
    plain = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    (service,) = plain["services"].values()
    options = cli.parser().parse_args(service["command"])
    assert options.command == "serve"
    mounts = [v.split(":")[1] for v in service["volumes"]]
    assert {options.run, options.log} <= set(mounts)
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert any(t.startswith("/tmp") for t in service["tmpfs"])
    assert options.token_file == f"/run/secrets/{service['secrets'][0]}"
    assert (ROOT / "deploy" / service["build"]["context"] / "Dockerfile").is_file()


def test_the_proxy_lets_through_what_the_server_takes() -> None:
    from polymodal.serve.http.settings import ServeSettings

    text = (ROOT / "deploy" / "nginx.conf").read_text()
    assert f"client_max_body_size {ServeSettings().body_mb:.0f}m;" in text
    assert "proxy_buffering off;" in text
    assert text.count("{") == text.count("}")
