"""GET /requests/ID: what it tells of a request in flight and of one that has ended, what it holds, and what it never says."""

import asyncio
import gc
import http.client
import json
import weakref
from pathlib import Path
from typing import Any

import pytest

from mitmgate.bodies import MemoryBody
from mitmgate.console.requests import LARGEST, Requests
from mitmgate.exchange import Arrival, Endpoint, Exchange, Origin
from mitmgate.pipeline import Pipeline, execute
from mitmgate.runtime import Shared, Snapshot, compile_rules
from mitmgate.stages.record import record
from rig import behaviours as does
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Http1, connect

SECRETS = ("sk-client-secret", "sk-provider-secret", "a-cookie-secret", "a-prompt-secret", "a-reply-secret", "a-query-secret")
RULES: dict[str, Any] = {
    "routes": [
        {"name": "keyed", "match": {"header": {"authorization": "Bearer other"}}, "targets": [{"provider": "p"}]},
        {"name": "cookie", "match": {"header": {"cookie": "*none*"}}, "targets": [{"provider": "p"}]},
        {"name": "staged", "match": {"header": {"x-env": "staging"}}, "targets": [{"provider": "p"}]},
        {"name": "long", "match": {"when": "size(request.messages) > 5"}, "targets": [{"provider": "p"}]},
        {
            "name": "asked", "match": {"when": "request.messages[0].content.startsWith('nothing')"},
            "targets": [{"provider": "p"}],
        },
        {"name": "chat", "match": {"operation": "chat"}, "targets": [{"provider": "p"}], "sticky": ["body:user"]},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def server(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok())


@pytest.fixture(scope="module")
def gate(shared_gateway: StartGateway, server: Upstream) -> Gateway:
    provider = {"dialect": "openai", "base_url": server.base_url, "credential": {"value": "sk-provider-secret"}}
    return shared_gateway({"providers": {"p": provider}, **RULES})


def body(text: str = "a-prompt-secret", **more: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], "user": "u-1", **more}).encode()


def head(gate: Gateway) -> tuple[tuple[str, str], ...]:
    return (
        ("host", gate.authority), ("content-type", "application/json"), ("authorization", "Bearer sk-client-secret"),
        ("cookie", "session=a-cookie-secret"), ("x-env", "production"),
    )  # fmt: skip


def told(gate: Gateway, exchange_id: str) -> dict[str, Any]:
    status, text = gate.admin(f"/requests/{exchange_id}")
    assert status == 200, text
    found: dict[str, Any] = json.loads(text)
    return found


async def test_one_that_has_ended(gate: Gateway, server: Upstream) -> None:
    server.script(does.ok("a-reply-secret"))
    streams = await connect(gate)
    client = Http1(streams)
    client.send("POST", "/v1/chat/completions?key=a-query-secret", head(gate), body())
    answer = await client.reply()
    streams[1].close()
    exchange_id = answer.header("x-gateway-request-id") or ""
    found = told(gate, exchange_id)
    line = gate.record(exchange_id)
    assert found["record"] == line
    assert (found["id"], found["state"], found["note"]) == (exchange_id, "ended", None)
    tried = [(each["route"], each["key"], each["found"]) for each in found["explanation"]["tried"]]
    assert tried == [
        ("keyed", "header.authorization", "(not shown)"), ("cookie", "header.cookie", "(not shown)"),
        ("staged", "header.x-env", "production"), ("long", "when", "it is false"), ("asked", "when", "it is false"),
        ("chat", None, None),
    ]  # fmt: skip
    assert found["explanation"]["sticky"] == "body:user"
    assert [each["verdict"] for each in found["explanation"]["plan"]] == ["kept"]
    assert not [secret for secret in SECRETS if secret in json.dumps(found)]


async def test_what_a_client_names_is_shown_as_text(gate: Gateway, server: Upstream) -> None:
    """A header that a rule compared may hold anything that HTTP lets through."""
    server.script(does.ok())
    for value in ("\x1b[31mred", "caf\xe9 \xff\xfe", "\u2028".encode().decode("latin-1"), "<img src=x>", "x" * 5000):
        streams = await connect(gate)
        client = Http1(streams)
        client.send("POST", "/v1/chat/completions", (*head(gate)[:-1], ("x-env", value)), body())
        answer = await client.reply()
        streams[1].close()
        status, text = gate.admin(f"/requests/{answer.header('x-gateway-request-id')}")
        assert (status, answer.status) == (200, 200)
        assert text.isprintable()
        (shown,) = [each["found"] for each in json.loads(text)["explanation"]["tried"] if each["key"] == "header.x-env"]
        assert len(shown) < 300


