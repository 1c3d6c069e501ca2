"""A scripted upstream's HTTP/1.1 side."""

import time

from rig.accepted import Wire, behave
from rig.behaviours import Headers, Request


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


async def serve_http1(wire: Wire) -> None:
    """Request after request, until a reply has no proper end or the other side is gone."""
    while True:
        request = await _read_http1(wire)
        wire.upstream.requests.append(request)
        wire.note("request", f"{request.method} {request.path}")
        reply = Http1Reply(wire, request)
        if not await behave(wire, reply, wire.gone) or not reply.keeps:
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
