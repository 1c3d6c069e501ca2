"""Between mitmproxy's flows and our exchanges. Nothing is decided here: it carries words from one language to the other."""

import re
import secrets
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import orjson
from mitmproxy import http
from mitmproxy.proxy.mode_specs import ReverseMode

from mitmgate.addresses import normalise_host
from mitmgate.dialects.asking import reader_of
from mitmgate.dialects.refusals import refusal_body
from mitmgate.dialects.registry import SPEAKS_OPENAI, codecs
from mitmgate.endpoints.paths import AmbiguousPath, normalise
from mitmgate.errors import Fault, Refusal
from mitmgate.exchange import Arrival, Exchange, Origin, Reply
from mitmgate.runtime import Snapshot
from mitmgate.stages.stamp import stamp
from mitmgate.transport.passage import Passage, Permit, Tag
from mitmgate.transport.tunnels import Tunnel, proxy_user

_GATEWAYS_OWN: Final = frozenset(
    {
        "x-should-retry", "x-model-used", "x-cache", "x-fallback-from", "x-retry-count", "x-guardrail-status",
        "x-request-id", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-frame-options",
        "x-xss-protection", "x-content-type-options", "x-powered-by", "x-forwarded-for", "x-real-ip",
    }
)
_STANDARD: Final = frozenset(
    {
        "content-type", "content-length", "content-encoding", "transfer-encoding", "content-disposition",
        "content-language", "content-range", "accept-ranges", "age", "cache-control", "date", "deprecation", "etag",
        "expires", "last-modified", "retry-after", "retry-after-ms", "sunset", "vary", "warning", "upgrade", "connection",
    }
)
_VENDORS: Final = ("x-", "openai-", "anthropic-", "apim-", "azureml-", "cf-ray", "sec-websocket-", "llm_provider-")
_JSON_ONLY: Final = frozenset({"chat", "completions", "embeddings", "moderation", "responses"})
_FOR_SERVERS: Final = ("x-gateway-", "x-accel-", "x-sendfile", "x-lighttpd-", "x-litespeed-")
"""What a web server in front of us would obey (a file to send, buffering), and our own names."""
_PASSED_ON: Final = ("content-type", "retry-after", "retry-after-ms", "x-ms-retry-after-ms")


_BROKEN: Final = re.compile(rb"[\r\n\0]")
"""What no header value may hold (RFC 9110, 5.5): another reader may see a line's end in it."""


def is_broken(headers: http.Headers) -> bool:
    """Whether a header's name or value holds what another reader could take for a line's end."""
    return any(_BROKEN.search(value) or _BROKEN.search(name) for name, value in headers.fields)


class Misdirected(Exception):
    """CONNECT, SNI and Host do not name the same place."""


def arrival_of(flow: http.HTTPFlow, passage: Passage, tunnel: Tunnel | None, *, intercepted: bool) -> Arrival:
    """How this request came in. Raises Refusal for an ambiguous path, Misdirected where names disagree."""
    request = flow.request
    client = flow.client_conn
    origin = _origin(flow, passage, tunnel)
    try:
        path, query = normalise(request.path) if request.path != "*" else ("*", "")
    except AmbiguousPath as error:
        raise Refusal("invalid_request", f"The path is ambiguous: {error}") from None
    return Arrival(
        direct=passage.origin_form,
        intercepted=intercepted,
        origin=origin,
        method=request.method,
        target=request.path,
        path=path,
        query=query,
        client=client.peername[0] if client.peername else "",
        http_version=request.http_version,
        websocket=_is_websocket(request),
        proxy_user=tunnel.user if tunnel is not None else proxy_user(request.headers.get("proxy-authorization")),
        local=client.sockname[0] if client.sockname else "",
    )


def _origin(flow: http.HTTPFlow, passage: Passage, tunnel: Tunnel | None) -> Origin:
    """Where the client believes it is talking to: one normalised name, on which all that names it agrees."""
    request = flow.request
    scheme = request.scheme
    try:
        host = normalise_host(request.host)
        named = [_split(value, scheme) for value in request.headers.get_all("host")]
        if request.data.authority:
            named.append(_split(request.authority, scheme))
    except ValueError:
        raise Misdirected from None
    if len(named) > 2:
        raise Misdirected
    if isinstance(flow.client_conn.proxy_mode, ReverseMode):
        return Origin(scheme, host, request.port)           # the operators name the destination
    if tunnel is not None:
        if scheme != "https" or tunnel.misdirected:
            raise Misdirected                               # inside a tunnel to an intercepted host only TLS is spoken
        host = tunnel.host
    elif not passage.origin_form and flow.client_conn.sni:  # transparent, socks5: the destination may be an address
        host = normalise_host(flow.client_conn.sni)
    elif not passage.origin_form and named and _is_transparent(flow):
        host = named[0][0]
    if any(each != (host, request.port) for each in named):
        raise Misdirected
    return Origin(scheme, host, request.port)


