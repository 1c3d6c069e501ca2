"""Plan: the route's targets in the order of its strategy, less those that must not or cannot serve this request."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from mitmgate.dialects.asking import OWN, ask_of, asked_of, fit_for, other_model, passes, require_reachable
from mitmgate.dialects.registry import client_codec, codecs
from mitmgate.errors import Refusal
from mitmgate.exchange import Chosen, Constraint, Dropped, Exchange, Plan, Sent, Target
from mitmgate.providers.catalogue import traits_at
from mitmgate.routing.constraints import divide
from mitmgate.routing.needs import counting, lacking, matters, missing, needs_of
from mitmgate.routing.sticky import lot, sticky_value
from mitmgate.routing.strategies import Dice, order
from mitmgate.stages.services import Services

_WELL: Final[dict[str, float]] = {}         # health comes from the breaker, which comes with its issue


async def plan_targets(exchange: Exchange, services: Services) -> None:
    """Set `plan`, `deadline` and, where a target speaks another dialect, `canonical`.

    Refuses with 403 when policies leave no target; with 400 when none of those that are left can do what is asked, or be told
    it, and with 501 when no codec could say it.
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
    capable, incapable, lacks = await _capable(exchange, allowed)
    able, unable, why = _said(exchange, chosen, capable)
    total = chosen.deadlines.total or endpoint.default_total
    exchange.plan = Plan(
        targets=tuple(target for target, _ in able),
        retry=chosen.retry,
        deadlines=replace(chosen.deadlines, total=total),
        force=chosen.force,
        default=chosen.default,
        names_model=exchange.requested_model is not None,
        dropped=(*dropped, *incapable, *unable),
        sent=tuple(sent for _, sent in able),
    )
    exchange.deadline = exchange.started + total
    if not allowed and _is_unread(exchange):
        raise Refusal("unsupported_media_type", "Where rules name the model, a body must be JSON or multipart/form-data.")
    if not allowed:
        raise Refusal("model_not_allowed", "The rules of this gateway allow no target for this request.", param="model")
    if not able:
        raise lacks or why or Refusal("not_supported", "No target of this route speaks the dialect of this request.")


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


async def _capable(
    exchange: Exchange, targets: tuple[Target, ...]
) -> tuple[tuple[Target, ...], tuple[Dropped, ...], Refusal | None]:
    """Who can do what the request needs, who cannot, and what to say if nobody can. What is not known speaks for a target."""
    document = _meaning(exchange)
    known = {id(target): traits_at(target, exchange.model) for target in targets if not target.provider.original}
    if document is None or not known:
        return targets, (), None
    operation = "chat" if exchange.canonical is not None else exchange.endpoint.operation if exchange.endpoint else ""
    needs = needs_of(document, operation)
    windows = [each.context_window for each in known.values()]
    if matters(needs, windows):
        for counted in counting(document, operation, needs, windows):
            needs = counted
            await asyncio.sleep(0)          # others have their turn
    lacks = {target: lacking(needs, known[id(target)]) for target in targets if id(target) in known}
    dropped = tuple(Dropped(target, " and ".join(words)) for target, words in lacks.items() if words)
    kept = tuple(target for target in targets if not lacks.get(target))
    if kept:
        return kept, dropped, None
    told = missing(needs, [(target.key, words) for target, words in lacks.items()])
    return kept, dropped, Refusal("capability_missing", told)


def _meaning(exchange: Exchange) -> Mapping[str, Any] | None:
    """The request as a chat completion, or None if it is no chat, or none that can be read as one."""
    endpoint, document = exchange.endpoint, exchange.document
    if endpoint is None or document is None:
        return None
    if endpoint.dialect == "openai" and endpoint.operation != "responses":
        return document
    if client_codec(endpoint.dialect, endpoint.operation) is None:
        return None
    try:
        canonical = _canonical(exchange)
    except Refusal:                         # a target of the client's own dialect may understand it
        return None
    return {**canonical, **{name: document[name] for name in OWN if name in document}}


def _said(
    exchange: Exchange, chosen: Chosen, targets: tuple[Target, ...]
) -> tuple[list[tuple[Target, Sent | None]], list[Dropped], Refusal | None]:
    """Who can be asked and what is said to each; who cannot; and the first reason, where it is the request's own."""
    able: list[tuple[Target, Sent | None]] = []
    unable: list[Dropped] = []
    why: Refusal | None = None
    for target in targets:
        try:
            able.append((target, _told(exchange, chosen, target)))
        except Refusal as refusal:
            unable.append(Dropped(target, refusal.message))
            if refusal.code != "not_supported":
                why = why or refusal
    return able, unable, why


def _told(exchange: Exchange, chosen: Chosen, target: Target) -> Sent | None:
    """What a codec makes of the request for this target; None: its body passes as it came. Raises Refusal."""
    endpoint = exchange.endpoint
    assert endpoint is not None
    default, force = {**chosen.default, **target.default}, {**chosen.force, **target.force}
    if passes(endpoint, target, exchange):
        if target.provider.quirks:
            dropped = _unfit(exchange, target, {**default, **force})
            _require_told(target, dropped if chosen.strict else ())
        return None
    found = codecs(endpoint.dialect, endpoint.operation, target.provider.dialect)
    # Below `/responses` there are calls that answer nothing (`/input_tokens`): none of them is a chat.
    below = endpoint.operation == "responses" and endpoint.suffix != "/responses"
    if found is None or exchange.document is None or below:
        raise Refusal("not_supported", _UNTRANSLATED)
    document = _canonical(exchange)
    require_reachable(document, target)
    asked = {name: value for name, value in {**default, **document, **force}.items() if name not in OWN}
    sent = found.provider.request(ask_of(exchange, target, asked))
    if chosen.strict:
        _require_told(target, sent.dropped)
    return sent


def _unfit(exchange: Exchange, target: Target, changes: dict[str, Any]) -> tuple[str, ...]:
    """What a vendor of the client's own dialect refuses of a body that would pass with these changes of the rules'."""
    model = other_model(exchange, target)
    fit = fit_for(exchange, target, changes if model is None else {**changes, "model": model})
    return fit.dropped if fit is not None else ()


def _require_told(target: Target, dropped: tuple[str, ...]) -> None:
    if dropped:
        names = ", ".join(f"`{name}`" for name in dropped)
        raise Refusal("capability_missing", f"{target.key} cannot be told {names}.", param=dropped[0])


def _canonical(exchange: Exchange) -> dict[str, object]:
    """The request as a chat completion's; worked out for the first target that needs it."""
    if exchange.canonical is None:
        assert exchange.endpoint is not None
        asking = client_codec(exchange.endpoint.dialect, exchange.endpoint.operation)
        assert asking is not None
        exchange.canonical = asking.request(asked_of(exchange))
    return exchange.canonical
