"""How fast a run is served: `python benchmarks/serving.py`. Writes serving.md and serving.json.

`polymodal serve` beside LitServe with the same run, the same reading of cells, the same batches and the same load; with
batches beside one row at a time; and the time from start to the first answer. What is compared takes turns in every
round, in an order that changes, and sleeps while it is not its turn. Ends with 1 when less is reached than is claimed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import csv
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

BATCH, WAIT = 32, 2.0  # rows, milliseconds
PATIENCE = 90.0  # seconds until a server answers
CLAIMS = {"rate": 1.0, "p99": 1.0, "batching": 3.0, "start": 5.0}
SPEC: dict[str, Any] = {
    "inputs": {
        "picture": {"type": "image", "column": "picture", "size": 32, "encoder": {"type": "cnn", "channels": [16, 32]}},
        "caption": {"type": "text", "column": "caption", "min_count": 1,
                    "encoder": {"type": "transformer", "width": 64, "layers": 2, "heads": 4}},
    },
    "fusion": {"type": "gated"},
    "tasks": {"shape": {"type": "classify", "column": "shape"}},
    "train": {"epochs": 1, "batch": 32, "lr": 0.003, "device": "cpu", "threads": 1},
}  # fmt: skip
DEEP = {"type": "transformer", "width": 64, "layers": 12, "heads": 4}


def make_run(folder: Path, name: str, text: dict[str, Any] | None = None) -> Path:
    """A run on the built-in scenes, trained for one epoch: what it answers does not matter here, only how fast."""
    from polymodal import cli
    from polymodal.core import yaml12
    from polymodal.scenes.write import make_scenes

    scenes = folder / "scenes"
    if not scenes.is_dir():
        make_scenes(scenes, rows=400, size=64, seed=0)
    spec = json.loads(json.dumps(SPEC)) | {"data": {"train": str(scenes / "table.csv")}}
    if text is not None:
        spec["inputs"]["caption"]["encoder"] = text
    place = folder / f"{name}.yaml"
    place.write_text(yaml12.dumps(spec), encoding="utf-8")
    if cli.main(["train", str(place), "--out", str(folder / name)]):
        raise SystemExit("the run could not be trained")
    return folder / name


def requests_of(folder: Path, count: int) -> list[bytes]:
    """The bodies that are sent: a row each, the picture as base64."""
    with open(folder / "table.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:count]

    def body(row: dict[str, str]) -> bytes:
        picture = base64.b64encode((folder / row["picture"]).read_bytes()).decode()
        return json.dumps({"rows": [{"picture": {"base64": picture}, "caption": row["caption"]}]}).encode()

    return [body(row) for row in rows]


# Servers


class Server:
    """A process that answers at a port; asleep until it is woken."""

    def __init__(self, words: Sequence[str], port: int, body: bytes, run: str = "") -> None:
        self.port, began = port, time.perf_counter()
        self.process = subprocess.Popen([sys.executable, *words], start_new_session=True, stderr=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, env={**os.environ, "RUN": run})  # fmt: skip
        ahead(self.process.pid)
        while True:
            with contextlib.suppress(OSError, ValueError, IndexError, asyncio.IncompleteReadError):
                status, self.answer = asyncio.run(once(port, body))
                if status == 200:
                    break
            if self.process.poll() is not None or time.perf_counter() - began > PATIENCE:
                self.end()
                raise SystemExit(f"no answer: {words}")
            time.sleep(0.01)
        self.started = time.perf_counter() - began
        self.start_cpu = self.cpu()
        os.killpg(self.process.pid, signal.SIGSTOP)

    def cpu(self) -> float:
        """Seconds of processor time so far, of all its processes."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12]) if int(fields[3]) == self.process.pid else 0
        return ticks / os.sysconf("SC_CLK_TCK")

    @contextlib.contextmanager
    def awake(self) -> Iterator[Server]:
        os.killpg(self.process.pid, signal.SIGCONT)
        yield self
        os.killpg(self.process.pid, signal.SIGSTOP)

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def ahead(pid: int) -> None:
    """Before other work on the machine, where this is allowed; servers and load alike."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text("-15")


def ours(run: Path, port: int, *more: str) -> list[str]:
    return ["-m", "polymodal", "serve", str(run), "--port", str(port), "--access-log", "none", "--threads", "1",
            "--wait", str(WAIT), *more]  # fmt: skip


def theirs(port: int, fast: bool = False) -> list[str]:
    script = Path(__file__).with_name("serving_litserve.py")
    return [str(script), str(port), str(BATCH), str(WAIT), "fast" if fast else "plain"]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


# Load


class Load(NamedTuple):
    """What a server did in a round."""

    rate: float  # requests a second
    p50: float  # seconds
    p99: float
    cpu: float  # seconds of the server for a thousand requests
    wrong: int


def request(body: bytes) -> bytes:
    head = (
        f"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> tuple[int, bytes]:
    """Status and body of an answer that tells its length."""
    writer.write(data)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length)


async def once(port: int, body: bytes) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await exchange(reader, writer, request(body))
    finally:
        writer.close()


async def press(port: int, bodies: Sequence[bytes], clients: int, seconds: float) -> tuple[list[float], int, float]:
    """Clients that each ask again as soon as they are answered: seconds of every request, wrong answers, duration."""
    data = [request(body) for body in bodies]
    times: list[float] = []
    wrong = 0
    began = time.perf_counter()

    async def client(number: int) -> None:
        nonlocal wrong
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        at = number
        while (now := time.perf_counter()) - began < seconds:
            status, _ = await exchange(reader, writer, data[at % len(data)])
            times.append(time.perf_counter() - now)
            wrong += status != 200
            at += clients
        writer.close()

    await asyncio.gather(*(client(n) for n in range(clients)))
    return times, wrong, time.perf_counter() - began


def measure(server: Server, bodies: Sequence[bytes], clients: int, seconds: float) -> Load:
    import uvloop

    with server.awake():
        uvloop.run(press(server.port, bodies, clients, 0.5))
        before = server.cpu()
        times, wrong, took = uvloop.run(press(server.port, bodies, clients, seconds))
        spent = server.cpu() - before
    cuts = statistics.quantiles(times, n=100)
    return Load(len(times) / took, cuts[49], cuts[98], 1000 * spent / len(times), wrong)


def rounds_of(servers: dict[str, Server], bodies: Sequence[bytes], clients: int, seconds: float,
              rounds: int) -> dict[str, list[Load]]:  # fmt: skip
    """Each server in turn, in every round in the other order."""
    found: dict[str, list[Load]] = {name: [] for name in servers}
    for turn in range(rounds):
        for name in list(servers)[:: 1 if turn % 2 else -1]:
            found[name].append(measure(servers[name], bodies, clients, seconds))
            one = found[name][-1]
            told = f"{one.rate:.0f}/s, p50 {1000 * one.p50:.1f} ms, p99 {1000 * one.p99:.1f} ms, {one.wrong} wrong"
            print(f"{clients} clients, round {turn + 1}: {name}: {told}", file=sys.stderr)
    return found


# What is claimed


def ratios(one: list[Load], others: Sequence[list[Load]]) -> dict[str, list[float]]:
    """Round by round: how many times the best rival's requests a second, and its shortest p99."""
    rounds = list(zip(one, *others, strict=True))
    return {"rate": [mine.rate / max(o.rate for o in rest) for mine, *rest in rounds],
            "p99": [mine.p99 / min(o.p99 for o in rest) for mine, *rest in rounds]}  # fmt: skip


