"""What each attempt sends: which headers, which query, which bytes; and with whose credential."""

import gzip
import json
from typing import Any

import pytest
from calls import CHAT, OPENAI, Clock, House, call
from hypothesis import given
from hypothesis import strategies as st

from mitmgate.bodies import MemoryBody, Patch, SpooledBody, patched_size
from mitmgate.errors import Refusal
from mitmgate.exchange import Exchange, Origin, UpstreamRequest
from mitmgate.multipart import find_fields
from mitmgate.runtime import Snapshot
from mitmgate.stages.authorise import authorise
from mitmgate.stages.match_route import match_route
from mitmgate.stages.plan_targets import plan_targets
from mitmgate.stages.read_request import read_request
from mitmgate.stages.translate import translate

RULES = """
providers:
  a: {base_url: "https://a.example/base/v1", credential: {value: key-a}, headers: {X-Team: ml}}
  b: {base_url: "https://b.example/v1/", credential: {value: key-b}}
  client: {base_url: "https://c.example/v1", credential: client}
  none: {base_url: "http://10.0.0.7/v1"}
routes:
  - {name: same, match: {model: same}, targets: [{provider: a}]}
  - name: other
    match: {model: [other, whisper-1]}
    targets: [{provider: a, model: "other/model:1"}, {provider: b, model: second}]
  - {name: set, match: {model: set}, targets: [{provider: a}], set: {temperature: 0.2, user: null}, default: {top_p: 1, n: 2}}
  - {name: client, match: {model: clients}, targets: [{provider: client}]}
  - {name: none, match: {model: none}, targets: [{provider: none}]}
  - name: spoken
    match: {operation: transcription, header: {x-spoken: "*"}}
    targets: [{provider: a, model: first}, {provider: b, model: org/second--8b}, {provider: none}]
  - {name: rest, match: {path: "*", header: {x-rest: "*"}}, targets: [{provider: a, model: m}]}
"""
CLOCK = Clock()
FORM = {"content-type": "multipart/form-data; boundary=XX"}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return House(tmp_path_factory.mktemp("rules"), CLOCK).snapshot(RULES)


async def sent(exchange: Exchange, services: Snapshot, position: int = 0) -> UpstreamRequest:
    if exchange.plan is None:
        for stage in (read_request, match_route, plan_targets):
            await stage(exchange, services)
    exchange.position = position
    await translate(exchange, services)
    await authorise(exchange, services)
    assert exchange.upstream is not None
    return exchange.upstream


def chat(model: str, **more: Any) -> Exchange:
    return call(body={**CHAT, "model": model}, **more)


def named(request: UpstreamRequest) -> dict[str, str]:
    names = [name for name, _ in request.headers]
    assert len(names) == len(set(names))
    return dict(request.headers)


async def test_an_attempt_is_opened(services: Snapshot) -> None:
    exchange = chat("other")
    CLOCK.now = 1_005.0
    await sent(exchange, services)
    CLOCK.now = 1_006.0
    await sent(exchange, services, 1)
    assert [(a.number, a.target.key, a.started, a.secret) for a in exchange.attempts] == [
        (1, "a/other/model:1", 1_005.0, "key-a"), (2, "b/second", 1_006.0, "key-b"),
    ]  # fmt: skip


