"""The metrics: what an exchange counts, that labels stay bounded, and that docs/metrics.md lists every one."""

import dataclasses
import math
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mitmgate.errors import CODES, FaultKind
from mitmgate.exchange import AttemptRecord, Record
from mitmgate.telemetry.metrics import OUTCOMES, Metrics

RECORD = Record(
    id="01J", at=1738324800.0, way="proxied", operation="chat", method="POST", client="127.0.0.1", route="fast",
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
    return Metrics("1.2.3", known_models=["llama", "gpt-4o"], known_routes=["fast"], known_providers=["groq", "openai"])


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
    metrics.observe(RECORD)
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
    metrics.observe(dataclasses.replace(
        RECORD, route=None, target_model=None, provider=None, status=404, code="model_not_found", broken=None,
        attempts=(), fallback_from=None, tokens_input=None, tokens_output=None, first_content_ms=None,
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
    metrics.observe(dataclasses.replace(RECORD, stream=False))
    assert value(metrics, "gen_ai_server_time_to_first_token_seconds_count", **ASKED) is None


def test_names_from_outside_make_no_series() -> None:
    metrics = made()
    for number in range(500):
        name = f"evil-{number}\n{{}}\"\\"
        metrics.observe(dataclasses.replace(
            RECORD, operation=name, route=name, provider=name, target_model=name, requested_model=name,
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
    metrics.observe(dataclasses.replace(RECORD, status=CODES[code].status, code=code))
    labels = {"operation": "chat", "route": "fast", "status": str(CODES[code].status), "code": code}
    assert value(metrics, "mitmgate_exchanges_total", **labels) == 1


@pytest.mark.parametrize("tokens", [-1, 10**400])
def test_token_numbers_that_are_none_are_not_counted(tokens: int) -> None:
    metrics = made()
    metrics.observe(dataclasses.replace(RECORD, tokens_input=tokens, tokens_output=tokens))
    assert "gen_ai_client_token_usage_count" not in {name for name, _ in samples(metrics)}
    assert value(metrics, "mitmgate_attempts_total", provider="groq", outcome="ok") == 1


def test_a_reload_replaces_the_known_names() -> None:
    metrics = made()
    metrics.observe(RECORD)
    metrics.known(models=["llama"], routes=["slow"], providers=["groq"])
    metrics.observe(RECORD)
    metrics.observe(dataclasses.replace(RECORD, route="slow"))
    counts = {
        route: value(metrics, "mitmgate_exchanges_total", operation="chat", route=route, status="200", code="none")
        for route in ("fast", "slow", "other")
    }
    assert counts == {"fast": 1, "slow": 1, "other": 1}


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
