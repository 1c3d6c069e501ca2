"""The load, a process of its own: `python bench/clients.py ORDER`, ORDER being the JSON of an `Order`.

It opens its connections, sends some requests that are not measured, prints `ready`, waits for a line on standard input,
runs, and prints the JSON of an `Outcome` while its connections are still open, so that who started it can read the
proxy's counters at both moments. Then it waits for its standard input to end. A request that was begun is always waited
for, so that the counts of client, proxy and upstream agree.
"""

import asyncio
import json
import re
import ssl
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import uvloop
from wire import Connection, Way

STAMP = re.compile(rb"t=(\d+);")
MARK = b'"chatcmpl-bench"'
GRACE = 30.0  # seconds after the end of the load for what was begun; beyond it is counted as unfinished
PAUSE = 0.02  # seconds before a lost connection is opened again


@dataclass(frozen=True, slots=True)
class Order:
    """What to do. `json`: keep-alive requests, `streams`: streams, `fresh`: a new connection for each request."""

    load: Literal["json", "streams", "fresh"]
    port: int
    connections: int
    seconds: float
    host: str = "localhost"
    authority: str | None = None
    server_name: str | None = None
    ca: str | None = None
    rate: float = 0.0           # requests per second of all connections; 0: each sends the next at once
    warm: int = 3               # requests of each connection before the start
    events: int = 20            # of a stream
    gap_ms: float = 50.0
    resume: bool = False        # `fresh`: offer the last TLS session again
    samples: bool = True        # keep every latency; off for runs of minutes


@dataclass(slots=True)
class Outcome:
    """What came of it. Times are microseconds; failures are counted by reason."""

    seconds: float = 0.0
    replies: int = 0
    streams: int = 0
    events: int = 0
    opened: int = 0
    resumed: int = 0
    unfinished: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    latency: list[int] = field(default_factory=list)        # request sent to reply whole
    first: list[int] = field(default_factory=list)          # request sent to first event
    underway: list[int] = field(default_factory=list)       # event written upstream to event read here; not the first
    stretch: list[int] = field(default_factory=list)        # how much longer the gap was here than upstream; may be < 0


@dataclass(slots=True)
class Turn:
    """The request that a connection is waiting for. Times are monotonic nanoseconds."""

    began: int
    tail: bytes = b""
    marked: bool = False
    written: int = 0            # the last event's two times
    read: int = 0


def request(order: Order) -> bytes:
    """The request, its body 1 kB when it asks for no stream."""
    fields: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "bench " + "y" * 900}]}
    if order.load == "streams":
        fields |= {"stream": True, "events": order.events, "gap_ms": order.gap_ms}
    body = json.dumps(fields).encode()
    return (f"POST /v1/chat/completions HTTP/1.1\r\nhost: {order.host}\r\nauthorization: Bearer bench\r\n"
            f"content-type: application/json\r\naccept: */*\r\ncontent-length: {len(body)}\r\n\r\n").encode() + body


