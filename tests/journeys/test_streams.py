"""Event streams through the real gateway: whole, in time, and byte for byte."""

import asyncio
import itertools
import json
import time
from typing import Any

import openai
import pytest

from rig import behaviours as does
from rig import clients
from rig.gateway import Gateway, shipped_rules
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Wires

SAY: list[Any] = [{"role": "user", "content": "count"}]
ASK = json.dumps({"model": "m", "messages": SAY, "stream": True}).encode()
JSON_TYPE = (("content-type", "application/json"),)


@pytest.fixture(scope="module")
def server(shared_upstream: StartUpstream) -> Upstream:
    """The only provider."""
    return shared_upstream(does.ok())


@pytest.fixture(scope="module")
def gate(shared_gateway: StartGateway, server: Upstream) -> Gateway:
    return shared_gateway(
        {
            "intercept": ["api.openai.com"],
            "providers": {"server": {"dialect": "openai", "base_url": server.base_url, "zone": "internal"}},
            "routes": [{"name": "all", "match": {}, "targets": [{"provider": "server"}]}],
        }
    )


async def _paced(client: openai.AsyncOpenAI) -> list[float]:
    """The moments at which content came, of a stream of 90 events, one a second."""
    moments = [time.monotonic()]
    stream = await client.chat.completions.create(
        model="gpt-4o-mini", messages=SAY, stream=True, extra_headers={"x-simulate": "events=90, gap=1s"}
    )
    finish = None
    async for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            moments.append(time.monotonic())
        finish = (chunk.choices and chunk.choices[0].finish_reason) or finish
    assert finish == "stop"
    return moments


async def test_ninety_seconds_under_the_shipped_rules(gateway: StartGateway) -> None:
    """One event a second for 90 s arrives whole, by both ways in at once. Takes its 90 s."""
    gate = gateway(shipped_rules())
    async with clients.direct_async(gate) as direct, clients.proxied_async(gate) as proxied:
        for moments in await asyncio.gather(_paced(direct), _paced(proxied)):
            gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
            assert len(gaps) == 90
            assert max(gaps) < 2.5  # none was held back until another came
            assert 85 < moments[-1] - moments[1] < 100
    records = gate.records(2)
    assert [(each["status"], each["stream"], each["broken"]) for each in records] == [(200, True, None)] * 2


async def test_events_are_not_held_back(gate: Gateway, server: Upstream) -> None:
    server.script(does.ok_stream(3, 0.6))
    async with clients.direct_async(gate) as client:
        asked = time.monotonic()
        stream = await client.chat.completions.create(model="m", messages=SAY, stream=True)
        moments = [time.monotonic() - asked async for each in stream if each.choices and each.choices[0].delta.content]
    assert len(moments) == 3
    assert moments[0] < 0.4
    assert 0.5 < moments[1] < 1.0
    assert 1.1 < moments[2] < 1.6


async def test_a_role_alone_does_not_commit(wires: Wires, gate: Gateway, server: Upstream) -> None:
    """Nothing at all goes out before the first content, the status line included."""
    server.script(does.chunks(does.ROLE, b": ping\n\n", does.word(0), does.STOP + does.DONE, gap=0.3))
    client = await wires.direct(gate)
    client.send("POST", "/v1/chat/completions", (("host", gate.authority), *JSON_TYPE), ASK)
    asked = time.monotonic()
    await client.head()
    assert time.monotonic() - asked > 0.5
    await client.until(rb"\[DONE\]")
    client.leave()


SEPARATORS = "one\u2028two\u2029three\u0085four\x0bfive\x1esix"


@pytest.mark.parametrize("through_proxy", [False, True], ids=["direct", "proxied"])
def test_line_separators_inside_data(gate: Gateway, server: Upstream, through_proxy: bool) -> None:
    """U+2028, U+2029 and U+0085 are text, not line ends (WHATWG HTML, section 9.2)."""
    content = does.event({"content": SEPARATORS})
    assert "\u2028".encode() in content
    body = does.ROLE + content + does.STOP + does.DONE
    server.script(does.chunks(body))
    with clients.plain(gate, through_proxy=through_proxy) as client:
        reply = client.post("/chat/completions", content=ASK, headers=dict(JSON_TYPE))
    assert reply.content == body
    data = [line for line in reply.content.split(b"\n") if line.startswith(b"data: {")]
    assert json.loads(data[1][6:])["choices"][0]["delta"]["content"] == SEPARATORS


