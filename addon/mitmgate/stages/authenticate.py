"""Authenticate: under `access: keys` nobody passes whom no rule identifies."""

from mitmgate.errors import Refusal
from mitmgate.exchange import Exchange
from mitmgate.stages.services import Services


async def authenticate(exchange: Exchange, services: Services) -> None:
    """Refuse unidentified callers: 401 to a direct call, 407 to a proxy's client (RFC 9110, 15.5.8).

    Inside a tunnel the CONNECT was let in by the same rule, so a request there is answered 401.
    """
    if services.rules.access == "keys":
        raise unidentified(direct=exchange.arrival.direct or exchange.arrival.origin.scheme == "https")


def unidentified(*, direct: bool) -> Refusal:
    """What a caller without a valid key hears; the same for a missing, an unknown and a revoked one."""
    if direct:
        return Refusal(
            "invalid_api_key",
            "This gateway needs a key: send `Authorization: Bearer …` with a key that the operators gave out.",
            headers={"www-authenticate": 'Bearer realm="mitmgate"'},
        )
    return Refusal(
        "invalid_api_key",
        "This proxy needs a key: put it in the proxy's URL, http://project:key@host:port.",
        status=407,
        headers={"proxy-authenticate": 'Basic realm="mitmgate"'},
    )
