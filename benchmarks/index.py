"""An index of a million vectors: how fast it is built and searched, how well, and whether kills lose or double a row.

    python benchmarks/index.py --data DATA --folder SCRATCH

Rows have a name, a price, a brand and a vector of 256 numbers (`benchmarks/index_data.py` says how they are spread),
which stands in for a model, so that what is measured is the index. Two cores.

`build`: `index_table`, as `polymodal index` calls it, in a process of its own. `search`: a query at a time, as a server
has them: exact search by the index, by numpy and by faiss, by LanceDB itself, and the search that users get; in rounds,
one after the other, so that all see the same machine. `kills`: the same build in processes that are killed by SIGKILL
at random moments, then a table in which rows are changed, new and gone, killed likewise; everything is then read back
and compared with the tables. Writes benchmarks/index.json and index.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))
from index_data import NOISE, WIDTH, Like, captions, likeness

import polymodal
from polymodal.data.tables import open_table
from polymodal.serve.index.build import index_table
from polymodal.work.embed import Lot

HERE = Path(__file__)
QUERIES, K, ROUNDS = 1000, 10, 10
BRANDS = ("Acme", "Bolt", "Cirrus", "Dune")
FILTERS = ("price < 50 and brand in ('Acme', 'Bolt', 'Cirrus')", "price < 5", "price < 0.5 and brand = 'Dune'")
CHANGED, GONE = 0.06, 0.02  # shares of rows in the second table; as many are new as are gone


def make_tables(folder: Path, rows: int, like: Like) -> None:
    """Two versions of a table, and the vectors of every row that is in either, by its number."""
    new = int(GONE * rows)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (rows + new, WIDTH))
    for start in range(0, rows + new, 200_000):
        stop = min(start + 200_000, rows + new)
        vectors[start:stop] = like.draw(stop - start, 0, start)
    vectors.flush()
    np.save(folder / "queries.npy", like.draw(QUERIES, 1))
    draw = np.random.default_rng(2)
    number = np.arange(rows + new)
    price, brand = draw.uniform(0, 100, rows + new).round(2), draw.integers(0, len(BRANDS), rows + new)
    version = np.zeros(rows + new, np.int64)
    write_table(folder / "rows.parquet", number[:rows], price, brand, version)
    version[draw.permutation(rows)[: int(CHANGED * rows)]] = 1
    kept = np.setdiff1d(number, draw.permutation(rows)[:new])
    write_table(folder / "later.parquet", kept, price, brand, version)


def write_table(path: Path, number: np.ndarray, price: np.ndarray, brand: np.ndarray, version: np.ndarray) -> None:
    columns = {"name": pa.array([f"row-{n}" for n in number.tolist()]), "number": number, "price": price[number],
               "brand": pa.array(np.array(BRANDS)[brand[number]]), "version": version[number]}  # fmt: skip
    pq.write_table(pa.table(columns), path, row_group_size=50_000)


def vectors_of(stored: np.ndarray, number: np.ndarray, version: np.ndarray) -> np.ndarray:
    """A row that changed has another row's vector."""
    return np.asarray(stored[(number + 7919 * version) % len(stored)])


class Stored:
    """What a model would say, read from a file."""

    def __init__(self, folder: Path, table: Any) -> None:
        self.vectors, self.table = np.load(folder / "vectors.npy", mmap_mode="r"), table

    def __call__(self, rows: np.ndarray, ledger: object) -> Any:
        number, version = (np.array(self.table.cells(rows, c), np.int64) for c in ("number", "version"))
        found = vectors_of(self.vectors, number, version)[:, None]
        yield Lot(rows, {"row": found}, {"row": np.ones(found.shape[:2], bool)}, {})


def stand_in(folder: Path) -> Any:
    """What `index_table` asks of a run."""
    (folder / "run.json").write_text("{}")
    embedder = SimpleNamespace(names=("row",), columns={"row": ("number", "version")}, width=WIDTH, task=None)
    assembly = SimpleNamespace(spec=SimpleNamespace(inputs={}), readers={})
    return SimpleNamespace(embedder=embedder, assembly=assembly, folder=folder)


