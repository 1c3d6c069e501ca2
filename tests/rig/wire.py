"""Bare wires: HTTP/1.1 and HTTP/2 clients that send exactly what a test says, and can leave at any moment."""

import asyncio
import re
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events

from rig.clients import trust
from rig.gateway import Gateway

type Fields = Sequence[tuple[str, str]]
type Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True)
class Answer:
    """A reply as it came: lower-case header names, the body without its framing."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    whole: bool = False     # the body had its proper end
    fault: str | None = None

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for key, value in self.headers if key == name.lower()), None)


async def connect(gateway: Gateway) -> Streams:
    """A TCP connection to the gateway's port."""
    return await asyncio.open_connection("127.0.0.1", gateway.proxy_port)


async def tunnel(gateway: Gateway, host: str = "api.openai.com", *, alpn: str | None = None) -> Streams:
    """CONNECT and TLS to `host`:443 under the gateway's CA; with `alpn`, that protocol must have been agreed on."""
    reader, writer = await connect(gateway)
    writer.write(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.split(b" ")[1] == b"200", head
    return await secure((reader, writer), gateway, host, alpn=alpn)


async def secure(streams: Streams, gateway: Gateway, host: str, *, alpn: str | None = None) -> Streams:
    """TLS on a connection that is open already."""
    context: ssl.SSLContext = trust(gateway)
    if alpn:
        context.set_alpn_protocols([alpn])
    await asyncio.wait_for(streams[1].start_tls(context, server_hostname=host), 10)
    agreed = streams[1].get_extra_info("ssl_object").selected_alpn_protocol()
    assert agreed == alpn or alpn is None, f"asked for {alpn}, got {agreed}"
    return streams


class Wires:
    """Opens wires to a gateway, and closes those that a test left open."""

    def __init__(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []

    async def direct(self, gateway: Gateway) -> "Http1":
        """HTTP/1.1 to the gateway's port."""
        return Http1(self._kept(await connect(gateway)))

    async def intercepted(self, gateway: Gateway) -> "Http1":
        """HTTP/1.1 inside a tunnel to api.openai.com."""
        return Http1(self._kept(await tunnel(gateway)))

    async def http2(self, gateway: Gateway) -> "Http2":
        """HTTP/2 inside a tunnel to api.openai.com."""
        return Http2(self._kept(await tunnel(gateway, alpn="h2"))).start()

    async def close(self) -> None:
        """Breaks what is still open, and waits until it is gone."""
        for writer in self._writers:
            writer.transport.abort()
        closing = (asyncio.wait_for(writer.wait_closed(), 2) for writer in self._writers)
        await asyncio.gather(*closing, return_exceptions=True)
        await asyncio.sleep(0)

    def _kept(self, streams: Streams) -> Streams:
        self._writers.append(streams[1])
        return streams


class Http1:
    """An HTTP/1.1 client; one request at a time."""

    def __init__(self, streams: Streams) -> None:
        self.reader, self.writer = streams

    def send(self, method: str, target: str, headers: Fields = (), body: bytes = b"") -> None:
        """Head and body; Host and Content-Length are the caller's to give, except the length of a body."""
        fields = list(headers)
        names = {name.lower() for name, _ in fields}
        if (body or method == "POST") and not names & {"content-length", "transfer-encoding"}:
            fields.append(("content-length", str(len(body))))
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        self.writer.write(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body)

    async def head(self, within: float = 10.0) -> Answer:
        """Status and headers of the next reply, informational ones included."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), within)
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return Answer(int(first.split(" ")[1]), fields)

    async def reply(self, within: float = 10.0) -> Answer:
        """The next reply, whole or as far as it came."""
        answer = await self.head(within)
        try:
            await asyncio.wait_for(self._body(answer), within)
        except (asyncio.IncompleteReadError, ConnectionError) as fault:
            answer.fault = repr(fault)
        return answer

    async def _body(self, answer: Answer) -> None:
        if answer.header("transfer-encoding") == "chunked":
            while size := int(await self.reader.readuntil(b"\n"), 16):
                answer.body += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            while (await self.reader.readuntil(b"\n")).strip():
                pass
            answer.whole = True
        elif (length := answer.header("content-length")) is not None:
            answer.body = await self.reader.readexactly(int(length))
            answer.whole = True
        else:
            answer.body = await self.reader.read(-1)

    async def until(self, pattern: bytes, within: float = 10.0) -> bytes:
        """Bytes as they come, framing included, until they match."""
        got = b""

        async def read() -> None:
            nonlocal got
            while not re.search(pattern, got):
                more = await self.reader.read(65536)
                assert more, f"the connection ended before {pattern!r}: {got!r}"
                got += more

        await asyncio.wait_for(read(), within)
        return got

    def leave(self) -> float:
        """Breaks the connection; the moment (monotonic)."""
        moment = time.monotonic()
        self.writer.transport.abort()
        return moment


@dataclass(slots=True)
class _Stream:
    answer: Answer = field(default_factory=lambda: Answer(0, []))
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    moved: asyncio.Event = field(default_factory=asyncio.Event)


class Http2:
    """An HTTP/2 client; many requests at once. Needs `start`."""

    def __init__(self, streams: Streams) -> None:
        self.reader, self.writer = streams
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._streams: dict[int, _Stream] = {}
        self._pump: asyncio.Task[None] | None = None

    def start(self) -> "Http2":
        """Sends the preface and begins to read."""
        self._h2.initiate_connection()
        self._flush()
        self._pump = asyncio.create_task(self._read())
        return self

    async def send(
        self, method: str, path: str, headers: Fields = (), body: bytes = b"", *, authority: str = "api.openai.com"
    ) -> int:
        """A request; its stream."""
        stream = self._h2.get_next_available_stream_id()
        self._streams[stream] = _Stream()
        pseudo = [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path)]
        self._h2.send_headers(stream, [*pseudo, *headers], end_stream=not body)
        while body:
            room = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
            if room <= 0:
                await asyncio.sleep(0.002)
                continue
            self._h2.send_data(stream, body[:room], end_stream=len(body) <= room)
            body = body[room:]
            self._flush()
        self._flush()
        return stream

    async def reply(self, stream: int, within: float = 10.0) -> Answer:
        """The reply on a stream, whole or as far as it came."""
        await asyncio.wait_for(self._streams[stream].ended.wait(), within)
        return self._streams[stream].answer

    async def until(self, stream: int, pattern: bytes, within: float = 10.0) -> bytes:
        """The body so far, as soon as it matches."""

        async def grow() -> bytes:
            state = self._streams[stream]
            while not re.search(pattern, state.answer.body):
                state.moved.clear()
                await state.moved.wait()
            return state.answer.body

        return await asyncio.wait_for(grow(), within)

    def reset(self, stream: int) -> float:
        """Gives up one request (CANCEL); the moment (monotonic)."""
        moment = time.monotonic()
        self._h2.reset_stream(stream, 8)
        self._flush()
        return moment

    def leave(self) -> float:
        """Breaks the connection; the moment (monotonic)."""
        moment = time.monotonic()
        self.writer.transport.abort()
        return moment

    def _flush(self) -> None:
        self.writer.write(self._h2.data_to_send())

    async def _read(self) -> None:
        try:
            while received := await self.reader.read(65536):
                for happened in self._h2.receive_data(received):
                    self._happened(happened)
                self._flush()
        except ConnectionError:
            pass  # told to each stream that had not ended
        finally:
            for state in self._streams.values():
                if not state.ended.is_set():
                    state.answer.fault = state.answer.fault or "connection ended"
                    state.ended.set()

    def _happened(self, happened: h2.events.Event) -> None:
        stream = getattr(happened, "stream_id", None)
        state = self._streams.get(stream) if isinstance(stream, int) else None
        if state is None or not isinstance(stream, int):
            return
        match happened:
            case h2.events.ResponseReceived(headers=headers):
                fields = [(str(name), str(value)) for name, value in headers or ()]
                state.answer.status = int(dict(fields)[":status"])
                state.answer.headers = fields
            case h2.events.DataReceived(data=data, flow_controlled_length=size):
                state.answer.body += data or b""
                self._h2.acknowledge_received_data(size or 0, stream)
            case h2.events.StreamEnded():
                state.answer.whole = True
                state.ended.set()
            case h2.events.StreamReset(error_code=code):
                state.answer.fault = f"reset {code}"
                state.ended.set()
        state.moved.set()
