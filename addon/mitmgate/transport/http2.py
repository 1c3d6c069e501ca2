"""The client's side of an HTTP/2 connection: a budget for resets (CVE-2023-44487, "rapid reset"), refusals on record.

mitmproxy parses and handles all that was read at once: 64 KiB of resets would keep everybody else waiting for a second.
"""

import time
from typing import Final

import h2.errors
import h2.events
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import Http2Server, ReceiveHttp, RequestHeaders
from mitmproxy.proxy.layers.http._http2 import StreamState
from mitmproxy.proxy.layers.http._http_h2 import BufferedH2Connection

from mitmgate.transport.http1 import mark_malformed, nameless_request
from mitmgate.transport.turns import TurnHook, working

RESETS: Final = 100                         # that a connection may make at once
RESETS_PER_SECOND: Final = 20.0             # that it earns back
SLICE: Final = 1 << 10                      # bytes that are parsed at once: at most 38 requests and their resets, 5 ms
_EFFORT: Final = 16                         # h2's events in one turn of the loop; a slice counts as two, a request as four


class Http2State(BufferedH2Connection):
    """mitmproxy's HTTP/2 state; a request that its reset overtook is not told of."""

    def receive_data(self, data: bytes) -> list[h2.events.Event]:
        """The events of these bytes."""
        found: list[h2.events.Event] = super().receive_data(data)
        reset = {event.stream_id for event in found if isinstance(event, h2.events.StreamReset)}
        if not reset:
            return found
        return [event for event in found if not isinstance(event, h2.events.RequestReceived) or event.stream_id not in reset]


class GatewayHttp2Server(Http2Server):
    """Ends a connection that opens streams only to reset them: GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, 10.5).

    A request whose head mitmproxy cannot read is handed on, to be refused and recorded, and the connection serves on.
    """

    resets_left = float(RESETS)
    counted_at = 0.0
    reading: h2.events.RequestReceived | None = None        # the request whose head is being read
    effort = 0                              # made in this turn of the loop

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.h2_conn = Http2State(self.h2_conf)

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        """As mitmproxy's; what was read is worked off slice by slice, and the others have their turns between."""
        if not isinstance(event, events.DataReceived):
            yield from super()._handle_event(event)
            return
        working(self.conn, still=True)
        try:
            for start in range(0, len(event.data), SLICE):
                yield from self.take_turns(2)
                yield from super()._handle_event(events.DataReceived(event.connection, event.data[start : start + SLICE]))
                if self._handle_event == self.done:
                    return                  # closed, for whatever reason: the rest is nobody's
        finally:
            working(self.conn, still=False)

    def take_turns(self, effort: int) -> layer.CommandGenerator[None]:
        """Count what is to be done now; let the others go first when it has become much."""
        self.effort += effort
        if self.effort > _EFFORT:
            self.effort = 0
            yield TurnHook(self.conn)

    def handle_h2_event(self, event: h2.events.Event) -> layer.CommandGenerator[bool]:
        """As mitmproxy's; each reset is paid for, and a request that cannot be read costs its stream only."""
        yield from self.take_turns(4 if isinstance(event, h2.events.RequestReceived) else 1)
        if isinstance(event, h2.events.StreamReset):
            now = time.monotonic()
            self.resets_left = min(RESETS, self.resets_left + (now - self.counted_at) * RESETS_PER_SECOND) - 1
            self.counted_at = now
            if self.resets_left < 0:
                self.h2_conn.close_connection(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
                yield commands.SendData(self.conn, self.h2_conn.data_to_send())
                yield from self.close_connection("too many stream resets")
                return True
        if isinstance(event, h2.events.RequestReceived):
            self.reading = event
            ended: bool = yield from super().handle_h2_event(event)
            unread, self.reading = self.reading is None, None
            return ended and not unread
        return (yield from super().handle_h2_event(event))

    def protocol_error(
        self, message: str, error_code: int = h2.errors.ErrorCodes.PROTOCOL_ERROR
    ) -> layer.CommandGenerator[None]:
        """As mitmproxy's, but where one request's head makes no sense (RFC 9113, 8.1.1): its stream refuses it."""
        if self.reading is None:
            yield from super().protocol_error(message, error_code)
            return
        stream_id, ended, self.reading = self.reading.stream_id, bool(self.reading.stream_ended), None
        assert stream_id is not None
        request = nameless_request(b"HTTP/2.0")
        mark_malformed(request)
        self.streams[stream_id] = StreamState.HEADERS_RECEIVED
        yield ReceiveHttp(RequestHeaders(stream_id, request, ended))
