"""Names to addresses, checked: what the gateway connects to is an address that it has looked at (DNS rebinding)."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

from cachetools import TTLCache

_SECONDS: Final = 30.0                      # an answer is used again for so long
_NAMES: Final = 4096
_DEADLINE: Final = 5.0                      # seconds for one look-up


class Resolver:
    """The system's resolver with a short memory. Raises OSError if a name has no address or the look-up takes too long."""

    def __init__(self) -> None:
        self._known: TTLCache[tuple[str, int], tuple[str, ...]] = TTLCache(_NAMES, _SECONDS)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Textual addresses in the system's order, at least one."""
        key = (host, port)
        if (known := self._known.get(key)) is not None:
            return known
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_DEADLINE):
                answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise OSError("the name could not be resolved in time") from None
        except UnicodeError:
            raise OSError("not a valid host name") from None
        found = tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))
        if not found:
            raise OSError("the name has no address")
        self._known[key] = found
        return found
