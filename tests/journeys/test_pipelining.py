"""Requests that a client sends before it has read the replies: each is answered, in order, over one connection."""

import json

import httpx
import pytest

from rig import behaviours as does
from rig.starts import StartGateway, StartUpstream
from rig.wire import Wires


@pytest.mark.parametrize("count", [2, 3])
async def test_valid_calls_in_one_segment(gateway: StartGateway, upstream: StartUpstream, wires: Wires, count: int) -> None:
    server = upstream(does.ok("hello"))
    provider = {"dialect": "openai", "base_url": f"http://127.0.0.1:{server.port}/v1"}
    gate = gateway({"providers": {"up": provider}, "routes": [{"name": "all", "targets": [{"provider": "up"}]}]})
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {gate.authority}\r\ncontent-type: application/json\r\n"
    client = await wires.direct(gate)
    client.writer.write((head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body) * count)
    for _ in range(count):
        answer = await client.reply(5)
        assert answer.status == 200
        assert b"hello" in answer.body
    assert len(gate.records(count)) == count
    assert len(server.requests) == count


def test_an_upgrade_that_is_no_handshake_opens_nothing(gateway: StartGateway, upstream: StartUpstream) -> None:
    """A POST with `Upgrade: websocket`, and an upstream that plays along: no raw pipe."""
    server = upstream(does.ok("hello"))
    provider = {"dialect": "openai", "base_url": f"http://127.0.0.1:{server.port}/v1"}
    gate = gateway({"providers": {"up": provider}, "routes": [{"name": "all", "targets": [{"provider": "up"}]}]})
    with httpx.Client(trust_env=False, timeout=5) as client:
        reply = client.post(
            f"{gate.base_url}/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": "hi"}]},
            headers={"upgrade": "websocket", "connection": "upgrade"},
        )
    assert reply.status_code == 200
    assert all(name != b"upgrade" for name, _ in server.requests[0].headers)
