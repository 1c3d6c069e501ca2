"""The index: it forgets no route that matches, and looks at few that do not."""

import ipaddress
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitmgate.conditions.condition import Condition
from mitmgate.conditions.facts import Facts
from mitmgate.globs import Globs
from mitmgate.routing.index import Index
from mitmgate.routing.match import Asked, Match

WORDS = ("a", "ab", "abc", "b", "ba", "")
PATTERNS = ("a", "ab", "a*", "ab*", "*", "*b", "?b", "a?*", "b")


def some_globs() -> st.SearchStrategy[Globs | None]:
    return st.none() | st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3).map(lambda texts: Globs.parse(tuple(texts)))


def named_globs() -> st.SearchStrategy[tuple[tuple[str, Globs], ...]]:
    pair = st.tuples(st.sampled_from(("x", "y")), some_globs().filter(lambda globs: globs is not None))
    return st.lists(pair, max_size=2, unique_by=lambda each: each[0]).map(tuple)


WHEN = Condition.parse("request.stream")


@st.composite
def matches(draw: st.DrawFn, depth: int = 1) -> Match:
    return Match(
        host=draw(some_globs()),
        path=draw(some_globs()),
        operation=draw(st.frozensets(st.sampled_from(("chat", "image")), max_size=2)),
        model=draw(some_globs()),
        header=draw(named_globs()),
        client=draw(st.sampled_from([(), (ipaddress.ip_network("10.0.0.0/8"),)])),
        project=draw(some_globs()),
        tenant=draw(some_globs()),
        task=draw(some_globs()),
        tag=draw(named_globs()),
        when=draw(st.sampled_from([None, None, WHEN])),
        exclude=draw(st.none() | matches(depth=0)) if depth else None,
        scope=draw(some_globs()) if depth else None,
    )


@st.composite
def requests(draw: st.DrawFn) -> Asked:
    word = st.sampled_from(WORDS)
    document = draw(st.sampled_from([{}, {"stream": True}, {"stream": "neither"}]))
    return Asked(
        host=draw(word),
        path=draw(word),
        operation=draw(st.sampled_from(("chat", "image", "speech"))),
        model=draw(st.none() | word),
        headers=draw(st.dictionaries(st.sampled_from(("x", "y")), word)),
        client=draw(st.sampled_from(("10.1.2.3", "192.168.0.1"))),
        project=draw(word),
        tenant=draw(st.none() | word),
        task=draw(st.none() | word),
        tags=draw(st.dictionaries(st.sampled_from(("x", "y")), word)),
        facts=Facts(document, 10, {}),
    )


@given(st.lists(matches(), max_size=8), requests())
def test_what_matches_is_a_candidate(rules: Sequence[Match], asked: Asked) -> None:
    found = list(Index(rules).candidates(asked))
    assert found == sorted(set(found))
    assert {position for position, match in enumerate(rules) if match(asked) is not None} <= set(found)


@given(matches(), requests())
def test_explaining_agrees_with_matching(match: Match, asked: Asked) -> None:
    assert (match.miss(asked) is None) == (match(asked) is not None)


@given(matches(), requests())
def test_doubt_only_widens(match: Match, asked: Asked) -> None:
    """What a route takes, a policy with the same words governs."""
    if match(asked) is not None:
        assert match(asked, doubt=True) is not None


def asked(**given: object) -> Asked:
    start = {"host": "h", "path": "/p", "operation": "chat", "model": "m", "headers": {}, "client": "10.0.0.1"}
    return Asked(**(start | given))  # type: ignore[arg-type]


def globs(text: str) -> Globs:
    return Globs.parse((text,))


@pytest.mark.parametrize(
    ("rules", "request_"),
    [
        ([Match(model=globs(f"m-{n}")) for n in range(1_000)], asked(model="m-500")),
        ([Match(model=globs(f"team-{n:03}/*")) for n in range(1_000)], asked(model="team-500/x")),
        ([Match(model=globs("gpt-4o"), project=globs(f"p{n}")) for n in range(1_000)], asked(model="gpt-4o", project="p7")),
        ([Match(scope=globs(f"p{n}"), when=WHEN) for n in range(1_000)], asked(project="p7")),
        ([Match(host=globs(f"h{n}.example")) for n in range(1_000)], asked(host="h7.example")),
        ([Match(header=(("x-app", globs(f"a{n}")),)) for n in range(1_000)], asked(headers={"x-app": "a7"})),
        ([Match(tag=(("team", globs(f"t{n}")),)) for n in range(1_000)], asked(tags={"team": "t7"})),
        ([Match(model=globs("gpt*"), tenant=globs(f"t{n}")) for n in range(1_000)], asked(model="gpt-4o", tenant="t7")),
        ([Match(model=globs("*"), task=globs(f"t{n}")) for n in range(1_000)], asked(task="t7")),
    ],
)
def test_of_a_thousand_few_are_looked_at(rules: list[Match], request_: Asked) -> None:
    assert len(Index(rules).candidates(request_)) == 1
