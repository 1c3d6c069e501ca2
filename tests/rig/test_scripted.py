"""The rig against itself: each behaviour does what it says, and the log tells the truth about it."""

import asyncio
import json
import ssl
import time

import httpx
import pytest
import trustme
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from rig import behaviours as does
from rig.corporate import CorporateProxy
from rig.scripted import full_backlog, refused_port
from rig.starts import StartUpstream
from rig.wire import Http1, Http2

CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def ask(url: str, *, stream: bool = False, verify: ssl.SSLContext | bool = True, http2: bool = False) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=2, verify=verify, http2=http2) as client:
        return client.post(f"{url}/chat/completions", json={**CHAT, "stream": stream})


def trusting(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


@pytest.mark.parametrize(("tls", "http2"), [(False, False), (True, False), (True, True)])
def test_answers_in_each_protocol(upstream: StartUpstream, ca: trustme.CA, tls: bool, http2: bool) -> None:
    server = upstream(does.ok(), does.ok(), does.status(429, (("retry-after", "7"),)), tls=tls, http2=http2)
    verify = trusting(ca)
    whole = ask(server.base_url, verify=verify, http2=http2)
    assert whole.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    assert whole.json()["choices"][0]["message"]["content"] == "hello"
    streamed = ask(server.base_url, stream=True, verify=verify, http2=http2).text
    assert "w0 " in streamed
    assert streamed.endswith("data: [DONE]\n\n")
    for _ in range(2):  # the last behaviour repeats
        limited = ask(server.base_url, verify=verify, http2=http2)
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "7")
    assert [request.path for request in server.requests] == ["/v1/chat/completions"] * 4
    assert server.requests[0].json()["model"] == "m"
    assert server.requests[0].header("content-type") == "application/json"
    assert server.count("accept") == 4


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize(
    "behaviour",
    [
        does.reset_before_headers(),
        does.reset_after_headers(),
        does.cut(),
        does.half_event_then_reset(),
        does.json_cut(),
        does.truncated(),
    ],
)
def test_breaks_are_visible(upstream: StartUpstream, ca: trustme.CA, behaviour: does.Behaviour, http2: bool) -> None:
    server = upstream(behaviour, tls=http2, http2=http2)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        ask(server.base_url, stream=True, verify=trusting(ca), http2=http2)
    assert len(server.requests) == 1
    assert server.count("ours") == 1


@pytest.mark.parametrize(
    "behaviour",
    [does.hang(), does.role_then_silence(), does.stall(), does.json_stall(), does.status_line_then_silence()],
)
def test_silences_last_until_the_client_leaves(upstream: StartUpstream, behaviour: does.Behaviour) -> None:
    server = upstream(behaviour)
    with httpx.Client(trust_env=False, timeout=0.3) as client, pytest.raises(httpx.ReadTimeout):
        client.post(server.base_url, json=CHAT)
    left = time.monotonic()
    assert server.wait("closed", "reset").at - left < 0.2


def test_contents_of_the_rest(upstream: StartUpstream) -> None:
    server = upstream(
        does.error_event(),
        does.early_eof(),
        does.invalid_utf8(),
        does.with_trailers(),
        does.echo(),
        does.redirect("/x"),
    )
    error, early, broken, trailed, echoed, moved = (ask(server.base_url, stream=True) for _ in range(6))
    assert b'"error"' in error.content
    assert b"w2 " in early.content
    assert b"[DONE]" not in early.content
    with pytest.raises(UnicodeDecodeError):
        broken.content.decode()
    assert trailed.json()["choices"][0]["message"]["content"] == "trailed"
    assert json.loads(echoed.json()["body"])["model"] == "m"
    assert moved.headers["location"] == "/x"
    server.script(does.broken_gzip())
    with pytest.raises(httpx.DecodingError):
        ask(server.base_url)
    server.script(does.garbage())
    with pytest.raises(httpx.RemoteProtocolError):
        ask(server.base_url)
    server.script(does.huge_headers(10_000))
    assert len(ask(server.base_url).headers["x-huge"]) == 10_000
    server.script(does.large(1_000_000))
    assert len(ask(server.base_url).content) > 1_000_000


async def test_leaving_is_timed(upstream: StartUpstream) -> None:
    server = upstream(does.ok_stream(1000, 0.02))
    client = Http1(await asyncio.open_connection("127.0.0.1", server.port))
    client.send("POST", "/v1/x", (("host", "x"),), b"{}")
    await client.until(b"w1 ")
    left = client.leave()
    assert (await server.awaited("closed", "reset", since=left)).at - left < 0.1


async def test_an_http2_reset_is_seen_and_the_connection_stays(upstream: StartUpstream, ca: trustme.CA) -> None:
    server = upstream(does.hang(), does.large(300_000), tls=True, http2=True)
    context = trusting(ca)
    context.set_alpn_protocols(["h2"])
    client = Http2(await asyncio.open_connection("127.0.0.1", server.port, ssl=context)).start()
    stream = await client.send("POST", "/v1/x", body=b"b" * 200_000)
    await server.awaited("request")
    assert len(server.requests[0].body) == 200_000
    left = client.reset(stream)
    assert (await server.awaited("rst", since=left)).at - left < 0.1
    answer = await client.reply(await client.send("GET", "/v1/y"))
    assert (answer.status, answer.whole) == (200, True)
    assert len(answer.body) > 300_000
    assert server.count("accept") == 1
    client.leave()
    await client.writer.wait_closed()


async def test_web_socket_greets_and_echoes(upstream: StartUpstream) -> None:
    server = upstream(does.websocket())
    client = Http1(await asyncio.open_connection("127.0.0.1", server.port))
    upgrade = (("host", "x"), ("upgrade", "websocket"), ("connection", "upgrade"))
    client.send("GET", "/v1/realtime", (*upgrade, ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")))
    answer = await client.head()
    assert (answer.status, answer.header("sec-websocket-accept")) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    socket = Connection(ConnectionType.CLIENT)
    client.writer.write(socket.send(TextMessage("abc")))
    assert await client.until(b"hello.*abc")
    client.leave()


async def test_chunked_requests_and_expect(upstream: StartUpstream) -> None:
    server = upstream(does.echo())
    client = Http1(await asyncio.open_connection("127.0.0.1", server.port))
    client.send("POST", "/", (("host", "x"), ("transfer-encoding", "chunked"), ("expect", "100-continue")))
    assert (await client.head()).status == 100
    client.writer.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert json.loads((await client.reply()).body)["body"] == "abcde"
    client.leave()


async def test_unreachable_ports() -> None:
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", refused_port())
    with full_backlog() as port, pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 0.5)


def test_corporate_proxy_asks_for_a_password(
    upstream: StartUpstream, ca: trustme.CA, corporate_proxy: CorporateProxy
) -> None:
    server, proxy = upstream(does.ok(), tls=True), corporate_proxy
    with httpx.Client(proxy=proxy.url, trust_env=False, verify=trusting(ca)) as client, pytest.raises(httpx.ProxyError):
        client.get(server.base_url)
    allowed = proxy.url.replace("//", "//gate:open%20sesame@")
    with httpx.Client(proxy=allowed, trust_env=False, verify=trusting(ca)) as client:
        assert client.post(server.base_url, json=CHAT).status_code == 200
    assert [asked.granted for asked in proxy.asked] == [False, True]
