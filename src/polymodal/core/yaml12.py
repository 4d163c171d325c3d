"""YAML 1.2 (core schema) on top of PyYAML, which reads 1.1: there `3e-4` is text and `no` is false."""

from __future__ import annotations

import re
from typing import Any

import yaml

from polymodal.core.errors import SpecError


class _Loader(yaml.SafeLoader):
    pass


class _Dumper(yaml.SafeDumper):
    pass


_CORE = [
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
]
for _cls in (_Loader, _Dumper):
    _cls.yaml_implicit_resolvers = {}
    for _tag, _pattern, _first in _CORE:
        _cls.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = str(node.value).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool | None):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a plain word", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    odd = any(c in value for c in "\r\n\t\x85\u2028\u2029\ufeff")  # what a plain or folded scalar would not bring back
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if odd else None)


_Dumper.add_representer(str, _text)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def loads(text: str, where: str = "spec") -> Any:
    """Read one YAML 1.2 document. Raises SpecError with line and column; a key that stands twice is an error."""
    try:
        return yaml.load(text, Loader=_Loader)  # a subclass of SafeLoader: builds plain values only
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        raise SpecError(place, f"not valid YAML: {error.problem}", advice="check the indent and the brackets") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise SpecError(where, f"not valid YAML: {str(error).splitlines()[0]}") from None


def dumps(value: Any) -> str:
    """Write plain values as YAML that `loads` reads back unchanged; keys keep their order."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110))
