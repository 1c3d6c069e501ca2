"""THREATS row 8: encoded bodies, in both directions. Small things that become large stay small here."""

import asyncio
import gzip
import json
import secrets
import struct
import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from attacked import ASK, CHAT, JSON, call, careless, counted, provider, recorded, refused, rules, tunnelled, wire
from memory import MIB, growth

from rig import behaviours as does
from rig.behaviours import Behaviour, Reply
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Http1

ROOM = 100 * MIB
"""Bytes of memory that one hostile body may cost at most (THREATS, row 8)."""

ENCODE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def zeros(encoding: str, mebibytes: int) -> bytes:
    """So many MiB of zeros, never in memory as such."""
    block = bytes(MIB)
    if encoding == "br":
        packer = brotli.Compressor(quality=5)
        return b"".join(packer.process(block) for _ in range(mebibytes)) + bytes(packer.finish())
    if encoding == "zstd":
        frame = zstandard.ZstdCompressor().compressobj()
        return b"".join(frame.compress(block) for _ in range(mebibytes)) + frame.flush()
    stream = zlib.compressobj(9, zlib.DEFLATED, {"gzip": 31, "deflate": 15, "raw deflate": -15}[encoding])
    return b"".join(stream.compress(block) for _ in range(mebibytes)) + stream.flush()


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    """By name, the encoded bytes: each is less than a megabyte and becomes 64 MiB or more."""
    made = {f"{name}-of-zeros": zeros(name, 256) for name in ("gzip", "deflate", "br", "zstd", "raw deflate")}
    # A JSON document, so that nothing but its size speaks against it; and many members, each small.
    spaces = gzip.compress(ASK[:-1] + b" " * (64 * MIB) + b"}")
    made["gzip-of-json"] = spaces
    made["gzip-members"] = gzip.compress(bytes(MIB)) * 100
    made["zstd-frames"] = zstandard.compress(bytes(MIB)) * 100
    assert all(len(each) < MIB for each in made.values())
    return made


def encoding_of(name: str) -> str:
    return "deflate" if name.startswith("raw") else name.split("-")[0]


@pytest.fixture(scope="module")
def served(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok())


@pytest.fixture(scope="module")
def second(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok("from the second"))


@pytest.fixture(scope="module")
def gateway(shared_gateway: StartGateway, served: Upstream) -> Gateway:
    """One target."""
    return shared_gateway(rules(provider(served), match={}, intercept=["llm.test"]))


@pytest.fixture(scope="module")
def fallback(shared_gateway: StartGateway, served: Upstream, second: Upstream) -> Gateway:
    """Two targets."""
    return shared_gateway(rules(provider(served), provider(second)))


@pytest.fixture(autouse=True)
def forgotten(served: Upstream, second: Upstream) -> None:
    served.script(does.ok())
    second.script(does.ok("from the second"))


# Requests