def build(folder: Path, table: str, out: str) -> None:
    """In a process of its own: put the table into the index."""
    rows = open_table(folder / table)
    told = index_table(stand_in(folder), rows, folder / out, key="name", prune=True,
                       elsewhere=lambda names: Stored(folder, rows))  # fmt: skip
    print(json.dumps(told._asdict()))


def start(folder: Path, work: str, *words: str) -> subprocess.Popen:
    command = [sys.executable, str(HERE), "--folder", str(folder), "--work", work, *words]
    env = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def watched(process: subprocess.Popen) -> dict[str, float]:
    """Wait for its end: seconds, and the most memory of its own that was seen (mapped files are not counted)."""
    began, peak = time.monotonic(), 0.0
    while process.poll() is None:
        with suppress(OSError, IndexError):
            peak = max(peak, own_memory(process.pid))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{process.args} ended with {process.returncode}")
    return {"seconds": time.monotonic() - began, "peak_mb": peak}


def size_of(folder: Path) -> dict[str, float]:
    """MB by what they are for."""

    def total(path: Path, pattern: str = "*") -> float:
        return sum(p.stat().st_size for p in path.rglob(pattern) if p.is_file()) / 1e6

    return {"all": total(folder), "table": total(folder / "rows.lance"), "vectors": total(folder, "*.f32"),
            "approximate": total(folder, "*.faiss")}  # fmt: skip


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def search(folder: Path, out: str) -> None:
    """In a process of its own: open the index, search it, and compare with other ways of searching the same vectors."""
    queries = np.load(folder / "queries.npy")
    began = time.perf_counter()
    index = polymodal.open_index(folder / out)
    index.search(queries[0], k=K)
    found: dict[str, Any] = {"open_seconds": time.perf_counter() - began}
    for query in queries[:200]:
        index.search(query, k=K)
    found["memory_mb"] = own_memory()
    whole = np.ascontiguousarray(np.load(folder / "vectors.npy", mmap_mode="r")[: len(index)])
    best = truth(whole, queries)
    found["recall"] = recall(best, [[h.id for h in index.search(q, k=K)] for q in queries])
    found["recall_exact"] = recall(best[:50], [[h.id for h in index.search(q, k=K, exact=True)] for q in queries[:50]])
    found["near"] = index.place._state.near["row"]
    found["rounds"] = rounds(index, whole, queries)
    found["filters"] = {where: filtered(index, queries, where) for where in FILTERS}
    print(json.dumps(found))


def own_memory(process: int | str = "self") -> float:
    """MB, without the files that are mapped."""
    return int(Path(f"/proc/{process}/status").read_text().split("RssAnon:")[1].split()[0]) * 1024 / 1e6


def truth(whole: np.ndarray, queries: np.ndarray) -> list[list[str]]:
    best = np.full((len(queries), K), -2.0, np.float32)
    place = np.zeros((len(queries), K), np.int64)
    for start in range(0, len(whole), 100_000):
        scores = queries @ whole[start : start + 100_000].T
        keep = np.argpartition(-scores, K, 1)[:, :K]
        scores = np.concatenate([best, np.take_along_axis(scores, keep, 1)], 1)
        place = np.concatenate([place, keep + start], 1)
        order = np.argsort(-scores, 1)[:, :K]
        best, place = np.take_along_axis(scores, order, 1), np.take_along_axis(place, order, 1)
    return [[f"row-{n}" for n in row] for row in place.tolist()]


def recall(true: list[list[str]], found: list[list[str]]) -> float:
    return float(np.mean([len(set(t) & set(f)) / K for t, f in zip(true, found, strict=True)]))


