"""A connection that a scripted upstream accepted: what is common to both protocols."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import h2.exceptions

from rig.behaviours import Behaviour, Reply, Request


class Script(Protocol):
    """The server that accepted a connection: it knows what comes next, and keeps the log."""

    requests: list[Request]

    def take(self) -> Behaviour:
        """The behaviour for the next request."""

    def note(self, kind: str, connection: int, detail: str = "") -> None:
        """Adds a line to the log."""

    def drop(self, wire: "Wire") -> None:
        """Forgets a connection that is over."""


class Wire(asyncio.StreamReaderProtocol):
    """One accepted connection; notes the moment at which the other side left."""

    def __init__(
        self, upstream: Script, number: int, serve: "Callable[[Wire], Coroutine[Any, Any, None]]"
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


async def behave(wire: Wire, reply: Reply, gone: asyncio.Event) -> bool:
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
