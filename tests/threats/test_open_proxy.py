"""THREATS rows 7 and 19: the gateway is no way into the network behind it, nor into itself, nor around itself."""

import asyncio
import hashlib
import json
import secrets
import socket
import ssl

import pytest
from attacked import (
    ASK,
    JSON,
    PATH,
    ask_tunnel,
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

from rig import behaviours as does
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Answer, Http1

SECRET = "the admin port's own words"


@pytest.fixture(scope="module")
def served(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok())


@pytest.fixture(scope="module")
def inside(shared_upstream: StartUpstream) -> Upstream:
    """What stands on the machine and is nobody's business."""
    return shared_upstream(does.ok(SECRET))


@pytest.fixture(scope="module")
def gateway(shared_gateway: StartGateway, served: Upstream) -> Gateway:
    """`tunnel:` as it is by default."""
    return shared_gateway(rules(provider(served), intercept=["llm.test"]))


@pytest.fixture(autouse=True)
def forgotten(served: Upstream, inside: Upstream) -> None:
    served.script(does.ok())
    inside.script(does.ok(SECRET))


async def connect_to(gateway: Gateway, to: str) -> Answer:
    async with wire(gateway) as client:
        return await ask_tunnel(client, to)


async def get(gateway: Gateway, url: str) -> Answer:
    """A request in absolute form, as a client of a plain HTTP proxy writes it."""
    async with wire(gateway) as client:
        client.send("GET", url, (("host", url.split("/")[2]),))
        return await client.reply()


SPELLINGS = (
    "127.0.0.1", "localhost", "LOCALHOST", "localhost.", "127.1", "127.0.1", "127.000.000.001", "0x7f.1", "0x7f000001",
    "0177.0.0.1", "2130706433", "017700000001", "0", "0.0.0.0", "127.0.0.1.", "127.255.255.254", "[::1]", "[::]",
    "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
    "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]",
    "169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "100.64.0.1", "100.100.100.200", "10.0.0.1",
    "172.16.0.1", "192.168.0.1", "[fc00::1]", "[::ffff:10.0.0.1]", "[64:ff9b::a00:1]", "192.0.0.192", "168.63.129.16",
    "224.0.0.1", "255.255.255.255", "240.0.0.1",
)  # fmt: skip


@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_tunnel_to_what_is_not_public(gateway: Gateway, inside: Upstream, host: str) -> None:
    """On 443, so that the address alone decides; a try at it would have been 502, for nobody listens there."""
    before = counted(gateway, "mitmgate_tunnels_total", outcome="denied")
    for port in (443, inside.port):
        answer = await connect_to(gateway, f"{host}:{port}")
        assert answer.status in (400, 403), answer
        if answer.status == 403:
            error = json.loads(answer.body)["error"]
            assert (error["code"], error["type"]) == ("tunnel_denied", "permission_error")
    assert inside.untouched
    if answer.status == 403:
        assert counted(gateway, "mitmgate_tunnels_total", outcome="denied") == before + 2


@pytest.mark.parametrize("port", [22, 25, 80, 0, 1, 65535])
async def test_no_tunnel_to_other_ports(gateway: Gateway, port: int) -> None:
    """Documentation's address (RFC 5737): nothing would be there, but 443 alone is open."""
    answer = await connect_to(gateway, f"public.test:{port}")
    assert answer.status in (400, 403), answer
    assert json.loads(answer.body)["error"]["code"] in ("tunnel_denied", "invalid_request")


@pytest.mark.parametrize(
    "to", ["llm.test:99999", "llm.test:-1", "llm.test", ":443", "llm.test:x", "[::1", "a b:443", "http://x:443", "*:443"]
)
async def test_connect_to_nonsense(gateway: Gateway, to: str) -> None:
    answer = await connect_to(gateway, to)
    assert answer.status in (400, 403), answer
    assert json.loads(answer.body)["error"]["code"] in ("tunnel_denied", "invalid_request", "misdirected_request")
    assert answer.header("server") is None


@pytest.mark.parametrize("host", [each for each in SPELLINGS if each not in ("127.000.000.001", "0")])
async def test_no_plain_request_to_what_is_not_public(gateway: Gateway, inside: Upstream, host: str) -> None:
    for port in (80, inside.port):
        answer = await get(gateway, f"http://{host}:{port}/latest/meta-data/")
        assert answer.status in (400, 403, 421), answer
        if answer.status == 403:
            assert json.loads(answer.body)["error"]["code"] == "tunnel_denied"
        assert SECRET.encode() not in answer.body
    assert inside.untouched


@pytest.mark.parametrize("scheme", ["https", "ftp", "file", "gopher", "ws", "javascript"])
async def test_no_other_scheme(gateway: Gateway, inside: Upstream, scheme: str) -> None:
    answer = await get(gateway, f"{scheme}://127.0.0.1:{inside.port}/")
    assert answer.status in (400, 403, 421), answer
    assert inside.untouched


@pytest.mark.parametrize("allow", [["*"], ["127.0.0.1", "localhost", "[::1]"], ["127.0.0.0/8", "::1"]], ids=str)
async def test_never_to_itself(shared_gateway: StartGateway, served: Upstream, allow: list[str]) -> None:
    """Whoever allows loopback does not allow the gateway's own two ports: a loop, and the admin port without its guard."""
    gateway = shared_gateway(rules(provider(served), tunnel={"allow": allow}))
    for port in (gateway.proxy_port, gateway.admin_port):
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "127.0.0.1.", "LocalHost."):
            answer = await connect_to(gateway, f"{host}:{port}")
            assert answer.status == 403, (host, port, answer)
            assert json.loads(answer.body)["error"]["code"] == "tunnel_denied"
            answer = await get(gateway, f"http://{host}:{port}/metrics")
            assert answer.status in (403, 421), (host, port, answer)
            assert b"mitmgate_" not in answer.body


