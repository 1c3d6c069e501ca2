"""Issue 2, "Bad input", from the provider's side: whatever comes back, the client gets an answer in its own shape.

Each row is a provider that misbehaves, as the only target and as the first of two, streamed and not where that differs.
tests/journeys/test_fault_matrix.py has the faults of connections and statuses; here are those of what is said.
"""

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from attacked import CHAT, call, error_of, provider, recorded, rules

from rig import behaviours as does
from rig.behaviours import DONE, EVENTS, JSON, ROLE, STOP, Behaviour, Reply, body, chunks, completion, event, word
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Answer

WHOLE = json.dumps(completion("from the first")).encode()
STREAM = ROLE + word(0) + STOP + DONE
PACKED = gzip.compress(WHOLE)


class Row(NamedTuple):
    name: str
    behaviour: Callable[[], Behaviour]
    outcomes: tuple[str, ...] = ("garbage",)
    streamed: bool | None = None  # None: both


def said(content: bytes, *, then: str = "silence") -> Behaviour:
    """These bytes in place of a reply."""

    async def behave(reply: Reply) -> None:
        await reply.raw(content)
        await asyncio.sleep(does.SETTLE)
        await getattr(reply, then)()

    return behave


def framed(*lines: str, content: bytes = WHOLE, status: str = "HTTP/1.1 200 OK") -> Behaviour:
    """A reply under these very header lines, and the connection closed."""
    head = "\r\n".join((status, "content-type: application/json", *lines)) + "\r\n\r\n"
    return said(head.encode("latin-1") + content, then="hang_up")


def endless(piece: bytes, headers: does.Headers, *, head: bytes | None = None) -> Behaviour:
    """The same piece again and again, for as long as it is taken."""

    async def behave(reply: Reply) -> None:
        if head is None:
            await reply.head(200, headers)
        else:
            await reply.raw(head)
        while True:
            await (reply.send(piece) if head is None else reply.raw(piece))
            await asyncio.sleep(0)

    return behave


LENGTH = f"content-length: {len(WHOLE)}"
CHUNKED = "transfer-encoding: chunked"