def _is_websocket(request: http.Request) -> bool:
    """A handshake of RFC 6455, 4.1, whole; any other Upgrade does not travel."""
    headers = request.headers
    return (
        request.method == "GET"
        and headers.get("upgrade", "").strip().lower() == "websocket"
        and "upgrade" in (each.strip().lower() for each in headers.get("connection", "").split(","))
        and headers.get("sec-websocket-version") == "13"
        and bool(headers.get("sec-websocket-key"))
        and headers.get("content-length", "0") == "0"
        and "transfer-encoding" not in headers
    )


def _is_transparent(flow: http.HTTPFlow) -> bool:
    return flow.client_conn.proxy_mode.type_name not in ("regular", "upstream")


def _split(authority: str, scheme: str) -> tuple[str, int]:
    """A Host header's or authority's normalised name and port."""
    default = 443 if scheme == "https" else 80
    text = authority.strip()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host:  # brackets are for IPv6 alone (RFC 3986, 3.2.2)
            raise ValueError(authority)
        port = rest.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if port and not (port.isascii() and port.isdigit()):
        raise ValueError(authority)
    return normalise_host(host), int(port) if port else default


def exchange_of(flow: http.HTTPFlow, arrival: Arrival, snapshot: Snapshot) -> Exchange:
    """A new exchange for this request."""
    clock = snapshot.clock
    fields = tuple(
        (name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape"))
        for name, value in flow.request.headers.fields
    )
    headers: dict[str, str] = {}
    for name, value in fields:
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Exchange(
        id="req_" + secrets.token_hex(16),
        arrival=arrival,
        request_headers=headers,
        header_fields=fields,
        started=clock.monotonic(),
        started_at=clock.wall(),
    )


def permit_of(exchange: Exchange, passage: Passage, snapshot: Snapshot) -> Permit:
    """Leave for the attempt that `translate` and `authorise` have prepared."""
    attempt, upstream, plan = exchange.attempt, exchange.upstream, exchange.plan
    assert attempt is not None
    assert upstream is not None
    assert plan is not None
    assert exchange.endpoint is not None
    provider = attempt.target.provider
    asked = exchange.document or {}
    choices = plan.force.get("n", asked.get("n", plan.default.get("n")))
    owner = None if provider.original else provider.name
    proxy = snapshot.egress if provider.original else provider.proxy
    ca = provider.ca or (snapshot.corporate_ca if proxy is not None else None)  # that proxy may look into TLS
    return Permit(
        tag=Tag(upstream.origin, owner, exchange.arrival.websocket, ca, provider.client_cert),
        proxy=proxy,
        deadlines=plan.deadlines,
        total_at=exchange.deadline,
        request=upstream,
        credential=exchange.credential,
        body=passage.body,
        reader=reader_of(
            exchange,
            attempt.target,
            choices if isinstance(choices, int) else 1,
            as_asked=snapshot.rules.answer_model == "asked",
        ),
        response_limit=snapshot.rules.limits.response_body,
        json_only=attempt.translated
        or (provider.dialect in SPEAKS_OPENAI and exchange.endpoint.operation in _JSON_ONLY),
    )


@lru_cache(4096)
def _kept(name: bytes) -> bool:
    """Whether a provider's reply header goes on to the client. Cookies, CORS and our own names do not."""
    lower = name.decode("latin-1").lower()
    if lower in _STANDARD:
        return True
    return lower.startswith(_VENDORS) and lower not in _GATEWAYS_OWN and not lower.startswith(_FOR_SERVERS)


def dress(response: http.Response, exchange: Exchange) -> None:
    """The provider's reply headers by our list, then the gateway's own. Called once per reply."""
    upstream_id = response.headers.get("x-request-id") or response.headers.get("request-id")
    fields = [field for field in response.headers.fields if _kept(field[0]) and not _BROKEN.search(field[1])]
    if upstream_id:
        fields.append((b"x-gateway-upstream-request-id", _visible(upstream_id)))
    fields += [(name.encode(), value.encode()) for name, value in stamp(exchange)]
    response.headers.fields = tuple(fields)


def _is_error_object(body: bytes) -> bool:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(document, dict) and isinstance(document.get("error", document.get("detail")), dict | list | str)


def _line(text: str) -> str:
    return "".join(c for c in text if c.isprintable())


def _visible(text: str) -> bytes:
    return bytes(c for c in text.encode("latin-1", "replace") if 0x21 <= c <= 0x7E)[:128]


def write_refusal(exchange: Exchange, refusal: Refusal, doc_base: str) -> http.Response:
    """The client's answer to a refusal, in the shape of its endpoint."""
    doc_url = f"{doc_base}/docs/errors/{refusal.code}" if doc_base else ""
    body = refusal_body(refusal, exchange.endpoint.dialect if exchange.endpoint else "openai", doc_url)
    headers = [("content-type", "application/json"), *refusal.headers.items(), *stamp(exchange)]
    return _response(refusal.status, headers, body)


def write_reply(exchange: Exchange, reply: Reply) -> http.Response:
    """An answer of the gateway's own."""
    return _response(reply.status, [*reply.headers, *stamp(exchange)], reply.body)


def pass_on(exchange: Exchange, fault: Fault, doc_base: str) -> http.Response:
    """The provider's own error: its status, its body, its wait. What it says of our credential stays with us."""
    attempt = exchange.attempt
    assert attempt is not None
    assert fault.status is not None
    extra = [("x-should-retry", "false")] if len(exchange.attempts) > 1 else []
    if fault.status in (401, 402, 403) and not attempt.target.provider.client_credential:
        message = "The provider refused the gateway's credential."
        doc_url = f"{doc_base}/docs/errors/all_targets_failed" if doc_base else ""
        refusal = Refusal("all_targets_failed", message, status=fault.status)
        body = refusal_body(refusal, exchange.endpoint.dialect if exchange.endpoint else "openai", doc_url)
        return _response(fault.status, [("content-type", "application/json"), *extra, *stamp(exchange)], body)
    if attempt.translated:
        return _response(fault.status, [*_translated_error(exchange, fault), *extra, *stamp(exchange)], _said(exchange, fault))
    if attempt.target.provider.dialect in SPEAKS_OPENAI and not _is_error_object(fault.body):
        # A load balancer's page, or nothing: the client's library expects its own API's shape.
        refusal = Refusal("all_targets_failed", f"The provider answered with status {fault.status}.", status=fault.status)
        waits = [(name, _line(fault.headers[name])) for name in _PASSED_ON[1:] if name in fault.headers]
        body = refusal_body(refusal, "openai", f"{doc_base}/docs/errors/all_targets_failed" if doc_base else "")
        return _response(fault.status, [("content-type", "application/json"), *waits, *extra, *stamp(exchange)], body)
    headers = [(name, _line(fault.headers[name])) for name in _PASSED_ON if name in fault.headers]
    return _response(fault.status, [*headers, *_upstream_id(fault), *extra, *stamp(exchange)], fault.body)


def _translated_error(exchange: Exchange, fault: Fault) -> list[tuple[str, str]]:
    """The headers that an error keeps when its body is written anew."""
    headers = [("content-type", "application/json")]
    headers += [(name, _line(fault.headers[name])) for name in _PASSED_ON[1:] if name in fault.headers]
    return headers + _upstream_id(fault)


def _upstream_id(fault: Fault) -> list[tuple[str, str]]:
    """The provider's own id of a call that failed."""
    found = fault.headers.get("x-request-id") or fault.headers.get("request-id")
    return [("x-gateway-upstream-request-id", _visible(found).decode())] if found else []


def _said(exchange: Exchange, fault: Fault) -> bytes:
    """A provider's error in the words of the client's dialect."""
    endpoint, attempt = exchange.endpoint, exchange.attempt
    assert endpoint is not None
    assert attempt is not None
    assert fault.status is not None
    found = codecs(endpoint.dialect, endpoint.operation, attempt.target.provider.dialect)
    assert found is not None
    code, message = found.provider.failed(fault.status, fault.body)
    shown = (message or f"The provider answered with status {fault.status}.")[:_LONGEST_MESSAGE]
    return found.client.error(fault.status, code or "all_targets_failed", shown)


_LONGEST_MESSAGE: Final = 2_048


def _response(status: int, headers: Iterable[tuple[str, str]], body: bytes) -> http.Response:
    fields = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers]
    return http.Response.make(status, body, http.Headers(fields))
