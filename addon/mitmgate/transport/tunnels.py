"""What a client's CONNECT asked for, remembered for as long as the client stays."""

import base64
import binascii
from dataclasses import dataclass
from typing import Final, cast

from mitmproxy.connection import Client

from mitmgate.exchange import Origin
from mitmgate.transport.scope import Scope


@dataclass(slots=True)
class Tunnel:
    """One CONNECT: the normalised name, and for what is not decrypted the address that was checked."""

    host: str
    port: int
    intercepted: bool
    address: str | None = None
    proxy: Origin | None = None             # a corporate proxy that the tunnel goes through
    misdirected: bool = False               # the SNI names another host
    user: str | None = None                 # the name in the CONNECT's Proxy-Authorization
    scope: Scope | None = None              # what was decrypted when it was opened; a reload does not turn it round


_ATTRIBUTE = "mitmgate"
_LONGEST_USER: Final = 128                  # characters, beyond which it is dropped


def proxy_user(header: str | None) -> str | None:
    """The name in a Proxy-Authorization header of the Basic scheme (RFC 7617); None for none that could be told."""
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user = base64.b64decode(encoded.strip(), validate=True).partition(b":")[0].decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return user if 0 < len(user) <= _LONGEST_USER and user.isprintable() else None


def tunnel_of(client: Client) -> Tunnel | None:
    """The tunnel that this client opened, if it did."""
    return cast("Tunnel | None", getattr(client, _ATTRIBUTE, None))


def remember(client: Client, tunnel: Tunnel) -> None:
    """Keep the tunnel with its client."""
    setattr(client, _ATTRIBUTE, tunnel)
