"""What providers say of how long to wait, in all the forms they say it."""

import math
import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitmgate.routing.retry_after import requested_wait

NOW = 1_700_000_000.0                       # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("headers", "status", "seconds"),
    [
        ({}, 429, None),
        ({"retry-after": "7"}, 429, 7),
        ({"retry-after": "7"}, 503, 7),
        ({"retry-after": "7"}, None, 7),
        ({"retry-after": "0"}, 429, 0),
        ({"retry-after": " 1.5 "}, 429, 1.5),
        ({"retry-after": "86400"}, 429, 86400),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 429, 30),
        ({"retry-after": "Tue, 14 Nov 2023 22:12:00 GMT"}, 429, 0),
        ({"retry-after": "Tue, 14 Nov 2023 23:13:50 +0100"}, 429, 30),
        ({"retry-after": "Tuesday, 14-Nov-23 22:13:50 GMT"}, 429, 30),      # RFC 9110, 5.6.7: obsolete, still to be read
        ({"retry-after-ms": "250"}, 429, 0.25),
        ({"retry-after-ms": "250", "retry-after": "7"}, 429, 0.25),
        ({"x-ms-retry-after-ms": "1500"}, 429, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 429, 7),
        ({"retry-after": "-7"}, 429, None),
        ({"retry-after": "soon"}, 429, None),
        ({"retry-after": ""}, 429, None),
        ({"retry-after": "1e3"}, 429, None),
        ({"retry-after": "inf"}, 429, None),
        ({"retry-after": "9" * 400}, 429, None),
        ({"retry-after": "Mon, 99 Foo 2023 99:99:99 GMT"}, 429, None),
        ({"retry-after": "soon", "x-ratelimit-reset-requests": "2s"}, 429, 2),
        ({"x-ratelimit-reset-requests": "6m0s"}, 429, 360),
        ({"x-ratelimit-reset-requests": "20ms"}, 429, 0.02),
        ({"x-ratelimit-reset-requests": "1.5s"}, 429, 1.5),
        ({"x-ratelimit-reset-requests": "1h2m3.5s"}, 429, 3723.5),
        ({"x-ratelimit-reset-requests": "1m250ms"}, 429, 60.25),
        ({"x-ratelimit-reset-requests": "59.70172s"}, 429, 59.70172),
        ({"x-ratelimit-reset-requests": "12"}, 429, 12),
        ({"x-ratelimit-reset-requests": "1700000012"}, 429, 12),
        ({"x-ratelimit-reset-requests": "1600000000"}, 429, 0),
        ({"x-ratelimit-reset": "1700000012"}, 429, 12),
        ({"x-ratelimit-reset": "5"}, 429, 5),
        ({"x-ratelimit-reset-requests": "6m0s"}, 503, None),                # only a 429 is about limits
        ({"x-ratelimit-reset-requests": "6m0s"}, 200, None),
        ({"x-ratelimit-reset-requests": ""}, 429, None),
        ({"x-ratelimit-reset-requests": "later"}, 429, None),
        ({"x-ratelimit-reset-requests": "1s2h"}, 429, None),
        ({"x-ratelimit-reset-requests": "-5s"}, 429, None),
        # The limit that is used up decides; else the sooner one.
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "9s"}, 429, 1),
        (
            {
                "x-ratelimit-reset-requests": "1s", "x-ratelimit-remaining-requests": "10",
                "x-ratelimit-reset-tokens": "9s", "x-ratelimit-remaining-tokens": "0",
            }, 429, 9,
        ),
        (
            {
                "x-ratelimit-reset-requests": "1s", "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "9s", "x-ratelimit-remaining-tokens": "0",
            }, 429, 9,
        ),
    ],
)  # fmt: skip
def test_requested_wait(headers: dict[str, str], status: int | None, seconds: float | None) -> None:
    found = requested_wait(headers, status, NOW)
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_a_date_without_a_zone_is_gmt(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9110, 5.6.7: asctime's form is obsolete, to be read, and in UTC, wherever this machine stands."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert requested_wait({"retry-after": "Tue Nov 14 22:13:50 2023"}, 429, NOW) == pytest.approx(30)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_reset_in_unix_milliseconds() -> None:
    """OpenRouter's `X-RateLimit-Reset` counts milliseconds: not a wait of fifty thousand years."""
    assert requested_wait({"x-ratelimit-reset": "1700000012000"}, 429, NOW) == pytest.approx(12)


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)))
def test_every_http_date_is_read(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    found = requested_wait({"retry-after": format_datetime(moment, usegmt=True)}, 503, NOW)
    assert found == max(0.0, moment.timestamp() - NOW)


GARBAGE = st.text(max_size=30) | st.text("0123456789.smh-+:, GMTonJa", max_size=30) | st.from_regex(
    r"[A-Z][a-z]{2}, \d{1,3} (Jan|Feb|Dec) \d{1,5} \d\d:\d\d:\d\d ([A-Z]{1,3}|[+-]\d{4})", fullmatch=True
)
NAMES = st.sampled_from(
    ["retry-after", "retry-after-ms", "x-ms-retry-after-ms", "x-ratelimit-reset", "x-ratelimit-reset-requests",
     "x-ratelimit-reset-tokens", "x-ratelimit-remaining-tokens"]
)  # fmt: skip


@given(st.dictionaries(NAMES, GARBAGE), st.sampled_from([None, 429, 503]))
def test_no_garbage_raises_or_gives_no_number(headers: dict[str, str], status: int | None) -> None:
    found = requested_wait(headers, status, NOW)
    assert found is None or (math.isfinite(found) and found >= 0)
