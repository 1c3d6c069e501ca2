"""The fault matrix: each fault × streamed or not × the plan's only target, its first of two, its last of two.

What is expected follows DESIGN §5 and §3 ("Commit point"): before the first content any fault is a failed attempt, and
the next target answers; after it there is no switching, and the client gets an error event and a clean end.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from rig import behaviours as does
from rig.clients import plain
from rig.gateway import Gateway
from rig.scripted import Upstream, full_backlog, refused_port
from rig.starts import StartGateway, StartUpstream

SHORT = {"connect": "500ms", "first_token": "500ms", "idle": "500ms", "total": "5s"}
BROKEN = "stream_broken"
"""Not a status: the reply was committed, and broke off in band."""


@dataclass(frozen=True, slots=True)
class Row:
    """One fault. `only`, `last`: status and code that the client gets; `switches`: whether the next target answers."""

    name: str
    behaviour: Callable[[], does.Behaviour] | None      # None: nobody answers at all, see `unreachable`
    streamed: bool
    only: tuple[int, str | None]
    last: tuple[int, str | None]
    outcome: str                                        # in the record: the attempt's; after the commit, what broke
    headers: tuple[tuple[str, str], ...] = ()           # that `only` also has
    switches: bool = True
    unreachable: str = "dead"                           # the provider, where there is no behaviour

    def model(self, place: str) -> str:
        """What to ask for: the fault at the `only` target, at the first of `two`, or at `both`."""
        if self.behaviour is None:
            return f"{self.unreachable}-{place}"
        return "only" if place == "only" else "two"

    def __str__(self) -> str:
        return f"{self.name}-{'streamed' if self.streamed else 'whole'}"


GONE = (502, "all_targets_failed")
LATE = (504, "deadline_exceeded")
TIRED = (("retry-after", "7"),)


def both(
    name: str,
    behaviour: Callable[[], does.Behaviour] | None,
    only: tuple[int, str | None],
    last: tuple[int, str | None],
    outcome: str,
    headers: tuple[tuple[str, str], ...] = (),
) -> tuple[Row, Row]:
    """The row for a streamed call and for one that is not, where they do not differ."""
    return tuple(Row(name, behaviour, streamed, only, last, outcome, headers) for streamed in (True, False))  # type: ignore[return-value]


MATRIX = (
    *both("refused", None, (502, "upstream_unreachable"), GONE, "connect"),
    *both("reset-before-headers", does.reset_before_headers, GONE, GONE, "reset"),
    Row("no-connection", None, True, LATE, GONE, "connect_timeout", unreachable="full"),
    Row("no-connection", None, False, LATE, GONE, "connect_timeout", unreachable="full"),
    Row("reset-after-headers", does.reset_after_headers, True, GONE, GONE, "reset"),
    Row("reset-after-headers", lambda: does.reset_after_headers(does.JSON), False, GONE, GONE, "reset"),
    *both("hang", does.hang, LATE, GONE, "first_token_timeout"),
    *both("500", lambda: does.status(500, error_code="boom"), (500, "boom"), GONE, "status"),
    *both("503", lambda: does.status(503, TIRED, error_code="busy"), (503, "busy"), GONE, "status", TIRED),
    *both(
        "429",
        lambda: does.status(429, TIRED, error_code="slow_down"),
        (429, "slow_down"),
        (429, "rate_limit_exceeded"),
        "status",
        TIRED,
    ),
    Row("error-event", does.error_event, True, GONE, GONE, "error_event"),
    Row("role-then-silence", does.role_then_silence, True, LATE, GONE, "first_token_timeout"),
    Row("half-a-body-then-silence", does.json_stall, False, LATE, GONE, "idle_timeout"),
    Row("half-a-body-then-reset", does.json_cut, False, GONE, GONE, "reset"),
    Row("end-before-content", lambda: does.early_eof(0), True, GONE, GONE, "cut"),
    *both("garbage", does.garbage, GONE, GONE, "garbage"),
    *both("status-line-then-silence", does.status_line_then_silence, LATE, GONE, "first_token_timeout"),
    Row("cut", does.cut, True, (200, BROKEN), (200, BROKEN), "connection_broke", switches=False),
    Row("truncated", does.truncated, True, (200, BROKEN), (200, BROKEN), "connection_broke", switches=False),
    Row("early-eof", does.early_eof, True, (200, BROKEN), (200, BROKEN), "ended_early", switches=False),
    Row("stall", does.stall, True, (200, BROKEN), (200, BROKEN), "silent", switches=False),
    Row("late-error", lambda: does.error_event(3), True, (200, BROKEN), (200, BROKEN), "error_event", switches=False),
    Row("half-an-event", does.half_event_then_reset, True, (200, BROKEN), (200, BROKEN), "connection_broke", switches=False),
    Row("invalid-utf8", does.invalid_utf8, True, (200, BROKEN), (200, BROKEN), "garbage", switches=False),
    Row("broken-gzip", does.broken_gzip, False, GONE, GONE, "garbage"),
    Row("json-short", does.json_short, False, GONE, GONE, "garbage"),
)


@dataclass(frozen=True, slots=True)
class Stand:
    """A gateway with two upstreams, a port that refuses (`dead`) and one on which connects hang (`full`).

    Models: `only` (first), `two` (first, second), `again` (the same with retries), and `dead-…` and `full-…` of these.
    """

    gateway: Gateway
    first: Upstream
    second: Upstream

    def ask(self, model: str, *, stream: bool) -> httpx.Response:
        """One chat call by base_url; the reply whole. What it raises is a test failure: nothing may look cut off."""
        with plain(self.gateway) as client:
            return client.post(
                "/chat/completions",
                json={"model": model, "messages": [{"role": "user", "content": "hello?"}], "stream": stream},
            )


@pytest.fixture(scope="module")
def stand(shared_gateway: StartGateway, shared_upstream: StartUpstream) -> Iterator[Stand]:
    first, second = shared_upstream(does.ok()), shared_upstream(does.ok())

    def provider(port: int) -> dict[str, object]:
        return {
            "dialect": "openai",
            "base_url": f"http://127.0.0.1:{port}/v1",
            "zone": "internal",
            "credential": {"value": f"sk-{port}"},
        }

    def route(name: str, *targets: str, retries: int = 0) -> dict[str, object]:
        return {
            "name": name,
            "match": {"model": [name]},
            "targets": [{"provider": target, "model": f"model-{target}"} for target in targets],
            "retry": {"max": retries, "backoff": {"base": "10ms", "max": "20ms"}},
            "timeout": SHORT,
        }

    rules: dict[str, Any] = {
        "providers": {
            "first": provider(first.port),
            "second": provider(second.port),
            "dead": provider(refused_port()),
            "dead-too": provider(refused_port()),
        },
        "routes": [
            route("only", "first"),
            route("two", "first", "second"),
            route("dead-only", "dead"),
            route("dead-two", "dead", "second"),
            route("dead-both", "dead", "dead-too"),
            route("full-only", "full"),
            route("full-two", "full", "second"),
            route("full-both", "full", "full-too"),
            route("again", "first", "second", retries=2),
            route("dead-again", "dead", "second", retries=2),
        ],
    }
    with full_backlog() as full:
        rules["providers"]["full"] = rules["providers"]["full-too"] = provider(full)
        yield Stand(shared_gateway(rules), first, second)


def events(reply: httpx.Response) -> list[str]:
    """The data of a stream's events; a body that ends inside an event has no place here."""
    assert reply.headers["content-type"].startswith("text/event-stream"), reply.text
    assert reply.text.endswith("\n\n")
    return [line.removeprefix("data: ") for line in reply.text.split("\n") if line.startswith("data:")]


