"""The attempts of one request, inside mitmproxy's own HTTP layer.

mitmproxy gives a request one upstream attempt; `AttemptStream` gives it as many as the addon arms permits for:

    body whole -> request hook -> permit -> connect -> send -> reply held or collected -> commit -> the client
                       ^                       |                     |
                       +---- attempt_failed ---+---------------------+

What has no exchange passes as mitmproxy would pass it, but also only on the addon's explicit word.
"""

import itertools
import math
import re
import time
from dataclasses import dataclass
from typing import Final, Literal

from mitmproxy.connection import Connection, Server
from mitmproxy.net.server_spec import ServerSpec
from mitmproxy.proxy import events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import (
    DropStream,
    ErrorCode,
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HTTPMode,
    HttpRequestHook,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseEndOfMessage,
    ResponseProtocolError,
    SendHttp,
)

from mitmgate.bodies import SPOOL_ABOVE, MemoryBody, Patch, SpooledBody, patched_size
from mitmgate.errors import Fault, FaultKind
from mitmgate.exchange import Origin
from mitmgate.transport.passage import PASS, Passage, Tag, tag_of
from mitmgate.transport.plain_errors import error_response
from mitmgate.transport.replies import ReplyStream
from mitmgate.transport.stream import AttemptFailedHook, DeadlinePassed, UploadHook
from mitmgate.transport.tunnels import tunnel_of
from mitmgate.transport.wire import build_request

UPLOAD_CHUNK: Final = 256 << 10             # bytes of a spooled body that are handed over at once

_attempt_ids = itertools.count(1 << 40)     # above every stream id that a client can choose
_NOBODY: Final = Tag(Origin("http", "", 0), None)


@dataclass
class AttemptConnection(GetHttpConnection):
    """A connection of one owner. Not shared by address, as mitmproxy would."""

    tag: Tag = _NOBODY

    __hash__ = GetHttpConnection.__hash__

    def connection_spec_matches(self, connection: Connection) -> bool:
        """Whether `connection` was made for the same owner, over the same proxy."""
        return tag_of(connection) == self.tag and getattr(connection, "via", None) == self.via


