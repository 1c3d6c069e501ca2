"""What is told of an exchange: `stamp`'s headers and `record`'s summary."""

import dataclasses

import pytest
from calls import CHAT, House, call
from hypothesis import given
from hypothesis import strategies as st

from mitmgate.errors import Fault, FaultKind, Refusal
from mitmgate.exchange import (
    Attempt,
    Chosen,
    Deadlines,
    Exchange,
    Origin,
    Plan,
    Provider,
    RetryRule,
    Target,
    Usage,
)
from mitmgate.pipeline import Pipeline, execute
from mitmgate.record import GuardrailRecord
from mitmgate.stages.read_request import read_request
from mitmgate.stages.record import record
from mitmgate.stages.stamp import stamp
from mitmgate.telemetry.costs import cost_of

OURS = Provider("ours", "openai", Origin("https", "ours.example", 443), "/v1")
THEIRS = dataclasses.replace(OURS, name="theirs")
FIRST, SECOND, OPEN = Target(OURS, "gpt-4o"), Target(THEIRS, "llama"), Target(OURS)
UNTIMED = {"wait_ms": 0, "connect_ms": None, "tls_ms": None, "first_byte_ms": None, "first_content_ms": None}
BROKE = Fault(FaultKind.RESET, "the connection broke")


def after(
    *tries: tuple[Target, Fault | None], targets: tuple[Target, ...] = (FIRST, SECOND), route: str = "drafts"
) -> Exchange:
    """An exchange after these tries, half a second each."""
    exchange = call(body={**CHAT})
    exchange.requested_model = exchange.model = "gpt-4o"
    exchange.chosen = Chosen(route, "rules.yaml:3", targets)
    exchange.plan = Plan(targets, RetryRule(), Deadlines(total=600))
    for number, (target, fault) in enumerate(tries, 1):
        began = 1_000.0 + number - 1
        status = 200 if fault is None else fault.status
        exchange.attempts.append(Attempt(number, target, began, began + 0.5, status, fault, "sk-secret"))
    exchange.status = 200
    exchange.ended = 1_000.0 + len(tries)
    return exchange


def headers(exchange: Exchange) -> dict[str, str]:
    stamped = stamp(exchange)
    assert len(dict(stamped)) == len(stamped)
    assert all(name == name.lower() for name, _ in stamped)
    return dict(stamped)


def test_the_first_answered() -> None:
    assert headers(after((FIRST, None))) == {
        "x-gateway-request-id": "req_1", "x-request-id": "req_1", "x-gateway-attempts": "1", "x-retry-count": "0",
        "x-gateway-provider": "ours", "x-gateway-model": "gpt-4o", "x-model-used": "gpt-4o", "x-gateway-route": "drafts",
        "x-gateway-reasoning-effort": "none", "x-cache": "BYPASS",
    }  # fmt: skip


def test_another_answered() -> None:
    told = headers(after((FIRST, BROKE), (FIRST, BROKE), (SECOND, None)))
    assert (told["x-gateway-attempts"], told["x-retry-count"]) == ("3", "2")
    assert (told["x-gateway-provider"], told["x-gateway-model"], told["x-fallback-from"]) == ("theirs", "llama", "gpt-4o")


def test_a_retry_is_no_fallback() -> None:
    assert "x-fallback-from" not in headers(after((FIRST, BROKE), (FIRST, None)))


def test_two_equal_targets_are_two() -> None:
    twin = dataclasses.replace(FIRST)
    assert headers(after((FIRST, BROKE), (twin, None), targets=(FIRST, twin)))["x-fallback-from"] == "gpt-4o"


def test_nobody_was_asked() -> None:
    exchange = call(body={**CHAT})
    exchange.refusal = Refusal("model_not_found", "no such model")
    told = headers(exchange)
    assert set(told) == {
        "x-gateway-request-id", "x-request-id", "x-gateway-attempts", "x-retry-count", "x-gateway-reasoning-effort", "x-cache",
    }  # fmt: skip
    assert (told["x-gateway-attempts"], told["x-retry-count"]) == ("0", "0")


def test_when_all_failed_nobody_answered_in_anothers_place() -> None:
    exchange = after((FIRST, BROKE), (SECOND, BROKE))
    exchange.refusal = Refusal("all_targets_failed", "all failed")
    assert "x-fallback-from" not in headers(exchange)
    assert record(exchange, rules=7).fallback_from is None


