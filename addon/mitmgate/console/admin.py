"""The admin port: health, readiness, metrics, the latest requests and the pages that errors point to.

`POST /reload` alone changes something: the gateway reads its rules again.

A web page in an operator's browser must not be able to read this port (THREATS, row 14): the Host must be one of
ours, so that a rebound DNS name gets nothing, and requests that another site caused are refused. There is no CORS.
What changes something also needs a header of our own, which a browser sends to another site only after it has asked, by
a preflight that is refused here; so not even a browser that tells no Origin can do it.
"""

import asyncio
import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiohttp import hdrs, web

from mitmgate.console.docs import doc_url, error_page, error_sections, errors_page, html_page
from mitmgate.console.requests import Requests
from mitmgate.errors import error_body
from mitmgate.telemetry.metrics import CONTENT_TYPE, Metrics
from mitmgate.transport.reload import Outcome

CONNECTIONS: Final = 128            # at the same time; more are closed at once
CONNECTION_SECONDS: Final = 30.0    # the life of a connection, slow readers and writers included
STOP_SECONDS: Final = 2.0
_HEADERS: Final = (
    ("Content-Security-Policy",
     "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Server", "mitmgate"),         # else aiohttp names itself, Python and their versions
)  # fmt: skip
_HTML: Final = "text/html; charset=utf-8"
_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_ERRORS: Final = "/docs/errors"
_RELOAD: Final = "/reload"
_OWN_HEADER: Final = "x-mitmgate"
_OWN_WORD: Final = "reload"
_REQUESTS: Final = "/requests/"
_NOT_HELD: Final = "No request of this id is alive or among the last that have ended. It is the reply's x-gateway-request-id."
_NOT_OURS: Final = b"This port answers to loopback, to its own address and to the names under listen.hosts.\n"

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether this gateway should get traffic, and what an operator should know about it."""

    ready: bool
    version: str
    ca: str | None                  # SHA-256 fingerprint of the interception CA's certificate; None: there is none
    rules: int                      # generation: 1 at start, one more with each reload that was accepted
    draining: bool = False
    warnings: tuple[str, ...] = ()  # written for operators; no secrets, no user text

    @property
    def status(self) -> str:
        """One word: ok, draining or not_ready."""
        if self.draining:
            return "draining"
        return "ok" if self.ready else "not_ready"

    def document(self) -> dict[str, object]:
        """The body of /readyz."""
        return {
            "status": self.status,
            "version": self.version,
            "ca": self.ca,
            "rules": self.rules,
            "draining": self.draining,
            "warnings": list(self.warnings),
        }


class AdminServer:
    """Serves GET and HEAD of /, /healthz, /readyz, /metrics, /requests/ID and /docs/errors, and POST of /reload; one request
    per connection.

    `hosts` are names that it answers to beside loopback and the address that a connection came in on (`listen.hosts`).
    """

    def __init__(
        self,
        readiness: Callable[[], Readiness],
        metrics: Metrics,
        *,
        hosts: Collection[str] = (),
        requests: Requests | None = None,
        reload: Callable[[], Awaitable[Outcome | None]] | None = None,
        connection_seconds: float = CONNECTION_SECONDS,
        connections: int = CONNECTIONS,
    ) -> None:
        self._readiness = readiness
        self._metrics = metrics
        self._requests = requests
        self._reload = reload
        self.answer_to(hosts)
        self._connection_seconds = connection_seconds
        self._connections = connections
        self._sections = error_sections()
        self._scrape = asyncio.Lock()
        self._explaining = asyncio.Lock()
        self._server: _Server | None = None
        self._listener: asyncio.Server | None = None
        self._address: tuple[str, int] | None = None

    def answer_to(self, hosts: Collection[str]) -> None:
        """These are our names from now on."""
        self._hosts = tuple(_normal(host) for host in hosts)

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; port 0 lets the OS choose. Returns the address listened on. Raises OSError where it cannot be had."""
        self._server = _Server(self._answer, self._connections, self._connection_seconds)
        self._listener = await asyncio.get_running_loop().create_server(self._server, host, port)
        address = self._listener.sockets[0].getsockname()
        self._address = (address[0], address[1])
        return self._address

    async def stop(self) -> None:
        """Stop listening and close what is open; replies at work get `STOP_SECONDS`."""
        if self._listener is None or self._server is None:
            return
        self._listener.close()
        self._server.pre_shutdown()
        await self._server.shutdown(STOP_SECONDS)
        self._listener = self._server = self._address = None

    def doc_url(self, code: str) -> str:
        """The page about `code`, on this port. Listening on all addresses, it calls itself by the first of `hosts`."""
        if self._address is None:
            raise RuntimeError("the admin port has no address before start()")
        host, port = self._address
        if ipaddress.ip_address(host).is_unspecified:
            host = self._hosts[0] if self._hosts else "127.0.0.1"
        return doc_url(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}", code)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        path = request.path
        if path == _RELOAD:
            return await self._reloaded()
        if path == "/healthz":
            return _reply(200, b'{"status":"ok"}', _JSON)
        if path == "/readyz":
            state = self._readiness()
            return _reply(200 if state.status == "ok" else 503, orjson.dumps(state.document()), _JSON)
        if path == "/metrics":
            async with self._scrape:  # thousands of series take milliseconds: off the loop, and one scrape at a time
                return _reply(200, await asyncio.to_thread(self._metrics.render), CONTENT_TYPE)
        if path.startswith(_REQUESTS):
            return await self._told(path.removeprefix(_REQUESTS))
        if path == "/":
            return _reply(200, _INDEX.encode(), _HTML)
        if path == _ERRORS:
            return _reply(200, errors_page(self._sections).encode(), _HTML)
        code = path.removeprefix(f"{_ERRORS}/")
        if code != path and code in self._sections and code:
            return _reply(200, error_page(code, self._sections[code]).encode(), _HTML)
        return _reply(404, b"There is no such page here. Begin at /\n", _TEXT)

    async def _reloaded(self) -> web.Response:
        outcome = await self._reload() if self._reload is not None else None
        if outcome is None:
            return _reply(503, b"The gateway is starting.\n", _TEXT)
        document = {"rules": outcome.generation, "changed": outcome.word == "accepted"}
        if outcome.word == "rejected":
            return _reply(422, orjson.dumps({**document, "problems": outcome.problems}), _JSON)
        return _reply(200, orjson.dumps(document), _JSON)

    async def _told(self, exchange_id: str) -> web.Response:
        held = self._requests.find(exchange_id) if self._requests is not None else None
        if held is None:
            return _reply(404, error_body("not_found", _NOT_HELD, doc_url=self.doc_url("not_found")), _JSON)
        async with self._explaining:        # a thousand routes take milliseconds: like a scrape
            document = await asyncio.to_thread(held.document)
        return _reply(200, orjson.dumps(document, default=str), _JSON)

    def _refusal(self, request: web.BaseRequest) -> web.Response | None:
        hosts = request.headers.getall(hdrs.HOST, [])
        named = _AUTHORITY.fullmatch(hosts[0]) if len(hosts) == 1 else None
        # Where the request line holds a whole URL, its host counts (RFC 9112, section 3.2.2): `request.host`.
        whole = named is not None and request.host != hosts[0]
        if named is None or not self._ours(named[1], request) or (whole and not self._ours(request.host, request)):
            return _reply(421, _NOT_OURS, _TEXT)
        origins = request.headers.getall(hdrs.ORIGIN, [])
        site = request.headers.get("Sec-Fetch-Site", "none")
        same = all(origin.partition("://")[2].lower() == hosts[0].lower() for origin in origins)
        if not same or site not in ("none", "same-origin", "same-site"):
            return _reply(403, b"Another web site caused this request; open the address itself instead.\n", _TEXT)
        if request.path == _RELOAD:
            if request.method != hdrs.METH_POST:
                return _reply(405, b"Only POST.\n", _TEXT, allow="POST")
            # `same-site` is another port of this machine: whoever serves a page there is not its operator.
            if site == "same-site" or request.headers.getall(_OWN_HEADER, []) != [_OWN_WORD]:
                return _reply(403, b"Say that no web page asks: send the header `x-mitmgate: reload`.\n", _TEXT)
            return None
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            return _reply(405, b"Only GET and HEAD.\n", _TEXT, allow="GET, HEAD")
        return None

    def _ours(self, host: str, request: web.BaseRequest) -> bool:
        name = _normal(host)
        if name == "localhost" or name in self._hosts:
            return True
        address = _address(name)
        if address is None:
            return False
        # An address in Host cannot be rebound; still only those that lead here are ours.
        transport = request.transport
        local = transport.get_extra_info("sockname") if transport is not None else None
        return address.is_loopback or (local is not None and address == _address(local[0]))


