"""Addresses to listen on, and URLs to call, as the rules write them."""

import ipaddress
import re
from typing import Annotated, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, PlainSerializer, PlainValidator, SecretStr, WithJsonSchema

from mitmgate.addresses import HostPattern, is_loopback
from mitmgate.rules.expand import Expanded
from mitmgate.rules.units import LONGEST_GLOB, broken, expected

_HOST: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")


class Address(NamedTuple):
    """Where to listen; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it: a wildcard is dialled as loopback, but listens everywhere."""
        return is_loopback(self.host) and self.host not in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def address(value: object) -> Address:
    """`host:port`, an IPv6 host in brackets."""
    if isinstance(value, Address):
        return value
    wrong = expected("an address such as 127.0.0.1:8080 or [::1]:8080")
    if not isinstance(value, str):
        raise wrong
    host, _, port = value.rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or int(port) > 65_535:
        raise wrong
    if host.startswith("[") and host.endswith("]"):
        try:
            return Address(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        except ValueError:
            raise wrong from None
    if not _HOST.fullmatch(host):
        raise wrong
    return Address(host, int(port))


def url(value: object) -> str:
    """An http or https URL without user, password, query or fragment."""
    parts = split(value)
    if parts is None:
        raise expected("a URL such as https://api.example.com/v1")
    if parts.username is not None or parts.password is not None:
        raise broken("the URL holds a user or password: write it under `credential`")
    if "?" in str(value) or "#" in str(value):
        raise broken("the URL holds a query or a fragment: leave it out")
    return str(value)


def split(value: object) -> SplitResult | None:
    """An http or https URL's parts; None if it is none."""
    if not isinstance(value, str) or not all("!" <= character <= "~" for character in value) or "\\" in value:
        return None
    try:
        parts = urlsplit(str(value))
        port = parts.port                   # ValueError if it is no port
    except ValueError:
        return None
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or port == 0 or not (":" in host or _HOST.fullmatch(host)):
        return None
    return parts


def secret_url(value: object) -> str | SecretStr:
    """A URL whose path may be as good as a password."""
    return value if isinstance(value, SecretStr) else url(value)


def host_pattern(value: object) -> str:
    """A host glob, an address or a network, with or without a port: what `HostPattern` reads."""
    wrong = expected("a host such as api.example.com, *.example.com:8443 or 10.0.0.0/8")
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_GLOB:
        raise wrong
    try:
        HostPattern.parse(value)
    except ValueError as error:
        if isinstance(value, Expanded):     # the message repeats what came out of the environment
            raise wrong from None
        raise broken(str(error)) from None
    return value


def url_or_none(value: object) -> str:
    """A proxy's URL, or `none`, which stays as it is."""
    return "none" if value == "none" else url(value)


ListenAddress = Annotated[
    Address,
    PlainValidator(address),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$",
            "examples": ["127.0.0.1:8080"],
        },
        mode="validation",
    ),
]
HostText = Annotated[
    str, PlainValidator(host_pattern), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": LONGEST_GLOB})
]
_URL: Final = "https?://[^/?#@]+(/[^?#]*)?"
Url = Annotated[str, PlainValidator(url), WithJsonSchema({"type": "string", "pattern": f"^{_URL}$"})]
SecretUrl = Annotated[
    SecretStr, BeforeValidator(secret_url), WithJsonSchema({"type": "string", "pattern": f"^{_URL}$"})
]
UrlOrNone = Annotated[
    str, PlainValidator(url_or_none), WithJsonSchema({"type": "string", "pattern": f"^({_URL}|none)$"})
]
UrlOrNull = Annotated[
    str, PlainValidator(url), WithJsonSchema({"anyOf": [{"type": "string", "pattern": f"^{_URL}$"}, {"type": "null"}]})
]
"""`null` may be written where nothing is meant; `values` leaves such a key out."""
