"""The mitmproxy addon: its hooks, in the order in which a request meets them. A table of contents."""

import asyncio
import collections
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from mitmproxy import connection, ctx, http, tls
from mitmproxy.proxy import server_hooks
from mitmproxy.proxy.mode_specs import ReverseMode

from mitmgate import bridge
from mitmgate.console.requests import Requests
from mitmgate.endpoints.recognition import recognise
from mitmgate.errors import Fault, FaultKind, Refusal
from mitmgate.exchange import Arrival, Attempt, Endpoint, Exchange, Origin
from mitmgate.pipeline import Pipeline, execute
from mitmgate.routing.outcome import PassOn, conclude
from mitmgate.routing.retry import Situation, next_step, too_small
from mitmgate.runtime import Snapshot
from mitmgate.stages.authenticate import unidentified
from mitmgate.stages.identify import identify
from mitmgate.stages.match_route import adopts
from mitmgate.stages.record import record
from mitmgate.telemetry.metrics import Metrics
from mitmgate.telemetry.records import RecordLog
from mitmgate.transport.http1 import refused_as
from mitmgate.transport.passage import PASS, Broken, Passage, passage_of
from mitmgate.transport.plain_errors import error_response
from mitmgate.transport.resolve import Resolver
from mitmgate.transport.scope import Denied, Scope
from mitmgate.transport.tunnels import tunnel_of
from mitmgate.transport.ways import Ways

logger = logging.getLogger(__name__)

_MISDIRECTED = "CONNECT, SNI and Host must name the same host and port, and on an intercepted host only TLS is spoken."
_UNREADABLE = {
    "invalid_request": "The request is not valid HTTP for a proxy, or names no host.",
    "headers_too_large": "The request's head is too large.",
}
_CONNECTIONS_PER_ADDRESS = 256              # upstream, for one client connection; mitmproxy's 5 makes parallel calls queue


def fail_closed(
    hook: Callable[["Gateway", http.HTTPFlow], Awaitable[None] | None],
) -> Callable[..., Any]:
    """A bug of ours must not let a flow go on: nothing is armed any more, and the client hears 500."""

    def failed(gateway: "Gateway", flow: http.HTTPFlow) -> None:
        passage = passage_of(flow)
        exchange_id = passage.exchange.id if passage and passage.exchange else "-"
        logger.exception("gateway_error in %s, exchange %s", hook.__name__, exchange_id)
        gateway.metrics.addon_errors.inc()
        if passage is not None:
            passage.permit = passage.through = None
        if passage is not None and passage.head_sent:
            return
        flow.response = error_response("gateway_error", "The gateway failed; see its log.")
        if passage is not None and passage.exchange is not None:
            exchange = passage.exchange
            exchange.refusal = Refusal("gateway_error", "The gateway failed; see its log under this request's id.")
            with contextlib.suppress(Exception):            # the bug may be in there: the plain answer stands
                flow.response = bridge.write_refusal(exchange, exchange.refusal, gateway.snapshot.shared.doc_base)

    if asyncio.iscoroutinefunction(hook):

        @functools.wraps(hook)
        async def waiting(self: "Gateway", flow: http.HTTPFlow) -> None:
            try:
                await hook(self, flow)
            except Exception:  # noqa: BLE001 - the one broad edge of the house
                failed(self, flow)

        return waiting

    @functools.wraps(hook)
    def at_once(self: "Gateway", flow: http.HTTPFlow) -> None:
        try:
            hook(self, flow)
        except Exception:  # noqa: BLE001 - the one broad edge of the house
            failed(self, flow)

    return at_once


