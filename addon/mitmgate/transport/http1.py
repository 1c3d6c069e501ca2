"""mitmproxy's HTTP/1 reader, with its loose ends tied: bounded heads, our error shape, trailers that do not crash it.

Seen in mitmproxy 12.2: a message head may grow without bound; malformed requests are answered in HTML with a `Server`
header; chunked trailers raise NotImplementedError, after which the peer hangs.
"""

from typing import Final

from h11 import Data, EndOfMessage
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import _http1
from mitmproxy.proxy.layers.http._http1 import Http1Server

from mitmgate.transport.plain_errors import error_response

LONGEST_HEAD: Final = 64 << 10              # bytes of a request's head


class GatewayHttp1Server(Http1Server):
    """The client's side of an HTTP/1 connection."""

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """As mitmproxy's; an oversized head is 431, a malformed one 400, both in our shape."""
        longer = isinstance(event, events.DataReceived) and len(self.buf) > LONGEST_HEAD
        if longer and b"\r\n\r\n" not in bytes(self.buf)[:LONGEST_HEAD]:
            yield commands.SendData(self.conn, _closing("headers_too_large", "The request's head is too large."))
            yield commands.CloseConnection(self.conn)
            self.state = self.done
            return
        for command in super().read_headers(event):
            if isinstance(command, commands.SendData):      # only its own error page is sent from here
                command = commands.SendData(command.connection, _closing("invalid_request", "The request is not valid HTTP."))
            yield command


def _closing(code: str, message: str) -> bytes:
    response = error_response(code, message)
    response.headers["connection"] = "close"
    assembled: bytes = http1.assemble_response(response)
    return assembled


class TrailerlessChunkedReader(ChunkedReader):
    """Reads a chunked body and drops its trailers, as a recipient may (RFC 9110, 6.5.1)."""

    def __call__(self, buf: ReceiveBuffer) -> Data | EndOfMessage | None:
        """The next h11 event, or None; as the base's, but for trailers."""
        event = super().__call__(buf)
        return EndOfMessage() if isinstance(event, EndOfMessage) and event.headers else event


def install() -> None:
    """Put the reader in mitmproxy's place for it; `make_body_reader` looks its name up at each message."""
    _http1.ChunkedReader = TrailerlessChunkedReader  # type: ignore[misc]
