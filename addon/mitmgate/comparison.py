"""What differs between two sets of rules, and which requests they would serve otherwise (`check --diff`).

Compared is what the rules mean, so writing a default out is no difference. Shown is what stands in the files, so nothing
that came out of the environment is, and of what may hold a secret only that it differs.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple

from mitmgate.errors import Refusal
from mitmgate.rehearsal import afresh, rehearse_now
from mitmgate.routing.match import may_hold_secret
from mitmgate.rules.places import Places
from mitmgate.rules.positions import Path, dotted
from mitmgate.rules.schema import Rules
from mitmgate.runtime import Snapshot

Kind = Literal["added", "removed", "changed", "moved"]

_TABLES: Final[Mapping[str, str]] = {
    "providers": "provider", "models": "model", "routes": "route", "aliases": "alias", "policies": "policy",
    "projects": "project", "guardrails": "guardrail", "tiers": "tier", "budgets": "budget", "pipelines": "pipeline",
    "notify": "receiver",
}  # fmt: skip
"""Keys whose entries have names, and what one entry is."""
_ORDERED: Final = frozenset({"routes", "aliases", "projects"})      # the first that fits is taken
_NAMES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "targets": lambda each: f"{each['provider']}/{each['model'] or '*'}",
    "fallback": lambda each: f"{each['provider']}/{each['model'] or '*'}",
    "guardrails": lambda each: str(each["use"]),
}
"""Lists in entries whose items are told apart by what they name, not by where they stand."""
# What may hold a secret, by the table or map that it stands in; headers that carry keys wherever they stand.
_HIDDEN: Final[Mapping[str, frozenset[str]]] = {
    "providers": frozenset({"credential", "headers", "base_url", "proxy"}),
    "egress": frozenset({"credential", "proxy"}),
    "state": frozenset({"database", "counters", "blobs"}),
    "prompts": frozenset({"host", "public_key", "secret_key"}),
    "telemetry": frozenset({"otlp"}),
    "notify": frozenset({"webhook"}),
}
_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One value of an entry. `old` and `new` are as written, None where nothing is or where it is not shown."""

    kind: Kind
    path: str                               # below the entry: `retry.max`, `targets["groq/x"]`; "": the entry itself
    old: str | None = None
    new: str | None = None
    hidden: bool = False
    item: bool = False                      # a whole item of a list, a target


