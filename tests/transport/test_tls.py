"""Our TLS addon in real handshakes: leaves, resumption, verification of providers that nothing switches off."""

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme
from mitmproxy import connection, tls
from mitmproxy.net import tls as net_tls
from mitmproxy.proxy import context, layers
from mitmproxy.proxy.layers import modes
from mitmproxy.test import taddons
from OpenSSL import SSL

from mitmgate.transport.authority import Authority, CaFiles, load_or_create
from mitmgate.transport.tls import GatewayTlsConfig, UpstreamTls, refuse_key_log

HOSTS = ("api.openai.com", "*.openai.azure.com", "10.0.0.7")

type Side = ssl.SSLObject


class Bench:
    """The addon in mitmproxy's test master, with a provider that the test describes."""

    def __init__(self, authority: Authority) -> None:
        self.upstream: UpstreamTls | None = None
        self.authority = authority
        self.addon = GatewayTlsConfig(authority, lambda server: self.upstream)
        self.master = taddons.context(self.addon)

    def set(self, **options: object) -> None:
        """Changes mitmproxy's options, as the command line does."""
        self.master.configure(self.addon, **options)

    def context(self, sni: str | None = None) -> context.Context:
        client = connection.Client(peername=("127.0.0.1", 50000), sockname=("127.0.0.1", 8080), timestamp_start=0)
        client.sni = sni
        return context.Context(client, self.master.options)

    def accept(self, sni: str | None, *, proxy_layer: bool = False, server: str | None = None) -> SSL.Connection:
        """The connection for a client that names this host."""
        met = self.context(sni)
        if proxy_layer:
            modes.HttpProxy(met)
            layers.ClientTLSLayer(met)
        if server:
            met.server = connection.Server(address=(server, 443))
        data = tls.TlsData(met.client, met)
        self.addon.tls_start_client(data)
        assert data.ssl_conn is not None
        return data.ssl_conn

    def dial(self, host: str, *, sni: str | None = None, client_sni: str | None = None) -> tls.TlsData:
        """The connection to a server; `ssl_conn` is None if the addon refuses."""
        met = self.context(client_sni)
        server = connection.Server(address=(host, 443))
        server.sni = sni
        data = tls.TlsData(server, met)
        self.addon.tls_start_server(data)
        return data


def shake(ours: SSL.Connection, theirs: Side, to_theirs: ssl.MemoryBIO, from_theirs: ssl.MemoryBIO) -> None:
    """Both sides until done; raises what either raises."""
    waiting = {"ours", "theirs"}
    for _ in range(20):
        for side, wants in ((ours, SSL.WantReadError), (theirs, ssl.SSLWantReadError)):
            name = "ours" if side is ours else "theirs"
            if name in waiting:
                try:
                    side.do_handshake()
                    waiting.discard(name)
                except wants:
                    pass
            _carry(ours, to_theirs, from_theirs)
        if not waiting:
            return
    raise AssertionError(f"no end: {waiting}")


def _carry(ours: SSL.Connection, to_theirs: ssl.MemoryBIO, from_theirs: ssl.MemoryBIO) -> None:
    if sent := from_theirs.read():
        ours.bio_write(sent)
    with suppress(SSL.WantReadError):
        to_theirs.write(ours.bio_read(1 << 16))


def as_client(
    bench: Bench, ours: SSL.Connection, host: str, *, trust: bytes | None = None, session: ssl.SSLSession | None = None,
    settings: ssl.SSLContext | None = None,
) -> Side:
    """Python's client, strict, trusting our CA only."""
    settings = settings or client_settings(bench, trust)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = settings.wrap_bio(incoming, outgoing, server_hostname=host, session=session)
    shake(ours, theirs, incoming, outgoing)
    # TLS 1.3 tickets ride in front of the first data.
    ours.send(b"x")
    _carry(ours, incoming, outgoing)
    assert theirs.read(1) == b"x"
    return theirs


def client_settings(bench: Bench, trust: bytes | None = None) -> ssl.SSLContext:
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    settings.load_verify_locations(cadata=(trust or bench.authority.certificate_path.read_bytes()).decode())
    settings.verify_flags |= ssl.VERIFY_X509_STRICT
    settings.set_alpn_protocols(["h2", "http/1.1"])
    return settings


