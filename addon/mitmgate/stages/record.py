"""Record: the frozen summary of a finished exchange, which log and metrics read."""

from mitmgate.exchange import Attempt, Exchange, Target
from mitmgate.record import AttemptRecord, Billing, GuardrailRecord, Record, SkippedRecord
from mitmgate.routing.constraints import speaks_of


def record(exchange: Exchange, *, rules: int, upstream_request_id: str | None = None) -> Record:
    """Freeze the exchange. `exchange.ended` must be set. `rules`: the generation of those that it was served under."""
    assert exchange.ended is not None
    last, chosen, plan = exchange.attempt, exchange.chosen, exchange.plan
    first_target = exchange.attempts[0].target if exchange.attempts else None
    answered = last is not None and exchange.refusal is None
    fell_back = answered and last is not None and last.target is not first_target
    whole = exchange.ended - exchange.started
    body, waits, upstream = _awaited(exchange), *_tried(exchange)
    return Record(
        id=exchange.id,
        at=exchange.started_at,
        way="direct" if exchange.arrival.direct else "proxied",
        operation=exchange.endpoint.operation if exchange.endpoint else "other",
        method=exchange.arrival.method,
        client=exchange.arrival.client,
        rules=rules,
        route=chosen.route if chosen else None,
        requested_model=exchange.requested_model,
        target_model=(last.target.model or exchange.model) if last else None,
        served_model=exchange.served_model,
        provider=last.target.provider.name if last else None,
        stream=exchange.stream,
        status=exchange.status or 0,
        code=exchange.refusal.code if exchange.refusal else None,
        broken=exchange.broken,
        attempts=tuple([_attempt(each, exchange) for each in exchange.attempts]),
        fallback_from=exchange.requested_model if fell_back else None,
        retries=max(0, len(exchange.attempts) - 1),
        tokens_input=exchange.usage.input,
        tokens_output=exchange.usage.output,
        milliseconds=_milliseconds(whole),
        first_content_ms=_between(exchange.started, exchange.first_content),
        request_bytes=exchange.body.size if exchange.body else 0,
        upstream_request_id=upstream_request_id,
        project=exchange.project,
        tenant=exchange.tenant,
        task=exchange.task,
        tags=tuple(exchange.tags.items()),
        alias=exchange.model if exchange.model != exchange.requested_model else None,
        where=chosen.where if chosen else None,
        skipped=tuple([SkippedRecord(_asked(each.target, exchange), each.reason) for each in plan.dropped]) if plan else (),
        policies=tuple([each.name for each in exchange.constraints]),
        guardrails=_guardrails(exchange),
        stages=tuple([(name, seconds * 1000) for name, seconds in exchange.stage_seconds.items()]),
        own_ms=max(0.0, whole - body - waits - upstream) * 1000,
        body_ms=_milliseconds(body),
        wait_ms=_milliseconds(waits),
        upstream_ms=_milliseconds(upstream),
        billing=_billing(last, exchange) if last else None,
    )


def _asked(target: Target, exchange: Exchange) -> str:
    """A target by what it would be asked for, as explanations and rule tests name it."""
    return f"{target.provider.name}/{target.model or exchange.model or '*'}"


def _awaited(exchange: Exchange) -> float:
    """Seconds that the request's body took to come, once its head had been dealt with."""
    if exchange.head is None or exchange.ended is None:
        return 0.0
    return max(0.0, (exchange.ended if exchange.whole is None else exchange.whole) - exchange.head)


def _tried(exchange: Exchange) -> tuple[float, float]:
    """Seconds of back-off, and between asking for a connection and the end of the reply or the attempt; of all attempts."""
    waits = upstream = 0.0
    for each in exchange.attempts:
        waits += each.waited
        ended = each.ended if each.ended is not None else exchange.ended
        if each.asked is not None and ended is not None:
            upstream += max(0.0, ended - each.asked)
    return waits, upstream


def _guardrails(exchange: Exchange) -> tuple[GuardrailRecord, ...]:
    """Those of the route, and those that policies and the project ask for where it went; each once."""
    in_force = list(exchange.chosen.guardrails) if exchange.chosen is not None else []
    last = exchange.attempt
    for constraint in exchange.constraints:
        if constraint.guardrails and (
            last is None or speaks_of(constraint.reach, last.target, last.target.model or exchange.model)
        ):
            in_force += constraint.guardrails
    return tuple(dict.fromkeys([GuardrailRecord(each.guardrail, each.action) for each in in_force])) if in_force else ()


def _billing(last: Attempt, exchange: Exchange) -> Billing:
    target, provider = last.target, last.target.provider
    asked, served = target.model or exchange.model, exchange.served_model
    return Billing(
        provider=provider.name,
        dialect=provider.dialect,
        host=provider.origin.host,
        models=(asked, served) if asked and served else (asked or served or "",),
        base_model=target.base_model,
        price=target.price,
    )


def _attempt(attempt: Attempt, exchange: Exchange) -> AttemptRecord:
    fault, began = attempt.fault, attempt.started
    ended = attempt.ended if attempt.ended is not None else exchange.ended
    assert ended is not None
    broke = exchange.broken is not None and attempt is exchange.attempt
    return AttemptRecord(
        provider=attempt.target.provider.name,
        model=attempt.target.model or exchange.model,
        outcome=fault.kind.value if fault else "broken" if broke else "ok",
        reason=fault.reason if fault else None,
        status=attempt.status,
        milliseconds=_milliseconds(ended - began),
        wait_ms=_milliseconds(attempt.waited),
        connect_ms=_between(began, attempt.connected),
        tls_ms=_between(began, attempt.secured),
        first_byte_ms=_between(began, attempt.first_byte),
        first_content_ms=_between(began, attempt.first_content),
    )


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _between(began: float, at: float | None) -> int | None:
    return None if at is None else _milliseconds(at - began)
