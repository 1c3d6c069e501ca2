"""What the gateway would do with a request, by the very stages that serve it, without asking anybody.

`explain`, rule tests, `check --diff` and the admin port's answers rest on this, so that they cannot disagree with what
is served (DESIGN §4, "Commands").
"""

import asyncio
import difflib
import ipaddress
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import orjson

from mitmgate.addresses import HostPattern, is_loopback, normalise_host
from mitmgate.bodies import MemoryBody
from mitmgate.endpoints.paths import AmbiguousPath, normalise
from mitmgate.endpoints.recognition import recognise
from mitmgate.errors import Refusal
from mitmgate.exchange import Arrival, Endpoint, Exchange, Origin
from mitmgate.pipeline import Pipeline, execute
from mitmgate.rules.positions import shown
from mitmgate.runtime import Shared, Snapshot, compile_rules
from mitmgate.stages.admit import admit
from mitmgate.stages.identify import identify
from mitmgate.stages.match_route import adopts
from mitmgate.stages.translate import translate

_ENVELOPE: Final = frozenset({"method", "url", "headers", "body", "client", "proxy_user"})
_NO_URL: Final = "`url` must be a path such as /v1/chat/completions, or an http or https URL"
_PORTS: Final = {"http": 80, "https": 443}
_NOWHERE: Final = Origin("http", "127.0.0.1", 0)    # of the simulator, which nobody asks here
# A body alone does not say where it was sent; these members say it for the API that they belong to. First row wins.
_SHAPES: Final = (
    ("messages", "/v1/chat/completions"),
    ("voice", "/v1/audio/speech"),
    ("query", "/v1/rerank"),
    ("prompt", "/v1/completions"),
    ("input", "/v1/embeddings"),
)


class _Standing(NamedTuple):
    """A clock that stands still, so that what is rehearsed today is rehearsed alike tomorrow."""

    unix: float = 1_767_225_600.0           # 2026-01-01T00:00:00Z

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return self.unix


class _EveryKey(dict[str, str]):
    """An environment in which every provider has its key: what the rules say, wherever it is asked."""

    def get(self, key: str, default: object = None) -> Any:
        return super().get(key, "rehearsed")


def rules_alone(
    folder: Path, environ: Mapping[str, str] = os.environ, *, draw: Callable[[], float] = lambda: 0.0, at: float | None = None
) -> Snapshot:
    """The rules of a folder as they stand: every key is there, the clock stands at `at` (Unix seconds), the dice give `draw`.

    Raises RulesError, ValueError.
    """
    return compile_rules(folder, environ, _NOWHERE, _still(draw, at), credentials=_EveryKey())


def afresh(snapshot: Snapshot, *, draw: Callable[[], float] = lambda: 0.0, at: float | None = None) -> Snapshot:
    """The same rules before any request, with another clock and other dice; nothing is compiled again."""
    return replace(snapshot, shared=_still(draw, at))


def _still(draw: Callable[[], float], at: float | None) -> Shared:
    return Shared(clock=_Standing() if at is None else _Standing(at), random=draw)


