"""What is decrypted, what is tunnelled, and where a tunnel may lead: `intercept:` and `tunnel:` of the rules, compiled."""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mitmgate.addresses import HostPattern, classify, is_loopback, normalise_host
from mitmgate.rules.schema import Rules


class Denied(Exception):
    """A destination that the rules do not let anybody reach. The message is for the caller."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Decisions about destinations. `own`: the addresses on which the gateway itself listens now."""

    intercept: tuple[HostPattern, ...]
    allow: tuple[HostPattern, ...]
    deny: tuple[HostPattern, ...]
    exempt: tuple[HostPattern, ...]         # from the corporate proxy
    governed: bool
    own: Callable[[], Sequence[tuple[str, int]]]

    @classmethod
    def of(cls, rules: Rules, intercept: Sequence[str], own: Callable[[], Sequence[tuple[str, int]]]) -> "Scope":
        """Compile the rules' patterns; they were validated when the rules were loaded."""
        parse = HostPattern.parse
        return cls(
            intercept=tuple(map(parse, intercept)),
            allow=tuple(map(parse, rules.tunnel.allow)),
            deny=tuple(map(parse, rules.tunnel.deny)),
            exempt=tuple(map(parse, rules.egress.no_proxy)) if rules.egress else (),
            governed=rules.tunnel.governed,
            own=own,
        )

    def intercepts(self, host: str | None, port: int) -> bool:
        """Whether this destination's traffic is decrypted."""
        if not host:
            return False
        try:
            name = normalise_host(host)
        except ValueError:
            return False
        return any(pattern.matches(name, port) for pattern in self.intercept)

    def intercepted_names(self) -> list[str]:
        """The host names that `intercept:` spells out."""
        return [p.glob.text for p in self.intercept if p.glob is not None and p.glob.literal]

    def names_this_machine(self, host: str) -> bool:
        """Whether `intercept:` itself names this address, or this machine: then no resolver need be believed."""
        for pattern in self.intercept:
            if pattern.network is not None and pattern.matches(host, pattern.port or 0):
                return True
            if pattern.glob is not None and pattern.glob.text == host and is_loopback(host):
                return True
        return False

    def is_exempt(self, host: str, port: int) -> bool:
        """Whether the corporate proxy is not to be used for this destination."""
        return is_loopback(host) or any(pattern.matches(host, port) for pattern in self.exempt)

    def check_name(self, host: str, port: int, *, plain: bool = False) -> str:
        """The normalised name of a destination to pass through. Raises Denied before anything is resolved.

        `plain`: it is a request in clear text, for which port 80 is as usual as 443.
        """
        try:
            name = normalise_host(host)
        except ValueError:
            raise Denied("The destination is not a valid host name or address.") from None
        if self.governed and _is_address(name):
            raise Denied("Tunnels to bare addresses are not allowed here.")
        if any(pattern.matches(name, port) for pattern in self.deny):
            raise Denied("The rules deny this destination.")
        if not any(pattern.network is not None for pattern in self.allow):
            # Only an address can tell whether a network's entry allows it.
            if not any(pattern.matches(name, port) for pattern in self.allow):
                raise Denied("The rules do not allow this destination.")
            if not self._usual(port, plain=plain) and not self._listed(name, port, ()):
                raise Denied("Only port 443 is open, but to destinations that `tunnel: allow` names.")
        return name

    def check_addresses(self, name: str, port: int, addresses: Sequence[str], *, plain: bool = False) -> str:
        """The address to connect to: the first that may be reached. Raises Denied if there is none."""
        for address in addresses:
            if self._may_reach(name, port, address, plain=plain):
                return address
        raise Denied("The destination's address is one that the rules do not let anybody reach.")

    def is_own(self, address: str, port: int) -> bool:
        """Whether the gateway itself listens there: it never proxies to itself, whoever allows it."""
        address = _unmapped(address)
        for own, own_port in self.own():
            if port == own_port and (address == _unmapped(own) or (_is_wildcard(own) and _is_local(address))):
                return True
        return False

    def _may_reach(self, name: str, port: int, address: str, *, plain: bool) -> bool:
        if any(pattern.matches(name, port, (address,)) for pattern in self.deny) or self.is_own(address, port):
            return False
        if self._listed(name, port, (address,)):
            return True
        if not any(pattern.matches(name, port, (address,)) for pattern in self.allow):
            return False
        return self._usual(port, plain=plain) and classify(address) == "public"

    def _listed(self, name: str, port: int, addresses: Sequence[str]) -> bool:
        """Whether an entry that is more than `*` names this destination."""
        return any(pattern.specific and pattern.matches(name, port, addresses) for pattern in self.allow)

    @staticmethod
    def _usual(port: int, *, plain: bool) -> bool:
        return port == 443 or (plain and port == 80)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _unmapped(address: str) -> str:
    """An IPv4 address that is written as IPv6 (::ffff:127.0.0.1), as what it is."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def _is_wildcard(address: str) -> bool:
    return address in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def _is_local(address: str) -> bool:
    """Whether this machine has the address: only its own can be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
