"""Prometheus metrics of the gateway, named after OpenTelemetry's GenAI conventions where those have a name.

Theory of operation. `observe` runs on the request path, once per exchange, and must cost microseconds: label children
are resolved once per combination and kept in dicts. Nothing that a client or provider chose becomes a label value as it
is: models, routes, providers and projects count only if the rules name them, all else is "other"; so the number of series
is bounded by the rules and not by traffic (THREATS, row 24). What is different for each call (tags, tasks, clients) is no
label at all. "none" stands where there is nothing to name.
docs/metrics.md lists all.
"""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from mitmgate.clock import SystemClock
from mitmgate.errors import CODES, FaultKind
from mitmgate.record import Record
from mitmgate.routing.match import UNKNOWN
from mitmgate.telemetry.costs import MOST_TOKENS, Cost

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"  # what `render` returns
OTHER: Final = "other"
NONE: Final = "none"

OPERATIONS: Final = frozenset({  # DESIGN §1
    "chat", "completions", "responses", "messages", "count_tokens", "embeddings", "rerank", "transcription", "speech",
    "voices", "audio_pipeline", "moderation", "image", "files", "batches", "models", "realtime", OTHER,
})  # fmt: skip
RELOADS: Final = ("accepted", "rejected", "unchanged")
OUTCOMES: Final = frozenset({"ok", "broken", *FaultKind})
# 499: the client left; 529: Anthropic is overloaded. A provider may send any number it likes.
STATUSES: Final = {int(status): str(int(status)) for status in (*HTTPStatus, 499, 529)}
CLASSES: Final = {1: "1xx", 2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}

# The buckets that the conventions advise; ours go on to the ten minutes that the SDKs wait.
DURATION_BUCKETS: Final = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36,
)  # fmt: skip
FIRST_TOKEN_BUCKETS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0,
)  # fmt: skip
OWN_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
TOKEN_BUCKETS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

_WORD: Final = re.compile(r"[a-z0-9_]{1,40}")
_MOST_WORDS: Final = 32


class _Children[M: MetricWrapperBase](dict[tuple[str, ...], M]):
    """The label children of one metric, resolved on first use; a hit costs one dict look-up."""

    def __init__(self, metric: M) -> None:
        super().__init__()
        self._metric = metric

    def __missing__(self, labels: tuple[str, ...]) -> M:
        child = self[labels] = self._metric.labels(*labels)
        return child

    def keep(self, position: int, names: Collection[str]) -> None:
        """Drop the series whose label at this position is a name that is gone."""
        for labels in [each for each in list(self) if each[position] not in names]:
            del self[labels]
            self._metric.remove(*labels)


@dataclass(frozen=True, slots=True)
class _Names:
    """What the rules of one generation name."""

    models: frozenset[str] = frozenset()
    routes: frozenset[str] = frozenset()
    providers: frozenset[str] = frozenset()
    projects: frozenset[str] = frozenset()


