"""What a client's CONNECT asked for, remembered for as long as the client stays."""

from dataclasses import dataclass
from typing import cast

from mitmproxy.connection import Client

from mitmgate.exchange import Origin


@dataclass(slots=True)
class Tunnel:
    """One CONNECT: the normalised name, and for what is not decrypted the address that was checked."""

    host: str
    port: int
    intercepted: bool
    address: str | None = None
    proxy: Origin | None = None             # a corporate proxy that the tunnel goes through
    misdirected: bool = False               # the SNI names another host


_ATTRIBUTE = "mitmgate"


def tunnel_of(client: Client) -> Tunnel | None:
    """The tunnel that this client opened, if it did."""
    return cast("Tunnel | None", getattr(client, _ATTRIBUTE, None))


def remember(client: Client, tunnel: Tunnel) -> None:
    """Keep the tunnel with its client."""
    setattr(client, _ATTRIBUTE, tunnel)
