"""The interception CA: made once in its own confdir, or named by the rules; which hosts it may sign for.

The files have mitmproxy's names, so that `--confdir ~/.mitmproxy` shares mitmproxy's own CA and stock mitmproxy can use
ours. Ours is name-constrained and P-256. Nothing else in the confdir is read (see `transport.confdir`).
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from mitmproxy import certs

from mitmgate.transport import confdir as files
from mitmgate.transport import constraints
from mitmgate.transport.confdir import AuthorityError, prepare_confdir

__all__ = ["Authority", "AuthorityError", "CaFiles", "load_or_create", "prepare_confdir"]

KEY_FILE: Final = "mitmproxy-ca.pem"                    # private key and certificate (chain after it)
CERTIFICATE_FILE: Final = "mitmproxy-ca-cert.pem"       # what clients trust
CERTIFICATE_COPY: Final = "mitmproxy-ca-cert.cer"       # the same for systems that go by the ending
PREVIOUS_DIR: Final = "previous"                        # certificates that some clients still trust, see `rotation`

LIFETIME: Final = datetime.timedelta(days=5 * 365)
BACKDATED: Final = datetime.timedelta(days=2)           # for clients whose clock is behind, as mitmproxy does
EXPIRY_WARNING: Final = datetime.timedelta(days=30)

type SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class CaFiles:
    """`ca:` of the rules: a certificate (its chain after it in the file), its key, certificates still to be trusted."""

    certificate: Path
    key: Path
    previous: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Authority:
    """A CA that signs leaf certificates. `chain`: the signing certificate first, then those above it."""

    store: certs.CertStore
    certificate_path: Path
    chain: tuple[x509.Certificate, ...]
    previous: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    created: bool = False

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the signing certificate, lower-case hex."""
        return fingerprint_of(self.chain[0])

    @property
    def expires(self) -> datetime.datetime:
        """When the first certificate of the chain expires, in UTC."""
        return min(certificate.not_valid_after_utc for certificate in self.chain)

    @property
    def sent_chain(self) -> tuple[certs.Cert, ...]:
        """What goes to clients after the leaf: all but roots, which they have or do not trust."""
        return tuple(certs.Cert(one) for one in self.chain if one.subject != one.issuer)

    def permits(self, host: str) -> bool:
        """Whether clients can accept a leaf for this name or IP address."""
        return constraints.permits(self.chain, host)

    def sign(self, names: Sequence[x509.GeneralName]) -> certs.CertStoreEntry:
        """A new leaf for these names. Past the store, whose cache costs 1.4 ms for each leaf beyond its 100 entries."""
        first = names[0]
        leaf = certs.dummy_cert(
            self.store.default_privatekey,
            self.chain[0],
            # An address as common name would be measured by the DNS constraints (OpenSSL's NAME_CONSTRAINTS_check_CN).
            first.value if isinstance(first, x509.DNSName) else None,
            names,
            organization="mitmgate",
        )
        return certs.CertStoreEntry(leaf, self.store.default_privatekey, None, list(self.sent_chain))


def load_or_create(
    confdir: Path, *, permitted: Sequence[str], ca: CaFiles | None = None, spare: Sequence[str] = ()
) -> Authority:
    """The CA that the rules name, else the one in the confdir, made there if there is none.

    `permitted`: host patterns that it must sign for; a CA that may not is warned of. `spare`: more that a new one may
    sign for, so that rules can grow without a new CA. Raises AuthorityError where files are missing, unfit or open to
    others, and where a CA would have to be made in a folder that is not writable.
    """
    if ca is not None:
        named = files.read_public(ca.certificate)
        key = private_key_in(files.read_named_key(ca.key), ca.key)
        chain = chain_of(named, ca.certificate, key)
        return _authority(key, chain, ca.certificate, ca.previous, permitted, advice="have it signed again for them")
    confdir = prepare_confdir(confdir)
    path = confdir / KEY_FILE
    created = False
    warned: tuple[str, ...] = ()
    if not path.exists() and not path.is_symlink():
        content, unlimited = new_ca([*permitted, *spare])
        created = files.create_private(path, content)
        warned = unlimited if created else ()
    raw = files.read_private(path)
    key = private_key_in(raw, path)
    chain = chain_of(raw, path, key)
    public = publish(confdir, chain)
    previous = tuple(sorted((confdir / PREVIOUS_DIR).glob("*.pem")))
    advice = "run `mitmgate ca rotate`"
    return _authority(key, chain, public, previous, permitted, advice=advice, more=warned, created=created)