class Upstream:
    """A provider's TLS server in memory."""

    def __init__(self, folder: Path, *hosts: str) -> None:
        self.root = trustme.CA()
        self.ca = folder / "upstream-ca.pem"
        self.root.cert_pem.write_to_path(str(self.ca))
        self.settings = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.settings.set_alpn_protocols(["h2", "http/1.1"])
        self.root.issue_cert(*hosts).configure_cert(self.settings)

    def serve(self, bench: Bench, data: tls.TlsData) -> Side:
        """Handshake and one byte; tells the addon of the outcome as mitmproxy does."""
        assert data.ssl_conn is not None
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        theirs = self.settings.wrap_bio(incoming, outgoing, server_side=True)
        try:
            shake(data.ssl_conn, theirs, incoming, outgoing)
        except (SSL.Error, ssl.SSLError):
            bench.addon.tls_failed_server(data)
            raise
        bench.addon.tls_established_server(data)
        theirs.write(b"x")
        _carry(data.ssl_conn, incoming, outgoing)
        assert data.ssl_conn.recv(1) == b"x"
        return theirs


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return load_or_create(tmp_path_factory.mktemp("ca") / "confdir", permitted=HOSTS)


@pytest.fixture
def bench(authority: Authority) -> Iterator[Bench]:
    made = Bench(authority)
    with made.master:
        yield made


def _altnames(side: Side) -> list[str]:
    found = side.getpeercert()
    assert found
    return [str(one[1]) for one in found["subjectAltName"]]


# Toward clients


@pytest.mark.parametrize("host", ["api.openai.com", "x.openai.azure.com", "localhost"])
def test_a_strict_client_accepts_the_leaf_for_its_host(bench: Bench, host: str) -> None:
    theirs = as_client(bench, bench.accept(host), host)
    assert _altnames(theirs) == [host]
    assert theirs.version() == "TLSv1.3"
    assert theirs.selected_alpn_protocol() == "h2"


def test_http2_option_and_the_servers_protocol_hold(bench: Bench) -> None:
    bench.set(http2=False)
    assert as_client(bench, bench.accept("localhost"), "localhost").selected_alpn_protocol() == "http/1.1"


def test_a_client_that_speaks_tls_to_the_proxy_itself_gets_http1(bench: Bench) -> None:
    theirs = as_client(bench, bench.accept("localhost", proxy_layer=True), "localhost")
    assert theirs.selected_alpn_protocol() == "http/1.1"


def test_without_sni_the_leaf_is_for_the_address_that_was_called(bench: Bench) -> None:
    assert _altnames(as_client(bench, bench.accept(None), "127.0.0.1")) == ["127.0.0.1"]
    # A tunnel to an address; our own socket's is permitted too.
    assert _altnames(as_client(bench, bench.accept(None, server="10.0.0.7"), "10.0.0.7")) == ["10.0.0.7", "127.0.0.1"]
    # An address outside the constraints would make the whole leaf invalid.
    assert _altnames(as_client(bench, bench.accept(None, server="192.0.2.1"), "127.0.0.1")) == ["127.0.0.1"]


def test_the_servers_name_does_not_slip_into_the_leaf(bench: Bench) -> None:
    theirs = as_client(bench, bench.accept("api.openai.com", server="elsewhere.example"), "api.openai.com")
    assert _altnames(theirs) == ["api.openai.com"]