class RequestError(ValueError):
    """The request to rehearse is none; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """An exchange as far as it gets without a provider."""

    exchange: Exchange
    refusal: Refusal | None = None
    untouched: str | None = None            # why it is let through without being governed
    sent: Mapping[str, Any] | None = None   # the JSON body that the plan's first target would get

    @property
    def models(self) -> tuple[str, ...]:
        """The plan: `provider/model` in order, the model that would really be asked for."""
        plan = self.exchange.plan
        targets = plan.targets if plan is not None and self.refusal is None else ()
        return tuple(f"{each.provider.name}/{each.model or self.exchange.model or '*'}" for each in targets)


def request_exchange(request: Mapping[str, Any], snapshot: Snapshot) -> Exchange:
    """The exchange of a body, or of `{method, url, headers, body, client, proxy_user}`. Raises RequestError.

    `url` is a path for a base_url call, and a whole URL for an intercepted one. One that the gateway refuses before it
    looks at anything else is an exchange with that `refusal`.
    """
    unknown = sorted(str(each) for each in request.keys() - _ENVELOPE)
    # `header` beside `body` is a slip of the pen: as members of a body they would be sent, and no header would be.
    slips = [each for each in unknown if _meant(each)]
    envelope = "url" in request or ("body" in request and (slips or not unknown))
    given = dict(request) if envelope else {"body": dict(request)}
    if envelope and unknown:
        known = ", ".join(sorted(_ENVELOPE))
        if slips:
            raise RequestError(f"unknown key `{shown(slips[0])}`; did you mean `{_meant(slips[0])}`? A request has {known}")
        raise RequestError(f"unknown key `{shown(unknown[0])}`: a request has {known}")
    body = given.get("body")
    raw = body.encode() if isinstance(body, str) else orjson.dumps(body) if body is not None else None
    headers = _headers(given.get("headers"))
    if isinstance(body, Mapping | list):
        headers.setdefault("content-type", "application/json")
    arrival, refusal = _arrival(given, body, snapshot, headers)
    now = snapshot.clock.monotonic()
    return Exchange(
        refusal=refusal,
        id="rehearsal",
        arrival=arrival,
        request_headers=headers,
        header_fields=tuple(headers.items()),
        started=now,
        started_at=snapshot.clock.wall(),
        body=MemoryBody(raw) if raw is not None else None,
    )


def _meant(key: str) -> str:
    """The key of a request that is near; nothing if none is."""
    return next(iter(difflib.get_close_matches(key, sorted(_ENVELOPE), n=1, cutoff=0.65)), "")


def _headers(given: object) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise RequestError("`headers` must be a map of names to texts")
    return {str(name).lower(): str(value) for name, value in given.items()}


def _arrival(
    given: Mapping[str, Any], body: object, snapshot: Snapshot, headers: Mapping[str, str]
) -> tuple[Arrival, Refusal | None]:
    url = given["url"] if "url" in given else _likely_url(body)
    method = given.get("method", "POST" if body is not None else "GET")
    client = given.get("client", "127.0.0.1")
    user = given.get("proxy_user")
    if not all(isinstance(each, str) for each in (url, method, client)) or not isinstance(user, str | None):
        raise RequestError("`url`, `method`, `client` and `proxy_user` must be texts")
    try:
        ipaddress.ip_address(client)
    except ValueError:
        raise RequestError("`client` must be an address such as 10.1.2.3") from None
    origin, target = _split(url, snapshot)
    direct = url.startswith("/") or is_loopback(origin.host) or snapshot.answers_to(origin.host)
    refusal: Refusal | None = None
    try:
        path, query = normalise(target)
    except AmbiguousPath as error:
        path, query, refusal = target, "", Refusal("invalid_request", f"The path is ambiguous: {error}")
    arrival = Arrival(
        direct=direct,
        intercepted=not direct,
        origin=origin,
        method=method.upper(),
        target=target,
        path=path,
        query=query,
        client=client,
        http_version="HTTP/1.1",
        websocket=headers.get("upgrade", "").lower() == "websocket",
        proxy_user=user,
    )
    return arrival, refusal


def _split(url: str, snapshot: Snapshot) -> tuple[Origin, str]:
    """Where a URL leads, and the request target there; a path leads to the gateway itself."""
    if url.startswith("/"):
        listen = snapshot.rules.listen.proxy
        return Origin("http", listen.host, listen.port), url
    try:
        parts = urlsplit(url)
        host, port = normalise_host(parts.hostname) if parts.hostname else "", parts.port
    except ValueError as error:
        raise RequestError(f"`url` is none: {error}") from None
    if not host or parts.scheme not in _PORTS:
        raise RequestError(_NO_URL)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Origin(parts.scheme, host, port or _PORTS[parts.scheme]), target


def _likely_url(body: object) -> str:
    members = body if isinstance(body, Mapping) else {}
    return next((url for member, url in _SHAPES if member in members), "/v1/chat/completions")


async def rehearse(exchange: Exchange, snapshot: Snapshot) -> Rehearsed:
    """Take the exchange through the stages up to what its first attempt would send."""
    if exchange.refusal is not None:
        return Rehearsed(exchange, exchange.refusal)
    arrival = exchange.arrival
    if not arrival.direct and not _intercepted(arrival.origin, snapshot):
        return Rehearsed(exchange, untouched=f"no rule intercepts {arrival.origin.host}: it is tunnelled, not decrypted")
    unknown = Endpoint("other", "openai", arrival.path)
    try:
        exchange.endpoint = recognise(arrival)
        await admit(exchange, snapshot)     # whose key it is, is not asked here
        if exchange.endpoint is None:
            exchange.endpoint = unknown
            await identify(exchange, snapshot)
            if not adopts(exchange, snapshot):
                return Rehearsed(exchange, untouched="the path belongs to no API that is governed: it passes as it came")
        await execute(Pipeline().inbound, exchange, snapshot)
        if exchange.reply is not None:
            return Rehearsed(exchange)
        await translate(exchange, snapshot)
    except Refusal as refusal:
        return Rehearsed(exchange, refusal)
    finally:
        attempts, exchange.attempts = exchange.attempts, []
    assert attempts
    return Rehearsed(exchange, sent=_sent(exchange))


def rehearse_now(request: Mapping[str, Any], snapshot: Snapshot) -> Rehearsed:
    """`rehearse`, where no loop runs. Raises RequestError. Counts as one more turn of a `round-robin`: see `afresh`."""
    exchange = request_exchange(request, snapshot)
    return asyncio.run(rehearse(exchange, snapshot))


def _intercepted(origin: Origin, snapshot: Snapshot) -> bool:
    return any(HostPattern.parse(pattern).matches(origin.host, origin.port) for pattern in snapshot.intercept)


def _sent(exchange: Exchange) -> Mapping[str, Any] | None:
    upstream = exchange.upstream
    if upstream is None or upstream.body is None:
        return exchange.document
    document = orjson.loads(upstream.body)
    return document if isinstance(document, dict) else None
