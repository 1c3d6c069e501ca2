"""Late bytes of an abandoned HTTP/2 attempt fall away: the client gets the next attempt's answer, and nothing else.

The first answer is too slow, stalls or fails; the next attempt goes out, over the same HTTP/2 connection or another one,
and only then the first stream's frames come: before the second's head, in the middle of its body, and after its end.
"""

import asyncio
import itertools
import json
import weakref
from dataclasses import dataclass, field
from typing import Any

import h2.events
import pytest
from hyperframe.frame import DataFrame, Frame, HeadersFrame, RstStreamFrame, WindowUpdateFrame

from rig import behaviours as does
from rig.accepted_http2 import Http2Reply, Http2Session
from rig.behaviours import Behaviour, Headers, Reply
from rig.gateway import Gateway
from rig.scripted import Upstream
from rig.starts import StartGateway, StartUpstream
from rig.wire import Answer, Http1, Http2, Wires

PATH = "/v1/chat/completions"
JSON = ("content-type", "application/json")
LATE = "LATE"
"""Stands in every late body and header; must reach nobody."""


_numbers = itertools.count()
_pings: weakref.WeakKeyDictionary[Http2Session, dict[bytes, asyncio.Event]] = weakref.WeakKeyDictionary()


def pings(session: Http2Session) -> dict[bytes, asyncio.Event]:
    """The PINGs that wait for their answer on this connection; the first call begins to look for answers."""
    if session not in _pings:
        waiting = _pings[session] = {}
        happened = session._happened

        def look(event: h2.events.Event) -> None:
            if isinstance(event, h2.events.PingAckReceived) and event.ping_data in waiting:
                waiting[event.ping_data].set()
            happened(event)

        session._happened = look  # type: ignore[method-assign]
    return _pings[session]


async def read(session: Http2Session) -> None:
    """The gateway has read all that this connection brought: it has answered a PING that came after it (RFC 9113, 6.7)."""
    name = next(_numbers).to_bytes(8)
    answered = pings(session)[name] = asyncio.Event()
    session.h2.ping(name)
    await session.flush()
    await asyncio.wait_for(answered.wait(), 5)


@dataclass
class Abandoned:
    """An attempt that the gateway has given up, and what its provider sends of it all the same."""

    replies: list[Http2Reply] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)

    def begins(self, then: Behaviour) -> Behaviour:
        """`then`, remembered as the attempt that will be given up."""

        async def behave(reply: Reply) -> None:
            assert isinstance(reply, Http2Reply)
            self.replies.append(reply)
            await then(reply)

        return behave

    async def send(self, *kinds: str) -> None:
        """These frames on its stream, past the protocol, and the gateway has read them."""
        (reply,) = self.replies
        session, stream = reply._session, reply._stream
        for kind in kinds:
            session.wire.out.write(self.frame(kind, session, stream).serialize())
            self.sent.append(kind)
        await session.flush()
        await read(session)

    def frame(self, kind: str, session: Http2Session, stream: int) -> Frame:
        """One frame; a head shares the connection's compression, as a real server's would."""
        event = does.event({"content": LATE}) if b'"stream": true' in self.replies[0].request.body else LATE.encode()
        match kind:
            case "head":
                block = session.h2.encoder.encode([(":status", "200"), ("content-type", "text/event-stream"), ("x-late", LATE)])
                return HeadersFrame(stream, block, flags=["END_HEADERS"])
            case "failing head":
                block = session.h2.encoder.encode([(":status", "503"), ("x-late", LATE)])
                return HeadersFrame(stream, block, flags=["END_HEADERS"])
            case "data":
                return DataFrame(stream, event * 20)
            case "data, end":
                return DataFrame(stream, event, flags=["END_STREAM"])
            case "trailers":
                return HeadersFrame(stream, session.h2.encoder.encode([("x-late", LATE)]), flags=["END_HEADERS", "END_STREAM"])
            case "reset":
                return RstStreamFrame(stream, error_code=2)
            case "no error":
                return RstStreamFrame(stream, error_code=0)
            case "window":
                return WindowUpdateFrame(stream, window_increment=1000)
        raise AssertionError(kind)


async def role_and_stall(reply: Reply) -> None:
    """The beginning of a stream, or of a collected body, without content."""
    streamed = reply.request.json().get("stream")
    await reply.head(200, does.EVENTS if streamed else (JSON,))
    await reply.send(does.ROLE if streamed else b'{"id": "LATE", "choices": [')
    await reply.silence()


