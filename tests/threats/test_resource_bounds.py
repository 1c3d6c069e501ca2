"""THREATS row 23: every bound of the gateway, from the outside: what is beyond it is refused, and nobody else notices."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import h2.config
import h2.connection
import h2.errors
import pytest
from attacked import (
    ASK,
    CHAT,
    JSON,
    PATH,
    call,
    careless,
    counted,
    dropped,
    provider,
    recorded,
    refused,
    rules,
    tunnelled,
    wire,
)
from hyperframe.frame import ContinuationFrame, HeadersFrame, PingFrame, SettingsFrame
from memory import MIB, growth

from rig import behaviours as does
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Http1, Http2, Streams, connect


@pytest.fixture(scope="module")
def served(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok())


@pytest.fixture(scope="module")
def gateway(shared_gateway: StartGateway, served: Upstream) -> Gateway:
    limits = {"request_body": "1MiB", "upload": "2MiB", "response_body": "4MiB"}
    return shared_gateway(rules(provider(served), match={}, intercept=["llm.test"], limits=limits))


@pytest.fixture(autouse=True)
def forgotten(served: Upstream) -> None:
    served.script(does.ok())


# Heads


@pytest.mark.parametrize("way", ["direct", "intercepted"])
@pytest.mark.parametrize(
    "headers",
    [[("x-large", "x" * (65 << 10))], [(f"x-{number}", "x" * 60) for number in range(1100)], [("cookie", "a=b; " * 14_000)]],
    ids=["one", "many", "cookie"],
)
async def test_headers_beyond_64_kib(gateway: Gateway, served: Upstream, way: str, headers: list[tuple[str, str]]) -> None:
    answer = await call(gateway, through="llm.test:443" if way == "intercepted" else None, headers=(JSON, *headers))
    refused(answer, 431, "headers_too_large")
    assert served.untouched


async def test_headers_just_below_64_kib_are_taken(gateway: Gateway, served: Upstream) -> None:
    assert (await call(gateway, headers=(JSON, ("x-large", "x" * (60 << 10))))).status == 200
    assert len(served.requests) == 1


@pytest.mark.parametrize(
    "head", [b"GET /" + b"x" * (70 << 10), b"x" * (70 << 10), b"POST / HTTP/1.1\r\nHost: " + b"x" * (70 << 10)]
)
async def test_a_head_without_an_end(gateway: Gateway, head: bytes) -> None:
    """Refused as soon as it is too long, not when it is over; the connection closes."""
    async with wire(gateway) as client:
        client.writer.write(head)
        answer = await client.reply()
        assert await asyncio.wait_for(client.reader.read(), 5) == b""
    refused(answer, 431, "headers_too_large")


async def test_a_head_without_an_end_byte_by_byte(gateway: Gateway) -> None:
    """The same in small pieces, hardly more than the bound: what is written to a closed connection would break it."""
    async with wire(gateway) as client:
        client.writer.write(f"POST {PATH} HTTP/1.1\r\nHost: {gateway.authority}\r\n".encode())
        for _ in range(645):
            client.writer.write(b"x-a: " + b"y" * 95 + b"\r\n")
            await asyncio.sleep(0)
        answer = await client.reply()
    refused(answer, 431, "headers_too_large")


async def test_http2_headers_beyond_64_kib(gateway: Gateway, served: Upstream) -> None:
    """431, or the end of the connection that h2 makes of it; never silence."""
    async with tunnelled(gateway, "llm.test:443", sni="llm.test", tls=careless("h2")) as client:
        http2 = Http2((client.reader, client.writer)).start()
        many = [(f"x-{number}", "x" * 900) for number in range(80)]
        answer = await http2.reply(await http2.send("POST", PATH, (JSON, *many), ASK, authority="llm.test"), 5)
    assert answer.status == 431 or answer.fault, answer
    assert served.untouched


# Bodies


@pytest.mark.parametrize("way", ["direct", "intercepted"])
@pytest.mark.parametrize("expect", [False, True], ids=["", "expect"])
async def test_a_body_that_is_announced_too_large(gateway: Gateway, served: Upstream, way: str, expect: bool) -> None:
    """Refused by its announcement: not a byte of it is asked for (no 100) or waited for."""
    host = gateway.authority if way == "direct" else "llm.test"
    opened = wire(gateway) if way == "direct" else tunnelled(gateway, "llm.test:443", sni="llm.test", tls=careless())
    async with opened as client:
        more = (("expect", "100-continue"),) if expect else ()
        client.writer.write(_head(host, ("content-length", str(MIB + 1)), *more))
        answer = await client.reply(3)
    refused(answer, 413, "request_too_large")
    assert recorded(gateway, answer)["code"] == "request_too_large"
    assert served.untouched


def _head(host: str, *headers: tuple[str, str], target: str = PATH) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in (("host", host), JSON, *headers))
    return f"POST {target} HTTP/1.1\r\n{lines}\r\n".encode()


async def test_a_body_that_is_announced_too_large_and_sent(gateway: Gateway, served: Upstream) -> None:
    """The client hears it although it is still sending."""
    async with wire(gateway) as client:
        client.writer.write(_head(gateway.authority, ("content-length", str(8 * MIB))) + bytes(2 * MIB))
        refused(await client.reply(), 413, "request_too_large")
    assert served.untouched


@pytest.mark.parametrize("expect", [False, True], ids=["", "expect"])
async def test_a_chunked_body_beyond_the_limit(gateway: Gateway, served: Upstream, expect: bool) -> None:
    """Its size is not announced, so that it is cut off where the limit is; a 100 may come first, for it might be small."""
    async with wire(gateway) as client:
        more = (("expect", "100-continue"),) if expect else ()
        client.writer.write(_head(gateway.authority, ("transfer-encoding", "chunked"), *more))
        if expect:
            assert (await client.head()).status == 100
        for _ in range(20):
            client.writer.write(b"%x\r\n%b\r\n" % (64 << 10, b" " * (64 << 10)))
        answer = await client.reply()
    refused(answer, 413, "request_too_large")
    assert served.untouched


async def test_an_http2_body_beyond_the_limit(gateway: Gateway, served: Upstream) -> None:
    """One stream of several: the others go on."""
    async with tunnelled(gateway, "llm.test:443", sni="llm.test", tls=careless("h2")) as client:
        http2 = Http2((client.reader, client.writer)).start()
        large = asyncio.ensure_future(http2.send("POST", PATH, (JSON,), bytes(2 * MIB), authority="llm.test"))
        await asyncio.sleep(0)
        small = await http2.reply(await http2.send("POST", PATH, (JSON,), ASK, authority="llm.test"))
        await asyncio.sleep(0.3)
        large.cancel()
        first = await http2.reply(1)
    assert small.status == 200
    assert first.status == 413, first
    assert json.loads(first.body)["error"]["code"] == "request_too_large"
    assert len(served.requests) == 1


async def test_a_multipart_body_beyond_its_own_limit(gateway: Gateway, served: Upstream) -> None:
    async with wire(gateway) as client:
        kind = ("content-type", "multipart/form-data; boundary=b")
        client.send("POST", "/v1/audio/transcriptions", (("host", gateway.authority), kind, ("content-length", str(3 * MIB))))
        refused(await client.reply(3), 413, "request_too_large")
    assert served.untouched


@pytest.mark.parametrize(
    "size", ["ffffffffffffffff", "7fffffffffffffff", "100000", "-1", "0x5", "+5", "5;" + "x" * 70_000, " 5", ""]
)
async def test_odd_chunk_sizes(gateway: Gateway, served: Upstream, size: str) -> None:
    """A number is a promise, not an allocation; what is no number ends the connection in our shape or without a word."""
    grown = growth(gateway)
    async with wire(gateway) as client:
        client.writer.write(_head(gateway.authority, ("transfer-encoding", "chunked")) + size.encode() + b"\r\n{}\r\n0\r\n\r\n")
        try:
            answer = await client.reply(2)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            answer = None  # more is waited for, or the end came at once
    assert answer is None or answer.status in (400, 413), answer
    assert answer is None or json.loads(answer.body)["error"]["code"] in ("invalid_request", "request_too_large")
    assert grown() < 50 * MIB
    assert served.untouched


@pytest.mark.parametrize(
    "length", [str(1 << 63), str(1 << 70), "9" * 4000, "9" * 5000], ids=lambda length: f"{len(length)}-digits"
)
async def test_odd_lengths(gateway: Gateway, served: Upstream, length: str) -> None:
    async with wire(gateway) as client:
        client.writer.write(_head(gateway.authority, ("content-length", length)))
        answer = await client.reply(3)
    assert answer.status in (400, 413), answer
    assert json.loads(answer.body)["error"]["code"] in ("invalid_request", "request_too_large")
    assert served.untouched


async def test_half_a_body_reaches_nobody(gateway: Gateway, served: Upstream) -> None:
    """A client that leaves in the middle of its body: nothing is sent on, and its bytes are given back."""
    for framing in (("content-length", str(len(ASK) + 10)), ("transfer-encoding", "chunked")):
        async with wire(gateway) as client:
            body = ASK if framing[0] == "content-length" else b"%x\r\n%b\r\n" % (len(ASK), ASK)
            client.writer.write(_head(gateway.authority, framing) + body)
            await asyncio.sleep(0.1)
    await _until(lambda: counted(gateway, "mitmgate_in_flight") == 0)
    assert served.untouched


async def _until(holds: Callable[[], bool], within: float = 5.0) -> None:
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end, "it did not come true in time"
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("piece", [b"{}", b"[]", b"0", b'""', b'{"a":0}', b"1.5"], ids=repr)
async def test_a_body_of_millions_of_values(shared_gateway: StartGateway, served: Upstream, piece: bytes) -> None:
    """60 MiB are within `limits.request_body`; as objects they would be gigabytes, and seconds in which nobody is served."""
    gateway = shared_gateway(rules(provider(served)))
    served.script(does.answer(does.completion("x")))  # which does not look at the body, as `ok` does, in our own process
    body = ASK[:-1] + b', "x": [' + (piece + b",") * (60 * MIB // (len(piece) + 1)) + piece + b"]}"
    grown = growth(gateway)
    large = asyncio.ensure_future(call(gateway, body=body, within=60))
    while not large.done():
        assert (await call(gateway, within=3)).status == 200
        await asyncio.sleep(0.02)
    assert (await large).status in (200, 400, 413)
    assert grown() < 512 * MIB


# Numbers


async def test_concurrency(shared_gateway: StartGateway, served: Upstream) -> None:
    """The third of two is told to come again, at once; when one is over there is room."""
    gateway = shared_gateway(rules(provider(served), limits={"concurrency": 2}))
    served.script(does.after(1.0, does.ok()))
    held = [asyncio.ensure_future(call(gateway)) for _ in range(2)]
    await served.awaited("request")
    await asyncio.sleep(0.2)
    began = time.monotonic()
    third = await call(gateway)
    refused(third, 503, "queue_full")
    assert int(third.header("retry-after") or 0) >= 1
    assert time.monotonic() - began < 0.5
    assert [answer.status for answer in await asyncio.gather(*held)] == [200, 200]
    assert (await call(gateway)).status == 200
    assert counted(gateway, "mitmgate_exchanges_total", status="503", code="queue_full") == 1


async def test_a_full_house_reads_no_body(shared_gateway: StartGateway, served: Upstream) -> None:
    gateway = shared_gateway(rules(provider(served), limits={"concurrency": 1}))
    served.script(does.after(1.5, does.ok()))
    held = asyncio.ensure_future(call(gateway))
    await served.awaited("request")
    async with wire(gateway) as client:
        client.writer.write(_head(gateway.authority, ("content-length", str(MIB)), ("expect", "100-continue")))
        refused(await client.reply(1), 503, "queue_full")
    assert (await held).status == 200


async def test_connections_per_client(shared_gateway: StartGateway, served: Upstream) -> None:
    """The sixth of five is closed without a word and counted; the five go on; when one leaves another may come."""
    gateway = shared_gateway(rules(provider(served), limits={"connections_per_client": 5}))
    async with _connections(gateway, 5) as opened:
        for _ in range(3):
            streams = await connect(gateway)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(streams[0].read(), 5) == b""
            await dropped(streams)
        assert counted(gateway, "mitmgate_refused_connections_total", reason="limit") == 3
        client = Http1(opened[0])
        client.send("POST", PATH, (("host", gateway.authority), JSON), ASK)
        assert (await client.reply()).status == 200
    await asyncio.sleep(0.2)
    assert (await call(gateway)).status == 200


@contextlib.asynccontextmanager
async def _connections(gateway: Gateway, number: int) -> AsyncIterator[list[Streams]]:
    opened = [await connect(gateway) for _ in range(number)]
    await asyncio.sleep(0.2)  # the gateway counts a connection when its loop comes to it
    try:
        yield opened
    finally:
        for streams in opened:
            await dropped(streams)


async def test_bytes_in_flight(shared_gateway: StartGateway, served: Upstream) -> None:
    """Bodies that wait for their providers fill the bound; the next is told to come again, and afterwards fits."""
    limits = {"in_flight_bytes": "4MiB", "request_body": "3MiB"}
    gateway = shared_gateway(rules(provider(served), limits=limits))
    served.script(does.after(1.0, does.ok()))
    body = json.dumps({**CHAT, "x": "y" * (5 * MIB // 2)}).encode()
    first = asyncio.ensure_future(call(gateway, body=body))
    await served.awaited("request")
    refused(await call(gateway, body=body), 503, "queue_full")
    assert (await first).status == 200
    assert (await call(gateway, body=body)).status == 200


# HTTP/2 floods


class Attacker:
    """An HTTP/2 client without courtesy; keeps what the gateway says while it attacks."""

    def __init__(self, client: Http1) -> None:
        self.client = client
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.heard = b""
        self.listening = asyncio.ensure_future(self._listen())

    def open(self, *, end: bool = False) -> int:
        """A request's head, the whole request if `end`; its stream."""
        stream = self.h2.get_next_available_stream_id()
        pseudo = [(":method", "POST"), (":scheme", "https"), (":authority", "llm.test"), (":path", PATH)]
        self.h2.send_headers(stream, [*pseudo, JSON], end_stream=end)
        return stream

    async def flush(self) -> None:
        """Write; raises ConnectionError when the gateway has had enough."""
        await self.write(self.h2.data_to_send())

    async def write(self, content: bytes) -> None:
        """Bytes past h2. With a pause: who writes to a connection that was reset may lose what had come before."""
        if self.listening.done():
            raise ConnectionResetError("the gateway has closed")
        self.client.writer.write(content)
        await asyncio.wait_for(self.client.writer.drain(), 10)
        await asyncio.sleep(0.001)

    async def _listen(self) -> None:
        with contextlib.suppress(ConnectionError):
            while received := await self.client.reader.read(65536):
                self.heard += received

    @property
    def goaway(self) -> int | None:
        """The error code of the GOAWAY that came (RFC 9113, section 6.8); None: there was none."""
        at = self.heard.find(b"\x07\x00\x00\x00\x00\x00")
        return int.from_bytes(self.heard[at + 10 : at + 14]) if at >= 3 else None


