"""Everybody's turn: one connection's bytes are worked off in pieces, between which the others are served.

mitmproxy handles whatever a connection has brought in one turn of the event loop, and goes on with it as long as bytes are
there: uvloop reads up to 256 KiB ahead. A flood that comes faster than it can be handled keeps everybody else waiting.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from mitmproxy.connection import Connection
from mitmproxy.proxy import commands
from mitmproxy.proxy.server import ConnectionHandler

_WORKING: Final = "mitmgate_working"


@dataclass
class TurnHook(commands.StartHook):
    """The layer that yields it goes on in the loop's next turn. Nobody need listen: mitmproxy makes a task of any hook."""

    connection: Connection


def working(connection: Connection, *, still: bool) -> None:
    """Whether what this client's connection brought is still worked off: meanwhile nothing more of it is read."""
    setattr(connection, _WORKING, still)


_drain_writers: Final = ConnectionHandler.drain_writers


async def drain_and_yield(handler: ConnectionHandler) -> None:
    """mitmproxy's `drain_writers`, which is awaited after each piece that was read; then the others have their turn."""
    await _drain_writers(handler)  # type: ignore[no-untyped-call]
    while getattr(handler.client, _WORKING, False):  # noqa: ASYNC110 - it is at work in each of these turns
        await asyncio.sleep(0)
    if any(_has_bytes(transport.reader) for transport in handler.transports.values()):
        await asyncio.sleep(0)


def _has_bytes(reader: object) -> bool:
    return bool(getattr(reader, "_buffer", None))           # asyncio.StreamReader's
