"""The simulator's HTTP server: which path is which operation, and how a reply goes out, faults included.

Without a `gap`, events that are ready are written together, as a busy server's socket would deliver them.
"""

import asyncio
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Final
from urllib.parse import quote

import orjson
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from mitmgate.exchange import Origin
from mitmgate.providers.catalogue import SIMULATED
from mitmgate.simulator.answers import CREATED, Answer, Streamed, Whole, error_of
from mitmgate.simulator.asked import BadRequest, Document, document_of
from mitmgate.simulator.chat import chat
from mitmgate.simulator.completions import completions
from mitmgate.simulator.faults import HEADER, NONE, BadDirective, Ending, Faults, parse
from mitmgate.simulator.moderations import moderations
from mitmgate.simulator.responses import responses
from mitmgate.simulator.vectors import embeddings

type Operation = Callable[[Document, int | None], Answer]

_OPERATIONS: Final[Mapping[str, Operation]] = {
    "/v1/chat/completions": chat,
    "/v1/completions": completions,
    "/v1/responses": responses,
    "/v1/embeddings": embeddings,
    "/v1/moderations": moderations,
}
_LARGEST_BODY: Final = 64 << 20     # as much as the gateway's own default lets through
_BATCH: Final = 16 << 10            # bytes of events that go out in one write
_HANG: Final = 3600.0               # seconds; no client waits longer, and no connection stays for ever
_SETTLE: Final = 0.02               # seconds between bytes and the reset after them, which may overtake them
_STOP: Final = 0.5                  # seconds that replies under way get when the simulator stops
_GARBAGE: Final = b"\x16\x03\x01\x00\xffthis is not HTTP\r\n\x00\xff\xfe\r\n\r\n"
# Lingering for no time turns a close into a reset (socket(7), SO_LINGER; two shorts on Windows).
_LINGER_NOT: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_SERVER: Final = "mitmgate-simulator"


class Simulator:
    """One server. `start` may be called again after `stop`."""

    def __init__(self) -> None:
        self._runner: web.ServerRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> Origin:
        """Listens and returns the bound origin; port 0 lets the system choose. Raises OSError if it cannot."""
        if self._runner is not None:
            raise RuntimeError("the simulator runs already")
        # `web.Server` without an Application: no router and no middleware to walk through for each request.
        server = web.Server(_serve, request_factory=_request, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=_STOP)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, backlog=1024).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        address = runner.addresses[0]
        return Origin("http", address[0], address[1])

    async def stop(self) -> None:
        """Stops listening and ends every connection; what is under way gets half a second. Harmless if not started."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: "asyncio.Task[None]",
) -> web.BaseRequest:
    return web.BaseRequest(message, payload, protocol, writer, task, task.get_loop(), client_max_size=_LARGEST_BODY)


async def _serve(request: web.BaseRequest) -> web.StreamResponse:
    """One request and its reply."""
    faults = NONE
    body = b""
    try:
        if HEADER in request.headers:
            faults = parse(request.headers.getall(HEADER))
        body = await _body(request)
        if faults.latency:
            await asyncio.sleep(faults.latency)
        if faults.ending in (Ending.RESET, Ending.HANG, Ending.GARBAGE):
            return await _unanswered(request, faults.ending)
        if faults.ending is Ending.STATUS:
            return _failing(request, body, faults)
        answer = _answer(request, body, faults.events)
    except BadDirective as bad:
        return _refused(request, body, BadRequest(str(bad), param=HEADER, code="invalid_simulation"))
    except BadRequest as bad:
        return _refused(request, body, bad)
    headers = _headers(request, body, "application/json" if isinstance(answer, Whole) else "text/event-stream")
    if isinstance(answer, Streamed):
        headers["Cache-Control"] = "no-cache"
        return await _stream(request, answer, faults, headers)
    if faults.ending is not None:
        return await _broken(request, answer.body, faults, headers)
    return web.Response(body=answer.body, headers=headers)


async def _body(request: web.BaseRequest) -> bytes:
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        message = f"The body is larger than {_LARGEST_BODY} bytes."
        raise BadRequest(message, code="request_too_large", status=413) from None
    except web.RequestPayloadError:
        raise BadRequest("The body of the request could not be read.", code="invalid_body") from None


def _answer(request: web.BaseRequest, body: bytes, events: int | None) -> Answer:
    """What the path asks for. Raises BadRequest."""
    path = request.path
    operation = _OPERATIONS.get(path)
    if operation is not None:
        _only(request, "POST")
        return operation(document_of(body), events)
    if path == "/v1/models":
        _only(request, "GET")
        return Whole(orjson.dumps({"object": "list", "data": [_model(name) for name in SIMULATED]}))
    if path.startswith("/v1/models/"):
        _only(request, "GET")
        name = path.removeprefix("/v1/models/")
        if name not in SIMULATED:
            known = " and ".join(SIMULATED)
            raise BadRequest(f"The simulator lists {known} only.", param="model", code="model_not_found", status=404)
        return Whole(orjson.dumps(_model(name)))
    raise BadRequest("The simulator has nothing at this path.", code="unknown_url", status=404)


def _only(request: web.BaseRequest, method: str) -> None:
    if request.method != method:
        raise BadRequest(f"This path takes {method} only.", code="method_not_allowed", status=405)


def _model(name: str) -> Document:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "mitmgate"}


def _headers(request: web.BaseRequest, body: bytes, kind: str) -> dict[str, str]:
    """The id follows from the request, as everything does; the Date is aiohttp's."""
    state = blake2b(f"{request.method} {quote(request.path)}\n".encode(), digest_size=16)
    state.update(body)
    return {"Content-Type": kind, "Server": _SERVER, "x-request-id": f"req_{state.hexdigest()}"}