def compare(folder: Path, seconds: float, rounds: int, clients: int) -> dict[str, Any]:
    small, deep = folder / "small", folder / "deep"
    bodies = requests_of(folder / "scenes", 200)
    ports = [free_port() for _ in range(6)]
    lines = {
        "polymodal serve": (ours(small, ports[0], "--batch", str(BATCH)), small),
        "LitServe": (theirs(ports[1]), small),
        "LitServe, fast_queue": (theirs(ports[2], fast=True), small),
        "polymodal serve --batch 1": (ours(small, ports[3], "--batch", "1"), small),
        "deep": (ours(deep, ports[4], "--batch", str(BATCH)), deep),
        "deep --batch 1": (ours(deep, ports[5], "--batch", "1"), deep),
    }
    servers: dict[str, Server] = {}
    try:
        for (name, (words, run)), port in zip(lines.items(), ports, strict=True):
            servers[name] = Server(words, port, bodies[0], str(run))
        said = {name: json.loads(one.answer)["rows"] for name, one in servers.items()}
        found = {str(n): rounds_of({k: servers[k] for k in list(lines)[:3]}, bodies, n, seconds, rounds)
                 for n in (clients, 1)}  # fmt: skip
        batching = rounds_of(
            {k: servers[k] for k in ("polymodal serve", *list(lines)[3:])}, bodies, clients, seconds, rounds
        )
    finally:
        for one in servers.values():
            one.end()
    same = all(said[name] == said["polymodal serve"] for name in list(lines)[:3])
    return {"beside": found, "batching": batching, "same": same}


