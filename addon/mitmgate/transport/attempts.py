"""The attempts of one request, inside mitmproxy's own HTTP layer.

mitmproxy gives a request one upstream attempt; `AttemptStream` gives it as many as the addon arms permits for:

    body whole -> request hook -> permit -> connect -> send -> reply held or collected -> commit -> the client
                       ^                       |                     |
                       +---- attempt_failed ---+---------------------+

Every attempt has a stream id of its own, aliased to this stream, so that late bytes of an abandoned one fall away and an
HTTP/2 connection can serve twice. That id never travels to the client. Nothing is sent to the client before the first
content of a reply; until then any fault is a failed attempt. What has no exchange passes as mitmproxy would pass it, but
also only on the addon's explicit word.
"""

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from mitmproxy import http
from mitmproxy.connection import Connection
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import (
    DropStream,
    ErrorCode,
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HTTPMode,
    HttpEvent,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpStream,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    RequestTrailers,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
    SendHttp,
)

from mitmgate.bodies import SPOOL_ABOVE, MemoryBody, Patch, SpooledBody, patched_size
from mitmgate.dialects.reading import Kind
from mitmgate.encoding import Decoder, DecodingError, TooLarge, decoder
from mitmgate.errors import Fault, FaultKind, error_body
from mitmgate.exchange import Origin, UpstreamRequest
from mitmgate.sse import EventSplitter
from mitmgate.transport.passage import BROKEN, PASS, Broken, Passage, Permit, Tag, attach, tag_of
from mitmgate.transport.plain_errors import error_response
from mitmgate.transport.tunnels import tunnel_of

if TYPE_CHECKING:
    from mitmgate.transport.layer import GatewayLayer

HOLD_EVENTS: Final = 64                     # events without content that are held back at most
HOLD_BYTES: Final = 256 << 10
LONGEST_EVENT: Final = 16 << 20             # bytes of one event (images travel in events)
LONGEST_FAULT: Final = 64 << 10             # bytes kept of a failing reply's body
UPLOAD_CHUNK: Final = 256 << 10

_attempt_ids = itertools.count(1 << 40)     # above every stream id that a client can choose
_UPSTREAM = (ResponseHeaders, ResponseData, ResponseTrailers, ResponseEndOfMessage, ResponseProtocolError)
_HOP_BY_HOP: Final = ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "trailer")


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


@dataclass
class AttemptConnection(GetHttpConnection):
    """A connection of one owner. Not shared by address, as mitmproxy would."""

    tag: Tag = Tag(Origin("http", "", 0), None)

    __hash__ = GetHttpConnection.__hash__

    def connection_spec_matches(self, connection: Connection) -> bool:
        """Whether `connection` was made for the same owner, over the same proxy."""
        return tag_of(connection) == self.tag and getattr(connection, "via", None) == self.via


