"""Plan: the route's targets in the order of its strategy, less those that must not or cannot serve this request."""

from dataclasses import replace
from typing import Final

from mitmgate.dialects.registry import SPEAKS_OPENAI
from mitmgate.errors import Refusal
from mitmgate.exchange import Chosen, Constraint, Dropped, Endpoint, Exchange, Plan, Target
from mitmgate.routing.constraints import divide
from mitmgate.routing.sticky import lot, sticky_value
from mitmgate.routing.strategies import Dice, order
from mitmgate.stages.services import Services

_WELL: Final[dict[str, float]] = {}         # health comes from the breaker, which comes with its issue


async def plan_targets(exchange: Exchange, services: Services) -> None:
    """Set `plan` and `deadline`.

    Refuses with 403 when policies leave no target, with 501 when every target would need a translation that is not built.
    """
    chosen, endpoint = exchange.chosen, exchange.endpoint
    assert chosen is not None
    assert endpoint is not None
    ordered = (*order(chosen.strategy, chosen.targets, _WELL, _dice(exchange, chosen, services)), *chosen.fallback)
    doubt = exchange.arrival.websocket or exchange.body is not None
    allowed, dropped = divide(ordered, exchange.constraints, exchange.model, doubt=doubt)
    if _is_unread(exchange):
        allowed, unread = _without_say(allowed, exchange.constraints)
        dropped = (*dropped, *unread)
    able = tuple(target for target in allowed if _speaks(target, endpoint))
    unable = tuple(Dropped(target, _UNTRANSLATED) for target in allowed if not _speaks(target, endpoint))
    total = chosen.deadlines.total or endpoint.default_total
    exchange.plan = Plan(
        targets=able,
        retry=chosen.retry,
        deadlines=replace(chosen.deadlines, total=total),
        force=chosen.force,
        default=chosen.default,
        names_model=exchange.requested_model is not None,
        dropped=(*dropped, *unable),
    )
    exchange.deadline = exchange.started + total
    if not allowed and _is_unread(exchange):
        raise Refusal("unsupported_media_type", "Where rules name the model, a body must be JSON or multipart/form-data.")
    if not allowed:
        raise Refusal("model_not_allowed", "The rules of this gateway allow no target for this request.", param="model")
    if not able:
        raise Refusal("not_supported", "No target of this route speaks the dialect of this request.")


_UNREAD: Final = "the body is of a type that is not read, so it may name another model"


def _is_unread(exchange: Exchange) -> bool:
    """Whether there is a body that nobody has looked into: neither JSON nor a form."""
    read = exchange.document is not None or exchange.delimiter is not None
    return not read and exchange.body is not None and exchange.body.size > 0


def _without_say(
    targets: tuple[Target, ...], constraints: tuple[Constraint, ...]
) -> tuple[tuple[Target, ...], tuple[Dropped, ...]]:
    """What a body that is not read may go to: where neither a target nor a policy says which model is asked for."""
    judged = any(each.allow.models is not None or each.reach.model is not None for each in constraints)
    kept = tuple(target for target in targets if target.model is None and not judged)
    return kept, tuple(Dropped(target, _UNREAD) for target in targets if target not in kept)


_UNTRANSLATED: Final = "it does not speak the dialect of this request"


def _dice(exchange: Exchange, chosen: Chosen, services: Services) -> Dice:
    value = sticky_value(chosen.sticky, exchange.request_headers, exchange.document) if chosen.sticky else None
    if value is not None:
        pinned = value                      # narrowed for the lambda
        return Dice(lambda target: lot(chosen.route, pinned, target), 0, sticky=True)
    turn = services.turn(chosen.route) if chosen.strategy == "round-robin" else 0
    return Dice(lambda target: services.random(), turn)


def _speaks(target: Target, endpoint: Endpoint) -> bool:
    if target.provider.original:
        return True
    if endpoint.dialect in SPEAKS_OPENAI:
        return target.provider.dialect in SPEAKS_OPENAI
    return target.provider.dialect == endpoint.dialect