def assert_answered(reply: httpx.Response, *, streamed: bool) -> None:
    assert reply.status_code == 200, reply.text
    if streamed:
        data = events(reply)
        assert data[-1] == "[DONE]"
        assert [json.loads(each)["choices"][0]["delta"].get("content") for each in data[1:-2]] == ["w0 ", "w1 ", "w2 "]
        assert sum("role" in json.loads(each)["choices"][0]["delta"] for each in data[:-1]) == 1
    else:
        assert reply.json()["choices"][0]["message"]["content"] == "hello"


def assert_failed(reply: httpx.Response, expected: tuple[int, str | None]) -> None:
    status, code = expected
    if code == BROKEN:
        data = events(reply)
        assert reply.status_code == 200
        assert json.loads(data[-1])["error"]["code"] == BROKEN
        assert all(json.loads(each) for each in data)  # every event is whole JSON, [DONE] is not among them
        assert any('"w0 "' in each for each in data)
        return
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error["code"] == code
    assert {"message", "type", "param", "code"} <= set(error)


@pytest.mark.parametrize("row", MATRIX, ids=str)
def test_at_the_only_target(stand: Stand, row: Row) -> None:
    """A plan of one: its provider's error is passed on as it came; what is no reply at all becomes ours."""
    stand.first.script(row.behaviour() if row.behaviour else does.ok())
    reply = stand.ask(row.model("only"), stream=row.streamed)
    assert_failed(reply, row.only)
    for name, value in row.headers:
        assert reply.headers[name] == value
    assert reply.headers["x-gateway-attempts"] == "1"
    assert reply.headers["x-retry-count"] == "0"
    assert reply.headers["x-gateway-route"] == row.model("only")
    assert "x-fallback-from" not in reply.headers
    assert "x-should-retry" not in reply.headers
    assert reply.headers["x-request-id"] == reply.headers["x-gateway-request-id"]
    record = stand.gateway.record(reply.headers["x-gateway-request-id"])
    assert record["status"] == row.only[0]
    if row.only[1] == BROKEN:
        assert record["broken"] == row.outcome
    else:
        assert ([each["outcome"] for each in record["attempts"]], record["broken"]) == ([row.outcome], None)
    assert "hello?" not in json.dumps(record)


