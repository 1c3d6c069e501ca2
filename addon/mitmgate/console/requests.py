"""The latest requests, for `GET /requests/ID` on the admin port: the record, and why each went where it went.

All that are alive are held, and the last few that have ended, within a bound on memory. Of those only what an
explanation looks at again is kept: a body only where the rules have conditions or stick to something in it, headers only
where the rules name them. Nothing is explained before somebody asks.

An explanation needs the rules that its request was served under. They are not held for it: after a reload the requests
before it keep their records alone.
"""

import copy
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import jiter

from mitmgate.exchange import Exchange, Reply
from mitmgate.explanation import explain
from mitmgate.record import Record
from mitmgate.routing.match import Match
from mitmgate.runtime import Snapshot
from mitmgate.telemetry.records import record_document

MOST_ENDED: Final = 256
MOST_BYTES: Final = 16 << 20                # of those that have ended
LARGEST: Final = 1 << 20                    # bytes of one: what is larger keeps its record alone
_REST: Final = 8 << 10                      # bytes of a record and an exchange without their texts, generously

_RELOADED: Final = "The rules have been reloaded since; they are not held for what was served under them."
_RELEASED: Final = "The request was too large to be held for this."


class _Reads(NamedTuple):
    """What of a request the rules look at, beside its names."""

    conditions: bool                        # which may read anything
    headers: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Size:
    """In the place of a body that is no longer held."""

    size: int


@dataclass(slots=True)
class Held:
    """One request; `exchange` is None where its explanation could not be given."""

    id: str
    rules: weakref.ref[Snapshot]
    exchange: Exchange | None
    record: Record | None = None            # None: it is in flight
    weight: int = _REST

    def document(self) -> dict[str, Any]:
        """As JSON. May take milliseconds where there are many rules; safe in a thread."""
        exchange, snapshot = self.exchange, self.rules()
        explanation = note = None
        if snapshot is None:
            note = _RELOADED
        elif exchange is None:
            note = _RELEASED
        else:
            explanation = snapshot.taken.hide(explain(_with_document(exchange), snapshot).document())
        return {
            "id": self.id,
            "state": "ended" if self.record is not None else "in_flight",
            "record": record_document(self.record) if self.record is not None else None,
            "explanation": explanation,
            "note": note,
        }


def _with_document(exchange: Exchange) -> Exchange:
    """The exchange as it was while it was alive."""
    if exchange.document is not None or exchange.raw is None:
        return exchange
    whole = copy.copy(exchange)
    whole.document = jiter.from_json(exchange.raw, allow_inf_nan=False)
    return whole


class Requests:
    """One event loop writes it. `find` is for the same loop; what it gives may be read elsewhere."""

    def __init__(self, *, most: int = MOST_ENDED, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._alive: dict[str, Held] = {}
        self._ended: OrderedDict[str, Held] = OrderedDict()
        self._bytes = 0
        self._known: tuple[weakref.ref[Snapshot], _Reads] | None = None

    @property
    def bytes_held(self) -> int:
        """Of those that have ended, about."""
        return self._bytes

    def find(self, exchange_id: str) -> Held | None:
        """By the gateway's own id."""
        alive = self._alive.get(exchange_id)
        if alive is None:
            return self._ended.get(exchange_id)
        return replace(alive, exchange=copy.copy(alive.exchange))   # it goes on while it is explained

    def began(self, exchange: Exchange, snapshot: Snapshot) -> None:
        """Hold it while it is alive."""
        self._alive[exchange.id] = Held(exchange.id, weakref.ref(snapshot), exchange)

    def forget(self, exchange: Exchange) -> None:
        """It turned out to be none that the gateway governs."""
        self._alive.pop(exchange.id, None)

    def ended(self, exchange: Exchange, record: Record) -> None:
        """Keep its record, and what its explanation needs; let go of all else, for good."""
        held = self._alive.pop(exchange.id, None)
        if held is None:
            return
        held.record = record
        snapshot = held.rules()
        if snapshot is not None:
            _release(exchange, self._reads(snapshot))
            held.weight = _weight(exchange)
        if snapshot is None or held.weight > LARGEST:
            held.exchange, held.weight = None, _REST
        self._ended[exchange.id] = held
        self._bytes += held.weight
        while len(self._ended) > self._most or self._bytes > self._most_bytes:
            _, oldest = self._ended.popitem(last=False)
            self._bytes -= oldest.weight

    def _reads(self, snapshot: Snapshot) -> _Reads:
        if self._known is None or self._known[0]() is not snapshot:
            self._known = weakref.ref(snapshot), _reads(snapshot)
        return self._known[1]


def _release(exchange: Exchange, reads: _Reads) -> None:
    chosen = exchange.chosen
    sticks = chosen is not None and any(not source.startswith("header:") for source in chosen.sticky)
    if exchange.raw is None or not (reads.conditions or sticks):
        size = len(exchange.raw) if exchange.raw is not None else exchange.body.size if exchange.body is not None else 0
        exchange.raw, exchange.body = None, _Size(size)
    else:
        exchange.body = None                # its size is that of `raw`
    if not reads.conditions:
        headers = exchange.request_headers
        exchange.request_headers = {name: headers[name] for name in reads.headers if name in headers}
    exchange.document = exchange.upstream = exchange.delimiter = None
    exchange.header_fields = exchange.credential = ()
    if exchange.reply is not None:
        exchange.reply = Reply(exchange.reply.status, (), b"")
    for attempt in exchange.attempts:       # told by the record
        attempt.secret = attempt.fault = None


def _weight(exchange: Exchange) -> int:
    weight = _REST + (len(exchange.raw) if exchange.raw is not None else 0)
    for name, value in exchange.request_headers.items():
        weight += len(name) + len(value)
    return weight


def _reads(snapshot: Snapshot) -> _Reads:
    table = snapshot.table
    aliases = [*table.aliases, *(alias for names in table.teams.values() for alias in names.aliases)]
    matches = [each for match in (route.match for route in table.routes) for each in _nested(match)]
    matches += [each for alias in aliases for each in _nested(alias.match)]
    scoped = [route for names in table.teams.values() for route in names.models.values()]
    sticky = {source for route in (*table.routes, *table.models.values(), *scoped) for source in route.chosen.sticky}
    headers = {name for match in matches for name, _ in match.header}
    headers |= {source.removeprefix("header:").lower() for source in sticky if source.startswith("header:")}
    return _Reads(any(match.when is not None for match in matches), frozenset(headers))


def _nested(match: Match) -> Iterator[Match]:
    yield match
    if match.exclude is not None:
        yield from _nested(match.exclude)
