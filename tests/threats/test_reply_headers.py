"""THREATS row 24, from the provider's side: what a provider says about itself, about us and to browsers stays here."""

import json

import pytest
from attacked import CHAT, call, careless, provider, recorded, rules, tunnelled

from rig import behaviours as does
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Answer, Http2

LIES = (
    ("x-gateway-request-id", "req_lie"),
    ("X-Gateway-Provider", "lie"),
    ("x-gateway-model", "lie"),
    ("x-gateway-route", "lie"),
    ("x-gateway-attempts", "99"),
    ("x-gateway-anything-new", "lie"),
    ("x-model-used", "lie"),
    ("x-retry-count", "99"),
    ("x-fallback-from", "lie"),
    ("x-cache", "HIT lie"),
    ("x-should-retry", "true lie"),
    ("x-guardrail-status", "lie:pass"),
    ("x-ratelimit-limit", "999 lie"),
    ("x-ratelimit-remaining", "999 lie"),
    ("x-ratelimit-reset", "999 lie"),
)
TO_BROWSERS = (
    ("set-cookie", "session=lie; Domain=gateway.corp"),
    ("Set-Cookie", "second=lie"),
    ("set-cookie2", "lie"),
    ("access-control-allow-origin", "*"),
    ("access-control-allow-credentials", "lie"),
    ("access-control-expose-headers", "lie"),
    ("timing-allow-origin", "*"),
    ("strict-transport-security", "max-age=lie"),
    ("content-security-policy", "lie"),
    ("clear-site-data", '"*"'),
    ("report-to", "lie"),
    ("nel", "lie"),
    ("refresh", "0; url=https://lie.example/"),
    ("location", "https://lie.example/"),
    ("link", "<https://lie.example/>; rel=preload"),
    ("sourcemap", "lie"),
    ("service-worker-allowed", "/"),
    ("www-authenticate", "Basic realm=lie"),
    ("authentication-info", "lie"),
)
TO_PROXIES = (
    ("server", "lie"),
    ("via", "1.1 lie"),
    ("alt-svc", 'h3=":443"'),
    ("proxy-authenticate", "Basic realm=lie"),
    ("proxy-authentication-info", "lie"),
    ("proxy-connection", "keep-alive"),
    ("keep-alive", "timeout=lie"),
    ("trailer", "x-lie"),
    ("x-powered-by", "lie"),
    ("x-accel-redirect", "/internal/lie"),
    ("x-accel-buffering", "lie"),
    ("x-sendfile", "/etc/lie"),
    ("x-lighttpd-send-file", "/etc/lie"),
    ("x-forwarded-for", "lie"),
    ("x-real-ip", "lie"),
)
KEPT = (
    ("openai-processing-ms", "12"),
    ("openai-organization", "org-1"),
    ("x-ratelimit-remaining-requests", "59"),
    ("cf-ray", "8f"),
    ("x-request-id", "req_of_the_provider"),
)
ALL = (*LIES, *TO_BROWSERS, *TO_PROXIES, *KEPT)
OURS = {
    "x-gateway-request-id", "x-request-id", "x-gateway-attempts", "x-retry-count", "x-gateway-provider", "x-gateway-model",
    "x-model-used", "x-gateway-route", "x-gateway-reasoning-effort", "x-cache", "x-gateway-upstream-request-id",
    "x-should-retry",
}  # fmt: skip


@pytest.fixture(scope="module")
def served(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok())


@pytest.fixture(scope="module")
def gateway(shared_gateway: StartGateway, served: Upstream) -> Gateway:
    return shared_gateway(rules(provider(served), match={}, intercept=["llm.test"]))


def assert_clean(gateway: Gateway, answer: Answer) -> None:
    """None of the provider's words about itself; ours once each; what applications read is kept."""
    assert "lie" not in repr(answer.headers), answer.headers
    names = [name for name, _ in answer.headers]
    foreign = {name.lower() for name, _ in (*TO_BROWSERS, *TO_PROXIES)} - {"trailer"}
    assert not foreign & set(names), answer.headers
    assert {name for name in names if name.startswith("x-gateway-")} <= OURS
    for name in OURS & set(names):
        assert names.count(name) == 1, answer.headers
    record = recorded(gateway, answer)
    assert answer.header("x-request-id") == record["id"]
    assert answer.header("x-gateway-upstream-request-id") == "req_of_the_provider"
    assert answer.header("x-cache") == "BYPASS"
    assert answer.header("x-gateway-attempts") == "1"


