"""Admit: there must be room, and a direct call must mean us and not come from a web page (DNS rebinding, CSRF)."""

from urllib.parse import urlsplit

from mitmgate.errors import Refusal
from mitmgate.exchange import Exchange
from mitmgate.stages.services import Services


async def admit(exchange: Exchange, services: Services) -> None:
    """Refuse while we stop or are full; refuse direct calls whose Host is not ours, or whose Origin is foreign."""
    if services.draining:
        raise Refusal("draining", "The gateway is stopping; try again.", headers={"retry-after": "1"})
    if services.full:
        raise Refusal("queue_full", "Too many calls are in flight.", headers={"retry-after": "1"})
    arrival = exchange.arrival
    if not arrival.direct:
        return
    host = arrival.origin.host
    # The very address that was dialled is no name that a resolver could have turned to us.
    if services.rules.access == "open" and host != arrival.local and not services.answers_to(host):
        raise Refusal(
            "misdirected_request",
            "This gateway does not answer to that Host. Add the name to `listen.hosts`, or use the proxy.",
        )
    headers = exchange.request_headers
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Refusal("refused", "Calls from web pages are not accepted.")
    origin = headers.get("origin")
    if origin is not None and not _ours(origin, services):
        raise Refusal("refused", "Calls from web pages are not accepted.")


def _ours(origin: str, services: Services) -> bool:
    try:
        host = urlsplit(origin).hostname
    except ValueError:
        return False
    return host is not None and services.answers_to(host)
