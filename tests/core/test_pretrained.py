from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, BertConfig, BertModel

from polymodal.core.errors import RunError, SpecError
from polymodal.core.pretrained import fetch_config, stored_config, weights

TINY = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=50)


def test_a_configuration_is_fetched_once(tmp_path: Path) -> None:
    TINY.save_pretrained(tmp_path / "hub")
    config = fetch_config(str(tmp_path / "hub"), tmp_path / "files", "encoder.name")
    assert isinstance(config, BertConfig)
    assert (config.hidden_size, config.vocab_size) == (16, 50)
    again = fetch_config("nobody/nothing", tmp_path / "files", "encoder.name")
    assert again.to_dict() == stored_config(tmp_path / "files").to_dict() == config.to_dict()


def test_a_model_type_stands_for_its_own_configuration(tmp_path: Path) -> None:
    config = fetch_config("resnet", tmp_path, "here")
    assert (config.depths, config.hidden_sizes) == ([3, 4, 6, 3], [256, 512, 1024, 2048])  # ResNet-50, Table 1
    assert (tmp_path / "config.json").exists()


def test_weights_are_the_published_ones(tmp_path: Path) -> None:
    model = BertModel(TINY)
    model.save_pretrained(tmp_path / "hub")
    loaded = weights(AutoModel, str(tmp_path / "hub"), TINY, "encoder.name")
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])


def test_names_that_cannot_be_found(tmp_path: Path) -> None:
    for name in ("nobody/nothing", "a b c", str(tmp_path / "empty")):
        with pytest.raises(SpecError, match=r"encoder\.name: no configuration"):
            fetch_config(name, tmp_path / "files", "encoder.name")
        with pytest.raises(SpecError, match=r"encoder\.name: the weights"):
            weights(AutoModel, name, TINY, "encoder.name")
    assert not (tmp_path / "files").exists()


def test_weights_that_are_damaged_or_do_not_fit(tmp_path: Path) -> None:
    BertModel(TINY).save_pretrained(tmp_path)
    larger = BertConfig(**{**TINY.to_dict(), "hidden_size": 32})
    with pytest.raises(SpecError, match="weights"):
        weights(AutoModel, str(tmp_path), larger, "encoder.name")
    (tmp_path / "model.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(SpecError, match="weights"):
        weights(AutoModel, str(tmp_path), TINY, "encoder.name")


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    TINY.save_pretrained(tmp_path)
    torch.save(BertModel(TINY).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(SpecError, match="weights"):
        weights(AutoModel, str(tmp_path), TINY, "encoder.name")


def test_code_from_a_hub_is_never_run(tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "trap.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    plain = {"model_type": "trap", "auto_map": {"AutoConfig": "trap.Trap", "AutoModel": "trap.Trap"}}
    (hub / "config.json").write_text(json.dumps(plain))
    with pytest.raises(SpecError, match="'trap'"):
        fetch_config(str(hub), tmp_path / "files", "encoder.name")
    (hub / "config.json").write_text(json.dumps({**plain, "model_type": "bert"}))
    config = fetch_config(str(hub), tmp_path / "files", "encoder.name")
    assert not hasattr(config, "auto_map")
    assert not (tmp_path / "ran").exists()


def test_stored_files_that_are_missing_or_spoilt(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"config\.json"):
        stored_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config\.json"):
        stored_config(tmp_path)


def test_reading_weights_from_a_folder_draws_no_bar(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    BertModel(TINY).save_pretrained(tmp_path / "hub")
    enabled = logging.is_progress_bar_enabled()
    capfd.readouterr()
    weights(AutoModel, str(tmp_path / "hub"), TINY, "encoder.name")
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled() == enabled
