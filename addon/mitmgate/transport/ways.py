"""The ways out: who may tunnel where, which address is dialled, whose certificate is trusted, which proxy is asked."""

import logging
import weakref
from collections.abc import Iterator

from mitmproxy import connection, http, tls
from mitmproxy.proxy import server_hooks
from mitmproxy.proxy.mode_specs import ReverseMode

from mitmgate.addresses import normalise_host
from mitmgate.exchange import Credential, Origin
from mitmgate.runtime import Snapshot
from mitmgate.stages.authenticate import unidentified
from mitmgate.telemetry.metrics import Metrics
from mitmgate.transport.interception import destination
from mitmgate.transport.passage import tag_of
from mitmgate.transport.plain_errors import error_response
from mitmgate.transport.proxies import proxy_authorisation
from mitmgate.transport.resolve import Resolver
from mitmgate.transport.scope import Denied, Scope
from mitmgate.transport.tls import UpstreamTls
from mitmgate.transport.tunnels import Tunnel, proxy_user, remember, tunnel_of

logger = logging.getLogger(__name__)


class Ways:
    """Decisions about connections, by the rules' `intercept:`, `tunnel:`, `egress:` and `access:`."""

    def __init__(self, snapshot: Snapshot, scope: Scope, metrics: Metrics, resolve: Resolver) -> None:
        self.metrics = metrics
        self.resolve = resolve
        self._alive: tuple[weakref.ref[Snapshot], ...] = ()
        self.take(snapshot, scope)

    def take(self, snapshot: Snapshot, scope: Scope) -> None:
        """These rules hold from now on. Older ones are still known while an exchange runs under them."""
        self.snapshot = snapshot
        self.scope = scope
        self._alive = (weakref.ref(snapshot), *(each for each in self._alive if each() is not None))

    def _snapshots(self) -> Iterator[Snapshot]:
        """The newest rules, then older ones under which an exchange still runs: its connects are to their providers."""
        return (snapshot for each in self._alive if (snapshot := each()) is not None)

    def intercepts(self, host: str | None, port: int) -> bool:
        """Whether this destination's traffic is decrypted, by the newest rules."""
        return self.scope.intercepts(host, port)

    async def open_tunnel(self, flow: http.HTTPFlow) -> None:
        """Who may tunnel, and where to; what will be decrypted is not looked up at all."""
        snapshot, scope = self.snapshot, self.scope         # a reload may come while a name is resolved
        if flow.request.is_http2:           # mitmproxy cannot carry one (it says so itself in tlsconfig)
            flow.response = error_response("not_supported", "CONNECT is not supported over HTTP/2.")
            return
        if snapshot.shared.draining:
            flow.response = error_response("draining", "The gateway is stopping.", headers={"retry-after": "1"})
            return
        if snapshot.rules.access == "keys":
            refusal = unidentified(direct=False)
            flow.response = error_response(
                refusal.code, refusal.message, status=refusal.status, headers=dict(refusal.headers)
            )
            self.metrics.tunnel("unidentified")
            return
        host, port = flow.request.host, flow.request.port
        user = proxy_user(flow.request.headers.get("proxy-authorization"))
        try:
            name = normalise_host(host)
            if scope.intercepts(name, port):
                remember(flow.client_conn, Tunnel(name, port, intercepted=True, user=user, scope=scope))
                self.metrics.tunnel("intercepted")
                return
            name = scope.check_name(host, port)
            tunnel = Tunnel(name, port, intercepted=False, proxy=self.egress(name, port), scope=scope)
            if tunnel.proxy is None:
                tunnel.address = scope.check_addresses(name, port, await self.resolve(name, port))
                await self._check_governed(tunnel.address, scope)
            remember(flow.client_conn, tunnel)
            self.metrics.tunnel("passed")
        except (Denied, ValueError) as error:
            self.metrics.tunnel("denied")
            flow.response = error_response("tunnel_denied", str(error) if isinstance(error, Denied) else "Not a host name.")
        except OSError:
            self.metrics.tunnel("unreachable")
            flow.response = error_response("upstream_unreachable", "The destination's name could not be resolved.")

    async def _check_governed(self, address: str, scope: Scope) -> None:
        """Under `tunnel: governed`, the address of an intercepted name is not to be had by another name."""
        if not scope.governed:
            return
        for name in scope.intercepted_names():
            try:
                addresses = await self.resolve(name, 443)
            except OSError:
                continue
            if address in addresses:
                raise Denied("That address belongs to a host whose traffic is governed; use its name.")

    def read_hello(self, hello: tls.ClientHelloData) -> None:
        """What no rule intercepts is tunnelled, never decrypted."""
        context = hello.context
        if isinstance(context.client.proxy_mode, ReverseMode) or (len(context.layers) <= 2 and context.server.address is None):
            return                          # the operators' own destination; TLS to the proxy itself
        host, port = destination(context)
        sni = hello.client_hello.sni
        tunnel = tunnel_of(context.client)
        scope = tunnel.scope if tunnel is not None and tunnel.scope is not None else self.scope
        if not (scope.intercepts(host, port) or scope.intercepts(sni, port)):
            if scope.governed and (not sni or _encrypted_hello(hello.client_hello)):
                self.metrics.tunnel("hidden_name")
                context.client.error = "tunnel_denied"
                hello.context.server.error = "denied: the TLS hello hides its name"
            hello.ignore_connection = True
            return
        if tunnel is not None and sni is not None:
            tunnel.misdirected = tunnel.misdirected or not _same(sni, tunnel.host)

    async def aim(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Every upstream connection passes here: its name is resolved, its address checked, and that address dialled."""
        try:
            await self._dial(data)
        except Denied as error:
            data.server.error = f"denied: {error}"
        except OSError as error:
            data.server.error = f"{error}"
        except Exception:
            logger.exception("error in server_connect")
            data.server.error = "gateway error"

    async def _dial(self, data: server_hooks.ServerConnectionHookData) -> None:
        server, client, scope = data.server, data.client, self.scope
        if server.error:                    # mitmproxy's own look for a way back to itself
            raise Denied("the gateway does not proxy to itself")
        assert server.address is not None
        host, port = server.address[0], server.address[1]
        whose = tag_of(server)
        if whose is not None:
            server.alpn_offers = (b"http/1.1",) if whose.http1_only else (b"h2", b"http/1.1")
        tunnel = tunnel_of(client)
        if whose is None and tunnel is not None and (host, port) == (tunnel.host, tunnel.port) and tunnel.address:
            address = tunnel.address        # checked when the tunnel was asked for
        else:
            addresses = await self.resolve(host, port)
            trusted = self._is_provider(whose.provider) if whose is not None else self._is_proxy(host, port)
            if trusted or isinstance(client.proxy_mode, ReverseMode) or scope.names_this_machine(host):
                address = next((each for each in addresses if not scope.is_own(each, port)), "")
                if not address:
                    raise Denied("the gateway does not proxy to itself")
            else:
                if whose is None and self.snapshot.rules.access == "keys":
                    self.metrics.tunnel("unidentified")     # socks5, transparent: nobody was asked at a CONNECT
                    raise Denied("nobody without a key may tunnel here")
                scope.check_name(host, port, plain=whose is not None and whose.origin.scheme == "http")
                address = scope.check_addresses(host, port, addresses, plain=whose is not None)
                if not scope.intercepts(host, port):
                    await self._check_governed(address, scope)
        server.address = (address, port)

    def _is_provider(self, name: str | None) -> bool:
        return any(name in snapshot.providers for snapshot in self._snapshots())

    def _is_proxy(self, host: str, port: int) -> bool:
        return any((proxy.host, proxy.port) == (host, port) for proxy, _ in self._proxies())

    def _proxies(self) -> Iterator[tuple[Origin, Credential | None]]:
        for snapshot in self._snapshots():
            if snapshot.egress is not None:
                yield snapshot.egress, snapshot.egress_credential
            for provider in snapshot.providers.values():
                if provider.proxy is not None:
                    yield provider.proxy, provider.proxy_credential

    def egress(self, host: str, port: int) -> Origin | None:
        """The corporate proxy for a destination that is no provider's."""
        return self.snapshot.egress if not self.scope.is_exempt(host, port) else None

    def authorise_proxy(self, flow: http.HTTPFlow) -> None:
        """A corporate proxy asks for its credential (RFC 9110, 11.7.1)."""
        address = flow.server_conn.address
        if address is None:
            return
        for proxy, credential in self._proxies():
            secret = credential.secret() if credential is not None else None
            if secret and (proxy.host, proxy.port) == tuple(address[:2]):
                flow.request.headers["proxy-authorization"] = proxy_authorisation(secret)
                return

    def upstream_tls(self, server: connection.Server) -> UpstreamTls | None:
        """How a provider's certificate is verified, and who we are to it."""
        whose, corporate = tag_of(server), self.snapshot.corporate_ca
        if whose is None:
            return UpstreamTls(ca=corporate) if corporate else None
        ca = whose.ca
        if ca is None and whose.provider is None and server.via is not None:
            ca = corporate                  # passed through; the corporate proxy may look into TLS, with a CA of its own
        return UpstreamTls(ca, whose.client_cert, whose.origin.host)


def _same(sni: str, host: str) -> bool:
    try:
        return normalise_host(sni) == host
    except ValueError:
        return False


def _encrypted_hello(hello: tls.ClientHello) -> bool:
    """Whether the hello carries `encrypted_client_hello` (RFC 9849)."""
    return any(kind == 0xFE0D for kind, _ in hello.extensions)
