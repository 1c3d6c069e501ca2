"""The rules' `routes:`, `models:`, `aliases:`, `policies:` and teams made ready for matching."""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from mitmgate.conditions.condition import Condition
from mitmgate.exchange import Allow, Chosen, Constraint, Deadlines, Guarded, Provider, Reach, RetryRule, Target
from mitmgate.globs import Globs
from mitmgate.providers.catalogue import models_of, traits
from mitmgate.providers.credentials import key_sources
from mitmgate.routing.constraints import Policy
from mitmgate.routing.match import Match
from mitmgate.routing.table import BUILT_IN, Alias, Names, Route, RouteTable, every_model_in_turn
from mitmgate.rules import schema

_PLACES_SHOWN: Final = 5                    # of the targets that are skipped because one provider is inactive
_WITH_KEYS: Final = frozenset({"models", "auto"})   # what is built in for base_url calls where keys are asked for


def compile_routes(rules: schema.Rules, providers: Mapping[str, Provider], where: Mapping[str, str]) -> RouteTable:
    """Raises ValueError naming every route that is left without an active target."""
    return _Compiler(rules, providers, where).table()


class _Compiler:
    """One pass over the rules; what is skipped or dead is told at the end, all together."""

    def __init__(self, rules: schema.Rules, providers: Mapping[str, Provider], where: Mapping[str, str]) -> None:
        self._rules = rules
        self._providers = providers
        self._where = where
        self._inactive = {
            name: _why_inactive(name, rules.providers[name]) for name, each in providers.items() if not each.active
        }
        self._skipped: dict[str, list[str]] = {name: [] for name in self._inactive}
        self._dead: list[str] = []

    def table(self) -> RouteTable:
        rules = self._rules
        routes = list(self._routes(rules.routes, "routes"))
        models = self._models(rules.models, "models")
        offered, auto = _offered(routes, models), every_model_in_turn(models.values())
        teams: dict[str, Names] = {}
        for name, team in rules.teams.items():
            scope = Globs.parse(team.scope.project)
            place = f"teams.{name}"
            own = list(self._routes(team.routes, f"{place}.routes", scope, f"{name}/"))
            named = self._models(team.models, f"{place}.models", f"{name}/")
            names = Names(named, self._aliases(team.aliases, f"{place}.aliases"), _offered(own, named))
            teams.update(dict.fromkeys(team.scope.project, names))
            routes += own
        if self._dead:
            raise ValueError("\n".join(self._dead))
        told = {name: places for name, places in self._skipped.items() if places or not rules.providers[name].disabled}
        return RouteTable(
            routes=tuple(routes),
            models=models,
            providers=self._providers,
            warnings=tuple(_skipped(name, self._inactive[name], places) for name, places in told.items()),
            offered=offered,
            aliases=self._aliases(rules.aliases, "aliases"),
            teams=teams,
            policies=tuple(self._policies()),
            auto=auto,
            built_in_direct=self._built_in(_WITH_KEYS if rules.access == "keys" else frozenset(BUILT_IN)),
            built_in_proxied=self._built_in(frozenset(BUILT_IN)),
        )

    def _built_in(self, default: frozenset[str]) -> frozenset[str]:
        given = self._rules.builtin_routes
        return default if given is None else frozenset(given)

    def _routes(
        self, rules: Sequence[schema.Route], place: str, scope: Globs | None = None, team: str = ""
    ) -> Iterator[Route]:
        """`team`: stands before the names of a team's routes and models, since two teams may use the same."""
        for position, rule in enumerate(rules):
            yield self._compiled(team + rule.name, f"{place}[{position}]", rule, _match(rule.match, scope))

    def _models(self, rules: Mapping[str, schema.Model], place: str, team: str = "") -> dict[str, Route]:
        return {name: self._compiled(team + name, f"{place}.{name}", rule, Match()) for name, rule in rules.items()}

    def _compiled(self, name: str, place: str, rule: schema.Route | schema.Model, match: Match) -> Route:
        written = self._where.get(place)
        of = rule if isinstance(rule, schema.Model) else None
        first, then = (self._targets(given, written or place, of) for given in (rule.targets, rule.fallback))
        refuse = rule.refuse
        if not first and not then and refuse is None:
            named = dict.fromkeys(each.provider for each in (*rule.targets, *rule.fallback))
            reasons = ", ".join(f"{self._inactive[each]} ({each})" for each in named)
            self._dead.append(f"{written or place}: {name} has no active target: {reasons}")
        chosen = Chosen(
            route=name,
            where=written,
            targets=first or then,
            by_path=match.path is not None,
            fallback=then if first else (),
            strategy=rule.strategy,
            retry=_retry(rule.retry),
            deadlines=_deadlines(rule.timeout),
            force=dict(rule.force) if isinstance(rule, schema.Route) else {},
            default=dict(rule.default) if isinstance(rule, schema.Route) else {},
            sticky=rule.sticky,
            guardrails=_guarded(rule.guardrails, f"route {name}", written),
            strict=rule.strict,
            refuse=(refuse.status, refuse.message) if refuse is not None else None,
        )
        return Route(match, chosen, any("$1" in (target.model or "") for target in (*first, *then)))

    def _targets(self, given: Sequence[schema.Target], place: str, of: schema.Model | None) -> tuple[Target, ...]:
        live = []
        for rule in given:
            provider = self._providers[rule.provider]
            if not provider.active:
                self._skipped[rule.provider].append(place)
                continue
            base = rule.base_model or self._rules.providers[rule.provider].base_model
            said = [each for each in (of, self._rules.models.get(rule.model or "")) if each is not None]
            window = next((each.context_window for each in said if each.context_window is not None), None)
            asked = next((each.price for each in said if each.price is not None), None)
            paid = (asked.input, asked.output) if asked is not None else None
            able = next((each.capabilities for each in said if each.capabilities is not None), None)
            if window is None and (base or rule.model):
                window = traits(provider.vendor, base or rule.model or "").context_window
            force, default = dict(rule.force), dict(rule.default)
            live.append(
                Target(
                    provider,
                    rule.model,
                    rule.weight,
                    rule.priority,
                    context_window=window,
                    capabilities=frozenset(able) if able is not None else None,
                    reasoning=next((each.reasoning for each in said if each.reasoning is not None), None),
                    base_model=base,
                    price=paid,
                    force=force,
                    default=default,
                )
            )
        return tuple(live)

    def _aliases(self, rules: Mapping[str, schema.Alias], place: str) -> tuple[Alias, ...]:
        found = [
            Alias(Globs.parse((pattern,)), rule.model, _match(rule.match, None), self._where.get(f"{place}.{pattern}"))
            for pattern, rule in rules.items()
        ]
        return tuple(sorted(found, key=lambda alias: not alias.pattern.literals))

    def _policies(self) -> Iterator[Policy]:
        for position, rule in enumerate(self._rules.policies):
            where = self._where.get(f"policies[{position}]")
            name = f"policy {rule.name}"
            guarded = _guarded(rule.guardrails, name, where)
            refuse = (rule.refuse.status, rule.refuse.message) if rule.refuse else None
            constraint = Constraint(name, where, _reach(rule.target), _allow(rule.allow), guarded, refuse)
            yield Policy(_match(rule.match, None), constraint)
        for name, project in self._rules.projects.items():
            where = self._where.get(f"projects.{name}")
            allow, guarded = _allow(project.allow), _guarded(project.guardrails, f"project {name}", where)
            if allow != Allow() or guarded:
                match = Match(project=Globs(frozenset({name}), ()))
                yield Policy(match, Constraint(f"project {name}", where, Reach(), allow, guarded))