class _Words:
    """Label values that our own code names: the first 32 different plain words pass, all else is "other"."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, word: str) -> str:
        if word not in self._seen:
            if len(self._seen) >= _MOST_WORDS or not _WORD.fullmatch(word):
                return OTHER
            self._seen.add(word)
        return word


class _Registry(CollectorRegistry):
    """Without the `_created` series that the library adds to each counter and histogram: nobody reads them here."""

    def collect(self) -> Iterable[Metric]:
        for family in super().collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


class Metrics:
    """All metrics of one gateway process, in a registry of its own."""

    def __init__(
        self,
        version: str,
        *,
        known_models: Collection[str] = (),
        known_routes: Collection[str] = (),
        known_providers: Collection[str] = (),
        known_projects: Collection[str] = (),
        wall: Callable[[], float] = SystemClock.wall,
    ) -> None:
        """`version` is the package's; `wall` gives Unix seconds. The `known_…` are as in `known`."""
        self.registry: CollectorRegistry = _Registry()
        self._wall = wall

        asked = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
        self._duration = _Children(self._histogram(
            "gen_ai_server_request_duration_seconds", "Whole exchanges, refusals included.",
            (*asked, "status_class"), DURATION_BUCKETS,
        ))  # fmt: skip
        self._first_token = _Children(self._histogram(
            "gen_ai_server_time_to_first_token_seconds", "From the request to the first content of a streamed reply.",
            asked, FIRST_TOKEN_BUCKETS,
        ))  # fmt: skip
        self._tokens = _Children(self._histogram(
            "gen_ai_client_token_usage", "Tokens per exchange, as the provider counted them.",
            (*asked, "gen_ai_token_type"), TOKEN_BUCKETS,
        ))  # fmt: skip
        self._own = _Children(self._histogram(
            "mitmgate_own_seconds", "The gateway's own time of an exchange.", ("operation",), OWN_BUCKETS
        ))  # fmt: skip
        self._refusals = _Children(self._counter(
            "mitmgate_refusals_total", "Exchanges that the gateway refused or gave up.", "project", "code"
        ))  # fmt: skip
        self._cost = _Children(self._counter(
            "mitmgate_cost_usd_total", "What exchanges cost, by the prices that are known.", "provider", "model"
        ))  # fmt: skip
        self._unpriced = _Children(self._counter(
            "mitmgate_unpriced_total", "Exchanges with tokens that no price is known for.", "provider", "model"
        ))  # fmt: skip
        self._exchanges = _Children(self._counter(
            "mitmgate_exchanges_total", "Finished exchanges.", "operation", "route", "status", "code"
        ))  # fmt: skip
        self._attempts = _Children(self._counter(
            "mitmgate_attempts_total", "Tries at a provider, by how they ended.", "provider", "outcome"
        ))  # fmt: skip
        self._fallbacks = self._counter("mitmgate_fallbacks_total", "Exchanges that a later target answered.")
        self._broken = _Children(self._counter(
            "mitmgate_streams_broken_total", "Replies that broke off after their first content.", "reason"
        ))  # fmt: skip
        self._tunnels = _Children(self._counter(
            "mitmgate_tunnels_total", "Connections that asked for an undecrypted tunnel.", "outcome"
        ))  # fmt: skip
        self._refused_connections = _Children(self._counter(
            "mitmgate_refused_connections_total", "Client connections refused before any request.", "reason"
        ))  # fmt: skip
        self._reloads = _Children(self._counter(
            "mitmgate_rules_reloads_total", "Reloads of the rules, by what became of them.", "outcome"
        ))  # fmt: skip
        for outcome in RELOADS:
            self._reloads[outcome,]         # from zero on, so that the first one is an increase
        self._generation = Gauge("mitmgate_rules_generation", "Of the rules that hold.", registry=self.registry)
        self._rules_since = Gauge(
            "mitmgate_rules_taken_timestamp_seconds", "When they were taken, Unix seconds.", registry=self.registry
        )
        self._broken_words, self._tunnel_words, self._refused_words = _Words(), _Words(), _Words()

        self.in_flight = Gauge("mitmgate_in_flight", "Exchanges that are alive now.", registry=self.registry)
        self.records_dropped = self._counter("mitmgate_records_dropped_total", "Records that the record log lost.")
        self.addon_errors = self._counter("mitmgate_addon_errors_total", "Faults of the gateway's own.")
        self._ca_expires = Gauge(
            "mitmgate_ca_expires_seconds", "Seconds until the interception CA ends; NaN: none.", registry=self.registry
        )
        self._ca_expires.set(float("nan"))
        Info("mitmgate", "The gateway's version.", registry=self.registry).info({"version": version})
        ProcessCollector(registry=self.registry)
        self._named_now = _Names()
        self.known(models=known_models, routes=known_routes, providers=known_providers, projects=known_projects)

    def known(
        self,
        *,
        models: Collection[str],
        routes: Collection[str],
        providers: Collection[str],
        projects: Collection[str] = (),
    ) -> None:
        """Replace the names that may stand in labels; called at each reload of the rules.

        `models` are those of the targets, as providers are asked for them. The names of before count until the next
        reload, for exchanges that began under them; series of names that are gone longer are dropped, or a gateway whose
        rules change every day would tell of every route that it ever had.
        """
        before = self._named_now
        now = self._named_now = _Names(
            frozenset(models), frozenset(routes), frozenset(providers), frozenset(projects) | {UNKNOWN}
        )
        self._models, self._routes = now.models | before.models, now.routes | before.routes
        self._providers, self._projects = now.providers | before.providers, now.projects | before.projects
        for position, names, families in (
            (2, self._models, (self._duration, self._first_token, self._tokens)),
            (1, self._providers, (self._duration, self._first_token, self._tokens)),
            (1, self._models, (self._cost, self._unpriced)),
            (0, self._providers, (self._cost, self._unpriced, self._attempts)),
            (1, self._routes, (self._exchanges,)),
            (0, self._projects, (self._refusals,)),
        ):
            for family in families:
                family.keep(position, names | {OTHER, NONE})

    def reloaded(self, outcome: str) -> None:
        """Count a reload of the rules: accepted, rejected or unchanged."""
        self._reloads[outcome,].inc()

    def rules_taken(self, generation: int) -> None:
        """These rules hold from now on."""
        self._generation.set(generation)
        self._rules_since.set(self._wall())

    def observe(self, record: Record) -> None:
        """Count one finished exchange."""
        operation = record.operation if record.operation in OPERATIONS else OTHER
        provider = _named(record.provider, self._providers)
        model = _named(record.target_model, self._models)
        status = STATUSES.get(record.status, OTHER)
        self._exchanges[operation, _named(record.route, self._routes), status, _named(record.code, CODES)].inc()
        status_class = CLASSES.get(record.status // 100, OTHER)
        self._duration[operation, provider, model, status_class].observe(record.milliseconds / 1e3)
        if record.stream and record.first_content_ms is not None:
            self._first_token[operation, provider, model].observe(record.first_content_ms / 1e3)
        if record.tokens_input is not None and 0 <= record.tokens_input <= MOST_TOKENS:
            self._tokens[operation, provider, model, "input"].observe(record.tokens_input)
        if record.tokens_output is not None and 0 <= record.tokens_output <= MOST_TOKENS:
            self._tokens[operation, provider, model, "output"].observe(record.tokens_output)
        self._own[operation,].observe(record.own_ms / 1e3)
        if record.code is not None:
            self._refusals[_named(record.project, self._projects), _named(record.code, CODES)].inc()
        for attempt in record.attempts:
            outcome = attempt.outcome if attempt.outcome in OUTCOMES else OTHER
            self._attempts[_named(attempt.provider, self._providers), outcome].inc()
        if record.fallback_from is not None:
            self._fallbacks.inc()
        if record.broken is not None:
            self._broken[self._broken_words(record.broken),].inc()

    def spend(self, record: Record, cost: Cost | None) -> None:
        """Count what one exchange cost; None: it is not known. Called by the record log, off the request path."""
        asked = _named(record.provider, self._providers), _named(record.target_model, self._models)
        if cost is not None:
            self._cost[asked].inc(cost.total)
        elif any(tokens is not None and 0 < tokens <= MOST_TOKENS for tokens in (record.tokens_input, record.tokens_output)):
            self._unpriced[asked].inc()

    def tunnel(self, outcome: str) -> None:
        """Count a tunnel; `outcome` is one of the caller's few fixed words: opened, denied, …"""
        self._tunnels[self._tunnel_words(outcome),].inc()

    def refused_connection(self, reason: str) -> None:
        """Count a client connection that was refused; `reason` is one of the caller's few fixed words."""
        self._refused_connections[self._refused_words(reason),].inc()

    def ca_expires_at(self, not_after: float) -> None:
        """The interception CA's end of validity, Unix seconds. The gauge counts down to it, below zero afterwards."""
        self._ca_expires.set_function(lambda: not_after - self._wall())

    def render(self) -> bytes:
        """The metrics as `CONTENT_TYPE` says. Safe to call from any thread."""
        return generate_latest(self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(name, meaning, labels, registry=self.registry)

    def _histogram(self, name: str, meaning: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, meaning, labels, registry=self.registry, buckets=buckets)


def _named(name: str | None, known: Collection[str]) -> str:
    if name is None:
        return NONE
    return name if name in known else OTHER
