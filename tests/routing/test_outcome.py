"""What the client is told when every try failed: DESIGN §5's sentences, one by one."""

from dataclasses import replace

import pytest

from mitmgate.errors import Fault, FaultKind, Refusal
from mitmgate.exchange import Attempt, Deadlines, Origin, Plan, Provider, RetryRule, Target
from mitmgate.routing.outcome import PassOn, conclude

WALL = 1_700_000_000.0
SECRET = "sk-upstream-said-this"
OURS = Provider("ours", "openai", Origin("https", "ours.example", 443), "/v1")
A, B = Target(OURS, "a"), Target(OURS, "b")


def status(number: int, code: str | None = None, **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = b'{"error": {"message": "' + SECRET.encode() + b'"}}'
    named["x-said"] = SECRET
    return Fault(FaultKind.STATUS, f"answered {number}", status=number, code=code, headers=named, body=body)


def fault(kind: FaultKind, code: str | None = None) -> Fault:
    return Fault(kind, f"failed by {kind}", code=code, body=SECRET.encode())


def concluded(targets: tuple[Target, ...], *tries: tuple[Target, Fault], late: bool = False) -> Refusal | PassOn:
    attempts = [Attempt(number, target, 0.0, 1.0, each.status, each) for number, (target, each) in enumerate(tries, 1)]
    return conclude(Plan(targets, RetryRule(), Deadlines(total=600)), attempts, wall=WALL, late=late)


def refused(targets: tuple[Target, ...], *tries: tuple[Target, Fault], late: bool = False) -> Refusal:
    found = concluded(targets, *tries, late=late)
    assert isinstance(found, Refusal), found
    assert SECRET not in found.message
    assert SECRET not in str(found.headers)
    for number, (target, each) in enumerate(tries, 1):
        assert f"{number}. {target.key}: {each.reason}" in found.message
    assert found.headers.get("x-should-retry") == ("false" if len(tries) > 1 else None)
    return found


@pytest.mark.parametrize("number", [400, 401, 404, 418, 429, 500, 503])
def test_one_targets_error_is_passed_on_as_it_came(number: int) -> None:
    each = status(number, retry_after="9")
    assert concluded((A,), (A, each)) == PassOn(each)
    assert concluded((A,), (A, status(500)), (A, each)) == PassOn(each)


@pytest.mark.parametrize(
    ("kind", "code", "http"),
    [
        (FaultKind.CONNECT, "upstream_unreachable", 502),
        (FaultKind.TLS, "upstream_unreachable", 502),
        (FaultKind.DENIED, "upstream_unreachable", 502),
        (FaultKind.CONNECT_TIMEOUT, "deadline_exceeded", 504),
        (FaultKind.FIRST_TOKEN_TIMEOUT, "deadline_exceeded", 504),
        (FaultKind.IDLE_TIMEOUT, "deadline_exceeded", 504),
        (FaultKind.TOTAL_TIMEOUT, "deadline_exceeded", 504),
        (FaultKind.RESET, "all_targets_failed", 502),
        (FaultKind.GARBAGE, "all_targets_failed", 502),
        (FaultKind.CUT, "all_targets_failed", 502),
        (FaultKind.ERROR_EVENT, "all_targets_failed", 502),
        (FaultKind.TOO_LARGE, "all_targets_failed", 502),
        (FaultKind.REDIRECT, "all_targets_failed", 502),
    ],
)
def test_one_target_that_gave_no_answer(kind: FaultKind, code: str, http: int) -> None:
    for tries in (1, 3):
        found = refused((A,), *[(A, fault(kind))] * tries)
        assert (found.code, found.status) == (code, http)


@pytest.mark.parametrize(
    "last", [status(500), status(429), status(401), fault(FaultKind.CONNECT), fault(FaultKind.IDLE_TIMEOUT)]
)
def test_several_targets_list_their_attempts(last: Fault) -> None:
    found = refused((A, B), (A, status(500)), (B, last))
    assert (found.code, found.status) == ("all_targets_failed", 502)
    assert "retry-after" not in found.headers


@pytest.mark.parametrize("last", [status(400), status(422), status(400, "content_filter"), status(413)])
def test_a_clients_fault_at_the_last_of_several_is_the_clients(last: Fault) -> None:
    assert concluded((A, B), (A, status(500)), (B, last)) == PassOn(last)
    assert concluded((A, B), (A, last)) == PassOn(last)


def test_a_content_filter_in_a_stream_is_the_clients_fault_too() -> None:
    """Issue 2: content-filter refusals are the client's. Told as 200 and an error event, they are no 502 of ours."""
    told = replace(fault(FaultKind.ERROR_EVENT, "content_filter"), status=400)     # as the dialect's reader makes it
    assert concluded((A, B), (A, told)) == PassOn(told)


@pytest.mark.parametrize(
    ("first", "second", "wait"),
    [
        ({"retry_after": "30"}, {"retry_after": "7"}, "7"),
        ({"retry_after": "30"}, {}, "30"),
        ({"retry_after_ms": "1200"}, {"x_ratelimit_reset_requests": "6m0s"}, "2"),
        ({"retry_after": "0"}, {"retry_after": "0"}, "1"),
        ({"retry_after": "Tue, 14 Nov 2023 22:13:50 GMT"}, {"retry_after": "3600"}, "30"),
        ({"retry_after": "Tue, 14 Nov 2023 22:00:00 GMT"}, {}, "1"),
    ],
)
def test_all_at_their_limit_is_429_with_the_soonest_wait(first: dict[str, str], second: dict[str, str], wait: str) -> None:
    found = refused((A, B), (A, status(429, **first)), (B, status(429, **second)))
    assert (found.code, found.status) == ("rate_limit_exceeded", 429)
    assert found.headers["retry-after"] == wait


def test_without_any_hint_a_wait_is_given_all_the_same() -> None:
    found = refused((A, B), (A, status(429)), (B, status(429)))
    assert int(found.headers["retry-after"]) > 0


def test_only_what_each_target_said_last_counts() -> None:
    found = refused((A, B), (A, status(500)), (A, status(429, retry_after="5")), (B, status(429, retry_after="8")))
    assert (found.status, found.headers["retry-after"]) == (429, "5")
    found = refused((A, B), (A, status(429)), (A, status(500)), (B, status(429)))
    assert found.status == 502


@pytest.mark.parametrize("last", [fault(FaultKind.CONNECT), fault(FaultKind.TOTAL_TIMEOUT), status(500), status(429)])
def test_late_is_the_deadline(last: Fault) -> None:
    found = refused((A, B), (A, status(500)), (B, last), late=True)
    assert (found.code, found.status) == ("deadline_exceeded", 504)


def test_the_total_deadline_is_known_without_the_clock() -> None:
    found = refused((A, B), (A, fault(FaultKind.TOTAL_TIMEOUT)))
    assert (found.code, found.status) == ("deadline_exceeded", 504)