@dataclass(frozen=True, slots=True)
class Change:
    """A route, provider, setting … that is not the same in both."""

    kind: Kind
    what: str                               # route, model, …; "setting" for a key that has no named entries
    name: str
    old: str | None                         # file:line
    new: str | None
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one set of rules does with a request."""

    route: str | None
    targets: tuple[str, ...]
    parameters: Mapping[str, Any]           # members of the body that the rules gave it
    refusal: str | None
    untouched: str | None


@dataclass(frozen=True, slots=True)
class Served:
    """What both do with one request."""

    old: Outcome
    new: Outcome

    @property
    def alike(self) -> bool:
        """Whether route, plan, parameters and refusal are the same."""
        return self.old == self.new


class _Side(NamedTuple):
    document: Mapping[str, Any]
    places: Places

    @classmethod
    def of(cls, snapshot: Snapshot) -> "_Side":
        rules: Rules = snapshot.rules
        return cls(rules.model_dump(by_alias=True), Places(rules.where, snapshot.folder))


class _Entry(NamedTuple):
    path: Path
    value: Mapping[str, Any]


def compare(old: Snapshot, new: Snapshot) -> tuple[Change, ...]:
    """Every difference, in the order of the tables; within one, that of the new rules, what is removed last."""
    before, after = _Side.of(old), _Side.of(new)
    changes: list[Change] = []
    for key, what in _TABLES.items():
        changes += _table(key, what, (key,), before, after, "")
    teams = [side.document.get("teams") or {} for side in (before, after)]
    for team in dict.fromkeys((*teams[1], *teams[0])):
        for key, what in _TABLES.items():
            changes += _table(key, what, ("teams", team, key), before, after, f"{team}/")
        changes += _settings(("teams", team), before, after, "team ")
    changes += _settings((), before, after, "")
    return tuple(changes)


def _table(key: str, what: str, path: Path, before: _Side, after: _Side, prefix: str) -> Iterator[Change]:
    olds, news = _entries(before, path), _entries(after, path)
    moved = _moved(list(olds), list(news)) if key in _ORDERED else frozenset()
    for name, entry in news.items():
        there = after.places.line(entry.path)
        if name not in olds:
            yield Change("added", what, prefix + name, None, there)
            continue
        was = olds[name]
        differences = [*_differences(was.value, entry.value, was.path, entry.path, (), before, after)]
        kind: Kind = "changed" if differences else "moved"
        if name in moved:
            differences.append(Difference("moved", "", _neighbour(name, list(olds)), _neighbour(name, list(news))))
        if differences:
            yield Change(kind, what, prefix + name, before.places.line(was.path), there, tuple(differences))
    for name, entry in olds.items():
        if name not in news:
            yield Change("removed", what, prefix + name, before.places.line(entry.path), None)


def _entries(side: _Side, path: Path) -> dict[str, _Entry]:
    """By name: of a map, or of a list whose items have a `name`."""
    value: Any = side.document
    for part in path:
        value = value.get(part) or {}
    if isinstance(value, Mapping):
        return {name: _Entry((*path, name), each) for name, each in value.items()}
    return {each["name"]: _Entry((*path, index), each) for index, each in enumerate(value)}


def _settings(path: Path, before: _Side, after: _Side, prefix: str) -> Iterator[Change]:
    """Keys without named entries."""
    documents: list[Mapping[str, Any]] = [before.document, after.document]
    for part in path:
        documents = [(document.get(str(part)) or {}) for document in documents]
    skipped = {*_TABLES, "teams"}
    for key in dict.fromkeys((*documents[0], *documents[1])):
        if key in skipped:
            continue
        here = (*path, key)
        pair = [document.get(key, _ABSENT) for document in documents]
        if found := tuple(_differences(pair[0], pair[1], here, here, (), before, after)):
            name = dotted(here) if path else key
            yield Change("changed", "setting", name, before.places.line(here), after.places.line(here), found)


def _differences(
    old: Any, new: Any, was: Path, now: Path, label: Path, before: _Side, after: _Side
) -> Iterator[Difference]:
    """Below one entry. `was` and `now`: where the values stand; `label`: the path to show."""
    if old == new:
        return
    old_map, new_map = isinstance(old, Mapping), isinstance(new, Mapping)
    if (old_map or new_map) and (old_map or old in (None, _ABSENT)) and (new_map or new in (None, _ABSENT)):
        olds, news = (old if old_map else {}), (new if new_map else {})
        for key in dict.fromkeys((*olds, *news)):
            pair = olds.get(key, _ABSENT), news.get(key, _ABSENT)
            yield from _differences(*pair, (*was, key), (*now, key), (*label, key), before, after)
        return
    key = next((part for part in reversed(label) if isinstance(part, str)), "")
    if key in _NAMES and isinstance(old, Sequence) and isinstance(new, Sequence):
        yield from _items(old, new, was, now, label, _NAMES[key], before, after)
        return
    hidden = _hidden(was)
    texts = before.places.written(was), after.places.written(now)
    if _ABSENT in (old, new) and texts == (None, None):
        return                              # a default of what is only in one of the two
    kind: Kind = "added" if old in (None, _ABSENT) else "removed" if new in (None, _ABSENT) else "changed"
    yield Difference(kind, dotted(label), *((None, None) if hidden else texts), hidden)


def _items(
    old: Sequence[Any], new: Sequence[Any], was: Path, now: Path, label: Path,
    naming: Callable[[Mapping[str, Any]], str], before: _Side, after: _Side,
) -> Iterator[Difference]:  # fmt: skip
    olds, news = _numbered(old, naming), _numbered(new, naming)
    moved = _moved(list(olds), list(news))
    for name, index in news.items():
        here = (*label, name)
        if name not in olds:
            yield Difference("added", dotted(here), None, after.places.written((*now, index)), item=True)
            continue
        first = olds[name]
        yield from _differences(old[first], new[index], (*was, first), (*now, index), here, before, after)
        if name in moved:
            yield Difference("moved", dotted(here), _neighbour(name, list(olds)), _neighbour(name, list(news)))
    for name, index in olds.items():
        if name not in news:
            yield Difference("removed", dotted((*label, name)), before.places.written((*was, index)), item=True)


def _numbered(items: Sequence[Mapping[str, Any]], naming: Callable[[Mapping[str, Any]], str]) -> dict[str, int]:
    """Name to index; a second one of a name is `name #2`."""
    found: dict[str, int] = {}
    for index, each in enumerate(items):
        name = naming(each)
        count = 1
        while (key := name if count == 1 else f"{name} #{count}") in found:
            count += 1
        found[key] = index
    return found


def _hidden(path: Path) -> bool:
    keys = _HIDDEN.get(str(path[0]), frozenset())
    return any(part in keys for part in path) or any(
        of in ("header", "headers") and may_hold_secret(str(name).lower()) for of, name in pairwise(path)
    )


def _moved(old: Sequence[str], new: Sequence[str]) -> frozenset[str]:
    """The fewest names that have to be moved to make one order of the other: all but a longest rising run."""
    rank = {name: position for position, name in enumerate(new)}
    common = [name for name in old if name in rank]
    ends: list[int] = []                    # the smallest end of a run of each length
    before: dict[str, str | None] = {}
    last: list[str] = []
    for name in common:
        length = bisect_left(ends, rank[name])
        before[name] = last[length - 1] if length else None
        ends[length:length + 1] = [rank[name]]
        last[length:length + 1] = [name]
    kept: set[str] = set()
    end = last[-1] if last else None
    while end is not None:
        kept.add(end)
        end = before[end]
    return frozenset(common) - kept


def _neighbour(name: str, order: Sequence[str]) -> str:
    position = order.index(name)
    return f"after {order[position - 1]}" if position else "first"


def served(request: Mapping[str, Any], old: Snapshot, new: Snapshot) -> Served:
    """What both do with a request. Raises RequestError if it is none."""
    return Served(_outcome(request, old), _outcome(request, new))


def _outcome(request: Mapping[str, Any], snapshot: Snapshot) -> Outcome:
    rehearsed = rehearse_now(request, afresh(snapshot))     # the turns of one request are not those of the next
    exchange = rehearsed.exchange
    asked, sent = exchange.document or {}, rehearsed.sent or {}
    given = {name: value for name, value in sent.items() if name != "model" and (name not in asked or asked[name] != value)}
    return Outcome(
        route=exchange.chosen.route if exchange.chosen is not None else None,
        targets=rehearsed.models,
        parameters=given,
        refusal=_told(rehearsed.refusal or exchange.refusal),
        untouched=rehearsed.untouched,
    )


def _told(refusal: Refusal | None) -> str | None:
    return f"{refusal.status} {refusal.code}: {refusal.message}" if refusal is not None else None