@pytest.mark.parametrize("row", MATRIX, ids=str)
def test_at_the_first_of_two(stand: Stand, row: Row) -> None:
    """The next target answers, unless the first one's content has already gone out."""
    stand.first.script(row.behaviour() if row.behaviour else does.ok())
    stand.second.script(does.ok())
    asked = time.monotonic()
    reply = stand.ask(row.model("two"), stream=row.streamed)
    assert time.monotonic() - asked < 4
    if not row.switches:
        assert_failed(reply, row.only)
        assert stand.second.untouched
        assert reply.headers["x-gateway-provider"] == "first"
        return
    assert_answered(reply, streamed=row.streamed)
    assert reply.headers["x-gateway-attempts"] == "2"
    assert reply.headers["x-retry-count"] == "1"
    assert reply.headers["x-fallback-from"] == row.model("two")
    assert reply.headers["x-model-used"] == "model-second"
    assert reply.headers["x-gateway-provider"] == "second"
    assert "x-should-retry" not in reply.headers
    assert len(stand.second.requests) == 1
    assert stand.second.requests[0].json()["model"] == "model-second"
    assert stand.second.requests[0].header("authorization") == f"Bearer sk-{stand.second.port}"
    if row.behaviour:
        assert len(stand.first.requests) == 1
        assert stand.first.wait("closed", "reset", "ours", "done", within=1)  # the attempt is abandoned, not kept


@pytest.mark.parametrize("row", MATRIX, ids=str)
def test_at_the_last_of_two(stand: Stand, row: Row) -> None:
    """Both fail the same way: one error of ours that names both attempts and no text of theirs, and no more retries."""
    if not row.switches:
        stand.first.script(does.status(500))
    else:
        stand.first.script(row.behaviour() if row.behaviour else does.ok())
    stand.second.script(row.behaviour() if row.behaviour else does.ok())
    reply = stand.ask(row.model("both"), stream=row.streamed)
    assert_failed(reply, row.last)
    assert reply.headers["x-gateway-attempts"] == "2"
    if row.last[1] == BROKEN:
        return
    assert reply.headers["x-should-retry"] == "false"
    assert reply.headers.get("retry-after") == ("7" if row.last[0] == 429 else None)
    message = reply.json()["error"]["message"]
    names = ("first", "second") if row.behaviour else (row.unreachable, f"{row.unreachable}-too")
    assert all(f"{name}/model-{name}" in message for name in names)
    assert "scripted" not in message


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_the_same_target_again(stand: Stand, streamed: bool) -> None:
    """`retry.max` counts per target: 503 twice, then an answer from the same one."""
    stand.first.script(does.status(503), does.status(503), does.ok())
    stand.second.script(does.ok())
    reply = stand.ask("again", stream=streamed)
    assert_answered(reply, streamed=streamed)
    assert (reply.headers["x-gateway-attempts"], reply.headers["x-retry-count"]) == ("3", "2")
    assert reply.headers["x-gateway-provider"] == "first"
    assert "x-fallback-from" not in reply.headers
    assert stand.second.untouched


def test_retries_are_spent_before_the_next_target(stand: Stand) -> None:
    stand.first.script(does.status(500))
    stand.second.script(does.reset_before_headers(), does.ok())
    reply = stand.ask("again", stream=False)
    assert_answered(reply, streamed=False)
    assert (reply.headers["x-gateway-attempts"], reply.headers["x-retry-count"]) == ("5", "4")
    assert len(stand.first.requests) == 3


def test_a_refused_connection_is_tried_again(stand: Stand) -> None:
    stand.second.script(does.ok())
    reply = stand.ask("dead-again", stream=False)
    assert_answered(reply, streamed=False)
    assert reply.headers["x-gateway-attempts"] == "4"


