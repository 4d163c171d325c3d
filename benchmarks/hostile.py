"""Ten thousand random and hostile requests to `polymodal serve`: `python benchmarks/hostile.py`. Writes hostile.md.

A run that reads pictures, sounds, clips, numbers, series and sentences, that classifies and says a sentence, and an
index of it. schemathesis reads the OpenAPI; the rest is `hostile_bodies.py` and clients that are slow, go away, or come
all at once. strace watches which files the server opens and whom it calls. Ends with 1 when the server ends, answers
5xx other than 503, grows, opens a file that is not its own, connects to anything, or answers otherwise than before.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

from hostile_bodies import BOMB, Stranger, encoded, sound

SLOW, PATIENCE = 3, 90.0  # seconds that a client may take; and that one waits here
GROWTH = 64.0  # MB that memory may grow between the middle and the end
ONE_WAY = "closed"  # without an answer
Made = tuple[Path, Path | None, dict[str, Any]]  # a run, its index, a good row as JSON
CALLS = "trace=open,openat,creat,connect,execve,sendto"
SYSTEM = ("/usr/lib", "/lib", "/dev/null", "/dev/shm", "/usr/share/zoneinfo", "/sys/devices/system", "/sys/fs/cgroup",
          "/proc/self/cgroup", "/proc/self/mountinfo", "/proc/meminfo", "/proc/stat", "/proc/cpuinfo",
          "/proc/sys/vm/overcommit_memory", "/etc/mime.types")  # fmt: skip
FORKS = ("/..namedfork/rsrc", "._", ".AppleDouble/")  # what libsndfile looks for beside a spoilt sound, whoever sent it


# A run


def make_run(folder: Path) -> Made:
    """The run, its index and a good row, as JSON."""
    import numpy as np

    import polymodal
    from polymodal import cli
    from polymodal.core import yaml12

    g = np.random.default_rng(0)
    rows = []
    (folder / "files").mkdir()
    for n in range(24):
        names = {k: f"files/{n}.{e}" for k, e in (("photo", "png"), ("sound", "wav"), ("clip", "mp4"))}
        picture = g.integers(0, 255, (24, 24, 3), dtype=np.uint8)
        (folder / names["photo"]).write_bytes(saved_picture(picture))
        (folder / names["sound"]).write_bytes(sound(800 + n))
        (folder / names["clip"]).write_bytes(clip_of(g.integers(0, 255, (5, 32, 32, 3), dtype=np.uint8)))
        rows.append(
            {
                **names,
                "title": f"a red mug {n}",
                "price": 10.5 + n,
                "brand": ("Acme", "Bolt")[n % 2],
                "pulse": [float(x) for x in g.normal(size=12)],
                "label": ("yes", "no")[n % 2],
                "words": "a mug",
            }
        )
    table = folder / "rows.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    small: dict[str, Any] = {"type": "cnn", "channels": [4, 8]}
    plain = {
        "data": {"train": str(table)},
        "inputs": {
            "photo": {"type": "image", "size": 16, "encoder": small},
            "sound": {"type": "audio", "rate": 8000, "mels": 16, "encoder": {"type": "gru", "width": 8}},
            "clip": {"type": "video", "size": 16, "frames": 4, "encoder": {"type": "frames", "picture": small}},
            "title": {"type": "text", "min_count": 1, "encoder": {"type": "gru", "width": 8}},
            "pulse": {"type": "series", "encoder": {"type": "gru", "width": 8}},
            "facts": {"type": "tabular", "columns": ["price", "brand"], "encoder": {"type": "mlp", "width": 8}},
        },
        "fusion": {"type": "gated"},
        "tasks": {
            "label": {"type": "classify", "column": "label"},
            "say": {
                "type": "caption",
                "column": "words",
                "decoder": {"type": "transformer", "layers": 1},
                "min_count": 1,
            },
        },
        "train": {"epochs": 1, "batch": 8, "device": "cpu", "threads": 1},
    }
    (folder / "spec.yaml").write_text(yaml12.dumps(plain), encoding="utf-8")
    if cli.main(["train", str(folder / "spec.yaml"), "--out", str(folder / "run"), "--quiet"]):
        raise SystemExit("the run could not be trained")
    polymodal.load(folder / "run").index(str(table), out=folder / "index", keep=["price", "brand"])
    return folder / "run", folder / "index", good_row(folder, rows[0], ("photo", "sound", "clip"), ("label", "words"))


def good_row(folder: Path, row: dict[str, Any], files: Iterable[str], targets: Iterable[str]) -> dict[str, Any]:
    return {k: encoded((folder / v).read_bytes()) if k in files else v for k, v in row.items() if k not in targets}


def saved_picture(pixels: Any) -> bytes:
    import io

    from PIL import Image

    made = io.BytesIO()
    Image.fromarray(pixels).save(made, "PNG")
    return made.getvalue()


def clip_of(frames: Any) -> bytes:
    import io

    import av

    made = io.BytesIO()
    with av.open(made, "w", "mp4") as file:
        stream = file.add_stream("mpeg4", rate=5)
        stream.height, stream.width = frames.shape[1:3]
        for pixels in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())
    return made.getvalue()


# Clients


async def heard(port: int, data: bytes, patience: float = PATIENCE) -> tuple[int | str, bytes]:
    """Status and body of the answer to some bytes; `closed` for none, `silent` for one that does not come."""
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
            try:
                with contextlib.suppress(ConnectionError):
                    writer.write(data)
                    await writer.drain()
                return await answer_of(reader, data.startswith(b"HEAD"))
            finally:
                writer.close()
    except TimeoutError:
        return "silent", b""
    except (OSError, asyncio.IncompleteReadError, ValueError):
        return ONE_WAY, b""


async def answer_of(reader: asyncio.StreamReader, bare: bool = False) -> tuple[int, bytes]:
    """Status and body; `bare` for an answer that has none."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    if status == 100:
        return await answer_of(reader)
    length = re.search(rb"content-length: *(\d+)", head.lower())
    if bare or status in (204, 304):
        return status, b""
    if length is not None:
        return status, await reader.readexactly(int(length[1]))
    body = b""
    while b"chunked" in head.lower() and not body.endswith(b"0\r\n\r\n"):
        piece = await reader.read(1 << 16)
        if not piece:
            break
        body += piece
    return status, body


