"""Scripted upstreams on loopback: servers that do what a test told them, and remember what they saw.

All of them live on one event loop in a thread of its own, so that sync clients can be tested too, and so that the times
in a log are the server's and do not wait for the test. Times are `time.monotonic()` seconds.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import trustme

from rig.behaviours import Behaviour, Headers, Reply, Request

GONE = ("closed", "reset", "rst")
"""The kinds of events that say that the other side went away: end of file, a broken connection, an HTTP/2 reset."""


class LoopThread:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="scripted upstreams", daemon=True)
        self._thread.start()

    def run[T](self, work: Coroutine[Any, Any, T], within: float = 10.0) -> T:
        """Runs `work` there and waits for it, `within` seconds at most."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(within)

    def close(self) -> None:
        """Cancels what still runs, and ends the thread."""
        self.run(_cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()


async def _cancel_all() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Seen:
    """One line of an upstream's log.

    Theirs: accept, head, request, closed, reset, rst. Ours: done (a body's proper end), ours (we hung up or reset),
    error (what came could not be read).
    """

    at: float
    kind: str
    connection: int
    detail: str = ""


class Upstream:
    """One server: takes a behaviour per request from its script, the last of which repeats."""

    def __init__(
        self, loop: LoopThread, *script: Behaviour, tls: ssl.SSLContext | None = None, http2: bool = False
    ) -> None:
        if http2 and tls is None:
            raise ValueError("HTTP/2 is spoken over TLS only")
        self._loop, self._script, self._http2 = loop, list(script), http2
        self.seen: list[Seen] = []
        self.requests: list[Request] = []
        self._connections = 0
        self._wires: set[Wire] = set()
        self._server = loop.run(self._listen(tls))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.origin = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.base_url = f"{self.origin}/v1"

    def script(self, *behaviours: Behaviour) -> None:
        """Replaces what is left of the script, and forgets what was seen."""
        self._script = list(behaviours)
        self.forget()

    def forget(self) -> None:
        """Empties the log; connections stay."""
        self.seen.clear()
        self.requests.clear()

    def count(self, *kinds: str) -> int:
        """How many lines of these kinds the log holds."""
        return sum(line.kind in kinds for line in self.seen)

    @property
    def untouched(self) -> bool:
        """Whether nobody has come since the log was emptied; connections of before may have ended."""
        return not self.count("accept", "head", "request")

    def find(self, *kinds: str, since: float = 0.0) -> Seen | None:
        """The first line of these kinds at or after `since`."""
        return next((line for line in list(self.seen) if line.kind in kinds and line.at >= since), None)

    def wait(self, *kinds: str, since: float = 0.0, within: float = 5.0) -> Seen:
        """The first line of these kinds, waited for; AssertionError with the log when it does not come."""
        end = time.monotonic() + within
        while (line := self.find(*kinds, since=since)) is None:
            assert time.monotonic() < end, f"upstream {self.port} saw no {kinds} within {within} s: {self.seen}"
            time.sleep(0.002)
        return line

    async def awaited(self, *kinds: str, since: float = 0.0, within: float = 5.0) -> Seen:
        """`wait` for tests that have a loop of their own."""
        return await asyncio.to_thread(self.wait, *kinds, since=since, within=within)

    def close(self) -> None:
        """Stops listening and breaks every connection."""
        self._loop.run(self._close())

    def take(self) -> Behaviour:
        """The behaviour for the next request."""
        return self._script.pop(0) if len(self._script) > 1 else self._script[0]

    def note(self, kind: str, connection: int, detail: str = "") -> None:
        """Adds a line to the log."""
        self.seen.append(Seen(time.monotonic(), kind, connection, detail))

    async def _listen(self, tls: ssl.SSLContext | None) -> asyncio.Server:
        if tls is not None:
            tls.set_alpn_protocols(["h2"] if self._http2 else ["http/1.1"])
        return await asyncio.get_running_loop().create_server(self._accept, "127.0.0.1", 0, ssl=tls, backlog=512)

    def _accept(self) -> "Wire":
        self._connections += 1
        wire = Wire(self, self._connections, _serve_http2 if self._http2 else _serve_http1)
        self._wires.add(wire)
        return wire

    def drop(self, wire: "Wire") -> None:
        """Forgets a connection that is over."""
        self._wires.discard(wire)

    async def _close(self) -> None:
        self._server.close()
        tasks = [wire.task for wire in self._wires if wire.task is not None]
        for wire in list(self._wires):
            wire.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


class Wire(asyncio.StreamReaderProtocol):
    """One accepted connection; notes the moment at which the other side left."""

    def __init__(
        self, upstream: Upstream, number: int, serve: "Callable[[Wire], Coroutine[Any, Any, None]]"
    ) -> None:
        self.upstream, self.number = upstream, number
        self.reader = asyncio.StreamReader(limit=1 << 20)
        self.gone = asyncio.Event()
        self.ours = False  # we hung up ourselves
        self.task: asyncio.Task[None] | None = None
        self.writer: asyncio.StreamWriter | None = None  # None until the TLS handshake is over
        self._serve = serve
        super().__init__(self.reader, self._connected)

    def _connected(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.note("accept")
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._serve(self)
        except (asyncio.IncompleteReadError, ConnectionError, ValueError, h2.exceptions.ProtocolError) as fault:
            if not self.gone.is_set() and not self.ours:
                self.note("error", repr(fault))
        finally:
            self.ours = True
            self.out.close()
            self.upstream.drop(self)

    @property
    def out(self) -> asyncio.StreamWriter:
        """The way to the other side."""
        assert self.writer is not None, "nobody is served before the handshake"
        return self.writer

    def note(self, kind: str, detail: str = "") -> None:
        """A line of the upstream's log about this connection."""
        self.upstream.note(kind, self.number, detail)

    def abort(self) -> None:
        """Resets the connection, with a TCP RST even where nothing is unread."""
        if self.writer is None:
            return
        self.hanging_up()
        raw = self.writer.get_extra_info("socket")
        if raw is not None:
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def hanging_up(self) -> None:
        """We go first: what the other side does now is no news."""
        if not self.ours:
            self.ours = True
            self.note("ours")

    def eof_received(self) -> bool:
        """The other side closed in good order."""
        self._left("closed")
        return super().eof_received() or False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over, with an error if the other side reset it."""
        self._left("reset" if exc else "closed")
        self.upstream.drop(self)
        super().connection_lost(exc)

    def _left(self, kind: str) -> None:
        if not self.gone.is_set():
            self.gone.set()
            if not self.ours:
                self.note(kind)


async def _behave(wire: Wire, reply: Reply, gone: asyncio.Event) -> bool:
    """Runs the next behaviour until it ends or the other side is `gone`; says whether it ended."""
    work = asyncio.ensure_future(wire.upstream.take()(reply))
    left = asyncio.ensure_future(gone.wait())
    try:
        await asyncio.wait((work, left), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
            return True
        return False
    finally:
        for task in (work, left):
            task.cancel()
        await asyncio.gather(work, left, return_exceptions=True)


class Http1Reply:
    """The reply to one HTTP/1.1 request."""

    def __init__(self, wire: Wire, request: Request) -> None:
        self.request = request
        self.keeps = False  # the body had its end: another request may follow
        self._wire = wire
        self._chunked = False

    async def head(self, status: int, headers: Headers = (), *, length: int | None = None) -> None:
        self._chunked = length is None
        framing = ("transfer-encoding", "chunked") if length is None else ("content-length", str(length))
        lines = "".join(f"{name}: {value}\r\n" for name, value in (*headers, framing))
        await self.raw(f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode("latin-1"))

    async def send(self, content: bytes) -> None:
        if content:
            await self.raw(b"%x\r\n%s\r\n" % (len(content), content) if self._chunked else content)

    async def end(self, trailers: Headers = ()) -> None:
        if self._chunked:
            lines = "".join(f"{name}: {value}\r\n" for name, value in trailers)
            await self.raw(f"0\r\n{lines}\r\n".encode("latin-1"))
        self.keeps = True
        self._wire.note("done")

    async def reset(self) -> None:
        self._wire.abort()

    async def hang_up(self) -> None:
        self._wire.hanging_up()
        self._wire.out.close()

    async def silence(self) -> None:
        await self._wire.gone.wait()

    async def raw(self, content: bytes) -> None:
        if self._wire.gone.is_set():
            raise ConnectionResetError("the other side is gone")
        self._wire.out.write(content)
        await self._wire.out.drain()

    async def read(self) -> bytes:
        return await self._wire.reader.read(65536)


async def _serve_http1(wire: Wire) -> None:
    while True:
        request = await _read_http1(wire)
        wire.upstream.requests.append(request)
        wire.note("request", f"{request.method} {request.path}")
        reply = Http1Reply(wire, request)
        if not await _behave(wire, reply, wire.gone) or not reply.keeps:
            return


async def _read_http1(wire: Wire) -> Request:
    head = await wire.reader.readuntil(b"\r\n\r\n")
    wire.note("head")
    first, *lines = head[:-4].split(b"\r\n")
    method, target, _version = first.split(b" ", 2)
    headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    fields = {name.lower(): value for name, value in headers}
    if fields.get(b"expect", b"").lower() == b"100-continue":
        wire.out.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
        body = b""
        while size := int((await wire.reader.readline()).split(b";")[0], 16):
            body += await wire.reader.readexactly(size)
            await wire.reader.readline()
        while (await wire.reader.readline()).strip():
            pass
    else:
        body = await wire.reader.readexactly(int(fields.get(b"content-length", b"0")))
    return Request(time.monotonic(), wire.number, method.decode("latin-1"), target.decode("latin-1"), headers, body)


class Http2Reply:
    """The reply to one request of an HTTP/2 connection."""

    def __init__(self, session: "Http2Session", request: Request, stream: int) -> None:
        self.request = request
        self.gone = asyncio.Event()  # the stream was reset, or the connection is gone
        self._session, self._stream = session, stream

    async def head(self, status: int, headers: Headers = (), *, length: int | None = None) -> None:
        framing = [("content-length", str(length))] if length is not None else []
        self._session.h2.send_headers(self._stream, [(":status", str(status)), *headers, *framing])
        await self._session.flush()

    async def send(self, content: bytes) -> None:
        while content:
            room = min(
                self._session.h2.local_flow_control_window(self._stream), self._session.h2.max_outbound_frame_size
            )
            if room <= 0:
                await self._session.wait_for_room()
                continue
            self._session.h2.send_data(self._stream, content[:room])
            content = content[room:]
            await self._session.flush()

    async def end(self, trailers: Headers = ()) -> None:
        if trailers:
            self._session.h2.send_headers(self._stream, list(trailers), end_stream=True)
        else:
            self._session.h2.end_stream(self._stream)
        await self._session.flush()
        self._session.wire.note("done", str(self._stream))

    async def reset(self) -> None:
        self._session.h2.reset_stream(self._stream, 2)
        self._session.wire.note("ours", str(self._stream))
        await self._session.flush()

    async def hang_up(self) -> None:
        self._session.wire.hanging_up()
        self._session.wire.out.close()

    async def silence(self) -> None:
        await self.gone.wait()

    async def raw(self, content: bytes) -> None:
        raise NotImplementedError("this behaviour is for HTTP/1.1 upstreams only")

    async def read(self) -> bytes:
        raise NotImplementedError("this behaviour is for HTTP/1.1 upstreams only")


class Http2Session:
    """One HTTP/2 connection, the server's side."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self._room = asyncio.Event()
        self._open: dict[int, tuple[list[tuple[bytes, bytes]], bytearray]] = {}
        self._replies: dict[int, Http2Reply] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serves until the other side is gone."""
        self.h2.initiate_connection()
        await self.flush()
        try:
            while received := await self.wire.reader.read(65536):
                for happened in self.h2.receive_data(received):
                    self._happened(happened)
                await self.flush()
        finally:
            for reply in self._replies.values():
                reply.gone.set()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def flush(self) -> None:
        """Writes what h2 has to say."""
        self.wire.out.write(self.h2.data_to_send())
        await self.wire.out.drain()

    async def wait_for_room(self) -> None:
        """Until the other side granted more of its flow control window."""
        self._room.clear()
        await self._room.wait()

    def _happened(self, happened: h2.events.Event) -> None:
        match happened:
            case h2.events.RequestReceived(stream_id=stream, headers=headers):
                assert stream is not None
                self.wire.note("head", str(stream))
                self._open[stream] = ([(bytes(name), bytes(value)) for name, value in headers or ()], bytearray())
            case h2.events.DataReceived(stream_id=stream, data=data, flow_controlled_length=size):
                assert stream is not None
                self._open[stream][1].extend(data or b"")
                self.h2.acknowledge_received_data(size or 0, stream)
            case h2.events.StreamEnded(stream_id=stream):
                assert stream is not None
                self._begin(stream)
            case h2.events.StreamReset(stream_id=stream):
                assert stream is not None
                self._open.pop(stream, None)
                self.wire.note("rst", str(stream))
                if stream in self._replies:
                    self._replies[stream].gone.set()
            case h2.events.WindowUpdated():
                self._room.set()

    def _begin(self, stream: int) -> None:
        headers, body = self._open.pop(stream)
        pseudo = {name: value.decode("latin-1") for name, value in headers if name.startswith(b":")}
        request = Request(
            time.monotonic(), self.wire.number, pseudo[b":method"], pseudo[b":path"], headers, bytes(body), stream
        )
        self.wire.upstream.requests.append(request)
        self.wire.note("request", f"{request.method} {request.path} {stream}")
        reply = self._replies[stream] = Http2Reply(self, request, stream)
        task = asyncio.ensure_future(self._answer(reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, reply: Http2Reply) -> None:
        try:
            await _behave(self.wire, reply, reply.gone)
        except (ConnectionError, h2.exceptions.ProtocolError) as fault:
            if not reply.gone.is_set():
                self.wire.note("error", repr(fault))


async def _serve_http2(wire: Wire) -> None:
    await Http2Session(wire).run()


def refused_port() -> int:
    """A port on which nobody listens: it was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """The port of a listener that accepts nothing and whose queue is full: a connect to it hangs."""
    with contextlib.ExitStack() as open_sockets:
        listener = open_sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(3):
            filler = open_sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        time.sleep(0.1)
        yield int(address[1])


def server_context(ca: trustme.CA, *names: str, client_ca: trustme.CA | None = None) -> ssl.SSLContext:
    """TLS for an upstream under a certificate of `ca`; with `client_ca`, clients must show one of its certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*(names or ("127.0.0.1", "localhost"))).configure_cert(context)
    if client_ca is not None:
        client_ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


