"""Putting the gateway together: rules, CA, simulator, admin port and the master; its start and its graceful end."""

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from mitmproxy.addons import core, disable_h2c, proxyserver
from mitmproxy.options import Options

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
from mitmgate.transport import http1
from mitmgate.transport.authority import Authority, CaFiles, load_or_create
from mitmgate.transport.interception import GatewayNextLayer
from mitmgate.transport.master import SlimMaster
from mitmgate.transport.scope import Scope
from mitmgate.transport.tls import GatewayTlsConfig
from mitmgate.version import VERSION

logger = logging.getLogger(__name__)

OPTIONS: Final[Mapping[str, object]] = {
    "connection_strategy": "lazy",          # else the original host is dialled before any rule has run
    "upstream_cert": False,                 # else it is asked for its certificate
    "rawtcp": False,                        # else a CRLF before a request makes it raw TCP, unseen
    "validate_inbound_headers": True,       # request smuggling
    "http3": False,
}
"""mitmproxy's options that the gateway depends on."""


_POLL: Final = 0.05                         # seconds between looks while draining

def named_ca(rules: Rules, folder: Path) -> CaFiles | None:
    """The CA that the rules name, with paths from their folder."""
    ca = rules.ca
    if ca is None or not ca.certificate or not ca.key:
        return None
    return CaFiles(folder / ca.certificate, folder / ca.key, tuple(folder / each for each in ca.previous))


class House:
    """One gateway process."""

    signals = (signal.SIGTERM, signal.SIGINT)

    def __init__(
        self,
        rules: Path,
        confdir: Path,
        modes: Sequence[str],
        environ: Mapping[str, str],
        pipeline: Pipeline | None = None,
    ) -> None:
        self._rules_folder = rules
        self._confdir = confdir
        self._modes = modes
        self._environ = environ
        self._pipeline = pipeline
        self.shared = Shared()
        self.warnings: tuple[str, ...] = ()
        self.served = False
        self._drained: asyncio.Task[None] | None = None

    async def build(self) -> None:
        """Make everything but the listening ports of the proxy. Raises what is wrong with rules, CA or ports."""
        self._simulator = Simulator()
        simulator = await self._simulator.start()
        self.snapshot = compile_rules(self._rules_folder, self._environ, simulator, self.shared)
        rules = self.snapshot.rules
        self.authority = self._authority(self.snapshot)
        self.warnings = (*self.snapshot.table.warnings, *self.authority.warnings)
        table = self.snapshot.table
        targets = [t for route in (*table.routes, *table.models.values()) for t in (*route.targets, *route.fallback)]
        self.metrics = Metrics(
            VERSION,
            known_models={target.model for target in targets if target.model} | set(table.offered),
            known_routes={route.name for route in (*table.routes, *table.models.values())} | {"original"},
            known_providers=set(self.snapshot.providers),
        )
        self.metrics.ca_expires_at(self.authority.expires.timestamp())
        self.records = RecordLog(on_drop=self.metrics.records_dropped.inc)
        self.admin = AdminServer(self.readiness, self.metrics, hosts=rules.listen.hosts)
        self._admin_address = await self.admin.start(rules.listen.admin.host, rules.listen.admin.port)
        self.shared.doc_base = self.admin_url
        self._assemble()

    def _authority(self, snapshot: Snapshot) -> Authority:
        files = named_ca(snapshot.rules, self._rules_folder)
        # `spare`: so that a vendor added to the rules later needs no new CA.
        permitted = tuple(dict.fromkeys((*snapshot.intercept, *snapshot.rules.listen.hosts)))
        return load_or_create(self._confdir, permitted=permitted, ca=files, spare=VENDOR_HOSTS)

    def _assemble(self) -> None:
        http1.install()
        options = Options(confdir=str(self._confdir))
        self.master = SlimMaster(options)
        self._servers = proxyserver.Proxyserver()
        scope = Scope.of(self.snapshot.rules, self.snapshot.intercept, self.own_addresses)
        gateway = self.gateway = Gateway(self.snapshot, scope, self.metrics, self.records, self._pipeline)
        self.master.load(
            core.Core(),
            GatewayNextLayer(scope.intercepts, self.master.addons.start),
            self._servers,
            GatewayTlsConfig(self.authority, gateway.ways.upstream_tls),
            disable_h2c.DisableH2C(),
            gateway,
        )
        options.update(**OPTIONS, mode=[self._mode(mode) for mode in self._modes or ("regular",)])

    def _mode(self, mode: str) -> str:
        """A mode without an address listens where the rules say."""
        listen = self.snapshot.rules.listen.proxy
        host = f"[{listen.host}]" if ":" in listen.host else listen.host
        return mode if "@" in mode or mode.startswith("local") else f"{mode}@{host}:{listen.port}"

    def own_addresses(self) -> list[tuple[str, int]]:
        """Where this gateway listens, the admin port and the simulator's included."""
        proxy = [(str(address[0]), int(address[1])) for address in self._servers.listen_addrs()]
        return [*proxy, self._admin_address]

    @property
    def proxy_url(self) -> str:
        """The first listening address of the proxy."""
        addresses = self._servers.listen_addrs()
        host, port = addresses[0][:2] if addresses else (self.snapshot.rules.listen.proxy.host, 0)
        return str(Origin("http", {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port))  # noqa: S104

    @property
    def admin_url(self) -> str:
        """The admin port's address."""
        host, port = self._admin_address
        return str(Origin("http", {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port))  # noqa: S104

    @property
    def certificate(self) -> Path:
        """The CA's certificate, for clients to trust."""
        return self.authority.certificate_path

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

    async def run(self, welcome: Callable[[], None]) -> None:
        """Serve until `stop`; `served` stays False if a port could not be had."""
        watching = asyncio.ensure_future(self._watch_start(welcome))
        try:
            await self.master.run()
        finally:
            watching.cancel()
            await asyncio.to_thread(self.records.close)
            await self.admin.stop()
            await self._simulator.stop()

    async def _watch_start(self, welcome: Callable[[], None]) -> None:
        while not len(self._servers.servers) or self._servers.servers.is_updating:  # noqa: ASYNC110 - mitmproxy tells nobody
            await asyncio.sleep(_POLL)
        if all(server.is_running for server in self._servers.servers):
            self.served = True
            welcome()
        else:
            for server in self._servers.servers:
                if server.last_exception is not None:
                    logger.error("%s", server.last_exception)
            self.master.end()

    def stop(self) -> None:
        """Drain, then end. The second call ends at once."""
        if self._drained is not None:
            self.master.end()
            return
        self.shared.draining = True
        self._drained = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        """What is in flight ends, within `limits.drain`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.snapshot.rules.limits.drain
        while self.shared.in_flight > 0 and loop.time() < deadline:  # noqa: ASYNC110 - an event would cost every exchange
            await asyncio.sleep(_POLL)
        if self.shared.in_flight > 0:
            logger.warning("%d exchanges were still in flight at the end of the drain", self.shared.in_flight)
        self.master.end()
