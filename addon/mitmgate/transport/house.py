"""The house put together: rules, CA, simulator, admin port, records, and the addons that a mitmproxy master needs."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from mitmproxy.proxy import commands

from mitmgate.addon import Gateway
from mitmgate.console.admin import AdminServer, Readiness
from mitmgate.exchange import Origin
from mitmgate.pipeline import Pipeline
from mitmgate.providers.vendors import VENDOR_HOSTS
from mitmgate.rules.schema import Rules
from mitmgate.runtime import Shared, Snapshot, compile_rules
from mitmgate.simulator.server import Simulator
from mitmgate.telemetry.metrics import Metrics
from mitmgate.telemetry.records import RecordLog
from mitmgate.transport import http1, tuning
from mitmgate.transport.authority import Authority, CaFiles, load_or_create
from mitmgate.transport.interception import GatewayNextLayer
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
        self.shared = Shared()
        self.warnings: tuple[str, ...] = ()
        self.served = False

    async def build(self) -> None:
        """Make everything. Raises RulesError, ValueError, AuthorityError or OSError: what is wrong with rules, CA or ports."""
        self._simulator = Simulator()
        simulator = await self._simulator.start()
        self.snapshot = compile_rules(self._folder, self._environ, simulator, self.shared)
        rules, table = self.snapshot.rules, self.snapshot.table
        self.authority = self._authority(self.snapshot)
        self.warnings = (*table.warnings, *self.authority.warnings)
        routes = (*table.routes, *table.models.values())
        chosen = [route.chosen for route in routes]
        targets = [target for each in chosen for target in (*each.targets, *each.fallback)]
        self.metrics = Metrics(
            VERSION,
            known_models={target.model for target in targets if target.model} | set(table.offered),
            known_routes={each.route for each in chosen} | {"original"},
            known_providers=set(self.snapshot.providers),
        )
        self.metrics.ca_expires_at(self.authority.expires.timestamp())
        self.records = RecordLog(on_drop=self.metrics.records_dropped.inc)
        self.admin = AdminServer(self.readiness, self.metrics, hosts=rules.listen.hosts)
        self._admin_address = await self.admin.start(rules.listen.admin.host, rules.listen.admin.port)
        self.shared.doc_base = self.admin_url

    def _authority(self, snapshot: Snapshot) -> Authority:
        # `spare`: so that a vendor added to the rules later needs no new CA.
        permitted = tuple(dict.fromkeys((*snapshot.intercept, *snapshot.rules.listen.hosts)))
        return load_or_create(
            self._confdir, permitted=permitted, ca=named_ca(snapshot.rules, self._folder), spare=VENDOR_HOSTS
        )

    def addons(self, servers: Any, start_hook: Callable[[commands.StartHook], bool] | None) -> tuple[object, ...]:
        """The addons for a master whose Proxyserver is `servers`. `start_hook`: see `GatewayLayer`."""
        http1.install()
        tuning.install()
        self._servers = servers
        scope = Scope.of(self.snapshot.rules, self.snapshot.intercept, self.own_addresses)
        gateway = Gateway(self.snapshot, scope, self.metrics, self.records, self._pipeline)
        return (
            GatewayNextLayer(scope.intercepts, start_hook),
            GatewayTlsConfig(self.authority, gateway.ways.upstream_tls),
            gateway,
        )

    def own_addresses(self) -> list[tuple[str, int]]:
        """Where this gateway listens, the admin port included."""
        proxy = [(str(address[0]), int(address[1])) for address in self._servers.listen_addrs()]
        return [*proxy, self._admin_address]

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
            warnings=self.warnings,
        )

    async def close(self) -> None:
        """Write what is queued, close the ports."""
        await asyncio.to_thread(self.records.close)
        await self.admin.stop()
        await self._simulator.stop()


def _url(host: str, port: int) -> str:
    """A URL by which a client on this machine reaches what listens there."""
    wildcard = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
    return str(Origin("http", wildcard.get(host, host), port))
