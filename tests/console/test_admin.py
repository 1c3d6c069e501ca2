"""The admin port, by raw requests on real sockets: what it serves, to whom, and that no client can hold it."""

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

import aiohttp
import pytest

from mitmgate.console.admin import AdminServer, Readiness
from mitmgate.errors import CODES
from mitmgate.record import Record
from mitmgate.telemetry.metrics import Metrics
from mitmgate.transport.reload import Outcome

READY = Readiness(ready=True, version="1.2.3", ca="AB:CD", rules=4, warnings=("provider azure is inactive",))

RECORD = Record(
    id="01J", at=1738324800.0, way="direct", operation="chat", method="POST", client="127.0.0.1", rules=1, route=None,
    requested_model=None, target_model=None, served_model=None, provider=None, stream=True, status=200, code=None,
    broken=None, attempts=(), fallback_from=None, retries=0, tokens_input=1, tokens_output=1, milliseconds=1,
    first_content_ms=1, request_bytes=1, upstream_request_id=None,
)  # fmt: skip


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class State:
    """What /readyz is to say; tests change it."""

    def __init__(self) -> None:
        self.now = READY
        self.fails = False

    def __call__(self) -> Readiness:
        if self.fails:
            raise ValueError("the rules' generation is gone")
        return self.now


@contextlib.asynccontextmanager
async def running(
    state: State | None = None, host: str = "127.0.0.1", **options: object
) -> AsyncIterator[tuple[AdminServer, int]]:
    server = AdminServer(state or State(), Metrics("1.2.3"), **options)  # type: ignore[arg-type]
    _, port = await server.start(host, 0)
    try:
        yield server, port
    finally:
        await server.stop()


async def send(port: int, request: bytes, host: str = "127.0.0.1") -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


async def ask(
    port: int, path: str = "/healthz", *, method: str = "GET", host: str | None = "127.0.0.1", **more: str
) -> Answer:
    lines = [f"{method} {path} HTTP/1.1"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    head, _, body = (await send(port, "\r\n".join([*lines, "", ""]).encode("latin-1"))).partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
    return Answer(int(status.split()[1]), headers, body)


async def test_health() -> None:
    async with running() as (_, port):
        answer = await ask(port)
        assert (answer.status, answer.body) == (200, b'{"status":"ok"}')
        assert answer.headers["content-type"] == "application/json"


async def test_readiness_says_what_the_callable_says() -> None:
    state = State()
    async with running(state) as (_, port):
        answer = await ask(port, "/readyz")
        assert answer.status == 200
        assert json.loads(answer.body) == {
            "status": "ok", "version": "1.2.3", "ca": "AB:CD", "rules": 4, "draining": False,
            "warnings": ["provider azure is inactive"],
        }  # fmt: skip
        state.now = Readiness(ready=True, version="1.2.3", ca=None, rules=5, draining=True)
        answer = await ask(port, "/readyz")
        assert (answer.status, json.loads(answer.body)["status"]) == (503, "draining")
        state.now = Readiness(ready=False, version="1.2.3", ca=None, rules=0)
        answer = await ask(port, "/readyz")
        assert (answer.status, json.loads(answer.body)["status"]) == (503, "not_ready")


async def test_metrics_are_prometheus_text() -> None:
    async with running() as (_, port):
        answer = await ask(port, "/metrics")
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert b'mitmgate_info{version="1.2.3"} 1.0\n' in answer.body


@pytest.mark.parametrize("code", CODES)
async def test_the_url_of_each_code_is_served(code: str) -> None:
    async with running() as (server, _), aiohttp.ClientSession() as session, session.get(server.doc_url(code)) as page:
        assert page.status == 200
        assert page.content_type == "text/html"
        assert f"<li>Status: {CODES[code].status}</li>" in await page.text()


@pytest.mark.parametrize("path", ["/", "/docs/errors"])
async def test_pages_with_links(path: str) -> None:
    async with running() as (_, port):
        answer = await ask(port, path)
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert b'<a href="/' in answer.body


OTHER_PATHS = (
    "/nowhere", "/docs", "/docs/errors/", "/docs/errors/<b>", "/docs/errors/../errors.md", "//healthz", "/healthz/",
)  # fmt: skip


@pytest.mark.parametrize("path", OTHER_PATHS)
async def test_other_paths_are_404_and_not_repeated(path: str) -> None:
    async with running() as (_, port):
        answer = await ask(port, path)
        assert answer.status == 404
        assert answer.body == b"There is no such page here. Begin at /\n"


GUARD = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "server": "mitmgate",
}


