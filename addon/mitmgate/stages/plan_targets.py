"""Plan: the route's targets in the order of its strategy, less those that cannot serve this request."""

from dataclasses import replace
from typing import Final

from mitmgate.dialects.registry import SPEAKS_OPENAI
from mitmgate.errors import Refusal
from mitmgate.exchange import Endpoint, Exchange, Plan, Target
from mitmgate.routing.strategies import Dice, order
from mitmgate.stages.services import Services

_WELL: Final[dict[str, float]] = {}         # health comes from the breaker, which comes with its issue


async def plan_targets(exchange: Exchange, services: Services) -> None:
    """Set `plan` and `deadline`. Refuse with 501 when every target would need a translation that is not built."""
    chosen, endpoint = exchange.chosen, exchange.endpoint
    assert chosen is not None
    assert endpoint is not None
    dice = Dice(services.random, services.turn(chosen.route) if chosen.strategy == "round-robin" else 0)
    ordered = (*order(chosen.strategy, chosen.targets, _WELL, dice), *chosen.fallback)
    able = tuple(target for target in ordered if _speaks(target, endpoint))
    if not able:
        raise Refusal("not_supported", "No target of this route speaks the dialect of this request.")
    total = chosen.deadlines.total or endpoint.default_total
    deadlines = replace(chosen.deadlines, total=total)
    names_model = exchange.requested_model is not None
    exchange.plan = Plan(able, chosen.retry, deadlines, chosen.force, chosen.default, names_model)
    exchange.deadline = exchange.started + total


def _speaks(target: Target, endpoint: Endpoint) -> bool:
    if target.provider.original:
        return True
    if endpoint.dialect in SPEAKS_OPENAI:
        return target.provider.dialect in SPEAKS_OPENAI
    return target.provider.dialect == endpoint.dialect
