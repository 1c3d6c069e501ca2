"""Identify, and what follows from it in matching and planning: aliases, policies, projects, teams."""

from random import Random
from typing import Any

import pytest
from calls import CHAT, OPENAI, House, call

from mitmgate.errors import Refusal
from mitmgate.exchange import Exchange
from mitmgate.runtime import Snapshot
from mitmgate.stages.identify import identify
from mitmgate.stages.match_route import match_route
from mitmgate.stages.plan_targets import plan_targets
from mitmgate.stages.read_request import read_request
from mitmgate.stages.translate import translate

RULES = """
providers:
  openai: {credential: {value: k}, region: us}
  eu: {base_url: https://eu.example/v1, credential: {value: k}, region: eu}
  house: {base_url: http://10.0.0.7:8000/v1, zone: internal, region: eu}
projects:
  x: {allow: {regions: [eu]}, tenant: t1}
  y: {identify: {client: 10.1.0.0/16}}
aliases:
  gpt-4: gpt-4o
  "gpt-3.5*": {model: fast, match: {project: y}}
  "gpt-*": "openai/gpt-4o-mini"
models:
  fast: {targets: [{provider: house, model: llama}]}
policies:
  - {name: no-batches, match: {tag: {kind: batch}}, refuse: {message: "Batches go elsewhere.", status: 429}}
  - {name: secret-stays, match: {task: secret}, for: {zone: external}, allow: {providers: [none]}}
  - {name: long-ones, match: {when: size(request.messages) > 2}, for: {provider: openai}, refuse: {message: m}}
routes:
  - {name: closed, match: {model: closed}, refuse: {message: "This model is gone.", status: 410}}
  - {name: both, match: {model: [gpt-4o, both]}, targets: [{provider: openai, set: {user: u}}, {provider: eu, model: m}], fallback: [{provider: house, model: llama}]}
""" # noqa: E501


async def planned(exchange: Exchange, services: Snapshot) -> Exchange:
    for stage in (read_request, identify, match_route, plan_targets):
        await stage(exchange, services)
    return exchange


def chat(model: str = "both", **more: Any) -> dict[str, Any]:
    return {**CHAT, "model": model, **more}


def targets(exchange: Exchange) -> list[str]:
    assert exchange.plan is not None
    return [target.key for target in exchange.plan.targets]


@pytest.mark.parametrize(
    ("exchange", "project", "tenant", "task", "tags"),
    [
        (call(body=chat()), "unknown", None, None, {}),
        (call(body=chat(project_id="x")), "x", "t1", None, {}),
        (call(body=chat(), headers={"x-gateway-project-id": "x"}), "x", "t1", None, {}),
        (call(body=chat(project_id="y")), "unknown", None, None, {}),
        (call(body=chat(), client="10.1.0.9"), "y", None, None, {}),
        (call(body=chat(tenantId="t9")), "unknown", "t9", None, {}),
        (call(body=chat(tenantId="t9", project_id="x")), "x", "t1", None, {}),     # the rules know better
        (call(body=chat(), headers={"x-gateflow-task-type": "summary"}), "unknown", None, "summary", {}),
        (call(body=chat(gateflow={"tags": {"team": "a", "n": 1, "long": "x" * 129}})), "unknown", None, None, {"team": "a"}),
        (call(body=chat(gateflow={"tags": ["a"]})), "unknown", None, None, {}),
        (call(body=chat(gateflow="tags")), "unknown", None, None, {}),
        (call(body=chat(project_id=["x"], tenantId={})), "unknown", None, None, {}),
    ],
)
async def test_who_calls(
    house: House, exchange: Exchange, project: str, tenant: str | None, task: str | None, tags: dict[str, str]
) -> None:
    services = house.snapshot(RULES)
    await read_request(exchange, services)
    await identify(exchange, services)
    assert (exchange.project, exchange.tenant, exchange.task, exchange.tags) == (project, tenant, task, tags)