@pytest.mark.parametrize(
    ("method", "path", "host", "status"),
    [
        ("GET", "/", "127.0.0.1", 200),
        ("GET", "/docs/errors/refused", "127.0.0.1", 200),
        ("GET", "/metrics", "127.0.0.1", 200),
        ("HEAD", "/readyz", "127.0.0.1", 200),
        ("GET", "/nowhere", "127.0.0.1", 404),
        ("POST", "/healthz", "127.0.0.1", 405),
        ("GET", "/", "evil.example", 421),
        ("G(T", "/", "127.0.0.1", 400),
        ("GET", "/" + "x" * 20_000, "127.0.0.1", 400),
    ],
)
async def test_every_reply_is_guarded(method: str, path: str, host: str, status: int) -> None:
    async with running() as (_, port):
        answer = await ask(port, path, method=method, host=host)
        assert answer.status == status
        assert {name: answer.headers.get(name) for name in GUARD} == GUARD
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
        assert "frame-ancestors 'none'" in policy
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_only_reading_methods(method: str) -> None:
    async with running() as (_, port):
        answer = await ask(port, method=method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_connect_and_upgrades_lead_nowhere() -> None:
    async with running() as (_, port):
        assert (await ask(port, "evil.example:443", method="CONNECT")).status in (400, 405, 421)
        assert (await ask(port, "/nowhere", Upgrade="websocket", Connection="Upgrade")).status == 404


async def test_head_has_the_headers_and_no_body() -> None:
    async with running() as (_, port):
        whole, head = await ask(port), await ask(port, method="HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == whole.headers["content-length"] == str(len(whole.body))


OWN_HOSTS = (
    "127.0.0.1", "127.0.0.1:8081", "127.9.9.9", "localhost", "LOCALHOST:1", "localhost.", "[::1]:8081", "[::1]",
    "gateway.corp", "Gateway.Corp.:8081", "[::ffff:127.0.0.1]",
)  # fmt: skip
FOREIGN_HOSTS = (
    "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.localhost", "10.0.0.1", "0.0.0.0", "[::]",
    "169.254.169.254", "127.1", "2130706433", "0x7f000001", "127.0.0.1@evil.example", "evil.example:80@127.0.0.1",
    "127.0.0.1/", "localhost, evil.example", "[::1", "::1", "gateway.corp.evil", "xgateway.corp", "127.0.0.1:port", "",
    None,
)  # fmt: skip


@pytest.mark.parametrize("host", OWN_HOSTS)
async def test_own_names_are_answered(host: str) -> None:
    async with running(hosts=["gateway.corp"]) as (_, port):
        assert (await ask(port, host=host)).status == 200


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/nowhere"])
async def test_a_rebound_name_gets_nothing(host: str | None, path: str) -> None:
    async with running(hosts=["gateway.corp"]) as (_, port):
        answer = await ask(port, path, host=host)
        assert answer.status in (400, 421)
        assert answer.status == 421 or host in ("", None)
        assert b"mitmgate_" not in answer.body
        assert b"evil" not in answer.body


async def test_two_hosts_are_one_too_many() -> None:
    async with running() as (_, port):
        for hosts in (b"Host: localhost\r\nHost: evil.example", b"Host: localhost\r\nHost: localhost"):
            answer = await send(port, b"GET /healthz HTTP/1.1\r\n" + hosts + b"\r\n\r\n")
            assert answer.split()[1] in (b"400", b"421")


@pytest.mark.parametrize(
    ("target", "status"),
    [("http://evil.example/healthz", 421), ("http://127.0.0.1:8081/healthz", 200), ("http://[::1]/healthz", 200)],
)
async def test_a_whole_url_counts_like_a_host(target: str, status: int) -> None:
    async with running() as (_, port):
        assert (await ask(port, target)).status == status


async def test_listening_everywhere_makes_the_wildcard_no_name_of_ours() -> None:
    async with running(host="0.0.0.0") as (server, port):
        assert (await ask(port, host="127.0.0.1")).status == 200
        assert (await ask(port, host="0.0.0.0")).status == 421
        assert server.doc_url("refused") == f"http://127.0.0.1:{port}/docs/errors/refused"
    async with running(host="0.0.0.0", hosts=["gateway.corp"]) as (server, port):
        assert server.doc_url("refused") == f"http://gateway.corp:{port}/docs/errors/refused"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://127.0.0.1:8081"}, 200),
        ({"Origin": "https://127.0.0.1:8081"}, 200),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Sec_Fetch_Site": "none"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:3000"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "http://localhost:8081"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "later-word"}, 403),
        ({"Sec_Fetch_Site": "cross-site", "Origin": "http://127.0.0.1:8081"}, 403),
    ],
)
async def test_requests_of_other_sites_are_refused(headers: dict[str, str], status: int) -> None:
    async with running() as (_, port):
        answer = await ask(port, "/metrics", host="127.0.0.1:8081", **headers)
        assert answer.status == status
        assert (b"mitmgate_" in answer.body) == (status == 200)


