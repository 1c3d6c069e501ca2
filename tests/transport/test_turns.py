"""One HTTP/2 client's bytes are worked off in pieces, between which the others have their turns."""

from types import SimpleNamespace
from typing import Any

import h2.config
import h2.connection
import pytest
from mitmproxy.proxy import commands, context, events
from mitmproxy.proxy.layers.http import ReceiveHttp, RequestData, RequestHeaders
from mitmproxy.test import tflow

from mitmgate.transport.http2 import RESETS, GatewayHttp2Server
from mitmgate.transport.turns import TurnHook

CANCEL = 8
HEAD = [(":method", "GET"), (":scheme", "https"), (":authority", "llm.test"), (":path", "/v1/models")]


@pytest.fixture
def server() -> GatewayHttp2Server:
    options: Any = SimpleNamespace(validate_inbound_headers=True, proxy_debug=False)
    made = GatewayHttp2Server(context.Context(tflow.tclient_conn(), options))
    list(made.handle_event(events.Start()))
    return made


@pytest.fixture
def client() -> h2.connection.H2Connection:
    made = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    made.initiate_connection()
    return made


def turns(server: GatewayHttp2Server, data: bytes) -> list[list[commands.Command]]:
    """What the layer does in each of its turns, when all this was read at once."""
    found = [list(server.handle_event(events.DataReceived(server.conn, data)))]
    while isinstance(last := found[-1][-1] if found[-1] else None, TurnHook):
        found.append(list(server.handle_event(events.HookCompleted(last))))
    return found


def requests(turn: list[commands.Command]) -> int:
    return sum(isinstance(each, ReceiveHttp) and isinstance(each.event, RequestHeaders) for each in turn)


def test_many_requests_at_once(server: GatewayHttp2Server, client: h2.connection.H2Connection) -> None:
    for number in range(90):
        client.send_headers(2 * number + 1, HEAD, end_stream=True)
    found = turns(server, client.data_to_send())
    assert sum(map(requests, found)) == 90
    assert max(map(requests, found)) <= 4


def test_one_request_is_one_turn(server: GatewayHttp2Server, client: h2.connection.H2Connection) -> None:
    client.send_headers(1, HEAD, end_stream=True)
    assert [requests(turn) for turn in turns(server, client.data_to_send())] == [1]


def test_resets_end_it_before_the_rest_is_read(server: GatewayHttp2Server, client: h2.connection.H2Connection) -> None:
    for number in range(2000):
        client.send_headers(2 * number + 1, HEAD)
        client.reset_stream(2 * number + 1, CANCEL)
    found = turns(server, client.data_to_send())
    assert any(isinstance(each, commands.CloseConnection) for each in found[-1])
    assert sum(map(requests, found)) < 20, "what its reset overtook was handed on"
    assert server.h2_conn.highest_inbound_stream_id < 2 * (RESETS + 100)


def test_a_body_comes_through_as_it_was(server: GatewayHttp2Server, client: h2.connection.H2Connection) -> None:
    client.send_headers(1, HEAD)
    body = bytes(range(256)) * 200
    for start in range(0, len(body), 16_000):
        client.send_data(1, body[start : start + 16_000])
    found = turns(server, client.data_to_send())
    told = [each.event for turn in found for each in turn if isinstance(each, ReceiveHttp)]
    pieces = [event.data for event in told if isinstance(event, RequestData)]
    assert b"".join(pieces) == body