class Gateway:
    """Hooks only: each says what happens there and calls the room that does it."""

    def __init__(
        self,
        snapshot: Snapshot,
        scope: Scope,
        metrics: Metrics,
        records: RecordLog,
        pipeline: Pipeline | None = None,
        resolve: Resolver | None = None,
        requests: Requests | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.scope = scope
        self.metrics = metrics
        self.records = records
        self.requests = requests or Requests()
        self.pipeline = pipeline or Pipeline()
        self.ways = Ways(snapshot, scope, metrics, resolve or Resolver())
        self.connections: collections.Counter[str] = collections.Counter()
        shared = snapshot.shared            # not the snapshot, which a reload is to free
        metrics.in_flight.set_function(lambda: shared.in_flight)

    def take(self, snapshot: Snapshot, scope: Scope) -> None:
        """These rules hold from now on; what has begun ends under those that it began with."""
        self.snapshot, self.scope = snapshot, scope
        self.ways.take(snapshot, scope)

    # A client comes.

    def client_connected(self, client: connection.Client) -> None:
        """Bounded in number, in all and per address; and free to make as many upstream connections as it has calls."""
        limits = self.snapshot.rules.limits
        address = client.peername[0] if client.peername else ""
        if self.connections.total() >= limits.connections or self.connections[address] >= limits.connections_per_client:
            client.error = "too many connections"
            self.metrics.refused_connection("limit")
            return
        self.connections[address] += 1
        handler = ctx.master.addons.get("proxyserver").connections.get(client.id)
        if handler is not None:
            handler.max_conns = collections.defaultdict(lambda: asyncio.Semaphore(_CONNECTIONS_PER_ADDRESS))

    def client_disconnected(self, client: connection.Client) -> None:
        """Its place is free again."""
        address = client.peername[0] if client.peername else ""
        if client.error != "too many connections":
            self.connections[address] -= 1
            if self.connections[address] <= 0:
                del self.connections[address]

    # It asks for a tunnel.

    @fail_closed
    async def http_connect(self, flow: http.HTTPFlow) -> None:
        """Who may tunnel, and where to."""
        await self.ways.open_tunnel(flow)

    def tls_clienthello(self, hello: tls.ClientHelloData) -> None:
        """What no rule intercepts is tunnelled, never decrypted."""
        self.ways.read_hello(hello)

    # The way upstream.

    async def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Every upstream connection passes here; its address is checked."""
        await self.ways.aim(data)

    def http_connect_upstream(self, flow: http.HTTPFlow) -> None:
        """A corporate proxy is asked for a tunnel."""
        self.ways.authorise_proxy(flow)

    # A request's headers.

    @fail_closed
    async def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Recognise it; refuse what needs no body; let what is not ours through untouched."""
        passage = passage_of(flow)
        if passage is None or flow.response is not None:
            return
        snapshot = passage.snapshot = self.snapshot
        if code := refused_as(flow.request) or ("invalid_request" if flow.error else None):
            refusal = Refusal(code, _UNREADABLE[code], headers={"connection": "close"})
            return self._refuse_early(flow, passage, refusal)
        tunnel = tunnel_of(flow.client_conn)
        reverse = isinstance(flow.client_conn.proxy_mode, ReverseMode)
        try:
            intercepted = reverse or tunnel is not None or (not passage.origin_form and self._intercepts(flow))
            arrival = bridge.arrival_of(flow, passage, tunnel, intercepted=intercepted)
        except bridge.Misdirected:
            refusal = Refusal("misdirected_request", _MISDIRECTED, headers={"connection": "close"})
            return self._refuse_early(flow, passage, refusal)
        except Refusal as refusal:
            return self._refuse_early(flow, passage, refusal)
        if not arrival.direct and not intercepted:
            return await self._let_through(flow, passage, arrival, check=True)
        exchange = self._begin(flow, passage, arrival)
        try:
            if bridge.is_broken(flow.request.headers):
                raise Refusal("invalid_request", "A header holds a line's end or a NUL.", headers={"connection": "close"})
            if sum(len(name) + len(value) for name, value in flow.request.headers.fields) > snapshot.rules.limits.headers:
                raise Refusal("headers_too_large", "The request's headers are too large.")
            exchange.endpoint = recognise(arrival)
            await execute(self.pipeline.arrival, exchange, snapshot)
            if exchange.endpoint is None and not await self._adopt(flow, passage, exchange):
                return
            self._bound(passage, exchange)
        except Refusal as refusal:
            self._refuse(flow, exchange, refusal)

    def _intercepts(self, flow: http.HTTPFlow) -> bool:
        host = flow.client_conn.sni or flow.request.host_header or flow.request.host
        name = host.rpartition(":")[0] or host if ":" in host and not host.startswith("[") else host
        return self.scope.intercepts(name, flow.request.port) or self.scope.intercepts(flow.request.host, flow.request.port)

    def _begin(self, flow: http.HTTPFlow, passage: Passage, arrival: Arrival) -> Exchange:
        snapshot = _rules_of(passage)
        exchange = passage.exchange = bridge.exchange_of(flow, arrival, snapshot)
        snapshot.shared.in_flight += 1
        self.requests.began(exchange, snapshot)
        return exchange

    def _refuse_early(self, flow: http.HTTPFlow, passage: Passage, refusal: Refusal) -> None:
        """A refusal before there is a path or a host to speak of; recorded all the same."""
        client = flow.client_conn.peername[0] if flow.client_conn.peername else ""
        origin = Origin(flow.request.scheme, flow.request.host, flow.request.port)
        request = flow.request
        arrival = Arrival(
            passage.origin_form, False, origin, request.method, request.path, "", "", client, request.http_version
        )
        self._refuse(flow, self._begin(flow, passage, arrival), refusal)

    async def _adopt(self, flow: http.HTTPFlow, passage: Passage, exchange: Exchange) -> bool:
        """A path of no API that we know: governed if the rules reach it, refused on a base_url call, else let through."""
        arrival = exchange.arrival
        exchange.endpoint = Endpoint("other", "openai", arrival.path)
        snapshot = _rules_of(passage)
        await identify(exchange, snapshot)
        if adopts(exchange, snapshot):
            return True
        snapshot.shared.in_flight -= 1
        self.requests.forget(exchange)
        passage.exchange = None
        await self._let_through(flow, passage, arrival, check=False)
        return False

    async def _let_through(self, flow: http.HTTPFlow, passage: Passage, arrival: Arrival, *, check: bool) -> None:
        """Ungoverned traffic: streamed as it came, to where it was going."""
        if check:
            if self.snapshot.rules.access == "keys":
                return self._refuse_early(flow, passage, unidentified(direct=False))
            try:
                self.scope.check_name(arrival.origin.host, arrival.origin.port, plain=True)
            except Denied as error:
                return self._refuse_early(flow, passage, Refusal("tunnel_denied", str(error)))
        passage.through, passage.snapshot = PASS, None      # it may stream for days
        passage.proxy = self.ways.egress(arrival.origin.host, arrival.origin.port)
        flow.request.host = arrival.origin.host
        for name in ("proxy-authorization", "proxy-connection"):
            flow.request.headers.pop(name, None)
        if flow.request.is_http2 and "content-length" not in flow.request.headers:
            flow.request.headers["transfer-encoding"] = "chunked"
        flow.request.stream = True

    def _bound(self, passage: Passage, exchange: Exchange) -> None:
        """How much body this request may bring, and how slowly."""
        snapshot = _rules_of(passage)
        limits = snapshot.rules.limits
        endpoint = exchange.endpoint
        assert endpoint is not None
        media = exchange.request_headers.get("content-type", "").partition(";")[0].strip().lower()
        passage.spool = media != "application/json" and endpoint.content != "json"
        passage.body_limit = limits.upload if passage.spool else limits.request_body
        passage.body_idle, passage.body_total = limits.body_idle, limits.body_total
        declared = exchange.request_headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > passage.body_limit):
            raise _too_large(passage.body_limit)
        passage.reserve = functools.partial(snapshot.reserve, exchange)
        exchange.head = snapshot.clock.monotonic()

    # A request, whole.

    @fail_closed
    async def request(self, flow: http.HTTPFlow) -> None:
        """INBOUND, then the first attempt is armed."""
        passage = passage_of(flow)
        if passage is None or passage.exchange is None or flow.response is not None:
            return
        exchange = passage.exchange
        exchange.whole = _rules_of(passage).clock.monotonic()
        try:
            if passage.refused == "request_too_large":
                raise _too_large(passage.body_limit)
            if passage.refused == "deadline_exceeded":
                raise Refusal("deadline_exceeded", "The request's body did not arrive in time.")
            if passage.refused:
                raise Refusal("queue_full", "Too many bytes are in flight.", headers={"retry-after": "1"})
            exchange.body = passage.body
            await execute(self.pipeline.inbound, exchange, _rules_of(passage))
            if exchange.reply is not None:
                flow.response = bridge.write_reply(exchange, exchange.reply)
                return
            await self._arm(passage, exchange)
        except Refusal as refusal:
            self._refuse(flow, exchange, refusal)

    async def _arm(self, passage: Passage, exchange: Exchange) -> None:
        snapshot = _rules_of(passage)
        await execute(self.pipeline.attempt, exchange, snapshot)
        passage.permit = bridge.permit_of(exchange, passage, snapshot)

    def _refuse(self, flow: http.HTTPFlow, exchange: Exchange, refusal: Refusal) -> None:
        refusal.__traceback__ = refusal.__context__ = None  # they hold the frames of stages, with bodies in them
        exchange.refusal = refusal
        flow.request.headers.pop("expect", None)            # no 100 Continue for a body that nobody wants
        flow.response = bridge.write_refusal(exchange, refusal, self.snapshot.shared.doc_base)

    # An attempt failed.

    @fail_closed
    async def attempt_failed(self, flow: http.HTTPFlow) -> None:
        """Classify the fault, back off, arm the next attempt of the plan, or give up."""
        passage = passage_of(flow)
        assert passage is not None
        exchange = passage.exchange
        assert exchange is not None
        fault, attempt, plan = passage.fault, exchange.attempt, exchange.plan
        assert fault is not None
        assert attempt is not None
        assert plan is not None
        snapshot = _rules_of(passage)
        clock = snapshot.clock
        now = clock.monotonic()
        attempt.fault, attempt.ended, attempt.status = fault, now, fault.status
        situation = Situation(
            position=exchange.position,
            tries_here=sum(1 for each in exchange.attempts if each.target is attempt.target),
            tries=len(exchange.attempts),
            fault=fault,
            now=now,
            wall=clock.wall(),
            deadline=exchange.deadline,
            renewed=renewed(attempt, exchange.attempts),
            too_small=too_small(exchange.attempts),
        )
        step = next_step(plan, situation, snapshot.random)
        if step is not None and step.wait > 0 and not await unless_gone(passage, step.wait):
            return
        if step is not None:
            exchange.position = step.position
            await self._arm(passage, exchange)
            assert exchange.attempt is not None
            exchange.attempt.waited = step.wait
            return
        outcome = conclude(plan, exchange.attempts, wall=clock.wall(), late=clock.monotonic() >= exchange.deadline)
        if isinstance(outcome, PassOn):
            flow.response = bridge.pass_on(exchange, outcome.fault, snapshot.shared.doc_base)
            exchange.refusal = Refusal("all_targets_failed", "passed on", status=flow.response.status_code)
        else:
            self._refuse(flow, exchange, outcome)

    async def upload(self, server: connection.Server) -> None:
        """A piece of a large body was handed over: wait until the connection has taken it."""
        for handler in list(ctx.master.addons.get("proxyserver").connections.values()):
            transport = handler.transports.get(server)
            if transport is not None and transport.writer is not None:
                try:
                    async with asyncio.timeout(self.snapshot.rules.limits.drain + 30):
                        await transport.writer.drain()
                except (OSError, TimeoutError):
                    transport.writer.close()
                return

    # A reply.

    async def large_reply(self, read: Callable[[], None]) -> None:
        """One that is collected is whole: undoing its encoding and reading it would take the loop's time."""
        await asyncio.to_thread(read)

    @fail_closed
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """The commit of a stream: its head goes out now, with the gateway's headers."""
        passage = passage_of(flow)
        if passage is None or flow.response is None:
            return
        flow.response.headers.pop("alt-svc", None)          # a way around us
        if passage.through == PASS:
            flow.response.stream = True
        elif passage.exchange is not None and passage.committed:
            passage.exchange.first_content = self.snapshot.clock.monotonic()
            bridge.dress(flow.response, passage.exchange)

    def response(self, flow: http.HTTPFlow) -> None:
        """A collected reply is whole, or a stream has ended: the gateway's headers, then the record."""
        passage = passage_of(flow)
        if passage is None or passage.exchange is None or flow.response is None:
            return
        self._dress_collected(flow)
        self._finish(flow, passage, flow.response.status_code)

    @fail_closed
    def _dress_collected(self, flow: http.HTTPFlow) -> None:
        passage = passage_of(flow)
        assert passage is not None
        assert flow.response is not None
        exchange = passage.exchange
        if exchange is not None and not passage.committed and exchange.refusal is None and exchange.reply is None:
            bridge.dress(flow.response, exchange)

    def error(self, flow: http.HTTPFlow) -> None:
        """The client left, or a stream that cannot carry an error was cut."""
        passage = passage_of(flow)
        if passage is None or passage.exchange is None:
            return
        status = flow.response.status_code if flow.response is not None and passage.committed else 499
        if passage.exchange.refusal is not None:
            status = passage.exchange.refusal.status        # the client did not stay to read it
        attempt = passage.exchange.attempt
        if passage.bug:
            self.metrics.addon_errors.inc()
            passage.exchange.refusal = Refusal("gateway_error", "a bug in the layer")
            return self._finish(flow, passage, 500)
        if attempt is not None and attempt.fault is None and passage.broken is None:
            passage.broken = Broken.CLIENT_LEFT
            if not passage.committed:
                attempt.fault = Fault(FaultKind.DISCONNECTED, "the client left")
        self._finish(flow, passage, status)

    def _finish(self, flow: http.HTTPFlow, passage: Passage, status: int) -> None:
        """ALWAYS, exactly once: settle and record."""
        if passage.finished:
            return
        passage.finished = True
        exchange, shared = passage.exchange, self.snapshot.shared
        assert exchange is not None
        shared.in_flight -= 1
        shared.bytes_in_flight -= exchange.held_bytes
        exchange.ended = self.snapshot.clock.monotonic()
        exchange.status = status
        exchange.broken = passage.broken
        attempt = exchange.attempt
        if attempt is not None:
            attempt.ended = attempt.ended or exchange.ended
            attempt.status = attempt.status or (status if exchange.refusal is None else None)
        self._read(passage, exchange)
        upstream_id = flow.response.headers.get("x-gateway-upstream-request-id") if flow.response is not None else None
        summary = record(exchange, rules=_rules_of(passage).generation, upstream_request_id=upstream_id)
        self.metrics.observe(summary)
        self.records.offer(summary)
        self.requests.ended(exchange, summary)
        if passage.body is not None:
            passage.body.close()
        if (held := self.requests.find(exchange.id)) is None or held.exchange is None:
            # The flow is in a cycle that the collector may come to hundreds of calls later.
            exchange.raw = exchange.document = exchange.canonical = exchange.body = exchange.upstream = None
            if exchange.plan is not None and exchange.plan.sent:
                exchange.plan = replace(exchange.plan, sent=())
        passage.snapshot = passage.reserve = None           # the flow may live on in mitmproxy's interfaces

    def _read(self, passage: Passage, exchange: Exchange) -> None:
        reader = passage.reader
        if reader is not None:
            exchange.served_model = reader.served_model
            exchange.usage.input, exchange.usage.output = reader.tokens_input, reader.tokens_output


def _rules_of(passage: Passage) -> Snapshot:
    """The rules that this request began with, whatever has been reloaded since."""
    assert passage.snapshot is not None
    return passage.snapshot


def _too_large(limit: int) -> Refusal:
    return Refusal("request_too_large", f"The body is larger than the {limit} bytes that are allowed.")


def renewed(attempt: Attempt, attempts: Sequence[Attempt]) -> bool:
    """Whether the credential that the provider refused has given way to one that this exchange has not tried."""
    credential, secret = attempt.target.provider.credential, attempt.secret
    if attempt.status != 401 or credential is None or secret is None:
        return False
    credential.rejected(secret)
    return credential.secret() not in {None, *(each.secret for each in attempts)}


async def unless_gone(passage: Passage, seconds: float) -> bool:
    """Sleep; False when the client left meanwhile. A hook that never returned would keep the flow alive for good."""
    sleeping = asyncio.ensure_future(asyncio.sleep(seconds))
    passage.on_gone = sleeping.cancel
    try:
        await sleeping
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
        return False
    finally:
        passage.on_gone = None
    return True
