"""Whether a request fits a `match:` (DESIGN §4). All given keys must hold; a list means any of.

Each key is one row: whether it holds, what the rules want and what the request has. Matching and explaining read the
same rows in the same order, so that they cannot disagree.

A condition that cannot be evaluated is neither true nor false. For routes it counts as "does not match", for policies
as "does": in doubt no route is taken and no policy is escaped.
"""

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from mitmgate.conditions.condition import Condition
from mitmgate.conditions.facts import Facts
from mitmgate.globs import Globs

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
UNKNOWN: Final = "unknown"
"""The project of a caller that no rule identifies."""

_SECRET: Final = ("auth", "key", "token", "secret", "cookie", "passw", "credential", "signature")     # in a header's name
_HIDDEN: Final = "(not shown)"


@dataclass(frozen=True, slots=True)
class Asked:
    """What matching looks at, of one request."""

    host: str
    path: str
    operation: str
    model: str | None                       # after `aliases:`
    headers: Mapping[str, str]
    client: str
    method: str = "POST"
    project: str = UNKNOWN
    tenant: str | None = None
    task: str | None = None                 # X-GateFlow-Task-Type
    tags: Mapping[str, str] = field(default_factory=dict)
    facts: Facts | None = None              # what conditions read


class Key(NamedTuple):
    """One key of a `match:`, compiled. `holds` gives None where it cannot be said."""

    name: str
    holds: Callable[[Asked], bool | None]
    wanted: str
    found: Callable[[Asked], str | None]


class Miss(NamedTuple):
    """Why a request does not fit: the first key that does not hold, what the rules want, what the request has."""

    key: str
    wanted: str
    found: str | None                       # None: the request has no such thing


@dataclass(frozen=True, slots=True)
class Match:
    """`match:` of a route or policy, compiled. None or empty: the key is not given."""

    host: Globs | None = None
    path: Globs | None = None
    operation: frozenset[str] = frozenset()
    model: Globs | None = None
    header: tuple[tuple[str, Globs], ...] = ()
    client: tuple[Network, ...] = ()
    project: Globs | None = None
    tenant: Globs | None = None
    task: Globs | None = None
    tag: tuple[tuple[str, Globs], ...] = ()
    when: Condition | None = None
    exclude: "Match | None" = None          # `not:`
    scope: Globs | None = None              # the projects of a team: its rules reach no further
    keys: tuple[Key, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", tuple(_keys(self)))

    def __call__(self, asked: Asked, *, doubt: bool = False) -> str | None:
        """`$1` ("" if there is none) when all keys hold, else None. `doubt`: what a key counts as that cannot be evaluated."""
        for key in self.keys:
            holds = key.holds(asked)
            if not (doubt if holds is None else holds):
                return None
        return self.captured(asked)

    def captured(self, asked: Asked) -> str:
        """What the first `*` of the pattern that the model fits stands for."""
        return (self.model.match(asked.model) or "") if self.model is not None and asked.model is not None else ""

    def could(self, asked: Asked, unknown: frozenset[str]) -> bool:
        """Whether it may yet fit, once the keys in `unknown` can be compared: those that a body that has not come decides."""
        return all(
            key.holds(asked) is not False for key in self.keys if key.name.partition(".")[0] not in unknown
        )

    def miss(self, asked: Asked) -> Miss | None:
        """Why a route with this `match:` does not fit; None if it does."""
        for key in self.keys:
            holds = key.holds(asked)
            if not holds:
                found = key.found(asked)
                return Miss(key.name, key.wanted, "it cannot be evaluated" if holds is None else found)
        return None


_TEXTS: Final[tuple[tuple[str, Callable[[Asked], str | None]], ...]] = (
    ("scope", lambda asked: asked.project),
    ("model", lambda asked: asked.model),
    ("host", lambda asked: asked.host),
    ("path", lambda asked: asked.path),
    ("project", lambda asked: asked.project),
    ("tenant", lambda asked: asked.tenant),
    ("task", lambda asked: asked.task),
)
"""The keys that compare one text with globs, and where the text stands."""


def _keys(match: Match) -> Iterator[Key]:
    """Cheap and selective ones first; a condition costs most."""
    if match.operation:
        operations = match.operation
        yield Key("operation", lambda a: a.operation in operations, ", ".join(sorted(operations)), lambda a: a.operation)
    for name, read in _TEXTS:
        if (globs := getattr(match, name)) is not None:
            yield _globs(name, globs, read)
    for name, values in match.tag:
        yield _globs(f"tag.{name}", values, _tag(name))
    for name, values in match.header:
        yield _globs(f"header.{name}", values, _header(name), hidden=may_hold_secret(name))
    if match.client:
        networks = match.client
        yield Key("client", lambda a: _inside(a.client, networks), ", ".join(map(str, networks)), lambda a: a.client)
    if match.when is not None:
        yield _when(match.when)
    if match.exclude is not None:
        yield _not(match.exclude)


def may_hold_secret(header: str) -> bool:
    """Whether a header's name, in lower case, says that its value may be one."""
    return any(word in header for word in _SECRET)


def _globs(name: str, values: Globs, read: Callable[[Asked], str | None], *, hidden: bool = False) -> Key:
    def holds(asked: Asked) -> bool:
        value = read(asked)
        return value is not None and values.match(value) is not None

    def found(asked: Asked) -> str | None:
        return read(asked) if not hidden or read(asked) is None else _HIDDEN

    return Key(name, holds, _HIDDEN if hidden else str(values), found)


def _tag(name: str) -> Callable[[Asked], str | None]:
    return lambda asked: asked.tags.get(name)


def _header(name: str) -> Callable[[Asked], str | None]:
    return lambda asked: asked.headers.get(name)


def _when(condition: Condition) -> Key:
    def holds(asked: Asked) -> bool | None:
        return asked.facts.hold(condition) if asked.facts is not None else None

    return Key("when", holds, condition.text, lambda asked: "it is false")


def _not(exclude: Match) -> Key:
    wanted = "not " + ", ".join(f"{key.name}: {key.wanted}" for key in exclude.keys)

    def found(asked: Asked) -> str:
        return ", ".join(f"{key.name}: {key.found(asked)}" for key in exclude.keys if key.name != "when") or "it holds"

    def holds(asked: Asked) -> bool | None:
        if exclude(asked) is not None:
            return False                    # surely one of those that are excluded
        return True if exclude(asked, doubt=True) is None else None

    return Key("not", holds, wanted, found)


def _inside(client: str, networks: tuple[Network, ...]) -> bool:
    try:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(client)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in networks)

