"""Which route a request takes: each key of `match:` by itself, all together, and the first that holds."""

import ipaddress
from dataclasses import replace
from typing import Any

import pytest

from mitmgate.exchange import Chosen
from mitmgate.globs import Globs
from mitmgate.routing.match import Asked, Match
from mitmgate.routing.table import Route, RouteTable

ASKED = Asked(
    host="api.openai.com",
    path="/v1/chat/completions",
    operation="chat",
    model="gpt-4o-mini",
    headers={"x-env": "staging", "x-team": "a"},
    client="10.1.2.3",
)


def globs(*texts: str) -> Globs:
    return Globs.parse(texts)


def networks(*texts: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


@pytest.mark.parametrize(
    ("match", "captured"),
    [
        (Match(), ""),
        (Match(host=globs("api.openai.com")), ""),
        (Match(host=globs("*.openai.com")), ""),
        (Match(host=globs("api.groq.com")), None),
        (Match(path=globs("/v1/*")), ""),
        (Match(path=globs("/v1")), None),
        (Match(operation=frozenset({"chat", "embeddings"})), ""),
        (Match(operation=frozenset({"embeddings"})), None),
        (Match(model=globs("gpt-4o*")), "-mini"),
        (Match(model=globs("gpt-4o-mini", "gpt-*")), ""),
        (Match(model=globs("gpt-4o")), None),
        (Match(header=(("x-env", globs("staging", "dev")),)), ""),
        (Match(header=(("x-env", globs("prod")),)), None),
        (Match(header=(("x-missing", globs("*")),)), None),
        (Match(header=(("x-env", globs("staging")), ("x-team", globs("b")))), None),
        (Match(client=networks("10.0.0.0/8")), ""),
        (Match(client=networks("192.168.0.0/16", "10.1.2.3/32")), ""),
        (Match(client=networks("192.168.0.0/16", "::/0")), None),
        (Match(host=globs("*"), path=globs("*"), model=globs("*"), operation=frozenset({"chat"})), "gpt-4o-mini"),
        (Match(host=globs("*"), path=globs("*"), model=globs("*"), operation=frozenset({"image"})), None),
    ],
)
def test_each_key(match: Match, captured: str | None) -> None:
    assert match(ASKED) == captured


@pytest.mark.parametrize(
    ("client", "network", "inside"),
    [
        ("10.9.9.9", "10.0.0.0/8", True),
        ("::ffff:10.9.9.9", "10.0.0.0/8", True),
        ("11.9.9.9", "10.0.0.0/8", False),
        ("fd00::1", "fd00::/8", True),
        ("fe80::1%eth0", "fe80::/10", True),
        ("::1", "127.0.0.0/8", False),
        ("somewhere", "0.0.0.0/0", False),
        ("", "0.0.0.0/0", False),
    ],
)
def test_client_networks(client: str, network: str, inside: bool) -> None:
    assert (Match(client=networks(network))(replace(ASKED, client=client)) is not None) is inside


@pytest.mark.parametrize("model", ["*", "gpt-4o-mini", "?*"])
def test_a_model_key_never_matches_a_request_without_a_model(model: str) -> None:
    assert Match(model=globs(model))(replace(ASKED, model=None)) is None


KEYS: list[tuple[str, Any, dict[str, Any]]] = [
    ("host", globs("api.*"), {"host": "x"}),
    ("path", globs("/v1/*"), {"path": "/v2"}),
    ("operation", frozenset({"chat"}), {"operation": "image"}),
    ("model", globs("gpt-*"), {"model": "o3"}),
    ("header", (("x-env", globs("staging")),), {"headers": {"x-env": "dev"}}),
    ("client", networks("10.0.0.0/8"), {"client": "9.1.1.1"}),
]


@pytest.mark.parametrize("key", range(len(KEYS)))
def test_all_keys_must_hold(key: int) -> None:
    whole = Match(**{name: value for name, value, _ in KEYS})
    assert whole(ASKED) == "4o-mini"
    assert whole(replace(ASKED, **KEYS[key][2])) is None


def test_the_first_match_wins() -> None:
    def route(name: str, match: Match) -> Route:
        return Route(match, Chosen(name, None, ()))

    routes = (
        route("images", Match(operation=frozenset({"image"}))),
        route("mini", Match(model=globs("*-mini"))),
        route("all", Match()),
    )
    assert RouteTable(routes, {}, {}).choose(ASKED, direct=False) == routes[1].chosen
    assert RouteTable(routes, {}, {}).choose(replace(ASKED, model=None), direct=False) == routes[2].chosen
    assert RouteTable(routes[:1], {}, {}).choose(ASKED, direct=False) is None
    assert RouteTable((), {}, {}).choose(ASKED, direct=False) is None
