"""Sticky: who keeps whom, what moves when a weight changes, and that chance has no part in it."""

from collections import Counter
from typing import Any

import pytest

from mitmgate.exchange import Origin, Provider, Target
from mitmgate.routing.sticky import lot, sticky_value
from mitmgate.routing.strategies import Dice, order

PROVIDER = Provider("p", "openai", Origin("https", "p.example", 443), "/v1")
USERS = [f"user={number}" for number in range(20_000)]
TURNS = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]


def first(value: str, *targets: Target, route: str = "r", strategy: str = "weighted") -> str | None:
    dice = Dice(lambda target: lot(route, value, target), 0, sticky=True)
    return order(strategy, targets, {}, dice)[0].model


def shares(*weights: float) -> dict[str, str | None]:
    targets = [Target(PROVIDER, model, weight) for model, weight in zip("abc", weights, strict=False)]
    return {user: first(user, *targets) for user in USERS}


def test_shares_are_the_weights() -> None:
    counted = Counter(shares(9, 1).values())
    assert 0.09 < counted["b"] / len(USERS) < 0.11          # 10 %, five standard deviations


def test_a_raised_weight_moves_only_what_it_takes() -> None:
    before, after = shares(9, 1), shares(8, 2)
    moved = {user for user in USERS if before[user] != after[user]}
    assert all(after[user] == "b" for user in moved)
    assert 0.08 < len(moved) / len(USERS) < 0.12


def test_a_new_target_takes_from_all_and_moves_nobody_else() -> None:
    before, after = shares(1, 1), shares(1, 1, 1)
    assert {after[user] for user in USERS if before[user] != after[user]} == {"c"}


def test_the_order_of_the_rules_does_not_matter() -> None:
    one, two = Target(PROVIDER, "a", 3), Target(PROVIDER, "b", 1)
    assert all(first(user, one, two) == first(user, two, one) for user in USERS[:500])


def test_routes_draw_different_lots() -> None:
    one, two = Target(PROVIDER, "a"), Target(PROVIDER, "b")
    together = [first(user, one, two, route="r") == first(user, one, two, route="s") for user in USERS[:4_000]]
    assert 0.45 < sum(together) / len(together) < 0.55


def test_round_robin_keeps_too() -> None:
    targets = [Target(PROVIDER, model) for model in "abc"]
    counted = Counter(first(user, *targets, strategy="round-robin") for user in USERS)
    assert all(0.31 < count / len(USERS) < 0.36 for count in counted.values())


def test_known_values() -> None:
    """The same on every machine and in every version: these are what deployed gateways drew."""
    target = Target(PROVIDER, "a")
    assert lot("r", "user=1", target) == pytest.approx(0.3050078360516257, abs=1e-15)


@pytest.mark.parametrize(
    ("sources", "headers", "document", "value"),
    [
        (("header:X-Session-Id",), {"x-session-id": "s"}, {}, "header:X-Session-Id=s"),
        (("header:x-session-id", "body:user"), {}, {"user": "u"}, "body:user=u"),
        (("header:x-session-id", "body:user"), {"x-session-id": ""}, {"user": "u"}, "body:user=u"),
        (("body:seed",), {}, {"seed": 7}, "body:seed=7"),
        (("body:user",), {}, {"user": ["a"]}, None),
        (("body:user",), {}, {"user": True}, None),
        (("body:user",), {}, None, None),
        (("conversation",), {}, {}, None),
        ((), {"x-session-id": "s"}, {"user": "u"}, None),
    ],
)
def test_the_first_source_that_is_there(
    sources: tuple[str, ...], headers: dict[str, str], document: dict[str, Any] | None, value: str | None
) -> None:
    assert sticky_value(sources, headers, document) == value


def conversation(document: dict[str, Any]) -> str | None:
    return sticky_value(("conversation",), {}, document)


def test_a_conversation_stays_the_same_while_it_grows() -> None:
    begun = conversation({"messages": TURNS})
    grown = conversation({"messages": [*TURNS, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "and?"}]})
    assert begun is not None
    assert begun == grown
    assert conversation({"messages": [TURNS[0], {"role": "user", "content": "other"}]}) != begun
    assert conversation({"messages": TURNS[1:]}) != begun
    assert "hello" not in begun                         # a hash, not what the user said


def test_conversations_of_other_apis() -> None:
    assert conversation({"instructions": "a", "input": "b"}) not in (None, conversation({"instructions": "b", "input": "b"}))
    assert conversation({"system": "a", "messages": TURNS[1:]}) != conversation({"messages": TURNS[1:]})
    assert conversation({"messages": [{"role": "user", "content": 2**70}]}) is not None
