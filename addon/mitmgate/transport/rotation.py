"""Rotation of the CA in the confdir: clients trust both first, the new one signs later.

`rotate` makes the next CA and a bundle of both; when every client has the bundle, `activate` lets the next one sign.
A CA that the rules name is rotated by its owner, with `ca: {previous: […]}`.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

from mitmgate.transport import confdir as files
from mitmgate.transport import constraints
from mitmgate.transport.authority import (
    KEY_FILE,
    PREVIOUS_DIR,
    AuthorityError,
    certificates_in,
    chain_of,
    fingerprint_of,
    new_ca,
    prepare_confdir,
    private_key_in,
    publish,
    to_pem,
)

NEXT_FILE: Final = "mitmproxy-ca-next.pem"      # the next private key and certificate
BUNDLE_FILE: Final = "bundle.pem"               # certificates to trust while rotating
_STALE: Final = ("mitmproxy-ca.p12", "mitmproxy-ca-cert.p12")  # mitmproxy's other copies of its key and certificate


@dataclass(frozen=True, slots=True)
class Rotation:
    """One step done. `fingerprint` and `expires`: of the CA that it made or activated; `bundle`: what clients trust
    now, old and new, without any key; `notes`: what the operator should know."""

    fingerprint: str
    expires: datetime.datetime
    bundle: Path
    activated: bool
    notes: tuple[str, ...] = ()


def rotate(confdir: Path, permitted: Sequence[str]) -> Rotation:
    """First step: the next CA beside the present one, and a bundle that trusts both. The present one goes on signing.

    Calling it again keeps the next CA, unless that one may not sign for `permitted`.
    """
    confdir = prepare_confdir(confdir)
    if not (confdir / KEY_FILE).exists():
        raise AuthorityError(f"there is no CA in {confdir} to rotate; `mitmgate ca` makes one")
    path = confdir / NEXT_FILE
    notes: list[str] = []
    if path.exists() and constraints.uncovered(certificates_in(files.read_private(path), path), permitted):
        path.unlink()
        notes.append("the next CA did not cover the hosts of now and was made anew: hand out the bundle again")
    if not path.exists():
        content, warned = new_ca(permitted)
        files.create_private(path, content)
        notes.extend(warned)
    following = certificates_in(files.read_private(path), path)[0]
    return _done(following, _write_bundle(confdir), False, notes)


def activate(confdir: Path) -> Rotation:
    """Second step: the next CA signs. The old certificate goes to `previous/`, the old key is gone for good.

    A running gateway signs with the new one after its next start.
    """
    confdir = prepare_confdir(confdir)
    path, current = confdir / NEXT_FILE, confdir / KEY_FILE
    if not path.exists():
        raise AuthorityError(
            f"there is no next CA in {confdir}; `mitmgate ca rotate` makes it, clients must trust it first"
        )
    raw = files.read_private(path)
    chain = chain_of(raw, path, private_key_in(raw, path))
    old = certificates_in(files.read_private(current), current)[0]
    (confdir / PREVIOUS_DIR).mkdir(mode=0o700, exist_ok=True)
    files.replace_file(confdir / PREVIOUS_DIR / f"{fingerprint_of(old)[:16]}.pem", to_pem(old))
    try:
        path.replace(current)
    except FileNotFoundError:
        raise AuthorityError("another `mitmgate ca rotate --activate` was faster; nothing is left to do") from None
    for name in _STALE:
        (confdir / name).unlink(missing_ok=True)
    publish(confdir, chain)
    return _done(chain[0], _write_bundle(confdir), True, [])


def trusted(confdir: Path) -> tuple[x509.Certificate, ...]:
    """What clients should trust: the present CA, the next, and previous ones until they expire."""
    found: dict[x509.Certificate, None] = {}
    for path in (confdir / KEY_FILE, confdir / NEXT_FILE, *sorted((confdir / PREVIOUS_DIR).glob("*.pem"))):
        if path.exists():
            found[certificates_in(files.read_public(path), path)[0]] = None
    now = datetime.datetime.now(datetime.UTC)
    return tuple(one for one in found if one.not_valid_after_utc > now)


def _write_bundle(confdir: Path) -> Path:
    bundle = confdir / BUNDLE_FILE
    files.replace_file(bundle, b"".join(map(to_pem, trusted(confdir))))
    return bundle


def _done(certificate: x509.Certificate, bundle: Path, activated: bool, notes: Sequence[str]) -> Rotation:
    return Rotation(fingerprint_of(certificate), certificate.not_valid_after_utc, bundle, activated, tuple(notes))