async def test_where_it_goes(services: Snapshot) -> None:
    exchange = chat("other")
    first, second = await sent(exchange, services), await sent(exchange, services, 1)
    assert (first.method, first.target) == ("POST", "/base/v1/chat/completions")
    assert first.origin == Origin("https", "a.example", 443)
    assert (second.origin, second.target) == (Origin("https", "b.example", 443), "/v1/chat/completions")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/v1/chat/completions", "/base/v1/chat/completions"),
        ("/api/v1/chat/completions/", "/base/v1/chat/completions"),
        ("/openai/v1/chat/completions", "/base/v1/chat/completions"),
        ("/v1/chat/completions?a=b&c=%20d", "/base/v1/chat/completions?a=b&c=%20d"),
        ("/v1/chat/completions?key=secret", "/base/v1/chat/completions"),
        ("/v1/chat/completions?a=b&api_key=secret&c=", "/base/v1/chat/completions?a=b&c="),
        ("/v1/chat/completions?%6bey=secret&KEY=secret&access_token=secret", "/base/v1/chat/completions"),
        ("/v1/chat/completions?api-version=1", "/base/v1/chat/completions?api-version=1"),
        ("/openai/deployments/same/chat/completions?api-version=2024-10-21", "/base/v1/chat/completions"),
        ("/openai/deployments/same/chat/completions?api-version=1&x=y&api-key=secret", "/base/v1/chat/completions?x=y"),
        ("/v1/files/file%20a%C3%A9/content", "/base/v1/files/file%20a%C3%A9/content"),
        ("/v1/files/a:b@c+d", "/base/v1/files/a:b@c+d"),
    ],
)
async def test_paths_and_queries(services: Snapshot, target: str, expected: str) -> None:
    exchange = call(target, {**CHAT, "model": "same"}, headers={"x-rest": "1"} if "files" in target else None)
    assert (await sent(exchange, services)).target == expected


async def test_which_headers_go_on(services: Snapshot) -> None:
    kept = {
        "content-type": "application/json", "user-agent": "OpenAI/Python 1", "openai-beta": "x=1", "x-stainless-lang": "python",
        "idempotency-key": "i", "traceparent": "00-1", "accept": "application/json", "x-custom": "ü",
    }  # fmt: skip
    dropped = {
        "host": "gateway", "content-length": "3", "accept-encoding": "gzip", "connection": "keep-alive", "keep-alive": "1",
        "proxy-connection": "x", "proxy-authorization": "Basic c2VjcmV0", "proxy-anything": "x", "te": "trailers",
        "trailer": "x",
        "transfer-encoding": "chunked", "upgrade": "h2c", "expect": "100-continue", "http2-settings": "x",
        "x-gateway-anything": "x", "authorization": "Bearer sk-secret", "api-key": "sk-secret", "x-api-key": "sk-secret",
        "x-goog-api-key": "sk-secret", "cookie": "sk-secret", "ocp-apim-subscription-key": "sk-secret",
        "x-amz-security-token": "sk-secret", "x-team": "of the client",
    }  # fmt: skip
    exchange = chat("same", headers={**dropped, **kept})
    upstream = await sent(exchange, services)
    assert named(upstream) == {**kept, "x-team": "ml", "accept-encoding": "identity"}
    assert exchange.credential == (("authorization", "Bearer key-a"),)
    assert "sk-secret" not in repr(upstream)


async def test_headers_that_connection_names_are_for_this_hop_only(services: Snapshot) -> None:
    """RFC 9110, 7.6.1."""
    upstream = await sent(chat("same", headers={"connection": "close, X-Hop", "x-hop": "1", "x-stays": "1"}), services)
    assert "x-hop" not in named(upstream)
    assert named(upstream)["x-stays"] == "1"


async def test_a_second_attempt_carries_nothing_of_the_first(services: Snapshot) -> None:
    """THREATS, row 6."""
    exchange = chat("other", headers={"authorization": "Bearer sk-client"})
    await sent(exchange, services)
    second = await sent(exchange, services, 1)
    assert exchange.credential == (("authorization", "Bearer key-b"),)
    for foreign in ("key-a", "sk-client", "ml", "a.example", "other/model"):
        assert foreign not in repr((second, exchange.credential))


