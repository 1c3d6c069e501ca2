"""One request's stream in mitmproxy's HTTP layer: what all of its phases share.

Every attempt has a stream id of its own, aliased to this stream, so that late bytes of an abandoned one fall away and an
HTTP/2 connection can serve twice. That id never travels to the client.
"""

import logging
import math
import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from mitmproxy import flow, http
from mitmproxy.connection import Connection
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers import TCPLayer
from mitmproxy.proxy.layers.http import (
    DropStream,
    ErrorCode,
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpErrorHook,
    HttpEvent,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpStream,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
    SendHttp,
)

from mitmgate.errors import Fault
from mitmgate.exchange import Attempt
from mitmgate.transport.passage import Passage, Permit, attach
from mitmgate.transport.plain_errors import error_response

logger = logging.getLogger(__name__)

_UPSTREAM = (ResponseHeaders, ResponseData, ResponseTrailers, ResponseEndOfMessage, ResponseProtocolError)


@dataclass
class AttemptFailedHook(commands.StartHook):
    """An attempt failed before anything of it went to the client. Arm the next one, or set `flow.response`."""

    flow: http.HTTPFlow


@dataclass
class UploadHook(commands.StartHook):
    """A piece of a spooled body was handed over; wait until the connection has taken it. Not a flow: no UpdateHook."""

    server: Connection


@dataclass
class DeadlinePassed(HttpEvent):
    """The layer's tick found this stream's deadline passed."""


class Hub(Protocol):
    """What a stream asks of the HTTP layer that it belongs to (`layer.GatewayLayer`)."""

    streams: dict[int, HttpStream]
    connections: dict[Connection, layer.Layer]
    soonest: float
    server_turn: bool
    start_hook: Callable[[commands.StartHook], bool] | None

    def abandon(self, command: GetHttpConnection) -> CommandGenerator[None]:
        """Nobody waits for this connect any more."""
        ...


