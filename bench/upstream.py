"""A very cheap model server on loopback, so that a benchmark measures the proxy in front of it and not the server.

    python bench/upstream.py [--certificate PEM --key PEM] [--encoded FOLDER]

It prints one line, `{"http": PORT, "https": PORT or null}`, and serves until its standard input ends. Ports are chosen
by the system. `POST` to any path answers a fixed chat completion of about 1 kB; with `"stream": true` in the body, an
event stream of `events` events, `gap_ms` apart (both are fields of the body, else the command line's). Each event's
content holds `t=NANOSECONDS;`, the monotonic clock at the moment it was written: a reader on the same machine sees how
long the event was under way; `padding` bytes more follow it if the body asks for them. `GET /stats` tells what was
served; it does not count itself.

For the siege: a key that begins with `sk-` is refused with 401. `"encoded": "NAME.ENCODING"` in the body answers the
file of that name in the folder, as it is, under that Content-Encoding.
"""

import argparse
import asyncio
import json
import re
import ssl
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import uvloop

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
STREAM = re.compile(rb'"stream": *true')
ENCODED = re.compile(rb'"encoded": *"([a-z0-9-]+\.([a-z]+))"')
GUESSED = re.compile(rb"\r\nauthorization: *bearer sk-", re.IGNORECASE)
MAX_REQUEST = 80 << 20  # bytes; this server meets only our own clients, but no buffer is without a bound
MAX_FIELDS = 64 << 10   # bytes of a body in which the fields above are looked for


@dataclass(slots=True)
class Served:
    """What has been served since the start: each count is of things completed, `connections` of those opened."""

    requests: int = 0
    streams: int = 0
    events: int = 0
    abandoned: int = 0
    connections: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """The shape of a stream whose body does not say: `events` content events, `gap` seconds apart."""

    events: int
    gap: float
    padding: str = ""


def reply(status: str, body: bytes) -> bytes:
    """One JSON reply with its length, the connection kept alive."""
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        status.encode(), len(body), body)


def completion() -> bytes:
    """The fixed chat completion, 1 kB of JSON."""
    def body(filler: int) -> bytes:
        return json.dumps({
            "id": "chatcmpl-bench", "object": "chat.completion", "created": 1700000000, "model": "gpt-4o-mini",
            "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None,
                         "message": {"role": "assistant", "content": "bench " + "x" * filler, "refusal": None}}],
            "usage": {"prompt_tokens": 200, "completion_tokens": 150, "total_tokens": 350},
        }, separators=(",", ":")).encode()
    return body(1024 - len(body(0)))


def event(delta: str, finish: str = "null") -> bytes:
    """One server-sent event of a chat completion stream, framed as one HTTP chunk."""
    data = (b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini",'
            b'"choices":[{"index":0,"delta":%b,"finish_reason":%b}]}\n\n' % (delta.encode(), finish.encode()))
    return b"%x\r\n%b\r\n" % (len(data), data)


COMPLETION = reply("200 OK", completion())
STREAM_HEAD = (b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
               b"transfer-encoding: chunked\r\n\r\n")
STREAM_END = event("{}", '"stop"') + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


class Conversation(asyncio.Protocol):
    """One client connection: requests in turn, each answered before the next is read."""

    def __init__(self, served: Served, pace: Pace, encoded: Path | None = None) -> None:
        self.served = served
        self.pace = pace
        self.encoded = encoded
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.buffer = bytearray()
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)     # uvloop's is no subclass of it
        self.served.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
            self.served.abandoned += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while self.transport is not None and self.timer is None and self._one():
            pass

    def _one(self) -> bool:
        """Answer the first request in the buffer; False if it is not whole yet."""
        assert self.transport is not None
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0 or len(self.buffer) > MAX_REQUEST:
            if len(self.buffer) > MAX_REQUEST:
                self.transport.close()
            return False
        head = bytes(self.buffer[:end + 2])
        length = LENGTH.search(head)
        whole = end + 4 + (int(length[1]) if length else 0)
        if len(self.buffer) < whole:
            return False
        body = bytes(self.buffer[end + 4:min(whole, end + 4 + MAX_FIELDS)])
        del self.buffer[:whole]
        if head.startswith(b"GET /stats "):
            self.transport.write(reply("200 OK", json.dumps(asdict(self.served)).encode()))
        elif not head.startswith(b"POST ") or not length:
            self.transport.write(reply("400 Bad Request", b'{"error":{"message":"not a POST with a content-length"}}'))
        elif GUESSED.search(head):
            self.transport.write(reply("401 Unauthorized", b'{"error":{"message":"no such key","code":"invalid_api_key"}}'))
        elif self.encoded and (wanted := ENCODED.search(body)):
            content = (self.encoded / wanted[1].decode()).read_bytes()
            media = b"text/event-stream" if STREAM.search(body) else b"application/json"
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-encoding: %b\r\ncontent-length: %d\r\n\r\n"
                                 % (media, wanted[2], len(content)) + content)
        elif STREAM.search(body):
            asked: dict[str, Any] = json.loads(body)
            gap_ms = asked.get("gap_ms")
            pace = Pace(int(asked.get("events") or self.pace.events),
                        self.pace.gap if gap_ms is None else float(gap_ms) / 1000, "x" * int(asked.get("padding") or 0))
            self.transport.write(STREAM_HEAD)
            self._next(self.loop.time(), pace.events, pace)
        else:
            self.served.requests += 1
            self.transport.write(COMPLETION)
        return True

    def _next(self, due: float, left: int, pace: Pace) -> None:
        """Write one event and set the timer for the next, counted from when this one was due: delays do not add up."""
        assert self.transport is not None
        self.served.events += 1
        self.transport.write(event(f'{{"role":"assistant","content":"t={time.monotonic_ns()};{pace.padding}"}}'))
        if left > 1:
            self.timer = self.loop.call_at(due + pace.gap, self._next, due + pace.gap, left - 1, pace)
            return
        self.timer = None
        self.served.streams += 1
        self.transport.write(STREAM_END)
        self.data_received(b"")


async def serve(pace: Pace, certificate: str | None, key: str | None, encoded: Path | None) -> None:
    """Listen on loopback, tell the ports, serve until standard input ends."""
    loop = asyncio.get_running_loop()
    served = Served()
    plain = await loop.create_server(lambda: Conversation(served, pace, encoded), "127.0.0.1", 0, backlog=1024)
    ports: dict[str, int | None] = {"http": plain.sockets[0].getsockname()[1], "https": None}
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.set_alpn_protocols(["http/1.1"])
        secure = await loop.create_server(lambda: Conversation(served, pace, encoded), "127.0.0.1", 0, ssl=context,
                                          backlog=1024)
        ports["https"] = secure.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="A very cheap model server on loopback.")
    parser.add_argument("--certificate", help="PEM file with the chain of the TLS port; without it there is none")
    parser.add_argument("--key", help="PEM file with its key, if the certificate's file does not hold it")
    parser.add_argument("--events", type=int, default=20, help="events of a stream whose body does not say")
    parser.add_argument("--gap-ms", type=float, default=50, help="milliseconds between them")
    parser.add_argument("--encoded", type=Path, help="folder of encoded bodies that requests may ask for")
    options = parser.parse_args()
    uvloop.run(serve(Pace(options.events, options.gap_ms / 1000), options.certificate, options.key, options.encoded))


if __name__ == "__main__":
    main()
