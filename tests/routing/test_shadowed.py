"""What is said never to match never does: proved against all requests of a small world."""

import ipaddress
import time
from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mitmgate.conditions.condition import Condition
from mitmgate.conditions.facts import Facts
from mitmgate.globs import Glob, Globs
from mitmgate.routing.match import Asked, Match
from mitmgate.routing.shadowed import empty, implies, wider

STREAMS = Condition.parse("request.stream")
STREAMS_TOO = Condition.parse("request.stream")         # the same text, compiled for another route
LONG = Condition.parse("size(request.messages) > 3")


def globs(*texts: str) -> Globs:
    return Globs.parse(texts)


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)


# Globs: every pattern of up to three characters against every other, and every text that could tell them apart

SYMBOLS = "ab*?"
PATTERNS = ["".join(each) for length in range(4) for each in product(SYMBOLS, repeat=length)]
TEXTS = ["".join(each) for length in range(7) for each in product("ab", repeat=length)]
# What stands for `c` tells `?` and `*` from all letters of the other pattern.
TEXTS += ["".join(each) for length in range(1, 5) for each in product("abc", repeat=length) if "c" in each]


def meant(pattern: str) -> frozenset[str]:
    glob = Glob.parse(pattern)
    return frozenset(text for text in TEXTS if glob.match(text) is not None)


def test_a_wider_glob_matches_all_that_the_narrower_does() -> None:
    language = {pattern: meant(pattern) for pattern in PATTERNS}
    wrong = [
        (wide, narrow)
        for wide, narrow in product(PATTERNS, repeat=2)
        if wider(wide, narrow) and not language[narrow] <= language[wide]
    ]
    assert not wrong


def test_a_wider_glob_is_seen_to_be_wider() -> None:
    """All but globs that mix `*` and `?` side by side, of which one can be written in two ways."""
    language = {pattern: meant(pattern) for pattern in PATTERNS}
    missed = [
        (wide, narrow)
        for wide, narrow in product(PATTERNS, repeat=2)
        if not wider(wide, narrow) and language[narrow] <= language[wide] and "*?" not in wide and "?*" not in wide
    ]
    assert not missed


# Matches: all requests of a world of few words

WORDS = (None, "a", "ab", "b")


@cache
def world() -> tuple[Asked, ...]:
    return tuple(_requests())


def _requests() -> Iterator[Asked]:
    documents: list[dict[str, Any]] = [{}, {"stream": True}, {"stream": "neither"}]
    clients = ("10.1.2.3", "192.168.0.1")
    everything = product(WORDS, WORDS[:2], ("a", "b", "unknown"), WORDS, ("chat", "image"), clients, documents)
    for model, tenant, project, header, operation, client, document in everything:
        yield Asked(
            host="h",
            path="/p",
            operation=operation,
            model=model,
            headers={"x": header} if header is not None else {},
            client=client,
            project=project,
            tenant=tenant,
            tags={"x": header} if header is not None else {},
            facts=Facts(document, 10, {}),
        )


some_globs = st.lists(st.sampled_from(("a", "ab", "a*", "*", "*b", "?b", "b")), min_size=1, max_size=2).map(lambda t: globs(*t))
maybe_globs = st.none() | some_globs
named = st.just(()) | some_globs.map(lambda each: (("x", each),))


@st.composite
def matches(draw: st.DrawFn, depth: int = 1) -> Match:
    return Match(
        operation=draw(st.frozensets(st.sampled_from(("chat", "image")), max_size=1)),
        model=draw(maybe_globs),
        tenant=draw(maybe_globs),
        project=draw(maybe_globs),
        scope=draw(st.none() | st.sampled_from(("a", "b")).map(globs)) if depth else None,
        header=draw(named),
        tag=draw(named),
        client=draw(st.sampled_from(((), (), (network("10.0.0.0/8"),), (network("10.1.0.0/16"), network("::/0"))))),
        when=draw(st.sampled_from((None, None, None, STREAMS, STREAMS_TOO))),
        exclude=draw(st.none() | matches(depth=0)) if depth else None,
    )


KEYS = ("operation", "model", "tenant", "project", "scope", "header", "tag", "client", "when", "exclude")


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Match, Match]:
    """A match, and one that often takes what it does: some of its keys, some of another's."""
    later, other = draw(matches()), draw(matches())
    keys: dict[str, Any] = {}
    for key in KEYS:
        source = draw(st.sampled_from((later, later, None, None, other)))
        keys[key] = getattr(source or Match(), key)
    return later, Match(**keys)


