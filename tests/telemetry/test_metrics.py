"""The metrics: what an exchange counts, that labels stay bounded, and that docs/metrics.md lists every one."""

import math
import re
from pathlib import Path
from random import Random

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mitmgate.errors import CODES, FaultKind
from mitmgate.record import AttemptRecord, GuardrailRecord, Record, SkippedRecord
from mitmgate.telemetry.costs import Cost
from mitmgate.telemetry.metrics import OUTCOMES, RELOADS, Metrics

RECORD = Record(
    id="01J", at=1738324800.0, way="proxied", operation="chat", method="POST", client="127.0.0.1", rules=1, route="fast",
    requested_model="gpt-4o", target_model="llama", served_model="llama-3", provider="groq", stream=True, status=200,
    code=None, broken="idle_timeout",
    attempts=(
        AttemptRecord("openai", "gpt-4o", "connect", "connection refused", None, 3),
        AttemptRecord("openai", "gpt-4o", "status", "503", 503, 5),
        AttemptRecord("groq", "llama", "ok", None, 200, 250),
    ),
    fallback_from="gpt-4o", retries=1, tokens_input=12, tokens_output=340, milliseconds=2600, first_content_ms=900,
    request_bytes=512, upstream_request_id=None,
)  # fmt: skip
DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
ASKED = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "groq", "gen_ai_request_model": "llama"}


def made() -> Metrics:
    return Metrics(
        "1.2.3", known_models=["llama", "gpt-4o"], known_routes=["fast"], known_providers=["groq", "openai"],
        known_projects=["support"],
    )  # fmt: skip