class _Connection(web.RequestHandler):
    """aiohttp's connection, except that its own replies to what is not HTTP are as plain and guarded as ours."""

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if status >= 500:
            _log.error("The admin port failed to answer %s.", request.path, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("part of the reply is sent already")
        text = b"This is not a readable request.\n" if status < 500 else b"The admin port failed; see the log.\n"
        return _reply(status, text, _TEXT)


class _Server(web.Server):
    """Makes connections, counts them, and ends each after its time whatever it is doing.

    aiohttp bounds how long a client may take to send a request, but not how long it may take to read the reply.
    """

    def __init__(
        self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], most: int, seconds: float
    ) -> None:
        super().__init__(answer)
        self._most = most
        self._seconds = seconds
        self._ends: dict[web.RequestHandler, asyncio.TimerHandle] = {}

    def __call__(self) -> web.RequestHandler:
        # No access log: it would hold paths and user agents as clients wrote them. aiohttp takes None for "none".
        no_log: Any = None
        return _Connection(self, loop=asyncio.get_running_loop(), access_log=no_log, lingering_time=0)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        # Counted by our own timers: aiohttp forgets a connection only when its task is done.
        if len(self._ends) >= self._most:
            transport.abort()
            return
        self._ends[handler] = asyncio.get_running_loop().call_later(self._seconds, transport.abort)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        end = self._ends.pop(handler, None)
        if end is not None:
            end.cancel()
        super().connection_lost(handler, exc)


_INDEX: Final = html_page(
    "mitmgate",
    '<ul><li><a href="/healthz">/healthz</a>: the process lives</li>'
    '<li><a href="/readyz">/readyz</a>: it takes traffic, and what to know about it</li>'
    '<li><a href="/metrics">/metrics</a>: for Prometheus</li>'
    "<li>/requests/ID: one of the latest requests, by its reply's x-gateway-request-id</li>"
    f'<li><a href="{_ERRORS}">{_ERRORS}</a>: what each error means</li></ul>',
)


def _reply(status: int, body: bytes, content_type: str, *, allow: str | None = None) -> web.Response:
    headers = dict(_HEADERS)
    headers[hdrs.CONTENT_TYPE] = content_type
    if allow is not None:
        headers[hdrs.ALLOW] = allow
    reply = web.Response(status=status, body=body, headers=headers)
    reply.force_close()
    return reply


def _normal(host: str) -> str:
    """A host's name as names are compared: lower case, no brackets, no dot at the end."""
    return host.lower().removesuffix(".").removeprefix("[").removesuffix("]")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that `name` spells, ::ffff:1.2.3.4 as 1.2.3.4; None if it is a name."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address
