"""THREATS row 5: CONNECT, SNI, Host and the request line name the same place, or nothing goes anywhere.

`llm.test` is intercepted and leads nowhere but to the provider of its route. The evil place is a listener on loopback to
which tunnels are allowed, so that whatever slips through is seen.
"""

import asyncio
import json
from collections.abc import Callable
from typing import NamedTuple

import pytest
from attacked import (
    ASK,
    JSON,
    PATH,
    ask_tunnel,
    careless,
    counted,
    error_of,
    provider,
    recorded,
    refused,
    rules,
    tunnelled,
    wire,
)

from rig import behaviours as does
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Answer, Http1, Http2

NAMED = "llm.test:443"
REQUEST = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: llm.test\r\ncontent-type: application/json\r\n"
           b"content-length: %d\r\n\r\n%b" % (len(ASK), ASK))  # fmt: skip


@pytest.fixture(scope="module")
def served(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok())


@pytest.fixture(scope="module")
def evil(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok("evil"), tls=True)


@pytest.fixture(scope="module")
def clear(shared_upstream: StartUpstream) -> Upstream:
    """Evil, too, in clear text."""
    return shared_upstream(does.ok("evil"))


@pytest.fixture(scope="module")
def gateway(shared_gateway: StartGateway, served: Upstream) -> Gateway:
    # `unmatched: pass` and a tunnel that may go to loopback: the laxest rules under which this must hold.
    return shared_gateway(rules(provider(served), intercept=["llm.test", "other.test"], tunnel={"allow": ["127.0.0.1"]}))


@pytest.fixture(autouse=True)
def forgotten(served: Upstream, evil: Upstream, clear: Upstream) -> None:
    served.script(does.ok())
    evil.script(does.ok("evil"))
    clear.script(does.ok("evil"))


@pytest.fixture
def nothing_upstream(served: Upstream, evil: Upstream, clear: Upstream) -> Callable[[], None]:
    def check() -> None:
        assert served.untouched
        assert evil.untouched
        assert clear.untouched

    return check


async def spoken(client: Http1, host: str, target: str = PATH, *more: tuple[str, str]) -> Answer:
    client.send("POST", target, (("host", host), *more, JSON), ASK)
    return await client.reply()


# The same name, in other words


class Same(NamedTuple):
    name: str
    connect: str = NAMED
    sni: str | None = "llm.test"
    host: str = "llm.test"
    target: str = PATH


@pytest.mark.parametrize(
    "case",
    [
        Same("all-three"),
        Same("host-with-port", host=NAMED),
        Same("host-in-upper-case", host="LLM.Test"),
        Same("host-with-final-dot", host="llm.test."),
        Same("host-with-final-dot-and-port", host="LLM.TEST.:443"),
        Same("connect-in-upper-case", connect="LLM.TEST:443"),
        Same("connect-with-final-dot", connect="llm.test.:443"),
        Same("sni-in-upper-case", sni="LLM.test"),
        Same("no-sni", sni=None),
        Same("absolute-form", target="https://llm.test" + PATH),
        Same("absolute-form-in-upper-case", target="HTTPS://LLM.TEST:443" + PATH),
        Same("another-port", connect="llm.test:8443", host="llm.test:8443"),
    ],
    ids=lambda case: case.name,
)
async def test_one_name_in_any_spelling_is_governed(gateway: Gateway, served: Upstream, case: Same) -> None:
    async with tunnelled(gateway, case.connect, sni=case.sni, tls=careless()) as client:
        answer = await spoken(client, case.host, case.target)
    assert (answer.status, answer.header("x-gateway-route")) == (200, "chat"), answer
    (request,) = served.requests
    assert request.header("host") == f"127.0.0.1:{served.port}"
    assert request.path == PATH


# Names that disagree


async def test_connect_to_evil_and_sni_of_ours(gateway: Gateway, evil: Upstream, nothing_upstream: Callable[[], None]) -> None:
    """Decrypted as ours, it must not be served as ours nor reach the other place."""
    async with tunnelled(gateway, f"127.0.0.1:{evil.port}", sni="llm.test", tls=careless()) as client:
        answer = await spoken(client, "llm.test")
    refused(answer, 421, "misdirected_request")
    nothing_upstream()