def rounds(index: Any, whole: np.ndarray, queries: np.ndarray) -> dict[str, list[float]]:
    """Milliseconds a query, by way of searching, in each of some rounds."""
    import faiss

    flat = faiss.IndexFlatIP(WIDTH)
    flat.add(whole)
    lance = index.place._snapshot().table

    def by_numpy(query: np.ndarray) -> None:
        scores = whole @ query
        keep = np.argpartition(-scores, K)[:K]
        keep[np.argsort(-scores[keep])]

    def by_lance(query: np.ndarray) -> None:
        asked = lance.search(query, vector_column_name="v0").distance_type("cosine").bypass_vector_index().limit(K)
        asked.select(["_id", "_distance"]).to_arrow()

    ways = {
        "users": (100, lambda q: index.search(q, k=K)),
        "nearest": (100, lambda q: index.place.nearest(0, q, K, None)),
        "users_exact": (5, lambda q: index.search(q, k=K, exact=True)),
        "numpy": (5, by_numpy),
        "faiss_flat": (5, lambda q: flat.search(q[None], K)),
        "lancedb_flat": (2, by_lance),
    }  # fmt: skip
    draw, took = np.random.default_rng(3), {name: [] for name in [*ways, "faiss_flat_batch"]}
    for _ in range(ROUNDS):
        for name, (count, ask) in ways.items():
            some = queries[draw.permutation(len(queries))[:count]]
            began = time.perf_counter()
            for query in some:
                ask(query)
            took[name].append((time.perf_counter() - began) / count * 1e3)
        began = time.perf_counter()
        flat.search(queries[:100], K)
        took["faiss_flat_batch"].append((time.perf_counter() - began) / 100 * 1e3)
    return took


def filtered(index: Any, queries: np.ndarray, where: str) -> dict[str, float]:
    some, took, hits = queries[:100], {}, {}
    for exact in (False, True):
        began = time.perf_counter()
        hits[exact] = [[h.id for h in index.search(q, k=K, where=where, exact=exact)] for q in some]
        took[exact] = (time.perf_counter() - began) / len(some) * 1e3
    return {"ms": took[False], "exact_ms": took[True], "recall": recall(hits[True], hits[False])}


def kills(folder: Path, rows: int, wanted: int, seed: int) -> dict[str, Any]:
    """Build, bring up to date, and back again, until there were enough kills; read everything back each time."""
    out, draw, moments, done, turn = folder / "killed", np.random.default_rng(seed), [], 0, 0
    shutil.rmtree(out, ignore_errors=True)
    while done < wanted:
        phase, table = ("build", "update")[turn > 0], ("rows.parquet", "later.parquet")[turn % 2]
        quota = wanted // 2 if turn == 0 else wanted - done
        steps = rows if turn == 0 else int((CHANGED + GONE) * rows)
        for kill in range(quota):
            process = start(folder, "build", table, "killed")
            aim = draw.uniform(0, 2 * steps / quota) if kill < quota - 2 else np.inf  # the last two: when rows are done
            moment = killed(process, out, aim, draw)
            if moment is None:
                break
            done += 1
            moments.append({"phase": phase, **moment})
            print(moments[-1], file=sys.stderr, flush=True)
        process = start(folder, "build", table, "killed")
        told = json.loads(process.communicate()[0] or "{}")
        assert process.returncode == 0, process.returncode
        moments.append({"phase": phase, "finished": told, "wrong": compared(folder, table, out)})
        print(moments[-1], file=sys.stderr, flush=True)
        turn += 1
    wrong = [m["wrong"] for m in moments if "wrong" in m]
    return {"moments": moments, "kills": done, "compared": len(wrong),
            "wrong": {k: sum(one[k] for one in wrong) for k in wrong[0]}}  # fmt: skip


def killed(process: subprocess.Popen, out: Path, aim: float, draw: np.random.Generator) -> dict[str, Any] | None:
    """Kill it after about `aim` more rows than there were, at any point of a commit; or, when all rows are written,
    while it makes searching fast. None where it came to its end."""
    began, first = time.monotonic(), written(out)
    while process.poll() is None and written(out) - first < aim and not (aim == np.inf and quiet(out, began)):
        time.sleep(0.01)
    time.sleep(float(draw.uniform(0, 0.5 if aim < np.inf else 3.0)))
    if process.poll() is not None:
        return None
    process.kill()
    process.wait()
    return {"after": round(time.monotonic() - began, 2), "written": written(out) - first}


def written(out: Path) -> int:
    """Rows that were ever written and count, replaced ones too."""
    try:
        return int(json.loads((out / "index.json").read_text())["state"]["serial"])
    except (OSError, ValueError):
        return 0


def quiet(out: Path, began: float) -> bool:
    """Whether nothing was committed for a second, and it has begun to work."""
    try:
        return time.time() - (out / "index.json").stat().st_mtime > 1 and time.monotonic() - began > 12
    except OSError:
        return False


