"""In which order targets are tried. The dice are seeded: a failure can be repeated."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitmgate.exchange import Origin, Provider, Target
from mitmgate.routing.strategies import STRATEGIES, Dice, order
from mitmgate.rules.schema import Strategy

PROVIDER = Provider("p", "openai", Origin("https", "p.example", 443), "/v1")
DRAWS = 20_000
# By degrees of freedom: what a fair draw exceeds once in a million times.
CHI_SQUARE = {1: 23.9, 2: 27.6, 3: 30.7}


def target(model: str, weight: float = 1.0, priority: int = 0) -> Target:
    return Target(PROVIDER, model, weight, priority)


def models(targets: tuple[Target, ...]) -> str:
    return "".join(t.model or "" for t in targets)


def dice(turn: int = 0, seed: int = 1) -> Dice:
    rolled = random.Random(seed)
    return Dice(lambda _: rolled.random(), turn)


UNBUILT = {"least-latency", "least-busy", "cheapest"}       # they come with health and prices; `check` says so


def test_every_strategy_of_the_rules_is_there() -> None:
    assert set(STRATEGIES) == set(Strategy.__args__) - UNBUILT  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(UNBUILT))
def test_one_that_is_not_built_is_the_order_of_the_rules(name: str) -> None:
    assert models(order(name, [target("a", 1), target("b", 9)], {}, dice())) == "ab"


def test_fallback_is_the_order_of_the_rules() -> None:
    assert models(order("fallback", [target("a", 1), target("b", 9), target("c", 5)], {}, dice())) == "abc"


@pytest.mark.parametrize(
    "weights",
    [{"a": 3.0, "b": 1.0}, {"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 0.5, "b": 0.1, "c": 0.3, "d": 0.1}, {"a": 100, "b": 1}],
)
def test_weighted_takes_each_first_as_often_as_its_share(weights: dict[str, float]) -> None:
    drawn = dice()
    targets = [target(name, weight) for name, weight in weights.items()]
    firsts = Counter(order("weighted", targets, {}, drawn)[0].model for _ in range(DRAWS))
    expected = {name: DRAWS * weight / sum(weights.values()) for name, weight in weights.items()}
    distance = sum((firsts[name] - expected[name]) ** 2 / expected[name] for name in weights)
    assert distance < CHI_SQUARE[len(weights) - 1], firsts


def test_weighted_draws_the_second_by_weight_too() -> None:
    """Without replacement: after `a` (half of the time) `b` stands to `c` as 2 to 1."""
    drawn = dice(seed=2)
    targets = [target("a", 3), target("b", 2), target("c", 1)]
    seconds = Counter(models(order("weighted", targets, {}, drawn)) for _ in range(DRAWS))
    assert seconds["abc"] / (seconds["abc"] + seconds["acb"]) == pytest.approx(2 / 3, abs=0.02)


def test_a_target_of_weight_0_is_only_fallen_back_to() -> None:
    drawn = dice()
    targets = [target("z", 0), target("a", 1), target("y", 0), target("b", 1)]
    orders = {models(order("weighted", targets, {}, drawn)) for _ in range(500)}
    assert orders == {"abzy", "bazy"}


@pytest.mark.parametrize("number", [0.0, math.nextafter(1.0, 0.0)])
def test_weighted_takes_the_extremes_of_the_dice(number: float) -> None:
    targets = [target("a", 1), target("b", 1e-9), target("c", 0)]
    assert sorted(models(order("weighted", targets, {}, Dice(lambda _: number, 0)))) == ["a", "b", "c"]


def test_round_robin_turns() -> None:
    targets = [target("a"), target("b"), target("c")]
    turns = [models(order("round-robin", targets, {}, dice(turn))) for turn in range(5)]
    assert turns == ["abc", "bca", "cab", "abc", "bca"]


def test_round_robin_is_fair_within_the_first_priority() -> None:
    """A standby of a later priority must not skew whose turn it is among those that serve."""
    targets = [target("a"), target("b"), target("z", priority=1)]
    firsts = Counter(order("round-robin", targets, {}, dice(turn))[0].model for turn in range(600))
    assert firsts == {"a": 300, "b": 300}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_lower_priority_number_always_stands_first(strategy: str) -> None:
    targets = [target("c", 9, 2), target("a", 1, 0), target("d", 9, 2), target("b", 1, 1)]
    rolled = random.Random(3)
    for turn in range(50):
        ordered = order(strategy, targets, {}, Dice(lambda _: rolled.random(), turn))
        assert [t.priority for t in ordered] == [0, 1, 2, 2]


TARGETS = st.lists(st.builds(target, st.text("abc", min_size=1), st.floats(0, 1e6), st.integers(-2, 2)), min_size=1, max_size=6)


@given(st.sampled_from(sorted(STRATEGIES)), TARGETS, st.integers(0, 10**9), st.integers())
def test_no_target_is_lost_or_doubled(strategy: str, targets: list[Target], turn: int, seed: int) -> None:
    ordered = order(strategy, targets, {}, dice(turn, seed))
    assert sorted(map(id, ordered)) == sorted(map(id, targets))
    assert [t.priority for t in ordered] == sorted(t.priority for t in targets)
