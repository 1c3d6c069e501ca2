"""What a scripted upstream does with one request: each behaviour is a function of the `Reply` it writes.

The same behaviour serves HTTP/1.1 and HTTP/2; the few that write bytes past the protocol say so. A behaviour that the
other side leaves is cancelled where it stands, and the upstream's log says when that was.
"""

import asyncio
import base64
import gzip
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage

type Headers = Sequence[tuple[str, str]]

JSON: Headers = (("content-type", "application/json"),)
EVENTS: Headers = (("content-type", "text/event-stream"),)
DONE = b"data: [DONE]\n\n"
SETTLE = 0.05
"""Seconds between bytes and the reset that follows them, so that the other side has read the bytes."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived: header names and values in order, as bytes; `at` is monotonic seconds."""

    at: float
    connection: int
    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes = field(repr=False)
    stream: int | None = None

    def header(self, name: str) -> str | None:
        """The values of a header, joined with a comma; None if it did not come."""
        values = [value.decode("latin-1") for key, value in self.headers if key.lower() == name.lower().encode()]
        return ", ".join(values) if values else None

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty if it is not one."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}


class Reply(Protocol):
    """The way back to the client of one request."""

    request: Request

    async def head(self, status: int, headers: Headers = (), *, length: int | None = None) -> None:
        """Status and headers; without a `length` the body is chunked (HTTP/1.1)."""

    async def send(self, content: bytes) -> None:
        """Bytes of the body, as one chunk or as DATA frames."""

    async def end(self, trailers: Headers = ()) -> None:
        """The body's proper end."""

    async def reset(self) -> None:
        """HTTP/1.1: the connection is reset; HTTP/2: the stream is."""

    async def hang_up(self) -> None:
        """The connection is closed in good order, wherever the body stands."""

    async def silence(self) -> None:
        """Nothing more, until the other side goes away."""

    async def raw(self, content: bytes) -> None:
        """Bytes on the connection past the protocol; HTTP/1.1 only."""

    async def read(self) -> bytes:
        """Bytes that came after the request, empty at the end; HTTP/1.1 only."""


type Behaviour = Callable[[Reply], Awaitable[None]]


def completion(content: str, model: str = "scripted", **message: Any) -> dict[str, Any]:
    """A chat completion as OpenAI's API reference shows it."""
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 1700000000,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, **message},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
    }


def event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    """One event of a chat stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    whole = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1700000000, "model": "scripted"}
    return b"data: " + json.dumps({**whole, "choices": [choice], **more}, ensure_ascii=False).encode() + b"\n\n"


ROLE = event({"role": "assistant", "content": ""})
STOP = event({}, "stop")
ERROR_EVENT = b'data: {"error": {"message": "scripted overload", "type": "server_error", "code": "overloaded"}}\n\n'


def word(number: int) -> bytes:
    """The content event with this number: `w0 `, `w1 `, …"""
    return event({"content": f"w{number} "})


def ok(content: str = "hello", events: int = 3, gap: float = 0.0) -> Behaviour:
    """What was asked for: a chat completion, or, where the request says `stream`, a whole event stream."""
    streamed = ok_stream(events, gap)

    async def behave(reply: Reply) -> None:
        asked = reply.request.json()
        if asked.get("stream") is True:
            await streamed(reply)
        else:
            await answer(completion(content, str(asked.get("model", "scripted"))))(reply)

    return behave


def ok_stream(events: int = 3, gap: float = 0.0) -> Behaviour:
    """Role, `events` content events `gap` seconds apart, finish, usage if it was asked for, [DONE]."""

    async def behave(reply: Reply) -> None:
        await reply.head(200, EVENTS)
        await reply.send(ROLE)
        for number in range(events):
            if number and gap:
                await asyncio.sleep(gap)
            await reply.send(word(number))
        await reply.send(STOP)
        if (reply.request.json().get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 5, "completion_tokens": events, "total_tokens": 5 + events}
            await reply.send(b"data: " + json.dumps({"id": "u", "choices": [], "usage": usage}).encode() + b"\n\n")
        await reply.send(DONE)
        await reply.end()

    return behave


def body(content: bytes, headers: Headers = JSON, status: int = 200) -> Behaviour:
    """A reply of known length."""

    async def behave(reply: Reply) -> None:
        await reply.head(status, headers, length=len(content))
        await reply.send(content)
        await reply.end()

    return behave


def answer(document: Any, status: int = 200, headers: Headers = ()) -> Behaviour:
    """A JSON reply."""
    return body(json.dumps(document).encode(), (*JSON, *headers), status)


def status(
    code: int, headers: Headers = (), message: str = "scripted failure", error_code: str | None = None
) -> Behaviour:
    """A failing status with OpenAI's error object."""
    error = {"message": message, "type": "server_error", "param": None, "code": error_code}
    return answer({"error": error}, code, headers)


