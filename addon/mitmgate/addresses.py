"""Host names in one spelling, addresses by what lies behind them, and the patterns of rules over both. Pure.

Theory of operation. The system's resolver reads `0x7f.1`, `2130706433` and `①②⑦.⓪.⓪.①` as 127.0.0.1, and IPv6 has
five ways to wrap an IPv4 address. A check made on another reading than the one that is connected to is no check
(THREATS, rows 5, 7 and 19). So names have one spelling here, IPv4 only four decimal numbers, and an address that embeds
another is judged by both. The tables are written out because `ipaddress` changed its mind between Python releases.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal

from mitmgate.globs import Glob

type Kind = Literal["public", "loopback", "link_local", "private", "metadata", "reserved"]
type Address = IPv4Address | IPv6Address
type Network = IPv4Network | IPv6Network

_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_GLOB: Final = re.compile(r"[a-z0-9_.*?-]{1,253}")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")      # WHATWG URL, "ends in a number"
_BRACKETED: Final = re.compile(r"\[([0-9a-f.]*:[0-9a-f:.]*)\](/[0-9]{1,3})?(?::([0-9]{1,5}))?")
_WITH_PORT: Final = re.compile(r"([^:]*):([0-9]{1,5})")

# Where clouds tell a machine its secrets: AWS (instance, container, EKS), Alibaba, Azure's wire server, Oracle, Google.
_METADATA: Final = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
        ),
    )
)

# IANA's special-purpose registries (RFC 6890); the first network that holds an address decides. 0.0.0.0 and :: reach
# this machine. Beyond 2000::/3 nothing is handed out but what is named before it.
_IPV4_KINDS: Final[tuple[tuple[Kind, str], ...]] = (
    ("loopback", "127.0.0.0/8 0.0.0.0/32"),
    ("link_local", "169.254.0.0/16"),
    ("private", "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10"),
    ("reserved", "0.0.0.0/8 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24"),
    ("reserved", "224.0.0.0/4 240.0.0.0/4"),
    ("public", "0.0.0.0/0"),
)
_IPV6_KINDS: Final[tuple[tuple[Kind, str], ...]] = (
    ("loopback", "::1/128 ::/128"),
    ("link_local", "fe80::/10"),
    ("private", "fc00::/7 fec0::/10"),
    ("reserved", "2001::/23 2001:db8::/32 3fff::/20"),
    ("public", "2000::/3"),
    ("reserved", "::/0"),
)
_IPV4: Final = tuple((IPv4Network(network), kind) for kind, networks in _IPV4_KINDS for network in networks.split())
_IPV6: Final = tuple((IPv6Network(network), kind) for kind, networks in _IPV6_KINDS for network in networks.split())
_MAPPED: Final = IPv6Network("::ffff:0:0/96")           # RFC 4291, section 2.5.5.2
_NAT64: Final = IPv6Network("64:ff9b::/96")             # RFC 6052
_NAT64_LOCAL: Final = IPv6Network("64:ff9b:1::/48")     # RFC 8215: a prefix in it is the site's choice
_WORST_FIRST: Final[tuple[Kind, ...]] = ("metadata", "loopback", "link_local", "private", "reserved")


@lru_cache(4096)
def normalise_host(host: str) -> str:
    """The one spelling of a host: lower case, A-labels, no final dot; IPv6 compressed, without brackets (RFC 5952).

    Raises ValueError for what is no host: empty or overlong labels, other characters than letters, digits, - and _, an
    IPv6 zone, and IPv4 in any form but four decimal numbers.
    """
    if host.startswith("[") or ":" in host:
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if "%" in bare:
            raise ValueError("an IPv6 address in a host must not have a zone")
        return _spelled(IPv6Address(bare))
    if len(host) > 254:
        raise ValueError("a host name has at most 253 characters")
    # Python's codec is IDNA 2003, which also folds fullwidth digits and dots: hence before every other check.
    name = (host if host.isascii() else _a_labels(host)).lower().removesuffix(".")
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise ValueError("not a host name: letters, digits, - and _ in labels of 1 to 63 characters")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        return str(IPv4Address(name))  # refuses hexadecimal, octal, short and single-number forms
    return name


def classify(address: str) -> Kind:
    """What lies behind a textual IPv4 or IPv6 address (a zone is ignored); anything but "public" needs a permission.

    Addresses that embed an IPv4 one (mapped, NAT64, 6to4, Teredo) are what that one is. Raises ValueError for others.
    """
    plain = _plain(ip_address(address))
    kinds = {_kind(one) for one in _embedded(plain) or (plain,)}
    return next((kind for kind in _WORST_FIRST if kind in kinds), "public")


def _kind(address: Address) -> Kind:
    if address in _METADATA:
        return "metadata"
    if isinstance(address, IPv4Address):
        return next(kind for network, kind in _IPV4 if address in network)
    return next(kind for network, kind in _IPV6 if address in network)


def _embedded(address: Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses to which packets for `address` may be handed on; none for those that stand for themselves."""
    if isinstance(address, IPv4Address):
        return ()
    bits = int(address)
    if address in _MAPPED or address in _NAT64:
        return (IPv4Address(bits & 0xFFFFFFFF),)
    if address in _NAT64_LOCAL:
        return _nat64_local(bits)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    return address.teredo or ()     # server and client