async def test_never_to_itself_as_a_provider(shared_gateway: StartGateway) -> None:
    """A `base_url` that is the gateway's own port would be a loop."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {"dialect": "openai", "base_url": f"http://127.0.0.1:{port}/v1"}
    gateway = shared_gateway(rules(own), listen={"proxy": f"127.0.0.1:{port}"})
    async with wire(gateway) as client:
        client.send("POST", PATH, (("host", gateway.authority), JSON), ASK)
        answer = await client.reply()
    refused(answer, 502, "upstream_unreachable")
    assert [attempt["outcome"] for attempt in recorded(gateway, answer)["attempts"]] == ["denied"]
    assert len(gateway.records()) == 1


async def test_never_to_itself_by_a_wildcard_address(shared_gateway: StartGateway, served: Upstream) -> None:
    """Listening on all addresses, each of the machine's is its own."""
    document = rules(provider(served), access="open", tunnel={"allow": ["127.0.0.0/8"]})
    gateway = shared_gateway(document, listen={"proxy": "0.0.0.0:0"})
    for host in ("127.0.0.1", "127.0.0.2", "0.0.0.0"):
        answer = await connect_to(gateway, f"{host}:{gateway.proxy_port}")
        assert answer.status == 403, (host, answer)


# What is allowed


@pytest.fixture(scope="module")
def opened(shared_gateway: StartGateway, served: Upstream) -> Gateway:
    return shared_gateway(rules(provider(served), intercept=["llm.test"], tunnel={"allow": ["127.0.0.1"]}))


async def test_an_allowed_tunnels_tls_is_end_to_end(opened: Gateway, upstream: StartUpstream, ca_pem: str) -> None:
    """The client sees the server's own certificate, not one of ours, and trusts nothing but the server's CA."""
    server = upstream(does.ok(), tls=True)
    trusting = ssl.create_default_context(cadata=ca_pem)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting)
    own = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    await dropped((reader, writer))
    async with tunnelled(opened, f"127.0.0.1:{server.port}", sni="127.0.0.1", tls=trusting) as client:
        seen = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        client.send("POST", PATH, (("host", "127.0.0.1"), ("x-odd", "kept"), JSON), ASK)
        answer = await client.reply()
    assert hashlib.sha256(seen).digest() == hashlib.sha256(own).digest()
    assert answer.status == 200
    assert answer.header("x-gateway-request-id") is None
    assert server.requests[0].header("x-odd") == "kept"


