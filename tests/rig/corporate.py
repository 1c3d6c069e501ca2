"""A corporate proxy: CONNECT with Basic credentials, on the upstreams' loop. It notes what it was asked for.

Names under `.test` (RFC 2606) are loopback to it, and to nobody else: what reaches them went through the proxy.
"""

import asyncio
import base64
from dataclasses import dataclass

from rig.scripted import LoopThread


@dataclass(frozen=True, slots=True)
class Asked:
    """One request to the proxy: its first line and the credential it came with, as sent."""

    line: str
    authorization: str | None
    granted: bool


class CorporateProxy:
    """Tunnels to any address, for those who know the name and password."""

    def __init__(self, loop: LoopThread, user: str = "gate", password: str = "open sesame") -> None:
        self._loop = loop
        self.asked: list[Asked] = []
        self._expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = loop.run(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Stops, and ends every tunnel."""
        self._loop.run(self._close())

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await self._tunnel(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        authorization = fields.get("proxy-authorization")
        granted = authorization == self._expected and head[0].startswith("CONNECT ")
        self.asked.append(Asked(head[0], authorization, granted))
        if not granted:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n")
            writer.write(b"Content-Length: 0\r\n\r\n")
            await writer.drain()
            return
        host, _, port = head[0].split(" ")[1].rpartition(":")
        address = "127.0.0.1" if host.endswith(".test") else host
        onward_reader, onward = await asyncio.open_connection(address, int(port))
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_copy(reader, onward), _copy(onward_reader, writer))
        finally:
            onward.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while some := await source.read(65536):
            sink.write(some)
            await sink.drain()
    finally:
        sink.close()
