"""Texts of the rules that have a form of their own: conditions, paths, sticky keys, ids, time zones, stores."""

import functools
import re
import zoneinfo
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated, Final

from pydantic import BeforeValidator, PlainValidator, SecretStr, ValidationInfo

from mitmgate.conditions.bounds import LONGEST, weigh
from mitmgate.conditions.condition import Condition
from mitmgate.rules.expand import Expanded
from mitmgate.rules.units import broken, expected, text, written_as

_STICKY: Final = re.compile(r"conversation|header:[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}|body:[A-Za-z0-9_-]{1,128}")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# What the conditions of one document may cost to compile: at most half a millisecond each, and some 13 µs a character, as
# `weigh` counts them.
MOST_CONDITIONS: Final = 1_000
MOST_CHARACTERS: Final = 40_000
MOST_WRONG: Final = 20
_SAID: Final = 300                          # characters of another library's message that are repeated


class Compiling:
    """The conditions of one document: each text is compiled once, and in all no more than can be in reasonable time."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}
        self._characters = 0
        self._wrong = 0

    def wrong(self, text: str) -> str | None:
        """What is wrong with a condition, if anything is."""
        if text not in self._known:
            if self._characters <= MOST_CHARACTERS:
                self._characters += weigh(text)
            if self._wrong == MOST_WRONG:
                return f"not looked at after {MOST_WRONG} conditions that are wrong"
            if len(self._known) == MOST_CONDITIONS or self._characters > MOST_CHARACTERS:
                return (
                    f"more than {MOST_CONDITIONS:,} different conditions, or more than {MOST_CHARACTERS:,} characters of them: "
                    "use the other keys of `match` where they will do"
                )
            self._known[text] = _compiled(text)
            self._wrong += self._known[text] is not None
        return self._known[text]


def _compiled(text: str) -> str | None:
    try:
        Condition.parse(text)
    except ValueError as error:
        return _printable(str(error))
    return None


def condition(value: object, info: ValidationInfo) -> str:
    """A condition in CEL that compiles; it may have several lines. The schema keeps the text."""
    if not isinstance(value, str):
        raise expected("a condition in CEL, as text")
    if not value.strip():
        raise expected("a condition in CEL")
    compiling = info.context if isinstance(info.context, Compiling) else Compiling()
    wrong = compiling.wrong(str(value))
    if wrong is not None and isinstance(value, Expanded):       # the message may repeat what came out of the environment
        raise broken("not a condition in CEL once the environment is put in")
    if wrong is not None:
        raise broken(wrong)
    return str(value)


def _printable(message: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in message[:_SAID])


def inside_path(value: object) -> str:
    """A file's path below the rules folder; whether a link leads out of it is seen when the file is opened."""
    path = text(value)
    if "\\" in path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise expected("a path inside the rules folder, such as schemas/answer.json")
    return path


def url_path(value: object) -> str:
    """A path below a provider's `base_url`."""
    path = text(value)
    if not path.startswith("/") or not all("!" <= character <= "~" for character in path) or "#" in path:
        raise expected("a path such as /models")
    return path


def sticky(value: object) -> str:
    """What keeps a caller at its target."""
    if not isinstance(value, str) or not _STICKY.fullmatch(value):
        raise expected("header:NAME, body:NAME or conversation")
    return str(value)


def uuid(value: object) -> str:
    """A UUID, in small letters."""
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise expected("a UUID such as 6f1c2f7e-6d0b-4c0e-9a39-7f3a3d0f5b11")
    return value.lower()


def timezone(value: object) -> str:
    """A time zone of the IANA database that this machine knows."""
    zone = text(value)
    if zone not in _time_zones():
        raise expected("a time zone such as Europe/Berlin or UTC")
    return zone


@functools.cache
def _time_zones() -> frozenset[str]:
    """Read once: to look for one that is not there takes a quarter of a millisecond."""
    return frozenset(zoneinfo.available_timezones() | {"UTC"})


def _store(*beginnings: str) -> Callable[[object], str | SecretStr]:
    """The address of a store; secret, because it may hold a password."""
    what = " or ".join((", ".join(beginnings[:-1]), beginnings[-1]))

    def check(value: object) -> str | SecretStr:
        if isinstance(value, SecretStr):
            return value
        if not isinstance(value, str) or not value.startswith(beginnings) or not value.isprintable() or " " in value:
            raise expected(f"an address that begins with {what}")
        return str(value)

    return check


def parameter(value: object) -> str:
    """A member of the body that rules may set: not the model, which targets name and policies judge."""
    if not isinstance(value, str):
        raise expected("the name of a parameter")
    if value.casefold() == "model":
        raise broken("a model is not set here: write `model:` in the target")
    return str(value)


Parameter = Annotated[str, PlainValidator(parameter), written_as(type="string")]
ConditionText = Annotated[
    str,
    PlainValidator(condition),
    written_as(type="string", minLength=1, maxLength=LONGEST, examples=["request.stream == false"]),
]
InsidePath = Annotated[
    str, PlainValidator(inside_path), written_as(type="string", pattern=r"^(?!/)(?!(.*/)?\.\.(/|$))[^\\]+$")
]
UrlPath = Annotated[str, PlainValidator(url_path), written_as(type="string", pattern="^/")]
Sticky = Annotated[str, PlainValidator(sticky), written_as(type="string", pattern=f"^({_STICKY.pattern})$")]
Uuid = Annotated[str, PlainValidator(uuid), written_as(type="string", pattern=f"^{_UUID.pattern}$")]
TimeZone = Annotated[str, PlainValidator(timezone), written_as(type="string", minLength=1, examples=["Europe/Berlin"])]
Database = Annotated[
    SecretStr,
    BeforeValidator(_store("sqlite:///", "postgresql://")),
    written_as(type="string", pattern="^(sqlite:///|postgresql://)"),
]
Counters = Annotated[
    SecretStr,
    BeforeValidator(_store("memory://", "redis://", "rediss://")),
    written_as(type="string", pattern="^(memory|rediss?)://"),
]
Blobs = Annotated[SecretStr, BeforeValidator(_store("file://", "s3://")), written_as(type="string", pattern="^(file|s3)://")]