def failing(status: int, *, size: int, headers: Headers = ()) -> Behaviour:
    """A failing status and this much of a body that does not end."""

    async def behave(reply: Reply) -> None:
        await reply.head(status, (JSON, *headers))
        await reply.send(b"L" * size)
        await reply.silence()

    return behave


async def spoiled(reply: Reply) -> None:
    """An answer that fails in its middle, and its rest in the same segment: it is read before our reset is written."""
    assert isinstance(reply, Http2Reply)
    session, stream = reply._session, reply._stream
    streamed = reply.request.json().get("stream")
    await reply.head(200, does.EVENTS if streamed else (JSON, ("content-encoding", "gzip")))
    late = does.event({"content": LATE})
    for piece in (does.ROLE, does.ERROR_EVENT, late, late + does.DONE) if streamed else (b"no gzip", b"LATE", b"LATE"):
        session.h2.send_data(stream, piece)
    await session.flush()
    await reply.silence()


@dataclass(frozen=True)
class First:
    """How the first attempt goes wrong, what the record calls it, and what comes late: before, within, after the second."""

    behaviour: Behaviour
    outcome: str
    before: tuple[str, ...]
    within: tuple[str, ...]
    after: tuple[str, ...]


FIRST = {
    "silent": First(does.hang(), "first_token_timeout", ("head", "data"), ("data", "trailers"), ("reset",)),
    "silent-then-reset": First(does.hang(), "first_token_timeout", ("reset",), ("reset",), ("reset",)),
    "silent-then-failing": First(does.hang(), "first_token_timeout", ("failing head",), ("data, end",), ("no error",)),
    "stalled": First(role_and_stall, "timeout", ("data",), ("data", "data, end"), ("reset",)),
    "stalled-then-reset": First(role_and_stall, "timeout", ("data",), ("reset",), ("window",)),
    "500-without-end": First(failing(500, size=70 << 10), "status", ("data",), ("data", "trailers"), ("reset",)),
    "429-stalled": First(failing(429, size=10), "status", ("data",), ("data", "data, end"), ("no error",)),
    "spoiled": First(spoiled, "spoiled", ("data",), ("data", "trailers"), ("reset",)),
    "429-whole": First(does.status(429), "status", ("window",), ("no error",), ("window",)),
    "503-whole": First(does.status(503), "status", ("no error",), ("window",), ("window",)),
}


@dataclass
class Stand:
    """A gateway before two HTTP/2 upstreams: `same` is tried twice, `other` goes from the first to the second."""

    gate: Gateway
    first: Upstream
    second: Upstream


@pytest.fixture(scope="module")
def stand(shared_gateway: StartGateway, shared_upstream: StartUpstream, ca_pem: str) -> Stand:
    first, second = shared_upstream(does.ok(), http2=True), shared_upstream(does.ok(), http2=True)
    shape = {"dialect": "openai", "ca": "ca.pem", "zone": "internal"}
    timeout = {"connect": "5s", "first_token": "400ms", "idle": "400ms", "total": "20s"}
    fast = {"base": "1ms", "max": "1ms"}
    rules = {
        "intercept": ["api.openai.com"],
        "providers": {
            "first": {**shape, "base_url": first.base_url},
            "second": {**shape, "base_url": second.base_url},
        },
        "routes": [
            {
                "name": "same", "match": {"model": "same"}, "targets": [{"provider": "first"}],
                "retry": {"max": 1, "backoff": fast}, "timeout": timeout,
            },
            {
                "name": "other", "match": {"model": "other"}, "targets": [{"provider": "first"}],
                "fallback": [{"provider": "second"}], "retry": {"max": 0}, "timeout": timeout,
            },
        ],
    }  # fmt: skip
    return Stand(shared_gateway({"10-rules.yaml": rules, "ca.pem": ca_pem}), first, second)


@dataclass
class Caller:
    """One client connection, of either protocol."""

    gate: Gateway
    wire: Http1 | Http2

    async def ask(self, model: str, *, stream: bool) -> Answer:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": stream}).encode()
        if isinstance(self.wire, Http2):
            return await self.wire.reply(await self.wire.send("POST", PATH, (JSON,), body))
        self.wire.send("POST", PATH, (("host", self.gate.authority), JSON), body)
        return await self.wire.reply()


@pytest.fixture(params=["http1", "http2"])
async def caller(request: pytest.FixtureRequest, stand: Stand, wires: Wires) -> Caller:
    wire = await wires.http2(stand.gate) if request.param == "http2" else await wires.direct(stand.gate)
    return Caller(stand.gate, wire)


