"""What can go wrong, and whose fault it is.

    Refusal   what we decline: has a status and a code, is told to the client in the dialect of its endpoint
    Fault     what a provider did to us: a value, not an exception; `routing.retry` decides what follows from it

Anything else that escapes a stage is our own bug: 500 `gateway_error`, logged with the exchange's id, nothing goes upstream.
The codes, their statuses and their OpenAI error types are one table, `CODES`; docs/errors.md is checked against it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson


class Code(NamedTuple):
    """One row of the error table: HTTP status and OpenAI error type."""

    status: int
    type: str


_INVALID = "invalid_request_error"

CODES: Final[Mapping[str, Code]] = {
    "invalid_request": Code(400, _INVALID),
    "capability_missing": Code(400, _INVALID),
    "misdirected_request": Code(421, _INVALID),
    "invalid_api_key": Code(401, "authentication_error"),
    "tunnel_denied": Code(403, "permission_error"),
    "refused": Code(403, "permission_error"),
    "model_not_allowed": Code(403, "permission_error"),
    "not_found": Code(404, _INVALID),
    "model_not_found": Code(404, _INVALID),
    "method_not_allowed": Code(405, _INVALID),
    "request_too_large": Code(413, _INVALID),
    "unsupported_media_type": Code(415, _INVALID),
    "headers_too_large": Code(431, _INVALID),
    "rate_limit_exceeded": Code(429, "rate_limit_error"),
    "gateway_error": Code(500, "api_error"),
    "not_supported": Code(501, "api_error"),
    "all_targets_failed": Code(502, "api_error"),
    "upstream_unreachable": Code(502, "api_error"),
    "stream_broken": Code(502, "api_error"),
    "no_healthy_target": Code(503, "api_error"),
    "queue_full": Code(503, "api_error"),
    "draining": Code(503, "api_error"),
    "deadline_exceeded": Code(504, "api_error"),
}


class Refusal(Exception):
    """What we decline, or give up on. Raised by stages; `status` may differ from the table only for passed-on errors.

    `message` is written for the person who made the call and never holds user text or secrets.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.status = status or CODES[code].status
        self.headers: Mapping[str, str] = headers or {}


def error_document(code: str, message: str, *, param: str | None = None, doc_url: str = "") -> dict[str, Any]:
    """The OpenAI error object for a code of `CODES`; `doc_url` is the page the admin port serves for it."""
    return {"error": {"message": message, "type": CODES[code].type, "param": param, "code": code, "doc_url": doc_url}}


def error_body(code: str, message: str, *, param: str | None = None, doc_url: str = "") -> bytes:
    """`error_document` as JSON bytes."""
    return orjson.dumps(error_document(code, message, param=param, doc_url=doc_url))


class FaultKind(StrEnum):
    """How an attempt failed. The values appear in records, metrics and `all_targets_failed` messages."""

    CONNECT = "connect"                # refused, unreachable, name unknown, proxy refused
    TLS = "tls"                        # handshake or certificate
    CONNECT_TIMEOUT = "connect_timeout"
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    RESET = "reset"                    # the connection broke before the reply was whole
    GARBAGE = "garbage"                # not HTTP, broken encoding, a reply that is not what its headers say
    STATUS = "status"                  # a whole reply with a failing status
    ERROR_EVENT = "error_event"        # 200, then an error event in the stream
    CUT = "cut"                        # the stream ended without its end
    TOO_LARGE = "too_large"            # the reply is beyond limits.response_body
    REDIRECT = "redirect"              # a 3xx: never followed, a credential must not travel
    DENIED = "denied"                  # the address is one that the gateway must not connect to
    DISCONNECTED = "client_disconnected"


@dataclass(frozen=True, slots=True)
class Fault:
    """What one attempt's provider did to us.

    `reason` is ours and safe to show. `status`, `code`, `headers` and `body` are the provider's (`body` bounded by the
    transport); they are passed on only where the plan had this one target.
    """

    kind: FaultKind
    reason: str
    status: int | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