async def _flood(gateway: Gateway, attack: Callable[[Attacker], Awaitable[None]]) -> Attacker:
    """Run an attack until the gateway ends its connection, while another client's calls are answered."""
    async with tunnelled(gateway, "llm.test:443", sni="llm.test", tls=careless("h2")) as client:
        attacker = Attacker(client)
        work = asyncio.ensure_future(attack(attacker))
        for _ in range(10):
            assert (await call(gateway, within=5)).status == 200
        with contextlib.suppress(ConnectionError, TimeoutError):
            await work
        await asyncio.wait_for(attacker.listening, 10)
    return attacker


@pytest.mark.parametrize("whole", [False, True], ids=["heads", "whole-requests"])
async def test_rapid_reset(gateway: Gateway, served: Upstream, whole: bool) -> None:
    """CVE-2023-44487: 5,000 streams, each opened and reset at once. The connection ends with GOAWAY."""

    async def attack(attacker: Attacker) -> None:
        for number in range(5000):
            attacker.h2.reset_stream(attacker.open(end=whole), h2.errors.ErrorCodes.CANCEL)
            if number % 20 == 0:
                await attacker.flush()

    attacker = await _flood(gateway, attack)
    assert attacker.goaway == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
    assert len(served.requests) < 300
    await _until(lambda: counted(gateway, "mitmgate_in_flight") == 0)