async def ask_all(port: int, requests: Iterable[tuple[str, bytes]], at_once: int) -> Counter[tuple[str, int | str]]:
    """How often each kind was answered how."""
    found: Counter[tuple[str, int | str]] = Counter()
    waiting = iter(requests)

    async def client() -> None:
        for kind, data in waiting:
            status, body = await heard(port, data)
            found[kind, status] += 1
            if isinstance(status, int) and status >= 500 and status != 503:
                print(f"{kind}: {status} {body[:300]!r} to {data[:600]!r}", file=sys.stderr)

    await asyncio.gather(*(client() for _ in range(at_once)))
    return found


async def slow(port: int, data: bytes, every: float) -> int | str:
    """A byte at a time, until the server has had enough."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            answer = asyncio.create_task(answer_of(reader))
            for byte in data:
                writer.write(bytes([byte]))
                await asyncio.wait([answer], timeout=every)
                if answer.done():
                    break
            return (await asyncio.wait_for(answer, PATIENCE))[0]
    return ONE_WAY


async def gone(port: int, data: bytes, share: float) -> str:
    """Sends a part, or all of it, and does not wait for the answer."""
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data[: int(share * len(data))])
        await asyncio.sleep(0.01)
        writer.transport.abort()
    return "gone"


async def crowd(port: int, good: bytes, many: int) -> Counter[tuple[str, int | str]]:
    """All at once."""
    found = await asyncio.gather(*(heard(port, good) for _ in range(many)))
    return Counter(("all at once", status) for status, _ in found)


async def patience_of(port: int, good: bytes, many: int) -> Counter[tuple[str, int | str]]:
    """Slow headers, slow bodies, and clients that go away."""
    head = good.index(b"\r\n\r\n") + 4
    slows = await asyncio.gather(*(slow(port, good, 0.2) for _ in range(many)))
    bodies = await asyncio.gather(*(late_body(port, good, head) for _ in range(many)))
    left = await asyncio.gather(*(gone(port, good, n % 11 / 10) for n in range(10 * many)))
    return Counter(
        [*(("slow headers", s) for s in slows), *(("slow body", s) for s in bodies), *(("goes away", s) for s in left)]
    )


async def late_body(port: int, good: bytes, head: int) -> int | str:
    """The headers and five bytes of the body, and then nothing."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(writer):
            writer.write(good[: head + 5])
            return (await asyncio.wait_for(answer_of(reader), PATIENCE))[0]
    return ONE_WAY


