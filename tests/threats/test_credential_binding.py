"""THREATS row 6: a key goes to its own provider and nowhere else. Each secret here is a word that can be searched for."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from attacked import ASK, CHAT, JSON, PATH, call, careless, everything, provider, recorded, refused, rules, tunnelled, wire

from rig import behaviours as does
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream

KEY_A, KEY_B = "sk-of-provider-alpha", "sk-of-provider-beta"
BASIC = base64.b64encode(b"client:secretbasic").decode()

CLIENT_HEADERS = (
    ("authorization", "Bearer sk-client-authorization"),
    ("Api-Key", "sk-client-api-key"),
    ("X-API-KEY", "sk-client-x-api-key"),
    ("x-goog-api-key", "sk-client-goog"),
    ("ocp-apim-subscription-key", "sk-client-apim"),
    ("x-amz-security-token", "sk-client-amz"),
    ("cookie", "session=sk-client-cookie"),
    ("Cookie", "__Secure-next-auth=sk-client-cookie-2"),
    ("proxy-authorization", f"Basic {BASIC}"),
    ("x-gateway-key", "sk-client-gateway"),
    ("x-gateway-route", "sk-client-gateway-route"),
)
QUERY = "?key=sk-client-query&x=1&api_key=sk-client-query-2&api-key=sk-client-q3&Key=sk-client-q4&access_token=sk-client-q5"
PROTOCOLS = "realtime, openai-insecure-api-key.sk-client-protocol, openai-organization.org-1, openai-beta.realtime-v1"
HANDSHAKE = (
    ("upgrade", "websocket"),
    ("connection", "Upgrade"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-version", "13"),
    ("sec-websocket-protocol", PROTOCOLS),
)


def assert_only(seen: bytes, *own: str) -> None:
    """Of all keys of this page only `own` are in what an upstream saw."""
    text = seen.decode("latin-1")
    for key in own:
        assert key in text
        text = text.replace(key, "")
    assert "sk-" not in text
    assert BASIC not in text
    assert "secretbasic" not in text


@pytest.fixture(scope="module")
def alpha(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok())


@pytest.fixture(scope="module")
def beta(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok())


@pytest.fixture(scope="module")
def thief(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok("stolen"))


@pytest.fixture(scope="module")
def gateway(shared_gateway: StartGateway, alpha: Upstream, beta: Upstream) -> Gateway:
    a = provider(alpha, credential={"value": KEY_A}, headers={"x-team": "alpha"})
    b = provider(beta, credential={"value": KEY_B}, headers={"x-team": "beta"})
    return shared_gateway(rules(a, b, match={}, intercept=["llm.test"]))


@pytest.fixture(autouse=True)
def forgotten(alpha: Upstream, beta: Upstream, thief: Upstream) -> None:
    for each in (alpha, beta, thief):
        each.script(does.ok())


FAULTS: dict[str, Callable[[], does.Behaviour]] = {
    "500": lambda: does.status(500),
    "401": lambda: does.status(401),
    "429": lambda: does.status(429),
    "reset": does.reset_before_headers,
    "garbage": does.garbage,
    "redirect": lambda: does.redirect("https://127.0.0.1:1/", 302),
    "error-that-tells-the-key": lambda: does.status(500, message=f"Incorrect API key provided: {KEY_A}"),
}


@pytest.mark.parametrize("through", [None, "llm.test:443"], ids=["direct", "intercepted"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_fallback_carries_nothing_over(
    gateway: Gateway, alpha: Upstream, beta: Upstream, fault: str, stream: bool, through: str | None
) -> None:
    alpha.script(FAULTS[fault]())
    body = json.dumps({**CHAT, "stream": stream}).encode()
    answer = await call(gateway, PATH + QUERY, through=through, headers=(JSON, *CLIENT_HEADERS), body=body)
    assert answer.status == 200, answer
    assert_only(everything(alpha.requests[0]), KEY_A)
    assert_only(everything(beta.requests[0]), KEY_B)
    for server, team in ((alpha, "alpha"), (beta, "beta")):
        assert server.requests[0].header("x-team") == team
        assert server.requests[0].path == PATH + "?x=1"
    assert b"sk-" not in repr((answer.headers, answer.body)).encode()
    assert "sk-" not in json.dumps(recorded(gateway, answer))


@pytest.mark.parametrize("through", [None, "llm.test:443"], ids=["direct", "intercepted"])
async def test_a_web_sockets_handshake_carries_no_key(
    gateway: Gateway, alpha: Upstream, beta: Upstream, through: str | None
) -> None:
    """Browsers cannot set headers, so that keys travel in Sec-WebSocket-Protocol."""
    alpha.script(does.status(500))
    beta.script(does.websocket())
    opened = wire(gateway) if through is None else tunnelled(gateway, through, sni="llm.test", tls=careless())
    async with opened as client:
        host = ("host", through or gateway.authority)
        client.send("GET", "/v1/realtime" + QUERY.replace("x=1", "model=m"), (host, *HANDSHAKE, *CLIENT_HEADERS))
        assert (await client.head()).status == 101
    assert_only(everything(alpha.requests[0]), KEY_A)
    assert_only(everything(beta.requests[0]), KEY_B)
    protocol = beta.requests[0].header("sec-websocket-protocol") or ""
    assert "realtime" in protocol.split(", ")


async def test_headers_that_connection_names_stay_here(gateway: Gateway, alpha: Upstream) -> None:
    """RFC 9110, section 7.6.1: they are for this hop; and naming ours does not take ours away."""
    more = (("connection", "x-hop, authorization, x-team, keep-alive"), ("x-hop", "sk-client-hop"), ("te", "trailers"))
    assert (await call(gateway, headers=(JSON, *more))).status == 200
    (request,) = alpha.requests
    assert_only(everything(request), KEY_A)
    assert request.header("x-team") == "alpha"
    assert request.header("authorization") == f"Bearer {KEY_A}"


# Redirects


@pytest.mark.parametrize("code", [300, 301, 302, 303, 304, 307, 308])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_redirect_is_neither_followed_nor_handed_on(
    shared_gateway: StartGateway, one_target: Gateway, alpha: Upstream, thief: Upstream, code: int, stream: bool
) -> None:
    """A client that followed it would carry its own key there."""
    alpha.script(does.redirect(f"{thief.origin}/v1/chat/completions", code))
    answer = await call(one_target, body=json.dumps({**CHAT, "stream": stream}).encode())
    assert answer.header("location") is None
    assert answer.status >= 400, answer
    refused(answer, 502, "all_targets_failed")
    assert [attempt["outcome"] for attempt in recorded(one_target, answer)["attempts"]] == ["redirect"]
    assert thief.untouched
    assert len(alpha.requests) == 1


@pytest.fixture(scope="module")
def one_target(shared_gateway: StartGateway, alpha: Upstream) -> Gateway:
    return shared_gateway(rules(provider(alpha, credential={"value": KEY_A}), match={}))


@pytest.mark.parametrize("name", ["location", "refresh", "content-location", "link"])
async def test_a_200_that_points_elsewhere(one_target: Gateway, alpha: Upstream, thief: Upstream, name: str) -> None:
    alpha.script(does.answer(does.completion("x"), headers=((name, f"0; url={thief.origin}/"),)))
    answer = await call(one_target)
    assert answer.status == 200
    assert answer.header(name) is None
    assert thief.untouched


@pytest.mark.parametrize("code", [401, 402, 403])
async def test_what_a_provider_says_of_our_key_stays_with_us(one_target: Gateway, alpha: Upstream, code: int) -> None:
    alpha.script(does.status(code, (("www-authenticate", f'Bearer realm="{KEY_A}"'),), message=f"Incorrect API key: {KEY_A}"))
    answer = await call(one_target)
    assert answer.status == code
    assert KEY_A not in repr((answer.headers, answer.body))
    assert KEY_A not in one_target.log()


# The client's own


async def test_a_provider_that_takes_the_clients_key_gets_it(
    shared_gateway: StartGateway, alpha: Upstream, beta: Upstream
) -> None:
    """`credential: client` gets the key, and neither cookies nor the proxy's password; the next target gets its own alone."""
    first, second = provider(alpha, credential="client"), provider(beta, credential={"value": KEY_B})
    gateway = shared_gateway(rules(first, second))
    alpha.script(does.status(500))
    headers = (JSON, CLIENT_HEADERS[0], ("cookie", "session=sk-client-cookie"), ("proxy-authorization", f"Basic {BASIC}"))
    assert (await call(gateway, headers=headers)).status == 200
    assert_only(everything(alpha.requests[0]), "sk-client-authorization")
    assert_only(everything(beta.requests[0]), KEY_B)


