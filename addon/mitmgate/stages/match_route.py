"""Match: once, on the request as it came, against the rules in order (DESIGN §4, "Order")."""

from dataclasses import replace
from typing import Final

from mitmgate.conditions.facts import Facts
from mitmgate.errors import Refusal
from mitmgate.exchange import Chosen, Exchange, Provider, Reach, Target
from mitmgate.routing.constraints import objection
from mitmgate.routing.match import UNKNOWN, Asked
from mitmgate.routing.table import RouteTable
from mitmgate.stages.services import Services

_IN_BODY: Final = frozenset({"model", "tag", "tenant", "project", "scope", "when", "not"})
"""Keys of a `match:` that a body may decide."""
UNMATCHED = "No route of this gateway serves this request, and its rules refuse what they do not name."


def asked(exchange: Exchange) -> Asked:
    """What matching looks at, of one exchange, before `aliases:`."""
    assert exchange.endpoint is not None
    arrival, operation = exchange.arrival, exchange.endpoint.operation
    around = {
        **({"request.model": exchange.requested_model} if exchange.requested_model is not None else {}),
        "operation": operation, "path": arrival.path, "method": arrival.method, "host": arrival.origin.host,
        "client": arrival.client, "header": exchange.request_headers, "project": exchange.project,
        "tenant": exchange.tenant or "", "task": exchange.task or "", "tag": exchange.tags,
    }  # fmt: skip
    size = len(exchange.raw) if exchange.raw is not None else exchange.body.size if exchange.body is not None else 0
    return Asked(
        host=arrival.origin.host,
        path=arrival.path,
        operation=operation,
        model=exchange.requested_model,
        headers=exchange.request_headers,
        client=arrival.client,
        method=arrival.method,
        project=exchange.project,
        tenant=exchange.tenant,
        task=exchange.task,
        tags=exchange.tags,
        facts=Facts(exchange.document, size, around),
    )


def renamed(asked: Asked, table: RouteTable) -> Asked:
    """The same after `aliases:`."""
    alias = table.alias(asked)
    return asked if alias is None else replace(asked, model=alias.model)


def names_auto(exchange: Exchange) -> bool:
    """Whether `auto` is the client's own word: an intercepted call without a model goes where it meant to go."""
    return (exchange.document or {}).get("model") == "auto"


def adopts(exchange: Exchange, services: Services) -> bool:
    """Whether a path of no API that we know is governed: a route or a policy may reach it. Raises Refusal where it is refused.

    Asked when `identify` has seen the headers and before there is a body: what the body decides may still come true.
    """
    table, direct = services.table, exchange.arrival.direct
    looked_at = asked(exchange)
    unknown = _IN_BODY if exchange.project == UNKNOWN else _IN_BODY - {"project", "scope"}
    routes = (route for route in table.routes if route.chosen.by_path or not direct)
    if any(route.match.could(looked_at, unknown) for route in routes):
        return True
    if direct:
        raise Refusal("not_found", "No API of this gateway has this path.")
    if services.rules.unmatched == "refuse" or "original" not in table.built_in_proxied:
        raise Refusal("refused", UNMATCHED)
    return any(policy.match.could(looked_at, unknown) for policy in table.policies)


async def match_route(exchange: Exchange, services: Services) -> None:
    """Set `model`, `constraints` and `chosen`; refuse what no rule and no built-in order serves, and what a rule refuses."""
    table = services.table
    looked_at = renamed(asked(exchange), table)
    exchange.model = looked_at.model
    exchange.constraints = table.constraints(looked_at)
    for constraint in exchange.constraints:
        if constraint.refuse is not None and constraint.reach == Reach():
            raise _refused(constraint.refuse)
    chosen = table.choose(looked_at, direct=exchange.arrival.direct, names_auto=names_auto(exchange))
    if chosen is None:
        chosen = _unmatched(exchange, services)
    exchange.chosen = chosen
    if chosen.refuse is not None:
        raise _refused(chosen.refuse)


def _refused(refuse: tuple[int, str]) -> Refusal:
    status, message = refuse
    return Refusal("refused", message, status=status)


def _unmatched(exchange: Exchange, services: Services) -> Chosen:
    if exchange.arrival.direct:
        if exchange.requested_model is None:
            raise Refusal("not_found", "No route of this gateway serves this endpoint.")
        raise Refusal("model_not_found", "No route of this gateway serves this model.", param="model")
    if services.rules.unmatched == "refuse" or "original" not in services.table.built_in_proxied:
        raise Refusal("refused", UNMATCHED)
    if _fixed_model(exchange):
        # It stands where nothing rewrites it: no alias changes what will be asked for, so none changes what is judged.
        exchange.model = exchange.requested_model
        exchange.constraints = services.table.constraints(asked(exchange))
    places = services.table.known_at(exchange.arrival.origin, exchange.arrival.path)
    for place in places:
        if objection(exchange.constraints, Target(place, base_model=place.base_model), exchange.model, doubt=True):
            raise Refusal("model_not_allowed", "The rules of this gateway do not allow this destination.", param="model")
    provider = original_destination(exchange, places[0] if places else None)
    return Chosen("original", None, (Target(provider, base_model=provider.base_model),))


def _fixed_model(exchange: Exchange) -> bool:
    """Whether the path or the query names the model, which for an original destination go as they came."""
    return exchange.arrival.websocket or (exchange.endpoint is not None and exchange.endpoint.model is not None)


def original_destination(exchange: Exchange, known: Provider | None) -> Provider:
    """Where the client meant to go, with its own credential. `known`: the provider that lives there."""
    assert exchange.endpoint is not None
    origin = exchange.arrival.origin
    return Provider(
        name=known.name if known is not None and known.origin == origin else origin.host,
        dialect=exchange.endpoint.dialect,
        origin=origin,
        base_path="",
        client_credential=True,
        zone=known.zone if known is not None else "external",
        region=known.region if known is not None else None,
        base_model=known.base_model if known is not None else None,
        original=True,
    )
