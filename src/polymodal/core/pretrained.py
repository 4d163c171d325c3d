"""What parts from transformers have in common: the stored configuration, the weights, the tokenizer, and errors people
can read.

A run keeps `config.json` among its own files, so a loaded run needs neither the hub nor the folder it came from. Code
from a hub is never run: a configuration is only read when transformers itself knows its model type.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polymodal.core.catalog import need
from polymodal.core.errors import RunError, SpecError
from polymodal.core.schema import Json

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"


def fetch_config(name: str, files: Path, where: str) -> PretrainedConfig:
    """The configuration of the model `name`, kept as `config.json` in `files` from then on.

    `name` is a hub name, a folder, or a model type of transformers (`resnet`): then it is the type's own default, which
    needs neither, and has no weights. When `files` already holds a configuration, `name` is not looked at. Raises
    SpecError at `where` when there is none.
    """
    if not (files / CONFIG).exists():
        need("transformers", f"the model {name!r}", where)
        config = find_config(name, where)
        files.mkdir(parents=True, exist_ok=True)
        config.save_pretrained(files)
    return stored_config(files)


def is_model_type(name: str) -> bool:
    """Whether `name` is a model type of transformers, which has a default configuration and nothing else."""
    from transformers import CONFIG_MAPPING

    return name in CONFIG_MAPPING and not Path(name).exists()


def find_config(name: str, where: str) -> PretrainedConfig:
    """The configuration of a hub name, a folder or a model type, without keeping it. Raises SpecError at `where`."""
    from transformers import CONFIG_MAPPING, PretrainedConfig

    if is_model_type(name):
        return CONFIG_MAPPING[name]()
    try:
        plain, _ = PretrainedConfig.get_config_dict(name)
    except (OSError, ValueError) as error:
        raise _not_found(name, "no configuration of this model can be found", where, error) from None
    return _config(plain, name, where)


def stored_config(files: Path) -> PretrainedConfig:
    """The configuration kept in `files`. Raises RunError when it is missing or spoilt."""
    path = files / CONFIG
    need("transformers", f"the model in {files}", str(path))
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(str(path), f"cannot be read: {error}", advice="train the run again") from None
    return _config(plain, str(path), str(path))


def _config(plain: dict[str, Any], name: str, where: str) -> PretrainedConfig:
    from transformers import CONFIG_MAPPING

    kind = str(plain.get("model_type"))
    if kind not in CONFIG_MAPPING:
        problem = f"the model type {kind!r} is not one that transformers knows; code from a hub is never run"
        raise SpecError(where, problem, given=name, advice="a model type of transformers' own, or a newer transformers")
    return CONFIG_MAPPING[kind].from_dict({k: v for k, v in plain.items() if k != "auto_map"})


def changed(config: Any, changes: dict[str, Json] | None) -> Any:
    """The configuration with the user's changes, in place. Raises SpecError for a name that it does not have."""
    for key, value in (changes or {}).items():
        if not hasattr(config, key):
            raise SpecError("encoder.config", f"{type(config).__name__} has no such value", given=key,
                            advice="a name that stands in its config.json")  # fmt: skip
        setattr(config, key, value)
    return config


def fast_tokenizer(name: str, where: str) -> Any:
    """The tokenizer of the model `name`, one that is all in its tokenizer.json. Raises SpecError when it has none."""
    need("transformers", f"the model {name!r}", where)
    from transformers import AutoTokenizer

    advice = "a folder or hub name that holds a tokenizer.json"
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, use_fast=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise SpecError(where, f"no tokenizer can be loaded: {reason}", given=name, advice=advice) from None
    if not tokenizer.is_fast or len(tokenizer) <= len(tokenizer.all_special_tokens):  # without files it knows no word
        raise SpecError(where, "this model comes without a fast tokenizer", given=name, advice=advice)
    return tokenizer


def weights(cls: Any, name: str, config: PretrainedConfig, where: str) -> nn.Module:
    """The module `cls` (a transformers model or Auto class) with the published weights of `name`, in eval mode.

    Only safetensors files are read. Raises SpecError at `where` when there are none or when they do not fit `config`.
    """
    from safetensors import SafetensorError

    try:
        with _no_bar(name):
            return cls.from_pretrained(name, config=config, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _not_found(name, "the weights of this model cannot be loaded", where, error) from None


@contextmanager
def _no_bar(name: str) -> Iterator[None]:
    """No bar for reading weights from a folder, which takes a moment; a download may draw one."""
    from transformers.utils import logging

    quiet = Path(name).is_dir() and logging.is_progress_bar_enabled()
    if quiet:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if quiet:
            logging.enable_progress_bar()


def _not_found(name: str, problem: str, where: str, error: Exception) -> SpecError:
    lines = str(error).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    advice = "a hub name that is spelt right and reachable, or a folder with config.json and model.safetensors"
    return SpecError(where, f"{problem}: {reason}", given=name, advice=advice)
