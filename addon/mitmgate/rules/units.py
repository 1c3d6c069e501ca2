"""What single values of the rules look like: durations, sizes, names, globs. One spelling each.

Each is an annotated type for the schema. A wrong value raises `expected`, which says what should stand there; `wording`
adds what was found, because it alone knows what may be shown.
"""

import ipaddress
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    BeforeValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from mitmgate.rules.values import unexpanded

LONGEST_GLOB: Final = 512
_LONGEST_TEXT: Final = 4_096

_DURATION: Final = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)", re.ASCII)
_ALMOST_DURATION: Final = re.compile(
    r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(ms|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)?", re.ASCII | re.IGNORECASE
)
_SECONDS: Final[Mapping[str, float]] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_SIZE: Final = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB)", re.ASCII)
_BYTES: Final[Mapping[str, int]] = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")              # a token of RFC 9110, section 5.6.2
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STATUS: Final = re.compile(r"[45][0-9][0-9]")
_PERCENT: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,2})?)%", re.ASCII)
_MONEY: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) USD", re.ASCII)
_FRAMING: Final = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "te", "upgrade", "keep-alive"}
)


def expected(what: str) -> PydanticCustomError:
    """The error of a value that is not `what`; `wording` adds what was found instead."""
    return PydanticCustomError("expected", "{what}", {"what": what})


def broken(message: str) -> PydanticCustomError:
    """An error whose message says it all and holds nothing that was found."""
    return PydanticCustomError("broken", "{message}", {"message": message})


def text(value: object) -> str:
    """Any text on one line, not empty."""
    if not isinstance(value, str):
        raise expected("text")
    if not value or len(value) > _LONGEST_TEXT or not all(character.isprintable() for character in value):
        raise expected(f"one line of text, at most {_LONGEST_TEXT} characters")
    return str(value)                       # never the `Expanded` that it may be


def secret(value: object) -> str | SecretStr:
    """A secret's text; it may have several lines."""
    if isinstance(value, SecretStr):
        return value
    if not isinstance(value, str):
        raise expected("text")
    if not value:
        raise expected("a secret")
    return str(value)


def glob(value: object) -> str:
    """A glob: `*` any run of characters, `?` one."""
    pattern = text(value)
    if len(pattern) > LONGEST_GLOB:
        raise expected(f"a pattern of at most {LONGEST_GLOB} characters")
    return pattern


def duration(value: object) -> float:
    """`500ms`, `5s`, `2m`, `1h`, `30d` as seconds."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise expected("a duration such as 500ms or 5s")
    return int(found[1]) * _SECONDS[found[2]]


def duration_meant(written: str) -> str:
    """What to write in place of `30 s`, `1.5s`, `30`; nothing where that cannot be told."""
    found = _ALMOST_DURATION.fullmatch(written.strip())
    if found is None:
        return ""
    number = Decimal(found[1])
    if not number:                          # what stands for "never" differs from key to key
        return ""
    if not found[2]:
        return f"`{number:f}s` or `{number:f}ms`" if number % 1 == 0 else ""
    unit = found[2].lower() if found[2].lower() == "ms" else found[2][0].lower()
    milliseconds = number * round(_SECONDS[unit] * 1000)
    for name in (unit, *reversed(tuple(_SECONDS))):
        count = milliseconds / round(_SECONDS[name] * 1000)
        if count % 1 == 0 and _DURATION.fullmatch(spelling := f"{int(count)}{name}"):
            return f"`{spelling}`"
    return ""


def positive_duration(value: object) -> float:
    """A duration that is longer than nothing, in seconds."""
    seconds = duration(value)
    if seconds <= 0:
        raise expected("a duration longer than 0s")
    return seconds


def duration_or_none(value: object) -> float | None:
    """A positive duration in seconds; None for `none`, which is no bound."""
    if value == "none":
        return None
    try:
        return positive_duration(value)
    except PydanticCustomError:
        raise expected("a duration such as 500ms or 5s, or `none`") from None


def size(value: object) -> int:
    """`64MiB`, `512KiB`, `1GiB`, `100B` as bytes, at least one."""
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[1]) == 0:
        raise expected("a size such as 64MiB or 512KiB")
    return int(found[1]) * _BYTES[found[2]]


def amount(value: object) -> float:
    """A finite number, at least 0."""
    number = unexpanded(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number) or number < 0:
        raise expected("a number, at least 0")
    return float(number)


def fraction(value: object) -> float:
    """A number from 0 to 1."""
    number = unexpanded(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1:
        raise expected("a number from 0 to 1")
    return float(number)


def percent(value: object) -> float:
    """`80%`, `2.5%` as the fraction that it is, from 0 to 1."""
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if found is None or float(found[1]) > 100:
        raise expected("a percentage such as 80% or 2.5%")
    return float(found[1]) / 100


def money(value: object) -> Decimal:
    """`500 USD`, `0.25 USD` as that many dollars; prices are in USD, so nothing else could be compared with them."""
    found = _MONEY.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise expected("an amount of money such as 500 USD")
    return Decimal(found[1])


def flag(value: object) -> bool:
    """`true` or `false`."""
    given = unexpanded(value)
    if not isinstance(given, bool):
        raise expected("true or false")
    return given


def variable(value: object) -> str:
    """An environment variable's name."""
    if not isinstance(value, str) or not _VARIABLE.fullmatch(value):
        raise expected("the name of an environment variable")
    return str(value)


