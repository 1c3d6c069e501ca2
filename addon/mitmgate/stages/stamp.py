"""Stamp: the gateway's reply headers (DESIGN §5). The one place where they are named."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from mitmgate.exchange import Exchange


def stamp(exchange: Exchange) -> list[tuple[str, str]]:
    """The headers of a governed reply as things stand: at the commit of a stream, at the end of all else."""
    headers = [("x-gateway-request-id", exchange.id), ("x-request-id", exchange.id)]
    tries = len(exchange.attempts)
    headers.append(("x-gateway-attempts", str(tries)))
    plan = exchange.plan
    places = {id(attempt.target) for attempt in exchange.attempts}
    headers.append(("x-retry-count", str(max(0, tries - 1))))
    attempt = exchange.attempt
    if attempt is not None:
        provider = attempt.target.provider
        model = attempt.target.model or exchange.model
        headers.append(("x-gateway-provider", _clean(provider.name)))
        if model is not None:
            headers.append(("x-gateway-model", _clean(model)))
            headers.append(("x-model-used", _clean(model)))
        if plan is not None and len(places) > 1 and exchange.requested_model and exchange.refusal is None:
            headers.append(("x-fallback-from", _clean(exchange.requested_model)))
    if exchange.chosen is not None:
        headers.append(("x-gateway-route", _clean(exchange.chosen.route)))
    headers.append(("x-gateway-reasoning-effort", _effort(exchange)))
    if attempt is not None and attempt.dropped:
        headers.append(("x-gateway-dropped", _clean(", ".join(attempt.dropped))))
    headers.append(("x-cache", "BYPASS"))
    return headers


def _effort(exchange: Exchange) -> str:
    attempt = exchange.attempt
    if attempt is not None and attempt.translated:
        return attempt.effort or "none"
    document = _asked(exchange)
    effort = document.get("reasoning_effort")
    for name in ("reasoning", "output_config"):     # of the Responses API, and Anthropic's
        if effort is None and isinstance(within := document.get(name), dict):
            effort = within.get("effort")
    return effort if isinstance(effort, str) and effort.isascii() and effort.isalpha() and len(effort) <= 16 else "none"


def _asked(exchange: Exchange) -> Mapping[str, Any]:
    """The body that passed, with what the rules changed in it."""
    document, plan, attempt = exchange.document or {}, exchange.plan, exchange.attempt
    if plan is None or attempt is None:
        return document
    target = attempt.target
    return {**plan.default, **target.default, **document, **plan.force, **target.force}


@lru_cache(1024)
def _clean(text: str) -> str:
    """A name as a header value: visible ASCII, at most 256 characters (RFC 9110, 5.5)."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:256])
