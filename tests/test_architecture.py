"""The law of the rooms: imports run one way, siblings keep apart, the spec side is free of torch, files stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "polymodal"
FLOORS = [
    {"core"},
    {"modalities", "attention", "fusion", "decoders", "objectives", "tasks", "data", "scenes", "simple", "client"},
    {"model", "assemble_tasks"},
    {"assemble_extras"},
    {"assemble"},
    {"work"},
    {"serve"},
    {"api"},
    {"demo", "sklearn"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
CAPS = {"work/train.py": 300, "assemble.py": 230, "core/spec.py": 300}


def modules() -> dict[str, Path]:
    found = {}
    for path in SOURCE.rglob("*.py"):
        name = "polymodal." + str(path.relative_to(SOURCE).with_suffix("")).replace("/", ".")
        found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path, top_only: bool = False) -> set[str]:
    """Modules of this package that a file imports; `top_only` leaves out imports inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    if top_only:
        hidden = {id(i) for n in ast.walk(tree) if _delays(n) for i in ast.walk(n)}
        nodes = [n for n in nodes if id(n) not in hidden]
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        else:
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module or ""} | {f"{node.module}.{a.name}" for a in node.names}
    return found


def _delays(node: ast.AST) -> bool:
    guard = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    return guard or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_room_has_a_floor() -> None:
    assert {room(m) for m in modules()} - {""} <= set(FLOOR)


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_run_one_way(module: str) -> None:
    here = room(module)
    if not here:
        return  # the package's own face
    for other in imports(modules()[module]):
        if other.startswith("polymodal.") and other != "polymodal.__version__":
            there = room(other)
            if there != here:
                assert FLOOR[there] < FLOOR[here], f"{module} imports {other}, which is not on a lower floor"
            elif here == "modalities" and module.count(".") > 2 and other.count(".") > 2:
                mine, theirs = module.split(".")[2], other.split(".")[2]
                common = {"sequence", "steps", "moments", "pixels", "damage"}
                assert theirs == mine or theirs in common, f"{module} imports its sibling {other}"


def test_no_circles() -> None:
    known = modules()
    graph = {m: {o for o in imports(p, top_only=True) if o in known and o != m} for m, p in known.items()}
    graph = {m: {o for o in found if o != "polymodal"} for m, found in graph.items()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for other in graph[module]:
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize(("file", "cap"), CAPS.items())
def test_files_that_rot_first_stay_small(file: str, cap: int) -> None:
    lines = (SOURCE / file).read_text(encoding="utf-8").count("\n")
    assert lines <= cap, f"{file} has {lines} lines: split it by thought"


@pytest.mark.parametrize(
    "code",
    [
        "import polymodal",
        "import polymodal.cli; polymodal.cli.parser().format_help()",
        "from polymodal.core import spec; spec.parse({'inputs': {'p': 'image'}, 'tasks': {'y': 'classify'}})",
        "from polymodal.core import contracts, seeds, settings, errors, yaml12, catalog, schema",
        "import polymodal.modalities.image.read, polymodal.modalities.text.read",
        "import polymodal.modalities.audio.read, polymodal.modalities.tabular.read",
        "import polymodal.modalities.series.read",
        "import polymodal.modalities.video.read, polymodal.modalities.video.container",
        "import polymodal.tasks.targets, polymodal.scenes",
        "import polymodal.simple.tfidf, polymodal.simple.mel_svm, polymodal.simple.frozen_trees",
        "import polymodal.client; polymodal.client.Client('http://127.0.0.1:1')",
    ],
)
def test_the_spec_side_is_free_of_torch(code: str) -> None:
    heavy = ("torch", "av", "transformers", "accelerate", "matplotlib", "pandas", "pyarrow", "sklearn")
    program = f"import sys\n{code}\nfound = [m for m in {heavy} if m in sys.modules]\nassert not found, found"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_neither_probes_nor_seeds() -> None:
    program = (
        "import random, numpy as np\nbefore = random.getstate(), str(np.random.get_state())\n"
        "import polymodal.api\nimport torch\n"
        "assert (random.getstate(), str(np.random.get_state())) == before\n"
        "assert not torch.cuda.is_initialized()\n"
        "from accelerate.state import PartialState\nassert not PartialState._shared_state"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_pickle_anywhere() -> None:
    banned = {"pickle", "cloudpickle", "dill", "joblib", "shelve"}
    for module, path in modules().items():
        assert not banned & {i.split(".")[0] for i in imports(path)}, module
        assert "torch.load(" not in path.read_text(encoding="utf-8"), module
        assert "trust_remote_code=True" not in path.read_text(encoding="utf-8"), module