def test_a_target_without_a_model_used_the_clients() -> None:
    assert headers(after((OPEN, None)))["x-model-used"] == "gpt-4o"


@pytest.mark.parametrize(
    ("document", "effort"),
    [
        ({"reasoning_effort": "high"}, "high"), ({"reasoning": {"effort": "minimal"}}, "minimal"), ({"reasoning": {}}, "none"),
        ({"reasoning": "high"}, "none"), ({"reasoning_effort": None}, "none"), ({"reasoning_effort": 3}, "none"),
        ({"reasoning_effort": "a\r\nx: y"}, "none"), ({"reasoning_effort": "h" * 17}, "none"),
        ({"reasoning_effort": "é"}, "none"), ({"output_config": {"effort": "max"}}, "max"), ({"output_config": 1}, "none"),
    ],
)  # fmt: skip
async def test_reasoning_effort(house: House, document: dict[str, object], effort: str) -> None:
    exchange = call(body={**CHAT, **document})
    await read_request(exchange, house.snapshot(""))
    assert headers(exchange)["x-gateway-reasoning-effort"] == effort


@pytest.mark.parametrize(
    ("asked", "default", "force", "effort"),
    [
        ({}, {"reasoning_effort": "low"}, {}, "low"), ({"reasoning_effort": "high"}, {"reasoning_effort": "low"}, {}, "high"),
        ({"reasoning_effort": "high"}, {}, {"reasoning_effort": "minimal"}, "minimal"),
        ({"reasoning_effort": "high"}, {}, {"reasoning_effort": None}, "none"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("of", ["route", "target"])
def test_the_effort_is_the_one_that_the_rules_made_it(
    of: str, asked: dict[str, object], default: dict[str, object], force: dict[str, object], effort: str
) -> None:
    target = dataclasses.replace(FIRST, default=default, force=force) if of == "target" else FIRST
    exchange = after((target, None))
    exchange.document = {**CHAT, **asked}
    if of == "route":
        exchange.plan = dataclasses.replace(exchange.plan or Plan((), RetryRule(), Deadlines()), default=default, force=force)
    assert headers(exchange)["x-gateway-reasoning-effort"] == effort


def test_what_a_codec_said_of_the_effort_and_what_it_dropped() -> None:
    """A codec may apply another effort than was asked for, or none."""
    exchange = after((FIRST, None), (SECOND, None))
    exchange.document = {**CHAT, "reasoning_effort": "xhigh"}
    attempt = exchange.attempts[-1]
    attempt.translated, attempt.effort, attempt.dropped = True, "high", ("seed", "messages[].name")
    told = headers(exchange)
    assert (told["x-gateway-reasoning-effort"], told["x-gateway-dropped"]) == ("high", "seed, messages[].name")
    attempt.effort, attempt.dropped = None, ()
    assert headers(exchange)["x-gateway-reasoning-effort"] == "none"
    assert "x-gateway-dropped" not in headers(exchange)


@given(st.lists(st.text(), max_size=40))
def test_no_dropped_member_can_break_a_header(names: list[str]) -> None:
    """Their names are the client's words."""
    exchange = after((FIRST, None))
    exchange.attempts[-1].dropped = tuple(names)
    for _, value in stamp(exchange):
        assert all(" " <= c <= "~" for c in value)
        assert len(value) <= 256


NAME = st.text(min_size=1, max_size=300).filter(str.isprintable)


@given(NAME, NAME)
def test_no_name_can_break_a_header(model: str, route: str) -> None:
    """A model is the client's word, and a name under `models:` (which is a route's) is any line of text, also é."""
    exchange = after((FIRST, BROKE), (Target(OURS), None), route=route)
    exchange.requested_model = exchange.model = model
    for name, value in stamp(exchange):
        assert all(" " <= c <= "~" for c in value), (name, value)
        assert len(value) <= 256


def test_the_record() -> None:
    exchange = after((FIRST, Fault(FaultKind.STATUS, "answered 503", status=503)), (SECOND, None))
    exchange.stream, exchange.served_model, exchange.usage, exchange.first_content = True, "llama-3", Usage(12, 34), 1_001.25
    found = record(exchange, rules=7, upstream_request_id="up_1")
    expected = {
        "id": "req_1", "at": 1_700_000_000.0, "way": "direct", "operation": "chat", "method": "POST", "client": "127.0.0.1",
        "rules": 7, "route": "drafts", "requested_model": "gpt-4o", "target_model": "llama", "served_model": "llama-3",
        "provider": "theirs",
        "stream": True, "status": 200, "code": None, "broken": None, "fallback_from": "gpt-4o", "retries": 1,
        "tokens_input": 12,
        "tokens_output": 34, "milliseconds": 2000, "first_content_ms": 1250, "upstream_request_id": "up_1",
        "request_bytes": exchange.body.size if exchange.body else -1,
        "attempts": (
            {"provider": "ours", "model": "gpt-4o", "outcome": "status", "reason": "answered 503", "status": 503,
            "milliseconds": 500, **UNTIMED},
            {"provider": "theirs", "model": "llama", "outcome": "ok", "reason": None, "status": 200, "milliseconds": 500,
            **UNTIMED},
        ),
        "project": "unknown", "tenant": None, "task": None, "tags": (), "alias": None, "where": "rules.yaml:3", "skipped": (),
        "policies": (), "guardrails": (), "cache": "BYPASS", "stages": (), "own_ms": 2000.0, "body_ms": 0, "wait_ms": 0,
        "upstream_ms": 0,
        "billing": {
            "provider": "theirs", "dialect": "openai", "host": "ours.example", "models": ("llama", "llama-3"),
            "base_model": None, "price": None,
        },
    }  # fmt: skip
    told = {**found._asdict(), "attempts": tuple(each._asdict() for each in found.attempts)}
    assert {**told, "billing": found.billing and found.billing._asdict()} == expected
    assert found.request_bytes > 0
    assert "sk-secret" not in repr(found)
    assert "sk-secret" not in repr(exchange)


def test_the_record_of_a_refusal() -> None:
    exchange = call("/v1/models/x", method="GET", direct=False)
    exchange.refusal = Refusal("model_not_found", "no such model")
    exchange.status, exchange.ended = 404, 1_000.001
    found = record(exchange, rules=7)
    assert (found.way, found.operation, found.status, found.code) == ("proxied", "models", 404, "model_not_found")
    assert (found.route, found.provider, found.target_model, found.attempts, found.retries) == (None, None, None, (), 0)
    assert (found.milliseconds, found.first_content_ms, found.request_bytes) == (1, None, 0)


def test_the_record_of_a_try_that_was_still_under_way() -> None:
    exchange = after((FIRST, BROKE), (FIRST, None))
    exchange.attempts[-1].ended = None
    exchange.broken = "client_disconnected"
    found = record(exchange, rules=7)
    assert [each.milliseconds for each in found.attempts] == [500, 1000]
    assert (found.broken, found.fallback_from) == ("client_disconnected", None)


def test_where_the_time_went() -> None:
    """Head at 1000.25, body until 1001; a try of 0.5 s that asked at once, 0.75 s of back-off, one that ended at 1003."""
    exchange = after((FIRST, BROKE), (SECOND, None))
    exchange.head, exchange.whole, exchange.ended = 1_000.25, 1_001.0, 1_003.125
    first, second = exchange.attempts
    first.started, first.asked, first.ended = 1_001.0, 1_001.0625, 1_001.5
    second.started, second.asked, second.ended, second.waited = 1_002.25, 1_002.25, 1_003.0, 0.75
    second.connected, second.secured = 1_002.375, 1_002.5
    second.first_byte, second.first_content = 1_002.625, 1_002.75
    exchange.stage_seconds = {"match_route": 0.03125, "translate": 0.0625}
    found = record(exchange, rules=1)
    assert (found.milliseconds, found.body_ms, found.wait_ms, found.upstream_ms) == (3125, 750, 750, 1188)
    assert found.own_ms == 3125 - 750 - 750 - 1187.5
    assert found.stages == (("match_route", 31.25), ("translate", 62.5))
    told = found.attempts[1]
    assert (told.wait_ms, told.connect_ms, told.tls_ms, told.first_byte_ms, told.first_content_ms) == (750, 125, 250, 375, 500)
    assert found.attempts[0].wait_ms == 0


def test_the_time_of_a_body_that_never_came() -> None:
    exchange = call(body={**CHAT})
    exchange.head, exchange.ended, exchange.status = 1_000.5, 1_030.5, 499
    found = record(exchange, rules=1)
    assert (found.body_ms, found.own_ms, found.upstream_ms) == (30_000, 500.0, 0)


RULES = """
providers:
  here: {dialect: openai, base_url: https://api.openai.com/v1, region: eu, credential: {value: sk-secret-1}}
  there: {dialect: openai, base_url: https://there.example/v1, region: us, credential: {value: sk-secret-2}}
  deployed: {dialect: openai, base_url: https://x.example/v1, region: eu, base_model: gpt-4o, credential: {value: sk-secret-3}}
routes:
  - name: drafts
    match: {model: fast-*}
    targets: [{provider: here, model: gpt-4o-mini}, {provider: there, model: m}, {provider: deployed, model: d}]
    guardrails: [no-danger]
models:
  own: {targets: [{provider: there, model: big}], price: {input: 1.5, output: 2}}
aliases: {quick: fast-1}
policies:
  - {name: eu-only, match: {project: support}, allow: {regions: [eu]}, guardrails: [{use: redact-pii, action: block}]}
  - {name: elsewhere, match: {project: support}, for: {region: us}, guardrails: [never]}
  - {name: others, match: {project: sales}, refuse: {message: no}}
guardrails:
  no-danger: {check: content_moderation}
  redact-pii: {check: pii}
  never: {check: pii}
projects:
  support: {tenant: acme, identify: {header: {x-app: support}}}
  sales: {identify: {header: {x-app: sales}}}
"""


async def served(house: House, model: str, app: str = "support", position: int = 0) -> Exchange:
    """An exchange that went through the whole pipeline, up to its attempt at this target of the plan."""
    exchange = call(
        body={**CHAT, "model": model, "gateflow": {"tags": {"team": "a"}}},
        headers={"x-app": app, "x-gateflow-task-type": "summarisation"},
    )
    services, pipeline = house.snapshot(RULES), Pipeline()
    exchange.status, exchange.ended = 200, 1_001.0
    exchange.usage = Usage(1_000_000, 1_000_000)
    try:
        await execute(pipeline.inbound, exchange, services)
        exchange.position = position
        await execute(pipeline.attempt, exchange, services)
    except Refusal as refusal:
        exchange.refusal = refusal
    return exchange


async def test_what_the_rules_did_is_told(house: House) -> None:
    found = record(await served(house, "quick"), rules=3)
    assert (found.project, found.tenant, found.task, found.tags) == ("support", "acme", "summarisation", (("team", "a"),))
    assert (found.requested_model, found.alias, found.route, found.rules) == ("quick", "fast-1", "drafts", 3)
    assert found.where == "rules.yaml:8"
    assert [each.target for each in found.skipped] == ["there/m"]
    assert "eu-only" in found.skipped[0].reason
    assert found.policies == ("policy eu-only", "policy elsewhere")
    assert found.guardrails == (GuardrailRecord("no-danger", None), GuardrailRecord("redact-pii", "block"))
    assert [name for name, _ in found.stages] == [stage.__name__ for stage in (*Pipeline().inbound, *Pipeline().attempt)]
    assert "sk-secret" not in repr(found)


async def test_a_record_without_an_alias_and_with_a_refusal(house: House) -> None:
    found = record(await served(house, "fast-2", "sales"), rules=1)
    assert (found.alias, found.code, found.policies, found.billing) == (None, "refused", ("policy others",), None)
    stages = [name for name, _ in found.stages]
    assert stages[-1] == "match_route", "the stage that refused is timed too, and none after it"


@pytest.mark.parametrize(
    ("model", "position", "cost"),
    [("own", 0, (1.5, 2.0)), ("fast-1", 0, (0.15, 0.6)), ("fast-1", 1, (2.5, 10.0)), ("there/own", 0, None)],
)
async def test_which_price_is_asked_for(house: House, model: str, position: int, cost: tuple[float, float] | None) -> None:
    """That of the model under `models:`; the list's for the vendor's host; for `base_model`; none for a server of one's own."""
    app = "nobody" if model in ("own", "there/own") else "support"
    told = cost_of(record(await served(house, model, app, position), rules=1))
    assert (told and (told.input, told.output)) == cost


async def test_stages_are_timed_over_all_attempts(house: House) -> None:
    services = house.snapshot("")

    async def slow(exchange: Exchange, services: object) -> None:
        house.clock.now += 0.25

    async def refuses(exchange: Exchange, services: object) -> None:
        house.clock.now += 0.5
        raise Refusal("refused", "no")

    exchange = call(body={**CHAT})
    await execute((slow,), exchange, services)
    with pytest.raises(Refusal):
        await execute((slow, refuses, slow), exchange, services)
    assert exchange.stage_seconds == {"slow": 0.5, "refuses": 0.5}