@pytest.mark.parametrize(
    ("exchange", "route", "expected"),
    [
        (call(body=chat()), "both", ["openai/*", "eu/m", "house/llama"]),
        (call(body=chat("gpt-4")), "both", ["openai/*", "eu/m", "house/llama"]),
        (call(body=chat("gpt-3.5-turbo"), client="10.1.0.9"), "fast", ["house/llama"]),
        (call(body=chat("gpt-3.5-turbo")), "provider/openai", ["openai/gpt-4o-mini"]),      # the next alias that applies
        (call(body=chat(project_id="x")), "both", ["eu/m", "house/llama"]),                 # residency holds for fallbacks too
        (call(body=chat("fast", project_id="x")), "fast", ["house/llama"]),
        (call(body=chat(), headers={"x-gateflow-task-type": "secret"}), "both", ["house/llama"]),
        (call(body=chat(messages=[{"role": "user", "content": "a"}] * 3)), "both", ["eu/m", "house/llama"]),
    ],
)
async def test_the_plan(house: House, exchange: Exchange, route: str, expected: list[str]) -> None:
    await planned(exchange, house.snapshot(RULES))
    assert exchange.chosen is not None
    assert (exchange.chosen.route, targets(exchange)) == (route, expected)


@pytest.mark.parametrize(
    ("exchange", "code", "status"),
    [
        (call(body=chat("closed")), "refused", 410),
        (call(body=chat(gateflow={"tags": {"kind": "batch"}})), "refused", 429),
        (call(body=chat("openai/gpt-4o", project_id="x")), "model_not_allowed", 403),       # a client's own choice too
        (call(body=chat("gpt-4o-mini", project_id="x")), "model_not_allowed", 403),         # and the catalogue's
        (call(body=chat("other", project_id="x"), direct=False, origin=OPENAI), "model_not_allowed", 403),
        (call("/v1/custom", chat("other"), {"x-gateflow-task-type": "secret"}, direct=False), "model_not_allowed", 403),
    ],
)
async def test_what_is_refused(house: House, exchange: Exchange, code: str, status: int) -> None:
    with pytest.raises(Refusal) as caught:
        await planned(exchange, house.snapshot(RULES))
    assert (caught.value.code, caught.value.status) == (code, status)


async def test_dropped_targets_say_why(house: House) -> None:
    exchange = await planned(call(body=chat(project_id="x")), house.snapshot(RULES))
    assert exchange.plan is not None
    ((target, reason),) = [(each.target.key, each.reason) for each in exchange.plan.dropped]
    assert (target, reason) == ("openai/*", "project x (rules.yaml:8): region us is not one of eu")


async def test_an_alias_is_what_the_provider_is_asked_for(house: House) -> None:
    services = house.snapshot(RULES)
    exchange = await planned(call(body=chat("gpt-4")), services)
    await translate(exchange, services)
    assert exchange.upstream is not None
    assert exchange.upstream.body is not None
    assert b'"model":"gpt-4o"' in exchange.upstream.body
    assert b'"user":"u"' in exchange.upstream.body       # `set:` of this target
    assert exchange.requested_model == "gpt-4"


async def test_an_intercepted_call_follows_the_alias_too(house: House) -> None:
    services = house.snapshot("providers: {openai: {}}\naliases: {old: new}\n")
    exchange = await planned(call(body=chat("old"), direct=False, origin=OPENAI), services)
    await translate(exchange, services)
    assert exchange.upstream is not None
    assert exchange.upstream.body is not None
    assert b'"model":"new"' in exchange.upstream.body


@pytest.mark.parametrize(
    ("rules", "model", "served"),
    [
        ("", "fast", True), ("", "openai/x", True), ("", "gpt-4o-mini", True), ("", "auto", True),
        ("access: keys\n", "fast", True), ("access: keys\n", "auto", True),
        ("access: keys\n", "openai/x", False), ("access: keys\n", "gpt-4o-mini", False),
        ("builtin_routes: [provider]\n", "fast", False), ("builtin_routes: [provider]\n", "openai/x", True),
        ("builtin_routes: []\n", "auto", False), ("builtin_routes: [catalogue]\n", "gpt-4o-mini", True),
    ],
)  # fmt: skip
async def test_what_is_built_in(house: House, rules: str, model: str, served: bool) -> None:
    """THREATS, row 3: what no operator has written serves only where it may."""
    models = "models: {fast: {targets: [{provider: openai, model: gpt-4o}]}}\n"
    services = house.snapshot(f"providers: {{openai: {{credential: {{value: k}}}}}}\n{models}{rules}")
    exchange = call(body=chat(model))
    if served:
        await planned(exchange, services)
        return
    with pytest.raises(Refusal) as caught:
        await planned(exchange, services)
    assert caught.value.code == "model_not_found"


