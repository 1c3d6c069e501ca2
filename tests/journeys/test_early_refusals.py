"""Requests that mitmproxy refuses before its first hook: answered as any refusal, each with its record and its count."""

import asyncio
import contextlib
import json
from typing import Any

import pytest

from rig import behaviours as does
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Answer, Http2, Wires, _Stream

PATH = "/v1/chat/completions"
ASK = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
JSON = ("content-type", "application/json")
HOST = "Host: {host}\r\n"
REST = "content-type: application/json\r\ncontent-length: 2\r\n"

HEADS = {
    "no-host": f"POST {PATH} HTTP/1.1\r\n{REST}",
    "empty-host": f"POST {PATH} HTTP/1.1\r\nHost:\r\n{REST}",
    "no-host-name": f"POST {PATH} HTTP/1.1\r\nHost: a b\r\n{REST}",
    "no-host-in-http-1.0": f"POST {PATH} HTTP/1.0\r\n{REST}",
    "ftp": f"GET ftp://llm.test/ HTTP/1.1\r\n{HOST}",
    "ftp-with-a-body": f"POST ftp://llm.test/ HTTP/1.1\r\n{HOST}{REST}",
    "unknown-scheme": f"GET gopher://llm.test:70/ HTTP/1.1\r\n{HOST}",
    "user": f"POST http://secret@llm.test{PATH} HTTP/1.1\r\n{HOST}{REST}",
    "user-and-password": f"POST http://user:secret@llm.test{PATH} HTTP/1.1\r\n{HOST}{REST}",
    "absolute-without-a-host": f"POST http://{PATH} HTTP/1.1\r\n{HOST}{REST}",
    "no-request-line": f"secret\r\n{HOST}",
    "control-characters": f"\x1b[31msecret \x00 \x07\r\n{HOST}",
    "http2-preface": "PRI * HTTP/2.0\r\n",
    "unknown-version": f"POST {PATH} HTTP/7.0\r\n{HOST}{REST}",
    "connect-without-a-port": "CONNECT secret HTTP/1.1\r\nHost: secret\r\n",
    "header-without-a-colon": f"POST {PATH} HTTP/1.1\r\n{HOST}{REST}secret\r\n",
    "header-name": f"POST {PATH} HTTP/1.1\r\n{HOST}{REST}x secret: 1\r\n",
    "length-and-chunked": f"POST {PATH} HTTP/1.1\r\n{HOST}{REST}transfer-encoding: chunked\r\n",
    "two-lengths": f"POST {PATH} HTTP/1.1\r\n{HOST}{REST}content-length: 3\r\n",
    "no-length": f"POST {PATH} HTTP/1.1\r\n{HOST}content-length: secret\r\n",
    "unknown-coding": f"POST {PATH} HTTP/1.1\r\n{HOST}transfer-encoding: secret\r\n",
    "chunked-in-http-1.0": f"POST {PATH} HTTP/1.0\r\n{HOST}transfer-encoding: chunked\r\n",
}


def written(name: str, host: str) -> bytes:
    """A request with this head, and with the body that the head speaks of."""
    head = HEADS[name]
    body = "0\r\n\r\n" if "chunked" in head else "{}" if REST in head else ""
    return f"{head.format(host=host)}\r\n{body}".encode("latin-1")


HUGE = f"POST {PATH} HTTP/1.1\r\n{HOST}x-secret: " + "x" * (80 << 10)


@pytest.fixture
def served(upstream: StartUpstream) -> Upstream:
    return upstream(does.ok())


@pytest.fixture
def gate(gateway: StartGateway, served: Upstream) -> Gateway:
    """One of its own for each test, so that its lines can be counted."""
    return gateway(
        {
            "intercept": ["api.openai.com"],
            "providers": {"up": {"dialect": "openai", "base_url": served.base_url, "zone": "internal"}},
            "routes": [{"name": "all", "match": {}, "targets": [{"provider": "up"}]}],
        }
    )


def is_recorded(gate: Gateway, answer: Answer, status: int, code: str) -> dict[str, Any]:
    """A refusal in our shape, and the one record under the id that it carries."""
    assert (answer.status, answer.whole) == (status, True), answer
    assert answer.header("server") is None
    assert answer.header("content-type") == "application/json"
    error = json.loads(answer.body)["error"]
    assert error["code"] == code
    assert error["doc_url"] == f"{gate.admin_url}/docs/errors/{code}"
    assert answer.header("x-gateway-request-id") == answer.header("x-request-id")
    assert answer.header("x-gateway-attempts") == "0"
    record = gate.record(answer.header("x-gateway-request-id") or "")
    assert (record["status"], record["code"], record["client"]) == (status, code, "127.0.0.1")
    assert (record["attempts"], record["provider"]) == ([], None)
    return record


def all_is_told(gate: Gateway, requests: int, refused: int, code: str = "invalid_request") -> None:
    """As many lines as requests, as many refusals in the metrics; none is in flight; nothing of them is in a log."""
    assert len(gate.records(requests)) == requests
    assert (gate.folder / "stdout").read_bytes().count(b"\n") == requests
    metrics = gate.admin("/metrics")[1].splitlines()
    counts = [line for line in metrics if line.startswith("mitmgate_exchanges_total{") and f'code="{code}"' in line]
    assert sum(float(line.rpartition(" ")[2]) for line in counts) == refused
    assert "mitmgate_in_flight 0.0" in metrics
    assert "secret" not in gate.log()
    assert "\x1b" not in gate.log()


