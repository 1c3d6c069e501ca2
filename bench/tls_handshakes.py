"""What a new TLS connection costs the gateway: CPU seconds per 1,000 handshakes, ours against mitmproxy's own addon.

    python bench/tls_handshakes.py [--number 500] [--repeat 3]

Both sides run in this process over memory buffers, without network and without mitmproxy's layers; only the gateway's
side is timed (process CPU), the best of `--repeat` runs counts. Toward clients the peer is Python's `ssl` with the CA
as its trust; toward providers it is a server with an intermediate, and the public CAs are loaded beside its root.
"""

import argparse
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import certifi
import trustme
from mitmproxy import certs, connection, tls
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.proxy import context
from mitmproxy.test import taddons
from OpenSSL import SSL

from mitmgate.transport.authority import load_or_create
from mitmgate.transport.tls import GatewayTlsConfig, UpstreamTls

DOMAIN = "bench.example"


class Timer:
    """CPU seconds spent inside its `with` blocks."""

    def __init__(self) -> None:
        self.spent = 0.0

    def __enter__(self) -> None:
        self._since = time.process_time()

    def __exit__(self, *_: object) -> None:
        self.spent += time.process_time() - self._since


class Peer:
    """The other side: Python's ssl over memory buffers."""

    def __init__(self, settings: ssl.SSLContext, host: str | None, session: ssl.SSLSession | None = None) -> None:
        self.inward, self.outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.side = settings.wrap_bio(
            self.inward, self.outward, server_side=host is None, server_hostname=host, session=session
        )


def shake(ours: SSL.Connection, peer: Peer, timer: Timer) -> None:
    """The handshake and one byte from server to client, which brings the tickets of TLS 1.3."""
    done = {"ours": False, "theirs": False}
    while not all(done.values()):
        with timer, suppress(SSL.WantReadError):
            if not done["ours"]:
                ours.do_handshake()
                done["ours"] = True
        exchange(ours, peer, timer)
        with suppress(ssl.SSLWantReadError):
            if not done["theirs"]:
                peer.side.do_handshake()
                done["theirs"] = True
        exchange(ours, peer, timer)
    if peer.side.server_side:
        peer.side.write(b"x")
        exchange(ours, peer, timer)
        with timer:
            ours.recv(1)
    else:
        with timer:
            ours.send(b"x")
        exchange(ours, peer, timer)
        peer.side.read(1)


def exchange(ours: SSL.Connection, peer: Peer, timer: Timer) -> None:
    """Carries what either side has written."""
    written = peer.outward.read()
    with timer, suppress(SSL.WantReadError):
        if written:
            ours.bio_write(written)
        peer.inward.write(ours.bio_read(1 << 16))


def met(options: object, sni: str | None) -> context.Context:
    """A client connection as mitmproxy's layers hand it to the addon."""
    client = connection.Client(peername=("127.0.0.1", 50000), sockname=("127.0.0.1", 8080), timestamp_start=0)
    client.sni = sni
    return context.Context(client, options)  # type: ignore[arg-type]


@contextmanager
def addon(confdir: Path, ours: bool, ca: str | None = None) -> Iterator[tuple[TlsConfig, object]]:
    """mitmproxy's addon or ours, with the CA in that folder."""
    made = TlsConfig()
    if ours:
        authority = load_or_create(confdir, permitted=[DOMAIN])
        made = GatewayTlsConfig(authority, lambda server: UpstreamTls(ca=ca))
    with taddons.context(made) as master:
        master.configure(made, confdir=str(confdir), ssl_verify_upstream_trusted_ca=ca)
        yield made, master.options


def toward_clients(confdir: Path, ours: bool, kind: str, number: int) -> float:
    """`kind`: fresh (a new host each time), cached (one host) or resumed (one host, the client keeps its ticket)."""
    with addon(confdir, ours) as (made, options):
        settings = ssl.create_default_context(cafile=str(confdir / "mitmproxy-ca-cert.pem"))
        timer, session = Timer(), None
        for count in range(number + 1):
            if count == 1:
                timer = Timer()  # the first one makes what is then shared
            host = f"h{count if kind == 'fresh' else 0}.{DOMAIN}"
            here = met(options, host)
            start = tls.TlsData(here.client, here)
            with timer:
                made.tls_start_client(start)
            assert start.ssl_conn is not None
            peer = Peer(settings, host, session)
            shake(start.ssl_conn, peer, timer)
            assert bool(peer.side.session_reused) == (kind == "resumed" and count > 0), kind
            session = peer.side.session if kind == "resumed" else None
    return timer.spent


def toward_providers(folder: Path, ours: bool, key: trustme.KeyType, resume: bool, number: int) -> float:
    """Full handshakes, or resumed ones if `resume`."""
    root = trustme.CA(key_type=key)
    # A new name each time: mitmproxy's addon keeps its context by the file's name.
    trusted = Path(tempfile.mkdtemp(dir=folder)) / "roots.pem"
    trusted.write_bytes(Path(certifi.where()).read_bytes() + root.cert_pem.bytes())
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    root.create_child_ca(key_type=key).issue_cert(DOMAIN, key_type=key).configure_cert(settings)
    with addon(folder / "p256", ours, str(trusted)) as (made, options):
        timer = Timer()
        for count in range(number + 1):
            if count == 1:
                timer = Timer()
            start = tls.TlsData(connection.Server(address=(DOMAIN, 443)), met(options, None))
            if isinstance(made, GatewayTlsConfig) and not resume:
                made._established.clear()
            with timer:
                made.tls_start_server(start)
            assert start.ssl_conn is not None
            peer = Peer(settings, None)
            shake(start.ssl_conn, peer, timer)
            if isinstance(made, GatewayTlsConfig):
                with timer:
                    made.tls_established_server(start)
            assert bool(peer.side.session_reused) == (resume and count > 0)
    return timer.spent


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=500, help="handshakes per run (%(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of which the best counts (%(default)s)")
    asked = parser.parse_args()

    def best(run: Callable[[], float]) -> float:
        return min(run() for _ in range(asked.repeat)) / float(asked.number) * 1000

    print(f"CPU seconds per 1,000 new connections, gateway's side; {SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode()}\n")
    print(f"{'side':<10}{'addon':<11}{'key':<9}{'handshake':<12}{'CPU-s':>6}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certs.CertStore.create_store(folder / "rsa", "mitmproxy", 2048)
        (folder / "rsa").chmod(0o700)
        load_or_create(folder / "p256", permitted=[DOMAIN])
        for key in ("rsa", "p256"):
            for ours in (False, True):
                for kind in ("fresh", "cached", "resumed"):
                    spent = best(partial(toward_clients, folder / key, ours, kind, asked.number))
                    print_row("client", ours, key, kind, spent)
        for kind_of_key in (trustme.KeyType.RSA, trustme.KeyType.ECDSA):
            for ours, resume in ((False, False), (True, False), (True, True)):
                spent = best(partial(toward_providers, folder, ours, kind_of_key, resume, asked.number))
                print_row("provider", ours, kind_of_key.name.lower(), "resumed" if resume else "full", spent)


def print_row(side: str, ours: bool, key: str, handshake: str, spent: float) -> None:
    """One line of the table."""
    print(f"{side:<10}{'mitmgate' if ours else 'mitmproxy':<11}{key:<9}{handshake:<12}{spent:6.3f}", flush=True)


if __name__ == "__main__":
    main()