NAMES = (
    "gzip-of-zeros", "deflate-of-zeros", "br-of-zeros", "zstd-of-zeros", "raw deflate-of-zeros", "gzip-of-json",
    "gzip-members", "zstd-frames",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
async def test_a_bomb_is_stopped_while_it_inflates(
    gateway: Gateway, served: Upstream, bombs: dict[str, bytes], name: str
) -> None:
    grown = growth(gateway)
    answer = await call(gateway, headers=(JSON, ("content-encoding", encoding_of(name))), body=bombs[name])
    refused(answer, 413, "request_too_large")
    assert recorded(gateway, answer)["request_bytes"] == len(bombs[name])
    assert grown() < ROOM
    assert served.untouched


async def test_bombs_side_by_side_hold_nobody_up(gateway: Gateway, served: Upstream, bombs: dict[str, bytes]) -> None:
    sent = [
        asyncio.ensure_future(
            call(gateway, headers=(JSON, ("content-encoding", encoding_of(name))), body=bombs[name], within=30)
        )
        for name in ("gzip-of-zeros", "br-of-zeros", "zstd-of-zeros", "gzip-of-json", "deflate-of-zeros") * 2
    ]
    assert (await call(gateway)).status == 200
    for answer in await asyncio.gather(*sent):
        refused(answer, 413, "request_too_large")
    assert len(served.requests) == 1


async def test_decoded_bytes_count_as_bytes_in_flight(shared_gateway: StartGateway, served: Upstream) -> None:
    """Ten bodies of 160 KiB that become 12 MiB each, where 32 MiB may be in flight: two or so at a time, the rest wait or
    are told to come again. By what was sent alone all of them would fit, and a thousand more."""
    gateway = shared_gateway(rules(provider(served), limits={"in_flight_bytes": "32MiB", "request_body": "16MiB"}))
    served.script(does.after(1.0, does.ok()))
    noise = secrets.token_hex(128 << 10).encode()
    packed = gzip.compress(ASK[:-1] + b', "x": "' + noise + b" " * (12 * MIB) + b'"}')
    assert len(packed) < 192 << 10
    grown = growth(gateway)
    headers = (JSON, ("content-encoding", "gzip"))
    answers = await asyncio.gather(*(call(gateway, headers=headers, body=packed, within=60) for _ in range(10)))
    statuses = [answer.status for answer in answers]
    assert set(statuses) <= {200, 503}, statuses
    assert 0 < statuses.count(200) <= 2 or grown() < ROOM, statuses


async def test_the_limit_holds_for_what_comes_out(shared_gateway: StartGateway, served: Upstream) -> None:
    """No bomb by its ratio, and small enough as it is sent: only decoded it is beyond `limits.request_body`."""
    gateway = shared_gateway(rules(provider(served), limits={"request_body": "4MiB"}))
    plain = json.dumps({**CHAT, "user": secrets.token_hex(5 * MIB // 2)}).encode()
    packed = gzip.compress(plain)
    assert len(packed) < 4 * MIB < len(plain)
    refused(await call(gateway, headers=(JSON, ("content-encoding", "gzip")), body=packed), 413, "request_too_large")
    assert served.untouched


@pytest.mark.parametrize(
    "encoding",
    ["hex", "compress", "x-compress", "base64", "deflate64", "gzip, gzip", "gzip, br", "br,gzip", "identity, gzip", "gzip;q=1",
     "*", "aes128gcm", "dcb", "utf-8", "g zip"],
)  # fmt: skip
async def test_unknown_and_layered_encodings(gateway: Gateway, served: Upstream, encoding: str) -> None:
    """mitmproxy would undo `hex` and `base64`, and hand on unread what it cannot: an upstream may well be able to."""
    body = gzip.compress(ASK)
    answer = await call(gateway, headers=(JSON, ("content-encoding", encoding)), body=body)
    refused(answer, 415, "unsupported_media_type")
    assert served.untouched


async def test_two_content_encoding_lines(gateway: Gateway, served: Upstream) -> None:
    headers = (JSON, ("content-encoding", "identity"), ("Content-Encoding", "gzip"))
    refused(await call(gateway, headers=headers, body=gzip.compress(ASK)), 415, "unsupported_media_type")
    assert served.untouched


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("spoil", ["cut", "noise", "followed", "plain", "empty"])
async def test_broken_encodings(gateway: Gateway, served: Upstream, encoding: str, spoil: str) -> None:
    packed = ENCODE[encoding](ASK)
    body = {
        "cut": packed[:-3],
        "noise": packed[:4] + secrets.token_bytes(40),
        "followed": packed + b"{}",
        "plain": ASK,
        "empty": ENCODE[encoding](b""),
    }[spoil]
    answer = await call(gateway, headers=(JSON, ("content-encoding", encoding)), body=body)
    if spoil == "empty":
        refused(answer, 400, "invalid_request")
    else:
        refused(answer, 415, "unsupported_media_type")
    assert served.untouched


@pytest.mark.parametrize("way", ["direct", "intercepted"])
@pytest.mark.parametrize("encoding", ENCODE)
async def test_a_good_body_is_read_and_arrives_decoded(gateway: Gateway, served: Upstream, encoding: str, way: str) -> None:
    """What was read is what is sent: no encoding that another parser may undo in another way."""
    through = "llm.test:443" if way == "intercepted" else None
    answer = await call(gateway, through=through, headers=(JSON, ("content-encoding", encoding)), body=ENCODE[encoding](ASK))
    assert (answer.status, answer.header("x-gateway-model")) == (200, "m")
    (request,) = served.requests
    assert request.body == ASK
    assert request.header("content-encoding") is None
    assert request.header("content-length") == str(len(ASK))


async def test_raw_deflate_is_read_too(gateway: Gateway, served: Upstream) -> None:
    answer = await call(gateway, headers=(JSON, ("content-encoding", "deflate")), body=raw_deflate(ASK))
    assert answer.status == 200
    assert [request.body for request in served.requests] == [ASK]


@pytest.mark.parametrize("target", ["/v1/embeddings", "/v1/responses", "/v1/batches", "/v1/fine_tuning/jobs"])
async def test_other_json_operations(gateway: Gateway, served: Upstream, bombs: dict[str, bytes], target: str) -> None:
    """Known or not: what says that it is JSON is read within the same bounds."""
    grown = growth(gateway)
    headers = (JSON, ("content-encoding", "gzip"))
    refused(await call(gateway, target, headers=headers, body=bombs["gzip-of-zeros"]), 413, "request_too_large")
    assert grown() < ROOM
    assert served.untouched


async def test_an_encoded_multipart_body_is_not_passed_unread(gateway: Gateway, served: Upstream) -> None:
    """Its model could not be seen; the provider would see it."""
    form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'
    headers = (("content-type", "multipart/form-data; boundary=b"), ("content-encoding", "gzip"))
    answer = await call(gateway, "/v1/audio/transcriptions", headers=headers, body=gzip.compress(form))
    assert answer.status in (400, 415), answer
    assert served.untouched


# Replies


def encoded(encoding: str, packed: bytes, media: str = "application/json", chunk: int = 0) -> Behaviour:
    """A 200 whose body is `packed`, in chunks of so many bytes if `chunk` is given."""
    headers = (("content-type", media), ("content-encoding", encoding))
    if not chunk:
        return does.body(packed, headers)
    return does.chunks(*(packed[at : at + chunk] for at in range(0, len(packed), chunk)), headers=headers)


@pytest.mark.parametrize("chunk", [0, 1, 7])
@pytest.mark.parametrize("encoding", ENCODE)
async def test_an_encoded_completion_arrives_decoded(gateway: Gateway, served: Upstream, encoding: str, chunk: int) -> None:
    whole = json.dumps(does.completion("decoded")).encode()
    served.script(encoded(encoding, ENCODE[encoding](whole), chunk=chunk))
    answer = await call(gateway, headers=(JSON, ("accept-encoding", "gzip, br, zstd")))
    assert (answer.status, answer.body) == (200, whole)
    assert answer.header("content-encoding") is None
    assert answer.header("content-length") == str(len(whole))
    assert [request.header("accept-encoding") for request in served.requests] == ["identity"]


@pytest.mark.parametrize("encoding", ENCODE)
@pytest.mark.parametrize("chunk", [1, 11, 10_000])
async def test_an_encoded_event_stream_arrives_decoded(gateway: Gateway, served: Upstream, encoding: str, chunk: int) -> None:
    events = b"".join((does.ROLE, *(does.word(number) for number in range(20)), does.STOP, does.DONE))
    served.script(encoded(encoding, ENCODE[encoding](events), "text/event-stream", chunk))
    answer = await call(gateway, body=json.dumps({**CHAT, "stream": True}).encode())
    assert (answer.status, answer.body) == (200, events)
    assert answer.header("content-encoding") is None
    assert recorded(gateway, answer)["broken"] is None


@pytest.mark.parametrize("name", NAMES)
async def test_a_providers_bomb_is_a_failed_attempt(
    gateway: Gateway, fallback: Gateway, served: Upstream, bombs: dict[str, bytes], name: str
) -> None:
    served.script(encoded(encoding_of(name), bombs[name]))
    grown = growth(gateway)
    answer = await call(gateway)
    refused(answer, 502, "all_targets_failed")
    assert [attempt["outcome"] for attempt in recorded(gateway, answer)["attempts"]] == ["too_large"]
    assert grown() < ROOM
    answer = await call(fallback)
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == "from the second"
    assert [attempt["outcome"] for attempt in recorded(fallback, answer)["attempts"]] == ["too_large", "ok"]


@pytest.mark.parametrize("name", ["gzip-of-zeros", "br-of-zeros", "zstd-of-zeros"])
async def test_a_providers_bomb_in_a_stream(
    gateway: Gateway, fallback: Gateway, served: Upstream, bombs: dict[str, bytes], name: str
) -> None:
    """Zeros hold no event, so nothing was sent to the client before it was noticed."""
    served.script(encoded(encoding_of(name), bombs[name], "text/event-stream", 16 << 10))
    body = json.dumps({**CHAT, "stream": True}).encode()
    grown = growth(gateway)
    answer = await call(gateway, body=body)
    assert answer.whole
    assert grown() < ROOM
    assert len(answer.body) < MIB
    outcome = recorded(gateway, answer)
    assert outcome["broken"] or outcome["code"] == "all_targets_failed", outcome
    assert b"error" in answer.body


async def test_a_bomb_in_an_error_reply(gateway: Gateway, served: Upstream, bombs: dict[str, bytes]) -> None:
    served.script(does.body(bombs["gzip-of-zeros"], (JSON, ("content-encoding", "gzip")), 500))
    grown = growth(gateway)
    answer = await call(gateway)
    assert answer.status == 500
    assert answer.header("content-encoding") is None
    assert len(answer.body) < MIB
    assert grown() < ROOM


# WebSocket messages


def deflating() -> Behaviour:
    """A server that takes permessage-deflate (RFC 7692) if it is offered, then reads until the other side is gone."""

    async def behave(reply: Reply) -> None:
        offered = "permessage-deflate" in (reply.request.header("sec-websocket-extensions") or "")
        extension = b"Sec-WebSocket-Extensions: permessage-deflate\r\n" if offered else b""
        await reply.raw(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" + extension + b"\r\n"
        )
        while await reply.read():
            pass
        await reply.hang_up()

    return behave


HANDSHAKE = (
    ("upgrade", "websocket"),
    ("connection", "Upgrade"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-version", "13"),
    ("sec-websocket-extensions", "permessage-deflate"),
)


def frame(first: int, payload: bytes) -> bytes:
    """A masked frame with a mask of zeros (RFC 6455, section 5.2)."""
    return bytes([first, 0x80 | 127]) + struct.pack(">Q", len(payload)) + bytes(4) + payload


async def pushed(client: Http1, frames: list[bytes]) -> None:
    """Send as much of it as is taken."""
    try:
        for each in frames:
            client.writer.write(each)
            await asyncio.wait_for(client.writer.drain(), 5)
        await asyncio.wait_for(client.reader.read(), 2)
    except (OSError, TimeoutError):
        return


async def test_a_bomb_in_a_web_socket_message(gateway: Gateway, served: Upstream, bombs: dict[str, bytes]) -> None:
    """One compressed message of 256 MiB. mitmproxy inflates whole messages before it hands them on."""
    served.script(deflating())
    grown = growth(gateway)
    async with wire(gateway) as client:
        client.send("GET", "/v1/realtime?model=m", (("host", gateway.authority), *HANDSHAKE))
        answer = await client.head()
        assert answer.status == 101
        if answer.header("sec-websocket-extensions"):
            await pushed(client, [frame(0xC2, bombs["raw deflate-of-zeros"])])
        assert grown() < ROOM


async def test_a_web_socket_message_without_an_end(gateway: Gateway, served: Upstream) -> None:
    """256 MiB in fragments, none the last: what is held of a message is bounded."""
    served.script(deflating())
    grown = growth(gateway)
    async with tunnelled(gateway, "llm.test:443", sni="llm.test", tls=careless()) as client:
        client.send("GET", "/v1/realtime?model=m", (("host", "llm.test"), *HANDSHAKE[:-1]))
        assert (await client.head()).status == 101
        piece = bytes(4 * MIB)
        await pushed(client, [frame(0x02, piece), *(frame(0x00, piece) for _ in range(63))])
        assert grown() < ROOM


async def test_bodies_in_flight_are_free_again(gateway: Gateway) -> None:
    """After all of this nothing is counted as in flight, and no bug of ours was met."""
    assert counted(gateway, "mitmgate_in_flight") == 0
    assert counted(gateway, "mitmgate_addon_errors_total") == 0