def chunks(*content: bytes, gap: float = 0.0, headers: Headers = EVENTS) -> Behaviour:
    """A 200 whose body is these chunks, `gap` seconds apart, and its proper end."""

    async def behave(reply: Reply) -> None:
        await reply.head(200, headers)
        for number, piece in enumerate(content):
            if number and gap:
                await asyncio.sleep(gap)
            await reply.send(piece)
        await reply.end()

    return behave


def after(seconds: float, then: Behaviour) -> Behaviour:
    """`then`, but later."""

    async def behave(reply: Reply) -> None:
        await asyncio.sleep(seconds)
        await then(reply)

    return behave


def reset_before_headers() -> Behaviour:
    """The request is read and the connection reset."""

    async def behave(reply: Reply) -> None:
        await reply.reset()

    return behave


def reset_after_headers(headers: Headers = EVENTS) -> Behaviour:
    """200, and then a reset before any byte of the body."""
    return _opening(headers, (), "reset")


def hang() -> Behaviour:
    """The request is read; no byte comes back."""

    async def behave(reply: Reply) -> None:
        await reply.silence()

    return behave


def error_event(content_events: int = 0) -> Behaviour:
    """200, role, some content events, and then an error event and the end."""
    return _opening(EVENTS, (ROLE, *map(word, range(content_events)), ERROR_EVENT), "end")


def role_then_silence() -> Behaviour:
    """200 and a role event, which is not content, and then nothing."""
    return _opening(EVENTS, (ROLE,), "silence")


def cut(content_events: int = 3) -> Behaviour:
    """A stream that is reset after some content."""
    return _opening(EVENTS, (ROLE, *map(word, range(content_events))), "reset")


def early_eof(content_events: int = 3) -> Behaviour:
    """A stream whose body ends in good order, but without a finish reason and [DONE]."""
    return _opening(EVENTS, (ROLE, *map(word, range(content_events))), "end")


def truncated(content_events: int = 3) -> Behaviour:
    """A stream whose connection is closed before the body's end."""
    return _opening(EVENTS, (ROLE, *map(word, range(content_events))), "hang_up")


def stall(content_events: int = 3) -> Behaviour:
    """A stream that falls silent after some content."""
    return _opening(EVENTS, (ROLE, *map(word, range(content_events))), "silence")


def half_event_then_reset() -> Behaviour:
    """Role, one content event, half of another, reset."""
    return _opening(EVENTS, (ROLE, word(0), word(1)[:40]), "reset")


def invalid_utf8() -> Behaviour:
    """A stream whose second content event is not UTF-8; it ends in good order."""
    return _opening(EVENTS, (ROLE, word(0), word(1).replace(b"w1", b"\xff\xfe"), STOP, DONE), "end")


