"""Scripted upstreams on loopback: servers that do what a test told them, and remember what they saw.

All of them live on one event loop in a thread of its own, so that sync clients can be tested too, and so that the times
in a log are the server's and do not wait for the test. Times are `time.monotonic()` seconds.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import trustme

from rig.accepted import Wire
from rig.accepted_http1 import serve_http1
from rig.accepted_http2 import serve_http2
from rig.behaviours import Behaviour, Request

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

    def _accept(self) -> Wire:
        self._connections += 1
        wire = Wire(self, self._connections, serve_http2 if self._http2 else serve_http1)
        self._wires.add(wire)
        return wire

    def drop(self, wire: Wire) -> None:
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


