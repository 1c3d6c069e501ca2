"""Errors as mitmproxy responses, where a flow has no exchange to speak for it."""

from mitmproxy import http

from mitmgate.errors import CODES, error_body


def error_response(
    code: str, message: str, *, status: int | None = None, headers: dict[str, str] | None = None
) -> http.Response:
    """An error of `CODES` in OpenAI's shape."""
    return http.Response.make(
        status or CODES[code].status,
        error_body(code, message),
        {"content-type": "application/json", **(headers or {})},
    )