class AttemptStream(ReplyStream):
    """One request of a client, and its attempts."""

    spooled: SpooledBody | None = None      # the request's body, once it is large
    body_due = math.inf                     # monotonic; by when the request's body must be whole
    gave_up = False                         # the present connect was ended by us

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

    def state_wait_for_request_headers(self, event: RequestHeaders) -> CommandGenerator[None]:
        """Note the form of the request line before mitmproxy clears it; a refusal is answered without reading the body."""
        self.origin_form = self.mode is HTTPMode.regular and not event.request.data.host
        yield from super().state_wait_for_request_headers(event)
        if self.client_state == self.state_consume_request_body and not event.end_stream:
            if self.flow.response:
                yield from self.answer()
            elif self.passage is not None and self.passage.exchange is not None:
                self.body_due = time.monotonic() + self.passage.body_total
                self.await_body()

    def state_consume_request_body(self, event: events.Event) -> CommandGenerator[None]:
        """Collect a governed body within its bounds, on disk if it is large; then ask the addon."""
        passage = self.passage
        if passage is None or passage.exchange is None:
            yield from super().state_consume_request_body(event)
            return
        if isinstance(event, RequestData):
            self.await_body()
            yield from self.take_in(passage, event.data)
        elif isinstance(event, RequestEndOfMessage):
            self.due = math.inf
            self.client_state = self.state_done
            self.flow.request.timestamp_end = time.time()
            if self.spooled is not None:
                passage.body = self.spooled
            else:
                body = passage.body = MemoryBody(*self.request_body_buf._chunks)
                self.request_body_buf.clear()
                if self.hub.start_hook is None:
                    self.flow.request.data.content = body.raw()     # for mitmproxy's interfaces, which keep it
            if self.flow.response is None:
                yield HttpRequestHook(self.flow)
                if (yield from self.check_killed(True)):
                    return
            if self.flow.response is not None:
                yield from self.answer()
            else:
                yield from self.attempt()

    def await_body(self) -> None:
        """The next piece of the body must come in time: a body that never ends would hold its place for ever."""
        assert self.passage is not None
        self.due = min(time.monotonic() + self.passage.body_idle, self.body_due)
        self.hub.soonest = min(self.hub.soonest, self.due)

    def on_deadline(self) -> CommandGenerator[None]:
        """While the body is awaited the deadline is the client's."""
        passage = self.passage
        if self.permit is not None or passage is None or self.client_state != self.state_consume_request_body:
            yield from super().on_deadline()
        elif self.due == math.inf and not passage.refused:
            passage.refused = "deadline_exceeded"
            yield HttpRequestHook(self.flow)
            yield from self.answer()

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
            yield from super().handle_connect_regular()  # type: ignore[no-untyped-call]
            return
        scheme: Literal["http", "https"] = "https" if tunnel.proxy.scheme == "https" else "http"
        self.context.server.via = (scheme, (tunnel.proxy.host, tunnel.proxy.port))
        yield from self.handle_connect_upstream()  # type: ignore[no-untyped-call]

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
        if self.attempted is not None:
            self.attempted.asked = time.monotonic()
        connection, error = yield self.connect_command(permit.tag, permit.proxy)
        if error:
            if (yield from self.check_killed(True)):
                return False
            yield from self.attempt_failed(self.connect_fault(error))
            return False
        self.context.server = self.flow.server_conn = connection
        self.note_connection(connection)
        if (yield from self.check_killed(True)):            # left while we connected: send nothing
            return False
        secured = permit.tag.origin.scheme != "https" or connection.tls_established
        if tag_of(connection) != permit.tag or not secured:
            yield from self.answer()                        # cannot happen; if it does, no credential leaves
            return False
        self.set_deadline(permit.deadlines.first_token)
        return True

    def note_connection(self, server: Server) -> None:
        """When it was made, if it was made for this attempt. mitmproxy's own times are the wall clock's."""
        attempted, now = self.attempted, time.monotonic()
        if attempted is None or attempted.asked is None or server.timestamp_tcp_setup is None:
            return
        made, secured = time.time() - server.timestamp_tcp_setup, server.timestamp_tls_setup
        if made > now - attempted.asked:
            return                          # a connection of an earlier attempt
        attempted.connected = now - max(0.0, made)
        if secured is not None:
            attempted.secured = now - max(0.0, time.time() - secured)

    def pass_through(self, passage: Passage) -> CommandGenerator[bool]:
        """An ungoverned request's one connection."""
        request = self.flow.request
        origin = Origin(request.scheme, request.host, request.port)
        websocket = request.headers.get("upgrade", "").lower() == "websocket"
        connection, error = yield self.connect_command(Tag(origin, None, websocket), passage.proxy)
        if error and "denied:" in error:
            self.flow.response = error_response("tunnel_denied", "The rules do not let anybody reach that address.")
            yield from self.answer()
            return False
        if error:
            yield from self.handle_protocol_error(
                ResponseProtocolError(self.stream_id, error, ErrorCode.CONNECT_FAILED)
            )
            return False
        self.context.server = self.flow.server_conn = connection
        return True

    def connect_command(self, tag: Tag, proxy: Origin | None) -> AttemptConnection:
        """Ask the layer for a connection of this owner."""
        via: ServerSpec | None = None
        if proxy is not None:
            via = ("https" if proxy.scheme == "https" else "http", (proxy.host, proxy.port))
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
        if "upstream proxy" in lower:
            refused = re.search(r"request: (\d{3})\b", error)
            return Fault(FaultKind.CONNECT, f"the corporate proxy refused: status {refused[1] if refused else 'unknown'}")
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
        self.clear_reply()
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


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:160]