def _guarded(uses: Sequence[schema.GuardrailUse], by: str, where: str | None) -> tuple[Guarded, ...]:
    return tuple(Guarded(use.use, use.action, by, where) for use in uses)


def _some(texts: Sequence[str]) -> Globs | None:
    return Globs.parse(tuple(texts)) if texts else None


def _allow(rule: schema.Allow | None) -> Allow:
    return Allow(_some(rule.regions), _some(rule.providers), _some(rule.models)) if rule is not None else Allow()


def _reach(rule: schema.PolicyTarget) -> Reach:
    return Reach(rule.zone, _some(rule.region), _some(rule.provider), _some(rule.model))


def _why_inactive(name: str, rule: schema.Provider) -> str:
    return "`disabled: true`" if rule.disabled else f"no key in {key_sources(name, rule)}"


def _skipped(name: str, reason: str, places: Sequence[str]) -> str:
    """One line for a provider, however many targets name it. What is disabled and named nowhere is meant so."""
    once = list(dict.fromkeys(places))
    more = f" and {len(once) - _PLACES_SHOWN} more" if len(once) > _PLACES_SHOWN else ""
    where = f" at {', '.join(once[:_PLACES_SHOWN])}{more}" if once else ""
    return f"{reason}: the provider {name} is skipped{where}"


def _match(rule: schema.MatchKeys, scope: Globs | None) -> Match:
    exclude = rule.exclude if isinstance(rule, schema.Match) else None
    return Match(
        scope=scope,
        host=_some([text.lower() for text in rule.host]),
        path=_some(rule.path),
        operation=frozenset(rule.operation),
        model=_some(rule.model),
        header=tuple((name.lower(), Globs.parse(values)) for name, values in rule.header.items()),
        client=tuple(ipaddress.ip_network(text, strict=False) for text in rule.client),
        project=_some(rule.project),
        tenant=_some(rule.tenant),
        task=_some(rule.task),
        tag=tuple((name, Globs.parse(values)) for name, values in rule.tag.items()),
        when=Condition.parse(rule.when) if rule.when else None,
        exclude=_match(exclude, None) if exclude is not None else None,
    )


def _retry(rule: schema.Retry) -> RetryRule:
    return RetryRule(rule.max, frozenset(str(each) for each in rule.on), rule.backoff.base, rule.backoff.max)


def _deadlines(rule: schema.Timeout) -> Deadlines:
    given = {
        name: value
        for name in ("connect", "first_token", "idle", "total", "duration")
        if isinstance(value := getattr(rule, name), int | float)
    }
    return Deadlines(**given)


def _offered(routes: Sequence[Route], models: Mapping[str, Route]) -> tuple[str, ...]:
    """`models:` names, literal models of routes, and for patterns the catalogue models of their targets' providers."""
    names = dict.fromkeys(models)
    for route in routes:
        globs = route.match.model
        names.update(dict.fromkeys(sorted(globs.literals) if globs else ()))
        if globs is not None and not globs.patterns:
            continue
        for target in (*route.chosen.targets, *route.chosen.fallback):
            known = models_of(target.provider.name if target.provider.dialect != "simulator" else "simulator")
            names.update(dict.fromkeys(m for m in known if globs is None or globs.match(m) is not None))
    return tuple(names)
