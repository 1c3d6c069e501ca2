"""THREATS row 23, all at once: twenty seconds of bad clients and providers, while a good client's calls all succeed."""

import asyncio
import contextlib
import itertools
import json
import os
import random
import time
from collections.abc import Awaitable, Callable

import h2.config
import h2.connection
from attacked import ASK, CHAT, JSON, PATH, call, careless, counted, provider, resident, rules, tunnelled, wire

from rig import behaviours as does
from rig.gateway import Gateway
from rig.starts import StartGateway, StartUpstream

SECONDS = 20.0
HEAD = f"POST {PATH} HTTP/1.1\r\ncontent-type: application/json\r\n"

type Attack = Callable[[Gateway, random.Random], Awaitable[object]]


async def half_open(gateway: Gateway, dice: random.Random) -> None:
    """Connects, says little or nothing, stays a while."""
    async with wire(gateway) as client:
        client.writer.write(dice.choice([b"", b"P", b"POST /v1/chat", b"\x16\x03\x01", b"\r\n"]))
        await asyncio.sleep(dice.uniform(0.5, 3))


async def slow_head(gateway: Gateway, dice: random.Random) -> None:
    """A head, a line at a time, without an end."""
    async with wire(gateway) as client:
        client.writer.write(f"{HEAD}host: {gateway.authority}\r\n".encode())
        for number in range(20):
            await asyncio.sleep(dice.uniform(0.05, 0.2))
            client.writer.write(f"x-{number}: y\r\n".encode())


async def slow_body(gateway: Gateway, dice: random.Random) -> None:
    """A body that is announced and hardly comes."""
    async with wire(gateway) as client:
        client.writer.write(f"{HEAD}host: {gateway.authority}\r\ncontent-length: 1000000\r\n\r\n".encode())
        for _ in range(10):
            await asyncio.sleep(dice.uniform(0.1, 0.3))
            client.writer.write(b" ")


async def leaves(gateway: Gateway, dice: random.Random) -> None:
    """Asks for a stream and is gone, at some moment."""
    async with wire(gateway) as client:
        client.send("POST", PATH, (("host", gateway.authority), JSON), json.dumps({**CHAT, "stream": True}).encode())
        await asyncio.sleep(dice.uniform(0, 0.3))


async def slow_reader(gateway: Gateway, dice: random.Random) -> None:
    """Asks for a flood and does not read it."""
    async with wire(gateway) as client:
        body = json.dumps({**CHAT, "model": "flood", "stream": True}).encode()
        client.send("POST", PATH, (("host", gateway.authority), JSON), body)
        await asyncio.sleep(dice.uniform(0.5, 2))


async def noise(gateway: Gateway, dice: random.Random) -> None:
    """Bytes."""
    async with wire(gateway) as client:
        client.writer.write(dice.randbytes(dice.randint(1, 20_000)))
        await asyncio.wait_for(client.reader.read(65536), 2)


async def malformed(gateway: Gateway, dice: random.Random) -> None:
    """Requests of the other pages, one after the other."""
    targets = ["//v1/chat/completions", PATH, "*", "http://127.0.0.1/", "/v1/" + "x" * 9000]
    bodies = [b"{", b"\xff" * 100, b"[" * 10_000, ASK.decode().encode("utf-16"), b""]
    await call(gateway, dice.choice(targets), body=dice.choice(bodies), within=5)