def compared(folder: Path, table: str, out: Path) -> dict[str, int]:
    """Read everything back: rows that are missing, double, strange, or not as the table has them."""
    wanted = pq.read_table(folder / table)
    place = polymodal.open_index(out).place
    held = place._snapshot()
    found = held.table.search().select(["_id", "_n", *place.stored.values()]).to_arrow()
    names, ids = np.array(wanted["name"].to_pylist()), np.array(found["_id"].to_pylist())
    unique, first = np.unique(ids, return_index=True)
    result = {"missing": len(np.setdiff1d(names, unique)), "strange": len(np.setdiff1d(unique, names)),
              "double": len(ids) - len(unique)}  # fmt: skip
    order = first[np.searchsorted(unique, names).clip(max=len(unique) - 1)]
    columns = {name: found[c].to_numpy()[order] for name, c in place.stored.items()}
    result["cells"] = sum(int((columns[n] != wanted[n].to_numpy()).sum()) for n in columns)
    number, version = wanted["number"].to_numpy(), wanted["version"].to_numpy()
    stored = np.load(folder / "vectors.npy", mmap_mode="r")
    serial = found["_n"].to_numpy()[order]
    beside = inside = 0
    whole = np.zeros((len(held.offsets), WIDTH), np.float32)
    for numbers, own in place._stream(held.table, 0):
        whole[numbers] = own
    for at in range(0, len(number), 50_000):
        true = vectors_of(stored, number[at : at + 50_000], version[at : at + 50_000])
        some = serial[at : at + 50_000]
        inside += int((whole[some] != true).any(1).sum())
        beside += int((held.vectors[0][some] != true).any(1).sum())
    return {**result, "vectors in the table": inside, "vectors beside it": beside}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of real data, with flickr8k in it")
    parser.add_argument("--folder", type=Path, required=True, help="for tables and indexes: about 6 GB")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", default="data,build,search,kills", help="what is done; what is left out is kept")
    parser.add_argument("--out", type=Path, default=HERE.with_suffix(".json"))
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.work:
        return {"build": build, "search": search}[options.work](options.folder, *options.words)
    measure(options)


def measure(options: argparse.Namespace) -> None:
    folder, parts = options.folder, options.parts.split(",")
    kept = json.loads(options.out.read_text()) if options.out.is_file() else {}
    result: dict[str, Any] = {**kept, "rows": options.rows, "width": WIDTH, "cores": len(os.sched_getaffinity(0))}
    if "data" in parts:
        like = Like(captions(options.data, folder / "captions.npy"))
        make_tables(folder, options.rows, like)
        made = np.load(folder / "vectors.npy", mmap_mode="r")
        count = len(like.real)
        result["spread"] = {"captions": count, "explained": like.explained, "noise": NOISE,
                            "real": likeness(like.real, count), "made": likeness(made, count)}  # fmt: skip
    if "build" in parts:
        shutil.rmtree(folder / "index", ignore_errors=True)
        before = cpu()
        took = watched(start(folder, "build", "rows.parquet", "index"))
        result["build"] = {**took, "cpu_seconds": cpu() - before, "disk_mb": size_of(folder / "index"),
                           "load": os.getloadavg()[0]}  # fmt: skip
    if "search" in parts:
        process = start(folder, "search", "index")
        told = process.communicate()[0]
        assert process.returncode == 0
        result["search"] = {**json.loads(told.splitlines()[-1]), "load": os.getloadavg()[0]}
    if "kills" in parts:
        result["kills"] = kills(folder, options.rows, options.kills, options.seed)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    page = written_page(result)
    options.out.with_suffix(".md").write_text(page)
    print(page)


def written_page(found: dict[str, Any]) -> str:
    lines = ["# An index of a million rows", "", "    python benchmarks/index.py --data DATA --folder SCRATCH", "",
             f"{found['rows']:,} rows with a vector of {found['width']} numbers, a name, two numbers and a brand; "
             f"{found['cores']} cores. Other work ran on them: see the loads, and read the ratios.", ""]  # fmt: skip
    if "spread" in found:
        lines += _spread(found["spread"])
    if "build" in found:
        b = found["build"]
        disk = b["disk_mb"]
        lines += ["## Build", "",
                  f"{b['seconds']:.0f} s ({b['cpu_seconds']:.0f} s of CPU; load {b['load']:.1f}) from the table to the "
                  f"finished index. At most {b['peak_mb']:,.0f} MB of memory. {disk['all']:,.0f} MB on disk: the table "
                  f"{disk['table']:,.0f}, vectors beside it {disk['vectors']:,.0f}, the approximate index "
                  f"{disk['approximate']:,.0f}.", ""]  # fmt: skip
    if "search" in found:
        lines += _search(found["search"])
    if "kills" in found:
        lines += _kills(found["kills"])
    return "\n".join(lines)


