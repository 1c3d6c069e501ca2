"""A request's body that comes slowly: how long it is waited for is the rules' to say, piece by piece and in all."""

import asyncio
import json
from collections.abc import Mapping

import pytest

from rig import behaviours as does
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Http1, Wires

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()


@pytest.fixture
def server(upstream: StartUpstream) -> Upstream:
    return upstream(does.ok())


def begin(client: Http1, gate: Gateway, kind: str = "application/json") -> None:
    """The head, which announces all of the body, and the body's first byte."""
    path = "/chat/completions" if kind == "application/json" else "/audio/transcriptions"
    head = f"POST /v1{path} HTTP/1.1\r\nHost: {gate.authority}\r\ncontent-type: {kind}\r\n"
    client.writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(BODY) + BODY[:1])


def rules(server: Upstream, limits: Mapping[str, str]) -> dict[str, object]:
    provider = {"dialect": "openai", "base_url": f"http://127.0.0.1:{server.port}/v1"}
    routes = [{"name": "all", "targets": [{"provider": "up"}]}]
    return {"providers": {"up": provider}, "routes": routes, "limits": limits}


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
async def test_a_body_that_never_ends_gives_its_place_back(
    gateway: StartGateway, server: Upstream, wires: Wires, kind: str
) -> None:
    """No piece for `body_idle`: refused, recorded, and nothing went upstream."""
    gate = gateway(rules(server, {"body_idle": "300ms"}))
    client = await wires.direct(gate)
    begin(client, gate, kind)
    answer = await client.reply(10)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (504, "deadline_exceeded")
    assert [record["status"] for record in gate.records(1)] == [504]
    assert server.untouched


async def test_a_body_that_drips_for_ever(gateway: StartGateway, server: Upstream, wires: Wires) -> None:
    """Each piece comes in time, the whole does not within `body_total`."""
    gate = gateway(rules(server, {"body_total": "1s"}))
    client = await wires.direct(gate)
    begin(client, gate)
    answered = asyncio.ensure_future(client.reply(20))
    for position in range(1, len(BODY) - 1):
        client.writer.write(BODY[position : position + 1])
        if (await asyncio.wait([answered], timeout=0.1))[0]:
            break
    answer = await answered
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (504, "deadline_exceeded")
    assert server.untouched


async def test_a_slow_body_within_its_bounds_arrives(gateway: StartGateway, server: Upstream, wires: Wires) -> None:
    """Longer in all than `body_idle`, which begins anew with each piece."""
    gate = gateway(rules(server, {"body_idle": "2s", "body_total": "1m"}))
    client = await wires.direct(gate)
    begin(client, gate)
    answered = asyncio.ensure_future(client.reply(20))
    for position in range(1, 10):
        assert not (await asyncio.wait([answered], timeout=0.3))[0], "it was answered before it was whole"
        client.writer.write(BODY[position : position + 1])
    client.writer.write(BODY[10:])
    assert (await answered).status == 200
    assert [request.body for request in server.requests] == [BODY]
