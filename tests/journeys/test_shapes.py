"""The shapes in which calls come in and go out: HTTP/2, TLS, other proxy modes, WebSocket, odd request bodies."""

import asyncio
import contextlib
import hashlib
import json
import time
from typing import Any

import httpx
import pytest
import trustme
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, Event, TextMessage

from rig import behaviours as does
from rig.clients import CLIENT_KEY, plain, trust
from rig.corporate import CorporateProxy
from rig.scripted import LoopThread, Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Http1, Wires

JSON_TYPE = (("content-type", "application/json"),)
CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
ASK = json.dumps(CHAT).encode()


def provider(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {"dialect": "openai", "base_url": upstream.base_url, "zone": "internal", **more}


def rules(*targets: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One route for everything, over these providers in turn; they are called p0, p1, …"""
    return {
        "intercept": ["api.openai.com"],
        "providers": {f"p{number}": each for number, each in enumerate(targets)},
        "routes": [
            {
                "name": "all",
                "match": {},
                "targets": [{"provider": f"p{number}"} for number in range(len(targets))],
                "retry": {"max": 0},
                "timeout": {"connect": "2s", "first_token": "5s", "idle": "5s", "total": "20s"},
            }
        ],
        **more,
    }


# HTTP/2 clients


async def test_thirty_parallel_http2_calls(wires: Wires, gateway: StartGateway, upstream: StartUpstream) -> None:
    """One HTTP/2 connection, an HTTP/1.1 upstream that takes a second: no queue for upstream connections."""
    server = upstream(does.after(1.0, does.ok()))
    client = await wires.http2(gateway(rules(provider(server))))
    began = time.monotonic()
    streams = [await client.send("POST", "/v1/chat/completions", JSON_TYPE, ASK) for _ in range(30)]
    answers = [await client.reply(stream) for stream in streams]
    took = time.monotonic() - began
    assert [answer.status for answer in answers] == [200] * 30
    assert len(server.requests) == 30
    assert took < 3


async def test_an_http2_client_gets_headers_and_errors(wires: Wires, gateway: StartGateway, upstream: StartUpstream) -> None:
    server = upstream(does.status(500), does.ok())
    client = await wires.http2(gateway(rules(provider(server))))
    failed = await client.reply(await client.send("POST", "/v1/chat/completions", JSON_TYPE, ASK))
    assert (failed.status, json.loads(failed.body)["error"]["message"]) == (500, "scripted failure")
    assert failed.header("x-gateway-attempts") == "1"
    assert failed.header("transfer-encoding") is None
    served = await client.reply(await client.send("POST", "/v1/chat/completions", JSON_TYPE, ASK))
    assert served.status == 200
    assert served.header("x-gateway-request-id") not in (None, failed.header("x-gateway-request-id"))


# TLS and HTTP/2 upstream


@pytest.mark.parametrize("through_proxy", [False, True], ids=["direct", "proxied"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_http2_upstream(
    gateway: StartGateway, upstream: StartUpstream, ca_pem: str, through_proxy: bool, stream: bool
) -> None:
    """Verified by `ca:`; HTTP/2 is offered to it, whatever the client speaks."""
    server = upstream(does.ok(), http2=True)
    gate = gateway({"10-rules.yaml": rules(provider(server, ca="ca.pem")), "ca.pem": ca_pem})
    with plain(gate, through_proxy=through_proxy) as client:
        reply = client.post("/chat/completions", json={**CHAT, "stream": stream})
    assert reply.status_code == 200, reply.text
    assert server.requests[0].stream == 1
    pseudo = dict(server.requests[0].headers[:4])
    assert pseudo[b":authority"] == f"127.0.0.1:{server.port}".encode()
    assert pseudo[b":path"] == b"/v1/chat/completions"


def test_one_http2_connection_serves_several_attempts(
    gateway: StartGateway, upstream: StartUpstream, ca_pem: str
) -> None:
    server = upstream(does.status(500), does.reset_before_headers(), does.ok(), http2=True)
    one = rules(provider(server, ca="ca.pem"))
    one["routes"][0]["retry"] = {"max": 2, "backoff": {"base": "1ms", "max": "1ms"}}
    gate = gateway({"10-rules.yaml": one, "ca.pem": ca_pem})
    with plain(gate) as client:
        reply = client.post("/chat/completions", json=CHAT)
    assert reply.headers["x-gateway-attempts"] == "3"
    assert [request.stream for request in server.requests] == [1, 3, 5]
    assert server.count("accept") == 1


def test_an_upstream_is_verified(gateway: StartGateway, upstream: StartUpstream, ca_pem: str) -> None:
    """An unknown CA, and a known one for another name: no request is sent."""
    unknown, misnamed = upstream(does.ok(), tls=True), upstream(does.ok(), tls=True, names=("other.test",))
    for server, more, files in ((unknown, {}, {}), (misnamed, {"ca": "ca.pem"}, {"ca.pem": ca_pem})):
        gate = gateway({"10-rules.yaml": rules(provider(server, credential={"value": "sk-x"}, **more)), **files})
        with plain(gate) as client:
            reply = client.post("/chat/completions", json=CHAT)
        assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_unreachable")
        assert gate.records(1)[0]["attempts"][0]["outcome"] == "tls"
        assert server.requests == []


def test_a_client_certificate(gateway: StartGateway, upstream: StartUpstream, ca: trustme.CA, ca_pem: str) -> None:
    """The upstream demands one of a CA of its own; without it the call fails, with it the call is answered."""
    clients_ca = trustme.CA()
    server = upstream(does.ok(), tls=True, client_ca=clients_ca)
    own = clients_ca.issue_cert("gateway.test").private_key_and_cert_chain_pem.bytes().decode()
    files = {"ca.pem": ca_pem, "me.pem": own}
    without = gateway({"10-rules.yaml": rules(provider(server, ca="ca.pem")), **files})
    with plain(without) as client:
        assert client.post("/chat/completions", json=CHAT).status_code == 502
    assert server.requests == []
    given = gateway({"10-rules.yaml": rules(provider(server, ca="ca.pem", client_cert="me.pem")), **files})
    with plain(given) as client:
        assert client.post("/chat/completions", json=CHAT).status_code == 200
    assert len(server.requests) == 1


# A corporate proxy


@pytest.mark.parametrize("password", ["open-sesame", "open sesame: twice"])
def test_a_provider_behind_a_corporate_proxy(
    gateway: StartGateway, upstream: StartUpstream, loop_thread: LoopThread, ca_pem: str, password: str
) -> None:
    """`egress:` with a password: the name is resolved by the proxy, the provider's credential stays inside TLS."""
    server = upstream(does.ok(), tls=True, names=("llm.test",))
    base_url = f"https://llm.test:{server.port}/v1"
    target = provider(server, ca="ca.pem", credential={"value": "sk-inside"}) | {"base_url": base_url}
    with contextlib.closing(CorporateProxy(loop_thread, "gate", password)) as proxy:
        for given, status in ((password, 200), ("wrong", 502)):
            egress = {"proxy": proxy.url, "credential": {"value": f"gate:{given}"}}
            gate = gateway({"10-rules.yaml": rules(target, egress=egress), "ca.pem": ca_pem})
            with plain(gate) as client:
                reply = client.post("/chat/completions", json=CHAT)
            assert reply.status_code == status, reply.text
            assert proxy.asked[-1].line == f"CONNECT llm.test:{server.port} HTTP/1.1"
            assert password not in gate.log()
    assert [asked.granted for asked in proxy.asked] == [True, False]
    assert len(server.requests) == 1
    assert server.requests[0].header("authorization") == "Bearer sk-inside"
    assert server.requests[0].header("proxy-authorization") is None


# Other modes


def test_reverse_mode_governs_what_a_route_matches(gateway: StartGateway, upstream: StartUpstream) -> None:
    """What no route matches goes to the mode's own destination, with the client's own key."""
    behind, routed = upstream(does.ok("behind")), upstream(does.ok("routed"))
    document = rules(provider(routed, credential={"value": "sk-routed"}))
    document["routes"][0]["match"] = {"model": ["m"]}
    gate = gateway(document, modes=[f"reverse:{behind.origin}"])
    key = {"authorization": f"Bearer {CLIENT_KEY}"}
    with httpx.Client(base_url=gate.base_url, trust_env=False, headers=key) as client:
        governed = client.post("/chat/completions", json=CHAT)
        other = client.post("/chat/completions", json={**CHAT, "model": "other"})
    assert governed.json()["choices"][0]["message"]["content"] == "routed"
    assert governed.headers["x-gateway-route"] == "all"
    assert routed.requests[0].header("authorization") == "Bearer sk-routed"
    assert other.json()["choices"][0]["message"]["content"] == "behind"
    assert behind.requests[0].header("authorization") == f"Bearer {CLIENT_KEY}"
    assert len(behind.requests) == len(routed.requests) == 1


def test_socks5_mode(gateway: StartGateway, upstream: StartUpstream) -> None:
    server = upstream(does.ok())
    gate = gateway(rules(provider(server)), modes=["socks5"])
    with httpx.Client(proxy=f"socks5://{gate.authority}", verify=trust(gate), trust_env=False) as client:
        reply = client.post("https://api.openai.com/v1/chat/completions", json={**CHAT, "stream": True})
    assert reply.text.endswith("data: [DONE]\n\n")
    assert len(server.requests) == 1


# WebSocket


async def _frames(client: Http1, socket: Connection, count: int) -> list[Event]:
    """The next `count` messages from the server."""
    found: list[Event] = []
    while len(found) < count:
        received = await asyncio.wait_for(client.reader.read(65536), 5)
        assert received, "the socket was closed"
        socket.receive_data(received)
        found += socket.events()
    return found


async def _talk(client: Http1, host: str) -> None:
    headers = (
        ("host", host),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        ("authorization", f"Bearer {CLIENT_KEY}"),
    )
    client.send("GET", "/v1/realtime?model=m", headers)
    answer = await client.head()
    assert (answer.status, answer.header("sec-websocket-accept")) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    assert answer.header("x-gateway-request-id")
    socket = Connection(ConnectionType.CLIENT)
    (greeting,) = await _frames(client, socket, 1)
    assert isinstance(greeting, TextMessage)
    assert greeting.data == "hello"
    for number in range(3):
        client.writer.write(socket.send(TextMessage(f"message {number}")) + socket.send(BytesMessage(b"\x00\xff")))
        text, sound = await _frames(client, socket, 2)
        assert isinstance(text, TextMessage)
        assert text.data == f"message {number}"
        assert isinstance(sound, BytesMessage)
        assert bytes(sound.data) == b"\x00\xff"
    client.leave()


@pytest.mark.parametrize("through_proxy", [False, True], ids=["direct", "proxied"])
@pytest.mark.parametrize("fails_first", [False, True], ids=["first-target", "second-target"])
async def test_web_sockets_carry_frames_both_ways(
    wires: Wires, gateway: StartGateway, upstream: StartUpstream, through_proxy: bool, fails_first: bool
) -> None:
    """The upgrade is an attempt like any other; then frames pass both ways, and leaving ends the upstream's side."""
    server, failing = upstream(does.websocket()), upstream(does.status(503))
    ours = provider(server, credential={"value": "sk-socket"})
    gate = gateway(rules(provider(failing), ours) if fails_first else rules(ours))
    client = await wires.intercepted(gate) if through_proxy else await wires.direct(gate)
    await _talk(client, "api.openai.com" if through_proxy else gate.authority)
    left = time.monotonic()
    assert (await server.awaited("closed", "reset", "ours", since=left - 0.05)).at - left < 1
    assert len(failing.requests) == fails_first
    assert server.requests[0].path == "/v1/realtime?model=m"
    assert server.requests[0].header("authorization") == "Bearer sk-socket"


# Request bodies


async def test_expect_100_continue(wires: Wires, gateway: StartGateway, upstream: StartUpstream) -> None:
    """The client waits for its 100; two attempts follow, each with the whole body and without Expect."""
    failing, server = upstream(does.status(500)), upstream(does.ok())
    gate = gateway(rules(provider(failing), provider(server)))
    client = await wires.direct(gate)
    headers = (("host", gate.authority), *JSON_TYPE, ("content-length", str(len(ASK))), ("expect", "100-continue"))
    client.send("POST", "/v1/chat/completions", headers)
    assert (await client.head()).status == 100
    client.writer.write(ASK)
    assert (await client.reply()).status == 200
    client.leave()
    for each in (failing, server):
        assert [request.body for request in each.requests] == [ASK]


@pytest.mark.parametrize("trailers", ["", "x-checksum: 1\r\n"], ids=["plain", "with-trailers"])
async def test_a_chunked_request(wires: Wires, gateway: StartGateway, upstream: StartUpstream, trailers: str) -> None:
    """Routed like any other. Trailers must not make it hang: an answer comes, and what goes upstream is whole."""
    server = upstream(does.ok())
    gate = gateway(rules(provider(server)))
    client = await wires.direct(gate)
    client.send("POST", "/v1/chat/completions", (("host", gate.authority), *JSON_TYPE, ("transfer-encoding", "chunked")))
    for at in range(0, len(ASK), 16):
        piece = ASK[at : at + 16]
        client.writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await asyncio.sleep(0)
    client.writer.write(f"0\r\n{trailers}\r\n".encode())
    answer = await client.reply(within=5)
    client.leave()
    if trailers and answer.status == 400:
        assert json.loads(answer.body)["error"]["code"] == "invalid_request"
        assert server.untouched
    else:
        assert answer.status == 200
        assert [request.body for request in server.requests] == [ASK]


@pytest.mark.parametrize("through_proxy", [False, True], ids=["direct", "proxied"])
def test_a_large_multipart_body_survives_a_failed_attempt(
    gateway: StartGateway, upstream: StartUpstream, through_proxy: bool
) -> None:
    """3 MiB, spooled to disk: the second target gets the client's very bytes, under the client's boundary."""
    failing, server = upstream(does.status(500)), upstream(does.answer({"text": "heard"}))
    gate = gateway(rules(provider(failing), provider(server)))
    sound = hashlib.sha256(b"seed").digest() * (3 * 2**20 // 32)
    form = httpx.Request(
        "POST",
        "http://x/",
        data={"model": "m", "language": "en"},
        files={"file": ("speech.wav", sound, "audio/wav")},
    )
    body = form.read()
    with plain(gate, through_proxy=through_proxy) as client:
        kind = {"content-type": form.headers["content-type"]}
        reply = client.post("/audio/transcriptions", content=body, headers=kind)
    assert reply.json() == {"text": "heard"}, reply.text
    assert reply.headers["x-gateway-attempts"] == "2"
    for each in (failing, server):
        assert hashlib.sha256(each.requests[0].body).digest() == hashlib.sha256(body).digest()
        assert each.requests[0].header("content-type") == form.headers["content-type"]


async def test_trailers_of_an_upstream_do_not_hang(wires: Wires, gateway: StartGateway, upstream: StartUpstream) -> None:
    """mitmproxy's parser raises on them: the attempt fails, and another target answers well before any deadline."""
    trailing, server = upstream(does.with_trailers()), upstream(does.ok("second"))
    gate = gateway(rules(provider(trailing), provider(server)))
    client = await wires.direct(gate)
    client.send("POST", "/v1/chat/completions", (("host", gate.authority), *JSON_TYPE), ASK)
    answer = await client.reply(within=8)
    client.leave()
    assert answer.status == 200
    assert json.loads(answer.body)["choices"][0]["message"]["content"] in ("trailed", "second")


async def test_a_refused_target_is_asked_again_on_the_same_connection(
    wires: Wires, gateway: StartGateway, upstream: StartUpstream
) -> None:
    """mitmproxy remembers a failed connection for as long as the client stays; the gateway must not."""
    server = upstream(does.ok())
    target = provider(server)
    server.close()
    gate = gateway(rules(target))
    client = await wires.direct(gate)
    client.send("POST", "/v1/chat/completions", (("host", gate.authority), *JSON_TYPE), ASK)
    assert (await client.reply()).status == 502
    back = await asyncio.start_server(_two_bytes, "127.0.0.1", server.port)
    client.send("POST", "/v1/embeddings", (("host", gate.authority), *JSON_TYPE), b'{"model": "m", "input": "x"}')
    answer = await client.reply()
    client.leave()
    back.close()
    assert (answer.status, answer.body) == (200, b"{}")


async def _two_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"}")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
    await writer.drain()
    writer.close()
