"""How long a provider asks us to wait: `Retry-After`, `retry-after-ms` and `x-ratelimit-reset-*`."""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

# Go-style durations, as OpenAI sends them: "6m0s", "1.5s", "20ms".
_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_EPOCH: Final = 1_000_000_000               # a bare number beyond this is a Unix time, not a number of seconds


def requested_wait(headers: Mapping[str, str], status: int | None, now: float) -> float | None:
    """Seconds to wait, never negative; None if the provider did not say. `now`: Unix seconds.

    Order: `retry-after-ms`, `x-ms-retry-after-ms` (Azure), `Retry-After` (RFC 9110, 10.2.3: seconds or a date), and on a
    429 the rate-limit reset headers, those of a limit that is used up before the others.
    """
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if (milliseconds := _number(headers.get(name))) is not None:
            return milliseconds / 1000
    if value := headers.get("retry-after"):
        if (seconds := _number(value)) is not None:
            return seconds
        try:
            date = parsedate_to_datetime(value)
            at = date if date.tzinfo is not None else date.replace(tzinfo=UTC)   # RFC 9110, 5.6.7: GMT
            return max(0.0, at.timestamp() - now)
        except (ValueError, TypeError):
            pass
    if status != 429:
        return None
    waits = {kind: _reset(headers.get(f"x-ratelimit-reset-{kind}"), now) for kind in ("requests", "tokens")}
    spent = [w for kind, w in waits.items() if w is not None and _number(headers.get(f"x-ratelimit-remaining-{kind}")) == 0]
    if spent:
        return max(spent)
    known = [w for w in (*waits.values(), _reset(headers.get("x-ratelimit-reset"), now)) if w is not None]
    return min(known, default=None)


def _number(value: str | None) -> float | None:
    if value is None or not re.fullmatch(r"\s*\d{1,15}(?:\.\d{1,9})?\s*", value):
        return None
    return float(value)


def _reset(value: str | None, now: float) -> float | None:
    if value is None:
        return None
    if (number := _number(value)) is not None:
        if number > 1000 * _EPOCH:
            number /= 1000                  # Unix milliseconds
        return max(0.0, number - now) if number > _EPOCH else number
    text = value.strip()
    if len(text) > 40 or not (match := _DURATION.fullmatch(text)) or not text:
        return None
    hours, minutes, seconds, milliseconds = (float(group or 0) for group in match.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