def fitting(match: Match, *, doubt: bool = False) -> frozenset[int]:
    return frozenset(position for position, asked in enumerate(world()) if match(asked, doubt=doubt) is not None)


@settings(deadline=None)
@given(pairs())
def test_what_is_implied_is_so_for_every_request(pair: tuple[Match, Match]) -> None:
    later, earlier = pair
    if implies(later, earlier):
        assert fitting(later) <= fitting(earlier)
        assert fitting(later, doubt=True) <= fitting(earlier, doubt=True)


@settings(deadline=None)
@given(matches())
def test_what_is_empty_fits_no_request(match: Match) -> None:
    if empty(match):
        assert not fitting(match)


@given(matches())
def test_a_match_implies_itself(match: Match) -> None:
    assert implies(match, match)
    assert implies(match, Match())


IMPLIED = [
    (Match(), Match()),
    (Match(model=globs("gpt-4o")), Match(model=globs("gpt*"))),
    (Match(model=globs("gpt-4o*", "gpt-4")), Match(model=globs("claude*", "gpt-4*"))),
    (Match(model=globs("gpt-4o")), Match(model=globs("gpt-4o", "gpt-4"))),
    (Match(host=globs("api.openai.com"), path=globs("/v1/*")), Match(host=globs("*.openai.com"))),
    (Match(operation=frozenset({"chat"})), Match(operation=frozenset({"chat", "image"}))),
    (Match(client=(network("10.1.0.0/16"),)), Match(client=(network("192.168.0.0/16"), network("10.0.0.0/8")))),
    (Match(header=(("x", globs("a")), ("y", globs("b")))), Match(header=(("y", globs("*")),))),
    (Match(when=STREAMS, model=globs("a")), Match(when=STREAMS_TOO)),
    (Match(scope=globs("search")), Match(project=globs("sea*"))),
    (Match(project=globs("search")), Match(scope=globs("search", "mail"))),
    (Match(exclude=Match(model=globs("a*"))), Match(exclude=Match(model=globs("ab*")))),
    (Match(exclude=Match(model=globs("a*"))), Match(exclude=Match(model=globs("a*"), tenant=globs("t")))),
    (Match(model=globs("gpt-4o")), Match(exclude=Match(model=globs("*-audio*")))),
    (Match(operation=frozenset({"chat"})), Match(exclude=Match(operation=frozenset({"image"})))),
    (Match(tag=(("team", globs("a")),)), Match(exclude=Match(tag=(("team", globs("b*")),)))),
]
NOT_IMPLIED = [
    (Match(), Match(model=globs("*"))),                 # a request that names no model
    (Match(model=globs("gpt*")), Match(model=globs("gpt-4o"))),
    (Match(model=globs("gpt-4o", "claude-x")), Match(model=globs("gpt*"))),
    (Match(model=globs("a")), Match(model=globs("a"), operation=frozenset({"chat"}))),
    (Match(operation=frozenset({"chat", "image"})), Match(operation=frozenset({"chat"}))),
    (Match(client=(network("10.0.0.0/8"),)), Match(client=(network("10.1.0.0/16"),))),
    (Match(client=(network("10.0.0.0/8"),)), Match(client=(network("::/0"),))),
    (Match(header=(("x", globs("a")),)), Match(header=(("y", globs("*")),))),
    (Match(when=STREAMS), Match(when=LONG)),
    (Match(), Match(when=STREAMS)),
    (Match(project=globs("a")), Match(tenant=globs("a"))),
    (Match(model=globs("a")), Match(project=globs("a"))),
    (Match(model=globs("a")), Match(scope=globs("a"))),
    (Match(model=globs("a")), Match(exclude=Match(model=globs("a")))),
    (Match(exclude=Match(model=globs("ab*"))), Match(exclude=Match(model=globs("a*")))),
    (Match(), Match(exclude=Match(when=STREAMS))),
    (Match(model=globs("a*")), Match(exclude=Match(model=globs("*b")))),
]


@pytest.mark.parametrize(("later", "earlier"), IMPLIED)
def test_implied(later: Match, earlier: Match) -> None:
    assert implies(later, earlier)


@pytest.mark.parametrize(("later", "earlier"), NOT_IMPLIED)
def test_not_implied(later: Match, earlier: Match) -> None:
    assert not implies(later, earlier)


def test_globs_of_hostile_length_are_compared_at_once() -> None:
    wide, narrow = "*a" * 256, "a*" * 256
    started = time.perf_counter()
    assert not wider(wide, narrow + "b")
    assert time.perf_counter() - started < 1
