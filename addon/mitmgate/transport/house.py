"""The house put together: rules, CA, simulator, admin port, records, and the addons that a mitmproxy master needs."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from mitmproxy.proxy import commands

from mitmgate.addon import Gateway
from mitmgate.console.admin import AdminServer, Readiness
from mitmgate.console.requests import Requests
from mitmgate.exchange import Origin
from mitmgate.pipeline import Pipeline
from mitmgate.providers.vendors import SPARE_HOSTS
from mitmgate.rules.schema import Rules
from mitmgate.runtime import Shared, Snapshot, compile_rules
from mitmgate.simulator.server import Simulator
from mitmgate.telemetry.metrics import Metrics
from mitmgate.telemetry.records import RecordLog
from mitmgate.transport import constraints, http1, tuning
from mitmgate.transport.authority import Authority, CaFiles, load_or_create
from mitmgate.transport.interception import GatewayNextLayer
from mitmgate.transport.listening import require_loopback
from mitmgate.transport.ports import cannot_listen
from mitmgate.transport.reload import Outcome, Reloading
from mitmgate.transport.scope import Scope
from mitmgate.transport.tls import GatewayTlsConfig
from mitmgate.version import VERSION

OPTIONS: Final[Mapping[str, object]] = {
    "connection_strategy": "lazy",          # else the original host is dialled before any rule has run
    "upstream_cert": False,                 # else it is asked for its certificate
    "rawtcp": False,                        # else a CRLF before a request makes it raw TCP, unseen
    "validate_inbound_headers": True,       # request smuggling
    "http3": False,
    "websocket": False,                     # a switched connection passes as it is (stream.flow_done)
}
"""mitmproxy's options that the gateway depends on."""


def named_ca(rules: Rules, folder: Path) -> CaFiles | None:
    """The CA that the rules name, with paths from their folder."""
    ca = rules.ca
    if ca is None or not ca.certificate or not ca.key:
        return None
    return CaFiles(folder / ca.certificate, folder / ca.key, tuple(folder / each for each in ca.previous))


def tell_names(metrics: Metrics, snapshot: Snapshot) -> None:
    """The names that may stand in metrics' labels from now on."""
    table = snapshot.table
    teams = [route for names in table.teams.values() for route in names.models.values()]
    chosen = [route.chosen for route in (*table.routes, *table.models.values(), *teams)]
    targets = [target for each in chosen for target in (*each.targets, *each.fallback)]
    metrics.known(
        models={target.model for target in targets if target.model} | set(table.offered),
        routes={each.route for each in chosen} | {"original"},
        providers=set(snapshot.providers),
        projects=set(snapshot.rules.projects),
    )


def at_next_start(started: Rules, rules: Rules) -> tuple[str, ...]:
    """Warnings about what these rules change and a running gateway cannot."""
    changed = {
        "listen.proxy": started.listen.proxy != rules.listen.proxy,
        "listen.admin": started.listen.admin != rules.listen.admin,
        "ca": started.ca != rules.ca,
        "workers": started.workers != rules.workers,
    }
    return tuple(f"{key}: the change takes effect at the next start" for key, differs in changed.items() if differs)


def _signed_for(snapshot: Snapshot) -> tuple[str, ...]:
    """Names that the CA must be able to sign for."""
    return tuple(dict.fromkeys((*snapshot.intercept, *snapshot.rules.listen.hosts)))