async def test_connect_to_ours_and_sni_of_evil(gateway: Gateway, nothing_upstream: Callable[[], None]) -> None:
    for host in ("llm.test", "evil.test"):
        async with tunnelled(gateway, NAMED, sni="evil.test", tls=careless()) as client:
            answer = await spoken(client, host)
        refused(answer, 421, "misdirected_request")
    nothing_upstream()


async def test_connect_to_ours_and_sni_of_another_of_ours(gateway: Gateway, nothing_upstream: Callable[[], None]) -> None:
    async with tunnelled(gateway, NAMED, sni="other.test", tls=careless()) as client:
        answer = await spoken(client, "other.test")
    refused(answer, 421, "misdirected_request")
    nothing_upstream()


@pytest.mark.parametrize(
    "host",
    ["other.test", "evil.test", "llm.test.evil.test", "llm.test:8443", "llm.test:80", "llm.test:0", "llm.test:", "127.0.0.1",
     "127.0.0.1:{evil}", "localhost:{evil}", "llm.test@127.0.0.1:{evil}", "llm.test, 127.0.0.1:{evil}", "llm.test:443:80",
     "llm.test:x", "llm.test/", "llm.test#", "llm.test\\evil.test", "llm.test..", ".llm.test", "[::1]", "[llm.test]",
     "llm.test%00", "llm\xad.test", "llm\xe3\x80\x82test"],
    ids=ascii,
)  # fmt: skip
async def test_the_host_inside_is_another(
    gateway: Gateway, evil: Upstream, nothing_upstream: Callable[[], None], host: str
) -> None:
    """`llm.test:` names the default port (RFC 3986, section 6.2.3); an ideographic full stop is a dot (RFC 3490, section
    3.1): these two mean our name, and may be served as it."""
    async with tunnelled(gateway, NAMED, sni="llm.test", tls=careless()) as client:
        answer = await spoken(client, host.format(evil=evil.port))
    if host in ("llm.test:", "llm\xe3\x80\x82test") and answer.status == 200:
        assert answer.header("x-gateway-route") == "chat"
        return
    assert answer.status in (400, 421), answer
    error_of(answer)
    nothing_upstream()


@pytest.mark.parametrize(
    "lines",
    ["Host: llm.test\r\nHost: evil.test", "Host: evil.test\r\nHost: llm.test", "Host: llm.test\r\nhost: 127.0.0.1:{evil}",
     "Host: llm.test\r\n evil.test", "Host : llm.test", "Host: llm.test\r\nHost: llm.test\r\nHost: evil.test", "Host:"],
)  # fmt: skip
async def test_several_or_odd_host_lines(
    gateway: Gateway, evil: Upstream, nothing_upstream: Callable[[], None], lines: str
) -> None:
    request = REQUEST.replace(b"Host: llm.test", lines.format(evil=evil.port).encode())
    async with tunnelled(gateway, NAMED, sni="llm.test", tls=careless()) as client:
        client.writer.write(request)
        answer = await client.reply()
    assert answer.status in (400, 421), answer
    error_of(answer)
    nothing_upstream()


async def test_no_host_line_at_all(gateway: Gateway, served: Upstream, evil: Upstream) -> None:
    """RFC 9112, 3.2: a server answers 400; governed as the tunnel's name would be as good. Nothing else."""
    async with tunnelled(gateway, NAMED, sni="llm.test", tls=careless()) as client:
        client.writer.write(REQUEST.replace(b"Host: llm.test\r\n", b""))
        answer = await client.reply()
    assert answer.status == 400 or answer.header("x-gateway-route") == "chat", answer
    assert evil.untouched


@pytest.mark.parametrize(
    "target",
    ["http://169.254.169.254/latest/meta-data/", "https://169.254.169.254" + PATH, "http://llm.test:80" + PATH,
     "https://127.0.0.1:{evil}" + PATH, "http://127.0.0.1:{clear}" + PATH, "https://llm.test:8443" + PATH,
     "https://user@llm.test@127.0.0.1:{evil}" + PATH, "https://llm.test@127.0.0.1:{evil}" + PATH, "ftp://llm.test/",
     "https:/" + PATH, "https://" + PATH, "//127.0.0.1:{evil}" + PATH, "127.0.0.1:{evil}"],
)  # fmt: skip
@pytest.mark.parametrize("host", ["llm.test", None], ids=["host-of-ours", "host-of-the-target"])
async def test_absolute_form_inside_the_tunnel(
    gateway: Gateway, evil: Upstream, clear: Upstream, nothing_upstream: Callable[[], None], target: str, host: str | None
) -> None:
    target = target.format(evil=evil.port, clear=clear.port)
    named = host or target.partition("//")[2].partition("/")[0]
    async with tunnelled(gateway, NAMED, sni="llm.test", tls=careless()) as client:
        answer = await spoken(client, named, target)
    assert answer.status in (400, 421), answer
    error_of(answer)
    nothing_upstream()


