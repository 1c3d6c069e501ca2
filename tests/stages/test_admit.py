"""Who is let in before anything is read: room, our own name, no web pages."""

import pytest
from calls import OPENAI, House, call

from mitmgate.errors import Refusal
from mitmgate.exchange import Exchange, Origin
from mitmgate.runtime import Snapshot
from mitmgate.stages.admit import admit
from mitmgate.stages.authenticate import authenticate

OPEN = "listen: {hosts: [gateway.corp]}\nlimits: {concurrency: 2}\n"


async def refusal(exchange: Exchange, services: Snapshot) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await admit(exchange, services)
    return caught.value


async def test_room(house: House) -> None:
    services = house.snapshot(OPEN)
    services.shared.in_flight = 2           # this call is counted already
    await admit(call(), services)
    services.shared.in_flight = 3
    refused = await refusal(call(), services)
    assert (refused.code, refused.status, refused.headers) == ("queue_full", 503, {"retry-after": "1"})


async def test_draining(house: House) -> None:
    services = house.snapshot(OPEN)
    services.shared.draining = True
    for exchange in (call(), call(direct=False)):
        refused = await refusal(exchange, services)
        assert (refused.code, refused.status, refused.headers) == ("draining", 503, {"retry-after": "1"})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.9.9.9", "::1", "gateway.corp", "GATEWAY.corp", "a.localhost"])
async def test_direct_calls_by_our_own_names(house: House, host: str) -> None:
    await admit(call(origin=Origin("http", host, 8080)), house.snapshot(OPEN))


@pytest.mark.parametrize("host", ["evil.example", "gateway.corp.evil.example", "10.0.0.1", "api.openai.com", "169.254.169.254"])
async def test_direct_calls_by_other_names(house: House, host: str) -> None:
    """DNS rebinding: a web page that makes its own name resolve to us must not get in."""
    refused = await refusal(call(origin=Origin("http", host, 8080)), house.snapshot(OPEN))
    assert (refused.code, refused.status) == ("misdirected_request", 421)
    await admit(call(origin=Origin("http", host, 8080)), house.snapshot(OPEN + "access: keys\n"))


async def test_proxied_calls_may_name_anybody(house: House) -> None:
    headers = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    await admit(call(direct=False, origin=OPENAI, headers=headers), house.snapshot(OPEN))


@pytest.mark.parametrize(
    ("headers", "let_in"),
    [
        ({}, True),
        ({"origin": "http://127.0.0.1:8080"}, True),
        ({"origin": "https://gateway.corp"}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "http://[evil"}, False),
        ({"origin": "https://gateway.corp.evil.example"}, False),
        ({"origin": "https://gateway.corp@evil.example"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"origin": "http://127.0.0.1:8080", "sec-fetch-site": "cross-site"}, False),
    ],
)
async def test_web_pages(house: House, headers: dict[str, str], let_in: bool) -> None:
    services = house.snapshot(OPEN)
    if let_in:
        await admit(call(headers=headers), services)
    else:
        refused = await refusal(call(headers=headers), services)
        assert (refused.code, refused.status) == ("refused", 403)


@pytest.mark.parametrize(
    ("exchange", "status", "challenge"),
    [
        (call(), 401, "www-authenticate"),
        (call(direct=False, origin=OPENAI), 401, "www-authenticate"),       # inside a tunnel
        (call(direct=False, origin=Origin("http", "x.example", 80)), 407, "proxy-authenticate"),
    ],
)
async def test_keys(house: House, exchange: Exchange, status: int, challenge: str) -> None:
    await authenticate(exchange, house.snapshot(OPEN))
    with pytest.raises(Refusal) as caught:
        await authenticate(exchange, house.snapshot(OPEN + "access: keys\n"))
    assert (caught.value.code, caught.value.status) == ("invalid_api_key", status)
    assert challenge in caught.value.headers