class Clients:
    """All connections of one order; see `wire.Load` for what is called when."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.loop = asyncio.get_running_loop()
        trust = None
        if order.server_name is not None:
            trust = ssl.create_default_context(cafile=order.ca)
            trust.set_alpn_protocols(["http/1.1"])
        self.way = Way(order.port, order.authority, order.server_name, trust)
        self.request = request(order)
        self.outcome = Outcome()
        self.turns: dict[Connection, Turn] = {}
        self.idle: list[Connection] = []
        self.warm = [order.warm] * order.connections
        self.slots: dict[Connection, int] = {}
        self.due: list[float] = []
        self.running = False
        self.ends = 0.0
        self.quiet = asyncio.Event()        # nothing is under way or about to be
        self.session: ssl.SSLSession | None = None
        self.opening: set[asyncio.Task[None]] = set()

    async def open(self, slot: int, pause: float = 0.0) -> None:
        """Open the connection of one slot; a refused one counts as a failure and is tried again while there is time."""
        await asyncio.sleep(pause)
        connection = Connection(self.way, self, self.session if self.order.resume else None)
        self.slots[connection] = slot
        self.turns[connection] = Turn(time.monotonic_ns())
        try:
            await self.loop.create_connection(lambda: connection, "127.0.0.1", self.order.port)
            self.outcome.opened += 1
        except OSError as error:
            self.lost(connection, f"connect: {error.strerror}")

    def start(self, slot: int, pause: float = 0.0) -> None:
        """Begin to open the connection of one slot."""
        task = asyncio.create_task(self.open(slot, pause))
        self.opening.add(task)
        task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self.opening.discard(task)
        self._check()

    def ready(self, connection: Connection) -> None:
        began = self.turns.pop(connection).began
        if connection.tls is not None and connection.tls.session_reused:
            self.outcome.resumed += 1
        if self.order.load == "fresh" and self.running:
            self._send(connection, began)    # a fresh connection's time counts from its connect
        else:
            self._next(connection)

    def piece(self, connection: Connection, body: bytes) -> None:
        turn = self.turns[connection]
        if self.order.load != "streams":
            turn.marked = turn.marked or MARK in body
            return
        now = time.monotonic_ns()
        *events, turn.tail = (turn.tail + body).split(b"\n\n")
        for event in events:
            if stamp := STAMP.search(event):
                self._event(turn, int(stamp[1]), now)
            elif event == b"data: [DONE]":
                turn.marked = True

    def _event(self, turn: Turn, written: int, now: int) -> None:
        if self.running:
            self.outcome.events += 1
            if not self.order.samples:
                return
            if turn.read:
                self.outcome.underway.append((now - written) // 1000)
                self.outcome.stretch.append(((now - turn.read) - (written - turn.written)) // 1000)
            else:
                self.outcome.first.append((now - turn.began) // 1000)
        turn.read, turn.written = now, written

    def replied(self, connection: Connection, status: int) -> None:
        turn = self.turns.pop(connection)
        if status != 200 or not turn.marked:
            self._failed(f"status {status}" if status != 200 else "a reply that is not the upstream's")
        elif self.running:
            if self.order.load == "streams":
                self.outcome.streams += 1
            else:
                self.outcome.replies += 1
            if self.order.samples:
                self.outcome.latency.append((time.monotonic_ns() - turn.began) // 1000)
        if self.order.load == "fresh":
            if connection.tls is not None and self.order.resume:
                self.session = connection.tls.session
            connection.closing = True
        if connection.closing:
            connection.close()
        else:
            self._next(connection)

    def lost(self, connection: Connection, reason: str) -> None:
        turn = self.turns.pop(connection, None)
        slot = self.slots.pop(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        if turn is not None:
            self._failed(reason)
        if self._has_time():
            pace = self.order.connections / self.order.rate if self.order.rate and self.order.load == "fresh" else 0.0
            self.start(slot, PAUSE if turn is not None else pace)
        self._check()

    def _failed(self, reason: str) -> None:
        self.outcome.failures[reason] = self.outcome.failures.get(reason, 0) + 1

    def _has_time(self) -> bool:
        return self.loop.time() < self.ends

    def _next(self, connection: Connection) -> None:
        """Give a free connection its next request: one to warm up, one that is due now or later, or none."""
        slot = self.slots[connection]
        if not self.running:
            if self.warm[slot] > 0:
                self.warm[slot] -= 1
                return self._send(connection, time.monotonic_ns())
        elif self._has_time():
            if not self.order.rate:
                return self._send(connection, time.monotonic_ns())
            due, now = self.due[slot], self.loop.time()
            self.due[slot] += self.order.connections / self.order.rate
            if due <= now:  # the last reply came late: the wait for it is this request's latency too
                return self._send(connection, time.monotonic_ns() - int((now - due) * 1e9))
            if due < self.ends:
                self.loop.call_at(due, self._send_if_free, connection)
        self.idle.append(connection)
        self._check()

    def _send_if_free(self, connection: Connection) -> None:
        if connection in self.idle and self._has_time():
            self.idle.remove(connection)
            self._send(connection, time.monotonic_ns())

    def _send(self, connection: Connection, began: int) -> None:
        self.turns[connection] = Turn(began)
        connection.send(self.request)

    def _check(self) -> None:
        if not self.turns and not self.opening and not self._has_time():
            self.quiet.set()

    async def settle(self) -> None:
        """Wait until nothing is under way; what has not ended by then is counted and left."""
        try:
            async with asyncio.timeout(max(0.0, self.ends - self.loop.time()) + GRACE):
                await self.quiet.wait()
        except TimeoutError:
            self.outcome.unfinished += len(self.turns)

    async def warm_up(self) -> None:
        """Open the connections and send the requests that are not measured; fresh connections, one after another."""
        if self.order.load == "fresh":
            for _ in range(self.order.warm):
                self.quiet.clear()
                self.warm[0] = 1
                self.start(0)
                await self.settle()
        else:
            for slot in range(self.order.connections):
                self.start(slot)
            await self.settle()

    async def run(self) -> Outcome:
        """Run the load for its time and wait for what was begun."""
        self.quiet.clear()
        failed = self.outcome.failures
        self.outcome = Outcome(failures=failed)
        began = self.loop.time()
        self.running, self.ends = True, began + self.order.seconds
        count = self.order.connections
        self.due = [began + slot / (self.order.rate or count) for slot in range(count)]
        if self.order.load == "fresh":
            for slot in range(count):
                self.start(slot)
        elif self.order.load == "streams":  # begun evenly over one stream's length: the steady state, not a stampede
            length = self.order.events * self.order.gap_ms / 1000
            for position, connection in enumerate(self.idle):
                self.loop.call_later(length * position / count, self._send_if_free, connection)
        else:
            waiting, self.idle = self.idle, []
            for connection in waiting:
                self._next(connection)
        self.loop.call_at(self.ends + 0.01, self._check)    # uvloop's timers are of a millisecond, and may come early
        await self.settle()
        self.outcome.seconds = self.loop.time() - began
        return self.outcome


async def serve(order: Order) -> None:
    """Carry one order out; see the first lines of this file."""
    loop = asyncio.get_running_loop()
    clients = Clients(order)
    await clients.warm_up()
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    print(json.dumps(asdict(await clients.run())), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(serve(Order(**json.loads(sys.argv[1]))))
