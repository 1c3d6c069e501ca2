"""Policies and projects: what they reach, what they refuse, and that together they only take away."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitmgate.exchange import Allow, Constraint, Origin, Provider, Reach, Target
from mitmgate.globs import Globs
from mitmgate.routing.constraints import divide, objection

OPENAI = Provider("openai", "openai", Origin("https", "api.openai.com", 443), "/v1", region="us")
AZURE = replace(OPENAI, name="azure-eu", region="eu")
HOUSE = replace(OPENAI, name="vllm", zone="internal", region="eu")
NOWHERE = replace(OPENAI, name="nowhere", region=None)
TARGETS = (Target(OPENAI, "gpt-4o"), Target(AZURE, "my-4o", base_model="gpt-4o"), Target(HOUSE, "llama"), Target(NOWHERE))


def globs(*texts: str) -> Globs:
    return Globs.parse(texts)


def kept(*constraints: Constraint, model: str | None = "asked") -> list[str]:
    targets, dropped = divide(TARGETS, constraints, model)
    assert len(targets) + len(dropped) == len(TARGETS)
    return [target.provider.name for target in targets]


ANYWHERE = Reach()


def rule(reach: Reach = ANYWHERE, refuse: bool = False, **allow: Globs) -> Constraint:
    return Constraint("policy p", "rules.yaml:7", reach, Allow(**allow), refuse=(403, "no") if refuse else None)


@pytest.mark.parametrize(
    ("constraint", "names"),
    [
        (rule(), ["openai", "azure-eu", "vllm", "nowhere"]),
        (rule(regions=globs("eu")), ["azure-eu", "vllm"]),              # what has no region is in none
        (rule(regions=globs("*")), ["openai", "azure-eu", "vllm"]),
        (rule(providers=globs("*-eu", "vllm")), ["azure-eu", "vllm"]),
        (rule(models=globs("gpt-4o")), ["openai", "azure-eu"]),         # a deployment counts as what it is
        (rule(models=globs("asked")), ["nowhere"]),                     # without a model it is asked for the client's
        (rule(models=globs("my-*")), ["azure-eu"]),
        (rule(regions=globs("eu"), models=globs("llama")), ["vllm"]),
        (rule(Reach(zone="external"), regions=globs("eu")), ["azure-eu", "vllm"]),
        (rule(Reach(zone="external"), providers=globs("none")), ["vllm"]),
        (rule(Reach(provider=globs("openai")), models=globs("x")), ["azure-eu", "vllm", "nowhere"]),
        (rule(Reach(region=globs("eu")), refuse=True), ["openai", "nowhere"]),
        (rule(Reach(model=globs("gpt-4o")), refuse=True), ["vllm", "nowhere"]),
        (rule(Reach(zone="internal", provider=globs("openai")), refuse=True), ["openai", "azure-eu", "vllm", "nowhere"]),
    ],
)
def test_what_is_left(constraint: Constraint, names: list[str]) -> None:
    assert kept(constraint) == names


@pytest.mark.parametrize(
    ("constraint", "reason"),
    [
        (rule(regions=globs("eu")), "policy p (rules.yaml:7): region us is not one of eu"),
        (rule(providers=globs("a", "b*")), "policy p (rules.yaml:7): provider openai is not one of a, b*"),
        (rule(models=globs("a")), "policy p (rules.yaml:7): model gpt-4o is not one of a"),
        (rule(Reach(zone="external"), refuse=True), "policy p (rules.yaml:7): it refuses this target"),
    ],
)
def test_the_reason(constraint: Constraint, reason: str) -> None:
    assert objection([constraint], TARGETS[0], "gpt-4o") == reason


def test_an_unknown_region_is_said() -> None:
    reason = "policy p (rules.yaml:7): region unknown is not one of eu"
    assert objection([rule(regions=globs("eu"))], TARGETS[3], None) == reason


SOME = [
    rule(regions=globs("eu")), rule(providers=globs("*a*")), rule(models=globs("gpt*", "llama")),
    rule(Reach(zone="external"), refuse=True), rule(Reach(region=globs("us")), models=globs("x")), rule(),
]  # fmt: skip


@given(st.lists(st.sampled_from(SOME)), st.sampled_from(SOME))
def test_one_more_only_takes_away(some: list[Constraint], more: Constraint) -> None:
    before, after = kept(*some), kept(*some, more)
    assert [name for name in before if name in after] == after
    assert kept(*reversed(some)) == before              # whoever speaks first