def value(metrics: Metrics, sample: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(sample, labels)


def samples(metrics: Metrics) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    return {
        (sample.name, frozenset(sample.labels.items()))
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def everything() -> Metrics:
    """Metrics that have a child of every one."""
    metrics = made()
    metrics.observe(RECORD._replace(code="refused"))
    metrics.spend(RECORD, None)
    metrics.spend(RECORD, Cost(1.0, 1.0, 2.0))
    metrics.tunnel("opened")
    metrics.refused_connection("too_many")
    return metrics


def test_every_metric_and_label_is_documented_and_nothing_else() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    served: dict[str, tuple[str, set[str]]] = {}
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", everything().render().decode(), re.MULTILINE))
    for name, labels in samples(everything()):
        family = name if name in kinds else re.sub(r"_(bucket|sum|count)$", "", name)
        _, known = served.setdefault(family, (kinds[family], set()))
        known.update({label for label, _ in labels} - {"le"})
    assert served == documented


def test_every_fault_kind_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert {"ok", "broken", *FaultKind} == OUTCOMES
    assert not [outcome for outcome in OUTCOMES if f"`{outcome}`" not in text]


def test_an_exchange_is_counted_in_all_of_them() -> None:
    metrics = made()
    metrics.observe(RECORD)
    metrics.observe(RECORD)
    assert value(metrics, "mitmgate_exchanges_total", operation="chat", route="fast", status="200", code="none") == 2
    assert value(metrics, "gen_ai_server_request_duration_seconds_count", **ASKED, status_class="2xx") == 2
    seconds = value(metrics, "gen_ai_server_request_duration_seconds_sum", **ASKED, status_class="2xx")
    assert seconds == pytest.approx(5.2)
    assert value(metrics, "gen_ai_server_time_to_first_token_seconds_sum", **ASKED) == pytest.approx(1.8)
    assert value(metrics, "gen_ai_client_token_usage_sum", **ASKED, gen_ai_token_type="input") == 24
    assert value(metrics, "gen_ai_client_token_usage_sum", **ASKED, gen_ai_token_type="output") == 680
    assert value(metrics, "mitmgate_attempts_total", provider="openai", outcome="connect") == 2
    assert value(metrics, "mitmgate_attempts_total", provider="openai", outcome="status") == 2
    assert value(metrics, "mitmgate_attempts_total", provider="groq", outcome="ok") == 2
    assert value(metrics, "mitmgate_fallbacks_total") == 2
    assert value(metrics, "mitmgate_streams_broken_total", reason="idle_timeout") == 2


def test_a_refusal_counts_no_provider_no_tokens_and_no_first_token() -> None:
    metrics = made()
    metrics.observe(RECORD._replace(
        route=None, target_model=None, provider=None, status=404, code="model_not_found", broken=None, attempts=(),
        fallback_from=None, tokens_input=None, tokens_output=None, first_content_ms=None,
    ))  # fmt: skip
    assert value(
        metrics, "mitmgate_exchanges_total", operation="chat", route="none", status="404", code="model_not_found"
    ) == 1  # fmt: skip
    names = {name for name, _ in samples(metrics)}
    assert "gen_ai_server_request_duration_seconds_count" in names
    assert not names & {
        "gen_ai_client_token_usage_count", "gen_ai_server_time_to_first_token_seconds_count", "mitmgate_attempts_total",
        "mitmgate_streams_broken_total",
    }  # fmt: skip
    assert value(metrics, "mitmgate_fallbacks_total") == 0


def test_a_reply_that_is_no_stream_has_no_time_to_first_token() -> None:
    metrics = made()
    metrics.observe(RECORD._replace(stream=False))
    assert value(metrics, "gen_ai_server_time_to_first_token_seconds_count", **ASKED) is None


def test_names_from_outside_make_no_series() -> None:
    metrics = made()
    for number in range(500):
        name = f"evil-{number}\n{{}}\"\\"
        metrics.observe(RECORD._replace(operation=name, route=name, provider=name, target_model=name, requested_model=name,
            served_model=name, status=1000 + number, code=name, broken=name, method=name, client=name,
            attempts=(AttemptRecord(name, name, name, name, number, number),),
        ))  # fmt: skip
        metrics.tunnel(name)
        metrics.refused_connection(name)
    seen = samples(metrics)
    assert not [labels for _, labels in seen if any("evil" in text for _, text in labels)]
    assert value(
        metrics, "mitmgate_exchanges_total", operation="other", route="other", status="other", code="other"
    ) == 500  # fmt: skip
    assert value(metrics, "mitmgate_attempts_total", provider="other", outcome="other") == 500
    assert value(metrics, "mitmgate_tunnels_total", outcome="other") == 500
    assert value(metrics, "mitmgate_refused_connections_total", reason="other") == 500


def test_ten_thousand_names_make_no_more_series_than_one() -> None:
    """THREATS, row 24: models, projects, tasks, tags and all else that a client or provider may name."""
    metrics, random = made(), Random(1)

    def names() -> list[str]:
        return ["".join(random.choices("ab9-\n\"\\\x1b\u202e{}", k=12)) for _ in range(8)]

    def observe(*given: str) -> None:
        route, provider, model, project, task, tag, word, code = given
        record = RECORD._replace(route=route, provider=provider, target_model=model, requested_model=model, served_model=model,
            project=project, tenant=project, task=task, tags=((tag, word),), alias=model, where=word, code=code, broken=None,
            policies=(word,), skipped=(SkippedRecord(model, word),), guardrails=(GuardrailRecord(word, word, word),),
            stages=((word, 1.0),), attempts=(AttemptRecord(provider, model, code, word, 200, 1),),
        )  # fmt: skip
        metrics.observe(record)
        metrics.spend(record, Cost(1.0, 1.0, 2.0) if random.random() < 0.5 else None)

    for _ in range(10):
        observe(*names())
    first = samples(metrics)
    for _ in range(10_000):
        observe(*names())
    assert samples(metrics) == first
    assert not [labels for _, labels in first for _, text in labels if "\x1b" in text or "\u202e" in text]


def test_the_gateways_own_time_and_its_refusals() -> None:
    metrics = made()
    metrics.observe(RECORD._replace(own_ms=1.5))
    metrics.observe(RECORD._replace(own_ms=20.0, code="refused", project="support"))
    metrics.observe(RECORD._replace(code="refused", project="unknown"))
    metrics.observe(RECORD._replace(code="queue_full", project="a client's idea"))
    assert value(metrics, "mitmgate_own_seconds_sum", operation="chat") == pytest.approx(0.0215)
    assert value(metrics, "mitmgate_own_seconds_bucket", operation="chat", le="0.002") == 3
    asked = ("support", "refused"), ("unknown", "refused"), ("other", "queue_full"), ("support", "queue_full")
    refused = [value(metrics, "mitmgate_refusals_total", project=project, code=code) for project, code in asked]
    assert refused == [1, 1, 1, None]


def test_spend() -> None:
    metrics = made()
    for _ in range(3):
        metrics.spend(RECORD, Cost(0.25, 0.5, 0.75))
    metrics.spend(RECORD._replace(target_model="another"), Cost(0.0, 0.0, 1.0))
    metrics.spend(RECORD, None)
    metrics.spend(RECORD._replace(tokens_input=None, tokens_output=None), None)
    metrics.spend(RECORD._replace(tokens_input=-5, tokens_output=None), None)
    asked = {"provider": "groq", "model": "llama"}
    assert value(metrics, "mitmgate_cost_usd_total", **asked) == 2.25
    assert value(metrics, "mitmgate_cost_usd_total", provider="groq", model="other") == 1.0
    assert value(metrics, "mitmgate_unpriced_total", **asked) == 1


def test_words_of_our_own_are_bounded_too() -> None:
    metrics = made()
    for number in range(100):
        metrics.refused_connection(f"reason_{number}")
    counted = "mitmgate_refused_connections_total"
    reasons = {dict(labels)["reason"] for name, labels in samples(metrics) if name == counted}
    assert reasons == {*(f"reason_{number}" for number in range(32)), "other"}


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_a_label_of_its_own(code: str) -> None:
    metrics = made()
    metrics.observe(RECORD._replace(status=CODES[code].status, code=code))
    labels = {"operation": "chat", "route": "fast", "status": str(CODES[code].status), "code": code}
    assert value(metrics, "mitmgate_exchanges_total", **labels) == 1


@pytest.mark.parametrize("tokens", [-1, 10**400])
def test_token_numbers_that_are_none_are_not_counted(tokens: int) -> None:
    metrics = made()
    metrics.observe(RECORD._replace(tokens_input=tokens, tokens_output=tokens))
    assert "gen_ai_client_token_usage_count" not in {name for name, _ in samples(metrics)}
    assert value(metrics, "mitmgate_attempts_total", provider="groq", outcome="ok") == 1


def test_a_reload_replaces_the_known_names() -> None:
    metrics = made()
    metrics.observe(RECORD)
    metrics.known(models=["llama"], routes=["slow"], providers=["groq"])
    metrics.observe(RECORD)
    metrics.observe(RECORD._replace(route="slow"))
    metrics.observe(RECORD._replace(route="newer"))
    assert exchanges_by_route(metrics) == {"fast": 2, "slow": 1, "other": 1}, "what began before the reload ends after it"
    metrics.known(models=["llama"], routes=["newer"], providers=["groq"])
    metrics.observe(RECORD)
    metrics.observe(RECORD._replace(route="slow"))
    metrics.observe(RECORD._replace(route="newer"))
    assert exchanges_by_route(metrics) == {"slow": 2, "other": 2, "newer": 1}


def test_a_hundred_reloads_leave_no_more_series_than_two() -> None:
    metrics = made()
    sizes = set()
    for number in range(100):
        names = [f"n-{number}"]
        metrics.known(models=names, routes=names, providers=names, projects=names)
        record = RECORD._replace(
            route=names[0], target_model=names[0], provider=names[0], code="refused", first_content_ms=1, stream=True
        )
        metrics.observe(record._replace(attempts=(AttemptRecord(names[0], names[0], "ok", None, 200, 1),)))
        metrics.spend(record, None)
        sizes.add(len(samples(metrics)))
    assert len(sizes) <= 3, sizes
    assert "n-99" in metrics.render().decode()
    assert "n-97" not in metrics.render().decode()


def exchanges_by_route(metrics: Metrics) -> dict[str, float]:
    found = dict.fromkeys(("fast", "slow", "newer", "other"), 0.0)
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            if sample.name == "mitmgate_exchanges_total":
                found[sample.labels["route"]] += sample.value
    return {route: count for route, count in found.items() if count}


def test_reloads_are_counted_and_the_generation_told() -> None:
    metrics = Metrics("1", wall=lambda: 1234.5)
    assert value(metrics, "mitmgate_rules_reloads_total", outcome="accepted") == 0
    for outcome in ("accepted", "rejected", "accepted", "unchanged"):
        metrics.reloaded(outcome)
    metrics.rules_taken(3)
    counts = {each: value(metrics, "mitmgate_rules_reloads_total", outcome=each) for each in RELOADS}
    assert counts == {"accepted": 2, "rejected": 1, "unchanged": 1}
    assert value(metrics, "mitmgate_rules_generation") == 3
    assert value(metrics, "mitmgate_rules_taken_timestamp_seconds") == 1234.5


def test_the_ca_gauge_counts_down() -> None:
    now = [1000.0]
    metrics = Metrics("1", wall=lambda: now[0])
    before = value(metrics, "mitmgate_ca_expires_seconds")
    assert before is not None
    assert math.isnan(before)
    metrics.ca_expires_at(1600.0)
    assert value(metrics, "mitmgate_ca_expires_seconds") == 600
    now[0] = 1700.0
    assert value(metrics, "mitmgate_ca_expires_seconds") == -100


def test_the_gauges_and_counters_that_others_move() -> None:
    metrics = made()
    metrics.in_flight.inc()
    metrics.in_flight.inc()
    metrics.in_flight.dec()
    metrics.records_dropped.inc()
    metrics.addon_errors.inc()
    assert value(metrics, "mitmgate_in_flight") == 1
    assert value(metrics, "mitmgate_records_dropped_total") == 1
    assert value(metrics, "mitmgate_addon_errors_total") == 1
    assert value(metrics, "mitmgate_info", version="1.2.3") == 1


def test_two_gateways_in_one_process_do_not_share() -> None:
    one, two = made(), made()
    one.observe(RECORD)
    assert value(two, "mitmgate_fallbacks_total") == 0