def name(value: object) -> str:
    """The name of a route or provider."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise expected("a name of 1 to 64 letters, digits, `.`, `_` or `-`")
    return str(value)


def header_name(value: object) -> str:
    """A header's name."""
    if not isinstance(value, str) or not _HEADER.fullmatch(value):
        raise expected("the name of a header")
    return str(value)


def sent_header_name(value: object) -> str:
    """A header's name that rules may set: none that frames the message."""
    header = header_name(value)
    if header.lower() in _FRAMING:
        raise broken("this header belongs to the connection and cannot be set")
    return header


def network(value: object) -> str:
    """An address or network such as `10.0.0.0/8`."""
    try:
        if not isinstance(value, str):
            raise ValueError
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise expected("an address or network such as 10.0.0.0/8") from None
    return str(value)


def retry_on(value: object) -> str:
    """What a retry answers to: `connect`, `timeout`, `5xx` or a status."""
    given = unexpanded(value)
    word = str(given) if isinstance(given, str | int) and not isinstance(given, bool) else ""
    if word not in ("connect", "timeout", "5xx") and not _STATUS.fullmatch(word):
        raise expected("connect, timeout, 5xx or a status from 400 to 599")
    return word


def listed(value: object) -> object:
    """A list as the tuple that the schema keeps."""
    return tuple(value) if isinstance(value, list) else value


def non_empty(value: object) -> object:
    """A list that holds something: an empty one would match nothing or, worse, everything."""
    if isinstance(value, list) and not value:
        raise broken("an empty list: name at least one")
    return listed(value)


def one_or_more(value: object) -> object:
    """A list that holds something; a single value means a list of one."""
    return non_empty(value) if isinstance(value, list | dict) else (value,)


def json_value(value: object) -> Any:
    """A JSON value of the operator's, with what came from the environment resolved."""
    if isinstance(value, dict):
        return {key: json_value(each) for key, each in value.items()}
    if isinstance(value, list):
        return [json_value(each) for each in value]
    return unexpanded(value)


def written_as(**given: object) -> WithJsonSchema:
    return WithJsonSchema(dict(given))


