"""What is told of an exchange: `stamp`'s headers and `record`'s summary."""

import dataclasses

import pytest
from calls import CHAT, House, call
from hypothesis import given
from hypothesis import strategies as st

from mitmgate.errors import Fault, FaultKind, Refusal
from mitmgate.exchange import Attempt, Chosen, Deadlines, Exchange, Origin, Plan, Provider, RetryRule, Target, Usage
from mitmgate.stages.read_request import read_request
from mitmgate.stages.record import record
from mitmgate.stages.stamp import stamp

OURS = Provider("ours", "openai", Origin("https", "ours.example", 443), "/v1")
THEIRS = dataclasses.replace(OURS, name="theirs")
FIRST, SECOND, OPEN = Target(OURS, "gpt-4o"), Target(THEIRS, "llama"), Target(OURS)
BROKE = Fault(FaultKind.RESET, "the connection broke")


def after(
    *tries: tuple[Target, Fault | None], targets: tuple[Target, ...] = (FIRST, SECOND), route: str = "drafts"
) -> Exchange:
    """An exchange after these tries, half a second each."""
    exchange = call(body={**CHAT})
    exchange.requested_model = "gpt-4o"
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
    assert record(exchange).fallback_from is None


def test_a_target_without_a_model_used_the_clients() -> None:
    assert headers(after((OPEN, None)))["x-model-used"] == "gpt-4o"


@pytest.mark.parametrize(
    ("document", "effort"),
    [
        ({"reasoning_effort": "high"}, "high"), ({"reasoning": {"effort": "minimal"}}, "minimal"), ({"reasoning": {}}, "none"),
        ({"reasoning": "high"}, "none"), ({"reasoning_effort": None}, "none"), ({"reasoning_effort": 3}, "none"),
        ({"reasoning_effort": "a\r\nx: y"}, "none"), ({"reasoning_effort": "h" * 17}, "none"),
        ({"reasoning_effort": "é"}, "none"),
    ],
)  # fmt: skip
async def test_reasoning_effort(house: House, document: dict[str, object], effort: str) -> None:
    exchange = call(body={**CHAT, **document})
    await read_request(exchange, house.snapshot(""))
    assert headers(exchange)["x-gateway-reasoning-effort"] == effort


NAME = st.text(min_size=1, max_size=300).filter(str.isprintable)


@given(NAME, NAME)
def test_no_name_can_break_a_header(model: str, route: str) -> None:
    """A model is the client's word, and a name under `models:` (which is a route's) is any line of text, also é."""
    exchange = after((FIRST, BROKE), (Target(OURS), None), route=route)
    exchange.requested_model = model
    for name, value in stamp(exchange):
        assert all(" " <= c <= "~" for c in value), (name, value)
        assert len(value) <= 256


def test_the_record() -> None:
    exchange = after((FIRST, Fault(FaultKind.STATUS, "answered 503", status=503)), (SECOND, None))
    exchange.stream, exchange.served_model, exchange.usage, exchange.first_content = True, "llama-3", Usage(12, 34), 1_001.25
    found = record(exchange, upstream_request_id="up_1")
    expected = {
        "id": "req_1", "at": 1_700_000_000.0, "way": "direct", "operation": "chat", "method": "POST", "client": "127.0.0.1",
        "route": "drafts", "requested_model": "gpt-4o", "target_model": "llama", "served_model": "llama-3",
        "provider": "theirs",
        "stream": True, "status": 200, "code": None, "broken": None, "fallback_from": "gpt-4o", "retries": 1,
        "tokens_input": 12,
        "tokens_output": 34, "milliseconds": 2000, "first_content_ms": 1250, "upstream_request_id": "up_1",
        "request_bytes": exchange.body.size if exchange.body else -1,
        "attempts": (
            {"provider": "ours", "model": "gpt-4o", "outcome": "status", "reason": "answered 503", "status": 503,
            "milliseconds": 500},
            {"provider": "theirs", "model": "llama", "outcome": "ok", "reason": None, "status": 200, "milliseconds": 500},
        ),
    }  # fmt: skip
    assert dataclasses.asdict(found) == expected
    assert found.request_bytes > 0
    assert "sk-secret" not in repr(found)
    assert "sk-secret" not in repr(exchange)


def test_the_record_of_a_refusal() -> None:
    exchange = call("/v1/models/x", method="GET", direct=False)
    exchange.refusal = Refusal("model_not_found", "no such model")
    exchange.status, exchange.ended = 404, 1_000.001
    found = record(exchange)
    assert (found.way, found.operation, found.status, found.code) == ("proxied", "models", 404, "model_not_found")
    assert (found.route, found.provider, found.target_model, found.attempts, found.retries) == (None, None, None, (), 0)
    assert (found.milliseconds, found.first_content_ms, found.request_bytes) == (1, None, 0)


def test_the_record_of_a_try_that_was_still_under_way() -> None:
    exchange = after((FIRST, BROKE), (FIRST, None))
    exchange.attempts[-1].ended = None
    exchange.broken = "client_disconnected"
    found = record(exchange)
    assert [each.milliseconds for each in found.attempts] == [500, 1000]
    assert (found.broken, found.fallback_from) == ("client_disconnected", None)
