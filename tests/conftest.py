"""Fixtures that every test may use: scripted upstreams, gateways, certificates."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from rig.behaviours import Behaviour
from rig.corporate import CorporateProxy
from rig.gateway import Gateway, Rules
from rig.scripted import LoopThread, Upstream, server_context
from rig.starts import StartGateway, StartUpstream
from rig.wire import Wires


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    """The loop on which all scripted upstreams live."""
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    """Who signs the upstreams' certificates."""
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_pem(ca: trustme.CA) -> str:
    """That CA's certificate, for a file that a provider's `ca:` names."""
    return ca.cert_pem.bytes().decode()


def _upstreams(loop: LoopThread, ca: trustme.CA) -> Iterator[StartUpstream]:
    with ExitStack() as stack:

        def start(
            *script: Behaviour,
            tls: bool = False,
            http2: bool = False,
            names: tuple[str, ...] = (),
            client_ca: trustme.CA | None = None,
        ) -> Upstream:
            context = server_context(ca, *names, client_ca=client_ca) if tls or http2 else None
            server = Upstream(loop, *script, tls=context, http2=http2)
            stack.callback(server.close)
            return server

        yield start


def _ended_well(gateway: Gateway) -> None:
    """Whatever a test did to it: it stops when told, and no bug of ours or mitmproxy's stands in its log."""
    assert gateway.stop() == 0, gateway.log()[-3000:]
    for sign in ("Traceback", "has crashed", "gateway_error", "never retrieved", "never awaited"):
        assert sign not in gateway.errors(), f"{sign!r} in the gateway's log:\n{gateway.errors()[-5000:]}"


def _gateways(folder: Callable[[], Path]) -> Iterator[StartGateway]:
    with ExitStack() as stack:

        def start(rules: Rules, **more: Any) -> Gateway:
            gateway = Gateway(folder(), rules, **more)
            stack.callback(_ended_well, gateway)
            return gateway

        yield start


@pytest.fixture
def upstream(loop_thread: LoopThread, ca: trustme.CA) -> Iterator[StartUpstream]:
    """Starts scripted upstreams: `upstream(ok(), tls=…, http2=…)`."""
    yield from _upstreams(loop_thread, ca)


@pytest.fixture(scope="module")
def shared_upstream(loop_thread: LoopThread, ca: trustme.CA) -> Iterator[StartUpstream]:
    """The same for a whole module; tests give each its script anew."""
    yield from _upstreams(loop_thread, ca)


@pytest.fixture
def corporate_proxy(loop_thread: LoopThread) -> Iterator[CorporateProxy]:
    """A proxy that asks for a password."""
    proxy = CorporateProxy(loop_thread)
    yield proxy
    proxy.close()


@pytest.fixture
async def wires() -> AsyncIterator[Wires]:
    """Bare clients, closed with the test."""
    opened = Wires()
    yield opened
    await opened.close()


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartGateway]:
    """Starts real gateways: `gateway(rules)`."""
    yield from _gateways(lambda: tmp_path_factory.mktemp("gateway"))


@pytest.fixture(scope="module")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartGateway]:
    """The same for a whole module, because a start takes a second."""
    yield from _gateways(lambda: tmp_path_factory.mktemp("gateway"))