@pytest.mark.parametrize("through", [None, "llm.test:443"], ids=["direct", "intercepted"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_of_an_answer(gateway: Gateway, served: Upstream, stream: bool, through: str | None) -> None:
    served.script(
        does.chunks(does.ROLE, does.word(0), does.STOP, does.DONE, headers=(*does.EVENTS, *ALL))
        if stream
        else does.answer(does.completion("x"), headers=ALL)
    )
    answer = await call(gateway, through=through, body=json.dumps({**CHAT, "stream": stream}).encode())
    assert answer.status == 200
    assert_clean(gateway, answer)
    for name, value in KEPT[:-1]:
        assert answer.header(name) == value


@pytest.mark.parametrize("code", [400, 404, 429, 500, 503])
async def test_of_an_error(gateway: Gateway, served: Upstream, code: int) -> None:
    served.script(does.status(code, (*ALL, ("retry-after", "120"))))
    answer = await call(gateway)
    assert answer.status == code
    assert_clean(gateway, answer)
    assert answer.header("retry-after") == "120"


@pytest.mark.parametrize("media", ["audio/mpeg", "application/octet-stream", "text/html"])
async def test_of_bytes(gateway: Gateway, served: Upstream, media: str) -> None:
    served.script(does.body(b"ID3...", (("content-type", media), *ALL)))
    answer = await call(gateway, "/v1/audio/speech", body=b'{"model": "m", "input": "x", "voice": "v"}')
    assert (answer.status, answer.body) == (200, b"ID3...")
    assert_clean(gateway, answer)


async def test_over_http2(gateway: Gateway, served: Upstream) -> None:
    served.script(does.answer(does.completion("x"), headers=ALL))
    async with tunnelled(gateway, "llm.test:443", sni="llm.test", tls=careless("h2")) as client:
        http2 = Http2((client.reader, client.writer)).start()
        headers = (("content-type", "application/json"),)
        answer = await http2.reply(
            await http2.send("POST", "/v1/chat/completions", headers, json.dumps(CHAT).encode(), authority="llm.test")
        )
    assert answer.status == 200
    assert_clean(gateway, answer)


@pytest.mark.parametrize("value", ["a\rset-cookie: lie", "a\0lie", "a\n lie"], ids=ascii)
async def test_line_ends_inside_a_value(gateway: Gateway, served: Upstream, value: str) -> None:
    """A failed attempt, or a reply without them: what one reader takes for a line's end must not travel on."""
    served.script(does.answer(does.completion("x"), headers=(("openai-version", value),)))
    answer = await call(gateway)
    assert answer.status in (200, 502), answer
    assert answer.header("set-cookie") is None
    assert not any(character in held for _, held in answer.headers for character in "\r\n\0")


@pytest.mark.parametrize("code", [100, 102, 103])
async def test_informational_replies_are_not_answers(gateway: Gateway, served: Upstream, code: int) -> None:
    """A provider's 1xx with a cookie or a preload in it does not reach the client, and the answer after it does."""

    async def behave(reply: does.Reply) -> None:
        await reply.raw(b"HTTP/1.1 %d Hint\r\nLink: <https://lie.example/>\r\nSet-Cookie: a=lie\r\n\r\n" % code)
        await does.answer(does.completion("after the hint"))(reply)

    served.script(behave)
    answer = await call(gateway)
    assert "lie" not in repr(answer)
    assert answer.status in (200, 502), answer
    assert answer.header("x-gateway-request-id")


@pytest.mark.parametrize("value", ["a\x1b[31mlie", "req_\xe4lie", "x" * 5000, "", " ", "a, b"])
async def test_an_odd_id_of_the_provider(gateway: Gateway, served: Upstream, value: str) -> None:
    """Told in visible ASCII, bounded; never ours."""
    served.script(does.answer(does.completion("x"), headers=(("x-request-id", value),)))
    answer = await call(gateway)
    if answer.status == 200:
        told = answer.header("x-gateway-upstream-request-id") or ""
        assert len(told) <= 128
        assert all("!" <= character <= "~" for character in told)
    record = recorded(gateway, answer)
    assert record["id"] == answer.header("x-request-id") != value
