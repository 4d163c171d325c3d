"""YAML 1.2 as its core schema says, where PyYAML's 1.1 differs, and round trips of any plain value."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core import yaml12
from polymodal.core.errors import SpecError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("1e3", 1000.0),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        (".inf", float("inf")),
        ("-.5", -0.5),
        ("~", None),
        ("", None),
        ("'3'", "3"),
        ("<<", "<<"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    found = yaml12.loads(text)
    assert found == value
    assert type(found) is type(value)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(plain)
@settings(deadline=None, max_examples=150)
def test_round_trip(value: object) -> None:
    assert yaml12.loads(yaml12.dumps(value)) == value


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "a: [1", "? [a, b]\n: 1", "!!python/object:os.system x", "a: b: c", "\x00", "&a [*a, *b]"]
)
def test_what_is_not_valid_says_where(text: str) -> None:
    with pytest.raises(SpecError) as error:
        yaml12.loads(text, "spec.yaml")
    assert str(error.value).startswith("spec.yaml")
