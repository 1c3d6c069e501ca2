"""What is wrong with the rules although each value is right alone.

These look at the merged document before the schema has accepted it, so that an operator is told of everything at once;
what has the wrong shape is left to the schema. Sources: DESIGN §4; THREATS, rows 5 and 7.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from mitmgate.addresses import is_loopback
from mitmgate.rules import addresses
from mitmgate.rules.patterns import SERVING, Patterns
from mitmgate.rules.positions import Path, Problem, shown
from mitmgate.rules.references import UNKNOWN_PROJECT, unknown_names
from mitmgate.rules.schema import ClientMay
from mitmgate.rules.values import Values
from mitmgate.rules.wording import Suggestions

# Headers that carry a key, whichever way the vendor takes it.
_SECRET_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key"}
)


_SERVING: Final = Patterns((place, None) for place in SERVING)


@dataclass(frozen=True, slots=True)
class Known:
    """What the vendor table knows: its names, those that need no `base_url`, those that have a key, and dialects that load
    (empty: any)."""

    vendors: Collection[str] = ()
    addressed: Collection[str] = ()
    keyed: Collection[str] = ()
    dialects: Collection[str] = ()


def cross_check(values: Values, known: Known, suggestions: Suggestions) -> Iterator[Problem]:
    """Every problem that takes more than one value to see."""
    document = values.data
    yield from _access(document, values)
    for name, provider in _maps(document.get("providers")).items():
        yield from _provider(name, provider, values, known, suggestions)
    yield from _served(document, values)
    yield from unknown_names(values, suggestions)
    for key in ("routes", "policies", "budgets"):
        yield from _names_twice(document, values, key)
    yield from _projects(document, values)


def _maps(value: object) -> Mapping[str, Mapping[str, Any]]:
    return {key: each for key, each in value.items() if isinstance(each, dict)} if isinstance(value, dict) else {}


def _list(value: object) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if isinstance(value, list):
        yield from ((index, each) for index, each in enumerate(value) if isinstance(each, dict))


def _access(document: Mapping[str, Any], values: Values) -> Iterator[Problem]:
    listen = document.get("listen")
    if "access" in document or not isinstance(listen, dict) or "proxy" not in listen:
        return
    try:
        address = addresses.address(listen["proxy"])
    except PydanticCustomError:
        return                              # the schema says so
    if not address.loopback:
        path: Path = ("listen", "proxy")
        message = (
            "others than this machine could use the gateway without a key: "
            "write `access: keys`, or `access: open` if that is meant"
        )
        yield Problem.at(values.place(path), path, message)


def _provider(
    name: str, provider: Mapping[str, Any], values: Values, known: Known, suggestions: Suggestions
) -> Iterator[Problem]:
    path: Path = ("providers", name)
    dialect = provider.get("dialect")
    simulated = dialect == "simulator" or (dialect is None and name == "simulator")
    if "base_url" not in provider and name not in known.addressed and not simulated:
        near = "" if name in known.vendors else suggestions.meant(name, known.vendors)
        message = f"missing: mitmgate knows no address for `{shown(name)}`{near}"
        yield Problem.at(values.owner(path), (*path, "base_url"), message)
    if isinstance(dialect, str) and known.dialects and dialect not in known.dialects:
        here = (*path, "dialect")
        written = values.written(here)
        near = suggestions.meant(written, known.dialects) or _one_of(known.dialects)
        yield Problem.at(values.place(here), here, f"unknown dialect `{shown(written)}`{near}")
    parts = addresses.split(provider.get("base_url"))
    if parts is None or parts.scheme != "http" or is_loopback(parts.hostname or ""):
        return
    if provider.get("zone") != "internal" and not simulated and _has_secret(name, provider, known):
        here = (*path, "base_url")
        message = "a credential would travel in clear text: use https://, or `zone: internal` if the network is yours"
        yield Problem.at(values.place(here), here, message)


def _has_secret(name: str, provider: Mapping[str, Any], known: Known) -> bool:
    """Written credentials, and those that the vendor table finds in the environment for its own names."""
    headers = provider.get("headers")
    if isinstance(headers, dict) and any(header.lower() in _SECRET_HEADERS for header in headers):
        return True
    return provider.get("credential") is not None or name in known.keyed


def _one_of(words: Collection[str]) -> str:
    return "; expected one of " + ", ".join(sorted(words))


def _names_twice(document: Mapping[str, Any], values: Values, key: str) -> Iterator[Problem]:
    first: dict[str, Path] = {}
    for index, each in _list(document.get(key)):
        name, path = each.get("name"), (key, index, "name")
        if not isinstance(name, str):
            continue
        if name in first:
            message = f"the name `{shown(values.written(path))}` is given twice, first at {values.place(first[name])}"
            yield Problem.at(values.place(path), path, message)
        else:
            first[name] = path


def _served(document: Mapping[str, Any], values: Values) -> Iterator[Problem]:
    """Routes and models without targets. The schema says so too, but only of what has no other mistake."""
    for path, each, _ in _SERVING.walk(document):
        if isinstance(each, dict) and "targets" not in each and "refuse" not in each:
            yield Problem.at(values.owner(path), (*path, "targets"), "missing")


def _projects(document: Mapping[str, Any], values: Values) -> Iterator[Problem]:
    first: dict[str, Path] = {}
    client_may = document.get("client_may")
    for name, project in _maps(document.get("projects")).items():
        path: Path = ("projects", name)
        if name == UNKNOWN_PROJECT and "identify" in project:
            here = (*path, "identify")
            message = "`unknown` are those that no project identifies: leave `identify` out, or give the project another name"
            yield Problem.at(values.owner(here), here, message)
        known = project.get("id")
        if isinstance(known, str):
            here = (*path, "id")
            if known.lower() in first:
                message = f"the id is given twice, first at {values.place(first[known.lower()])}"
                yield Problem.at(values.place(here), here, message)
            first.setdefault(known.lower(), here)
        if isinstance(project.get("client_may"), dict):
            general = client_may if isinstance(client_may, dict) else {}
            yield from _loosened(project["client_may"], general, (*path, "client_may"), values)


def _loosened(own: Mapping[str, Any], general: Mapping[str, Any], path: Path, values: Values) -> Iterator[Problem]:
    """What a project's clients may although clients in general may not."""
    try:
        mine, all_ = ClientMay.model_validate(own), ClientMay.model_validate(general)
    except ValidationError:
        return                              # the schema says so
    for key in own:
        here, there = getattr(mine, key), getattr(all_, key)
        if isinstance(there, bool):
            looser = here is not False and not there
        elif isinstance(there, tuple):
            looser = here is True
        else:
            looser = here > there
        if looser:
            place = (*path, key)
            yield Problem.at(values.place(place), place, "a project only tightens: `client_may` for all allows less")