TEAMS = """
providers: {openai: {credential: {value: k}}, house: {base_url: http://10.0.0.7:8000/v1, zone: internal}}
projects:
  a: {identify: {client: 10.1.0.0/16}}
  b: {allow: {providers: [house]}}
  c: {}
models: {fast: {targets: [{provider: openai, model: gpt-4o-mini}]}}
routes:
  - {name: main, match: {model: pinned}, targets: [{provider: openai, model: gpt-4o}]}
"""
TEAM_A = """
scope: {project: [a, c]}
aliases: {theirs: fast}
models: {fast: {targets: [{provider: house, model: quick}]}, own: {targets: [{provider: house, model: own}]}}
routes:
  - {name: team-a, match: {model: [shared, pinned]}, targets: [{provider: house, model: a}]}
"""
TEAM_B = """
scope: {project: b}
routes:
  - {name: team-b, match: {model: shared}, targets: [{provider: house, model: b}]}
"""


@pytest.fixture
def teams(house: House) -> Snapshot:
    (house.folder / "teams").mkdir()
    (house.folder / "teams" / "a.yaml").write_text(TEAM_A, encoding="utf-8")
    (house.folder / "teams" / "b.yaml").write_text(TEAM_B, encoding="utf-8")
    return house.snapshot(TEAMS)


@pytest.mark.parametrize(
    ("exchange", "route", "expected"),
    [
        (call(body=chat("shared"), client="10.1.0.1"), "a/team-a", ["house/a"]),
        (call(body=chat("shared", project_id="b")), "b/team-b", ["house/b"]),
        (call(body=chat("shared", project_id="c")), "a/team-a", ["house/a"]),
        (call(body=chat("pinned"), client="10.1.0.1"), "main", ["openai/gpt-4o"]),      # the operators' routes stand first
        (call(body=chat("fast"), client="10.1.0.1"), "a/fast", ["house/quick"]),          # a team's own name for itself
        (call(body=chat("fast")), "fast", ["openai/gpt-4o-mini"]),
        (call(body=chat("theirs"), client="10.1.0.1"), "a/fast", ["house/quick"]),
        (call(body=chat("own"), client="10.1.0.1"), "a/own", ["house/own"]),
    ],
)
async def test_a_team_inside_its_scope(teams: Snapshot, exchange: Exchange, route: str, expected: list[str]) -> None:
    await planned(exchange, teams)
    assert exchange.chosen is not None
    assert (exchange.chosen.route, targets(exchange)) == (route, expected)


@pytest.mark.parametrize(
    "exchange",
    [
        call(body=chat("shared")), call(body=chat("own")), call(body=chat("theirs")),
        call(body=chat("own", project_id="b")), call(body=chat("theirs", project_id="b")),
        call(body=chat("shared", project_id="a")),      # `a` recognises its callers: saying so is not enough
    ],
)  # fmt: skip
async def test_a_team_reaches_nobody_else(teams: Snapshot, exchange: Exchange) -> None:
    with pytest.raises(Refusal) as caught:
        await planned(exchange, teams)
    assert caught.value.code == "model_not_found"


async def test_the_models_that_a_team_is_offered(teams: Snapshot) -> None:
    assert teams.table.offered_to("unknown") == ("fast", "pinned")
    assert teams.table.offered_to("b") == ("fast", "pinned", "shared")
    assert teams.table.offered_to("a") == ("fast", "pinned", "own", "shared")


@pytest.mark.parametrize("number", range(20))
async def test_a_session_stays(house: House, number: int) -> None:
    """The same session meets the same target, whatever the dice say."""
    rules = (
        "providers: {openai: {credential: {value: k}}, eu: {base_url: https://eu.example/v1}}\n"
        "routes: [{name: s, sticky: [header:x-session-id], strategy: weighted, "
        "targets: [{provider: openai, weight: 9}, {provider: eu, weight: 1}]}]\n"
    )
    services = house.snapshot(rules, Random(number).random)
    seen = set()
    for _ in range(5):
        exchange = await planned(call(body=chat(), headers={"x-session-id": str(number)}), services)
        seen.add(tuple(targets(exchange)))
    assert len(seen) == 1
