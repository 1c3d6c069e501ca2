"""One client connection to a proxy or a server: CONNECT, TLS, and HTTP/1.1 replies, parsed as cheaply as Python can.

A real HTTP client would cost more processor time than the proxy under test and hide its figures, so this one knows only
what the benchmark meets: replies with a content-length or chunked, no trailers, no redirects.
"""

import asyncio
import re
import ssl
from dataclasses import dataclass
from typing import Protocol, cast

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
MAX_BUFFER = 1 << 20  # bytes that may wait for the rest of a head or a chunk


@dataclass(frozen=True, slots=True)
class Way:
    """How a server is reached: the port to connect to, the authority to CONNECT to, the name to ask for in TLS."""

    port: int
    authority: str | None = None            # "api.openai.com:443": through a proxy's tunnel
    server_name: str | None = None          # None: plain HTTP
    trust: ssl.SSLContext | None = None     # needed with a server name


class Load(Protocol):
    """Whoever drives the connections. All are called from the event loop."""

    def ready(self, connection: "Connection") -> None:
        """The connection can take its first request."""

    def piece(self, connection: "Connection", body: bytes) -> None:
        """Some bytes of a reply's body, as they came, chunk framing removed."""

    def replied(self, connection: "Connection", status: int) -> None:
        """A reply is whole; the connection can take another request unless `closing`."""

    def lost(self, connection: "Connection", reason: str) -> None:
        """The connection ended; `connection.waiting` tells whether a reply was due."""


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, way: Way, load: Load, session: ssl.SSLSession | None = None) -> None:
        self.way = way
        self.load = load
        self.offered = session
        self.transport: asyncio.Transport | None = None
        self.tls: ssl.SSLObject | None = None
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tunnelled = way.authority is None
        self.secured = way.server_name is None
        self.waiting = False
        self.closing = False
        self.buffer = b""
        self.status = 0                      # of the reply being read; 0: its head has not come
        self.left: int | None = 0            # bytes of its body still to come; None: chunked
        self.reason = "closed by the other side"

    def send(self, request: bytes) -> None:
        """Send one whole request; the reply comes as `piece` and `replied`."""
        assert self.transport is not None
        self.waiting = True
        if self.tls is None:
            self.transport.write(request)
        else:
            self.tls.write(request)
            self.transport.write(self.outgoing.read())

    def close(self) -> None:
        """Close without a word; `lost` follows."""
        self.closing = True
        if self.transport is not None:
            self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)     # uvloop's is no subclass of it
        if self.way.authority is not None:
            authority = self.way.authority.encode()
            self.transport.write(b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (authority, authority))
        else:
            self._secure()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.load.lost(self, f"{type(exc).__name__}: {exc}" if exc else self.reason)

    def data_received(self, data: bytes) -> None:
        if not self.tunnelled:
            self.buffer += data
            if b"\r\n\r\n" not in self.buffer:
                return
            if self.buffer.split(b" ", 2)[1] != b"200":
                return self._fail(f"CONNECT was answered {self.buffer[:60]!r}")
            self.tunnelled, self.buffer = True, b""
            self._secure()
        elif self.tls is not None:
            self.incoming.write(data)
            self._pump()
        else:
            self._read(data)

    def _secure(self) -> None:
        if self.way.server_name is None:
            return self.load.ready(self)
        assert self.way.trust is not None
        self.tls = self.way.trust.wrap_bio(self.incoming, self.outgoing, server_hostname=self.way.server_name,
                                           session=self.offered)
        self._pump()

    def _pump(self) -> None:
        """Carry the handshake on, then read what has been decrypted."""
        assert self.tls is not None
        assert self.transport is not None
        try:
            if not self.secured:
                try:
                    self.tls.do_handshake()
                finally:
                    self.transport.write(self.outgoing.read())
                self.secured = True
                self.load.ready(self)
            while self.transport is not None and (plain := self.tls.read(65536)):
                self._read(plain)
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            self._fail(f"TLS: {error.reason or error}")

    def _fail(self, reason: str) -> None:
        self.reason = reason
        self.close()

    def _read(self, data: bytes) -> None:
        """Parse what came of a reply; the common case is one whole reply in one piece."""
        if self.buffer:
            data, self.buffer = self.buffer + data, b""
        if not self.status:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                return self._keep(data)
            head, data = data[:end + 2], data[end + 4:]
            self.status = int(head[9:12])
            self.closing = CLOSE.search(head) is not None
            length = LENGTH.search(head)
            self.left = None if CHUNKED.search(head) else int(length[1]) if length else 0
        if self.left is None:
            return self._read_chunks(data)
        if data:
            self.left -= len(data)
            self.load.piece(self, data)
        if self.left < 0:
            return self._fail("more bytes than the content-length says")
        if self.left == 0:
            self._end()

    def _read_chunks(self, data: bytes) -> None:
        """Parse whole chunks (RFC 9112, section 7.1); the rest waits."""
        at = 0
        while (line := data.find(b"\r\n", at)) >= 0:
            size = int(data[at:line].split(b";")[0], 16)
            end = line + 2 + size
            if len(data) < end + 2:
                break
            if size == 0:
                return self._end()
            self.load.piece(self, data[line + 2:end])
            at = end + 2
        self._keep(data[at:])

    def _keep(self, rest: bytes) -> None:
        self.buffer = rest
        if len(rest) > MAX_BUFFER:
            self._fail("a head or chunk beyond 1 MiB")

    def _end(self) -> None:
        status, self.status, self.waiting = self.status, 0, False
        self.load.replied(self, status)