async def test_a_fault_of_ours_tells_the_log_and_not_the_client(caplog: pytest.LogCaptureFixture) -> None:
    state = State()
    state.fails = True
    async with running(state) as (_, port):
        answer = await ask(port, "/readyz")
        assert (answer.status, answer.body) == (500, b"The admin port failed; see the log.\n")
        assert answer.headers["server"] == "mitmgate"
        assert "generation is gone" in caplog.text
        assert (await ask(port)).status == 200


async def test_nothing_of_a_request_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running() as (_, port):
        await ask(port, "/secret-path", User_Agent="secret-agent")
        await send(port, b"secret garbage\r\n\r\n")
        await send(port, b"\x16\x03\x01secret")
    assert "secret" not in caplog.text


@pytest.mark.parametrize("begun", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "])
async def test_a_client_that_does_not_finish_is_cut_off(begun: bytes) -> None:
    async with running(connection_seconds=0.2) as (_, port):
        began = asyncio.get_running_loop().time()
        with contextlib.suppress(ConnectionResetError):
            assert await send(port, begun) == b""
        assert 0.15 < asyncio.get_running_loop().time() - began < 5


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    models = ["m" * 3000 + str(number) for number in range(100)]
    metrics = Metrics("1", known_models=models)
    for model in models:
        metrics.observe(RECORD._replace(target_model=model))
    server = AdminServer(State(), metrics, connection_seconds=1.0)
    address = await server.start("127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, address)
        await loop.sock_sendall(client, b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await asyncio.sleep(1.5)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := await loop.sock_recv(client, 1 << 20):
                received += chunk
    await server.stop()
    assert len(received) < len(metrics.render()) / 2


async def test_connections_are_bounded_and_free_again() -> None:
    async with running(connections=3) as (_, port):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        await asyncio.sleep(0.05)
        with pytest.raises((ConnectionError, IndexError)):
            await ask(port)
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.05)
        assert (await ask(port)).status == 200


async def test_many_requests_leave_nothing_open() -> None:
    before = len(asyncio.all_tasks())
    async with running() as (_, port):
        for _ in range(5):
            answers = await asyncio.gather(*(ask(port, "/metrics") for _ in range(10)))
            assert {answer.status for answer in answers} == {200}
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) == before


async def test_stop_ends_idle_connections_at_once_and_frees_the_port() -> None:
    server = AdminServer(State(), Metrics("1"))
    host, port = await server.start("127.0.0.1", 0)
    assert host == "127.0.0.1"
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /hea")
    await asyncio.sleep(0.05)
    began = asyncio.get_running_loop().time()
    await server.stop()
    assert asyncio.get_running_loop().time() - began < 1
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, port)
    await server.stop()