# The server


def server_words(run: Path, index: Path | None, port: int, slow: int) -> list[str]:
    return [
        sys.executable,
        "-m",
        "polymodal",
        "serve",
        str(run),
        *([str(index)] if index else []),
        "--port",
        str(port),
        "--slow",
        str(slow),
        "--threads",
        "1",
        "--access-log",
        "none",
    ]


async def ready(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        status, _ = await heard(port, b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n")
        if status == 200:
            return
        if process.poll() is not None:
            break
        await asyncio.sleep(0.1)
    raise SystemExit("the server does not start")


def watched(words: list[str], log: Path, strace: bool) -> list[str]:
    """The server's command line, watched by strace, or by Python itself, which does not see what libraries in C do."""
    if strace:
        return ["strace", "-f", "--seccomp-bpf", "-qq", "-s", "300", "-e", CALLS, "-o", str(log), *words]
    return [sys.executable, "-c", AUDIT, str(log), *words[3:]]


AUDIT = """
import os, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def seen(event, given):
    if event == "open" and isinstance(given[0], (str, bytes)):
        os.write(log, f'open("{os.path.abspath(os.fsdecode(given[0]))}") = 0\\n'.encode("utf-8", "replace"))
    elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "ctypes.dlopen"):
        name = os.fsdecode(given[0]) if isinstance(given[0], (str, bytes)) else given[0]
        os.write(log, f'execve("{name}") = 0\\n'.encode("utf-8", "replace"))
    elif event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        os.write(log, f'0 connect(sa_family {given[1]!r})\\n'.encode("utf-8", "replace"))
sys.addaudithook(seen)
sys.argv = ["polymodal", *sys.argv[2:]]
from polymodal.cli import main
sys.exit(main(sys.argv[1:]))
"""


def memory(port: int) -> float:
    """MB of the process that listens."""
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            line = (status.parent / "cmdline").read_bytes()
            if b"\0--port\0%d\0" % port in line and not line.startswith(b"strace"):
                return int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1]) / 1024  # type: ignore[index]
    return 0.0


def opened(log: Path, since: int) -> list[str]:
    """What was opened, called or run since a line of strace's log."""
    lines = log.read_text(errors="replace").splitlines()[since:]
    calls = (re.search(r'(openat|open|creat|execve)\([^"]*"([^"]*)"', line) for line in lines)
    found = [f"{c[1]} {c[2]}" for c in calls if c is not None]
    return found + [line.split(None, 1)[1] for line in lines if "connect(" in line and "sa_family" in line]


def foreign(found: Iterable[str], own: Sequence[Path]) -> Counter[str]:
    """Those that are neither of the run, the index and the page, nor of Python and its packages."""
    allowed = (*map(str, own), sys.prefix, sys.base_prefix, *SYSTEM)
    names = ((call, call.split(" ", 1)[-1]) for call in found)
    return Counter(call for call, name in names if not name.startswith(allowed) and name not in FORKS)


NOT_OF_FORMS = "positive_data_acceptance,negative_data_rejection"  # all is text there, and of file names no word
CONFIG = """\
[[operations]]  # what `where`, `like`, `input`, `dimensions` and `content` may say, a schema knows too little of
include-path-regex = "^/v1/(search|embeddings|chat/completions)$"
checks.positive_data_acceptance.enabled = false
"""