def json_cut(headers: Headers = ()) -> Behaviour:
    """Half a completion under the whole one's length, and a reset."""
    whole = json.dumps(completion("never whole")).encode()

    async def behave(reply: Reply) -> None:
        await reply.head(200, (*JSON, *headers), length=len(whole))
        await reply.send(whole[: len(whole) // 2])
        await asyncio.sleep(SETTLE)
        await reply.reset()

    return behave


def json_short() -> Behaviour:
    """Half a completion in a reply that ends in good order."""
    return body(json.dumps(completion("never whole")).encode()[:60])


def json_stall() -> Behaviour:
    """Half a completion, and then nothing."""
    whole = json.dumps(completion("never whole")).encode()

    async def behave(reply: Reply) -> None:
        await reply.head(200, JSON, length=len(whole))
        await reply.send(whole[: len(whole) // 2])
        await reply.silence()

    return behave


def garbage() -> Behaviour:
    """Bytes that are not HTTP; HTTP/1.1 only."""

    async def behave(reply: Reply) -> None:
        await reply.raw(b"\x16\x03\x01 this is not HTTP at all\r\n\r\n" + bytes(range(256)))
        await reply.silence()

    return behave


def status_line_then_silence() -> Behaviour:
    """The first line of a reply and nothing more; HTTP/1.1 only."""

    async def behave(reply: Reply) -> None:
        await reply.raw(b"HTTP/1.1 200 OK\r\n")
        await reply.silence()

    return behave


def broken_gzip() -> Behaviour:
    """A completion that says gzip, and whose deflate stream is not one; the reply's length is right."""
    packed = gzip.compress(json.dumps(completion("x" * 2000)).encode())
    return body(packed[:10] + b"\xff" * 40, (*JSON, ("content-encoding", "gzip")))


def with_trailers() -> Behaviour:
    """A chunked completion with a trailer field after it."""

    async def behave(reply: Reply) -> None:
        await reply.head(200, (*JSON, ("trailer", "x-scripted")))
        await reply.send(json.dumps(completion("trailed")).encode())
        await reply.end((("x-scripted", "1"),))

    return behave


def huge_headers(size: int = 256 * 1024) -> Behaviour:
    """A completion under one header of `size` bytes."""
    return answer(completion("behind a huge header"), headers=(("x-huge", "h" * size),))


def redirect(location: str, code: int = 307) -> Behaviour:
    """A redirect."""
    return body(b"", (("location", location),), code)


def large(size: int) -> Behaviour:
    """A completion whose content has `size` bytes."""
    return answer(completion("l" * size))


def firehose(events: int = 20_000, size: int = 200) -> Behaviour:
    """Content events as fast as they are taken."""
    one = event({"content": "x" * size})
    return _opening(EVENTS, (ROLE, *(one for _ in range(events)), STOP, DONE), "end")


def echo() -> Behaviour:
    """The request itself, as JSON: method, path, headers, the body as Latin-1 text."""

    async def behave(reply: Reply) -> None:
        request = reply.request
        headers = [[key.decode("latin-1"), value.decode("latin-1")] for key, value in request.headers]
        shown = {"method": request.method, "path": request.path, "headers": headers}
        await answer({**shown, "body": request.body.decode("latin-1")})(reply)

    return behave


def websocket(greeting: str = "hello") -> Behaviour:
    """RFC 6455: the upgrade is accepted, a greeting is sent, and every frame comes back; HTTP/1.1 only."""

    async def behave(reply: Reply) -> None:
        key = reply.request.header("sec-websocket-key") or ""
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        socket = Connection(ConnectionType.SERVER)
        await reply.raw(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + socket.send(TextMessage(greeting))
        )
        while received := await reply.read():
            socket.receive_data(received)
            for frame in socket.events():
                if isinstance(frame, TextMessage | BytesMessage):
                    await reply.raw(socket.send(frame))
                elif isinstance(frame, CloseConnection):
                    await reply.raw(socket.send(frame.response()))
                    await reply.hang_up()
                    return

    return behave


def _opening(headers: Headers, pieces: Iterable[bytes], then: str) -> Behaviour:
    """200, the pieces, and `end`, `reset`, `hang_up` or `silence`."""
    content = tuple(pieces)

    async def behave(reply: Reply) -> None:
        await reply.head(200, headers)
        for piece in content:
            await reply.send(piece)
        if then in ("reset", "hang_up"):
            await asyncio.sleep(SETTLE)
        await getattr(reply, then)()

    return behave