async def test_the_record_tells_where_the_time_went(gate: Gateway, server: Upstream) -> None:
    server.script(does.after(0.2, does.ok()))
    for attempt in range(2):
        streams = await connect(gate)
        client = Http1(streams)
        whole = body()
        client.send("POST", "/v1/chat/completions", (*head(gate), ("content-length", str(len(whole)))), b"")
        streams[1].write(whole[:20])
        await asyncio.sleep(0.15)           # a slow client: the test is about what this time is called
        streams[1].write(whole[20:])
        answer = await client.reply()
        line = gate.record(answer.header("x-gateway-request-id") or "")
        streams[1].close()
        assert line["body_ms"] >= 140, (attempt, line)
        assert line["upstream_ms"] >= 190
        assert line["own_ms"] < line["milliseconds"] - 330
        parts = line["own_ms"] + line["body_ms"] + line["wait_ms"] + line["upstream_ms"]
        assert abs(parts - line["milliseconds"]) < 3
        (told_of,) = line["attempts"]
        assert told_of["connect_ms"] is not None
        assert told_of["tls_ms"] is None
        assert 0 <= told_of["connect_ms"] <= told_of["first_byte_ms"] <= told_of["milliseconds"]
        assert told_of["first_byte_ms"] >= 190
        assert set(line["stages"]) == {stage.__name__ for stage in (
            *Pipeline().arrival, *Pipeline().inbound, *Pipeline().attempt
        )}  # fmt: skip


async def test_a_connection_that_was_there_was_not_made(gate: Gateway, server: Upstream) -> None:
    server.script(does.ok())
    streams = await connect(gate)
    client = Http1(streams)
    made = []
    for _ in range(2):
        client.send("POST", "/v1/chat/completions", head(gate), body(stream=True))
        answer = await client.reply()
        (attempt,) = gate.record(answer.header("x-gateway-request-id") or "")["attempts"]
        made.append(attempt["connect_ms"] is not None)
        assert attempt["first_byte_ms"] <= attempt["first_content_ms"] <= attempt["milliseconds"]
    streams[1].close()
    assert made == [True, False]


@pytest.mark.parametrize("http2", [False, True])
async def test_connect_and_tls_are_told_apart(
    gateway: StartGateway, upstream: StartUpstream, ca_pem: str, http2: bool
) -> None:
    server = upstream(does.ok(), tls=True, http2=http2)
    secured = {"dialect": "openai", "base_url": server.base_url, "ca": "ca.pem"}
    dead = {"dialect": "openai", "base_url": "http://127.0.0.1:9/v1"}
    route = {"name": "chat", "match": {}, "targets": [{"provider": "dead"}, {"provider": "p"}], "retry": {"max": 0}}
    own = gateway({"10.yaml": {"providers": {"p": secured, "dead": dead}, "routes": [route]}, "ca.pem": ca_pem})
    streams = await connect(own)
    client = Http1(streams)
    client.send("POST", "/v1/chat/completions", (("host", own.authority), ("content-type", "application/json")), body())
    answer = await client.reply()
    streams[1].close()
    failed, made = own.record(answer.header("x-gateway-request-id") or "")["attempts"]
    assert failed["outcome"] == "connect"
    assert [failed[name] for name in ("connect_ms", "tls_ms", "first_byte_ms", "first_content_ms")] == [None] * 4
    assert 0 <= made["connect_ms"] <= made["tls_ms"] <= made["first_byte_ms"] <= made["milliseconds"]


async def test_what_was_refused_or_answered_here_is_told_too(gate: Gateway) -> None:
    cases = [("GET", "/v1/models", b"", 200), ("GET", "/v1/nothing", b"", 404), ("POST", "/v1//chat", b"{}", 400),
             ("POST", "/v1/chat/completions", b"{", 400), ("DELETE", "/v1/chat/completions", b"", 405)]  # fmt: skip
    for method, path, sent, status in cases:
        streams = await connect(gate)
        client = Http1(streams)
        client.send(method, path, head(gate), sent)
        answer = await client.reply()
        streams[1].close()
        assert answer.status == status, (path, answer)
        found = told(gate, answer.header("x-gateway-request-id") or "")
        assert found["record"]["status"] == status
        assert found["explanation"]["answered"] is (status == 200)
        assert (found["explanation"]["refusal"] or {}).get("status", 200) == status
        assert not [secret for secret in SECRETS if secret in json.dumps(found)]