async def test_a_provider_without_a_credential_gets_none(shared_gateway: StartGateway, alpha: Upstream) -> None:
    gateway = shared_gateway(rules(provider(alpha)))
    assert (await call(gateway, PATH + QUERY, headers=(JSON, *CLIENT_HEADERS))).status == 200
    assert_only(everything(alpha.requests[0]))


async def test_an_unmatched_request_passes_with_the_clients_own(
    shared_gateway: StartGateway, alpha: Upstream, beta: Upstream
) -> None:
    """An intercepted request that no route takes goes where it was going, with what it came with, less the proxy's password;
    also when another provider of the rules has the same address."""
    document = rules(
        provider(alpha, credential={"value": KEY_A}), match={"model": "nobody-asks-for-this"}, intercept=["localhost"]
    )
    document["providers"]["same-place"] = provider(beta, credential={"value": KEY_B}) | {
        "base_url": f"http://localhost:{beta.port}/v1"
    }
    gateway = shared_gateway(document)
    there = f"localhost:{beta.port}"
    async with wire(gateway) as client:
        client.send(
            "POST",
            f"http://{there}{PATH}?key=sk-client-query",
            (("host", there), *CLIENT_HEADERS[:3], CLIENT_HEADERS[8], JSON),
            ASK,
        )
        answer = await client.reply()
    assert (answer.status, answer.header("x-gateway-route")) == (200, "original"), answer
    (request,) = beta.requests
    assert_only(everything(request), "sk-client-authorization", "sk-client-api-key", "sk-client-x-api-key", "sk-client-query")
    assert alpha.untouched