def _spread(s: dict[str, Any]) -> list[str]:
    names = list(s["real"])
    rows = [f"| {k} | " + " | ".join(f"{s[k][n]:.3g}" for n in names) + " |" for k in ("real", "made")]
    return ["## The vectors", "",
            f"Drawn like {s['captions']:,} captions of flickr8k as all-MiniLM-L6-v2 sees them, in the 256 directions "
            f"that hold {s['explained']:.1%} of their variance: between a caption and one of its ten nearest, with "
            "noise of what neighbours leave unexplained (`benchmarks/index_data.py`). Among as many of each: the "
            "median cosine to a vector's 1st, 10th and 100th neighbour, and the directions that count (participation "
            "ratio).", "",
            "| | " + " | ".join(names) + " |", "| --- " * (1 + len(names)) + "|", *rows, ""]  # fmt: skip


def _search(s: dict[str, Any]) -> list[str]:
    took, near = s["rounds"], s["near"]
    users = np.array(took["users"])
    named = {"users": "`index.search`, as users get it: ids, scores and all kept columns",
             "nearest": "the same without reading the rows", "users_exact": "`index.search(exact=True)`",
             "numpy": "numpy: a product with all vectors in memory, and the ten largest",
             "faiss_flat": "faiss, IndexFlatIP", "lancedb_flat": "LanceDB without an index",
             "faiss_flat_batch": "faiss, IndexFlatIP, a hundred queries at once"}  # fmt: skip
    lines = ["## Search", "",
             f"{QUERIES} queries that are not in the index, {K} hits. Recall@{K} {s['recall']:.4f} (exact search by "
             f"the index: {s['recall_exact']:.4f}). Lists looked into: {near['probes']} of {near['lists']}, candidates "
             f"compared exactly: {near['depth']}; chosen by the index itself, which measured a recall of "
             f"{near['recall']:.4f}. Opening and the first search: {s['open_seconds']:.2f} s. Memory of its own then: "
             f"{s['memory_mb']:,.0f} MB.", "",
             f"One query at a time, {ROUNDS} rounds (load {s['load']:.1f}): median milliseconds, and by how much "
             "`index.search` is faster in the same round (median, least and most).", "",
             "| way | ms | times as fast |", "| --- | --- | --- |"]  # fmt: skip
    for name, about in named.items():
        ms = np.array(took[name])
        ratio = ms / users
        beside = "" if name == "users" else f"{np.median(ratio):.1f} ({ratio.min():.1f} to {ratio.max():.1f})"
        lines.append(f"| {about} | {np.median(ms):.2f} | {beside} |")
    lines += ["", "With a filter (a hundred queries):", "", "| filter | ms | exact, ms | recall@10 |",
              "| --- | --- | --- | --- |"]  # fmt: skip
    lines += [f"| `{where}` | {f['ms']:.1f} | {f['exact_ms']:.1f} | {f['recall']:.4f} |"
              for where, f in s["filters"].items()]  # fmt: skip
    return [*lines, ""]


def _kills(k: dict[str, Any]) -> list[str]:
    wrong = ", ".join(f"{name} {n}" for name, n in k["wrong"].items())
    lines = ["## Killed", "",
             f"Killed by SIGKILL {k['kills']} times while it was built and brought up to date "
             f"({CHANGED:.0%} of the rows changed, {GONE:.0%} gone, as many new; and back); read back whole and "
             f"compared with the table {k['compared']} times: {wrong}.", "",
             "| phase | killed after | rows written since the start |", "| --- | --- | --- |"]  # fmt: skip
    for m in k["moments"]:
        lines.append(f"| {m['phase']} | {m['after']} s | {m['written']:,} |" if "after" in m else
                     f"| {m['phase']} | finished | {m['finished'].get('written', 0):,} |")  # fmt: skip
    return [*lines, ""]


if __name__ == "__main__":
    main()
