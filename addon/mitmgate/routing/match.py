"""Which route a request takes: the first whose every key holds (DESIGN §4)."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from mitmgate.exchange import Chosen
from mitmgate.globs import Globs

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Asked:
    """What matching looks at."""

    host: str
    path: str
    operation: str
    model: str | None
    headers: Mapping[str, str]
    client: str


@dataclass(frozen=True, slots=True)
class Match:
    """`match:` of a route, compiled. None or empty: the key is not given."""

    host: Globs | None = None
    path: Globs | None = None
    operation: frozenset[str] = frozenset()
    model: Globs | None = None
    header: tuple[tuple[str, Globs], ...] = ()
    client: tuple[Network, ...] = ()

    def __call__(self, asked: Asked) -> str | None:
        """`$1` ("" if there is none) when all keys hold, else None. A `model` key never matches a request without one."""
        if self.operation and asked.operation not in self.operation:
            return None
        captured = ""
        if self.model is not None:
            found = self.model.match(asked.model) if asked.model is not None else None
            if found is None:
                return None
            captured = found
        if self.host is not None and self.host.match(asked.host) is None:
            return None
        if self.path is not None and self.path.match(asked.path) is None:
            return None
        for name, values in self.header:
            value = asked.headers.get(name)
            if value is None or values.match(value) is None:
                return None
        if self.client and not _inside(asked.client, self.client):
            return None
        return captured


def _inside(client: str, networks: tuple[Network, ...]) -> bool:
    try:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(client)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


@dataclass(frozen=True, slots=True)
class Route:
    """A rule, compiled. Also what `models:` names become."""

    match: Match
    chosen: Chosen                          # what it chooses, `$1` not yet filled in
    captures: bool = False                  # a target's model holds `$1`


def first_match(routes: tuple[Route, ...], asked: Asked) -> tuple[Route, str] | None:
    """The first route that matches, with its `$1`."""
    for route in routes:
        if (captured := route.match(asked)) is not None:
            return route, captured
    return None