def _refused(request: web.BaseRequest, body: bytes, bad: BadRequest) -> web.Response:
    error = orjson.dumps(error_of(bad.status, bad.message, bad.code, bad.param))
    headers = _headers(request, body, "application/json")
    if bad.status == 405:
        headers["Allow"] = "POST" if request.path in _OPERATIONS else "GET"
    return web.Response(status=bad.status, body=error, headers=headers)


def _failing(request: web.BaseRequest, body: bytes, faults: Faults) -> web.Response:
    error = orjson.dumps(error_of(faults.status, f"Simulated failure with status {faults.status}.", faults.code))
    headers = _headers(request, body, "application/json")
    if faults.retry_after is not None:
        headers["Retry-After"] = faults.retry_after
    return web.Response(status=faults.status, body=error, headers=headers)


async def _stream(
    request: web.BaseRequest, answer: Streamed, faults: Faults, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Events, up to the point where they were asked to stop. A fault beyond the last content comes before the end."""
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    if faults.ending is Ending.RESET_AFTER_HEADERS:
        return await _reset(request, response)
    if faults.ending is Ending.EMPTY:
        return response
    last = None if faults.ending is None else faults.after
    ready, size, sent = [answer.opening], len(answer.opening), 0
    for event in answer.content:
        if sent == last:
            break
        if size >= _BATCH or (faults.gap and sent):
            await response.write(b"".join(ready))
            ready, size = [], 0
            await asyncio.sleep(faults.gap)  # without a gap: lets the others have their turn
        ready.append(event)
        size += len(event)
        sent += 1
    if faults.ending is None:
        ready.append(answer.closing)
    elif faults.ending is Ending.ERROR_EVENT:
        ready.append(answer.error(sent, faults.code))
    await response.write(b"".join(ready))
    return await _broken_off(request, response, faults.ending)


async def _broken(
    request: web.BaseRequest, body: bytes, faults: Faults, headers: Mapping[str, str]
) -> web.StreamResponse:
    """A reply in one piece that goes wrong."""
    if faults.ending is Ending.EMPTY:
        return web.Response(headers=headers)
    if faults.ending is Ending.ERROR_EVENT:
        error = orjson.dumps(error_of(500, "Simulated error in place of an answer.", faults.code))
        return web.Response(body=error, headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_length = len(body)
    await response.prepare(request)
    if faults.ending is Ending.RESET_AFTER_HEADERS:
        return await _reset(request, response)
    await response.write(body[: len(body) // 2])
    return await _broken_off(request, response, faults.ending)


async def _broken_off(
    request: web.BaseRequest, response: web.StreamResponse, ending: Ending | None
) -> web.StreamResponse:
    """After what was to be sent: a cut, silence, or nothing special. A closed transport cannot be given an end."""
    if ending is Ending.SILENCE:
        await asyncio.sleep(_HANG)
    if ending in (Ending.CUT, Ending.SILENCE) and request.transport is not None:
        request.transport.close()  # what was written still goes out
    return response


async def _unanswered(request: web.BaseRequest, ending: Ending) -> web.StreamResponse:
    """No headers at all. The response that is returned is never sent: its transport is closed."""
    response = web.Response()
    if ending is Ending.RESET:
        return await _reset(request, response)
    if ending is Ending.HANG:
        await asyncio.sleep(_HANG)  # cancelled when the client leaves
    if request.transport is not None:
        if ending is Ending.GARBAGE:
            request.transport.write(_GARBAGE)
        request.transport.close()
    return response


async def _reset(request: web.BaseRequest, response: web.StreamResponse) -> web.StreamResponse:
    """Ends the connection with a TCP reset."""
    if response.prepared:
        await asyncio.sleep(_SETTLE)
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        transport.abort()
    return response
