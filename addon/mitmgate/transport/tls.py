"""TLS on both sides: leaf certificates for clients, verified connections to providers.

A context per leaf, not per connection: loading certificate and key into each connection is a third of a handshake's
CPU (bench/tls_handshakes.py). Toward clients OpenSSL's tickets resume by themselves; toward providers sessions are
kept here, which saves a third to a half.
"""

import ipaddress
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cachetools import LRUCache, TTLCache
from cryptography import x509
from mitmproxy import certs, connection, ctx, http, tls
from mitmproxy.addons.tlsconfig import DEFAULT_HOSTFLAGS, AppData, TlsConfig, _default_ciphers, alpn_select_callback
from mitmproxy.net import tls as net_tls
from mitmproxy.proxy import context
from mitmproxy.proxy.layers import modes, quic
from OpenSSL import SSL

from mitmgate.transport.authority import Authority

logger = logging.getLogger(__name__)

LEAVES: Final = 256                 # contexts of some 27 KiB each
LEAF_SECONDS: Final = 24 * 3600.0   # a leaf is valid for 197 days; ticket keys live as long as their context
UPSTREAM_CONTEXTS: Final = 128
SESSIONS: Final = 64
SESSION_SECONDS: Final = 3600.0     # an upstream's certificate is looked at again at least this often

_STORE_OPTIONS: Final = frozenset({"certs", "confdir", "key_size", "cert_passphrase"})
# pyOpenSSL has no public way to set the name to verify; mitmproxy goes the same way.
_openssl: Final[Any] = SSL._lib  # type: ignore[attr-defined]

_KEY_LOG_VARIABLES: Final = ("MITMPROXY_SSLKEYLOGFILE", "SSLKEYLOGFILE")