def pieces(stream: bool) -> tuple[bytes, ...]:
    """The second attempt's body, in the pieces in which it is sent."""
    if stream:
        return (does.ROLE + does.word(0), does.word(1), does.STOP + does.DONE)
    whole = json.dumps(does.completion("from the second")).encode()
    return (whole[:40], whole[40:80], whole[80:])


def answers(late: Abandoned, first: First, sent: tuple[bytes, ...], stream: bool) -> Behaviour:
    """The second attempt's good answer, with the first's late frames before, between and after its pieces."""

    async def behave(reply: Reply) -> None:
        await late.send(*first.before)
        await reply.head(200, does.EVENTS if stream else (JSON,), length=None if stream else sum(map(len, sent)))
        between = itertools.chain((first.within,), itertools.repeat(()))
        for piece, frames in zip(sent, between, strict=False):
            await reply.send(piece)
            if frames:
                await late.send(*frames)
        await reply.end()
        await late.send(*first.after)

    return behave


OUTCOMES = {"timeout": {"first_token_timeout", "idle_timeout"}, "spoiled": {"error_event", "garbage"}}


@pytest.mark.parametrize("stream", [False, True], ids=["collected", "streamed"])
@pytest.mark.parametrize("model", ["same", "other"])
@pytest.mark.parametrize("name", FIRST)
async def test_only_the_second_answer(stand: Stand, caller: Caller, name: str, model: str, stream: bool) -> None:
    first, late, sent = FIRST[name], Abandoned(), pieces(stream)
    second = answers(late, first, sent, stream)
    if model == "same":
        stand.first.script(late.begins(first.behaviour), second, does.ok("again"))
        stand.second.script(does.ok("again"))
    else:
        stand.first.script(late.begins(first.behaviour), does.ok("again"))
        stand.second.script(second, does.ok("again"))
    answer = await caller.ask(model, stream=stream)
    assert (answer.status, answer.whole, answer.fault) == (200, True, None), answer
    assert answer.body == b"".join(sent)
    assert LATE not in str(answer.headers)
    assert answer.header("content-type") == ("text/event-stream" if stream else "application/json")
    (connection,) = {each.connection for each in stand.first.requests}      # `same`: both attempts over one

    for again in (True, False, True):       # the client's connection serves on, and so does the upstream's
        further = await caller.ask(model, stream=again)
        assert (further.status, further.whole) == (200, True), further
        assert further.body.endswith(does.DONE) if again else b'"again"' in further.body
        assert further.header("x-gateway-attempts") == "1"
        assert LATE.encode() not in further.body
    assert {each.connection for each in stand.first.requests} == {connection}
    assert late.sent == [*first.before, *first.within, *first.after]        # all of it did come

    record: dict[str, Any] = stand.gate.record(answer.header("x-gateway-request-id") or "")
    told = [each["outcome"] for each in record["attempts"]]
    assert told[0] in OUTCOMES.get(first.outcome, {first.outcome})
    assert (told[1:], record["status"], record["broken"]) == (["ok"], 200, None)


@pytest.mark.parametrize("stream", [False, True], ids=["collected", "streamed"])
async def test_beside_other_calls(stand: Stand, wires: Wires, stream: bool) -> None:
    """Six calls at once over one HTTP/2 connection, each with an abandoned attempt: everybody gets his own answer."""
    client = await wires.http2(stand.gate)
    first = FIRST["silent"]
    abandoned: dict[str, Abandoned] = {}

    def sent(name: str) -> tuple[bytes, ...]:
        return tuple(piece.replace(b"w0", name.encode()).replace(b"second", name.encode()) for piece in pieces(stream))

    async def by_name(reply: Reply) -> None:
        name = reply.request.json()["user"]
        if name not in abandoned:
            abandoned[name] = Abandoned()
            await abandoned[name].begins(first.behaviour)(reply)
        else:
            await answers(abandoned[name], first, sent(name), stream)(reply)

    stand.first.script(by_name)
    names = [f"caller-{number}" for number in range(6)]
    ask = {"model": "same", "messages": [{"role": "user", "content": "hello"}], "stream": stream}
    streams = [await client.send("POST", PATH, (JSON,), json.dumps({**ask, "user": name}).encode()) for name in names]
    for name, number in zip(names, streams, strict=True):
        answer = await client.reply(number)
        assert (answer.status, answer.whole, answer.body) == (200, True, b"".join(sent(name)))
    assert len({each.connection for each in stand.first.requests}) == 1