async def test_resets_that_the_gateway_is_made_to_send(gateway: Gateway, served: Upstream) -> None:
    """CVE-2025-8671: streams that the server must reset itself, by a window that overflows. Bounded as well."""

    async def attack(attacker: Attacker) -> None:
        for _ in range(3000):
            stream = attacker.open()
            update = (4).to_bytes(3) + b"\x08\x00" + stream.to_bytes(4) + (0x7FFFFFFF).to_bytes(4)
            await attacker.write(attacker.h2.data_to_send() + update)

    attacker = await _flood(gateway, attack)
    assert attacker.goaway is not None
    assert len(served.requests) < 300
    await _until(lambda: counted(gateway, "mitmgate_in_flight") == 0)


async def test_continuation_without_an_end(gateway: Gateway) -> None:
    """CVE-2024-27316 and the like: a head that goes on for ever costs no memory and ends the connection."""
    grown = growth(gateway)

    async def attack(attacker: Attacker) -> None:
        await attacker.flush()
        first = HeadersFrame(1, b"\x82\x87")
        await attacker.write(first.serialize())
        piece = ContinuationFrame(1, b"\x40\x81x\x7f\xff\x01" + b"y" * 16000)
        for _ in range(4000):
            await attacker.write(piece.serialize())

    await _flood(gateway, attack)
    assert grown() < 50 * MIB