def _nat64_local(bits: int) -> tuple[IPv4Address, ...]:
    # RFC 6052, section 2.2: after a prefix of 48, 56 or 64 bits the address is wrapped around a zero octet (bits 64 to
    # 71), and zeros follow it. The site's prefix is not known: every layout that fits counts, the last 32 bits else.
    gapless = bits >> 64 << 56 | bits & ((1 << 56) - 1)     # 120 bits, the octet taken out
    found = []
    for prefix in (48, 56, 64):
        behind = 120 - prefix - 32
        if not bits >> 56 & 0xFF and not gapless & ((1 << behind) - 1):
            found.append(IPv4Address(gapless >> behind & 0xFFFFFFFF))
    return tuple(found) or (IPv4Address(bits & 0xFFFFFFFF),)


def _plain(address: Address) -> Address:
    """The address without its zone, which would make it unequal to itself."""
    return IPv6Address(int(address)) if isinstance(address, IPv6Address) and address.scope_id else address


def _spelled(address: IPv6Address) -> str:
    # Python 3.13 writes mapped addresses in mixed notation (RFC 5952, section 5), 3.12 does not.
    return f"::ffff:{IPv4Address(int(address) & 0xFFFFFFFF)}" if address in _MAPPED else str(address)


def _a_labels(host: str) -> str:
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        raise ValueError("not a host name: it has no IDNA form") from None


@dataclass(frozen=True, slots=True)
class HostPattern:
    """An entry of `intercept:`, `tunnel:` or `no_proxy:`: a host glob, an address or a network, on one port or all."""

    text: str
    glob: Glob | None                       # None: an address or a network
    network: Network | None                 # None: a glob
    port: int | None = None                 # None: every port

    @classmethod
    def parse(cls, text: str) -> "HostPattern":
        """Compile `*.corp`, `api.corp:8443`, `10.0.0.0/8`, `10.0.0.1:80`, `::1`, `[::1]:443` or `[fd00::]/8`.

        `*` is any run of characters, dots included, `?` one. Raises ValueError, written for the rules' author.
        """
        subject, port = _split_port(text.strip().lower())
        if ".." in subject:
            raise ValueError(f"{text!r} is not a host pattern: it has an empty label")
        subject = subject.removesuffix(".")
        if "/" in subject or ":" in subject or _NUMBER.fullmatch(subject.rpartition(".")[2]):
            return cls(text, None, _network(subject, text), port)
        if "*" not in subject and "?" not in subject:
            return cls(text, Glob.parse(_named(subject, text)), None, port)
        glob = subject if subject.isascii() else ".".join(_glob_label(label, text) for label in subject.split("."))
        if not _GLOB.fullmatch(glob):
            raise ValueError(f"{text!r} is not a host pattern")
        if any(c.isdigit() for c in glob) and not any(c.isalpha() for c in glob):
            # It would match names such as 10.evil.example, and no address that a name resolves to.
            raise ValueError(f"{text!r} looks like a range of addresses: write it as a network, such as 10.0.0.0/8")
        return cls(text, Glob.parse(glob), None, port)

    @property
    def specific(self) -> bool:
        """False where the whole world is meant: wildcards only, or a network of length 0. Permits nothing private."""
        if self.network is not None:
            return self.network.prefixlen > 0
        return not set(self.glob.text if self.glob else "") <= set("*?.")

    def matches(self, host: str, port: int, addresses: Sequence[str] = ()) -> bool:
        """Whether `host` (as `normalise_host` gives it) on `port` is meant, or any of the `addresses` it resolves to.

        A network also matches addresses that embed one of its own. Who *permits* by network must ask for each
        address by itself. A glob never matches an address literal, but `*` does. Raises ValueError where an
        address is none.
        """
        if self.port is not None and self.port != port:
            return False
        literal = _literal(host)
        if self.glob is not None:
            return self.glob.match(host) is not None and (literal is None or not self.specific)
        network = self.network
        candidates = [_plain(ip_address(address)) for address in addresses]
        if literal is not None:
            candidates.append(literal)
        return network is not None and any(
            reading in network for candidate in candidates for reading in (candidate, *_embedded(candidate))
        )


def _literal(host: str) -> Address | None:
    # Of normalised hosts only addresses have a colon or end in a digit label; this keeps names off the slow path.
    if ":" not in host and not host[-1:].isdigit():
        return None
    try:
        return ip_address(host)
    except ValueError:
        return None


def _split_port(text: str) -> tuple[str, int | None]:
    """The pattern without brackets, and its port. More than one colon outside of brackets is IPv6 without a port."""
    if found := _BRACKETED.fullmatch(text):
        subject, digits = found[1] + (found[2] or ""), found[3]
    elif found := _WITH_PORT.fullmatch(text):
        subject, digits = found[1], found[2]
    else:
        return text, None
    if digits and not 0 < int(digits) < 65536:
        raise ValueError(f"{text!r} has a port that is not between 1 and 65535")
    return subject, int(digits) if digits else None


def _network(subject: str, text: str) -> Network:
    try:
        if "%" in subject:
            raise ValueError("a pattern has no zone")
        network = ip_network(subject)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an address or a network: {error}") from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def _named(subject: str, text: str) -> str:
    try:
        return normalise_host(subject)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a host pattern: {error}") from None


def _glob_label(label: str, text: str) -> str:
    if label.isascii():
        return label
    if "*" in label or "?" in label:
        raise ValueError(f"{text!r}: write a label with both a wildcard and other letters than a to z in its xn-- form")
    return _named(label, text)


@lru_cache(1024)
def is_loopback(host: str) -> bool:
    """Whether this name or address is this machine's own."""
    try:
        name = normalise_host(host)
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return classify(name) == "loopback"
    except ValueError:
        return False
