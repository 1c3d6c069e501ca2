"""Which layer comes next: our HTTP layer in mitmproxy's place, raw bytes for what is not decrypted.

It takes the place of mitmproxy's NextLayer addon; without it there is no layer at all, so nothing passes ungoverned.
"""

from collections.abc import Callable

from mitmproxy.addons.next_layer import NextLayer
from mitmproxy.connection import Client
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import commands, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import ClientTLSLayer, TCPLayer
from mitmproxy.proxy.layers.http import HttpLayer
from mitmproxy.proxy.layers.modes import HttpProxy, HttpUpstreamProxy, ReverseProxy
from mitmproxy.proxy.mode_specs import ReverseMode

from mitmgate.transport.layer import GatewayLayer
from mitmgate.transport.tunnels import tunnel_of


class GatewayNextLayer(NextLayer):
    """Chooses layers as mitmproxy does, but for what is not decrypted and for HTTP itself."""

    name = "nextlayer"

    def __init__(
        self,
        intercepts: Callable[[str | None, int], bool],
        start_hook: Callable[[commands.StartHook], bool] | None,
    ) -> None:
        """`intercepts`: whether a destination is decrypted; `start_hook`: see `GatewayLayer`."""
        self._intercepts = intercepts
        self._start_hook = start_hook

    def _next_layer(self, context: Context, data_client: bytes, data_server: bytes) -> layer.Layer | None:
        if self._is_raw(context, data_client, data_server):
            return TCPLayer(context, ignore=True)
        top = super()._next_layer(context, data_client, data_server)
        for each in context.layers:
            if type(each) is HttpLayer:
                each.__class__ = GatewayLayer
                each.start_hook = self._start_hook  # type: ignore[attr-defined]
        return top

    def _is_raw(self, context: Context, data_client: bytes, data_server: bytes) -> bool:
        """Whether these bytes are tunnelled as they are: not TLS, and no destination that is decrypted."""
        if len(context.layers) == 1 and isinstance(context.layers[0], HttpProxy | HttpUpstreamProxy | ReverseProxy):
            return False                    # the proxy's own protocol
        if isinstance(context.client.proxy_mode, ReverseMode) or context.client.transport_protocol != "tcp":
            return False
        if starts_like_tls_record(data_client):
            return False                    # tls_clienthello decides
        if any(isinstance(each, ClientTLSLayer) for each in context.layers) and context.client.tls_established:
            return False                    # decrypted already, so it is governed; also TLS to the proxy itself
        if tunnel := tunnel_of(context.client):
            return not tunnel.intercepted
        host, port = context.server.address[:2] if context.server.address else (None, 0)
        named = self._get_host_header(context, data_client, data_server)
        return not (self._intercepts(host, port) or self._intercepts(_name(named), port))


def _name(host_header: str | None) -> str | None:
    return host_header.rpartition(":")[0] or host_header if host_header else None


def destination(context: Context) -> tuple[str | None, int]:
    """Where a connection was meant to go: its CONNECT, or what the mode says."""
    client: Client = context.client
    if tunnel := tunnel_of(client):
        return tunnel.host, tunnel.port
    if context.server.address:
        return context.server.address[0], context.server.address[1]
    return None, 0