@pytest.mark.parametrize("kind", ["ping", "settings"])
async def test_frames_that_want_an_answer_each(gateway: Gateway, kind: str) -> None:
    """A client that reads no answers: they may not pile up (CVE-2019-9512, -9515)."""
    grown = growth(gateway)
    frame = (PingFrame(0, b"12345678") if kind == "ping" else SettingsFrame(0, settings={1: 4096})).serialize()
    async with tunnelled(gateway, "llm.test:443", sni="llm.test", tls=careless("h2")) as client:
        client.writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize())
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        with contextlib.suppress(TimeoutError, ConnectionError):  # the gateway reads no more, or has closed
            for _ in range(400):
                client.writer.write(frame * 1000)
                await asyncio.wait_for(client.writer.drain(), 2)
        assert (await call(gateway)).status == 200
    assert grown() < 50 * MIB


async def test_many_streams_at_once(gateway: Gateway, served: Upstream) -> None:
    """More streams than are allowed are refused by the protocol; those that are allowed are answered."""
    async with tunnelled(gateway, "llm.test:443", sni="llm.test", tls=careless("h2")) as client:
        http2 = Http2((client.reader, client.writer)).start()
        await asyncio.sleep(0.2)
        allowed = http2._h2.remote_settings.max_concurrent_streams
        streams = [await http2.send("POST", PATH, (JSON,), ASK, authority="llm.test") for _ in range(min(allowed, 100))]
        answers = [await http2.reply(stream) for stream in streams]
    assert allowed <= 1000
    assert {answer.status for answer in answers} == {200}


# Slow readers


async def test_a_client_that_does_not_read(gateway: Gateway, served: Upstream) -> None:
    """A fast provider and a slow reader: what waits between them is bounded."""
    served.script(does.firehose(events=200_000, size=1000))
    grown = growth(gateway)
    streams = await asyncio.open_connection("127.0.0.1", gateway.proxy_port, limit=1024)
    client = Http1(streams)
    client.send("POST", PATH, (("host", gateway.authority), JSON), json.dumps({**CHAT, "stream": True}).encode())
    assert (await client.head()).status == 200
    await asyncio.sleep(3)
    assert grown() < 50 * MIB
    client.leave()
    assert (await call(gateway, body=b"{")).status == 400


async def test_a_reply_beyond_the_limit(gateway: Gateway, served: Upstream) -> None:
    """`limits.response_body` of a reply that is collected."""
    served.script(does.large(5 * MIB))
    answer = await call(gateway)
    refused(answer, 502, "all_targets_failed")
    assert [attempt["outcome"] for attempt in recorded(gateway, answer)["attempts"]] == ["too_large"]
