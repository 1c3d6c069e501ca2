"""The provider's reply: held, collected, committed, and then passed on in whole events.

Nothing is sent to the client before the first content of a reply (the commit); until then any fault is a failed attempt.
After it there is no switching: an event stream that breaks ends in an error event, anything else in a visible cut.
"""

import base64
import hashlib
import math
import time
from dataclasses import replace
from typing import Final

from mitmproxy import http
from mitmproxy.net.http.validate import validate_headers
from mitmproxy.proxy import events
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.http import (
    ErrorCode,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
    ResponseTrailers,
    SendHttp,
)
from mitmproxy.proxy.utils import ReceiveBuffer

from mitmgate.dialects.reading import Kind, Splitter
from mitmgate.encoding import Decoder, DecodingError, TooLarge, decoder
from mitmgate.errors import Fault, FaultKind
from mitmgate.transport.collected import NOT_ENCODED, TOO_LARGE_DECODED, Collected, LargeReplyHook
from mitmgate.transport.passage import BROKEN, Broken, Permit
from mitmgate.transport.stream import GatewayStream

HOLD_EVENTS: Final = 64                     # events without content that are held back at most
HOLD_BYTES: Final = 256 << 10
LONGEST_EVENT: Final = 16 << 20             # bytes of one event (images travel in events)
LONGEST_FAULT: Final = 64 << 10             # bytes kept of a failing reply's body
LARGE: Final = 1 << 20                      # bytes of a collected reply that are not read on the loop,
LARGE_ENCODED: Final = 16 << 10             # and of an encoded one, which may expand a hundred times, beyond the first

_REFRAMED: Final = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"te", b"trailer",
        b"content-length",
    }
)
_DECODED: Final = _REFRAMED | {b"content-encoding"}
_GARBAGE: Final = Fault(FaultKind.GARBAGE, "the provider sent an event that cannot be read")