def starts(folder: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds from the start of the process to its first answer, and processor seconds of them."""
    body = requests_of(folder / "scenes", 1)[0]
    found: dict[str, list[tuple[float, float]]] = {"polymodal serve": [], "LitServe": []}
    for turn in range(rounds):
        for name in list(found)[:: 1 if turn % 2 else -1]:
            port = free_port()
            words = ours(folder / "small", port) if name == "polymodal serve" else theirs(port)
            server = Server(words, port, body, str(folder / "small"))
            found[name].append((server.started, server.start_cpu))
            server.end()
    return found


def judged(found: dict[str, Any], clients: int) -> list[dict[str, Any]]:
    """Every claim with what was reached: median and spread over rounds."""
    beside = found["beside"][str(clients)]
    own, rivals = beside["polymodal serve"], [v for k, v in beside.items() if k != "polymodal serve"]
    each = ratios(own, rivals)
    on, off = found["batching"]["polymodal serve"], found["batching"]["polymodal serve --batch 1"]
    deep, off_deep = found["batching"]["deep"], found["batching"]["deep --batch 1"]
    begun = [seconds for seconds, _ in found["starts"]["polymodal serve"]]
    rows = [("rate", f"requests a second, {clients} clients / the better LitServe", each["rate"], "≥"),
            ("p99", f"p99, {clients} clients / the better LitServe", each["p99"], "≤"),
            ("batching", f"--batch {BATCH} / --batch 1, requests/s, small", ratios(on, [off])["rate"], "≥"),
            ("batching", f"--batch {BATCH} / --batch 1, requests/s, deep", ratios(deep, [off_deep])["rate"], "≥"),
            ("start", "seconds from start to first answer", begun, "≤")]  # fmt: skip
    return [{"claim": claim, "what": what, "value": statistics.median(v), "least": min(v), "most": max(v), "sign": sign,
             "needed": CLAIMS[claim],
             "holds": statistics.median(v) >= CLAIMS[claim] if sign == "≥" else statistics.median(v) <= CLAIMS[claim]}
            for claim, what, v, sign in rows]  # fmt: skip


def page(found: dict[str, Any], claims: list[dict[str, Any]], command: str) -> str:
    short = [c["what"] for c in claims if not c["holds"]]
    verdict = "Every claim holds." if not short else f"Short of what is claimed: {'; '.join(short)}."
    lines = ["# Serving", "", f"    {command}", "", ABOUT, machine(), "", verdict, ""]
    lines += ["| | median (least to most) | claimed |", "| --- | --- | --- |"]
    for c in claims:
        lines.append(
            f"| {c['what']} | {c['value']:.2f} ({c['least']:.2f} to {c['most']:.2f}) | {c['sign']} {c['needed']:g} |"
        )
    head = "| | requests/s (least to most) | p50 ms | p99 ms (least to most) | server CPU ms a request |"
    tables = {f"{n} client{'s' * (n != '1')}": loads for n, loads in found["beside"].items()}
    for title, loads in {**tables, "Batches on and off": found["batching"]}.items():
        lines += ["", f"## {title}", "", head, "|" + " --- |" * 5]
        lines += [_row(name, each) for name, each in loads.items()]
    lines += [
        "",
        "## Start",
        "",
        "| | seconds to the first answer (least to most) | CPU seconds |",
        "| --- | --- | --- |",
    ]
    for name, each in found["starts"].items():
        walls, spent = zip(*each, strict=True)
        lines.append(f"| {name} | {_spread(walls, '.2f')} | {_spread(spent, '.2f')} |")
    wrong = sum(
        one.wrong for loads in (*found["beside"].values(), found["batching"]) for v in loads.values() for one in v
    )
    same = "the same answer" if found["same"] else "NOT the same answer"
    return "\n".join([*lines, "", f"All three give {same} to the first request; {wrong} answers were not 200.", ""])


def _row(name: str, each: list[Load]) -> str:
    p50, cpu = (statistics.median(getattr(one, k) for one in each) for k in ("p50", "cpu"))
    return (f"| {name} | {_spread([one.rate for one in each], ',.0f')} | {1000 * p50:.1f} | "
            f"{_spread([1000 * one.p99 for one in each], '.1f')} | {cpu:.2f} |")  # fmt: skip


def _spread(values: Sequence[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


ABOUT = f"""\
Rows of the built-in scenes: a picture of 64 × 64 pixels as base64 of a PNG, and a sentence, one row a request, JSON.
`small` reads them with a `cnn` of two stages and a `transformer` of two layers; in `deep` the `transformer` has twelve.
LitServe has the same reading, model and words (`serving_litserve.py`), batches of {BATCH} and a wait of {WAIT:g} ms as
well, one worker, and a process of its own for HTTP; it is measured with both of its queues, and ratios are to the
better one of each round. Clients are connections that are kept, each of which asks again as soon as it is answered, in
a process on the same cores. What is compared takes turns in every round, in an order that changes, and is stopped
(SIGSTOP) while it is not its turn. One thread of torch each; neither writes an access log. Servers and load run before
other work on the machine (autogroup -15) where the system lets them. `serving.json` has every round.
"""


def machine() -> str:
    from importlib.metadata import version

    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    names = ", ".join(f"{n} {version(n)}" for n in ("torch", "litserve", "fastapi", "uvicorn", "uvloop"))
    return f"{names}; {os.cpu_count()} cores, load {load} at the end: other work on the machine is in these numbers."


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--runs", type=Path, help="folder of the runs, made where it has none")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args(arguments)
    ahead(os.getpid())
    with tempfile.TemporaryDirectory() as fresh:
        folder = args.runs or Path(fresh)
        for name, text in (("small", None), ("deep", DEEP)):
            if not (folder / name).is_dir():
                make_run(folder, name, text)
        found = compare(folder, args.seconds, args.rounds, args.clients) | {"starts": starts(folder, args.rounds)}
    claims = judged(found, args.clients)
    words = arguments if arguments is not None else sys.argv[1:]
    shown = [w for at, w in enumerate(words) if not {"--runs", "--out"} & {w, words[at - 1] if at else ""}]
    args.out.write_text(page(found, claims, " ".join(["python benchmarks/serving.py", *shown])), encoding="utf-8")
    args.out.with_suffix(".json").write_text(json.dumps({"claims": claims, **found}, indent=1), encoding="utf-8")
    failed = [f"{c['what']}: {c['value']:.2f}, claimed {c['needed']:g}" for c in claims if not c["holds"]]
    print(*failed, sep="\n", file=sys.stderr)
    return 1 if failed or not found["same"] else 0


if __name__ == "__main__":
    sys.exit(main())
