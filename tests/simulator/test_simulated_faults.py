"""Latency and faults on request: each directive, seen from the client's end of the connection."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import openai
import pytest

from mitmgate.simulator.faults import DIRECTIVES, NONE, BadDirective, Ending, Faults, parse
from mitmgate.simulator.server import Simulator

HELLO: Any = [{"role": "user", "content": "hello"}]
WHOLE: Any = {"messages": HELLO}
STREAM: Any = {"messages": HELLO, "stream": True}
CONTENT = b'"delta":{"content":"'  # the role event's delta begins with the role

type Exchange = Callable[..., Awaitable[tuple[bytes, str]]]


def words(came: bytes) -> int:
    """Content events."""
    return came.count(CONTENT)


@pytest.mark.parametrize(
    ("header", "faults"),
    [
        ("", NONE),
        (" , ", NONE),
        ("latency=200ms, gap=1.5s", Faults(latency=0.2, gap=1.5)),
        ("events=90,latency=300s", Faults(events=90, latency=300)),
        ("status=503, retry-after=1", Faults(ending=Ending.STATUS, status=503, retry_after="1")),
        ("code=insufficient_quota", Faults(ending=Ending.STATUS, status=429, code="insufficient_quota")),
        ("code=x, status=418", Faults(ending=Ending.STATUS, status=418, code="x")),
        ("error-event=3,code=x", Faults(ending=Ending.ERROR_EVENT, after=3, code="x")),
        ("cut=0", Faults(ending=Ending.CUT)),
        ("silence = 7", Faults(ending=Ending.SILENCE, after=7)),
        ("reset", Faults(ending=Ending.RESET)),
    ],
)
def test_directives(header: str, faults: Faults) -> None:
    assert parse([header]) == faults


def test_several_headers_are_one_list() -> None:
    assert parse(["gap=1s", "events=2"]) == Faults(gap=1, events=2)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("latency=301s", "up to 300s"), ("latency=5", "up to 300s"), ("gap=-1s", "up to 300s"), ("gap=1h", "gap is a"),
        ("events=0", "from 1 to 100000"), ("events=100001", "from 1 to 100000"), ("events=٣", "from 1 to 100000"),
        ("status=200", "from 400 to 599"), ("status=600", "from 400 to 599"), ("cut=x", "from 0 to"),
        ("reset=1", "write reset"), ("cut", "write cut=N"), ("gap=1s,gap=2s", "gap twice"),
        ("reset,hang", "reset and hang contradict"), ("status=500,cut=1", "status and cut contradict"),
        ("code=x", "needs a status"), ("code=x,reset", "goes with"), ("code=a b,status=500", "letters"),
        ("retry-after=1", "goes with status"), ("retry-after=soon,status=429", "number of seconds"),
    ],
)  # fmt: skip
def test_what_cannot_be_obeyed(header: str, says: str) -> None:
    with pytest.raises(BadDirective, match=says):
        parse([header])


async def test_an_unknown_directive_names_the_known_ones(http: httpx.AsyncClient) -> None:
    reply = await http.post("/chat/completions", json=WHOLE, headers={"x-simulate": "explode"})
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["param"] == "x-simulate"
    assert "explode" not in error["message"]
    assert all(directive in error["message"] for directive in DIRECTIVES)


async def test_latency_comes_before_the_headers(http: httpx.AsyncClient) -> None:
    began = time.monotonic()
    async with http.stream("POST", "/chat/completions", json=STREAM, headers={"x-simulate": "latency=300ms"}) as reply:
        assert reply.status_code == 200
        assert time.monotonic() - began >= 0.29


async def test_a_gap_lies_between_the_events(client: openai.AsyncOpenAI) -> None:
    times = []
    stream = await client.chat.completions.create(
        model="m", messages=HELLO, stream=True, extra_headers={"x-simulate": "events=4, gap=100ms"}
    )
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            times.append(time.monotonic())
    assert len(times) == 4
    assert all(later - earlier >= 0.05 for earlier, later in itertools.pairwise(times))
    assert times[-1] - times[0] >= 0.25


@pytest.mark.parametrize(
    ("path", "mark"),
    [
        ("/chat/completions", CONTENT),
        ("/completions", b'"finish_reason":null'),
        ("/responses", b"event: response.output_text.delta\n"),
    ],
)
@pytest.mark.parametrize("events", [1, 5, 90, 5000])
async def test_events_is_the_number_of_content_events(
    http: httpx.AsyncClient, path: str, mark: bytes, events: int
) -> None:
    document: dict[str, Any] = {"messages": HELLO, "prompt": "hello", "input": "hello"}
    asked: Any = {"headers": {"x-simulate": f"events={events}"}}
    streamed = (await http.post(path, json=document | {"stream": True}, **asked)).content
    assert streamed.count(mark) == events
    whole = (await http.post(path, json=document, **asked)).json()
    assert whole["usage"].get("completion_tokens", whole["usage"].get("output_tokens")) == events


async def test_choices_times_events_is_bounded(http: httpx.AsyncClient) -> None:
    asked: Any = {"headers": {"x-simulate": "events=100000"}}
    refused = await http.post("/chat/completions", json=WHOLE | {"n": 2}, **asked)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "n")


@pytest.mark.parametrize(
    ("directives", "status", "code", "kind"),
    [
        ("status=503", 503, None, "server_error"),
        ("status=500", 500, "server_error", "server_error"),
        ("status=401", 401, "invalid_api_key", "authentication_error"),
        ("status=404", 404, "model_not_found", "invalid_request_error"),
        ("status=429", 429, "rate_limit_exceeded", "rate_limit_error"),
        ("status=429, code=insufficient_quota", 429, "insufficient_quota", "insufficient_quota"),
        ("code=context_length_exceeded", 400, "context_length_exceeded", "invalid_request_error"),
    ],
)
async def test_status(http: httpx.AsyncClient, directives: str, status: int, code: str | None, kind: str) -> None:
    for path, document in (("/chat/completions", STREAM), ("/embeddings", {"input": "x"})):
        reply = await http.post(path, json=document, headers={"x-simulate": directives})
        assert reply.status_code == status
        assert (reply.json()["error"]["code"], reply.json()["error"]["type"]) == (code, kind)
        assert "retry-after" not in reply.headers
    assert (await http.get("/models", headers={"x-simulate": directives})).status_code == status


async def test_retry_after(http: httpx.AsyncClient) -> None:
    reply = await http.post("/chat/completions", json=WHOLE, headers={"x-simulate": "status=429, retry-after=2"})
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "2")


@pytest.mark.parametrize("document", [WHOLE, STREAM])
async def test_reset_before_the_headers(exchange: Exchange, document: Any) -> None:
    assert await exchange(document, "reset") == (b"", "reset")


@pytest.mark.parametrize("document", [WHOLE, STREAM])
async def test_reset_after_the_headers(exchange: Exchange, document: Any) -> None:
    came, end = await exchange(document, "reset-after-headers")
    assert end == "reset"
    assert came.startswith(b"HTTP/1.1 200 OK\r\n")
    assert came.endswith(b"\r\n\r\n")
    assert came.count(b"\r\n\r\n") == 1


@pytest.mark.parametrize("document", [WHOLE, STREAM])
async def test_hang(exchange: Exchange, document: Any) -> None:
    assert await exchange(document, "hang", patience=0.3) == (b"", "open")


@pytest.mark.parametrize("document", [WHOLE, STREAM])
async def test_garbage(exchange: Exchange, document: Any) -> None:
    came, end = await exchange(document, "garbage")
    assert end == "closed"
    assert came
    assert b"HTTP/1" not in came


async def test_empty(exchange: Exchange) -> None:
    came, end = await exchange(STREAM, "empty")
    assert (came.partition(b"\r\n\r\n")[2], end) == (b"0\r\n\r\n", "closed")
    came, end = await exchange(WHOLE, "empty")
    assert (came.partition(b"\r\n\r\n")[2], end) == (b"", "closed")
    assert b"content-length: 0\r\n" in came.lower()


@pytest.mark.parametrize("after", [0, 3])
async def test_an_error_event_ends_a_stream(client: openai.AsyncOpenAI, after: int) -> None:
    header = {"x-simulate": f"error-event={after}, code=overloaded"}
    stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True, extra_headers=header)
    content = 0

    async def read() -> None:
        nonlocal content
        async for chunk in stream:
            content += bool(chunk.choices[0].delta.content)

    with pytest.raises(openai.APIError) as failed:
        await read()
    assert (content, failed.value.code) == (after, "overloaded")


async def test_an_error_event_of_responses(client: openai.AsyncOpenAI) -> None:
    header = {"x-simulate": "error-event=2"}
    stream = await client.responses.create(model="m", input="hello", stream=True, extra_headers=header)
    events = [event async for event in stream]
    assert [event.type for event in events[-3:]] == ["response.output_text.delta"] * 2 + ["error"]
    assert [event.sequence_number for event in events] == list(range(len(events)))


async def test_a_fault_beyond_the_content_comes_before_the_end(exchange: Exchange) -> None:
    came, end = await exchange(STREAM, "events=3, error-event=50")
    assert (words(came), end) == (3, "closed")
    assert b'data: {"error":{' in came
    assert b'"finish_reason":"' not in came
    assert b"[DONE]" not in came


async def test_an_error_in_place_of_an_answer(http: httpx.AsyncClient) -> None:
    reply = await http.post("/chat/completions", json=WHOLE, headers={"x-simulate": "error-event=0"})
    assert reply.status_code == 200
    assert set(reply.json()) == {"error"}


@pytest.mark.parametrize("after", [0, 2, 400])
async def test_cut(exchange: Exchange, after: int) -> None:
    came, end = await exchange(STREAM, f"events=500, cut={after}")
    assert (words(came), end) == (after, "closed")
    assert b'"role":"assistant"' in came
    assert not came.endswith(b"0\r\n\r\n")


async def test_silence(exchange: Exchange) -> None:
    came, end = await exchange(STREAM, "silence=2", patience=0.3)
    assert (words(came), end) == (2, "open")
    assert not came.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(("directive", "ends"), [("cut=1", "closed"), ("silence=1", "open")])
async def test_a_whole_reply_stops_half_way(exchange: Exchange, directive: str, ends: str) -> None:
    came, end = await exchange(WHOLE, directive, patience=0.3)
    head, _, body = came.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    assert end == ends
    assert len(body) == length // 2


async def test_a_stop_does_not_wait_for_what_hangs() -> None:
    simulator = Simulator()
    origin = await simulator.start()
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        asked = asyncio.create_task(
            http.post(f"{origin}/v1/chat/completions", json=WHOLE, headers={"x-simulate": "hang"})
        )
        await asyncio.sleep(0.2)
        async with asyncio.timeout(5):
            await simulator.stop()
            with pytest.raises(httpx.RemoteProtocolError):
                await asked


async def test_a_client_that_leaves_leaves_nothing_behind(exchange: Exchange) -> None:
    before = len(asyncio.all_tasks())
    for directive in ("hang", "silence=1", "gap=200s", "latency=200s"):
        await exchange(STREAM, directive, patience=0.1)
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.01)
