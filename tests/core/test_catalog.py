"""Names, dotted paths and entry points; what is not installed says which extra brings it."""

import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from polymodal.core import catalog
from polymodal.core.errors import SpecError


def test_dotted_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_parts.py").write_text("class Mine:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert catalog.load("fusion", "their_parts:Mine", "fusion.type").__name__ == "Mine"
    with pytest.raises(SpecError, match="has no Other"):
        catalog.load("fusion", "their_parts:Other", "fusion.type")
    with pytest.raises(SpecError, match="cannot be imported"):
        catalog.load("fusion", "no_such_module:X", "fusion.type")


def test_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint(name="fusion.mine", value="collections:OrderedDict", group="polymodal.parts")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: EntryPoints([point]))
    catalog._entry_points.cache_clear()
    try:
        assert "mine" in catalog.names("fusion")
        assert catalog.load("fusion", "mine", "fusion.type").__name__ == "OrderedDict"
    finally:
        monkeypatch.undo()
        catalog._entry_points.cache_clear()


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polymodal.modalities.image.timm", None)
    monkeypatch.setitem(catalog.PARTS["encoder.image"], "odd", "timm_missing_module:X")
    with pytest.raises(SpecError) as error:
        catalog.load("encoder.image", "odd", "inputs.p.encoder.type")
    assert error.value.where == "inputs.p.encoder.type"
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(Exception, match=r"polymodal\[audio\]"):
        catalog.need("soundfile", "sound")
