"""What a spec says of joining: decisions where a fusion stands, balance, alignment, what one input leaves out."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from polymodal.core import catalog, yaml12
from polymodal.core import spec as specs
from polymodal.core.errors import SpecError

GOOD: dict[str, Any] = {
    "inputs": {"photo": "image", "title": "text"},
    "attention": "co",
    "fusion": "average",
    "align": {"type": "contrastive", "weight": 0.2, "temperature": 0.1, "width": 64},
    "balance": {"type": "ogm", "alpha": 0.3, "noise": False},
    "tasks": {"label": "classify"},
}


def parse(**sections: Any) -> specs.Spec:
    return specs.validate(specs.parse({**copy.deepcopy(GOOD), **sections}))


def test_the_plain_form_round_trips() -> None:
    spec = parse()
    again = specs.parse(yaml12.loads(spec.text()))
    assert again.json() == spec.json()
    assert spec.json()["align"] == GOOD["align"]
    assert [p.kind for p in (again.fusion, again.align, again.balance)] == ["decision", "align", "balance"]
    assert {"contrastive", "ogm", "average", "co"} <= {p.type for p in spec.parts()}


@pytest.mark.parametrize("name", catalog.PARTS["decision"])
def test_every_decision_stands_where_a_fusion_may(name: str) -> None:
    assert parse(fusion=name).fusion.kind == "decision"
    assert parse(fusion={"type": name}).json()["fusion"] == {"type": name}
    assert parse(fusion="concat").fusion.kind == "fusion"


def test_without_the_sections_there_is_nothing_of_them() -> None:
    plain = {k: v for k, v in GOOD.items() if k not in ("align", "balance")}
    spec = specs.parse(copy.deepcopy(plain))
    assert spec.align is None
    assert spec.balance is None
    assert not {"align", "balance"} & spec.json().keys()


def test_one_input_has_nothing_to_be_joined_with() -> None:
    one, both = parse().only(["photo"]), parse().only(["title", "photo"])
    assert one.fusion is one.align is one.balance is None
    assert one.attention is not None
    assert both.fusion.type == "average"
    assert both.balance.type == "ogm"
    assert both.align.type == "contrastive"


@pytest.mark.parametrize(
    ("sections", "where", "advice"),
    [
        ({"fusion": "avrage"}, "fusion.type", ["'average'", "concat", "vote", "package.module:Class"]),
        ({"fusion": "concta"}, "fusion.type", ["'concat'", "average"]),
        ({"fusion": {"typ": "sum"}}, "fusion.type", ["average", "concat"]),
        ({"fusion": None}, "fusion", ["concat", "average"]),
        ({"fusion": {"type": "vote", "heads": 3}}, "fusion.heads", []),
        ({"fusion": {"type": "vote", "kind": "class"}}, "fusion.kind", ["leave it out"]),
        ({"balance": "ogn"}, "balance.type", ["'ogm'", "unimodal", "blending"]),
        ({"balance": {"type": "ogm", "alpha": -1.0}}, "balance.alpha", ["float > 0"]),
        ({"balance": {"type": "ogm", "probes": 1}}, "balance.probes", ["leave it out"]),
        ({"balance": {"type": "blending", "every": 0}}, "balance.every", ["int > 0"]),
        ({"align": "contrast"}, "align.type", ["'contrastive'"]),
        ({"align": {"type": "contrastive", "temprature": 1.0}}, "align.temprature", ["'temperature'"]),
        ({"aling": "contrastive"}, "aling", ["'align'"]),
        ({"inputs": {"photo": "image"}, "align": None}, "balance", ["leave out balance"]),
        ({"inputs": {"photo": "image"}, "balance": None}, "align", ["leave out align"]),
    ],
)
def test_mistakes_say_where_and_what_to_try(sections: dict, where: str, advice: list[str]) -> None:
    with pytest.raises(SpecError) as error:
        parse(**sections)
    assert error.value.where == where
    assert all(word in error.value.advice for word in advice), error.value.advice


def test_a_decision_is_no_fusion_inside_a_part() -> None:
    with pytest.raises(SpecError, match="no fusion of this name"):
        catalog.load("fusion", "average", "task.fusion.type")