async def bad_tunnel(gateway: Gateway, dice: random.Random) -> None:
    """CONNECT, and then anything but TLS; or TLS that stops."""
    async with tunnelled(gateway, "llm.test:443") as client:
        client.writer.write(dice.choice([b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", dice.randbytes(500)]))
        await asyncio.sleep(dice.uniform(0.1, 1))


async def handshakes(gateway: Gateway, dice: random.Random) -> None:
    """TLS, and gone."""
    async with tunnelled(gateway, "llm.test:443", sni="llm.test", tls=careless(dice.choice(["h2", "http/1.1"]))):
        await asyncio.sleep(0)


async def resets(gateway: Gateway, dice: random.Random) -> None:
    """HTTP/2 streams, opened and reset."""
    async with tunnelled(gateway, "llm.test:443", sni="llm.test", tls=careless("h2")) as client:
        http2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        http2.initiate_connection()
        for _ in range(dice.randint(50, 400)):
            stream = http2.get_next_available_stream_id()
            http2.send_headers(
                stream, [(":method", "POST"), (":scheme", "https"), (":authority", "llm.test"), (":path", PATH), JSON]
            )
            http2.reset_stream(stream, 8)
        client.writer.write(http2.data_to_send())
        await client.writer.drain()


async def unlucky(gateway: Gateway, dice: random.Random) -> None:
    """A good call to a provider that breaks."""
    body = json.dumps({**CHAT, "model": "broken", "stream": dice.random() < 0.5}).encode()
    await call(gateway, body=body, within=10)


ATTACKS: tuple[Attack, ...] = (
    half_open, slow_head, slow_body, leaves, slow_reader, noise, malformed, bad_tunnel, handshakes, resets, unlucky,
)  # fmt: skip


def descriptors(gateway: Gateway) -> int:
    return len(os.listdir(f"/proc/{gateway.child.pid}/fd"))


async def besiege(gateway: Gateway, attack: Attack, dice: random.Random, end: float) -> int:
    """The same again and again; what the gateway does with it is its own affair here. How often it was done."""
    done = 0
    while time.monotonic() < end:
        with contextlib.suppress(OSError, TimeoutError, EOFError, ValueError, AssertionError):
            await attack(gateway, dice)
        done += 1
        await asyncio.sleep(0.02)
    return done


async def good_client(gateway: Gateway, end: float) -> list[float]:
    """Calls of every kind, each of which must succeed; how long each took, in seconds."""
    took: list[float] = []
    for number in itertools.count():
        began = time.monotonic()
        streamed, through = number % 2 == 1, "llm.test:443" if number % 4 > 1 else None
        answer = await call(gateway, through=through, body=json.dumps({**CHAT, "stream": streamed}).encode(), within=10)
        took.append(time.monotonic() - began)
        assert (answer.status, answer.whole) == (200, True), (number, answer)
        assert (b"[DONE]" if streamed else b'"hello"') in answer.body
        if time.monotonic() > end:
            return took
        await asyncio.sleep(0.05)
    raise AssertionError("unreachable")


async def test_a_good_client_is_served_throughout(gateway: StartGateway, upstream: StartUpstream) -> None:
    served, flood = upstream(does.ok(events=5)), upstream(does.firehose(events=2000))
    faults = (
        does.reset_before_headers(),
        does.garbage(),
        does.cut(),
        does.status(500),
        does.broken_gzip(),
        does.early_eof(),
        does.json_cut(),
    )
    broken = upstream(*faults * 1000)
    document = rules(provider(served), match={"model": ["m"]}, intercept=["llm.test"], limits={"concurrency": 500})
    document["providers"] |= {"flood": provider(flood), "broken": provider(broken)}
    for name in ("flood", "broken"):
        document["models"] = {**document.get("models", {}), name: {"targets": [{"provider": name}], "retry": {"max": 0}}}
    gate = gateway(document)
    for through in (None, "llm.test:443"):
        assert (await call(gate, through=through)).status == 200
    await asyncio.sleep(0.5)
    before, memory = descriptors(gate), resident(gate)
    end = time.monotonic() + SECONDS
    besiegers = [
        asyncio.ensure_future(besiege(gate, attack, random.Random(number), end)) for number, attack in enumerate(ATTACKS * 2)
    ]
    took = await good_client(gate, end)
    done = await asyncio.gather(*besiegers)
    assert len(took) > 20
    assert min(done) > 3, dict(zip((attack.__name__ for attack in ATTACKS * 2), done, strict=True))
    # Two cores are shared with everything else here: not a measurement, but nobody waited for the end of an attack.
    assert sorted(took)[len(took) // 2] < 2

    async with asyncio.timeout(20):
        while descriptors(gate) > before + 8 or counted(gate, "mitmgate_in_flight"):
            await asyncio.sleep(0.25)
    assert resident(gate) - memory < 150 << 20
    assert counted(gate, "mitmgate_addon_errors_total") == 0
    assert counted(gate, "mitmgate_records_dropped_total") == 0
    assert (await call(gate)).status == 200
    lines = gate.errors().splitlines()
    assert len(lines) < 200, "\n".join(sorted(set(lines))[:30])
