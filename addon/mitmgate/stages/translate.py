"""Translate: what this attempt's target is asked, in its own words. Opens the attempt.

Between the same dialects only what a rule changes is edited; a body that no rule changes goes through byte for byte.
Between two, the plan has what the codecs made of it.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from mitmgate.dialects.addressing import path_of, path_of_sent
from mitmgate.dialects.asking import adds_usage, fit_for, other_model
from mitmgate.errors import Refusal
from mitmgate.exchange import Attempt, Exchange, Plan, Sent, Target, UpstreamRequest
from mitmgate.jsonedit import dumped, put_member
from mitmgate.multipart import text_part
from mitmgate.stages.services import Services

_HOP_BY_HOP: Final = frozenset(
    {
        "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer",
        "transfer-encoding", "upgrade", "expect", "http2-settings",
    }
)
"""RFC 9110, 7.6.1. `upgrade` and `connection` are written anew for a WebSocket."""
_OURS: Final = frozenset({"host", "content-length", "accept-encoding"})
_CREDENTIALS: Final = frozenset(
    {"authorization", "api-key", "x-api-key", "x-goog-api-key", "xi-api-key", "cookie", "ocp-apim-subscription-key",
     "x-amz-security-token"}
)
_SECRET_QUERY: Final = frozenset({"key", "api-key", "api_key", "access_token", "subscription-key"})
_AZURE_QUERY: Final = frozenset({"api-version"})
_NEUTRAL: Final = frozenset({"user-agent", "traceparent", "tracestate", "baggage", "accept-language"})
"""Headers that go along where the body is another dialect's."""
_FORMS_WITHOUT_MODEL: Final = frozenset({"files", "realtime"})
"""Operations whose forms have no such field: a provider may refuse one that it does not know."""


@lru_cache(4096)
def _kind(name: str) -> str:
    """Of a header's name in lower case: drop, credential, encoding or keep."""
    if name in _HOP_BY_HOP or name in _OURS or name.startswith(("x-gateway-", "proxy-")):
        return "drop"
    if name in _CREDENTIALS:
        return "credential"
    if name == "sec-websocket-protocol":
        return "protocol"
    return "encoding" if name == "content-encoding" else "keep"


async def translate(exchange: Exchange, services: Services) -> None:
    """Set `upstream` for the target at `position` and open its attempt."""
    plan = exchange.plan
    assert plan is not None
    assert exchange.endpoint is not None
    target = plan.targets[exchange.position]
    provider = target.provider
    _require_apart(exchange, plan)
    sent = plan.sent[exchange.position] if plan.sent else None
    attempt = Attempt(len(exchange.attempts) + 1, target, services.clock.monotonic())
    exchange.attempts.append(attempt)
    if sent is not None:
        attempt.translated, attempt.dropped, attempt.effort = True, sent.dropped, sent.effort
        exchange.upstream = _translated(exchange, target, sent)
        return
    model = target.model or exchange.model
    body, splice = _body(exchange, plan, target, attempt)
    exchange.upstream = UpstreamRequest(
        method=exchange.arrival.method,
        origin=provider.origin,
        target=exchange.arrival.target if provider.original else _target(exchange, target, model),
        headers=_headers(exchange, target, edited=body is not None),
        body=body,
        splice=splice,
    )


def _translated(exchange: Exchange, target: Target, sent: Sent) -> UpstreamRequest:
    """What the codecs made of it. Of the client's headers only those go along that mean the same to everybody."""
    provider = target.provider
    own = {"content-type": "application/json", **dict(sent.headers), **provider.headers}
    kept = [(name, value) for name, value in exchange.header_fields if name in _NEUTRAL and name not in own]
    headers = (*kept, *own.items(), ("accept-encoding", "identity"))
    path = path_of_sent(provider, sent.path, target.model or exchange.model)
    return UpstreamRequest("POST", provider.origin, path, headers, dumped(sent.document))


def _target(exchange: Exchange, target: Target, model: str | None) -> str:
    endpoint = exchange.endpoint
    assert endpoint is not None
    path, own = path_of(target.provider, endpoint, model)
    query = exchange.arrival.query
    if query:
        drop = _SECRET_QUERY | _AZURE_QUERY if endpoint.model is not None or own else _SECRET_QUERY
        pairs = parse_qsl(query, keep_blank_values=True)
        kept = [(name, value) for name, value in pairs if name.lower() not in drop]
        if exchange.arrival.websocket and model is not None:
            kept = [(name, model if name == "model" else value) for name, value in kept]
        query = query if kept == pairs else urlencode(kept)
    query = "&".join(each for each in (query, own) if each)
    return f"{path}?{query}" if query else path


