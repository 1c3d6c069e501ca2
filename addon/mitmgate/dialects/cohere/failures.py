"""Cohere's failures: {message}, {id, message} or {id, error_type, message}. What they are, the status tells.

Sources: API reference, "Errors (status codes and description)"; SDK, `errors/`.
"""

from collections.abc import Mapping
from typing import Final

import orjson

from mitmgate.dialects.codec import Failed

_CODES: Final[Mapping[int, str]] = {
    401: "invalid_api_key", 402: "insufficient_quota", 404: "model_not_found", 429: "rate_limit_exceeded",
}  # fmt: skip
_TOO_LONG: Final = "too many tokens"
_OUTPUT: Final = "max tokens must be"       # of "too many tokens": the reply's maximum, not the prompt, is too large
_MONTHLY: Final = "/ month"                 # a trial key's calls: used up, waiting does not help


def failed(status: int, body: bytes) -> Failed:
    """What a failing reply's body says."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    message = document.get("message") if isinstance(document, dict) else None
    message = message if isinstance(message, str) and message else None
    return Failed(code_of(status, message), message)


def code_of(status: int | None, message: str | None) -> str | None:
    """OpenAI's code for the same thing."""
    said = (message or "").lower()
    if said.startswith(_TOO_LONG) and _OUTPUT not in said and status in (400, None):
        return "context_length_exceeded"
    if status == 429 and _MONTHLY in said:
        return "insufficient_quota"
    return _CODES.get(status or 0)
