"""The interception CA against real TLS clients, hostile folders and a second process."""

import datetime
import ipaddress
import multiprocessing
import os
import ssl
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from mitmproxy import certs

from mitmgate.transport.authority import Authority, AuthorityError, CaFiles, load_or_create, prepare_confdir
from mitmgate.transport.constraints import permits, subtree_of
from mitmgate.transport.rotation import activate, rotate

HOSTS = ("api.openai.com", "*.openai.azure.com", "10.0.0.7", "*-llm.corp.example")


def shake(authority: Authority, host: str, trust: bytes, folder: Path, *, strict: bool = True) -> None:
    """A whole handshake: our leaf against Python's ssl that trusts only `trust`. Raises what the client raises."""
    entry = authority.sign([_name(host)])
    pem = folder / "leaf.pem"
    key = entry.privatekey.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(key + entry.cert.to_pem() + b"".join(one.to_pem() for one in entry.chain_certs))
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(pem)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.load_verify_locations(cadata=trust.decode())
    if strict:
        client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    while waiting:
        for side in tuple(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@pytest.fixture
def confdir(tmp_path: Path) -> Path:
    return tmp_path / "confdir"


@pytest.mark.parametrize(
    "host",
    ["api.openai.com", "x.openai.azure.com", "a.b.openai.azure.com", "10.0.0.7", "eu-llm.corp.example", "localhost",
     "127.0.0.1", "127.8.9.10", "::1"],
)
def test_a_permitted_host_is_trusted_by_a_strict_client(confdir: Path, tmp_path: Path, host: str) -> None:
    authority = load_or_create(confdir, permitted=HOSTS)
    assert authority.permits(host)
    shake(authority, host, authority.certificate_path.read_bytes(), tmp_path)


@pytest.mark.parametrize("host", ["bank.example", "openai.com", "evilopenai.azure.com", "10.0.0.8", "8.8.8.8", "::2"])
def test_a_host_outside_the_constraints_is_refused_by_openssl(confdir: Path, tmp_path: Path, host: str) -> None:
    authority = load_or_create(confdir, permitted=HOSTS)
    assert not authority.permits(host)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        shake(authority, host, authority.certificate_path.read_bytes(), tmp_path)


def test_without_its_ca_a_leaf_is_refused(confdir: Path, tmp_path: Path) -> None:
    authority = load_or_create(confdir, permitted=HOSTS)
    other = load_or_create(tmp_path / "other", permitted=HOSTS)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(authority, "api.openai.com", other.certificate_path.read_bytes(), tmp_path)


def test_a_pattern_without_a_domain_leaves_the_ca_unlimited_and_says_so(confdir: Path, tmp_path: Path) -> None:
    authority = load_or_create(confdir, permitted=["api.openai.com", "*"])
    assert any("'*'" in warning and "rotate" in warning for warning in authority.warnings)
    shake(authority, "bank.example", authority.certificate_path.read_bytes(), tmp_path)


def test_spare_hosts_are_covered_from_the_start_and_never_missed_later(confdir: Path) -> None:
    load_or_create(confdir, permitted=["api.openai.com"], spare=["api.groq.com"])
    assert load_or_create(confdir, permitted=["api.groq.com"], spare=["api.mistral.ai"]).warnings == ()


def test_hosts_that_came_later_are_named_with_the_remedy(confdir: Path) -> None:
    assert load_or_create(confdir, permitted=["api.openai.com"]).warnings == ()
    again = load_or_create(confdir, permitted=["api.openai.com", "api.groq.com", "*"])
    (warning,) = again.warnings
    assert "api.groq.com, *" in warning
    assert "mitmgate ca rotate" in warning


@pytest.mark.parametrize(
    ("pattern", "subtree"),
    [
        ("api.openai.com", "api.openai.com"),
        ("API.OpenAI.com.", "api.openai.com"),
        ("*.openai.azure.com", "openai.azure.com"),
        ("bedrock.*.amazonaws.com", "amazonaws.com"),
        ("a?i.example.com", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("10.0.0.7", ipaddress.ip_network("10.0.0.7/32")),
        ("10.1.2.3/8", ipaddress.ip_network("10.0.0.0/8")),
        ("[::1]", ipaddress.ip_network("::1/128")),
        ("*", None),
        ("api.openai.*", None),
        ("", None),
    ],
)
def test_the_subtree_of_a_pattern(pattern: str, subtree: object) -> None:
    assert subtree_of(pattern) == subtree


def test_only_the_widest_subtrees_are_written(confdir: Path) -> None:
    authority = load_or_create(confdir, permitted=["a.example.com", "*.example.com", "a.example.com", "127.0.0.1"])
    extension = authority.chain[0].extensions.get_extension_for_class(x509.NameConstraints)
    assert extension.critical
    assert [str(name.value) for name in extension.value.permitted_subtrees or ()] == [
        "example.com", "localhost", "127.0.0.0/8", "::1/128",
    ]


def test_the_same_ca_is_found_again_with_its_files_closed_to_others(confdir: Path) -> None:
    first = load_or_create(confdir, permitted=HOSTS)
    second = load_or_create(confdir, permitted=HOSTS)
    assert (first.created, second.created) == (True, False)
    assert first.fingerprint == second.fingerprint
    assert len(bytes.fromhex(first.fingerprint)) == 32
    assert confdir.stat().st_mode & 0o777 == 0o700
    assert (confdir / "mitmproxy-ca.pem").stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in first.certificate_path.read_bytes()
    left = first.expires - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=4 * 365) < left < datetime.timedelta(days=5 * 365 + 1)
    assert sorted(path.name for path in confdir.iterdir()) == [
        "mitmproxy-ca-cert.cer", "mitmproxy-ca-cert.pem", "mitmproxy-ca.pem",
    ]


def test_a_lost_public_file_is_written_again(confdir: Path) -> None:
    path = load_or_create(confdir, permitted=HOSTS).certificate_path
    whole = path.read_bytes()
    path.unlink()
    assert load_or_create(confdir, permitted=HOSTS).certificate_path.read_bytes() == whole


def test_mitmproxys_own_confdir_is_shared_and_nothing_else_in_it_is_read(confdir: Path, tmp_path: Path) -> None:
    certs.CertStore.create_store(confdir, "mitmproxy", 2048)
    (confdir / "config.yaml").write_text("ssl_insecure: true\nscripts: [/evil.py]\n")
    before = (confdir / "mitmproxy-ca-cert.pem").read_bytes()
    with pytest.raises(AuthorityError, match=f"chmod 700 {confdir}"):
        load_or_create(confdir, permitted=HOSTS)
    confdir.chmod(0o700)
    authority = load_or_create(confdir, permitted=HOSTS)
    assert authority.warnings == ()
    assert authority.certificate_path.read_bytes() == before
    assert isinstance(authority.store.default_privatekey, rsa.RSAPrivateKey)
    # mitmproxy's own root has no constraints.
    shake(authority, "bank.example", before, tmp_path)


def test_stock_mitmproxy_can_use_our_ca(confdir: Path) -> None:
    ours = load_or_create(confdir, permitted=HOSTS)
    theirs = certs.CertStore.from_store(confdir, "mitmproxy", 2048)
    assert theirs.default_ca.fingerprint().hex() == ours.fingerprint
    leaf = theirs.get_cert("api.openai.com", [x509.DNSName("api.openai.com")])
    leaf.cert.to_cryptography().verify_directly_issued_by(ours.chain[0])


# Hostile folders and files


def test_a_linked_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(AuthorityError, match="symbolic link"):
        prepare_confdir(tmp_path / "link")


@pytest.mark.parametrize("mode", [0o710, 0o701, 0o755, 0o777])
def test_an_open_folder_is_refused_with_the_command_that_closes_it(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(AuthorityError, match=f"chmod 700 {tmp_path}"):
        prepare_confdir(tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AuthorityError, match="is a file"):
        prepare_confdir(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_someone_elses_folder_or_key_is_refused(confdir: Path) -> None:
    load_or_create(confdir, permitted=HOSTS)
    os.chown(confdir / "mitmproxy-ca.pem", 12345, -1)
    with pytest.raises(AuthorityError, match="belongs to user 12345"):
        load_or_create(confdir, permitted=HOSTS)
    os.chown(confdir, 12345, -1)
    with pytest.raises(AuthorityError, match="belongs to user 12345"):
        prepare_confdir(confdir)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_an_open_key_is_refused(confdir: Path, mode: int) -> None:
    load_or_create(confdir, permitted=HOSTS)
    key = confdir / "mitmproxy-ca.pem"
    key.chmod(mode)
    with pytest.raises(AuthorityError, match=f"chmod 600 {key}"):
        load_or_create(confdir, permitted=HOSTS)


def test_a_linked_key_is_refused_even_if_it_leads_nowhere(confdir: Path, tmp_path: Path) -> None:
    prepare_confdir(confdir)
    (confdir / "mitmproxy-ca.pem").symlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(AuthorityError, match="symbolic link"):
        load_or_create(confdir, permitted=HOSTS)
    assert not (tmp_path / "elsewhere.pem").exists()


def test_a_pipe_in_place_of_the_key_does_not_hang(confdir: Path) -> None:
    prepare_confdir(confdir)
    os.mkfifo(confdir / "mitmproxy-ca.pem", 0o600)
    with pytest.raises(AuthorityError, match="not a regular file"):
        load_or_create(confdir, permitted=HOSTS)


@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_garbage_in_place_of_the_key_is_refused_and_kept(confdir: Path, content: bytes) -> None:
    prepare_confdir(confdir)
    key = confdir / "mitmproxy-ca.pem"
    key.write_bytes(content)
    key.chmod(0o600)
    with pytest.raises(AuthorityError, match="no private key"):
        load_or_create(confdir, permitted=HOSTS)
    assert key.read_bytes() == content


def test_a_huge_file_in_place_of_the_key_is_not_read(confdir: Path) -> None:
    prepare_confdir(confdir)
    key = confdir / "mitmproxy-ca.pem"
    key.touch(0o600)
    os.truncate(key, 1 << 33)
    with pytest.raises(AuthorityError, match="larger than"):
        load_or_create(confdir, permitted=HOSTS)


def test_no_ca_is_made_where_it_cannot_be_kept() -> None:
    with pytest.raises(AuthorityError, match="--confdir"):
        load_or_create(Path("/proc/mitmgate"), permitted=HOSTS)


# Two processes at once


def _start(barrier: Barrier, folder: str, answers: "multiprocessing.SimpleQueue[str]") -> None:
    barrier.wait(60)
    answers.put(load_or_create(Path(folder), permitted=HOSTS).fingerprint)


def test_processes_that_start_at_once_agree_on_one_ca(confdir: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(3), spawn.SimpleQueue()
    processes = [spawn.Process(target=_start, args=(barrier, str(confdir), answers)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(90)
        assert process.exitcode == 0
    assert {answers.get() for _ in processes} == {load_or_create(confdir, permitted=HOSTS).fingerprint}
    assert not [path for path in confdir.iterdir() if path.name.startswith(".")]


# A CA of the rules


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
    *,
    ca: bool = True,
    days: int = 365,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    above, signer = issuer or (None, key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(above.subject if above else name)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=400))
        .not_valid_after(now + datetime.timedelta(days=days))
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(not ca, False, False, False, False, ca, ca, encipher_only=False, decipher_only=False),
            critical=True,
        )
    )
    return builder.sign(signer, hashes.SHA256())


def _pem(*parts: x509.Certificate) -> bytes:
    return b"".join(part.public_bytes(serialization.Encoding.PEM) for part in parts)


type AnyKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def _key_file(path: Path, key: AnyKey, password: bytes | None = None) -> Path:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    path.chmod(0o600)
    return path


class Corporate:
    """A corporate root with an intermediate for us."""

    def __init__(self, folder: Path, *, days: int = 365) -> None:
        root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
        self.key = key
        self.root = _certificate("Corporate Root", root_key)
        self.intermediate = _certificate("Gateway CA", key, (self.root, root_key), days=days)
        self.files = CaFiles(folder / "ca.pem", _key_file(folder / "ca.key", key), (folder / "old.pem",))
        self.write(self.intermediate, self.root)

    def write(self, *chain: x509.Certificate) -> None:
        self.files.certificate.write_bytes(_pem(*chain))


def test_an_intermediate_is_sent_with_its_chain(tmp_path: Path) -> None:
    corporate = Corporate(tmp_path)
    authority = load_or_create(tmp_path / "unused", permitted=HOSTS, ca=corporate.files)
    assert authority.previous == (tmp_path / "old.pem",)
    assert authority.certificate_path == corporate.files.certificate
    assert [one.cn for one in authority.sent_chain] == ["Gateway CA"]
    assert not (tmp_path / "unused").exists()
    # The client knows the root only.
    shake(authority, "api.openai.com", _pem(corporate.root), tmp_path)


def test_a_chain_in_the_wrong_order_is_refused(tmp_path: Path) -> None:
    corporate = Corporate(tmp_path)
    corporate.write(corporate.root, corporate.intermediate)
    with pytest.raises(AuthorityError, match="put the signing CA first"):
        load_or_create(tmp_path, permitted=HOSTS, ca=corporate.files)
    corporate.write(corporate.intermediate, corporate.intermediate)
    with pytest.raises(AuthorityError, match="not signed by the certificate after it"):
        load_or_create(tmp_path, permitted=HOSTS, ca=corporate.files)


def test_a_certificate_that_is_no_ca_is_refused(tmp_path: Path) -> None:
    corporate = Corporate(tmp_path)
    corporate.write(_certificate("host", corporate.key, ca=False))
    with pytest.raises(AuthorityError, match="not a CA"):
        load_or_create(tmp_path, permitted=HOSTS, ca=corporate.files)


def test_keys_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    corporate = Corporate(tmp_path)
    _key_file(corporate.files.key, corporate.key, password=b"secret")
    with pytest.raises(AuthorityError, match="encrypted"):
        load_or_create(tmp_path, permitted=HOSTS, ca=corporate.files)
    _key_file(corporate.files.key, ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(AuthorityError, match="neither ECDSA nor RSA"):
        load_or_create(tmp_path, permitted=HOSTS, ca=corporate.files)
    corporate.files.key.chmod(0o644)
    with pytest.raises(AuthorityError, match="chmod 600"):
        load_or_create(tmp_path, permitted=HOSTS, ca=corporate.files)
    corporate.files.key.unlink()
    with pytest.raises(AuthorityError, match="cannot read"):
        load_or_create(tmp_path, permitted=HOSTS, ca=corporate.files)


@pytest.mark.parametrize(("days", "said"), [(10, "expires in"), (-1, "has expired")])
def test_a_ca_near_its_end_is_warned_of(tmp_path: Path, days: int, said: str) -> None:
    authority = load_or_create(tmp_path, permitted=HOSTS, ca=Corporate(tmp_path, days=days).files)
    (warning,) = authority.warnings
    assert said in warning


def test_a_mounted_secret_is_taken_through_its_link(tmp_path: Path) -> None:
    corporate = Corporate(tmp_path)
    (tmp_path / "..data").mkdir()
    corporate.files.key.rename(tmp_path / "..data" / "ca.key")
    corporate.files.key.symlink_to(tmp_path / "..data" / "ca.key")
    assert load_or_create(tmp_path, permitted=HOSTS, ca=corporate.files).permits("api.openai.com")


# Rotation


def _bundled(path: Path) -> list[str]:
    return [one.fingerprint(hashes.SHA256()).hex() for one in x509.load_pem_x509_certificates(path.read_bytes())]


def test_rotation_trusts_both_first_and_signs_later(confdir: Path, tmp_path: Path) -> None:
    old = load_or_create(confdir, permitted=["api.openai.com"])
    old_key = (confdir / "mitmproxy-ca.pem").read_bytes()
    step = rotate(confdir, ["api.openai.com", "api.groq.com"])
    assert not step.activated
    assert _bundled(step.bundle) == [old.fingerprint, step.fingerprint]
    assert b"PRIVATE" not in step.bundle.read_bytes()
    assert rotate(confdir, ["api.openai.com"]).fingerprint == step.fingerprint
    still = load_or_create(confdir, permitted=["api.openai.com"])
    assert still.fingerprint == old.fingerprint
    both = step.bundle.read_bytes()
    shake(still, "api.openai.com", both, tmp_path)

    done = activate(confdir)
    assert done.activated
    assert done.fingerprint == step.fingerprint
    new = load_or_create(confdir, permitted=["api.openai.com", "api.groq.com"])
    assert new.fingerprint == step.fingerprint
    assert new.warnings == ()
    assert [_bundled(path) for path in new.previous] == [[old.fingerprint]]
    assert _bundled(done.bundle) == [new.fingerprint, old.fingerprint]
    assert _bundled(new.certificate_path) == [new.fingerprint]
    shake(new, "api.groq.com", both, tmp_path)
    # The old key is nowhere any more.
    secret = old_key.split(b"-----")[2].strip()
    assert not [path for path in confdir.rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_a_next_ca_that_does_not_cover_the_hosts_of_now_is_made_anew(confdir: Path) -> None:
    load_or_create(confdir, permitted=["api.openai.com"])
    first = rotate(confdir, ["api.openai.com"])
    second = rotate(confdir, ["api.openai.com", "api.groq.com"])
    assert second.fingerprint != first.fingerprint
    assert "hand out the bundle again" in second.notes[0]


def test_rotation_steps_out_of_order_are_refused(confdir: Path) -> None:
    with pytest.raises(AuthorityError, match="no CA"):
        rotate(confdir, HOSTS)
    load_or_create(confdir, permitted=HOSTS)
    with pytest.raises(AuthorityError, match="`mitmgate ca rotate` makes it"):
        activate(confdir)


def test_a_crash_in_the_middle_of_an_activation_is_mended(confdir: Path) -> None:
    load_or_create(confdir, permitted=HOSTS)
    step = rotate(confdir, HOSTS)
    (confdir / "mitmproxy-ca-next.pem").replace(confdir / "mitmproxy-ca.pem")
    authority = load_or_create(confdir, permitted=HOSTS)
    assert _bundled(authority.certificate_path) == [step.fingerprint] == [authority.fingerprint]


@pytest.mark.parametrize(
    ("permitted", "excluded", "host", "allowed"),
    [
        ([x509.DNSName("corp.example")], None, "a.corp.example", True),
        ([x509.DNSName("corp.example")], None, "acorp.example", False),
        ([x509.DNSName("corp.example")], None, "10.0.0.1", True),
        (None, [x509.DNSName("corp.example")], "a.corp.example", False),
        (None, [x509.DNSName("corp.example")], "example", False),
        (None, [x509.IPAddress(ipaddress.ip_network("0.0.0.0/0"))], "10.0.0.1", False),
    ],
)
def test_constraints_of_a_foreign_ca_are_read(
    permitted: Sequence[x509.GeneralName] | None, excluded: Sequence[x509.GeneralName] | None, host: str, allowed: bool
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "foreign")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .add_extension(x509.NameConstraints(permitted, excluded), critical=True)
        .sign(key, hashes.SHA256())
    )
    assert permits([certificate], host) is allowed
