"""The test run checks every shape in every signature of the package (jaxtyping + beartype); production does not."""

import os
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from jaxtyping import install_import_hook

install_import_hook("polymodal", "beartype.beartype")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; without it the test is skipped and says so."""
    folder = os.environ.get("POLYMODAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set POLYMODAL_DATA to the folder of real data to run this test")
    return Path(folder).resolve()


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> object:
    """The command line, run in this process: see `endtoend.Shell`."""
    from endtoend import Shell

    return Shell(capsys)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A folder of good rows and a run trained on them with the command line, once: see `endtoend.Trained`."""
    from endtoend import Trained

    return Trained.make(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """From `text`, `image` or `video` to the folder of a tiny model as a hub would have it, made once, when needed."""

    @cache
    def published(modality: str) -> str:
        from published import publish

        return publish(modality, tmp_path_factory.mktemp("hub"))

    return published


@pytest.fixture(scope="session")
def beside_torchvision(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that can import timm, which asks for a torchvision that cannot always load."""
    if not find_spec("timm"):
        pytest.skip("timm is not installed")
    from published import stand_in

    return {**os.environ, "PYTHONPATH": str(stand_in(tmp_path_factory.mktemp("stand_in")))}


@pytest.fixture(scope="session")
def timm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """timm can be imported in this process too, beside a stand-in for torchvision that is gone again afterwards."""
    if not find_spec("timm"):
        pytest.skip("timm is not installed")
    from published import import_timm

    import_timm(tmp_path_factory.mktemp("stand_in"))