@pytest.mark.parametrize(
    "credentials", [{"authorization": "Bearer sk"}, {"x-api-key": "sk"}, {"api-key": "sk"}, {"x-goog-api-key": "sk"}, {}]
)
async def test_the_clients_own_credential_goes_where_the_rules_say(services: Snapshot, credentials: dict[str, str]) -> None:
    exchange = chat("clients", headers={**credentials, "cookie": "sk-cookie"})
    upstream = await sent(exchange, services)
    assert exchange.credential == tuple(credentials.items())
    assert exchange.attempt is not None
    assert exchange.attempt.secret is None
    assert "sk" not in repr(upstream)


async def test_a_provider_without_a_credential_gets_none(services: Snapshot) -> None:
    exchange = chat("none", headers={"authorization": "Bearer sk"})
    upstream = await sent(exchange, services)
    assert exchange.credential == ()
    assert "sk" not in repr(upstream)


async def test_the_original_destination_gets_what_the_client_sent(services: Snapshot) -> None:
    raw = b'{ "model" : "unknown-to-us","messages":[{}],  "temperature":1.0}'
    headers = {"content-type": "application/json", "authorization": "Bearer sk", "cookie": "c"}
    dropped = {"connection": "close", "x-gateway-x": "1"}
    exchange = call("/v1/chat/completions?key=k&a=b", raw, {**headers, **dropped}, direct=False)
    upstream = await sent(exchange, services)
    assert (upstream.origin, upstream.target) == (OPENAI, "/v1/chat/completions?key=k&a=b")
    assert (upstream.body, upstream.splice) == (None, None)
    assert named(upstream) == {**headers, "accept-encoding": "identity"}
    assert exchange.credential == ()


SPACED = (
    b'{ "x":{"model":"same"} ,\n"model" :\t"%s", "messages":[{"content":"\\u00e9 \xc3\xa9"}],'
    b'"seed":123456789012345678901234567890,"t":1.0 }'
)


async def test_a_body_that_no_rule_changes_goes_byte_for_byte(services: Snapshot) -> None:
    exchange = call(body=SPACED % b"same", headers={"content-type": "application/json"})
    upstream = await sent(exchange, services)
    assert (upstream.body, upstream.splice) == (None, None)


async def test_another_model_changes_the_model_only(services: Snapshot) -> None:
    exchange = call(body=SPACED % b"other", headers={"content-type": "application/json"})
    assert (await sent(exchange, services)).body == SPACED % b"other/model:1"
    assert (await sent(exchange, services, 1)).body == SPACED % b"second"


async def test_a_model_in_escapes_is_replaced_all_the_same(services: Snapshot) -> None:
    body = rb'{"mod\u0065l":"\u006fther","messages":[{}],"seed":123456789012345678901234567890}'
    upstream = await sent(call(body=body, headers={"content-type": "application/json"}), services)
    assert upstream.body is not None
    assert json.loads(upstream.body) == {"model": "other/model:1", "messages": [{}], "seed": 123456789012345678901234567890}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, {"temperature": 0.2, "user": None, "top_p": 1, "n": 2}),
        ({"temperature": 0.9, "user": "u", "top_p": 0, "n": 1}, {"temperature": 0.2, "user": None, "top_p": 0, "n": 1}),
        ({"temperature": {"a": 1}}, {"temperature": 0.2, "user": None, "top_p": 1, "n": 2}),
        ({"top_p": None}, {"temperature": 0.2, "user": None, "top_p": None, "n": 2}),
    ],
)
async def test_set_and_default(services: Snapshot, document: dict[str, Any], expected: dict[str, Any]) -> None:
    upstream = await sent(call(body={**CHAT, "model": "set", **document}), services)
    assert upstream.body is not None
    assert json.loads(upstream.body) == {**CHAT, "model": "set", **expected}


async def test_an_azure_call_names_its_model_in_the_body(services: Snapshot) -> None:
    body = {"messages": [{"role": "user"}]}
    upstream = await sent(call("/openai/deployments/same/chat/completions", body), services)
    assert upstream.body is not None
    assert json.loads(upstream.body) == {"model": "same", **body}
    upstream = await sent(call("/openai/deployments/other/chat/completions", {"model": "lie", **body}), services)
    assert upstream.body is not None
    assert json.loads(upstream.body) == {"model": "other/model:1", **body}