@pytest.mark.parametrize("beginning", [b"", b"\r\n", b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", b"PRI * HTTP/2.0\r\n\r\n"])
async def test_an_allowed_tunnel_is_byte_for_byte(opened: Gateway, beginning: bytes) -> None:
    """Whatever is said in it, to the last byte, and both ends of it."""
    got = bytearray()
    ended = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            got.extend(piece)
            writer.write(piece)
        ended.set()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sent = beginning + secrets.token_bytes(300_000)
    async with tunnelled(opened, f"127.0.0.1:{port}") as client:
        client.writer.write(sent)
        back = await asyncio.wait_for(client.reader.readexactly(len(sent)), 10)
        client.writer.write_eof()
        await asyncio.wait_for(ended.wait(), 5)
    server.close()
    assert bytes(got) == sent
    assert back == sent


async def test_another_address_is_still_denied(opened: Gateway, inside: Upstream) -> None:
    for host in ("127.0.0.2", "localhost", "[::1]", "10.0.0.1"):
        answer = await connect_to(opened, f"{host}:{inside.port}")
        # `localhost` is 127.0.0.1 here, which the rules allow by its address.
        assert answer.status == (200 if host == "localhost" else 403), (host, answer)


async def test_deny_is_stronger_than_allow(shared_gateway: StartGateway, served: Upstream, inside: Upstream) -> None:
    gateway = shared_gateway(rules(provider(served), tunnel={"allow": ["127.0.0.0/8", "localhost"], "deny": ["127.0.0.1"]}))
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
        assert (await connect_to(gateway, f"{host}:{inside.port}")).status == 403, host
    assert inside.untouched


# tunnel: governed


@pytest.fixture(scope="module")
def governed(shared_gateway: StartGateway, served: Upstream) -> Gateway:
    document = rules(provider(served), intercept=["llm.test"], tunnel={"governed": True, "allow": ["localhost", "127.0.0.1"]})
    return shared_gateway(document)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "93.184.216.34", "[2606:2800:220:1::1]"])
async def test_governed_tunnels_lead_to_no_bare_address(governed: Gateway, inside: Upstream, host: str) -> None:
    for port in (443, inside.port):
        answer = await connect_to(governed, f"{host}:{port}")
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (403, "tunnel_denied")
    assert inside.untouched


async def test_governed_tunnels_need_a_server_name(governed: Gateway, upstream: StartUpstream) -> None:
    """No name in the hello, no tunnel: closed and counted; with the name the same tunnel works."""
    server = upstream(does.ok(), tls=True)
    before = counted(governed, "mitmgate_tunnels_total", outcome="hidden_name")
    with pytest.raises((ssl.SSLError, OSError)):
        async with tunnelled(governed, f"localhost:{server.port}", tls=careless()):
            pytest.fail("a handshake without a name was carried through")
    assert counted(governed, "mitmgate_tunnels_total", outcome="hidden_name") == before + 1
    assert server.requests == []
    assert server.count("request", "head") == 0
    async with tunnelled(governed, f"localhost:{server.port}", sni="localhost", tls=careless()) as client:
        client.send("POST", PATH, (("host", "localhost"), JSON), ASK)
        assert (await client.reply()).status == 200


async def test_governed_tunnels_refuse_an_encrypted_hello(governed: Gateway, upstream: StartUpstream) -> None:
    """RFC 9849: the name that is seen is not the one that is meant."""
    server = upstream(does.ok(), tls=True)
    before = counted(governed, "mitmgate_tunnels_total", outcome="hidden_name")
    async with tunnelled(governed, f"localhost:{server.port}") as client:
        client.writer.write(encrypted_hello("localhost"))
        assert await asyncio.wait_for(_rest(client), 5) in (b"", None)
    assert counted(governed, "mitmgate_tunnels_total", outcome="hidden_name") == before + 1
    assert server.count("head", "error") == 0


async def _rest(client: Http1) -> bytes | None:
    try:
        return await client.reader.read()
    except ConnectionError:
        return None


def encrypted_hello(name: str) -> bytes:
    """A real ClientHello with an `encrypted_client_hello` extension put in at its end."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = careless().wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = bytearray(outgoing.read())
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]  # session id
    at += 2 + int.from_bytes(hello[at : at + 2])  # cipher suites
    at += 1 + hello[at]  # compression methods
    extension = b"\xfe\x0d" + (40).to_bytes(2) + b"\x00\x00\x01\x00\x01\x07\x00\x10" + bytes(32)
    for place, size in ((3, 2), (6, 3), (at, 2)):  # lengths of the record, the message, the extensions
        hello[place : place + size] = (int.from_bytes(hello[place : place + size]) + len(extension)).to_bytes(size)
    return bytes(hello) + extension


@pytest.mark.parametrize("way", ["governed-call", "passed-call"])
async def test_no_hint_of_a_way_around_us(shared_gateway: StartGateway, upstream: StartUpstream, way: str) -> None:
    """`Alt-Svc` would move the client to HTTP/3, past the proxy."""
    server = upstream(does.answer(does.completion("x"), headers=(("alt-svc", 'h3=":443"; ma=86400'),)))
    gateway = shared_gateway(rules(provider(server), tunnel={"allow": ["127.0.0.1"]}))
    async with wire(gateway) as client:
        target = PATH if way == "governed-call" else f"{server.origin}{PATH}"
        host = gateway.authority if way == "governed-call" else f"127.0.0.1:{server.port}"
        client.send("POST", target, (("host", host), JSON), ASK)
        answer = await client.reply()
    assert answer.status == 200
    assert answer.header("alt-svc") is None
    assert len(server.requests) == 1
