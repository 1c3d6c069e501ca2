"""Where `AttemptStream` lives: one timer per client connection, dead upstream connections forgotten, connects given up."""

import math
import time
from collections.abc import Callable
from typing import cast

from mitmproxy.connection import Connection, Server
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import (
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpLayer,
    HttpStream,
)

from mitmgate.transport.attempts import AttemptConnection, AttemptStream
from mitmgate.transport.http1 import GatewayHttp1Server
from mitmgate.transport.http2 import GatewayHttp2Server
from mitmgate.transport.passage import tag, tag_of
from mitmgate.transport.stream import DeadlinePassed


class Tick(commands.RequestWakeup):
    """The one wake-up that serves all streams' deadlines of a layer."""

    def __init__(self, owner: "GatewayLayer", at: float) -> None:
        super().__init__(max(0.0, at - time.monotonic()))
        self.owner = owner
        self.at = at


class GatewayLayer(HttpLayer):
    """mitmproxy's HTTP layer of one client connection. Instances arrive by `layer.__class__ = GatewayLayer`, so that
    defaults are class attributes."""

    soonest = math.inf                      # monotonic; the earliest deadline of any stream
    tick: Tick | None = None
    server_turn = False                     # an upstream's event is being handled: its connection has not ended its turn
    start_hook: Callable[[commands.StartHook], bool] | None = None
    """Runs a hook at once; True when it ran to its end. None under a foreign master: hooks take mitmproxy's way."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Wakeup) and isinstance(event.command, Tick) and event.command.owner is self:
            if event.command is not self.tick:
                return                      # overtaken by an earlier one
            yield from self.serve_deadlines()
        elif isinstance(event, events.ConnectionEvent) and self.forgotten(event.connection):
            return
        else:
            if isinstance(event, events.Start) and self.context.client not in self.connections:
                self.connections[self.context.client] = self.client_side()
            self.server_turn = isinstance(event, events.ConnectionEvent) and event.connection is not self.context.client
            try:
                yield from super()._handle_event(event)
            finally:
                self.server_turn = False
        if self.soonest < (self.tick.at if self.tick is not None else math.inf):
            self.tick = Tick(self, self.soonest)
            yield self.tick

    def client_side(self) -> layer.Layer:
        """Our readers of the client's connection, where mitmproxy would put its own (it uses `setdefault`)."""
        if self.context.client.alpn == b"h2":
            return GatewayHttp2Server(self.context.fork())
        return GatewayHttp1Server(self.context.fork())

    def serve_deadlines(self) -> layer.CommandGenerator[None]:
        """Tell every stream whose deadline has passed; find the next one."""
        self.tick, now = None, time.monotonic()
        for stream in self.attempt_streams():
            if stream.due <= now:
                stream.due = math.inf       # told; no busy loop while the stream is paused
                yield from self.event_to_child(stream, DeadlinePassed(stream.stream_id))
        self.soonest = min((stream.due for stream in self.attempt_streams()), default=math.inf)

    def attempt_streams(self) -> list[AttemptStream]:
        """Each stream once, however many ids it has."""
        return [cast(AttemptStream, stream) for stream in dict.fromkeys(self.streams.values())]

    def forgotten(self, connection: Connection) -> bool:
        """Whether this is a connection that we have given up."""
        return connection not in self.connections and connection is not self.context.server

    def make_stream(self, stream_id: int) -> layer.CommandGenerator[None]:
        """As mitmproxy's, with our stream: `Start` binds its states, so that it cannot be exchanged afterwards."""
        stream: HttpStream = AttemptStream(self.context.fork(), stream_id)
        self.streams[stream_id] = stream
        yield from self.event_to_child(stream, events.Start())

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> layer.CommandGenerator[None]:
        """As mitmproxy's, but dead connections are forgotten first, and each new one is marked as its owner's.

        mitmproxy keeps every connection of a client for good: a refused one would answer its error again without a
        connect, and a long HTTP/2 client connection would scan all of its dead ones for each request.
        """
        in_use = {stream.context.server for stream in self.streams.values()}
        for connection in list(self.connections):
            if isinstance(connection, Server) and connection not in in_use and self.dead(connection):
                del self.connections[connection]
        assert isinstance(event, AttemptConnection)
        if reuse and (idle := self.idle(event, in_use)) is not None:
            stream = self.command_sources.pop(event)
            yield from self.event_to_child(stream, GetHttpConnectionCompleted(event, (idle, None)))
            return
        for command in super().get_connection(event, reuse=reuse):
            self.mark(event)
            yield command

    def dead(self, connection: Server) -> bool:
        """Whether a connection has ended, or never came to be."""
        if connection in self.waiting_for_establishment:
            return False
        return bool(connection.timestamp_end) or (bool(connection.error) and not connection.timestamp_tcp_setup)

    def idle(self, event: AttemptConnection, in_use: set[Server]) -> Server | None:
        """An HTTP/1.1 connection that an HTTP/2 client may use again. mitmproxy would make a new one for each call."""
        if self.context.client.alpn != b"h2":
            return None                     # there mitmproxy reuses by itself
        for connection in self.connections:
            if (
                isinstance(connection, Server)
                and connection not in in_use
                and connection.connected
                and connection.alpn != b"h2"
                and event.connection_spec_matches(connection)
                and connection not in self.waiting_for_establishment
            ):
                return connection
        return None

    def mark(self, event: AttemptConnection) -> None:
        """Mark the connection that is being made for this command."""
        for connection, waiting in self.waiting_for_establishment.items():
            if isinstance(connection, Server) and tag_of(connection) is None and any(each is event for each in waiting):
                tag(connection, event.tag)
                return

    def abandon(self, command: GetHttpConnection) -> layer.CommandGenerator[None]:
        """Nobody waits for this connect any more. By identity: the command compares by value."""
        self.command_sources.pop(command, None)
        for connection, waiting in list(self.waiting_for_establishment.items()):
            if any(each is command for each in waiting):
                waiting[:] = [each for each in waiting if each is not command]
                if not waiting:
                    self.connections.pop(connection, None)
                    yield commands.CloseConnection(connection)


