"""The client's side of an HTTP/2 connection, with a budget for resets (CVE-2023-44487, "rapid reset")."""

import time
from typing import Final

import h2.errors
import h2.events
from mitmproxy.proxy import commands, layer
from mitmproxy.proxy.layers.http import Http2Server

RESETS: Final = 200                         # that a connection may make at once
RESETS_PER_SECOND: Final = 20.0             # that it earns back


class GatewayHttp2Server(Http2Server):
    """Ends a connection that opens streams only to reset them: GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, 10.5)."""

    resets_left = float(RESETS)
    counted_at = 0.0

    def handle_h2_event(self, event: h2.events.Event) -> layer.CommandGenerator[bool]:
        """As mitmproxy's; each reset is paid for."""
        if isinstance(event, h2.events.StreamReset):
            now = time.monotonic()
            self.resets_left = min(RESETS, self.resets_left + (now - self.counted_at) * RESETS_PER_SECOND) - 1
            self.counted_at = now
            if self.resets_left < 0:
                self.h2_conn.close_connection(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
                yield commands.SendData(self.conn, self.h2_conn.data_to_send())
                yield from self.close_connection("too many stream resets")
                return True
        return (yield from super().handle_h2_event(event))
