"""The test run checks every shape in every signature of the package (jaxtyping + beartype); production does not."""

import os
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