def _headers(exchange: Exchange, target: Target, *, edited: bool) -> tuple[tuple[str, str], ...]:
    """The client's headers less what is not meant for this provider, plus the provider's own."""
    provider = target.provider
    own = provider.headers
    kept = []
    hop = _named_by_connection(exchange.request_headers.get("connection", ""))
    for name, value in exchange.header_fields:
        kind = _kind(name)
        if kind == "drop" or name in own or name in hop:
            continue
        if kind == "credential" and not provider.original:
            continue                        # `credential: client` on a named provider is written by authorise
        if kind == "encoding" and edited:
            continue                        # the edited body is not encoded
        sent = _without_keys(value) if kind == "protocol" and not provider.original else value
        if sent:
            kept.append((name, sent))
    kept.extend(own.items())
    if exchange.arrival.websocket:
        kept.extend((("connection", "Upgrade"), ("upgrade", "websocket")))
    else:
        # The reply is read on its way: an encoded stream could not be cut into events as it comes.
        kept.append(("accept-encoding", "identity"))
    return tuple(kept)


@lru_cache(64)
def _named_by_connection(value: str) -> frozenset[str]:
    """The headers that `Connection` makes this hop's own (RFC 9110, 7.6.1)."""
    return frozenset(each.strip().lower() for each in value.split(","))


def _without_keys(value: str) -> str:
    """A Sec-WebSocket-Protocol list without the entries in which browsers carry keys."""
    kept = [each.strip() for each in value.split(",") if "api-key" not in each.lower() and "token" not in each.lower()]
    return ", ".join(kept)


def _body(
    exchange: Exchange, plan: Plan, target: Target, attempt: Attempt
) -> tuple[bytes | None, tuple[int, int, bytes] | None]:
    """The edited body, or None and a splice: the body goes as it came but for that."""
    if exchange.delimiter is not None:
        return None, _form_splice(exchange, exchange.delimiter, other_model(exchange, target))
    changes = _changes(exchange, plan, target)
    document, raw = exchange.document, exchange.raw
    if (fit := fit_for(exchange, target, changes)) is not None:
        attempt.dropped = fit.dropped
        return dumped(fit.document), None
    if not changes:
        # What was read is what is sent: an encoding that two servers may undo in two ways does not travel.
        return (raw if "content-encoding" in exchange.request_headers else None), None
    if document is None or raw is None:
        return None, None
    return _edited(raw, document, changes), None


def _require_apart(exchange: Exchange, plan: Plan) -> None:
    """A model's name that holds the form's delimiter would end its own part. The client chose the delimiter: refused at
    the first attempt, whichever target has that name."""
    delimiter = exchange.delimiter
    if delimiter is None:
        return
    names = (target.model or exchange.model or "" for target in plan.targets)
    if any(delimiter in name.encode() for name in names):
        raise Refusal("invalid_request", "The form's boundary occurs in the name of a model that may be asked.")


def _form_splice(exchange: Exchange, delimiter: bytes, model: str | None) -> tuple[int, int, bytes] | None:
    """Of a form only its model follows the target: in place of the one that it names, else as a part at its front."""
    if model is None:
        return None
    if exchange.model_span is not None:
        return (*exchange.model_span, model.encode())
    assert exchange.endpoint is not None
    if exchange.endpoint.operation in _FORMS_WITHOUT_MODEL:
        return None
    return 0, 0, text_part(delimiter, "model", model)


def _changes(exchange: Exchange, plan: Plan, target: Target) -> dict[str, Any]:
    document: Mapping[str, Any] = exchange.document or {}
    default, force = plan.default, plan.force
    if target.default or target.force:
        default, force = {**default, **target.default}, {**force, **target.force}
    changes: dict[str, Any] = {name: value for name, value in default.items() if name not in document}
    changes.update({name: value for name, value in force.items() if document.get(name, ...) != value})
    if (other := other_model(exchange, target)) is not None:
        changes["model"] = other
    if adds_usage(exchange, target):
        options = document.get("stream_options")
        changes["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    return changes


def _edited(raw: bytes, document: dict[str, Any], changes: Mapping[str, Any]) -> bytes:
    edited: bytes | None = raw
    for name, value in changes.items():
        edited = put_member(edited, name, value, present=name in document) if edited is not None else None
    if edited is not None:
        return edited
    return dumped({**document, **changes})