class AttemptStream(HttpStream):
    """One request of a client, and its attempts."""

    passage: Passage | None = None
    permit: Permit | None = None            # the one taken by the present attempt
    attempt_id = 0                          # the present attempt's stream id; 0: none
    due = math.inf                          # monotonic; the next deadline
    answered = False                        # a reply's head has gone to the client
    origin_form = False
    held: ResponseHeaders | None = None
    splitter: EventSplitter | None = None
    decoder: Decoder | None = None
    collected = 0                           # bytes of the reply collected so far
    spooled: SpooledBody | None = None

    @cached_property
    def hub(self) -> "GatewayLayer":
        """The HTTP layer that this stream belongs to."""
        parent: Any = self.context.layers[self.context.layers.index(self) - 1]
        return parent  # type: ignore[no-any-return]

    @property
    def governed(self) -> bool:
        """Whether an exchange stands behind this request."""
        return self.passage is not None and self.passage.exchange is not None

    # Deadlines.

    def set_deadline(self, seconds: float | None) -> None:
        """The next deadline: in `seconds`, and never later than the total one while that holds."""
        permit = self.permit
        assert permit is not None
        at = math.inf if seconds is None else time.monotonic() + seconds
        self.due = at if self.passage and self.passage.committed else min(at, permit.total_at)
        self.hub.soonest = min(self.hub.soonest, self.due)

    def on_deadline(self) -> CommandGenerator[None]:
        """A deadline passed while nothing of ours was waiting."""
        permit, passage = self.permit, self.passage
        if permit is None or passage is None or not self.attempt_id or self.due < math.inf:
            return                          # moved on since
        yield from self.cancel_upstream()
        if self.uncommitted():
            yield from self.attempt_failed(self.timeout_fault())
        elif self.splitter is not None:
            yield from self.break_off(Broken.SILENT)
        else:
            yield from self.cut_off(Broken.SILENT)

    def timeout_fault(self) -> Fault:
        """Which deadline it was."""
        permit = self.permit
        assert permit is not None
        if time.monotonic() >= permit.total_at:
            return Fault(FaultKind.TOTAL_TIMEOUT, "the total deadline passed")
        if self.server_state == self.state_fault:
            return self.status_fault()      # the status is known; only its body did not come
        if self.held is not None or self.collected:
            return Fault(FaultKind.IDLE_TIMEOUT, "the provider fell silent")
        return Fault(FaultKind.FIRST_TOKEN_TIMEOUT, "the provider did not begin to answer in time")

    # Events in, commands out.

    def handle_event(self, event: events.Event) -> CommandGenerator[None]:
        """While paused: the client may leave, and a connect may take too long."""
        if self._paused and isinstance(event, RequestProtocolError):
            yield from super().handle_event(event)          # queued: check_killed finds it there
            if self.passage and self.passage.on_gone:
                self.passage.on_gone()                      # mitmproxy does not cancel a hook
            if isinstance(self._paused.command, GetHttpConnection):
                yield from self.stop_connecting("the client left")
            else:
                yield from self.cancel_upstream()
        elif self._paused and isinstance(event, DeadlinePassed) and isinstance(self._paused.command, GetHttpConnection):
            yield from self.stop_connecting("the connection was not made in time")
        else:
            yield from super().handle_event(event)

    def stop_connecting(self, why: str) -> CommandGenerator[None]:
        """Give up the connect that we wait for: completed with an error, and abandoned in the layer."""
        assert self._paused is not None
        command = self._paused.command
        assert isinstance(command, GetHttpConnection)
        self.gave_up = True
        yield from self.hub.abandon(command)
        yield from super().handle_event(GetHttpConnectionCompleted(command, (None, why)))

    gave_up = False

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
            reply = None
            if isinstance(command, commands.StartHook):
                if isinstance(command, HttpRequestHeadersHook):
                    self.passage = Passage(origin_form=self.origin_form)
                    attach(command.flow, self.passage)
                start = self.hub.start_hook
                if start is not None and start(command):
                    continue                # it ran to its end: no task, no pause
            elif isinstance(command, SendHttp):
                if command.connection is not self.context.client:
                    if self.attempt_id:
                        command.event.stream_id = self.attempt_id
                elif isinstance(command.event, ResponseHeaders):
                    self.answered = self.answered or command.event.response.status_code >= 200
                elif isinstance(command.event, ResponseProtocolError) and not self.answered:
                    status = command.event.code.http_status_code()
                    if status is not None:
                        yield from self.plain_error(command.event, status)
                        continue
            reply = yield command

    def plain_error(self, event: ResponseProtocolError, status: int) -> CommandGenerator[None]:
        """In place of mitmproxy's HTML page. The connection closes: its state is not to be trusted any more."""
        code = {400: "invalid_request", 413: "request_too_large"}.get(status, "upstream_unreachable")
        message = {
            "invalid_request": "The request is not valid HTTP for a proxy.",
            "request_too_large": "The body is too large.",
        }.get(code, "The destination could not be reached.")
        response = error_response(code, message, headers={"connection": "close"})
        self.answered = True
        yield SendHttp(ResponseHeaders(self.stream_id, response, end_stream=False), self.context.client)
        yield SendHttp(ResponseData(self.stream_id, response.raw_content or b""), self.context.client)
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    # The client's request.

    def state_wait_for_request_headers(self, event: RequestHeaders) -> CommandGenerator[None]:
        """Note the form of the request line before mitmproxy clears it; a refusal is answered without reading the body."""
        self.origin_form = self.mode is HTTPMode.regular and not event.request.data.host
        yield from super().state_wait_for_request_headers(event)
        if self.client_state == self.state_consume_request_body and self.flow.response and not event.end_stream:
            yield from self.answer()

    def state_consume_request_body(self, event: events.Event) -> CommandGenerator[None]:
        """Collect a governed body within its bounds, on disk if it is large; then ask the addon."""
        passage = self.passage
        if passage is None or passage.exchange is None:
            return (yield from super().state_consume_request_body(event))
        if isinstance(event, RequestData):
            yield from self.take_in(passage, event.data)
        elif isinstance(event, RequestEndOfMessage):
            self.client_state = self.state_done
            self.flow.request.timestamp_end = time.time()
            if self.spooled is not None:
                passage.body = self.spooled
            else:
                content = bytes(self.request_body_buf)
                passage.body = MemoryBody(content)
                self.flow.request.data.content = content
                self.request_body_buf.clear()
            if self.flow.response is None:
                yield HttpRequestHook(self.flow)
                if (yield from self.check_killed(True)):
                    return
            if self.flow.response is not None:
                yield from self.answer()
            else:
                yield from self.attempt()

    def take_in(self, passage: Passage, data: bytes) -> CommandGenerator[None]:
        """One piece of the request's body."""
        size = len(data) + (self.spooled.size if self.spooled is not None else len(self.request_body_buf))
        if size > passage.body_limit:
            passage.refused = "request_too_large"
        elif self.spooled is None and passage.reserve is not None and not passage.reserve(len(data)):
            passage.refused = "queue_full"
        if passage.refused:
            self.request_body_buf.clear()
            yield HttpRequestHook(self.flow)
            yield from self.answer()
            return
        if self.spooled is None and passage.spool and size > SPOOL_ABOVE:
            self.spooled = SpooledBody()
            self.spooled.write(bytes(self.request_body_buf))
            self.request_body_buf.clear()
        if self.spooled is not None:
            self.spooled.write(data)
        else:
            self.request_body_buf += data

    def answer(self) -> CommandGenerator[None]:
        """An answer of our own, `flow.response`; also while the client still uploads: the rest is thrown away."""
        uploading = self.client_state != self.state_done
        if self.flow.response is None:      # nobody armed a permit and nobody answered: fail closed
            self.flow.response = error_response("gateway_error", "The gateway failed; nothing was sent to a provider.")
        if uploading and not self.flow.request.is_http2:
            self.flow.response.headers["connection"] = "close"
        yield from self.send_response()
        if uploading:
            self.client_state = self.state_errored
            yield DropStream(self.stream_id)
            yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)

    def handle_connect_regular(self) -> CommandGenerator[None]:
        """A tunnel that is not decrypted may have to go through a corporate proxy."""
        tunnel = tunnel_of(self.context.client)
        if tunnel is None or tunnel.proxy is None or self.flow.response is not None:
            return (yield from super().handle_connect_regular())
        self.context.server.via = (tunnel.proxy.scheme, (tunnel.proxy.host, tunnel.proxy.port))  # type: ignore[assignment]
        yield from self.handle_connect_upstream()

    # Attempts.

    def attempt(self) -> CommandGenerator[None]:
        """Make the attempt that the addon armed."""
        if (yield from self.make_server_connection()):
            yield from self.send_request()

    def make_server_connection(self) -> CommandGenerator[bool]:
        """The only door from this stream to an upstream: no word from the addon, no connection."""
        passage = self.passage
        if passage is not None and passage.through == PASS:
            return (yield from self.pass_through(passage))
        if passage is None or passage.permit is None:
            yield from self.answer()
            return False
        permit, passage.permit, self.permit = passage.permit, None, passage.permit
        passage.reader = permit.reader
        self.attempt_id = next(_attempt_ids)
        self.hub.streams[self.attempt_id] = self
        self.gave_up = False
        self.set_deadline(permit.deadlines.connect)
        connection, error = yield self.connect_command(permit.tag, permit.proxy)
        if error:
            if (yield from self.check_killed(True)):
                return False
            yield from self.attempt_failed(self.connect_fault(error))
            return False
        self.context.server = self.flow.server_conn = connection
        if (yield from self.check_killed(True)):            # left while we connected: send nothing
            return False
        secured = permit.tag.origin.scheme != "https" or connection.tls_established
        if tag_of(connection) != permit.tag or not secured:
            yield from self.answer()                        # cannot happen; if it does, no credential leaves
            return False
        self.set_deadline(permit.deadlines.first_token)
        return True

    def pass_through(self, passage: Passage) -> CommandGenerator[bool]:
        """An ungoverned request's one connection."""
        request = self.flow.request
        origin = Origin(request.scheme, request.host, request.port)
        websocket = request.headers.get("upgrade", "").lower() == "websocket"
        connection, error = yield self.connect_command(Tag(origin, None, websocket), passage.proxy)
        if error:
            yield from self.handle_protocol_error(
                ResponseProtocolError(self.stream_id, error, ErrorCode.CONNECT_FAILED)
            )
            return False
        self.context.server = self.flow.server_conn = connection
        return True

    def connect_command(self, tag: Tag, proxy: Origin | None) -> AttemptConnection:
        """Ask the layer for a connection of this owner."""
        via = (proxy.scheme, (proxy.host, proxy.port)) if proxy is not None else None
        return AttemptConnection(
            (tag.origin.host, tag.origin.port), tag.origin.scheme == "https", via, "tcp", tag=tag
        )

    def connect_fault(self, error: str) -> Fault:
        """Why there is no connection; the text of mitmproxy and OpenSSL holds names and numbers only, and is bounded."""
        if self.gave_up:
            assert self.permit is not None
            if time.monotonic() >= self.permit.total_at:
                return Fault(FaultKind.TOTAL_TIMEOUT, "the total deadline passed")
            return Fault(FaultKind.CONNECT_TIMEOUT, "the connection was not made in time")
        lower = error.lower()
        if "denied:" in lower:
            return Fault(FaultKind.DENIED, "the gateway must not connect to that address")
        if "certificate" in lower or "tls" in lower or "ssl" in lower:
            return Fault(FaultKind.TLS, "the TLS handshake failed: " + _printable(error))
        return Fault(FaultKind.CONNECT, "no connection: " + _printable(error))

    def send_request(self) -> CommandGenerator[None]:
        """The request of this attempt. The credential is written here, where the connection is known to be its own."""
        permit = self.permit
        assert permit is not None
        wanted = permit.request
        body = permit.body
        patch = Patch(*wanted.splice) if wanted.splice is not None else None
        content = wanted.body
        if content is None and isinstance(body, MemoryBody):
            content = body.raw() if patch is None else b"".join(body.chunks(max(1, body.size), patch))
        size = len(content) if content is not None else patched_size(body, patch) if body is not None else 0
        request = build_request(wanted, permit.credential, size)
        server = self.context.server
        yield SendHttp(RequestHeaders(self.stream_id, request, end_stream=not size), server)
        if content:
            yield SendHttp(RequestData(self.stream_id, content), server)
        elif size and isinstance(body, SpooledBody):
            for chunk in body.chunks(UPLOAD_CHUNK, patch):
                yield SendHttp(RequestData(self.stream_id, chunk), server)
                yield UploadHook(server)
                if (yield from self.check_killed(True)):
                    return
        yield SendHttp(RequestEndOfMessage(self.stream_id), server)
        self.set_deadline(permit.deadlines.first_token)

    def attempt_failed(self, fault: Fault) -> CommandGenerator[None]:
        """Tell the addon; make the attempt that it arms, or give the answer that it set."""
        passage = self.passage
        assert passage is not None
        self.held = self.splitter = self.decoder = None
        self.collected = 0
        self.response_body_buf.clear()
        self.flow.response = None
        passage.fault, passage.permit = fault, None
        yield from self.forget()
        if (yield from self.check_killed(True)):
            return
        yield AttemptFailedHook(self.flow)
        if (yield from self.check_killed(True)):
            return
        self.server_state = self.state_wait_for_response_headers
        if passage.permit is not None:
            yield from self.attempt()
        else:
            yield from self.answer()

    def uncommitted(self) -> bool:
        """Whether nothing of the reply has gone to the client."""
        return self.server_state in (
            self.state_uninitialized,
            self.state_wait_for_response_headers,
            self.state_fault,
            self.state_hold,
            self.state_first_bytes,
            self.state_collect,
        )

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
        return (yield from super().check_invalid(request))

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

    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> CommandGenerator[None]:
        """A broken connection: before the commit a failed attempt, in an event stream an error event."""
        if self.permit is not None and isinstance(event, ResponseProtocolError) and self.client_state != self.state_errored:
            if self.uncommitted():
                fault = self.status_fault() if self.server_state == self.state_fault else _broken(event)
                if event.code is not ErrorCode.CONNECT_FAILED:
                    yield from self.cancel_upstream()
                return (yield from self.attempt_failed(fault))
            if self.server_state == self.state_stream_response_body and self.splitter is not None:
                if self.permit.reader.complete:
                    yield from self.forget()
                    return (yield from self.send_response(already_streamed=True))
                return (yield from self.break_off(Broken.CONNECTION))
        if self.passage is not None and isinstance(event, ResponseProtocolError):
            self.passage.broken = self.passage.broken or Broken.CONNECTION
        yield from super().handle_protocol_error(event)
        yield from self.forget()

    # The provider's reply.

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> CommandGenerator[None]:
        """Choose by the head: a fault, an event stream to hold, a body to collect, or bytes to pass."""
        permit = self.permit
        if permit is None or event.response.status_code == 101:
            self.due = math.inf
            return (yield from super().state_wait_for_response_headers(event))
        response = event.response
        try:
            validate_headers(response)
            self.decoder = decoder(response.headers.get("content-encoding", ""), limit=permit.response_limit)
        except (ValueError, DecodingError):
            yield from self.cancel_upstream()
            return (yield from self.attempt_failed(Fault(FaultKind.GARBAGE, "the provider's reply is malformed")))
        self.flow.response = response
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.set_deadline(permit.deadlines.first_token)
        if response.status_code >= 300:
            self.held = event
            self.server_state = self.state_fault
        elif kind == "text/event-stream" and not event.end_stream:
            self.held, self.held_events, self.splitter = event, [], EventSplitter()
            self.server_state = self.state_hold
        elif event.end_stream or kind == "application/json" or kind.endswith("+json") or not kind:
            self.held = event
            self.server_state = self.state_collect
        else:
            self.held = event
            self.server_state = self.state_first_bytes

    def state_fault(self, event: events.Event) -> CommandGenerator[None]:
        """A failing reply's body, as far as it is kept."""
        if isinstance(event, ResponseData):
            self.response_body_buf += event.data[: max(0, LONGEST_FAULT - len(self.response_body_buf))]
            if len(self.response_body_buf) >= LONGEST_FAULT:
                fault = self.status_fault()
                yield from self.cancel_upstream()
                yield from self.attempt_failed(fault)
        elif isinstance(event, ResponseEndOfMessage):
            yield from self.attempt_failed(self.status_fault())

    def status_fault(self) -> Fault:
        """The fault that a whole reply with a failing status is."""
        assert self.held is not None
        assert self.permit is not None
        response = self.held.response
        body = bytes(self.response_body_buf)
        if self.decoder is not None:
            try:
                body = self.decoder.feed(body)
            except (DecodingError, TooLarge):
                body = b""
        status = response.status_code
        kind = FaultKind.REDIRECT if status < 400 else FaultKind.STATUS
        code = self.permit.reader.failure(status, body)
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Fault(kind, f"status {status}", status, code, headers, body[:LONGEST_FAULT])

    def state_collect(self, event: events.Event) -> CommandGenerator[None]:
        """A body that is collected stays uncommitted to its end: a cut in it is a failed attempt."""
        permit = self.permit
        assert permit is not None
        if isinstance(event, ResponseData):
            data = yield from self.decoded(event.data)
            if data is None:
                return
            self.collected += len(data)
            if self.collected > permit.response_limit:
                yield from self.cancel_upstream()
                yield from self.attempt_failed(Fault(FaultKind.TOO_LARGE, "the provider's reply is too large"))
                return
            self.response_body_buf += data
            self.set_deadline(permit.deadlines.idle)
        elif isinstance(event, ResponseEndOfMessage):
            if not (yield from self.decoded_whole()):
                return
            body = bytes(self.response_body_buf)
            response = self.flow.response
            assert response is not None
            if response.headers.get("content-type", "").lower().startswith("application/json"):
                fault = permit.reader.body(body) if body or self.flow.request.method != "HEAD" else None
                if fault is not None:
                    return (yield from self.attempt_failed(fault))
            self.response_body_buf.clear()
            response.data.content = body
            self.due = math.inf
            self.frame(response, len(body))
            yield from self.send_response()

    def decoded(self, data: bytes) -> CommandGenerator[bytes | None]:
        """The bytes without their content encoding; None when that failed the attempt."""
        if self.decoder is None:
            return data
        try:
            return self.decoder.feed(data)
        except TooLarge:
            fault = Fault(FaultKind.TOO_LARGE, "the provider's reply is too large when it is decompressed")
        except DecodingError:
            fault = Fault(FaultKind.GARBAGE, "the provider's reply is not encoded as it says")
        yield from self.spoiled(fault)
        return None

    def decoded_whole(self) -> CommandGenerator[bool]:
        """At the end of the body: whether its encoding ended too."""
        if self.decoder is not None:
            try:
                self.decoder.finish()
            except (DecodingError, TooLarge):
                yield from self.spoiled(Fault(FaultKind.GARBAGE, "the provider's reply is not encoded as it says"))
                return False
        return True

    def spoiled(self, fault: Fault) -> CommandGenerator[None]:
        """The reply cannot be read any further."""
        why = Broken.TOO_LARGE if fault.kind is FaultKind.TOO_LARGE else Broken.ENCODING
        yield from self.cancel_upstream()
        if self.uncommitted():
            yield from self.attempt_failed(fault)
        elif self.splitter is not None:
            yield from self.break_off(why)
        else:
            yield from self.cut_off(why)

    def cut_off(self, why: Broken) -> CommandGenerator[None]:
        """After the commit of bytes that carry no error events: the cut must stay visible."""
        assert self.passage is not None
        self.passage.broken = why
        yield from super().handle_protocol_error(
            ResponseProtocolError(self.stream_id, BROKEN[why], ErrorCode.GENERIC_SERVER_ERROR)
        )
        yield from self.forget()

    def state_first_bytes(self, event: events.Event) -> CommandGenerator[None]:
        """Bytes that no codec reads (audio, files): the first of them are the commit."""
        if isinstance(event, (ResponseData, ResponseEndOfMessage)):
            yield from self.commit()
            yield from self.server_state(event)

    def state_hold(self, event: events.Event) -> CommandGenerator[None]:
        """An event stream before its first content."""
        permit = self.permit
        assert permit is not None
        assert self.splitter is not None
        if isinstance(event, ResponseEndOfMessage):
            if not (yield from self.decoded_whole()):
                return
            if permit.reader.complete and self.held_events:
                yield from self.commit()    # an empty answer that ended as it should (a filter, `max_tokens: 0`)
                return (yield from self.server_state(event))
            return (yield from self.attempt_failed(Fault(FaultKind.CUT, "the stream ended before its first content")))
        if not isinstance(event, ResponseData):
            return
        data = yield from self.decoded(event.data)
        if data is None:
            return
        batch = self.splitter.feed(data)
        for position, raw in enumerate(batch):
            kind = permit.reader.event(raw)
            if kind is Kind.ERROR:
                fault = permit.reader.fault_of(raw)
                yield from self.cancel_upstream()
                return (yield from self.attempt_failed(fault))
            self.held_events.append(raw)
            if kind is Kind.CONTENT:
                yield from self.commit()
                return (yield from self.forward(batch[position + 1 :]))
        size = sum(map(len, self.held_events)) + self.splitter.pending
        if len(self.held_events) >= HOLD_EVENTS or size >= HOLD_BYTES:
            yield from self.commit()

    held_events: list[bytes]

    def commit(self) -> CommandGenerator[None]:
        """From here on this reply is the client's: head, then what was held."""
        head, permit, passage = self.held, self.permit, self.passage
        assert head is not None
        assert permit is not None
        assert passage is not None
        response = head.response
        self.frame(response, None)
        response.stream = True
        passage.committed = True
        if permit.deadlines.duration is not None:
            self.ends_at = time.monotonic() + permit.deadlines.duration
        self.touch(permit)
        yield from super().state_wait_for_response_headers(head)
        self.held = None
        if self.server_state == self.state_consume_response_body:
            # The hook failed and put an error in the reply's place: nothing of the provider's goes on.
            passage.committed = False
            yield from self.cancel_upstream()
            return (yield from self.answer())
        if self.splitter is not None and self.server_state == self.state_stream_response_body:
            batch, self.held_events = self.held_events, []
            if batch:
                yield SendHttp(ResponseData(self.stream_id, b"".join(batch)), self.context.client)

    ends_at = math.inf

    def touch(self, permit: Permit) -> None:
        """Something came: the idle deadline starts anew, within the stream's duration."""
        self.due = min(time.monotonic() + permit.deadlines.idle, self.ends_at)
        self.hub.soonest = min(self.hub.soonest, self.due)

    def frame(self, response: http.Response, size: int | None) -> None:
        """Frame the reply for this client: a length where it is known, else chunks for HTTP/1.1.

        Without it an HTTP/2 upstream's reply would end an HTTP/1.1 client's keep-alive, and a stream's end would look
        like a cut.
        """
        headers = response.headers
        for name in _HOP_BY_HOP:
            headers.pop(name, None)
        headers.pop("content-encoding", None) if self.decoder is not None else None
        headers.pop("content-length", None)
        response.data.http_version = self.flow.request.data.http_version
        if response.is_http2:
            response.data.reason = b""
        elif not response.data.reason:
            response.data.reason = b"OK"
        if size is not None:
            if response.status_code not in (204, 304):
                headers["content-length"] = str(size)
        elif self.flow.request.http_version == "HTTP/1.1":
            headers["transfer-encoding"] = "chunked"

    def state_stream_response_body(self, event: events.Event) -> CommandGenerator[None]:
        """After the commit: whole events only, and an end that is one."""
        permit = self.permit
        if permit is None:
            return (yield from super().state_stream_response_body(event))
        if isinstance(event, ResponseTrailers):
            return
        if isinstance(event, ResponseData):
            self.touch(permit)
            data = yield from self.decoded(event.data)
            if data is None:
                return
            if self.splitter is None:
                if data:
                    yield from super().state_stream_response_body(ResponseData(self.stream_id, data))
                return
            yield from self.forward(self.splitter.feed(data))
            if self.splitter.pending > LONGEST_EVENT:
                yield from self.break_off(Broken.TOO_LARGE)
        elif isinstance(event, ResponseEndOfMessage):
            if not (yield from self.decoded_whole()):
                return
            if self.splitter is not None:
                if rest := self.splitter.rest():
                    # The last event may lack its blank line; if it is no whole one, this is a cut.
                    yield from self.forward([rest if rest.endswith((b"\n", b"\r")) else rest + b"\n"], last=True)
                if self.server_state != self.state_stream_response_body:
                    return
                if not permit.reader.complete:
                    return (yield from self.break_off(Broken.ENDED_EARLY))
            yield from super().state_stream_response_body(event)

    def forward(self, batch: list[bytes], *, last: bool = False) -> CommandGenerator[None]:
        """Whole events to the client. An error event of the provider becomes ours: its text may hold secrets."""
        permit = self.permit
        assert permit is not None
        read = permit.reader.event
        good: list[bytes] = []
        for raw in batch:
            if read(raw) is Kind.ERROR:
                if good:
                    yield SendHttp(ResponseData(self.stream_id, b"".join(good)), self.context.client)
                return (yield from self.break_off(Broken.ENDED_EARLY if last else Broken.ERROR_EVENT))
            good.append(raw)
        if good:
            if last:
                good[-1] += b"\n"
            yield SendHttp(ResponseData(self.stream_id, b"".join(good)), self.context.client)

    def break_off(self, why: Broken) -> CommandGenerator[None]:
        """After the commit: an error event of our own, then a clean end of the body. Never made to look complete."""
        passage = self.passage
        assert passage is not None
        yield from self.cancel_upstream()
        passage.broken = why
        event = b"data: " + error_body("stream_broken", f"The stream was broken off: {BROKEN[why]}.") + b"\n\n"
        yield SendHttp(ResponseData(self.stream_id, event), self.context.client)
        yield from self.send_response(already_streamed=True)

    def flow_done(self) -> CommandGenerator[None]:
        """The reply has gone out."""
        yield from super().flow_done()
        yield from self.forget()