class ReplyStream(GatewayStream):
    """Reads the reply of the present attempt."""

    held: ResponseHeaders | None = None     # the reply's head, until the commit
    held_events: list[bytes]                # of an event stream, until the commit
    held_count = 0                          # of these, those that are more than a comment
    splitter: Splitter | None = None        # of an event stream
    decoder: Decoder | None = None          # of an encoded reply
    collected = 0                           # bytes of the reply collected so far, as they came
    encoded: list[bytes]                    # of these, those that are yet to be decoded
    ends_at = math.inf                      # monotonic; `timeout.duration` of a stream

    def clear_reply(self) -> None:
        """Forget what was read of a failed attempt."""
        self.held = self.splitter = self.decoder = None
        self.collected, self.encoded = 0, []
        self.response_body_buf.clear()
        self.flow.response = None

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

    def on_deadline(self) -> CommandGenerator[None]:
        """A deadline passed while nothing of ours was waiting."""
        permit, passage = self.permit, self.passage
        if permit is None or passage is None or not self.attempt_id or self.due < math.inf:
            return                          # moved on since
        yield from self.cancel_upstream()
        if self.uncommitted():
            yield from self.attempt_failed(self.timeout_fault())
        elif self.splitter is None:
            yield from self.cut_off(Broken.SILENT)
        elif permit.reader.complete:        # only the connection was not ended
            yield from self.finish()
            yield from self.forget()
            yield from self.send_response(already_streamed=True)
        else:
            yield from self.break_off(Broken.SILENT)

    def timeout_fault(self) -> Fault:
        """Which deadline it was."""
        permit = self.permit
        assert permit is not None
        if time.monotonic() >= permit.total_at:
            return Fault(FaultKind.TOTAL_TIMEOUT, "the total deadline passed")
        if self.server_state == self.state_fault:
            return self.status_fault()      # the status is known; only its body did not come
        if self.server_state == self.state_collect and self.collected:
            return Fault(FaultKind.IDLE_TIMEOUT, "the provider fell silent")
        return Fault(FaultKind.FIRST_TOKEN_TIMEOUT, "the provider did not begin to answer in time")

    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> CommandGenerator[None]:
        """A broken connection: before the commit a failed attempt, in an event stream an error event."""
        if self.permit is not None and isinstance(event, ResponseProtocolError) and self.client_state != self.state_errored:
            if self.uncommitted():
                fault = self.status_fault() if self.server_state == self.state_fault else _broken(event)
                if event.code is not ErrorCode.CONNECT_FAILED:
                    yield from self.cancel_upstream()
                yield from self.attempt_failed(fault)
                return
            if self.server_state == self.state_stream_response_body and self.splitter is not None:
                if self.permit.reader.complete:
                    yield from self.finish()
                    yield from self.forget()
                    yield from self.send_response(already_streamed=True)
                    return
                yield from self.break_off(Broken.CONNECTION)
                return
        if self.passage is not None and isinstance(event, ResponseProtocolError):
            self.passage.broken = self.passage.broken or Broken.CONNECTION
        yield from super().handle_protocol_error(event)
        yield from self.forget()
        self.request_body_buf.clear()       # the stream is in a cycle that the collector comes to much later
        self.response_body_buf.clear()
        self.encoded = []

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> CommandGenerator[None]:
        """Choose by the head: a fault, an event stream to hold, a body to collect, or bytes to pass."""
        permit = self.permit
        if self.attempted is not None:
            self.attempted.first_byte = time.monotonic()
        switched = event.response.status_code == 101 and permit is not None and _accepts(permit, event.response)
        if permit is None or switched:
            self.due = math.inf
            yield from super().state_wait_for_response_headers(event)
            return
        response = event.response
        try:
            validate_headers(response)
            self.decoder = decoder(response.headers.get("content-encoding", ""), limit=permit.response_limit)
        except (ValueError, DecodingError):
            yield from self.cancel_upstream()
            yield from self.attempt_failed(Fault(FaultKind.GARBAGE, "the provider's reply is malformed"))
            return
        self.flow.response = response
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not 200 <= response.status_code <= 599:
            yield from self.cancel_upstream()
            yield from self.attempt_failed(Fault(FaultKind.GARBAGE, "the provider's status is none that a call can end in"))
            return
        if response.status_code >= 300:
            self.held = event
            self.server_state = self.state_fault
        elif kind == permit.reader.stream_media and not event.end_stream:
            self.held, self.held_events, self.held_count, self.splitter = event, [], 0, permit.reader.splitter()
            self.server_state = self.state_hold
        elif event.end_stream or kind == "application/json" or kind.endswith("+json") or not kind:
            self.held, self.encoded = event, []
            self.server_state = self.state_collect
        elif permit.json_only:
            yield from self.cancel_upstream()
            yield from self.attempt_failed(Fault(FaultKind.GARBAGE, "the provider's reply is not JSON"))
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
            self.collected += len(event.data)
            if self.collected > permit.response_limit:
                yield from self.cancel_upstream()
                yield from self.attempt_failed(Fault(FaultKind.TOO_LARGE, "the provider's reply is too large"))
                return
            self.set_deadline(permit.deadlines.idle)
            if self.decoder is not None and self.collected > LARGE_ENCODED:
                self.encoded.append(event.data)
                return
            data = yield from self.decoded(event.data)
            if data is not None:
                self.response_body_buf += data
        elif isinstance(event, ResponseEndOfMessage):
            self.note_end()
            self.due = math.inf
            response = self.flow.response
            assert response is not None
            json = permit.json_only or response.headers.get("content-type", "").lower().startswith("application/json")
            empty = not self.collected and self.flow.request.method == "HEAD"
            large = bool(self.encoded) or len(self.response_body_buf) > LARGE
            whole = Collected(
                self.response_body_buf._chunks, self.encoded, self.decoder, permit.reader if json and not empty else None
            )
            self.response_body_buf, self.encoded = ReceiveBuffer(), []
            if large:
                yield LargeReplyHook(whole.read)
                if (yield from self.check_killed(True)):
                    return
            else:
                whole.read()
            if whole.fault is not None:
                yield from (self.spoiled(whole.fault) if whole.spoiled else self.attempt_failed(whole.fault))
                return
            assert whole.body is not None
            response.data.content = whole.body
            if permit.reader.translates:
                response.headers["content-type"] = "application/json"
            self.frame(response, len(whole.body))
            yield from self.send_response()
            if self.hub.start_hook is not None:             # else mitmproxy's interfaces keep it
                response.data.content = None

    def forget(self) -> CommandGenerator[None]:
        """The present attempt is over; what it sent may be large, and the stream is freed late."""
        yield from super().forget()
        if self.permit is not None and self.permit.request.body is not None:
            self.permit = replace(self.permit, request=replace(self.permit.request, body=None))

    def note_end(self) -> None:
        """The provider has said all: what follows is the gateway's own time."""
        if self.attempted is not None:
            self.attempted.ended = time.monotonic()

    def decoded(self, data: bytes) -> CommandGenerator[bytes | None]:
        """The bytes without their content encoding; None when that failed the attempt."""
        if self.decoder is None:
            return data
        try:
            return self.decoder.feed(data)
        except TooLarge:
            fault = Fault(FaultKind.TOO_LARGE, TOO_LARGE_DECODED)
        except DecodingError:
            fault = Fault(FaultKind.GARBAGE, NOT_ENCODED)
        yield from self.spoiled(fault)
        return None

    def decoded_whole(self) -> CommandGenerator[bool]:
        """At the end of the body: whether its encoding ended too."""
        if self.decoder is not None:
            try:
                self.decoder.finish()
            except (DecodingError, TooLarge):
                yield from self.spoiled(Fault(FaultKind.GARBAGE, NOT_ENCODED))
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
                yield from self.server_state(event)
                return
            yield from self.attempt_failed(Fault(FaultKind.CUT, "the stream ended before its first content"))
            return
        if not isinstance(event, ResponseData):
            return
        data = yield from self.decoded(event.data)
        if data is None:
            return
        batch = self.splitter.feed(data)
        for position, raw in enumerate(batch):
            kind = permit.reader.event(raw)
            if kind is Kind.ERROR or kind is Kind.GARBAGE:
                fault = permit.reader.fault_of(raw) if kind is Kind.ERROR else _GARBAGE
                yield from self.cancel_upstream()
                yield from self.attempt_failed(fault)
                return
            self.held_events.append(permit.reader.written(raw))
            self.held_count += not raw.startswith(b":")     # a comment says nothing about the answer
            if kind is Kind.CONTENT:
                yield from self.commit()
                yield from self.forward(batch[position + 1 :])
                return
        size = sum(map(len, self.held_events)) + self.splitter.pending
        if self.held_count >= HOLD_EVENTS or size >= HOLD_BYTES:
            yield from self.commit()

    def commit(self) -> CommandGenerator[None]:
        """From here on this reply is the client's: head, then what was held."""
        head, permit, passage = self.held, self.permit, self.passage
        assert head is not None
        assert permit is not None
        assert passage is not None
        response = head.response
        if self.splitter is not None and permit.reader.media is not None:
            response.headers["content-type"] = permit.reader.media
        self.frame(response, None)
        response.stream = True
        passage.committed = True
        if self.attempted is not None:
            self.attempted.first_content = time.monotonic()
        if permit.deadlines.duration is not None:
            self.ends_at = time.monotonic() + permit.deadlines.duration
        self.touch(permit)
        yield from super().state_wait_for_response_headers(head)
        self.held = None
        if self.server_state == self.state_consume_response_body:
            # The hook failed and put an error in the reply's place: nothing of the provider's goes on.
            passage.committed = False
            yield from self.cancel_upstream()
            yield from self.answer()
            return
        if self.splitter is not None and self.server_state == self.state_stream_response_body:
            held, self.held_events = b"".join(self.held_events), []
            if held:                        # an empty piece would end a chunked body
                yield SendHttp(ResponseData(self.stream_id, held), self.context.client)

    def touch(self, permit: Permit) -> None:
        """Something came: the idle deadline starts anew, within the stream's duration."""
        self.due = min(time.monotonic() + permit.deadlines.idle, self.ends_at)
        self.hub.soonest = min(self.hub.soonest, self.due)

    def frame(self, response: http.Response, size: int | None) -> None:
        """Frame the reply for this client: a length where it is known, else chunks for HTTP/1.1.

        Without it an HTTP/2 upstream's reply would end an HTTP/1.1 client's keep-alive, and a stream's end would look
        like a cut.
        """
        drop = _REFRAMED if self.decoder is None else _DECODED
        fields = [field for field in response.headers.fields if field[0].lower() not in drop]
        response.data.http_version = self.flow.request.data.http_version
        if response.is_http2:
            response.data.reason = b""
        elif not response.data.reason:
            response.data.reason = b"OK"
        if size is not None:
            if response.status_code not in (204, 304):
                fields.append((b"content-length", b"%d" % size))
        elif self.flow.request.http_version == "HTTP/1.1":
            fields.append((b"transfer-encoding", b"chunked"))
        response.headers.fields = tuple(fields)

    def state_stream_response_body(self, event: events.Event) -> CommandGenerator[None]:
        """After the commit: whole events only, and an end that is one."""
        permit = self.permit
        if permit is None:
            yield from super().state_stream_response_body(event)
            return
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
            self.note_end()
            if not (yield from self.decoded_whole()):
                return
            if self.splitter is not None:
                if rest := self.splitter.rest():
                    # The last event may lack its blank line; if it is no whole one, this is a cut.
                    yield from self.forward([rest if rest.endswith((b"\n", b"\r")) else rest + b"\n"], last=True)
                if self.server_state != self.state_stream_response_body:
                    return
                if not permit.reader.complete:
                    yield from self.break_off(Broken.ENDED_EARLY)
                    return
                yield from self.finish()
            yield from super().state_stream_response_body(event)

    def forward(self, batch: list[bytes], *, last: bool = False) -> CommandGenerator[None]:
        """Whole events to the client. An error event of the provider becomes ours: its text may hold secrets."""
        permit = self.permit
        assert permit is not None
        read = permit.reader.event
        good: list[bytes] = []
        for raw in batch:
            kind = read(raw)
            if kind is Kind.ERROR or kind is Kind.GARBAGE:
                if good:
                    yield SendHttp(ResponseData(self.stream_id, b"".join(good)), self.context.client)
                yield from self.break_off(
                    Broken.ENDED_EARLY if last else Broken.ERROR_EVENT if kind is Kind.ERROR else Broken.GARBAGE
                )
                return
            if written := permit.reader.written(raw):
                good.append(written)
        if good:
            if last and not permit.reader.translates:
                good[-1] += b"\n"
            yield SendHttp(ResponseData(self.stream_id, b"".join(good)), self.context.client)

    def finish(self) -> CommandGenerator[None]:
        """What the client's dialect ends a complete stream with, where the provider's end was another."""
        assert self.permit is not None
        if ending := self.permit.reader.ending():
            yield SendHttp(ResponseData(self.stream_id, ending), self.context.client)

    def break_off(self, why: Broken) -> CommandGenerator[None]:
        """After the commit: an error event of our own, then a clean end of the body. Never made to look complete."""
        passage, permit = self.passage, self.permit
        assert passage is not None
        assert permit is not None
        yield from self.cancel_upstream()
        passage.broken = why
        event = permit.reader.broken("stream_broken", f"The stream was broken off: {BROKEN[why]}.")
        yield SendHttp(ResponseData(self.stream_id, event), self.context.client)
        yield from self.send_response(already_streamed=True)


def _accepts(permit: Permit, response: http.Response) -> bool:
    """Whether this 101 answers the handshake that was sent (RFC 6455, 4.2.2)."""
    key = next((value for name, value in permit.request.headers if name == "sec-websocket-key"), None)
    if not permit.tag.http1_only or key is None or response.headers.get("upgrade", "").lower() != "websocket":
        return False
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
    accepted: str = response.headers.get("sec-websocket-accept", "")
    return accepted.strip() == base64.b64encode(digest).decode()


def _broken(event: ResponseProtocolError) -> Fault:
    """What a protocol error of the upstream's layer means. Its text may quote the upstream's bytes: not shown."""
    text = event.message
    if "peer closed connection" in text:
        return Fault(FaultKind.RESET, "the connection broke before the reply was whole")
    if "unexpected server response" in text or "annot parse" in text or "protocol error" in text:
        return Fault(FaultKind.GARBAGE, "the provider did not answer in HTTP")
    return Fault(FaultKind.RESET, "the connection broke before the reply was whole")
