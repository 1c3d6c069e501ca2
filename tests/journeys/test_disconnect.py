"""A client that leaves: its upstream call ends within 100 ms, wherever it stood, and no other one begins."""

import asyncio
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from rig import behaviours as does
from rig.gateway import Gateway
from rig.scripted import GONE, Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Wires

BOUND = 0.1
"""Seconds, of the issue: "client disconnect cancels the upstream call within 100 ms"."""

JSON_TYPE = (("content-type", "application/json"),)


@dataclass(frozen=True, slots=True)
class Where:
    """The point at which the client leaves. `sign`: what of the reply it waits for first, if anything."""

    name: str
    behaviour: Callable[[], does.Behaviour]
    stream: bool = True
    sign: bytes | None = None

    def __str__(self) -> str:
        return self.name


POINTS = (
    Where("waiting-for-headers", does.hang),
    Where("waiting-for-a-whole-answer", does.json_stall, stream=False),
    Where("holding", does.role_then_silence),
    Where("streaming", lambda: does.ok_stream(1000, 0.02), sign=b"w2 "),
    Where("streaming-silent", does.stall, sign=b"w2 "),
)
UPSTREAMS = ("http1", "http2")


@dataclass(frozen=True, slots=True)
class Stand:
    """A gateway; models that begin with an upstream's name have that as first target, and `spare` as second."""

    gateway: Gateway
    upstreams: dict[str, Upstream]
    spare: Upstream


@pytest.fixture(scope="module")
def stand(shared_gateway: StartGateway, shared_upstream: StartUpstream, ca_pem: str) -> Stand:
    upstreams = {"http1": shared_upstream(does.ok()), "http2": shared_upstream(does.ok(), tls=True, http2=True)}
    spare = shared_upstream(does.ok())
    every = {**upstreams, "spare": spare}
    rules = {
        "intercept": ["api.openai.com"],
        "providers": {
            name: {"dialect": "openai", "base_url": each.base_url, "zone": "internal"}
            | ({"ca": "ca.pem"} if each.base_url.startswith("https") else {})
            for name, each in every.items()
        },
        "routes": [
            {
                "name": name,
                "match": {"model": [f"{name}-*"]},
                "targets": [{"provider": name}, {"provider": "spare"}],
                "retry": {"max": 1},
            }
            for name in upstreams
        ],
    }
    return Stand(shared_gateway({"10-rules.yaml": rules, "ca.pem": ca_pem}), upstreams, spare)


def unheard_of(upstream: str) -> str:
    """A model of that upstream that no other test has asked for; a client that leaves learns no request id."""
    return f"{upstream}-{secrets.token_hex(4)}"


def ask(model: str, stream: bool) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "x"}], "stream": stream}).encode()


async def assert_let_go(stand: Stand, where: Where, upstream: Upstream, left: float, model: str) -> None:
    """The upstream call was cancelled in time, nothing else was tried, and the record says why."""
    gone = await upstream.awaited(*GONE, since=left, within=2)
    await asyncio.sleep(0.3)
    assert len(upstream.requests) == 1
    assert stand.spare.untouched
    record = stand.gateway.record(model, of="requested_model")
    if where.sign:
        assert record["broken"] == "client_left"  # its status was sent: the reply was broken off
    else:
        assert record["attempts"][-1]["outcome"] == "client_disconnected"
    assert gone.at - left < BOUND


@pytest.mark.parametrize("where", POINTS, ids=str)
@pytest.mark.parametrize("upstream", UPSTREAMS)
async def test_an_http1_client_leaves(wires: Wires, stand: Stand, where: Where, upstream: str) -> None:
    server = stand.upstreams[upstream]
    server.script(where.behaviour())
    stand.spare.script(does.ok())
    model = unheard_of(upstream)
    client = await wires.direct(stand.gateway)
    body = ask(model, where.stream)
    client.send("POST", "/v1/chat/completions", (("host", stand.gateway.authority), *JSON_TYPE), body)
    await server.awaited("request")
    if where.sign:
        await client.until(where.sign)
    else:
        await asyncio.sleep(0.1)
    await assert_let_go(stand, where, server, client.leave(), model)


@pytest.mark.parametrize("where", POINTS, ids=str)
@pytest.mark.parametrize("upstream", UPSTREAMS)
async def test_an_http2_client_resets_its_stream(wires: Wires, stand: Stand, where: Where, upstream: str) -> None:
    """Only that call ends: another one on the same connection is answered afterwards."""
    server = stand.upstreams[upstream]
    server.script(where.behaviour())
    stand.spare.script(does.ok())
    model = unheard_of(upstream)
    client = await wires.http2(stand.gateway)
    stream = await client.send("POST", "/v1/chat/completions", JSON_TYPE, ask(model, where.stream))
    await server.awaited("request")
    if where.sign:
        await client.until(stream, where.sign)
    else:
        await asyncio.sleep(0.1)
    await assert_let_go(stand, where, server, client.reset(stream), model)
    server.script(does.ok())
    after = await client.reply(await client.send("POST", "/v1/chat/completions", JSON_TYPE, ask(unheard_of(upstream), False)))
    assert (after.status, after.whole) == (200, True)


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_leaving_during_back_off(wires: Wires, stand: Stand, http2: bool) -> None:
    """The upstream asked for a second's wait; nobody is there any more when it is over."""
    server = stand.upstreams["http1"]
    server.script(does.status(429, (("retry-after", "1"),)), does.ok())
    stand.spare.script(does.ok())
    model = unheard_of("http1")
    body = ask(model, True)
    if http2:
        second = await wires.http2(stand.gateway)
        stream = await second.send("POST", "/v1/chat/completions", JSON_TYPE, body)
        await server.awaited("done")
        await asyncio.sleep(0.2)
        second.reset(stream)
    else:
        first = await wires.direct(stand.gateway)
        first.send("POST", "/v1/chat/completions", (("host", stand.gateway.authority), *JSON_TYPE), body)
        await server.awaited("done")
        await asyncio.sleep(0.2)
        first.leave()
    await asyncio.sleep(1.3)
    assert len(server.requests) == 1
    assert stand.spare.untouched
    record = stand.gateway.record(model, of="requested_model")
    assert (len(record["attempts"]), record["code"]) == (1, None)


async def test_leaving_while_the_request_is_still_coming(wires: Wires, stand: Stand) -> None:
    """Half a body: nothing has gone upstream, and nothing goes."""
    server = stand.upstreams["http1"]
    server.script(does.ok())
    client = await wires.direct(stand.gateway)
    body = ask(unheard_of("http1"), False)
    headers = (("host", stand.gateway.authority), *JSON_TYPE, ("content-length", str(len(body) + 100)))
    client.send("POST", "/v1/chat/completions", headers, body)
    await asyncio.sleep(0.2)
    client.leave()
    await asyncio.sleep(0.3)
    assert server.untouched