def build_request(wanted: UpstreamRequest, credential: tuple[tuple[str, str], ...], size: int) -> http.Request:
    """mitmproxy's request of one attempt: HTTP/1.1 in form, which an HTTP/2 upstream's layer rewrites."""
    origin = wanted.origin
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    if origin.port != {"http": 80, "https": 443}[origin.scheme]:
        host = f"{host}:{origin.port}"
    fields = [(b"host", host.encode())]
    fields += [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in wanted.headers]
    fields += [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in credential]
    if size or wanted.method in ("POST", "PUT", "PATCH"):
        fields.append((b"content-length", b"%d" % size))
    return http.Request(
        host=origin.host,
        port=origin.port,
        method=wanted.method.encode(),
        scheme=origin.scheme.encode(),
        authority=b"",
        path=wanted.target.encode(),
        http_version=b"HTTP/1.1",
        headers=http.Headers(fields),
        content=b"",
        trailers=None,
        timestamp_start=time.time(),
        timestamp_end=None,
    )


def _broken(event: ResponseProtocolError) -> Fault:
    """What a protocol error of the upstream's layer means. Its text may quote the upstream's bytes: not shown."""
    text = event.message
    if "unexpected server response" in text or "annot parse" in text or "protocol error" in text:
        return Fault(FaultKind.GARBAGE, "the provider did not answer in HTTP")
    return Fault(FaultKind.RESET, "the connection broke before the reply was whole")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:160]
