"""Why an exchange goes where it goes: routes tried, the first key that did not hold, the plan, and what is in force.

The facts come from the exchange itself; only the tried routes are looked at again, with the same rows that matching
reads. Written for operators; what an exchange's user said never appears but as the value that a rule compared, and the
values of headers that carry keys never at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from mitmgate.errors import Refusal
from mitmgate.exchange import Chosen, Constraint, Exchange, Guarded, Plan, Reach, Target
from mitmgate.routing.constraints import objection, speaks_of
from mitmgate.routing.match import UNKNOWN, Match
from mitmgate.routing.sticky import sticky_value
from mitmgate.rules.permitted import client_may
from mitmgate.rules.positions import shown
from mitmgate.rules.schema import Project
from mitmgate.runtime import Snapshot
from mitmgate.stages.match_route import UNMATCHED, asked, renamed

_KEEPS: Final = "kept"
_NOBODY: Final = Project()
_UNSERVED: Final = frozenset({"not_found", "model_not_found"})


@dataclass(frozen=True, slots=True)
class Tried:
    """One route that was looked at; `key` is None for the one that matched."""

    route: str
    where: str | None
    key: str | None = None
    wanted: str | None = None
    found: str | None = None                # None: the request has no such thing


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target of the route; `verdict` is `kept`, or why it is not in the plan."""

    target: str
    zone: str
    region: str | None
    verdict: str
    weight: float = 1.0
    parameters: Mapping[str, Any] = field(default_factory=dict)     # its own `set` and `default`, over the route's
    guardrails: tuple[Guarded, ...] = ()    # that are in force for this very target