@pytest.mark.parametrize("model", ["same", "other"])
async def test_an_encoded_body_goes_decoded(services: Snapshot, model: str) -> None:
    raw = json.dumps({**CHAT, "model": model}).encode()
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    upstream = await sent(call(body=gzip.compress(raw), headers=headers), services)
    assert "content-encoding" not in named(upstream)
    assert upstream.body == raw.replace(b'"other"', b'"other/model:1"')


FORM_BODY = (
    b'--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\x00\xff model=whisper-1\r\n--XX--\r\n'
)


async def test_a_forms_model_is_spliced(services: Snapshot) -> None:
    exchange = call("/v1/audio/transcriptions", FORM_BODY, FORM)
    upstream = await sent(exchange, services)
    assert upstream.body is None
    assert upstream.splice is not None
    start, end, replacement = upstream.splice
    expected = FORM_BODY.replace(b"\r\n\r\nwhisper-1", b"\r\n\r\nother/model:1")
    assert FORM_BODY[:start] + replacement + FORM_BODY[end:] == expected
    assert (await sent(exchange, services, 1)).splice == (start, end, b"second")


@pytest.mark.parametrize("model", ["same", "set"])
async def test_a_form_whose_model_stays_is_not_touched(services: Snapshot, model: str) -> None:
    """`set` and `default` are for JSON."""
    upstream = await sent(call("/v1/audio/transcriptions", FORM_BODY.replace(b"whisper-1", model.encode()), FORM), services)
    assert (upstream.body, upstream.splice) == (None, None)


NAMELESS = FORM_BODY[FORM_BODY.index(b"--XX", 4) :]
SPOKEN = {**FORM, "x-spoken": "1"}
REST = {**FORM, "x-rest": "1"}


def arriving(upstream: UpstreamRequest, body: MemoryBody | SpooledBody) -> bytes:
    """What goes out of a body that the stage left in place."""
    assert upstream.body is None
    patch = Patch(*upstream.splice) if upstream.splice is not None else None
    content = b"".join(body.chunks(16, patch))
    assert len(content) == patched_size(body, patch)
    return content


def named_in(form: bytes) -> str | None:
    """The model in the form, which must be one still."""
    field = find_fields(form, FORM["content-type"], {"model"}).get("model")
    return field.value if field is not None else None


@pytest.mark.parametrize("spooled", [False, True])
@pytest.mark.parametrize("raw", [NAMELESS, b"--XX--\r\n", b"--XX--"], ids=["one file", "empty", "empty and bare"])
async def test_a_form_that_names_no_model_gets_each_targets_own(services: Snapshot, raw: bytes, spooled: bool) -> None:
    body: MemoryBody | SpooledBody = MemoryBody(raw)
    if spooled:
        body = SpooledBody()
        body.write(raw)
    exchange = call("/v1/audio/transcriptions", body, SPOKEN)
    for position, model in enumerate(["first", "org/second--8b"]):
        content = arriving(await sent(exchange, services, position), body)
        assert content.endswith(raw)
        assert named_in(content) == model
    assert arriving(await sent(exchange, services, 2), body) == raw
    assert exchange.body is body
    body.close()


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/images/edits", "m"), ("/v1/audio/translations", "m"), ("/v1/videos", "m"),
        ("/v1/files", None), ("/v1/uploads/u/parts", None), ("/v1/realtime/calls", None),
    ],
)  # fmt: skip
async def test_which_forms_get_a_model(services: Snapshot, path: str, model: str | None) -> None:
    content = arriving(await sent(call(path, NAMELESS, REST), services), MemoryBody(NAMELESS))
    assert named_in(content) == model
    assert content.endswith(NAMELESS)