NOT_HTTP = (
    Row("garbage", does.garbage),
    Row("http-0.9", lambda: said(b"<html>hello</html>\r\n\r\n", then="hang_up")),
    Row("ssh", lambda: said(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")),
    Row("tls-alert", lambda: said(b"\x15\x03\x03\x00\x02\x02\x28", then="hang_up"), ("garbage", "reset")),
    Row("http-2-preface", lambda: said(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", then="hang_up"), ("garbage", "reset")),
    Row("two-status-lines", lambda: framed(LENGTH, status="HTTP/1.1 200 OK\r\nHTTP/1.1 200 OK")),
    Row("no-status", lambda: framed(LENGTH, status="HTTP/1.1")),
    Row("status-of-words", lambda: framed(LENGTH, status="HTTP/1.1 OK 200")),
    Row("status-99", lambda: framed(LENGTH, status="HTTP/1.1 99 Low")),
    Row("status-1000", lambda: framed(LENGTH, status="HTTP/1.1 1000 High")),
    Row("status-minus-1", lambda: framed(LENGTH, status="HTTP/1.1 -1 Minus")),
    Row("status-line-then-silence", does.status_line_then_silence, ("first_token_timeout",)),
    Row("half-a-head", lambda: said(b"HTTP/1.1 200 OK\r\ncontent-ty", then="hang_up"), ("reset", "garbage")),
    Row("nothing-at-all", lambda: said(b"", then="hang_up"), ("reset",)),
    Row("switches-protocols", lambda: framed("upgrade: websocket", status="HTTP/1.1 101 Switching Protocols")),
)
HEADERS = (
    Row("huge-header", lambda: does.huge_headers(4 << 20), ("garbage", "too_large", "reset")),
    Row("endless-headers", lambda: endless(b"x-a: " + b"y" * 60_000 + b"\r\n", (), head=b"HTTP/1.1 200 OK\r\n"),
        ("garbage", "too_large", "first_token_timeout")),
    Row("header-without-colon", lambda: framed(LENGTH, "x-nonsense")),
    Row("header-with-a-space", lambda: framed(LENGTH, "x a: b")),
    Row("length-and-chunked", lambda: framed(LENGTH, CHUNKED)),
    Row("two-lengths", lambda: framed(LENGTH, "content-length: 5")),
    Row("length-of-words", lambda: framed("content-length: many")),
    Row("negative-length", lambda: framed("content-length: -5")),
    Row("unknown-transfer-encoding", lambda: framed("transfer-encoding: gzip, chunked"), ("garbage", "reset")),
    Row("unknown-content-encoding", lambda: framed(LENGTH, "content-encoding: hex")),
    Row("two-content-encodings", lambda: framed(LENGTH, "content-encoding: gzip, gzip")),
)  # fmt: skip
FRAMING = (
    Row("length-too-long", lambda: framed("content-length: 9999"), ("reset", "garbage")),
    Row("length-too-short", lambda: framed("content-length: 20")),
    Row("chunk-size-of-words", lambda: framed(CHUNKED, content=b"zz\r\n{}\r\n0\r\n\r\n")),
    Row("negative-chunk", lambda: framed(CHUNKED, content=b"-5\r\n{}\r\n0\r\n\r\n")),
    Row("huge-chunk", lambda: framed(CHUNKED, content=b"ffffffffffffffff\r\n{}"), ("garbage", "reset", "too_large")),
    Row("chunk-without-its-end", lambda: framed(CHUNKED, content=b"2\r\n{}xx0\r\n\r\n")),
    Row("chunks-without-the-last", lambda: framed(CHUNKED, content=b"2\r\n{}\r\n"), ("reset", "garbage")),
    Row("endless-chunk-size", lambda: endless(b"0" * 60_000, (), head=b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        b"transfer-encoding: chunked\r\n\r\n"), ("garbage", "too_large", "first_token_timeout", "idle_timeout")),
)  # fmt: skip
BODIES = (
    Row("empty", lambda: body(b"")),
    Row("half-a-document", does.json_short),
    Row("text", lambda: body(b"upstream connect error")),
    Row("html-called-json", lambda: body(b"<html><body>Sign in</body></html>")),
    Row("html", lambda: body(b"<html><body>Sign in</body></html>", (("content-type", "text/html"),))),
    Row("text-plain", lambda: body(b"Bad Gateway", (("content-type", "text/plain"),))),
    Row("no-content", lambda: body(b"", (), 204)),
    Row("invalid-utf8", lambda: body(WHOLE.replace(b"from", b"\xff\xfe"))),
    Row("utf-16", lambda: body(WHOLE.decode().encode("utf-16"))),
    Row("nan", lambda: body(WHOLE[:-1] + b', "x": NaN}')),
    Row("two-documents", lambda: body(WHOLE + WHOLE)),
    Row("array", lambda: body(b"[" + WHOLE + b"]")),
    Row("string", lambda: body(b'"hello"')),
    Row("null", lambda: body(b"null")),
    Row("100000-deep", lambda: body(b"[" * 100_000)),
    Row("error-under-200", lambda: body(b'{"error": {"message": "boom"}}'), ("error_event",)),
    Row("broken-gzip", does.broken_gzip),
    Row("cut-gzip", lambda: body(PACKED[:-4], (*JSON, ("content-encoding", "gzip")))),
    Row("plain-called-gzip", lambda: body(WHOLE, (*JSON, ("content-encoding", "gzip")))),
    Row("gzip-and-more", lambda: body(PACKED + b"x", (*JSON, ("content-encoding", "gzip")))),
    Row("endless", lambda: endless(b" " * 60_000, JSON), ("too_large",)),
)
STREAMS = (
    Row("no-events", lambda: chunks(b"hello\n\nworld\n\n"), ("cut", "garbage"), True),
    Row("event-of-no-json", lambda: chunks(b"data: {oops}\n\n"), streamed=True),
    Row("event-of-a-list", lambda: chunks(b"data: []\n\n"), streamed=True),
    Row("event-of-a-string", lambda: chunks(b'data: "x"\n\n'), streamed=True),
    Row("event-of-odd-choices", lambda: chunks(b'data: {"choices": ["x"]}\n\n'), streamed=True),
    Row(
        "event-of-odd-indexes",
        lambda: chunks(b'data: {"choices": [{"index": "0", "delta": {"content": "x"}}]}\n\n'),
        streamed=True,
    ),
    Row("invalid-utf8-first", lambda: chunks(word(0).replace(b"w0", b"\xff\xfe")), streamed=True),
    Row("half-an-event", lambda: chunks(ROLE, word(0)[:30]), ("cut", "garbage"), True),
    Row("nothing", lambda: chunks(), ("cut", "garbage"), True),
    Row("empty-with-length", lambda: body(b"", EVENTS), ("cut", "garbage"), True),
    Row("error-event", does.error_event, ("error_event",), True),
    Row("role-then-silence", does.role_then_silence, ("first_token_timeout",), True),
    Row(
        "broken-gzip-stream",
        lambda: body(gzip.compress(STREAM)[:10] + b"\xff" * 40, (*EVENTS, ("content-encoding", "gzip"))),
        streamed=True,
    ),
    Row("plain-called-gzip-stream", lambda: body(STREAM, (*EVENTS, ("content-encoding", "gzip"))), streamed=True),
    Row("cut-gzip-stream", lambda: body(gzip.compress(ROLE * 50)[:-9], (*EVENTS, ("content-encoding", "gzip"))), streamed=True),
)
ROWS = (*NOT_HTTP, *HEADERS, *FRAMING, *BODIES, *STREAMS)


@pytest.fixture(scope="module")
def first(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok())


@pytest.fixture(scope="module")
def second(shared_upstream: StartUpstream) -> Upstream:
    return shared_upstream(does.ok("from the second"))


def impatient(*upstreams: Upstream) -> dict[str, Any]:
    document = rules(*map(provider, upstreams), limits={"response_body": "1MiB"})
    document["routes"][0]["timeout"] = {"connect": "1s", "first_token": "800ms", "idle": "800ms", "total": "4s"}
    return document


@pytest.fixture(scope="module")
def only(shared_gateway: StartGateway, first: Upstream) -> Gateway:
    return shared_gateway(impatient(first))


@pytest.fixture(scope="module")
def two(shared_gateway: StartGateway, first: Upstream, second: Upstream) -> Gateway:
    return shared_gateway(impatient(first, second))


def cases(rows: tuple[Row, ...]) -> pytest.MarkDecorator:
    """Each row streamed and not, unless it says which."""
    params = [
        pytest.param(row, streamed, id=f"{row.name}-{'streamed' if streamed else 'whole'}")
        for row in rows
        for streamed in ((False, True) if row.streamed is None else (row.streamed,))
    ]
    return pytest.mark.parametrize(("row", "streamed"), params)


async def chat(gateway: Gateway, *, streamed: bool) -> Answer:
    return await call(gateway, body=json.dumps({**CHAT, "stream": streamed}).encode(), within=6)


@cases(ROWS)
async def test_of_the_only_target(only: Gateway, first: Upstream, row: Row, streamed: bool) -> None:
    first.script(row.behaviour())
    answer = await chat(only, streamed=streamed)
    error = error_of(answer)
    assert answer.status in (502, 504), answer
    assert error["code"] in ("all_targets_failed", "deadline_exceeded"), error
    record = recorded(only, answer)
    assert (record["status"], record["code"], record["broken"]) == (answer.status, error["code"], None)
    assert len(record["attempts"]) == len(first.requests) == 1
    assert record["attempts"][0]["outcome"] in row.outcomes, record["attempts"]


@cases(ROWS)
async def test_of_the_first_of_two(two: Gateway, first: Upstream, second: Upstream, row: Row, streamed: bool) -> None:
    first.script(row.behaviour())
    second.script(does.ok("from the second"))
    answer = await chat(two, streamed=streamed)
    assert (answer.status, answer.whole) == (200, True), answer
    if streamed:
        assert answer.body.endswith(DONE)
        assert b"w0" in answer.body
        assert b"from the first" not in answer.body
    else:
        assert json.loads(answer.body)["choices"][0]["message"]["content"] == "from the second"
    record = recorded(two, answer)
    assert [attempt["provider"] for attempt in record["attempts"]] == ["p0", "p1"]
    assert record["attempts"][0]["outcome"] in row.outcomes, record["attempts"]
    assert record["attempts"][1]["outcome"] == "ok"
    assert answer.header("x-gateway-attempts") == "2"


AFTER: dict[str, Callable[[], Behaviour]] = {
    "half-an-event": does.half_event_then_reset,
    "invalid-utf8": does.invalid_utf8,
    "no-json": lambda: chunks(ROLE, word(0), b"data: {oops}\n\n", STOP, DONE),
    "silence": does.stall,
    "reset": does.cut,
    "closed": does.truncated,
    "ended-early": does.early_eof,
    "error-event": lambda: does.error_event(2),
    "cut-gzip": lambda: body(
        gzip.compress(b"".join(event({"content": f"{n}"}) for n in range(999)))[:-9], (*EVENTS, ("content-encoding", "gzip"))
    ),
    "endless-event": lambda: endless(b"x" * 60_000, EVENTS, head=None),
}


@pytest.mark.parametrize("name", [name for name in AFTER if name != "endless-event"])
async def test_after_its_first_content(two: Gateway, first: Upstream, second: Upstream, name: str) -> None:
    """No switching any more: an error event in OpenAI's shape, a proper end, and never a [DONE] that it did not send."""
    first.script(AFTER[name]())
    second.script(does.ok("from the second"))
    answer = await chat(two, streamed=True)
    assert (answer.status, answer.whole) == (200, True), answer
    events = [line[6:] for line in answer.body.split(b"\n") if line.startswith(b"data: ")]
    assert json.loads(events[-1])["error"]["code"], events[-3:]
    assert b"[DONE]" not in answer.body
    record = recorded(two, answer)
    assert record["broken"]
    assert record["attempts"][-1]["outcome"] == "broken"
    assert second.untouched


async def test_an_event_without_an_end(only: Gateway, first: Upstream) -> None:
    """One event that never ends is not held for ever, before the first content or after it."""

    async def after_content(reply: Reply) -> None:
        await reply.head(200, EVENTS)
        await reply.send(ROLE + word(0) + b"data: ")
        while True:
            await reply.send(b"x" * 60_000)

    for behaviour in (endless(b"x" * 60_000, EVENTS), after_content):
        first.script(behaviour)
        answer = await chat(only, streamed=True)
        assert answer.whole
        assert len(answer.body) < 32 << 20
        assert b'"error"' in answer.body[-2000:]


@pytest.mark.parametrize("status", [400, 404, 500, 503])
@pytest.mark.parametrize(
    "content", [b"", b"<html>nginx</html>", b"\xff\xfe\x00", b"[" * 50_000, b"{}"], ids=lambda content: repr(content[:9])
)
async def test_errors_that_are_none(only: Gateway, first: Upstream, status: int, content: bytes) -> None:
    """A failing status under a body that is no error object: the client's library gets one it can read."""
    first.script(body(content, (("content-type", "text/html"),), status))
    answer = await chat(only, streamed=False)
    assert answer.status == status, answer
    document = json.loads(answer.body)
    assert isinstance(document["error"], dict), document
    assert document["error"]["message"]
    assert (answer.header("content-type") or "").startswith("application/json")
