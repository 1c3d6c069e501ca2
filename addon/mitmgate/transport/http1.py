"""mitmproxy's HTTP/1 reader, with its loose ends tied: bounded heads, our error shape, trailers that do not crash it.

Seen in mitmproxy 12.2: a message head may grow without bound; malformed requests are answered in HTML with a `Server`
header; chunked trailers raise NotImplementedError, after which the peer hangs.
"""

import time
from typing import Final, cast

from h11 import Data, EndOfMessage
from h11._readers import ChunkedReader
from h11._receivebuffer import ReceiveBuffer
from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import http as layers
from mitmproxy.proxy.layers.http import ErrorCode, ReceiveHttp, RequestHeaders, ResponseProtocolError, _http1
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Server

LONGEST_HEAD: Final = 64 << 10              # bytes of a message's head
MOST_INTERIM: Final = 16                    # 1xx replies before the answer
_MALFORMED: Final = "mitmgate_malformed"


class GatewayHttp1Server(Http1Server):
    """The client's side of an HTTP/1 connection."""

    half_close = False                      # the client still sends what nobody reads

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """As mitmproxy's; an oversized head is 431, a malformed one 400, both in our shape, once, and on record.

        mitmproxy would answer a malformed head itself and then hand the request on, to be answered a second time.
        """
        self.skip_blank_lines()
        if isinstance(event, events.DataReceived) and _endless(self.buf):
            self.half_close = True
            yield from self.refuse(nameless_request(), "headers_too_large")
            return
        malformed = False
        for command in super().read_headers(event):
            if isinstance(command, commands.SendData):
                malformed = True            # nothing but its own error page is sent from here
            elif malformed:
                continue                    # its close, its log line, its own way to hand the request on
            elif isinstance(command, ReceiveHttp) and isinstance(command.event, RequestHeaders):
                if command.event.request.http_version not in ("HTTP/1.0", "HTTP/1.1"):
                    mark_malformed(command.event.request)
                yield command
            else:
                yield command
        if malformed:
            yield from self.refuse(self.request or nameless_request())

    def refuse(self, request: http.Request, code: str = "invalid_request") -> layer.CommandGenerator[None]:
        """Hand on what is to be refused: its stream does that as with any refusal, and ends the connection after it."""
        mark_malformed(request, code)
        self.request, self.request_done, self.state = request, True, self.done
        yield ReceiveHttp(RequestHeaders(self.stream_id, request, False))

    def mark_done(self, *, request: bool = False, response: bool = False) -> layer.CommandGenerator[None]:
        """As mitmproxy's; a full close on a client that still sends is a reset, which may overtake the answer."""
        for command in super().mark_done(request=request, response=response):
            if self.half_close and isinstance(command, commands.CloseConnection):
                yield commands.CloseTcpConnection(command.connection, half_close=True)
            else:
                yield command

    def done(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """As mitmproxy's; what still comes is thrown away, where it would be kept."""
        self.buf = ReceiveBuffer()
        yield from super().done(event)

    def skip_blank_lines(self) -> None:
        """Empty lines before a request line are ignored (RFC 9112, 2.2); h11 would wait for ever after one."""
        buffered = bytes(self.buf)
        blank = len(buffered) - len(buffered.lstrip(b"\r\n"))
        if blank:
            self.buf.maybe_extract_at_most(blank)


class GatewayHttp1Client(Http1Client):
    """The upstream's side of an HTTP/1 connection: interim replies are skipped, endless heads are refused."""

    interim = 0

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        """As mitmproxy's, which would take `103 Early Hints` for the answer."""
        while (head := bytes(self.buf)[: 1 << 16]).startswith(b"HTTP/1.") and head[8:10] == b" 1" and head[9:12] != b"101":
            end = head.find(b"\r\n\r\n")
            self.interim += 1
            if end < 0 or self.interim > MOST_INTERIM:
                break
            self.buf.maybe_extract_at_most(end + 4)
        if isinstance(event, events.DataReceived) and self.stream_id is not None and (
            _endless(self.buf) or self.interim > MOST_INTERIM
        ):
            yield commands.CloseConnection(self.conn)
            error = ResponseProtocolError(self.stream_id, "protocol error: endless head", ErrorCode.GENERIC_SERVER_ERROR)
            yield ReceiveHttp(error)
            self.state = self.done
            return
        if isinstance(event, events.DataReceived) and self.request is not None and not len(self.buf):
            return                          # nothing but interim replies so far
        yield from super().read_headers(event)


def nameless_request(version: bytes = b"HTTP/1.1") -> http.Request:
    """What stands for a request of which nothing could be read."""
    return http.Request(
        host="",
        port=0,
        method=b"-",
        scheme=b"",
        authority=b"",
        path=b"/",
        http_version=version,
        headers=http.Headers(),
        content=None,
        trailers=None,
        timestamp_start=time.time(),
        timestamp_end=None,
    )


def mark_malformed(request: http.Request, code: str = "invalid_request") -> None:
    """This request's head did not make sense; it is to be refused with `code`."""
    setattr(request, _MALFORMED, code)


def refused_as(request: http.Request) -> str | None:
    """The code by which a request is to be refused whose head did not make sense; None: it did."""
    return cast("str | None", getattr(request, _MALFORMED, None))


def _endless(buffer: ReceiveBuffer) -> bool:
    return len(buffer) > LONGEST_HEAD and b"\r\n\r\n" not in bytes(buffer)[:LONGEST_HEAD]


class TrailerlessChunkedReader(ChunkedReader):
    """Reads a chunked body and drops its trailers, as a recipient may (RFC 9110, 6.5.1)."""

    def __call__(self, buf: ReceiveBuffer) -> Data | EndOfMessage | None:
        """The next h11 event, or None; as the base's, but for trailers."""
        event = super().__call__(buf)
        return EndOfMessage() if isinstance(event, EndOfMessage) and event.headers else event


def install() -> None:
    """Put them in mitmproxy's places for them, where their names are looked up at each message or connection."""
    _http1.ChunkedReader = TrailerlessChunkedReader  # type: ignore[misc]
    layers.Http1Client = GatewayHttp1Client  # type: ignore[misc]