def test_a_host_outside_the_constraints_is_refused_by_the_client_and_logged(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        as_client(bench, bench.accept("bank.example"), "bank.example")
    assert "bank.example" in caplog.text
    assert "mitmgate ca rotate" in caplog.text


@pytest.mark.parametrize("sni", ["a" * 64 + ".example", "..", "a..b"])
def test_a_name_that_is_none_gets_no_context(bench: Bench, sni: str) -> None:
    met = bench.context(sni)
    data = tls.TlsData(met.client, met)
    bench.addon.tls_start_client(data)
    assert data.ssl_conn is None


def test_a_leaf_is_signed_once_per_host_and_the_number_is_bounded(bench: Bench) -> None:
    first, second = bench.accept("api.openai.com"), bench.accept("api.openai.com")
    assert first.get_context() is second.get_context()
    for number in range(300):
        bench.accept(f"h{number}.openai.azure.com")
    assert len(bench.addon._leaves) == 256
    assert bench.accept("api.openai.com").get_context() is not first.get_context()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_keeps_its_ticket_resumes(bench: Bench, version: ssl.TLSVersion) -> None:
    settings = client_settings(bench)
    settings.minimum_version = settings.maximum_version = version
    first = as_client(bench, bench.accept("api.openai.com"), "api.openai.com", settings=settings)
    again = as_client(bench, bench.accept("api.openai.com"), "api.openai.com", settings=settings, session=first.session)
    assert (first.session_reused, again.session_reused) == (False, True)


def test_a_ticket_is_good_for_its_own_host_only(bench: Bench) -> None:
    settings = client_settings(bench)
    first = as_client(bench, bench.accept("api.openai.com"), "api.openai.com", settings=settings)
    other = as_client(bench, bench.accept("localhost"), "localhost", settings=settings, session=first.session)
    assert not other.session_reused


def test_another_authority_signs_at_once(bench: Bench, tmp_path: Path) -> None:
    old = bench.accept("api.openai.com")
    bench.authority = load_or_create(tmp_path / "next", permitted=HOSTS)
    bench.addon.use(bench.authority)
    assert bench.accept("api.openai.com").get_context() is not old.get_context()
    as_client(bench, bench.accept("api.openai.com"), "api.openai.com")


def test_an_intermediate_travels_with_the_leaf(tmp_path: Path) -> None:
    root = trustme.CA()
    middle = root.create_child_ca()
    files = CaFiles(tmp_path / "ca.pem", tmp_path / "ca.key")
    files.certificate.write_bytes(middle.cert_pem.bytes() + root.cert_pem.bytes())
    files.key.write_bytes(middle.private_key_pem.bytes())
    files.key.chmod(0o600)
    bench = Bench(load_or_create(tmp_path, permitted=HOSTS, ca=files))
    with bench.master:
        theirs = as_client(bench, bench.accept("api.openai.com"), "api.openai.com", trust=root.cert_pem.bytes())
        assert theirs.cipher() is not None


def test_no_store_is_made_from_a_confdir(bench: Bench, tmp_path: Path) -> None:
    bench.set(confdir=str(tmp_path / "conf"))
    bench.addon.running()
    assert bench.addon.certstore is bench.authority.store
    assert not (tmp_path / "conf").exists()


def test_an_unknown_curve_is_still_refused(bench: Bench) -> None:
    with pytest.raises(Exception, match="Invalid ECDH curve"):
        bench.set(tls_ecdh_curve_client="nonsense")


# Toward providers


def test_a_provider_is_verified_by_its_ca_and_name(bench: Bench, tmp_path: Path) -> None:
    upstream = Upstream(tmp_path, "up.example")
    bench.upstream = UpstreamTls(ca=str(upstream.ca))
    data = bench.dial("up.example", client_sni="api.openai.com")
    upstream.serve(bench, data)
    assert data.conn.sni == "up.example"


def test_a_certificate_of_the_public_cas_is_demanded_without_one(bench: Bench, tmp_path: Path) -> None:
    upstream = Upstream(tmp_path, "up.example")
    for bench.upstream in (None, UpstreamTls()):
        with pytest.raises(SSL.Error, match="certificate verify failed"):
            upstream.serve(bench, bench.dial("up.example"))


def test_a_private_ca_replaces_the_public_ones(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    bench.upstream = UpstreamTls(ca=str(Upstream(tmp_path / "a", "up.example").ca))
    with pytest.raises(SSL.Error, match="certificate verify failed"):
        Upstream(tmp_path / "b", "up.example").serve(bench, bench.dial("up.example"))
    assert bench.addon.upstream_context(bench.upstream).get_cert_store() is not None


@pytest.mark.parametrize("host", ["other.example", "up.example.evil.test", "127.0.0.2"])
def test_a_wrong_name_is_refused(bench: Bench, tmp_path: Path, host: str) -> None:
    upstream = Upstream(tmp_path, "up.example", "127.0.0.1")
    bench.upstream = UpstreamTls(ca=str(upstream.ca))
    with pytest.raises(SSL.Error, match="certificate verify failed"):
        upstream.serve(bench, bench.dial(host))


def test_an_address_and_a_name_of_the_rules_are_verified(bench: Bench, tmp_path: Path) -> None:
    upstream = Upstream(tmp_path, "up.example", "127.0.0.1")
    bench.upstream = UpstreamTls(ca=str(upstream.ca))
    upstream.serve(bench, bench.dial("127.0.0.1"))
    bench.upstream = UpstreamTls(ca=str(upstream.ca), sni="up.example")
    data = bench.dial("192.0.2.1", sni="ignored.example")
    upstream.serve(bench, data)
    assert data.conn.sni == "up.example"


def test_the_clients_name_counts_only_where_nothing_but_an_address_is_known(bench: Bench) -> None:
    assert bench.dial("192.0.2.1", client_sni="api.openai.com").conn.sni == "api.openai.com"
    assert bench.dial("192.0.2.1").conn.sni == "192.0.2.1"
    assert bench.dial("up.example", client_sni="api.openai.com").conn.sni == "up.example"
    assert bench.dial("192.0.2.1", sni="up.example", client_sni="api.openai.com").conn.sni == "up.example"
    bench.upstream = UpstreamTls(sni="two.example")
    assert bench.dial("192.0.2.1", sni="up.example", client_sni="api.openai.com").conn.sni == "two.example"


def test_nothing_switches_verification_off(bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    upstream = Upstream(tmp_path, "up.example")
    bench.set(ssl_insecure=True)
    assert "ssl_insecure is ignored" in caplog.text
    with pytest.raises(SSL.Error, match="certificate verify failed"):
        upstream.serve(bench, bench.dial("up.example"))


def test_protocols_that_would_escape_get_no_context(bench: Bench) -> None:
    met = bench.context()
    met.server = connection.Server(address=("up.example", 443), transport_protocol="udp")
    for conn, start in ((met.client, bench.addon.tls_start_client), (met.server, bench.addon.tls_start_server)):
        data = tls.TlsData(conn, met, is_dtls=True)
        start(data)
        assert data.ssl_conn is None
    quic = layers.quic.QuicTlsData(met.server, met)
    bench.addon.quic_start_server(quic)
    bench.addon.quic_start_client(quic)
    assert quic.settings is None


def test_a_client_certificate_is_shown_to_its_provider(bench: Bench, tmp_path: Path) -> None:
    upstream = Upstream(tmp_path, "up.example")
    clients = trustme.CA()
    clients.configure_trust(upstream.settings)
    upstream.settings.verify_mode = ssl.CERT_REQUIRED
    upstream.settings.maximum_version = ssl.TLSVersion.TLSv1_2  # TLS 1.3 would refuse only after our side is done
    own = tmp_path / "me.pem"
    clients.issue_cert("gateway@corp.example").private_key_and_cert_chain_pem.write_to_path(str(own))
    bench.upstream = UpstreamTls(ca=str(upstream.ca), client_cert=str(own))
    theirs = upstream.serve(bench, bench.dial("up.example"))
    assert theirs.getpeercert()
    bench.upstream = UpstreamTls(ca=str(upstream.ca))
    with pytest.raises(ssl.SSLError):
        upstream.serve(bench, bench.dial("up.example"))


def test_a_changed_file_is_taken_and_a_broken_one_is_not(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old, new = Upstream(tmp_path / "old", "up.example"), Upstream(tmp_path / "new", "up.example")
    bench.upstream = UpstreamTls(ca=str(old.ca))
    old.serve(bench, bench.dial("up.example"))
    first = bench.addon.upstream_context(bench.upstream)
    assert bench.addon.upstream_context(bench.upstream) is first
    new.ca.replace(old.ca)
    new.serve(bench, bench.dial("up.example"))
    second = bench.addon.upstream_context(bench.upstream)
    assert second is not first
    old.ca.write_text("half writ")
    assert bench.addon.upstream_context(bench.upstream) is second
    old.ca.unlink()
    assert bench.addon.upstream_context(bench.upstream) is second
    assert "stay in use" in caplog.text


def test_missing_files_leave_no_connection(bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench.upstream = UpstreamTls(ca=str(tmp_path / "none.pem"))
    assert bench.dial("up.example").ssl_conn is None
    assert "none.pem" in caplog.text
    (tmp_path / "garbage.pem").write_text("garbage")
    bench.upstream = UpstreamTls(client_cert=str(tmp_path / "garbage.pem"))
    assert bench.dial("up.example").ssl_conn is None


def test_offers_are_the_ones_set_or_the_clients(bench: Bench, tmp_path: Path) -> None:
    upstream = Upstream(tmp_path, "up.example")
    bench.upstream = UpstreamTls(ca=str(upstream.ca))
    met = bench.context()
    server = connection.Server(address=("up.example", 443))
    server.alpn_offers = (b"http/1.1",)
    data = tls.TlsData(server, met)
    bench.addon.tls_start_server(data)
    assert upstream.serve(bench, data).selected_alpn_protocol() == "http/1.1"


# Resumption toward providers


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        # OpenSSL drops a 1.2 session with the first connection that used it and was freed without a shutdown, which
        # mitmproxy never does; 1.3 gives each connection sessions of its own.
        (ssl.TLSVersion.TLSv1_2, [False, True]),
        (ssl.TLSVersion.TLSv1_3, [False, True, True, True, True]),
    ],
)
def test_the_next_connection_to_a_provider_resumes(
    bench: Bench, tmp_path: Path, version: ssl.TLSVersion, expected: list[bool]
) -> None:
    upstream = Upstream(tmp_path, "up.example")
    upstream.settings.minimum_version = upstream.settings.maximum_version = version
    bench.upstream = UpstreamTls(ca=str(upstream.ca))
    reused = [upstream.serve(bench, bench.dial("up.example")).session_reused for _ in expected]
    assert reused == expected


def test_another_name_or_trust_does_not_resume(bench: Bench, tmp_path: Path) -> None:
    upstream = Upstream(tmp_path, "up.example", "two.example")
    bench.upstream = UpstreamTls(ca=str(upstream.ca))
    upstream.serve(bench, bench.dial("up.example"))
    assert not upstream.serve(bench, bench.dial("two.example")).session_reused
    # The same server under the public CAs: a resumed session would not be verified again.
    bench.upstream = None
    with pytest.raises(SSL.Error, match="certificate verify failed"):
        upstream.serve(bench, bench.dial("up.example"))


def test_a_refused_certificate_leaves_nothing_to_resume(bench: Bench, tmp_path: Path) -> None:
    upstream = Upstream(tmp_path, "other.example")
    upstream.settings.maximum_version = ssl.TLSVersion.TLSv1_2
    bench.upstream = UpstreamTls(ca=str(upstream.ca))
    for _ in range(3):
        with pytest.raises(SSL.Error, match="certificate verify failed"):
            upstream.serve(bench, bench.dial("up.example"))
    assert len(bench.addon._established) == 0


# Key log


def test_the_key_log_is_refused(tmp_path: Path) -> None:
    """In a process of its own: mitmproxy reads the variable at import."""
    log = tmp_path / "keys.log"
    script = """
import os, ssl, sys
from mitmproxy.net import tls
from mitmgate.transport.tls import refuse_key_log
assert tls.log_master_secret is not None
assert refuse_key_log() is True
assert tls.log_master_secret is None
assert ssl.create_default_context().keylog_filename is None
assert refuse_key_log() is False
"""
    for variable in ("SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE"):
        asking = {**os.environ, variable: str(log)}
        done = subprocess.run([sys.executable, "-c", script], env=asking, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    assert not log.exists()


def test_contexts_made_after_the_refusal_log_nothing(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "keys.log"
    monkeypatch.setattr(net_tls, "log_master_secret", net_tls.MasterSecretLogger(log))
    as_client(bench, bench.accept("localhost"), "localhost")
    assert log.exists()  # else this test could not fail
    written = log.stat().st_size
    assert refuse_key_log()
    bench.addon.use(bench.authority)
    as_client(bench, bench.accept("localhost"), "localhost")
    assert log.stat().st_size == written