def _authority(
    key: SigningKey,
    chain: tuple[x509.Certificate, ...],
    path: Path,
    previous: tuple[Path, ...],
    permitted: Sequence[str],
    *,
    advice: str,
    more: tuple[str, ...] = (),
    created: bool = False,
) -> Authority:
    warnings = list(more)
    if missing := constraints.uncovered(chain, permitted):
        warnings.append(f"the CA {path} may not sign for {', '.join(missing)}; clients will refuse it there: {advice}")
    # mitmproxy's annotation says RSA; its code takes any key. No CRL and no DH parameters: neither is ever served.
    store = certs.CertStore(key, certs.Cert(chain[0]), None, b"", certs.DHParams(b""))  # type: ignore[arg-type]
    authority = Authority(store, path, chain, previous, (), created)
    left = authority.expires - datetime.datetime.now(datetime.UTC)
    if left < EXPIRY_WARNING:
        state = "has expired" if left < datetime.timedelta() else f"expires in {left.days} days"
        warnings.append(f"the CA {path} {state} ({authority.expires:%Y-%m-%d}): {advice}")
    return Authority(store, path, chain, previous, tuple(warnings), created)


def new_ca(permitted: Sequence[str]) -> tuple[bytes, tuple[str, ...]]:
    """Key and certificate as PEM, and warnings."""
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    now = datetime.datetime.now(datetime.UTC)
    # Old and new differ by name: some clients choose an issuer by name alone.
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"mitmgate CA {now:%Y-%m-%d} {identifier.digest.hex()[:8]}"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "mitmgate"),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .subject_name(name)
        .issuer_name(name)
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFETIME)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_SIGNS_CERTIFICATES, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
    )
    limits, warnings = constraints.name_constraints(permitted)
    if limits is not None:
        builder = builder.add_extension(limits, critical=True)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + to_pem(builder.sign(key, hashes.SHA256())), warnings


_SIGNS_CERTIFICATES: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def private_key_in(raw: bytes, path: Path) -> SigningKey:
    try:
        key = serialization.load_pem_private_key(raw, None)
    except TypeError:
        raise AuthorityError(
            f"the key in {path} is encrypted and nobody is there to type its passphrase: store it in clear, mode 0600"
        ) from None
    except ValueError:
        raise AuthorityError(f"{path} holds no private key in PEM form") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise AuthorityError(f"the key in {path} is neither ECDSA nor RSA; TLS clients take no other: make a P-256 key")
    return key


def certificates_in(raw: bytes, path: Path) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(raw))
    except ValueError:
        raise AuthorityError(f"{path} holds no certificate in PEM form") from None


def chain_of(raw: bytes, path: Path, key: SigningKey) -> tuple[x509.Certificate, ...]:
    """The file's certificates, checked: the first is a CA of this key, each is signed by the one after it."""
    chain = certificates_in(raw, path)
    signing = chain[0]
    if signing.public_key() != key.public_key():
        raise AuthorityError(
            f"the first certificate in {path} does not belong to the key; put the signing CA first, its chain after it"
        )
    try:
        authority = signing.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = False
    if not authority:
        raise AuthorityError(f"the first certificate in {path} is not a CA (basicConstraints) and cannot sign")
    for one, above in pairwise(chain):
        try:
            one.verify_directly_issued_by(above)
        except (ValueError, TypeError, InvalidSignature):
            raise AuthorityError(
                f"in {path}, {one.subject.rfc4514_string()!r} is not signed by the certificate after it; "
                "the order is: signing CA, its issuer, …, root"
            ) from None
    return chain


def publish(confdir: Path, chain: tuple[x509.Certificate, ...]) -> Path:
    """The public files, brought up to date with the private one (a crash may have come between); what clients trust."""
    for name in (CERTIFICATE_COPY, CERTIFICATE_FILE):
        path = confdir / name
        if not path.exists() or certificates_in(files.read_public(path), path)[0] != chain[0]:
            files.replace_file(path, b"".join(to_pem(certificate) for certificate in chain))
    return confdir / CERTIFICATE_FILE


def to_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def fingerprint_of(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()