type _Stamp = tuple[tuple[int, int, int], ...]
type _SessionKey = tuple[SSL.Context, str, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """How to meet one provider. Paths of PEM files: `ca` replaces the public CAs, `client_cert` holds key and chain;
    `sni` is the name to send and to verify if it is not the address."""

    ca: str | None = None
    client_cert: str | None = None
    sni: str | None = None


class GatewayTlsConfig(TlsConfig):
    """mitmproxy's TLS addon with our CA, and with upstream verification that nothing switches off.

    mitmproxy's options for versions, ciphers and curves hold; `ssl_insecure`, `certs`, `client_certs` and `confdir` do
    not; `ssl_verify_upstream_trusted_ca` and `…_confdir` stand in where a provider has no `ca`. QUIC and DTLS are
    refused: mitmproxy gives up a connection for which no addon has made a context.
    """

    name = "tlsconfig"

    def __init__(self, authority: Authority, upstream_of: Callable[[connection.Server], UpstreamTls | None]) -> None:
        """`upstream_of`: how to meet this server; None: the public CAs, and the name it was called by."""
        self._upstream_of = upstream_of
        self._leaves: TTLCache[object, SSL.Context] = TTLCache(LEAVES, LEAF_SECONDS)
        self._upstreams: LRUCache[object, tuple[_Stamp, SSL.Context]] = LRUCache(UPSTREAM_CONTEXTS)
        # The connection, not its session: TLS 1.3 tickets come after the handshake.
        self._established: TTLCache[_SessionKey, SSL.Connection] = TTLCache(SESSIONS, SESSION_SECONDS)
        self.use(authority)

    def use(self, authority: Authority) -> None:
        """Signs with this CA from now on."""
        self.authority = authority
        self.certstore = authority.store
        self._leaves.clear()

    def running(self) -> None:
        """mitmproxy makes its store anew here; ours is given."""

    def configure(self, updated: set[str]) -> None:
        """Takes changed options in. The store's own are ignored."""
        if "ssl_insecure" in updated and ctx.options.ssl_insecure:
            logger.warning("ssl_insecure is ignored, providers are always verified; name a private CA by `ca:`")
        super().configure(set(updated) - _STORE_OPTIONS)  # type: ignore[no-untyped-call]
        self._leaves.clear()
        self._upstreams.clear()

    def request(self, flow: http.HTTPFlow) -> None:
        """mitmproxy would answer its CRL for any host here; our leaves name none."""

    def quic_start_client(self, tls_start: quic.QuicTlsData) -> None:
        """No QUIC."""

    def quic_start_server(self, tls_start: quic.QuicTlsData) -> None:
        """No QUIC: mitmproxy's own would obey `ssl_insecure`."""

    # Toward clients

    def tls_start_client(self, tls_start: tls.TlsData) -> None:
        """A connection that shows the client a leaf for the host it asked for."""
        if tls_start.ssl_conn is not None or tls_start.is_dtls:
            return
        client, server = tls_start.context.client, tls_start.context.server
        try:
            names = self._leaf_names(tls_start.context)
        except UnicodeError:
            return  # no host name: mitmproxy closes a connection without a context
        connection_ = SSL.Connection(self._leaf_context(names, client))
        # A client that speaks TLS to the proxy itself: mitmproxy has no CONNECT over HTTP/2.
        to_proxy = len(tls_start.context.layers) == 2 and isinstance(tls_start.context.layers[0], modes.HttpProxy)
        connection_.set_app_data(
            AppData(
                client_alpn=b"http/1.1" if to_proxy else client.alpn, server_alpn=server.alpn, http2=ctx.options.http2
            )
        )
        connection_.set_accept_state()
        tls_start.ssl_conn = connection_

    def get_cert(self, conn_context: context.Context) -> certs.CertStoreEntry:
        """A new leaf for this connection."""
        return self.authority.sign(self._leaf_names(conn_context))

    def _leaf_names(self, conn_context: context.Context) -> tuple[x509.GeneralName, ...]:
        """The name that the client asked for; without one, the addresses it may have meant. UnicodeError: it is none.

        One name outside the CA's constraints makes the whole leaf invalid, so those are left out if another remains.
        """
        client, server = conn_context.client, conn_context.server
        if client.sni:
            return (_general_name(client.sni),)
        hosts = [address[0] for address in (server.address, client.sockname) if address]
        fit = [host for host in hosts if self.authority.permits(host)]
        return tuple(dict.fromkeys(_general_name(host) for host in fit or hosts[:1]))

    def _leaf_context(self, names: tuple[x509.GeneralName, ...], client: connection.Client) -> SSL.Context:
        options = ctx.options
        if not client.cipher_list and options.ciphers_client:
            client.cipher_list = options.ciphers_client.split(":")
        ciphers = tuple(client.cipher_list) or _default_ciphers(net_tls.Version[options.tls_version_client_min])
        known = self._leaves.get((names, ciphers))
        if known is not None:
            return known
        for name in names:
            if not self.authority.permits(str(name.value)):
                logger.warning("the CA may not sign for %s, clients will refuse it: `mitmgate ca rotate`", name.value)
        entry = self.authority.sign(names)
        # Not mitmproxy's cached function: its contexts are shared by all hosts, this one carries a leaf.
        made: SSL.Context = net_tls.create_client_proxy_context.__wrapped__(
            method=net_tls.Method.TLS_SERVER_METHOD,
            min_version=net_tls.Version[options.tls_version_client_min],
            max_version=net_tls.Version[options.tls_version_client_max],
            cipher_list=ciphers,
            ecdh_curve=net_tls.get_curve(options.tls_ecdh_curve_client),
            chain_file=None,
            request_client_cert=options.request_client_cert,
            alpn_select_callback=alpn_select_callback,
            extra_chain_certs=self.authority.sent_chain,
            dhparams=self.certstore.dhparams,
        )
        made.use_certificate(entry.cert.to_cryptography())
        made.use_privatekey(entry.privatekey)
        made.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # tickets need none, and an unbounded one would grow
        self._leaves[names, ciphers] = made
        return made

    # Toward providers

    def tls_start_server(self, tls_start: tls.TlsData) -> None:
        """A connection that will verify the server's chain and name."""
        if tls_start.ssl_conn is not None or tls_start.is_dtls:
            return
        server, client = tls_start.conn, tls_start.context.client
        assert isinstance(server, connection.Server)
        assert server.address is not None
        upstream = self._upstream_of(server)
        if upstream is not None and upstream.sni:
            server.sni = upstream.sni
        elif not server.sni:
            # The client's name counts only where nothing but an address is known (transparent modes): it may have
            # been sent elsewhere since.
            host = server.address[0]
            server.sni = client.sni or host if _is_address(host) else host
        if not server.alpn_offers:
            server.alpn_offers = [one for one in client.alpn_offers if ctx.options.http2 or one != b"h2"]
        try:
            chosen = self.upstream_context(upstream, server.cipher_list)
            made = SSL.Connection(chosen)
            _verify_name(made, server.sni)
        except (OSError, RuntimeError, ValueError) as error:
            logger.error("no TLS to %s: %s", server.sni, error)
            return
        if server.alpn_offers:
            made.set_alpn_protos(list(server.alpn_offers))
        known = self._established.get((chosen, server.sni, tuple(server.alpn_offers)))
        session = known.get_session() if known is not None else None
        if session is not None:
            made.set_session(session)
        made.set_connect_state()
        tls_start.ssl_conn = made

    def tls_established_server(self, established: tls.TlsData) -> None:
        """Keeps the connection whose session the next one may resume: verified, with the same trust and name."""
        if (key := _session_key(established)) is not None and established.ssl_conn is not None:
            self._established[key] = established.ssl_conn

    def tls_failed_server(self, failed: tls.TlsData) -> None:
        """Forgets a session that the server did not take well."""
        if (key := _session_key(failed)) is not None:
            self._established.pop(key, None)

    def upstream_context(self, upstream: UpstreamTls | None, ciphers: object = ()) -> SSL.Context:
        """The context for a provider; made once for each pair of files, and again when one of them has changed.

        Raises OSError for a file that cannot be found, RuntimeError for one that cannot be loaded. A file that breaks
        later (half written, say) is logged, and the last good context stays. Calling it at start finds errors early
        and takes the 4 ms of loading the public CAs off the first request.
        """
        options = ctx.options
        chosen = tuple(ciphers) if isinstance(ciphers, list | tuple) else ()
        if not chosen and options.ciphers_server:
            chosen = tuple(options.ciphers_server.split(":"))
        chosen = chosen or _default_ciphers(net_tls.Version[options.tls_version_server_min])
        ca = upstream.ca if upstream else None
        client_cert = upstream.client_cert if upstream else None
        key = (ca, client_cert, chosen)
        known = self._upstreams.get(key)
        try:
            stamp = tuple(_stamp(path) for path in (ca, client_cert) if path is not None)
            if known is not None and known[0] == stamp:
                return known[1]
            made: SSL.Context = net_tls.create_proxy_server_context.__wrapped__(
                method=net_tls.Method.TLS_CLIENT_METHOD,
                min_version=net_tls.Version[options.tls_version_server_min],
                max_version=net_tls.Version[options.tls_version_server_max],
                cipher_list=chosen,
                ecdh_curve=net_tls.get_curve(options.tls_ecdh_curve_server),
                verify=net_tls.Verify.VERIFY_PEER,
                ca_path=None if ca else options.ssl_verify_upstream_trusted_confdir,
                ca_pemfile=ca or options.ssl_verify_upstream_trusted_ca,
                client_cert=client_cert,
                legacy_server_connect=False,
            )
        except (OSError, RuntimeError) as error:
            if known is None:
                raise
            logger.error("the old certificates stay in use, the new ones cannot be: %s", error)
            return known[1]
        self._upstreams[key] = (stamp, made)
        return made


def refuse_key_log() -> bool:
    """Makes sure that no TLS secret is written anywhere; True if the environment had asked for it.

    mitmproxy has read the variables at import; Python's `ssl` reads SSLKEYLOGFILE with each default context.
    """
    logging_to = net_tls.log_master_secret
    asked = logging_to is not None
    if logging_to is not None:
        logging_to.close()
    for name in _KEY_LOG_VARIABLES:
        asked |= bool(os.environ.pop(name, None))
    net_tls.log_master_secret = None
    net_tls.create_client_proxy_context.cache_clear()
    net_tls.create_proxy_server_context.cache_clear()
    return asked


def _session_key(seen: tls.TlsData) -> _SessionKey | None:
    server = seen.conn
    if seen.ssl_conn is None or not isinstance(server, connection.Server) or not server.sni:
        return None
    return seen.ssl_conn.get_context(), server.sni, tuple(server.alpn_offers)


def _stamp(path: str) -> tuple[int, int, int]:
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size, found.st_ino


def _verify_name(made: SSL.Connection, host: str) -> None:
    """Sends the name and demands it in the certificate's subjectAltName. Addresses are verified, not sent (RFC 6066).

    Raises ValueError if it is neither.
    """
    parameters = _openssl.SSL_get0_param(made._ssl)
    _openssl.X509_VERIFY_PARAM_set_hostflags(parameters, DEFAULT_HOSTFLAGS)
    try:
        packed = ipaddress.ip_address(host).packed
    except ValueError:
        name = host.rstrip(".").encode("idna")
        made.set_tlsext_host_name(name)
        done = _openssl.X509_VERIFY_PARAM_set1_host(parameters, name, len(name))
    else:
        done = _openssl.X509_VERIFY_PARAM_set1_ip(parameters, packed, len(packed))
    if done != 1:
        raise ValueError(f"not a host name to verify: {host!r}")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host.lower().encode("idna").decode())
