"""From a request to its plan: `match_route`, `plan_targets`, `list_models`."""

from typing import Any

import orjson
import pytest
from calls import CHAT, OPENAI, House, call

from mitmgate.errors import Refusal
from mitmgate.exchange import Exchange, Origin
from mitmgate.runtime import Snapshot
from mitmgate.stages.list_models import list_models
from mitmgate.stages.match_route import match_route
from mitmgate.stages.plan_targets import plan_targets
from mitmgate.stages.read_request import read_request

RULES = """
providers: {simulator: {dialect: simulator}, claude: {credential: {value: k}}, openai: {credential: {value: k}}}
models: {fast: {targets: [{provider: simulator, model: sim-1}]}}
routes:
  - {name: staging, match: {header: {x-env: staging}}, targets: [{provider: simulator, model: s}], timeout: {total: 7s, idle: 3s}}
  - {name: from-afar, match: {client: 10.0.0.0/8}, targets: [{provider: simulator}]}
  - {name: paths, match: {path: /custom/*}, targets: [{provider: simulator}]}
  - {name: vendor, match: {host: API.openai.com, model: gpt-5}, targets: [{provider: openai}]}
  - name: mixed
    match: {model: mixed}
    targets: [{provider: claude, model: c}, {provider: simulator, model: a}]
    fallback: [{provider: simulator, model: b}, {provider: claude, model: d}]
    set: {temperature: 0.1}
    default: {top_p: 1}
    retry: {max: 1}
  - {name: claudes, match: {model: claudes}, targets: [{provider: claude, model: c}]}
  - {name: turns, match: {model: turns}, strategy: round-robin, targets: [{provider: simulator, model: a}, {provider: simulator, model: b}]}
  - name: weights
    match: {model: weights}
    strategy: weighted
    targets: [{provider: simulator, model: a, weight: 9}, {provider: simulator, model: b, weight: 1}]
    fallback: [{provider: simulator, model: z}]
"""  # noqa: E501


async def planned(exchange: Exchange, services: Snapshot) -> Exchange:
    for stage in (read_request, match_route, plan_targets):
        await stage(exchange, services)
    return exchange


def chat(model: str, **more: Any) -> Exchange:
    return call(body={**CHAT, "model": model}, **more)


def targets(exchange: Exchange) -> list[str]:
    assert exchange.plan is not None
    return [target.key for target in exchange.plan.targets]


@pytest.mark.parametrize(
    ("exchange", "route"),
    [
        (chat("x", headers={"x-env": "staging"}), "staging"),
        (chat("fast", headers={"x-env": "prod"}), "fast"),
        (chat("x", client="10.2.3.4"), "from-afar"),
        (call("/custom/thing", {"a": 1}), "paths"),
        (chat("gpt-5", direct=False), "vendor"),
        (chat("gpt-4o-mini"), "provider/openai"),
        (chat("simulator/sim-1"), "provider/simulator"),
        (call(body={"messages": [{}]}), "auto"),
        (chat("auto"), "auto"),
        (chat("auto", direct=False), "auto"),
        (call(body={"messages": [{}]}, direct=False), "original"),         # it named nothing: it goes where it meant to go
    ],
)
async def test_the_route(house: House, exchange: Exchange, route: str) -> None:
    await planned(exchange, house.snapshot(RULES))
    assert exchange.chosen is not None
    assert exchange.chosen.route == route
    assert exchange.chosen.by_path is (route == "paths")


@pytest.mark.parametrize(
    ("exchange", "code", "status"),
    [
        (chat("nobody-has-it"), "model_not_found", 404),
        (call("/v1/files", method="GET"), "not_found", 404),
    ],
)
async def test_a_direct_call_that_nothing_serves(house: House, exchange: Exchange, code: str, status: int) -> None:
    services = house.snapshot(RULES)
    await read_request(exchange, services)
    with pytest.raises(Refusal) as caught:
        await match_route(exchange, services)
    assert (caught.value.code, caught.value.status) == (code, status)


async def test_an_intercepted_call_that_nothing_serves_goes_where_it_was_going(house: House) -> None:
    """Also the names that only base_url calls know: the vendor's own `gpt-4o-mini` is the client's affair."""
    exchange = await planned(chat("gpt-4o-mini", direct=False), house.snapshot(RULES))
    assert exchange.plan is not None
    (target,) = exchange.plan.targets
    assert (target.provider.origin, target.provider.original, target.provider.client_credential) == (OPENAI, True, True)
    assert (target.provider.credential, target.model) == (None, None)
    assert exchange.chosen is not None
    assert (exchange.chosen.route, exchange.chosen.where) == ("original", None)


async def test_unmatched_refuse(house: House) -> None:
    services = house.snapshot(RULES + "unmatched: refuse\n")
    exchange = chat("gpt-4o-mini", direct=False)
    await read_request(exchange, services)
    with pytest.raises(Refusal) as caught:
        await match_route(exchange, services)
    assert (caught.value.code, caught.value.status) == ("refused", 403)
    await planned(chat("fast", direct=False), services)


