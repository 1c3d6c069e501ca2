"""Which hosts a CA may sign for: X.509 NameConstraints (RFC 5280 §4.2.1.10) from the rules' host patterns, and back.

A stolen key is then good for the intercepted hosts only, wherever the client checks (OpenSSL and Go do, also for a
root; Java does not apply the constraints of a root).
"""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final

from cryptography import x509

type Network = ipaddress.IPv4Network | ipaddress.IPv6Network
type Subtree = str | Network
"""A domain with all below it, lower case and IDNA, or a network."""

LOOPBACK: Final[tuple[Subtree, ...]] = (
    "localhost",
    ipaddress.IPv4Network("127.0.0.0/8"),
    ipaddress.IPv6Network("::1/128"),
)
"""Always permitted. Without any network among the subtrees, every IP address would be permitted."""


def subtree_of(pattern: str) -> Subtree | None:
    """The smallest subtree that holds every host of a pattern; None if only all hosts do.

    `api.openai.com` and `*.openai.azure.com` → themselves without the star; `a-*.b.example` → `b.example`;
    `10.0.0.7` and `10.0.0.0/8` → the network; `*` and `api.openai.*` → None.
    """
    try:
        return ipaddress.ip_network(pattern.strip("[]"), strict=False)
    except ValueError:
        pass
    literal: list[str] = []
    for label in reversed(pattern.rstrip(".").lower().split(".")):
        if not label or "*" in label or "?" in label:
            break
        literal.insert(0, label)
    if not literal:
        return None
    try:
        return ".".join(literal).encode("idna").decode()
    except UnicodeError:
        return None


def name_constraints(patterns: Iterable[str]) -> tuple[x509.NameConstraints | None, tuple[str, ...]]:
    """The extension for these patterns plus loopback, or None where a pattern leaves no bound; and warnings."""
    found: dict[Subtree, None] = {}
    unbounded = []
    for pattern in patterns:
        subtree = subtree_of(pattern)
        if subtree is None:
            unbounded.append(pattern)
        else:
            found[subtree] = None
    if unbounded:
        named = ", ".join(repr(pattern) for pattern in unbounded)
        return None, (
            f"intercept: {named} ends in no domain, so the CA is not limited to any hosts; "
            "name domains there and run `mitmgate ca rotate` to limit it",
        )
    subtrees = [*found, *LOOPBACK]
    wide = dict.fromkeys(subtrees)
    needed = [one for one in wide if not any(one != other and _holds(other, one) for other in wide)]
    return x509.NameConstraints([_general_name(one) for one in needed], None), ()


def permits(certificates: Sequence[x509.Certificate], host: str) -> bool:
    """Whether a leaf for this host (a name or an address) passes the constraints of all these CA certificates."""
    subtree = subtree_of(host)
    return subtree is not None and all(_permits(certificate, subtree) for certificate in certificates)


def uncovered(certificates: Sequence[x509.Certificate], patterns: Iterable[str]) -> list[str]:
    """The patterns that may name hosts for which a client would refuse a leaf."""
    missing = []
    for pattern in patterns:
        subtree = subtree_of(pattern)
        if subtree is None:
            if any(_constraints(certificate) is not None for certificate in certificates):
                missing.append(pattern)
        elif not all(_permits(certificate, subtree) for certificate in certificates):
            missing.append(pattern)
    return missing


def _constraints(certificate: x509.Certificate) -> x509.NameConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None


def _permits(certificate: x509.Certificate, subtree: Subtree) -> bool:
    constraints = _constraints(certificate)
    if constraints is None:
        return True
    permitted = _subtrees(constraints.permitted_subtrees)
    alike = [one for one in permitted if isinstance(one, str) == isinstance(subtree, str)]
    excluded = _subtrees(constraints.excluded_subtrees)
    # A kind of name that no subtree mentions is unconstrained.
    return (not alike or any(_holds(one, subtree) for one in alike)) and not any(
        _holds(one, subtree) or _holds(subtree, one) for one in excluded
    )


def _subtrees(names: Iterable[x509.GeneralName] | None) -> list[Subtree]:
    found: list[Subtree] = []
    for name in names or ():
        if isinstance(name, x509.DNSName):
            found.append(name.value.lower().lstrip("."))
        elif isinstance(name, x509.IPAddress) and isinstance(name.value, ipaddress.IPv4Network | ipaddress.IPv6Network):
            found.append(name.value)
    return found


def _holds(outer: Subtree, inner: Subtree) -> bool:
    if isinstance(outer, str) and isinstance(inner, str):
        return not outer or inner == outer or inner.endswith("." + outer)
    if isinstance(outer, ipaddress.IPv4Network) and isinstance(inner, ipaddress.IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(outer, ipaddress.IPv6Network) and isinstance(inner, ipaddress.IPv6Network):
        return inner.subnet_of(outer)
    return False


def _general_name(subtree: Subtree) -> x509.GeneralName:
    return x509.DNSName(subtree) if isinstance(subtree, str) else x509.IPAddress(subtree)