def test_other_web_sites_get_nothing(gate: Gateway) -> None:
    """THREATS, row 14."""
    hostile = ({"Origin": "https://evil.test"}, 403), ({"Host": "evil.test"}, 421), ({"Sec-Fetch-Site": "cross-site"}, 403)
    for headers, status in hostile:
        connection = http.client.HTTPConnection("127.0.0.1", gate.admin_port, timeout=5)
        connection.request("GET", "/requests/req_1", headers=headers)
        assert connection.getresponse().status == status
        connection.close()


async def test_the_back_off_is_told(gateway: StartGateway, upstream: StartUpstream) -> None:
    server = upstream(does.status(503, headers=(("retry-after", "1"),)), does.ok())
    route = {"name": "chat", "match": {}, "targets": [{"provider": "p"}], "retry": {"max": 1}}
    own = gateway({"providers": {"p": {"dialect": "openai", "base_url": server.base_url}}, "routes": [route]})
    streams = await connect(own)
    client = Http1(streams)
    client.send("POST", "/v1/chat/completions", (("host", own.authority), ("content-type", "application/json")), body())
    answer = await client.reply()
    streams[1].close()
    line = own.record(answer.header("x-gateway-request-id") or "")
    assert [each["wait_ms"] for each in line["attempts"]] == [0, 1000]
    assert line["wait_ms"] == 1000
    assert line["own_ms"] < line["milliseconds"] - 990


async def test_one_in_flight(gate: Gateway, server: Upstream) -> None:
    server.script(does.stall(1))
    streams = await connect(gate)
    client = Http1(streams)
    client.send("POST", "/v1/chat/completions", head(gate), body(stream=True))
    answer = await client.head()
    found = told(gate, answer.header("x-gateway-request-id") or "")
    assert (found["state"], found["record"]) == ("in_flight", None)
    assert found["explanation"]["route"] == "chat"
    assert not [secret for secret in SECRETS if secret in json.dumps(found)]
    exchange_id = found["id"]
    streams[1].transport.abort()
    line = await asyncio.to_thread(gate.record, exchange_id)
    assert line["broken"] == "client_left"
    assert told(gate, exchange_id)["state"] == "ended"


@pytest.mark.parametrize("wanted", ["", "req_none", "..%2f..", "%00", "x" * 4000, "req_<img>"])
def test_none_of_that_id(gate: Gateway, wanted: str) -> None:
    status, text = gate.admin(f"/requests/{wanted}")
    assert (status, json.loads(text)["error"]["code"]) == (404, "not_found")
    assert "<img>" not in text


# What is held, without a network.


class Made:
    """Rules, and exchanges that have gone through the pipeline under them."""

    def __init__(self, folder: Path, rules: str = "") -> None:
        self.folder, self.shared = folder, Shared()
        self.snapshot = self.compiled(rules)

    def compiled(self, rules: str) -> Snapshot:
        text = f"version: 1\nproviders: {{p: {{dialect: openai, base_url: 'http://127.0.0.1:1/v1'}}}}\n{rules}"
        (self.folder / "rules.yaml").write_text(text, encoding="utf-8")
        return compile_rules(self.folder, {}, Origin("http", "127.0.0.1", 1), self.shared)

    async def exchange(self, number: int, text: str = "x", headers: dict[str, str] | None = None) -> Exchange:
        fields = {"content-type": "application/json", "authorization": "Bearer sk-client-secret", **(headers or {})}
        path, here = "/v1/chat/completions", Origin("http", "127.0.0.1", 1)
        arrival = Arrival(True, False, here, "POST", path, path, "", "127.0.0.1", "HTTP/1.1")
        exchange = Exchange(
            f"req_{number}", arrival, fields, tuple(fields.items()), 1.0, 1.0, ended=2.0, status=200,
            endpoint=Endpoint("chat", "openai", "/chat/completions"), body=MemoryBody(body(text)),
        )  # fmt: skip
        await execute(Pipeline().inbound, exchange, self.snapshot)
        await execute(Pipeline().attempt, exchange, self.snapshot)
        return exchange

    async def end(self, requests: Requests, number: int, text: str = "x", **headers: str) -> Exchange:
        exchange = await self.exchange(number, text, {name.replace("_", "-"): value for name, value in headers.items()})
        requests.began(exchange, self.snapshot)
        requests.ended(exchange, record(exchange, rules=1))
        return exchange