@dataclass(frozen=True, slots=True)
class Explanation:
    """See the module. `document` is what `--json` and the admin port give."""

    request: Mapping[str, Any]
    tried: tuple[Tried, ...] = ()
    alias: Mapping[str, Any] | None = None
    by: str | None = None                   # route, models, provider, auto, original: what serves it
    route: str | None = None
    where: str | None = None
    strategy: str | None = None
    sticky: str | None = None               # the source that decides: header:x-session-id
    plan: tuple[Verdict, ...] = ()          # in the order in which they would be tried, the dropped ones last
    policies: tuple[Mapping[str, Any], ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    retry: Mapping[str, Any] = field(default_factory=dict)
    timeout: Mapping[str, Any] = field(default_factory=dict)
    client_may: Mapping[str, Any] = field(default_factory=dict)     # what the call could ask for itself
    refusal: Mapping[str, Any] | None = None
    untouched: str | None = None
    answered: bool = False                  # by the gateway itself
    rules: int = 1                          # generation

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def explain(
    exchange: Exchange, snapshot: Snapshot, refusal: Refusal | None = None, untouched: str | None = None
) -> Explanation:
    """The story of an exchange, as far as it has come."""
    looked_at = asked(exchange) if exchange.endpoint is not None else None
    alias = snapshot.table.alias(looked_at) if looked_at is not None else None
    chosen, plan = exchange.chosen, exchange.plan
    refusal = refusal or exchange.refusal
    tried = tuple(_tried(exchange, snapshot)) if _was_matched(exchange, refusal, untouched) else ()
    return Explanation(
        request=_request(exchange),
        tried=tried,
        alias={"pattern": str(alias.pattern), "model": alias.model, "where": alias.where} if alias else None,
        by=_by(chosen, tried) if chosen else None,
        route=chosen.route if chosen else None,
        where=chosen.where if chosen else None,
        strategy=chosen.strategy if chosen else None,
        sticky=_sticky(exchange, chosen) if chosen else None,
        plan=tuple(_verdicts(exchange, chosen, plan)) if chosen and plan else (),
        policies=tuple(_policy(each) for each in exchange.constraints),
        parameters={"set": dict(plan.force), "default": dict(plan.default)} if plan else {},
        retry=_retry(plan) if plan else {},
        timeout=asdict(plan.deadlines) if plan else {},
        client_may=client_may(snapshot.rules, exchange.project),
        refusal=_refusal(refusal, exchange) if refusal is not None else None,
        untouched=untouched,
        answered=exchange.reply is not None and refusal is None,
        rules=snapshot.generation,
    )


def _was_matched(exchange: Exchange, refusal: Refusal | None, untouched: str | None) -> bool:
    """Whether the routes were looked at: not where an earlier stage refused, answered, or a policy refuses the whole call."""
    if exchange.endpoint is None or untouched is not None or exchange.reply is not None:
        return False
    if exchange.chosen is not None or refusal is None:
        return True
    return refusal.message == UNMATCHED or (refusal.code in _UNSERVED and exchange.endpoint.operation != "models")


def _refusing(exchange: Exchange) -> Constraint | None:
    """The policy that refuses the whole call."""
    return next((each for each in exchange.constraints if each.refuse is not None and each.reach == Reach()), None)


def _by(chosen: Chosen, tried: Sequence[Tried]) -> str:
    if tried and tried[-1].key is None:
        return "route"
    if chosen.where is not None:
        return "models"
    return chosen.route.partition("/")[0]   # original, auto, provider/NAME


def _request(exchange: Exchange) -> dict[str, Any]:
    arrival = exchange.arrival
    return {
        "way": "direct" if arrival.direct else "proxied",
        "method": arrival.method,
        "host": arrival.origin.host,
        "path": shown(arrival.path),
        "operation": exchange.endpoint.operation if exchange.endpoint else None,
        "model": shown(exchange.requested_model) if exchange.requested_model else None,
        "client": arrival.client,
        "project": exchange.project,
        "tenant": exchange.tenant,
        "task": exchange.task,
        "tags": dict(exchange.tags),
        "stream": exchange.stream,
    }


def _tried(exchange: Exchange, snapshot: Snapshot) -> Sequence[Tried]:
    """Every route in the order of the rules up to the one that matches, each with the first key that does not hold."""
    table = snapshot.table
    looked_at = renamed(asked(exchange), table)
    tried: list[Tried] = []
    for route in table.routes:
        miss = route.match.miss(looked_at)
        if miss is None:
            return [*tried, Tried(route.chosen.route, route.chosen.where)]
        found = shown(miss.found) if miss.found is not None else None
        tried.append(Tried(route.chosen.route, route.chosen.where, miss.key, miss.wanted, found))
    return tried


def _sticky(exchange: Exchange, chosen: Chosen) -> str | None:
    value = sticky_value(chosen.sticky, exchange.request_headers, exchange.document) if chosen.sticky else None
    return value.partition("=")[0] if value is not None else None


def _verdicts(exchange: Exchange, chosen: Chosen, plan: Plan) -> Sequence[Verdict]:
    kept = [_verdict(exchange, chosen, target, _KEEPS) for target in plan.targets]
    return [*kept, *(_verdict(exchange, chosen, each.target, each.reason) for each in plan.dropped)]


def _verdict(exchange: Exchange, chosen: Chosen, target: Target, verdict: str) -> Verdict:
    provider, model = target.provider, target.model or exchange.model
    guarded = [*chosen.guardrails]
    for constraint in exchange.constraints:
        if speaks_of(constraint.reach, target, model):
            guarded += constraint.guardrails
    return Verdict(
        target=f"{provider.name}/{model or '*'}",
        zone=provider.zone,
        region=provider.region,
        verdict=verdict,
        weight=target.weight,
        parameters={**target.default, **target.force},
        guardrails=tuple(guarded),
    )


def _policy(constraint: Constraint) -> dict[str, Any]:
    reach, allow = constraint.reach, constraint.allow
    return {
        "name": constraint.name,
        "where": constraint.where,
        "for": {name: str(value) for name in ("zone", "region", "provider", "model") if (value := getattr(reach, name))},
        "allow": {name: str(value) for name in ("regions", "providers", "models") if (value := getattr(allow, name))},
        "guardrails": [guarded.guardrail for guarded in constraint.guardrails],
        "refuse": constraint.refuse is not None,
    }


def _retry(plan: Plan) -> dict[str, Any]:
    rule = plan.retry
    return {"max": rule.max, "on": sorted(rule.on), "backoff": {"base": rule.backoff_base, "max": rule.backoff_max}}


def _refusal(refusal: Refusal, exchange: Exchange) -> dict[str, Any]:
    by = where = None
    if (policy := _refusing(exchange)) is not None:
        by, where = policy.name, policy.where
    elif exchange.chosen is not None and exchange.chosen.refuse is not None:
        by, where = f"route {exchange.chosen.route}", exchange.chosen.where
    return {"status": refusal.status, "code": refusal.code, "message": refusal.message, "by": by, "where": where}


def effective(project: str, snapshot: Snapshot) -> dict[str, Any]:
    """All that holds for a project, whatever it calls: who it is, its policies, and what they leave of each target.

    `unknown` is whoever no project recognises. Raises KeyError for a project that the rules do not have.
    """
    rule = snapshot.rules.projects[project] if project != UNKNOWN else _NOBODY
    table = snapshot.table
    possible = [policy for policy in table.policies if _possible(policy.match, project, rule.tenant)]
    always = [policy for policy in possible if _always(policy.match)]
    sometimes = [policy for policy in possible if not _always(policy.match)]
    constraints = tuple(policy.constraint for policy in always)
    scoped = table.teams.get(project)
    routes = [route for route in table.routes if _possible(route.match, project, rule.tenant)]
    models = {**table.models, **(scoped.models if scoped else {})}
    targets = {t.key: t for route in (*routes, *models.values()) for t in (*route.chosen.targets, *route.chosen.fallback)}
    return {
        "project": project,
        "where": snapshot.rules.where.get(f"projects.{project}"),
        "id": str(rule.id) if rule.id else None,
        "tenant": rule.tenant,
        "kind": rule.kind,
        "tier": rule.tier,
        "policies": [_policy(each) for each in constraints],
        "policies_for_some_calls": [{**_policy(each.constraint), "when": _keys(each.match)} for each in sometimes],
        "routes": [{"route": route.chosen.route, "where": route.chosen.where, "when": _keys(route.match)} for route in routes],
        "models": sorted(models),
        "client_may": client_may(snapshot.rules, project),
        "targets": [_standing(target, constraints) for _, target in sorted(targets.items())],
    }


def _standing(target: Target, constraints: Sequence[Constraint]) -> dict[str, Any]:
    """Whether a target may be asked at all; `models`: for which alone, where the call names the model."""
    models: list[str] = []
    if target.model is None or "$1" in target.model:
        models = [str(each.allow.models) for each in constraints if each.allow.models is not None]
        certain = [each for each in constraints if each.reach.model is None]
        constraints = [replace(each, allow=replace(each.allow, models=None)) for each in certain]
    return {
        "target": target.key,
        "zone": target.provider.zone,
        "region": target.provider.region,
        "verdict": objection(constraints, target, target.model) or _KEEPS,
        "models": models,
    }


def _possible(match: Match, project: str, tenant: str | None) -> bool:
    """Whether a `match:` leaves room for calls of this project."""
    if not all(globs is None or globs.match(project) is not None for globs in (match.project, match.scope)):
        return False
    if match.tenant is not None and tenant is not None and match.tenant.match(tenant) is None:
        return False
    # A project that is excluded whatever else its call is like.
    return match.exclude is None or not (_always(match.exclude) and _possible(match.exclude, project, tenant))


def _always(match: Match) -> bool:
    """Whether nothing but whose call it is decides."""
    return all(key.name in ("project", "scope") for key in match.keys if key.name != "not") and (
        match.exclude is None or _always(match.exclude)
    )


def _keys(match: Match) -> dict[str, str]:
    """What else has to hold."""
    return {} if _always(match) else {key.name: key.wanted for key in match.keys if key.name not in ("project", "scope")}