@pytest.mark.parametrize("end", [b"\r\n", b"\r", b"\n"], ids=["crlf", "cr", "lf"])
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_each_line_end_at_any_cut(gate: Gateway, server: Upstream, end: bytes, size: int) -> None:
    """Events with each kind of line end, comments and fields we do not know, cut anywhere: the same bytes come out."""
    whole = does.ROLE + b": a comment\n\nid: 7\nretry: 10\n" + does.word(0) + does.word(1) + does.STOP + does.DONE
    body = whole.replace(b"\n", end)
    server.script(does.chunks(*(body[at : at + size] for at in range(0, len(body), size))))
    with clients.plain(gate) as client:
        reply = client.post("/chat/completions", content=ASK, headers=dict(JSON_TYPE))
    assert reply.status_code == 200, reply.text
    # At the stream's end a last CR may be half of a CRLF; the LF that makes it one changes no event.
    assert reply.content == body or (end == b"\r" and reply.content == body + b"\n")


async def test_the_connection_is_kept_after_a_stream(wires: Wires, gate: Gateway, server: Upstream) -> None:
    """One client connection: a whole stream, a broken one, an answer of known length, a stream again."""
    server.script(does.ok(), does.cut(), does.ok(), does.ok())
    client = await wires.direct(gate)
    whole = json.dumps({"model": "m", "messages": SAY}).encode()
    bodies = []
    for ask in (ASK, ASK, whole, ASK):
        client.send("POST", "/v1/chat/completions", (("host", gate.authority), *JSON_TYPE), ask)
        reply = await client.reply()
        assert (reply.status, reply.whole) == (200, True)
        bodies.append(reply.body)
    client.leave()
    assert bodies[0].endswith(does.DONE)
    assert b"stream_broken" in bodies[1]
    assert b"[DONE]" not in bodies[1]
    assert json.loads(bodies[2])["choices"][0]["message"]["content"] == "hello"
    assert bodies[3] == bodies[0]


async def test_a_broken_stream_ends_well_over_http2(wires: Wires, gate: Gateway, server: Upstream) -> None:
    server.script(does.cut(), does.ok())
    client = await wires.http2(gate)
    broken = await client.reply(await client.send("POST", "/v1/chat/completions", JSON_TYPE, ASK))
    assert (broken.status, broken.whole, broken.fault) == (200, True, None)
    last = broken.body.rstrip(b"\n").split(b"\n\n")[-1]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "stream_broken"
    again = await client.reply(await client.send("POST", "/v1/chat/completions", JSON_TYPE, ASK))
    assert again.body.endswith(does.DONE)


def test_streams_are_asked_for_uncompressed(gate: Gateway, server: Upstream) -> None:
    server.script(does.ok())
    with clients.plain(gate) as client:
        client.post("/chat/completions", content=ASK, headers={**dict(JSON_TYPE), "accept-encoding": "gzip, br"})
    assert server.requests[0].header("accept-encoding") == "identity"


def test_a_stream_that_is_not_events_breaks_visibly(gate: Gateway, server: Upstream) -> None:
    """Audio has no in-band error: a cut in it must reach the client as a cut."""

    async def sound(reply: does.Reply) -> None:
        await reply.head(200, (("content-type", "audio/mpeg"),))
        for _ in range(5):
            await reply.send(b"\x00\xff" * 5000)
            await asyncio.sleep(does.SETTLE)
        await reply.reset()

    server.script(sound)
    with clients.direct(gate) as client, pytest.raises(openai.APIConnectionError) as cut:
        client.audio.speech.create(model="m", voice="alloy", input="x")
    assert "timed out" not in repr(cut.value)


def test_a_flood_of_events_arrives_whole(gate: Gateway, server: Upstream) -> None:
    server.script(does.firehose(5000, 200))
    with clients.plain(gate, timeout=60) as client:
        reply = client.post("/chat/completions", content=ASK, headers=dict(JSON_TYPE))
    assert reply.content.count(b"data: ") == 5000 + 3
    assert reply.content.endswith(does.DONE)