@dataclass(frozen=True, slots=True)
class _OneToo:
    """Tells editors that a single value may stand for a list of one."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        many = handler(core)
        return {"anyOf": [many["items"], {**many, "minItems": 1}]}


class Whole:
    """Annotates an `int`: a whole number between two bounds, both allowed."""

    def __init__(self, lowest: int, highest: int) -> None:
        self._lowest = lowest
        self._highest = highest

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "integer", "minimum": self._lowest, "maximum": self._highest}

    def _check(self, value: object) -> int:
        number = unexpanded(value)
        if isinstance(number, bool) or not isinstance(number, int) or not self._lowest <= number <= self._highest:
            raise expected(f"a whole number from {self._lowest} to {self._highest}")
        return number


@dataclass(frozen=True, slots=True)
class _SomeItems:
    """Tells editors that a list is not empty."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core), "minItems": 1}


T = TypeVar("T")
Listed = Annotated[tuple[T, ...], BeforeValidator(listed)]
NonEmpty = Annotated[tuple[T, ...], BeforeValidator(non_empty), _SomeItems()]
OneOrMore = Annotated[tuple[T, ...], BeforeValidator(one_or_more), _OneToo()]


Text = Annotated[str, PlainValidator(text), written_as(type="string", minLength=1)]
Secret = Annotated[SecretStr, BeforeValidator(secret)]
Glob = Annotated[str, PlainValidator(glob), written_as(type="string", minLength=1, maxLength=LONGEST_GLOB)]
_DURATION_SCHEMA: Final = written_as(type="string", pattern=r"^[0-9]{1,9}(ms|s|m|h|d)$", examples=["500ms", "5s"])
Duration = Annotated[float, PlainValidator(duration), _DURATION_SCHEMA]
_LONGER: Final = r"(?=[0-9]{1,9}[a-z])0*[1-9][0-9]*(ms|s|m|h|d)"     # than nothing
PositiveDuration = Annotated[
    float, PlainValidator(positive_duration), written_as(type="string", pattern=f"^{_LONGER}$", examples=["500ms", "5s"])
]
DurationOrNone = Annotated[
    float | None,
    PlainValidator(duration_or_none),
    written_as(type="string", pattern=f"^({_LONGER}|none)$"),
]
Size = Annotated[
    int,
    PlainValidator(size),
    written_as(type="string", pattern=r"^(?=[0-9]{1,12}[A-Z])0*[1-9][0-9]*(B|KiB|MiB|GiB)$", examples=["64MiB"]),
]
Amount = Annotated[float, PlainValidator(amount), written_as(type="number", minimum=0)]
Fraction = Annotated[float, PlainValidator(fraction), written_as(type="number", minimum=0, maximum=1)]
Percent = Annotated[
    float,
    PlainValidator(percent),
    written_as(type="string", pattern=r"^(100(\.0{1,2})?|[0-9]{1,2}(\.[0-9]{1,2})?)%$", examples=["80%"]),
]
Money = Annotated[
    Decimal,
    PlainValidator(money),
    PlainSerializer(lambda dollars: f"{dollars} USD", return_type=str, when_used="json"),
    written_as(type="string", pattern=r"^[0-9]{1,12}(\.[0-9]{1,6})? USD$", examples=["500 USD"]),
]
Flag = Annotated[bool, PlainValidator(flag), written_as(type="boolean")]
Variable = Annotated[str, PlainValidator(variable), written_as(type="string", pattern=f"^{_VARIABLE.pattern}$")]
Name = Annotated[str, PlainValidator(name), written_as(type="string", pattern=f"^{_NAME.pattern}$")]
HeaderName = Annotated[str, PlainValidator(header_name), written_as(type="string", pattern=f"^{_HEADER.pattern}$")]
SentHeaderName = Annotated[str, PlainValidator(sent_header_name), written_as(type="string", pattern=f"^{_HEADER.pattern}$")]
Network = Annotated[str, PlainValidator(network), written_as(type="string", examples=["10.0.0.0/8"])]
RetryOn = Annotated[
    str,
    PlainValidator(retry_on),
    written_as(
        anyOf=[
            {"type": "string", "pattern": "^(connect|timeout|5xx|[45][0-9][0-9])$"},
            {"type": "integer", "minimum": 400, "maximum": 599},
        ]
    ),
]
Json = Annotated[Any, PlainValidator(json_value), written_as()]
