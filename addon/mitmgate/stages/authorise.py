"""Authorise: the credential of this attempt. The transport writes it last, once the connection's origin is checked."""

from collections.abc import Callable, Mapping
from typing import Final

from mitmgate.exchange import Exchange
from mitmgate.stages.services import Services

_WRITE: Final[Mapping[str, Callable[[str], tuple[str, str]]]] = {
    "bearer": lambda secret: ("authorization", f"Bearer {secret}"),
    "x-api-key": lambda secret: ("x-api-key", secret),
    "api-key": lambda secret: ("api-key", secret),
    "x-goog-api-key": lambda secret: ("x-goog-api-key", secret),
}
_SPELLINGS: Final = ("authorization", "x-api-key", "api-key", "x-goog-api-key")


async def authorise(exchange: Exchange, services: Services) -> None:
    """Set `credential`. A provider without one gets none; the client's own goes only where the rules say so."""
    attempt = exchange.attempt
    assert attempt is not None
    provider = attempt.target.provider
    exchange.credential = ()
    if provider.original:
        return                              # its headers went as they came
    if provider.client_credential:
        headers = exchange.request_headers
        exchange.credential = tuple((name, value) for name in _SPELLINGS if (value := headers.get(name)) is not None)
        return
    secret = provider.credential.secret() if provider.credential else None
    if secret is not None and (write := _WRITE.get(provider.authorisation)):
        attempt.secret = secret
        exchange.credential = (write(secret),)
