"""THREATS row 14: a web page in the operator's browser as the client, by CSRF or by DNS rebinding, on both ports."""

import asyncio
import json

import pytest
from attacked import ASK, CHAT, JSON, PATH, call, careless, provider, refused, rules, wire

from rig import behaviours as does
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Answer, Fields, Http1

PAGES: tuple[tuple[str, Fields], ...] = (
    ("foreign-origin", (("origin", "https://evil.example"),)),
    ("origin-with-our-port", (("origin", "http://evil.example:8080"),)),
    ("origin-like-ours", (("origin", "http://127.0.0.1.evil.example"),)),
    ("origin-like-localhost", (("origin", "http://localhost.evil.example"),)),
    ("opaque-origin", (("origin", "null"),)),
    ("empty-origin", (("origin", ""),)),
    ("extension", (("origin", "chrome-extension://abcdefgh"),)),
    ("file", (("origin", "file://"),)),
    ("broken-origin", (("origin", "http://[::1"),)),
    ("two-origins", (("origin", "http://127.0.0.1"), ("origin", "https://evil.example"))),
    ("user-in-origin", (("origin", "http://127.0.0.1@evil.example"),)),
    ("cross-site", (("sec-fetch-site", "cross-site"),)),
    ("same-site", (("sec-fetch-site", "same-site"),)),
    ("cross-site-in-capitals", (("Sec-Fetch-Site", "Cross-Site"),)),
    ("cross-site-navigation", (("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"))),
    (
        "cross-site-no-cors",
        (("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors"), ("origin", "https://evil.example")),
    ),
)
REBOUND = (
    "evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "localhost.evil.example:{port}",
    "gateway.corp.evil.example", "evil-localhost:{port}", "10.0.0.7:{port}", "169.254.169.254", "[2001:db8::1]:{port}",
)  # fmt: skip
SIMPLE = (
    "text/plain",
    "text/plain;charset=UTF-8",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    None,
)
"""What a page may send to another origin without asking first (Fetch, "CORS-safelisted request-header")."""


@pytest.fixture(scope="module")
def served(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok())


@pytest.fixture(scope="module")
def gateway(shared_gateway: StartGateway, served: Upstream) -> Gateway:
    return shared_gateway(rules(provider(served), match={}, intercept=["llm.test"]), listen={"hosts": ["gateway.corp"]})


@pytest.fixture(autouse=True)
def forgotten(served: Upstream) -> None:
    served.script(does.ok())


def without_cors(answer: Answer) -> Answer:
    names = {name for name, _ in answer.headers}
    assert not {name for name in names if name.startswith("access-control-")}, answer
    return answer


async def admin(gateway: Gateway, path: str, *headers: tuple[str, str], method: str = "GET", host: str | None = None) -> Answer:
    """One call to the admin port."""
    streams = await asyncio.open_connection("127.0.0.1", gateway.admin_port)
    client = Http1(streams)
    client.send(method, path, (("host", host or f"127.0.0.1:{gateway.admin_port}"), *headers))
    answer = await client.reply()
    client.leave()
    await asyncio.sleep(0)
    return answer


@pytest.mark.parametrize(("headers"), [headers for _, headers in PAGES], ids=[name for name, _ in PAGES])
async def test_a_pages_call_is_refused(gateway: Gateway, served: Upstream, headers: Fields) -> None:
    refused(without_cors(await call(gateway, headers=(JSON, *headers))), 403, "refused")
    refused(without_cors(await call(gateway, "/v1/models", method="GET", headers=headers, body=b"")), 403, "refused")
    assert served.untouched


@pytest.mark.parametrize("host", REBOUND)
async def test_a_rebound_name_is_not_answered(gateway: Gateway, served: Upstream, host: str) -> None:
    """DNS says 127.0.0.1, the browser says the page's own name and takes the reply for same-origin."""
    named = host.format(port=gateway.proxy_port)
    headers = (JSON, ("origin", f"http://{named}"), ("sec-fetch-site", "same-origin"))
    refused(without_cors(await call(gateway, host=named, headers=headers)), 421, "misdirected_request")
    refused(
        without_cors(await call(gateway, "/v1/models", host=named, method="GET", headers=(), body=b"")),
        421,
        "misdirected_request",
    )
    assert served.untouched


@pytest.mark.parametrize(
    "lines", ["Host: 127.0.0.1\r\nHost: evil.example", "Host: evil.example\r\nHost: 127.0.0.1", "Host:", "X-Host: localhost"]
)
async def test_odd_hosts_are_not_answered(gateway: Gateway, served: Upstream, lines: str) -> None:
    async with wire(gateway) as client:
        client.writer.write(
            f"POST {PATH} HTTP/1.1\r\n{lines}\r\ncontent-type: application/json\r\ncontent-length: {len(ASK)}\r\n\r\n".encode()
            + ASK
        )
        answer = await client.reply()
    assert answer.status in (400, 421), answer
    assert served.untouched


@pytest.mark.parametrize("content_type", SIMPLE, ids=str)
async def test_a_simple_request_is_no_call(gateway: Gateway, served: Upstream, content_type: str | None) -> None:
    """Also from a browser so old that it sends neither Origin nor Sec-Fetch-Site."""
    headers = (("content-type", content_type),) if content_type else ()
    for target in (PATH, "/v1/embeddings", "/v1/responses"):
        refused(without_cors(await call(gateway, target, headers=headers)), 415, "unsupported_media_type")
    assert served.untouched


