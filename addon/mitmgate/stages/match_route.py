"""Match: once, on the request as it came, against the rules in order (DESIGN §4, "Order")."""

from dataclasses import replace

from mitmgate.conditions import Facts
from mitmgate.errors import Refusal
from mitmgate.exchange import Chosen, Exchange, Provider, Reach, Target
from mitmgate.routing.match import Asked
from mitmgate.routing.table import RouteTable
from mitmgate.stages.services import Services

UNMATCHED = "No route of this gateway serves this request, and its rules refuse what they do not name."


def asked(exchange: Exchange) -> Asked:
    """What matching looks at, of one exchange, before `aliases:`."""
    assert exchange.endpoint is not None
    arrival, operation = exchange.arrival, exchange.endpoint.operation
    around = {
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
    """Whether a path of no API that we know is governed: a route or a policy reaches it. Raises Refusal where it is refused.

    Asked before there is a body, so a condition on the body counts as it does in doubt: no route is taken for it, and no
    policy is escaped.
    """
    table, direct = services.table, exchange.arrival.direct
    looked_at = asked(exchange)
    chosen = table.choose(looked_at, direct=False)
    if chosen is not None and (chosen.by_path or not direct):
        return True
    if direct:
        raise Refusal("not_found", "No API of this gateway has this path.")
    if services.rules.unmatched == "refuse":
        raise Refusal("refused", UNMATCHED)
    return bool(table.constraints(looked_at))


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
    return Chosen("original", None, (Target(original_destination(exchange, services.table)),))


def original_destination(exchange: Exchange, table: RouteTable) -> Provider:
    """Where the client meant to go, with its own credential; its zone and region are those of the provider that lives there."""
    assert exchange.endpoint is not None
    origin = exchange.arrival.origin
    known = table.known_at(origin)
    return Provider(
        name=known.name if known is not None else origin.host,
        dialect=exchange.endpoint.dialect,
        origin=origin,
        base_path="",
        client_credential=True,
        zone=known.zone if known is not None else "external",
        region=known.region if known is not None else None,
        original=True,
    )
