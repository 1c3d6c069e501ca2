"""A scripted upstream's HTTP/2 side."""

import asyncio
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from rig.accepted import Wire, behave
from rig.behaviours import Headers, Request


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
            await behave(self.wire, reply, reply.gone)
        except (ConnectionError, h2.exceptions.ProtocolError) as fault:
            if not reply.gone.is_set():
                self.wire.note("error", repr(fault))


async def serve_http2(wire: Wire) -> None:
    """Streams side by side, until the other side is gone."""
    await Http2Session(wire).run()