@dataclass(frozen=True, slots=True)
class Wait:
    """A stream whose role event comes at once and whose content comes later, under deadlines that tell which is meant."""

    first_token: str
    idle: str
    late_by: float
    answers: bool


WAITS = (Wait("400ms", "5s", 1.5, answers=False), Wait("3s", "400ms", 1.0, answers=True))


@pytest.mark.parametrize("wait", WAITS, ids=["first-token-is-short", "idle-is-short"])
def test_first_token_bounds_the_time_to_the_first_content(
    gateway: StartGateway, upstream: StartUpstream, wait: Wait
) -> None:
    """DESIGN §4, "Time": to the first content, not the first byte; `idle` between bytes only after that."""
    server = upstream(does.chunks(does.ROLE, does.word(0) + does.STOP + does.DONE, gap=wait.late_by))
    gate = gateway(
        {
            "providers": {"p": {"dialect": "openai", "base_url": server.base_url, "zone": "internal"}},
            "routes": [
                {
                    "name": "r",
                    "targets": [{"provider": "p"}],
                    "retry": {"max": 0},
                    "timeout": {"first_token": wait.first_token, "idle": wait.idle},
                }
            ],
        }
    )
    with plain(gate) as client:
        asked = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
        reply = client.post("/chat/completions", json=asked)
    if wait.answers:
        assert events(reply)[-1] == "[DONE]"
    else:
        assert_failed(reply, LATE)
        assert gate.records(1)[0]["attempts"][0]["outcome"] == "first_token_timeout"


def test_retry_after_is_obeyed(stand: Stand) -> None:
    """`retry-after-ms` is waited for before the same target is asked again."""
    stand.first.script(does.status(429, (("retry-after-ms", "600"),)), does.ok())
    asked = time.monotonic()
    reply = stand.ask("again", stream=False)
    assert_answered(reply, streamed=False)
    assert reply.headers["x-gateway-provider"] == "first"
    assert stand.first.requests[1].at - stand.first.requests[0].at >= 0.6
    assert time.monotonic() - asked < 3


def test_a_long_retry_after_skips_the_target(stand: Stand) -> None:
    stand.first.script(does.status(429, (("retry-after", "3600"),)))
    stand.second.script(does.ok())
    asked = time.monotonic()
    reply = stand.ask("again", stream=False)
    assert_answered(reply, streamed=False)
    assert reply.headers["x-gateway-provider"] == "second"
    assert len(stand.first.requests) == 1
    assert time.monotonic() - asked < 2


def test_the_clients_own_mistake_is_returned_at_once(stand: Stand) -> None:
    """A 400 about the request: no other target is asked, with two targets and with retries."""
    stand.first.script(does.status(400, message="scripted: bad temperature", error_code="invalid_value"))
    stand.second.script(does.ok())
    reply = stand.ask("again", stream=False)
    assert_failed(reply, (400, "invalid_value"))
    assert "bad temperature" in reply.json()["error"]["message"]
    assert len(stand.first.requests) == 1
    assert stand.second.untouched


@pytest.mark.parametrize("code", [401, 402, 403])
def test_a_dead_credential_of_ours_goes_to_the_next_target(stand: Stand, code: int) -> None:
    stand.first.script(does.status(code))
    stand.second.script(does.ok())
    reply = stand.ask("two", stream=False)
    assert_answered(reply, streamed=False)
    assert reply.headers["x-fallback-from"] == "two"


def test_redirects_are_not_followed(stand: Stand) -> None:
    """A credential must not travel: the place that the redirect names sees nothing."""
    stand.second.script(does.ok())
    stand.first.script(does.redirect(f"{stand.second.base_url}/chat/completions"))
    reply = stand.ask("only", stream=False)
    assert reply.status_code == 502
    assert "location" not in reply.headers
    assert stand.second.untouched


@pytest.mark.parametrize("streamed", [True, False])
def test_the_next_attempt_may_begin_at_once_on_the_same_connection(
    gateway: StartGateway, upstream: StartUpstream, streamed: bool
) -> None:
    """`Retry-After: 0`: the failed reply's connection is asked again before its own turn has ended."""
    server = upstream(does.status(503, (("retry-after", "0"),)), does.status(503, (("retry-after", "0"),)), does.ok())
    provider = {"dialect": "openai", "base_url": f"http://127.0.0.1:{server.port}/v1"}
    route = {"name": "one", "targets": [{"provider": "up"}], "retry": {"max": 2}}
    gate = gateway({"providers": {"up": provider}, "routes": [route]})
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": streamed}
    with plain(gate) as client:
        reply = client.post("/chat/completions", json=body)
    assert reply.status_code == 200
    assert reply.headers["x-gateway-attempts"] == "3"
