"""Keys that are read and checked, and do nothing yet: each written one is a warning of `check`.

What is written as it would be without the key (`workers: 1`, `cache: false`) is no warning. When a meaning is built, its
line here goes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mitmgate.rules.patterns import TARGETS, Patterns, serving
from mitmgate.rules.positions import Problem
from mitmgate.rules.values import Values, unexpanded

_GUARDRAILS: Final = "guardrails"
_KEYS: Final = "keys, projects and tiers"
_STATE: Final = "state that outlives a restart"
_WAITING: Final = "queues and priorities"
_MONEY: Final = "budgets"
_APIS: Final = "the gateway's own APIs"


@dataclass(frozen=True, slots=True)
class Later:
    """What a key waits for, and the values of it that change nothing; `only`: the values that do, if not all others."""

    comes_with: str
    harmless: tuple[object, ...] = ()
    only: tuple[object, ...] = ()

    def without_effect(self, value: object) -> bool:
        """Whether `value` is written and its meaning is missing."""
        if isinstance(value, dict | list):
            return not self.only
        given = unexpanded(value)
        return given in self.only if self.only else given not in self.harmless


_SERVING: Final[Mapping[str, Later]] = {
    "strategy": Later("health and prices of targets", only=("least-latency", "least-busy", "cheapest")),
    "guardrails": Later(_GUARDRAILS),
    "cache": Later("the response cache", (False,)),
    "priority": Later(_WAITING, ("interactive",)),
    "stream": Later("streams that are held whole", ("pass",)),
    "continue": Later("streams that are taken up again", (False,)),
    "min_rate": Later("streams that are watched"),
    "heartbeat": Later("streams that are watched"),
    "hedge": Later("hedges"),
    "shadow": Later("shadows and canaries"),
    "canary": Later("shadows and canaries"),
    "vision": Later("descriptions of images", ("pass",)),
    "files": Later(_APIS, ("pass",)),
    "require_project": Later(_KEYS, (False,)),
    "capture": Later("captured payloads", ("none",)),
}
_VAULTED: Final = (
    "providers.*.credential", "providers.*.credential[]", "egress.credential", "prompts.public_key", "prompts.secret_key",
    "notify.*.webhook.secret",
)  # fmt: skip


def _table() -> Iterator[tuple[str, Later]]:
    for key, later in _SERVING.items():
        yield from ((pattern, later) for pattern in serving([key]))
    for pattern in TARGETS:
        yield f"{pattern}.max_concurrency", Later(_WAITING)
    for pattern in _VAULTED:
        yield f"{pattern}.vault", Later("the vault")
    yield from _OTHERS


_OTHERS: Final[tuple[tuple[str, Later], ...]] = (
    ("workers", Later("several workers", (1,))),
    ("state.database", Later(_STATE)),
    ("state.counters", Later(_STATE, ("memory://",))),
    ("state.blobs", Later(_STATE)),
    ("state.replicas", Later(_STATE, ("single",))),
    ("state.on_error.*", Later(_STATE)),
    ("providers.*.project", Later("vendors' own projects")),
    ("providers.*.health", Later("health of targets")),
    ("providers.*.concurrency", Later(_WAITING)),
    ("client_may.*", Later("requests that name their own fallbacks")),
    ("unknown_operations", Later(_KEYS)),
    ("guardrails.*", Later(_GUARDRAILS)),
    ("teams.*.guardrails.*", Later(_GUARDRAILS)),
    ("policies[].guardrails", Later(_GUARDRAILS)),
    ("tiers.*", Later(_KEYS)),
    ("projects.*.kind", Later(_APIS, ("ai_gateway",))),
    ("projects.*.tier", Later(_KEYS)),
    ("projects.*.priority", Later(_WAITING, ("interactive",))),
    ("projects.*.budget", Later(_MONEY)),
    ("projects.*.guardrails", Later(_GUARDRAILS)),
    ("projects.*.client_may", Later("requests that name their own fallbacks")),
    ("projects.*.endpoints.*", Later(_APIS)),
    ("budgets[]", Later(_MONEY)),
    ("prompts", Later("prompt templates")),
    ("teams.*.prompts", Later("prompt templates")),
    ("pipelines.*", Later(_APIS)),
    ("vision", Later("descriptions of images")),
    ("telemetry.log", Later("telemetry", ("json",))),
    ("telemetry.otlp", Later("telemetry")),
    ("telemetry.payloads", Later("captured payloads", ("none",))),
    ("retention.*", Later(_STATE)),
    ("notify.*", Later("messages to operators")),
)
TABLE: Final = tuple(_table())
"""Patterns, and what each waits for."""
_LATER: Final = Patterns(TABLE)


def unbuilt(values: Values) -> Iterator[Problem]:
    """One warning for each key that is written and has no effect yet, at the key."""
    for path, value, later in _LATER.walk(values.data):
        if later.without_effect(value):
            message = f"has no effect yet: it comes with {later.comes_with}"
            yield Problem.at(values.owner(path), path, message)