@pytest.mark.parametrize(("deployment", "model"), [("same", "same"), ("other", "other/model:1")])
@pytest.mark.parametrize("raw", [NAMELESS, FORM_BODY, FORM_BODY.replace(b"whisper-1", b"same")])
async def test_an_azure_form_names_its_paths_model_once(services: Snapshot, deployment: str, model: str, raw: bytes) -> None:
    """Whatever the form itself says: matching read the path."""
    exchange = call(f"/openai/deployments/{deployment}/audio/transcriptions", raw, FORM)
    assert named_in(arriving(await sent(exchange, services), MemoryBody(raw))) == model


@pytest.mark.parametrize("raw", [NAMELESS, FORM_BODY])
@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/openai/deployments/d/audio/transcriptions"])
async def test_the_original_destination_gets_the_form_as_it_came(services: Snapshot, path: str, raw: bytes) -> None:
    raw = raw.replace(b"whisper-1", b"unknown")
    upstream = await sent(call(path, raw, FORM, direct=False), services)
    assert (upstream.body, upstream.splice) == (None, None)


async def test_a_boundary_that_stands_in_a_models_name(services: Snapshot) -> None:
    """The client chooses the boundary. Refused before the first target is asked, though only the second has that name."""
    raw = NAMELESS.replace(b"--XX", b"--8b")
    exchange = call("/v1/audio/transcriptions", raw, {**SPOKEN, "content-type": "multipart/form-data; boundary=8b"})
    with pytest.raises(Refusal) as caught:
        await sent(exchange, services)
    assert (caught.value.code, caught.value.status) == ("invalid_request", 400)
    assert (exchange.attempts, exchange.upstream) == ([], None)


async def test_no_body_stays_none(services: Snapshot) -> None:
    upstream = await sent(call("/v1/files", method="GET", headers={"x-rest": "1"}), services)
    assert (upstream.method, upstream.body, upstream.splice) == ("GET", None, None)


async def test_a_websocket_upgrade(services: Snapshot) -> None:
    headers = {
        "connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "k",
        "sec-websocket-protocol": "realtime, openai-insecure-api-key.sk-secret, openai-beta.realtime-v1",
        "authorization": "Bearer sk-secret",
    }  # fmt: skip
    exchange = call("/v1/realtime?model=other&a=b", headers=headers, method="GET", websocket=True)
    upstream = await sent(exchange, services)
    assert upstream.target == "/base/v1/realtime?model=other%2Fmodel%3A1&a=b"
    assert named(upstream) == {
        "sec-websocket-version": "13", "sec-websocket-key": "k", "sec-websocket-protocol": "realtime, openai-beta.realtime-v1",
        "x-team": "ml", "connection": "Upgrade", "upgrade": "websocket",
    }  # fmt: skip
    assert exchange.credential == (("authorization", "Bearer key-a"),)


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie", "proxy-authorization",
        "x-gateway-key",
                         "sec-websocket-protocol", "te"]),
        st.sampled_from(["Bearer sk-secret", "sk-secret", "a=sk-secret; b=c", "openai-insecure-api-key.sk-secret"]),
    )
)  # fmt: skip


@given(HEADERS, st.lists(st.sampled_from(["key", "Key", "%4bey", "api-key", "api_key", "access_token", "subscription-key"])))
async def test_no_spelling_of_a_credential_reaches_another_provider(
    services: Snapshot, headers: list[tuple[str, str]], query: list[str]
) -> None:
    kept = [(name, value) for name, value in headers if name != "sec-websocket-protocol" or "insecure" in value]
    fields = (("content-type", "application/json"), *kept)
    target = "/v1/chat/completions?" + "&".join(f"{name}=sk-secret" for name in query)
    exchange = call(target, json.dumps({**CHAT, "model": "same"}).encode(), fields=fields)
    upstream = await sent(exchange, services)
    assert "sk-secret" not in repr((upstream, exchange.credential))
