"""THREATS row 7: under `access: keys` both ways in are closed to whom no rule identifies, and nothing leaves."""

import json

import httpx
import pytest
from attacked import ASK, CHAT, JSON, PATH, ask_tunnel, call, careless, counted, provider, recorded, refused, rules, wire

from rig import behaviours as does
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Fields

WRONG_KEYS: tuple[Fields, ...] = (
    (),
    (("authorization", "Bearer sk-guessed"),),
    (("authorization", "Bearer "),),
    (("authorization", "Basic Og=="),),
    (("x-api-key", "sk-guessed"),),
    (("proxy-authorization", "Basic Og=="),),
    (("proxy-authorization", "Basic cHJvamVjdDprZXk="),),
    (("x-gateway-key", "x"), ("x-forwarded-for", "127.0.0.1"), ("x-real-ip", "127.0.0.1")),
)


@pytest.fixture(scope="module")
def served(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok())


@pytest.fixture(scope="module")
def wanted(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok())


@pytest.fixture(scope="module")
def gateway(shared_gateway: StartGateway, served: Upstream) -> Gateway:
    """Interception, a route for all, and tunnels to loopback: all of it behind the key."""
    document = rules(
        provider(served), match={}, access="keys", intercept=["llm.test", "localhost"], tunnel={"allow": ["127.0.0.1"]}
    )
    return shared_gateway(document)


@pytest.fixture(autouse=True)
def forgotten(served: Upstream, wanted: Upstream) -> None:
    served.script(does.ok())
    wanted.script(does.ok())


@pytest.mark.parametrize("key", WRONG_KEYS, ids=str)
async def test_a_direct_call_is_401(gateway: Gateway, served: Upstream, key: Fields) -> None:
    answer = await call(gateway, headers=(JSON, *key))
    refused(answer, 401, "invalid_api_key")
    assert (answer.header("www-authenticate") or "").startswith("Bearer ")
    record = recorded(gateway, answer)
    assert (record["status"], record["code"], record["attempts"]) == (401, "invalid_api_key", [])
    assert served.untouched


@pytest.mark.parametrize("target", ["/v1/models", "/v1/realtime?model=m", "/v1/files", "/v1/batches", "/", "/v1/models/m"])
async def test_so_is_every_other_endpoint(gateway: Gateway, served: Upstream, target: str) -> None:
    answer = await call(gateway, target, method="GET", headers=(), body=b"")
    refused(answer, 401, "invalid_api_key")
    assert served.untouched


async def test_the_body_is_not_waited_for(gateway: Gateway, served: Upstream) -> None:
    """Whoever may not call may not make us collect 64 MiB either."""
    async with wire(gateway) as client:
        client.send("POST", PATH, (("host", gateway.authority), JSON, ("content-length", str(60 << 20))))
        refused(await client.reply(2), 401, "invalid_api_key")
    assert served.untouched


@pytest.mark.parametrize("key", WRONG_KEYS, ids=str)
@pytest.mark.parametrize("to", ["llm.test:443", "localhost:443", "127.0.0.1:{wanted}", "169.254.169.254:80", "public.test:443"])
async def test_connect_is_407(gateway: Gateway, wanted: Upstream, to: str, key: Fields) -> None:
    """The same for every destination: who has no key learns nothing of the rules."""
    before = counted(gateway, "mitmgate_tunnels_total", outcome="unidentified")
    async with wire(gateway) as client:
        answer = await ask_tunnel(client, to.format(wanted=wanted.port), *key)
    assert answer.status == 407
    assert (answer.header("proxy-authenticate") or "").startswith("Basic ")
    assert json.loads(answer.body)["error"]["code"] == "invalid_api_key"
    assert answer.header("server") is None
    assert counted(gateway, "mitmgate_tunnels_total", outcome="unidentified") == before + 1
    assert wanted.untouched


@pytest.mark.parametrize("host", ["llm.test", "localhost:{wanted}", "127.0.0.1:{wanted}"])
async def test_a_request_in_clear_through_the_proxy_is_407(
    gateway: Gateway, served: Upstream, wanted: Upstream, host: str
) -> None:
    host = host.format(wanted=wanted.port)
    async with wire(gateway) as client:
        client.send("POST", f"http://{host}{PATH}", (("host", host), JSON), ASK)
        answer = await client.reply()
    refused(answer, 407, "invalid_api_key")
    assert (answer.header("proxy-authenticate") or "").startswith("Basic ")
    assert served.untouched
    assert wanted.untouched


async def test_tls_without_connect_gets_no_further(gateway: Gateway, served: Upstream) -> None:
    """A client may speak TLS to the proxy itself; the key is asked for all the same."""
    async with wire(gateway) as client:
        await client.writer.start_tls(careless(), server_hostname="llm.test")
        client.send("POST", PATH, (("host", "llm.test"), JSON), ASK)
        answer = await client.reply()
    assert answer.status in (401, 407, 421), answer
    assert served.untouched


async def test_a_tunnel_that_was_refused_carries_nothing(gateway: Gateway, served: Upstream, wanted: Upstream) -> None:
    """After the 407 the same connection is a proxy's again: what follows is not taken for the tunnel's."""
    async with wire(gateway) as client:
        assert (await ask_tunnel(client, "llm.test:443")).status == 407
        client.send("POST", PATH, (("host", "llm.test"), JSON), ASK)
        answer = await client.reply()
    assert answer.status in (401, 407, 421), answer
    assert served.untouched
    assert wanted.untouched


async def test_health_stays_open_and_says_nothing_of_keys(gateway: Gateway) -> None:
    """The admin port has its own guard: probes and scrapers have no key."""
    assert gateway.admin("/healthz")[0] == 200
    assert "invalid_api_key" in gateway.admin("/metrics")[1]
    assert json.dumps(CHAT) not in gateway.log()


def test_socks5_has_no_connect_to_ask_at(
    shared_gateway: StartGateway, served: Upstream, shared_upstream: StartUpstream
) -> None:
    """The first connection outwards is where a raw tunnel of such a mode is stopped."""
    clear = shared_upstream(does.ok("evil"))
    document = rules(provider(served), match={}, access="keys", tunnel={"allow": ["127.0.0.1"]})
    gateway = shared_gateway(document, modes=["socks5"])
    before = counted(gateway, "mitmgate_tunnels_total", outcome="unidentified")
    url = f"socks5://127.0.0.1:{gateway.proxy_port}"
    with httpx.Client(proxy=url, trust_env=False, timeout=5) as client, pytest.raises(httpx.HTTPError):
        client.post(f"http://127.0.0.1:{clear.port}/v1/chat/completions", json={})
    assert clear.untouched
    assert counted(gateway, "mitmgate_tunnels_total", outcome="unidentified") > before
