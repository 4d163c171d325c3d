"""A date as numbers and names: what of it repeats, and what goes on."""

from __future__ import annotations

from datetime import datetime

from polymodal.core.errors import BadCell, shorten
from polymodal.modalities.tabular.cells import is_missing

NUMBERS = ("day", "month", "year", "hour")  # day: days since 1970-01-01, with their fraction
NAMES = ("weekday",)
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EPOCH = datetime(1970, 1, 1)


def parts(column: str) -> dict[str, str]:
    """The names of the columns that a column of dates becomes, by part: `when.day`, ..., `when.weekday`."""
    return {part: f"{column}.{part}" for part in (*NUMBERS, *NAMES)}


def spread(column: str, value: object) -> dict[str, object]:
    """A date (ISO 8601, also with slashes) by parts: days since 1970, month 1-12, year, hour with its minutes, weekday.

    A missing date has missing parts; a time zone is taken off, the clock stays. Raises BadCell for what is no date.
    """
    named = parts(column)
    if is_missing(value):
        return dict.fromkeys(named.values())
    try:
        when = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip().replace("/", "-"))
    except ValueError:
        raise BadCell(f"{column}: {shorten(value, 60)} is no date such as 2024-05-31 or 2024-05-31T14:30") from None
    when = when.replace(tzinfo=None)
    hour = when.hour + when.minute / 60
    found = ((when - EPOCH).total_seconds() / 86400, when.month, when.year, hour, DAYS[when.weekday()])
    return dict(zip(named.values(), found, strict=True))
