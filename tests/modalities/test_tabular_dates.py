"""Dates as numbers and names, against the standard library's calendar."""

from __future__ import annotations

import calendar
from datetime import date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymodal.core.checks import check_reader
from polymodal.core.errors import BadCell, SpecError
from polymodal.modalities.tabular.dates import spread
from polymodal.modalities.tabular.read import TabularReader

WHEN = [{"when": f"20{10 + i % 10}-{1 + i % 12:02}-{1 + i % 28:02}", "x": float(i)} for i in range(60)]


@settings(deadline=None, max_examples=50)
@given(when=st.datetimes(min_value=datetime(1600, 1, 1), max_value=datetime(2400, 1, 1)))
def test_parts_of_a_date(when: datetime) -> None:
    when = when.replace(second=0, microsecond=0)
    for form in (
        when,
        when.isoformat(),
        when.isoformat(" "),
        when.isoformat().replace("-", "/"),
        f"{when.isoformat()}+05:00",
    ):
        found = spread("d", form)
        assert found["d.day"] == pytest.approx(
            (when.date() - date(1970, 1, 1)).days + (when.hour + when.minute / 60) / 24
        )
        assert (found["d.year"], found["d.month"]) == (when.year, when.month)
        assert found["d.hour"] == pytest.approx(when.hour + when.minute / 60)
        assert found["d.weekday"] == calendar.day_abbr[when.weekday()].lower()


@pytest.mark.parametrize("value", [None, "", "NA", float("nan")])
def test_a_missing_date_has_missing_parts(value: Any) -> None:
    assert set(spread("d", value).values()) == {None}


@pytest.mark.parametrize("value", ["31.05.2024", "2024-02-30", "yesterday", 20240531, True])
def test_what_is_no_date(value: Any) -> None:
    if value == 20240531:
        assert spread("d", value)["d.year"] == 2024, "the short form of ISO 8601"
        return
    with pytest.raises(BadCell, match="no date such as"):
        spread("d", value)


def test_contract() -> None:
    check_reader(lambda: TabularReader(dates=["when"]), WHEN, [{"when": "soon", "x": 1}, "2024-01-01"])


def test_a_reader_of_dates() -> None:
    reader = TabularReader(dates=["when"])
    field = reader.fit(WHEN)
    assert [c["column"] for c in field["numeric"]] == ["x", "when.day", "when.month", "when.year", "when.hour"]
    assert [c["column"] for c in field["categorical"]] == ["when.weekday"]
    days = np.array([(date.fromisoformat(c["when"]) - date(1970, 1, 1)).days for c in WHEN])
    got = np.array([reader(c)["numbers"][1] for c in WHEN])
    assert np.allclose(got, (days - days.mean()) / days.std(), atol=1e-5)
    assert not reader({"when": None, "x": 1.0})["known"][1:].any()
    again = TabularReader(dates=["when"])
    again.field = field
    assert all(np.array_equal(a, b) for a, b in zip(again(WHEN[7]).values(), reader(WHEN[7]).values(), strict=True))
    assert reader.show(WHEN[3])["data"] == {"when": "2013-04-04", "x": "3.0"}


def test_a_date_column_that_is_not_there() -> None:
    with pytest.raises(SpecError, match="dates: no column of this name"):
        TabularReader(dates=["wen"]).fit(WHEN)