class GatewayStream(HttpStream):
    """Renames ids on the way out, runs hooks where they stand, keeps the deadline, ends the upstream call."""

    passage: Passage | None = None
    permit: Permit | None = None            # the one taken by the present attempt
    attempt_id = 0                          # the present attempt's stream id; 0: none
    due = math.inf                          # monotonic; the next deadline
    answered = False                        # a reply's head has gone to the client
    origin_form = False
    crashed = False                         # a bug of ours was met in this stream

    @property
    def is_http2_client(self) -> bool:
        """Whether the client's side is HTTP/2, where a connection outlives a stream."""
        return self.context.client.alpn == b"h2"

    @property
    def attempted(self) -> Attempt | None:
        """The exchange's latest attempt, whose times are noted for the record."""
        exchange = self.passage.exchange if self.passage is not None else None
        return exchange.attempt if exchange is not None else None

    @abstractmethod
    def attempt_failed(self, fault: Fault) -> CommandGenerator[None]:
        """The present attempt is over before anything of it went to the client."""

    @abstractmethod
    def answer(self) -> CommandGenerator[None]:
        """Give the client an answer of our own, `flow.response`."""

    @abstractmethod
    def on_deadline(self) -> CommandGenerator[None]:
        """A deadline passed while nothing of ours was waiting."""

    @cached_property
    def hub(self) -> Hub:
        """The HTTP layer that this stream belongs to."""
        parent: Any = self.context.layers[self.context.layers.index(self) - 1]
        hub: Hub = parent
        return hub

    def set_deadline(self, seconds: float | None) -> None:
        """The next deadline: in `seconds`, and never later than the total one while that holds."""
        permit = self.permit
        assert permit is not None
        at = math.inf if seconds is None else time.monotonic() + seconds
        self.due = at if self.passage and self.passage.committed else min(at, permit.total_at)
        self.hub.soonest = min(self.hub.soonest, self.due)

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        work: CommandGenerator[None]
        if isinstance(event, DeadlinePassed):
            work = self.on_deadline()
        elif isinstance(event, GetHttpConnectionCompleted):
            return                          # of a connect that was given up
        elif isinstance(event, _UPSTREAM):
            if self.permit is not None and event.stream_id not in (self.attempt_id, self.stream_id):
                return                      # of an abandoned attempt
            event.stream_id = self.stream_id                # it may be handed on to the client as it is
            work = super()._handle_event(event)
        else:
            work = super()._handle_event(event)
        yield from self.outward(work)

    def passthrough(self, event: events.Event) -> CommandGenerator[None]:
        """After a protocol switch: the renaming still holds."""
        yield from self.outward(super().passthrough(event))

    def outward(self, work: CommandGenerator[None]) -> CommandGenerator[None]:
        """Everything that leaves this stream: ids renamed, hooks run at once where they can, no HTML error pages."""
        reply: Any = None
        while True:
            try:
                command = work.send(reply)
            except StopIteration:
                return
            except Exception:
                if self.crashed:
                    raise
                logger.exception("gateway_error in %s", self)
                self.crashed, reply, work = True, None, self.give_up()
                continue
            reply = None
            if isinstance(command, commands.StartHook):
                own = command.blocking is True              # a child layer's hook is not ours: it has paused for it
                if own and isinstance(command, HttpRequestHeadersHook):
                    self.passage = Passage(origin_form=self.origin_form)
                    attach(command.flow, self.passage)
                start = self.hub.start_hook
                # A failed attempt always pauses: the upstream's layer that told us of it must end its turn first, or the
                # next attempt would find the connection in the middle of its last one.
                # So does a pipelined request, which is read in the turn in which the reply before it ended.
                pauses = isinstance(command, AttemptFailedHook) or (
                    isinstance(command, HttpRequestHook) and self.hub.server_turn
                )
                if own and start is not None and not pauses and start(command):
                    continue                # it ran to its end: no task, no pause
            elif isinstance(command, SendHttp):
                if command.connection is not self.context.client:
                    if self.attempt_id:
                        command.event.stream_id = self.attempt_id
                elif isinstance(command.event, ResponseHeaders):
                    if command.event.response.status_code >= 200:
                        self.answered = True
                        if self.passage is not None:
                            self.passage.head_sent = True
                elif isinstance(command.event, ResponseProtocolError) and not self.answered:
                    status = command.event.code.http_status_code()
                    if self.passage is None and command.event.code is ErrorCode.DESTINATION_UNKNOWN:
                        work = self.refuse_unseen(command.event)
                        continue
                    if status is not None:
                        yield from self.plain_error(command.event, status)
                        continue
            reply = yield command

    def give_up(self) -> CommandGenerator[None]:
        """A bug of ours in the layer: mitmproxy would log it and let the client hang. Ends both sides."""
        yield from self.cancel_upstream()
        if self.passage is not None:
            self.passage.bug = True
            self.flow.error = flow.Error("gateway_error")
            yield HttpErrorHook(self.flow)
            self.flow.live = False
        if self.answered:
            yield SendHttp(ResponseProtocolError(self.stream_id, "gateway_error", ErrorCode.KILL), self.context.client)
        else:
            yield from self.say(error_response("gateway_error", "The gateway failed; see its log."))
        self.client_state = self.server_state = self.state_errored
        yield DropStream(self.stream_id)

    def refuse_unseen(self, error: ResponseProtocolError) -> CommandGenerator[None]:
        """mitmproxy refuses a request that names no host without asking anybody; the addon is to hear of it all the same.

        Like `check_invalid`, which it asks of what it finds malformed.
        """
        self.flow.error = flow.Error(error.message)
        yield HttpRequestHeadersHook(self.flow)
        yield HttpErrorHook(self.flow)
        yield SendHttp(error, self.context.client)
        self.flow.live = False
        self.client_state = self.server_state = self.state_errored
        yield DropStream(self.stream_id)

    def plain_error(self, event: ResponseProtocolError, status: int) -> CommandGenerator[None]:
        """In place of mitmproxy's HTML page. The connection closes: its state is not to be trusted any more.

        Where the addon heard of it (`requestheaders` of what mitmproxy refuses) and has refused it too, its words are said.
        """
        exchange = self.passage.exchange if self.passage is not None else None
        if exchange is not None and exchange.refusal is not None and self.flow.response is not None:
            yield from self.say(self.flow.response)
            return
        code = {400: "invalid_request", 413: "request_too_large"}.get(status, "upstream_unreachable")
        message = {
            "invalid_request": "The request is not valid HTTP for a proxy.",
            "request_too_large": "The body is too large.",
        }.get(code, "The destination could not be reached.")
        yield from self.say(error_response(code, message))

    def say(self, response: http.Response) -> CommandGenerator[None]:
        """A reply outside of any flow's course; the connection closes after it."""
        self.answered = True
        if not self.is_http2_client:
            response.headers["connection"] = "close"
        yield SendHttp(ResponseHeaders(self.stream_id, response, end_stream=False), self.context.client)
        yield SendHttp(ResponseData(self.stream_id, response.raw_content or b""), self.context.client)
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    def check_killed(self, emit_error_hook: bool) -> CommandGenerator[bool]:
        """As mitmproxy's; after it, the upstream call ends too."""
        killed: bool = yield from super().check_killed(emit_error_hook)
        if killed:
            yield from self.cancel_upstream()
        return killed

    def check_invalid(self, request: bool) -> CommandGenerator[bool]:
        """A governed reply was checked when its head came, where a bad one is still a failed attempt."""
        if not request and self.permit is not None:
            return False
        invalid: bool = yield from super().check_invalid(request)
        if invalid and request:
            yield DropStream(self.stream_id)                # mitmproxy would keep it as long as the client stays
        return invalid

    def check_body_size(self, request: bool) -> CommandGenerator[bool]:
        """The bounds of bodies are ours; mitmproxy's options for them are unset, and asking costs copies of them."""
        yield from ()
        return False

    def cancel_upstream(self) -> CommandGenerator[None]:
        """End the upstream call: an HTTP/1.1 connection is closed, an HTTP/2 stream reset."""
        if self.attempt_id:
            if self.context.server in self.hub.connections:
                yield SendHttp(RequestProtocolError(self.attempt_id, "cancelled", ErrorCode.CANCEL), self.context.server)
            yield from self.forget()

    def forget(self) -> CommandGenerator[None]:
        """The present attempt is over."""
        if self.attempt_id and self._handle_event != self.passthrough:
            yield DropStream(self.attempt_id)
            self.attempt_id = 0
        self.due = math.inf

    def flow_done(self) -> CommandGenerator[None]:
        """The reply has gone out. After a protocol switch the bytes pass as they are, in both directions.

        mitmproxy would read a WebSocket's frames: it inflates them without a bound, and keeps every message.
        """
        assert self.flow.response is not None
        if self.flow.response.status_code == 101:
            self.flow.live = False
            self.child_layer = TCPLayer(self.context, ignore=True)
            self._handle_event = self.passthrough  # type: ignore[method-assign]
            yield from self.child_layer.handle_event(events.Start())
            yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
        else:
            yield from super().flow_done()
        yield from self.forget()