class House:
    """Everything of one gateway but mitmproxy's own master."""

    def __init__(
        self, rules: Path, confdir: Path, environ: Mapping[str, str], pipeline: Pipeline | None = None
    ) -> None:
        self._folder = rules
        self._confdir = confdir
        self._environ = environ
        self._pipeline = pipeline
        self._servers: Any = None           # mitmproxy's Proxyserver, once there is a master
        self._gateway: Gateway | None = None
        self.shared = Shared()
        self.warnings: tuple[str, ...] = ()     # of the rules that hold, and of the CA
        self.served = False

    async def build(self) -> None:
        """Make everything. Raises RulesError, ValueError, AuthorityError or OSError: what is wrong with rules, CA or ports."""
        self._simulator = Simulator()
        self._simulated = await self._simulator.start()
        try:
            await self._build()
        except BaseException:
            await self._simulator.stop()
            raise

    async def _build(self) -> None:
        self.reloading = Reloading(self._folder)
        self.snapshot = compile_rules(self._folder, self._environ, self._simulated, self.shared)
        rules = self._started = self.snapshot.rules
        self.authority, self._covered = self._authority(self.snapshot), _signed_for(self.snapshot)
        self.warnings = (*self.snapshot.table.warnings, *self.authority.warnings)
        self.metrics = Metrics(VERSION)
        tell_names(self.metrics, self.snapshot)
        self.metrics.ca_expires_at(self.authority.expires.timestamp())
        self.requests = Requests()
        self.admin = AdminServer(
            self.readiness, self.metrics, requests=self.requests, hosts=rules.listen.hosts, reload=self._reload
        )
        try:
            self._admin_address = await self.admin.start(rules.listen.admin.host, rules.listen.admin.port)
        except OSError as error:
            raise cannot_listen(error, rules, self._folder, "admin") from error
        self.shared.doc_base = self.admin_url
        self.records = RecordLog(on_drop=self.metrics.records_dropped.inc, on_cost=self.metrics.spend)

    def _authority(self, snapshot: Snapshot) -> Authority:
        # `spare`: so that a vendor added to the rules later needs no new CA.
        ca = named_ca(snapshot.rules, self._folder)
        return load_or_create(self._confdir, permitted=_signed_for(snapshot), ca=ca, spare=SPARE_HOSTS)

    def addons(self, servers: Any, start_hook: Callable[[commands.StartHook], bool] | None) -> tuple[object, ...]:
        """The addons for a master whose Proxyserver is `servers`. `start_hook`: see `GatewayLayer`."""
        http1.install()
        tuning.install()
        self._servers = servers
        scope = Scope.of(self.snapshot.rules, self.snapshot.intercept, self.own_addresses)
        gateway = Gateway(self.snapshot, scope, self.metrics, self.records, self._pipeline, requests=self.requests)
        self._gateway = gateway
        self.reloading.begin(self, self.metrics)
        return (
            GatewayNextLayer(gateway.ways.intercepts, start_hook),
            GatewayTlsConfig(self.authority, gateway.ways.upstream_tls),
            gateway,
        )

    # What `Reloading` asks.

    def compile(self, previous: Snapshot) -> Snapshot:
        """The folder's rules as the generation after `previous`."""
        number = previous.generation + 1
        return compile_rules(self._folder, self._environ, self._simulated, self.shared, number, previous=previous)

    def check(self, snapshot: Snapshot) -> None:
        """Raises ValueError for rules that would let anybody call where we listen."""
        for host, _ in self._listening():
            require_loopback(host, snapshot.rules)

    def take(self, snapshot: Snapshot) -> None:
        """The swap. Nothing here waits, so that no exchange begins under half of it."""
        assert self._gateway is not None
        tell_names(self.metrics, snapshot)
        self.warnings = (
            *snapshot.table.warnings,
            *self.authority.warnings,
            *self._uncovered(snapshot),
            *at_next_start(self._started, snapshot.rules),
        )
        for name in self.shared.turns.keys() - {route.chosen.route for route in snapshot.table.routes}:
            del self.shared.turns[name]
        self.admin.answer_to(snapshot.rules.listen.hosts)
        self.snapshot = snapshot
        self._gateway.take(snapshot, Scope.of(snapshot.rules, snapshot.intercept, self.own_addresses))

    def _uncovered(self, snapshot: Snapshot) -> tuple[str, ...]:
        new = [name for name in _signed_for(snapshot) if name not in self._covered]
        missing = constraints.uncovered(self.authority.chain, new)
        if not missing:
            return ()
        return (f"the CA may not sign for {', '.join(missing)}; clients will refuse it there: `mitmgate ca rotate`",)

    async def _reload(self) -> Outcome | None:
        """For the admin port. None: the gateway does not serve yet."""
        return await self.reloading.reload() if self.served else None

    def own_addresses(self) -> list[tuple[str, int]]:
        """Where this gateway listens, the admin port included."""
        return [*self._listening(), self._admin_address]

    def _listening(self) -> list[tuple[str, int]]:
        return [(str(address[0]), int(address[1])) for address in self._servers.listen_addrs()]

    @property
    def proxy_url(self) -> str:
        """The proxy's first listening address."""
        host, port = next(iter(self.own_addresses()))
        return _url(host, port)

    @property
    def admin_url(self) -> str:
        """The admin port's address."""
        return _url(*self._admin_address)

    def readiness(self) -> Readiness:
        """For /readyz."""
        return Readiness(
            ready=self.served,
            version=VERSION,
            ca=self.authority.fingerprint,
            rules=self.snapshot.generation,
            draining=self.shared.draining,
            warnings=(*self.reloading.warnings, *self.warnings),
        )

    async def close(self) -> None:
        """Write what is queued, close the ports."""
        await self.reloading.end()
        await asyncio.to_thread(self.records.close)
        await self.admin.stop()
        await self._simulator.stop()


def _url(host: str, port: int) -> str:
    """A URL by which a client on this machine reaches what listens there."""
    wildcard = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
    return str(Origin("http", wildcard.get(host, host), port))