async def test_the_second_request_of_a_tunnel_is_checked_too(gateway: Gateway, served: Upstream, evil: Upstream) -> None:
    async with tunnelled(gateway, NAMED, sni="llm.test", tls=careless()) as client:
        assert (await spoken(client, "llm.test")).status == 200
        answer = await spoken(client, f"127.0.0.1:{evil.port}")
    refused(answer, 421, "misdirected_request")
    assert len(served.requests) == 1
    assert evil.untouched


# HTTP/2


@pytest.mark.parametrize(
    ("authority", "host"),
    [("evil.test", None), ("llm.test:8443", None), ("llm.test", "evil.test"), ("evil.test", "llm.test"),
     ("llm.test@evil.test", None), ("127.0.0.1:{evil}", None), ("", "evil.test"), ("", "127.0.0.1:{evil}")],
)  # fmt: skip
async def test_http2_names_another(
    gateway: Gateway, evil: Upstream, nothing_upstream: Callable[[], None], authority: str, host: str | None
) -> None:
    authority = authority.format(evil=evil.port)
    more = [("host", host.format(evil=evil.port))] if host is not None else []
    async with tunnelled(gateway, NAMED, sni="llm.test", tls=careless("h2")) as client:
        http2 = Http2((client.reader, client.writer)).start()
        http2._h2.config.validate_outbound_headers = False  # an attacker's client sends what it likes
        answer = await http2.reply(await http2.send("POST", PATH, (*more, JSON), ASK, authority=authority))
    assert answer.fault or answer.status in (400, 421), answer
    nothing_upstream()


@pytest.mark.parametrize("authority", ["llm.test", "LLM.TEST", "llm.test:443", "llm.test."])
async def test_http2_names_ours(gateway: Gateway, served: Upstream, authority: str) -> None:
    async with tunnelled(gateway, NAMED, sni="llm.test", tls=careless("h2")) as client:
        http2 = Http2((client.reader, client.writer)).start()
        answer = await http2.reply(await http2.send("POST", PATH, (JSON,), ASK, authority=authority))
    assert (answer.status, answer.header("x-gateway-route")) == (200, "chat")


# No TLS, odd beginnings


@pytest.mark.parametrize("beginning", [b"", b"\r\n", b"\r\n\r\n", b"\n", b" ", b"\x16", b"\x00"], ids=repr)
async def test_clear_text_inside_a_tunnel_to_ours(
    gateway: Gateway, nothing_upstream: Callable[[], None], beginning: bytes
) -> None:
    """On an intercepted host only TLS is spoken; a CRLF first must not make it raw bytes."""
    async with tunnelled(gateway, NAMED) as client:
        client.writer.write(beginning + REQUEST)
        try:
            answer = await client.reply(3)
        except (asyncio.IncompleteReadError, ConnectionError):
            answer = None  # closed without a word, which is as good
        except TimeoutError:
            answer = None  # \x16 and \x00 may look like a hello that is still to come
            assert beginning in (b"\x16", b"\x00")
    if answer is not None:
        assert answer.status in (400, 421), answer
        error_of(answer)
    nothing_upstream()


@pytest.mark.parametrize("beginning", [b"\r\n", b"\r\n\r\n", b"\n"], ids=repr)
async def test_a_crlf_first_inside_tls_without_alpn(
    gateway: Gateway, served: Upstream, evil: Upstream, clear: Upstream, beginning: bytes
) -> None:
    """RFC 9112, 2.2: an empty line may be skipped. Governed or refused; never raw, never silence."""
    async with tunnelled(gateway, NAMED, sni="llm.test", tls=careless()) as client:
        client.writer.write(beginning + REQUEST)
        answer = await client.reply(5)
    assert answer.status == 400 or answer.header("x-gateway-route") == "chat", answer
    assert evil.untouched
    assert clear.untouched


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-x\r\n\r\n", b"EHLO evil.test\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00\x01\r\n\r\n"]
)
async def test_other_protocols_inside_tls_do_not_pass(
    gateway: Gateway, nothing_upstream: Callable[[], None], said: bytes
) -> None:
    """Whatever it is, it is not a request: 400, and none of its bytes go anywhere."""
    async with tunnelled(gateway, NAMED, sni="llm.test", tls=careless()) as client:
        client.writer.write(said)
        refused(await client.reply(5), 400, "invalid_request")
        assert await asyncio.wait_for(client.reader.read(), 5) == b""
    nothing_upstream()