async def test_a_port_that_is_taken_is_said() -> None:
    async with running() as (_, port):
        with pytest.raises(OSError, match="in use"):
            await AdminServer(State(), Metrics("1")).start("127.0.0.1", port)


class Rules:
    """What a reload comes to; counts how often it was asked for."""

    def __init__(self, outcome: Outcome | None) -> None:
        self.outcome = outcome
        self.asked = 0

    async def __call__(self) -> Outcome | None:
        self.asked += 1
        return self.outcome


@pytest.mark.parametrize(
    ("outcome", "status", "document"),
    [
        (Outcome("accepted", 5), 200, {"rules": 5, "changed": True}),
        (Outcome("unchanged", 4), 200, {"rules": 4, "changed": False}),
        (
            Outcome("rejected", 4, ("rules.yaml:3:1: routs: unknown key",)), 422,
            {"rules": 4, "changed": False, "problems": ["rules.yaml:3:1: routs: unknown key"]},
        ),
    ],
)  # fmt: skip
async def test_a_reload_is_answered(outcome: Outcome, status: int, document: dict[str, object]) -> None:
    rules = Rules(outcome)
    async with running(reload=rules) as (_, port):
        answer = await ask(port, "/reload", method="POST", **{"x-mitmgate": "reload"})
    assert (answer.status, json.loads(answer.body), rules.asked) == (status, document, 1)


async def test_a_reload_before_there_are_rules() -> None:
    async with running(reload=Rules(None)) as (_, port):
        assert (await ask(port, "/reload", method="POST", **{"x-mitmgate": "reload"})).status == 503


@pytest.mark.parametrize(
    ("method", "host", "headers", "status"),
    [
        ("POST", "127.0.0.1", {}, 403),                                                 # a form of a web page can do this
        ("POST", "127.0.0.1", {"x-mitmgate": "1"}, 403),
        ("POST", "127.0.0.1", {"content-type": "text/plain"}, 403),
        ("POST", "127.0.0.1", {"x-mitmgate": "reload", "Origin": "https://evil.example"}, 403),
        ("POST", "127.0.0.1", {"x-mitmgate": "reload", "Origin": "null"}, 403),
        ("POST", "127.0.0.1", {"x-mitmgate": "reload", "Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", "127.0.0.1", {"x-mitmgate": "reload", "Sec-Fetch-Site": "same-site"}, 403),
        ("POST", "rebound.example", {"x-mitmgate": "reload"}, 421),
        ("GET", "127.0.0.1", {"x-mitmgate": "reload"}, 405),
        ("OPTIONS", "127.0.0.1", {"Origin": "https://evil.example", "Access-Control-Request-Headers": "x-mitmgate"}, 403),
        ("OPTIONS", "127.0.0.1", {}, 405),
    ],
)
async def test_no_web_page_reloads(method: str, host: str, headers: dict[str, str], status: int) -> None:
    """THREATS, row 14: a page can send what needs no preflight, and there is no answer to a preflight."""
    rules = Rules(Outcome("accepted", 5))
    async with running(reload=rules) as (_, port):
        answer = await ask(port, "/reload", method=method, host=host, **headers)
    assert (answer.status, rules.asked) == (status, 0)
    assert not any(name.lower().startswith("access-control-") for name in answer.headers)