ROUTE = "routes: [{name: chat, match: {operation: chat}, targets: [{provider: p}]}]"
WHEN = """
routes:
  - {name: long, match: {when: size(request.messages) > 5}, targets: [{provider: p}]}
  - {name: large, match: {when: request.bytes > 5000}, targets: [{provider: p}]}
  - {name: chat, match: {header: {x-team: a}}, targets: [{provider: p}]}
  - {name: rest, match: {}, targets: [{provider: p}]}
"""


async def test_the_last_256_are_held(tmp_path: Path) -> None:
    requests, made = Requests(), Made(tmp_path, ROUTE)
    for number in range(300):
        await made.end(requests, number)
    held = [number for number in range(300) if requests.find(f"req_{number}") is not None]
    assert held == list(range(44, 300))


async def test_nothing_that_no_rule_reads_is_held(tmp_path: Path) -> None:
    """No body, no headers, no credential: under rules that read none of them."""
    requests, made = Requests(), Made(tmp_path, ROUTE)
    exchange = await made.end(requests, 1, "a-prompt-secret")
    assert "secret" not in repr(exchange)
    assert exchange.document is exchange.raw is exchange.upstream is None
    assert (exchange.credential, exchange.header_fields, exchange.request_headers) == ((), (), {})
    assert "a-prompt-secret" not in everything_of(requests)


def everything_of(root: object) -> str:
    """The text of all that can be reached from an object, code and modules left out."""
    seen: dict[int, object] = {}
    waiting = [root]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | type(json)) or callable(each):
            continue
        seen[id(each)] = each
        waiting.extend(gc.get_referents(each))
    return " ".join(repr(each) for each in seen.values() if isinstance(each, str | bytes))


async def test_the_explanation_is_the_same_before_and_after_its_end(tmp_path: Path) -> None:
    """Whatever was let go of: with conditions, headers and sizes that decide, and without them."""
    for number, (rules, text, headers) in enumerate(
        [(ROUTE, "x", {}), (WHEN, "x", {}), (WHEN, "x" * 6000, {}), (WHEN, "x", {"x_team": "a"}), (WHEN, "x", {"x_team": "b"})]
    ):
        requests, made = Requests(), Made(tmp_path, rules)
        exchange = await made.exchange(number, text, {name.replace("_", "-"): value for name, value in headers.items()})
        requests.began(exchange, made.snapshot)
        alive = requests.find(exchange.id)
        assert alive is not None
        before = alive.document()["explanation"]
        requests.ended(exchange, record(exchange, rules=1))
        ended = requests.find(exchange.id)
        assert ended is not None
        assert ended.document()["explanation"] == before
        assert before["route"] == before["tried"][-1]["route"]
        assert exchange.document is None


async def test_sixteen_mebibytes_and_no_more(tmp_path: Path) -> None:
    requests, made = Requests(most_bytes=1 << 20), Made(tmp_path, WHEN)
    for number in range(40):
        await made.end(requests, number, "x" * 100_000)
        assert requests.bytes_held <= 1 << 20
    held = [number for number in range(40) if requests.find(f"req_{number}") is not None]
    assert held == list(range(40 - len(held), 40))
    assert 8 <= len(held) <= 10


async def test_a_large_one_keeps_its_record_alone(tmp_path: Path) -> None:
    requests, made = Requests(), Made(tmp_path, WHEN)
    await made.end(requests, 1, "x" * (LARGEST + 1))
    held = requests.find("req_1")
    assert held is not None
    document = held.document()
    assert document["record"]["id"] == "req_1"
    assert document["explanation"] is None
    assert "too large" in document["note"]
    assert requests.bytes_held < 64 << 10


async def test_old_rules_are_not_held(tmp_path: Path) -> None:
    requests, made = Requests(), Made(tmp_path, WHEN)
    await made.end(requests, 1)
    gone = weakref.ref(made.snapshot)
    made.snapshot = made.compiled(ROUTE)
    gc.collect()
    assert gone() is None
    held = requests.find("req_1")
    assert held is not None
    document = held.document()
    assert (document["explanation"], document["record"]["id"]) == (None, "req_1")
    assert "reloaded" in document["note"]


async def test_what_turned_out_not_to_be_governed_is_forgotten(tmp_path: Path) -> None:
    requests, made = Requests(), Made(tmp_path, ROUTE)
    exchange = await made.exchange(1)
    requests.began(exchange, made.snapshot)
    requests.forget(exchange)
    assert requests.find("req_1") is None
    requests.ended(exchange, record(exchange, rules=1))
    assert requests.find("req_1") is None