@pytest.mark.parametrize("to", [NAMED, "127.0.0.1:{evil}", "169.254.169.254:80"])
async def test_connect_inside_a_tunnel(gateway: Gateway, evil: Upstream, nothing_upstream: Callable[[], None], to: str) -> None:
    to = to.format(evil=evil.port)
    async with tunnelled(gateway, NAMED, sni="llm.test", tls=careless()) as client:
        answer = await ask_tunnel(client, to)
    assert answer.status in (400, 403, 405, 421), answer
    nothing_upstream()


@pytest.mark.parametrize(
    "lines",
    ["Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked, identity", "Transfer-Encoding: xchunked",
     "Content-Length: 5\r\nContent-Length: 6", "Content-Length: +5", "Content-Length: 5, 6", "Content-Length: -1",
     "Transfer-Encoding : chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
     "Content-Length: 0x5", "Content-Length: 5 5"],
)  # fmt: skip
@pytest.mark.parametrize("way", ["direct", "intercepted"])
async def test_a_body_that_two_servers_would_frame_in_two_ways(
    gateway: Gateway, nothing_upstream: Callable[[], None], lines: str, way: str
) -> None:
    """Request smuggling: refused in our shape, and the connection does not go on."""
    host = gateway.authority if way == "direct" else "llm.test"
    head = f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\ncontent-type: application/json\r\n{lines}\r\n\r\n".encode()
    smuggled = b"0\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n"
    opened = wire(gateway) if way == "direct" else tunnelled(gateway, NAMED, sni="llm.test", tls=careless())
    async with opened as client:
        client.writer.write(head + smuggled)
        answer = await client.reply()
        assert await asyncio.wait_for(client.reader.read(), 5) == b""
    refused(answer, 400, "invalid_request")
    nothing_upstream()


async def test_a_body_of_no_certain_length_is_recorded_as_such(gateway: Gateway) -> None:
    before = counted(gateway, "mitmgate_exchanges_total", status="400", code="invalid_request")
    await asyncio.sleep(0.3)  # records of before are written a little later
    lines = len(gateway.records())
    async with wire(gateway) as client:
        client.send("POST", PATH, (("host", gateway.authority), JSON, ("content-length", "5"), ("content-length", "6")))
        refused(await client.reply(), 400, "invalid_request")
    (record,) = gateway.records(lines + 1)[lines:]
    assert (record["status"], record["code"]) == (400, "invalid_request")
    assert counted(gateway, "mitmgate_exchanges_total", status="400", code="invalid_request") == before + 1


# In clear text through the proxy


async def test_an_intercepted_host_in_clear_text_is_governed(gateway: Gateway, served: Upstream, clear: Upstream) -> None:
    async with wire(gateway) as client:
        answer = await spoken(client, "llm.test", "http://llm.test" + PATH)
    assert (answer.status, answer.header("x-gateway-route")) == (200, "chat")
    assert recorded(gateway, answer)["way"] == "proxied"
    assert clear.untouched


@pytest.mark.parametrize(
    ("target", "host"),
    [("http://llm.test" + PATH, "127.0.0.1:{clear}"), ("http://127.0.0.1:{clear}" + PATH, "llm.test"),
     ("http://llm.test:{clear}" + PATH, "llm.test"), ("http://llm.test@127.0.0.1:{clear}" + PATH, "llm.test")],
)  # fmt: skip
async def test_absolute_form_and_host_disagree(
    gateway: Gateway, clear: Upstream, nothing_upstream: Callable[[], None], target: str, host: str
) -> None:
    async with wire(gateway) as client:
        answer = await spoken(client, host.format(clear=clear.port), target.format(clear=clear.port))
    assert answer.status in (400, 421), answer
    error_of(answer)
    nothing_upstream()


async def test_after_all_of_this_a_call_is_served(gateway: Gateway, served: Upstream) -> None:
    async with tunnelled(gateway, NAMED, sni="llm.test", tls=careless()) as client:
        answer = await spoken(client, "llm.test")
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == "hello"
    assert len(served.requests) == 1
