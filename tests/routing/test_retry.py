"""What follows a failed attempt: a table of faults, rules and places, and what must hold for all of them."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mitmgate.errors import Fault, FaultKind
from mitmgate.exchange import Attempt, Deadlines, Origin, Plan, Provider, RetryRule, Target
from mitmgate.routing.retry import LONGEST_WAIT, MOST_TRIES, Follow, Situation, Step, backoff, classify, next_step, too_small

OURS = Provider("ours", "openai", Origin("https", "ours.example", 443), "/v1")
THEIRS = replace(OURS, name="theirs", client_credential=True)
A, B, C = (Target(OURS, name) for name in "abc")
RULE = RetryRule()                          # max 2, everything that the shipped rules retry
NOW, WALL = 100.0, 1_700_000_000.0
HALF = 0.5                                  # what the dice show


def plan(*targets: Target, rule: RetryRule = RULE, names_model: bool = True) -> Plan:
    return Plan(targets, rule, Deadlines(total=600), names_model=names_model)


def follow(each: Fault, rule: RetryRule = RULE, *, names_model: bool = True) -> Follow:
    return classify(each, plan(A, rule=rule, names_model=names_model), A)


def at(fault: Fault, position: int = 0, tries_here: int = 1, tries: int | None = None, left: float = 500.0) -> Situation:
    return Situation(position, tries_here, tries_here if tries is None else tries, fault, NOW, WALL, NOW + left)


def status(number: int, code: str | None = None, **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(FaultKind.STATUS, f"answered {number}", status=number, code=code, headers=named)


def fault(kind: FaultKind, code: str | None = None) -> Fault:
    return Fault(kind, "it failed", code=code)


def step(found: Plan, where: Situation) -> Step | None:
    return next_step(found, where, lambda: HALF)


RETRIED = [
    fault(FaultKind.CONNECT), fault(FaultKind.TLS), fault(FaultKind.RESET), fault(FaultKind.GARBAGE), fault(FaultKind.CUT),
    fault(FaultKind.CONNECT_TIMEOUT), fault(FaultKind.ERROR_EVENT), fault(FaultKind.ERROR_EVENT, "server_error"),
    status(408), status(409), status(429), status(429, "rate_limit_exceeded"), status(500), status(502), status(503),
    status(529),
]  # fmt: skip
NEXT = [
    status(401), status(402), status(403), status(404), status(404, "model_not_found"), status(404, "DeploymentNotFound"),
    status(429, "insufficient_quota"), status(400, "context_length_exceeded"),
    fault(FaultKind.ERROR_EVENT, "context_length_exceeded"), fault(FaultKind.ERROR_EVENT, "insufficient_quota"),
    fault(FaultKind.TOO_LARGE), fault(FaultKind.REDIRECT), fault(FaultKind.DENIED), status(424),
]  # fmt: skip
CLIENTS = [
    status(400), status(400, "invalid_request_error"), status(400, "content_filter"), status(400, "content_policy_violation"),
    status(403, "content_filter"), fault(FaultKind.ERROR_EVENT, "content_filter"), status(405), status(413),
    status(415), status(422), status(451),
]  # fmt: skip
SLOW = [fault(FaultKind.FIRST_TOKEN_TIMEOUT), fault(FaultKind.IDLE_TIMEOUT)]


def told(each: Fault) -> str:
    return "-".join(str(part) for part in (each.kind, each.status, each.code) if part)


@pytest.mark.parametrize("each", RETRIED, ids=told)
def test_the_weather_is_waited_out_then_the_next_target_takes_over(each: Fault) -> None:
    assert follow(each) is Follow.RETRY
    assert step(plan(A, B), at(each)) == Step(0, 0.25)
    assert step(plan(A, B), at(each, tries_here=2)) == Step(0, 0.5)
    assert step(plan(A, B), at(each, tries_here=3)) == Step(1, 0.0)
    assert step(plan(A, B), at(each, position=1, tries_here=1, tries=4)) == Step(1, 0.25)
    assert step(plan(A, B), at(each, position=1, tries_here=3, tries=6)) is None
    assert step(plan(A), at(each)) == Step(0, 0.25)
    assert step(plan(A), at(each, tries_here=3)) is None


@pytest.mark.parametrize("each", NEXT, ids=told)
def test_this_targets_fault_goes_to_the_next_at_once(each: Fault) -> None:
    assert follow(each) is Follow.NEXT
    assert step(plan(A, B), at(each)) == Step(1, 0.0)
    assert step(plan(A, B, C), at(each, position=1)) == Step(2, 0.0)
    assert step(plan(A, B), at(each, position=1)) is None
    assert step(plan(A), at(each)) is None


@pytest.mark.parametrize("each", CLIENTS, ids=told)
def test_the_clients_fault_ends_it(each: Fault) -> None:
    """Every provider would say it; nobody pays for hearing it twice."""
    assert follow(each) is Follow.CLIENT
    assert step(plan(A, B), at(each)) is None


@pytest.mark.parametrize("each", SLOW, ids=told)
def test_a_slow_target_is_not_asked_again_while_another_is_left(each: Fault) -> None:
    assert step(plan(A, B), at(each)) == Step(1, 0.0)
    assert step(plan(A, B), at(each, position=1, tries=2)) == Step(1, 0.25)
    assert step(plan(A), at(each)) == Step(0, 0.25)


@pytest.mark.parametrize("number", [401, 402, 403])
def test_a_clients_own_credential_is_never_failed_over(number: int) -> None:
    assert step(plan(Target(THEIRS, "a"), B), at(status(number))) is None
    assert step(plan(A, Target(THEIRS, "b"), C), at(status(number), position=1)) is None


@pytest.mark.parametrize(
    ("on", "each", "expected"),
    [
        ({"503"}, status(503), Follow.RETRY),
        ({"503"}, status(500), Follow.NEXT),
        ({"5xx"}, status(599), Follow.RETRY),
        ({"5xx"}, status(429), Follow.NEXT),
        ({"418"}, status(418), Follow.RETRY),
        ({"5xx"}, fault(FaultKind.CONNECT), Follow.NEXT),
        ({"connect"}, fault(FaultKind.CONNECT_TIMEOUT), Follow.NEXT),
        ({"timeout"}, fault(FaultKind.CONNECT_TIMEOUT), Follow.RETRY),
        ({"connect"}, fault(FaultKind.ERROR_EVENT), Follow.NEXT),
        (set(), status(401), Follow.NEXT),
        ({"400"}, status(400, "content_filter"), Follow.CLIENT),
    ],
)
def test_on_says_what_is_retried(on: set[str], each: Fault, expected: Follow) -> None:
    assert follow(each, RetryRule(on=frozenset(on))) is expected


def test_404_is_about_the_model_only_where_one_was_named() -> None:
    """`GET /v1/files/file-1` names none: the file is missing, and another provider will not have it."""
    assert follow(status(404)) is Follow.NEXT
    assert follow(status(404), names_model=False) is Follow.CLIENT
    assert step(plan(A, B, names_model=False), at(status(404))) is None


SMALL, SAME, LARGE, UNKNOWN = (Target(OURS, str(window), context_window=window) for window in (4_000, 8_000, 128_000, None))
HERE = replace(SAME, model="here")
TOO_LONG = status(400, "context_length_exceeded")


@pytest.mark.parametrize(
    ("targets", "position"),
    [
        ((HERE, LARGE), 1),
        ((HERE, SMALL, LARGE), 2),
        ((HERE, SAME, SMALL), None),
        ((HERE, UNKNOWN), 1),
        ((HERE, SMALL, UNKNOWN, LARGE), 2),
        ((UNKNOWN, SMALL), 1),              # nobody can say that it is not larger
        ((HERE,), None),
    ],
)
def test_a_window_that_is_too_small_asks_for_a_larger_or_unknown_one(targets: tuple[Target, ...], position: int | None) -> None:
    said = [replace(Attempt(1, targets[0], 0.0), fault=TOO_LONG)]
    where = replace(at(TOO_LONG), too_small=too_small(said))
    assert step(plan(*targets), where) == (None if position is None else Step(position, 0.0))


def test_a_window_found_too_small_stays_so() -> None:
    """a (8k) says too long, b (128k) answers 500: c (4k) is not asked."""
    said = [replace(Attempt(1, HERE, 0.0), fault=TOO_LONG), replace(Attempt(2, LARGE, 0.0), fault=status(500))]
    where = replace(at(status(500), position=1, tries_here=3), too_small=too_small(said))
    assert step(plan(HERE, LARGE, SMALL), where) is None
    assert step(plan(HERE, LARGE, UNKNOWN), where) == Step(2, 0.0)


def test_a_renewed_credential_is_tried_at_once() -> None:
    assert step(plan(A), at(status(401))) is None
    assert step(plan(A, B), replace(at(status(401)), renewed=True)) == Step(0, 0.0)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry_after": "7"}, Step(0, 7.0)),
        ({"retry_after": "60"}, Step(0, 60.0)),
        ({"retry_after": "61"}, Step(1, 0.0)),
        ({"retry_after_ms": "50"}, Step(0, 0.05)),
        ({"x_ratelimit_reset_requests": "1m0s"}, Step(0, 60.0)),
        ({"x_ratelimit_reset_requests": "6m0s"}, Step(1, 0.0)),
        ({"retry_after": "soon"}, Step(0, 0.25)),
        ({"retry_after": "0"}, Step(0, 0.0)),
    ],
)
def test_the_providers_own_wait_is_kept_up_to_a_minute(headers: dict[str, str], expected: Step) -> None:
    assert step(plan(A, B), at(status(429, **headers))) == expected


def test_a_wait_beyond_the_deadline_skips_the_target() -> None:
    assert step(plan(A, B), at(status(429, retry_after="30"), left=20)) == Step(1, 0.0)
    assert step(plan(A), at(status(429, retry_after="30"), left=20)) is None
    assert step(plan(A), at(status(500), left=0.2)) is None
    assert step(plan(A, B), at(status(500), left=0.0)) is None


def test_max_0_never_asks_twice() -> None:
    assert step(plan(A, B, rule=RetryRule(max=0)), at(status(500))) == Step(1, 0.0)
    assert step(plan(A, rule=RetryRule(max=0)), at(status(500))) is None


def test_twelve_tries_are_all() -> None:
    assert step(plan(A, B), at(status(500), tries=MOST_TRIES - 1)) is not None
    assert step(plan(A, B), at(status(500), tries=MOST_TRIES)) is None
    assert step(plan(A, B), at(status(401), tries=MOST_TRIES)) is None


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 50), st.floats(0, 10), st.floats(0, 100))
def test_backoff_is_within_its_bounds(number: float, tries: int, base: float, most: float) -> None:
    wait = backoff(RetryRule(backoff_base=base, backoff_max=most), tries, lambda: number)
    assert 0 <= wait <= most
    assert wait <= base * 2 ** (tries - 1)


FAULTS = st.one_of(
    st.sampled_from([*RETRIED, *NEXT, *SLOW, TOO_LONG]),
    st.builds(
        lambda number, header, value: status(number, **{header: value}),
        st.sampled_from([429, 500, 503]),
        st.sampled_from(["retry_after", "retry_after_ms", "x_ratelimit_reset_tokens"]),
        st.sampled_from(["0", "1", "59", "61", "20ms", "6m0s", "garbage", "5000"]),
    ),
)
RULES = st.builds(
    RetryRule,
    max=st.integers(0, 5),
    on=st.frozensets(st.sampled_from(sorted(RULE.on))) | st.just(RULE.on),
    backoff_base=st.floats(0, 5),
    backoff_max=st.floats(0, 60),
)
WINDOWS = st.lists(st.sampled_from([None, 4_000, 8_000, 128_000]), min_size=1, max_size=8)


@given(st.data(), RULES, WINDOWS, st.integers(0, 1000), st.floats(0, 600))
def test_every_story_of_failures_ends_within_its_bounds(
    data: st.DataObject, rule: RetryRule, windows: list[int | None], seed: int, total: float
) -> None:
    """Targets fail in any way, each try takes some time: what the addon would do is played to its end."""
    targets = tuple(Target(OURS, str(i), context_window=window) for i, window in enumerate(windows))
    rolled = random.Random(seed)
    position, now, deadline = 0, NOW, NOW + total
    tries = [0] * len(targets)
    said: list[Attempt] = []
    while True:
        tries[position] += 1
        each = data.draw(FAULTS)
        now += data.draw(st.floats(0, 30))
        said.append(replace(Attempt(sum(tries), targets[position], now), fault=each))
        where = Situation(position, tries[position], sum(tries), each, now, WALL, deadline, too_small=too_small(said))
        found = next_step(plan(*targets, rule=rule), where, rolled.random)
        assert sum(tries) <= MOST_TRIES
        assert max(tries) <= rule.max + 1
        if found is None:
            break
        assert now < deadline
        assert now + found.wait <= deadline
        assert 0 <= found.wait <= max(LONGEST_WAIT, rule.backoff_max)
        assert found.position >= position, "a target that was left is not come back to"
        if found.position != position:
            assert found.wait == 0
            if each.code == "context_length_exceeded":
                here, there = windows[position], windows[found.position]
                assert here is None or there is None or there > here
        now += found.wait
        position = found.position
