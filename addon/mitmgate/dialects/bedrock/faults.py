"""What Bedrock's errors mean, whether they are replies or frames.

Sources: botocore's model of bedrock-runtime, the exceptions of Converse and of ConverseStreamOutput with their httpStatusCode;
Amazon Bedrock User Guide, "Troubleshooting Amazon Bedrock API Error Codes", for the messages.
"""

from typing import Any, Final

import orjson

from mitmgate.dialects.bedrock.frames import read_frame
from mitmgate.dialects.codec import Failed, Garbled
from mitmgate.errors import Fault, FaultKind

EXCEPTIONS: Final = {
    "accessdeniedexception": 403, "throttlingexception": 429, "resourcenotfoundexception": 404, "modeltimeoutexception": 408,
    "internalserverexception": 500, "serviceunavailableexception": 503, "validationexception": 400,
    "modelnotreadyexception": 429, "modelerrorexception": 424, "modelstreamerrorexception": 424,
}  # fmt: skip
"""The status of each exception, which a frame does not say; names in lower case, frames and shapes differ in it."""

_CODES: Final = {
    400: "invalid_request", 401: "invalid_api_key", 403: "access_denied", 404: "model_not_found", 408: "model_timeout",
    424: "model_error", 429: "rate_limit_exceeded", 500: "server_error", 503: "service_unavailable",
}  # fmt: skip
_TOO_LONG: Final = (
    "input is too long", "prompt is too long", "too many input tokens", "exceeds the context", "maximum context length",
)  # fmt: skip
_WRONG_KEY: Final = ("security token", "signature", "api key", "bearer token")
_WRONG_MODEL: Final = ("model identifier is invalid",)
_LONGEST_BODY: Final = 64 << 10
_JSON: Final = {"content-type": "application/json"}


def failed(status: int, body: bytes) -> Failed:
    """Read the body of a failing reply: `{"message": …}`, or `Message` before it reaches the service itself."""
    message = _message(_object(body))
    return Failed(code_of(status, message), message)


def code_of(status: int | None, message: str | None) -> str | None:
    """OpenAI's code where it has one for this; the exception's name is in a header that is not seen here."""
    words = (message or "").lower()
    if status == 400 and any(each in words for each in _TOO_LONG):
        return "context_length_exceeded"
    if status == 400 and any(each in words for each in _WRONG_MODEL):
        return "model_not_found"
    if status == 403 and any(each in words for each in _WRONG_KEY):
        return "invalid_api_key"
    return _CODES.get(status or 0)


def frame_fault(event: bytes) -> Fault:
    """The fault of a frame that is an exception, an error, or the end of a message that the model garbled."""
    try:
        headers, payload = read_frame(event)
    except Garbled:
        return Fault(FaultKind.ERROR_EVENT, "the provider sent an error in its stream")
    found = _object(payload)
    kind = headers.get(":message-type")
    if kind == "event":
        return _garbled_message(found, payload)
    if kind == "error":
        name, message = headers.get(":error-code", ""), headers.get(":error-message")
        payload = orjson.dumps({"message": message or ""})
    else:
        name, message = headers.get(":exception-type", ""), _message(found)
    status = EXCEPTIONS.get(name.lower())
    return Fault(
        FaultKind.ERROR_EVENT, "the provider sent an error in its stream", status, code_of(status, message), _JSON,
        payload[:_LONGEST_BODY],
    )  # fmt: skip


def _garbled_message(found: dict[str, Any], payload: bytes) -> Fault:
    """messageStop with a malformed output or tool call: the model's own failure, which another try may not meet."""
    reason = found.get("stopReason")
    code = reason if isinstance(reason, str) else None
    return Fault(FaultKind.ERROR_EVENT, "the model's output was malformed", None, code, _JSON, payload[:_LONGEST_BODY])


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _message(document: dict[str, Any]) -> str | None:
    for name in ("message", "Message"):
        if isinstance(found := document.get(name), str) and found:
            return found
    return None
