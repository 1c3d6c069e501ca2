"""Match: once, on the request as it came, against the rules in order (DESIGN §4, "Order")."""

from mitmgate.errors import Refusal
from mitmgate.exchange import Chosen, Exchange, Provider, Target
from mitmgate.routing.match import Asked
from mitmgate.stages.services import Services

UNMATCHED = "No route of this gateway serves this request, and its rules refuse what they do not name."


def asked(exchange: Exchange) -> Asked:
    """What matching looks at, of one exchange."""
    assert exchange.endpoint is not None
    return Asked(
        host=exchange.arrival.origin.host,
        path=exchange.arrival.path,
        operation=exchange.endpoint.operation,
        model=exchange.requested_model,
        headers=exchange.request_headers,
        client=exchange.arrival.client,
    )


async def match_route(exchange: Exchange, services: Services) -> None:
    """Set `chosen`; refuse what no rule and no built-in order serves."""
    chosen = services.table.choose(asked(exchange), direct=exchange.arrival.direct)
    if chosen is None:
        chosen = _unmatched(exchange, services)
    exchange.chosen = chosen


def _unmatched(exchange: Exchange, services: Services) -> Chosen:
    if exchange.arrival.direct:
        if exchange.requested_model is None:
            raise Refusal("not_found", "No route of this gateway serves this endpoint.")
        raise Refusal("model_not_found", "No route of this gateway serves this model.", param="model")
    if services.rules.unmatched == "refuse":
        raise Refusal("refused", UNMATCHED)
    target = Target(original_destination(exchange))
    return Chosen("original", None, (target,))


def original_destination(exchange: Exchange) -> Provider:
    """Where the client meant to go, with its own credential."""
    assert exchange.endpoint is not None
    origin = exchange.arrival.origin
    return Provider(
        name=origin.host,
        dialect=exchange.endpoint.dialect,
        origin=origin,
        base_path="",
        client_credential=True,
        original=True,
    )
