"""What a refusal looks like to a client, in the dialect of the endpoint that it called."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import orjson

from mitmgate.errors import Refusal, error_body

_ANTHROPIC: Final[Mapping[int, str]] = MappingProxyType(
    {
        400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
        404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error",
        503: "overloaded_error", 529: "overloaded_error",
    }
)
"""Anthropic API reference, "Errors"; any other status is `api_error`."""


def refusal_body(refusal: Refusal, dialect: str, doc_url: str) -> bytes:
    """The body; OpenAI's shape for every dialect that has none of its own here."""
    if dialect != "anthropic":
        return error_body(refusal.code, refusal.message, param=refusal.param, doc_url=doc_url)
    kind = _ANTHROPIC.get(refusal.status, "invalid_request_error" if refusal.status < 500 else "api_error")
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": refusal.message}})