@pytest.mark.parametrize("target", [PATH, "/v1/models", "/v1/files", "*"])
async def test_a_preflight_is_refused(gateway: Gateway, served: Upstream, target: str) -> None:
    headers = (
        ("origin", "https://evil.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    )
    answer = without_cors(await call(gateway, target, method="OPTIONS", headers=headers, body=b""))
    assert answer.status in (400, 403, 405), answer
    assert served.untouched


async def test_a_web_socket_of_a_page_is_refused(gateway: Gateway, served: Upstream) -> None:
    """Browsers ask nobody before they open one; the Origin is all there is."""
    headers = (("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="))
    more = (("sec-websocket-version", "13"), ("origin", "https://evil.example"))
    answer = await call(gateway, "/v1/realtime?model=m", method="GET", headers=(*headers, *more), body=b"")
    refused(answer, 403, "refused")
    assert served.untouched


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_no_reply_allows_another_origin_to_read_it(gateway: Gateway, served: Upstream, stream: bool) -> None:
    """Not even where the provider's would have."""
    cors = (
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "*"),
    )
    served.script(
        does.chunks(does.ROLE, does.word(0), does.STOP, does.DONE, headers=(*does.EVENTS, *cors))
        if stream
        else does.answer(does.completion("x"), headers=cors)
    )
    answer = without_cors(await call(gateway, body=json.dumps({**CHAT, "stream": stream}).encode()))
    assert answer.status == 200


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}", "[::1]:{port}", "gateway.corp:{port}", "Gateway.Corp:{port}"],
)
async def test_our_own_names_are_answered(gateway: Gateway, served: Upstream, host: str) -> None:
    """By tools, and by a page of our own."""
    named = host.format(port=gateway.proxy_port)
    assert (await call(gateway, host=named)).status == 200
    own = (("origin", f"http://{named}"), ("sec-fetch-site", "same-origin"))
    assert (await call(gateway, host=named, headers=(JSON, *own))).status == 200
    assert len(served.requests) == 2


async def test_inside_a_tunnel_the_page_is_the_vendors_business(gateway: Gateway, served: Upstream) -> None:
    """Whoever set up a proxy set up its pages too: a console's own Origin is let through with the call."""
    origin = (("origin", "https://console.llm.test"), ("sec-fetch-site", "same-site"))
    assert (await call(gateway, through="llm.test:443", headers=(JSON, *origin))).status == 200
    assert len(served.requests) == 1
    assert careless().check_hostname is False


# The admin port


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/healthz", "/docs/errors/invalid_request", "/"])
@pytest.mark.parametrize("host", REBOUND)
async def test_the_admin_port_answers_no_rebound_name(gateway: Gateway, path: str, host: str) -> None:
    answer = without_cors(await admin(gateway, path, host=host.format(port=gateway.admin_port)))
    assert answer.status in (403, 421), answer
    assert b"mitmgate_" not in answer.body


@pytest.mark.parametrize(
    "headers", [headers for name, headers in PAGES if name != "same-site"], ids=lambda headers: str(headers)[:50]
)
async def test_the_admin_port_answers_no_page(gateway: Gateway, headers: Fields) -> None:
    """`same-site` alone may be a link on another port of this machine: no page can read what it gets, for there is no CORS."""
    answer = without_cors(await admin(gateway, "/metrics", *headers))
    assert answer.status in (400, 403), answer
    assert b"mitmgate_" not in answer.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
async def test_the_admin_port_is_for_reading(gateway: Gateway, method: str) -> None:
    answer = without_cors(await admin(gateway, "/metrics", method=method))
    assert answer.status in (403, 405), answer


@pytest.mark.parametrize(
    "headers",
    [headers for _, headers in PAGES] + [(("content-type", kind),) if kind else () for kind in (*SIMPLE, "application/json")],
    ids=lambda headers: str(headers)[:50],
)
async def test_no_page_has_the_rules_read_again(gateway: Gateway, headers: Fields) -> None:
    """What a page can send without asking, and, with our own header, what one would send that had asked."""
    ours = (("x-mitmgate", "reload"),) if headers in [each for _, each in PAGES] else ()
    before = (await admin(gateway, "/metrics")).body.decode()
    answer = without_cors(await admin(gateway, "/reload", *headers, *ours, method="POST"))
    assert answer.status in (400, 403), answer
    preflight = (("origin", "https://evil.example"), ("access-control-request-headers", "x-mitmgate"))
    answer = without_cors(await admin(gateway, "/reload", *preflight, method="OPTIONS"))
    assert answer.status in (403, 405), answer
    for host in REBOUND:
        named = host.format(port=gateway.admin_port)
        answer = without_cors(await admin(gateway, "/reload", ("x-mitmgate", "reload"), method="POST", host=named))
        assert answer.status in (403, 421), answer
    assert reloads_in((await admin(gateway, "/metrics")).body.decode()) == reloads_in(before)


async def test_an_operator_has_the_rules_read_again(gateway: Gateway) -> None:
    """So that the test above is not one of a port that refuses everybody."""
    before = reloads_in((await admin(gateway, "/metrics")).body.decode())
    answer = await admin(gateway, "/reload", ("x-mitmgate", "reload"), method="POST")
    assert (answer.status, json.loads(answer.body)) == (200, {"rules": 1, "changed": False})
    assert reloads_in((await admin(gateway, "/metrics")).body.decode()) != before


def reloads_in(metrics: str) -> list[str]:
    found = [line for line in metrics.splitlines() if line.startswith("mitmgate_rules_reloads_total{")]
    assert len(found) == 3
    return found


async def test_the_admin_port_may_not_be_framed_sniffed_or_cached(gateway: Gateway) -> None:
    for path in ("/docs/errors/invalid_request", "/metrics", "/nowhere"):
        answer = without_cors(await admin(gateway, path))
        assert answer.header("x-content-type-options") == "nosniff"
        policy = answer.header("content-security-policy") or ""
        assert "frame-ancestors 'none'" in policy or answer.header("x-frame-options") == "DENY"