async def test_a_provider_called_like_a_host_lends_it_nothing(
    shared_gateway: StartGateway, upstream: StartUpstream, alpha: Upstream, ca: trustme.CA, ca_pem: str
) -> None:
    """A provider's name may be a host's: the CA that is trusted for it and its client certificate are its address's alone."""
    clients_ca = trustme.CA()
    wanted = upstream(does.ok("wanted"), tls=True, names=("localhost",), client_ca=clients_ca)
    own = clients_ca.issue_cert("gateway.test").private_key_and_cert_chain_pem.bytes().decode()
    document = rules(provider(alpha), match={"model": "nobody-asks-for-this"}, intercept=["localhost"])
    document["providers"]["localhost"] = provider(alpha, credential={"value": KEY_A}, ca="ca.pem", client_cert="me.pem")
    gateway = shared_gateway({"10-rules.yaml": document, "ca.pem": ca_pem, "me.pem": own})
    answer = await call(gateway, through=f"localhost:{wanted.port}")
    assert answer.status == 502, answer
    assert wanted.requests == []
    assert alpha.untouched


# At load


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"base_url": "http://llm.example/v1", "credential": {"value": "sk-x"}}, "clear text"),
        ({"base_url": "http://10.0.0.7/v1", "credential": {"value": "sk-x"}}, "clear text"),
        ({"base_url": "http://127.0.0.1.evil.example/v1", "credential": {"value": "sk-x"}}, "clear text"),
        ({"base_url": "http://llm.example/v1", "credential": "client"}, "clear text"),
        ({"base_url": "http://llm.example/v1", "headers": {"api-key": "sk-x"}}, "clear text"),
        ({"base_url": "http://llm.example/v1", "headers": {"X-Api-Key": "sk-x"}}, "clear text"),
        ({"base_url": "https://u:sk-x@llm.example/v1"}, "credential"),
        ({"base_url": "https://llm.example/v1?key=sk-x"}, "query"),
    ],
)
def test_a_key_in_clear_text_is_refused_at_load(tmp_path: Path, written: dict[str, object], told: str) -> None:
    document = {"version": 1, "providers": {"remote": {"dialect": "openai", **written}}}
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "10.yaml").write_text(json.dumps(document))
    command = [sys.executable, "-m", "mitmgate", "run", "--rules", str(tmp_path / "rules"), "--confdir", str(tmp_path / "conf")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1, done
    assert told in done.stderr
    assert "sk-x" not in done.stderr
