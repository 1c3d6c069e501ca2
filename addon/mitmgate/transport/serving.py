"""A gateway's life: its master and listening ports, and its graceful end."""

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from mitmproxy.addons import core, disable_h2c, proxyserver
from mitmproxy.options import Options
from mitmproxy.proxy.mode_specs import ProxyMode

from mitmgate.transport.house import OPTIONS, House
from mitmgate.transport.listening import require_loopback
from mitmgate.transport.master import SlimMaster
from mitmgate.transport.ports import CannotListen, hush, why_not

logger = logging.getLogger(__name__)

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_CLOSING: Final = 2.0                       # seconds for the clients' connections to end
_POLL: Final = 0.05                         # seconds between looks at the start and while draining


class Serving:
    """One running gateway on the slim master."""

    def __init__(self, house: House, confdir: Path, modes: Sequence[str]) -> None:
        """`house` is built; `modes` are mitmproxy's mode specs, none: a regular proxy."""
        self._house = house
        self._modes = tuple(modes)
        self._failed: list[str] = []        # why ports could not be had
        self._draining: asyncio.Task[None] | None = None
        options = Options(confdir=str(confdir))
        self._master = SlimMaster(options)
        self._servers = proxyserver.Proxyserver()
        next_layer, *rest = house.addons(self._servers, self._master.addons.start)
        self._master.load(core.Core(), next_layer, self._servers, disable_h2c.DisableH2C(), *rest)
        specs = [self._spec(mode) for mode in modes or ("regular",)]
        for spec in specs:
            require_loopback(ProxyMode.parse(spec).listen_host(), house.snapshot.rules)
        options.update(**OPTIONS, mode=specs)

    def _spec(self, mode: str) -> str:
        """A mode without an address listens where the rules say."""
        listen = self._house.snapshot.rules.listen.proxy
        host = f"[{listen.host}]" if ":" in listen.host else listen.host
        return mode if "@" in mode or mode.startswith("local") else f"{mode}@{host}:{listen.port}"

    async def run(self, welcome: Callable[[], None]) -> bool:
        """Serve until `stop`; False if that came first. `welcome` is called once all ports listen.

        Raises CannotListen where a port could not be had.
        """
        watching = asyncio.ensure_future(self._watch_start(welcome))
        starts = logging.getLogger(proxyserver.__name__)
        starts.addFilter(hush)
        try:
            await self._master.run()
        finally:
            watching.cancel()
            await self._close()
            starts.removeFilter(hush)
        if self._failed:
            raise CannotListen("; ".join(self._failed))
        return self._house.served

    async def _close(self) -> None:
        """Close the ports, then every client's connection: its tasks end here and not with the loop."""
        await self._servers.servers.update([])
        open_ = self._servers.connections
        for handler in list(open_.values()):
            if handler.client in handler.transports:
                handler.close_connection(handler.client)
        deadline = asyncio.get_running_loop().time() + _CLOSING
        while open_ and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - they tell nobody
            await asyncio.sleep(_POLL)

    async def _watch_start(self, welcome: Callable[[], None]) -> None:
        servers = self._servers.servers
        while not len(servers) or servers.is_updating:  # noqa: ASYNC110 - mitmproxy tells nobody
            await asyncio.sleep(_POLL)
        if all(server.is_running for server in servers):
            self._house.served = True
            welcome()
            return
        rules, folder = self._house.snapshot.rules, self._house.snapshot.folder
        self._failed = [why_not(server, rules, folder, self._modes) for server in servers if not server.is_running]
        self._master.end()

    def stop(self) -> None:
        """Drain, then end. The second call ends at once."""
        if self._draining is not None:
            self._master.end()
            return
        self._house.shared.draining = True
        self._draining = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        """What is in flight ends, within `limits.drain`."""
        shared = self._house.shared
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._house.snapshot.rules.limits.drain
        while shared.in_flight > 0 and loop.time() < deadline:  # noqa: ASYNC110 - an event would cost every exchange
            await asyncio.sleep(_POLL)
        if shared.in_flight > 0:
            logger.warning("%d exchanges were still in flight at the end of the drain", shared.in_flight)
        self._master.end()