async def test_targets_of_other_dialects_are_asked_in_their_own_words(house: House) -> None:
    exchange = await planned(chat("mixed"), house.snapshot(RULES))
    assert targets(exchange) == ["claude/c", "simulator/a", "simulator/b", "claude/d"]
    assert exchange.plan is not None
    assert exchange.plan.retry.max == 1
    assert (exchange.plan.force, exchange.plan.default) == ({"temperature": 0.1}, {"top_p": 1})
    assert [sent is not None and sent.path for sent in exchange.plan.sent] == ["/v1/messages", False, False, "/v1/messages"]


async def test_the_plan_leaves_out_targets_that_no_codec_could_ask(house: House) -> None:
    exchange = await planned(call("/v1/completions", {"model": "mixed", "prompt": "hi"}), house.snapshot(RULES))
    assert targets(exchange) == ["simulator/a", "simulator/b"]
    assert exchange.plan is not None
    assert [(each.target.key, each.reason) for each in exchange.plan.dropped] == [
        (key, "it does not speak the dialect of this request") for key in ("claude/c", "claude/d")
    ]


async def test_only_targets_that_no_codec_could_ask_is_501(house: House) -> None:
    with pytest.raises(Refusal) as caught:
        await planned(call("/v1/completions", {"model": "claudes", "prompt": "hi"}), house.snapshot(RULES))
    assert (caught.value.code, caught.value.status) == ("not_supported", 501)


async def test_a_dialects_own_operation_passes_to_its_own_provider(house: House) -> None:
    exchange = await planned(call("/v1/messages", {"model": "claudes", "messages": [{}]}), house.snapshot(RULES))
    assert targets(exchange) == ["claude/c"]


async def test_azure_deployments_are_served_by_routes(house: House) -> None:
    exchange = await planned(
        call("/openai/deployments/fast/chat/completions?api-version=2024-10-21", {"messages": [{}]}, direct=False,
             origin=Origin("https", "x.openai.azure.com", 443)),
        house.snapshot(RULES),
    )  # fmt: skip
    assert targets(exchange) == ["simulator/sim-1"]


async def test_round_robin_counts_per_route(house: House) -> None:
    services = house.snapshot(RULES)
    firsts = [targets(await planned(chat("turns"), services))[0] for _ in range(4)]
    assert firsts == ["simulator/a", "simulator/b", "simulator/a", "simulator/b"]
    await planned(chat("fast"), services)
    assert services.shared.turns == {"turns": 4}


@pytest.mark.parametrize(("number", "first"), [(0.0, "simulator/a"), (0.5, "simulator/a")])
async def test_fallbacks_always_stand_last(house: House, number: float, first: str) -> None:
    exchange = await planned(chat("weights"), house.snapshot(RULES, random=lambda: number))
    assert targets(exchange) == [first, "simulator/b", "simulator/z"]


@pytest.mark.parametrize(
    ("exchange", "total"),
    [
        (chat("x", headers={"x-env": "staging"}), 7.0),
        (chat("fast"), 600.0),
        (call("/api/v1/chat/completions", {**CHAT, "model": "fast"}), 60.0),
    ],
)
async def test_the_deadline(house: House, exchange: Exchange, total: float) -> None:
    await planned(exchange, house.snapshot(RULES))
    assert exchange.plan is not None
    assert exchange.plan.deadlines.total == total
    assert exchange.deadline == exchange.started + total
    assert exchange.plan.deadlines.idle == (3.0 if total == 7.0 else 60.0)


async def test_the_models_are_listed(house: House) -> None:
    services = house.snapshot(RULES)
    exchange = call("/v1/models", method="GET")
    await list_models(exchange, services)
    assert exchange.reply is not None
    document = orjson.loads(exchange.reply.body)
    assert (exchange.reply.status, document["object"]) == (200, "list")
    ids = [each["id"] for each in document["data"]]
    assert len(ids) == len(set(ids))
    assert {"fast", "mixed", "turns", "gpt-5"} <= set(ids)
    assert document["data"][0] == {"id": ids[0], "object": "model", "created": 0, "owned_by": "mitmgate"}
    one = call(f"/v1/models/{ids[0]}", method="GET")
    await list_models(one, services)
    assert one.reply is not None
    assert orjson.loads(one.reply.body) == document["data"][0]


async def test_a_model_that_is_not_offered(house: House) -> None:
    with pytest.raises(Refusal) as caught:
        await list_models(call("/v1/models/meta/llama", method="GET"), house.snapshot(RULES))
    assert (caught.value.code, caught.value.status, caught.value.param) == ("model_not_found", 404, "model")


@pytest.mark.parametrize(
    "exchange",
    [
        call("/v1/models", method="GET", direct=False), call("/v1/models/m", method="DELETE"),
        call("/v1/files", method="GET"), chat("fast"),
    ],
)  # fmt: skip
async def test_whose_models_are_not_ours_to_list(house: House, exchange: Exchange) -> None:
    await list_models(exchange, house.snapshot(RULES))
    assert exchange.reply is None
