"""An attempt's request in mitmproxy's terms."""

import time

from mitmproxy import http

from mitmgate.exchange import UpstreamRequest


def build_request(wanted: UpstreamRequest, credential: tuple[tuple[str, str], ...], size: int) -> http.Request:
    """mitmproxy's request of one attempt: HTTP/1.1 in form, which an HTTP/2 upstream's layer rewrites."""
    origin = wanted.origin
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    if origin.port != {"http": 80, "https": 443}[origin.scheme]:
        host = f"{host}:{origin.port}"
    fields = [(b"host", host.encode())]
    fields += [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in wanted.headers]
    fields += [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in credential]
    if size or wanted.method in ("POST", "PUT", "PATCH"):
        fields.append((b"content-length", b"%d" % size))
    return http.Request(
        host=origin.host,
        port=origin.port,
        method=wanted.method.encode(),
        scheme=origin.scheme.encode(),
        authority=b"",
        path=wanted.target.encode(),
        http_version=b"HTTP/1.1",
        headers=http.Headers(fields),
        content=b"",
        trailers=None,
        timestamp_start=time.time(),
        timestamp_end=None,
    )
