"""Google's errors: `{error: {code, message, status, details}}`, alone or in an array (google.rpc: Status, RetryInfo)."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from mitmgate.dialects.codec import Failed
from mitmgate.dialects.gemini.words import objects
from mitmgate.errors import Fault, FaultKind

_CODES: Final[Mapping[str, str]] = {"RESOURCE_EXHAUSTED": "rate_limit_exceeded", "UNAUTHENTICATED": "invalid_api_key"}
_LONGEST: Final = 64 << 10


def failed(body: bytes) -> Failed:
    """What a failing reply's body says; of anything else nothing."""
    error = error_of(_loaded(body))
    if error is None:
        return Failed(None, None)
    message = error.get("message")
    return Failed(_code(error), message if isinstance(message, str) else None)


def fault_of(data: bytes) -> Fault:
    """The fault of an error event's data; `retry-after` out of its RetryInfo, as if it were a header."""
    error = error_of(_loaded(data)) or {}
    status = error.get("code")
    delay = _delay(error)
    return Fault(
        FaultKind.ERROR_EVENT,
        "the provider sent an error event",
        status=status if isinstance(status, int) and 400 <= status < 600 else None,
        code=_code(error),
        headers={"retry-after": delay} if delay is not None else {},
        body=data[:_LONGEST],
    )


def error_of(document: object) -> Mapping[str, Any] | None:
    """The error object that a document is, if it is one."""
    if isinstance(document, list):
        document = document[0] if document else None
    if not isinstance(document, dict) or document.get("error") is None:
        return None
    error = document["error"]
    return error if isinstance(error, dict) else {"message": error}


def _loaded(data: bytes) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return None


def _code(error: Mapping[str, Any]) -> str | None:
    """OpenAI's code where it means the same, else Google's word."""
    status, message = error.get("status"), error.get("message")
    if not isinstance(status, str):
        return None
    text = message if isinstance(message, str) else ""
    if status == "INVALID_ARGUMENT":
        if any(each.get("reason") == "API_KEY_INVALID" for each in objects(error.get("details"))):
            return "invalid_api_key"
        if "token count" in text and "exceeds the maximum number of tokens" in text:
            return "context_length_exceeded"
    if status == "NOT_FOUND" and text.startswith(("models/", "Publisher Model")):
        return "model_not_found"
    return _CODES.get(status, status)


def _delay(error: Mapping[str, Any]) -> str | None:
    """RetryInfo.retryDelay (`"32s"`, `"0.5s"`) in whole seconds, rounded up."""
    for detail in objects(error.get("details")):
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and delay.endswith("s") and len(delay) < 16:
            whole, _, part = delay[:-1].partition(".")
            if whole.isascii() and whole.isdigit() and (not part or (part.isascii() and part.isdigit())):
                return str(int(whole) + (1 if part.strip("0") else 0))
    return None