def schemathesis(port: int, examples: int, seed: int) -> tuple[int, list[str]]:
    """Requests made and what was said: every check on bodies of JSON, and most of them on forms as well."""
    made, told = 0, []
    with tempfile.TemporaryDirectory() as folder:
        plain = json.loads(asyncio.run(heard(port, b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n"))[1])
        Path(folder, "whole.json").write_text(json.dumps(plain))
        for path in plain["paths"].values():
            path.get("post", {}).get("requestBody", {}).get("content", {}).pop("multipart/form-data", None)
        Path(folder, "plain.json").write_text(json.dumps(plain))
        Path(folder, "config.toml").write_text(CONFIG, encoding="utf-8")
        for name, more in (
            ("plain", ["--phases", "examples,coverage,fuzzing"]),
            ("whole", ["--phases", "fuzzing", "--exclude-checks", NOT_OF_FORMS]),
        ):
            words = [
                sys.executable,
                "-m",
                "schemathesis.cli",
                "--no-color",
                "--config-file",
                f"{folder}/config.toml",
                "run",
                f"{folder}/{name}.json",
                "--url",
                f"http://127.0.0.1:{port}",
                "--max-examples",
                str(examples),
                "--seed",
                str(seed),
                "--continue-on-failure",
                "--request-timeout",
                "60",
                "--generation-database",
                "none",
                "--suppress-health-check",
                "all",
                "--warnings",
                "off",
                *more,
            ]
            done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)
            count = re.search(r"([\d,]+) generated", done.stdout)
            made += int(count[1].replace(",", "")) if count else 0
            told += [line for line in done.stdout.splitlines() if line.strip()]
            if count is None or done.returncode not in (0, 1):
                raise SystemExit(f"schemathesis: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return made, told


# The proof


class Proof:
    """What was seen of the server."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, int | str]] = Counter()
        self.memory: dict[str, float] = {}
        self.wrong: list[str] = []
        self.foreign: Counter[str] = Counter()
        self.files = 0  # opened after the first answer
        self.checks: list[str] = []  # of schemathesis

    def judge(
        self, process: subprocess.Popen[bytes], before: tuple[int | str, bytes], after: tuple[int | str, bytes]
    ) -> None:
        """Everything that is not as it should be."""
        bad = {k: n for k, n in self.answers.items() if isinstance(k[1], int) and k[1] >= 500 and k[1] != 503}
        self.wrong += [f"{kind}: {status}, {n} times" for (kind, status), n in bad.items()]
        self.wrong += [
            f"{kind}: no answer, {n} times" for (kind, status), n in self.answers.items() if status == "silent"
        ]
        self.wrong += [] if before[0] == 200 and before == after else [f"it answered {before!r}, and then {after!r}"]
        grown = self.memory["end"] - self.memory["middle"]
        self.wrong += [f"memory grew by {grown:.0f} MB"] if grown > GROWTH else []
        self.wrong += [f"foreign: {name}, {n} times" for name, n in self.foreign.items()]
        self.wrong += [] if process.poll() is None else [f"it ended with {process.returncode}"]

    def page(self, command: str, seconds: float) -> str:
        kinds = list(dict.fromkeys(kind for kind, _ in self.answers))
        statuses = sorted({status for _, status in self.answers}, key=str)
        lines = ["# Hostile requests", "", f"    {command}", "", ABOUT, ""]
        lines += [f"{sum(self.answers.values()):,} requests in {seconds:.0f} seconds.", ""]
        lines += [
            "Nothing that should not be." if not self.wrong else "Not as it should be: " + "; ".join(self.wrong) + ".",
            "",
        ]
        lines += ["| | " + " | ".join(map(str, statuses)) + " |", "|" + " --- |" * (len(statuses) + 1)]
        lines += [f"| {k} | " + " | ".join(str(self.answers[k, s] or "") for s in statuses) + " |" for k in kinds]
        memory = ", ".join(f"{name} {size:.0f} MB" for name, size in self.memory.items())
        lines += ["", f"Memory (RSS): {memory}. The same request before and after: the same bytes.", ""]
        told = "none of them foreign" if not self.foreign else f"foreign: {dict(self.foreign)}"
        return "\n".join([*lines, f"{self.files:,} files opened after the first answer, {told}.", "", *self.checks, ""])


ABOUT = f"""\
`polymodal serve` of a run with pictures, sounds, clips, series, numbers and sentences, and of an index of it. The
kinds are in `hostile_bodies.py`; clients that send a byte at a time have {SLOW} seconds. Columns are statuses;
`{ONE_WAY}`: the server closed the connection, as it may where what came was no HTTP, or where a body that is refused
goes on for too long; `gone`: the client went away itself; `checked`: by schemathesis, whose words are below. Memory is
read when every kind was met, in the middle and at the end. strace, or where there is none Python's own hook, sees what
the server opens, runs and connects to; own are the run, the index, the page, Python with its packages, and what the
system says of itself. libsndfile looks for a Mac's resource fork beside a spoilt sound, under three names of its own
({", ".join(FORKS)}): they are left out here.
"""


class Sizes(NamedTuple):
    """How much of everything."""

    count: int = 7000  # requests by lot
    many: int = 1000  # connections at once
    examples: int = 150  # of schemathesis for every endpoint
    seed: int = 0
    much: int = 10 << 20  # characters of a long text
    bomb: int = BOMB  # bytes that a bomb unpacks to
    slow: int = SLOW  # seconds that a client may take


def prove(folder: Path, made: Made, sizes: Sizes, strace: bool) -> Proof:
    """Start a server, do all of it, and say what was seen."""
    port, proof, log = free_port(), Proof(), folder / "opened.log"
    words = watched(server_words(*made[:2], port, sizes.slow), log, strace)
    process = subprocess.Popen(words, start_new_session=True, stderr=subprocess.DEVNULL, cwd=folder)
    try:
        asyncio.run(_attack(proof, process, port, made, log, sizes))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
    return proof


async def _attack(
    proof: Proof, process: subprocess.Popen[bytes], port: int, made: Made, log: Path, sizes: Sizes
) -> None:
    run, index, row = made
    count, many, examples, seed = sizes[:4]
    await ready(port, process)
    files = {name: base64.b64decode(cell["base64"]) for name, cell in row.items() if isinstance(cell, dict)}
    stranger = Stranger(port, row, files, files.get("clip", b""), seed, sizes.much, sizes.bomb)
    good = stranger.request("/v1/predict", json.dumps({"rows": [row]}).encode(), more="x-request-id: same\r\n")
    before = await heard(port, good)
    since = len(log.read_text(errors="replace").splitlines())
    proof.memory["first answer"] = memory(port)
    for name, start, end in (
        ("warm", 0, count // 5),
        ("middle", count // 5, count // 5 * 3),
        ("end", count // 5 * 3, count),
    ):
        proof.answers += await ask_all(port, stranger.each(end - start, start), 8)
        if name == "middle":
            proof.answers += await patience_of(port, good, max(2, many // 50))
            proof.answers += await crowd(port, good, many)
        if name == "warm" and examples:
            sent, told = await asyncio.to_thread(schemathesis, port, examples, seed)
            proof.answers["schemathesis", "checked"] += sent
            proof.wrong += [f"schemathesis: {line.strip()}" for line in told if " ST" in line and "❌" in line]
            proof.checks = [f"    {line}" for line in told]
        proof.memory[name] = memory(port)
        print(f"{name}: {sum(proof.answers.values())} requests, {proof.memory[name]:.0f} MB", file=sys.stderr)
    after = await heard(port, good)
    found = opened(log, since)
    page = Path(__file__).parents[1] / "src"
    proof.files, proof.foreign = len(found), foreign(found, [run, *([index] if index else []), page])
    proof.judge(process, before, after)


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, about in (("count", "requests by lot"), ("many", "connections at once"),
                        ("examples", "of schemathesis for every endpoint"), ("seed", "of all of it")):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=getattr(Sizes(), name), help=about)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        made = make_run(Path(folder))
        sizes = Sizes(args.count, args.many, args.examples, args.seed)
        proof = prove(Path(folder), made, sizes, shutil.which("strace") is not None)
    words = arguments if arguments is not None else sys.argv[1:]
    shown = [w for at, w in enumerate(words) if "--out" not in (w, words[at - 1] if at else "")]
    command = " ".join(["python benchmarks/hostile.py", *shown])
    args.out.write_text(proof.page(command, time.monotonic() - began), encoding="utf-8")
    print(*proof.wrong, sep="\n", file=sys.stderr)
    return 1 if proof.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
