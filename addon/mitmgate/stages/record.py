"""Record: the frozen summary of a finished exchange, which log and metrics read."""

from mitmgate.exchange import Attempt, AttemptRecord, Exchange, Record


def record(exchange: Exchange, *, upstream_request_id: str | None = None) -> Record:
    """Freeze the exchange. `exchange.ended` must be set."""
    assert exchange.ended is not None
    last = exchange.attempt
    first_target = exchange.attempts[0].target if exchange.attempts else None
    answered = last is not None and exchange.refusal is None
    fell_back = answered and last is not None and last.target is not first_target
    return Record(
        id=exchange.id,
        at=exchange.started_at,
        way="direct" if exchange.arrival.direct else "proxied",
        operation=exchange.endpoint.operation if exchange.endpoint else "other",
        method=exchange.arrival.method,
        client=exchange.arrival.client,
        route=exchange.chosen.route if exchange.chosen else None,
        requested_model=exchange.requested_model,
        target_model=(last.target.model or exchange.requested_model) if last else None,
        served_model=exchange.served_model,
        provider=last.target.provider.name if last else None,
        stream=exchange.stream,
        status=exchange.status or 0,
        code=exchange.refusal.code if exchange.refusal else None,
        broken=exchange.broken,
        attempts=tuple(_attempt(each, exchange) for each in exchange.attempts),
        fallback_from=exchange.requested_model if fell_back else None,
        retries=max(0, len(exchange.attempts) - 1),
        tokens_input=exchange.usage.input,
        tokens_output=exchange.usage.output,
        milliseconds=_milliseconds(exchange.started, exchange.ended),
        first_content_ms=_milliseconds(exchange.started, exchange.first_content) if exchange.first_content else None,
        request_bytes=exchange.body.size if exchange.body else 0,
        upstream_request_id=upstream_request_id,
    )


def _attempt(attempt: Attempt, exchange: Exchange) -> AttemptRecord:
    fault = attempt.fault
    ended = attempt.ended if attempt.ended is not None else exchange.ended
    assert ended is not None
    broke = exchange.broken is not None and attempt is exchange.attempt
    return AttemptRecord(
        provider=attempt.target.provider.name,
        model=attempt.target.model or exchange.requested_model,
        outcome=fault.kind.value if fault else "broken" if broke else "ok",
        reason=fault.reason if fault else None,
        status=attempt.status,
        milliseconds=_milliseconds(attempt.started, ended),
    )


def _milliseconds(start: float, end: float) -> int:
    return max(0, round((end - start) * 1000))
