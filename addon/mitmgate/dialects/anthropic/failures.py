"""Anthropic's errors: what they mean in OpenAI's words, and what ours are in Anthropic's.

Sources: platform.claude.com, API reference, "Errors"; anthropic.types.shared.ErrorResponse and ErrorType.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson

from mitmgate.dialects.codec import Failed
from mitmgate.errors import CODES, Fault, FaultKind
from mitmgate.sse import event_data


class _Kind(NamedTuple):
    status: int
    code: str | None                        # OpenAI's, where it means the same; None: Anthropic's own


_KINDS: Final[Mapping[str, _Kind]] = MappingProxyType(
    {
        "invalid_request_error": _Kind(400, None),
        "authentication_error": _Kind(401, "invalid_api_key"),
        "billing_error": _Kind(402, "insufficient_quota"),
        "permission_error": _Kind(403, None),
        "not_found_error": _Kind(404, "model_not_found"),
        "conflict_error": _Kind(409, None),
        "request_too_large": _Kind(413, None),
        "rate_limit_error": _Kind(429, "rate_limit_exceeded"),
        "api_error": _Kind(500, "server_error"),
        "timeout_error": _Kind(504, None),
        "overloaded_error": _Kind(529, None),
    }
)
_TOLD: Final = (
    ("prompt is too long", "context_length_exceeded"),
    ("exceed context limit", "context_length_exceeded"),
    ("credit balance is too low", "insufficient_quota"),
)
"""What only the message of an invalid_request_error tells."""
_STATUSES: Final[Mapping[int, str]] = MappingProxyType(
    {
        400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
        404: "not_found_error", 409: "conflict_error", 413: "request_too_large", 429: "rate_limit_error",
        503: "overloaded_error", 504: "timeout_error", 529: "overloaded_error",
    }
)  # fmt: skip
_LONGEST_BODY: Final = 64 << 10


def failed(body: bytes) -> Failed:
    """What a failing reply's body says; nothing, if it is not Anthropic's."""
    error = _error_of(body)
    if error is None:
        return Failed(None, None)
    message = error.get("message")
    return Failed(_code(error.get("type"), message), message if isinstance(message, str) else None)


def fault_of(event: bytes) -> Fault:
    """The fault that an error event stands for: a 200 was sent already, so the status is the one of its type."""
    body = event_data(event) or b""
    error = _error_of(body) or {}
    kind = error.get("type")
    status = _KINDS[kind].status if isinstance(kind, str) and kind in _KINDS else 500
    return Fault(
        FaultKind.ERROR_EVENT, "the provider sent an error in its stream", status=status,
        code=_code(kind, error.get("message")), headers={"content-type": "application/json"}, body=body[:_LONGEST_BODY],
    )  # fmt: skip


def error_document(status: int, message: str) -> dict[str, Any]:
    """An error as Anthropic's clients expect it, in a body as in an event."""
    kind = _STATUSES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def status_of(code: str) -> int:
    """The status of one of our codes: a stream that breaks off has none of its own."""
    return CODES[code].status if code in CODES else 502


def _error_of(body: bytes) -> Mapping[str, Any] | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) else None


def _code(kind: object, message: object) -> str | None:
    if not isinstance(kind, str):
        return None
    if kind == "invalid_request_error" and isinstance(message, str):
        lowered = message[:500].lower()
        for words, code in _TOLD:
            if words in lowered:
                return code
    known = _KINDS.get(kind)
    return (known.code if known else None) or kind
