"""Latency and faults on request: the `x-simulate` header, parsed.

    x-simulate: latency=200ms, status=503, retry-after=1

A provider's `headers:` in the rules may hold it too, so that one simulated target fails and the next one answers.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

HEADER: Final = "x-simulate"

LONGEST: Final = 300.0
"""Seconds: the longest latency and the longest gap."""

MOST_EVENTS: Final = 100_000
"""Content events that one request may ask for, over all its choices."""

DIRECTIVES: Final[Mapping[str, str]] = {
    "latency=TIME": "wait before the headers: 200ms, 1.5s; at most 300s",
    "gap=TIME": "wait between the content events of a stream; at most 300s",
    "events=N": "a text answer of exactly N words, which a stream sends as N content events; at most 100000",
    "status=CODE": "answer with this status, 400 to 599, and an error body",
    "code=NAME": "the error code in that body, or in the error event: insufficient_quota",
    "retry-after=SECONDS": "a Retry-After header beside status",
    "reset": "reset the connection before the headers",
    "reset-after-headers": "reset the connection after the headers",
    "hang": "never answer",
    "garbage": "answer bytes that are not HTTP",
    "empty": "200, then the end without any content",
    "error-event=N": "an error event after N content events; a reply that is not streamed is a 200 with an error body",
    "cut=N": "close the connection after N content events; after half the body of a reply that is not streamed",
    "silence=N": "send nothing more after N content events; after half the body of a reply that is not streamed",
}
"""What the header may hold, each with what it does."""

_NAMES: Final = frozenset(form.partition("=")[0] for form in DIRECTIVES)
_BARE: Final = frozenset(form for form in DIRECTIVES if "=" not in form)
_DURATION: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(ms|s)")
_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SECONDS: Final = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,3})?")

# The status that OpenAI sends with a code (its "Error codes" guide), for `code=` without `status=`.
_STATUS_OF: Final[Mapping[str, int]] = {
    "content_filter": 400,
    "context_length_exceeded": 400,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "server_error": 500,
}


class Ending(StrEnum):
    """How a reply goes wrong. The values are the directives' names."""

    STATUS = "status"
    RESET = "reset"
    RESET_AFTER_HEADERS = "reset-after-headers"
    HANG = "hang"
    GARBAGE = "garbage"
    EMPTY = "empty"
    ERROR_EVENT = "error-event"
    CUT = "cut"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class Faults:
    """What one request asked to go wrong. Durations in seconds."""

    latency: float = 0.0
    gap: float = 0.0
    events: int | None = None
    ending: Ending | None = None            # None: the reply is whole
    after: int = 0                          # content events before error-event, cut and silence
    status: int = 200
    code: str | None = None
    retry_after: str | None = None          # as it goes into the header


NONE: Final = Faults()


class BadDirective(ValueError):
    """The header cannot be obeyed; the text says what to write instead."""


def parse(values: Iterable[str]) -> Faults:
    """The faults that the values of the request's `x-simulate` headers ask for. Raises BadDirective."""
    given: dict[str, str] = {}
    for directive in ",".join(values).split(","):
        name, equals, value = (part.strip() for part in directive.strip().partition("="))
        if not name:
            continue
        if name not in _NAMES:
            raise BadDirective(f"unknown directive in {HEADER}; it knows {', '.join(DIRECTIVES)}")
        if name in given:
            raise BadDirective(f"{HEADER} gives {name} twice")
        if bool(equals) is (name in _BARE):
            raise BadDirective(f"{HEADER}: write {_form(name)}")
        given[name] = value
    return _compile(given) if given else NONE


def _compile(given: Mapping[str, str]) -> Faults:
    ending, after = _ending(given), 0
    if ending in (Ending.ERROR_EVENT, Ending.CUT, Ending.SILENCE):
        after = _whole(given, ending.value, 0, MOST_EVENTS)
    code = given.get("code")
    if code is not None and not _CODE.fullmatch(code):
        raise BadDirective(f"{HEADER}: code is 1 to 64 letters, digits, underscores, dots and dashes")
    if code is not None and ending is None:
        if code not in _STATUS_OF:
            raise BadDirective(f"{HEADER}: this code needs a status=CODE or an error-event=N beside it")
        ending = Ending.STATUS
    if code is not None and ending not in (Ending.STATUS, Ending.ERROR_EVENT):
        raise BadDirective(f"{HEADER}: code goes with status or error-event")
    status = 200
    if ending is Ending.STATUS:
        status = _whole(given, "status", 400, 599) if "status" in given else _STATUS_OF[code or ""]
    retry_after = given.get("retry-after")
    if retry_after is not None and ending is not Ending.STATUS:
        raise BadDirective(f"{HEADER}: retry-after goes with status")
    if retry_after is not None and not _SECONDS.fullmatch(retry_after):
        raise BadDirective(f"{HEADER}: retry-after is a number of seconds: 1, 0.5")
    return Faults(
        latency=_duration(given, "latency"),
        gap=_duration(given, "gap"),
        events=_whole(given, "events", 1, MOST_EVENTS) if "events" in given else None,
        ending=ending,
        after=after,
        status=status,
        code=code,
        retry_after=retry_after,
    )


def _ending(given: Mapping[str, str]) -> Ending | None:
    endings = [ending for ending in Ending if ending.value in given]
    if len(endings) > 1:
        raise BadDirective(f"{HEADER}: {' and '.join(endings)} contradict each other; give one of them")
    return endings[0] if endings else None


def _form(name: str) -> str:
    return next(form for form in DIRECTIVES if form.partition("=")[0] == name)


def _whole(given: Mapping[str, str], name: str, least: int, most: int) -> int:
    value = given[name]
    if not (value.isascii() and value.isdigit() and len(value) <= 9 and least <= int(value) <= most):
        raise BadDirective(f"{HEADER}: {name} is a whole number from {least} to {most}")
    return int(value)


def _duration(given: Mapping[str, str], name: str) -> float:
    value = given.get(name)
    if value is None:
        return 0.0
    parts = _DURATION.fullmatch(value)
    seconds = float(parts[1]) / (1000 if parts[2] == "ms" else 1) if parts else LONGEST + 1
    if seconds > LONGEST:
        raise BadDirective(f"{HEADER}: {name} is a time up to 300s: 200ms, 1.5s")
    return seconds