async def ended(reader: asyncio.StreamReader) -> None:
    """The connection ends after what was said."""
    with contextlib.suppress(ConnectionError):              # where what we sent beyond the head was not read
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_each_leaves_one_record(gate: Gateway, served: Upstream, wires: Wires) -> None:
    for name in HEADS:
        client = await wires.direct(gate)
        client.writer.write(written(name, gate.authority))
        print(name)                         # shown where it fails
        answer = await client.reply()
        record = is_recorded(gate, answer, 400, "invalid_request")
        assert answer.header("connection") == "close"
        await ended(client.reader)
        assert record["operation"] == "other"
    assert served.untouched
    all_is_told(gate, len(HEADS), len(HEADS))


async def test_a_head_without_an_end(gate: Gateway, served: Upstream, wires: Wires) -> None:
    """Answered while the client still sends; what it sends from then on is thrown away, and makes no further line."""
    client = await wires.direct(gate)
    client.writer.write(HUGE.format(host=gate.authority).encode())
    is_recorded(gate, await client.reply(), 431, "headers_too_large")
    await ended(client.reader)
    client.writer.write(b"\r\n\r\n" + f"POST {PATH} HTTP/1.1\r\n{HOST}\r\n".format(host=gate.authority).encode())
    await client.writer.drain()
    client.leave()
    assert served.untouched
    all_is_told(gate, 1, 1, "headers_too_large")


@pytest.mark.parametrize("name", ["no-host", "ftp", "user", "no-request-line", "two-lengths"])
async def test_after_a_good_call(gate: Gateway, served: Upstream, wires: Wires, name: str) -> None:
    """Both in one segment: the good call is answered and recorded, then the other one."""
    client = await wires.direct(gate)
    good = f"POST {PATH} HTTP/1.1\r\n{HOST}content-type: application/json\r\ncontent-length: {len(ASK)}\r\n\r\n"
    client.writer.write(good.format(host=gate.authority).encode() + ASK + written(name, gate.authority))
    assert (await client.reply()).status == 200
    is_recorded(gate, await client.reply(), 400, "invalid_request")
    await ended(client.reader)
    assert len(served.requests) == 1
    all_is_told(gate, 2, 1)


@pytest.mark.parametrize("mode", ["reverse:http://127.0.0.1:9", "socks5"])
async def test_in_other_modes(gateway: StartGateway, served: Upstream, wires: Wires, mode: str) -> None:
    """There mitmproxy knows the destination, but not what the request is."""
    gate = gateway(
        {
            "intercept": ["127.0.0.1"],
            "tunnel": {"allow": ["127.0.0.1"]},
            "providers": {"up": {"dialect": "openai", "base_url": served.base_url, "zone": "internal"}},
            "routes": [{"name": "all", "match": {}, "targets": [{"provider": "up"}]}],
        },
        modes=[mode],
    )
    names = ("no-request-line", "user", "length-and-chunked", "unknown-scheme")
    for name in names:
        client = await wires.direct(gate)
        if mode == "socks5":
            client.writer.write(b"\x05\x01\x00")
            assert await client.reader.readexactly(2) == b"\x05\x00"
            client.writer.write(b"\x05\x01\x00\x01\x7f\0\0\x01\0\x09")
            assert (await client.reader.readexactly(10))[1] == 0
        client.writer.write(written(name, "127.0.0.1:9"))
        is_recorded(gate, await client.reply(), 400, "invalid_request")
        await ended(client.reader)
    assert served.untouched
    all_is_told(gate, len(names), len(names))


HTTP2 = {
    "user": [(":method", "POST"), (":scheme", "https"), (":authority", "secret@api.openai.com"), (":path", PATH)],
    "no-host-name": [(":method", "POST"), (":scheme", "https"), (":authority", "a/secret"), (":path", PATH)],
    "ftp": [(":method", "POST"), (":scheme", "ftp"), (":authority", "api.openai.com"), (":path", PATH)],
    "two-lengths": [
        (":method", "POST"), (":scheme", "https"), (":authority", "api.openai.com"), (":path", PATH),
        ("content-length", "2"), ("content-length", "2"),
    ],
}  # fmt: skip


def opened(client: Http2, head: list[tuple[str, str]], *, end: bool) -> int:
    """A request with exactly this head; its stream."""
    stream = client._h2.get_next_available_stream_id()
    client._streams[stream] = _Stream()
    client._h2.send_headers(stream, head, end_stream=end)
    client._flush()
    return stream


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "uploading"])
async def test_in_http2(gate: Gateway, served: Upstream, wires: Wires, whole: bool) -> None:
    """Each costs its own stream: a call between them and one after them are served over the same connection."""
    client = await wires.http2(gate)
    client._h2.config.validate_outbound_headers = False     # an attacker's client sends what it likes
    client._h2.config.normalize_outbound_headers = False
    between = await client.send("POST", PATH, (JSON,), ASK)
    for name, head in HTTP2.items():
        print(name)                         # shown where it fails
        stream = opened(client, head, end=whole)
        is_recorded(gate, await client.reply(stream), 400, "invalid_request")
        if not whole:
            client._h2.send_data(stream, b"{}", end_stream=True)
            client._flush()
        assert (await client.reply(await client.send("POST", PATH, (JSON,), ASK))).status == 200, name
    assert (await client.reply(between)).status == 200
    assert len(served.requests) == 1 + len(HTTP2)
    all_is_told(gate, 1 + 2 * len(HTTP2), len(HTTP2))
